"""Places in the queue, and when runs may start, on both databases."""

from datetime import UTC, datetime

from evaluator.season import PRIVATE, waiting
from evaluator.season.ledger import Job, Ledger, RunEnd
from tests.support.season import Clock, archive, enter, failed, scored

INFRA = failed("INFRA", "infra")


def claimed(ledger: Ledger) -> Job:
    job = ledger.claim("worker")
    assert job is not None
    return job


def ran(ledger: Ledger, clock: Clock, team: str, content: object, seconds: float, end: RunEnd) -> int:
    """A submission whose run took so long; the queue must be empty."""
    submission, _ = ledger.submit(team, archive(content))
    job = claimed(ledger)
    while (step := min(seconds, 20.0)) > 0:  # its lease is of 30 s
        clock.forward(seconds=step)
        ledger.beat([job])
        seconds -= step
    assert ledger.finish(job, end) is not None
    return submission.id


def starts(ledger: Ledger) -> list[tuple[int, float | None]]:
    """The submissions that wait, in their places, with the seconds until they may start."""
    taken = ledger.snapshot()
    found = waiting.places(taken)
    assert [each.place for each in found] == list(range(1, len(found) + 1))
    return [
        (each.submission, None if each.starts_at is None else (each.starts_at - taken.now).total_seconds())
        for each in found
    ]


def test_where_nothing_has_run_yet_only_the_next_start_is_known(ledger: Ledger) -> None:
    assert starts(ledger) == []
    for number in range(3):
        ledger.submit("Ёжики", archive(number))
    assert starts(ledger) == [(1, 0), (2, None), (3, None)]
    claimed(ledger)
    assert starts(ledger) == [(2, None), (3, None)]


def test_a_start_is_guessed_by_what_runs_took(ledger: Ledger, clock: Clock) -> None:
    ran(ledger, clock, "Ёжики", "a", 100, scored(0.5))
    ran(ledger, clock, "Ёжики", "b", 40, failed("TIMEOUT", "team"))
    ran(ledger, clock, "Ёжики", "c", 60, scored(0.5))
    clock.forward(days=1)
    for number in range(3):
        ledger.submit("Ёжики", archive(number))
    ledger.submit("Кот", archive("d"))
    assert starts(ledger) == [(4, 0), (5, 60), (6, 120), (7, 180)]
    job = claimed(ledger)
    clock.forward(seconds=10)
    other = claimed(ledger)
    clock.forward(seconds=5)
    assert starts(ledger) == [(6, 45), (7, 55)], "two run at a time, and are 15 s and 5 s old"
    ledger.submit("Кот", archive("e"))
    assert starts(ledger)[-1] == (8, 105)
    for _ in range(4):
        clock.forward(seconds=20)
        ledger.beat([job, other])
    assert starts(ledger) == [(6, 0), (7, 0), (8, 60)], "they take longer than most, and may end any moment"


def test_failures_of_ours_say_nothing_of_how_long_a_run_takes(ledger: Ledger, clock: Clock) -> None:
    ran(ledger, clock, "Ёжики", "a", 50, scored(0.5))
    ran(ledger, clock, "Кот", "b", 2, failed("METRIC_ERROR", "infra"))
    ran(ledger, clock, "Кот", "c", 1, failed("INFRA", "organizer"))
    for number in range(2):
        ledger.submit("Ёжики", archive(number))
    assert starts(ledger) == [(4, 0), (5, 50)]


def test_a_next_try_waits_for_its_time(ledger: Ledger, clock: Clock) -> None:
    ran(ledger, clock, "Ёжики", "a", 10, scored(0.5))
    tried = enter(ledger, "Ёжики", "b", INFRA)  # again in 60 s
    ledger.submit("Кот", archive("c"))
    assert starts(ledger) == [(tried + 1, 0), (tried, 60)]
    clock.forward(seconds=60)
    assert starts(ledger)[0][0] == tried, "its time has come, and it was sent before"


def test_each_test_set_has_its_own_times(ledger: Ledger, clock: Clock) -> None:
    mine = ran(ledger, clock, "Ёжики", "a", 30, scored(0.5))
    theirs = ran(ledger, clock, "Кот", "b", 30, scored(0.5))
    clock.now = datetime(2022, 10, 23, 12, 0, tzinfo=UTC)
    assert ledger.queue_finals() == [mine, theirs]
    assert starts(ledger) == [(mine, 0), (theirs, None)]
    job = claimed(ledger)
    assert job.test_set == PRIVATE
    clock.forward(seconds=20)
    ledger.finish(job, scored(0.4))
    assert starts(ledger) == [(theirs, 0)]


def test_where_nobody_works_on_the_queue_no_start_is_known(ledger: Ledger, clock: Clock) -> None:
    ran(ledger, clock, "Ёжики", "a", 10, scored(0.5))
    ledger.submit("Кот", archive("b"))
    clock.forward(seconds=60)
    assert starts(ledger) == [(2, 0)]
    clock.forward(seconds=1)
    assert starts(ledger) == [(2, None)]
    claimed(ledger)
    ledger.submit("Кот", archive("c"))
    assert starts(ledger) == [(3, 10)]
    clock.forward(seconds=31)
    assert starts(ledger) == [(3, 0)], "the worker is not heard of any more"
    clock.forward(seconds=30)
    assert starts(ledger) == [(3, None)]


def test_places_are_the_order_in_which_runs_are_claimed(ledger: Ledger, clock: Clock) -> None:
    for number, team in enumerate(("Ёжики", "Кот", "Ёжики", "Кот", "Ёжики")):
        ledger.submit(team, archive(number))
    for number in range(5):  # tries of all but the third and the last, each later than the one before
        job = claimed(ledger)
        clock.forward(seconds=7)
        ledger.finish(job, INFRA if number in (0, 1, 3) else scored(0.5))
    ledger.submit("Кот", archive("ещё"))
    clock.forward(seconds=40)  # of the three tries two have come
    found = [each.run for each in waiting.places(ledger.snapshot())]
    order = []
    while len(order) < 4:
        job_or_none = ledger.claim("worker")
        if job_or_none is None:
            clock.forward(seconds=1)
        else:
            order.append(job_or_none.run)
    assert found == order
