"""The tasks of the challenge and the metrics they may be scored with.

The six open tasks are fixed by the rules. The six hidden ones are the organizer's configuration, `tasks.json` in the
data folder:

    {"6": {"name": "Hidden1", "title": "Сколько предметов?", "output": "text", "metric": "exact_match"}, ...}

where `threshold` and `baseline` (numbers in 0..1) may be added. A new metric is a function and a line in `METRICS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evaluator.errors import DataError, show
from evaluator.metrics import edit, meteor, text

Output = Literal["text", "image"]
TextMetric = Callable[[str, list[str], "meteor.RuWordNet | None"], float]


@dataclass(frozen=True)
class Metric:
    """How one task is scored.

    `output` is the type of the entry it reads; `per_answer` scores one text against its accepted answers (0..1);
    `encoders` says that ruCLIP (and for images FID) encoders are needed; `input_image` that it compares with the
    input's image.
    """

    title: str
    output: Output
    per_answer: TextMetric | None = None
    encoders: bool = False
    input_image: bool = False


METRICS: dict[str, Metric] = {
    "f1_lemmas": Metric("F1 over lemmas", "text", lambda prediction, answers, _: text.f1(prediction, answers)),
    "exact_match": Metric("exact match", "text", lambda prediction, answers, _: text.exact_match(prediction, answers)),
    "caption_meteor": Metric("METEOR (captions)", "text", meteor.caption_meteor),
    "vqa_meteor": Metric("METEOR", "text", meteor.vqa_meteor),
    "one_minus_ned": Metric("1 - NED", "text", lambda prediction, answers, _: edit.one_minus_ned(prediction, answers)),
    "captioning": Metric("1/2 (METEOR + ruCLIP)", "text", meteor.caption_meteor, encoders=True, input_image=True),
    "image_generation": Metric("1/2 (ruCLIP + (200 - FID)/200)", "image", encoders=True),
}


@dataclass(frozen=True)
class Task:
    """One task: its number in `sample_ids.json`, names, metric (a key of `METRICS`), and what the slides ask of it
    (0..1).
    """

    number: int
    name: str
    title: str
    metric: str
    baseline: float | None = None
    threshold: float | None = None

    @property
    def output(self) -> Output:
        return METRICS[self.metric].output


# Baseline and prize thresholds: the table in the challenge's slides.
OPEN_TASKS = (
    Task(0, "TextQA", "Ответы на вопросы по тексту", "f1_lemmas", 0.25, 0.20),
    Task(1, "MathQA", "Математические вопросы", "exact_match", 0.31, 0.25),
    Task(2, "ImageGeneration", "Генерация изображений", "image_generation", 0.28, 0.21),
    Task(3, "ImageCaptioning", "Описание изображений", "captioning", 0.23, 0.15),
    Task(4, "VisualQA", "Вопросы по изображению", "vqa_meteor", 0.34, 0.24),
    Task(5, "TRitW", "Текст на изображении", "one_minus_ned", 0.36, 0.13),
)
HIDDEN_NUMBERS = range(6, 12)
BASELINE_INTEGRAL = 0.243
OPEN_WEIGHT, HIDDEN_WEIGHT = 1 / 15, 1 / 10


def is_hidden(number: int) -> bool:
    return number in HIDDEN_NUMBERS


def parse_tasks(document: Any) -> dict[int, Task]:
    """All tasks by number: the open ones and those that `document`, the content of a tasks.json, defines.

    Raises `DataError` with every fault found.
    """
    if not isinstance(document, dict):
        raise DataError(f"tasks.json: must be an object of task numbers, not {type(document).__name__}")
    tasks = {task.number: task for task in OPEN_TASKS}
    faults: list[str] = []
    for key, entry in document.items():
        if key not in {str(number) for number in HIDDEN_NUMBERS}:
            faults.append(f"tasks.json: task {show(key)} is not one of 6..11 (the open tasks 0..5 are built in)")
        else:
            found = _entry_faults(entry)
            if found:
                faults += [f"tasks.json: task {key}: {fault}" for fault in found]
            else:
                name = entry["name"]
                tasks[int(key)] = Task(
                    int(key),
                    name,
                    entry.get("title", name),
                    entry["metric"],
                    entry.get("baseline"),
                    entry.get("threshold"),
                )
    names = [task.name for task in tasks.values()]
    faults += [f"tasks.json: two tasks are named {show(name)}" for name in sorted(set(names)) if names.count(name) > 1]
    if faults:
        raise DataError(faults)
    return tasks


def _entry_faults(entry: Any) -> list[str]:
    if not isinstance(entry, Mapping):
        return [f"must be an object, not {type(entry).__name__}"]
    allowed = {"name", "title", "output", "metric", "baseline", "threshold", "description"}
    faults = [
        f"unknown key {show(key)}; allowed are {', '.join(sorted(allowed))}" for key in entry if key not in allowed
    ]
    for key in ("name", "output", "metric"):
        if key not in entry:
            faults.append(f"{key} is missing")
    for key in ("name", "title", "description"):
        if key in entry and (not isinstance(entry[key], str) or not entry[key].strip()):
            faults.append(f"{key} must be a text that is not empty, not {show(entry[key])}")
    for key in ("baseline", "threshold"):
        value = entry.get(key)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and 0 <= value <= 1):
            faults.append(f"{key} must be a number in 0..1, not {show(value)}")
    if "output" in entry and entry["output"] not in ("text", "image"):
        faults.append(f"output must be 'text' or 'image', not {show(entry['output'])}")
    if "metric" in entry:
        metric = METRICS.get(entry["metric"]) if isinstance(entry["metric"], str) else None
        if metric is None:
            faults.append(f"metric {show(entry['metric'])} is unknown; known are {', '.join(METRICS)}")
        elif entry.get("output") in ("text", "image") and entry["output"] != metric.output:
            faults.append(f"metric {entry['metric']} scores {metric.output} output, but output is {entry['output']!r}")
    return faults
