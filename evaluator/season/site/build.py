"""The season's static site: pages for everybody, for each team, and for the organizer alone.

    build(ledger, out, private=False) -> Built

Below `out`, each to be handed to others on its own:

    public/                    the public board, the rules, how to send, each team's best results (teams/NUMBER.html);
                               with `private` the private board and the prizes, too
    teams/<token>/             a team's page: its runs, verdicts, what to mend, reports; nothing of other teams' runs
    organizer/                 queue, machine use, private board and prizes as they stand, teams.json (the tokens)

A token is made of the team's number and of site.key, a secret in the season's folder, so it stays and tells nothing.
No page has anything of logs, predictions or test sets; of an infrastructure failure a team sees that it
was one, and no more.

Every page is whole in itself, with style and script in it, and allows nothing else by its Content-Security-Policy. All
texts of others go through Jinja's escaping. The site is built in a folder beside `out` and swapped with it at once.
"""

import hmac
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from evaluator.carbon import prize
from evaluator.core.errors import DataError
from evaluator.core.verdict import INFRA, METRIC_ERROR
from evaluator.reports.rendering import environment, visible
from evaluator.season import PRIVATE, PUBLIC, board, prizes
from evaluator.season.board import BoardResult, Line, Sharing
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger, Refused, RunState, Snapshot, Team, reason
from evaluator.season.site import cells, charts, labels, publish, rules, team_reports, usage, words
from evaluator.season.store import Store, open_store

TEMPLATES = Path(__file__).with_name("templates")
KEY = "site.key"
MAX_QUEUE_ROWS = 300
RECENT_ROWS = 40
FAILURES = (INFRA.name, METRIC_ERROR.name, "lost")  # ends that are infrastructure failures

FOLDED_ROWS = 60  # a board of more shows the first ones (site.css says how many) until a reader wants all

Link = tuple[str, str, str]  # a page's address, and what it is called in Russian and English
PUBLIC_LINKS: list[Link] = [
    ("index.html", "Таблица", "Board"),
    ("rules.html", "Правила", "Rules"),
    ("send.html", "Как отправить", "How to send"),
]
PRIVATE_LINKS: list[Link] = [("private.html", "Приватная таблица", "Private board"), ("prizes.html", "Призы", "Prizes")]


@dataclass(frozen=True)
class Built:
    """How many pages and reports the site has."""

    pages: int
    reports: int


def build(ledger: Ledger, out: Path, private: bool = False) -> Built:
    """Write the site into the folder `out`, which is new, empty or of an earlier call; a reader, or a kill at any
    moment, finds the site before or the one after. With `private` everybody sees the private board and the prizes, and
    teams their private results.

    Raises `Refused` for `private` while teams can still choose, `DataError` where `out` is something else.
    """
    snapshot = ledger.snapshot()
    season = snapshot.season
    if private and season.day(snapshot.now) <= season.choose_until:
        raise Refused(f"choices are open until {season.choose_until}, so the private board is not to be shown yet")
    out = Path(os.path.realpath(out))
    try:
        with publish.replacing(out) as folder:
            return _Site(snapshot, folder, out, publish.key(season.folder / KEY), private).write()
    except OSError as error:
        raise DataError(f"--out {out}: the site cannot be written: {error.strerror}: {error.filename}") from None


# --- pages ---


@dataclass
class _RunRow:
    """A row of a team's runs."""

    state: RunState
    total: float | None
    report: str | None
    fix: tuple[str, str] | None
    findings: Sequence[Mapping[str, Any]]
    cells: Markup = field(default_factory=Markup)

    def _number(self, name: str) -> float | None:
        value = self.state.detail.get(name) if self.state.kind == "done" else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def seconds(self) -> float | None:
        return self._number("seconds")

    @property
    def memory(self) -> float | None:
        return self._number("peak_memory")

    @property
    def labels(self) -> Sequence[str]:
        return self.state.detail.get("labels") or ()

    @property
    def sharing(self) -> Sharing | None:
        counted = self.state.detail.get("shared_parameters")
        return Sharing.from_json(counted) if counted else None

    @property
    def sharing_errors(self) -> Sequence[str]:
        counted = self.state.detail.get("shared_parameters")
        return counted["errors"] if counted else ()


class _Site:
    """One building of the site into `folder`; `out` has the site before, whose reports are taken over."""

    def __init__(self, snapshot: Snapshot, folder: Path, out: Path, key: bytes, private: bool) -> None:
        self._snapshot, self._season = snapshot, snapshot.season
        self._folder, self._out, self._key, self._private = folder, out, key, private
        self._store = Store(self._season.folder)
        self._numbers = sorted(self._season.weights)
        self._built = {"pages": 0, "reports": 0}
        self._jinja = _environment(self._season)
        competition, baseline, thresholds = self._season.competition, self._season.baseline, self._season.thresholds
        self._best = {number: competition.best(number) for number in self._numbers}
        self._best_total = sum(weight * self._best[number] for number, weight in self._season.weights.items())
        total = self._season.total(baseline)

        def share(number: int, values: Mapping[int, float]) -> float | None:
            return values[number] / self._best[number] if number in values else None

        self._labels = {test_set: self._find_labels(test_set) for test_set in (PUBLIC, PRIVATE)}
        self._teams = [team for team in snapshot.teams if not team.is_hidden]
        self._public = board.until(snapshot.results(PUBLIC), snapshot.frozen_at)  # what everybody may know of
        self._jinja.globals |= {
            "folded_rows": FOLDED_ROWS,
            "ids": {team.name: team.id for team in self._teams},
            "frozen_at": snapshot.frozen_at,
            "numbers": self._numbers,
            "season": self._season,
            "now": snapshot.now,
            "baseline": total,
            "hidden": competition.hidden_numbers,
            "shared_parameters": competition.definition.prizes.shared_parameters,
            "sharing_cell": cells.sharing_cell,
            "sharing_text": cells.sharing_text,
            "axis_end": max(self._best.values()),
            "cell": lambda score, number: cells.task_cell(
                score, number, number in competition.hidden_numbers, self._best[number], thresholds.get(number, 0.0)
            ),
            "total_cell": lambda score: cells.total_cell(score, self._best_total),
            "marks": charts.task_marks(
                {number: (share(number, baseline), share(number, thresholds)) for number in self._numbers}
                | {"t": (None if total is None else total / self._best_total, None)}
            ),
        }
        after = self._season.end + timedelta(days=1)
        self._bounds = self._season.first_moment(self._season.start), self._season.first_moment(after)

    def write(self) -> Built:
        snapshot, season = self._snapshot, self._season
        public, private = (board.lines(snapshot, test_set) for test_set in (PUBLIC, PRIVATE))
        finals = board.finals(snapshot.results(PUBLIC), snapshot.choices(), season.chosen)
        missing = prizes.unfinished(snapshot)
        links = PUBLIC_LINKS + (PRIVATE_LINKS if self._private else [])
        own = [("index.html", "Очередь и машины", "Queue and machines"), *PRIVATE_LINKS]
        own.append(("../public/index.html", "Публичная таблица", "Public board"))
        self._board_page(public, links)
        self._rules_pages(links)
        self._public_team_pages(public, links)
        digests = {state.submission.id: state.submission.digest for state in snapshot.states}
        green = prizes.sustainable(private, season, open_store(season), digests)
        for place, shown, secret in (("public", links, False), ("organizer", own, True)):
            if secret or self._private:
                self._private_pages(place, shown, secret, private, missing, green)
        self._organizer_page(own)
        self._team_pages(public, private, finals, missing)
        return Built(**self._built)

    def _page(self, path: str, template: str, title: tuple[str, str], **values: Any) -> None:
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        values = {
            "secret": not path.startswith("public/"),
            "links": [],
            "here": target.name,
            "title": title,
            "teams_at": "teams",
            "labels": labels.Labels(),
        } | values
        target.write_text(self._jinja.get_template(template).render(values), encoding="utf-8")
        self._built["pages"] += 1

    def _results_of(self, run: int, test_set: str) -> Path:
        """The folder with what a run was scored with, in the edition that boards show where it was scored again."""
        edition = self._snapshot.editions.get(test_set)
        if edition is not None:
            again = self._store.rescored(run, edition.data_digest, edition.labels, edition.evaluator)
            if again.is_dir():
                return again
        return self._store.run(run)

    def _find_labels(self, test_set: str) -> labels.Labels:
        """The newest runs first, which are the likeliest to be kept."""
        edition = self._snapshot.editions.get(test_set)
        results = reversed(self._snapshot.results(test_set))
        runs = (self._results_of(result.run, test_set) for result in results)
        return labels.find(edition.labels if edition else (), runs)

    def _board_page(self, lines: Sequence[Line], links: Sequence[Link]) -> None:
        snapshot = self._snapshot
        shown = {line.team for line in lines}
        waiting = [team for team in sorted(self._teams, key=lambda team: team.name) if team.name not in shown]
        raised = _raised(self._public)
        self._page(
            "public/index.html",
            "board.html",
            ("Публичная таблица", "Public board"),
            links=links,
            labels=self._labels[PUBLIC],
            lines=[*lines, *(Line(None, team.name, None, competes=team.status is None) for team in waiting)],
            best=_first(lines),
            ranked=sum(line.rank is not None for line in lines),
            teams=len(self._teams),
            submissions=len({state.submission.id for state in snapshot.states}),
            attempts={team: attempts.left if self._open else "–" for team, attempts in snapshot.attempts.items()},
            tasks=self._tasks([line.scores for line in lines if line.team and line.result]),
            history=self._history([self._point(result, result.team) for result in raised], []),
            improvements=raised,
        )

    def _rules_pages(self, links: Sequence[Link]) -> None:
        season = self._season
        prize_rules = season.competition.definition.prizes
        self._page(
            "public/rules.html",
            "rules.html",
            ("Правила", "Rules"),
            links=links,
            deadlines=rules.deadlines(season),
            tasks=rules.tasks(season),
            limits=rules.limits(season),
            prizes=prize_rules,
            best_total=self._best_total,
        )
        self._page(
            "public/send.html",
            "send.html",
            ("Как отправить", "How to send"),
            links=links,
            verdicts=rules.verdicts(),
            limits=season.limits,
        )

    def _public_team_pages(self, lines: Sequence[Line], links: Sequence[Link]) -> None:
        """What everybody may see of a team: how its best result grew, as the board had it all along."""
        above = [(f"../{target}", ru, en) for target, ru, en in links]
        by_name = {line.team: line for line in lines}
        raised = {name: _raised(results) for name, results in board.by_team(self._public).items()}
        for team in self._teams:
            line = by_name.get(team.name)
            own = raised.get(team.name, [])
            earlier = [self._snapshot.all_scores.get(result.run, {}) for result in own[:-1]]
            self._page(
                f"public/teams/{team.id}.html",
                "public_team.html",
                (visible(team.name), visible(team.name)),
                links=above,
                labels=self._labels[PUBLIC],
                team=team,
                line=line,
                ranked=sum(each.rank is not None for each in lines),
                improvements=[(result, self._plain_cells(result)) for result in reversed(own)],
                tasks=self._tasks([line.scores, *earlier], first=True) if line else [],
                history=self._history([self._point(result) for result in own], []),
            )

    def _private_pages(
        self,
        place: str,
        links: Sequence[Link],
        secret: bool,
        lines: Sequence[Line],
        missing: prizes.Unfinished,
        green: prize.Prize | None,
    ) -> None:
        self._page(
            f"{place}/private.html",
            "private.html",
            ("Приватная таблица", "Private board"),
            links=links,
            secret=secret,
            labels=self._labels[PRIVATE],
            teams_at=f"{'../public/' if secret else ''}teams",
            lines=lines,
            best=_first(lines),
            ranked=sum(line.rank is not None for line in lines),
            expected=sum(line.team is not None for line in lines),
            missing=missing,
            tasks=self._tasks([line.scores for line in lines if line.team and line.result]),
        )
        dots = [
            (each.score, each.kg, visible(each.team), "won" if each.rank == 1 else "inside")
            for each in (green.places if green else ())
            if each.rank is not None and each.score is not None and each.kg is not None
        ]
        self._page(
            f"{place}/prizes.html",
            "prizes.html",
            ("Призы", "Prizes"),
            links=links,
            secret=secret,
            labels=self._labels[PRIVATE],
            teams_at=f"{'../public/' if secret else ''}teams",
            missing=missing,
            rules=self._season.competition.definition.prizes,
            main=prizes.main_prize(lines, self._season),
            nominations=prizes.nominations(lines, self._season),
            green=green,
            winners=[each for each in green.places if each.rank == 1] if green else [],
            plot=charts.scatter(dots, green.threshold, green.baseline) if green and dots else "",
        )

    def _organizer_page(self, links: Sequence[Link]) -> None:
        snapshot, season = self._snapshot, self._season
        states, today = snapshot.states, season.day(snapshot.now)
        waiting = [state for state in states if state.pending]
        queued = [state for state in waiting if state.kind == "queued"]
        ended = sorted((state for state in states if not state.pending), key=lambda state: state.at, reverse=True)
        days = {state.submission.id: state.submission.day for state in states}
        sent: dict[str, int] = {}
        for state in states:
            if state.test_set == PUBLIC:
                sent[state.submission.team] = sent.get(state.submission.team, 0) + 1
        used = usage.summarize(snapshot.events, days.values(), FAILURES, season.zone, snapshot.now)
        order = list(words.NAMES)
        ends = sorted({end for end, _ in used.ends}, key=lambda end: order.index(end) if end in order else -1)
        self._page(
            "organizer/index.html",
            "organizer.html",
            ("Очередь и машины", "Queue and machines"),
            links=links,
            running=[state for state in waiting if state.kind == "running"],
            queued=queued,
            stuck=[state for state in states if state.is_infrastructure_failure],
            waiting=waiting[:MAX_QUEUE_ROWS],
            not_shown=max(0, len(waiting) - MAX_QUEUE_ROWS),
            oldest=min((state.at for state in queued), default=None),
            today=sum(day == today for day in days.values()),
            usage=used,
            ends=[(end, used.ends.get((end, PUBLIC), 0), used.ends.get((end, PRIVATE), 0)) for end in ends],
            hours=charts.hours(used.days),
            recent=ended[:RECENT_ROWS],
            teams=[
                {
                    "team": team,
                    "submissions": sent.get(team.name, 0),
                    "left": snapshot.attempts[team.name].left if self._open else "–",
                    "token": self._token(team),
                }
                for team in snapshot.teams
            ],
        )
        named = [{"number": team.id, "team": team.name, "folder": self._token(team)} for team in snapshot.teams]
        text = json.dumps(named, ensure_ascii=False, indent=1) + "\n"
        (self._folder / "organizer" / "teams.json").write_text(text, encoding="utf-8")

    def _team_pages(
        self,
        public: Sequence[Line],
        private: Sequence[Line],
        finals: Mapping[str, tuple[int, ...]],
        missing: prizes.Unfinished,
    ) -> None:
        (self._folder / "teams").mkdir()
        (self._folder / "teams" / "index.html").write_text("<!doctype html><title>–</title>\n", encoding="utf-8")
        snapshot = self._snapshot
        board_at = (self._season.board_url or "../../public").rstrip("/")
        lines = {line.team: line for line in public}
        private_lines = {line.team: line for line in private}
        chose = {choice.team for choice in snapshot.choices()}
        results = {
            (result.submission, test_set): result
            for test_set in (PUBLIC, PRIVATE)
            for result in snapshot.results(test_set)
        }
        by_team: dict[str, list[RunState]] = {team.name: [] for team in snapshot.teams}
        for state in snapshot.states:
            if state.test_set == PUBLIC or self._private:
                by_team[state.submission.team].append(state)
        for team in snapshot.teams:
            if team.into is not None:  # what it sent is the other team's now
                continue
            states = by_team[team.name][::-1]
            folder = f"teams/{self._token(team)}"
            rows = [self._row(state, results.get((state.submission.id, state.test_set)), folder) for state in states]
            scored = [row for row in rows if row.total is not None]
            own = [
                results[state.submission.id, PUBLIC]
                for state in reversed(states)
                if state.test_set == PUBLIC and (state.submission.id, PUBLIC) in results
            ]
            line = lines.get(team.name)
            raised = _raised(own)
            best = (line.result,) if line and line.result else ()
            others = [result for result in own if result not in best]
            self._page(
                f"{folder}/index.html",
                "team.html",
                (visible(team.name), visible(team.name)),
                links=[
                    ("index.html", "Страница команды", "Team's page"),
                    *((f"{board_at}/{target}", ru, en) for target, ru, en in PUBLIC_LINKS),
                ],
                board_at=board_at,
                end=max(self._season.end, team.until or self._season.end),
                labels=self._labels[PUBLIC],
                team=team,
                line=line,
                private=private_lines.get(team.name) if self._private else None,
                shows_private=self._private,
                missing=missing,
                ranked=sum(line.rank is not None for line in public),
                attempts=snapshot.attempts[team.name],
                open=self._open,
                finals=finals.get(team.name, ()),
                chose=team.name in chose,
                rows=rows,
                scored=scored,
                tasks=self._tasks(
                    [line.scores, *(snapshot.all_scores.get(result.run, {}) for result in others)], first=True
                )
                if line
                else [],
                history=self._history(
                    [self._point(result) for result in raised],
                    [self._point(result) for result in own if result not in raised],
                ),
            )

    def _row(self, state: RunState, result: BoardResult | None, folder: str) -> _RunRow:
        fix: tuple[str, str] | None = None
        findings: Sequence[Mapping[str, Any]] = ()
        report = None
        if state.is_infrastructure_failure:
            fix = words.NOTHING_TO_DO
        elif state.pending and state.failures:
            fix = words.QUEUED_AGAIN
        elif state.verdict == "OK":
            report = self._report(state, folder)
        elif state.fault == "team":
            said = str(state.detail.get("fix") or "")
            fix = (words.RUSSIAN_FIXES.get(state.verdict or "", said), said) if said else None
            findings = state.detail.get("findings") or ()
        row = _RunRow(state, result.total if result else None, report, fix, findings)
        if result is not None:
            row.cells = self._plain_cells(result)
        return row

    def _plain_cells(self, result: BoardResult) -> Markup:
        """A result's scores by task, as cells without bars."""
        scores, thresholds = self._snapshot.all_scores.get(result.run, {}), self._season.thresholds
        return Markup("").join(
            cells.plain_cell(scores.get(number), thresholds.get(number, 0.0)) for number in self._numbers
        )

    def _report(self, state: RunState, folder: str) -> str | None:
        """The run's report in the team's folder, by its address there; None where the run left none, or one with single
        examples.
        """
        name = f"reports/{state.submission.id}{'-private' if state.test_set == PRIVATE else ''}.html"
        run = self._results_of(state.run, state.test_set)
        if not team_reports.hand_out(run, self._out / folder / name, self._folder / folder / name):
            return None
        self._built["reports"] += 1
        return name

    @property
    def _open(self) -> bool:
        return self._season.start <= self._season.day(self._snapshot.now) <= self._season.end

    def _token(self, team: Team) -> str:
        return hmac.new(self._key, f"team {team.id}".encode(), "sha256").hexdigest()[:32]

    def _point(self, result: BoardResult, team: str = "") -> tuple[datetime, float, str]:
        when = f"{result.submitted_at.astimezone(self._season.zone):%Y-%m-%d %H:%M}"
        who = visible(team) if team else f"№ {result.submission}"
        return result.submitted_at, result.total, f"{result.total:.4f} · {who} · {when}"

    def _history(
        self, points: Sequence[tuple[datetime, float, str]], others: Sequence[tuple[datetime, float, str]]
    ) -> Markup:
        start, end = self._bounds
        until = min(end, max(self._snapshot.now, start))
        return charts.history(points, others, self._season.total(self._season.baseline), start, end, until)

    def _tasks(self, scores: Sequence[Mapping[int, float]], first: bool = False) -> list[dict[str, Any]]:
        """Each task's bar: the best of `scores`, or with `first` the first one's, and ticks of the others."""
        rows = []
        for number in self._numbers:
            values = [each[number] for each in scores if number in each]
            best = None
            if values:
                best = scores[0].get(number) if first else max(values)
            baseline, threshold = self._season.baseline.get(number), self._season.thresholds.get(number)
            rows.append(
                {
                    "number": number,
                    "best": best,
                    "baseline": baseline,
                    "threshold": threshold,
                    "chart": charts.strip(values, best, baseline, threshold, max(self._best.values())),
                }
            )
        return rows


def _first(lines: Sequence[Line]) -> Line | None:
    return next((line for line in lines if line.rank == 1), None)


def _raised(results: Sequence[BoardResult]) -> list[BoardResult]:
    """Those of `results`, which are in the order of their submissions, that are better than all before."""
    raised: list[BoardResult] = []
    for result in results:
        if not raised or result.total > raised[-1].total:
            raised.append(result)
    return raised


def _environment(season: Season) -> jinja2.Environment:
    made = environment("site.css", "site.js", TEMPLATES)
    made.globals["t"] = words.bilingual

    def moment(value: datetime) -> Markup:
        local = value.astimezone(season.zone)
        return Markup(f'<time datetime="{local.isoformat("T", "seconds")}">{local:%Y-%m-%d %H:%M}</time>')

    def deadline(value: datetime) -> Markup:
        """A moment to the second, with its zone; the page's script adds the reader's own time."""
        local = value.astimezone(season.zone).isoformat("T", "seconds")
        shown, offset = f"{local[:10]} {local[11:19]}", local[19:]
        zone = Markup('<span class="zone">{}, UTC{}</span>').format(str(season.zone), offset)
        return Markup(f'<time class="deadline" datetime="{local}">{shown}</time> {zone}')

    made.filters |= {
        "task": season.competition.names.__getitem__,
        "wrap": lambda name: Markup("<wbr>").join(words.parts(name)),
        "score": lambda value, digits=3: "–" if value is None else f"{value:.{digits}f}",
        "moment": moment,
        "deadline": deadline,
        "label": words.label,
        "contact": rules.contact,
        "duration": words.duration,
        "size": words.size,
        "mass": words.mass,
        "energy": words.energy,
        "verdict": words.name_of,
        "why": why,
    }
    return made


def why(state: RunState) -> str:
    """Why a run is an infrastructure failure, for the organizer. What the evaluator's log ended with stays there."""
    return reason(state.detail)
