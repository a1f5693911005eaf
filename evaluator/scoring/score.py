"""Scores predictions against a data folder: per id, per task, and the competition's integral, with intervals.

A task that cannot be scored carries the reason instead of a score; it never counts as zero.
"""

import functools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluator.competition.definition import Competition
from evaluator.competition.task import Task
from evaluator.core import verdict as verdicts
from evaluator.core.errors import DataError, EvaluatorError, Finding, outline
from evaluator.data.dataset import Data, Example, data_digest
from evaluator.data.images import load_image
from evaluator.data.predictions import Predictions
from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources, Result, Sample
from evaluator.metrics.encoders import ENCODERS
from evaluator.metrics.meteor import RUWORDNET, read_ruwordnet
from evaluator.scoring import bootstrap

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskScore:
    """A task's score (0..1, 1 is best), its parts, and the score of each id; or, with `score` None, the `error`.

    FID belongs to the whole set, so an id of generated images carries its ruCLIP alone. A cosine can be below zero and
    is not clipped. `labels` are all reasons why the score is not the leaderboard's, that of the `encoders` among them.
    `replicates` [R] are the task's scores on `bootstrap.resamples` (None where a task has one id); `replicates_of` says
    what they resample where the score is not the mean over the ids.
    """

    task: Task
    n: int
    score: float | None
    ids: dict[str, float] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)
    encoders: str | None = None
    error: str | None = None
    bare_error: str | None = None  # `error` without what it may quote of the data or of the predictions
    exit_code: int = 0  # of `error`: whose fault it is, as in `evaluator.core.errors`
    labels: tuple[str, ...] = ()
    replicates: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    replicates_of: str | None = None
    predictions: dict[str, str] = field(default_factory=dict, repr=False)  # what was scored: text, or image path

    @property
    def interval(self) -> bootstrap.Interval | None:
        """The score's 95 % bootstrap interval; None without a score or with a single id."""
        return None if self.replicates is None else bootstrap.interval(self.replicates)

    def to_json(self) -> dict[str, Any]:
        document = {
            "name": self.task.name,
            "title": self.task.title,
            "hidden": self.task.hidden,
            "metric": self.task.metric.name,
            "parameters": dict(self.task.parameters),
            "score": self.score,
            "interval": self.interval,
            "n": self.n,
            "weight": self.task.weight,
            "baseline": self.task.baseline,
            "threshold": self.task.threshold,
            "encoders": self.encoders,
            "labels": list(self.labels),
            "error": self.error,
            "parts": self.parts,
            "ids": self.ids,
        }
        if self.replicates_of is not None:
            document["interval_of"] = self.replicates_of
            if self.replicates is not None:  # the ids' scores do not give them back
                document["replicates"] = [round(float(value), 9) for value in self.replicates]
        return document


@dataclass(frozen=True)
class Scores:
    """Scores of the tasks that the data has, by task number, as the `competition` counts them; `data_digest` is that of
    `evaluator.data.dataset`; `notes` say what is unusual, though not wrong.
    """

    competition: Competition
    tasks: tuple[TaskScore, ...]
    data_digest: str | None = None
    notes: tuple[Finding, ...] = ()

    def _by_number(self, numbers: Iterable[int]) -> list[TaskScore] | None:
        """The tasks of all `numbers`; None unless there are some, and each has a score."""
        scored = {score.task.number: score for score in self.tasks if score.score is not None}
        wanted = list(numbers)
        return [scored[number] for number in wanted] if wanted and set(wanted) <= scored.keys() else None

    def _weighted(self, numbers: Sequence[int]) -> float | None:
        tasks = self._by_number(numbers)
        part = self.competition.part
        return None if tasks is None else sum(task.task.weight * part(task.score or 0.0) for task in tasks)

    def _interval(self, numbers: Sequence[int]) -> bootstrap.Interval | None:
        tasks = self._by_number(numbers)
        if tasks is None or any(task.replicates is None for task in tasks):
            return None
        weighted = [task.task.weight * task.replicates for task in tasks if task.replicates is not None]
        return bootstrap.interval(np.sum(weighted, axis=0))

    @property
    def open_part(self) -> float | None:
        """The weighted sum over the open tasks; None unless all of them have a score."""
        return self._weighted(self.competition.open_numbers)

    @property
    def integral(self) -> float | None:
        """The weighted sum over all tasks; None unless all of them have a score."""
        return self._weighted(self.competition.numbers)

    @property
    def open_part_interval(self) -> bootstrap.Interval | None:
        """The interval of the open tasks' part; None where one of them has none."""
        return self._interval(self.competition.open_numbers)

    @property
    def interval(self) -> bootstrap.Interval | None:
        """The integral's 95 % bootstrap interval, from the tasks' resamples, which are independent of each other."""
        return self._interval(self.competition.numbers)

    @property
    def encoders(self) -> str | None:
        """The label of the encoders, where any score depends on others than the leaderboard's."""
        return next((score.encoders for score in self.tasks if score.encoders), None)

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels of any task, each once."""
        return tuple(dict.fromkeys(label for score in self.tasks for label in score.labels))

    @property
    def errors(self) -> list[str]:
        """A line for each task that could not be scored."""
        return [f"{score.task.name}: cannot be scored: {score.error}" for score in self.tasks if score.error]

    @property
    def failure(self) -> EvaluatorError | None:
        """What to raise once the scores are written, with a finding for each task that could not be scored: an
        infrastructure failure where any is, else a fault of the organizer's data; None where all tasks have a score.
        """
        failed = [score for score in self.tasks if score.error]
        if not failed:
            return None
        ours = any(score.exit_code == verdicts.INFRA.exit_code for score in failed)
        row = verdicts.METRIC_ERROR if ours else verdicts.METRIC_DATA_ERROR
        said = "cannot be scored: "
        findings = [
            Finding(row.rule, score.task.name, f"{said}{score.error}", bare=f"{said}{score.bare_error}")
            for score in failed
        ]
        return EvaluatorError(findings, verdict=row)

    def to_json(self) -> dict[str, Any]:
        """The content of scores.json.

        * `verdict`, `fault`, `counts`, `fix`, `findings` and `findings_total`, as in the JSON of an `EvaluatorError`:
          OK with the notes as findings, or METRIC_ERROR with a finding for each task that could not be scored; then
          the attempt does not count.
        * `competition` with its name and digest; `tasks` by number, `open_part`, `integral` where all tasks are there,
          their intervals and how those were drawn (`bootstrap`), `encoders`, `labels`.
        * `data_digest`: SHA-256 of what was asked and what was accepted (`evaluator.data.dataset.data_digest`). Only
          scores of one digest can be compared.
        """
        failure = self.failure
        if failure is None:
            findings = [note.to_json() for note in self.notes]
            outcome = verdicts.OK.to_json() | {"findings": findings, "findings_total": len(findings)}
        else:
            outcome = failure.to_json()
        totals: dict[str, Any] = {"open_part": self.open_part, "open_part_interval": self.open_part_interval}
        if self.integral is not None:
            totals |= {"integral": self.integral, "interval": self.interval}
        drawn = {"level": bootstrap.LEVEL, "resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED}
        tasks = {str(score.task.number): score.to_json() for score in self.tasks}
        return {
            **outcome,
            "competition": self.competition.to_json(),
            **totals,
            "data_digest": self.data_digest,
            "bootstrap": drawn,
            "encoders": self.encoders,
            "labels": list(self.labels),
            "tasks": tasks,
        }


def find_resources(ruwordnet: Path | None = None, assets: Path | None = None) -> Resources:
    """What metrics may ask for, from the folder `assets` of `evaluator.metrics.assets` (none: the evaluator's own). In
    place of the RuWordNet there `ruwordnet` names another SQLite database.

    Raises `DataError` for an assets folder that is not there, and for such a database that cannot be read.
    """
    if assets is not None and not assets.is_dir():
        raise DataError(f"assets folder {assets} does not exist or is not a folder")
    return Resources(assets or FOLDER, {RUWORDNET: read_ruwordnet(ruwordnet)} if ruwordnet else {})


def load_small(data: Data, resources: Resources) -> None:
    """Load what the metrics of the data need, but for what is large. Raises `DataError` where it cannot be had."""
    for task in data.by_task():
        for resource in task.metric.requires:
            if resource.small:
                resources[resource]


def score(predictions: Predictions, data: Data, resources: Resources | None = None) -> Scores:
    """Score the predictions that `evaluator.data.read_predictions` read and found right. Scores made with what stands
    in for a resource say so in their `labels`.

    Raises `DataError` as `load_small`; where no `resources` are given, those of `find_resources` are taken. Any other
    failure is recorded in the `TaskScore` it belongs to.
    """
    resources = resources or find_resources()
    load_small(data, resources)
    by_task = data.by_task().items()
    tasks = tuple(_score_task(task, examples, predictions, data, resources) for task, examples in by_task)
    return Scores(data.competition, tasks, data_digest(data), (*data.notes, *predictions.notes))


def _score_task(
    task: Task, examples: list[Example], predictions: Predictions, data: Data, resources: Resources
) -> TaskScore:
    metric = task.metric
    written = {example.key: predictions.written(example.id, task.output) for example in examples}
    score = TaskScore(task, len(examples), None, predictions=written)
    try:
        for resource in metric.requires:
            if label := resources.label(resource):
                score = replace(score, labels=(*score.labels, label))
        if ENCODERS in metric.requires:
            score = replace(score, encoders=resources.label(ENCODERS))
        samples = [_sample(example, predictions, data) for example in examples]
        result = metric.evaluate(samples, resources, **task.parameters)
        replicates = _replicates(result, [sample.id for sample in samples], task.number)
    except Exception as error:  # recorded as this task's error; the others still get their scores
        exit_code, reason, bare = verdicts.INFRA.exit_code, f"{type(error).__name__}: {error}", outline(error)
        if isinstance(error, EvaluatorError):
            exit_code, reason, bare = error.exit_code, str(error), str(error.without_contents())
        else:
            logger.exception("%s could not be scored", task.name)
        return replace(score, error=_one_line(reason), bare_error=_one_line(bare), exit_code=exit_code)
    return replace(
        score,
        score=float(result.total),
        ids=dict(zip((sample.id for sample in samples), map(float, result.values), strict=True)),
        parts={name: float(value) for name, value in result.parts.items()},
        replicates=replicates,
        replicates_of=result.replicates_of,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _sample(example: Example, predictions: Predictions, data: Data) -> Sample:
    """An example with what was predicted for it. Images are decoded when a metric asks for them."""
    images = tuple(functools.partial(load_image, data.root, path) for path in example.images)
    sample = Sample(example.key, tuple(example.texts), images, language=example.language)
    if example.task.output == "json":
        return replace(sample, predicted_json=predictions.values[example.id], reference_json=example.truth_json)
    if example.truth_image is None:
        return replace(sample, prediction=predictions.texts[example.id], answers=example.answers)
    return replace(
        sample,
        predicted_image=functools.partial(predictions.image, example.id),
        reference_image=functools.partial(load_image, data.root, example.truth_image),
    )


def _replicates(result: Result, ids: list[str], number: int) -> NDArray[np.float64] | None:
    """The task's scores on its resamples, [R]; None for a single id. Raises `EvaluatorError` for a value that is not
    finite, in the result as well.
    """
    replicates = None
    if len(ids) > 1:
        order = bootstrap.canonical(ids)
        if result.replicates is None:
            replicates = bootstrap.means(result.values[order], number)
        else:
            replicates = result.replicates(order[rows] for rows in bootstrap.resamples(len(ids), number))
    for values in (result.values, result.total, list(result.parts.values()), replicates):
        if values is not None and not np.isfinite(values).all():
            raise EvaluatorError("the metric gave a value that is not finite")
    return replicates
