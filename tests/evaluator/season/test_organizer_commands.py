"""What an organizer types to change a season, on both databases: what is printed and written, and what is refused."""

import getpass
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evaluator.cli.app import main
from evaluator.core.verdict import REFUSED_EXIT_CODE
from evaluator.season.ledger import Ledger
from tests.support.data import build_data
from tests.support.season import TASK, Clock, enter, failed, publish, scored

WHY = ("--reason", "жюри решило")


@pytest.fixture
def call(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls a command, which succeeds, or else ends with `code`; returns what it printed."""

    def call(*arguments: object, code: int = 0) -> str:
        found = main([*map(str, arguments), "--season", str(ledger.season.path)])
        printed = capsys.readouterr()
        assert found == code, printed.err
        return printed.out if code == 0 else printed.err

    return call


@pytest.fixture
def given(call: Callable[..., str]) -> Callable[..., Any]:
    """The JSON that a command prints."""
    return lambda *arguments: json.loads(call(*arguments, "--json", "-"))


def test_a_change_says_what_is_in_force_and_who_did_it(
    ledger: Ledger, call: Callable[..., str], given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEASON_BY", raising=False)
    text = call("teams", "rename", "Кот", "Барсик", *WHY)
    assert text.splitlines()[0] == "change 1: 'Кот': renamed to 'Барсик'"
    assert text.splitlines()[1].startswith("team Барсик: competes; ")
    monkeypatch.setenv("SEASON_BY", "Аня")
    document = given("teams", "disqualify", "Барсик", *WHY)
    assert document["change"]["kind"] == "disqualified" and document["in_force"]["team"]["status"] == "disqualified"
    assert (document["change"]["by"], document["change"]["reason"]) == ("Аня", "жюри решило")
    call("teams", "reinstate", "Барсик", *WHY, "--by", "Борис")
    assert [change.by for change in ledger.changes()] == [getpass.getuser(), "Аня", "Борис"]
    rows = given("changes", "list")
    assert [row["in_force"] for row in rows] == [True, False, True] and rows[1]["undone_by"] == 3
    text = call("changes", "list")
    assert "undone by 3" in text and "'Барсик': disqualified" in text and text.count("жюри решило") == 3


def test_a_user_without_a_name_says_who_it_is(
    ledger: Ledger, call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEASON_BY", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert "--by: must say who does it" in call("teams", "remove", "Кот", *WHY, code=2)
    call("teams", "remove", "Кот", *WHY, "--by", "Аня")


def test_each_command_about_teams(
    ledger: Ledger, call: Callable[..., str], given: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("Лис", "Сом"):
        assert given("teams", "add", name)["team"] == name
    call("teams", "members", "Кот", "--member", "Анна", "--member", "Иван", "--contact", "@cat", *WHY)
    call("teams", "extend", "Кот", "--attempts", "2", "--until", "2022-10-21", *WHY)
    call("teams", "out-of-competition", "Ёжики", *WHY)
    call("teams", "remove", "Лис", *WHY)
    call("teams", "merge", "Сом", "--into", "Кот", *WHY)
    rows = {row["team"]: row for row in given("teams", "list")}
    assert (rows["Кот"]["members"], rows["Кот"]["contact"], rows["Кот"]["until"]) == (
        "Анна, Иван",
        "@cat",
        "2022-10-21",
    )
    statuses = {team: row["status"] for team, row in rows.items()}
    assert statuses == {"Ёжики": "out of competition", "Кот": "", "Лис": "removed", "Сом": ""}
    assert rows["Сом"]["merged_into"] == "Кот" and rows["Лис"]["left"] == 0
    text = call("teams", "list", "--table", tmp_path / "teams.csv")
    assert "merged into Кот" in text and "until 2022-10-21" in text
    assert list(pd.read_csv(tmp_path / "teams.csv")["team"]) == list(rows)
    for name in ("out.csv", "out.parquet"):
        assert "4 teams" in call("teams", "export", tmp_path / name)
    assert call("teams", "import", tmp_path / "out.csv", *WHY) == "0 teams added, 0 changed\n"
    (tmp_path / "in.csv").write_text("team,contact\nРак,\nКот,@new\n", encoding="utf-8")
    assert given("teams", "import", tmp_path / "in.csv", *WHY) == {"added": 1, "changed": 1}
    assert pd.read_parquet(tmp_path / "out.parquet")["contact"].tolist() == ["", "@cat", "", ""]


def test_each_command_about_submissions(
    ledger: Ledger, call: Callable[..., str], given: Callable[..., Any], tmp_path: Path
) -> None:
    enter(ledger, "Ёжики", 1, scored(0.5))
    enter(ledger, "Кот", 1, failed("EXIT", "team"))
    (row,) = given("submissions", "list", "--team", "ёжики")
    assert (row["public"], row["public_total"], row["day"], row["withdrawn"]) == ("OK", 0.5, "2022-10-03", False)
    assert len(row["digest"]) == 64 and row["submitted_at"] == "2022-10-03T12:00:00+03:00"
    assert [row["submission"] for row in given("submissions", "list", "--state", "EXIT")] == [2]
    assert given("submissions", "list", "--day", "2022-10-04") == []
    document = given("submissions", "withdraw", "1", *WHY)
    assert document["in_force"]["submission"]["withdrawn"] is True
    assert document["in_force"]["submission"]["public_total"] is None
    text = call("submissions", "list", "--withdrawn", "--table", tmp_path / "s.parquet")
    assert "withdrawn" in text and "Кот" not in text
    assert pd.read_parquet(tmp_path / "s.parquet")["submission"].tolist() == [1]
    assert "0.5000" in call("submissions", "restore", "1", *WHY)
    assert "2022-10-02" in call("submissions", "redate", "1", "2022-10-02", *WHY)
    call("changes", "undo", "3", *WHY)
    assert given("submissions", "list")[0]["day"] == "2022-10-03"


def test_deadlines_attempts_and_the_frozen_board(
    ledger: Ledger, call: Callable[..., str], given: Callable[..., Any]
) -> None:
    document = given("season", "deadline", "--end", "2022-10-21", "--choose-until", "2022-10-25", *WHY)
    assert document["in_force"]["rules"] == {
        "start": "2022-10-01",
        "end": "2022-10-21",
        "choose_until": "2022-10-25",
        "valid_a_day": 3,
        "invalid_a_day": 5,
        "chosen": 3,
    }
    text = call("season", "attempts", "--valid-a-day", "7", "--invalid-a-day", "9", "--chosen", "2", *WHY)
    assert "a day 7 valid and 9 invalid attempts; 2 are chosen" in text
    assert "2022-10-01 to 2022-10-20, choices until 2022-10-22" in call("changes", "undo", "1", *WHY)
    enter(ledger, "Ёжики", 1, scored(0.5))
    # 10:00 of the season's Moscow is 07:00 in UTC, and the result came at 09:00 in UTC.
    for moment, shown in (("2022-10-03T10:00", 0), ("2022-10-03T10:00Z", 1)):
        assert "frozen as of 2022-10-03 1" in call("season", "freeze", "--at", moment, *WHY)
        board = given("board")
        assert sum(line["rank"] is not None for line in board["lines"]) == shown
        assert given("board", "--live")["frozen_at"] is None and "Ёжики" in call("board", "--live")
        assert board["frozen_at"] is not None and "\nfrozen: as it was at 2022-10-03 1" in call("board")
        assert "the public board is not frozen" in call("season", "unfreeze", *WHY)
    assert "frozen" not in call("board")


def test_announcements_and_who_may_see_the_private_board(
    ledger: Ledger, call: Callable[..., str], given: Callable[..., Any]
) -> None:
    text = call("season", "announce", "Сервер чинят", *WHY, "--by", "Аня")
    assert text.splitlines()[0] == "change 1: announced: Сервер чинят" and text.endswith("  Сервер чинят\n")
    (said,) = given("season", "announce", "Починили «🦔»", *WHY)["in_force"]["announcements"][1:]
    assert (said["change"], said["text"]) == (2, "Починили «🦔»") and said["at"].endswith("+03:00")
    assert given("changes", "undo", "1", *WHY)["in_force"]["announcements"] == [said]
    assert call("changes", "undo", "2", *WHY).endswith("\nnothing is announced\n")
    assert given("season", "show-private", *WHY)["in_force"]["private_shown"] is True  # long after the last day
    assert "the public board is not frozen; the private one is not shown" in call("season", "hide-private", *WHY)
    assert [row["what"] for row in given("changes", "list")][-2:] == ["private board shown", "undoes change 5"]


def test_test_sets_their_runs_and_boards(
    ledger: Ledger, clock: Clock, call: Callable[..., str], given: Callable[..., Any]
) -> None:
    build_data(ledger.season.folder / "data" / "final", (TASK,))
    enter(ledger, "Ёжики", 1, scored(0.5))
    folder = ledger.season.folder / "data" / "final"
    assert "финал" in call("season", "test-set", "add", "финал", "--data", folder, *WHY)
    assert ledger.changes()[0].detail == {"data": {"финал": "data/final"}}, "relative: the season may move"
    assert given("queue", "add", "1", "--set", "финал", *WHY) == {"test_set": "финал", "queued": [1]}
    assert call("queue", "add", "--chosen", "--set", "финал", *WHY).startswith("queued on финал: none")
    assert given("queue", "cancel", "1", "--set", "финал", *WHY)["state"] == "cancelled"
    assert "queued" in call("queue", "retry", "1", "--set", "финал", *WHY, "--by", "Аня")
    assert ledger.history(1)[-1].detail["by"] == "Аня"
    clock.now = datetime.now(UTC)  # as commands know the time
    job = ledger.claim("worker")
    assert job is not None
    ledger.finish(job, scored(0.4))
    assert [line["total"] for line in given("board", "--set", "финал")["lines"] if line["team"]] == [0.4]
    rows = given("season", "test-set", "list")
    assert {row["test_set"]: row["results"] for row in rows} == {"public": 1, "private": 0, "финал": 1}
    assert "финал" not in call("season", "test-set", "withdraw", "финал", *WHY).partition("\n")[2]
    said = call("board", "--set", "финал", code=REFUSED_EXIT_CODE)
    assert "test set 'финал': must be one of public, private" in said


def test_a_board_says_what_its_results_are(ledger: Ledger, call: Callable[..., str], tmp_path: Path) -> None:
    mine, theirs = enter(ledger, "Ёжики", 1, scored(0.5)), enter(ledger, "Кот", 1, scored(0.4))
    call("teams", "out-of-competition", "Ёжики", *WHY)
    publish(ledger, {mine: 0.6}, labels=["encoders: nano, not comparable"])
    text = call("board", "--table", tmp_path / "board.csv")
    assert "1 more results wait to be scored again" in text and "encoders: nano, not comparable" in text
    assert "Ёжики (out of competition)" in text and "Кот" not in text
    assert pd.read_csv(tmp_path / "board.csv")["team"].tolist() == ["Ёжики", "(baseline)"]
    publish(ledger, {mine: 0.6, theirs: 0.3}, labels=["encoders: nano, not comparable"])
    assert "wait to be scored again" not in call("board")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("teams", "rename", "Лис", "Кот"), REFUSED_EXIT_CODE, "there is no team 'Лис'"),
        (("teams", "rename", "Ёжики", "Koт"), REFUSED_EXIT_CODE, "looks like the team 'Кот'"),
        (("teams", "extend", "Кот"), 2, "say until which day, or by how many attempts"),
        (("teams", "members", "Кот"), 2, "say who its members are, or how to reach it"),
        (("teams", "reinstate", "Кот"), REFUSED_EXIT_CODE, "team 'Кот' competes"),
        (("teams", "import", "none.csv"), 2, "none.csv cannot be read"),
        (("submissions", "withdraw", "9"), REFUSED_EXIT_CODE, "there is no submission 9"),
        (("submissions", "redate", "1", "вчера"), 2, "must be a day such as 2022-11-13, not 'вчера'"),
        (("season", "deadline"), 2, "say what is to be changed"),
        (("season", "deadline", "--end", "2022-09-01"), REFUSED_EXIT_CODE, "end must be a day not before start"),
        (("season", "attempts", "--chosen", "0"), 2, "must be 1..1000, not '0'"),
        (("season", "hide-private"), REFUSED_EXIT_CODE, "the private board is not shown"),
        (("season", "announce", "две\nстроки"), 2, "must be a text of one line"),
        (("season", "unfreeze"), REFUSED_EXIT_CODE, "the public board is not frozen"),
        (("season", "test-set", "withdraw", "public"), REFUSED_EXIT_CODE, "must be one that was added"),
        (("changes", "undo", "9"), REFUSED_EXIT_CODE, "there is no change 9"),
        (("queue", "retry", "1", "--set", "финал"), REFUSED_EXIT_CODE, "test set 'финал': must be one of public"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    ledger: Ledger, call: Callable[..., str], arguments: tuple[str, ...], code: int, why: str
) -> None:
    said = call(*arguments, *WHY, code=code)
    assert why in said and said.count("\n") == 1 and ledger.changes() == []
