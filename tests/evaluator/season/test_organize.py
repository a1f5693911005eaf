"""What organizers change, on both databases: each is in force at once and everywhere, and can be undone."""

import csv
import json
import statistics
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from evaluator.core.errors import DataError
from evaluator.scoring import tables
from evaluator.season import PRIVATE, PUBLIC, actions, board, changes, listing, organize
from evaluator.season.config import Season
from evaluator.season.ledger import Job, Ledger, Refused
from evaluator.season.organize import Organizer
from tests.support.data import build_data
from tests.support.season import NOON, TASK, Clock, archive, enter, failed, public_state, put_zip, scored, write_season

WHY = "жюри решило"
LATER = datetime(2022, 10, 25, tzinfo=UTC)


@pytest.fixture
def organizer(ledger: Ledger) -> Organizer:
    return Organizer(ledger, "Судья")


def ranks(ledger: Ledger, test_set: str = PUBLIC, live: bool = False) -> dict[str, int | None]:
    """Ranks by team; and the snapshot says the same as the ledger."""
    lines = board.lines(ledger, test_set, live)
    assert board.lines(ledger.snapshot(), test_set, live) == lines
    return {line.team: line.rank for line in lines if line.team}


def claimed(ledger: Ledger) -> Job:
    job = ledger.claim("worker")
    assert job is not None
    return job


def kinds(ledger: Ledger, submission: int) -> list[str]:
    return [event.kind for event in ledger.history(submission)]


# --- teams ---


def test_a_team_renames_itself_a_few_times(ledger: Ledger) -> None:
    name = "Ёжики"
    for number in range(organize.OWN_NAMES):
        changed = organize.rename_by_team(ledger, name, f"Ежата {number}", f"Аня, {name}")
        assert (changed.by, changed.reason) == (f"Аня, {name}", organize.BY_TEAM)
        name = f"Ежата {number}"
        assert ledger.team(name).id == 1
    with pytest.raises(Refused, match="has renamed itself 3 times; ask the organizers"):
        organize.rename_by_team(ledger, name, "Ещё ежата", "Аня")
    Organizer(ledger, "Судья").rename(name, "Ежи", WHY)
    with pytest.raises(Refused, match="3 times"):
        organize.rename_by_team(ledger, "Ежи", "Ёжики", "Аня")
    with pytest.raises(Refused, match="there is a team 'Ежи' already"):
        organize.rename_by_team(ledger, "Кот", "ежи", "Кот")
    Organizer(ledger, "Судья").disqualify("Кот", WHY)
    with pytest.raises(Refused, match="is disqualified"):
        organize.rename_by_team(ledger, "Кот", "Котик", "Кот")


def test_a_new_name_is_everywhere_and_the_old_one_again_after_undoing(ledger: Ledger, organizer: Organizer) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    ledger.choose("Ёжики", [1])
    renamed = organizer.rename("ёжики", " Ежата ", WHY)
    assert (renamed.by, renamed.reason, renamed.detail) == ("Судья", WHY, {"name": "Ежата", "was": "Ёжики"})
    assert ledger.team("ЕЖАТА").name == "Ежата" and ranks(ledger) == {"Ежата": 1}
    assert ledger.choices()[0].team == ledger.states()[0].submission.team == "Ежата"
    assert set(ledger.all_attempts()) == {"Ежата", "Кот"}
    with pytest.raises(Refused, match="there is no team 'Ёжики'"):
        ledger.submit("Ёжики", archive(2))
    with pytest.raises(Refused, match="a team was called so before"):
        ledger.add_team("Ёжики")
    organizer.undo(renamed.id, WHY)
    assert ranks(ledger) == {"Ёжики": 1} and ledger.team("Ёжики").id == 1


@pytest.mark.parametrize("name", ["Кот", "кот", "Koт", "КОТ"])
def test_a_new_name_looks_like_no_other_team(ledger: Ledger, organizer: Organizer, name: str) -> None:
    with pytest.raises(Refused, match="there is a team 'Кот' already|looks like the team 'Кот'"):
        organizer.rename("Ёжики", name, WHY)
    assert ledger.changes() == []


def test_a_name_that_was_given_away_does_not_come_back(ledger: Ledger, organizer: Organizer) -> None:
    renamed = organizer.rename("Ёжики", "Ежата", WHY)
    taken = organizer.rename("Кот", "Ёжики", WHY)
    with pytest.raises(Refused, match="there is a team 'Ёжики' already"):
        organizer.undo(renamed.id, WHY)
    organizer.undo(taken.id, WHY)
    organizer.undo(renamed.id, WHY)
    assert [team.name for team in ledger.teams()] == ["Ёжики", "Кот"]


@pytest.mark.parametrize("action", ["disqualify", "remove"])
def test_a_team_that_is_out_is_nowhere(ledger: Ledger, clock: Clock, organizer: Organizer, action: str) -> None:
    mine = enter(ledger, "Ёжики", 1, scored(0.9))
    theirs = enter(ledger, "Кот", 1, scored(0.5))
    ledger.choose("Ёжики", [mine])
    waiting, _ = ledger.submit("Ёжики", archive(2))
    running = claimed(ledger)
    queued, _ = ledger.submit("Ёжики", archive(3))
    assert ranks(ledger) == {"Ёжики": 1, "Кот": 2}
    out = getattr(organizer, action)("Ёжики", WHY)
    status = {"disqualify": "disqualified", "remove": "removed"}[action]
    assert ranks(ledger) == {"Кот": 1} and ledger.choices() == []
    assert [result.submission for result in ledger.results(PUBLIC)] == [theirs]
    assert ledger.unfinished() == 0 and ledger.beat([running]) == set() and ledger.waiting() == []
    assert ledger.finish(running, scored(1)) is None and kinds(ledger, queued.id) == ["queued", "cancelled"]
    cancelled = ledger.history(queued.id)[-1].detail
    assert cancelled == {"reason": WHY, "by": "Судья", "change": out.id}
    assert ledger.team("Ёжики").status == status and ledger.all_attempts()["Ёжики"].left == 0
    for call in (
        lambda: ledger.submit("Ёжики", archive(4)),
        lambda: ledger.admit("Ёжики", archive(4).digest),
        lambda: ledger.choose("Ёжики", [mine]),
        lambda: ledger.retry(queued.id, PUBLIC, WHY),
        lambda: ledger.queue([queued.id], PUBLIC, WHY),
    ):
        with pytest.raises(Refused, match=f"team 'Ёжики' is {status}"):
            call()
    with pytest.raises(Refused, match=f"is {status} already"):
        organizer.disqualify("Ёжики", WHY)
    clock.now = LATER
    assert ledger.queue_finals() == [theirs]

    organizer.reinstate("Ёжики", WHY)
    assert ranks(ledger) == {"Ёжики": 1, "Кот": 2} and ledger.choices()[0].submissions == (mine,)
    assert kinds(ledger, queued.id) == ["queued", "cancelled", "queued"] and ledger.unfinished() == 3
    assert {claimed(ledger).submission.id for _ in range(3)} == {theirs, waiting.id, queued.id}
    with pytest.raises(Refused, match="team 'Ёжики' competes"):
        organizer.reinstate("Ёжики", WHY)


def test_what_was_cancelled_for_two_reasons_is_queued_when_both_are_gone(ledger: Ledger, organizer: Organizer) -> None:
    sent, _ = ledger.submit("Ёжики", archive(1))
    by_hand, _ = ledger.submit("Ёжики", archive(2))
    ledger.cancel(by_hand.id, PUBLIC, WHY, "Судья")
    organizer.disqualify("Ёжики", WHY)
    organizer.withdraw(sent.id, WHY)
    organizer.reinstate("Ёжики", WHY)
    assert ledger.unfinished() == 0
    organizer.restore(sent.id, WHY)
    assert kinds(ledger, sent.id) == ["queued", "cancelled", "queued"]
    assert kinds(ledger, by_hand.id) == ["queued", "cancelled"], "a change did not end that one"


def test_prizes_are_without_those_who_do_not_compete(
    season: Season, ledger: Ledger, clock: Clock, organizer: Organizer
) -> None:
    """The team that is out is no part of mean + std, nor holds it a place."""
    totals = {"Ёжики": 1.0, "Кот": 0.9, "Лис": 0.6, "Сом": 0.5, "Рак": 0.5}
    submissions = {}
    for team, total in totals.items():
        if team not in ("Ёжики", "Кот"):
            ledger.add_team(team)
        submissions[enter(ledger, team, put_zip(season, team, 1.0), scored(total))] = total
    clock.now = LATER
    ledger.queue_finals()
    while job := ledger.claim("worker"):
        ledger.finish(job, scored(submissions[job.submission.id]))

    def check(*competing: str) -> None:
        found, of = actions.award_prizes(ledger), [totals[team] for team in competing]
        assert [each.line.team for each in found.main] == list(competing)
        assert [each.line.rank for each in found.main] == list(range(1, len(competing) + 1))
        assert found.sustainable is not None
        assert found.sustainable.threshold == pytest.approx(statistics.mean(of) + statistics.pstdev(of))
        assert {place.team for place in found.sustainable.places} == set(competing)

    check(*totals)
    organizer.disqualify("Кот", WHY)
    check("Ёжики", "Лис", "Сом", "Рак")
    assert "Кот" not in ranks(ledger, PRIVATE)
    organizer.reinstate("Кот", WHY)
    organizer.take_out_of_competition("Ёжики", WHY)
    check("Кот", "Лис", "Сом", "Рак")
    assert ranks(ledger, PRIVATE) == {"Ёжики": None, "Кот": 1, "Лис": 2, "Сом": 3, "Рак": 4}
    organizer.withdraw(next(iter(submissions)) + 1, WHY)
    check("Лис", "Сом", "Рак")


def test_a_team_out_of_competition_goes_on_without_a_rank(ledger: Ledger, organizer: Organizer) -> None:
    organizer.take_out_of_competition("Ёжики", WHY)
    mine = enter(ledger, "Ёжики", 1, scored(0.9))
    enter(ledger, "Кот", 1, scored(0.5))
    ledger.choose("Ёжики", [mine])
    assert ranks(ledger) == {"Ёжики": None, "Кот": 1} and list(ranks(ledger)) == ["Ёжики", "Кот"]
    assert [line.competes for line in board.lines(ledger, PUBLIC)] == [False, True, True]


def test_merged_teams_are_one_until_that_is_undone(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    ledger.add_team("Лис")
    mine = enter(ledger, "Ёжики", 1, scored(0.5))
    theirs = [enter(ledger, "Кот", number, scored(0.6 + number / 10)) for number in range(2)]
    ledger.choose("Кот", theirs[:1])
    merged = organizer.merge("Ёжики", "Кот", WHY)
    assert ranks(ledger) == {"Кот": 1} and ledger.attempts("Кот").valid == 3 and ledger.attempts("Кот").left == 0
    assert list(ledger.all_attempts()) == ["Кот", "Лис"]
    for call in (lambda: ledger.attempts("Ёжики"), lambda: ledger.submit("Ёжики", archive(5))):
        with pytest.raises(Refused, match="team 'Ёжики' was merged into team 'Кот'"):
            call()
    assert ledger.submit("Кот", archive(1))[0].id in (mine, theirs[1]), "the same ZIP is sent once"
    clock.forward(days=1)
    organizer.merge("Кот", "Лис", WHY)
    ledger.choose("Лис", [mine, theirs[1]])
    assert ranks(ledger) == {"Лис": 1} and [choice.team for choice in ledger.choices()] == ["Лис"]
    assert {state.submission.team for state in ledger.states("Лис")} == {"Лис"}
    organizer.undo(merged.id, WHY)
    assert ranks(ledger) == {"Лис": 1, "Ёжики": 2}
    assert [(choice.team, choice.submissions) for choice in ledger.choices()] == [("Лис", (theirs[1],))]


def test_teams_that_cannot_be_merged(ledger: Ledger, organizer: Organizer) -> None:
    ledger.add_team("Лис")
    with pytest.raises(Refused, match="cannot be merged into itself"):
        organizer.merge("Кот", " кот", WHY)
    first = organizer.merge("Ёжики", "Кот", WHY)
    with pytest.raises(Refused, match="was merged into team 'Кот'"):
        organizer.merge("Кот", "Ёжики", WHY)
    undone = organizer.undo(first.id, WHY)
    organizer.merge("Кот", "Ёжики", WHY)
    with pytest.raises(Refused, match="would be merged in a circle"):
        organizer.undo(undone.id, WHY)
    out = organizer.disqualify("Лис", WHY)
    for pair in (("Лис", "Ёжики"), ("Ёжики", "Лис")):
        with pytest.raises(Refused, match="is disqualified"):
            organizer.merge(*pair, WHY)
    back = organizer.undo(out.id, WHY)
    organizer.merge("Лис", "Ёжики", WHY)
    with pytest.raises(Refused, match="would be disqualified and merged into another"):
        organizer.undo(back.id, WHY)


def test_a_change_is_undone_and_done_again_as_often_as_wanted(ledger: Ledger, organizer: Organizer) -> None:
    sent, _ = ledger.submit("Ёжики", archive(1))
    out = organizer.disqualify("Ёжики", WHY)
    for _ in range(2):
        organizer.undo(out.id, WHY)
        assert ledger.team("Ёжики").status is None and ledger.unfinished() == 1
        with pytest.raises(Refused, match=f"change {out.id} is undone already"):
            organizer.undo(out.id, WHY)
        organizer.undo(ledger.changes()[-1].id, "всё же")
        assert ledger.team("Ёжики").status == "disqualified" and ledger.unfinished() == 0
    assert kinds(ledger, sent.id) == ["queued", "cancelled"] * 3
    with pytest.raises(Refused, match="there is no change 99"):
        organizer.undo(99, WHY)


def test_a_team_may_have_a_later_day_and_more_attempts(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    for number in range(3):
        enter(ledger, "Ёжики", number, scored(0.5))
    more = organizer.extend("Ёжики", WHY, None, 2, None)
    assert ledger.attempts("Ёжики").left == 2 and ledger.attempts("Кот").left == 3
    enter(ledger, "Ёжики", 3, scored(0.5))
    organizer.undo(more.id, WHY)
    with pytest.raises(Refused, match="no attempt left on 2022-10-03: 4 valid of 3"):
        ledger.submit("Ёжики", archive(4))
    organizer.extend("Ёжики", WHY, date(2022, 10, 22), None, None)
    with pytest.raises(Refused, match="must not be after choose_until, 2022-10-22, as 2022-10-23 is"):
        organizer.extend("Кот", WHY, date(2022, 10, 23), None, None)
    with pytest.raises(Refused, match="must not be after choose_until, 2022-10-21"):
        organizer.set_rules({"choose_until": date(2022, 10, 21)}, WHY)
    with pytest.raises(DataError, match="say until which day, or by how many attempts"):
        organizer.extend("Кот", WHY, None, None, None)
    clock.now = datetime(2022, 10, 22, 9, 0, tzinfo=UTC)
    enter(ledger, "Ёжики", 4, scored(0.5))
    with pytest.raises(Refused, match="taken from 2022-10-01 to 2022-10-20"):
        ledger.submit("Кот", archive(4))


# --- submissions ---


def test_a_withdrawn_submission_counts_nowhere_but_as_an_attempt(ledger: Ledger, organizer: Organizer) -> None:
    best = enter(ledger, "Ёжики", 1, scored(0.9))
    second = enter(ledger, "Ёжики", 2, scored(0.4))
    enter(ledger, "Кот", 1, scored(0.5))
    ledger.choose("Ёжики", [best, second])
    organizer.withdraw(best, WHY)
    assert ranks(ledger) == {"Кот": 1, "Ёжики": 2} and ledger.choices()[0].submissions == (second,)
    assert ledger.attempts("Ёжики").valid == 2
    for call, why in (
        (lambda: ledger.choose("Ёжики", [best]), f"submission {best} was withdrawn"),
        (lambda: ledger.retry(best, PUBLIC, WHY), f"submission {best} was withdrawn"),
        (lambda: organizer.withdraw(best, WHY), "is withdrawn already"),
        (lambda: organizer.withdraw(99, WHY), "there is no submission 99"),
        (lambda: organizer.restore(second, WHY), f"submission {second} is not withdrawn"),
    ):
        with pytest.raises(Refused, match=why):
            call()
    organizer.withdraw(second, WHY)
    assert ledger.choices() == [] and ranks(ledger) == {"Кот": 1}
    organizer.restore(best, WHY)
    assert ranks(ledger) == {"Ёжики": 1, "Кот": 2} and ledger.choices()[0].submissions == (best,)


def test_a_failure_of_ours_of_a_withdrawn_submission_waits_for_nobody(ledger: Ledger, organizer: Organizer) -> None:
    failed_one = enter(ledger, "Ёжики", 1, failed("METRIC_ERROR", "infra"))
    assert len(ledger.waiting()) == 1 and actions.award_prizes(ledger).missing.public == 1
    organizer.withdraw(failed_one, WHY)
    assert ledger.waiting() == [] and not actions.award_prizes(ledger).missing


def test_an_attempt_is_one_of_the_day_that_an_organizer_says(
    ledger: Ledger, clock: Clock, organizer: Organizer
) -> None:
    sent = [enter(ledger, "Ёжики", number, scored(0.5)) for number in range(3)]
    dated = organizer.set_day(sent[0], date(2022, 10, 2), WHY)
    assert ledger.attempts("Ёжики").left == ledger.all_attempts()["Ёжики"].left == 1
    (row,) = listing.submissions(ledger, day=date(2022, 10, 2))
    assert row.submission == sent[0]
    organizer.set_day(sent[1], date(2022, 10, 4), WHY)
    clock.forward(days=1)
    assert ledger.attempts("Ёжики").valid == 1
    clock.forward(days=-1)
    organizer.undo(dated.id, WHY)
    assert ledger.attempts("Ёжики").valid == 2


def test_a_day_on_which_nobody_could_send_is_refused(ledger: Ledger, organizer: Organizer) -> None:
    sent = enter(ledger, "Ёжики", 1, scored(0.5))
    for day in (ledger.season.start - timedelta(days=1), ledger.season.end + timedelta(days=1)):
        with pytest.raises(Refused, match=f"submission {sent}: its day must be from 2022-10-01 to 2022-10-20, not"):
            organizer.set_day(sent, day, WHY)
    organizer.extend("Кот", WHY, ledger.season.end + timedelta(days=1), None, None)
    organizer.set_day(sent, ledger.season.end + timedelta(days=1), WHY)


def test_the_board_of_a_moment_to_come_cannot_be_shown(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    with pytest.raises(Refused, match="what was there by now, 2022-10-03T12:00"):
        organizer.freeze(clock.now + timedelta(seconds=1), WHY)
    assert ledger.frozen_at is None


def test_submissions_are_listed_by_what_is_asked_for(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    first = enter(ledger, "Ёжики", 1, scored(0.5))
    exits = enter(ledger, "Ёжики", 2, failed("EXIT", "team"))
    clock.forward(days=1)
    theirs, _ = ledger.submit("Кот", archive(1))
    organizer.withdraw(first, WHY)

    def listed(**wanted: object) -> list[int]:
        return [row.submission for row in listing.submissions(ledger, **wanted)]  # type: ignore[arg-type]

    assert listed() == [first, exits, theirs.id] and listed(team="кот") == [theirs.id]
    assert listed(day=date(2022, 10, 3)) == [first, exits] and listed(withdrawn=True) == [first]
    assert listed(state="EXIT") == [exits] and listed(state="done") == [first, exits]
    assert listed(state="queued", team="Кот", day=date(2022, 10, 4)) == [theirs.id]
    row = listing.submissions(ledger)[1].to_json(ledger.season)
    assert (row["team"], row["public"], row["public_total"], row["private"]) == ("Ёжики", "EXIT", None, None)
    with pytest.raises(Refused, match="there is no team"):
        listed(team="Лис")


# --- rules ---


def test_deadlines_and_attempts_are_in_force_at_once(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    first = enter(ledger, "Ёжики", 1, scored(0.5))
    moved = organizer.set_rules({"end": date(2022, 10, 21), "choose_until": date(2022, 10, 25)}, WHY)
    fewer = organizer.set_rules({"valid_a_day": 1, "chosen": 1}, WHY)
    assert ledger.rules().end == date(2022, 10, 21) and ledger.attempts("Ёжики").left == 0
    second = enter(ledger, "Кот", 1, scored(0.4))
    with pytest.raises(Refused, match="choose 1 to 1 submissions, not 2"):
        ledger.choose("Ёжики", [first, second])
    clock.now = datetime(2022, 10, 21, 9, 0, tzinfo=UTC)
    ledger.submit("Ёжики", archive(2))
    clock.now = datetime(2022, 10, 24, 9, 0, tzinfo=UTC)
    ledger.choose("Ёжики", [first])
    with pytest.raises(Refused, match="choices are open until 2022-10-25"):
        ledger.queue_finals()
    for change in (moved, fewer):
        organizer.undo(change.id, WHY)
    with pytest.raises(Refused, match="choices were open until 2022-10-22"):
        ledger.choose("Ёжики", [first])
    assert ledger.rules() == ledger.season and ledger.queue_finals() == [first, second]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"end": date(2022, 9, 30)}, "end must be a day not before start, 2022-10-01, not 2022-09-30"),
        ({"end": date(2022, 10, 23)}, "choose_until must be a day not before end, 2022-10-23, not 2022-10-22"),
        ({}, "say what is to be changed"),
    ],
)
def test_days_that_do_not_follow_each_other_are_refused(
    ledger: Ledger, organizer: Organizer, values: dict[str, date], why: str
) -> None:
    with pytest.raises(DataError, match=why):
        organizer.set_rules(values, WHY)
    assert ledger.changes() == [] and ledger.rules() == ledger.season


def test_a_frozen_board_shows_what_was_there(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    clock.forward(hours=1)
    frozen_at = clock.now
    organizer.freeze(None, WHY)
    clock.forward(hours=1)
    enter(ledger, "Кот", 1, scored(0.9))
    assert ranks(ledger) == {"Ёжики": 1} and ranks(ledger, live=True) == {"Кот": 1, "Ёжики": 2}
    shown = actions.read_board(ledger, PUBLIC)
    assert shown.frozen_at == frozen_at and shown.to_json()["frozen_at"] == ledger.season.moment(frozen_at)
    assert actions.read_board(ledger, PUBLIC, live=True).frozen_at is None
    with pytest.raises(Refused, match="is frozen already"):
        organizer.freeze(None, WHY)
    organizer.unfreeze(WHY)
    assert ranks(ledger) == {"Кот": 1, "Ёжики": 2}
    with pytest.raises(Refused, match="is not frozen"):
        organizer.unfreeze(WHY)
    organizer.freeze(frozen_at - timedelta(hours=2), WHY)
    assert ranks(ledger) == {}


def test_the_private_board_is_shown_when_choices_are_made(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    with pytest.raises(Refused, match="choices are open until 2022-10-22, so the private board is not to be shown yet"):
        organizer.show_private(WHY)
    with pytest.raises(Refused, match="the private board is not shown"):
        organizer.hide_private(WHY)
    assert ledger.changes() == [] and not ledger.snapshot().private_shown
    clock.now = datetime(2022, 10, 22, 21, 0, tzinfo=UTC)
    shown = organizer.show_private(WHY)
    assert ledger.snapshot().private_shown
    with pytest.raises(Refused, match="is shown already"):
        organizer.show_private(WHY)
    moved = organizer.set_rules({"choose_until": date(2022, 10, 25)}, WHY)
    assert not ledger.snapshot().private_shown, "teams can choose again"
    organizer.undo(moved.id, WHY)
    assert ledger.snapshot().private_shown
    organizer.hide_private(WHY)
    assert not ledger.snapshot().private_shown
    organizer.undo(organizer.show_private(WHY).id, WHY)
    assert not ledger.snapshot().private_shown
    assert changes.describe(shown, {}) == "private board shown"


def test_what_is_announced_is_said_until_it_is_undone(ledger: Ledger, clock: Clock, organizer: Organizer) -> None:
    first = organizer.announce(" Сервер чинят «до вечера» 🦔 ", WHY)
    clock.forward(hours=1)
    second = organizer.announce("Дедлайн сдвинут", WHY)
    assert ledger.snapshot().announcements == (
        (first.id, NOON, "Сервер чинят «до вечера» 🦔"),
        (second.id, clock.now, "Дедлайн сдвинут"),
    )
    organizer.undo(first.id, "починили")
    assert [each.text for each in ledger.snapshot().announcements] == ["Дедлайн сдвинут"]
    assert changes.describe(second, {}) == "announced: Дедлайн сдвинут"
    organizer.announce("ё" * 1000, WHY)
    for text in ("", " ", "две\nстроки", "a\u202eb", "ё" * 1001):
        with pytest.raises(DataError, match="must be a text of one line that is not empty, of at most 1000 characters"):
            organizer.announce(text, WHY)


# --- test sets ---


def test_a_set_that_is_added_has_runs_and_a_board(
    ledger: Ledger, organizer: Organizer, tmp_path: Path, clock: Clock
) -> None:
    build_data(tmp_path / "final", (TASK,))
    mine = [enter(ledger, "Ёжики", number, scored(0.5 + number / 10)) for number in range(3)]
    theirs = enter(ledger, "Кот", 1, scored(0.9))
    with pytest.raises(Refused, match="test set 'финал': must be one of public, private"):
        organizer.queue(mine, "финал", WHY)
    organizer.add_test_set("финал", tmp_path / "final", WHY)
    with pytest.raises(Refused, match="there is, or was, one of this name"):
        organizer.add_test_set("финал", tmp_path / "final", WHY)
    ledger.choose("Ёжики", mine[:1])
    assert organizer.queue_chosen("финал", WHY) == [mine[0], theirs] and organizer.queue(mine[:1], "финал", WHY) == []
    job = claimed(ledger)
    assert (job.test_set, job.data) == ("финал", tmp_path / "final")
    ledger.finish(job, scored(0.3, "c" * 64))
    assert ledger.history(mine[0])[-3].detail == {"reason": WHY, "by": "Судья"}
    assert [line.total for line in board.lines(ledger, "финал") if line.team] == [0.3]
    assert ledger.attempts("Ёжики").valid == 3, "it is no attempt"
    with pytest.raises(Refused, match="has its score, which stays"):
        ledger.retry(mine[0], "финал", WHY)

    withdrawn = organizer.withdraw_test_set("финал", WHY)
    assert ledger.unfinished() == 0 and ledger.claim("worker") is None
    with pytest.raises(Refused, match="must be one of public, private"):
        actions.read_board(ledger, "финал")
    with pytest.raises(Refused, match="must be one that was added: there is none"):
        organizer.withdraw_test_set("финал", WHY)
    organizer.undo(withdrawn.id, WHY)
    assert claimed(ledger).submission.id == theirs and ledger.results("финал")[0].total == 0.3
    organizer.undo(1, WHY)
    assert ledger.unfinished() == 0 and list(ledger.rules().data) == ["public", "private"]
    assert Ledger(ledger.season, ledger.database, clock).changes() == ledger.changes()


def test_a_set_that_cannot_be_added(ledger: Ledger, organizer: Organizer, tmp_path: Path) -> None:
    build_data(tmp_path / "other", (4,))
    for name, folder, why in (
        ("два слова", "other", "must be a name of letters, digits and _"),
        ("../x", "other", "must be a name of letters"),
        ("финал", "other", "has no examples of task 5"),
        ("финал", "none", "none"),
        ("public", "other", "no examples of task 5"),
    ):
        with pytest.raises(DataError, match=why):
            organizer.add_test_set(name, tmp_path / folder, WHY)
    for name in (PUBLIC, PRIVATE):
        with pytest.raises(Refused, match="must be one that was added"):
            organizer.withdraw_test_set(name, WHY)
    assert ledger.changes() == []


# --- who and why ---


@pytest.mark.parametrize("text", ["", "  ", "две\nстроки", "\udcff"])
def test_who_and_why_are_lines_of_text(ledger: Ledger, text: str) -> None:
    sent, _ = ledger.submit("Ёжики", archive(1))
    calls: list[Callable[[Organizer, str], object]] = [
        lambda organizer, why: organizer.disqualify("Ёжики", why),
        lambda organizer, why: organizer.withdraw(sent.id, why),
        lambda organizer, why: organizer.cancel(sent.id, PUBLIC, why),
        lambda organizer, why: organizer.queue([sent.id], PRIVATE, why),
    ]
    for call in calls:
        with pytest.raises(DataError, match="reason must be a text of one line"):
            call(Organizer(ledger, "Судья"), text)
        with pytest.raises(DataError, match="by must be a text of one line"):
            call(Organizer(ledger, text), WHY)
    assert ledger.changes() == [] and public_state(ledger, sent.id) == "queued"


def test_who_retries_and_cancels_is_known(ledger: Ledger, organizer: Organizer) -> None:
    sent, _ = ledger.submit("Ёжики", archive(1))
    organizer.cancel(sent.id, PUBLIC, "зависло")
    organizer.retry(sent.id, PUBLIC, "починили")
    details = [event.detail for event in ledger.history(sent.id)[1:]]
    assert details == [
        {"reason": "зависло", "by": "Судья"},
        {"retry_of": 1, "reason": "починили", "by": "Судья"},
    ]


# --- tables of teams ---


def write_csv(path: Path, *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_teams_go_out_and_come_in_as_they_were(ledger: Ledger, organizer: Organizer, tmp_path: Path) -> None:
    """Names, members and contacts that a spreadsheet would calculate, and those with quotes and commas in them."""
    odd = ["=1+1", "@sum", "-Лис-", 'Рога "и" копыта', "'Апостроф", "a, b; c", "+7 900"]
    for number, name in enumerate(odd):
        ledger.add_team(name)
        organizer.set_members(name, ["Анна =2+2", f"'{number}", "=cmd|' /C calc'!A0"], f"=HYPERLINK({number})", WHY)
    organizer.merge("Кот", "Ёжики", WHY)
    teams = ledger.teams()
    rows = [listing.team_row(team, teams) for team in teams]
    path = tmp_path / "teams.csv"
    tables.write(path, pd.DataFrame(rows))
    text = path.read_text(encoding="utf-8")
    assert '"\'=1+1"' in text and "\n=" not in text and ",=" not in text
    before = ledger.changes()
    assert organizer.import_teams(path, WHY) == (0, 0) and ledger.changes() == before

    other_season = write_season(tmp_path / "other", "sqlite:///season.sqlite3")
    actions.migrate(other_season.path)
    other = actions.open_ledger(other_season.path)
    assert Organizer(other, "Судья").import_teams(path, WHY) == (len(teams), 0)
    said = [(team.name, team.members, team.contact) for team in other.teams()]
    assert said == [(team.name, team.members, team.contact) for team in teams]
    assert {change.by for change in other.changes()} == {"Судья"} and len(other.changes()) == len(teams)


def test_an_import_changes_what_its_columns_say(ledger: Ledger, organizer: Organizer, tmp_path: Path) -> None:
    organizer.set_members("Кот", ["Аня", "Борис"], "@kot", WHY)
    path = write_csv(tmp_path / "a.csv", ["contact", "team"], ["@new", "кот"], ["", "Лис"])
    before = ledger.changes()
    assert organizer.import_teams(path, WHY, dry_run=True) == (1, 1) and ledger.changes() == before
    assert organizer.import_teams(path, WHY) == (1, 1)
    cat = ledger.team("Кот")
    assert (cat.members, cat.contact) == (("Аня", "Борис"), "@new") and ledger.team("Лис").contact == ""
    path = write_csv(tmp_path / "b.csv", ["team", "members"], ["Кот", " Вера ,  Глеб,"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Excel writes it
    assert organizer.import_teams(path, WHY) == (0, 1) and ledger.team("Кот").members == ("Вера", "Глеб")
    organizer.undo(ledger.changes()[-1].id, WHY)
    assert ledger.team("Кот").members == ("Аня", "Борис")


def test_a_faulty_table_is_told_row_by_row_and_changes_nothing(
    ledger: Ledger, organizer: Organizer, tmp_path: Path
) -> None:
    def refused(*rows: list[str]) -> list[str]:
        with pytest.raises(DataError) as caught:
            organizer.import_teams(write_csv(tmp_path / "t.csv", *rows), WHY)
        assert [team.name for team in ledger.teams()] == ["Ёжики", "Кот"] and ledger.changes() == []
        return caught.value.reasons

    head = ["team", "members", "contact"]
    lines = refused(head, ["Лис", "", ""], ["", "", ""], ["Сом", "a\nb", ""], ["Рак", "x"], ["Як", "", "", "y"])
    assert [line.split(": ", 1)[0].rpartition("/")[2] for line in lines] == [
        "t.csv line 3",
        "t.csv line 5",
        "t.csv line 6",
        "t.csv line 7",
    ]
    assert "1..60 printable characters" in lines[0] and "member 'a" in lines[1] and "must have 3 cells" in lines[3]
    # What only the ledger knows: all of these, and the good row before them is not entered.
    lines = refused(head, ["Лис", "", ""], ["Koт", "", ""], ["лис", "", ""], ["Ёжики", "Аня", ""])
    assert len(lines) == 2 and "looks like the team 'Кот'" in lines[0] and "team 'лис': comes twice" in lines[1]
    for first_line, why in (
        (["team;members;contact"], "the first line must name the columns team, members, contact"),
        (["team", "e-mail"], "there is 'e-mail' too"),
        (["team", "team"], "each once"),
    ):
        assert why in refused(first_line, ["Лис", ""])[0]
    (tmp_path / "latin.csv").write_bytes("team\nЛис\n".encode("cp1251"))
    with pytest.raises(DataError, match="is no UTF-8 text"):
        organizer.import_teams(tmp_path / "latin.csv", WHY)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        organizer.import_teams(tmp_path / "none.csv", WHY)


def test_members_and_contact_are_said_one_by_one(ledger: Ledger, organizer: Organizer) -> None:
    organizer.set_members("Кот", ["Аня"], None, WHY)
    organizer.set_members("Кот", None, "@kot", WHY)
    cat = ledger.team("Кот")
    assert (cat.members, cat.contact) == (("Аня",), "@kot")
    for members, contact, why in (
        (["Иванов, Иван"], None, "member 'Иванов, Иван': must be a text of one line that is not empty, without ','"),
        ([" "], None, "member"),
        (None, "a\nb", "contact .* must be a text of one line"),
        (None, None, "say who its members are, or how to reach it"),
    ):
        with pytest.raises(DataError, match=why):
            organizer.set_members("Кот", members, contact, WHY)


def test_all_changes_are_listed_with_what_holds(ledger: Ledger, organizer: Organizer) -> None:
    renamed = organizer.rename("Ёжики", "Ежата", WHY)
    undone = organizer.undo(renamed.id, "ошибка")
    rows = listing.change_rows(ledger.changes(), ledger.teams(), ledger.season)
    assert [(row["what"], row["in_force"], row["undone_by"], row["reason"]) for row in rows] == [
        ("'Ёжики': renamed to 'Ежата'", False, undone.id, WHY),
        (f"undoes change {renamed.id}", True, None, "ошибка"),
    ]
    assert json.loads(listing.flat(rows)[0]["detail"]) == {"name": "Ежата", "was": "Ёжики"}
    assert listing.in_force(ledger, undone).to_json()["in_force"]["team"]["team"] == "Ёжики"
