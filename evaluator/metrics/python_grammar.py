"""The published grammar of CodeBLEU's trees, tree-sitter-python of May 2020, behind `syntax_trees.Grammar`.

It speaks ABI 11 of tree-sitter, which today's runtime no longer loads, so `compile_library` makes one shared library of
it and the runtime of its time, as PyPI's `tree_sitter` 0.2.2 has it; ctypes calls it by way of `python_grammar.c`
beside this file.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.core.errors import DataError
from evaluator.metrics.syntax_trees import NO_TREE, FlatNode, Tree, build, max_hundreds

GLUE = Path(__file__).with_name("python_grammar.c")
_RUNTIME = "tree_sitter-0.2.2/tree_sitter/core/lib"  # in its archive
_COMPILE_SECONDS = 600
_NODE = np.dtype("u2, u2, u2, u2, u4, i4, u4, u4, u4, u4")  # FlatNode of python_grammar.c


class PublishedGrammar:
    """The grammar of a library that `compile_library` made."""

    label: str | None = None

    def __init__(self, library: str | os.PathLike[str]) -> None:
        """Raises OSError where the library cannot be loaded."""
        loaded = ctypes.CDLL(os.fspath(library))
        self._parse, self._free = loaded.python_grammar_parse, loaded.python_grammar_free
        self._parse.argtypes = (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_size_t, ctypes.POINTER(ctypes.c_uint32))
        self._parse.restype = ctypes.c_void_p
        self._free.argtypes, self._free.restype = (ctypes.c_void_p,), None
        self._symbol = _names(loaded.python_grammar_symbol_name)
        self._field = _names(loaded.python_grammar_field_name)

    def parse(self, text: str) -> Tree:
        """See `Grammar.parse`. Raises MemoryError."""
        content, count = text.encode("utf-8", "surrogatepass"), ctypes.c_uint32()
        address = self._parse(content, len(content), max_hundreds(content), ctypes.byref(count))
        if not address:
            raise MemoryError(f"no memory for the syntax tree of a text of {len(content)} bytes")
        try:
            nodes = np.frombuffer(ctypes.string_at(address, count.value * _NODE.itemsize), _NODE)
        finally:
            self._free(address)
        return build([self._flat_node(*node) for node in nodes.tolist()]) if len(nodes) else NO_TREE

    def _flat_node(
        self,
        symbol: int,
        own_symbol: int,
        field: int,
        flags: int,
        child_count: int,
        character: int,
        start_row: int,
        start_column: int,
        end_row: int,
        end_column: int,
    ) -> FlatNode:
        return FlatNode(
            self._symbol(symbol),
            self._symbol(own_symbol),
            self._field(field) or None,
            flags,
            child_count,
            character,
            (start_row, start_column),
            (end_row, end_column),
        )


def compile_library(parser: Path, runtime: Path, library: Path) -> None:
    """Compile a grammar, `parser` (its parser.c, with scanner.cc and the folder tree_sitter beside it), and the archive
    `runtime` (PyPI's `tree_sitter` 0.2.2) into the shared library `library`, which appears whole or not at all. Takes
    about 10 s.

    `CC` and `CXX` name other compilers than `cc` and `c++`. Raises `DataError` where there is none or it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(runtime) as archive:
            archive.extractall(folder, filter="data")
        core = Path(folder) / _RUNTIME
        objects = [os.path.join(folder, name) for name in ("runtime.o", "parser.o", "scanner.o")]
        common = ["-fPIC", "-w", "-DNDEBUG"]  # a failed assert would end this process
        cc, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
        includes = [f"-I{core / 'include'}", f"-I{core / 'src'}"]
        _run([cc, "-std=gnu99", "-O2", *common, *includes, "-c", str(GLUE), "-o", objects[0]])
        source = f"-I{parser.parent}"  # its own parser.h, not the runtime's newer one
        _run([cc, "-std=gnu99", "-O1", *common, source, "-c", str(parser), "-o", objects[1]])
        _run([cxx, "-std=c++11", "-O2", *common, source, "-c", str(parser.with_name("scanner.cc")), "-o", objects[2]])
        linked = os.path.join(folder, library.name)
        _run([cxx, "-shared", *objects, "-o", linked])
        partial = library.with_name(f"{library.name}.partial")
        shutil.copyfile(linked, partial)
        os.replace(partial, library)


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_COMPILE_SECONDS)
    except FileNotFoundError:
        raise DataError(
            f"{command[0]}: no such compiler; Debian's packages gcc and g++ have one, CC and CXX name others"
        ) from None
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} took longer than {_COMPILE_SECONDS} s to compile {command[-3]}") from None
    if done.returncode:
        raise DataError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:].strip()}")


def _names(function: Any) -> Callable[[int], str]:
    """A function of the library that names symbols or fields; "" for what has no name."""
    function.argtypes, function.restype = (ctypes.c_uint16,), ctypes.c_char_p
    return functools.cache(lambda number: (function(number) or b"").decode())
