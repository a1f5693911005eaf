"""Patterns as gitignore(5) explains them, and none that a path makes slow."""

import itertools
import subprocess

import pytest

from evaluator.package.ignore import Patterns

FOLDERS = ["a", "a/b", "d", "d/a", "d/a/b", "ab.b"]
FILES = ["b", "ab", "a.b", "a/a", "a/b/a", "a/b/b", "d/b", "d/a/b/a", "d/a/a", "*", "a b", "!a", "#a", "[a", "ё.b", "]"]
LINES = [
    "a", "/a", "a/", "*", "?", "*b", "a*", "*.b", "a/b", "a/*", "**/a", "a/**", "a/**/a", "**/b/**", "/*/a", "[ab]",
    "[!a]", "[^a]", "[a-b]", "\\*", "\\!a", "\\#a", "#a", "", "   ", "a ", "a\\ b", "a b", "\\[a", "**", "a**b",
    "*/b", "/", "a//b", "?*?", "[]a]", "[\\]a]", "b/**/", "*\\.b", "ё*",
]  # fmt: skip


def left_out(patterns: Patterns, path: str) -> bool:
    """With the folders above, which a listing asks for first."""
    names = path.split("/")
    above = ["/".join(names[: i + 1]) + "/" for i in range(len(names) - 1)]
    return any(patterns.match(name) for name in [*above, path + "/" * (path in FOLDERS)])


def test_as_git_does(tmp_path):
    """Each pattern alone, and each pair with the second taken back."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for path in FOLDERS:
        (tmp_path / path).mkdir(exist_ok=True)
    for path in FILES:
        (tmp_path / path).touch()
    pairs = [[line] for line in LINES] + [["*", f"!{line}"] for line in LINES if line.strip()]
    for lines in pairs:
        (tmp_path / ".gitignore").write_text("\n".join(lines) + "\n", encoding="utf-8")
        command = ["git", "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"]
        asked = "\0".join(FOLDERS + FILES).encode()
        said = subprocess.run(command, input=asked, capture_output=True).stdout.decode().split("\0")
        for path in FOLDERS + FILES:
            assert left_out(Patterns(lines), path) == (path in said), (lines, path)


@pytest.mark.parametrize("line", ["!", "a\\", "[b-a]", "[[:alpha:]]"])
def test_what_is_no_pattern(line):
    with pytest.raises(ValueError):
        Patterns([line])


@pytest.mark.parametrize(
    "line",
    [
        "*a*a*a*a*a*a*a*a*a*a*a*b", "*" * 200 + "b", "**/" * 50 + "b", "a/**/" * 50 + "b", "?*" * 60 + "b",
        "**a" * 80 + "b", "/*" * 60 + "b",
    ],
)  # fmt: skip
def test_no_pattern_is_slow(line):
    """With backtracking each of these takes years."""
    for path in ("a" * 255, "/".join(["a" * 31] * 64), "a/" * 1000):
        assert not Patterns([line]).match(path)


def test_the_last_that_matches_decides():
    for lines in itertools.permutations(["*.log", "!a.log", "/a.*"]):
        assert Patterns(lines).match("a.log") == (lines[-1] != "!a.log")
