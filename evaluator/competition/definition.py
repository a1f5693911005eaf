"""A competition as data: a folder with `competition.toml`, and with files of its own metrics where it has any.

    competition = find("fbc2")             # of this package: fbc2, fbc1
    competition = find("../my-challenge")  # a folder

`evaluator/competition/fbc2/competition.toml` shows every key; `schema()` is the JSON Schema for editors.
"""

import functools
import hashlib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from evaluator.competition import DEFAULT
from evaluator.competition.task import Task
from evaluator.core.errors import DataError, meant, show
from evaluator.core.files import sha256_of
from evaluator.core.limits import RUN, Limits
from evaluator.core.regular import read_whole
from evaluator.core.validation import (
    Country,
    Fault,
    Flag,
    Line,
    Share,
    StrictModel,
    Weight,
    allowed,
    is_line,
    number,
    parse,
    wrong,
)
from evaluator.metrics.base import Metric, Output
from evaluator.metrics.registry import METRICS, add

FILE = "competition.toml"
BUILT_IN = tuple(sorted(path.parent.name for path in Path(__file__).parent.glob(f"*/{FILE}")))
MAX_TASKS = 1000
_MAX_FILE_BYTES = 10**6

Language = Annotated[str, allowed("two small letters such as 'ru'", lambda code: re.fullmatch("[a-z]{2}", code))]
Name = Annotated[str, allowed("small letters, digits and '-'", lambda name: re.fullmatch("[a-z0-9][a-z0-9-]*", name))]
TaskNumber = Annotated[int, number(0, MAX_TASKS - 1, "whole number")]
Score = Annotated[float, number(0)]
Amount = Annotated[float, number(0)]


def _is_name(value: object) -> bool:
    return is_line(value) and Path(str(value)).name == value


def _file_name(value: object) -> bool:
    return _is_name(value) and str(value).endswith(".py")


class Title(StrictModel):
    """A title by language."""

    ru: Line | None = None
    en: Line | None = None

    def shown(self, languages: Iterable[str]) -> str | None:
        """In the first of the languages that it has, else in any."""
        return next(filter(None, (getattr(self, language, None) for language in (*languages, "en", "ru"))), None)


class TaskDefinition(StrictModel):
    """A task; one that is `from_data` has its title, answer and metric in tasks.json of a data folder."""

    number: TaskNumber
    name: Line
    title: Title = Title()
    hidden: Flag = False
    from_data: Flag = False
    answer: Output | None = None
    metric: str | None = None
    parameters: dict[str, Any] = {}
    weight: Weight
    baseline: Score | None = None
    threshold: Score | None = None

    @field_validator("metric")
    @classmethod
    def _is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        metrics = _metrics_of(info)
        if name is None:
            return None
        if name not in metrics:
            raise wrong(f"{show(name)} is unknown; known are {', '.join(metrics)}{meant(name, metrics)}")
        answer = info.data.get("answer")
        if answer is not None and answer != metrics[name].output:
            raise wrong(f"{name} scores {metrics[name].output} answers, but answer is {answer!r}")
        return name

    @field_validator("parameters")
    @classmethod
    def _fit(cls, values: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("metric")
        if name is not None:
            _, faults = parse(_metrics_of(info)[name].parameters, values, f"metric {name} allows")
            if faults:
                raise wrong("; ".join(map(str, faults)))
        return values

    @field_validator("baseline", "threshold")
    @classmethod
    def _is_possible(cls, score: float | None, info: ValidationInfo) -> float | None:
        metric = info.data.get("metric")
        best = 1.0 if metric is None else _metrics_of(info)[metric].best
        if score is not None and score > best:
            raise wrong(f"must be a number in 0..{best:g}, not {show(score)}")
        return score

    @field_validator("weight")
    @classmethod
    def _is_whole(cls, weight: float, info: ValidationInfo) -> float:
        if {"from_data", "answer", "metric"} <= info.data.keys():  # else one of them is at fault itself
            given = [key for key in ("answer", "metric") if info.data[key] is not None]
            if info.data["from_data"] and given:
                raise wrong(f"stands in a task whose {' and '.join(given)} the data define; remove from_data or them")
            if not info.data["from_data"] and len(given) < 2:
                raise wrong("stands in a task without answer and metric; write both, or from_data = true")
        return weight


class Integral(StrictModel):
    """The weighted sum of the tasks' scores, each rounded to `round_parts` decimals where that is set. `baseline` is
    its row's in the tables.
    """

    baseline: Score | None = None
    round_parts: Annotated[int, number(0, 9, "whole number")] | None = None


class Place(StrictModel):
    """What a place of the main prize is worth: `least` at the thresholds' sum, `most` at `full_at`."""

    least: Amount
    most: Amount


class PrizeRules(StrictModel):
    """The prizes. The main one is for teams that reach all thresholds; with `places` each of the first of them gets an
    amount that grows with its score, in a straight line from the sum of the thresholds to `full_at`. A `nomination` is
    for the best score of each task that reaches its threshold, `sustainable` for the least CO2 in training among the
    best. A model that wins a place shares at least `shared_parameters` of its parameters between all tasks.
    """

    unit: Line = "points"
    places: Annotated[tuple[Place, ...], Field(strict=False)] = ()
    full_at: Amount | None = None
    nomination: Amount | None = None
    sustainable: Flag = False
    shared_parameters: Share | None = None

    @field_validator("full_at")
    @classmethod
    def _has_places(cls, full_at: float | None, info: ValidationInfo) -> float | None:
        if (full_at is None) != (not info.data.get("places")):
            raise wrong("and places need each other")
        return full_at

    def amount(self, place: int, total: float, minimum: float) -> float | None:
        """What the team in a place (from 0) of the main prize gets, in `unit`; None without such a place. `minimum` is
        the sum of the thresholds.
        """
        if place >= len(self.places) or self.full_at is None:
            return None
        least, most = self.places[place].least, self.places[place].most
        if total >= self.full_at:
            return most
        return least + (most - least) / (self.full_at - minimum) * (total - minimum)


class Published(StrictModel):
    """A result of others that is shown beside one's own: an integral score, and those of `tasks` by name."""

    name: Line
    total: Score
    tasks: dict[str, Score] = {}


class Definition(StrictModel):
    """The content of a competition.toml."""

    name: Name
    languages: Annotated[tuple[Language, ...], Field(strict=False)] = ("ru",)
    country: Country = "RU"
    image: Line
    contract: Literal["standard", "fbc1"] = "standard"
    metrics: Annotated[
        tuple[Annotated[str, allowed("the name of a .py file beside competition.toml", _file_name)], ...],
        Field(strict=False),
    ] = ()
    files: Annotated[
        tuple[Annotated[str, allowed("the name of a file beside competition.toml", _is_name)], ...],
        Field(strict=False),
    ] = ()
    title: Title
    limits: dict[str, Any] = {}
    integral: Integral = Integral()
    prizes: PrizeRules = PrizeRules()
    tasks: Annotated[tuple[TaskDefinition, ...], Field(strict=False)]
    published: Annotated[tuple[Published, ...], Field(strict=False)] = ()

    @field_validator("tasks")
    @classmethod
    def _differ(cls, tasks: tuple[TaskDefinition, ...]) -> tuple[TaskDefinition, ...]:
        if not tasks:
            raise wrong("must have at least one task")
        for key in ("number", "name"):
            values = [getattr(task, key) for task in tasks]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise wrong(f"two have the {key} {', '.join(map(show, twice))}")
        return tuple(sorted(tasks, key=lambda task: task.number))

    @field_validator("published")
    @classmethod
    def _has_its_tasks(cls, results: tuple[Published, ...], info: ValidationInfo) -> tuple[Published, ...]:
        names = [task.name for task in info.data.get("tasks", ())]
        for result in results:
            for name in result.tasks if names else ():
                if name not in names:
                    raise wrong(f"{show(name)} is no task; there are {', '.join(names)}{meant(name, names)}")
        return results

    @model_validator(mode="after")
    def _prizes_fit(self) -> Self:
        weights = {task.number: task.weight for task in self.tasks}
        thresholds = {task.number: task.threshold for task in self.tasks if task.threshold is not None}
        minimum = least_total(weights, thresholds, self.integral.round_parts)
        if self.prizes.full_at is not None and self.prizes.full_at <= minimum:
            raise wrong(f"prizes.full_at must be above the sum of the thresholds, {minimum:g}")
        return self


@dataclass(frozen=True)
class Competition:
    """A competition that was read from `source`, a name of this package's or a folder's path. `metrics` are all that
    its tasks may name, its own among them; `limits` those of a run. `digest` is the SHA-256 of what decides a score,
    its own metrics and their `files` among it, and not of titles, baselines, thresholds, limits and prizes: only scores
    of one digest can be compared.
    """

    source: str
    definition: Definition
    metrics: Mapping[str, Metric]
    limits: Limits
    digest: str

    @property
    def folder(self) -> Path | None:
        """Its own folder; None of one of this package's."""
        return None if self.source in BUILT_IN else Path(self.source)

    @property
    def name(self) -> str:
        """The short name."""
        return self.definition.name

    @property
    def title(self) -> str:
        """The name for people."""
        return self.definition.title.shown(("en",)) or self.name

    @functools.cached_property
    def tasks(self) -> dict[int, Task]:
        """The tasks that the definition fixes, by number."""
        return {
            each.number: Task(
                each.number,
                each.name,
                each.title.shown(self.definition.languages) or each.name,
                self.metrics[each.metric],
                each.weight,
                each.baseline,
                each.threshold,
                each.parameters,
                each.hidden,
            )
            for each in self.definition.tasks
            if each.metric is not None
        }

    @functools.cached_property
    def weights(self) -> dict[int, float]:
        """The weight of every task in the integral score, by number."""
        return {task.number: task.weight for task in self.definition.tasks}

    @property
    def numbers(self) -> list[int]:
        """The numbers of all tasks."""
        return list(self.weights)

    @functools.cached_property
    def hidden_numbers(self) -> list[int]:
        """The numbers of the hidden tasks, whatever tasks.json says of them."""
        return [task.number for task in self.definition.tasks if task.hidden]

    @functools.cached_property
    def open_numbers(self) -> list[int]:
        """The numbers of the open tasks."""
        return [number for number in self.numbers if number not in self.hidden_numbers]

    @functools.cached_property
    def baselines(self) -> dict[int, float]:
        """The baseline's score of the tasks that have one."""
        return {task.number: task.baseline for task in self.definition.tasks if task.baseline is not None}

    @functools.cached_property
    def thresholds(self) -> dict[int, float]:
        """The thresholds for the main prize, of the tasks that have one."""
        return {task.number: task.threshold for task in self.definition.tasks if task.threshold is not None}

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """The names of all tasks, which tell nothing of a hidden one, whatever its data call it."""
        return {task.number: task.name for task in self.definition.tasks}

    def best(self, number: int) -> float:
        """What no score of a task exceeds; of one that the data define, 1."""
        return self.tasks[number].metric.best if number in self.tasks else 1.0

    @functools.cached_property
    def best_total(self) -> float:
        """What no integral score exceeds."""
        return sum(weight * self.best(number) for number, weight in self.weights.items())

    def baseline_of(self, numbers: Iterable[int]) -> float | None:
        """The baseline's part of the integral that these tasks make; None unless each has a baseline."""
        if not set(numbers) <= self.baselines.keys():
            return None
        return sum(self.weights[number] * self.part(self.baselines[number]) for number in numbers)

    def part(self, score: float) -> float:
        """A task's score as the integral score takes it: rounded where the rules say so."""
        return rounded(score, self.definition.integral.round_parts)

    def to_json(self) -> dict[str, Any]:
        """What stands in scores.json: the name, the digest, and how the tasks' scores make the integral."""
        return {
            "name": self.name,
            "digest": self.digest,
            "open": self.open_numbers,
            "hidden": self.hidden_numbers,
            "round_parts": self.definition.integral.round_parts,
        }


def least_total(weights: Mapping[int, float], thresholds: Mapping[int, float], decimals: int | None) -> float:
    """The integral score of a solution that just reaches the thresholds, by task number; a task without one counts 0.
    `decimals` as in `rounded`.
    """
    return sum(weights[task] * rounded(least, decimals) for task, least in thresholds.items())


def rounded(score: float, decimals: int | None) -> float:
    """`score` rounded to so many decimals; with None, as it is."""
    return score if decimals is None else round(score, decimals)


def schema() -> dict[str, Any]:
    """The JSON Schema of competition.toml."""
    return Definition.model_json_schema()


def named_in(document: Mapping[str, Any]) -> Any:
    """What a scores.json or a record says of its competition, as `Competition.to_json` writes it; what an older
    evaluator wrote, which named none, is of the one that there was.
    """
    return document.get("competition", default().to_json())


@functools.cache
def default() -> Competition:
    """The competition that is meant where none is named."""
    return find(DEFAULT)


def find(name: str) -> Competition:
    """The competition of this package with that name, or the one in the folder of that path. Raises `DataError` with
    all faults of its definition.
    """
    if name in BUILT_IN:
        return _read(Path(__file__).parent / name, name)
    if not Path(name).is_dir():
        raise DataError(
            f"competition {show(name)} is neither one of {', '.join(BUILT_IN)} nor a folder with {FILE}"
            f"{meant(name, BUILT_IN)}"
        )
    return _read(Path(name), name)


def _read(folder: Path, source: str) -> Competition:
    path = folder / FILE
    try:
        document = tomllib.loads(read_whole(path, _MAX_FILE_BYTES).decode("utf-8"))
    except OSError as error:
        raise DataError(f"competition {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"competition {path}: {error}") from None
    lines: list[str] = []
    metrics, files = _own_metrics(folder, document.get("metrics"), lines)
    files |= _own_files(folder, document.get("files"), lines)
    limits = RUN
    stated = document.get("limits", {})
    if isinstance(stated, dict):
        try:
            limits = RUN.override((f"{name}={value}" for name, value in stated.items()), "[limits] ")
        except DataError as error:
            lines += error.reasons
    definition, faults = parse(Definition, document, context={"metrics": metrics})
    lines += map(_line, faults)
    if definition is None or lines:
        raise DataError([f"{path}: {line}" for line in lines])
    return Competition(source, definition, metrics, limits, _digest(definition, metrics, files))


def _digest(definition: Definition, metrics: Mapping[str, Metric], files: Mapping[str, str]) -> str:
    tasks: list[list[Any]] = []
    for task in definition.tasks:
        parameters = {} if task.metric is None else metrics[task.metric].defaults() | task.parameters
        tasks.append([task.number, task.name, task.hidden, task.metric, parameters, task.weight])
    decisive = [definition.name, definition.contract, definition.integral.round_parts, tasks, files]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _own_metrics(folder: Path, names: object, lines: list[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """All metrics by name, those of the competition's own files among them, and the digests of these files. They are
    the organizer's code, which is run here.
    """
    metrics, digests = dict(METRICS), {}
    for name in filter(_file_name, names if isinstance(names, list) else []):
        try:
            source = read_whole(folder / name, _MAX_FILE_BYTES)
            digests[name] = hashlib.sha256(source).hexdigest()
            add(metrics, name, _module((folder / name).resolve(), source, digests[name]).METRICS)
        except OSError as error:
            lines.append(f"metrics: {name} cannot be read: {error.strerror}")
        except Exception as error:  # whatever the file does
            lines.append(f"metrics: {name} cannot be used: {type(error).__name__}: {error}")
    return metrics, digests


def _own_files(folder: Path, names: object, lines: list[str]) -> dict[str, str]:
    """The digests of the files that the competition's own metrics read."""
    digests = {}
    for name in filter(_is_name, names if isinstance(names, list) else []):
        try:
            digests[name] = sha256_of(folder / name)
        except OSError as error:
            lines.append(f"files: {name} cannot be read: {error.strerror}")
    return digests


def _module(path: Path, source: bytes, digest: str) -> Any:
    """The module that these bytes make: not what an import would find, which may be the bytecode of another version."""
    name = f"competition_metric_{digest}_{hashlib.sha256(os.fsencode(path)).hexdigest()}"
    if name not in sys.modules:
        sys.modules[name] = module = ModuleType(name)
        module.__file__ = str(path)  # what a metric reads may lie beside it
        try:
            exec(compile(source, path, "exec"), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _metrics_of(info: ValidationInfo) -> Mapping[str, Metric]:
    return METRICS if info.context is None else info.context["metrics"]


def _line(fault: Fault) -> str:
    """A fault with its place as TOML has it: `tasks[3].metric: …`."""
    place = "".join(f"[{key}]" if key.isdigit() else f".{key}" for key in fault.place).removeprefix(".")
    return f"{place}: {fault.text}" if place else fault.text
