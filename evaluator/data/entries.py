"""What input.json, ground_truth.json and predictions.json have in common: an object of ids, each with its entries."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evaluator.core import limits
from evaluator.core.errors import EvaluatorError, Finding, Findings, Rule, RuleBroken, show
from evaluator.core.strict_json import parse_file
from evaluator.data.images import IMAGE_DEPTH

JSON_SHAPE = Rule(
    "json-shape",
    'an object of ids, each with a list of entries {"type": "text" or "image", "content": a text}; where a task has'
    ' JSON answers, {"type": "json", "content": any value}',
    "write the shape of the contract",
)
ANSWERS_SHAPE = Rule(
    "answers-shape", "a list of accepted answers, at least one text", 'write {"type": "text", "content": ["answer"]}'
)
ANSWER_LANGUAGE = Rule(
    "answer-language", "a text as the language of an answer, such as ru", 'write "language": "ru", or leave it out'
)
ENTRY_COUNT = Rule(
    "entry-count",
    f"at most {limits.MAX_JSON_ENTRIES} ids, and as many entries of all ids together",
    "write one entry an output",
)
MISSING_ID = Rule("missing-id", "every id of input.json once", "write an entry for this id, whatever its answer")
UNKNOWN_ID = Rule("unknown-id", "the ids of input.json alone", "drop the id, or write it as input.json does")

TYPES = ("text", "image")
ALL_TYPES = (*TYPES, "json")
NAMED_IDS = 3  # in a note about many


class FileEntry(NamedTuple):
    """One entry as it stands in a file; `language` is that of a truth, where it says one."""

    type: str
    content: Any
    language: str | None = None


def read_entries(
    root: Path,
    name: str,
    found: Findings,
    error: Callable[[Findings], EvaluatorError],
    digests: dict[str, str],
    answers: bool = False,
    types: Sequence[str] = TYPES,
) -> dict[str, list[FileEntry] | None]:
    """The entries of each id of an entries file, None for an id whose value is malformed; with `answers`, a text's
    content is a list of texts, an entry may have a language, and a single one may stand without its list. `types` are
    those that entries may have. The file's SHA-256 is added to `digests`.

    Faults are added to `found`; it is raised as `error` where there is nothing to go on with.
    """
    before = found.total
    document = parse_file(root, name, found, digests=digests)
    if document is None and found.total > before:
        raise error(found)
    if not isinstance(document, dict):
        found.add(JSON_SHAPE, name, f"must be an object of ids, not {json_kind(document)}")
        raise error(found)
    # Counted before anything is looked at: each fault costs time and memory.
    count = sum(len(entries) for entries in document.values() if isinstance(entries, list))
    for number, what in ((len(document), "ids"), (count, "entries")):
        if number > limits.MAX_JSON_ENTRIES:
            found.add(ENTRY_COUNT, name, f"{number} {what}")
            raise error(found)
    examples: dict[str, list[FileEntry] | None] = {}
    for id, entries in document.items():
        examples[id] = None
        if answers and isinstance(entries, dict) and "type" in entries:
            entries = [entries]  # as the challenge's README writes the answers of its first two tasks
        if not isinstance(entries, list):
            found.add(JSON_SHAPE, f"{name}: id {show(id)}", f"must be a list of entries, not {json_kind(entries)}")
            continue
        before = found.total
        for position, entry in enumerate(entries):
            if fault := _entry_fault(entry, answers, types):
                found.add_broken(f"{name}: id {show(id)}: entry {position}", fault)
        if found.total == before:
            examples[id] = [
                FileEntry(entry["type"], entry["content"], entry.get("language") if answers else None)
                for entry in entries
            ]
    return examples


def _entry_fault(entry: Any, answers: bool, types: Sequence[str]) -> RuleBroken | None:
    if not isinstance(entry, dict):
        return RuleBroken(JSON_SHAPE, f"must be an object with type and content, not {json_kind(entry)}")
    missing = [key for key in ("type", "content") if key not in entry]
    if missing:
        return RuleBroken(JSON_SHAPE, f"{' and '.join(missing)} missing")
    type, content = entry["type"], entry["content"]
    if not isinstance(type, str) or type not in types:
        found = show(type) if isinstance(type, str) else json_kind(type)
        return RuleBroken(JSON_SHAPE, f"type must be {' or '.join(map(repr, types))}, not {found}")
    if answers and not isinstance(entry.get("language", ""), str):
        return RuleBroken(ANSWER_LANGUAGE, f"language must be a text, not {show(entry['language'])}")
    if type == "json":
        return None
    if answers and type == "text":
        if not isinstance(content, list) or not content or not all(isinstance(answer, str) for answer in content):
            return RuleBroken(ANSWERS_SHAPE, f"content must be a list of accepted answers, not {show(content)}")
    elif not isinstance(content, str):
        return RuleBroken(JSON_SHAPE, f"content must be a text, not {json_kind(content)}")
    return None


def check_ids(name: str, expected: Collection[str], given: Collection[str], found: Findings) -> None:
    """Add to `found` each of the `expected` ids that was not `given`, and each given one that was not expected."""
    for id in expected:
        if id not in given:
            found.add(MISSING_ID, f"{name}: id {show(id)}", "missing")
    for id in given:
        if id not in expected:
            found.add(UNKNOWN_ID, f"{name}: id {show(id)}", "unknown, not in input.json")


def json_kind(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def depth_note(name: str, ids: Sequence[str]) -> Finding:
    """Of images with more than 8 bits a pixel that the entries `ids` of a file name."""
    each = list(dict.fromkeys(ids))
    named = ", ".join(map(show, each[:NAMED_IDS])) + (", …" if len(each) > NAMED_IDS else "")
    return IMAGE_DEPTH.finding(f"{name}: id {named}", f"grey with 16 bits in {len(ids)} of the images")
