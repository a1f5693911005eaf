"""`Ledger.version`, by which whoever shows a season knows that there is something new, on both databases."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import insert

from evaluator.season import PRIVATE, PUBLIC, schema
from evaluator.season.ledger import Job, Ledger, Refused, Snapshot
from evaluator.season.organize import Organizer
from tests.support.season import NOON, Clock, archive, enter, failed, publish, scored


def seen(ledger: Ledger) -> Snapshot:
    return replace(ledger.snapshot(), now=NOON)


def claimed(ledger: Ledger) -> Job:
    job = ledger.claim("worker")
    assert job is not None
    return job


@pytest.fixture
def changes(ledger: Ledger) -> Callable[..., object]:
    """Does something, of which the version tells as much as a snapshot does."""

    def changes(call: Callable[[], object], does: bool = True) -> object:
        before, version = seen(ledger), ledger.version()
        assert ledger.version() == version
        found = call()
        assert (seen(ledger) != before) == (ledger.version() != version) == does
        return found

    return changes


def test_whatever_happens_makes_another_version(ledger: Ledger, clock: Clock, changes: Callable[..., object]) -> None:
    organizer = Organizer(ledger, "Судья")
    changes(lambda: ledger.add_team("Лис «»"))
    changes(lambda: ledger.submit("Ёжики", archive(1)))
    changes(lambda: ledger.submit("Ёжики", archive(1)), False)
    changes(lambda: ledger.attempts("Ёжики"), False)
    first = changes(lambda: claimed(ledger))
    assert isinstance(first, Job)
    changes(lambda: ledger.claim("other"), False)
    clock.forward(seconds=1)
    changes(lambda: ledger.beat([first]))
    changes(lambda: ledger.finish(first, failed("INFRA", "infra")))
    clock.forward(seconds=60)
    again = changes(lambda: claimed(ledger))
    assert isinstance(again, Job)
    changes(lambda: ledger.give_back(again, "остановлен"))
    changes(lambda: ledger.cancel(first.submission.id, PUBLIC, "зависло"))
    changes(lambda: ledger.retry(first.submission.id, PUBLIC, "починили"))
    last = changes(lambda: claimed(ledger))
    assert isinstance(last, Job)
    changes(lambda: ledger.finish(last, scored(0.5)))
    theirs = enter(ledger, "Кот", 1, scored(0.4))
    changes(lambda: ledger.choose("Ёжики", [1]))
    changes(lambda: ledger.queue([1], PRIVATE, "репетиция"))
    changes(lambda: organizer.freeze(None, "неделя до конца"))
    changes(lambda: organizer.undo(1, "рано"))
    changes(lambda: organizer.disqualify("Кот", "два аккаунта"))
    changes(lambda: organizer.reinstate("Кот", "ошибка"))
    changes(lambda: publish(ledger, {1: 0.6}))
    changes(lambda: publish(ledger, {1: 0.6}), False)
    assert changes(lambda: publish(ledger, {1: 0.6, theirs: 0.3})) is None, "no change: the edition gets what it lacked"

    def refused() -> None:
        with pytest.raises(Refused):
            ledger.choose("Лис «»", [1])

    changes(refused, False)


def test_a_failure_that_is_given_up_at_once_makes_another_version(
    ledger: Ledger, clock: Clock, changes: Callable[..., object]
) -> None:
    """The run that is cancelled never stood in the queue."""
    submission = enter(ledger, "Ёжики", 1, failed("METRIC_ERROR", "infra"))
    assert ledger.unfinished() == 0
    changes(lambda: ledger.cancel(submission, PUBLIC, "некогда"))


def test_time_alone_makes_another_version(ledger: Ledger, clock: Clock) -> None:
    enter(ledger, "Ёжики", 1, failed("INFRA", "infra"))
    ledger.submit("Кот", archive(2))
    claimed(ledger)
    versions = [ledger.version()]
    for seconds in (31, 29, 12 * 3600):  # the lease runs out; the next try may start; midnight
        clock.forward(seconds=seconds)
        versions.append(ledger.version())
        clock.forward(seconds=1)
        assert ledger.version() == versions[-1]
    assert len(set(versions)) == 4


def test_rows_that_come_late_make_another_version(ledger: Ledger) -> None:
    """Two teams choose at once, and the one that was given the lower number is entered last."""
    if ledger.database.sqlite:
        pytest.skip("SQLite has one writer at a time")
    teams = [team.id for team in ledger.teams()]
    with ledger.database.write() as slow:
        slow.execute(insert(schema.choice).values(team_id=teams[0], at=NOON))
        with ledger.database.write() as quick:
            quick.execute(insert(schema.choice).values(team_id=teams[1], at=NOON))
        version = ledger.version()
    assert ledger.version() != version
