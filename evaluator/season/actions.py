"""What teams and organizers do in a season, a typed call each; the command line and the simulated season make them."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from evaluator.carbon.prize import Prize
from evaluator.core.errors import DataError, show
from evaluator.data import contracts, dataset
from evaluator.package import archive
from evaluator.sandbox import record
from evaluator.season import PRIVATE, PUBLIC, board, prizes
from evaluator.season import notices as notices_of
from evaluator.season.board import Line
from evaluator.season.clock import behind_line, read_times
from evaluator.season.config import Season, read_season
from evaluator.season.database import open_database
from evaluator.season.history import History
from evaluator.season.ledger import Archive, Attempts, Edition, Ledger, Refused, RunState
from evaluator.season.prizes import Eligibility, Nomination, Unfinished
from evaluator.season.queue import Queue
from evaluator.season.runs import machine_gpus, runs_at_a_time
from evaluator.season.store import digest, open_shared, open_store

FOLLOW_SECONDS = 1.0


def open_ledger(rules: Path, clock: Callable[[Connection], datetime] | None = None) -> Ledger:
    """The ledger of the season whose season.toml is `rules`. `clock` is that of a simulated season. Raises
    `DataError`.
    """
    season = read_season(rules)
    return Ledger(season, open_database(season), clock)


def read_history(rules: Path) -> History:
    """All runs of a season and what happened to them, as they are now. Raises `DataError`."""
    return History(open_ledger(rules))


def migrate(rules: Path) -> str:
    """Make the season's database, or bring it to this version; returns its name for people. Raises `DataError`."""
    database = open_database(read_season(rules))
    database.migrate()
    return database.shown


@dataclass(frozen=True)
class TestSet:
    """What a test set is: its name, how many examples it has, of how many tasks, and the digest of its data."""

    name: str
    examples: int
    tasks: int
    digest: str


def read_test_set(season: Season, name: str, folder: Path) -> TestSet:
    """A test set in a folder. Raises `DataError` where it cannot be read or lacks a task."""
    data = contracts.read_data(folder, season.competition)
    tasks = {example.task.number for example in data.examples}
    if missing := season.weights.keys() - tasks:
        wanted = ", ".join(map(str, sorted(missing)))
        raise DataError(f"the {name} test set {folder} has no examples of task {wanted}")
    return TestSet(name, len(data.examples), len(tasks), dataset.data_digest(data))


@dataclass(frozen=True)
class Sent:
    """What came of sending a ZIP: `state` is that of the submission's latest run, `attempts` those of the team today.
    It is not new where the team has sent the same ZIP before. `notices` are lines for the organizer alone.
    """

    state: RunState
    is_new: bool
    attempts: Attempts
    notices: tuple[str, ...] = ()

    def to_json(self, season: Season) -> dict[str, Any]:
        """What `submit --json` writes."""
        submission, attempts = self.state.submission, self.attempts
        return {
            "submission": submission.id,
            "team": submission.team,
            "submitted_at": season.moment(submission.submitted_at),
            "digest": submission.digest,
            "is_new": self.is_new,
            "state": self.state.name,
            "withdrawn": submission.withdrawn,
            "day": attempts.day.isoformat(),
            "attempts": attempts.counts(),
            "notices": list(self.notices),
        }


def submit(ledger: Ledger, path: Path, team: str, by: str | None = None) -> Sent:
    """Check a team's ZIP, keep it and queue its run; `by` is who sends it, where that is known.

    Raises `SubmissionError` for a faulty ZIP, `Refused` where the team may not send it, `DataError`.
    """
    limits = ledger.season.limits
    # What is found here is told at once. The run looks at the stored bytes again, so nothing hangs on it.
    report = archive.check(path, limits.archive, limits.unpacked)
    sent = digest(path)
    submission = ledger.admit(team, sent)
    is_new = False
    if submission is not None:
        ledger.send_again(team, submission.id, by)
    else:
        open_store(ledger.season).add(path, sent)
        name = path.name.encode("utf-8", "replace").decode()  # a file's name may be any bytes
        submission, is_new = ledger.submit(team, Archive(sent, name, report.packed, report.metadata), by)
    state = next(state for state in ledger.states(team) if state.submission.id == submission.id)
    times = read_times(ledger)
    notices = (notices_of.same_zip(ledger, submission), behind_line(times) if times.behind else "")
    return Sent(state, is_new, ledger.attempts(team), tuple(filter(None, notices)))


def work(ledger: Ledger, say: Callable[[str], None], workers: int | None, ray: str | None, drain: bool) -> bool:
    """Work on the queue, with so many `workers` (None: as many as GPUs allow, or 1), on this machine or on the Ray
    cluster at that address, until SIGINT or SIGTERM, or with `drain` until it is empty. `say` gets lines for a log.

    Returns False where it ended since only infrastructure failures come of it. Raises `DataError`.
    """
    season = ledger.season
    check_evaluator(ledger)
    with contextlib.ExitStack() as stack:
        if ray:
            from evaluator.season.ray_runs import RayRuns  # needs Ray, which a season on one machine does without

            runs = RayRuns(season, ray, workers, say)
            stack.callback(runs.close)
            queue = Queue(ledger, 0, say, runs=runs)
            say(f"Ray at {ray}, runner {season.runner}")
        elif season.storage is not None:
            raise DataError(f"season {season.path}: [storage] url is for `queue run --ray ADDRESS`")
        else:
            gpus = machine_gpus()
            workers = workers or runs_at_a_time(gpus, season.limits)
            queue = Queue(ledger, workers, say, gpus)
            say(f"{workers} workers, {len(gpus)} GPUs, runner {season.runner}")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: queue.stop())
        return queue.run(drain)


def check_evaluator(ledger: Ledger) -> None:
    """Raises `DataError` where this code scores otherwise than the results so far may have been scored: what it gives
    could not stand beside them.
    """
    code = record.code_digest()
    for name in ledger.rules().data:
        edition = ledger.edition(name)
        if edition is not None and edition.evaluator not in (None, code):
            raise DataError(
                f"the {name} results were scored by another version of the evaluator than this one: go back to that, or"
                f" score all anew by this one, `python -m evaluator season rescore --test-set {name} --reason ...`"
            )


def read_log(ledger: Ledger, run: int, name: str, follow: bool) -> Iterator[str]:
    """A file that a run writes, as far as it is there, and with `follow` what comes until the run has ended; without
    what a terminal obeys, as a submission can print anything. Raises `DataError` where there is no such run.
    """
    shared, read = open_shared(ledger.season), 0
    while True:
        pending = ledger.is_pending(run)
        content = shared.read(run, name) or b""
        if text := content[read:].decode("utf-8", "replace"):
            yield "".join(
                character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text
            )
        read = len(content)
        if not (follow and pending):
            return
        time.sleep(FOLLOW_SECONDS)


@dataclass(frozen=True)
class QueuedFinals:
    """How many private runs were queued, and how many public ones, on which the finals hang, are still `pending` or
    `failed` by no fault of a team's.
    """

    queued: int
    pending: int
    failed: int


def queue_finals(ledger: Ledger, by: str | None = None, reason: str | None = None) -> QueuedFinals:
    """Queue the private runs; `by` is who does it, and why, as far as that is known. Raises `Refused` while teams can
    still choose.
    """
    queued = ledger.queue_finals(reason, by)
    public = [state for state in ledger.waiting() if state.test_set == PUBLIC]
    failed = sum(state.is_infrastructure_failure for state in public)
    return QueuedFinals(len(queued), sum(state.pending for state in public), failed)


@dataclass(frozen=True)
class Finals:
    """The submissions of a team for the private board; where it has not `chosen`, its best public ones."""

    team: str
    chosen: bool
    submissions: tuple[int, ...]


def choose(ledger: Ledger, team: str, submissions: Sequence[int], by: str | None = None) -> Finals:
    """Enter a team's choice for the private board, if any are given, with who made it, where that is known; returns
    what stands. Raises `Refused`.
    """
    if submissions:
        ledger.choose(team, submissions, by)
    snapshot = ledger.snapshot()
    choices, name = snapshot.choices(), ledger.team(team).name
    finals = board.finals(snapshot.results(PUBLIC), choices, snapshot.season.chosen).get(name, ())
    return Finals(name, any(choice.team == name for choice in choices), finals)


@dataclass(frozen=True)
class Board:
    """The board of a test set: where it is a frozen one, as it was at `frozen_at`. All of its results are of one
    `edition`, None before the first; `waiting` ones are of another, and stand on it when they are scored again.
    """

    season: Season
    test_set: str
    lines: Sequence[Line]
    frozen_at: datetime | None = None
    edition: Edition | None = None
    waiting: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """Why its scores are not the leaderboard's."""
        return () if self.edition is None else self.edition.labels

    def to_json(self) -> dict[str, Any]:
        """What `board --json` writes."""
        return {
            "season": self.season.name,
            "competition": {"name": self.season.competition.name, "digest": self.season.competition.digest},
            "test_set": self.test_set,
            "computed_at": _now(self.season),
            "frozen_at": self.season.moment(self.frozen_at),
            "labels": list(self.labels),
            "edition": self.edition and self.edition.to_json(),
            "to_be_rescored": self.waiting,
            "lines": [line.to_json(self.season) for line in self.lines],
        }

    def rows(self) -> list[dict[str, Any]]:
        """What `board --table` writes: the lines, with a column for each task that has weight."""
        tasks = [(str(task), self.season.competition.names[task]) for task in sorted(self.season.weights)]
        rows = []
        for line in self.lines:
            row = line.to_json(self.season)
            scores, counted = row.pop("scores"), row.pop("shared_parameters", None)
            row["team"] = line.name
            row |= {name: scores.get(task) for task, name in tasks}
            rows.append(row | ({} if counted is None else {"shared_parameters": counted["share"]}))
        return rows


def read_board(ledger: Ledger, test_set: str, live: bool = False) -> Board:
    """The board as it stands, or `live` as it would without being frozen. Raises `Refused` where there is no
    such test set.
    """
    season, edition = ledger.rules(), ledger.edition(test_set)
    if test_set not in season.data:
        raise Refused(f"test set {show(test_set)}: must be one of {', '.join(season.data)}")
    frozen_at = ledger.frozen_at if test_set == PUBLIC and not live else None
    waiting = sum(result.counts for result in ledger.runs_of(test_set)) - len(ledger.results(test_set))
    return Board(season, test_set, board.lines(ledger, test_set, live), frozen_at, edition, waiting)


@dataclass(frozen=True)
class Prizes:
    """Who wins the season's prizes; `missing` says what may still change that."""

    season: Season
    main: Sequence[Eligibility]
    nominations: Sequence[Nomination]
    sustainable: Prize | None
    missing: Unfinished

    def to_json(self) -> dict[str, Any]:
        """What `prizes --json` writes."""
        document = prizes.to_json(self.season, self.main, self.nominations, self.sustainable, self.missing)
        return {"season": self.season.name, "computed_at": _now(self.season)} | document


def award_prizes(ledger: Ledger) -> Prizes:
    """The prizes by the private board as it stands. Raises `DataError` where a ZIP that decides cannot be read."""
    snapshot = ledger.snapshot()
    season = snapshot.season
    lines = board.lines(snapshot, PRIVATE)
    digests = {state.submission.id: state.submission.digest for state in snapshot.states}
    sustainable = prizes.sustainable(lines, season, open_store(season), digests)
    nominated = prizes.nominations(lines, season)
    return Prizes(season, prizes.main_prize(lines, season), nominated, sustainable, prizes.unfinished(snapshot))


def _now(season: Season) -> str:
    return datetime.now(season.zone).isoformat(timespec="seconds")
