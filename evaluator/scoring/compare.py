"""Is B really better than A? Two scores.json files of the same examples, compared id by id.

Both answered the same examples, so what counts is the difference on each id and not whether two intervals overlap: the
ids are resampled once for both (`bootstrap`) and the interval is that of the difference. A verdict needs an
interval without zero, and `FEWEST_IDS` ids.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from evaluator.competition.definition import MAX_TASKS, default, named_in, rounded
from evaluator.core import limits
from evaluator.core.errors import DataError, show
from evaluator.core.strict_json import read_document
from evaluator.core.text import aligned
from evaluator.scoring import bootstrap

Verdict = Literal["better", "worse", "cannot be told apart"]

#: Five ids that all differ in one direction leave a sign test with p = 2 / 2⁵ = 0.06; six give 0.03.
FEWEST_IDS = 6
#: How far the mean of a task's ids may lie from its score for the score to be that mean.
_ROUNDING = 1e-9
#: Of a score and of an id's, far beyond what any metric gives; sums and differences of such numbers stay finite.
_LARGEST = 100.0
_MAX_LINE = 1000  # characters of a name, label or reason

_NOTE = (
    "B - A with its {level:.0%} bootstrap interval over the same ids. Each interval stands alone: among many tasks "
    "without any difference, one may well seem to differ. The choice of examples is covered, the chance in a model's "
    "sampling is not."
)


@dataclass(frozen=True)
class Difference:
    """The scores of A and B, and the interval of B - A; none for fewer than two ids. `note` limits what it covers."""

    name: str
    n: int
    a: float
    b: float
    interval: bootstrap.Interval | None
    note: str | None = None

    @property
    def difference(self) -> float:
        """By how much B's score is higher."""
        return self.b - self.a

    @property
    def verdict(self) -> Verdict:
        """Of B, beside A."""
        if self.interval is None or self.n < FEWEST_IDS or self.interval[0] <= 0 <= self.interval[1]:
            return "cannot be told apart"
        return "better" if self.interval[0] > 0 else "worse"

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "n": self.n,
            "a": self.a,
            "b": self.b,
            "difference": self.difference,
            "interval": self.interval,
            "verdict": self.verdict,
            "note": self.note,
        }


@dataclass(frozen=True)
class Comparison:
    """Differences by task number, and of their sum as the integral score weighs them."""

    tasks: Mapping[int, Difference]
    overall: Difference
    labels: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "warnings": list(self.warnings),
            "bootstrap": {"level": bootstrap.LEVEL, "resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED},
            "labels": list(self.labels),
            "overall": self.overall.to_json(),
            "tasks": {str(number): difference.to_json() for number, difference in self.tasks.items()},
        }

    def lines(self) -> list[str]:
        """An aligned table, the labels, warnings, and the verdict as the last line."""
        rows = [("task", "A", "B", "B - A", "interval", "n", "B is"), *map(_row, self.tasks.values())]
        lines = aligned(rows, left=(0, len(rows[0]) - 1), rules=(1, len(rows)))
        lines += [f"* {label}" for label in self.labels]
        lines += [f"! {difference.name}: {difference.note}" for difference in self.tasks.values() if difference.note]
        lines += [f"! {warning}" for warning in self.warnings]
        lines.append(_NOTE.format(level=bootstrap.LEVEL))
        overall = self.overall
        verdict = (
            f"B is {overall.verdict}" if overall.verdict != "cannot be told apart" else "A and B cannot be told apart"
        )
        lines.append(
            f"{overall.name}: A {overall.a:.4f}, B {overall.b:.4f}, B - A {overall.difference:+.4f} "
            f"{_interval(overall.interval)}: {verdict}"
        )
        return lines


@dataclass(frozen=True)
class _Task:
    """A task of a scores.json. `replicates` [R] where the score is not the mean over the ids."""

    name: str
    weight: float
    metric: str
    parameters: dict[str, Any]
    labels: list[str]
    score: float
    ids: dict[str, float]
    replicates: NDArray[np.float64] | None
    note: str | None


@dataclass(frozen=True)
class _Scores:
    """A scores.json: its tasks by number, the `data_digest` where it has one, and what it says of its competition."""

    tasks: dict[int, _Task]
    data_digest: str | None
    competition: dict[str, Any]


def compare(a: Path, b: Path) -> Comparison:
    """Compare two scores.json files. Raises `DataError` with every reason why they cannot be compared: a file that is
    no scores.json, a task without a score, another competition, other data, tasks, ids, metrics, parameters or labels
    (encoders, RuWordNet).
    """
    scores_a, scores_b = _read(a), _read(b)
    first, second, competition = scores_a.tasks, scores_b.tasks, scores_a.competition
    faults, warnings = _data_mismatch(a, scores_a.data_digest, b, scores_b.data_digest)
    if competition != scores_b.competition:
        named = [f"{each['name']} ({str(each['digest'])[:12]}...)" for each in (competition, scores_b.competition)]
        faults.insert(0, f"they are of the competitions {' and '.join(named)}")
    faults += [
        f"task {number} ({(first.get(number) or second[number]).name}) is only in {a if number in first else b}"
        for number in sorted(first.keys() ^ second.keys())
    ]
    for number in sorted(first.keys() & second.keys()):
        faults += [f"{first[number].name}: {fault}" for fault in _mismatches(first[number], second[number], a, b)]
    if faults:
        raise DataError([f"{a} and {b} cannot be compared: {fault}" for fault in faults])

    differences: dict[int, Difference] = {}
    replicates: dict[int, NDArray[np.float64]] = {}
    for number, task in sorted(first.items()):
        other = second[number]
        if len(task.ids) > 1:
            replicates[number] = _replicates(task, other, number)
        interval = bootstrap.interval(replicates[number]) if number in replicates else None
        differences[number] = Difference(task.name, len(task.ids), task.score, other.score, interval, task.note)
    return Comparison(
        differences,
        _overall(differences, replicates, first, competition),
        tuple(dict.fromkeys(x for t in first.values() for x in t.labels)),
        tuple(warnings),
    )


def _data_mismatch(a: Path, data_a: str | None, b: Path, data_b: str | None) -> tuple[list[str], list[str]]:
    """Faults and warnings about the data that the two files were scored on."""
    if data_a is not None and data_b is not None:
        if data_a == data_b:
            return [], []
        return [
            f"they were scored on different data, by their data_digest ({data_a[:12]}... and {data_b[:12]}...): other"
            " inputs, accepted answers, tasks or ids; score both again on one data folder"
        ], []
    old = " and ".join(str(path) for path, digest in ((a, data_a), (b, data_b)) if digest is None)
    warning = f"{old}: no data_digest, as older evaluators wrote none: nothing tells whether the accepted answers agree"
    return [], [warning]


def _overall(
    differences: dict[int, Difference],
    replicates: dict[int, NDArray[np.float64]],
    tasks: dict[int, _Task],
    competition: dict[str, Any],
) -> Difference:
    numbers = differences.keys()
    if numbers == {*competition["open"], *competition["hidden"]}:
        name = "Integral score"
    elif numbers == set(competition["open"]):
        name = "Open part of the integral score"
    else:
        name = "Part of the integral score that these tasks make"
    interval = None
    if numbers == replicates.keys():
        interval = bootstrap.interval(np.sum([tasks[number].weight * replicates[number] for number in numbers], axis=0))

    def total(scores: Iterable[float]) -> float:
        return sum(
            tasks[number].weight * rounded(score, competition["round_parts"])
            for number, score in zip(differences, scores, strict=True)
        )

    return Difference(
        name,
        sum(difference.n for difference in differences.values()),
        total(difference.a for difference in differences.values()),
        total(difference.b for difference in differences.values()),
        interval,
    )


def _replicates(a: _Task, b: _Task, number: int) -> NDArray[np.float64]:
    """B - A on each resample, [R]."""
    if a.replicates is not None and b.replicates is not None:
        return b.replicates - a.replicates
    ids = sorted(a.ids)
    return bootstrap.means(np.array([b.ids[id] - a.ids[id] for id in ids]), number)


def _mismatches(a: _Task, b: _Task, path_a: Path, path_b: Path) -> list[str]:
    faults = [
        f"{what} {show(left)} in {path_a} and {show(right)} in {path_b}"
        for what, left, right in (
            ("name", a.name, b.name),
            ("weight", a.weight, b.weight),
            ("metric", a.metric, b.metric),
            ("parameters", a.parameters, b.parameters),
        )
        if left != right
    ]
    for path, labels, others in ((path_a, a.labels, b.labels), (path_b, b.labels, a.labels)):
        faults += [f"only {path} has the label {label!r}" for label in labels if label not in others]
    for path, lone in ((path_a, a.ids.keys() - b.ids.keys()), (path_b, b.ids.keys() - a.ids.keys())):
        if lone:
            faults.append(f"{len(lone)} ids are only in {path}: {', '.join(map(show, sorted(lone)[:3]))}")
    if (a.replicates is None) != (b.replicates is None):
        faults.append("only one of them is a mean over the ids")
    return faults


def _read(path: Path) -> _Scores:
    """Raises `DataError` with what is wrong. A file of an older evaluator, which names no competition, is of the one
    that there was.
    """
    document = read_document(path)
    if not isinstance(document, dict) or not isinstance(document.get("tasks"), dict) or not document["tasks"]:
        raise DataError(f"{path}: is no scores.json: it has no object of tasks")
    tasks: dict[int, _Task] = {}
    faults: list[str] = []
    competition = named_in(document)
    weights: dict[int, float] = {}
    if not _is_competition(competition):
        faults.append(f"competition must be what the evaluator writes, not {show(competition)}")
        competition = default().to_json()
    elif "competition" not in document:
        weights = default().weights
    numbers = {str(number): number for number in (*competition["open"], *competition["hidden"])}
    for key, entry in document["tasks"].items():
        if key not in numbers:
            faults.append(f"task {show(key)} is not one of {', '.join(numbers)}")
            continue
        try:
            tasks[numbers[key]] = _task(entry, document.get("bootstrap"), weights.get(numbers[key]))
        except ValueError as error:
            faults.append(f"task {key}: {error}")
    digest = document.get("data_digest")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        faults.append(f"data_digest must be a SHA-256, not {show(digest)}")
    if faults:
        raise DataError([f"{path}: {fault}" for fault in faults])
    return _Scores(tasks, digest, competition)


def _is_competition(value: Any) -> bool:
    """Whether it is what `Competition.to_json` writes."""
    if not isinstance(value, dict) or value.keys() != default().to_json().keys():
        return False
    open_numbers, hidden_numbers, decimals = value["open"], value["hidden"], value["round_parts"]
    return (
        isinstance(open_numbers, list)
        and isinstance(hidden_numbers, list)
        and all(type(number) is int and 0 <= number < MAX_TASKS for number in (*open_numbers, *hidden_numbers))
        and (decimals is None or (type(decimals) is int and 0 <= decimals <= 9))
        and all(_is_line(value[key]) for key in ("name", "digest"))
    )


def _task(entry: Any, drawn: Any, weight: float | None) -> _Task:
    """`weight` is that of a task whose entry has none. Raises ValueError with what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError(f"must be an object, not {show(entry)}")
    name, metric, ids, score = (entry.get(key) for key in ("name", "metric", "ids", "score"))
    if _is_line(name) and metric is None and ids is None:
        raise ValueError(f"{name} has no ids, as --private leaves them out; score the kept output without it")
    if not (_is_line(name) and _is_line(metric)):
        raise ValueError(f"name and metric must be texts of one line, not {show(name)} and {show(metric)}")
    if score is None:
        why = entry.get("error")
        raise ValueError(f"{name} has no score: {why if _is_line(why) else 'no reason is given'}")
    if not _is_number(score):
        raise ValueError(f"{name}: score must be a number in -100..100, not {show(score)}")
    if not isinstance(ids, dict) or not ids or not all(map(_is_number, ids.values())):
        raise ValueError(f"{name}: ids must be an object of numbers in -100..100 that is not empty, not {show(ids)}")
    if len(ids) > limits.MAX_JSON_ENTRIES:
        raise ValueError(f"{name}: at most {limits.MAX_JSON_ENTRIES} ids are allowed, not {len(ids)}")
    encoders = entry.get("encoders")
    labels = entry.get("labels", [encoders] if encoders else [])
    if not (isinstance(labels, list) and all(map(_is_line, labels))):
        raise ValueError(f"{name}: labels must be a list of texts of one line, not {show(labels)}")
    parameters = entry.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ValueError(f"{name}: parameters must be an object, not {show(parameters)}")
    weight = entry.get("weight", weight)
    if not _is_number(weight):
        raise ValueError(f"{name}: weight must be a number in -100..100, not {show(weight)}")
    replicates, note = entry.get("replicates"), entry.get("interval_of")
    if replicates is not None:
        known = {"level": bootstrap.LEVEL, "resamples": bootstrap.RESAMPLES, "seed": bootstrap.SEED}
        if drawn != known:
            raise ValueError(
                f"{name}: its resamples were drawn as {show(drawn)}, and not as {show(known)}: score again"
            )
        if not (
            isinstance(replicates, list) and len(replicates) == bootstrap.RESAMPLES and all(map(_is_number, replicates))
        ):
            allowed = f"a list of {bootstrap.RESAMPLES} numbers in -100..100"
            raise ValueError(f"{name}: replicates must be {allowed}: score again")
    elif abs(score - sum(ids.values()) / len(ids)) > _ROUNDING and len(ids) > 1:
        raise ValueError(f"{name}: its score is not the mean over its ids, and replicates are missing: score again")
    return _Task(
        name,
        float(weight),
        metric,
        parameters,
        labels,
        float(score),
        {id: float(value) for id, value in ids.items()},
        None if replicates is None else np.array(replicates, dtype=np.float64),
        note if _is_line(note) else None,
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _is_line(value: object) -> TypeGuard[str]:
    """A text that can be printed as part of a line."""
    return isinstance(value, str) and len(value) <= _MAX_LINE and value.isprintable()


def _row(difference: Difference) -> tuple[str, str, str, str, str, str, str]:
    few = f" (fewer than {FEWEST_IDS} ids)" if difference.n < FEWEST_IDS else ""
    return (
        difference.name,
        f"{difference.a:.4f}",
        f"{difference.b:.4f}",
        f"{difference.difference:+.4f}",
        _interval(difference.interval),
        str(difference.n),
        f"{difference.verdict}{few}",
    )


def _interval(interval: bootstrap.Interval | None) -> str:
    return "no interval" if interval is None else f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"
