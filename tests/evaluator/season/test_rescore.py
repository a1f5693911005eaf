"""Scoring again what real runs answered: another truth, another formula, what is missing, and taking it back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluator.core.errors import DataError
from evaluator.scoring import score as scoring
from evaluator.season import PRIVATE, PUBLIC, actions, board, rescore
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger, Refused
from evaluator.season.organize import Organizer
from evaluator.season.rescore import Request, Rescoring
from evaluator.season.store import OUTPUT, Store
from tests.support.season import RUN, TASK, TRUTH

OTHER = "Палки-ёлки 🦔"


@pytest.fixture
def going(make_running: Callable[..., Season], make_zip: Callable[..., Path], url: str) -> Ledger:
    """Two teams, with a submission each that really ran: one answers the truth, one what only a corrected truth has."""
    season = make_running(url)
    ledger = actions.open_ledger(season.path)
    ledger.add_team("Кот")
    actions.submit(ledger, make_zip(TRUTH), "Ёжики")
    actions.submit(ledger, make_zip(OTHER), "Кот")
    assert actions.work(ledger, print, 2, None, drain=True)
    return ledger


def corrected(season: Season, name: str = PUBLIC, answers: Any = (OTHER,), tasks: int = 0) -> Path:
    """A folder with the same questions and another truth of all but `tasks` of them."""
    folder = shutil.copytree(season.data[name], season.folder / "data" / f"{name}-corrected")
    path = folder / "ground_truth.json"
    truth = json.loads(path.read_text(encoding="utf-8"))
    for id in list(truth)[tasks:]:
        truth[id] = [{"type": "text", "content": list(answers)}]
    path.write_text(json.dumps(truth, ensure_ascii=False), encoding="utf-8")
    return folder


def again(ledger: Ledger, **request: Any) -> Rescoring:
    return rescore.rescore(Organizer(ledger, "судья"), Request(**request), "исправлена истина", print)


def totals(ledger: Ledger, test_set: str = PUBLIC) -> dict[str, float]:
    return {result.team: result.total for result in ledger.results(test_set)}


def test_a_corrected_truth_is_shown_before_it_is_published(going: Ledger) -> None:
    before = totals(going)
    data = corrected(going.season)
    seen = again(going, test_set=PUBLIC, data=data, dry_run=True)
    assert totals(going) == before and seen.change is None and going.changes() == []
    assert [
        (moved.team, moved.before and moved.before.rank, moved.after and moved.after.rank)
        for moved in seen.sets[0].moved
    ] == [
        ("Кот", 2, 1),
        ("Ёжики", 1, 2),
    ]
    done = again(going, test_set=PUBLIC, data=data)
    assert done.sets == seen.sets and done.change is not None
    after = totals(going)
    assert after["Кот"] == 1.0 > after["Ёжики"] and (before["Ёжики"], before["Кот"]) == (1.0, after["Ёжики"])
    assert going.rules().data[PUBLIC] == going.season.folder / "data" / "public-corrected"
    edition = going.edition(PUBLIC)
    assert edition is not None and edition.change == done.change.id
    for result in going.results(PUBLIC):
        made = Store(going.season.folder).rescored(result.run, edition.data_digest, edition.labels, edition.evaluator)
        scores = json.loads((made / "scores.json").read_bytes())
        assert scores["tasks"][str(TASK)]["score"] == result.total and scores["data_digest"] == edition.data_digest
    attempts = going.all_attempts()
    assert {team: (each.valid, each.invalid, each.pending) for team, each in attempts.items()} == {
        "Ёжики": (1, 0, 0),
        "Кот": (1, 0, 0),
    }


def test_new_runs_are_scored_by_the_corrected_truth(going: Ledger, make_zip: Callable[..., Path]) -> None:
    again(going, test_set=PUBLIC, data=corrected(going.season))
    actions.submit(going, make_zip(OTHER, name="второй"), "Ёжики")
    going.choose("Ёжики", [1])
    actions.submit(going, make_zip(code=f"{RUN % OTHER}# третий", name="третий"), "Ёжики")
    assert actions.work(going, print, 1, None, drain=True)
    results = {result.submission: result.total for result in going.results(PUBLIC)}
    assert results[3] == results[4] == 1.0 and len({result.edition for result in going.results(PUBLIC)}) == 1


def test_it_is_undone_and_done_again(going: Ledger, make_zip: Callable[..., Path]) -> None:
    before, data = totals(going), corrected(going.season)
    change = again(going, test_set=PUBLIC, data=data).change
    assert change is not None
    after = totals(going)
    actions.submit(going, make_zip(OTHER, name="второй"), "Ёжики")
    assert actions.work(going, print, 1, None, drain=True)
    Organizer(going, "судья").undo(change.id, "всё-таки нет")
    assert totals(going) == before and actions.read_board(going, PUBLIC).waiting == 1
    assert going.rules().data == going.season.data
    again(going, test_set=PUBLIC)  # brings the one that came meanwhile to the edition that is shown
    assert len(going.results(PUBLIC)) == 3 and actions.read_board(going, PUBLIC).waiting == 0
    assert {result.submission: result.total for result in going.results(PUBLIC)}[1] == before["Ёжики"]
    again(going, test_set=PUBLIC, data=data)
    assert totals(going) | {"Ёжики": after["Ёжики"]} == after


def test_what_is_the_same_changes_nothing(going: Ledger) -> None:
    assert again(going, test_set=PUBLIC).change is None
    assert again(going, test_set=PUBLIC, data=going.season.data[PUBLIC]).change is None
    assert going.changes() == []


@pytest.mark.parametrize("request_of", [{"test_set": PUBLIC}, {"weights": {TASK: 0.5}}])
def test_what_is_out_meanwhile_is_scored_too_and_comes_back(going: Ledger, request_of: dict[str, Any]) -> None:
    organizer = Organizer(going, "судья")
    organizer.disqualify("Кот", "спорно")
    organizer.withdraw(1, "по просьбе")
    data = {"data": corrected(going.season)} if "test_set" in request_of else {}
    assert again(going, **request_of, **data).sets[0].results == 0 and totals(going) == {}
    organizer.reinstate("Кот", "разобрались")
    organizer.restore(1, "по просьбе")
    assert totals(going).keys() == {"Кот", "Ёжики"} and actions.read_board(going, PUBLIC).waiting == 0


def test_an_output_that_is_gone_is_named_and_run_again_at_no_cost(going: Ledger) -> None:
    (Store(going.season.folder).run(1) / OUTPUT).unlink()
    data = corrected(going.season)
    before = totals(going)
    with pytest.raises(Refused, match=r"submission 1 \(public\) cannot be scored: its output is not kept any more"):
        again(going, test_set=PUBLIC, data=data)
    assert totals(going) == before and going.changes() == []
    done = again(going, test_set=PUBLIC, data=data, missing="queue")
    assert done.queued == [1] and totals(going) == {"Кот": 1.0}
    assert going.attempts("Ёжики").valid == 1 and going.attempts("Ёжики").pending == 0
    assert actions.work(going, print, 1, None, drain=True)
    assert totals(going).keys() == {"Ёжики", "Кот"} and going.attempts("Ёжики").valid == 1


def test_a_damaged_output_is_named(going: Ledger) -> None:
    output = Store(going.season.folder).run(2) / OUTPUT
    output.write_bytes(output.read_bytes()[:-3])
    with pytest.raises(Refused, match="submission 2 .* is not the output that was kept"):
        again(going, test_set=PUBLIC, data=corrected(going.season))


def test_questions_that_a_run_was_not_asked(going: Ledger) -> None:
    data = corrected(going.season)
    for name in ("input.json", "ground_truth.json", "sample_ids.json"):
        document = json.loads((data / name).read_text(encoding="utf-8"))
        document["9999"] = next(iter(document.values()))
        (data / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(Refused, match="was not asked for when the output was made"):
        again(going, test_set=PUBLIC, data=data)


def test_a_metric_that_fails_publishes_nothing(going: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = totals(going)
    monkeypatch.setattr(scoring, "_sample", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="run 1: .*ZeroDivisionError"):
        again(going, test_set=PUBLIC, data=corrected(going.season))
    assert totals(going) == before and going.changes() == []


def test_it_goes_on_where_it_was_interrupted(going: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    data, scored = corrected(going.season), []
    real = rescore.evaluation.rescore

    def stops(output: Path, *given: Any, **named: Any) -> Any:
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(output)
        return real(output, *given, **named)

    monkeypatch.setattr(rescore.evaluation, "rescore", stops)
    with pytest.raises(KeyboardInterrupt):
        again(going, test_set=PUBLIC, data=data)
    monkeypatch.setattr(
        rescore.evaluation, "rescore", lambda output, *a, **n: (scored.append(output), real(output, *a, **n))[1]
    )
    again(going, test_set=PUBLIC, data=data)
    assert len(scored) == len(set(scored)) == 2 and totals(going)["Кот"] == 1.0


def test_the_private_board_is_of_private_editions(going: Ledger) -> None:
    going.queue([1, 2], PRIVATE, "проверка")
    assert actions.work(going, print, 2, None, drain=True)
    again(going, test_set=PRIVATE, data=corrected(going.season, PRIVATE))
    assert [line.team for line in board.lines(going, PRIVATE) if line.team] == ["Кот", "Ёжики"]
    assert [line.team for line in board.lines(going, PUBLIC) if line.team] == ["Ёжики", "Кот"]


def test_nothing_to_do_and_what_cannot_be(going: Ledger) -> None:
    with pytest.raises(DataError, match="say which test set"):
        again(going)
    with pytest.raises(Refused, match="must be one of public, private"):
        again(going, test_set="третий")
    with pytest.raises(DataError, match="task 12: must be one of 0, 1, "):
        again(going, weights={12: 1.0})
    with pytest.raises(DataError, match="must give some task a weight"):
        again(going, weights={TASK: 0.0})
    with pytest.raises(Refused, match="it has no score of task 4; rescore the public test set"):
        again(going, weights={4: 0.5})


def test_another_formula_needs_no_outputs(going: Ledger) -> None:
    shutil.rmtree(going.season.folder / "runs")
    before = totals(going)
    done = again(going, weights={TASK: 0.5})
    assert done.change is not None and totals(going) == {team: total / 2 for team, total in before.items()}
    assert going.rules().weights == {TASK: 0.5}
    assert actions.open_ledger(going.season.path).rules().weights == {TASK: 0.5}
    Organizer(going, "судья").undo(done.change.id, "нет")
    assert totals(going) == before
