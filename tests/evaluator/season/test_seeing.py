"""What an organizer sees of runs: why, when the next try is, whose worker is dead, what a queue waits for, and a clock
that steps.
"""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from evaluator.core.errors import DataError
from evaluator.season import PRIVATE, PUBLIC, notices, schema
from evaluator.season.clock import ClockWatch, Times, read_times
from evaluator.season.database import Database
from evaluator.season.history import History, Selection, waits_for
from evaluator.season.ledger import Ledger, Refused, RunEnd, reason
from evaluator.season.queue import Queue
from evaluator.season.runs import Host
from evaluator.season.runs import failed as infra_failure
from tests.support.season import NOON, Clock, archive, enter, failed, scored, write_season

NO_ENGINE = infra_failure("no Docker engine answers")


def test_a_run_that_is_queued_again_says_why_and_when(ledger: Ledger, clock: Clock) -> None:
    submission = enter(ledger, "Ёжики", "a", NO_ENGINE)
    (row,) = History(ledger).waiting()
    assert (row.submission, row.state, row.failures) == (submission, "queued", 1)
    assert row.next_try == NOON + timedelta(seconds=60) and row.started_at is None
    assert row.reason == "INFRA: evaluator-failure: no Docker engine answers"
    clock.forward(seconds=60)
    (row,) = History(ledger).waiting()
    assert row.next_try is None
    job = ledger.claim("w:1")
    assert job is not None
    ledger.finish(job, failed("METRIC_ERROR", "infra"))
    (row,) = History(ledger).waiting()
    assert (row.state, row.verdict, row.fault) == ("done", "METRIC_ERROR", "infra")


def test_a_dead_workers_run_is_overdue_until_somebody_looks(ledger: Ledger, clock: Clock) -> None:
    ledger.submit("Ёжики", archive("a"))
    ledger.claim("host:7")
    clock.forward(seconds=30)
    assert History(ledger).waiting()[0].overdue_since is None
    clock.forward(seconds=1)
    (row,) = History(ledger).waiting()
    assert (row.state, row.worker, row.overdue_since) == ("running", "host:7", NOON + timedelta(seconds=30))
    ledger.submit("Кот", archive("b"))
    assert ledger.claim("other:1") is not None  # who looks next takes it for lost
    row = next(row for row in History(ledger).waiting() if row.team == "Ёжики")
    assert (row.failures, row.worker, row.overdue_since) == (1, "other:1", None)
    (again,) = [event for event in History(ledger).events() if (event.run, event.state) == (row.run, "queued")]
    assert again.reason == "lost: worker host:7 was not heard of in time"


def test_all_runs_and_events_can_be_selected(ledger: Ledger, clock: Clock) -> None:
    first = enter(ledger, "Ёжики", "a", NO_ENGINE)
    clock.forward(minutes=5)
    ended = clock.now
    job = ledger.claim("w:1")
    assert job is not None and ledger.finish(job, scored(0.5)) is not None
    clock.forward(minutes=5)
    enter(ledger, "Кот", "b", failed("EXIT", "team"))
    history = History(ledger)
    rows = history.runs()
    named = [(row.run, row.team, row.verdict) for row in rows]
    assert named == [(1, "Ёжики", "INFRA"), (2, "Ёжики", "OK"), (3, "Кот", "EXIT")]
    assert rows[0].fault == "infra" and rows[0].reason == "evaluator-failure: no Docker engine answers"
    assert (rows[1].started_at, rows[1].ended_at, rows[1].failures) == (ended, ended, 1)

    def numbers(**wanted: object) -> list[int]:
        return [row.run for row in history.runs(history.select(**wanted))]  # type: ignore[arg-type]

    assert numbers(team="ёжики") == [1, 2] and numbers(verdict="EXIT") == [3] and numbers(test_set=PRIVATE) == []
    assert numbers(state="done", team="кот") == [3] and numbers(state="queued") == []
    assert numbers(since=datetime(2022, 10, 3, 12, 5)) == [2, 3]  # in Moscow
    assert numbers(since=ended) == [2, 3] and numbers(since=ended + timedelta(seconds=1)) == [3]
    with pytest.raises(Refused, match="there is no team 'Лис'"):
        history.select(team="Лис")

    events = history.events()
    assert [(event.run, event.state) for event in events] == [
        *((1, "queued"), (1, "running"), (1, "done"), (2, "queued"), (2, "running"), (2, "done")),
        *((3, "queued"), (3, "running"), (3, "done")),
    ]
    assert [event.at for event in events] == sorted(event.at for event in events)
    assert history.events(Selection(since=clock.now, state="done"))[0].team == "Кот"
    assert [event.run for event in history.of(first)] == [1, 1, 1, 2, 2, 2]
    with pytest.raises(DataError, match="there is no submission 77"):
        history.of(77)
    document = rows[1].to_json(ledger.season)
    assert document["started_at"] == "2022-10-03T12:05:00+03:00" and document["next_try"] is None


def test_a_reason_is_a_line_of_its_first_finding() -> None:
    finding = {"rule": "file-missing", "where": "input.json", "found": "the file\ndoes not exist"}
    assert reason({"findings": [finding, finding, finding]}) == "input.json: the file does not exist ... and 2 more"
    assert reason({"findings": [finding | {"where": "", "found": "3 of this kind"}]}) == "file-missing: 3 of this kind"
    assert reason({"reason": "команда попросила"}) == "команда попросила" and reason({"worker": "w"}) == ""


def test_what_a_queue_waits_for(ledger: Ledger, clock: Clock) -> None:
    def line(*aside: str) -> str:
        return waits_for(ledger.queued(aside), ledger.season)

    assert line() == "nothing queued"
    enter(ledger, "Ёжики", "a", NO_ENGINE)
    assert line() == "1 run queued for its next try, at 2022-10-03 12:01:00"
    clock.forward(seconds=10)
    enter(ledger, "Кот", "b", NO_ENGINE)
    assert line() == "2 runs queued for their next try, the first at 2022-10-03 12:01:00"
    later = "1 run queued for its next try, at 2022-10-03 12:01:10"
    assert line("Ёжики") == f"{later}; 1 run of teams that are set aside"
    clock.forward(hours=1)
    assert line() == "2 runs queued"
    assert ledger.claim("other:1") is not None
    assert line("Кот") == "nothing queued; others run elsewhere; 1 run of teams that are set aside"


class _NoRoom:
    """Places of which there is none."""

    broken, set_aside = False, frozenset[str]()

    def __init__(self) -> None:
        self.why = "node a rests until 12:30"

    def room(self) -> Host | None:
        return None

    def why_no_room(self) -> str:
        return self.why


def _works(queue: Queue, lines: list[str], wanted: list[str], change: Callable[[], object]) -> None:
    """Let a queue work until it has said these lines; after each of them comes a `change`."""
    thread = threading.Thread(target=queue.run, args=(False,))
    thread.start()
    try:
        for number in range(len(wanted)):
            for _ in range(600):
                if len([said for said in lines if said.startswith("waiting: ")]) > number:
                    break
                thread.join(0.1)
            said = [said for said in lines if said.startswith("waiting: ")]
            assert said[: number + 1] == wanted[: number + 1]
            change()
    finally:
        queue.stop()
        thread.join(60)
    assert not thread.is_alive()


def test_a_queue_says_once_what_it_waits_for(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluator.season.queue.IDLE_SECONDS", 0.05)
    lines: list[str] = []
    places = _NoRoom()

    def change() -> None:
        places.why = "no node is up"

    queue = Queue(ledger, 1, lines.append, runs=places)  # type: ignore[arg-type]
    _works(queue, lines, ["waiting: no room: node a rests until 12:30", "waiting: no room: no node is up"], change)

    lines.clear()
    enter(ledger, "Ёжики", "a", NO_ENGINE)
    other = enter(ledger, "Кот", "b", NO_ENGINE)
    wanted = [
        "waiting: 2 runs queued for their next try, the first at 2022-10-03 12:01:00",
        "waiting: 1 run queued for its next try, at 2022-10-03 12:01:00",
    ]
    changes = iter([lambda: ledger.cancel(other, PUBLIC, "x"), lambda: None])
    _works(Queue(ledger, 1, lines.append), lines, wanted, lambda: next(changes)())


# --- the same ZIP, and names ---


def test_the_same_zip_of_two_teams_and_look_alikes_are_noticed(ledger: Ledger, database: Database) -> None:
    enter(ledger, "Ёжики", "a", scored(0.5))
    enter(ledger, "Ёжики", "b", scored(0.5))
    assert notices.find(ledger) == []
    other, _ = ledger.submit("Кот", archive("a"))
    with database.write() as connection:  # as a season has it that is older than the check of names
        values = {"name": "Koт", "key": "koт", "created_at": NOON}
        connection.execute(schema.team.insert().values(values))
    same, alike = notices.find(ledger)
    assert str(same) == "submission 1 of 'Ёжики'; submission 3 of 'Кот' is the same ZIP"
    assert [one["team"] for one in same.to_json(ledger.season)["submissions"]] == ["Ёжики", "Кот"]
    assert str(alike) == "the teams 'Кот' and 'Koт' have names that look alike"
    assert notices.same_zip(ledger, other) == f"look at this: {same}"
    alone, _ = ledger.submit("Кот", archive("c"))
    assert notices.same_zip(ledger, alone) == ""


# --- clocks ---


def test_a_clock_that_steps_is_said_once(ledger: Ledger, clock: Clock) -> None:
    watch, seconds = ClockWatch(), 0.0

    def forward(by_clock: float, really: float) -> list[str]:
        nonlocal seconds
        clock.forward(seconds=by_clock)
        seconds += really
        return list(watch.look(read_times(ledger), seconds))

    assert forward(0, 0) == [] and read_times(ledger).latest is None
    assert forward(20, 20) == [] and forward(3600, 3590) == []
    enter(ledger, "Ёжики", "a", scored(0.5))
    (line,) = forward(3620, 20)
    assert line.startswith("the season's clock was set forward by 1:00:00, to 2022-10-03 11:00:40 UTC")
    back, behind = forward(-7180, 20)
    assert back.startswith("the season's clock was set back by 2:00:00, to 2022-10-03 09:01:00 UTC")
    assert behind.startswith("the season's clock, 2022-10-03 09:01:00 UTC, is 0:59:20 behind what was entered last")
    assert forward(20, 20) == []  # once
    assert forward(7200, 7200) == [] and forward(20, 20) == []


def test_a_queue_tells_of_a_clock_behind_what_was_entered(ledger: Ledger, clock: Clock) -> None:
    enter(ledger, "Ёжики", "a", scored(0.5))
    clock.forward(days=-1)
    lines: list[str] = []
    assert Queue(ledger, 1, lines.append).run(drain=True)
    (line,) = [line for line in lines if "clock" in line]
    assert "1 day, 0:00:00 behind what was entered last, at 2022-10-03 09:00:00" in line


def test_a_day_is_the_one_of_the_clock_that_all_is_entered_by(ledger: Ledger, clock: Clock) -> None:
    """Forward over midnight in Moscow and back: attempts are of the day that the clock says, whatever came before."""
    clock.now = datetime(2022, 10, 3, 20, 59, tzinfo=UTC)
    ledger.submit("Ёжики", archive("a"))
    clock.forward(minutes=2)
    assert ledger.attempts("Ёжики").left == 3
    ledger.submit("Ёжики", archive("b"))
    clock.forward(minutes=-2)
    assert ledger.attempts("Ёжики").pending == 1
    ledger.submit("Ёжики", archive("c"))
    days = [(state.submission.day.day, state.submission.submitted_at) for state in ledger.states()]
    assert [day for day, _ in days] == [3, 4, 3]
    assert all(at.astimezone(ledger.season.zone).day == day for day, at in days)
    assert ledger.attempts("Ёжики").pending == 2 and ledger.all_attempts()["Ёжики"].pending == 2
    assert ledger.snapshot().attempts["Ёжики"].pending == 2


def test_without_a_clock_of_its_own_a_ledger_has_the_databases(tmp_path, url: str, monkeypatch) -> None:
    """What this machine's clock says does not matter where the database has one."""
    season = write_season(tmp_path / "season", url, start="2000-01-01", end="2090-01-01", choose_until="2090-01-01")
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database)
    ledger.add_team("Ёжики")
    wrong = datetime(2050, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("evaluator.season.config.utc_now", lambda: wrong)
    submission, _ = ledger.submit("Ёжики", archive("a"))
    job = ledger.claim("w:1")
    assert job is not None and ledger.finish(job, RunEnd("EXIT", "team")) is not None
    moments = [submission.submitted_at, *(event.at for event in ledger.history(submission.id)), read_times(ledger).now]
    assert all((moment == wrong) == database.sqlite for moment in moments)
    assert (submission.day.year == 2050) == (ledger.attempts("Ёжики").day.year == 2050) == database.sqlite
    database.engine.dispose()


# --- commands ---


def test_lists_as_text_json_and_table(make_running, make_zip, tmp_path, capsys) -> None:
    from evaluator.cli.app import main

    season = make_running(retry_seconds="3600")

    def call(*words: object) -> tuple[int, str, str]:
        code = main([*map(str, words), "--season", str(season.path)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    call("teams", "add", "Кот")
    assert call("submit", make_zip(), "--team", "Ёжики")[2] == ""
    code, out, err = call("submit", make_zip(), "--team", "Кот")
    same = "submission 1 of 'Ёжики'; submission 2 of 'Кот' is the same ZIP\n"
    assert (code, err) == (0, f"for the organizer: look at this: {same}")
    season.data[PUBLIC].rename(tmp_path / "away")
    database = Database(season.url, season.folder)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if line.startswith("waiting: "):
            queue.stop()

    queue = Queue(Ledger(season, database), 1, say)
    queue.run(drain=False)
    missing = f"data folder {season.data[PUBLIC]} does not exist"
    assert any("ended as INFRA in " in line and missing in line for line in lines)
    assert f"look at this: {same}".strip() in lines
    assert lines[-1] == "waiting: nothing queued"  # an organizer's mistake is not tried again

    code, out, _ = call("queue", "list", "--json", tmp_path / "q.json", "--table", tmp_path / "q.csv")
    assert code == 0 and "data-failure: data folder" in out and "2 infrastructure failures: retry or cancel" in out
    rows = json.loads((tmp_path / "q.json").read_text(encoding="utf-8"))
    assert [(row["team"], row["verdict"]) for row in rows] == [("Ёжики", "INFRA"), ("Кот", "INFRA")]
    assert list(pd.read_csv(tmp_path / "q.csv").columns) == list(rows[0])
    for command in ("runs", "events"):
        code, out, _ = call(command, "--json", "-", "--table", tmp_path / f"{command}.parquet", "--team", "кот")
        rows = json.loads(out)
        assert code == 0 and {row["team"] for row in rows} == {"Кот"}
        assert len(pd.read_parquet(tmp_path / f"{command}.parquet")) == len(rows) == (1 if command == "runs" else 3)
        assert "Кот" in call(command)[1] and "Кот" not in call(command, "--team", "Ёжики")[1]
        assert call(command, "--since", "2089-01-01", "--json", "-")[1] == "[]\n"
        assert call(command, "--team", "Лис")[0] == 4 and call(command, "--set", "x")[0] == 4
    assert call("runs", "--verdict", "infra", "--state", "done", "--set", "public")[1].endswith("2 runs\n")
    code, _, err = call("runs", "--verdict", "GOOD")
    assert code == 2 and "must be one of OK, BAD_ZIP" in err
    assert call("season", "notices")[1] == same
    (case,) = json.loads(call("season", "notices", "--json", "-")[1])
    assert case["kind"] == "same-zip" and len(case["digest"]) == 64
    (machine,) = json.loads(call("season", "machines", "--json", "-", "--table", tmp_path / "m.csv")[1])
    assert machine["runs"] == 2 and machine["machine"] in call("season", "machines")[1]
    assert list(pd.read_csv(tmp_path / "m.csv").columns) == list(machine)

    # Teams see none of it.
    assert call("site", "--out", tmp_path / "site")[0] == 0
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    seen = {path.relative_to(tmp_path / "site").parts[0] for path, text in pages.items() if "data folder" in text}
    assert seen == {"organizer"}
    database.engine.dispose()


def test_times_that_are_not_known_are_behind_nothing() -> None:
    assert Times(NOON, None).behind is None and Times(NOON, NOON + timedelta(seconds=1)).behind is None
    assert Times(NOON, NOON + timedelta(seconds=2)).behind == timedelta(seconds=2)
