"""F1 over all boxes of all pictures (zero-shot object detection), as FusionBrain Challenge 1.0 published it.

A box is [x, y, width, height], a picture a set of labels with the boxes of each, and what is counted adds up over
labels and pictures:

* Where the truth has no box, each predicted one is a false positive; where nothing is predicted, each true one is
  missed. Where neither has any, nothing is counted, so that a set of nothing but these scores 0, not 1.
* Else a predicted box is a true positive if its IoU with any true box is at least 0.5 (the rules say more than 0.5),
  so that several may hit the same one; there is no matching. True boxes are missed by number alone: as many as are more
  than the predicted ones.
* Equal boxes side by side in a prediction count once, apart they count again; what is missed still counts them all.
* `[[]]` as a prediction is no box.

What is predicted is looked at where the truth has boxes to compare it with, and only counted where it has none:
`{"cat": [5]}` is one false positive, and labels that the truth does not have may say anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluator.core.errors import show
from evaluator.metrics.base import Metric, Resources, Result, Sample

IOU_THRESHOLD = 0.5
MAX_COORDINATE = 1e300  # numbers beyond it may have no float
_PAIRS = 2**20  # of boxes compared at once: some 100 MB

Box = Sequence[float]


class Counts(NamedTuple):
    """True positives, false positives and false negatives, of boxes."""

    tp: int
    fp: int
    fn: int


def count(prediction: Sequence[Box], truth: Sequence[Box]) -> Counts:
    """Of one label of one picture, in which `truth_fault` and `answer_fault` find none. The time is the product of both
    numbers of boxes.
    """
    if prediction == [[]]:
        prediction = ()
    if not prediction or not truth:
        return Counts(0, len(prediction), len(truth))
    single = [box for box, _ in groupby(prediction)]
    boxes, true = np.array(single, dtype=np.float64), np.array(truth, dtype=np.float64)
    rows = max(1, _PAIRS // len(true))
    hits = sum(
        int((iou(boxes[start : start + rows], true) >= IOU_THRESHOLD).any(axis=1).sum())
        for start in range(0, len(boxes), rows)
    )
    return Counts(hits, len(single) - hits, max(0, len(truth) - len(prediction)))


def count_picture(prediction: Mapping[str, Sequence[Box]], truth: Mapping[str, Sequence[Box]]) -> dict[str, Counts]:
    """Of each label of the truth; further labels of the prediction are ignored."""
    return {label: count(prediction[label], boxes) for label, boxes in truth.items()}


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over labels or pictures."""
    return Counts(*np.array([Counts(0, 0, 0), *counts]).sum(axis=0).tolist())


def f1(counts: NDArray[np.float64] | NDArray[np.int64] | Counts) -> NDArray[np.float64]:
    """F1 from sums of counts, [..., 3] -> [...], in 0..1; 0 where nothing is hit."""
    tp, fp, fn = np.moveaxis(np.asarray(counts, dtype=np.float64), -1, 0)
    recall = tp / np.maximum(1, tp + fn)
    precision = tp / np.maximum(1, tp + fp)
    return 2 * precision * recall / np.where(tp > 0, precision + recall, 1)


def resampled(counts: NDArray[np.int64], resamples: Iterable[NDArray[np.intp]]) -> NDArray[np.float64]:
    """F1 of each resample, [R], from the counts of single pictures [N, 3] and arrays of positions."""
    return f1(np.array([counts[rows].sum(axis=0) for rows in resamples]).reshape(-1, 3))


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each box of `a` with each of `b`, [A, 4] and [B, 4] -> [A, B]; 0 without any area.

    Areas are products of the corners' differences, not width times height, which may fall on the other side of 0.5.
    Boxes of negative size count as they are computed: their intersection is empty, their area may be negative.
    """
    a_min, a_max = a[:, None, :2], a[:, None, :2] + a[:, None, 2:]
    b_min, b_max = b[None, :, :2], b[None, :, :2] + b[None, :, 2:]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        sides = np.maximum(np.minimum(a_max, b_max) - np.maximum(a_min, b_min), 0)
        intersection = sides.prod(axis=-1)
        share = intersection / ((a_max - a_min).prod(axis=-1) + (b_max - b_min).prod(axis=-1) - intersection)
    return np.where(np.isnan(share), 0.0, share)


def truth_fault(truth: Any) -> str | None:
    """What is wrong with a picture's true boxes, any JSON value; None where nothing is."""
    if not isinstance(truth, dict) or not all(isinstance(boxes, list) for boxes in truth.values()):
        return f"must be an object with a list of boxes for each description, not {show(truth)}"
    for label, boxes in truth.items():
        if not all(map(is_box, boxes)):
            return f"{show(label)} must have boxes of four finite numbers, not {show(boxes)}"
    return None


def answer_fault(predicted: Any, truth: Mapping[str, Sequence[Box]]) -> str | None:
    """What is wrong with a picture's predicted boxes, any JSON value; None where nothing is. Boxes are looked at where
    there are some to compare them with, as published.
    """
    if not isinstance(predicted, dict):
        return f"must be an object of descriptions, not {show(predicted)}"
    for label, true in truth.items():
        if label not in predicted:
            return f"has no entry for {show(label)}, which was asked for"
        boxes = predicted[label]
        if not isinstance(boxes, list):
            return f"{show(label)} must have a list of boxes, not {show(boxes)}"
        if true and boxes != [[]] and not all(map(is_box, boxes)):
            return f"{show(label)} must have boxes of four numbers, not {show(boxes)}"
    return None


def is_box(box: Any) -> bool:
    """Whether a JSON value is four finite numbers."""
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(type(number) in (int, float) and abs(number) < MAX_COORDINATE for number in box)  # NaN is not, either
    )


def _evaluate(samples: Sequence[Sample], resources: Resources) -> Result:
    pictures = [count_picture(sample.predicted_json, sample.reference_json) for sample in samples]
    counts = np.array([total(labels.values()) for labels in pictures], dtype=np.int64)  # [N, 3]
    summed = Counts(*counts.sum(axis=0).tolist())
    return Result(
        f1(counts),
        float(f1(summed)),
        {name: float(value) for name, value in summed._asdict().items()},
        lambda resamples: resampled(counts, resamples),
        "pictures resampled, F1 over all boxes of each resample",
    )


METRICS = (
    Metric(
        "box_f1",
        "F1 of boxes, IoU at least 0.5",
        "json",
        _evaluate,
        shows="boxes",
        check_truth=truth_fault,
        check_answer=answer_fault,
        part_titles=(("tp", "true positives"), ("fp", "false positives"), ("fn", "missed")),
    ),
)
