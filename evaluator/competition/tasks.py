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
from typing import Any

from evaluator.core.errors import DataError, Findings, Rule, show
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

KEYS = ("name", "title", "output", "metric", "parameters", "baseline", "threshold", "hidden", "description")
NEEDED_KEYS = ("name", "output", "metric")


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
        where, before = f"tasks.json: task {key}", found.total
        if key not in {str(number) for number in (*OPEN_NUMBERS, *HIDDEN_NUMBERS)}:
            found.add(TASKS_SHAPE, "tasks.json", f"task {show(key)} is not one of 0..11")
            continue
        if not isinstance(entry, dict):
            found.add(TASKS_SHAPE, where, f"must be an object, not {show(entry)}")
            continue
        number = int(key)
        _check_entry(entry, where, found)
        if number in OPEN_NUMBERS:
            _check_fixed(OPEN_TASKS[number], entry, where, found)
        else:
            for needed in NEEDED_KEYS:
                if needed not in entry:
                    found.add(TASKS_SHAPE, where, f"{needed} is missing")
        if found.total > before:
            continue
        if number in OPEN_NUMBERS:
            shown = {name: entry[name] for name in ("title", "baseline", "threshold") if name in entry}
            tasks[number] = replace(OPEN_TASKS[number], **shown)
        else:
            defaults = METRICS[entry["metric"]].defaults()
            parameters = {k: value for k, value in entry.get("parameters", {}).items() if value != defaults[k]}
            tasks[number] = Task(
                number,
                entry["name"],
                entry.get("title") or entry["name"],
                entry["metric"],
                entry.get("baseline"),
                entry.get("threshold"),
                parameters,
                entry.get("hidden", True),
            )
    names = [task.name for task in tasks.values()]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            found.add(TASKS_NAME, "tasks.json", f"two tasks are named {show(name)}")
    if found:
        raise DataError(found)
    return tasks


def _check_entry(entry: Mapping[str, Any], where: str, found: Findings) -> None:
    """Check the keys and values of an entry, whatever its number."""

    def wrong(fault: str) -> None:
        found.add(TASKS_VALUE, where, fault)

    for key in entry:
        if key not in KEYS:
            found.add(TASKS_SHAPE, where, f"unknown key {show(key)}; allowed are {', '.join(KEYS)}")
    for key in ("name", "title", "description"):
        if key in entry and (not isinstance(entry[key], str) or not entry[key].strip()):
            wrong(f"{key} must be a text that is not empty, not {show(entry[key])}")
    for key in ("baseline", "threshold"):
        value = entry.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= 1):
            wrong(f"{key} must be a number in 0..1, not {show(value)}")
    if not isinstance(entry.get("hidden", True), bool):
        wrong(f"hidden must be true or false, not {show(entry['hidden'])}")
    if "output" in entry and entry["output"] not in ("text", "image"):
        wrong(f"output must be 'text' or 'image', not {show(entry['output'])}")
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, Mapping):
        wrong(f"parameters must be an object, not {show(parameters)}")
        parameters = {}
    if "metric" in entry:
        metric = METRICS.get(entry["metric"]) if isinstance(entry["metric"], str) else None
        if metric is None:
            wrong(f"metric {show(entry['metric'])} is unknown; known are {', '.join(METRICS)}")
            return
        for fault in metric.parameter_faults(parameters):
            wrong(f"parameters: {fault}")
        if entry.get("output") in ("text", "image") and entry["output"] != metric.output:
            wrong(f"metric {metric.name} scores {metric.output} output, but output is {entry['output']!r}")


def _check_fixed(task: Task, entry: Mapping[str, Any], where: str, found: Findings) -> None:
    """Check that an entry for an open task says nothing otherwise than the rules."""
    fixed: dict[str, Any] = {"name": task.name, "output": task.output, "metric": task.metric, "hidden": False}
    for key, value in fixed.items():
        if key in entry and entry[key] != value:
            fault = f"{key} of an open task is {show(value)} and cannot be {show(entry[key])}"
            found.add(TASKS_FIXED, where, fault)
    metric = METRICS[task.metric]
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, Mapping):
        return
    if "metric" not in entry:
        for fault in metric.parameter_faults(parameters):
            found.add(TASKS_VALUE, where, f"parameters: {fault}")
    for key, parameter in metric.parameters.items():
        if key in parameters and parameter.accepts(parameters[key]) and parameters[key] != parameter.default:
            given = show(parameters[key])
            fault = f"parameters: {key} of an open task is {show(parameter.default)} and cannot be {given}"
            found.add(TASKS_FIXED, where, fault)


def _shown(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, int | float) else value
