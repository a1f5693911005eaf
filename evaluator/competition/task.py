"""One task of a competition: what asks, counts and shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evaluator.metrics.base import Metric, Output, ParameterValue


@dataclass(frozen=True)
class Task:
    """A task: its number in `sample_ids.json`, names, metric with the parameters that are not at their defaults, its
    weight in the integral score, and what is shown beside a score: the baseline's, and the threshold for a prize.
    """

    number: int
    name: str
    title: str
    metric: Metric
    weight: float
    baseline: float | None = None
    threshold: float | None = None
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict, hash=False)
    hidden: bool = False

    @property
    def output(self) -> Output:
        """What an answer is, such as text or image."""
        return self.metric.output

    @property
    def metric_title(self) -> str:
        """The metric's title, with the parameters that were set."""
        values = ", ".join(f"{name} {_shown(value)}" for name, value in self.parameters.items())
        return self.metric.title + (f" ({values})" if values else "")


def _shown(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, int | float) else value
