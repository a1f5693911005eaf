"""Which checkpoints a submission has, and which of them make up the model of which task.

Where nobody says so, each checkpoint, or all shards of an index, is a model. `models.json` at the submission's root, or
whoever calls, says for each task which checkpoints, indices or folders its model is made of:

    {"C2C": ["trunk.safetensors", "c2c.safetensors"], "VQA": ["trunk.safetensors", "vqa"]}

It is a file of its own, and no key of metadata.json, whose two keys are published.
"""

import posixpath
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from evaluator.core import limits
from evaluator.core.errors import Findings, RuleBroken, meant, show
from evaluator.core.strict_json import parse_file
from evaluator.package import checkpoints, rules
from evaluator.package.checkpoints import Tensor

NAME = "models.json"
_INDEX_ENDINGS = (".safetensors.index.json", ".bin.index.json")  # as transformers writes them
_NOTED_BYTES = 10**6  # of a file that is no checkpoint and may hold parameters all the same
_SHOWN = 3  # names in a line
_MAX_TASK_CHARACTERS = 64


@dataclass(frozen=True)
class Weights:
    """The tensors of each checkpoint, by its path; the shards of each index, by its path; the `unread` files, no
    checkpoints, that are large enough to hold parameters.
    """

    tensors: Mapping[str, list[Tensor]]
    indices: Mapping[str, tuple[str, ...]]
    unread: Mapping[str, int]

    @property
    def filled(self) -> set[str]:
        """The checkpoints that have parameters."""
        return {path for path, found in self.tensors.items() if any(one.memory.parameters for one in found)}

    @property
    def notes(self) -> list[str]:
        """What was passed over."""
        notes = []
        if empty := sorted(set(self.tensors) - self.filled):
            notes.append(f"without parameters, and no model: {some(empty)}")
        if self.unread:
            size, names = sum(self.unread.values()), sorted(self.unread, key=lambda path: -self.unread[path])
            notes.append(f"not read, as these are no checkpoints, {size} bytes together: {some(names)}")
        return notes


@dataclass(frozen=True)
class Parts:
    """The checkpoints that a model is made of, and the tasks that it serves; none where nobody said which."""

    tasks: tuple[str, ...]
    files: tuple[str, ...]


def some(names: Sequence[str], between: str = ", ") -> str:
    """The first names of many, on one line."""
    more = f"{between}{len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more


def read_weights(root: Path, sizes: Mapping[str, int], findings: Findings) -> Weights:
    """The weights among the files of a submission that lies at `root`; `sizes` has each file's bytes. Of use only where
    nothing was added to `findings`.
    """
    tensors: dict[str, list[Tensor]] = {}
    paths = [path for path in sizes if path.endswith(checkpoints.ENDINGS)]
    if len(paths) > limits.MAX_CHECKPOINTS:
        findings.add(rules.CHECKPOINT_SIZE, "", f"{len(paths)} checkpoints")
        paths = []
    room = limits.MAX_TENSORS
    deadline = time.monotonic() + limits.ALL_PICKLES_SECONDS
    for path in paths:
        try:
            if path.endswith(".bin") and not checkpoints.is_torch(root, path):
                continue
            tensors[path] = checkpoints.read(root, path, deadline)
            room -= len(tensors[path])
            if room < 0:
                raise RuleBroken(rules.CHECKPOINT_SIZE, f"{limits.MAX_TENSORS - room} tensors up to this checkpoint")
        except RuleBroken as broken:
            findings.add_broken(path, broken)
            if room < 0 or broken.rule is rules.CHECKPOINT_TIME:
                break
    indices = {}
    for path in sizes:
        if path.endswith(_INDEX_ENDINGS) and not findings:
            indices[path] = _read_index(root, path, tensors, findings)
    unread = {path: size for path, size in sizes.items() if size >= _NOTED_BYTES and path not in tensors}
    return Weights(tensors, indices, unread)


def _read_index(root: Path, path: str, tensors: Mapping[str, list[Tensor]], findings: Findings) -> tuple[str, ...]:
    """The shards that an index names. Each tensor must be in the one that it names."""
    document = parse_file(root, path, findings, limits.MAX_CHECKPOINT_HEADER_BYTES)
    places = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        findings.add(rules.CHECKPOINT_INDEX, path, "has no weight_map of tensors and their files")
        return ()
    folder = posixpath.dirname(path)
    shards = {file: posixpath.normpath(posixpath.join(folder, file)) for file in places.values()}
    names = {file: {tensor.name for tensor in tensors.get(shard, ())} for file, shard in shards.items()}
    for file, shard in shards.items():
        if shard not in tensors:
            findings.add(rules.CHECKPOINT_INDEX, path, f"names {show(file)}, which is no checkpoint here")
    for name, file in places.items():
        if shards[file] in tensors and name not in names[file]:
            findings.add(rules.CHECKPOINT_INDEX, path, f"says that {show(name)} is in {show(file)}, which has none")
    return tuple(sorted(set(shards.values())))


def read_models(root: Path, findings: Findings) -> dict[str, list[str]]:
    """What the submission's models.json says, by task. Of use only where nothing was added to `findings`."""
    before = findings.total
    document = parse_file(root, NAME, findings, limits.MAX_MODELS_BYTES)
    if findings.total > before:
        return {}
    models: dict[str, list[str]] = {}
    if not isinstance(document, dict) or not document:
        findings.add(rules.MODELS, NAME, f"must be an object like the one allowed, not {show(document)}")
        return {}
    if len(document) > limits.MAX_MODEL_TASKS:
        findings.add(rules.MODELS, NAME, f"names {len(document)} tasks")
        return {}
    for task, paths in document.items():
        listed: list[Any] = paths if isinstance(paths, list) else [paths]
        if not listed or not all(isinstance(path, str) and path for path in listed):
            findings.add(rules.MODELS, NAME, f"task {show(task)}: must be a path or a list of paths, not {show(paths)}")
        elif not (0 < len(task) <= _MAX_TASK_CHARACTERS and task.isprintable()):
            findings.add(rules.MODELS, NAME, f"{show(task)} is no name of a task")
        else:
            models[task] = listed
    return models


def each_alone(weights: Weights) -> list[Parts]:
    """Each checkpoint that has parameters, and all shards of an index together, as a model."""
    in_shards = {file for files in weights.indices.values() for file in files}
    alone = [(path,) for path in weights.tensors if path in weights.filled and path not in in_shards]
    return [Parts((), files) for files in sorted({*alone, *weights.indices.values()}) if weights.filled & {*files}]


def chosen(weights: Weights, models: Mapping[str, Sequence[str]], findings: Findings) -> list[Parts]:
    """The models that `models` names, by task, as paths; tasks with the same checkpoints have one. What cannot be
    followed is added to `findings`.
    """
    places, filled = _places(weights), weights.filled
    tasks_of: dict[tuple[str, ...], list[str]] = {}
    for task, paths in models.items():
        if len(paths) > limits.MAX_MODEL_PATHS:
            findings.add(rules.MODELS, NAME, f"task {show(task)}: names {len(paths)} paths")
            continue
        files: set[str] = set()
        for place, path in {posixpath.normpath(path): path for path in paths}.items():
            if (found := places.get(place)) is None:
                wrong = f"task {show(task)}: {show(path)} is no checkpoint, no index and no folder of some"
                findings.add(rules.MODELS, NAME, wrong + _near(path, (*weights.tensors, *weights.indices), findings))
            else:
                files |= found
        if files and not filled & files:
            findings.add(rules.MODELS, NAME, f"task {show(task)}: {show(', '.join(paths))} has no parameters")
        tasks_of.setdefault(tuple(sorted(files)), []).append(task)
    return [Parts(tuple(tasks), files) for files, tasks in tasks_of.items()]


def _places(weights: Weights) -> dict[str, set[str]]:
    """The checkpoints that each path stands for: that of a checkpoint, of a folder above some, of an index."""
    places: dict[str, set[str]] = defaultdict(set)
    for file in weights.tensors:
        for place in (PurePosixPath(file), *PurePosixPath(file).parents):
            places[str(place)].add(file)
    return dict(places) | {index: set(files) for index, files in weights.indices.items()}


def check_tasks(models: Mapping[str, Sequence[str]], tasks: Collection[str], findings: Findings) -> None:
    """Add to `findings` where `models` names other tasks than `tasks`; fewer than two where these are not known."""
    if not tasks and len(models) < 2:
        findings.add(rules.MODELS, NAME, "must name the models of two tasks or more")
    for task in tasks:
        if task not in models:
            findings.add(rules.MODELS, NAME, f"names no model of the task {task}")
    for task in models if tasks else ():
        if task not in tasks:
            wrong = f"{show(task)} is no task; there are {', '.join(tasks)}"
            findings.add(rules.MODELS, NAME, wrong + _near(task, tasks, findings))


def _near(name: str, known: Iterable[str], findings: Findings) -> str:
    """Which of the known names may be meant, of the first that are not known."""
    return meant(name, known) if findings.total < limits.NEAR_FAULTS else ""


def left_over(weights: Weights, models: Sequence[Parts]) -> list[Parts]:
    """The checkpoints with parameters that are in none of `models`."""
    used = {file for model in models for file in model.files}
    rest = [tuple(file for file in one.files if file not in used) for one in each_alone(weights)]
    return [Parts((), files) for files in rest if files]
