"""What a metric is: the part that every file in this folder shares with the evaluator.

A metric's file defines `METRICS`, a tuple of `Metric`; a line with the file's name in `registry.py` makes them known.
A text metric of one answer at a time is `text_metric(name, title, function)`; anything else is a function

    evaluate(samples, resources, **parameters) -> Result

that finds images behind `Sample`, and what else it needs, such as encoders, behind `Resources`; both are loaded only
when asked for. A metric's parameters are a pydantic model: names, defaults and what is allowed. So tasks.json can be
checked before anything is scored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from evaluator.core.validation import StrictModel

Output = Literal["text", "image", "json"]
ParameterValue = float | str | bool
ImageLoader = Callable[[], Image.Image]
#: The scores of resamples, [R], from an iterator over R arrays of positions in the samples, [N] each.
Replicates = Callable[[Iterator[NDArray[np.intp]]], NDArray[np.float64]]

T = TypeVar("T")


class Parameters(StrictModel):
    """A metric's parameters, each with a default and with what it may be (`evaluator.core.validation`). This very class
    has none.
    """


@dataclass(frozen=True)
class Resource(Generic[T]):
    """What metrics may need besides the samples, such as encoders: the metric that lists it in `requires` finds it as
    `resources[RESOURCE]`.

    `load` gets the assets folder and gives the leaderboard's, or what stands in where that is not there; it raises
    `DataError` for what is there and wrong. `label` says of what was loaded why scores made with it cannot be compared;
    None of the leaderboard's. One that is `small` is loaded before a submission runs, so that hours are not lost where
    something is wrong with it.
    """

    name: str
    load: Callable[[Path], T]
    label: Callable[[T], str | None]
    small: bool = True


class Resources:
    """The resources that metrics ask for, from the assets folder `assets`, each loaded when the first one asks;
    `given` are there already.
    """

    def __init__(self, assets: Path, given: Mapping[Resource[Any], Any] | None = None) -> None:
        self._assets = assets
        self._loaded = dict(given or {})

    def __getitem__(self, resource: Resource[T]) -> T:
        """Loaded at the first call: seconds, and up to 2 GB of memory."""
        if resource not in self._loaded:
            self._loaded[resource] = resource.load(self._assets)
        loaded: T = self._loaded[resource]
        return loaded

    def label(self, resource: Resource[Any]) -> str | None:
        """Why scores made with it cannot be compared; None where they can."""
        return resource.label(self[resource])


@dataclass(frozen=True)
class Sample:
    """One id as a metric sees it.

    `texts` and `images` are the input's. A task with text output has `prediction` and at least one of `answers`; one
    with image output has both images; one with JSON output has `predicted_json` and `reference_json`, of the metric's
    schema. An image is decoded by each call of its loader. `language` is the question's, where the data say so.
    """

    id: str
    texts: tuple[str, ...] = ()
    images: tuple[ImageLoader, ...] = ()
    prediction: str = ""
    answers: tuple[str, ...] = ()
    predicted_image: ImageLoader | None = None
    reference_image: ImageLoader | None = None
    predicted_json: Any = None
    reference_json: Any = None
    language: str | None = None


@dataclass(frozen=True)
class Result:
    """A task's `total` (1 is best) and the value of each sample, `values` [N] in the samples' order; `parts` explain
    the total.

    Where the total is not the mean of `values`, `replicates` computes it on resamples and `replicates_of` says in
    words what of the score those resample.
    """

    values: NDArray[np.float64]
    total: float
    parts: Mapping[str, float] = field(default_factory=dict)
    replicates: Replicates | None = None
    replicates_of: str | None = None

    @classmethod
    def mean(cls, values: Sequence[float] | NDArray[np.float64], parts: Mapping[str, float] | None = None) -> "Result":
        """The result whose total is the mean of `values` [N]."""
        array = np.asarray(values, dtype=np.float64)
        return cls(array, float(array.mean()), parts or {})


# In the two protocols below, `*args: Any, **parameters: Any` stands for any parameters of a metric's own.
class PerAnswer(Protocol):
    """A metric of one prediction against the accepted answers, in 0..1."""

    def __call__(self, prediction: str, answers: Sequence[str], /, *args: Any, **parameters: Any) -> float: ...


class Evaluate(Protocol):
    """A metric of all samples of a task.

    Whatever it raises is the task's error. Where the data are hidden, no message is shown but that of an
    `EvaluatorError`, which must quote nothing of the samples.
    """

    def __call__(self, samples: Sequence[Sample], resources: Resources, /, *args: Any, **parameters: Any) -> Result: ...


@dataclass(frozen=True)
class Metric:
    """How a task is scored: `evaluate` gets all samples of a task, and its parameters as keywords.

    `output` is the type of the entry that it reads from a prediction. `requires` are the resources that it asks for,
    whose labels mark its scores; with `input_image` each input must have an image, with `language` each truth must say
    its language. `best` is what no score exceeds; charts reach from 0 to it. `part_titles` are the names for people of
    a result's parts that have others. `schema` is the pydantic type of a JSON answer and its truth, any by default;
    `missing` is what counts for an id without a prediction, where there may be such. Reports show an answer as it
    `shows`: boxes drawn over the input's image, code beside the reference with what differs. `check_truth` and
    `check_answer` say what is wrong, by more than the schema, with a JSON truth, and with an answer to it.
    """

    name: str
    title: str
    output: Output
    evaluate: Evaluate
    parameters: type[Parameters] = Parameters
    requires: tuple[Resource[Any], ...] = ()
    input_image: bool = False
    language: bool = False
    best: float = 1.0
    part_titles: tuple[tuple[str, str], ...] = ()
    schema: Any = Any
    missing: Any = None
    shows: Literal["boxes", "code"] | None = None
    check_truth: Callable[[Any], str | None] | None = None
    check_answer: Callable[[Any, Any], str | None] | None = None

    def truth_fault(self, truth: Any) -> str | None:
        """What is wrong with a JSON truth, with its place there; None where nothing is."""
        return self._schema_fault(truth) or (None if self.check_truth is None else self.check_truth(truth))

    def answer_fault(self, answer: Any, truth: Any) -> str | None:
        """What is wrong with a JSON answer to this truth, with its place there; None where nothing is."""
        return self._schema_fault(answer) or (None if self.check_answer is None else self.check_answer(answer, truth))

    def _schema_fault(self, value: Any) -> str | None:
        try:
            TypeAdapter(self.schema).validate_python(value, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f"[{key!r}]" for key in first["loc"])
            return f"{first['msg']}{f' at {place}' if place else ''}"
        return None

    def defaults(self) -> dict[str, ParameterValue]:
        """All parameters, at their defaults."""
        return self.parameters().model_dump()


def text_metric(
    name: str,
    title: str,
    per_answer: PerAnswer,
    parameters: type[Parameters] = Parameters,
    requires: tuple[Resource[Any], ...] = (),
) -> Metric:
    """The mean of `per_answer(prediction, answers, **parameters)`, in 0..1, over the samples. Each resource that it
    requires is a parameter of the resource's name.
    """

    def evaluate(samples: Sequence[Sample], resources: Resources, **values: Any) -> Result:
        values |= {resource.name: resources[resource] for resource in requires}
        return Result.mean([per_answer(sample.prediction, sample.answers, **values) for sample in samples])

    return Metric(name, title, "text", evaluate, parameters, requires)
