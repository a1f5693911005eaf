"""Runs what waits in the queue: so many runs at a time, each a process of its own, `python -m evaluator run --private`,
as participants have it, on this machine or on those of a cluster.

This process only claims, keeps the leases, waits and enters results. Where it dies, its runs end with it, and when
their leases have run out, whoever looks next queues them anew.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import DataError as DatabaseDataError
from sqlalchemy.exc import DBAPIError, IntegrityError

from evaluator.core.errors import show
from evaluator.season import PUBLIC
from evaluator.season.clock import ClockWatch, read_times
from evaluator.season.expiry import Expiry
from evaluator.season.history import waits_for
from evaluator.season.ledger import Job, Ledger, RunEnd, reason
from evaluator.season.notices import same_zip
from evaluator.season.runs import Host, LocalRuns, Lost, Run, Runs, failed, is_infrastructure_failure
from evaluator.season.store import Store

POLL_SECONDS = 0.1  # looking whether a run has ended
IDLE_SECONDS = 1.0  # looking for work where there was none


@dataclass
class _Held:
    """A run that this queue has the lease of. `end` is of one that has ended and is not entered yet; `started` is
    monotonic.
    """

    job: Job
    run: Run
    started: float
    end: RunEnd | Lost | None = None
    refused: bool = False  # by the database


class Queue:
    """Works on the ledger's queue; `say` gets a line for whatever happens. Runs are on `runs`, or else on this machine,
    so many `workers` at a time.

    Raises `DataError` where this machine has GPUs, but not enough of them for so many runs.
    """

    def __init__(
        self,
        ledger: Ledger,
        workers: int,
        say: Callable[[str], None],
        gpus: Sequence[str] = (),
        runs: Runs | None = None,
    ) -> None:
        self._ledger, self._season, self._say = ledger, ledger.season, say
        self._runs = runs or LocalRuns(self._season, Store(self._season.folder), workers, gpus, say)
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._held: list[_Held] = []
        self._leaving: list[Run] = []  # told to stop, and not gone yet
        self._stopping = False
        self._expiry = Expiry(ledger, say)
        self._clock = ClockWatch()
        self._waits_for = ""  # as it was said last

    def run(self, drain: bool) -> bool:
        """Work until told to `stop`, or with `drain` until the queue is empty, runs of other machines and those that
        wait for their next try included, but not those of teams that are set aside. False where it ended by itself
        after infrastructure failures in a row, or left such runs.
        """
        next_beat = next_look = 0.0
        try:
            while True:
                try:
                    self._reap()
                    if time.monotonic() >= next_beat:
                        self._beat()
                        next_beat = time.monotonic() + self._season.lease_seconds / 3
                        for line in self._clock.look(read_times(self._ledger), time.monotonic()):
                            self._say(line)
                    self._leaving = [run for run in self._leaving if not run.gone()]
                    self._expiry.look()
                    idle = not self._held and not self._leaving
                    if self._stopping or (self._runs.broken and idle):
                        return not self._runs.broken
                    if not self._runs.broken and time.monotonic() >= next_look:
                        place = self._runs.room()
                        if (place is None and idle) or (place is not None and not self._fill(place)):
                            next_look = time.monotonic() + IDLE_SECONDS
                            drained = drain and idle and not self._expiry.busy
                            if drained and not self._ledger.unfinished(self._runs.set_aside):
                                return self._none_is_left()
                            if idle:
                                self._say_what_for(place)
                except DBAPIError as error:  # away for a while: leases tell what this queue still has when it is back
                    self._say(f"the database does not answer: {' '.join(str(error.orig).split())}")
                    time.sleep(IDLE_SECONDS)
                time.sleep(POLL_SECONDS)
        finally:
            self._end_all()

    def stop(self) -> None:
        """Have `run` end soon; what runs is stopped and given back. May be called from a signal's handler."""
        self._stopping = True

    def _none_is_left(self) -> bool:
        left = self._ledger.unfinished()
        if left:
            self._say(f"{left} runs of {', '.join(map(show, sorted(self._runs.set_aside)))} are left waiting")
        return not left

    def _say_what_for(self, place: Host | None) -> None:
        """What is waited for, when that is something else: whoever watches sees that the queue is alive."""
        if place is None:
            why = self._runs.why_no_room()
            line = f"no room: {why}" if why else ""
        else:
            line = waits_for(self._ledger.queued(self._runs.set_aside), self._season)
        if line and line != self._waits_for:
            self._say(f"waiting: {line}")
        self._waits_for = line

    def _fill(self, place: Host) -> bool:
        """Claim and start a run; False where none waits."""
        job = self._ledger.claim(f"{self._name}{place}", self._runs.set_aside)
        if job is None:
            return False
        after = f", after {job.failures} infrastructure failures" if job.failures else ""
        self._say(f"{_what(job)} starts{place}{after}")
        self._waits_for = ""
        started = time.monotonic()
        self._held.append(_Held(job, self._runs.start(job, place), started))
        if job.test_set == PUBLIC and not job.failures and (line := same_zip(self._ledger, job.submission)):
            self._say(line)
        return True

    def _reap(self) -> None:
        """Enter the runs that have ended. An end that could not be entered stays for the next time.

        Who stops this process may well have told the runs' processes, too, as systemd does. So what fails by then is no
        failure, and is given back.
        """
        for held in list(self._held):
            held.end = held.end or held.run.end()
            if held.end is None or (self._stopping and is_infrastructure_failure(held.end)):
                continue
            end: RunEnd | Lost | None
            if isinstance(held.end, Lost):
                end = held.end if self._ledger.lose(held.job, held.end.reason) else None
            else:
                try:
                    end = self._ledger.finish(held.job, held.end)
                except (IntegrityError, DatabaseDataError) as error:
                    self._refuse(held, " ".join(str(error.orig).split()))
                    continue
            self._held.remove(held)
            seconds = f"{time.monotonic() - held.started:.1f} s{held.run.place}"
            if end is None:
                self._say(f"{_what(held.job)} ended after its lease; what it brought is not taken")
                continue
            if isinstance(end, Lost):
                self._say(f"{_what(held.job)} is lost after {seconds}: {end.reason}")
            else:
                self._say(f"{_what(held.job)} ended as {end.verdict} in {seconds}{_colon(reason(end.detail))}")
            self._runs.entered(held.job, held.run.place, end)

    def _refuse(self, held: _Held, why: str) -> None:
        """What is to be entered of one run is nothing that the database takes; the others must not wait for it."""
        if held.refused:
            self._say(f"{_what(held.job)} is left to its lease: {why}")
            self._abandon(held)
        else:
            held.refused, held.end = True, failed(f"the database does not take how the run ended: {why}")

    def _beat(self) -> None:
        still = self._ledger.beat([held.job for held in self._held]) if self._held else set()
        for held in list(self._held):
            if held.job.run not in still:
                self._say(f"{_what(held.job)} was cancelled, or its lease ran out; it is stopped")
                self._abandon(held)

    def _abandon(self, held: _Held) -> None:
        self._held.remove(held)
        held.run.stop()
        self._leaving.append(held.run)

    def _end_all(self) -> None:
        """Stop what runs, all at once, and give it back."""
        stopped = list(self._held)
        for held in stopped:
            self._abandon(held)
        next_beat = 0.0
        while not all(run.gone() for run in self._leaving):
            if time.monotonic() >= next_beat:  # they are this queue's until they are gone
                with contextlib.suppress(DBAPIError):
                    self._ledger.beat([held.job for held in stopped])
                next_beat = time.monotonic() + self._season.lease_seconds / 3
            time.sleep(POLL_SECONDS)
        for held in stopped:
            try:
                if self._ledger.give_back(held.job, "the worker was stopped"):
                    self._say(f"{_what(held.job)} is given back")
            except DBAPIError as error:
                self._say(f"{_what(held.job)} is not given back, its lease will run out: {error.orig}")


def _colon(text: str) -> str:
    return f": {text}" if text else ""


def _what(job: Job) -> str:
    return f"submission {job.submission.id} of {job.submission.team} ({job.test_set}, run {job.run})"
