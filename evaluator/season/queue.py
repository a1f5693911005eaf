"""Runs what waits in the queue on this machine: so many runs at a time, each a process of its own, `python -m evaluator
run --private`, as participants have it.

This process only claims, keeps the leases, waits and enters results. Where it dies, the kernel ends its runs with it,
and when their leases have run out, whoever looks next queues them anew.
"""

import contextlib
import ctypes
import functools
import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError, IntegrityError

from evaluator.errors import DataError
from evaluator.season.ledger import Job, Ledger, Outcome
from evaluator.season.rules import Season
from evaluator.season.store import Store, digest
from evaluator.verdict import BAD_METADATA, BAD_ZIP, INFRA, OK, TABLE

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1  # looking whether a run has ended
IDLE_SECONDS = 1.0  # looking for work where there was none
STOP_SECONDS = 30.0  # for a run to clean up after it was told to stop
MAX_FAILURES = 3  # of ours, one after another; then it is this machine that somebody has to look at
MAX_KEPT_FINDINGS = 20  # of a run, in the data base; scores.json has more
MAX_SCORES_BYTES = 64 * 10**6
_TAIL_CHARACTERS = 500
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ROOT = Path(__file__).parents[2]
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class _Slot:
    """A place for one run, with GPUs of its own. `outcome` is of a run that has ended and is not entered yet. A process
    without a job was told to stop, and is killed at `deadline`. Times are monotonic.
    """

    gpus: tuple[str, ...]
    job: Job | None = None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    outcome: Outcome | None = None
    deadline: float = 0.0

    def abandon(self) -> None:
        """Forget the job and tell its process to stop, so that it removes its folders and containers."""
        self.job = self.outcome = None
        self.deadline = time.monotonic() + STOP_SECONDS
        if self.process is not None:
            _signal(self.process, signal.SIGINT)

    def free(self) -> bool:
        """Whether it can take a run; a process that should have stopped by now is killed."""
        if self.job is None and self.process is not None:
            if self.process.poll() is not None:
                self.process = None
            elif time.monotonic() > self.deadline:
                _signal(self.process, signal.SIGKILL)
        return self.job is None and self.process is None


class Queue:
    """Works on the ledger's queue with so many `workers`; `say` gets a line for whatever happens.

    Raises `DataError` where this machine has GPUs, but not enough of them for so many runs.
    """

    def __init__(self, ledger: Ledger, workers: int, say: Callable[[str], None], gpus: Sequence[str] = ()) -> None:
        season = ledger.season
        needed = season.limits.gpus if gpus else 0
        if workers * needed > len(gpus):
            raise DataError(f"{workers} workers need {workers * needed} GPUs; this machine has {len(gpus)}")
        self._ledger, self._season, self._say = ledger, season, say
        self._store = Store(season.folder)
        self._slots = [_Slot(tuple(gpus[i * needed : (i + 1) * needed])) for i in range(workers)]
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._failures: deque[str] = deque(maxlen=MAX_FAILURES)
        self._stopping = False

    def run(self, drain: bool) -> bool:
        """Work until told to `stop`, or with `drain` until the queue is empty, runs of other machines and those that
        wait for their next try included. False where it ended by itself after `MAX_FAILURES` of ours in a row.
        """
        next_beat = next_look = 0.0
        try:
            while True:
                try:
                    self._reap()
                    if time.monotonic() >= next_beat:
                        self._beat()
                        next_beat = time.monotonic() + self._season.lease_seconds / 3
                    free = [slot for slot in self._slots if slot.free()]
                    idle = len(free) == len(self._slots)
                    if self._stopping or (self._broken and idle):
                        return not self._broken
                    if free and not self._broken and time.monotonic() >= next_look and not self._fill(free[0]):
                        next_look = time.monotonic() + IDLE_SECONDS
                        if drain and idle and not self._ledger.unfinished():
                            return True
                except IntegrityError:
                    raise
                except DBAPIError as error:  # away for a while: leases tell what is still ours when it is back
                    self._say(f"the data base does not answer: {' '.join(str(error.orig).split())}")
                    time.sleep(IDLE_SECONDS)
                time.sleep(POLL_SECONDS)
        finally:
            self._end_all()

    def stop(self) -> None:
        """Have `run` end soon; what runs is stopped and given back. May be called from a signal's handler."""
        self._stopping = True

    @property
    def _broken(self) -> bool:
        return len(self._failures) == MAX_FAILURES

    def _fill(self, slot: _Slot) -> bool:
        """Claim and start a run for a free slot; False where none waits."""
        job = self._ledger.claim(self._name)
        if job is None:
            return False
        slot.job, slot.started, slot.outcome = job, time.monotonic(), None
        self._say(f"{_what(job)} starts" + (f", after {job.failures} failures of ours" if job.failures else ""))
        folder = self._store.run(job.run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            environment = os.environ | ({"CUDA_VISIBLE_DEVICES": ",".join(slot.gpus)} if slot.gpus else {})
            with open(folder / "evaluator.log", "wb") as log:
                slot.process = subprocess.Popen(
                    command(self._season, self._store, job),
                    cwd=_ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is for this process, which then stops its runs
                    preexec_fn=functools.partial(_die_with, os.getpid()),
                )
        except (OSError, subprocess.SubprocessError) as error:
            slot.outcome = _failed(f"the run cannot be started: {error}")
        return True

    def _reap(self) -> None:
        """Enter the runs that have ended. An outcome that could not be entered stays for the next time."""
        for slot in self._slots:
            if slot.job is not None and slot.process is not None and slot.process.poll() is not None:
                outcome = read_outcome(self._store.run(slot.job.run), slot.process.returncode)
                slot.outcome, slot.process = self._blameless(slot.job, outcome), None
            if slot.job is not None and slot.outcome is not None:
                entered = self._ledger.finish(slot.job, slot.outcome)
                seconds = time.monotonic() - slot.started
                if entered is None:
                    self._say(f"{_what(slot.job)} ended after its lease; what it brought is not taken")
                else:
                    self._say(f"{_what(slot.job)} ended as {entered.verdict} in {seconds:.1f} s{_reason(entered)}")
                    if entered.fault in ("infra", "organizer"):
                        self._failures.append(entered.verdict)
                        if self._broken:
                            self._say(f"{MAX_FAILURES} failures of ours in a row: nothing more is started here")
                    else:
                        self._failures.clear()
                slot.job = slot.outcome = None

    def _blameless(self, job: Job, outcome: Outcome) -> Outcome:
        """The outcome, but a failure of ours where the ZIP was found faulty and is not the one that was sent."""
        if outcome.verdict not in (BAD_ZIP.name, BAD_METADATA.name):
            return outcome
        archive = self._store.archive(job.submission.digest)
        if digest(archive) == job.submission.digest:
            return outcome
        return Outcome.organizers(f"{archive} is not the ZIP that was sent any more", outcome.detail)

    def _beat(self) -> None:
        jobs = [slot.job for slot in self._slots if slot.job]
        still = self._ledger.beat(jobs) if jobs else set()
        for slot in self._slots:
            if slot.job is not None and slot.job.run not in still:
                self._say(f"{_what(slot.job)} was cancelled, or its lease ran out; it is stopped")
                slot.abandon()

    def _end_all(self) -> None:
        """Stop what runs, all at once, and give it back."""
        jobs = [slot.job for slot in self._slots if slot.job]
        for slot in self._slots:
            slot.abandon()
        while not all(slot.free() for slot in self._slots):
            time.sleep(POLL_SECONDS)
        for job in jobs:
            try:
                if self._ledger.give_back(job, "the worker was stopped"):
                    self._say(f"{_what(job)} is given back")
            except DBAPIError as error:
                self._say(f"{_what(job)} is not given back, its lease will run out: {error.orig}")


def command(season: Season, store: Store, job: Job) -> list[str]:
    """The command line of a job's run, for this machine or another that has the season's folder and data."""
    folder = store.run(job.run)
    options: list[tuple[str, object]] = [
        ("--data", season.data[job.test_set]),
        ("--runner", season.runner),
        ("--country", season.country),
        ("--json", folder / "scores.json"),
        ("--record", folder / "record.json"),
        ("--log", folder / "log.txt"),
        *(("--limit", setting) for setting in season.limit_settings),
    ]
    for name, path in (
        ("--assets", season.assets),
        ("--ruwordnet", season.ruwordnet),
        ("--key-file", season.key_file),
    ):
        if path is not None:
            options.append((name, path))
    arguments = [str(part) for option in options for part in option]
    archive = str(store.archive(job.submission.digest))
    return [sys.executable, "-m", "evaluator", "run", archive, "--private", *arguments]


def read_outcome(folder: Path, returncode: int) -> Outcome:
    """What a run's folder says of how it ended; a failure of ours where it does not say."""
    try:
        with open(folder / "scores.json", "rb") as file:
            document = json.loads(file.read(MAX_SCORES_BYTES))
        run = document.get("run") or {}
        detail = {
            "fix": document["fix"],
            "findings": document["findings"][:MAX_KEPT_FINDINGS],
            **{name: run.get(name) for name in ("runner", "image_digest", "seconds", "exit_code", "peak_memory")},
            "labels": document.get("labels", []),
        }
        verdict, fault = document["verdict"], document["fault"]
        if verdict not in TABLE or fault not in (None, "team", "organizer", "infra"):
            raise ValueError(f"verdict {verdict}, fault {fault}")
        if verdict != OK.name:
            return Outcome(verdict, fault, detail=detail)
        tasks = document["tasks"].items()
        scores = {int(number): float(task["score"]) for number, task in tasks if task["score"] is not None}
        return Outcome(verdict, None, scores, document["data_digest"], detail)
    except FileNotFoundError:
        return _failed(f"the evaluator ended with {returncode} and wrote no scores.json{_tail(folder)}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return _failed(f"scores.json cannot be read: {type(error).__name__}: {error}")


def machine_gpus() -> list[str]:
    """The GPUs of this machine that may be used: those that CUDA_VISIBLE_DEVICES names, else the UUIDs of all."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    try:
        pynvml: Any = importlib.import_module("pynvml")
        pynvml.nvmlInit()
    except Exception as error:  # no library, no driver, no GPU: NVML's errors have no common base with import's
        logger.debug("no NVML: %s", error)
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def _failed(found: str) -> Outcome:
    finding = {"rule": "evaluator-failure", "where": "", "found": found, "allowed": "", "fix": ""}
    return Outcome(INFRA.name, INFRA.fault, detail={"fix": INFRA.fix, "findings": [finding]})


def _tail(folder: Path) -> str:
    try:
        text = (folder / "evaluator.log").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    return f": {' '.join(text[-_TAIL_CHARACTERS:].split())}" if text else ""


def _reason(outcome: Outcome) -> str:
    findings: Sequence[Mapping[str, Any]] = outcome.detail.get("findings", ())
    return f": {findings[0]['found']}" if findings else ""


def _what(job: Job) -> str:
    return f"submission {job.submission.id} of {job.submission.team} ({job.test_set}, run {job.run})"


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:  # else its number may be another's by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _die_with(parent: int) -> None:
    """In a new process: end when the one that started it ends, even by SIGKILL (Linux)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
