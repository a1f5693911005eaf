"""Scores an output folder against a data folder: per id, per task, and the challenge's integral.

A task that cannot be scored carries the reason instead of a score; it never counts as zero.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from evaluator.contract import Data, Example, Predictions, load_image, read_predictions
from evaluator.errors import DataError, EvaluatorError
from evaluator.metrics import meteor
from evaluator.metrics.fid import frechet_distance
from evaluator.tasks import HIDDEN_NUMBERS, HIDDEN_WEIGHT, METRICS, OPEN_TASKS, OPEN_WEIGHT, Task, is_hidden

logger = logging.getLogger(__name__)

FID_CEILING = 200.0  # published: a FID at or above it earns nothing
ENCODER_BATCH = 64


class Encoders(Protocol):
    """Image and text encoders. Latents are [N, D] and normalised, features for FID are [N, F].

    `label` is shown with every score that they take part in; None for the leaderboard's own.
    """

    @property
    def label(self) -> str | None: ...
    def text_latents(self, texts: list[str]) -> np.ndarray: ...
    def image_latents(self, images: list[Image.Image]) -> np.ndarray: ...
    def image_features(self, images: list[Image.Image]) -> np.ndarray: ...


@dataclass(frozen=True)
class TaskScore:
    """A task's score (0..1, 1 is best), its parts, and the score of each id; or, with `score` None, the `error`.

    FID belongs to the whole set, so an id of ImageGeneration carries its ruCLIP alone. A cosine can be below zero and
    is not clipped.
    """

    task: Task
    n: int
    score: float | None
    ids: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    encoders: str | None = None
    error: str | None = None
    exit_code: int = 0  # of `error`: whose fault it is, as in `evaluator.errors`


@dataclass(frozen=True)
class Scores:
    """Scores of the tasks that the data has, by task number."""

    tasks: tuple[TaskScore, ...]

    def _weighted(self, numbers: Sequence[int], weight: float) -> float | None:
        scores = {score.task.number: score.score for score in self.tasks}
        values = [scores.get(number) for number in numbers]
        return None if None in values else weight * sum(value for value in values if value is not None)

    @property
    def open_part(self) -> float | None:
        """1/15 of the sum over the open tasks; None unless all six have a score."""
        return self._weighted([task.number for task in OPEN_TASKS], OPEN_WEIGHT)

    @property
    def integral(self) -> float | None:
        """1/15 of the sum over the open tasks plus 1/10 of that over the hidden ones; None unless all twelve have a
        score.
        """
        hidden = self._weighted(HIDDEN_NUMBERS, HIDDEN_WEIGHT)
        return None if self.open_part is None or hidden is None else self.open_part + hidden

    @property
    def encoders(self) -> str | None:
        """The label of the encoders, where any score depends on others than the leaderboard's."""
        return next((score.encoders for score in self.tasks if score.encoders), None)

    @property
    def errors(self) -> list[str]:
        return [f"{score.task.name}: cannot be scored: {score.error}" for score in self.tasks if score.error]

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json: `tasks` by number, `open_part`, `integral` where all twelve are there,
        `encoders`.
        """
        tasks = {
            str(score.task.number): {
                "name": score.task.name,
                "title": score.task.title,
                "hidden": is_hidden(score.task.number),
                "metric": score.task.metric,
                "score": score.score,
                "n": score.n,
                "baseline": score.task.baseline,
                "threshold": score.task.threshold,
                "encoders": score.encoders,
                "error": score.error,
                "parts": score.parts,
                "ids": score.ids,
            }
            for score in self.tasks
        }
        totals = {"open_part": self.open_part}
        if self.integral is not None:
            totals["integral"] = self.integral
        return {**totals, "encoders": self.encoders, "tasks": tasks}


def score(
    output: Path | str,
    data: Data,
    ruwordnet: Path | None = None,
    load_encoders: Callable[[], Encoders] | None = None,
) -> Scores:
    """Score the output folder of a submission.

    `ruwordnet` is the SQLite data base for METEOR's synonym stage (none: exact and stem only); `load_encoders` makes
    the encoders when the first task needs them (default: the small ones shipped with the evaluator).

    Raises `SubmissionError` for a faulty output folder, `DataError` for an unreadable RuWordNet. Any other failure is
    recorded in the `TaskScore` it belongs to.
    """
    wordnet = load_ruwordnet(ruwordnet) if ruwordnet else None
    predictions = read_predictions(output, data)
    encoders: Encoders | None = None
    scores: list[TaskScore] = []
    for task, examples in data.by_task().items():
        label = None
        try:
            if METRICS[task.metric].encoders:
                encoders = encoders or (load_encoders or _nano)()
                label = encoders.label
            scores.append(_score_task(task, examples, predictions, data, wordnet, encoders))
        except Exception as error:  # recorded as this task's error; the others still get their scores
            exit_code, reason = EvaluatorError.exit_code, f"{type(error).__name__}: {error}"
            if isinstance(error, EvaluatorError):
                exit_code, reason = error.exit_code, str(error)
            else:
                logger.exception("%s could not be scored", task.name)
            reason = " ".join(reason.split())
            scores.append(TaskScore(task, len(examples), None, encoders=label, error=reason, exit_code=exit_code))
    return Scores(tuple(scores))


def load_ruwordnet(path: Path) -> meteor.RuWordNet:
    """Raises `DataError` when `path` is no RuWordNet data base."""
    if not path.is_file():
        raise DataError(f"RuWordNet data base {path} does not exist")
    try:
        return meteor.RuWordNet.from_file(path)
    except Exception as error:
        raise DataError(f"RuWordNet data base {path} cannot be read: {error}") from error


def caption_of(texts: list[str]) -> str:
    """The caption in a request for an image: the second text; of a single text all sentences but the first, which is
    the instruction (published; so the caption of a single sentence is empty).
    """
    return texts[1] if len(texts) > 1 else ". ".join(texts[0].split(". ")[1:])


def _nano() -> Encoders:
    from evaluator.metrics.nano import NanoEncoders

    return NanoEncoders.load()


def _score_task(
    task: Task,
    examples: list[Example],
    predictions: Predictions,
    data: Data,
    wordnet: meteor.RuWordNet | None,
    encoders: Encoders | None,
) -> TaskScore:
    metric = METRICS[task.metric]
    ids = [example.id for example in examples]
    parts: dict[str, np.ndarray] = {}  # name: [N]
    if metric.per_answer is not None:
        parts["text"] = np.array(
            [metric.per_answer(predictions.texts[example.id], list(example.answers), wordnet) for example in examples]
        )
    if encoders is None or not metric.encoders:
        values = parts.pop("text")
        return _result(task, ids, values, float(values.mean()), {}, None)

    if metric.output == "text":
        pictures = [(data.root, example.images[0]) for example in examples]
        texts = [predictions.texts[id] for id in ids]
        ruclip = _cosines(encoders.text_latents(texts), _encode(encoders.image_latents, pictures))
        values = (parts["text"] + ruclip) / 2
        return _result(
            task,
            ids,
            values,
            float(values.mean()),
            {"meteor": parts["text"].mean(), "ruclip": ruclip.mean()},
            encoders.label,
        )

    if len(examples) < 2:
        raise DataError("FID needs at least two images, and the data has one example of this task")
    generated = [(predictions.root, predictions.images[id]) for id in ids]
    reference = [(data.root, example.truth_image or "") for example in examples]
    texts = [caption_of(example.texts) for example in examples]
    ruclip = _cosines(encoders.text_latents(texts), _encode(encoders.image_latents, generated))
    features = (_encode(encoders.image_features, reference), _encode(encoders.image_features, generated))
    fid = float(frechet_distance(*features))
    total = (ruclip.mean() + (FID_CEILING - min(FID_CEILING, fid)) / FID_CEILING) / 2
    return _result(task, ids, ruclip, float(total), {"ruclip": ruclip.mean(), "fid": fid}, encoders.label)


def _result(
    task: Task, ids: list[str], values: np.ndarray, total: float, parts: dict[str, float], label: str | None
) -> TaskScore:
    if not (np.isfinite(values).all() and np.isfinite(total) and np.isfinite(list(parts.values())).all()):
        raise EvaluatorError("the metric gave a value that is not finite")
    return TaskScore(
        task,
        len(ids),
        total,
        dict(zip(ids, map(float, values), strict=True)),
        {name: float(value) for name, value in parts.items()},
        label,
    )


def _encode(encode: Callable[[list[Image.Image]], np.ndarray], paths: list[tuple[Path, str]]) -> np.ndarray:
    """Rows of `encode` for the images at (folder, path), [N, D]; only `ENCODER_BATCH` images are held at once."""
    batches = []
    for start in range(0, len(paths), ENCODER_BATCH):
        batches.append(np.asarray(encode([load_image(*path) for path in paths[start : start + ENCODER_BATCH]])))
    return np.concatenate(batches)


def _cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cosine of row i of `x` with row i of `y`, both normalised: [N, D], [N, D] -> [N]."""
    return np.einsum("nd,nd->n", x.astype(np.float64), y.astype(np.float64))
