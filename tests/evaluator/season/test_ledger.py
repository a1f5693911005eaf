"""What the ledger lets happen, on both databases: attempts, runs and their leases, choices and finals."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
import sqlalchemy

from evaluator.core.errors import DataError, EvaluatorError
from evaluator.season import PRIVATE, PUBLIC, schema
from evaluator.season.accounts import Accounts
from evaluator.season.config import Season, read_season
from evaluator.season.ledger import Job, Ledger, Refused, RunEnd
from evaluator.season.ledger.queries import append_event
from tests.support.season import Clock, archive, enter, failed, labelled, public_state, publish, scored

INFRA = failed("INFRA", "infra")
METRIC = failed("METRIC_ERROR", "infra")
THEIRS = failed("EXIT", "team")


def claimed(ledger: Ledger) -> Job:
    job = ledger.claim("worker")
    assert job is not None
    return job


def events(ledger: Ledger, submission: int) -> list[str]:
    return [f"{run}{kind}" for run, _, kind, *_ in ledger.history(submission)]


# --- teams and attempts ---


def test_a_team_is_known_by_a_name_whatever_its_case(ledger: Ledger) -> None:
    for name in ("ёЖИКИ", " Ёжики ", "ё".upper().replace("Ё", "Е\u0308") + "жики"):
        with pytest.raises(Refused, match="there is a team 'Ёжики' already"):
            ledger.add_team(name)
        assert ledger.team(name).name == "Ёжики"
    with pytest.raises(DataError, match="there is no team 'Лис'"):
        ledger.team("Лис")
    for name in ("", " ", "a\nb", "\u202eabc", "я" * 61):
        with pytest.raises(DataError, match="printable"):
            ledger.add_team(name)


def test_a_team_that_many_add_at_once_is_one(ledger: Ledger) -> None:
    def add(_: int) -> bool:
        try:
            ledger.add_team("Лис")
            return True
        except Refused:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, range(6))) == 1


def test_the_same_zip_is_one_attempt(ledger: Ledger) -> None:
    first, is_new = ledger.submit("Ёжики", archive(1))
    assert is_new and ledger.admit("Ёжики", archive(1).digest) == first
    again = ledger.submit("ёжики", archive(1))
    assert again == (first, False)
    other, is_new = ledger.submit("Кот", archive(1))
    assert is_new and other.id != first.id
    assert ledger.attempts("Ёжики").pending == 1 and ledger.unfinished() == 2
    ledger.finish(claimed(ledger), scored(0.5))
    assert ledger.submit("Ёжики", archive(1)) == (first, False)
    assert (ledger.attempts("Ёжики").valid, ledger.attempts("Ёжики").left) == (1, 2)


def test_only_valid_attempts_count_and_invalid_ones_have_a_cap(ledger: Ledger) -> None:
    enter(ledger, "Ёжики", "valid 1", scored(0.5))
    enter(ledger, "Ёжики", "invalid", THEIRS)
    enter(ledger, "Ёжики", "metric", METRIC)
    cancelled, _ = ledger.submit("Ёжики", archive("cancelled"))
    ledger.cancel(cancelled.id, PUBLIC, "asked for")
    attempts = ledger.attempts("Ёжики")
    assert (attempts.valid, attempts.invalid, attempts.pending, attempts.left) == (1, 1, 0, 2)
    enter(ledger, "Ёжики", "valid 2", scored(0.5))
    enter(ledger, "Ёжики", "valid 3", scored(0.5))
    for call in (lambda: ledger.admit("Ёжики", "0" * 64), lambda: ledger.submit("Ёжики", archive("valid 4"))):
        with pytest.raises(Refused, match=r"no attempt left on 2022-10-03: 3 valid of 3, 1 invalid of 5, 0 not done"):
            call()
    for number in range(5):
        enter(ledger, "Кот", number, THEIRS)
    with pytest.raises(Refused, match="0 valid of 3, 5 invalid of 5"):
        ledger.submit("Кот", archive(5))
    assert {team: attempts.left for team, attempts in ledger.all_attempts().items()} == {"Ёжики": 0, "Кот": 0}


def test_what_is_not_done_yet_holds_its_place(ledger: Ledger) -> None:
    for number in range(3):
        ledger.submit("Ёжики", archive(number))
    with pytest.raises(Refused, match="3 not done yet"):
        ledger.submit("Ёжики", archive(3))
    ledger.finish(claimed(ledger), THEIRS)
    ledger.submit("Ёжики", archive(3))


def test_a_day_ends_at_midnight_in_the_seasons_zone(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2022, 10, 3, 20, 59, 59, tzinfo=UTC)
    for number in range(3):
        enter(ledger, "Ёжики", number, scored(0.5))
    with pytest.raises(Refused):
        ledger.submit("Ёжики", archive(3))
    clock.forward(seconds=1)
    submission, _ = ledger.submit("Ёжики", archive(3))
    assert submission.day == date(2022, 10, 4) and submission.submitted_at == clock.now
    assert ledger.attempts("Ёжики").left == 2


def test_submissions_are_taken_from_the_first_day_to_the_last(ledger: Ledger, clock: Clock) -> None:
    for moment, is_open in (
        (datetime(2022, 9, 30, 20, 59, 59, tzinfo=UTC), False),
        (datetime(2022, 9, 30, 21, 0, tzinfo=UTC), True),
        (datetime(2022, 10, 20, 20, 59, 59, tzinfo=UTC), True),
        (datetime(2022, 10, 20, 21, 0, tzinfo=UTC), False),
    ):
        clock.now = moment
        if is_open:
            ledger.submit("Ёжики", archive(moment))
        else:
            with pytest.raises(Refused, match="taken from 2022-10-01 to 2022-10-20; today is"):
                ledger.submit("Ёжики", archive(moment))


def test_many_at_once_never_exceed_the_attempts(ledger: Ledger) -> None:
    def send(number: int) -> bool:
        try:
            return ledger.submit("Ёжики", archive(number % 6))[1]
        except Refused:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(24))) == 3
    assert ledger.attempts("Ёжики").pending == ledger.unfinished() == 3


# --- runs ---


def test_a_run_goes_forward_and_the_earliest_submission_first(ledger: Ledger, clock: Clock) -> None:
    first, _ = ledger.submit("Ёжики", archive(1))
    second, _ = ledger.submit("Кот", archive(2))
    assert public_state(ledger, first.id) == "queued"
    job = claimed(ledger)
    assert job.submission == first and job.test_set == PUBLIC and public_state(ledger, first.id) == "running"
    assert claimed(ledger).submission == second and ledger.claim("worker") is None
    assert ledger.beat([job]) == {job.run}
    assert ledger.finish(job, scored(0.25)) == scored(0.25)
    assert public_state(ledger, first.id) == "OK" and ledger.finish(job, scored(0.75)) is None
    assert events(ledger, first.id) == ["1queued", "1running", "1done"]
    (result,) = ledger.results(PUBLIC)
    assert (result.team, result.total, result.submitted_at) == ("Ёжики", 0.25, clock.now)
    assert ledger.scores([result]) == {result.run: {5: 0.25}}


def test_nothing_goes_back(ledger: Ledger) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    for kind in schema.STEPS:
        with pytest.raises(EvaluatorError, match=f"run 1 is done, so it cannot become {kind}"):
            with ledger.database.write() as connection:
                append_event(connection, 1, kind, ledger._now(connection), {})


def test_each_run_is_claimed_once(ledger: Ledger) -> None:
    for team in ("Ёжики", "Кот"):
        for number in range(3):
            ledger.submit(team, archive(number))

    def claim(number: int) -> int | None:
        job = ledger.claim(f"worker {number}")
        return job and job.run

    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(claim, range(16)))
    assert sorted(run for run in runs if run is not None) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite has one writer, for whom the others wait
def test_nobody_waits_for_a_row_that_another_looks_at(ledger: Ledger, clock: Clock) -> None:
    for team in ("Ёжики", "Кот", "Ёжики"):
        ledger.submit(team, archive(team + str(ledger.unfinished())))
    lost = claimed(ledger)
    clock.forward(seconds=31)
    with ledger.database.write() as connection:
        locked = sqlalchemy.select(schema.job).where(schema.job.c.run_id <= 2).with_for_update()
        assert len(connection.execute(locked).all()) == 2
        pool = ThreadPoolExecutor(1)
        try:
            job = pool.submit(ledger.claim, "other").result(timeout=300)
        finally:
            pool.shutdown(wait=False)  # should it wait, then for this very transaction
    assert job is not None and job.run == 3 and public_state(ledger, lost.submission.id) == "running"


def test_a_lease_that_runs_out_costs_a_try_and_no_attempt(ledger: Ledger, clock: Clock) -> None:
    submission, _ = ledger.submit("Ёжики", archive(1))
    slow = claimed(ledger)
    clock.forward(seconds=20)
    assert ledger.beat([slow]) == {slow.run}
    clock.forward(seconds=29)
    assert ledger.claim("other") is None
    clock.forward(seconds=2)
    job = claimed(ledger)
    assert job.submission == submission and (job.run, job.failures) == (2, 1)
    assert ledger.beat([slow]) == set() and ledger.finish(slow, scored(0.9)) is None
    assert not ledger.give_back(slow, "late") and ledger.results(PUBLIC) == []
    assert ledger.finish(job, scored(0.5)) is not None
    assert events(ledger, 1) == ["1queued", "1running", "1lost", "2queued", "2running", "2done"]
    assert ledger.attempts("Ёжики").valid == 1


def test_a_run_that_is_always_lost_ends_up_with_a_person(ledger: Ledger, clock: Clock) -> None:
    submission, _ = ledger.submit("Ёжики", archive(1))
    for _ in range(ledger.season.tries):
        claimed(ledger)
        clock.forward(seconds=31)
    assert ledger.claim("worker") is None and ledger.unfinished() == 0
    (state,) = ledger.waiting()
    assert state.name == "lost" and state.is_infrastructure_failure and ledger.attempts("Ёжики").left == 3
    ledger.retry(submission.id, PUBLIC, "the machine is mended")
    ledger.finish(claimed(ledger), scored(0.5))
    assert ledger.waiting() == [] and ledger.attempts("Ёжики").valid == 1


def test_a_run_whose_machine_is_gone_is_tried_again_at_once(ledger: Ledger) -> None:
    submission, _ = ledger.submit("Ёжики", archive("a"))
    job = claimed(ledger)
    assert ledger.is_pending(job.run) and ledger.lose(job, "узел погас") and not ledger.lose(job, "узел погас")
    assert ledger.finish(job, scored(0.5)) is None
    assert events(ledger, submission.id) == ["1queued", "1running", "1lost", "2queued"]
    assert not ledger.is_pending(job.run) and claimed(ledger).failures == 1 and ledger.attempts("Ёжики").pending == 1
    with pytest.raises(DataError, match="there is no run 9"):
        ledger.is_pending(9)


def test_an_infrastructure_failure_is_tried_again_later_and_later(ledger: Ledger, clock: Clock) -> None:
    submission, _ = ledger.submit("Ёжики", archive(1))
    for wait in (60, 120):
        assert ledger.finish(claimed(ledger), INFRA) == INFRA
        clock.forward(seconds=wait - 1)
        assert ledger.claim("worker") is None
        clock.forward(seconds=1)
    ledger.finish(claimed(ledger), INFRA)
    assert ledger.unfinished() == 0 and [state.name for state in ledger.waiting()] == ["INFRA"]
    assert ledger.attempts("Ёжики").left == 3


def test_what_failed_by_the_data_or_the_metric_waits_for_a_person(ledger: Ledger) -> None:
    for content, outcome in enumerate((METRIC, failed("INFRA", "organizer"), failed("METRIC_ERROR", "organizer"))):
        enter(ledger, "Ёжики", content, outcome)
    assert ledger.unfinished() == 0 and len(ledger.waiting()) == 3 and ledger.attempts("Ёжики").left == 3


def test_an_interrupted_run_is_queued_anew_and_is_no_failure(ledger: Ledger) -> None:
    submission, _ = ledger.submit("Ёжики", archive(1))
    for _ in range(5):
        assert ledger.give_back(claimed(ledger), "stopped")
    job = claimed(ledger)
    assert job.failures == 0 and job.submission == submission


def test_retry_and_cancel(ledger: Ledger) -> None:
    submission, _ = ledger.submit("Ёжики", archive(1))
    with pytest.raises(Refused, match="is queued already"):
        ledger.retry(submission.id, PUBLIC, "why")
    with pytest.raises(Refused, match="has no run on the private test set"):
        ledger.retry(submission.id, PRIVATE, "why")
    with pytest.raises(Refused, match="submission 99 has no run"):
        ledger.cancel(99, PUBLIC, "why")
    job = claimed(ledger)
    ledger.cancel(submission.id, PUBLIC, "it hangs")
    assert ledger.beat([job]) == set() and ledger.finish(job, scored(1)) is None
    assert public_state(ledger, submission.id) == "cancelled" and ledger.attempts("Ёжики").left == 3
    with pytest.raises(Refused, match="is not waiting or running: cancelled"):
        ledger.cancel(submission.id, PUBLIC, "again")
    ledger.retry(submission.id, PUBLIC, "it did not")
    ledger.finish(claimed(ledger), THEIRS)
    ledger.retry(submission.id, PUBLIC, "the machine was short of memory")
    ledger.finish(claimed(ledger), scored(0.5))
    with pytest.raises(Refused, match="has its score, which stays"):
        ledger.retry(submission.id, PUBLIC, "a better one")
    details = [event.detail.get("reason") for event in ledger.history(submission.id)]
    assert {"it hangs", "it did not", "the machine was short of memory"} <= set(details)


def test_what_failed_by_no_fault_of_the_teams_can_be_given_up(ledger: Ledger) -> None:
    submission = enter(ledger, "Ёжики", 1, METRIC)
    assert [state.submission.id for state in ledger.waiting()] == [submission]
    ledger.cancel(submission, PUBLIC, "the data cannot be mended")
    assert ledger.waiting() == [] and ledger.claim("worker") is None and ledger.attempts("Ёжики").left == 3
    assert [event.kind for event in ledger.history(submission)][-2:] == ["queued", "cancelled"]
    ledger.retry(submission, PUBLIC, "they were mended")
    ledger.finish(claimed(ledger), scored(0.5))
    assert public_state(ledger, submission) == "OK"
    with pytest.raises(Refused, match="is not waiting or running: OK"):
        ledger.cancel(submission, PUBLIC, "a score stays")


@pytest.mark.parametrize("action", ["retry", "cancel", "finish", "finals"])
def test_of_the_same_things_at_once_one_happens(ledger: Ledger, clock: Clock, action: str) -> None:
    ends = {"retry": [METRIC], "finals": [scored(0.5)]}
    submission = enter(ledger, "Ёжики", 1, *ends.get(action, []))
    job = claimed(ledger) if action == "finish" else None
    calls: dict[str, Callable[[], object]] = {
        "retry": lambda: ledger.retry(submission, PUBLIC, "why"),
        "cancel": lambda: ledger.cancel(submission, PUBLIC, "why"),
        "finals": lambda: ledger.queue_finals() or _refuse(),
        "finish": lambda: (job and ledger.finish(job, scored(0.5))) or _refuse(),
    }
    clock.forward(days=30)

    def call(_: int) -> bool:
        try:
            calls[action]()
            return True
        except Refused:
            return False

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(call, range(6))) == 1
    assert ledger.unfinished() == (action in ("retry", "finals"))


def _refuse() -> None:
    raise Refused("nothing was done")


def test_finishing_and_cancelling_at_once_leaves_one_end(ledger: Ledger, clock: Clock) -> None:
    for number in range(10):
        clock.forward(days=1)
        submission, _ = ledger.submit("Ёжики", archive(number))
        job = claimed(ledger)

        def cancel(submission: int = submission.id) -> bool:
            try:
                ledger.cancel(submission, PUBLIC, "why")
                return True
            except Refused:
                return False

        with ThreadPoolExecutor(2) as pool:
            finished = pool.submit(ledger.finish, job, scored(0.5))
            cancelled = pool.submit(cancel)
            assert (finished.result() is None) == cancelled.result()
        assert public_state(ledger, submission.id) == ("cancelled" if cancelled.result() else "OK")


def test_a_team_takes_back_what_waits_and_nothing_else(ledger: Ledger, clock: Clock) -> None:
    theirs, _ = ledger.submit("Кот", archive("чужая"))
    mine, _ = ledger.submit("Ёжики", archive(1), by="Аня")
    for team, submission in (("Ёжики", theirs.id), ("Ёжики", 99), ("Кот", mine.id)):
        with pytest.raises(Refused) as caught:
            ledger.take_back(team, submission, "Аня")
        assert str(caught.value) == f"submission {submission} is none of team '{team}''s"
    with pytest.raises(Refused, match="there is no team 'Лис'"):
        ledger.take_back("Лис", mine.id)
    ledger.take_back("ёжики", mine.id, "Борис")
    assert public_state(ledger, mine.id) == "cancelled" and ledger.attempts("Ёжики").left == 3
    details = [event.detail for event in ledger.history(mine.id)]
    assert details == [{"by": "Аня"}, {"reason": "taken back by the team", "by": "Борис"}]
    with pytest.raises(Refused, match=f"submission {mine.id} does not wait: cancelled"):
        ledger.take_back("Ёжики", mine.id)
    assert ledger.submit("Ёжики", archive(1)) == (mine, False) and ledger.unfinished() == 1

    job = claimed(ledger)
    with pytest.raises(Refused, match=f"submission {theirs.id} does not wait: running"):
        ledger.take_back("Кот", theirs.id)
    ledger.finish(job, INFRA)
    ledger.take_back("Кот", theirs.id)  # its next try waits
    assert ledger.unfinished() == 0 and ledger.beat([job]) == set()
    gone = enter(ledger, "Кот", 2, METRIC)
    with pytest.raises(Refused, match="does not wait: METRIC_ERROR"):
        ledger.take_back("Кот", gone)
    clock.now = datetime(2022, 10, 23, 12, 0, tzinfo=UTC)
    ledger.queue([gone], PRIVATE, "финал")
    with pytest.raises(Refused, match="does not wait: METRIC_ERROR"):
        ledger.take_back("Кот", gone)
    assert ledger.unfinished() == 1, "what organizers queue on other test sets is theirs to end"


def test_a_team_takes_back_only_so_many_a_day(ledger: Ledger, season: Season, clock: Clock) -> None:
    sent = [ledger.submit("Ёжики", archive(number))[0].id for number in range(2)]
    for number in range(season.invalid_a_day):
        ledger.take_back("Ёжики", sent[-1])
        sent.append(ledger.submit("Ёжики", archive(10 + number))[0].id)
    with pytest.raises(Refused, match="has taken back 5 submissions of 2022-10-03: it may no more"):
        ledger.take_back("Ёжики", sent[0])
    clock.forward(days=1)
    ledger.take_back("Ёжики", ledger.submit("Ёжики", archive(99))[0].id)
    ledger.submit("Кот", archive(1))
    ledger.take_back("Кот", ledger.states("Кот")[0].submission.id)


def test_what_was_taken_back_can_be_sent_again_on_the_same_day(ledger: Ledger, clock: Clock) -> None:
    mine, _ = ledger.submit("Ёжики", archive(1), by="Аня")
    assert not ledger.send_again("Ёжики", mine.id) and ledger.unfinished() == 1, "it waits already"
    ledger.take_back("Ёжики", mine.id)
    assert ledger.send_again("Ёжики", mine.id, "Борис") and public_state(ledger, mine.id) == "queued"
    assert ledger.attempts("Ёжики").pending == 1
    assert ledger.history(mine.id)[-1].detail == {"retry_of": 1, "reason": "sent again by the team", "by": "Борис"}
    ledger.take_back("Ёжики", mine.id)
    others = [ledger.submit("Ёжики", archive(number))[0].id for number in (2, 3, 4)]
    with pytest.raises(Refused, match="has no attempt left"):
        ledger.send_again("Ёжики", mine.id)
    ledger.cancel(others[0], PUBLIC, "сбой", "Судья")
    assert not ledger.send_again("Ёжики", others[0]), "what organizers cancel stays so"
    clock.forward(days=1)
    with pytest.raises(Refused, match=f"as submission {mine.id}, and taken back: it could be sent again on that day"):
        ledger.send_again("Ёжики", mine.id)


def test_taking_back_and_claiming_at_once_leaves_one_of_them(ledger: Ledger, clock: Clock) -> None:
    for number in range(10):
        clock.forward(days=1)
        submission, _ = ledger.submit("Ёжики", archive(number))

        def take_back(submission: int = submission.id) -> bool:
            try:
                ledger.take_back("Ёжики", submission)
                return True
            except Refused:
                return False

        with ThreadPoolExecutor(2) as pool:
            claiming, taken_back = pool.submit(ledger.claim, "worker"), pool.submit(take_back)
            job = claiming.result()
            assert (job is None) == taken_back.result()
        if job is not None:
            ledger.finish(job, THEIRS)
        assert ledger.unfinished() == 0


def test_scores_of_other_data_or_of_too_few_tasks_are_not_taken(ledger: Ledger) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5, "a" * 64))
    submission, _ = ledger.submit("Ёжики", archive(2))
    entered = ledger.finish(claimed(ledger), scored(0.9, "b" * 64))
    assert entered is not None and (entered.verdict, entered.fault) == ("INFRA", "organizer")
    assert "earlier results have aaaa" in entered.detail["findings"][0]["found"]
    ledger.retry(submission.id, PUBLIC, "the data are back")
    entered = ledger.finish(claimed(ledger), RunEnd("OK", None, {4: 0.9}, "a" * 64))
    assert entered is not None and "no score for task 5" in entered.detail["findings"][0]["found"]
    assert [result.total for result in ledger.results(PUBLIC)] == [0.5]


def test_scores_of_other_encoders_are_not_taken_and_tried_again(ledger: Ledger, clock: Clock) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    submission, _ = ledger.submit("Кот", archive(2))
    entered = ledger.finish(claimed(ledger), labelled(0.9, "nano", "без RuWordNet"))
    assert entered is not None and (entered.verdict, entered.fault) == ("INFRA", "infra")
    found = entered.detail["findings"][0]["found"]
    assert "have no labels, this one has the labels nano; без RuWordNet" in found
    assert len(ledger.results(PUBLIC)) == 1 and ledger.attempts("Кот").pending == 1
    clock.forward(seconds=60)
    assert ledger.finish(claimed(ledger), labelled(0.8)) == labelled(0.8)
    assert public_state(ledger, submission.id) == "OK"


def test_a_formula_stays_what_results_were_made_with(ledger: Ledger) -> None:
    path = ledger.season.path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("5 = 1", "5 = 0.5"), encoding="utf-8")
    Ledger(read_season(path), ledger.database)
    enter(ledger, "Ёжики", 1, scored(0.5))
    with pytest.raises(DataError, match=r"gives weights .*0\.5.*, but the public results so far .*1\.0"):
        Ledger(read_season(path), ledger.database)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1.01, -1.01, 1e300])
def test_scores_that_cannot_be_are_an_infrastructure_failure(ledger: Ledger, value: float) -> None:
    """And tried again, like all infrastructure failures; whoever runs the queue goes on."""
    ledger.submit("Ёжики", archive(1))
    entered = ledger.finish(claimed(ledger), scored(value))
    assert entered is not None and (entered.verdict, entered.fault) == ("INFRA", "infra")
    assert f"task 5 has the score {value!r}; a score must be in -1..1" in str(entered.detail)
    assert ledger.results(PUBLIC) == [] and ledger.attempts("Ёжики").valid == 0
    (state,) = ledger.states()
    assert (state.kind, state.failures) == ("queued", 1)


def test_a_total_below_the_formulas_range_is_an_infrastructure_failure(ledger: Ledger) -> None:
    ledger.submit("Ёжики", archive(1))
    entered = ledger.finish(claimed(ledger), scored(-0.6))
    assert entered is not None and "the total -0.6 is not in the formula's range, -0.5..1" in str(entered.detail)
    enter(ledger, "Кот", 2, scored(-0.1))
    assert [result.total for result in ledger.results(PUBLIC)] == [-0.1]


@pytest.mark.parametrize("table", [table.name for table in schema.HISTORY])
def test_history_is_never_rewritten(ledger: Ledger, clock: Clock, table: str) -> None:
    submission = enter(ledger, "Ёжики", 1, scored(0.5))
    ledger.choose("Ёжики", [submission])
    publish(ledger, {submission: 0.25})
    token, _ = Accounts(ledger).make("Ёжики", "Аня", "Судья")
    Accounts(ledger).revoke(token.id, "Судья", "потерян")
    column = {
        "event": "step",
        "score": "value",
        "chosen": "submission_id",
        "result": "total",
        "change": "kind",
        "edition": "best",
        "rescored": "total",
        "rescored_score": "value",
        "token_end": "token_id",
    }.get(table, "id")
    with ledger.database.read() as connection:
        assert connection.exec_driver_sql(f"SELECT COUNT(*) FROM {table}").scalar_one() > 0
    for statement in (f"UPDATE {table} SET {column} = 99", f"DELETE FROM {table}"):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="history is never rewritten"):
            with ledger.database.write() as connection:
                connection.exec_driver_sql(statement)


# --- choices and finals ---


def test_a_choice_is_of_scored_submissions_and_the_last_one_counts(ledger: Ledger, clock: Clock) -> None:
    mine = [enter(ledger, "Ёжики", number, scored(0.1)) for number in range(3)]
    clock.forward(days=1)
    mine += [enter(ledger, "Ёжики", number, scored(0.1)) for number in (3, 4)]
    invalid = enter(ledger, "Ёжики", "bad", THEIRS)
    theirs = enter(ledger, "Кот", 1, scored(0.1))
    for wanted, why in (
        ([], "choose 1 to 3 submissions, not 0"),
        (mine[:4], "choose 1 to 3 submissions, not 4"),
        ([mine[0], theirs], f"submission {theirs} is none of team 'Ёжики'"),
        ([invalid], f"submission {invalid} has no public score: EXIT"),
        ([99], "submission 99 is none of"),
    ):
        with pytest.raises(Refused, match=why):
            ledger.choose("Ёжики", wanted)
    assert ledger.choices() == []
    ledger.choose("Ёжики", mine[:3])
    ledger.choose("Ёжики", [mine[4], mine[1], mine[4]])
    (choice,) = ledger.choices()
    assert (choice.team, choice.submissions) == ("Ёжики", (mine[1], mine[4]))
    clock.now = datetime(2022, 10, 22, 20, 59, 59, tzinfo=UTC)
    ledger.choose("Ёжики", mine[:1])
    clock.forward(seconds=1)
    with pytest.raises(Refused, match="choices were open until 2022-10-22; today is 2022-10-23"):
        ledger.choose("Ёжики", mine[1:2])
    assert ledger.choices()[0].submissions == (mine[0],)


def test_who_sends_and_chooses_is_known(ledger: Ledger) -> None:
    first, _ = ledger.submit("Ёжики", archive(1), by="Аня «ёж», Ёжики")
    ledger.finish(claimed(ledger), scored(0.5))
    ledger.choose("Ёжики", [first.id])
    ledger.choose("Ёжики", [first.id], by="Борис")
    assert ledger.history(first.id)[0].detail == {"by": "Аня «ёж», Ёжики"}
    with ledger.database.read() as connection:
        assert list(connection.execute(sqlalchemy.select(schema.choice.c.by)).scalars()) == [None, "Борис"]
    for call in (
        lambda: ledger.submit("Ёжики", archive(2), by="a\nb"),
        lambda: ledger.choose("Ёжики", [first.id], by=""),
        lambda: ledger.take_back("Ёжики", first.id, by=" "),
    ):
        with pytest.raises(DataError, match="by must be a text of one line"):
            call()
    assert len(ledger.states()) == 1


def test_finals_are_queued_once_after_the_last_day_to_choose(ledger: Ledger, clock: Clock) -> None:
    values = [0.4, 0.1, 0.3, 0.2, 0.5]
    mine = []
    for number, value in enumerate(values):
        mine.append(enter(ledger, "Ёжики", number, scored(value)))
        clock.forward(hours=12)
    theirs = [enter(ledger, "Кот", number, scored(0.1)) for number in range(2)]
    ledger.choose("Кот", theirs[1:])
    with pytest.raises(Refused, match="choices are open until 2022-10-22"):
        ledger.queue_finals()
    clock.now = datetime(2022, 10, 22, 21, 0, tzinfo=UTC)
    assert ledger.queue_finals() == sorted([mine[0], mine[2], mine[4], theirs[1]])
    assert ledger.queue_finals() == []
    job = claimed(ledger)
    assert job.test_set == PRIVATE
    ledger.finish(job, failed("TIMEOUT", "team"))
    assert ledger.queue_finals() == []
    ledger.retry(job.submission.id, PRIVATE, "the disk was slow")
    job = claimed(ledger)
    ledger.finish(job, scored(0.7, "e" * 64))
    assert [result.total for result in ledger.results(PRIVATE)] == [0.7]
    assert ledger.attempts("Ёжики").invalid == 0


def test_what_was_not_committed_is_remembered_by_no_ledger(ledger: Ledger) -> None:
    """A full disk, a database that goes: numbers come again, with something else behind them."""

    def fails(_: object) -> None:
        raise OSError("диск полон")

    said = {"members": ["Аня"], "contact": ""}
    sqlalchemy.event.listen(ledger.database.engine, "commit", fails)
    with pytest.raises(OSError, match="диск полон"):
        ledger.add_team("Призраки", "Судья", "новая", said)
    sqlalchemy.event.remove(ledger.database.engine, "commit", fails)
    # In another process: this one has the numbers alone to see it by.
    Ledger(ledger.season, ledger.database).add_team("Кит 🐋", "Судья", "новая", said)
    assert [team.name for team in ledger.teams()] == ["Ёжики", "Кот", "Кит 🐋"]
