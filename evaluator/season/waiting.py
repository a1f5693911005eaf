"""Which place a run that waits has in the queue, and when it may start: a guess, by what earlier runs took."""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from evaluator.season.ledger import RunState, Snapshot

LAST = 20  # runs on a test set, whose times say how long another one takes
IDLE = timedelta(minutes=1)  # after which what could start and did not shows that nobody works on the queue


@dataclass(frozen=True)
class Waiting:
    """A run that waits. `place` is 1 for the next one; `starts_at` is None where nothing is known."""

    run: int
    submission: int
    test_set: str
    place: int
    starts_at: datetime | None


def places(taken: Snapshot) -> list[Waiting]:
    """The runs that wait, in the order in which they start, as `Ledger.claim` takes them: what may start now, by
    submission, then what waits for its next try, by when that is.

    As many run at a time as do now, and at least one. Each takes the median of the `LAST` ones on its test set that
    ended by themselves, or failed by their team's fault; a start behind one of unknown length is unknown.
    """
    now = taken.now
    seconds = _seconds(taken)
    running = [state for state in taken.states if state.kind == "running" and not _is_over(state, now)]
    queued = sorted(
        (state for state in taken.states if state.kind == "queued"),
        key=lambda state: (max(_may_start(state), now), state.submission.id, state.run),
    )
    is_idle = not running and any(_may_start(state) + IDLE < now for state in queued)
    # When each place for a run is free, in seconds from now.
    free = [max(0.0, seconds.get(state.test_set, math.inf) - (now - state.at).total_seconds()) for state in running]
    free = free or [math.inf if is_idle else 0.0]
    heapq.heapify(free)
    found = []
    for place, state in enumerate(queued, 1):
        start = max(heapq.heappop(free), (_may_start(state) - now).total_seconds())
        heapq.heappush(free, start + seconds.get(state.test_set, math.inf))
        starts_at = None if math.isinf(start) else now + timedelta(seconds=start)
        found.append(Waiting(state.run, state.submission.id, state.test_set, place, starts_at))
    return found


def _may_start(state: RunState) -> datetime:
    return state.available_at or state.at


def _is_over(state: RunState, now: datetime) -> bool:
    """Whether its worker is dead or cut off: it is queued again as soon as somebody looks."""
    return state.expires_at is not None and state.expires_at < now


def _seconds(taken: Snapshot) -> Mapping[str, float]:
    """How long a run takes, by test set; only those on which runs have ended."""
    started = {event.run: event.at for event in taken.events if event.kind == "running"}
    ended = [event for event in taken.events if event.kind == "done" and event.fault in (None, "team")]
    times: dict[str, list[float]] = {}
    for event in sorted(ended, key=lambda event: event.at):
        times.setdefault(event.test_set, []).append((event.at - started[event.run]).total_seconds())
    return {test_set: max(0.0, median(of_set[-LAST:])) for test_set, of_set in times.items()}
