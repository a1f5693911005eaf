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
)


def collect(modules: Iterable[str]) -> dict[str, Metric]:
    """The metrics of some modules by name. Raises ValueError where two have one name."""
    metrics: dict[str, Metric] = {}
    for module in modules:
        for metric in importlib.import_module(module).METRICS:
            if metric.name in metrics:
                raise ValueError(f"{module}: the metric {metric.name!r} is already defined in another file")
            metrics[metric.name] = metric
    return metrics


METRICS = collect(f"{__package__}.{file}" for file in FILES)
