"""A season's clock that steps: the day of a submission, leases and next tries hang on it, so it is said."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from evaluator.season import schema
from evaluator.season.ledger import Ledger

STEP_SECONDS = 60.0  # by which two clocks may differ between two looks
BEHIND_SECONDS = 1.0  # of the latest event: transactions end in another order than they begin


@dataclass(frozen=True)
class Times:
    """`now` by the season's clock, and when, by it, something happened to a run last (None: nothing did yet)."""

    now: datetime
    latest: datetime | None

    @property
    def behind(self) -> timedelta | None:
        """How far the clock is behind what was entered last; None where it is not."""
        if self.latest is None or (self.latest - self.now).total_seconds() <= BEHIND_SECONDS:
            return None
        return self.latest - self.now


def read_times(ledger: Ledger) -> Times:
    """By the clock that the ledger enters by: the database's, which all who use it have in common."""
    with ledger.database.read() as connection:
        latest = connection.execute(select(func.max(schema.event.c.at))).scalar()  # a submission's first is at its own
    return Times(ledger.now(), latest)


class ClockWatch:
    """Compares the season's clock with what was entered, and with a clock that nobody sets, `monotonic` in seconds."""

    def __init__(self) -> None:
        self._before: tuple[datetime, float] | None = None
        self._behind = False

    def look(self, times: Times, monotonic: float) -> Iterator[str]:
        """A line for each thing that is new since the last look."""
        if self._before is not None:
            now, then = self._before
            step = (times.now - now).total_seconds() - (monotonic - then)
            if abs(step) > STEP_SECONDS:
                yield (
                    f"the season's clock was set {'forward' if step > 0 else 'back'} by {_length(step)}, to"
                    f" {times.now:%Y-%m-%d %H:%M:%S} UTC (or this machine slept): attempts are counted, and leases end,"
                    " by that clock"
                )
        self._before = times.now, monotonic
        if times.behind and not self._behind:
            yield behind_line(times)
        self._behind = times.behind is not None


def behind_line(times: Times) -> str:
    """That the clock is behind what was entered; `times.behind` must not be None."""
    assert times.behind is not None
    return (
        f"the season's clock, {times.now:%Y-%m-%d %H:%M:%S} UTC, is {_length(times.behind.total_seconds())} behind what"
        f" was entered last, at {times.latest:%Y-%m-%d %H:%M:%S}: it was set back, or was wrong before; submissions may"
        " be counted for a wrong day"
    )


def _length(seconds: float) -> str:
    return str(timedelta(seconds=math.ceil(abs(seconds))))
