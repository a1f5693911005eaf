"""Strict reading of the contract's files: a data folder (trusted, yet checked) and an output folder (untrusted).

Nothing here follows a link, reads a device, or opens a path outside the folder it was given. Faults are collected, so
that one reading names all of them; each is a `Finding` of a rule, with the id it belongs to.

An output folder is read once. Metrics and reports see the texts and images that the verdict was about, whatever
happens to the folder afterwards: texts are kept, and of images the files' bytes, in a private folder that lives as long
as the `Predictions`. Pixels are kept nowhere, as a small file can have many: an image is decoded, in a process of its
own, when it is checked and again whenever it is looked at.
"""

import hashlib
import json
import os
import re
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from evaluator.competition.tasks import METRICS, Task, parse_tasks
from evaluator.core import leftovers, limits
from evaluator.core.errors import DataError, EvaluatorError, Finding, Findings, Rule, RuleBroken, SubmissionError, show
from evaluator.core.files import CONTROL_CHARACTER, OUTPUT_FOLDER, read_regular
from evaluator.core.strict_json import parse_file
from evaluator.core.verdict import BAD_OUTPUT
from evaluator.data.images import DEEP_MODE, FOLDER_BYTES, IMAGE_DEPTH, Decoder, decode, load_image, pixel_digest

__all__ = [
    "Data",
    "Entry",
    "Example",
    "Predictions",
    "data_digest",
    "load_image",
    "read_data",
    "read_predictions",
]

JSON_SHAPE = Rule(
    "json-shape",
    'an object of ids, each with a list of entries {"type": "text" or "image", "content": a text}',
    "write the shape of the contract",
)
ANSWERS_SHAPE = Rule(
    "answers-shape", "a list of accepted answers, at least one text", 'write {"type": "text", "content": ["answer"]}'
)
ENTRY_COUNT = Rule(
    "entry-count",
    f"at most {limits.MAX_JSON_ENTRIES} ids, and as many entries of all ids together",
    "write one entry an output",
)
MISSING_ID = Rule("missing-id", "every id of input.json once", "write an entry for this id, whatever its answer")
UNKNOWN_ID = Rule("unknown-id", "the ids of input.json alone", "drop the id, or write it as input.json does")
MISSING_OUTPUT = Rule(
    "missing-output",
    "an entry of the type that the task's output has",
    "answer every id with both a text and an image where the task is in doubt",
)
TEXT_LENGTH = Rule(
    "text-length", f"at most {limits.MAX_TEXT_CHARACTERS} characters in a scored text", "cut the text or stop earlier"
)
REFERENCE_IMAGE = Rule(
    "reference-image",
    "images that the submission made; no file and no pixels of a reference image",
    "write the image that the model generated",
)

# --- the organizer's data alone ---
NO_EXAMPLES = Rule("no-examples", "at least one example", "write the examples into input.json")
SAMPLE_TASK = Rule(
    "sample-task",
    "an object that gives each id the number of its task: 0 to 5, or 6 to 11 where tasks.json defines it",
    "write the task's number, and define a hidden task in tasks.json",
)
TRUTH_OUTPUT = Rule(
    "truth-output", "an entry of the type that the task's output has", "write the accepted answers, or the image's path"
)
TRUTH_PLACE = Rule(
    "truth-place",
    "reference images that no input names, since teams get those; best below gt_images/",
    "move the image to gt_images/ and name it so",
)
INPUT_PLACE = Rule(
    "input-place", "input images outside of gt_images/, which teams never see", "move the image, or name another"
)
INPUT_ENTRY = Rule(
    "input-entry", "an entry of the type that the task's metric compares with", "complete the input, or choose a metric"
)

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PREFIX = "predictions"  # of the private folders
_NEAR_FAULTS = 20  # files that are missing for which a near name is looked for: each time a folder is read
DECODE_AGAIN_SECONDS = 10 * limits.DECODE_SECONDS

TYPES = ("text", "image")
NAMED_IDS = 3  # in a note about many


@dataclass(frozen=True)
class Entry:
    """One `{"type": ..., "content": ...}`: natural language, or an image's path below the folder."""

    type: str
    content: str


@dataclass(frozen=True)
class Example:
    """One id of the data: what is asked and what is accepted.

    `answers` are the accepted texts of a task with text output (else empty); `truth_image` is the reference image's
    path below the data folder of a task with image output (else None).
    """

    id: str
    task: Task
    inputs: tuple[Entry, ...]
    answers: tuple[str, ...] = ()
    truth_image: str | None = None

    @property
    def texts(self) -> list[str]:
        return [entry.content for entry in self.inputs if entry.type == "text"]

    @property
    def images(self) -> list[str]:
        return [entry.content for entry in self.inputs if entry.type == "image"]


@dataclass(frozen=True)
class Data:
    """A checked data folder: `truth_digests` are the `pixel_digest`s of the reference images, `files` the SHA-256 of
    the JSON files and of every image that the data names, by path in the folder. `notes` say what is unusual, though
    not wrong.
    """

    root: Path
    examples: tuple[Example, ...]
    truth_digests: frozenset[str]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Finding, ...] = ()

    def by_task(self) -> dict[Task, list[Example]]:
        """The examples of each task that occurs, by task number."""
        groups: dict[Task, list[Example]] = {}
        for example in sorted(self.examples, key=lambda example: example.task.number):
            groups.setdefault(example.task, []).append(example)
        return groups


@dataclass(frozen=True)
class Predictions:
    """What an output folder predicted when it was read: per id the first text (of a text task) or the first image's
    path in the output folder (of an image task).

    `types` are those of all entries of an id, in their order; `surplus` the first text of an id of an image task, which
    is shown and not scored; `files` the SHA-256 of predictions.json and of every scored image, by path. `root` is the
    private folder with the images' files; `read_predictions` has it removed together with this object. `notes` say
    what is unusual, though not wrong.
    """

    root: Path
    texts: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)
    surplus: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)  # name below `root` of each path in the output folder
    # Each image was decoded within the limits before: now only a busy machine could make one take longer.
    decoder: Decoder = field(default_factory=lambda: Decoder(DECODE_AGAIN_SECONDS, limited=False), compare=False)
    notes: list[Finding] = field(default_factory=list)

    def image(self, id: str) -> Image.Image:
        """The image that was predicted for an id of an image task, from its private copy."""
        content = (self.root / self.copies[self.images[id]]).read_bytes()
        try:
            return self.decoder.decode(content)
        except RuleBroken:  # the process may have come to the end of its time with many images before this one
            return self.decoder.decode(content)


def data_digest(data: Data) -> str:
    """SHA-256 of what scores depend on in a data folder, as 64 hexadecimal digits: each example's id, task number,
    metric with all its parameters, inputs, and accepted answers; of images the files' bytes. It is the same however the
    JSON is formatted or ordered and whatever the images are named. Titles, baselines and thresholds are not part of it.
    """
    examples = []
    for example in sorted(data.examples, key=lambda example: example.id):
        task, truth = example.task, example.truth_image
        inputs = [
            [entry.type, data.files[entry.content] if entry.type == "image" else entry.content]
            for entry in example.inputs
        ]
        parameters = METRICS[task.metric].defaults() | dict(task.parameters)
        accepted = list(example.answers) if truth is None else data.files[truth]
        examples.append([example.id, task.number, task.metric, parameters, inputs, accepted])
    canonical = json.dumps(examples, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_data(folder: Path | str) -> Data:
    """Read and check `input.json`, `ground_truth.json`, `sample_ids.json`, `tasks.json` (needed for hidden tasks
    only) and every image they name. Any subset of the tasks will do.

    Raises `DataError` with all faults.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist or is not a folder")
    root = root.resolve()
    found = Findings()
    files: dict[str, str] = {}
    inputs = _read_entries(root, "input.json", found, DataError, files)
    truth = _read_entries(root, "ground_truth.json", found, DataError, files, answers=True)
    numbers = parse_file(root, "sample_ids.json", found, digests=files)
    if not found and not isinstance(numbers, dict):
        found.add(SAMPLE_TASK, "sample_ids.json", f"must be an object of ids, not {_kind(numbers)}")
    if not found and not inputs:
        found.add(NO_EXAMPLES, "input.json", "has no examples")
    if found:
        raise DataError(found)
    configuration: Any = {}
    if os.path.lexists(root / "tasks.json"):
        configuration = parse_file(root, "tasks.json", found, digests=files)
        if found:
            raise DataError(found)
    tasks = parse_tasks(configuration)

    _check_ids("ground_truth.json", inputs, truth, found)
    _check_ids("sample_ids.json", inputs, numbers, found)
    examples: list[Example] = []
    digests: set[str] = set()
    deep: dict[str, list[str]] = {"input.json": [], "ground_truth.json": []}
    asked = {PurePosixPath(path) for entries in inputs.values() for type, path in entries or () if type == "image"}
    for id, entries in inputs.items():
        number = numbers.get(id)
        if id not in truth or id not in numbers:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number not in tasks:
            known = ", ".join(str(known) for known in sorted(tasks))
            hint = " (6..11 must be defined in tasks.json)" if number in range(6, 12) else ""
            where = f"sample_ids.json: id {show(id)}"
            found.add(SAMPLE_TASK, where, f"task {show(number)} is not one of {known}{hint}")
            continue
        task = tasks[number]
        where = f"id {show(id)} ({task.name})"
        example = Example(id, task, tuple(Entry(type, content) for type, content in entries or ()))
        wanted = next((content for type, content in truth[id] or () if type == task.output), None)
        if wanted is None:
            found.add(TRUTH_OUTPUT, f"ground_truth.json: {where}", f"no {task.output} entry")
        elif isinstance(wanted, list):
            example = replace(example, answers=tuple(wanted))
        else:
            example = replace(example, truth_image=wanted)
            broken = None
            if PurePosixPath(wanted) in asked and not _is_truths(wanted):
                broken = RuleBroken(TRUTH_PLACE, "is an input's image as well")
            image = _read_image(root, wanted, f"ground_truth.json: {where}", broken, found, files)
            if image is not None:
                digests.add(pixel_digest(image))
                if DEEP_MODE in image.info:
                    deep["ground_truth.json"].append(id)
        for path in example.images:
            broken = None
            if _is_truths(path):
                broken = RuleBroken(INPUT_PLACE, "must not lie in gt_images/")
            image = _read_image(root, path, f"input.json: {where}", broken, found, files)
            if image is not None and DEEP_MODE in image.info:
                deep["input.json"].append(id)
        metric = METRICS[task.metric]
        if metric.input_image and not example.images:
            compares = f"no image entry, but metric {task.metric} compares with the input's image"
            found.add(INPUT_ENTRY, f"input.json: {where}", compares)
        if metric.output == "image" and not example.texts:
            compares = f"no text entry, but metric {task.metric} compares with the input's text"
            found.add(INPUT_ENTRY, f"input.json: {where}", compares)
        examples.append(example)
    if found:
        raise DataError(found)
    notes = tuple(_deep_note(name, ids) for name, ids in deep.items() if ids)
    return Data(root, tuple(examples), frozenset(digests), files, notes)


def _is_truths(path: str) -> bool:
    """Whether a path leads into the folder that inputs may not name."""
    return PurePosixPath(path).parts[:1] == ("gt_images",)


def _deep_note(name: str, ids: Sequence[str]) -> Finding:
    """Of images with more than 8 bits a pixel that the entries `ids` of a file name."""
    each = list(dict.fromkeys(ids))
    named = ", ".join(map(show, each[:NAMED_IDS])) + (", …" if len(each) > NAMED_IDS else "")
    return IMAGE_DEPTH.finding(f"{name}: id {named}", f"grey with 16 bits in {len(ids)} of the images")


def _read_image(
    root: Path, path: str, where: str, misplaced: RuleBroken | None, found: Findings, files: dict[str, str]
) -> Image.Image | None:
    """Check an image of the data and add its file's SHA-256 to `files`; returns the image, None for a faulty one.
    `misplaced` says that it may not lie where it does.
    """
    try:
        if misplaced:
            raise misplaced
        content = read_regular(root, path, limits.MAX_IMAGE_BYTES, near=found.total < _NEAR_FAULTS)
        image = decode(content)
    except RuleBroken as broken:
        found.add(broken.rule, f"{where}: image {show(path)}", broken.found)
        return None
    files[path] = hashlib.sha256(content).hexdigest()
    return image


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check `predictions.json` and the images that scoring needs. Every id of the input must be there
    exactly once, with an entry of its task's output type; surplus entries are allowed and not looked at further.

    A text may hold any characters but ASCII control characters (tab, line feed and carriage return are allowed): no
    answer needs them, and terminals, CSV and HTML give them meanings of their own. An image must not be a reference
    image: not its file, not its bytes, not its pixels in whatever lossless file. A reference that was changed in any
    way (saved anew as JPEG, resized, one pixel) is not told from a very good prediction.

    Raises `SubmissionError` (BAD_OUTPUT) with all faults; `EvaluatorError` where this machine cannot take the
    images in.
    """
    root = Path(folder)
    found = Findings()
    if root.is_symlink():
        found.add(OUTPUT_FOLDER, f"output folder {root}", "is a symbolic link")
    elif not root.is_dir():
        found.add(OUTPUT_FOLDER, f"output folder {root}", "does not exist or is not a folder")
    if found:
        raise SubmissionError(BAD_OUTPUT, found)
    files: dict[str, str] = {}
    predicted = _read_entries(root, "predictions.json", found, partial(SubmissionError, BAD_OUTPUT), files)
    _check_ids("predictions.json", {example.id: None for example in data.examples}, predicted, found)
    leftovers.sweep(_PREFIX)
    private = leftovers.PrivateFolder(_PREFIX)
    predictions = Predictions(private.path, files=files)
    weakref.finalize(predictions, private.remove)
    weakref.finalize(predictions, predictions.decoder.close)
    deep: list[str] = []
    with _Images(root, predictions, data) as images:
        for example, where, entries, content in _outputs(predicted, data, found):
            predictions.types[example.id] = tuple(type for type, _ in entries)
            if example.task.output == "text":
                predictions.texts[example.id] = content
                _check_text(content, where, found)
                continue
            predictions.images[example.id] = content
            surplus = next((content for type, content in entries if type == "text"), None)
            if surplus is not None:
                predictions.surplus[example.id] = surplus
            broken = images.take(content, write=not found)
            if content in images.deep:
                deep.append(example.id)
            if broken:
                found.add(broken.rule, f"{where}: image {show(content)}", broken.found)
    if found:
        private.remove()  # now: the error's traceback keeps `predictions` alive
        raise SubmissionError(BAD_OUTPUT, found)
    if deep:
        predictions.notes.append(_deep_note("predictions.json", deep))
    return predictions


def _outputs(
    predicted: dict[str, list[tuple[str, Any]] | None], data: Data, found: Findings
) -> Iterator[tuple[Example, str, list[tuple[str, Any]], str]]:
    """What is to be scored: example, place, all its entries, the scored content. Ids that are missing or malformed were
    reported before.
    """
    for example in data.examples:
        entries = predicted.get(example.id)
        if entries is None:
            continue
        output = example.task.output
        where = f"predictions.json: id {show(example.id)} ({example.task.name})"
        content = next((content for type, content in entries if type == output), None)
        if content is None:
            found.add(MISSING_OUTPUT, where, f"no {output} entry, and the task's output is {output}")
        else:
            yield example, where, entries, content


def _check_text(text: str, where: str, found: Findings) -> None:
    if len(text) > limits.MAX_TEXT_CHARACTERS:
        found.add(TEXT_LENGTH, where, f"a text of {len(text)} characters")
    if control := _CONTROL.search(text):
        at = f"U+{ord(control[0]):04X} at character {control.start()}"
        found.add(CONTROL_CHARACTER, where, f"a text with a control character, {at}")


class _Images:
    """Takes images of an output folder into the private one of `predictions`. A file that several ids name is read
    once.
    """

    def __init__(self, root: Path, predictions: Predictions, data: Data) -> None:
        self._root, self._predictions, self._data = root, predictions, data
        truths = {example.truth_image for example in data.examples if example.truth_image}
        self._truth_paths = {str(data.root / path) for path in truths}
        self._truth_files = {data.files[path] for path in truths}
        self._taken: dict[str, RuleBroken | None] = {}
        self._bytes = self._missing = 0
        self._decoder = Decoder()
        self.deep: set[str] = set()  # paths of those with more than 8 bits a pixel

    def __enter__(self) -> "_Images":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def take(self, path: str, write: bool) -> RuleBroken | None:
        """Check an image and, with `write`, keep its file; returns the rule that it breaks, if any."""
        if path not in self._taken:
            self._taken[path] = self._take(path, write)
        return self._taken[path]

    def _take(self, path: str, write: bool) -> RuleBroken | None:
        try:
            if self._bytes > limits.MAX_FOLDER_IMAGE_BYTES:
                raise RuleBroken(FOLDER_BYTES, f"images before this one have {self._bytes} bytes")
            self._decoder.check_folder()
            self._missing += 1
            content = read_regular(self._root, path, limits.MAX_IMAGE_BYTES, near=self._missing <= _NEAR_FAULTS)
            self._missing -= 1
            self._bytes += len(content)
            if os.path.realpath(self._root / path) in self._truth_paths:
                raise RuleBroken(REFERENCE_IMAGE, "is a reference image")
            digest = hashlib.sha256(content).hexdigest()
            if digest in self._truth_files:
                raise RuleBroken(REFERENCE_IMAGE, "is a copy of a reference image's file")
            image = self._decoder.decode(content)
            if DEEP_MODE in image.info:
                self.deep.add(path)
            if pixel_digest(image) in self._data.truth_digests:
                raise RuleBroken(REFERENCE_IMAGE, "is a copy of a reference image's pixels")
        except RuleBroken as broken:
            return broken
        if write:
            kept = self._predictions
            # A name of ours: the path may be one that cannot be made here, if the folder changed while it was read.
            kept.copies[path] = f"{len(kept.copies)}.image"
            kept.files[path] = digest
            try:
                (kept.root / kept.copies[path]).write_bytes(content)
            except OSError as error:
                raise EvaluatorError(f"an image cannot be kept in {kept.root}: {error.strerror}") from error
        return None


def _read_entries(
    root: Path,
    name: str,
    found: Findings,
    error: Callable[[Findings], EvaluatorError],
    digests: dict[str, str],
    answers: bool = False,
) -> dict[str, list[tuple[str, Any]] | None]:
    """`{id: [(type, content), ...]}` of an entries file, None for an id whose value is malformed; with `answers`, a
    text's content is a list of texts, and a single entry may stand without its list. The file's SHA-256 is added to
    `digests`.

    Faults are added to `found`; it is raised as `error` where there is nothing to go on with.
    """
    before = found.total
    document = parse_file(root, name, found, digests=digests)
    if document is None and found.total > before:
        raise error(found)
    if not isinstance(document, dict):
        found.add(JSON_SHAPE, name, f"must be an object of ids, not {_kind(document)}")
        raise error(found)
    # Counted before anything is looked at: each fault costs time and memory.
    count = sum(len(entries) for entries in document.values() if isinstance(entries, list))
    for number, what in ((len(document), "ids"), (count, "entries")):
        if number > limits.MAX_JSON_ENTRIES:
            found.add(ENTRY_COUNT, name, f"{number} {what}")
            raise error(found)
    examples: dict[str, list[tuple[str, Any]] | None] = {}
    for id, entries in document.items():
        examples[id] = None
        if answers and isinstance(entries, dict) and "type" in entries:
            entries = [entries]  # as the challenge's README writes the answers of TextQA and MathQA
        if not isinstance(entries, list):
            found.add(JSON_SHAPE, f"{name}: id {show(id)}", f"must be a list of entries, not {_kind(entries)}")
            continue
        before = found.total
        for position, entry in enumerate(entries):
            if fault := _entry_fault(entry, answers):
                found.add_broken(f"{name}: id {show(id)}: entry {position}", fault)
        if found.total == before:
            examples[id] = [(entry["type"], entry["content"]) for entry in entries]
    return examples


def _entry_fault(entry: Any, answers: bool) -> RuleBroken | None:
    if not isinstance(entry, dict):
        return RuleBroken(JSON_SHAPE, f"must be an object with type and content, not {_kind(entry)}")
    missing = [key for key in ("type", "content") if key not in entry]
    if missing:
        return RuleBroken(JSON_SHAPE, f"{' and '.join(missing)} missing")
    type, content = entry["type"], entry["content"]
    if not isinstance(type, str) or type not in TYPES:
        found = show(type) if isinstance(type, str) else _kind(type)
        return RuleBroken(JSON_SHAPE, f"type must be 'text' or 'image', not {found}")
    if answers and type == "text":
        if not isinstance(content, list) or not content or not all(isinstance(answer, str) for answer in content):
            return RuleBroken(ANSWERS_SHAPE, f"content must be a list of accepted answers, not {show(content)}")
    elif not isinstance(content, str):
        return RuleBroken(JSON_SHAPE, f"content must be a text, not {_kind(content)}")
    return None


def _check_ids(name: str, expected: Collection[str], given: Collection[str], found: Findings) -> None:
    for id in expected:
        if id not in given:
            found.add(MISSING_ID, f"{name}: id {show(id)}", "missing")
    for id in given:
        if id not in expected:
            found.add(UNKNOWN_ID, f"{name}: id {show(id)}", "unknown, not in input.json")


def _kind(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
