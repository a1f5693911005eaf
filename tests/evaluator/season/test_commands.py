"""The commands, as an organizer calls them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

import evaluator
from evaluator.cli.app import main
from evaluator.season.config import Season
from evaluator.season.store import Store, digest
from tests.support.data import build_data
from tests.support.season import RUN, TASK, TRUTH, write_season

ROOT = Path(evaluator.__file__).parents[1]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Calls a command of a season; returns the exit code and what was printed, errors after the rest."""

    def call(season: Season, *arguments: object) -> tuple[int, str]:
        words = [str(argument) for argument in arguments]
        code = main([*words, "--season", str(season.path)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_a_season_from_the_first_team_to_the_board(make_running, make_zip, call, tmp_path) -> None:
    season = make_running()
    code, text = call(season, "season", "check")
    assert text.count("3 examples of 1 tasks, digest ") == 2
    assert code == 2 and "private examples ask what a public one does" in text
    assert call(season, "teams", "add", "Кот") == (0, "team Кот: added\n")
    code, text = call(season, "submit", make_zip(), "--team", "ёжики")
    assert code == 0 and text.startswith("submission 1: queued; on 20") and "1 not done yet, 99 left" in text
    assert "is queued, and still one attempt" in call(season, "submit", make_zip(name="copy"), "--team", "Ёжики")[1]
    assert call(season, "submit", make_zip("Ёлки"), "--team", "Кот")[0] == 0
    code, text = call(season, "queue", "list")
    assert "2 queued, 0 running, 0 infrastructure failures" in text and "Ёжики  public  queued" in text

    code, text = call(season, "queue", "run", "--drain", "--workers", "2")
    assert code == 0 and text.count("ended as OK in") == 2, text

    code, text = call(season, "board", "--json", tmp_path / "board.json")
    assert code == 0 and text.splitlines()[0] == "Проба: public board"
    lines = json.loads((tmp_path / "board.json").read_text(encoding="utf-8"))["lines"]
    assert [(line["rank"], line["team"], line["total"]) for line in lines] == [
        (1, "Ёжики", 1.0),
        (2, "Кот", pytest.approx(0.4)),
        (None, None, 0.36),
    ]
    assert lines[0]["scores"] == {"5": 1.0} and lines[0]["submission"] == 1
    assert call(season, "choose", "--team", "Кот")[1] == "team Кот: nothing chosen, so its best public ones: 2\n"
    assert call(season, "choose", "--team", "кот", "2") == (0, "team Кот: chosen: 2\n")
    code, text = call(season, "queue", "list", "--submission", "1")
    assert [row.split()[3] for row in text.splitlines()[2:]] == ["queued", "running", "done"]
    code, text = call(season, "teams", "list")
    assert text.splitlines()[2].split() == ["Ёжики", "1", "0", "0", "99"]
    code, text = call(season, "queue", "finals")
    assert code == 4 and "choices are open until 2090-01-01" in text

    # What is kept of a run can be verified, and nothing but scores is in it for a team.
    store = Store(season.folder)
    folder = store.run(1)
    names = {"evaluator.log", "log.txt", "output.zip", "record.json", "report.html", "scores.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert main(["verify", str(folder / "record.json")]) == 0
    assert TRUTH not in (folder / "scores.json").read_text(encoding="utf-8")
    assert digest(store.archive(digest(make_zip()))) == digest(make_zip())

    # The reports that runs write are those that teams get.
    code, text = call(season, "site", "--out", tmp_path / "site")
    assert code == 0 and "10 pages, 2 reports; public/ is for everybody" in text
    (report,) = (tmp_path / "site").glob("teams/*/reports/1.html")
    assert report.read_bytes() == (folder / "report.html").read_bytes()
    assert f" {season.zone.key}, UTC" in report.read_text(encoding="utf-8")
    for path in (tmp_path / "site").rglob("*.html"):
        text = path.read_text(encoding="utf-8").replace(f"{TRUTH}.zip", "")  # as the team called its file
        assert TRUTH not in text


def test_prizes_are_by_the_private_board_and_the_thresholds(make_running, make_zip, call) -> None:
    season = make_running(start="2020-01-01", end="2090-01-01", choose_until="2090-01-01")
    for name in ("Кот", "Пёс"):
        call(season, "teams", "add", name)
    answers = {"Ёжики": TRUTH, "Кот": "Ёлки", "Пёс": "Щ"}
    for team, answer in answers.items():
        assert call(season, "submit", make_zip(answer), "--team", team)[0] == 0
    assert call(season, "queue", "run", "--drain", "--workers", "2")[0] == 0
    text = season.path.read_text(encoding="utf-8")
    for key in ("end", "choose_until"):
        text = text.replace(f"{key} = 2090-01-01", f"{key} = 2021-01-01")
    season.path.write_text(text + "\n[thresholds]\n5 = 0.5\n", encoding="utf-8")
    code, shown = call(season, "submit", make_zip("x"), "--team", "Кот")
    assert code == 4 and "submissions are taken from 2020-01-01 to 2021-01-01" in shown
    assert call(season, "queue", "finals") == (0, "3 private runs queued\n")
    assert call(season, "queue", "run", "--drain", "--workers", "2")[0] == 0
    code, shown = call(season, "board", "--private")
    rows = [row.split() for row in shown.splitlines()[3:]]
    assert [row[:3] for row in rows] == [
        ["1", "Ёжики", "1.0000"],
        ["2", "Кот", "0.4000"],
        ["(baseline)", "0.3600", "0.36"],
        ["3", "Пёс", "0.0000"],
    ]
    code, shown = call(season, "prizes")
    rows = [row.split() for row in shown.splitlines()[3:6]]
    assert code == 0 and [row[:4] for row in rows] == [
        ["1", "Ёжики", "1.0000", "yes"],
        ["2", "Кот", "0.4000", "no"],
        ["3", "Пёс", "0.0000", "no"],
    ]
    assert rows[1][4:] == ["TRitW", "0.4000", "<", "0.5"]
    assert "out: sent no emission.csv" in shown and shown.splitlines()[-1] == "The most sustainable solution: none"


def test_a_faulty_zip_is_told_at_once_and_leaves_nothing(make_running, call, tmp_path) -> None:
    season = make_running()
    (tmp_path / "s.zip").write_bytes(b"no ZIP")
    code, text = call(season, "submit", tmp_path / "s.zip", "--team", "Ёжики")
    assert code == 1 and "verdict: BAD_ZIP" in text
    assert not (season.folder / "submissions").exists()
    assert "1 not done" not in call(season, "teams", "list")[1]


def test_wrong_calls_are_the_callers_fault(make_running, make_zip, call, tmp_path) -> None:
    season = make_running()
    for arguments, why in (
        (("submit", tmp_path / "none.zip", "--team", "Ёжики"), "cannot be read: No such file"),
        (("teams", "add", "\u200b"), "must be 1..60 printable characters"),
        (("queue", "logs", "77"), "there is no run 77"),
    ):
        code, text = call(season, *arguments)
        assert (code, text.count("\n")) == (2, 1) and text.startswith("data error: ") and why in text
    code, text = call(season, "queue", "cancel", "7")
    assert code == 2 and text.startswith("usage error: Missing option '--reason'")


def test_what_the_rules_do_not_allow_is_refused_with_a_code_of_its_own(make_running, make_zip, call) -> None:
    season = make_running(valid_a_day="1")
    assert call(season, "submit", make_zip(), "--team", "Ёжики")[0] == 0
    for arguments, why in (
        (("submit", make_zip("x"), "--team", "Ёжики"), "has no attempt left on"),
        (("submit", make_zip(), "--team", "Лис"), "there is no team 'Лис'"),
        (("choose", "--team", "\udcff"), "there is no team"),
        (("choose", "--team", "Ёжики", "7"), "submission 7 is none of team 'Ёжики'"),
        (("choose", "--team", "Ёжики", "1"), "submission 1 has no public score: queued"),
        (("queue", "retry", "7", "--reason", "x"), "submission 7 has no run"),
        (("queue", "retry", "1", "--reason", "x"), "submission 1 (public) is queued already"),
        (("queue", "finals"), "choices are open until"),
        (("site", "--out", season.folder / "site", "--private"), "choices are open until"),
        (("teams", "add", "ёжики"), "there is a team 'Ёжики' already"),
    ):
        code, text = call(season, *arguments)
        assert (code, text.count("\n")) == (4, 1) and text.startswith("refused: ") and why in text
    text = season.path.read_text(encoding="utf-8")
    season.path.write_text(text.replace("2090-01-01", "2021-01-01"), encoding="utf-8")
    code, text = call(season, "choose", "--team", "Ёжики", "1")
    assert code == 4 and text.startswith("refused: choices were open until 2021-01-01")


def test_what_was_killed_while_copying_is_removed_and_what_is_there_stays(tmp_path) -> None:
    (tmp_path / "s.zip").write_bytes(b"12345" * 10**6)
    store, sent = Store(tmp_path / "season"), digest(tmp_path / "s.zip")
    code = f"""
import os, signal, pathlib
from evaluator.season import store
store._CHUNK = 10**6
read = store.hashlib.sha256().__class__
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
store.os.fsync = die
store.Store(pathlib.Path({str(tmp_path / "season")!r})).add(pathlib.Path({str(tmp_path / "s.zip")!r}), {sent!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert killed.returncode == -9
    (left,) = (tmp_path / "season" / "submissions").iterdir()
    assert left.name.startswith("incoming-")
    store.add(tmp_path / "s.zip", sent)
    assert list((tmp_path / "season" / "submissions").iterdir()) == [store.archive(sent)]
    before = store.archive(sent).stat()
    store.add(tmp_path / "s.zip", sent)
    assert store.archive(sent).stat().st_mtime_ns == before.st_mtime_ns and digest(store.archive(sent)) == sent


def test_what_cannot_be_written_in_the_end_is_named(make_running, call, tmp_path) -> None:
    """Of a name that is not too long itself, and is with what it is called while it is written."""
    season, long = make_running(), "ё" * 122
    for option, path in (("--json", tmp_path / f"{long}.json"), ("--table", tmp_path / f"{long}.csv")):
        code, text = call(season, "teams", "list", option, path)
        assert code == 2 and f"data error: {option} {path}: cannot be written: File name too long" in text
    assert list(tmp_path.glob("*ё*")) == []


def test_a_run_that_is_not_there_is_one_that_no_list_has(make_running, call) -> None:
    code, text = call(make_running(), "queue", "logs", "99")
    assert (code, text) == (2, "data error: there is no run 99; `python -m evaluator runs` names them\n")


def test_other_commands_do_without_the_seasons_packages(tmp_path) -> None:
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("sqlalchemy", "alembic", "psycopg"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from evaluator.cli.app import main
print(main(["check", "none.zip"]), main(["teams", "list"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "2 2\n"
    assert "a season needs the package sqlalchemy: `make season-tools`, or `pip install" in done.stderr


def test_the_benchmark_runs() -> None:
    command = [sys.executable, "-m", "evaluator.tools.bench_season"]
    command += ["--submissions", "60", "--teams", "7", "--cycles", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    document = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and document["submissions"] == 60 and document["seconds"]["private_board"] > 0


def test_the_benchmark_of_runs_counts_what_is_beyond_the_submission(tmp_path) -> None:
    build_data(tmp_path / "data", (TASK,))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "run.py").write_text(RUN % TRUTH, encoding="utf-8")
    metadata = {"image": "a/b:1", "entrypoint": "python3 -S run.py"}
    (tmp_path / "s" / "metadata.json").write_text(json.dumps(metadata))
    command = [sys.executable, "-m", "evaluator.tools.bench_runs", "--runs", "1", "--padding", "1000000"]
    options = ["--submission", tmp_path / "s", "--data", tmp_path / "data", "--task", str(TASK)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    document = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0 and document["archive_bytes"] > 10**6
    seconds = document["seconds"]
    assert 0 < seconds["submission"] < seconds["total"] and seconds["beyond"] > 0


def test_a_cancelled_zip_that_is_sent_again_is_told_to_wait_for_nothing(make_running, make_zip, call) -> None:
    season = make_running()
    assert call(season, "submit", make_zip(), "--team", "Ёжики")[0] == 0
    assert call(season, "queue", "cancel", "1", "--reason", "ошибка")[0] == 0
    code, text = call(season, "submit", make_zip(name="copy"), "--team", "Ёжики")
    assert code == 0 and "it is cancelled, which costs no attempt; only the organizers can `queue retry` it" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("board", "--json", "."), "--json . is a folder"),
        (("prizes", "--json", "season.toml/x.json"), "--json season.toml/x.json: its folder cannot be made"),
        (("queue", "logs", "77"), "there is no run 77"),
    ],
)
def test_a_fault_of_a_call_is_told_in_a_line(make_running, call, monkeypatch, arguments, message) -> None:
    season = make_running()
    monkeypatch.chdir(season.folder)
    code, text = call(season, *arguments)
    assert code == 2 and message in text and "Traceback" not in text


def test_a_teams_name_may_come_with_other_spaces(make_running, call) -> None:
    season = make_running()
    assert call(season, "teams", "add", "Красная лиса")[0] == 0
    assert call(season, "choose", "--team", "красная\u00a0лиса\n")[0] == 0


def test_numbers_that_no_database_has(make_running, call) -> None:
    season = make_running()
    for number in ("9" * 20, "0", "x"):
        code, text = call(season, "queue", "retry", number, "--reason", "x")
        assert code == 2 and "Invalid value for 'N': must be 1..2147483647, not" in text


def test_what_programs_read_has_one_name_and_the_moment_of_the_season(make_running, make_zip, call, tmp_path) -> None:
    season = make_running()
    path = tmp_path / "sent.json"

    def read(*command: object) -> dict[str, object]:
        assert call(season, *command, "--json", path)[0] == 0
        found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
        return found

    sent = read("submit", make_zip(), "--team", "ёжики")
    assert (sent["submission"], sent["team"], sent["is_new"], sent["state"]) == (1, "Ёжики", True, "queued")
    moment = datetime.fromisoformat(str(sent["submitted_at"]))
    assert moment.utcoffset() == moment.astimezone(season.zone).utcoffset()
    assert not read("submit", make_zip(), "--team", "Ёжики")["is_new"]
    assert call(season, "queue", "run", "--drain")[0] == 0
    assert read("choose", "--team", "Ёжики", 1) == {"team": "Ёжики", "chosen": True, "submissions": [1]}
    assert read("season", "migrate").keys() == {"database"}
    assert read("site", "--out", tmp_path / "site")["reports"] == 1
    # One name, and one moment, wherever a submission is told of.
    board = json.loads(call(season, "board", "--json", "-")[1])
    listed = json.loads(call(season, "submissions", "list", "--json", "-")[1])
    assert board["lines"][0]["submitted_at"] == listed[0]["submitted_at"] == sent["submitted_at"]
    # The baseline has no rank and no submission, which makes no number of the others a fraction.
    assert call(season, "board", "--table", tmp_path / "board.csv")[0] == 0
    assert (tmp_path / "board.csv").read_text(encoding="utf-8").splitlines()[1].startswith('1,"Ёжики",1.0,1,"')
    for command, first in (
        (("queue", "list"), "run"),
        (("runs", "--verdict", "oom"), "run"),
        (("events", "--since", "2089-01-01T00:00+03:00"), "at"),
        (("submissions", "list", "--state", "oom"), "submission"),
        (("changes", "list"), "id"),
        (("season", "notices"), "kind"),
    ):
        assert call(season, *command, "--table", tmp_path / "none.csv")[0] == 0
        (line,) = (tmp_path / "none.csv").read_text(encoding="utf-8").splitlines()
        assert line.startswith(f'"{first}",'), "a table without rows has its columns"


def test_what_is_not_there_is_refused_by_all_alike_and_a_call_that_says_nothing_is_wrong_usage(
    make_running, call
) -> None:
    season = make_running()
    for command in (
        ("board", "--set", "publik"),
        ("runs", "--set", "publik"),
        ("queue", "add", "--chosen", "--set", "publik", "--reason", "x"),
        ("season", "rescore", "--test-set", "publik", "--reason", "x"),
    ):
        code, text = call(season, *command)
        assert code == 4 and text.startswith("refused: test set 'publik': must be one of "), command
    for command in (("queue", "list", "--submission", 9), ("submissions", "withdraw", 9, "--reason", "x")):
        assert call(season, *command) == (4, "refused: there is no submission 9\n")
    code, text = call(season, "season", "rescore", "--reason", "x")
    assert code == 2 and "say which test set is to be scored again" in text
    code, text = call(season, "season", "rescore", "--weight", "5=1", "--reason", "x")
    assert code == 4 and "the formula has these weights already" in text


def test_a_reader_that_ends_early_is_no_fault_of_the_evaluators(make_running) -> None:
    season = make_running()
    command = [sys.executable, "-m", "evaluator", "board", "--json", "-", "--season", str(season.path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_the_table_of_no_team_can_be_filled_and_imported(tmp_path, call) -> None:
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3")
    assert call(season, "season", "migrate")[0] == 0
    path = tmp_path / "teams.csv"
    assert call(season, "teams", "export", path) == (0, f"{path}: 0 teams\n")
    columns = path.read_text(encoding="utf-8")
    path.write_text(columns + "Ёжики,,,,,,\n", encoding="utf-8")
    assert call(season, "teams", "import", path, "--reason", "x") == (0, "1 teams added, 0 changed\n")
    assert call(season, "teams", "export", path)[0] == 0
    assert path.read_text(encoding="utf-8").startswith(columns), "a team's are these"
