"""How long the boards and the queue take with a season's database full of submissions.

    python -m evaluator.tools.bench_season --submissions 10000 --teams 300
    python -m evaluator.tools.bench_season --url postgresql://user@/empty

Fills a database (default: SQLite in a temporary folder; a URL must name an empty one) with submissions, runs, events,
results and scores as a season leaves them, and times each view, the best of five; the site, written anew and once more
over itself, with a report of a kilobyte for each result and tiny ZIPs; a backup of all that with test sets of a
gigabyte, and restoring it into SQLite; then the ledger's own work for a thousand submissions, one after another:
submit, claim, finish. The last line is one JSON object.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import random
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import insert, update

from evaluator.competition.definition import default
from evaluator.package.metadata import Metadata
from evaluator.season import PRIVATE, PUBLIC, backup, board, schema
from evaluator.season.config import Season, read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Ledger, RunEnd
from evaluator.season.site.build import build
from evaluator.season.store import Store

TASKS = default().numbers
START = datetime(2022, 9, 28, 6, tzinfo=UTC)
SECONDS_ALLOWED = 1.0  # for a board of 10 000 submissions
SITE_SECONDS_ALLOWED = 30.0
REPORT = b'{"private":true}'.ljust(1000)
CHUNK = 20_000  # rows a statement


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluator.tools.bench_season")
    parser.add_argument("--submissions", type=int, default=10_000)
    parser.add_argument("--teams", type=int, default=300)
    parser.add_argument("--cycles", type=int, default=1000, help="submissions that go through the ledger one by one")
    parser.add_argument("--url", default="sqlite:///bench.sqlite3", help="default: %(default)s, in a temporary folder")
    parser.add_argument("--test-set-bytes", type=int, default=10**9, help="of the backup (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="season-bench-") as folder:
        season = make_season(Path(folder), options.url)
        database = Database(options.url, Path(folder))
        database.migrate()
        began = time.perf_counter()
        fill(database, season, options.submissions, options.teams, random.Random(options.seed))
        seconds_to_fill = time.perf_counter() - began
        print(f"{options.submissions} submissions of {options.teams} teams: {seconds_to_fill:.1f} s to fill")
        moment = START + timedelta(days=30)
        ledger = Ledger(season, database, lambda _: moment)
        seconds = {
            "public_board": _best(lambda: board.lines(ledger, PUBLIC)),
            "private_board": _best(lambda: board.lines(ledger, PRIVATE)),
            "attempts_of_all_teams": _best(ledger.all_attempts),
            "states_of_all_runs": _best(ledger.states),
            "states_of_a_team": _best(lambda: ledger.states("team 1")),
        }
        ledger = Ledger(season, database, lambda _: START + timedelta(days=60))  # the private board is final
        _leave_files(ledger)
        for name in ("site", "site_again"):
            began = time.perf_counter()
            build(ledger, Path(folder) / "site", private=True)
            seconds[name] = time.perf_counter() - began
        seconds |= _back_up(season, options.test_set_bytes)
        for name, value in seconds.items():
            print(f"{name:<24} {value:8.4f} s")
        ledger = Ledger(season, database, lambda _: moment)
        per_thousand = _cycles(ledger, options.cycles)
        for name, value in per_thousand.items():
            print(f"{name:<24} {value:8.2f} s per 1000")
        database.engine.dispose()
    slowest = max(seconds["public_board"], seconds["private_board"])
    document = {
        "database": database.engine.dialect.name,
        "submissions": options.submissions,
        "teams": options.teams,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "seconds_per_thousand": {name: round(value, 2) for name, value in per_thousand.items()},
        "slowest_board_of_allowed": round(slowest / SECONDS_ALLOWED, 4),
        "site_of_allowed": round(seconds["site"] / SITE_SECONDS_ALLOWED, 4),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(document))
    return 0 if slowest <= SECONDS_ALLOWED and seconds["site"] <= SITE_SECONDS_ALLOWED else 1


def make_season(folder: Path, url: str, replace: Mapping[str, str] | None = None) -> Season:
    """The example's season, with attempts for everybody, in a folder; `replace` has what else differs from its text."""
    rules = (Path(__file__).parents[1] / "season" / "season.example.toml").read_text(encoding="utf-8")
    path = folder / "season.toml"
    for old, new in {
        "valid_a_day = 3": "valid_a_day = 1000",
        "sqlite:///season.sqlite3": url,
        **(replace or {}),
    }.items():
        rules = rules.replace(old, new)
    path.write_text(rules, encoding="utf-8")
    return read_season(path)


def fill(
    database: Database, season: Season, submissions: int, teams: int, chance: random.Random, start: datetime = START
) -> None:
    """Teams "team 1" and so on, with submissions of 30 days from `start` on. Three of four have a result, the others
    failed by themselves, some after an infrastructure failure; each team chose two, and those have private results.
    """
    rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in schema.HISTORY}
    runs = 0

    def run(submission: int, test_set: str, at: datetime, failures: int, verdict: str, fault: str | None) -> None:
        nonlocal runs
        runs += 1
        rows["run"].append({"id": runs, "submission_id": submission, "test_set": test_set, "failures": failures})
        for step, kind in enumerate(("queued", "running", "done")):
            end = kind == "done"
            rows["event"].append(
                {
                    "run_id": runs,
                    "step": step,
                    "kind": kind,
                    "at": at + timedelta(hours=step),
                    "verdict": verdict if end else None,
                    "fault": fault if end else None,
                    "detail": {"seconds": 3600.0, "findings": []} if end else {},
                }
            )
        if verdict == "OK":
            scores = {task: chance.random() for task in TASKS}
            total = season.total(scores)
            rows["result"].append({"run_id": runs, "submission_id": submission, "test_set": test_set, "total": total})
            rows["score"] += [{"run_id": runs, "task": task, "value": value} for task, value in scores.items()]

    for team in range(1, teams + 1):
        rows["team"].append({"id": team, "name": f"team {team}", "key": f"team {team}", "created_at": start})
    scored: dict[int, list[int]] = {}
    for submission in range(1, submissions + 1):
        team = submission % teams + 1
        at = start + timedelta(seconds=submission * 30 * 86400 / submissions)
        rows["submission"].append(
            {
                "id": submission,
                "team_id": team,
                "digest": hashlib.sha256(_zip(submission)).hexdigest(),
                "name": "submission.zip",
                "bytes": 10**9,
                "image": "fusionbrain/fbc2:latest",
                "submitted_at": at,
                "day": season.day(at),
            }
        )
        if chance.random() < 0.05:
            run(submission, PUBLIC, at, 0, "INFRA", "infra")
            run(submission, PUBLIC, at, 1, "OK", None)
        elif chance.random() < 0.75:
            run(submission, PUBLIC, at, 0, "OK", None)
        else:
            run(submission, PUBLIC, at, 0, "TIMEOUT", "team")
            continue
        scored.setdefault(team, []).append(submission)
    for team, of_team in scored.items():
        rows["choice"].append({"id": team, "team_id": team, "at": start + timedelta(days=40)})
        for submission in of_team[-2:]:
            rows["chosen"].append({"choice_id": team, "submission_id": submission})
            run(submission, PRIVATE, start + timedelta(days=50), 0, "OK", None)
    weights = {str(number): weight for number, weight in sorted(season.weights.items())}
    with database.write() as connection:
        # As the first results would have set them.
        connection.execute(update(schema.test_set).values(data_digest="d" * 64, weights=weights, labels=[]))
        for table in schema.HISTORY:
            for first in range(0, len(rows[table.name]), CHUNK):
                connection.execute(insert(table), rows[table.name][first : first + CHUNK])
            if not database.sqlite and "id" in table.c:  # PostgreSQL's own numbers begin after ours
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), (SELECT max(id) FROM {table.name}))"
                )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sqlalchemy.text("ANALYZE"))


def _zip(submission: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(zipfile.ZipInfo("run.py"), f"print({submission})")
    return file.getvalue()


def _leave_files(ledger: Ledger) -> None:
    """Reports, and the ZIPs that the prizes may look into."""
    store = Store(ledger.season.folder)
    digests = {state.submission.id: state.submission.digest for state in ledger.states()}
    for result in ledger.results(PRIVATE):
        path = store.archive(digests[result.submission])
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_zip(result.submission))
    for test_set in (PUBLIC, PRIVATE):
        for result in ledger.results(test_set):
            store.run(result.run).mkdir(parents=True)
            (store.run(result.run) / "report.html").write_bytes(REPORT)


def _back_up(season: Season, size: int) -> dict[str, float]:
    seconds = {}
    for path in season.data.values():
        path.mkdir(parents=True)
        with open(path / "input.json", "wb") as file:
            for _ in range(size // len(season.data) >> 20):
                file.write(os.urandom(1 << 20))
    archive, folder = season.folder / "backup.tar", season.folder / "restored"
    began = time.perf_counter()
    backup.back_up(season.path, archive)
    seconds["backup"] = time.perf_counter() - began
    began = time.perf_counter()
    backup.restore(archive, folder, "sqlite:///restored.sqlite3")
    seconds["restore"] = time.perf_counter() - began
    return seconds


def _best(function: Callable[[], object]) -> float:
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _cycles(ledger: Ledger, count: int) -> dict[str, float]:
    """Seconds for a thousand of each, with the database as full as it is."""
    spent = {"submit": 0.0, "claim": 0.0, "finish": 0.0}
    outcome = RunEnd("OK", None, dict.fromkeys(TASKS, 0.5), "d" * 64, {"seconds": 3600.0, "findings": []})
    facts = Metadata("fusionbrain/fbc2:latest", "python3 run.py", ("python3", "run.py"))
    for number in range(count):
        moments = [time.perf_counter()]
        ledger.submit(f"team {number % 100 + 1}", Archive(f"{number:064d}x"[-64:], "s.zip", 10**9, facts))
        moments.append(time.perf_counter())
        job = ledger.claim("bench")
        moments.append(time.perf_counter())
        if job is None or ledger.finish(job, outcome) is None:
            raise RuntimeError("the queue does not give what was put into it")
        moments.append(time.perf_counter())
        for name, begin, end in zip(spent, moments, moments[1:], strict=False):
            spent[name] += end - begin
    return {name: value * 1000 / count for name, value in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
