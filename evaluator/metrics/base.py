"""What a metric is: the part that every file in this folder shares with the evaluator.

A metric's file defines `METRICS`, a tuple of `Metric`; a line with the file's name in `registry.py` makes them known.
A text metric of one answer at a time is `text_metric(name, title, function)`; anything else is a function

    evaluate(samples, resources, **parameters) -> Result

that finds images and encoders behind `Sample` and `Resources`, both loaded only when asked for. A metric's parameters
are a pydantic model: names, defaults and what is allowed. So tasks.json can be checked before anything is scored.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from evaluator.core.validation import StrictModel
from evaluator.metrics.syntax_trees import Grammar

Output = Literal["text", "image", "json"]
Requirement = Literal["encoders", "ruwordnet", "input_image", "grammar"]
ParameterValue = float | str | bool
ImageLoader = Callable[[], Image.Image]
#: The scores of resamples, [R], from an iterator over R arrays of positions in the samples, [N] each.
Replicates = Callable[[Iterator[NDArray[np.intp]]], NDArray[np.float64]]

ENCODER_BATCH = 64  # images held in memory at once,
ENCODER_BATCH_PIXELS = 2**25  # and their pixels, but for a single larger image: 128 MB


class Parameters(StrictModel):
    """A metric's parameters, each with a default and with what it may be (`evaluator.core.validation`). This very class
    has none.
    """


class Encoders(Protocol):
    """Image and text encoders. Latents are [N, D] and normalised, features for FID are [N, F].

    `label` is shown with every score that they take part in; None for the leaderboard's own.
    """

    @property
    def label(self) -> str | None:
        """Why scores made with them are not the leaderboard's."""
        ...

    def text_latents(self, texts: list[str]) -> np.ndarray:
        """[N, D] unit rows."""
        ...

    def image_latents(self, images: list[Image.Image]) -> np.ndarray:
        """[N, D] unit rows."""
        ...

    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """[N, F]."""
        ...


class Thesaurus(Protocol):
    """Words that count as synonyms; `evaluator.metrics.meteor.RuWordNet` is the one."""

    def synonyms(self, word: str) -> frozenset[str]:
        """In lower case, the word itself among them; empty for a word that is not known."""
        ...


@dataclass
class Resources:
    """What metrics may ask for besides the samples. `encoders` and `grammar` are made once, when the first metric asks
    for them; `ruwordnet` is None where its database is not there.
    """

    load_encoders: Callable[[], Encoders]
    ruwordnet: Thesaurus | None = None
    load_grammar: Callable[[], Grammar] | None = None

    @functools.cached_property
    def encoders(self) -> Encoders:
        """Loaded at the first call: seconds, and up to 2 GB of memory."""
        return self.load_encoders()

    @functools.cached_property
    def grammar(self) -> Grammar:
        """That of the programs that CodeBLEU parses; loaded at the first call."""
        assert self.load_grammar is not None, "whoever scores programs has one"
        return self.load_grammar()


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
    """A metric of all samples of a task."""

    def __call__(self, samples: Sequence[Sample], resources: Resources, /, *args: Any, **parameters: Any) -> Result: ...


@dataclass(frozen=True)
class Metric:
    """How a task is scored: `evaluate` gets all samples of a task, and its parameters as keywords.

    `output` is the type of the entry that it reads from a prediction. `requires` says what it needs beyond texts:
    "encoders", "grammar", "input_image" (an image in each input), "ruwordnet" (used where it is there; scores without
    it are labelled). `best` is what no score exceeds; charts reach from 0 to it. `part_titles` are the names for people
    of a result's parts that have others. `schema` is the pydantic type of a JSON answer; `missing` is what counts for
    an id without a prediction, where there may be such. Reports show an answer as it `shows`: boxes drawn over the
    input's image, code beside the reference with what differs.
    """

    name: str
    title: str
    output: Output
    evaluate: Evaluate
    parameters: type[Parameters] = Parameters
    requires: tuple[Requirement, ...] = ()
    best: float = 1.0
    part_titles: tuple[tuple[str, str], ...] = ()
    schema: Any = None
    missing: Any = None
    shows: Literal["boxes", "code"] | None = None

    def schema_fault(self, value: Any) -> str | None:
        """What is wrong with a JSON answer by the metric's schema, with its place there; None where nothing is."""
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
    requires: tuple[Requirement, ...] = (),
) -> Metric:
    """The mean of `per_answer(prediction, answers, **parameters)`, in 0..1, over the samples. One that requires
    "ruwordnet" gets it (or None) under this keyword.
    """

    def evaluate(samples: Sequence[Sample], resources: Resources, **values: Any) -> Result:
        if "ruwordnet" in requires:
            values["ruwordnet"] = resources.ruwordnet
        return Result.mean([per_answer(sample.prediction, sample.answers, **values) for sample in samples])

    return Metric(name, title, "text", evaluate, parameters, requires)


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
