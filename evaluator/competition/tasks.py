"""The tasks of the challenge, and the configuration of the hidden ones.

`tasks.json` in the data folder has an object for each task number that it says something about:

    {"6": {"name": "Hidden1", "title": "Сколько предметов?", "output": "text", "metric": "vqa_meteor",
           "parameters": {"gamma": 0.5, "stemmer": "russian"}, "threshold": 0.2, "baseline": 0.15},
     "4": {"title": "Вопросы о фотографиях", "threshold": 0.3}}

* 6 to 11, the hidden tasks, are the organizer's. `name`, `output` and `metric` (a name of the registry in
  `evaluator/metrics`) are needed; `title`, `parameters` of the metric, `baseline` and `threshold` (0..1), `description`
  and `hidden` are not. `hidden` is true unless stated; false marks a task that has been revealed to the teams, and
  changes no number: the integral weighs a task by its number.
* 0 to 5, the open tasks, are fixed by the rules: name, output, metric, parameters and that they are open may be
  repeated but not changed, as scores would no longer compare with the leaderboard's. What is shown beside a score may
  be set: `title`, `description`, `baseline`, `threshold`. To score their data in another way, give it a hidden number.

Every fault is a `Finding` of one of the rules below: the task, the key, the value
found and what is allowed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import ValidationInfo, field_validator

from evaluator.core.errors import DataError, Findings, Rule, show
from evaluator.core.validation import Flag, StrictModel, allowed, number, parse, wrong
from evaluator.metrics.base import Output, ParameterValue
from evaluator.metrics.registry import METRICS

TASKS_SHAPE = Rule(
    "tasks-shape",
    "an object of task numbers 0 to 11, each with an object of the keys that evaluator/competition/tasks.py explains",
    "write tasks.json as evaluator/competition/tasks.py shows",
)
TASKS_VALUE = Rule(
    "tasks-value", "what the message says, for this key", "correct the value, or leave an optional key out"
)
TASKS_FIXED = Rule(
    "tasks-fixed",
    "open tasks scored by the challenge's rules",
    "leave the key out, or give the examples a hidden task's number",
)
TASKS_NAME = Rule("tasks-name", "a name of its own for each task", "rename one of the tasks")


@dataclass(frozen=True)
class Task:
    """One task: its number in `sample_ids.json`, names, metric (a key of `METRICS`) with the parameters that are not at
    their defaults, and what the slides ask of it (0..1).
    """

    number: int
    name: str
    title: str
    metric: str
    baseline: float | None = None
    threshold: float | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict, hash=False)
    hidden: bool = False

    @property
    def output(self) -> Output:
        """What an answer is: text or image."""
        return METRICS[self.metric].output

    @property
    def metric_title(self) -> str:
        """The metric's title, with the parameters that were set."""
        values = ", ".join(f"{name} {_shown(value)}" for name, value in self.parameters.items())
        return METRICS[self.metric].title + (f" ({values})" if values else "")


# Baseline and prize thresholds: the table in the challenge's slides.
OPEN_TASKS = (
    Task(0, "TextQA", "Ответы на вопросы по тексту", "f1_lemmas", 0.25, 0.20),
    Task(1, "MathQA", "Математические вопросы", "exact_match", 0.31, 0.25),
    Task(2, "ImageGeneration", "Генерация изображений", "image_generation", 0.28, 0.21),
    Task(3, "ImageCaptioning", "Описание изображений", "captioning", 0.23, 0.15),
    Task(4, "VisualQA", "Вопросы по изображению", "vqa_meteor", 0.34, 0.24),
    Task(5, "TRitW", "Текст на изображении", "one_minus_ned", 0.36, 0.13),
)
OPEN_NUMBERS = range(6)
HIDDEN_NUMBERS = range(6, 12)
BASELINE_INTEGRAL = 0.243
OPEN_WEIGHT, HIDDEN_WEIGHT = 1 / 15, 1 / 10

Text = Annotated[str, allowed("a text that is not empty", lambda text: bool(text.strip()))]
Share = Annotated[float, number(0, 1)]


class TaskEntry(StrictModel):
    """What tasks.json says of one task; `metric` decides what `parameters` may be."""

    name: Text
    title: Text = ""
    output: Annotated[Output, allowed("'text' or 'image'")]
    metric: str
    parameters: Annotated[dict[str, Any], allowed("an object")] = {}
    baseline: Share | None = None
    threshold: Share | None = None
    hidden: Flag = True
    description: Text = ""

    @field_validator("metric", mode="before")
    @classmethod
    def _fits(cls, name: object, info: ValidationInfo) -> object:
        metric = METRICS.get(name) if isinstance(name, str) else None
        if metric is None:
            raise wrong(f"{show(name)} is unknown; known are {', '.join(METRICS)}")
        output = info.data.get("output", metric.output)
        if output != metric.output:
            raise wrong(f"{name} scores {metric.output} output, but output is {output!r}")
        return name


def weight(number: int) -> float:
    """A task's weight in the integral score."""
    return OPEN_WEIGHT if number in OPEN_NUMBERS else HIDDEN_WEIGHT


def name_of(number: int) -> str:
    """A task's name that tells nothing of a hidden one, whatever its data call it."""
    return OPEN_TASKS[number].name if number in OPEN_NUMBERS else f"Hidden{HIDDEN_NUMBERS.index(number) + 1}"


def parse_tasks(document: Any) -> dict[int, Task]:
    """All tasks by number: the open ones and those that `document`, the content of a tasks.json, defines.

    Raises `DataError` with every fault found.
    """
    found = Findings()
    if not isinstance(document, dict):
        found.add(TASKS_SHAPE, "tasks.json", f"must be an object of task numbers, not {show(document)}")
        raise DataError(found)
    tasks = {task.number: task for task in OPEN_TASKS}
    for key, entry in document.items():
        if key not in {str(number) for number in (*OPEN_NUMBERS, *HIDDEN_NUMBERS)}:
            found.add(TASKS_SHAPE, "tasks.json", f"task {show(key)} is not one of 0..11")
        elif not isinstance(entry, dict):
            found.add(TASKS_SHAPE, f"tasks.json: task {key}", f"must be an object, not {show(entry)}")
        elif (task := _read_entry(int(key), entry, found)) is not None:
            tasks[task.number] = task
    names = [task.name for task in tasks.values()]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            found.add(TASKS_NAME, "tasks.json", f"two tasks are named {show(name)}")
    if found:
        raise DataError(found)
    return tasks


def _read_entry(number: int, entry: dict[str, Any], found: Findings) -> Task | None:
    """The task that an entry defines or changes; None, and the faults in `found`, where it is wrong."""
    where, before = f"tasks.json: task {number}", found.total
    task = OPEN_TASKS[number] if number in OPEN_NUMBERS else None
    fixed: dict[str, Any] = {}
    if task is not None:
        fixed = {"name": task.name, "output": task.output, "metric": task.metric, "hidden": False}
    read, faults = parse(TaskEntry, fixed | entry)
    for fault in faults:
        shape = fault.kind in ("missing", "extra_forbidden")
        found.add(TASKS_SHAPE if shape else TASKS_VALUE, where, str(fault))
    name, given = entry.get("metric", fixed.get("metric")), entry.get("parameters", {})
    parameters: dict[str, ParameterValue] = {}  # those that are not at their defaults
    if isinstance(name, str) and isinstance(given, dict) and (metric := METRICS.get(name)):
        _, faults = parse(metric.parameters, given, f"metric {name} allows")
        for fault in faults:
            found.add(TASKS_VALUE, where, f"parameters: {fault}")
        defaults = metric.defaults()
        # As they are written, since the data's digest tells 1 from 1.0.
        parameters = {key: value for key, value in given.items() if key in defaults and value != defaults[key]}
    changed = [(key, value, entry[key]) for key, value in fixed.items() if entry.get(key, value) != value]
    if task is not None and name == task.metric:
        changed += [(f"parameters: {key}", defaults[key], value) for key, value in parameters.items()]
    for key, value, other in changed:
        found.add(TASKS_FIXED, where, f"{key} of an open task is {show(value)} and cannot be {show(other)}")
    if read is None or found.total > before:
        return None
    if task is not None:
        return replace(task, **{key: entry[key] for key in ("title", "baseline", "threshold") if key in entry})
    title = read.title or read.name
    # Numbers as they are written, since they stand so in scores.json.
    baseline, threshold = entry.get("baseline"), entry.get("threshold")
    return Task(number, read.name, title, read.metric, baseline, threshold, parameters, read.hidden)


def _shown(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, int | float) else value
