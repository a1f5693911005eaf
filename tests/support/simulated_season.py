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
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import fsum, isclose, sqrt
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from evaluator.cli.app import main
from evaluator.season.config import read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger

ENDS = {"nano": "OK", "quick": "OK", "brittle": "OK", "crash": "EXIT", "slow": "TIMEOUT", "silent": "BAD_OUTPUT"}
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


@dataclass
class Sent:
    """A submission that the rules accept. `state` is queued, an infrastructure failure, a verdict or cancelled."""

    number: int
    team: str
    key: str
    at: datetime
    day: date
    state: str = "queued"
    mended: bool = False
    private: str | None = None


@dataclass
class Expected:
    """What the rules make of a plan."""

    sent: list[Sent] = field(default_factory=list)
    chosen: dict[str, list[int]] = field(default_factory=dict)
    came: list[str | None] = field(default_factory=list)  # of each event; None where the time of a kill decides


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

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "season.sqlite3")) as connection:
            return connection.execute(query).fetchall()

    def total(self, scores: dict[int, float]) -> float:
        return fsum(weight * scores[task] for task, weight in self.weights.items())

    def scores(self, run: int) -> dict[int, float]:
        """The scores by task in a run's scores.json."""
        document = _json(self.folder / "runs" / str(run) / "scores.json")
        assert document["verdict"] == "OK"
        scores = {int(task): found["score"] for task, found in document["tasks"].items()}
        if len(self.weights) == 12:
            assert isclose(document["integral"], self.total(scores), rel_tol=1e-12)
        return scores

    def command(self, *arguments: str) -> Any:
        """The JSON that a command writes."""
        target = self.folder / "said.json"
        command = [*arguments, "--json", str(target), "--season", str(self.folder / "season.toml")]
        with redirect_stdout(io.StringIO()):
            assert main(command) == 0
        document = _json(target)
        target.unlink()
        return document


def check(folder: Path) -> dict[str, int]:
    """Compare; returns how much was compared, for people to see that it was something."""
    season = Season(folder.resolve())
    expected = expect(season)
    _check_journal(season, expected)
    _check_submissions(season, expected)
    last = _check_runs(season, expected)
    totals = _check_results(season, expected, last)
    figures = _check_attempts(season, expected)
    public = _public_lines(season, expected, totals)
    finals = _finals(season, expected, totals)
    private = _private_lines(season, finals, totals, expected)
    assert season.command("board", "--public")["lines"] == public
    assert season.command("board", "--private")["lines"] == private
    prizes = season.command("prizes")
    figures |= _check_prizes(season, expected, private, prizes)
    for name, lines in (("public", public), ("private", private)):  # what the simulation itself wrote at its end
        assert _json(folder / f"{name}.json")["lines"] == lines
    figures |= {
        "events": len(expected.came),
        "submissions": len(expected.sent),
        "runs": len(season.rows("SELECT id FROM run")),
        "teams on the public board": sum(line["rank"] is not None for line in public),
        "teams on the private board": sum(line["rank"] is not None for line in private),
        "results that another team has, too": _shared(expected, totals),
    }
    return figures


# --- the rules, anew ---


def expect(season: Season) -> Expected:
    expected = Expected()
    spoilt_data, spoilt_keys = "", set()
    for event in season.plan["events"]:
        at = datetime.fromisoformat(event["at"])
        day = at.astimezone(season.zone).date()
        keys, team, how = event["programs"], event["team"], event["how"]
        of_team = [sent for sent in expected.sent if sent.team == team]
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
                (sent,) = [sent for sent in of_team if sent.key == keys[0] and sent.state == "queued"]
                sent.state = came = "cancelled"
            case "work":
                _work(season, expected, spoilt_data, spoilt_keys)
            case "retry":
                found = [sent for sent in expected.sent if sent.state == FAILED]
                for sent in found:
                    sent.state, sent.mended = "queued", True
                came = f"{len(found)} queued again"
            case "choose":
                scored = {sent.key: sent.number for sent in of_team if sent.state == "OK"}
                came = "refused"
                if len(keys) <= season.attempts["chosen"] and day <= season.choose_until and set(keys) <= set(scored):
                    expected.chosen[team] = sorted(scored[key] for key in keys)
                    came = "chosen"
            case "finals":
                if day <= season.choose_until:
                    came = "refused"
                else:
                    came = None  # once all public results are there, `_finals` says which
        expected.came.append(came)
    assert not spoilt_data and not spoilt_keys
    return expected


def _send(season: Season, expected: Expected, team: str, key: str, at: datetime, day: date) -> str:
    kind = season.programs[key]["kind"]
    if kind in TURNED_AWAY:
        return "turned away"
    if team not in season.plan["teams"]:
        return "refused"
    if any((sent.team, sent.key) == (team, key) for sent in expected.sent):
        return "the same attempt"
    states = [sent.state for sent in expected.sent if (sent.team, sent.day) == (team, day)]
    valid, waiting = states.count("OK"), states.count("queued")
    invalid = sum(state not in ("OK", "queued", "cancelled", FAILED) for state in states)
    room = min(season.attempts["valid_a_day"] - valid, season.attempts["invalid_a_day"] - invalid) - waiting
    if not season.start <= day <= season.end or room < 1:
        return "refused"
    expected.sent.append(Sent(len(expected.sent) + 1, team, key, at, day))
    return "accepted"


def _work(season: Season, expected: Expected, spoilt_data: str, spoilt_keys: set[str]) -> None:
    for sent in expected.sent:
        if sent.state == "queued":
            sent.state = ENDS[season.programs[sent.key]["kind"]]
            spoilt = spoilt_data == "data-missing" or (spoilt_data and sent.state == "OK")
            if spoilt or sent.key in spoilt_keys:
                sent.state = FAILED


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


def _check_runs(season: Season, expected: Expected) -> dict[tuple[int, str], tuple[int, str]]:
    """All runs have ended, and of a submission's runs only the last one by the submission itself. Returns the last run
    of each submission on each test set, and how it ended.
    """
    query = """
        SELECT run.id, submission_id, test_set, kind, coalesce(verdict, kind), fault
        FROM run JOIN event ON event.run_id = run.id ORDER BY run.id, step
    """
    lives: dict[tuple[int, int, str], list[tuple[str, str, str | None]]] = {}
    for run, number, test_set, *event in season.rows(query):
        lives.setdefault((run, number, test_set), []).append(tuple(event))
    assert len(lives) == len(season.rows("SELECT id FROM run")) and not season.rows("SELECT run_id FROM job")
    last: dict[tuple[int, str], tuple[int, str]] = {}
    for (run, number, test_set), life in lives.items():
        kinds = [kind for kind, _, _ in life]
        assert kinds in (
            *(["queued", "running", end] for end in ("done", "lost", "interrupted", "cancelled")),
            ["queued", "cancelled"],
        )
        before = last.get((number, test_set))
        assert before is None or before[1] in ("lost", "interrupted", "failed")
        _, end, fault = life[-1]
        last[number, test_set] = run, "failed" if fault in ("infra", "organizer") else end
    states = {sent.number: sent.state for sent in expected.sent}
    assert {number: end for (number, test_set), (_, end) in last.items() if test_set == "public"} == states
    return last


def _check_results(
    season: Season, expected: Expected, last: dict[tuple[int, str], tuple[int, str]]
) -> dict[tuple[int, str], tuple[float, dict[int, float]]]:
    """The totals of the last runs' scores.json are the results, each once. Returns them with the tasks' scores."""
    totals = {}
    for place, (run, end) in last.items():
        if end == "OK":
            scores = season.scores(run)
            totals[place] = season.total(scores), scores
        elif end != "cancelled":
            assert _json(season.folder / "runs" / str(run) / "scores.json")["verdict"] == end
    found = season.rows("SELECT submission_id, test_set, total FROM result")
    assert len(found) == len(totals)
    assert {(number, test_set): total for number, test_set, total in found} == {
        place: total for place, (total, _) in totals.items()
    }
    rows = season.rows("SELECT submission_id, test_set, task, value FROM score JOIN result USING (run_id)")
    assert {(number, test_set, task): value for number, test_set, task, value in rows} == {
        (*place, task): value for place, (_, scores) in totals.items() for task, value in scores.items()
    }
    return totals


def _check_attempts(season: Season, expected: Expected) -> dict[str, int]:
    """Attempts of each team on each day, as the ledger says on that day; more only by infrastructure failures."""
    rules = read_season(season.folder / "season.toml")
    database = Database(rules.url, rules.folder)
    moments: list[datetime] = [datetime.now(UTC)]
    ledger = Ledger(rules, database, lambda _: moments[-1])
    figures = Counter()
    day = season.start
    while day <= season.end:
        moments.append(datetime(day.year, day.month, day.day, 12, tzinfo=season.zone))
        found = {team: (count.valid, count.invalid, count.pending) for team, count in ledger.all_attempts().items()}
        for team in season.plan["teams"]:
            of_day = [sent for sent in expected.sent if (sent.team, sent.day) == (team, day)]
            valid = [sent for sent in of_day if sent.state == "OK"]
            invalid = [sent for sent in of_day if sent.state not in ("OK", "cancelled")]
            assert found[team] == (len(valid), len(invalid), 0)
            allowed = season.attempts["valid_a_day"] + sum(sent.mended for sent in valid)
            assert len(valid) <= allowed and len(invalid) <= season.attempts["invalid_a_day"]
            figures["valid attempts"] += len(valid)
            figures["invalid attempts"] += len(invalid)
            figures["days with a fourth by an infrastructure failure"] += len(valid) > season.attempts["valid_a_day"]
        day += timedelta(days=1)
    database.engine.dispose()
    return dict(figures)


# --- the boards ---


def _order(expected: Expected, totals: dict[tuple[int, str], Any], test_set: str) -> Any:
    """The key that puts the best submission first."""
    return lambda number: (-totals[number, test_set][0], expected.sent[number - 1].at, number)


def _line(
    season: Season, expected: Expected, totals: Any, test_set: str, numbers: list[int], wanted: int
) -> dict[str, Any]:
    best = min(numbers, key=_order(expected, totals, test_set))
    total, scores = totals[best, test_set]
    sent = expected.sent[best - 1]
    return {
        "rank": None,
        "team": sent.team,
        "total": total,
        "scores": {str(task): scores[task] for task in scores},
        "submission": best,
        "submitted_at": sent.at.isoformat(),
        "results": len(numbers),
        "expected": wanted,
    }


def _ranked(season: Season, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = sorted(lines, key=lambda line: (-line["total"], line["submitted_at"], line["submission"]))
    for rank, line in enumerate(lines, 1):
        line["rank"] = rank
    total = season.total(season.baseline)
    baseline = {
        "rank": None,
        "team": None,
        "total": total,
        "scores": {str(task): value for task, value in sorted(season.baseline.items())},
        "submission": None,
        "submitted_at": None,
        "results": 0,
        "expected": 0,
    }
    place = sum(line["total"] >= total for line in lines)
    return [*lines[:place], baseline, *lines[place:]]


def _by_team(expected: Expected, totals: dict[tuple[int, str], Any], test_set: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, of_set in totals:
        if of_set == test_set:
            found.setdefault(expected.sent[number - 1].team, []).append(number)
    return found


def _public_lines(season: Season, expected: Expected, totals: Any) -> list[dict[str, Any]]:
    teams = _by_team(expected, totals, "public").values()
    return _ranked(season, [_line(season, expected, totals, "public", numbers, len(numbers)) for numbers in teams])


def _finals(season: Season, expected: Expected, totals: Any) -> dict[str, list[int]]:
    """The submissions of each team for the private board. They and no others have private runs, and those ended as
    their programs do there.
    """
    finals = {}
    for team, numbers in _by_team(expected, totals, "public").items():
        best = sorted(numbers, key=_order(expected, totals, "public"))[: season.attempts["chosen"]]
        finals[team] = expected.chosen.get(team, best)
    wanted = {number for numbers in finals.values() for number in numbers}
    brittle = {number for number in wanted if season.programs[expected.sent[number - 1].key]["kind"] == "brittle"}
    found = season.rows("SELECT DISTINCT submission_id FROM run WHERE test_set = 'private'")
    assert {number for (number,) in found} == wanted
    assert {number for number, test_set in totals if test_set == "private"} == wanted - brittle
    queued = [came for came in season.came if came.endswith("private runs queued")]
    assert season.resumed or queued == [f"{len(wanted)} private runs queued", "0 private runs queued"]
    return finals


def _private_lines(
    season: Season, finals: dict[str, list[int]], totals: Any, expected: Expected
) -> list[dict[str, Any]]:
    lines, waiting = [], []
    for team, wanted in finals.items():
        numbers = [number for number in wanted if (number, "private") in totals]
        if numbers:
            lines.append(_line(season, expected, totals, "private", numbers, len(wanted)))
        else:
            nothing = dict.fromkeys(("rank", "total", "submission", "submitted_at"))
            waiting.append({**nothing, "team": team, "scores": {}, "results": 0, "expected": len(wanted)})
    return [*_ranked(season, lines), *sorted(waiting, key=lambda line: line["team"])]


def _shared(expected: Expected, totals: Any) -> int:
    """How many public results equal one of another team, so that the earlier one has to go before."""
    teams: dict[float, set[str]] = {}
    for (number, test_set), (total, _) in totals.items():
        if test_set == "public":
            teams.setdefault(total, set()).add(expected.sent[number - 1].team)
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

    baseline = season.total(season.baseline)
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
    assert {place["team"] for place in green["places"]} == {line["team"] for line in private if line["team"]}
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
