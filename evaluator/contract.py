"""Strict reading of the contract's files: a data folder (trusted, yet checked) and an output folder (untrusted).

Nothing here follows a link, reads a device, or opens a path outside the folder it was given. Faults are collected, so
that one reading names all of them; each is one line with the id it belongs to.
"""

import hashlib
import io
import json
import os
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from PIL import Image

from evaluator import limits
from evaluator.errors import DataError, EvaluatorError, SubmissionError, show
from evaluator.tasks import METRICS, Task, parse_tasks

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
    """A checked data folder. `truth_digests` are `pixel_digest`s of the reference images."""

    root: Path
    examples: tuple[Example, ...]
    truth_digests: frozenset[str]

    def by_task(self) -> dict[Task, list[Example]]:
        """The examples of each task that occurs, by task number."""
        groups: dict[Task, list[Example]] = {}
        for example in sorted(self.examples, key=lambda example: example.task.number):
            groups.setdefault(example.task, []).append(example)
        return groups


@dataclass(frozen=True)
class Predictions:
    """A checked output folder: per id the first text (of a text task) or the first image's path (of an image task)."""

    root: Path
    texts: dict[str, str]
    images: dict[str, str]


def read_data(folder: Path | str) -> Data:
    """Read and check `input.json`, `ground_truth.json`, `sample_ids.json`, `tasks.json` (needed for hidden tasks
    only) and every image they name. Any subset of the tasks will do.

    Raises `DataError` with all faults.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist or is not a folder")
    root = root.resolve()
    inputs = _read_entries(root, "input.json", DataError)
    truth = _read_entries(root, "ground_truth.json", DataError, answers=True)
    numbers = read_json(root, "sample_ids.json", DataError)
    if not isinstance(numbers, dict):
        raise DataError(f"sample_ids.json: must be an object of ids, not {type(numbers).__name__}")
    tasks = parse_tasks(read_json(root, "tasks.json", DataError) if (root / "tasks.json").exists() else {})

    if not inputs:
        raise DataError("input.json: has no examples")
    faults = _id_faults("ground_truth.json", inputs, truth) + _id_faults("sample_ids.json", inputs, numbers)
    examples: list[Example] = []
    digests: set[str] = set()
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
        example = Example(id, task, tuple(Entry(type, content) for type, content in entries))
        wanted = next((content for type, content in truth[id] if type == task.output), None)
        if wanted is None:
            faults.append(f"ground_truth.json: {where}: no {task.output} entry")
        elif isinstance(wanted, list):
            example = Example(id, task, example.inputs, answers=tuple(wanted))
        else:
            example = Example(id, task, example.inputs, truth_image=wanted)
            fault = _folder_fault(wanted, "gt_images")
            try:
                if not fault:
                    digests.add(pixel_digest(load_image(root, wanted)))
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
        raise DataError(faults)
    return Data(root, tuple(examples), frozenset(digests))


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check `predictions.json` and the images that scoring needs. Every id of the input must be there
    exactly once, with an entry of its task's output type; surplus entries are allowed and not looked at further.

    Raises `SubmissionError` with all faults.
    """
    root = Path(folder)
    if root.is_symlink():
        raise SubmissionError(f"output folder {root} is a symbolic link; it must be a folder")
    if not root.is_dir():
        raise SubmissionError(f"output folder {root} does not exist or is not a folder")
    predicted = _read_entries(root, "predictions.json", SubmissionError)
    faults = _id_faults("predictions.json", {example.id: None for example in data.examples}, predicted)
    texts: dict[str, str] = {}
    images: dict[str, str] = {}
    for example in data.examples:
        if example.id not in predicted:
            continue
        output = example.task.output
        content = next((content for type, content in predicted[example.id] if type == output), None)
        where = f"predictions.json: id {show(example.id)} ({example.task.name})"
        if content is None:
            faults.append(f"{where}: no {output} entry, and the task's output is {output}")
        elif output == "text":
            texts[example.id] = content
            if len(content) > limits.MAX_TEXT_CHARACTERS:
                faults.append(
                    f"{where}: text of {len(content)} characters; at most {limits.MAX_TEXT_CHARACTERS} are allowed"
                )
        else:
            images[example.id] = content
            try:
                if pixel_digest(load_image(root, content)) in data.truth_digests:
                    faults.append(f"{where}: image {show(content)}: is a copy of a reference image")
            except ValueError as error:
                faults.append(f"{where}: image {show(content)}: {error}")
    if faults:
        raise SubmissionError(faults)
    return Predictions(root, texts, images)


def read_json(root: Path, name: str, error: type[EvaluatorError], limit: int = limits.MAX_JSON_BYTES) -> Any:
    """Parse `root/name` as strict JSON: UTF-8, no duplicate keys, no NaN or Infinity, no half surrogates, bounded in
    size and depth.

    Raises `error` with one line.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            seen: set[str] = set()
            key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"the key {show(key)} occurs twice in one object")
        return document

    def constant(value: str) -> NoReturn:
        raise ValueError(f"{value} is not allowed in JSON")

    try:
        content = read_regular(root, name, limit).decode("utf-8-sig")
        document = json.loads(content, object_pairs_hook=unique, parse_constant=constant)
        if "\\ud" in content.lower():
            # A half surrogate is valid JSON, but no text that can be written or tokenised.
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise error(f"{name}: nested too deeply") from None
    except json.JSONDecodeError as fault:
        raise error(f"{name}: invalid JSON at line {fault.lineno}, column {fault.colno}: {fault.msg}") from None
    except UnicodeDecodeError as fault:
        raise error(f"{name}: not UTF-8 at byte {fault.start}: {fault.reason}") from None
    except UnicodeEncodeError:
        raise error(f"{name}: a text has half of a surrogate pair") from None
    except ValueError as fault:
        raise error(f"{name}: {fault}") from None
    return document


def read_regular(root: Path, relative: str, limit: int) -> bytes:
    """The bytes of a regular file below `root`, reached without any link.

    Raises `ValueError` with the reason: a path that is empty, absolute or has `..`, no regular file, larger than
    `limit` bytes.
    """
    if not relative or "\0" in relative or "\\" in relative or not relative.isprintable():
        raise ValueError("the path is empty or has a character that is not allowed")
    parts = PurePosixPath(relative).parts
    if PurePosixPath(relative).is_absolute():
        raise ValueError("the path is absolute; it must be relative to the folder")
    if ".." in parts:
        raise ValueError("the path has '..'; it must stay inside the folder")
    path = root
    try:
        for part in parts:
            path = path / part
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise ValueError("the path goes through a symbolic link")
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise ValueError("is not a regular file")
        # The flags close the gap between looking and opening: no link is followed, and a FIFO does not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("is not a regular file")
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise ValueError("the file does not exist") from None
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    if len(content) > limit:
        raise ValueError(f"the file is larger than the allowed {limit} bytes")
    return content


def load_image(root: Path, relative: str) -> Image.Image:
    """An image below `root`, decoded whole into a new RGB image that carries nothing but pixels.

    Raises `ValueError` with the reason: everything `read_regular` refuses, another format than
    `limits.IMAGE_FORMATS`, more than `limits.MAX_IMAGE_PIXELS` pixels, a file cut short or broken.
    """
    content = read_regular(root, relative, limits.MAX_IMAGE_BYTES)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large images on its own; the limit below decides
            image = Image.open(io.BytesIO(content), formats=limits.IMAGE_FORMATS)
            pixels = image.width * image.height
            if pixels <= limits.MAX_IMAGE_PIXELS:
                rgb = image.convert("RGB")
                return Image.frombytes("RGB", rgb.size, rgb.tobytes())
    except Image.DecompressionBombError:
        raise ValueError(f"has more than the allowed {limits.MAX_IMAGE_PIXELS} pixels") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"is not a readable image of a known format ({', '.join(limits.IMAGE_FORMATS)})") from None
    except Exception as error:  # a decoder fed with hostile bytes may raise anything; all of it means the same
        raise ValueError(f"cannot be decoded: {show(str(error))}") from None
    raise ValueError(f"has {image.width} x {image.height} pixels; at most {limits.MAX_IMAGE_PIXELS} are allowed")


def pixel_digest(image: Image.Image) -> str:
    """A hash of an RGB image's size and pixels, the same for every lossless file of it."""
    return hashlib.sha256(f"{image.width}x{image.height}:".encode() + image.tobytes()).hexdigest()


def _read_entries(
    root: Path, name: str, error: type[EvaluatorError], answers: bool = False
) -> dict[str, list[tuple[str, Any]]]:
    """`{id: [(type, content), ...]}` of an entries file; with `answers`, a text's content is a list of texts."""
    document = read_json(root, name, error)
    if not isinstance(document, dict):
        raise error(f"{name}: must be an object of ids, not {_kind(document)}")
    if len(document) > limits.MAX_JSON_ENTRIES:
        raise error(f"{name}: {len(document)} ids; at most {limits.MAX_JSON_ENTRIES} are allowed")
    faults: list[str] = []
    examples: dict[str, list[tuple[str, Any]]] = {}
    for id, entries in document.items():
        where = f"{name}: id {show(id)}"
        examples[id] = []
        if not isinstance(entries, list):
            faults.append(f"{where}: must be a list of entries, not {_kind(entries)}")
            continue
        for position, entry in enumerate(entries):
            fault = _entry_fault(entry, answers)
            if fault:
                faults.append(f"{where}: entry {position}: {fault}")
            else:
                examples[id].append((entry["type"], entry["content"]))
    if sum(map(len, examples.values())) > limits.MAX_JSON_ENTRIES:
        raise error(f"{name}: more than the allowed {limits.MAX_JSON_ENTRIES} entries")
    if faults:
        raise error(faults)
    return examples


def _entry_fault(entry: Any, answers: bool) -> str | None:
    if not isinstance(entry, dict):
        return f"must be an object with type and content, not {_kind(entry)}"
    missing = [key for key in ("type", "content") if key not in entry]
    if missing:
        return f"{' and '.join(missing)} missing"
    type, content = entry["type"], entry["content"]
    if not isinstance(type, str) or type not in TYPES:
        return f"type must be 'text' or 'image', not {show(type)}"
    if answers and type == "text":
        if not isinstance(content, list) or not content or not all(isinstance(answer, str) for answer in content):
            return f"content must be a list of accepted answers (at least one text), not {show(content)}"
    elif not isinstance(content, str):
        return f"content must be a text, not {_kind(content)}"
    return None


def _id_faults(name: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    missing: Sequence[str] = [id for id in expected if id not in found]
    unknown: Sequence[str] = [id for id in found if id not in expected]
    return [f"{name}: id {show(id)} is missing" for id in missing] + [
        f"{name}: id {show(id)} is unknown; it is not in input.json" for id in unknown
    ]


def _folder_fault(path: str, folder: str) -> str | None:
    return None if PurePosixPath(path).parts[:1] == (folder,) else f"must lie in {folder}/"


def _kind(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
