"""The published grammar of Python where GitHub, which has its source, cannot be reached: release 0.16.1 with the one
change of the commit after it, which binds subscripts as tightly as calls.

The release comes from the npm registry and the runtime from PyPI, both into the cache folder. The change is made in the
release's parse table: at 24 of its states, behind an operator's right side, a `[` ended the operation where a `(` went
on with it, and now goes on as well. Every vector of `tests/data/fbc1` is met with it, and without it all but two.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from evaluator.metrics import assets
from tests.support.engine import CACHE, lock

RELEASE = "tree-sitter-python-0.16.1.tgz"
RELEASE_SHA256 = "97b307c0b927d2928eab2ead184d16afe626be4f2feec73425ae00e193efc3a4"
STATES_CHANGED = 24
OPEN, SUBSCRIPT = "anon_sym_LPAREN", "anon_sym_LBRACK"


class GrammarUnavailable(Exception):
    """A registry cannot be reached, or has something else."""


def folder() -> Path:
    """A folder of assets with the grammar, recorded and compiled. Raises `GrammarUnavailable`."""
    place = CACHE / "grammar-0.16.1"
    with lock("grammar"):
        if not (place / assets.GRAMMAR_LIBRARY).exists():
            with tempfile.TemporaryDirectory() as downloads:
                _write_sources(place, Path(downloads))
            assets.fetch(place, assets.GRAMMAR)
        assets.build_grammar(place)
    return place


def _write_sources(place: Path, downloads: Path) -> None:
    _run(["npm", "pack", "--silent", "tree-sitter-python@0.16.1"], downloads)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:", "--no-build-isolation"]
    _run([*pip, "tree_sitter==0.2.2"], downloads)
    if hashlib.sha256((downloads / RELEASE).read_bytes()).hexdigest() != RELEASE_SHA256:
        raise GrammarUnavailable(f"{RELEASE} of the npm registry is another file")
    with tarfile.open(downloads / RELEASE) as archive:
        archive.extractall(downloads, filter="data")
    for asset in assets.GRAMMAR_SOURCES:
        target = place / asset.path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = downloads / "package" / asset.path.partition("/")[2]
        content = source.read_text(encoding="utf-8")
        target.write_text(bind_subscripts(content) if source.name == "parser.c" else content, encoding="utf-8")
    shutil.copy(downloads / Path(assets.GRAMMAR_RUNTIME.path).name, place / assets.GRAMMAR_RUNTIME.path)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        raise GrammarUnavailable(f"{' '.join(command)}: {error} {getattr(error, 'stderr', '') or ''}") from error


def bind_subscripts(parser: str) -> str:
    """The source of a parser in whose table a `[` is shifted wherever a `(` is."""
    head, rest = parser.split("static uint16_t ts_small_parse_table[] = {\n")
    table, offsets, tail = re.split(r"};\n\nstatic uint32_t ts_small_parse_table_map\[\] = {\n|};\n", rest, maxsplit=2)
    actions = dict(re.findall(r"^  \[(\d+)\] = {\.count = 1, [^}]*}, (\w+\([^,\n]*)", tail, re.MULTILINE))
    states = [_groups(text) for text in re.split(r"^  \[\d+\] = \d+,\n", table, flags=re.MULTILINE)[1:]]
    shifts = {
        by_symbol[OPEN]: by_symbol[SUBSCRIPT]
        for by_symbol in map(_by_symbol, states)
        if all(actions.get(by_symbol.get(symbol, ""), "").startswith("SHIFT(") for symbol in (OPEN, SUBSCRIPT))
    }
    by_target = {actions[opened]: subscript for opened, subscript in shifts.items()}
    changed = 0
    for groups in states:
        found = _by_symbol(groups)
        opened, subscript = actions.get(found.get(OPEN, ""), ""), actions.get(found.get(SUBSCRIPT, ""), "")
        if opened.startswith("SHIFT(") and subscript.startswith("REDUCE("):
            for _, symbols in groups:
                if SUBSCRIPT in symbols:
                    symbols.remove(SUBSCRIPT)
            groups[:] = [group for group in groups if group[1]] + [(f"ACTIONS({by_target[opened]})", [SUBSCRIPT])]
            changed += 1
    assert changed == STATES_CHANGED
    lines, starts, place = [], [], 0
    for groups in states:
        starts.append(place)
        lines.append(f"  [{place}] = {len(groups)},")
        for action, symbols in groups:
            lines += [f"    {action}, {len(symbols)},", *(f"      {symbol}," for symbol in symbols)]
        place += 1 + sum(2 + len(symbols) for _, symbols in groups)
    names = re.findall(r"SMALL_STATE\(\d+\)", offsets)
    pairs = "".join(f"  [{name}] = {start},\n" for name, start in zip(names, starts, strict=True))
    return (
        f"{head}static uint16_t ts_small_parse_table[] = {{\n" + "\n".join(lines) + "\n};\n\n"
        f"static uint32_t ts_small_parse_table_map[] = {{\n{pairs}}};\n{tail}"
    )


def _groups(state: str) -> list[tuple[str, list[str]]]:
    """Actions of a state, each with the symbols that it is for."""
    found = re.findall(r"^    (\w+\(\d+\)), \d+,\n((?:^      \w+,\n)+)", state, re.MULTILINE)
    return [(action, re.findall(r"\w+", symbols)) for action, symbols in found]


def _by_symbol(groups: list[tuple[str, list[str]]]) -> dict[str, str]:
    """The number of the actions for each symbol."""
    return {symbol: re.sub(r"\D", "", action) for action, symbols in groups for symbol in symbols}
