"""Undoing in odd orders and beside others: whatever is refused, the season can still be opened and scored."""

from pathlib import Path

import pytest

from evaluator.season import PRIVATE, PUBLIC, board
from evaluator.season.ledger import Ledger, NewEdition, Refused
from evaluator.season.organize import Organizer
from tests.support.season import TASK, Clock, enter, publish, scored

WHY = "жюри решило"


@pytest.fixture
def organizer(ledger: Ledger) -> Organizer:
    return Organizer(ledger, "Судья")


def opened(ledger: Ledger) -> Ledger:
    """The same season, as the next command opens it."""
    return Ledger(ledger.season, ledger.database, ledger._now)


def test_a_formula_is_not_undone_below_later_editions(ledger: Ledger, organizer: Organizer) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    first = publish(ledger, {mine: 0.5}, digest="d" * 64, weights={TASK: 0.5})
    second = publish(ledger, {mine: 0.75}, digest="f" * 64)
    assert first is not None and second is not None
    with pytest.raises(Refused, match="the public results .* weights .* undo later changes first"):
        organizer.undo(first.id, WHY)
    assert [line.total for line in board.lines(opened(ledger), PUBLIC) if line.team] == [0.375]
    organizer.undo(second.id, WHY)
    organizer.undo(first.id, WHY)
    assert [line.total for line in board.lines(opened(ledger), PUBLIC) if line.team] == [0.5]


def test_a_formula_is_not_undone_below_first_results(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    change = publish(ledger, {mine: 0.5}, digest="d" * 64, weights={TASK: 0.5})
    assert change is not None
    ledger.queue([mine], PRIVATE, WHY)
    job = ledger.claim("worker")
    assert job is not None and ledger.finish(job, scored(0.5)) is not None
    with pytest.raises(Refused, match="the private results .* weights"):
        organizer.undo(change.id, WHY)
    assert opened(ledger).results(PRIVATE)[0].total == 0.25


def test_a_formula_is_published_for_all_results(ledger: Ledger) -> None:
    """A run on another test set may end after its results were looked at."""
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    runs = {result.submission: result.run for result in ledger.results(PUBLIC)}
    ledger.queue([mine], PRIVATE, WHY)
    job = ledger.claim("worker")
    assert job is not None and ledger.finish(job, scored(0.5)) is not None
    new = NewEdition("d" * 64, (), None, {mine: (runs[mine], {TASK: 0.5})})
    with pytest.raises(Refused, match="the private results"):
        ledger.publish("Судья", WHY, {PUBLIC: new}, {}, {TASK: 0.5}, {PUBLIC: None})
    assert opened(ledger).changes() == []


def test_data_are_not_undone_below_later_editions(ledger: Ledger, organizer: Organizer, tmp_path: Path) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    (run,) = (result.run for result in ledger.results(PUBLIC))
    scores = {mine: (run, {TASK: 0.5})}
    shown: int | None = None
    made = []
    for evaluator, data in (("a" * 64, {PUBLIC: "data/corrected"}), ("b" * 64, {})):
        new = NewEdition("f" * 64, (), evaluator, scores)
        change = ledger.publish("Судья", WHY, {PUBLIC: new}, data, None, {PUBLIC: shown})
        edition = ledger.edition(PUBLIC)
        assert change is not None and edition is not None
        shown = edition.id
        made.append(change)
    with pytest.raises(Refused, match="the public results .* data in .*corrected.* undo later changes first"):
        organizer.undo(made[0].id, WHY)
    for change in reversed(made):
        organizer.undo(change.id, WHY)
    assert ledger.rules().data == ledger.season.data


def test_data_of_a_set_are_changed_only_as_its_results_are_known(ledger: Ledger) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    with pytest.raises(Refused, match="do this again"):
        ledger.publish("Судья", WHY, {}, {PUBLIC: "data/corrected"}, None, {})
    assert ledger.rules().data == ledger.season.data
