"""The published grammar from its assets, compiled for real: when it is used, when it stands aside, what is refused; and
trees of both grammars."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from evaluator.core.errors import DataError
from evaluator.metrics import assets
from evaluator.metrics.assets import GRAMMAR_LIBRARY, GRAMMAR_SOURCES, LOCK_FILE, build_grammar, load_grammar
from evaluator.metrics.python_grammar import compile_library
from evaluator.metrics.syntax_trees import STAND_IN_LABEL, Node, Tree
from tests.support import grammar


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of its own with the grammar's assets, recorded and compiled."""
    try:
        return shutil.copytree(grammar.folder(), tmp_path / "assets")
    except grammar.GrammarUnavailable as error:
        pytest.skip(f"the published grammar cannot be had: {error}")


def test_without_assets_the_current_grammar_stands_in(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert load_grammar(tmp_path).label == STAND_IN_LABEL
        assert load_grammar(tmp_path / "none").label == STAND_IN_LABEL
    assert caplog.text == ""


def test_an_incomplete_or_changed_set_is_not_used(folder, caplog):
    scanner = folder / GRAMMAR_SOURCES[1].path
    scanner.rename(folder / "aside")
    with caplog.at_level(logging.WARNING):
        assert load_grammar(folder).label == STAND_IN_LABEL
    assert f"the current grammar stands in: {scanner}: is missing" in caplog.text
    scanner.write_text("changed", encoding="utf-8")
    with pytest.raises(DataError, match=r"scanner.cc: has 7 bytes; assets.lock.json records \d+ bytes"):
        load_grammar(folder)


@pytest.mark.slow
def test_a_library_that_is_not_the_recorded_one_is_never_loaded(folder):
    library = folder / GRAMMAR_LIBRARY
    library.write_bytes(b"not what was compiled")
    assert load_grammar(folder).label is None  # compiled anew, for this process
    assert library.read_bytes() == b"not what was compiled"
    build_grammar(folder)
    assert library.read_bytes()[:4] == b"\x7fELF"
    recorded = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))[GRAMMAR_LIBRARY]
    assert recorded["size"] == library.stat().st_size
    before = library.stat().st_mtime_ns
    build_grammar(folder)
    assert library.stat().st_mtime_ns == before
    assert GRAMMAR_LIBRARY not in assets.recorded(folder)  # other machines compile another one


def test_a_compiler_that_is_missing_or_fails_is_named(folder, monkeypatch):
    parser, runtime = folder / GRAMMAR_SOURCES[0].path, folder / assets.GRAMMAR_RUNTIME.path
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(DataError, match="no-such-compiler: no such compiler; .*gcc and g"):
        compile_library(parser, runtime, folder / "other.so")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(DataError, match="false .* ended with 1"):
        compile_library(parser, runtime, folder / "other.so")
    assert not (folder / "other.so").exists()


def shape(node: Node) -> list:
    return [node.type, *map(shape, node.children)]


def same(one: Tree, other: Tree) -> bool:
    return sorted(one.expressions) == sorted(other.expressions)


def test_trees(any_grammar):
    assert shape(any_grammar.parse("pass").root) == ["module", ["pass_statement", ["pass"]]]
    assert shape(any_grammar.parse("").root) == ["module"]
    assert any_grammar.parse("pass").depth == 3
    assert any_grammar.parse("\n\nшёл = 1").root.end == (2, len("шёл = 1".encode()))
    attribute = any_grammar.parse("a.b").root.children[0].children[0]
    assert [child.field for child in attribute.children] == ["object", None, "attribute"]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("x = 1", "yy   =  2", True),  # no names, no literals
        ("x = 1", "x = 'a'", False),
        ("a + b", "a - b", True),  # nor tokens
        ("f(a, b)", "f(a)", False),
        ("x if y else z", "x or y", False),
        ("def f(a=1): pass", "def f(a): pass", False),
        ("# a\nx", "x", False),  # but comments
        ("x = (1", "x = (1)", False),  # the parser's repair
    ],
)
def test_expressions(any_grammar, one, other, alike):
    assert same(any_grammar.parse(one), any_grammar.parse(other)) == alike


def test_a_block_on_the_line_of_its_statement_is_not_one_of_its_own(published):
    """The published grammar gives such a block its name from above, and the published library then prints another."""
    one_line, two_lines = published.parse("if a: x"), published.parse("if a:\n  x")
    assert shape(one_line.root) == shape(two_lines.root)
    assert len(set(one_line.expressions) & set(two_lines.expressions)) == len(one_line.expressions) - 1
