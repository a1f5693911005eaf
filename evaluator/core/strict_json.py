"""Strict JSON from untrusted bytes, in bounded memory and time.

Size, depth and number of values are counted on the bytes before anything is parsed, so that no document can exhaust
the recursion limit or the memory. Numbers too long to convert, NaN, Infinity, duplicate keys and half surrogates are
collected, so that one reading names them all.
"""

import gc
import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.core import limits
from evaluator.core.errors import DataError, Findings, Rule, RuleBroken, show
from evaluator.core.files import FILE_MISSING, file_elsewhere, read_regular
from evaluator.core.regular import read_whole

JSON_SYNTAX = Rule("json-syntax", "one JSON document (RFC 8259)", "write the file with json.dump, whole")
JSON_ENCODING = Rule("json-encoding", "UTF-8", "open the file for writing with encoding='utf-8'")
JSON_DEPTH = Rule(
    "json-depth",
    f"lists and objects nested at most {limits.MAX_JSON_DEPTH} deep",
    "write the shape of the contract: ids, a list of entries, type and content",
)
JSON_VALUES = Rule(
    "json-values",
    f"at most {limits.MAX_JSON_VALUES} lists, objects and commas together",
    "write one entry an output, and no ids but the input's",
)
JSON_NUMBER = Rule(
    "json-number",
    f"finite numbers of at most {limits.MAX_JSON_DIGITS} characters; no NaN or Infinity",
    "write a text as a JSON string; json.dump(..., allow_nan=False) finds such numbers",
)
DUPLICATE_KEY = Rule("duplicate-key", "each key once in an object", "write every id, type and content once")
HALF_SURROGATE = Rule(
    "half-surrogate",
    "whole Unicode characters; no half of a surrogate pair",
    "write the text with ensure_ascii=False, or drop what text.encode('utf-8', 'ignore') drops",
)

CHUNK_BYTES = 2**20
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")  # json.loads joins whole pairs, so any that is left is a half


def read_document(path: Path, limit: int = limits.MAX_JSON_BYTES) -> Any:
    """The document in a file that the organizer named, of at most `limit` bytes. Raises `DataError`, whose findings
    name the whole path: several such files are called the same.
    """
    findings = Findings()
    document = None
    try:
        document = parse(read_whole(path, limit), str(path), findings)
    except RuleBroken as broken:
        findings.add_broken(str(path), broken)
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError(f"{path}: the file cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if findings:
        raise DataError(findings)
    return document


def parse_file(
    root: Path,
    name: str,
    findings: Findings,
    limit: int = limits.MAX_JSON_BYTES,
    digests: dict[str, str] | None = None,
) -> Any:
    """The document in `root/name`, a regular file of at most `limit` bytes. A byte order mark is read over.

    Faults are added to `findings`, and the SHA-256 of the bytes to `digests` under `name`. What it returns is of use
    only where none of the faults is a rule's that ends the reading: a document that cannot be parsed is None.
    """
    try:
        content = read_regular(root, name, limit, near=True)
    except RuleBroken as broken:
        said, near, _ = broken.found.partition("; there is ")  # of nearly this name, in the folder itself
        elsewhere = file_elsewhere(root, name) if broken.rule is FILE_MISSING and not near else None
        found = broken.found + (f"; there is {show(elsewhere)}" if elsewhere else "")
        findings.add(broken.rule, name, found, bare=said)
        return None
    if digests is not None:
        digests[name] = hashlib.sha256(content).hexdigest()
    try:
        return parse(content, name, findings)
    except RuleBroken as broken:
        findings.add_broken(name, broken)
        return None


def parse(content: bytes, name: str, findings: Findings) -> Any:
    """Parse the bytes of a document; `name` is the place that findings name.

    In a document with findings a duplicate key has its last value, and a number too long is 0. Raises `RuleBroken`
    where nothing can be parsed.
    """
    check_structure(content)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    findings.add(DUPLICATE_KEY, name, f"the key {show(key)} occurs twice in one object")
                seen.add(key)
        return document

    def constant(text: str) -> float:
        findings.add(JSON_NUMBER, name, f"the number {text}")
        return 0.0

    def integer(text: str) -> int:
        return int(text) if _short_enough(text) else 0

    def real(text: str) -> float:
        if _short_enough(text):
            value = float(text)
            if math.isfinite(value):
                return value
            findings.add(JSON_NUMBER, name, f"the number {text}, which is beyond what a float can hold")
        return 0.0

    def _short_enough(text: str) -> bool:
        if len(text) <= limits.MAX_JSON_DIGITS:
            return True
        findings.add(JSON_NUMBER, name, f"a number of {len(text)} characters, {text[:10]}...")
        return False

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise RuleBroken(JSON_ENCODING, f"not UTF-8 at byte {fault.start}: {fault.reason}") from None
    collects = gc.isenabled()
    gc.disable()  # it would look at millions of new objects again and again, none of them in a cycle
    try:
        document = json.loads(
            text, object_pairs_hook=unique, parse_constant=constant, parse_int=integer, parse_float=real
        )
    except json.JSONDecodeError as fault:
        place = f"line {fault.lineno}, column {fault.colno}"
        raise RuleBroken(JSON_SYNTAX, f"invalid JSON at {place}: {fault.msg}") from None
    finally:
        if collects:
            gc.enable()
    if _SURROGATE_ESCAPE.search(text):
        _find_half_surrogates(document, name, findings)
    return document


def check_structure(content: bytes) -> None:
    """Check depth and number of values of a JSON document without parsing it.

    Quotes, escapes and brackets are followed as a parser does up to the first syntax error, beyond which json.loads
    builds nothing either. Works through `CHUNK_BYTES` at a time, in time linear in the size.

    Raises `RuleBroken`.
    """
    depth = deepest = values = 0
    inside = escaped = False  # at the chunk's first byte: within a string; after a backslash that escapes it
    whole = np.frombuffer(content, dtype=np.uint8)
    for start in range(0, len(whole), CHUNK_BYTES):
        chunk = whole[start : start + CHUNK_BYTES]
        quotes, escaped = _quotes(chunk, escaped)
        flips = np.zeros(len(chunk), dtype=np.uint8)
        flips[quotes] = 1
        # The sum wraps at 256, which leaves its last bit, the parity, as it is.
        outside = ((np.cumsum(flips, dtype=np.uint8) + np.uint8(inside)) & 1) == 0
        inside = bool((len(quotes) + inside) % 2)
        opening = outside & ((chunk == ord("[")) | (chunk == ord("{")))
        closing = outside & ((chunk == ord("]")) | (chunk == ord("}")))
        steps = np.cumsum(opening.astype(np.int8) - closing.astype(np.int8), dtype=np.int32)
        deepest = max(deepest, depth + int(steps.max()))
        depth += int(steps[-1])
        values += int(np.count_nonzero(opening)) + int(np.count_nonzero(outside & (chunk == ord(","))))
        if deepest > limits.MAX_JSON_DEPTH:
            raise RuleBroken(JSON_DEPTH, f"nested more than {limits.MAX_JSON_DEPTH} deep")
        if values > limits.MAX_JSON_VALUES:
            raise RuleBroken(JSON_VALUES, f"more than {limits.MAX_JSON_VALUES} lists, objects and commas")


def _quotes(chunk: NDArray[np.uint8], escaped: bool) -> tuple[NDArray[np.intp], bool]:
    """Positions of the quotes that no backslash escapes, and whether the chunk's end escapes the byte after it."""
    slashes = np.flatnonzero(chunk == ord("\\"))
    quotes = np.flatnonzero(chunk == ord('"'))
    if escaped:  # the first byte is taken, whatever it is
        slashes, quotes = slashes[slashes > 0], quotes[quotes > 0]
    if not len(slashes):
        return quotes, False
    # In a run of backslashes the first, third, ... escape the byte after them.
    starts = np.concatenate(([True], np.diff(slashes) != 1))
    first = slashes[np.maximum.accumulate(np.where(starts, np.arange(len(slashes)), 0))]
    taken = slashes[(slashes - first) % 2 == 0] + 1
    mask = np.zeros(len(chunk) + 1, dtype=bool)
    mask[taken] = True
    return quotes[~mask[quotes]], bool(mask[-1])


def _find_half_surrogates(document: Any, name: str, findings: Findings) -> None:
    """Half a surrogate pair is valid JSON, but no text that can be written or tokenised."""

    def look(value: Any, where: str) -> None:  # into itself at most `MAX_JSON_DEPTH` times
        if isinstance(value, dict):
            for key, inner in value.items():
                if _HALF_SURROGATE.search(key):
                    findings.add(HALF_SURROGATE, where, f"the key {show(key)} has half of a surrogate pair")
                look(inner, f"{name}: id {show(key)}" if value is document else where)
        elif isinstance(value, list):
            for inner in value:
                look(inner, where)
        elif isinstance(value, str) and (half := _HALF_SURROGATE.search(value)):
            at = f"U+{ord(half[0]):04X} at character {half.start()}"
            findings.add(HALF_SURROGATE, where, f"a text has half of a surrogate pair, {at}")

    look(document, name)
