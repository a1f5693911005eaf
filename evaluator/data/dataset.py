"""The organizer's data: what is asked and what is accepted, read from a data folder that is trusted, and yet checked.

Nothing here follows a link, reads a device, or opens a path outside the folder. Faults are collected, so that one
reading names all of them; each is a `Finding` of a rule, with the id it belongs to.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from evaluator.competition import definition
from evaluator.competition.definition import Competition
from evaluator.competition.task import Task
from evaluator.competition.tasks_json import parse_tasks
from evaluator.core import limits
from evaluator.core.errors import DataError, Finding, Findings, Rule, RuleBroken, show
from evaluator.core.files import read_regular
from evaluator.core.strict_json import parse_file
from evaluator.data.entries import ALL_TYPES, check_ids, depth_note, json_kind, read_entries
from evaluator.data.images import DEEP_MODE, decode, pixel_digest

NO_EXAMPLES = Rule("no-examples", "at least one example", "write the examples into input.json")
SAMPLE_TASK = Rule(
    "sample-task",
    "an object that gives each id the number of its task, one that the competition or tasks.json defines",
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
TRUTH_JSON = Rule("truth-json", "a value that the metric allows", "correct the value, or choose a metric")
TRUTH_LANGUAGE = Rule(
    "truth-language", "the language of what is asked, where the task's metric needs it", 'write "language": "ru"'
)
INPUT_ENTRY = Rule(
    "input-entry", "an entry of the type that the task's metric compares with", "complete the input, or choose a metric"
)


@dataclass(frozen=True)
class Entry:
    """One `{"type": ..., "content": ...}`: natural language, or an image's path below the folder."""

    type: str
    content: str


@dataclass(frozen=True)
class Example:
    """One id of the data: what is asked and what is accepted.

    `answers` are the accepted texts of a task with text output (else empty); `truth_image` is the reference image's
    path below the data folder of a task with image output (else None); `truth_json` the reference of one with JSON
    output. `language` is the question's, where the data say so. `unscored` is what else the truth says, such as a
    question's number elsewhere: a JSON value that no score depends on. `key` is the id in results: ids of one task
    differ, `id` differs from that of any other example.
    """

    id: str
    task: Task
    inputs: tuple[Entry, ...]
    answers: tuple[str, ...] = ()
    truth_image: str | None = None
    truth_json: Any = None
    language: str | None = None
    unscored: Any = None
    task_id: str | None = None

    @property
    def key(self) -> str:
        """The id in results."""
        return self.id if self.task_id is None else self.task_id

    @property
    def texts(self) -> list[str]:
        """The input's texts, in their order."""
        return [entry.content for entry in self.inputs if entry.type == "text"]

    @property
    def images(self) -> list[str]:
        """The paths of the input's images below the data folder, in their order."""
        return [entry.content for entry in self.inputs if entry.type == "image"]


@dataclass(frozen=True)
class Data:
    """A checked data folder: `truth_digests` are the `pixel_digest`s of the reference images, `files` the SHA-256 of
    the JSON files and of every image that the data names, by path in the folder. `notes` say what is unusual, though
    not wrong. `shown` are the files that a submission gets, by their place in its input. `contract` is the name of the
    one that the folder is written by, and that its submissions are.
    """

    root: Path
    competition: Competition
    examples: tuple[Example, ...]
    truth_digests: frozenset[str]
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Finding, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    contract: str = "standard"

    def by_task(self) -> dict[Task, list[Example]]:
        """The examples of each task that occurs, by task number."""
        groups: dict[Task, list[Example]] = {}
        for example in sorted(self.examples, key=lambda example: example.task.number):
            groups.setdefault(example.task, []).append(example)
        return groups


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
        parameters = task.metric.defaults() | dict(task.parameters)
        accepted: Any = list(example.answers) if truth is None else data.files[truth]
        if task.output == "json":
            accepted = example.truth_json
        entry = [example.id, task.number, task.metric.name, parameters, inputs, accepted]
        examples.append(entry if example.language is None else [*entry, example.language])
    canonical = json.dumps(examples, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def read_data(folder: Path | str, competition: Competition | None = None) -> Data:
    """Read and check `input.json`, `ground_truth.json`, `sample_ids.json`, `tasks.json` (needed for tasks that the
    competition leaves to the data only) and every image they name. Any subset of the tasks will do.

    Raises `DataError` with all faults.
    """
    competition = competition or definition.default()
    root = data_root(folder)
    found = Findings()
    files: dict[str, str] = {}
    inputs = read_entries(root, "input.json", found, DataError, files)
    truth = read_entries(root, "ground_truth.json", found, DataError, files, answers=True, types=ALL_TYPES)
    numbers = parse_file(root, "sample_ids.json", found, digests=files)
    if not found and not isinstance(numbers, dict):
        found.add(SAMPLE_TASK, "sample_ids.json", f"must be an object of ids, not {json_kind(numbers)}")
    if not found and not inputs:
        found.add(NO_EXAMPLES, "input.json", "has no examples")
    if found:
        raise DataError(found)
    configuration: Any = {}
    if os.path.lexists(root / "tasks.json"):
        configuration = parse_file(root, "tasks.json", found, digests=files)
        if found:
            raise DataError(found)
    tasks = parse_tasks(configuration, competition)

    check_ids("ground_truth.json", inputs, truth, found)
    check_ids("sample_ids.json", inputs, numbers, found)
    examples: list[Example] = []
    digests: set[str] = set()
    deep: dict[str, list[str]] = {"input.json": [], "ground_truth.json": []}
    asked = {PurePosixPath(path) for entries in inputs.values() for type, path, _ in entries or () if type == "image"}
    for id, entries in inputs.items():
        number = numbers.get(id)
        if id not in truth or id not in numbers:
            continue
        if isinstance(number, bool) or not isinstance(number, int) or number not in tasks:
            known = ", ".join(str(known) for known in sorted(tasks))
            hint = " (it must be defined in tasks.json)" if number in competition.numbers else ""
            where = f"sample_ids.json: id {show(id)}"
            found.add(SAMPLE_TASK, where, f"task {show(number)} is not one of {known}{hint}")
            continue
        task = tasks[number]
        where = f"id {show(id)} ({task.name})"
        example = Example(id, task, tuple(Entry(type, content) for type, content, _ in entries or ()))
        accepted = next((entry for entry in truth[id] or () if entry.type == task.output), None)
        wanted: Any = None
        if accepted is not None:
            wanted, example = accepted.content, replace(example, language=accepted.language)
        if accepted is None:
            found.add(TRUTH_OUTPUT, f"ground_truth.json: {where}", f"no {task.output} entry")
        elif task.output == "json":
            example = replace(example, truth_json=wanted)
            if fault := task.metric.truth_fault(wanted):
                found.add(TRUTH_JSON, f"ground_truth.json: {where}", fault)
        elif isinstance(wanted, list):
            unscored = next((entry.content for entry in truth[id] or () if entry.type == "json"), None)
            example = replace(example, answers=tuple(wanted), unscored=unscored)
        else:
            example = replace(example, truth_image=wanted)
            broken = None
            if PurePosixPath(wanted) in asked and not _is_truths(wanted):
                broken = RuleBroken(TRUTH_PLACE, "is an input's image as well")
            place = f"ground_truth.json: {where}: image {show(wanted)}"
            image = read_image(root, wanted, place, found, files, broken)
            if image is not None:
                digests.add(pixel_digest(image))
                if DEEP_MODE in image.info:
                    deep["ground_truth.json"].append(id)
        for path in example.images:
            broken = None
            if _is_truths(path):
                broken = RuleBroken(INPUT_PLACE, "must not lie in gt_images/")
            image = read_image(root, path, f"input.json: {where}: image {show(path)}", found, files, broken)
            if image is not None and DEEP_MODE in image.info:
                deep["input.json"].append(id)
        metric = task.metric
        if metric.input_image and not example.images:
            compares = f"no image entry, but metric {metric.name} compares with the input's image"
            found.add(INPUT_ENTRY, f"input.json: {where}", compares)
        if metric.language and accepted is not None and accepted.language is None:
            missing = f"no language, but metric {metric.name} compares by it"
            found.add(TRUTH_LANGUAGE, f"ground_truth.json: {where}", missing)
        if metric.output == "image" and not example.texts:
            compares = f"no text entry, but metric {metric.name} compares with the input's text"
            found.add(INPUT_ENTRY, f"input.json: {where}", compares)
        examples.append(example)
    if found:
        raise DataError(found)
    notes = tuple(depth_note(name, ids) for name, ids in deep.items() if ids)
    shown = {path: path for path in ("input.json", *(path for example in examples for path in example.images))}
    return Data(root, competition, tuple(examples), frozenset(digests), files, notes, shown)


def data_root(folder: Path | str) -> Path:
    """The data folder's path, without links. Raises `DataError` where it is none."""
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"data folder {root} does not exist or is not a folder")
    return root.resolve()


def documents(data: Data) -> dict[str, dict[str, Any]]:
    """The JSON files that say what `data` do, by name; but for tasks.json, and for tasks with text or JSON output
    alone.
    """
    files: dict[str, dict[str, Any]] = {"input.json": {}, "ground_truth.json": {}, "sample_ids.json": {}}
    for example in data.examples:
        accepted: dict[str, Any] = {"type": example.task.output}
        accepted["content"] = example.truth_json if example.task.output == "json" else list(example.answers)
        if example.language is not None:
            accepted["language"] = example.language
        truth = [accepted]
        if example.unscored is not None:
            truth.append({"type": "json", "content": example.unscored})
        files["input.json"][example.id] = [{"type": each.type, "content": each.content} for each in example.inputs]
        files["ground_truth.json"][example.id] = truth
        files["sample_ids.json"][example.id] = example.task.number
    return files


def _is_truths(path: str) -> bool:
    """Whether a path leads into the folder that inputs may not name."""
    return PurePosixPath(path).parts[:1] == ("gt_images",)


def read_image(
    root: Path, path: str, where: str, found: Findings, files: dict[str, str], misplaced: RuleBroken | None = None
) -> Image.Image | None:
    """Check an image of the data and add its file's SHA-256 to `files`; returns the image, None for a faulty one, whose
    fault at `where` is added to `found`. `misplaced` says that it may not lie where it does.
    """
    try:
        if misplaced:
            raise misplaced
        content = read_regular(root, path, limits.MAX_IMAGE_BYTES, near=found.total < limits.NEAR_FAULTS)
        image = decode(content)
    except RuleBroken as broken:
        found.add_broken(where, broken)
        return None
    files[path] = hashlib.sha256(content).hexdigest()
    return image
