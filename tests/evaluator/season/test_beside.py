"""What happens beside something else: a set that comes while a run is claimed, names that go round while a ZIP is sent,
a board that is frozen while all is scored again, rules that were edited after changes.
"""

import threading
from datetime import date
from typing import Any

import pytest

from evaluator.season import PUBLIC, board, rescore
from evaluator.season.ledger import Ledger, Refused
from evaluator.season.organize import Organizer
from evaluator.season.rescore import Request
from tests.support.season import NOON, TASK, Clock, archive, enter, publish, scored

WHY = "жюри решило"


@pytest.fixture
def organizer(ledger: Ledger) -> Organizer:
    return Organizer(ledger, "Судья")


def test_a_set_that_comes_while_a_run_is_claimed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    if ledger.database.sqlite:
        pytest.skip("SQLite has one writer")
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    other = Ledger(ledger.season, ledger.database, ledger._now)
    lose = ledger._lose

    def meanwhile(*given: Any) -> None:
        lose(*given)
        other.add_test_set("Судья", WHY, "third", "data/third")
        other.queue([mine], "third", WHY)

    monkeypatch.setattr(ledger, "_lose", meanwhile)
    job = ledger.claim("worker")
    assert job is not None and (job.test_set, job.data) == ("third", ledger.season.folder / "data" / "third")


def test_names_that_go_round_while_a_zip_is_sent(ledger: Ledger, organizer: Organizer) -> None:
    """The team that is called so now is not the one whose attempts were counted one after another."""
    if ledger.database.sqlite:
        pytest.skip("SQLite has one writer")
    other = Ledger(ledger.season, ledger.database, ledger._now)
    said: list[object] = []

    def send() -> None:
        try:
            said.append(other.submit("Ёжики", archive(1)))
        except Refused as refused:
            said.append(refused)

    sender = threading.Thread(target=send)
    with ledger.database.write() as connection:
        connection.exec_driver_sql("SELECT id FROM team WHERE id = 1 FOR NO KEY UPDATE")
        sender.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        while not connection.exec_driver_sql(waiting).scalar_one():
            assert sender.is_alive(), "it did not wait"
        organizer.rename("Ёжики", "Ежата", WHY)
        organizer.rename("Кот", "Ёжики", WHY)
    sender.join()
    assert len(said) == 1 and isinstance(said[0], Refused) and "do this again" in str(said[0])
    assert ledger.states() == []


def test_a_result_stays_on_a_frozen_board_when_its_run_is_done_again(
    ledger: Ledger, clock: Clock, organizer: Organizer
) -> None:
    mine, other = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Кот", 2, scored(0.25))
    clock.forward(hours=1)
    organizer.freeze(None, WHY)
    clock.forward(hours=1)
    publish(ledger, {other: 0.5})
    ledger.queue([mine], PUBLIC, WHY)
    job = ledger.claim("worker")
    assert job is not None and ledger.finish(job, scored(0.75, "f" * 64)) is not None
    assert [(line.team, line.total) for line in board.lines(ledger, PUBLIC) if line.team] == [
        ("Ёжики", 0.75),
        ("Кот", 0.5),
    ]
    assert {result.entered_at for result in ledger.results(PUBLIC)} == {NOON}


def test_rules_that_were_edited_hinder_no_other_change(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    organizer.extend("Ёжики", WHY, date(2022, 10, 22), None, None)
    organizer.set_rules({"end": date(2022, 10, 21)}, WHY)
    edited = ledger.season.model_copy(update={"choose_until": date(2022, 10, 20)})
    again = Organizer(Ledger(edited, ledger.database, clock), "Судья")
    again.withdraw(mine, WHY)
    with pytest.raises(Refused, match="end must be a day not before start"):
        again.set_rules({"end": date(2022, 9, 1)}, WHY)
    again.set_rules({"choose_until": date(2022, 10, 22)}, WHY)
    with pytest.raises(Refused, match="its last day must not be after choose_until"):
        again.set_rules({"choose_until": date(2022, 10, 21)}, WHY)


def test_another_formula_beside_a_team_that_is_out(ledger: Ledger, organizer: Organizer) -> None:
    mine, out = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Кот", 2, scored(0.25))
    gone = organizer.withdraw(out, WHY)
    rescore.rescore(organizer, Request(weights={TASK: 0.5}), WHY, print)
    assert [result.submission for result in ledger.results(PUBLIC)] == [mine]
    organizer.undo(gone.id, WHY)
    assert {result.submission: result.total for result in ledger.results(PUBLIC)} == {mine: 0.25, out: 0.125}
