"""Help, and what is said to somebody who calls a command wrongly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import evaluator
from evaluator.cli import co2
from evaluator.cli.app import app, main

ROOT = Path(evaluator.__file__).parents[1]
GROUPS = {
    "Run and score": ("run", "score", "compare"),
    "Submissions": ("pack", "check", "shared-parameters", "verify"),
    "Season": ("season", "teams", "submit", "submissions", "changes", "queue", "board", "choose", "prizes", "site"),
    "CO2": ("co2-report", "prize"),
    "Machine": ("doctor",),
}


def test_help_has_the_groups_in_plain_text_wherever_it_is_written() -> None:
    """What commands need is not loaded for it."""
    code = """
import sys
from evaluator.cli.app import main
code = main(["--help"])
print(code, sorted({"torch", "numpy", "pandas", "sqlalchemy", "docker"} & sys.modules.keys()))
"""
    colours = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS")
    environment = {name: value for name, value in os.environ.items() if name not in colours}
    environment |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert done.stdout.isascii() and done.stdout.replace("\n", "").isprintable()
    sections = done.stdout.partition("Options")[2]
    for group, commands in GROUPS.items():
        sections = sections.partition(f" {group} ")[2]
        shown = [line.split()[1] for line in sections.splitlines() if line.startswith("|") and line[2] != " "]
        assert set(commands) <= set(shown)


def commands(command: typer.core.TyperGroup, words: tuple[str, ...] = ()):
    for name, below in command.commands.items():
        if isinstance(below, typer.core.TyperGroup):
            yield from commands(below, (*words, name))
        else:
            yield (*words, name), below


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_command_says_what_it_does_and_takes(words: tuple[str, ...], capsys) -> None:
    command = COMMANDS[words]
    assert command.help and all(option.help for option in command.params)
    assert not any(getattr(option, "secondary_opts", ()) for option in command.params)  # no --no-... of a flag
    assert main([*words, "-h"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for option in command.params for name in option.opts if name.startswith("--"))


RUN = ("run", "submission", "--data", "data")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), ("Missing command",)),
        (("scor", "x"), ("'scor'", "Did you mean 'score'")),
        (("queue",), ("Missing command",)),
        (("queue", "lst"), ("'lst'", "'list'", "There are list, run, logs, retry, cancel, add, finals.")),
        (("score", "output"), ("Missing option '--data'",)),
        (("check",), ("Missing argument 'ZIP'",)),
        (("check", "a", "b"), ("unexpected", "(b)")),
        ((*RUN, "--jsn", "x"), ("--jsn", "--json")),
        ((*RUN, "--json"), ("'--json'", "requires an argument")),
        ((*RUN, "--runner", "dokcer"), ("'--runner'", "'dokcer'", "'auto', 'engine', 'docker', 'local'")),
        ((*RUN, "--timeout", "nan"), ("'--timeout'", "must be a positive number of seconds, not 'nan'")),
        ((*RUN, "--timeout", "soon"), ("'--timeout'", "must be a positive number of seconds, not 'soon'")),
        ((*RUN, "--country", "Russia"), ("'--country'", "two capital letters such as RU, not 'Russia'")),
        ((*RUN, "--table", "t.txt"), ("'--table'", "must end in .csv or .parquet, not 't.txt'")),
        ((*RUN, "--report", "a", "--no-report"), ("--no-report: not allowed with --report",)),
        (("shared-parameters", "s", "--model", "VQA"), ("TASK=PATH, such as VQA=vqa.safetensors, not 'VQA'",)),
        (("shared-parameters", "s", "--share", "25"), ("'--share'", "must be a number in 0..1, not '25'")),
        (("board", "--public", "--private"), ("--private: not allowed with --public",)),
        (("queue", "run", "--workers", "0"), ("'--workers'", "must be 1..1000, not '0'")),
        (("queue", "add", "--set", "x", "--reason", "y"), ("must be numbers of submissions, or --chosen",)),
        (("board", "--private", "--set", "x"), ("--set: not allowed with --private",)),
        (("season", "deadline", "--end", "20.10.2022", "--reason", "y"), ("'--end'", "a day such as 2022-11-13")),
        (("season", "deadline", "--end", "20221020", "--reason", "y"), ("'--end'", "not '20221020'")),
        (("season", "freeze", "--at", "полдень", "--reason", "y"), ("'--at'", "2022-11-13T18:00+03:00")),
        (("runs", "--state", "OK"), ("'--state'", "must be one of queued, running, done, lost,", "not 'OK'")),
        (("submissions", "list", "--state", "good"), ("'--state'", "must be one of queued,", "not 'good'")),
        (("teams", "disqualify", "ёж"), ("Missing option '--reason'",)),
        (("choose", "--team", "ёж", "1", "два"), ("'N'", "must be 1..2147483647, not 'два'")),
        (("prize", "--runs"), ("'--runs'", "requires an argument")),
        (("prize", "--runs=a", "b"), ("unexpected", "(b)")),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: tuple[str, ...], said: tuple[str, ...], capsys) -> None:
    assert main(list(arguments)) == 2
    streams = capsys.readouterr()
    assert not streams.out and streams.err.startswith("usage error: ") and streams.err.count("\n") == 1
    for text in said:
        assert text in streams.err


def test_one_option_may_have_several_values(monkeypatch, tmp_path) -> None:
    seen: list[list[Path]] = []

    def read(paths: list[Path], *_: object) -> None:
        seen.append(paths)
        raise KeyboardInterrupt

    monkeypatch.setattr("evaluator.carbon.prize.read_candidates", read)
    for words in (["a", "b", "--baseline", "0.3"], ["a", "--runs", "b"]):
        assert main(["prize", "--runs", *words]) == 130
    assert seen == [[Path("a"), Path("b")]] * 2
    assert co2._repeated("--runs", ["--json", "x", "--runs", "a", "b", "--json", "y"]) == (
        ["--json", "x", "--runs", "a", "--runs", "b", "--json", "y"]
    )


def test_an_interrupt_is_128_and_the_signals_number(monkeypatch, capsys) -> None:
    for arguments, code in (((), 130), ((15,), 143), ((1,), 129)):

        def interrupted(*_: object, raised: tuple[int, ...] = arguments) -> None:
            raise KeyboardInterrupt(*raised)

        monkeypatch.setattr("evaluator.package.archive.check", interrupted)
        assert main(["check", "none.zip"]) == code
        assert capsys.readouterr().err == "interrupted\n"
