"""What a simulated season must have come to, computed anew: from its plan, the scores.json of its runs, and its rules.

    python -m tests.support.simulated_season build/season-demo

Nothing of the ledger, the boards or the prizes is used for that. It is compared with what these say, and with the rows
of the database, read as they are. Everything must be equal; the first difference ends it with AssertionError.
"""

import csv
import hashlib
import io
import json
import sqlite3
import sys
import tomllib
import zipfile
from collections import Counter
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import fsum, isclose, sqrt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from evaluator.cli.app import main
from evaluator.competition.definition import default
from evaluator.data import contracts, kept
from evaluator.data.dataset import Data, data_digest
from evaluator.scoring import score as scoring
from evaluator.season.config import read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger

ENDS = {
    **dict.fromkeys(("nano", "quick", "brittle", "knowing", "able"), "OK"),
    **{"crash": "EXIT", "slow": "TIMEOUT", "silent": "BAD_OUTPUT"},
}
TURNED_AWAY = ("damaged", "bare", "outside")
# What must be seen at least once where the queue was worked through with this fault of infrastructure.
SEEN = {
    "kill-runner": "lost",
    "stall": "lost",
    "stop": "interrupted",
    "kill-evaluator": "INFRA (infra)",
    "blocked-folder": "INFRA (infra)",
}
FAILED = "infrastructure failure"  # ended by no fault of the team's, and nobody mended it yet
# What an organizer does is entered as.
KINDS = {
    "disqualify": "disqualified",
    "take_out_of_competition": "out of competition",
    "merge": "merged",
    "rename": "renamed",
    "extend": "extended",
    "withdraw": "withdrawn",
    "set_day": "dated",
    "set_rules": "rules",
    "freeze": "frozen",
    **dict.fromkeys(("reinstate", "restore", "unfreeze", "undo"), "undone"),
}


@dataclass
class Sent:
    """A submission that the rules accept. `state` is queued, an infrastructure failure, a verdict or cancelled;
    `counts_on` is the day whose attempt it is, `team` what its team was called at first.
    """

    number: int
    team: str
    key: str
    at: datetime
    day: date
    counts_on: date
    state: str = "queued"
    mended: bool = False
    queued_again: bool = False


@dataclass
class Version:
    """What the results of a test set have in common; `scored` are the submissions that have one of it."""

    data: str
    weights: dict[int, float]
    scored: set[int] = field(default_factory=set)
    undone: bool = False


@dataclass
class Expected:
    """What the rules, and what organizers change, make of a plan. Teams are named as they were at first."""

    end: date
    choose_until: date
    called: dict[str, str]  # what each team is called now
    versions: dict[str, list[Version]]
    sent: list[Sent] = field(default_factory=list)
    chosen: list[tuple[str, list[int]]] = field(default_factory=list)
    came: list[str | None] = field(default_factory=list)  # of each event; None where the time of a kill decides
    into: dict[str, str] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    until: dict[str, date] = field(default_factory=dict)
    extra: Counter[tuple[str, date]] = field(default_factory=Counter)
    withdrawn: set[int] = field(default_factory=set)
    frozen: set[int] | None = None  # the public results of that moment
    finals: set[int] = field(default_factory=set)  # that have private runs
    first: dict[tuple[int, str], Version] = field(default_factory=dict)  # that a submission's run was scored by
    changes: list[tuple[str, datetime]] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def owner(self, number: int) -> str:
        """The team that a submission is of now."""
        team = self.sent[number - 1].team
        return self.into.get(team, team)

    def named(self, name: str) -> str | None:
        """The team that is called so now."""
        found = [team for team, called in self.called.items() if called == name and team not in self.into]
        return found[0] if found else None

    def of(self, team: str) -> list[Sent]:
        return [sent for sent in self.sent if self.owner(sent.number) == team]

    def is_out(self, number: int) -> bool:
        return number in self.withdrawn or self.status.get(self.owner(number)) == "disqualified"

    def version(self, test_set: str) -> Version:
        """The one that boards show."""
        return [version for version in self.versions[test_set] if not version.undone][-1]

    def shown(self, test_set: str) -> set[int]:
        return {number for number in self.version(test_set).scored if not self.is_out(number)}

    def lacking(self, test_set: str) -> set[int]:
        """The submissions that have a result, but none of the version that boards show."""
        ever = set().union(*(version.scored for version in self.versions[test_set]))
        return {number for number in ever if not self.is_out(number)} - self.shown(test_set)


class Season:
    """The files of a finished season."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan = _json(folder / "plan.json")
        self.programs = self.plan["programs"]
        lines = (folder / "journal.jsonl").read_text(encoding="utf-8").splitlines()
        journal = [json.loads(line) for line in lines]
        self.came = [entry["came"] for entry in journal if "event" in entry]
        self.resumed = {entry["resumed"] for entry in journal if "resumed" in entry}
        rules = tomllib.loads((folder / "season.toml").read_text(encoding="utf-8"))
        self.attempts, formula = rules["attempts"], rules["formula"]
        self.zone = ZoneInfo(rules["season"]["time_zone"])
        self.start, self.end = rules["season"]["start"], rules["season"]["end"]
        self.choose_until = rules["season"]["choose_until"]
        weights = {task: formula.get(str(task), "1/15" if task < 6 else "1/10") for task in range(12)}
        self.weights = {task: float(Fraction(weight)) for task, weight in weights.items() if Fraction(weight)}
        self.baseline = {int(task): value for task, value in rules["baseline"].items()}
        self.thresholds = {int(task): value for task, value in rules["thresholds"].items()}
        self._data: dict[str, Data] = {}
        self._scores: dict[tuple[int, str], dict[int, float]] = {}
        found = self.rows("SELECT submission_id, test_set, max(id) FROM run GROUP BY submission_id, test_set")
        self._runs = {(number, test_set): run for number, test_set, run in found}

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "season.sqlite3")) as connection:
            return connection.execute(query).fetchall()

    def total(self, number: int, test_set: str, version: Version) -> float:
        return weighted(self.scores(number, test_set, version.data), version.weights)

    def scores(self, number: int, test_set: str, data: str) -> dict[int, float]:
        """The scores by task of what a submission's last run answered, by the answers in a data folder: those in the
        run's scores.json, where they are by these, else what the evaluator makes of the output that was kept.
        """
        run = self._runs[number, test_set]
        if (run, data) not in self._scores:
            folder = self.folder / "runs" / str(run)
            document = _json(folder / "scores.json")
            assert document["verdict"] == "OK"
            its = self._read(data)
            if document["data_digest"] != data_digest(its):
                with closing(kept.read(folder / "output.zip", document["run"]["output_sha256"], its)) as predictions:
                    resources = scoring.find_resources(None, self.folder / "assets")
                    document = scoring.score(predictions, its, resources).to_json()
            elif len(self.weights) == 12:
                scores = {int(task): found["score"] for task, found in document["tasks"].items()}
                assert isclose(document["integral"], weighted(scores, self.weights), rel_tol=1e-12)
            self._scores[run, data] = {int(task): found["score"] for task, found in document["tasks"].items()}
        return self._scores[run, data]

    def _read(self, data: str) -> Data:
        if data not in self._data:
            self._data[data] = contracts.read_data(self.folder / "data" / data, default())
        return self._data[data]

    def said(self, event: dict[str, Any]) -> Any:
        """What the simulation wrote down at an event."""
        at = datetime.fromisoformat(event["at"])
        return _json(self.folder / "said" / f"{at:%m-%d-%H%M%S}.json")

    def command(self, *arguments: str) -> Any:
        """The JSON that a command writes."""
        target = self.folder / "said.json"
        command = [*arguments, "--json", str(target), "--season", str(self.folder / "season.toml")]
        with redirect_stdout(io.StringIO()):
            assert main(command) == 0
        document = _json(target)
        target.unlink()
        return document


def weighted(scores: dict[int, float], weights: dict[int, float]) -> float:
    return fsum(weight * scores[task] for task, weight in weights.items())


def check(folder: Path) -> dict[str, int]:
    """Compare; returns how much was compared, for people to see that it was something."""
    season = Season(folder.resolve())
    expected = expect(season)
    _check_journal(season, expected)
    _check_submissions(season, expected)
    _check_runs(season, expected)
    _check_results(season, expected)
    _check_changes(season, expected)
    figures = _check_attempts(season, expected)
    public = _lines(season, expected, "public")
    private = _lines(season, expected, "private")
    assert season.command("board", "--public")["lines"] == public
    assert season.command("board", "--private")["lines"] == private
    prizes = season.command("prizes")
    figures |= _check_prizes(season, expected, private, prizes)
    for name, lines in (("public", public), ("private", private)):  # what the simulation itself wrote at its end
        assert _json(folder / f"{name}.json")["lines"] == lines
    figures |= expected.figures | {
        "events": len(expected.came),
        "submissions": len(expected.sent),
        "runs": len(season.rows("SELECT id FROM run")),
        "teams on the public board": sum(line["rank"] is not None for line in public),
        "teams on the private board": sum(line["rank"] is not None for line in private),
        "results that another team has, too": _shared(season, expected),
    }
    return figures


# --- the rules, anew ---


def expect(season: Season) -> Expected:
    versions = {test_set: [Version(test_set, season.weights)] for test_set in ("public", "private")}
    called = {team: team for team in season.plan["teams"]}
    expected = Expected(season.end, season.choose_until, called, versions)
    spoilt_data, spoilt_keys = "", set()
    for number, event in enumerate(season.plan["events"]):
        at = datetime.fromisoformat(event["at"])
        day = at.astimezone(season.zone).date()
        keys, how = event["programs"], event["how"]
        team = expected.named(event["team"])
        came: str | None = None
        match event["do"]:
            case "send":
                came = _send(season, expected, team, keys[0], at, day)
            case "kill-sending":
                came = f"killed, the ZIP is {'kept' if how == 'kept' else 'not kept'}"
            case "spoil":
                spoilt_data = spoilt_data if how == "store" else how
                spoilt_keys |= set(keys) if how == "store" else set()
            case "restore":
                spoilt_data = spoilt_data if how == "store" else ""
                spoilt_keys -= set(keys)
            case "cancel":
                sent = _sent(expected, team, keys[0])
                assert sent.state == "queued"
                sent.state = came = "cancelled"
            case "work":
                _work(season, expected, spoilt_data, spoilt_keys)
            case "retry":
                found = [sent for sent in expected.sent if sent.state == FAILED]
                for sent in found:
                    sent.state, sent.mended = "queued", True
                came = f"{len(found)} queued again"
            case "choose":
                came = _choose(season, expected, team, keys, day)
            case "finals":
                came = "refused"
                if day > expected.choose_until:
                    wanted = set().union(*_finals(season, expected).values()) - expected.finals
                    expected.finals |= wanted
                    came = f"{len(wanted)} private runs queued"
            case "organize":
                came = _organize(season, expected, event, team, at, day)
            case "rescore":
                came = _rescore(season, expected, event, at, number in season.resumed)
            case "look":
                came = f"{len(expected.lacking(event['to']))} results are not of this version"
                lines = _lines(season, expected, event["to"], live=how == "live")
                said = season.said(event)
                assert said["lines"] == lines, (event, said["lines"], lines)
                assert (said["frozen_at"] is not None) == (expected.frozen is not None and how != "live")
                if expected.frozen is not None:
                    live = _lines(season, expected, event["to"], live=True)
                    expected.figures["looks at a frozen board that differs"] += lines != live
        expected.came.append(came)
    assert not spoilt_data and not spoilt_keys
    return expected


def _sent(expected: Expected, team: str | None, key: str) -> Sent:
    (sent,) = [sent for sent in expected.sent if sent.key == key and expected.owner(sent.number) == team]
    return sent


def _send(season: Season, expected: Expected, team: str | None, key: str, at: datetime, day: date) -> str:
    if season.programs[key]["kind"] in TURNED_AWAY:
        return "turned away"
    if team is None:
        return "refused"
    if any(sent.key == key for sent in expected.of(team)):
        return "the same attempt"
    states = [sent.state for sent in expected.of(team) if sent.counts_on == day]
    valid, waiting = states.count("OK"), states.count("queued")
    invalid = sum(state not in ("OK", "queued", "cancelled", FAILED) for state in states)
    left = min(season.attempts["valid_a_day"] - valid, season.attempts["invalid_a_day"] - invalid)
    room = left + expected.extra[team, day] - waiting
    last = max(expected.end, expected.until.get(team, expected.end))
    if expected.status.get(team) == "disqualified" or not season.start <= day <= last or room < 1:
        return "refused"
    expected.sent.append(Sent(len(expected.sent) + 1, team, key, at, day, day))
    return "accepted"


def _choose(season: Season, expected: Expected, team: str | None, keys: list[str], day: date) -> str:
    if team is None or expected.status.get(team) == "disqualified":
        return "refused"
    scored = {
        sent.key: sent.number
        for sent in expected.of(team)
        if sent.state == "OK" and sent.number not in expected.withdrawn
    }
    if len(keys) > season.attempts["chosen"] or day > expected.choose_until or not set(keys) <= set(scored):
        return "refused"
    expected.chosen.append((team, sorted(scored[key] for key in keys)))
    return "chosen"


def _work(season: Season, expected: Expected, spoilt_data: str, spoilt_keys: set[str]) -> None:
    version = expected.version("public")
    for sent in expected.sent:
        if sent.state == "queued":
            sent.state = ENDS[season.programs[sent.key]["kind"]]
            spoilt = spoilt_data == "data-missing" or (spoilt_data and sent.state == "OK")
            if spoilt or sent.key in spoilt_keys:
                sent.state = FAILED
            elif sent.state == "OK":
                version.scored.add(sent.number)
                expected.first[sent.number, "public"] = version
    for number in expected.finals:
        if (number, "private") not in expected.first and season.programs[_key(expected, number)]["kind"] != "brittle":
            expected.first[number, "private"] = expected.version("private")
            expected.version("private").scored.add(number)


def _key(expected: Expected, number: int) -> str:
    return expected.sent[number - 1].key


# --- what organizers change ---


def _organize(
    season: Season, expected: Expected, event: dict[str, Any], team: str | None, at: datetime, day: date
) -> str:
    how, to = event["how"], event["to"]
    assert team is not None or not event["team"]
    before = {sent.number for sent in expected.sent if expected.is_out(sent.number)}
    match how:
        case "disqualify" | "take_out_of_competition":
            expected.status[team] = KINDS[how]
        case "reinstate":
            del expected.status[team]
        case "merge":
            expected.into[team] = expected.named(to)
        case "rename":
            expected.called[team] = to
        case "extend" if to.isdecimal():
            expected.extra[team, day] += int(to)
        case "extend":
            expected.until[team] = date.fromisoformat(to)
        case "withdraw":
            sent = _sent(expected, team, event["programs"][0])
            if sent.number in expected.shown("public"):
                best = min(_by_team(expected, "public")[team], key=_order(season, expected, "public"))
                expected.figures["withdrawn that were a team's best"] += best == sent.number
                chosen = _choices(expected).get(team, [])
                expected.figures["withdrawn that were chosen"] += sent.number in chosen
            expected.withdrawn.add(sent.number)
        case "restore":
            expected.withdrawn.remove(_sent(expected, team, event["programs"][0]).number)
        case "set_day":
            _sent(expected, team, event["programs"][0]).counts_on = date.fromisoformat(to)
        case "set_rules":
            expected.end, expected.choose_until = map(date.fromisoformat, to.split())
        case "freeze":
            expected.frozen = set().union(*(version.scored for version in expected.versions["public"]))
        case "unfreeze":
            expected.frozen = None
        case "undo":
            for versions in expected.versions.values():
                versions[-1].undone |= versions[-1].weights != season.weights
    expected.changes.append((KINDS[how], at))
    came, counts = ["entered"], Counter()
    for sent in expected.sent:
        if expected.is_out(sent.number) and sent.state == "queued":
            sent.state = "cancelled"
            counts["cancelled"] += 1
        elif sent.number in before and not expected.is_out(sent.number) and sent.state == "cancelled":
            sent.state, sent.queued_again = "queued", True
            counts["queued again"] += 1
    return ", ".join([*came, *(f"{number} {what}" for what, number in counts.items())])


def _rescore(season: Season, expected: Expected, event: dict[str, Any], at: datetime, resumed: bool) -> str:
    """All results are scored by the new version, those too that do not count; by other weights those that are shown."""
    how = event["how"]
    if how == "killed":
        return "killed"
    test_set = "public" if how == "weights" else event["to"]
    now = expected.version(test_set)
    had = {number: season.total(number, test_set, now) for number in expected.shown(test_set)}
    before = _places(_lines(season, expected, test_set, live=True))
    new = now
    if how == "weights":
        task, _, weight = event["to"].partition("=")
        new = Version(now.data, {**season.weights, int(task): float(weight)})
    elif how != "once more":
        new = Version(f"{test_set}-corrected", season.weights)
    wanted = expected.shown(test_set) | expected.lacking(test_set)
    versions = expected.versions[test_set]
    shown = replace(new, scored=new.scored | wanted)
    expected.versions[test_set] = [*(version for version in versions if version is not new), shown]
    after = _places(_lines(season, expected, test_set, live=True))
    expected.versions[test_set] = versions
    changed = sum(had.get(number) != season.total(number, test_set, new) for number in wanted)
    expected.figures["totals that another version changed"] += changed if how == "corrected" else 0
    if how != "dry run":
        new.scored |= now.scored if how == "weights" else set().union(*(version.scored for version in versions))
        if new is not now:
            versions.append(new)
            expected.changes.append(("rescored", at))
    moved = {
        team: (*before.get(team, (None, None)), *after.get(team, (None, None))) for team in before.keys() | after.keys()
    }
    if not resumed:
        (said,) = season.said(event)["sets"]
        columns = ("rank_before", "total_before", "rank_after", "total_after")
        assert {line["team"]: tuple(line[name] for name in columns) for line in said["board"]} == moved
        assert not said["missing"]
    count = sum(place[:2] != place[2:] for place in moved.values())
    return f"{len(wanted)} results, {changed} other totals, {count} teams moved"


def _places(lines: list[dict[str, Any]]) -> dict[str, tuple[int | None, float | None]]:
    return {line["team"]: (line["rank"], line["total"]) for line in lines if line["team"]}


# --- what there is ---


def _check_journal(season: Season, expected: Expected) -> None:
    assert len(season.came) == len(season.plan["events"])
    for number, (event, came, wanted) in enumerate(zip(season.plan["events"], season.came, expected.came, strict=True)):
        if number in season.resumed:  # done twice, perhaps: of what was done the first time the journal says nothing
            continue
        assert wanted is None or came == wanted, (number, event, came, wanted)
        assert SEEN.get(event["how"], "") in came, (number, event, came)


def _check_submissions(season: Season, expected: Expected) -> None:
    """Each accepted ZIP is there, byte by byte, and no other; the database has the same submissions."""
    keys = {}
    for path in (season.folder / "submissions").iterdir():
        assert path.suffix == ".zip" and hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        with zipfile.ZipFile(path) as file:
            keys[path.stem] = file.read("key.txt").decode()
    assert Counter(keys.values()) == Counter({sent.key for sent in expected.sent})
    query = """
        SELECT submission.id, team.name, digest, submitted_at, day
        FROM submission JOIN team ON team.id = submission.team_id ORDER BY submission.id
    """
    found = [
        (number, team, keys[digest], datetime.fromisoformat(at).replace(tzinfo=UTC), date.fromisoformat(day))
        for number, team, digest, at, day in season.rows(query)
    ]
    assert found == [(sent.number, sent.team, sent.key, sent.at, sent.day) for sent in expected.sent]
    assert [name for (name,) in season.rows("SELECT name FROM team ORDER BY id")] == season.plan["teams"]


def _check_runs(season: Season, expected: Expected) -> None:
    """All runs have ended, and of a submission's runs only the last one by the submission itself, or by an organizer
    who cancelled it. The last run of each submission on each test set ended as it must.
    """
    query = """
        SELECT run.id, submission_id, test_set, kind, coalesce(verdict, kind), fault
        FROM run JOIN event ON event.run_id = run.id ORDER BY run.id, step
    """
    lives: dict[tuple[int, int, str], list[tuple[str, str, str | None]]] = {}
    for run, number, test_set, *event in season.rows(query):
        lives.setdefault((run, number, test_set), []).append(tuple(event))
    assert len(lives) == len(season.rows("SELECT id FROM run")) and not season.rows("SELECT run_id FROM job")
    again = {sent.number for sent in expected.sent if sent.queued_again}
    last: dict[tuple[int, str], str] = {}
    for (_, number, test_set), life in lives.items():
        kinds = [kind for kind, _, _ in life]
        assert kinds in (
            *(["queued", "running", end] for end in ("done", "lost", "interrupted", "cancelled")),
            ["queued", "cancelled"],
        )
        before = last.get((number, test_set))
        assert before in (None, "lost", "interrupted", "failed", *(("cancelled",) if number in again else ()))
        _, end, fault = life[-1]
        last[number, test_set] = "failed" if fault in ("infra", "organizer") else end
    states = {(sent.number, "public"): sent.state for sent in expected.sent}
    states |= {(number, "private"): "EXIT" for number in expected.finals}
    states |= {(number, test_set): "OK" for number, test_set in expected.first if test_set == "private"}
    assert last == states


def _check_results(season: Season, expected: Expected) -> None:
    """Each result is there once, as its run was scored, and once more in each other version that it was scored by."""
    rows = season.rows("SELECT submission_id, test_set, total FROM result")
    assert len(rows) == len(expected.first)
    assert {(number, test_set): total for number, test_set, total in rows} == {
        (number, test_set): season.total(number, test_set, version)
        for (number, test_set), version in expected.first.items()
    }
    rows = season.rows("SELECT submission_id, test_set, task, value FROM score JOIN result USING (run_id)")
    assert {tuple(place): value for *place, value in rows} == {
        (number, test_set, task): value
        for (number, test_set), version in expected.first.items()
        for task, value in season.scores(number, test_set, version.data).items()
    }
    editions: dict[str, list[int | None]] = {"public": [None], "private": [None]}
    for id, test_set in season.rows("SELECT id, test_set FROM edition ORDER BY id"):
        editions[test_set].append(id)
    wanted, scores = {}, {}
    for test_set, versions in expected.versions.items():
        assert len(versions) == len(editions[test_set])
        for id, version in zip(editions[test_set], versions, strict=True):
            for number in version.scored:
                if expected.first[number, test_set] is not version:
                    wanted[number, test_set, id] = season.total(number, test_set, version)
                    for task, value in season.scores(number, test_set, version.data).items():
                        scores[number, test_set, id, task] = value
    rows = season.rows("SELECT submission_id, test_set, edition_id, total FROM rescored")
    assert len(rows) == len(wanted) and {tuple(place): total for *place, total in rows} == wanted
    query = """
        SELECT submission_id, test_set, edition_id, task, value FROM rescored_score
        JOIN rescored ON rescored.id = rescored_score.rescored_id
    """
    assert {tuple(place): value for *place, value in season.rows(query)} == scores
    expected.figures["results scored again"] = len(wanted)


def _check_changes(season: Season, expected: Expected) -> None:
    """Each was entered once, however often the simulation was interrupted."""
    found = [
        (kind, datetime.fromisoformat(at).replace(tzinfo=UTC))
        for kind, at in season.rows("SELECT kind, at FROM change ORDER BY id")
    ]
    assert found == expected.changes
    expected.figures["changes of organizers"] = len(found)


def _check_attempts(season: Season, expected: Expected) -> dict[str, int]:
    """Attempts of each team on each day, as the ledger says on that day; more only by infrastructure failures."""
    rules = read_season(season.folder / "season.toml")
    database = Database(rules.url, rules.folder)
    moments: list[datetime] = [datetime.now(UTC)]
    ledger = Ledger(rules, database, lambda _: moments[-1])
    figures = Counter()
    day = season.start
    while day <= max(expected.end, *expected.until.values()):
        moments.append(datetime(day.year, day.month, day.day, 12, tzinfo=season.zone))
        found = {team: (count.valid, count.invalid, count.pending) for team, count in ledger.all_attempts().items()}
        teams = [team for team in season.plan["teams"] if team not in expected.into]
        assert set(found) == {expected.called[team] for team in teams}
        for team in teams:
            of_day = [sent for sent in expected.of(team) if sent.counts_on == day]
            valid = [sent for sent in of_day if sent.state == "OK"]
            invalid = [sent for sent in of_day if sent.state not in ("OK", "cancelled")]
            assert found[expected.called[team]] == (len(valid), len(invalid), 0)
            extra = expected.extra[team, day]
            allowed = season.attempts["valid_a_day"] + sum(sent.mended for sent in valid) + extra
            assert len(valid) <= allowed and len(invalid) <= season.attempts["invalid_a_day"] + extra
            figures["valid attempts"] += len(valid)
            figures["invalid attempts"] += len(invalid)
            figures["days with a fourth by an infrastructure failure"] += (
                len(valid) > season.attempts["valid_a_day"] + expected.extra[team, day]
            )
        day += timedelta(days=1)
    database.engine.dispose()
    return dict(figures)


# --- the boards ---


def _order(season: Season, expected: Expected, test_set: str) -> Any:
    """The key that puts the best submission first."""
    version = expected.version(test_set)
    return lambda number: (-season.total(number, test_set, version), expected.sent[number - 1].at, number)


def _lines(season: Season, expected: Expected, test_set: str, live: bool = False) -> list[dict[str, Any]]:
    if test_set == "private":
        return _private_lines(season, expected)
    teams = _by_team(expected, "public", None if live else expected.frozen).values()
    lines = [_line(season, expected, "public", numbers, len(numbers)) for numbers in teams]
    return _ranked(season, expected, "public", lines)


def _line(season: Season, expected: Expected, test_set: str, numbers: list[int], wanted: int) -> dict[str, Any]:
    best = min(numbers, key=_order(season, expected, test_set))
    version, team = expected.version(test_set), expected.owner(best)
    return {
        "rank": None,
        "team": expected.called[team],
        "total": season.total(best, test_set, version),
        "scores": {str(task): value for task, value in season.scores(best, test_set, version.data).items()},
        "submission": best,
        "submitted_at": expected.sent[best - 1].at.astimezone(season.zone).isoformat(),
        "results": len(numbers),
        "expected": wanted,
        "competes": team not in expected.status,
    }


def _ranked(season: Season, expected: Expected, test_set: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = sorted(lines, key=lambda line: (-line["total"], line["submitted_at"], line["submission"]))
    for rank, line in enumerate((line for line in lines if line["competes"]), 1):
        line["rank"] = rank
    total = weighted(season.baseline, expected.version(test_set).weights)
    baseline = {
        "rank": None,
        "team": None,
        "total": total,
        "scores": {str(task): value for task, value in sorted(season.baseline.items())},
        "submission": None,
        "submitted_at": None,
        "results": 0,
        "expected": 0,
        "competes": True,
    }
    place = sum(line["total"] >= total for line in lines)
    return [*lines[:place], baseline, *lines[place:]]


def _by_team(expected: Expected, test_set: str, among: set[int] | None = None) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number in sorted(expected.shown(test_set)):
        if among is None or number in among:
            found.setdefault(expected.owner(number), []).append(number)
    return found


def _choices(expected: Expected) -> dict[str, list[int]]:
    """What counts of each team's last choice, or of that of a part of it."""
    last = {expected.into.get(team, team): numbers for team, numbers in expected.chosen}
    found = {team: [number for number in numbers if not expected.is_out(number)] for team, numbers in last.items()}
    return {team: numbers for team, numbers in found.items() if numbers}


def _finals(season: Season, expected: Expected) -> dict[str, list[int]]:
    """The submissions of each team for the private board."""
    order = _order(season, expected, "public")
    best = {
        team: sorted(numbers, key=order)[: season.attempts["chosen"]]
        for team, numbers in _by_team(expected, "public").items()
    }
    return best | _choices(expected)


def _private_lines(season: Season, expected: Expected) -> list[dict[str, Any]]:
    lines, waiting = [], []
    for team, wanted in _finals(season, expected).items():
        numbers = [number for number in wanted if number in expected.shown("private")]
        if numbers:
            lines.append(_line(season, expected, "private", numbers, len(wanted)))
        else:
            nothing = dict.fromkeys(("rank", "total", "submission", "submitted_at"))
            nothing |= {"scores": {}, "results": 0, "competes": True}
            waiting.append({**nothing, "team": expected.called[team], "expected": len(wanted)})
    ranked = _ranked(season, expected, "private", lines)
    return [*ranked, *sorted(waiting, key=lambda line: line["team"])]


def _shared(season: Season, expected: Expected) -> int:
    """How many public results equal one of another team, so that the earlier one has to go before."""
    teams: dict[float, set[str]] = {}
    for number in expected.shown("public"):
        total = season.total(number, "public", expected.version("public"))
        teams.setdefault(total, set()).add(expected.owner(number))
    return sum(len(of_total) - 1 for of_total in teams.values())


# --- the prizes ---


def _check_prizes(season: Season, expected: Expected, private: list[dict[str, Any]], said: Any) -> dict[str, int]:
    ranked = [line for line in private if line["rank"] is not None]
    main = []
    for line in ranked:
        missed = {task: least for task, least in season.thresholds.items() if line["scores"][str(task)] < least}
        main.append(
            {
                **line,
                "eligible": not missed,
                "missed": {str(task): least for task, least in sorted(missed.items())},
                "amount": None,
            }
        )
    assert said["main"] == main

    baseline = weighted(season.baseline, season.weights)
    above = [Fraction(line["total"]) for line in ranked if line["total"] > baseline]
    mean = sum(above, Fraction()) / len(above)
    variance = sum(((total - mean) ** 2 for total in above), Fraction()) / len(above)
    inside: dict[str, float] = {}
    for line in ranked:
        total = Fraction(line["total"])
        program = season.programs[expected.sent[line["submission"] - 1].key]
        if total > Fraction(baseline) and total >= mean and (total - mean) ** 2 >= variance:
            if program["emission"] == "good":
                inside[line["team"]] = program["kg"]
                assert _emitted(season, line["submission"]) == program["kg"]
    green = said["sustainable"]
    assert green["beating"] == len(above) and green["baseline"] == baseline
    assert isclose(green["mean"], float(mean)) and isclose(green["deviation"], sqrt(variance), abs_tol=1e-12)
    places = {place["team"]: (place["rank"], place["kg"]) for place in green["places"] if place["rank"] is not None}
    assert places == {team: (1 + sum(other < kg for other in inside.values()), kg) for team, kg in inside.items()}
    winners = [team for team, kg in inside.items() if kg == min(inside.values())]
    assert sorted(green["winners"]) == sorted(winners)
    assert {place["team"] for place in green["places"]} == {
        line["team"] for line in private if line["team"] and line["competes"]
    }
    assert not said["preliminary"]
    return {"can win the main prize": sum(line["eligible"] for line in main), "can win the other": len(inside)}


def _emitted(season: Season, number: int) -> float:
    """CO2 of the last row with TargetValue of the emission.csv in a stored ZIP, in kg."""
    ((digest,),) = season.rows(f"SELECT digest FROM submission WHERE id = {number}")
    with zipfile.ZipFile(season.folder / "submissions" / f"{digest}.zip") as file:
        text = file.read("emission.csv").decode()
    rows = [row for row in csv.DictReader(io.StringIO(text)) if "TargetValue" in row["experiment_description"]]
    return float(rows[-1]["CO2_emissions(kg)"])


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name, number in check(Path(sys.argv[1])).items():
        print(f"{name}: {number}")
    print("all as it must be")
