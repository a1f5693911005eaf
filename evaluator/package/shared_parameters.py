"""Is a submission one model for all tasks, or several side by side? The share of its parameters that all tasks have in
common.

FusionBrain Challenge 1.0 calls a solution multitask when M / N is at least 25 %: N is the number of parameters of the
models that solve the tasks, taken together, M the number of those that are common to them, equal in value and in their
place in the architecture. (The formula beside the sentence has 0.3; so it is a setting.) What the sentence leaves open:

* N counts once what several models share. Were it counted for each of four models, four copies of one model would have
  a quarter, and the formula's 0.3 could never be met.
* A place in the architecture is a tensor's name and shape, a value its bytes: the same numbers as float16 and float32
  are not equal. What some of the models share and others do not is no part of M, and counts once in N.
* Tied tensors of a checkpoint, one memory under several names, are one parameter, together with those of other
  checkpoints that are equal to one of them.
* All that is stored counts, buffers, too: a state dict does not say what was learned. What is an integer or a boolean,
  such as a mask, is noted.
* One checkpoint that serves all tasks shares all of itself. `evaluator.package.models` says what a model of a task is.
  Checkpoints of no task count in N: leaving one out makes no submission smaller.

That shared parameters are used, and help, is the rule's second part, and for a person to judge; so they are listed, and
so is what may hold parameters and could not be read.

    count(submission: Path, required: float, ...) -> SharedParameters
    count_unpacked(root: Path, sizes: Mapping[str, int], required: float, ...) -> SharedParameters
"""

import contextlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from evaluator.core import leftovers
from evaluator.core.errors import DataError, Findings, RuleBroken, SubmissionError, show
from evaluator.core.text import aligned
from evaluator.core.verdict import BAD_WEIGHTS
from evaluator.package import archive, checkpoints, models, rules
from evaluator.package.checkpoints import Memory, Tensor
from evaluator.package.folder import list_folder
from evaluator.package.models import Parts, Weights

_SHOWN = 5  # of the shared tensors
_INTEGERS = ("BOOL", "I", "U")  # kinds of numbers begin so
Source = Literal["each checkpoint", "models.json", "--model"]
#: A tensor's name, shape and kind, and the digest of its bytes, empty where no other tensor has the first three.
_Value = tuple[str, tuple[int, ...], str, bytes]


@dataclass(frozen=True)
class Model:
    """One model: the `files` that it is made of, the `tasks` that it serves (none where nobody said), its number of
    parameters, and how many of them all tasks' models have in common.
    """

    tasks: tuple[str, ...]
    files: tuple[str, ...]
    parameters: int
    shared: int

    def to_json(self) -> dict[str, Any]:
        """As it stands in the document of `SharedParameters`."""
        return {
            "tasks": list(self.tasks),
            "files": list(self.files),
            "parameters": self.parameters,
            "shared": self.shared,
        }


@dataclass(frozen=True)
class SharedTensor:
    """A tensor that all tasks' models have; `tied` are its other names. `dtype` is called as in safetensors."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    tied: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it stands in the document of `SharedParameters`."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "parameters": self.parameters,
            "tied": list(self.tied),
        }


@dataclass(frozen=True)
class SharedParameters:
    """What a count found: `total` is N, `shared` M, `required` the least share. `models` serve tasks, `others` are
    checkpoints of no task, which count in N alone. `tensors` are those shared, the largest first.
    """

    total: int
    shared: int
    required: float
    source: Source
    models: tuple[Model, ...]
    others: tuple[Model, ...]
    tensors: tuple[SharedTensor, ...]
    notes: tuple[str, ...]

    @property
    def share(self) -> float:
        """M / N."""
        return self.shared / self.total

    @property
    def met(self) -> bool:
        """Whether enough is shared."""
        return self.share >= self.required

    @property
    def summary(self) -> str:
        """M, N, their ratio and whether it is enough, on one line."""
        comparison = f"{self.shared} of {self.total} parameters are common to all tasks' models"
        ending = f"at least {self.required:g} needed: {'met' if self.met else 'not met'}"
        return f"{comparison}, {self.share:.4f}; {ending}"

    def to_json(self) -> dict[str, Any]:
        """What `shared-parameters --json` writes, beside the verdict."""
        return {
            "met": self.met,
            "share": self.share,
            "required": self.required,
            "total": self.total,
            "shared": self.shared,
            "models_from": self.source,
            "models": [model.to_json() for model in self.models],
            "others": [model.to_json() for model in self.others],
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """A table with a line for each model, the sums, the largest shared tensors and what is to be known."""
        rows = [("model", "tasks", "parameters", "shared", "share")]
        for model in (*self.models, *self.others):
            tasks = ", ".join(model.tasks) or ("none" if model in self.others else "-")
            share = f"{model.shared / model.parameters:.1%}" if model.parameters else "-"
            rows.append((models.some(model.files, " + "), tasks, str(model.parameters), str(model.shared), share))
        rows.append(("together", "", str(self.total), str(self.shared), f"{self.share:.1%}"))
        lines = aligned(rows, left=(0, 1), rules=(1, len(rows) - 1))
        for tensor in self.tensors[:_SHOWN]:
            lines.append(f"shared: {show(tensor.name)} {tensor.dtype} {list(tensor.shape)}, {tensor.parameters}")
        if len(self.tensors) > _SHOWN:
            lines.append(f"shared: {len(self.tensors) - _SHOWN} more tensors (--json FILE has them all)")
        lines += [f"note: {note}" for note in self.notes]
        return [*lines, self.summary]


def count(
    submission: Path,
    required: float,
    stated: Mapping[str, Sequence[str]] | None = None,
    tasks: Collection[str] = (),
) -> SharedParameters:
    """Count the parameters of a submission, a folder or a ZIP, that all tasks' models have in common.

    `stated` has the paths that each task's model is made of, and goes before the submission's own models.json. `tasks`
    are the competition's, all of which either of both must name; by default any two or more.

    A tensor's bytes are read only where another one has its name, shape and kind, 1 MiB at a time. Raises
    `SubmissionError` (BAD_ZIP, BAD_WEIGHTS) with all findings, `DataError` for a path or `stated` models that cannot be
    used.
    """
    with _unpacked(submission) as (root, sizes):
        return count_unpacked(root, sizes, required, stated, tasks, submission.name)


def count_unpacked(
    root: Path,
    sizes: Mapping[str, int],
    required: float,
    stated: Mapping[str, Sequence[str]] | None = None,
    tasks: Collection[str] = (),
    name: str = "submission",
) -> SharedParameters:
    """The same of a submission that lies unpacked at `root`; `sizes` has the bytes of each file that is one of its, by
    path, and `name` is what it is called in findings.
    """
    findings = Findings()
    weights = models.read_weights(root, sizes, findings)
    source: Source = "--model" if stated is not None else "each checkpoint"
    if stated is None and models.NAME in sizes:
        source, stated = "models.json", models.read_models(root, findings)
    if findings:
        raise SubmissionError(BAD_WEIGHTS, findings)
    if not weights.filled:
        found = f"none among {len(sizes)} files"
        raise SubmissionError(BAD_WEIGHTS, rules.CHECKPOINT_MISSING.finding(name, found))
    serving = models.each_alone(weights)
    if stated is not None:
        models.check_tasks(stated, tasks, findings)
        serving = models.chosen(weights, stated, findings)
        if findings and source == "--model":
            raise DataError([f"{source}: {finding.found}" for finding in findings.kept], findings.total)
        if findings:
            raise SubmissionError(BAD_WEIGHTS, findings)
    try:
        return _compare(root, weights, serving, required, source)
    except RuleBroken as broken:  # a file that was changed meanwhile
        raise SubmissionError(BAD_WEIGHTS, broken.rule.finding(name, broken.found)) from None


@contextlib.contextmanager
def _unpacked(submission: Path) -> Iterator[tuple[Path, dict[str, int]]]:
    """Where a submission's files lie, and the size of each in bytes, by path: those that are, or would be, packed."""
    if submission.is_dir():
        yield submission, list_folder(submission).sizes
        return
    sizes = archive.list_files(submission)
    with leftovers.private_folder("weights") as folder:
        archive.unpack(submission, folder)
        yield folder, sizes


def _compare(
    root: Path, weights: Weights, serving: Sequence[Parts], required: float, source: Source
) -> SharedParameters:
    """Raises `RuleBroken` where a file is no longer what it was."""
    others = models.left_over(weights, serving)
    parameter_of = _parameters(root, weights)
    sizes = {parameter: _size(parameter) for parameter in parameter_of.values()}

    def held(parts: Parts) -> set[_Value]:
        return {parameter_of[tensor] for file in parts.files for tensor in weights.tensors[file]}

    def model(parts: Parts, common: set[_Value]) -> Model:
        inside = held(parts)
        return Model(parts.tasks, parts.files, _sum(sizes, inside), _sum(sizes, inside & common))

    common = set.intersection(*map(held, serving))
    every = set[_Value]().union(*map(held, (*serving, *others)))
    return SharedParameters(
        total=_sum(sizes, every),
        shared=_sum(sizes, common),
        required=required,
        source=source,
        models=tuple(model(parts, common) for parts in serving),
        others=tuple(model(parts, set()) for parts in others),
        tensors=_shared_tensors(parameter_of, common),
        notes=(*_notes(weights, serving, source, every, common), *weights.notes),
    )


def _parameters(root: Path, weights: Weights) -> dict[Tensor, _Value]:
    """For each tensor the one that stands for all that are equal to it, or tied to one that is, in any checkpoint."""
    tensors = [tensor for found in weights.tensors.values() for tensor in found]
    alike: dict[tuple[str, tuple[int, ...], str], set[Memory]] = defaultdict(set)
    for tensor in tensors:
        alike[tensor.name, tensor.memory.shape, tensor.memory.dtype].add(tensor.memory)
    doubtful = {memory for memories in alike.values() if len(memories) > 1 for memory in memories}
    digests = {memory: checkpoints.digest(root, memory) for memory in doubtful}

    first: dict[_Value, _Value] = {}  # of those that are one parameter, towards the one that stands for all

    def standing(value: _Value) -> _Value:
        while first[value] != value:
            first[value] = value = first[first[value]]
        return value

    value_of: dict[Tensor, _Value] = {}
    by_memory: dict[Memory, _Value] = {}
    for tensor in tensors:
        memory = tensor.memory
        several = len(alike[tensor.name, memory.shape, memory.dtype]) > 1
        value = (tensor.name, memory.shape, memory.dtype, digests[memory] if several else b"")
        value_of[tensor] = value
        first.setdefault(value, value)
        first[standing(value)] = standing(by_memory.setdefault(memory, value))
    return {tensor: standing(value) for tensor, value in value_of.items()}


def _size(parameter: _Value) -> int:
    return math.prod(parameter[1])


def _sum(sizes: Mapping[_Value, int], parameters: Iterable[_Value]) -> int:
    return sum(sizes[parameter] for parameter in parameters)


def _shared_tensors(parameter_of: Mapping[Tensor, _Value], common: set[_Value]) -> tuple[SharedTensor, ...]:
    names: dict[_Value, set[str]] = {parameter: set() for parameter in common if _size(parameter)}
    for tensor, parameter in parameter_of.items():
        if parameter in names:
            names[parameter].add(tensor.name)
    found = []
    for parameter, called in names.items():
        _, shape, dtype, _ = parameter
        name, *tied = sorted(called)
        found.append(SharedTensor(name, dtype, shape, _size(parameter), tuple(tied)))
    return tuple(sorted(found, key=lambda tensor: (-tensor.parameters, tensor.name, tensor.dtype)))


def _notes(
    weights: Weights, serving: Sequence[Parts], source: Source, every: set[_Value], common: set[_Value]
) -> Iterator[str]:
    """What whoever judges should know, and what a participant may have meant otherwise."""
    if source == "each checkpoint" and len(serving) == 1:
        yield f"one model, taken for that of all tasks; {models.NAME} or --model TASK=PATH says otherwise"
    elif source == "each checkpoint":
        yield f"each checkpoint was taken for the model of a task; {models.NAME} or --model TASK=PATH says otherwise"
    names = [{tensor.name for file in parts.files for tensor in weights.tensors[file]} for parts in serving]
    if not set.intersection(*names):
        yield "no name of a tensor is in all models; names count with all that stands before them, such as module."
    kinds: dict[tuple[str, tuple[int, ...]], dict[str, str]] = defaultdict(dict)
    for path, tensors in weights.tensors.items():
        for tensor in tensors:
            kinds[tensor.name, tensor.memory.shape].setdefault(tensor.memory.dtype, path)
    if mixed := [(name, found) for (name, _), found in kinds.items() if len(found) > 1]:
        name, found = mixed[0]
        where = ", ".join(f"{dtype} in {path}" for dtype, path in list(found.items())[:2])
        yield (
            f"{len(mixed)} tensors have the same name and shape and not the same kind of numbers, so that their bytes"
            f" are not equal and nothing of them is shared: {show(name)} is {where}; save all in one kind"
        )
    whole, whole_common = (
        sum(_size(one) for one in values if one[2].startswith(_INTEGERS)) for values in (every, common)
    )
    if whole:
        yield (
            f"{whole_common} of the shared parameters and {whole} of all are integers or booleans, which may be masks"
            " and indices that nobody learned"
        )
    yield "whether the shared parameters are used for each task, and help, is for a person to judge"
