"""What holds of changes: against a slow and plain computation, and at the edges."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.season import changes, config
from evaluator.season.changes import Change, describe, in_force, last_undoing, standing
from evaluator.season.config import read_season
from tests.support.season import NOON

SEASON = read_season(Path(config.__file__).with_name("season.example.toml"))


def change(id: int, kind: str, **values: Any) -> Change:
    values = {"team": None, "submission": None, "test_set": None, "detail": {}, "reason": "x"} | values
    return Change(id, NOON + timedelta(minutes=id), "Судья", kind, **values)


def undo(id: int, of: int) -> Change:
    return change(id, changes.UNDONE, undoes=of)


def ids(found: Sequence[Change]) -> list[int]:
    return [each.id for each in found]


def test_an_undoing_that_is_undone_lets_the_change_hold_again() -> None:
    all_changes = [change(1, changes.WITHDRAWN, submission=7), undo(2, 1), undo(3, 2), undo(4, 3)]
    for count, wanted in enumerate(([], [1], [2], [1, 3], [2, 4])):
        assert ids(in_force(all_changes[:count])) == wanted
        assert (7 in standing(SEASON, all_changes[:count]).withdrawn) == (1 in wanted)
    assert last_undoing(all_changes[:1], 1) == 1 and last_undoing(all_changes[:3], 1) == 3


def test_teams_that_were_merged_in_a_chain_are_the_last_one() -> None:
    first = change(1, changes.MERGED, team=1, detail={"into": 2})
    second = change(2, changes.MERGED, team=2, detail={"into": 3})
    held = standing(SEASON, [first, second])
    assert [held.team(id) for id in (1, 2, 3)] == [3, 3, 3] and sorted(held.parts(3)) == [1, 2, 3]
    held = standing(SEASON, [first, second, undo(3, 2)])
    assert [held.team(id) for id in (1, 2, 3)] == [2, 2, 3] and held.parts(2) == [2, 1]
    held = standing(SEASON, [first, second, undo(3, 1)])
    assert [held.team(id) for id in (1, 2, 3)] == [1, 3, 3]
    # Done in the other order, it is the same; and so is a team that another was merged into before it was itself.
    held = standing(SEASON, [first, undo(2, 1), replace(second, id=3), undo(4, 2)])
    assert [held.team(id) for id in (1, 2, 3)] == [3, 3, 3]


def test_a_circle_of_teams_is_found_and_ends() -> None:
    merged = [change(id, changes.MERGED, team=id, detail={"into": id % 3 + 1}) for id in (1, 2, 3)]
    held = standing(SEASON, merged)
    assert all(into in held.merged for into in held.merged.values()), "by which the ledger refuses it"


def test_the_last_name_that_holds_counts() -> None:
    renamed = [change(id, changes.RENAMED, team=1, detail={"name": name}) for id, name in enumerate("абв", 1)]
    assert standing(SEASON, renamed).names == {1: "в"}
    assert standing(SEASON, [*renamed, undo(4, 3)]).names == {1: "б"}
    assert standing(SEASON, [*renamed, undo(4, 2)]).names == {1: "в"}


def test_rules_are_those_of_the_file_and_the_last_change_of_each() -> None:
    moved = change(1, changes.RULES_CHANGED, detail={"end": "2022-12-01", "valid_a_day": 5})
    again = change(2, changes.RULES_CHANGED, detail={"end": "2022-12-05"})
    season = standing(SEASON, [moved, again]).season
    assert (season.end, season.valid_a_day, season.start) == (date(2022, 12, 5), 5, SEASON.start)
    assert standing(SEASON, [moved, again, undo(3, 2)]).season.end == date(2022, 12, 1)
    assert standing(SEASON, [moved, undo(2, 1)]).season == SEASON


def test_a_test_set_that_is_withdrawn_stays_away() -> None:
    added = change(1, changes.SET_ADDED, test_set="финал", detail={"data": {"финал": "data/final"}})
    withdrawn = change(2, changes.SET_WITHDRAWN, test_set="финал")
    corrected = change(3, changes.RESCORED, detail={"sets": ["финал"], "data": {"финал": "data/final2"}})
    assert standing(SEASON, [added]).season.data["финал"] == SEASON.folder / "data/final"
    assert standing(SEASON, [added, corrected]).season.data["финал"] == SEASON.folder / "data/final2"
    for gone in ([added, withdrawn], [added, withdrawn, corrected], [added, undo(2, 1), corrected]):
        assert list(standing(SEASON, gone).season.data) == ["public", "private"]


def test_days_and_attempts_of_a_team_beside_those_of_all() -> None:
    day = date(2022, 10, 5)
    more = change(1, changes.EXTENDED, team=1, detail={"attempts": 2, "day": day.isoformat()})
    held = standing(
        SEASON, [more, replace(more, id=2), change(3, changes.EXTENDED, team=1, detail={"until": "2029-01-01"})]
    )
    assert held.extra == {(1, day): 4} and held.end(1) == date(2029, 1, 1) and held.end(2) == SEASON.end
    early = change(1, changes.EXTENDED, team=1, detail={"until": SEASON.start.isoformat()})
    assert standing(SEASON, [early]).end(1) == SEASON.end, "it is a later day, or none"


def test_each_change_is_told_in_a_line() -> None:
    teams = {1: "Ёжики", 2: "Кот"}
    for each, said in (
        (change(1, changes.RENAMED, team=1, detail={"name": "Ежи"}), "'Ёжики': renamed to 'Ежи'"),
        (change(1, changes.MERGED, team=1, detail={"into": 2}), "'Ёжики': merged into 'Кот'"),
        (change(1, changes.DISQUALIFIED, team=2), "'Кот': disqualified"),
        (change(1, changes.WITHDRAWN, submission=3), "submission 3: withdrawn"),
        (change(1, changes.DATED, submission=3, detail={"day": "2022-10-01"}), "submission 3: dated day = 2022-10-01"),
        (change(1, changes.RULES_CHANGED, detail={"end": "2022-10-01"}), "rules end = 2022-10-01"),
        (
            change(1, changes.MEMBERS, team=1, detail={"members": ["Аня"], "contact": "@a"}),
            "'Ёжики': members Аня; contact @a",
        ),
        (undo(2, 1), "undoes change 1"),
        (change(1, changes.RENAMED, team=1, detail={"name": "Ёжики", "was": "Ежи"}), "'Ежи': renamed to 'Ёжики'"),
        (
            change(1, changes.RESCORED, detail={"sets": ["public"], "data": {"public": "new"}, "weights": {"5": 0.5}}),
            "rescored: public; public by new; weights 5=0.5",
        ),
    ):
        assert describe(each, teams) == said


TEAMS, SUBMISSIONS = range(1, 7), range(1, 6)
KINDS = (changes.RENAMED, changes.MERGED, changes.DISQUALIFIED, changes.WITHDRAWN, changes.DATED, changes.FROZEN)
STEPS = st.lists(
    st.tuples(st.sampled_from((*KINDS, changes.UNDONE, changes.UNDONE)), st.integers(0, 99), st.integers(0, 99)),
    max_size=40,
)


def made(steps: list[tuple[str, int, int]]) -> list[Change]:
    """Changes as an organizer could enter them: each undone at most once, teams merged into later ones alone."""
    found: list[Change] = []
    for kind, first, second in steps:
        id, team, submission = len(found) + 1, TEAMS[first % len(TEAMS)], SUBMISSIONS[first % len(SUBMISSIONS)]
        match kind:
            case changes.RENAMED:
                found.append(change(id, kind, team=team, detail={"name": f"имя {second}"}))
            case changes.MERGED if team < TEAMS[-1]:
                later = TEAMS[team:]
                found.append(change(id, kind, team=team, detail={"into": later[second % len(later)]}))
            case changes.DISQUALIFIED:
                found.append(change(id, kind, team=team))
            case changes.WITHDRAWN:
                found.append(change(id, kind, submission=submission))
            case changes.DATED:
                found.append(change(id, kind, submission=submission, detail={"day": f"2022-10-{second % 28 + 1:02}"}))
            case changes.FROZEN:
                found.append(change(id, kind, detail={"at": (NOON + timedelta(hours=second)).isoformat()}))
            case changes.UNDONE if open_ones := sorted({each.id for each in found} - {each.undoes for each in found}):
                found.append(undo(id, open_ones[first % len(open_ones)]))
    return found


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_what_holds_equals_the_plain_computation(steps: list[tuple[str, int, int]]) -> None:
    """Forwards, one change after another, where `standing` goes backwards once and folds."""
    found = made(steps)
    holds: dict[int, bool] = {}
    for each in found:
        holds[each.id] = True
        undoes = each.undoes
        while undoes is not None:  # what it undoes turns, and what that had undone turns back
            holds[undoes] = not holds[undoes]
            undoes = found[undoes - 1].undoes
    assert ids(in_force(found)) == [id for id, held in holds.items() if held]

    kept = [each for each in found if holds[each.id]]

    def last(kind: str, key: str, of: int) -> Any:
        values = [each.detail or True for each in kept if each.kind == kind and getattr(each, key) == of]
        return values[-1] if values else None

    held = standing(SEASON, found)
    for team in TEAMS:
        name, into, end = last(changes.RENAMED, "team", team), last(changes.MERGED, "team", team), team
        assert held.names.get(team) == (name and name["name"])
        assert (team in held.status) == (last(changes.DISQUALIFIED, "team", team) is not None)
        while into is not None:
            end = into["into"]
            into = last(changes.MERGED, "team", end)
        assert held.team(team) == end and team in held.parts(end)
    for submission in SUBMISSIONS:
        assert (submission in held.withdrawn) == (last(changes.WITHDRAWN, "submission", submission) is not None)
        day = last(changes.DATED, "submission", submission)
        assert held.days.get(submission) == (day and date.fromisoformat(day["day"]))
    frozen = [each.detail["at"] for each in kept if each.kind == changes.FROZEN]
    assert (held.frozen_at and held.frozen_at.isoformat()) == (frozen[-1] if frozen else None)
