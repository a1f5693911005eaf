"""The commands of a season: season, teams, submit, queue, board, choose, prizes, site. Each is one thin function."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from evaluator.competition.tasks import name_of as _task
from evaluator.core import files
from evaluator.core.errors import DataError
from evaluator.core.text import aligned
from evaluator.data import dataset
from evaluator.package import archive
from evaluator.season import PRIVATE, PUBLIC, TEST_SETS, board, prizes
from evaluator.season.database import open_database
from evaluator.season.ledger import Archive, Attempts, Ledger
from evaluator.season.queue import Queue
from evaluator.season.rules import Season, read_season
from evaluator.season.runs import machine_gpus
from evaluator.season.store import digest, open_shared, open_store

FOLLOW_SECONDS = 1.0


def _ledger(options: argparse.Namespace) -> Ledger:
    """`clock`, which no argument sets, is that of a simulated season."""
    season = read_season(options.season)
    return Ledger(season, open_database(season), getattr(options, "clock", None))


def migrate(options: argparse.Namespace) -> int:
    season = read_season(options.season)
    database = open_database(season)
    database.migrate()
    print(f"{database.shown}: ready")
    return 0


def check(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    season = ledger.season
    print(f"{season.name}: {season.start} to {season.end}, choices until {season.choose_until} ({season.zone})")
    print(f"a day {season.valid_a_day} valid and {season.invalid_a_day} invalid attempts; {season.chosen} are chosen")
    for name in TEST_SETS:
        data = dataset.read_data(season.data[name])
        tasks = sorted({example.task.number for example in data.examples})
        if missing := season.weights.keys() - set(tasks):
            wanted = ", ".join(map(str, sorted(missing)))
            raise DataError(f"the {name} test set {season.data[name]} has no examples of task {wanted}")
        print(f"{name}: {len(data.examples)} examples of {len(tasks)} tasks, digest {dataset.data_digest(data)}")
    return 0


def list_teams(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    rows = [
        [team, attempts.valid, attempts.invalid, attempts.pending, attempts.left]
        for team, attempts in ledger.all_attempts().items()
    ]
    print(_table(["team", "valid", "invalid", "not done", "left today"], rows))
    return 0


def add_team(options: argparse.Namespace) -> int:
    team = _ledger(options).add_team(options.name)
    print(f"team {team.name}: added")
    return 0


def submit(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    limits = ledger.season.limits
    # What is found here is told at once. The run looks at the stored bytes again, so nothing hangs on it.
    report = archive.check(options.archive, limits.archive, limits.unpacked)
    sent = digest(options.archive)
    submission = ledger.admit(options.team, sent)
    is_new = False
    if submission is None:
        open_store(ledger.season).add(options.archive, sent)
        name = options.archive.name.encode("utf-8", "replace").decode()  # a file's name may be any bytes
        found = Archive(sent, name, report.packed, report.metadata)
        submission, is_new = ledger.submit(options.team, found)
    if not is_new:
        state = next(state for state in ledger.states(options.team) if state.submission.id == submission.id)
        costs = "and still one attempt"
        if state.is_infrastructure_failure or state.kind == "cancelled":
            costs = "which costs no attempt; only the organizers can `queue retry` it"
        print(
            f"submission {submission.id}: the same ZIP was sent {_moment(submission.submitted_at, ledger.season)};"
            f" it is {state.name}, {costs}"
        )
    else:
        print(f"submission {submission.id}: queued; {_attempts(ledger.attempts(options.team))}")
    return 0


def _attempts(attempts: Attempts) -> str:
    return (
        f"on {attempts.day}: {attempts.valid} valid, {attempts.invalid} invalid, {attempts.pending} not done yet,"
        f" {attempts.left} left"
    )


def list_queue(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    if options.submission is not None:
        rows = [
            [run, test_set, kind, _moment(at, ledger.season), verdict or "", _why(detail)]
            for run, test_set, kind, at, verdict, detail in ledger.history(options.submission)
        ]
        print(_table(["run", "set", "what", "when", "verdict", "why"], rows))
        return 0
    states = ledger.waiting()
    print(
        _table(
            ["submission", "team", "set", "state", "since", "failures", "worker or why"],
            [
                [
                    state.submission.id,
                    state.submission.team,
                    state.test_set,
                    state.name,
                    _moment(state.at, ledger.season),
                    state.failures + state.is_infrastructure_failure,
                    state.worker or _why(state.detail),
                ]
                for state in states
            ],
        )
    )
    queued = sum(state.kind == "queued" for state in states)
    stuck = sum(state.is_infrastructure_failure for state in states)
    running = len(states) - queued - stuck
    print(f"{queued} queued, {running} running, {stuck} infrastructure failures: retry or cancel")
    return 0


def run_queue(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    season = ledger.season

    def say(line: str) -> None:
        encoding = sys.stdout.encoding or "utf-8"  # of a terminal that lacks a character which a team has chosen
        line = line.encode(encoding, "backslashreplace").decode(encoding)
        print(f"{datetime.now(season.zone):%Y-%m-%d %H:%M:%S} {line}", flush=True)

    with contextlib.ExitStack() as stack:
        if options.ray:
            from evaluator.season.ray_runs import RayRuns  # needs the packages of requirements-ray.txt

            runs = RayRuns(season, options.ray, options.workers, say)
            stack.callback(runs.close)
            queue = Queue(ledger, 0, say, runs=runs)
            say(f"Ray at {options.ray}, runner {season.runner}")
        elif season.storage is not None:
            raise DataError(f"season {season.path}: [storage] url is for `queue run --ray ADDRESS`")
        else:
            gpus = machine_gpus()
            workers = options.workers or max(1, len(gpus) // max(1, season.limits.gpus))
            queue = Queue(ledger, workers, say, gpus)
            say(f"{workers} workers, {len(gpus)} GPUs, runner {season.runner}")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: queue.stop())
        if queue.run(options.drain):
            return 0
    checks = "`python -m evaluator season check` and `python -m evaluator doctor`"
    print(f"evaluator error: look at runs/*/evaluator.log, {checks}", file=sys.stderr)
    return 3


def show_logs(options: argparse.Namespace) -> int:
    """Print a run's log as far as it is there, and with --follow go on until the run has ended."""
    ledger = _ledger(options)
    shared, shown = open_shared(ledger.season), 0
    name = "log.txt" if options.printed else "evaluator.log"
    while True:
        pending = ledger.is_pending(options.run)
        content = shared.read(options.run, name) or b""
        sys.stdout.write(_harmless(content[shown:].decode("utf-8", "replace")))
        sys.stdout.flush()
        shown = len(content)
        if not (options.follow and pending):
            break
        time.sleep(FOLLOW_SECONDS)
    if not shown:
        print(f"run {options.run} has no {name} yet" if pending else f"run {options.run} left no {name}")
    return 0


def _harmless(text: str) -> str:
    """Without what a terminal obeys: a submission can print anything."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def retry(options: argparse.Namespace) -> int:
    _ledger(options).retry(options.submission, options.test_set, options.reason)
    print(f"submission {options.submission} ({options.test_set}): queued")
    return 0


def cancel(options: argparse.Namespace) -> int:
    _ledger(options).cancel(options.submission, options.test_set, options.reason)
    print(f"submission {options.submission} ({options.test_set}): cancelled")
    return 0


def finals(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    queued = ledger.queue_finals()
    print(f"{len(queued)} private runs queued")
    public = [state for state in ledger.waiting() if state.test_set == PUBLIC]
    if pending := sum(state.pending for state in public):
        print(f"{pending} public runs are not done; do this again when they are")
    if stuck := sum(state.is_infrastructure_failure for state in public):
        print(f"{stuck} public runs ended as infrastructure failures: retry or cancel them, then do this again")
    return 0


def show_board(options: argparse.Namespace) -> int:
    files.check_writable("--json", options.json)
    ledger = _ledger(options)
    season = ledger.season
    lines = board.lines(ledger, options.test_set)
    numbers = sorted(season.weights)
    rows = [
        [
            line.rank or "",
            line.team or "(baseline)",
            _score(line.total),
            *(f"{line.scores[number]:.2f}" if number in line.scores else "-" for number in numbers),
            f"{line.count}/{line.expected}" if options.test_set == PRIVATE and line.team else line.count or "",
            line.result.submission if line.result else "",
            _moment(line.result.submitted_at, season) if line.result else "",
        ]
        for line in lines
    ]
    header = ["rank", "team", "score", *map(_task, numbers), "results", "submission", "sent"]
    print(f"{season.name}: {options.test_set} board")
    print(_table(header, rows))
    if options.json:
        files.write_json(
            options.json,
            {
                "season": season.name,
                "test_set": options.test_set,
                "computed_at": datetime.now(season.zone).isoformat(timespec="seconds"),
                "lines": [line.to_json() for line in lines],
            },
        )
    return 0


def choose(options: argparse.Namespace) -> int:
    ledger = _ledger(options)
    if options.submissions:
        ledger.choose(options.team, options.submissions)
    choices = ledger.choices()
    team = ledger.team(options.team).name
    chosen = board.finals(ledger.results(PUBLIC), choices, ledger.season.chosen).get(team, ())
    how = "chosen" if any(choice.team == team for choice in choices) else "nothing chosen, so its best public ones"
    print(f"team {team}: {how}: {', '.join(map(str, chosen)) or 'none yet'}")
    return 0


def show_prizes(options: argparse.Namespace) -> int:
    files.check_writable("--json", options.json)
    ledger = _ledger(options)
    season, snapshot = ledger.season, ledger.snapshot()
    lines, missing = board.lines(snapshot, PRIVATE), prizes.unfinished(snapshot)
    digests = {state.submission.id: state.submission.digest for state in snapshot.states}
    main = prizes.main_prize(lines, season)
    green = prizes.sustainable(lines, season, open_store(season), digests)
    rows: list[list[object]] = []
    for each in main:
        why = [f"{_task(task)} {_score(each.line.scores.get(task))} < {least}" for task, least in each.missed.items()]
        total = _score(each.line.total)
        rows.append([each.line.rank, each.line.team, total, "yes" if each.eligible else "no", ", ".join(why)])
    if missing:
        print(f"{missing}\n")
    print("Main prize, by the private board")
    print(_table(["rank", "team", "score", "eligible", "below the threshold"], rows))
    print("\nPrize for the most sustainable solution")
    print("\n".join(green.lines()))
    if options.json:
        now = datetime.now(season.zone).isoformat(timespec="seconds")
        document = {"season": season.name, "computed_at": now} | prizes.to_json(main, green, missing)
        files.write_json(options.json, document)
    return 0


def make_site(options: argparse.Namespace) -> int:
    from evaluator.season.site.pages import build  # its packages are for this command alone

    built = build(_ledger(options), options.out, options.publish)
    print(f"{options.out}: {built.pages} pages, {built.reports} reports; public/ is for everybody,")
    print("teams/ for each team its own folder (organizer/teams.json names them), organizer/ for you alone")
    return 0


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _why(detail: Mapping[str, Any]) -> str:
    findings = detail.get("findings") or [{}]
    return str(detail.get("reason") or findings[0].get("found") or detail.get("worker") or "")


def _moment(moment: datetime, season: Season) -> str:
    return f"{moment.astimezone(season.zone):%Y-%m-%d %H:%M:%S}"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need to be; numbers to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    left = {column for column in range(len(header)) if not rows or not isinstance(rows[0][column], int | float)}
    return "\n".join(aligned(cells, left, rules=(1,)))
