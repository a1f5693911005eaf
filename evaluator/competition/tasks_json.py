"""`tasks.json` of a data folder: what the hidden tasks are, and what is shown beside the scores of any.

It has an object for each task number that it says something about:

    {"6": {"name": "Hidden1", "title": "Сколько предметов?", "output": "text", "metric": "vqa_meteor",
           "parameters": {"gamma": 0.5, "stemmer": "russian"}, "threshold": 0.2, "baseline": 0.15},
     "4": {"title": "Вопросы о фотографиях", "threshold": 0.3}}

* Tasks that the competition leaves to the data (`from_data`) are the organizer's. `name`, `output` and `metric` (one
  of the competition's) are needed; `title`, `parameters` of the metric, `baseline` and `threshold` (0..1),
  `description` and `hidden` are not. `hidden` is true unless stated; false marks a task that has been revealed to the
  teams, and changes no number: the integral weighs a task by its number.
* All others are fixed by the competition: name, output, metric, parameters and that they are open may be repeated but
  not changed, as scores would no longer compare with the leaderboard's. What is shown beside a score may be set:
  `title`, `description`, `baseline`, `threshold`. To score their data in another way, give it another task's number.

Every fault is a `Finding` of one of the rules below: the task, the key, the value
found and what is allowed.
"""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import ValidationInfo, field_validator

from evaluator.competition.definition import Competition
from evaluator.competition.task import Task
from evaluator.core.errors import DataError, Findings, Rule, show
from evaluator.core.validation import Flag, Share, StrictModel, allowed, parse, wrong
from evaluator.metrics.base import Output, ParameterValue

TASKS_SHAPE = Rule(
    "tasks-shape",
    "an object of the competition's task numbers, each with an object of the keys that"
    " evaluator/competition/tasks_json.py explains",
    "write tasks.json as evaluator/competition/tasks_json.py shows",
)
TASKS_VALUE = Rule(
    "tasks-value", "what the message says, for this key", "correct the value, or leave an optional key out"
)
TASKS_FIXED = Rule(
    "tasks-fixed",
    "tasks scored by the competition's rules",
    "leave the key out, or give the examples the number of a task that the data define",
)
TASKS_NAME = Rule("tasks-name", "a name of its own for each task", "rename one of the tasks")


Text = Annotated[str, allowed("a text that is not empty", lambda text: bool(text.strip()))]


class TaskEntry(StrictModel):
    """What tasks.json says of one task; `metric` decides what `parameters` may be."""

    name: Text
    title: Text = ""
    output: Annotated[Output, allowed("'text', 'image' or 'json'")]
    metric: str
    parameters: Annotated[dict[str, Any], allowed("an object")] = {}
    baseline: Share | None = None
    threshold: Share | None = None
    hidden: Flag = True
    description: Text = ""

    @field_validator("metric", mode="before")
    @classmethod
    def _fits(cls, name: object, info: ValidationInfo) -> object:
        assert info.context is not None
        metrics = info.context["metrics"]
        metric = metrics.get(name) if isinstance(name, str) else None
        if metric is None:
            raise wrong(f"{show(name)} is unknown; known are {', '.join(metrics)}")
        output = info.data.get("output", metric.output)
        if output != metric.output:
            raise wrong(f"{name} scores {metric.output} output, but output is {output!r}")
        return name


def parse_tasks(document: Any, competition: Competition) -> dict[int, Task]:
    """All tasks by number: those that the competition fixes, and those that `document`, the content of a tasks.json,
    defines.

    Raises `DataError` with every fault found.
    """
    found = Findings()
    if not isinstance(document, dict):
        found.add(TASKS_SHAPE, "tasks.json", f"must be an object of task numbers, not {show(document)}")
        raise DataError(found)
    tasks = dict(competition.tasks)
    numbers = {str(number): number for number in competition.numbers}
    for key, entry in document.items():
        if key not in numbers:
            found.add(TASKS_SHAPE, "tasks.json", f"task {show(key)} is not one of {', '.join(numbers)}")
        elif not isinstance(entry, dict):
            found.add(TASKS_SHAPE, f"tasks.json: task {key}", f"must be an object, not {show(entry)}")
        elif (task := _read_entry(numbers[key], entry, competition, found)) is not None:
            tasks[task.number] = task
    names = [task.name for task in tasks.values()]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            found.add(TASKS_NAME, "tasks.json", f"two tasks are named {show(name)}")
    if found:
        raise DataError(found)
    return tasks


def _read_entry(number: int, entry: dict[str, Any], competition: Competition, found: Findings) -> Task | None:
    """The task that an entry defines or changes; None, and the faults in `found`, where it is wrong."""
    where, before = f"tasks.json: task {number}", found.total
    task = competition.tasks.get(number)
    fixed: dict[str, Any] = {}
    if task is not None:
        fixed = {"name": task.name, "output": task.output, "metric": task.metric.name, "hidden": task.hidden}
    read, faults = parse(TaskEntry, fixed | entry, context={"metrics": competition.metrics})
    for fault in faults:
        shape = fault.kind in ("missing", "extra_forbidden")
        found.add(TASKS_SHAPE if shape else TASKS_VALUE, where, str(fault))
    name, given = entry.get("metric", fixed.get("metric")), entry.get("parameters", {})
    others = [(key, value, entry[key]) for key, value in fixed.items() if entry.get(key, value) != value]
    values: dict[str, ParameterValue] = {} if task is None else dict(task.parameters)
    if isinstance(name, str) and isinstance(given, dict) and (metric := competition.metrics.get(name)):
        _, faults = parse(metric.parameters, given, f"metric {name} allows")
        for fault in faults:
            found.add(TASKS_VALUE, where, f"parameters: {fault}")
        usual = metric.defaults() | values
        # As they are written, since the data's digest tells 1 from 1.0.
        changed = {key: value for key, value in given.items() if key in usual and value != usual[key]}
        if task is None:
            values = changed
        elif metric == task.metric:
            others += [(f"parameters: {key}", usual[key], value) for key, value in changed.items()]
    for key, value, other in others:
        found.add(TASKS_FIXED, where, f"{key} of an open task is {show(value)} and cannot be {show(other)}")
    if read is None or found.total > before:
        return None
    if task is not None:
        return replace(task, **{key: entry[key] for key in ("title", "baseline", "threshold") if key in entry})
    title = read.title or read.name
    # Numbers as they are written, since they stand so in scores.json.
    baseline, threshold = entry.get("baseline"), entry.get("threshold")
    metric, weight = competition.metrics[read.metric], competition.weights[number]
    return Task(number, read.name, title, metric, weight, baseline, threshold, values, read.hidden)
