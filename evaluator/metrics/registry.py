"""All metrics by name. A new one is a file in this folder that defines `METRICS`, and its name in `FILES`."""

import importlib
from collections.abc import Iterable

from evaluator.metrics.base import Metric

FILES = (
    "text",  # F1 over lemmas, exact match
    "meteor",
    "edit",
    "captioning",
    "generation",
    "codebleu",
    "string_accuracy",
    "box_f1",
    "vqa_accuracy",
)


def collect(modules: Iterable[str]) -> dict[str, Metric]:
    """The metrics of some modules by name. Raises ValueError where two have one name."""
    metrics: dict[str, Metric] = {}
    for module in modules:
        add(metrics, module, importlib.import_module(module).METRICS)
    return metrics


def add(metrics: dict[str, Metric], file: str, more: Iterable[Metric]) -> None:
    """Add the metrics of a file by name. Raises ValueError for a name that is taken."""
    for metric in more:
        if metric.name in metrics:
            raise ValueError(f"{file}: the metric {metric.name!r} is already defined in another file")
        metrics[metric.name] = metric


METRICS = collect(f"{__package__}.{file}" for file in FILES)
