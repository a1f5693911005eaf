"""What a metric is: the part that every file in this folder shares with the evaluator.

A metric's file defines `METRICS`, a tuple of `Metric`; a line with the file's name in `registry.py` makes them known.
A text metric of one answer at a time is `text_metric(name, title, function)`; anything else is a function

    evaluate(samples, resources, **parameters) -> Result

that finds images and encoders behind `Sample` and `Resources`, both loaded only when asked for. Parameters are named
with what is allowed, so that tasks.json can be checked before anything is scored.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluator.core.errors import show

Output = Literal["text", "image"]
ImageLoader = Callable[[], Image.Image]
#: The scores of resamples, [R], from an iterator over R arrays of positions in the samples, [N] each.
Replicates = Callable[[Iterator[NDArray[np.intp]]], NDArray[np.float64]]

ENCODER_BATCH = 64  # images held in memory at once,
ENCODER_BATCH_PIXELS = 2**25  # and their pixels, but for a single larger image: 128 MB


@dataclass(frozen=True)
class Number:
    """A parameter that is a number in `low`..`high`, both included."""

    default: float
    low: float
    high: float = math.inf

    @property
    def allowed(self) -> str:
        return f"a number in {self.low:g}..{self.high:g}" if math.isfinite(self.high) else f"a number >= {self.low:g}"

    def accepts(self, value: object) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and math.isfinite(value) and self.low <= value <= self.high  # type: ignore[arg-type, operator]


@dataclass(frozen=True)
class Choice:
    """A parameter that is one of some names."""

    default: str
    names: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"one of {', '.join(map(repr, self.names))}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and value in self.names


@dataclass(frozen=True)
class Flag:
    """A parameter that is true or false."""

    default: bool
    allowed = "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)


Parameter = Number | Choice | Flag
ParameterValue = float | str | bool


class Encoders(Protocol):
    """Image and text encoders. Latents are [N, D] and normalised, features for FID are [N, F].

    `label` is shown with every score that they take part in; None for the leaderboard's own.
    """

    @property
    def label(self) -> str | None: ...
    def text_latents(self, texts: list[str]) -> np.ndarray: ...
    def image_latents(self, images: list[Image.Image]) -> np.ndarray: ...
    def image_features(self, images: list[Image.Image]) -> np.ndarray: ...


class Thesaurus(Protocol):
    """Words that count as synonyms; `evaluator.metrics.meteor.RuWordNet` is the one."""

    def synonyms(self, word: str) -> frozenset[str]:
        """In lower case, the word itself among them; empty for a word that is not known."""
        ...


@dataclass
class Resources:
    """What metrics may ask for besides the samples. `encoders` is made once, when the first metric asks for it;
    `ruwordnet` is None where its database is not there.
    """

    load_encoders: Callable[[], Encoders]
    ruwordnet: Thesaurus | None = None

    @functools.cached_property
    def encoders(self) -> Encoders:
        return self.load_encoders()


@dataclass(frozen=True)
class Sample:
    """One id as a metric sees it.

    `texts` and `images` are the input's. A task with text output has `prediction` and at least one of `answers`; one
    with image output has both images. An image is decoded by each call of its loader.
    """

    id: str
    texts: tuple[str, ...] = ()
    images: tuple[ImageLoader, ...] = ()
    prediction: str = ""
    answers: tuple[str, ...] = ()
    predicted_image: ImageLoader | None = None
    reference_image: ImageLoader | None = None


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
        array = np.asarray(values, dtype=np.float64)
        return cls(array, float(array.mean()), parts or {})


@dataclass(frozen=True)
class Metric:
    """How a task is scored.

    `output` is the type of the entry that it reads from a prediction; `evaluate(samples, resources, **parameters)`
    scores all samples of a task, `per_answer(prediction, answers, ruwordnet, **parameters)` one text, where the metric
    is a mean of those. `encoders`: it needs encoders; `ruwordnet`: it uses RuWordNet where that is there, and its
    scores are labelled where not; `input_image`: it needs an image in the input.
    """

    name: str
    title: str
    output: Output
    evaluate: Callable[..., Result]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    per_answer: Callable[..., float] | None = None
    encoders: bool = False
    ruwordnet: bool = False
    input_image: bool = False

    def parameter_faults(self, parameters: Mapping[str, object]) -> list[str]:
        """What is wrong with the values given for some of the parameters, one line each."""
        faults = []
        for key, value in parameters.items():
            parameter = self.parameters.get(key)
            if parameter is None:
                known = ", ".join(self.parameters) or "none"
                faults.append(f"unknown key {show(key)}; metric {self.name} allows {known}")
            elif not parameter.accepts(value):
                faults.append(f"{key} must be {parameter.allowed}, not {show(value)}")
        return faults

    def defaults(self) -> dict[str, ParameterValue]:
        return {name: parameter.default for name, parameter in self.parameters.items()}


def text_metric(
    name: str,
    title: str,
    per_answer: Callable[..., float],
    parameters: Mapping[str, Parameter] | None = None,
    ruwordnet: bool = False,
) -> Metric:
    """The mean of `per_answer(prediction, answers, ruwordnet, **parameters)`, in 0..1, over the samples."""

    def evaluate(samples: Sequence[Sample], resources: Resources, **values: ParameterValue) -> Result:
        return Result.mean([per_answer(s.prediction, s.answers, resources.ruwordnet, **values) for s in samples])

    return Metric(name, title, "text", evaluate, parameters or {}, per_answer, ruwordnet=ruwordnet)


def encode_images(
    encode: Callable[[list[Image.Image]], np.ndarray], images: Sequence[ImageLoader]
) -> NDArray[np.float64]:
    """Rows of `encode` for all images, [N, D]; only so many images are held at once as make one batch."""
    return np.concatenate([np.asarray(encode(batch), dtype=np.float64) for batch in _loaded(images)])


def _loaded(images: Sequence[ImageLoader]) -> Iterator[list[Image.Image]]:
    """Batches of `ENCODER_BATCH` images, fewer where these are large."""
    batch: list[Image.Image] = []
    pixels = 0
    for load in images:
        image = load()
        pixels += image.width * image.height
        if batch and (len(batch) == ENCODER_BATCH or pixels > ENCODER_BATCH_PIXELS):
            yield batch
            batch, pixels = [], image.width * image.height
        batch.append(image)
        del image
    if batch:
        yield batch


def cosines(x: np.ndarray, y: np.ndarray) -> NDArray[np.float64]:
    """Cosine of row i of `x` with row i of `y`, both normalised: [N, D], [N, D] -> [N]."""
    return np.einsum("nd,nd->n", x.astype(np.float64), y.astype(np.float64))
