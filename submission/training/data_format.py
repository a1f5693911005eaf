"""The challenge's training format: a folder for each task with inputs, answers and images.

    DATA/textqa/textqa_train.json         {"<id>": [{"type": "text" | "image", "content": "..."}, ...], ...}
    DATA/textqa/textqa_train_answer.json  {"<id>": [{"type": "text", "content": ["first", ...]}], ...}
    DATA/vqa/images/...                   an image's content is its path in the task's folder

The first accepted answer is the one to learn; a picture to generate is an image entry of the answer. The published
archive has the same shape, but for a few names of files (`text_small_train.json`, `math_train.json`) and answers that
are one text instead of a list of texts; both are read here, and so is an answer that is a text or an entry by itself.
An answer that is empty is learned as published, without right text; examples of that kind are counted in the log.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from contract import show
from training.worlds import TASKS

#: The folder of each task, named as in the published archive. Their order is that of the evaluator's task numbers.
FOLDERS = {
    "TextQA": "textqa",
    "MathQA": "mathqa",
    "ImageGeneration": "generation",
    "ImageCaptioning": "captioning",
    "VisualQA": "vqa",
    "TRitW": "text_recognition",
}
TASK_NUMBERS = {task: number for number, task in enumerate(TASKS)}
SPLITS = ("train", "val")
SHOWN_IDS = 3  # of examples with an empty answer

log = logging.getLogger(__name__)
IMAGES = "images"
TRUTH_IMAGES = "gt_images"


class DataError(ValueError):
    """Data that cannot be used; the message is one line with place, value and what is allowed."""


@dataclass(frozen=True)
class Sample:
    """One example: what is asked and what is accepted.

    `inputs` are texts and paths of existing images in their order. `answers` are the accepted texts, the first to be
    learned; an ImageGeneration example has none but `image`, the wanted picture. One without both had an empty answer.
    """

    task: str
    id: str
    inputs: tuple[str | Path, ...]
    answers: tuple[str, ...] = ()
    image: Path | None = None

    @property
    def is_answered(self) -> bool:
        """Whether there is something to learn or to score."""
        return bool(self.answers) or self.image is not None

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the input, in their order."""
        return tuple(entry for entry in self.inputs if isinstance(entry, str))

    @property
    def images(self) -> tuple[Path, ...]:
        """The paths of the input's images, in their order."""
        return tuple(entry for entry in self.inputs if isinstance(entry, Path))


def split_files(data: Path, task: str, split: str) -> tuple[Path, Path]:
    """The files of a task's inputs and answers in a data folder as converters write it."""
    folder = FOLDERS[task]
    return data / folder / f"{folder}_{split}.json", data / folder / f"{folder}_{split}_answer.json"


def read_split(data: Path, task: str, split: str) -> list[Sample]:
    """The examples of a task in a data folder, in the order of the file; none where the split has no files.

    Raises DataError for anything that is not as the format says, a missing image included.
    """
    if task not in FOLDERS or split not in SPLITS:
        allowed = f"tasks {', '.join(FOLDERS)}; splits {', '.join(SPLITS)}"
        raise DataError(f"{data}: no task {show(task)}, split {show(split)}; allowed: {allowed}")
    if not data.is_dir():
        raise DataError(f"{data}: is no folder; allowed: a folder with {', '.join(FOLDERS.values())}")
    input_path, answer_path = split_files(data, task, split)
    if not input_path.exists() and not answer_path.exists():
        return []
    return read_samples(task, input_path, answer_path)


def read_samples(task: str, input_path: Path, answer_path: Path, root: Path | None = None) -> list[Sample]:
    """The examples of two files, in the order of the first; images lie below `root`, the inputs' folder by default.

    Raises DataError for anything that is not as the format says, a missing image included.
    """
    root = input_path.parent if root is None else root
    inputs, answers = _read_entries(input_path), _read_entries(answer_path)
    for id in answers:
        if id not in inputs:
            raise DataError(f"{answer_path}: id {show(id)}: is not in {input_path.name}; allowed: its ids")
    samples = []
    for id, entries in inputs.items():
        where = f"{input_path}: id {show(id)}"
        if id not in answers:
            raise DataError(f"{where}: has no answer in {answer_path.name}")
        given: list[str | Path] = []
        for type, content in entries:
            if not isinstance(content, str):
                raise DataError(f"{where}: content is {show(content)}; allowed: a text")
            given.append(content if type == "text" else _image_file(root, content, where))
        where = f"{answer_path}: id {show(id)}"
        wanted = "image" if task == "ImageGeneration" else "text"
        content = next((content for type, content in answers[id] if type == wanted), None)
        if wanted == "image":
            if not isinstance(content, str):
                raise DataError(f"{where}: no image entry; allowed: one, as the task is {task}")
            samples.append(Sample(task, id, tuple(given), image=_image_file(root, content, where)))
            continue
        accepted = [content] if isinstance(content, str) else content
        if not isinstance(accepted, list) or not accepted or not all(isinstance(a, str) for a in accepted):
            raise DataError(f"{where}: the answer is {show(content)}; allowed: a text or a list of at least one text")
        samples.append(Sample(task, id, tuple(given), tuple(answer for answer in accepted if answer.strip())))
    empty = [show(sample.id) for sample in samples if not sample.is_answered]
    if empty:
        shown = ", ".join(empty[:SHOWN_IDS]) + ", ..." * (len(empty) > SHOWN_IDS)
        log.warning(
            "%s: %d of %d answers are empty (ids %s); they are learned without right text, and not validated on",
            answer_path, len(empty), len(samples), shown,
        )  # fmt: skip
    return samples


def _read_entries(path: Path) -> dict[str, list[tuple[str, Any]]]:
    """`{id: [(type, content), ...]}`."""
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_distinct)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: is {show(document)}; allowed: an object of ids")
    entries = {}
    for id, listed in document.items():
        where = f"{path}: id {show(id)}"
        if isinstance(listed, str):
            listed = [{"type": "text", "content": listed}]
        elif isinstance(listed, dict):
            listed = [listed]
        if not isinstance(listed, list) or not listed:
            raise DataError(f"{where}: is {show(listed)}; allowed: a list of entries")
        for entry in listed:
            if not isinstance(entry, dict) or entry.get("type") not in ("text", "image") or "content" not in entry:
                raise DataError(f"{where}: entry {show(entry)}; allowed: an object with type (text, image) and content")
        entries[id] = [(entry["type"], entry["content"]) for entry in listed]
    return entries


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {show(next(key for key in keys if keys.count(key) > 1))} occurs more than once")
    return members


def _image_file(root: Path, content: str, where: str) -> Path:
    relative = PurePosixPath(content)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or "\0" in content:
        raise DataError(f"{where}: image {show(content)}; allowed: a path inside {root}")
    path = root / relative
    if not path.is_file():
        raise DataError(f"{where}: image {show(content)} is no file in {root}")
    return path


def write_evaluation_data(samples: Iterable[Sample], output: Path) -> int:
    """Write examples as a data folder of the evaluator and of run.py, and return their number.

    It has `input.json`, `ground_truth.json`, `sample_ids.json`, `images/` and `gt_images/`; ids become
    `<task's folder>-<id>`, as ids of two tasks may be the same. Examples with an empty answer are left out. The folder
    appears whole or not at all.

    Raises DataError where `output` exists already, where an id comes twice, or where there are no examples.
    """
    if os.path.lexists(output):
        raise DataError(f"{output}: exists already; allowed: a folder that does not")
    output.parent.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, list[dict[str, Any]]] = {}
    truth: dict[str, list[dict[str, Any]]] = {}
    numbers: dict[str, int] = {}
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as work:
        folder = Path(work) / output.name
        for name in (IMAGES, TRUTH_IMAGES):
            (folder / name).mkdir(parents=True)
        for number, sample in enumerate(sample for sample in samples if sample.is_answered):
            id = f"{FOLDERS[sample.task]}-{sample.id}"
            if id in inputs:
                raise DataError(f"{output}: id {show(sample.id)} of {sample.task} comes twice; allowed: once")
            inputs[id] = []
            for position, entry in enumerate(sample.inputs):
                if isinstance(entry, str):
                    inputs[id].append({"type": "text", "content": entry})
                    continue
                name = f"{IMAGES}/{number}-{position}{entry.suffix}"
                link_or_copy(entry, folder / name)
                inputs[id].append({"type": "image", "content": name})
            if sample.image is None:
                truth[id] = [{"type": "text", "content": list(sample.answers)}]
            else:
                name = f"{TRUTH_IMAGES}/{number}{sample.image.suffix}"
                link_or_copy(sample.image, folder / name)
                truth[id] = [{"type": "image", "content": name}]
            numbers[id] = TASK_NUMBERS[sample.task]
        if not inputs:
            raise DataError(f"{output}: there are no examples to write")
        for name, document in (("input", inputs), ("ground_truth", truth), ("sample_ids", numbers)):
            (folder / f"{name}.json").write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
        os.rename(folder, output)
    return len(inputs)


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link of the file `source`, or a copy where its file system has no such links.

    Raises OSError; ValueError where `source` is no regular file.
    """
    if not stat.S_ISREG(source.stat().st_mode):
        raise ValueError(f"{source} is not a regular file")
    try:
        os.link(source.resolve(), target)
    except FileExistsError:
        raise
    except OSError:  # another file system, one without links, or a file of somebody else
        shutil.copyfile(source, target)
