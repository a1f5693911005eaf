"""The boards: against a slow and plain computation of the rules, and at the edges."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.season import PRIVATE, PUBLIC, board, config
from evaluator.season.board import BoardResult, Choice, Line, Sharing
from evaluator.season.config import read_season
from evaluator.season.ledger import Ledger
from tests.support.season import NOON, Clock, archive, enter, scored

SEASON = read_season(Path(config.__file__).with_name("season.example.toml"))
START = datetime(2022, 10, 1, tzinfo=UTC)


def result(submission: int, team: str, total: float, minutes: int = 0) -> BoardResult:
    return BoardResult(100 + submission, submission, team, START + timedelta(minutes=minutes), total)


def shown(lines: list[Line]) -> list[tuple[int | None, str | None, int | None]]:
    return [(line.rank, line.team, line.result and line.result.submission) for line in lines]


def public(*results: BoardResult) -> list[Line]:
    return board.public_lines(results, {each.run: {} for each in results}, SEASON)


def test_the_best_result_of_each_team_and_the_baseline_between_them() -> None:
    lines = public(
        result(1, "a", 0.1), result(2, "a", 0.3), result(3, "b", 0.2), result(4, "c", 0.5), result(5, "a", 0.25)
    )
    assert shown(lines) == [(1, "c", 4), (2, "a", 2), (None, None, None), (3, "b", 3)]
    assert [line.count for line in lines] == [1, 3, 0, 1]
    assert lines[2].total == pytest.approx(0.243) and lines[2].scores == SEASON.baseline
    assert shown(public()) == [(None, None, None)]


def test_of_equal_results_the_earlier_submission_is_better() -> None:
    lines = public(result(9, "a", 0.5, 5), result(7, "a", 0.5, 6), result(3, "b", 0.5, 4), result(2, "c", 0.5, 5))
    assert shown(lines)[:3] == [(1, "b", 3), (2, "c", 2), (3, "a", 9)]
    reaches = SEASON.total(SEASON.baseline)
    assert reaches is not None and shown(public(result(1, "a", reaches)))[0] == (1, "a", 1)


def test_the_private_result_is_the_best_of_the_chosen_or_of_the_best_public_ones() -> None:
    results = [result(number, "a", total, number) for number, total in enumerate((0.1, 0.5, 0.2, 0.5, 0.3))]
    results += [result(10 + number, "b", total, number) for number, total in enumerate((0.9, 0.8))]
    wanted = board.finals(results, [Choice("b", START, (11,))], 3)
    assert wanted == {"a": (1, 3, 4), "b": (11,)}
    private = [result(0, "a", 0.99), result(3, "a", 0.4), result(4, "a", 0.6), result(10, "b", 0.99)]
    counting = board.private_results(private, wanted)
    lines = board.private_lines(counting, wanted, {each.run: {} for each in counting}, SEASON)
    assert shown(lines) == [(1, "a", 4), (None, None, None), (None, "b", None)]
    assert [(line.count, line.expected) for line in lines] == [(2, 3), (0, 0), (0, 1)]


def test_thresholds_that_are_missed() -> None:
    line = Line(1, "a", 0.5, {0: 0.2, 1: 0.1, 2: 0.5, 3: 0.5, 4: 0.5})
    assert line.misses(SEASON.thresholds) == {1: 0.25, 5: 0.13}
    assert Line(1, "a", 0.5, dict.fromkeys(range(6), 1.0)).misses(SEASON.thresholds) == {}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from((0.1, 0.2, 0.3)), st.integers(0, 5)), max_size=30),
    st.dictionaries(st.sampled_from("abcde"), st.sets(st.integers(0, 29), min_size=1, max_size=3)),
    st.sets(st.integers(0, 29)),
)
def test_boards_equal_the_rules_computed_one_by_one(
    rows: list[tuple[str, float, int]], chosen: dict[str, set[int]], failed: set[int]
) -> None:
    results = [result(number, team, total, minutes) for number, (team, total, minutes) in enumerate(rows)]
    choices = []
    for team, numbers in chosen.items():
        own = tuple(sorted(number for number in numbers if number < len(rows) and rows[number][0] == team))
        if own:
            choices.append(Choice(team, START, own))
    private = [result(each.submission, each.team, 0.4 - each.total) for each in results]
    private = [each for each in private if each.submission not in failed]

    def better(first: BoardResult, second: BoardResult) -> bool:
        if first.total != second.total:
            return first.total > second.total
        if first.submitted_at != second.submitted_at:
            return first.submitted_at < second.submitted_at
        return first.submission < second.submission

    def ranked(candidates: list[BoardResult]) -> list[tuple[str, int]]:
        tops = [
            one for one in candidates if not any(o.team == one.team and better(o, one) for o in candidates if o != one)
        ]
        return [(one.team, one.submission) for one in sorted(tops, key=lambda one: sum(better(o, one) for o in tops))]

    lines = public(*results)
    assert [(line.team, line.result.submission) for line in lines if line.result] == ranked(results)
    assert [line.rank for line in lines if line.result] == list(range(1, len(lines)))

    taken = {choice.team: choice.submissions for choice in choices}
    counting = []
    for each in private:
        own = [one for one in results if one.team == each.team]
        (public_one,) = [one for one in own if one.submission == each.submission]
        beaten_by = sum(better(one, public_one) for one in own)
        if each.submission in taken[each.team] if each.team in taken else beaten_by < 3:
            counting.append(each)
    wanted = board.finals(results, choices, 3)
    assert board.private_results(private, wanted) == counting
    lines = board.private_lines(counting, wanted, {each.run: {} for each in counting}, SEASON)
    assert [(line.team, line.result.submission) for line in lines if line.result] == ranked(counting)


def test_boards_come_out_of_the_ledger(ledger: Ledger, clock: Clock) -> None:
    enter(ledger, "Ёжики", 1, scored(0.7))
    better = enter(ledger, "Ёжики", 2, scored(0.8))
    clock.forward(minutes=1)
    theirs = enter(ledger, "Кот", 1, scored(0.8))
    lines = board.lines(ledger, PUBLIC)
    assert shown(lines) == [(1, "Ёжики", better), (2, "Кот", theirs), (None, None, None)]
    assert lines[0].scores == {5: 0.8} and lines[0].total == 0.8 and lines[0].count == 2
    assert lines[2].total == 0.36
    clock.now = NOON + timedelta(days=30)
    assert len(ledger.queue_finals()) == 3
    for value in (0.2, 0.9):
        job = ledger.claim("worker")
        assert job is not None
        ledger.finish(job, scored(value))
    lines = board.lines(ledger, PRIVATE)
    assert shown(lines) == [(1, "Ёжики", better), (None, None, None), (None, "Кот", None)]
    assert (lines[0].total, lines[0].count, lines[0].expected) == (0.9, 2, 2)


@pytest.mark.parametrize("sharing", [Sharing(True, 0.47), Sharing(False, 0.1), Sharing(False, None)])
def test_a_result_keeps_what_its_run_counted(ledger: Ledger, sharing: Sharing) -> None:
    detail = {"findings": [], "shared_parameters": sharing.to_json() | {"errors": []}}
    enter(ledger, "Ёжики", 1, replace(scored(0.7), detail=detail))
    enter(ledger, "Кот", 1, scored(0.6))
    assert [result.sharing for result in ledger.results(PUBLIC)] == [sharing, Sharing()]
    assert ledger.results(PUBLIC) == ledger.snapshot().results(PUBLIC)
    assert all(line.sharing is None for line in board.lines(ledger, PUBLIC)), "FusionBrain 2.0 does not ask for it"


def test_a_snapshot_says_what_the_ledger_says(ledger: Ledger, clock: Clock) -> None:
    first = enter(ledger, "Ёжики", 1, scored(0.7))
    enter(ledger, "Кот", 1, scored(0.8))
    clock.forward(days=1)
    ledger.submit("Кот", archive(2))
    ledger.choose("Ёжики", [first])
    taken = ledger.snapshot()
    for test_set in (PUBLIC, PRIVATE):
        assert board.lines(taken, test_set) == board.lines(ledger, test_set)
    assert taken.attempts == ledger.all_attempts() and taken.attempts["Кот"].pending == 1
    assert list(taken.states) == ledger.states() and [team.name for team in taken.teams] == ["Ёжики", "Кот"]
    events = [event for submission in (1, 2, 3) for event in ledger.history(submission)]
    assert list(taken.events) == events and taken.now == clock.now
