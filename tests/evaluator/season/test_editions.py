"""Editions of a test set, on both databases: a board shows one, results are of one, and nothing is rewritten."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy

import evaluator
from evaluator.core.errors import EvaluatorError
from evaluator.season import PUBLIC, actions, board, schema
from evaluator.season.ledger import Job, Ledger, NewEdition, Refused, RunEnd
from evaluator.season.organize import Organizer
from tests.support.season import TASK, Clock, archive, enter, public_state, publish, scored

ROOT = Path(evaluator.__file__).parents[1]
NEW = "f" * 64  # the digest of the corrected data, as `publish` has it
WHY = "жюри решило"


def shown(ledger: Ledger) -> list[tuple[str, float]]:
    """The public board; the snapshot and the scores by task say the same."""
    lines = [line for line in board.lines(ledger, PUBLIC) if line.team]
    assert board.lines(ledger.snapshot(), PUBLIC) == board.lines(ledger, PUBLIC)
    weight = ledger.rules().weights[5]
    assert all(line.total == pytest.approx(weight * line.scores[5]) for line in lines)
    return [(line.team or "", line.total or 0.0) for line in lines]


def claimed(ledger: Ledger) -> Job:
    job = ledger.claim("worker")
    assert job is not None
    return job


def waiting(ledger: Ledger) -> int:
    return actions.read_board(ledger, PUBLIC).waiting


def test_a_board_shows_the_new_scores_and_after_undoing_the_old_ones(ledger: Ledger, clock: Clock) -> None:
    mine, theirs = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Кот", 1, scored(0.4))
    ledger.choose("Ёжики", [mine])
    sent = [state.submission for state in ledger.states()]
    clock.forward(days=1)
    change = publish(ledger, {mine: 0.3, theirs: 0.6}, labels=["ruCLIP: запасной"])
    assert change is not None and change.detail["sets"] == ["public"] and change.by == "Судья"
    assert shown(ledger) == [("Кот", 0.6), ("Ёжики", 0.3)]
    edition = ledger.edition(PUBLIC)
    assert edition is not None and (edition.data_digest, edition.labels) == (NEW, ("ruCLIP: запасной",))
    assert actions.read_board(ledger, PUBLIC).labels == edition.labels and edition.change == change.id
    assert [state.submission for state in ledger.states()] == sent and ledger.choices()[0].submissions == (mine,)
    with ledger.database.read() as connection:
        old = connection.execute(sqlalchemy.select(schema.result.c.total).order_by(schema.result.c.run_id)).scalars()
        assert list(old) == [0.5, 0.4]
    organizer = Organizer(ledger, "Судья")
    undone = organizer.undo(change.id, WHY)
    assert shown(ledger) == [("Ёжики", 0.5), ("Кот", 0.4)] and ledger.edition(PUBLIC).id is None  # type: ignore[union-attr]
    organizer.undo(undone.id, WHY)
    assert shown(ledger) == [("Кот", 0.6), ("Ёжики", 0.3)]


def test_other_weights_are_the_formula_from_then_on(ledger: Ledger, clock: Clock) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    change = publish(ledger, {mine: 0.5}, digest="d" * 64, weights={5: 0.25})
    assert change is not None and shown(ledger) == [("Ёжики", 0.125)] and ledger.rules().weights == {5: 0.25}
    again = Ledger(ledger.season, ledger.database, clock)
    enter(again, "Кот", 1, scored(0.8))
    assert shown(again) == [("Кот", 0.2), ("Ёжики", 0.125)]
    Organizer(again, "Судья").undo(change.id, WHY)
    assert shown(again) == [("Ёжики", 0.5)] and waiting(again) == 1, "the other one is of the other formula"
    Ledger(ledger.season, ledger.database, clock)


def test_a_result_of_another_edition_is_entered_but_not_shown(ledger: Ledger) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    theirs, _ = ledger.submit("Кот", archive(1))
    job = claimed(ledger)
    publish(ledger, {mine: 0.3})
    assert ledger.finish(job, scored(0.9)) == scored(0.9)
    assert shown(ledger) == [("Ёжики", 0.3)] and waiting(ledger) == 1
    assert ledger.attempts("Кот").valid == 1 and public_state(ledger, theirs.id) == "OK"
    assert {result.submission: result.edition for result in ledger.runs_of(PUBLIC)} == {mine: 1, theirs.id: None}
    assert publish(ledger, {mine: 0.3, theirs.id: 0.4}) is None, "the edition is there, and lacked a score"
    assert shown(ledger) == [("Кот", 0.4), ("Ёжики", 0.3)] and waiting(ledger) == 0


def test_a_run_that_ends_after_a_publication_is_of_its_edition(ledger: Ledger) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    change = publish(ledger, {mine: 0.3})
    theirs = enter(ledger, "Кот", 1, scored(0.9, NEW))
    assert change is not None and shown(ledger) == [("Кот", 0.9), ("Ёжики", 0.3)]
    undone = Organizer(ledger, "Судья").undo(change.id, WHY)
    assert shown(ledger) == [("Ёжики", 0.5)] and waiting(ledger) == 1 and ledger.attempts("Кот").valid == 1
    third = enter(ledger, "Кот", 2, scored(0.8, NEW))  # a worker that still has those data
    assert shown(ledger) == [("Ёжики", 0.5)] and waiting(ledger) == 2
    Organizer(ledger, "Судья").undo(undone.id, WHY)
    assert [result.submission for result in ledger.results(PUBLIC)] == [mine, theirs, third]


def test_scores_of_no_edition_are_an_organizers_failure(ledger: Ledger) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    publish(ledger, {mine: 0.3})
    ledger.submit("Кот", archive(1))
    entered = ledger.finish(claimed(ledger), scored(0.9, "a" * 64))
    assert entered is not None and (entered.verdict, entered.fault) == ("INFRA", "organizer")
    assert f"earlier results have {NEW}" in entered.detail["findings"][0]["found"]


def test_what_was_not_scored_again_is_run_again_at_no_cost(ledger: Ledger) -> None:
    """Its output was not kept: it is on no board until it has a score of the edition."""
    kept, lost = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Ёжики", 2, scored(0.6))
    publish(ledger, {kept: 0.3})
    assert shown(ledger) == [("Ёжики", 0.3)] and waiting(ledger) == 1
    before = ledger.attempts("Ёжики")
    with pytest.raises(Refused, match="has its score, which stays"):
        ledger.retry(kept, PUBLIC, WHY)
    ledger.retry(lost, PUBLIC, WHY)
    assert ledger.attempts("Ёжики") == before
    entered = ledger.finish(claimed(ledger), scored(0.7))  # on a machine that has the old data
    assert entered is not None and (entered.verdict, entered.fault) == ("INFRA", "organizer")
    assert "has its public score by these data" in entered.detail["findings"][0]["found"]
    assert ledger.attempts("Ёжики") == before and shown(ledger) == [("Ёжики", 0.3)] and len(ledger.waiting()) == 1
    assert ledger.queue([kept, lost], PUBLIC, WHY) == [lost]
    assert ledger.finish(claimed(ledger), scored(0.4, NEW)) is not None
    assert ledger.attempts("Ёжики") == before and shown(ledger) == [("Ёжики", 0.4)] and waiting(ledger) == 0
    first = {result.submission: result.run for result in ledger.results(PUBLIC)}
    assert first == {kept: 1, lost: 4}, "the score is of the run that it was made of"
    with pytest.raises(Refused, match="has its score, which stays"):
        ledger.retry(lost, PUBLIC, WHY)


def test_a_publication_is_for_what_its_maker_saw(ledger: Ledger) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    publish(ledger, {mine: 0.3})
    publish(ledger, {mine: 0.4}, digest="e" * 64)
    with pytest.raises(Refused, match="the public results were scored again by somebody else meanwhile"):
        publish(ledger, {mine: 0.9}, digest="c" * 64, seen=1)
    assert shown(ledger) == [("Ёжики", 0.4)] and len(ledger.changes()) == 2


def test_scores_that_cannot_be_are_not_published(ledger: Ledger) -> None:
    mine, theirs = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Кот", 1, scored(0.4))
    for value in (float("nan"), 1.5, -0.9):
        with pytest.raises(EvaluatorError, match=f"submission {theirs} \\(public\\)"):
            publish(ledger, {mine: 0.9, theirs: value})
    assert ledger.changes() == [] and shown(ledger) == [("Ёжики", 0.5), ("Кот", 0.4)]


def test_scores_without_weight_have_the_range_of_their_metric(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a metric of an organizer's own, whose task the formula leaves out."""
    monkeypatch.setattr(type(ledger.season.competition), "best", lambda _, number: 10.0 if number == 4 else 1.0)
    mine = enter(ledger, "Ёжики", 1, RunEnd("OK", None, {TASK: 0.5, 4: 7.0}, "d" * 64))
    (result,) = ledger.results(PUBLIC)
    new = NewEdition(NEW, (), None, {mine: (result.run, {TASK: 0.25, 4: 8.0})})
    assert ledger.publish("Судья", WHY, {PUBLIC: new}, {}, None, {PUBLIC: None}) is not None
    assert ledger.scores(ledger.results(PUBLIC)) == {result.run: {TASK: 0.25, 4: 8.0}}


def test_totals_and_scores_are_in_the_range_of_their_edition(ledger: Ledger) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    publish(ledger, {mine: 0.5}, digest="d" * 64, weights={5: 0.25})
    with ledger.database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO submission SELECT 7, team_id, 'x', name, bytes, image, submitted_at, day FROM submission"
        )
        connection.exec_driver_sql("INSERT INTO run (id, submission_id, test_set, failures) VALUES (7, 7, 'public', 0)")
    infinite = ("9e999", "-9e999") if ledger.database.sqlite else ("'Infinity'", "'-Infinity'", "'NaN'")
    result = "INSERT INTO result (run_id, submission_id, test_set, total, edition_id) VALUES (7, 7, 'public', {}, {})"
    rescored = (
        "INSERT INTO rescored (id, submission_id, test_set, run_id, total, edition_id)"
        " VALUES (7, 7, 'public', 7, {}, {})"
    )
    for total, edition in ((0.26, 1), (-0.13, 1), (1.01, "NULL"), (-0.51, "NULL"), *((each, 1) for each in infinite)):
        for statement in (result, rescored):
            with pytest.raises(sqlalchemy.exc.DatabaseError, match="a total must be in the range of the formula"):
                with ledger.database.write() as connection:
                    connection.exec_driver_sql(statement.format(total, edition))
    for value in ("1.01", "-1.01", *infinite):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="a score must be at most the best one"):
            with ledger.database.write() as connection:
                connection.exec_driver_sql(
                    f"INSERT INTO rescored_score (rescored_id, task, value) VALUES (1, 3, {value})"
                )
    with ledger.database.write() as connection:
        connection.exec_driver_sql(rescored.format(0.25, 1))
        connection.exec_driver_sql(result.format(1, "NULL"))
        connection.exec_driver_sql("INSERT INTO rescored_score (rescored_id, task, value) VALUES (7, 5, 1)")


# --- at once ---


def at_once(calls: list[Callable[[], object]]) -> int:
    """How many of them were not refused."""

    def call(one: Callable[[], object]) -> bool:
        try:
            one()
            return True
        except Refused:
            return False

    with ThreadPoolExecutor(len(calls)) as pool:
        return sum(pool.map(call, calls))


@pytest.mark.parametrize("action", ["publish", "disqualify", "rename", "withdraw", "undo", "import", "extend"])
def test_of_changes_that_exclude_each_other_one_is_made(ledger: Ledger, tmp_path: Path, action: str) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    organizer = Organizer(ledger, "Судья")
    before = 1 if action == "undo" else 0
    if action == "undo":
        organizer.withdraw(mine, WHY)
    (tmp_path / "t.csv").write_text("team,contact\nЛис,@fox\n", encoding="utf-8")
    calls: dict[str, Callable[[int], object]] = {
        "publish": lambda number: publish(ledger, {mine: number / 10}, digest=f"{number}" * 64, is_first=True),
        "disqualify": lambda _: organizer.disqualify("Ёжики", WHY),
        "rename": lambda number: organizer.rename("Ёжики" if number % 2 else "Кот", "Лис", WHY),
        "withdraw": lambda _: organizer.withdraw(mine, WHY),
        "undo": lambda _: organizer.undo(1, WHY),
        "import": lambda _: organizer.import_teams(tmp_path / "t.csv", WHY),
        "extend": lambda _: organizer.extend("Кот", WHY, None, 1, date(2022, 10, 3)),
    }
    made = at_once([lambda number=number: calls[action](number) for number in range(6)])  # type: ignore[misc]
    found = ledger.changes()
    assert [change.id for change in found] == sorted(change.id for change in found)
    moments = [change.at for change in found]
    assert moments == sorted(moments)
    if action == "extend":
        assert made == 6 and ledger.attempts("Кот").left == 9, "these add up, and none is lost"
    elif action == "import":
        assert made == 6 and [team.name for team in ledger.teams()].count("Лис") == 1 and len(found) == 1
    elif action == "rename":
        names = [team.name for team in ledger.teams()]
        assert names.count("Лис") == 1 and len({change.team for change in found}) == 1
    else:
        assert made == 1 and len(found) == before + 1


def test_a_run_that_ends_while_its_team_goes_has_one_end(ledger: Ledger, clock: Clock) -> None:
    """Either it was done before, or it was cancelled; nothing waits for another for ever."""
    organizer = Organizer(ledger, "Судья")
    for number in range(8):
        clock.forward(days=1)
        sent, _ = ledger.submit("Ёжики", archive(number))
        job = claimed(ledger)
        ledger.submit("Ёжики", archive(f"{number} ждёт"))
        with ThreadPoolExecutor(4) as pool:
            ended = pool.submit(ledger.finish, job, scored(0.5))
            beaten = pool.submit(ledger.beat, [job])
            next_one = pool.submit(ledger.claim, "other")
            gone = pool.submit(organizer.disqualify, "Ёжики", WHY)
            gone.result()
            beaten.result()
            next_one.result()
            assert public_state(ledger, sent.id) == ("cancelled" if ended.result() is None else "OK")
        assert ledger.unfinished() == 0
        organizer.reinstate("Ёжики", WHY)
        while again := ledger.claim("worker"):
            assert ledger.finish(again, scored(0.5)) is not None
        assert ledger.unfinished() == 0 and ledger.waiting() == []


def test_nothing_is_sent_or_chosen_beside_a_disqualification(ledger: Ledger, clock: Clock) -> None:
    organizer = Organizer(ledger, "Судья")
    mine = enter(ledger, "Ёжики", "первый", scored(0.5))
    for number in range(6):
        clock.forward(days=1)
        calls: list[Callable[[], object]] = [
            lambda number=number: ledger.submit("Ёжики", archive(number)),  # type: ignore[misc]
            lambda: ledger.choose("Ёжики", [mine]),
            lambda: organizer.disqualify("Ёжики", WHY),
        ]
        assert at_once(calls) >= 1
        assert ledger.unfinished() == 0 and ledger.team("Ёжики").status == "disqualified"
        organizer.reinstate("Ёжики", WHY)
        while job := ledger.claim("worker"):
            ledger.finish(job, scored(0.1))


def test_two_processes_change_the_same_once(ledger: Ledger) -> None:
    season = str(ledger.season.path)

    def disqualify(number: int) -> tuple[int, str]:
        command = [sys.executable, "-m", "evaluator", "teams", "disqualify", "Ёжики", "--reason", f"жюри {number}"]
        done = subprocess.run(
            [*command, "--by", f"судья {number}", "--season", season], cwd=ROOT, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    with ThreadPoolExecutor(2) as pool:
        (first, said), (second, refused) = sorted(pool.map(disqualify, range(2)))
    (change,) = ledger.changes()
    assert first == 0 and said.startswith("change 1: 'Ёжики': disqualified\nteam Ёжики: disqualified; 0 attempts left")
    assert second > 0 and "is disqualified already" in refused
    assert change.by == change.reason.replace("жюри", "судья") and change.at > datetime(2022, 1, 1, tzinfo=UTC)
