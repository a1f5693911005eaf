"""Strict reading of the contract's files: a data folder (trusted, yet checked) and an output folder (untrusted).

Nothing here follows a link, reads a device, or opens a path outside the folder it was given. Faults are collected, so
that one reading names all of them; each is a `Finding` of one of `evaluator.rules`, with the id it belongs to.

An output folder is read once. Metrics see the texts and images that the verdict was about, whatever happens to the
folder afterwards: texts are kept, and images are decoded in a process of their own and written anew, as plain pixels,
into a private folder that lives as long as the `Predictions`.
"""

import hashlib
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from evaluator import limits, rules
from evaluator.errors import DataError, EvaluatorError, Finding, Findings, OutputError, RuleBroken, show
from evaluator.files import read_regular
from evaluator.images import Decoder, decode, load_image, pixel_digest
from evaluator.strict_json import parse_file, read_json
from evaluator.tasks import METRICS, Task, parse_tasks

__all__ = ["Data", "Entry", "Example", "Predictions", "load_image", "read_data", "read_json", "read_predictions"]

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

TYPES = ("text", "image")


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
    """A checked data folder. Of the reference images, `truth_digests` are the `pixel_digest`s and `truth_files` the
    SHA-256 of the files.
    """

    root: Path
    examples: tuple[Example, ...]
    truth_digests: frozenset[str]
    truth_files: frozenset[str] = frozenset()

    def by_task(self) -> dict[Task, list[Example]]:
        """The examples of each task that occurs, by task number."""
        groups: dict[Task, list[Example]] = {}
        for example in sorted(self.examples, key=lambda example: example.task.number):
            groups.setdefault(example.task, []).append(example)
        return groups


@dataclass(frozen=True)
class Predictions:
    """What an output folder predicts: per id the first text (of a text task) or the first image's path (of an image
    task).

    `root` is a private folder that has, under the paths in the output folder, the images written anew: BMPs, whatever
    the name. `read_predictions` has it removed together with this object.
    """

    root: Path
    texts: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)


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
    inputs = _read_entries(root, "input.json", found, DataError)
    truth = _read_entries(root, "ground_truth.json", found, DataError, answers=True)
    numbers = parse_file(root, "sample_ids.json", found)
    if found:
        raise DataError(found)
    if not isinstance(numbers, dict):
        raise DataError(f"sample_ids.json: must be an object of ids, not {_kind(numbers)}")
    tasks = parse_tasks(read_json(root, "tasks.json", DataError) if os.path.lexists(root / "tasks.json") else {})

    if not inputs:
        raise DataError("input.json: has no examples")
    _check_ids("ground_truth.json", inputs, truth, found)
    _check_ids("sample_ids.json", inputs, numbers, found)
    faults: list[str | Finding] = list(found.kept)
    examples: list[Example] = []
    digests: set[str] = set()
    files: set[str] = set()
    for id, entries in inputs.items():
        number = numbers.get(id)
        if id not in truth or id not in numbers:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number not in tasks:
            known = ", ".join(str(known) for known in sorted(tasks))
            hint = " (6..11 must be defined in tasks.json)" if number in range(6, 12) else ""
            faults.append(f"sample_ids.json: id {show(id)}: task {show(number)} is not one of {known}{hint}")
            continue
        task = tasks[number]
        where = f"id {show(id)} ({task.name})"
        example = Example(id, task, tuple(Entry(type, content) for type, content in entries or ()))
        wanted = next((content for type, content in truth[id] or () if type == task.output), None)
        if wanted is None:
            faults.append(f"ground_truth.json: {where}: no {task.output} entry")
        elif isinstance(wanted, list):
            example = Example(id, task, example.inputs, answers=tuple(wanted))
        else:
            example = Example(id, task, example.inputs, truth_image=wanted)
            fault = _folder_fault(wanted, "gt_images")
            try:
                if not fault:
                    content = read_regular(root, wanted, limits.MAX_IMAGE_BYTES)
                    digests.add(pixel_digest(decode(content)))
                    files.add(hashlib.sha256(content).hexdigest())
            except ValueError as error:
                fault = str(error)
            if fault:
                faults.append(f"ground_truth.json: {where}: image {show(wanted)}: {fault}")
        for path in example.images:
            # Anywhere below input/, as published; but the truth is not part of the input.
            fault = None if _folder_fault(path, "gt_images") else "must not lie in gt_images/"
            try:
                if not fault:
                    load_image(root, path)
            except ValueError as error:
                fault = str(error)
            if fault:
                faults.append(f"input.json: {where}: image {show(path)}: {fault}")
        metric = METRICS[task.metric]
        if metric.input_image and not example.images:
            faults.append(
                f"input.json: {where}: no image entry, but metric {task.metric} compares with the input's image"
            )
        if metric.output == "image" and not example.texts:
            faults.append(
                f"input.json: {where}: no text entry, but metric {task.metric} compares with the input's text"
            )
        examples.append(example)
    if faults:
        raise DataError(faults, len(faults) + found.total - len(found.kept))
    return Data(root, tuple(examples), frozenset(digests), frozenset(files))


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check `predictions.json` and the images that scoring needs. Every id of the input must be there
    exactly once, with an entry of its task's output type; surplus entries are allowed and not looked at further.

    A text may hold any characters but ASCII control characters (tab, line feed and carriage return are allowed): no
    answer needs them, and terminals, CSV and HTML give them meanings of their own. An image must not be a reference
    image: not its file, not its bytes, not its pixels in whatever lossless file. A reference that was changed in any
    way (saved anew as JPEG, resized, one pixel) is not told from a very good prediction.

    Raises `OutputError`, a `SubmissionError`, with all faults; `EvaluatorError` where this machine cannot take the
    images in.
    """
    root = Path(folder)
    found = Findings()
    if root.is_symlink():
        found.add(rules.OUTPUT_FOLDER, f"output folder {root}", "is a symbolic link")
    elif not root.is_dir():
        found.add(rules.OUTPUT_FOLDER, f"output folder {root}", "does not exist or is not a folder")
    if found:
        raise OutputError(found)
    predicted = _read_entries(root, "predictions.json", found, OutputError)
    _check_ids("predictions.json", {example.id: None for example in data.examples}, predicted, found)
    predictions = Predictions(Path(tempfile.mkdtemp(prefix="predictions-")))
    weakref.finalize(predictions, shutil.rmtree, predictions.root, ignore_errors=True)
    with _Images(root, predictions.root, data) as images:
        for example, where, content in _outputs(predicted, data, found):
            if example.task.output == "text":
                predictions.texts[example.id] = content
                _check_text(content, where, found)
                continue
            predictions.images[example.id] = content
            broken = images.take(content, write=not found)
            if broken:
                found.add(broken.rule, f"{where}: image {show(content)}", broken.found)
    if found:
        raise OutputError(found)
    return predictions


def _outputs(
    predicted: dict[str, list[tuple[str, Any]] | None], data: Data, found: Findings
) -> Iterator[tuple[Example, str, str]]:
    """What is to be scored: example, place, content. Ids that are missing or malformed were reported before."""
    for example in data.examples:
        entries = predicted.get(example.id)
        if entries is None:
            continue
        output = example.task.output
        where = f"predictions.json: id {show(example.id)} ({example.task.name})"
        content = next((content for type, content in entries if type == output), None)
        if content is None:
            found.add(rules.MISSING_OUTPUT, where, f"no {output} entry, and the task's output is {output}")
        else:
            yield example, where, content


def _check_text(text: str, where: str, found: Findings) -> None:
    if len(text) > limits.MAX_TEXT_CHARACTERS:
        found.add(rules.TEXT_LENGTH, where, f"a text of {len(text)} characters")
    if control := _CONTROL.search(text):
        at = f"U+{ord(control[0]):04X} at character {control.start()}"
        found.add(rules.CONTROL_CHARACTER, where, f"a text with a control character, {at}")


class _Images:
    """Takes images of an output folder into a private one. A file that several ids name is read once."""

    def __init__(self, root: Path, target: Path, data: Data) -> None:
        self._root, self._target, self._data = root, target, data
        truth = {str(data.root / example.truth_image) for example in data.examples if example.truth_image}
        self._truth_paths = truth
        self._taken: dict[str, RuleBroken | None] = {}
        self._bytes = 0
        self._decoder = Decoder()

    def __enter__(self) -> "_Images":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def take(self, path: str, write: bool) -> RuleBroken | None:
        """Check an image and, with `write`, write its pixels anew; returns the rule that it breaks, if any."""
        if path not in self._taken:
            self._taken[path] = self._take(path, write)
        return self._taken[path]

    def _take(self, path: str, write: bool) -> RuleBroken | None:
        try:
            if self._bytes > limits.MAX_FOLDER_IMAGE_BYTES:
                raise RuleBroken(rules.FOLDER_BYTES, f"images before this one have {self._bytes} bytes")
            self._decoder.check_folder()
            content = read_regular(self._root, path, limits.MAX_IMAGE_BYTES)
            self._bytes += len(content)
            if os.path.realpath(self._root / path) in self._truth_paths:
                raise RuleBroken(rules.REFERENCE_IMAGE, "is a reference image")
            if hashlib.sha256(content).hexdigest() in self._data.truth_files:
                raise RuleBroken(rules.REFERENCE_IMAGE, "is a copy of a reference image's file")
            image = self._decoder.decode(content)
            if pixel_digest(image) in self._data.truth_digests:
                raise RuleBroken(rules.REFERENCE_IMAGE, "is a copy of a reference image's pixels")
        except RuleBroken as broken:
            return broken
        if write:
            target = self._target / path
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                image.save(target, "BMP")  # no work to write or read; the folder's pixels are limited
            except OSError as error:
                raise EvaluatorError(f"an image cannot be kept in {self._target}: {error.strerror}") from error
        return None


def _read_entries(
    root: Path, name: str, found: Findings, error: type[EvaluatorError], answers: bool = False
) -> dict[str, list[tuple[str, Any]] | None]:
    """`{id: [(type, content), ...]}` of an entries file, None for an id whose value is malformed; with `answers`, a
    text's content is a list of texts.

    Faults are added to `found`; it is raised as `error` where there is nothing to go on with.
    """
    before = found.total
    document = parse_file(root, name, found)
    if document is None and found.total > before:
        raise error(found)
    if not isinstance(document, dict):
        found.add(rules.JSON_SHAPE, name, f"must be an object of ids, not {_kind(document)}")
        raise error(found)
    if len(document) > limits.MAX_JSON_ENTRIES:
        found.add(rules.ENTRY_COUNT, name, f"{len(document)} ids")
        raise error(found)
    examples: dict[str, list[tuple[str, Any]] | None] = {}
    count = 0
    for id, entries in document.items():
        where = f"{name}: id {show(id)}"
        examples[id] = None
        if not isinstance(entries, list):
            found.add(rules.JSON_SHAPE, where, f"must be a list of entries, not {_kind(entries)}")
            continue
        count += len(entries)
        faults = [(position, _entry_fault(entry, answers)) for position, entry in enumerate(entries)]
        for position, fault in faults:
            if fault:
                found.add_broken(f"{where}: entry {position}", fault)
        if not any(fault for _, fault in faults):
            examples[id] = [(entry["type"], entry["content"]) for entry in entries]
    if count > limits.MAX_JSON_ENTRIES:
        found.add(rules.ENTRY_COUNT, name, f"{count} entries")
        raise error(found)
    return examples


def _entry_fault(entry: Any, answers: bool) -> RuleBroken | None:
    if not isinstance(entry, dict):
        return RuleBroken(rules.JSON_SHAPE, f"must be an object with type and content, not {_kind(entry)}")
    missing = [key for key in ("type", "content") if key not in entry]
    if missing:
        return RuleBroken(rules.JSON_SHAPE, f"{' and '.join(missing)} missing")
    type, content = entry["type"], entry["content"]
    if not isinstance(type, str) or type not in TYPES:
        found = show(type) if isinstance(type, str) else _kind(type)
        return RuleBroken(rules.JSON_SHAPE, f"type must be 'text' or 'image', not {found}")
    if answers and type == "text":
        if not isinstance(content, list) or not content or not all(isinstance(answer, str) for answer in content):
            return RuleBroken(rules.ANSWERS_SHAPE, f"content must be a list of accepted answers, not {show(content)}")
    elif not isinstance(content, str):
        return RuleBroken(rules.JSON_SHAPE, f"content must be a text, not {_kind(content)}")
    return None


def _check_ids(name: str, expected: Collection[str], given: Collection[str], found: Findings) -> None:
    for id in expected:
        if id not in given:
            found.add(rules.MISSING_ID, f"{name}: id {show(id)}", "missing")
    for id in given:
        if id not in expected:
            found.add(rules.UNKNOWN_ID, f"{name}: id {show(id)}", "unknown, not in input.json")


def _folder_fault(path: str, folder: str) -> str | None:
    return None if PurePosixPath(path).parts[:1] == (folder,) else f"must lie in {folder}/"


def _kind(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
