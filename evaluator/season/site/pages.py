"""The season's pages, one at a time, each with all that its template shows; not where they lie, nor what they link to.

    Pages(snapshot).board() -> Page
    render(environment, page, href, links, here) -> the page as HTML

`build` writes them as files, the service sends them: each has addresses of its own, which templates ask `href` for. No
page has anything of logs, predictions or test sets; of an infrastructure failure a team sees that it was one, and no
more. All texts of others go through Jinja's escaping.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jinja2
from markupsafe import Markup

from evaluator.carbon import prize
from evaluator.core.verdict import INFRA, METRIC_ERROR
from evaluator.reports.rendering import visible
from evaluator.season import PRIVATE, PUBLIC, board, prizes, waiting
from evaluator.season.board import BoardResult, Line, Sharing
from evaluator.season.config import Season
from evaluator.season.ledger import RunState, Snapshot, Team, reason
from evaluator.season.prizes import Unfinished
from evaluator.season.site import cells, charts, labels, rules, usage, words
from evaluator.season.store import Store, open_store

TEMPLATES = Path(__file__).with_name("templates")
MAX_QUEUE_ROWS = 300
RECENT_ROWS = 40
FAILURES = (INFRA.name, METRIC_ERROR.name, "lost")  # ends that are infrastructure failures

TOLD = 5  # announcements that a page shows
FOLDED_ROWS = 60  # a board of more shows the first ones (site.css says how many) until a reader wants all

# What pages are called where others lead to them.
TITLES = {
    "board": ("Таблица", "Board"),
    "rules": ("Правила", "Rules"),
    "send": ("Как отправить", "How to send"),
    "private": ("Приватная таблица", "Private board"),
    "prizes": ("Призы", "Prizes"),
    "organizer": ("Очередь и машины", "Queue and machines"),
    "own": ("Страница команды", "Team's page"),
}
EVERYBODYS = ("board", "rules", "send")
FINAL = ("private", "prizes")  # for everybody when they are final

Link = tuple[str, str, str]  # a page's address, and what it is called in Russian and English


class Href(Protocol):
    """Addresses, as they are to stand in the page that is made."""

    def __call__(self, name: str, number: int | None = None) -> str:
        """The address of the page of that name, of one of `team` (what everybody sees) and `own` (what a team sees) by
        the team's number.
        """


@dataclass(frozen=True)
class Page:
    """A page: its template, its title in Russian and English, what the template shows. A `secret` one is not for all,
    and for no search engine.
    """

    template: str
    title: tuple[str, str]
    values: Mapping[str, Any]
    secret: bool = False


def render(jinja: jinja2.Environment, page: Page, href: Href, links: Sequence[Link], here: str, **more: Any) -> str:
    """The page as HTML. `here` is the one of `links` that it is; `more` is for its template."""
    values = {"labels": labels.Labels(), "me": None, "live": None, "title": page.title, "secret": page.secret}
    values |= {**page.values, **more}
    return jinja.get_template(page.template).render(values, href=href, links=links, here=here)


@dataclass
class RunRow:
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


class Pages:
    """The pages of a season at one moment, each made when it is asked for. With `private` teams see their private
    results. `spent` is told how many seconds of CPU it took to make what all readers of a page have in common.
    """

    def __init__(
        self, snapshot: Snapshot, private: bool = False, spent: Callable[[float], None] = lambda seconds: None
    ) -> None:
        self.snapshot, self.season, self.shows_private = snapshot, snapshot.season, private
        self._store = Store(self.season.folder)
        self._numbers = sorted(self.season.weights)
        competition, baseline, thresholds = self.season.competition, self.season.baseline, self.season.thresholds
        self._best = {number: competition.best(number) for number in self._numbers}
        self._best_total = sum(weight * self._best[number] for number, weight in self.season.weights.items())
        total = self.season.total(baseline)

        def share(number: int, values: Mapping[int, float]) -> float | None:
            return values[number] / self._best[number] if number in values else None

        self.teams = [team for team in snapshot.teams if not team.is_hidden]
        self._public = board.until(snapshot.results(PUBLIC), snapshot.frozen_at)  # what everybody may know of
        self._made: dict[tuple[object, ...], Markup] = {}
        self._making, self._spent = threading.Lock(), spent
        self._common = {
            "folded_rows": FOLDED_ROWS,
            "ids": {team.name: team.id for team in self.teams},
            "frozen_at": snapshot.frozen_at,
            "numbers": self._numbers,
            "season": self.season,
            "now": snapshot.now,
            "told": snapshot.announcements[: -1 - TOLD : -1],
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
        after = self.season.end + timedelta(days=1)
        self._bounds = self.season.first_moment(self.season.start), self.season.first_moment(after)

    def page(self, template: str, title: tuple[str, str], secret: bool = False, **values: Any) -> Page:
        """A page with what all have, and `values`."""
        return Page(template, title, self._common | {"once": self._once(template, secret)} | values, secret)

    def _once(self, *page: object) -> Callable[..., Markup]:
        """What calls a macro of a page once for all who ask for that, as a board of many teams takes long. Links in it
        are those of the first one.
        """

        def once(macro: Callable[..., Markup], *arguments: Any) -> Markup:
            with self._making:
                if page not in self._made:
                    began = time.thread_time()
                    self._made[page] = macro(*arguments)
                    self._spent(time.thread_time() - began)
                return self._made[page]

        return once

    def board(self) -> Page:
        """The public board."""
        snapshot, lines = self.snapshot, self.lines
        shown = {line.team for line in lines}
        others = [team for team in sorted(self.teams, key=lambda team: team.name) if team.name not in shown]
        raised = _raised(self._public)
        return self.page(
            "board.html",
            ("Публичная таблица", "Public board"),
            labels=self._labels[PUBLIC],
            lines=[*lines, *(Line(None, team.name, None, competes=team.status is None) for team in others)],
            best=_first(lines),
            ranked=sum(line.rank is not None for line in lines),
            teams=len(self.teams),
            submissions=len({state.submission.id for state in snapshot.states}),
            attempts={team: attempts.left if self.is_open else "–" for team, attempts in snapshot.attempts.items()},
            tasks=self._tasks([line.scores for line in lines if line.team and line.result]),
            history=self._history([self._point(result, result.team) for result in raised], []),
            improvements=raised,
        )

    def rules(self) -> Page:
        """What the board goes by."""
        return self.page(
            "rules.html",
            ("Правила", "Rules"),
            deadlines=rules.deadlines(self.season),
            tasks=rules.tasks(self.season),
            limits=rules.limits(self.season),
            prizes=self.season.competition.definition.prizes,
            best_total=self._best_total,
        )

    def send(self) -> Page:
        """How to send a submission, and how runs end."""
        title = ("Как отправить", "How to send")
        return self.page("send.html", title, verdicts=rules.verdicts(), limits=self.season.limits)

    def public_team(self, team: Team) -> Page:
        """What everybody may see of a team: how its best result grew, as the board had it all along."""
        line = self.lines_by_team.get(team.name)
        own = self._raised_by_team.get(team.name, [])
        earlier = [self.snapshot.all_scores.get(result.run, {}) for result in own[:-1]]
        return self.page(
            "public_team.html",
            (visible(team.name), visible(team.name)),
            labels=self._labels[PUBLIC],
            team=team,
            line=line,
            ranked=sum(each.rank is not None for each in self.lines),
            improvements=[(result, self._plain_cells(result)) for result in reversed(own)],
            tasks=self._tasks([line.scores, *earlier], first=True) if line else [],
            history=self._history([self._point(result) for result in own], []),
        )

    def private(self, secret: bool = False) -> Page:
        """The private board as it stands; `secret` while it is the organizer's alone."""
        lines = self._private_lines
        return self.page(
            "private.html",
            TITLES["private"],
            secret,
            labels=self._labels[PRIVATE],
            lines=lines,
            best=_first(lines),
            ranked=sum(line.rank is not None for line in lines),
            expected=sum(line.team is not None for line in lines),
            missing=self._missing,
            tasks=self._tasks([line.scores for line in lines if line.team and line.result]),
        )

    def prizes(self, secret: bool = False) -> Page:
        """Who wins, as it stands; `secret` while it is the organizer's alone."""
        lines, green = self._private_lines, self._green
        dots = [
            (each.score, each.kg, visible(each.team), "won" if each.rank == 1 else "inside")
            for each in (green.places if green else ())
            if each.rank is not None and each.score is not None and each.kg is not None
        ]
        return self.page(
            "prizes.html",
            TITLES["prizes"],
            secret,
            labels=self._labels[PRIVATE],
            missing=self._missing,
            rules=self.season.competition.definition.prizes,
            main=prizes.main_prize(lines, self.season),
            nominations=prizes.nominations(lines, self.season),
            green=green,
            winners=[each for each in green.places if each.rank == 1] if green else [],
            plot=charts.scatter(dots, green.threshold, green.baseline) if green and dots else "",
        )

    def organizer(self, tokens: Mapping[int, str] | None = None) -> Page:
        """The queue and the machines. `tokens` are in the addresses of teams' own pages, by their numbers, where they
        have such.
        """
        snapshot, season = self.snapshot, self.season
        states, today = snapshot.states, season.day(snapshot.now)
        pending = [state for state in states if state.pending]
        queued = [state for state in pending if state.kind == "queued"]
        ended = sorted((state for state in states if not state.pending), key=lambda state: state.at, reverse=True)
        days = {state.submission.id: state.submission.day for state in states}
        sent: dict[str, int] = {}
        for state in states:
            if state.test_set == PUBLIC:
                sent[state.submission.team] = sent.get(state.submission.team, 0) + 1
        used = usage.summarize(snapshot.events, days.values(), FAILURES, season.zone, snapshot.now)
        order = list(words.NAMES)
        ends = sorted({end for end, _ in used.ends}, key=lambda end: order.index(end) if end in order else -1)
        return self.page(
            "organizer.html",
            TITLES["organizer"],
            secret=True,
            running=[state for state in pending if state.kind == "running"],
            queued=queued,
            stuck=[state for state in states if state.is_infrastructure_failure],
            waiting=pending[:MAX_QUEUE_ROWS],
            not_shown=max(0, len(pending) - MAX_QUEUE_ROWS),
            oldest=min((state.at for state in queued), default=None),
            today=sum(day == today for day in days.values()),
            usage=used,
            ends=[(end, used.ends.get((end, PUBLIC), 0), used.ends.get((end, PRIVATE), 0)) for end in ends],
            hours=charts.hours(used.days),
            recent=ended[:RECENT_ROWS],
            tokens=tokens,
            teams=[
                {
                    "team": team,
                    "submissions": sent.get(team.name, 0),
                    "left": snapshot.attempts[team.name].left if self.is_open else "–",
                }
                for team in snapshot.teams
            ],
        )

    def team(self, team: Team, report: Callable[[RunState], str | None]) -> Page:
        """A team's own page. `report` gives the address of a scored run's report, None where the team cannot have
        it.
        """
        snapshot, results = self.snapshot, self._results
        states = self.states_by_team[team.name][::-1]
        rows = [self._row(state, results.get((state.submission.id, state.test_set)), report) for state in states]
        own = [
            results[state.submission.id, PUBLIC]
            for state in reversed(states)
            if state.test_set == PUBLIC and (state.submission.id, PUBLIC) in results
        ]
        line = self.lines_by_team.get(team.name)
        raised = _raised(own)
        best = (line.result,) if line and line.result else ()
        others = [result for result in own if result not in best]
        return self.page(
            "team.html",
            (visible(team.name), visible(team.name)),
            secret=True,
            end=max(self.season.end, team.until or self.season.end),
            labels=self._labels[PUBLIC],
            team=team,
            line=line,
            private=next((line for line in self._private_lines if line.team == team.name), None)
            if self.shows_private
            else None,
            shows_private=self.shows_private,
            missing=self._missing,
            ranked=sum(line.rank is not None for line in self.lines),
            attempts=snapshot.attempts[team.name],
            open=self.takes_from(team),
            finals=self._finals.get(team.name, ()),
            chose=team.name in self._chose,
            rows=rows,
            scored=[row for row in rows if row.total is not None],
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

    def results_of(self, run: int, test_set: str) -> Path:
        """The folder with what a run was scored with, in the edition that boards show where it was scored again."""
        edition = self.snapshot.editions.get(test_set)
        if edition is not None:
            again = self._store.rescored(run, edition.data_digest, edition.labels, edition.evaluator)
            if again.is_dir():
                return again
        return self._store.run(run)

    @property
    def is_open(self) -> bool:
        """Whether submissions are taken."""
        return self.season.start <= self.season.day(self.snapshot.now) <= self.season.end

    def takes_from(self, team: Team) -> bool:
        """Whether submissions are taken from a team, which may have a last day of its own."""
        day = self.season.day(self.snapshot.now)
        return self.season.start <= day <= max(self.season.end, team.until or self.season.end)

    @cached_property
    def places(self) -> Mapping[int, waiting.Waiting]:
        """The places in the queue, by run."""
        return {place.run: place for place in waiting.places(self.snapshot)}

    # --- what several pages show, or what each of many does ---

    @cached_property
    def lines(self) -> Sequence[Line]:
        """The public board's."""
        return board.lines(self.snapshot, PUBLIC)

    @cached_property
    def _private_lines(self) -> Sequence[Line]:
        return board.lines(self.snapshot, PRIVATE)

    @cached_property
    def lines_by_team(self) -> Mapping[str | None, Line]:
        """The same by the names of teams."""
        return {line.team: line for line in self.lines}

    @cached_property
    def _raised_by_team(self) -> Mapping[str, list[BoardResult]]:
        return {name: _raised(results) for name, results in board.by_team(self._public).items()}

    @cached_property
    def _finals(self) -> Mapping[str, tuple[int, ...]]:
        return board.finals(self.snapshot.results(PUBLIC), self.snapshot.choices(), self.season.chosen)

    @cached_property
    def _chose(self) -> set[str]:
        return {choice.team for choice in self.snapshot.choices()}

    @cached_property
    def _missing(self) -> Unfinished:
        return prizes.unfinished(self.snapshot)

    @cached_property
    def _green(self) -> prize.Prize | None:
        digests = {state.submission.id: state.submission.digest for state in self.snapshot.states}
        return prizes.sustainable(self._private_lines, self.season, open_store(self.season), digests)

    @cached_property
    def _results(self) -> Mapping[tuple[int, str], BoardResult]:
        return {
            (result.submission, test_set): result
            for test_set in (PUBLIC, PRIVATE)
            for result in self.snapshot.results(test_set)
        }

    @cached_property
    def states_by_team(self) -> Mapping[str, list[RunState]]:
        """Each team's runs on the test sets of which teams see theirs: of those that were added they see nothing."""
        by_team: dict[str, list[RunState]] = {team.name: [] for team in self.snapshot.teams}
        for state in self.snapshot.states:
            if state.test_set == PUBLIC or (state.test_set == PRIVATE and self.shows_private):
                by_team[state.submission.team].append(state)
        return by_team

    @cached_property
    def _labels(self) -> Mapping[str, labels.Labels]:
        return {test_set: self._find_labels(test_set) for test_set in (PUBLIC, PRIVATE)}

    def _find_labels(self, test_set: str) -> labels.Labels:
        """The newest runs first, which are the likeliest to be kept."""
        edition = self.snapshot.editions.get(test_set)
        results = reversed(self.snapshot.results(test_set))
        runs = (self.results_of(result.run, test_set) for result in results)
        return labels.find(edition.labels if edition else (), runs)

    def _row(self, state: RunState, result: BoardResult | None, report: Callable[[RunState], str | None]) -> RunRow:
        fix: tuple[str, str] | None = None
        findings: Sequence[Mapping[str, Any]] = ()
        address = None
        if state.is_infrastructure_failure:
            fix = words.NOTHING_TO_DO
        elif state.pending and state.failures:
            fix = words.QUEUED_AGAIN
        elif state.verdict == "OK":
            address = report(state)
        elif state.fault == "team":
            said = str(state.detail.get("fix") or "")
            fix = (words.RUSSIAN_FIXES.get(state.verdict or "", said), said) if said else None
            findings = state.detail.get("findings") or ()
        row = RunRow(state, result.total if result else None, address, fix, findings)
        if result is not None:
            row.cells = self._plain_cells(result)
        return row

    def _plain_cells(self, result: BoardResult) -> Markup:
        """A result's scores by task, as cells without bars."""
        scores, thresholds = self.snapshot.all_scores.get(result.run, {}), self.season.thresholds
        return Markup("").join(
            cells.plain_cell(scores.get(number), thresholds.get(number, 0.0)) for number in self._numbers
        )

    def _point(self, result: BoardResult, team: str = "") -> tuple[datetime, float, str]:
        when = f"{result.submitted_at.astimezone(self.season.zone):%Y-%m-%d %H:%M}"
        who = visible(team) if team else f"№ {result.submission}"
        return result.submitted_at, result.total, f"{result.total:.4f} · {who} · {when}"

    def _history(
        self, points: Sequence[tuple[datetime, float, str]], others: Sequence[tuple[datetime, float, str]]
    ) -> Markup:
        start, end = self._bounds
        until = min(end, max(self.snapshot.now, start))
        return charts.history(points, others, self.season.total(self.season.baseline), start, end, until)

    def _tasks(self, scores: Sequence[Mapping[int, float]], first: bool = False) -> list[dict[str, Any]]:
        """Each task's bar: the best of `scores`, or with `first` the first one's, and ticks of the others."""
        rows = []
        for number in self._numbers:
            values = [each[number] for each in scores if number in each]
            best = None
            if values:
                best = scores[0].get(number) if first else max(values)
            baseline, threshold = self.season.baseline.get(number), self.season.thresholds.get(number)
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


def own_row(board: Markup, team: int | None) -> Markup:
    """A board with the row of the reader's team marked. What others wrote has no quotes in it: they are escaped."""
    found = f'id="team-{team}"'
    return Markup(str(board).replace(found, f'{found} class="is-own" aria-current="true"', 1))


def prepare(made: jinja2.Environment, season: Season) -> None:
    """Give an environment what the templates of pages use."""
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
        "own": own_row,
    }


def why(state: RunState) -> str:
    """Why a run is an infrastructure failure, for the organizer. What the evaluator's log ended with stays there."""
    return reason(state.detail)
