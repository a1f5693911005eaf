"""The documentation is true: its links and anchors, the commands and options that it shows, the files that it names,
and its smallest submission.
"""

import functools
import json
import os
import re
import runpy
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from evaluator.cli.app import main

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "docker", "evaluator", "sample_input", "submission")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])
SMALLEST = ROOT / "docs" / "examples" / "smallest"
RUN_OPTIONS = ("--runner", "local", "--no-report", "--country", "ZZ")
PARTICIPANTS = ("docs/participants.md", "docs/participants.ru.md")

#: What tells of the past names files and commands that are gone.
HISTORY = {ROOT / "CHANGELOG.md"}
#: Where a name in backticks counts from, beside the page's own folder.
BASES = (ROOT, ROOT / "submission")
#: A name that begins so is one of the repository's files or folders.
TOP = tuple(f"{path.name}/" for base in BASES for path in base.iterdir() if path.is_dir())
#: What is made when something runs, and what one is told to add.
MADE = re.compile(r"(submission/)?(output|weights/[^n])|build/|evaluator/assets/(?!nano)|docker/wheels|__pycache__")

_FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
_MODULE = re.compile(r"python3? -m ([\w.]+)")
_CALL = re.compile(r"-m evaluator ((?:[a-z][a-z0-9-]*)(?: (?!https?:)[a-z]+(?:-[a-z]+)*\b(?![./-])){0,2})(.*)")
_PATH = re.compile(r"[\w.{},*-]+(?:/[\w.{},*-]*)+")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", text_of(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: Counter[str] = Counter()
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", prose(page), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found[slug] += 1
    return {f"{slug}-{number}" if number else slug for slug, count in found.items() for number in range(count)}


def commands(page: Path) -> Iterator[str]:
    """Lines of a page's blocks of code, continued ones joined, and its inline code, each cut at a comment."""
    blocks = [body for _, language, body in _FENCE.findall(text_of(page)) if language in ("", "sh", "yaml")]
    indented = re.findall(r"^(?: {4}\S.*\n)+", text_of(page), re.MULTILINE)
    for block in [*blocks, *indented]:
        for line in block.replace("\\\n", " ").splitlines():
            yield line.split(" #")[0].strip()
    yield from _CODE.findall(prose(page))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", prose(page))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{name(page)}: {link}: there is no such file"
        if anchor:
            assert anchor in anchors(target), f"{name(page)}: {link}: there is no such heading in {name(target)}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=name)
def test_make_has_the_targets_that_a_page_names(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+)\s*\??=", text_of(ROOT / "Makefile"), re.MULTILINE)) | {"UV_ARGS", "OFFLINE"}
    for command in commands(page):
        for call in re.findall(r"(?:^|&& )make((?: +[^&|;]+)?)", command):
            for word in re.sub(r"'[^']*'|\"[^\"]*\"", "", call).split():
                variable, equals, _ = word.partition("=")
                known = variables if equals else targets | {"…"}
                assert variable in known, f"{name(page)}: {command}: make knows no {variable}"


def evaluator_calls(page: Path) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Each command of the evaluator's on a page, its one to three words, and what comes after them."""
    for command in commands(page):
        found = _CALL.search(command)
        if found:
            yield command, tuple(found[1].split()), found[2]


# In a process of its own, for the width of its lines, and in one for all of them.
_HELP = """
import contextlib, io, json, sys
from evaluator.cli.app import main
shown = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        failed = main([*words, "--help"])
    shown.append("" if failed else " ".join(text.getvalue().split()))
print(json.dumps(shown))
"""


@functools.cache
def evaluator_help() -> dict[tuple[str, ...], str]:
    """What `python -m evaluator WORDS --help` prints, on one line, for all words on any page; empty where it ends in
    an error.
    """
    wanted = sorted({words for page in PAGES if page not in HISTORY for _, words, _ in evaluator_calls(page)})
    environment = os.environ | {"COLUMNS": "250", "TERMINAL_WIDTH": "250", "NO_COLOR": "1", "TERM": "dumb"}
    call = [sys.executable, "-c", _HELP]
    done = subprocess.run(call, cwd=ROOT, env=environment, input=json.dumps(wanted), stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    return dict(zip(wanted, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=name)
def test_the_evaluator_has_the_commands_and_options_that_a_page_shows(page: Path) -> None:
    for command, words, more in evaluator_calls(page):
        shown = evaluator_help()[words]  # the last may be an argument, and --help goes before it
        assert shown, f"{name(page)}: {command}: `python -m evaluator {' '.join(words)} --help` fails"
        rest = re.split(r"[|;&]", more)[0]
        for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", rest):
            assert re.search(rf"{option}(?![\w-])", shown), f"{name(page)}: {command}: it has no option {option}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=name)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    for command in commands(page):
        for module in _MODULE.findall(command):
            path = module.replace(".", "/")
            ours = (ROOT / path.split("/")[0]).exists() or (ROOT / "submission" / path.split("/")[0]).exists()
            places = [base / f"{path}{end}" for base in BASES for end in (".py", "/__main__.py")]
            assert not ours or any(place.exists() for place in places), f"{name(page)}: {command}: no module {module}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in HISTORY], ids=name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    for code in _CODE.findall(prose(page)):
        for path in _PATH.findall(code) if " " in code else [code]:
            if not path.startswith(TOP) or not _PATH.fullmatch(path) or MADE.search(path):
                continue
            for each in _alternatives(path):
                there = any(list(base.glob(each.rstrip("/"))) for base in (*BASES, page.parent))
                assert there, f"{name(page)}: {each}: there is no such file or folder"


def _alternatives(path: str) -> list[str]:
    """`a.{b,c}` as a.b and a.c."""
    found = re.search(r"\{([^{}]*)\}", path)
    if not found:
        return [path]
    return [
        each
        for middle in found[1].split(",")
        for each in _alternatives(path[: found.start()] + middle + path[found.end() :])
    ]


@pytest.mark.parametrize("pair", [("README.md", "README.ru.md"), PARTICIPANTS], ids=lambda pair: pair[1])
def test_the_russian_page_has_what_the_english_one_has(pair: tuple[str, str]) -> None:
    """As many headings of each depth, table rows, list items and blocks, and the same commands, but for what stands
    behind them.
    """
    english, russian = (ROOT / page for page in pair)
    for shape in (r"^(#+) ", r"^(\|)", r"^(\*) ", r"^(```\w*)"):
        there, here = (re.findall(shape, text_of(page), re.MULTILINE) for page in (english, russian))
        assert there == here, shape
    blocks = ["".join(body for _, _, body in _FENCE.findall(text_of(page))) for page in (english, russian)]
    commands = [[re.sub(r"(?<=\S)  .*| #.*", "", line) for line in block.splitlines()] for block in blocks]
    assert commands[0] == commands[1]


@pytest.mark.parametrize("page", ["README.md", "README.ru.md"])
def test_the_readmes_stay_short(page: str) -> None:
    assert len(text_of(ROOT / page).splitlines()) <= 150


@pytest.mark.parametrize("page", PARTICIPANTS)
def test_the_smallest_submission_is_shown_as_it_is(page: str) -> None:
    blocks = [body for _, _, body in _FENCE.findall(text_of(ROOT / page))]
    assert {path.name for path in SMALLEST.iterdir() if path.is_file()} == {"run.py", "metadata.json"}
    assert text_of(SMALLEST / "run.py") in blocks
    assert text_of(SMALLEST / "metadata.json") in blocks
    assert len(text_of(SMALLEST / "run.py").splitlines()) <= 20


def test_the_smallest_submission_is_packed_checked_and_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """By the commands that the page shows, but for make, which would install packages, and for the run's CO2, which
    eco2AI measures in no country ZZ.
    """
    archive, scores = tmp_path / "smallest.zip", tmp_path / "scores.json"
    for words in (
        ["pack", SMALLEST, archive],
        ["check", archive],
        ["run", archive, "--data", ROOT / "sample_input", *RUN_OPTIONS, "--json", scores],
    ):
        code = main([*map(str, words)])
        assert code == 0, capfd.readouterr()
    with zipfile.ZipFile(archive) as packed:
        assert sorted(packed.namelist()) == ["metadata.json", "run.py"]
    document = json.loads(scores.read_text(encoding="utf-8"))
    assert document["verdict"] == "OK" and len(document["tasks"]) == 12
    assert 0 < document["integral"] < 0.1  # it says "да" to everything


def test_the_smallest_submission_answers_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no image in a question, a text and a picture; else a text alone."""
    asked = {"1": [{"type": "text", "content": "Нарисуй кота"}], "2": [{"type": "image", "content": "images/2.jpg"}]}
    (tmp_path / "input").mkdir()
    (tmp_path / "submission").mkdir()
    (tmp_path / "input" / "input.json").write_text(json.dumps(asked), encoding="utf-8")
    monkeypatch.chdir(tmp_path / "submission")
    runpy.run_path(str(SMALLEST / "run.py"))
    answers = json.loads((tmp_path / "submission/output/predictions.json").read_text(encoding="utf-8"))
    assert {id: [entry["type"] for entry in entries] for id, entries in answers.items()} == {
        "1": ["text", "image"],
        "2": ["text"],
    }
    assert (tmp_path / "submission/output" / answers["1"][1]["content"]).stat().st_size > 0
