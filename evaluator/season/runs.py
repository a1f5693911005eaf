"""How a run is run: the evaluator's process that everyone starts it in, and the runs of this machine.

The queue claims, keeps leases and enters what comes of it; a `Runs` has the places where runs can be: here this
machine, in `ray_runs` the nodes of a cluster.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from evaluator.core.errors import DataError, show
from evaluator.core.gpus import find as find_gpus
from evaluator.core.limits import Limits
from evaluator.core.verdict import BAD_METADATA, BAD_ZIP, INFRA, OK, TABLE
from evaluator.sandbox import record
from evaluator.season.board import Sharing
from evaluator.season.config import Season
from evaluator.season.database import URL_VARIABLE
from evaluator.season.ledger import Job, RunEnd, Submission
from evaluator.season.store import OUTPUT, RUN_FILES, Store, digest

logger = logging.getLogger(__name__)
T = TypeVar("T")

STOP_SECONDS = 30.0  # for a run to clean up after it was told to stop
# Infrastructure failures one after another; then somebody has to look at the machine, or at the team's submissions.
MAX_FAILURES = 3
MAX_KEPT_FINDINGS = 20  # of a run, in the database; scores.json has more
_RUN_FACTS = ("runner", "image_digest", "seconds", "exit_code", "peak_memory", "output_sha256")
MAX_SCORES_BYTES = 64 * 10**6
_SECRETS = (URL_VARIABLE, "AWS_", "RAY_AUTH_")  # beginnings of variables that the evaluator has no use for
_TAIL_CHARACTERS = 500
_ROOT = Path(__file__).parents[2]
# PR_SET_PDEATHSIG of linux/prctl.h: the kernel ends the process when the one that started it ends, even by SIGKILL. In
# a program of its own and not between fork and exec: Ray's workers have threads, which a fork of Python does not go
# well with. They also block SIGINT, and in a script's background it is ignored: both would be inherited.
_TIED = """
import ctypes, os, signal, sys
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Host:
    """A machine on which runs can be. `name` is for people, and empty for this machine."""

    id: str
    name: str

    def __str__(self) -> str:
        return f" on {self.name}" if self.name else ""


@dataclass(frozen=True)
class Lost:
    """The end of a run whose machine is gone."""

    reason: str


class Run(Protocol):
    """A run that was started. What it is told to `stop` has no end any more, and is `gone` when nothing is left."""

    @property
    def place(self) -> Host:
        """Where it runs."""

    def end(self) -> RunEnd | Lost | None:
        """How it ended; None while it has not. Does not wait."""

    def stop(self) -> None:
        """Have it end soon, without an end that counts. Does not wait."""

    def gone(self) -> bool:
        """Whether none of its processes is left."""


class Runs(Protocol):
    """The places, and what is known of them."""

    @property
    def broken(self) -> bool:
        """Whether nothing more should be started anywhere, as only infrastructure failures come of it."""

    @property
    def set_aside(self) -> frozenset[str]:
        """Teams of which nothing more should be started, as only infrastructure failures come of it."""

    def room(self) -> Host | None:
        """A place for one more run."""

    def why_no_room(self) -> str:
        """What `room` waits for, where it gives no place and nothing runs; empty where runs go on."""

    def start(self, job: Job, place: Host) -> Run:
        """Start a run at a place that `room` gave. Does not wait, and does not raise: what fails is the run's end."""

    def entered(self, job: Job, place: Host, end: RunEnd | Lost) -> None:
        """Learn from how a run ended at a place."""


@dataclass(frozen=True)
class Call:
    """What the evaluator is called with."""

    archive: Path
    folder: Path  # for what the run leaves
    data: Path
    runner: str
    country: str
    competition: str
    competition_folder: Path | None
    limit_settings: tuple[str, ...]
    assets: Path | None
    ruwordnet: Path | None
    key_file: Path | None
    keep_output: bool = True
    time_zone: str = "UTC"  # of the report

    def with_paths(self, change: Callable[[Path], Path]) -> "Call":
        """The same call with each of its paths changed."""
        names = ("archive", "folder", "data", "competition_folder", "assets", "ruwordnet", "key_file")
        paths: dict[str, Path | None] = {name: getattr(self, name) for name in names}
        return replace(self, **{name: path and change(path) for name, path in paths.items()})  # type: ignore[arg-type]

    def resolved(self) -> "Call":
        """The same call with absolute paths, without links."""
        return self.with_paths(Path.resolve)

    def command(self) -> list[str]:
        """Tied to this process: they end together."""
        options: list[tuple[str, object]] = [
            ("--data", self.data),
            ("--competition", self.competition_folder or self.competition),
            ("--runner", self.runner),
            ("--country", self.country),
            ("--time-zone", self.time_zone),
            ("--json", self.folder / "scores.json"),
            ("--record", self.folder / "record.json"),
            ("--log", self.folder / "log.txt"),
            *(("--limit", setting) for setting in self.limit_settings),
        ]
        for name, path in (
            ("--keep-output", self.folder / OUTPUT if self.keep_output else None),
            ("--assets", self.assets),
            ("--ruwordnet", self.ruwordnet),
            ("--key-file", self.key_file),
        ):
            if path is not None:
                options.append((name, path))
        arguments = [str(part) for option in options for part in option]
        evaluator = [sys.executable, "-m", "evaluator", "run", str(self.archive), "--private", *arguments]
        return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *evaluator]


def call(season: Season, store: Store, job: Job) -> Call:
    """A job's call, with the season's own folder and data."""
    return Call(
        store.archive(job.submission.digest),
        store.run(job.run),
        job.data,
        season.runner,
        season.country,
        season.competition.name,
        season.competition.folder,
        season.limit_settings,
        season.assets,
        season.ruwordnet,
        season.key_file,
        season.keep_outputs_days != 0,
        season.zone.key,
    )


class Evaluator:
    """The process of a call; what it prints goes to evaluator.log. What another run of this number left, before the
    database began anew, is removed. Raises OSError where it cannot be started.
    """

    def __init__(self, call: Call, environment: Mapping[str, str]) -> None:
        call.folder.mkdir(parents=True, exist_ok=True)
        for name in RUN_FILES:
            (call.folder / name).unlink(missing_ok=True)
        with open(call.folder / "evaluator.log", "wb") as log:
            self._process = subprocess.Popen(
                call.command(),
                cwd=_ROOT,
                env={name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}
                | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which then stops its runs
            )
        self._deadline: float | None = None

    def returncode(self) -> int | None:
        """None while it runs. One that was told to stop, and has not in time, is killed."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self._signal(signal.SIGKILL)
        return self._process.poll()

    def stop(self) -> None:
        """Have it end soon: it removes its folders and containers."""
        self._deadline = time.monotonic() + STOP_SECONDS
        self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:  # else its number may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


class Failures:
    """Infrastructure failures in a row, by place and by team, to tell which of the two somebody has to look at.

    Whatever one team's submissions do, no place is out for it for good. A team is set aside for failures that are not
    all of one submission, nor all at one of several places. A place is out for those of as many teams, or, where there
    are others, of any submissions but those of teams that are set aside. A run that ends otherwise ends the row of its
    place and that of its team.
    """

    def __init__(self) -> None:
        self.set_aside: frozenset[str] = frozenset()
        self._at: defaultdict[str, list[Submission]] = defaultdict(list)  # by place
        self._of: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)  # by team: place and submission

    def add(self, submission: Submission, place: str, places: int) -> str | None:
        """Take down one of so many places; a line for the organizer where the team is set aside for it."""
        team = submission.team
        self._at[place].append(submission)
        self._of[team].append((place, submission.id))
        count, submissions = len(self._of[team]), {id for _, id in self._of[team]}
        spread = places == 1 or len({at for at, _ in self._of[team]}) > 1
        if team in self.set_aside or not spread or count < MAX_FAILURES or len(submissions) == 1:
            return None
        self.set_aside |= {team}
        return (
            f"team {show(team)}: {count} infrastructure failures in a row, of {len(submissions)} submissions: nothing"
            " more of it is started until `queue run` is started anew; runs of others go on"
        )

    def end_row(self, submission: Submission, place: str) -> None:
        """Take down a run that ended otherwise: the rows of its place and of its team are over."""
        self._at.pop(place, None)
        self._of.pop(submission.team, None)
        self.set_aside -= {submission.team}

    def at(self, place: str) -> list[Submission]:
        """Those of teams that are not set aside."""
        return [submission for submission in self._at[place] if submission.team not in self.set_aside]

    def is_out(self, place: str, places: int) -> bool:
        """Whether nothing more should be started at a place, one of so many."""
        if len({submission.team for submission in self._at[place]}) >= MAX_FAILURES:
            return True
        here = self.at(place)
        return places > 1 and len(here) >= MAX_FAILURES and len({submission.id for submission in here}) > 1


class LocalRuns:
    """So many `workers` on this machine, each with GPUs of its own, where there are any.

    Raises `DataError` where this machine has GPUs, but not enough of them for so many runs.
    """

    def __init__(
        self, season: Season, store: Store, workers: int, gpus: Sequence[str], say: Callable[[str], None]
    ) -> None:
        needed = season.limits.gpus if gpus else 0
        if workers * needed > len(gpus):
            raise DataError(f"{workers} workers need {workers * needed} GPUs; this machine has {len(gpus)}")
        self.gpus = [tuple(gpus[i * needed : (i + 1) * needed]) for i in range(workers)]
        self._season, self._store, self._say = season, store, say
        self._runs: list[_LocalRun | None] = [None] * workers
        self._failures = Failures()

    @property
    def broken(self) -> bool:
        """As `Runs.broken`."""
        return self._failures.is_out("", 1)

    @property
    def set_aside(self) -> frozenset[str]:
        """As `Runs.set_aside`."""
        return self._failures.set_aside

    def room(self) -> Host | None:
        """As `Runs.room`: one of this machine's slots, which have no names."""
        return Host("", "") if any(run is None or run.gone() for run in self._runs) else None

    def why_no_room(self) -> str:
        """As `Runs.why_no_room`: workers are busy, and nothing else."""
        return ""

    def start(self, job: Job, place: Host) -> Run:
        """As `Runs.start`."""
        slot = next(i for i, run in enumerate(self._runs) if run is None or run.gone())
        gpus = self.gpus[slot]
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        run = _LocalRun(call(self._season, self._store, job), job.submission.digest, place, environment)
        self._runs[slot] = run
        return run

    def entered(self, job: Job, place: Host, end: RunEnd | Lost) -> None:
        """As `Runs.entered`."""
        if not is_infrastructure_failure(end):
            self._failures.end_row(job.submission, place.id)
            return
        was_broken = self.broken
        if line := self._failures.add(job.submission, place.id, 1):
            self._say(line)
        if self.broken and not was_broken:
            self._say(f"infrastructure failures in a row, of {MAX_FAILURES} teams: nothing more is started here")


class _LocalRun:
    def __init__(self, call: Call, digest: str, place: Host, environment: Mapping[str, str]) -> None:
        self.place = place
        self._call, self._digest = call, digest
        self._said: RunEnd | None = None  # as the evaluator says; the ZIP may have been damaged since it was sent
        self._found: Future[str] | None = None  # the stored ZIP's digest
        self._end: RunEnd | None = None
        self._evaluator: Evaluator | None = None
        try:
            self._evaluator = Evaluator(call, environment)
        except (OSError, subprocess.SubprocessError) as error:
            self._end = failed(f"the run cannot be started: {error}")

    def end(self) -> RunEnd | None:
        if self._end is None and self._evaluator is not None:
            code = self._evaluator.returncode()
            if code is not None:
                self._said = self._said or read_end(self._call.folder, code)
                self._end = self._checked(self._said)
        return self._end

    def stop(self) -> None:
        if self._evaluator is not None:
            self._evaluator.stop()

    def gone(self) -> bool:
        return self._evaluator is None or self._evaluator.returncode() is not None

    def _checked(self, end: RunEnd) -> RunEnd | None:
        """The run's end, but an infrastructure failure where the ZIP was found faulty and is not the one that was
        sent; None until its digest is known.
        """
        if end.verdict not in (BAD_ZIP.name, BAD_METADATA.name):
            return end
        if self._found is None:
            self._found = in_thread(
                partial(digest, self._call.archive)
            )  # of up to 15 GB; leases must be kept meanwhile
        if not self._found.done():
            return None
        if error := self._found.exception():
            return RunEnd.organizers(f"nobody knows whether the ZIP is the one that was sent: {error}", end.detail)
        if self._found.result() == self._digest:
            return end
        return RunEnd.organizers(f"{self._call.archive} is not the ZIP that was sent any more", end.detail)


def in_thread(function: Callable[[], T]) -> Future[T]:
    """What the call returns or raises, in a thread that does not keep the process from ending."""
    found: Future[T] = Future()

    def call() -> None:
        try:
            found.set_result(function())
        except Exception as error:
            found.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return found


def is_infrastructure_failure(end: RunEnd | Lost) -> bool:
    """Whether a run's end is no fault of the team's."""
    return isinstance(end, Lost) or end.fault in ("infra", "organizer")


def read_end(folder: Path, returncode: int) -> RunEnd:
    """What a run's folder says of how it ended; an infrastructure failure where it does not say."""
    try:
        with open(folder / "scores.json", "rb") as file:
            document = json.loads(file.read(MAX_SCORES_BYTES))
        run = document.get("run") or {}
        detail = {
            "fix": document["fix"],
            "findings": document["findings"][:MAX_KEPT_FINDINGS],
            **{name: run.get(name) for name in _RUN_FACTS},
            "labels": document.get("labels", []),
        }
        if "shared_parameters" in document:
            detail["shared_parameters"] = _sharing(document["shared_parameters"])
        verdict, fault = document["verdict"], document["fault"]
        if verdict not in TABLE or fault not in (None, "team", "organizer", "infra"):
            raise ValueError(f"verdict {verdict}, fault {fault}")
        if verdict != OK.name:
            return RunEnd(verdict, fault, detail=detail)
        tasks = document["tasks"].items()
        scores = {int(number): float(task["score"]) for number, task in tasks if task["score"] is not None}
        competition = document["competition"]["digest"]
        return RunEnd(verdict, None, scores, document["data_digest"], detail, competition, record.code_digest())
    except FileNotFoundError:
        return failed(f"the evaluator ended with {returncode} and wrote no scores.json", _tail(folder))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return failed(f"scores.json cannot be read: {type(error).__name__}: {error}")


def _sharing(counted: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a count of shared parameters."""
    return Sharing.from_json(counted).to_json() | {"errors": counted.get("errors", [])[:MAX_KEPT_FINDINGS]}


def machine_gpus() -> list[str]:
    """The GPUs of this machine that may be used: those that CUDA_VISIBLE_DEVICES names, else the UUIDs of all that the
    driver tells of. Where it refuses, a run in a container says so.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return [gpu.uuid for gpu in find_gpus().usable]


def runs_at_a_time(gpus: Sequence[str], limits: Limits) -> int:
    """As many as these GPUs allow; one where there are none, or too few."""
    return max(1, len(gpus) // max(1, limits.gpus))


def failed(found: str, log: str = "") -> RunEnd:
    """An infrastructure failure, which may not repeat. `log` is what evaluator.log ended with, which no page shows."""
    finding = {"rule": INFRA.rule, "where": "", "found": found, "allowed": "", "fix": ""}
    detail: dict[str, Any] = {"fix": INFRA.fix, "findings": [finding]}
    return RunEnd(INFRA.name, INFRA.fault, detail=detail | ({"log": log} if log else {}))


def _tail(folder: Path) -> str:
    try:
        text = (folder / "evaluator.log").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return " ".join(text[-_TAIL_CHARACTERS:].split())
