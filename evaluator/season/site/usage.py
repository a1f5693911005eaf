"""What the machines did, out of the events of runs: hours, runs at a time, waiting times, ends by verdict. Pure.

A worker is named `machine:process` by the queue. Its run lasts from `running` to whatever ended it, or to now.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from statistics import median
from typing import Any
from zoneinfo import ZoneInfo

from evaluator.season.config import Season
from evaluator.season.ledger import Event, Snapshot


@dataclass(frozen=True)
class RunLife:
    """A run's life. `worker` and `started` are None of one that never ran, `ended` of one that has not ended; `end` is
    the verdict, or lost, interrupted, cancelled.
    """

    number: int
    test_set: str
    queued: datetime
    worker: str | None = None
    started: datetime | None = None
    ended: datetime | None = None
    end: str | None = None


# Of `machines`.
MACHINE_COLUMNS = ("machine", "processes", "runs", "lost", "seconds", "first", "last", "mean", "most", "used")


@dataclass(frozen=True)
class Machine:
    """What a machine did between its first start and its last end; `processes` are the queues that ran on it."""

    name: str
    processes: int
    runs: int
    lost: int
    seconds: float  # of all runs together
    first: datetime
    last: datetime
    most: int  # runs at a time

    @property
    def mean(self) -> float:
        """Runs at a time, over the whole time."""
        whole = (self.last - self.first).total_seconds()
        return self.seconds / whole if whole > 0 else 0.0

    @property
    def used(self) -> float:
        """The share of its places, as many as it ever had runs at a time, that were taken."""
        return self.mean / self.most

    def to_json(self, season: Season) -> dict[str, Any]:
        """As `season machines --json` and the API have it."""
        return {
            "machine": self.name,
            "processes": self.processes,
            "runs": self.runs,
            "lost": self.lost,
            "seconds": self.seconds,
            "first": season.moment(self.first),
            "last": season.moment(self.last),
            "mean": self.mean,
            "most": self.most,
            "used": self.used,
        }


@dataclass(frozen=True)
class Day:
    """A day of the season: submissions `sent`, runs `ended`, infrastructure `failures` among them. `longest` is
    the longest that the queue was, `wait` the median of the runs that started, in seconds.
    """

    day: date
    sent: int
    ended: int
    failures: int
    seconds: float
    most: int
    longest: int
    wait: float | None


@dataclass(frozen=True)
class Waits:
    """Seconds from queued to running, the time before another try included."""

    count: int
    median: float
    nine_of_ten: float
    longest: float


@dataclass(frozen=True)
class Usage:
    """What all machines did: each of them, each day, waiting times by test set, seconds of all runs together."""

    machines: tuple[Machine, ...]
    days: tuple[Day, ...]
    waits: Mapping[str, Waits]
    ends: Mapping[tuple[str, str], int]  # runs by end and test set
    seconds: float


def runs(events: Iterable[Event]) -> list[RunLife]:
    """The runs of which `events`, in their order, tell."""
    found: dict[int, dict[str, Event]] = {}
    for event in events:
        found.setdefault(event.run, {})["end" if event.kind not in ("queued", "running") else event.kind] = event
    lives = []
    for number, steps in found.items():
        queued, running, end = steps["queued"], steps.get("running"), steps.get("end")
        lives.append(
            RunLife(
                number,
                queued.test_set,
                queued.at,
                str(running.detail.get("worker", "")) if running else None,
                running.at if running else None,
                end.at if end else None,
                (end.verdict or end.kind) if end else None,
            )
        )
    return lives


def machines(snapshot: Snapshot) -> list[dict[str, Any]]:
    """A row for each machine, by name."""
    season = snapshot.season
    return [each.to_json(season) for each in _machines(runs(snapshot.events), snapshot.now)]


def summarize(
    events: Iterable[Event], sent: Iterable[date], failures: Collection[str], zone: ZoneInfo, now: datetime
) -> Usage:
    """What the machines did up to `now`. `sent` are the days of all submissions, `failures` the ends of runs that are
    infrastructure failures; days begin at midnight in `zone`.
    """
    lives = runs(events)
    waits: dict[str, list[float]] = {}
    for run in lives:
        if run.started:
            waits.setdefault(run.test_set, []).append((run.started - run.queued).total_seconds())
    return Usage(
        tuple(_machines(lives, now)),
        tuple(_days(lives, Counter(sent), failures, zone, now)),
        {test_set: _waits(seconds) for test_set, seconds in sorted(waits.items(), reverse=True)},
        Counter((run.end, run.test_set) for run in lives if run.end),
        sum(_seconds(run, now) for run in lives),
    )


def _machine_of(worker: str) -> str:
    """`gpu1` of the worker `gpu1:4711`, and of `head:4711 on gpu1`, whose runs are on another machine."""
    there, elsewhere, name = worker.partition(" on ")
    return name if elsewhere else there.rpartition(":")[0] or there


def _machines(lives: Iterable[RunLife], now: datetime) -> Iterator[Machine]:
    by_machine: dict[str, list[RunLife]] = {}
    for run in lives:
        if run.worker is not None:
            by_machine.setdefault(_machine_of(run.worker), []).append(run)
    for name, own in sorted(by_machine.items()):
        spans = [(run.started, run.ended or now) for run in own if run.started]
        yield Machine(
            name,
            len({run.worker for run in own}),
            len(own),
            sum(run.end == "lost" for run in own),
            sum(_seconds(run, now) for run in own),
            min(start for start, _ in spans),
            max(end for _, end in spans),
            max((most for _, most in _most(spans)), default=1),
        )


def _days(
    lives: Sequence[RunLife], sent: Mapping[date, int], failures: Collection[str], zone: ZoneInfo, now: datetime
) -> Iterator[Day]:
    """Every day from the first on which something happened to the last."""
    seconds: dict[date, float] = {}
    ended: Counter[date] = Counter()
    failed: Counter[date] = Counter()
    waits: dict[date, list[float]] = {}
    for run in lives:
        if run.ended:
            day = run.ended.astimezone(zone).date()
            ended[day] += 1
            failed[day] += run.end in failures
        if run.started:
            waits.setdefault(run.started.astimezone(zone).date(), []).append((run.started - run.queued).total_seconds())
            for day, part in _by_day(run.started, run.ended or now, zone):
                seconds[day] = seconds.get(day, 0.0) + part
    most = _most_by_day([(run.started, run.ended or now) for run in lives if run.started], zone)
    longest = _most_by_day([(run.queued, run.started or run.ended or now) for run in lives], zone)
    known = {*sent, *seconds, *ended, *longest}
    for number in range((max(known) - min(known)).days + 1 if known else 0):
        day = min(known) + timedelta(days=number)
        yield Day(
            day,
            sent.get(day, 0),
            ended[day],
            failed[day],
            seconds.get(day, 0.0),
            most.get(day, 0),
            longest.get(day, 0),
            median(waits[day]) if day in waits else None,
        )


def _seconds(run: RunLife, now: datetime) -> float:
    return ((run.ended or now) - run.started).total_seconds() if run.started else 0.0


def _by_day(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[date, float]]:
    """The seconds of a span that fall on each day."""
    while start < end:
        day = start.astimezone(zone).date()
        midnight = datetime.combine(day + timedelta(days=1), time(), zone)
        stop = min(end, midnight.astimezone(start.tzinfo))
        yield day, (stop - start).total_seconds()
        start = stop


def _most(spans: Iterable[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, int]]:
    """How many of the spans hold, from each moment at which that changes; one that ends as another starts is over."""
    changes = sorted(change for start, end in spans if start < end for change in ((end, -1), (start, 1)))
    holding = 0
    for moment, change in changes:
        holding += change
        yield moment, holding


def _most_by_day(spans: Iterable[tuple[datetime, datetime]], zone: ZoneInfo) -> dict[date, int]:
    """The most spans that hold at a time, on each day; what holds over midnight counts for the next day, too."""
    most: dict[date, int] = {}
    day, holding = None, 0
    for moment, now_holding in _most(spans):
        new = moment.astimezone(zone).date()
        while day is not None and day < new:
            day += timedelta(days=1)
            most[day] = holding
        day, holding = new, now_holding
        most[day] = max(most.get(day, 0), holding)
    return most


def _waits(seconds: Sequence[float]) -> Waits:
    ordered = sorted(seconds)
    return Waits(len(ordered), median(ordered), ordered[min(len(ordered) - 1, len(ordered) * 9 // 10)], ordered[-1])
