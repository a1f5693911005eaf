"""F1 over boxes: equal to the published evaluation on every label, picture, set and special file."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.metrics import box_f1
from evaluator.metrics.box_f1 import Counts, answer_fault, count, count_picture, f1, iou, resampled, total, truth_fault

DATA = Path(__file__).parents[2] / "data" / "fbc1"
CASES = json.loads((DATA / "zsod.json").read_text(encoding="utf-8"))
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))["zsod"]
BOX = [0, 0, 10, 10]
NUMBERS = st.one_of(st.integers(-10, 10), st.floats(-10, 10), st.sampled_from([0.0, -0.0, 1e300, 2**60]))
BOXES = st.lists(st.tuples(*[NUMBERS] * 4).map(list), max_size=4)


def counts_of(pictures: list[str]) -> dict[str, Counts]:
    return {
        picture: total(count_picture(CASES["prediction"][picture], CASES["true"][picture]).values())
        for picture in pictures
    }


def check(counts: Counts, expected: dict) -> None:
    assert counts._asdict() == {name: expected[name] for name in Counts._fields}
    assert f1(counts) == pytest.approx(expected["score"], abs=1e-12)


def test_equals_the_published_score_for_every_label_picture_and_set():
    assert len(SCORES["per_id"]) == 60
    for picture, truth in CASES["true"].items():
        for label, counts in count_picture(CASES["prediction"][picture], truth).items():
            check(counts, SCORES["per_label"][picture][label])
        check(counts_of([picture])[picture], SCORES["per_id"][picture])
    for name, pictures in CASES["sets"].items():
        check(total(counts_of(pictures).values()), SCORES["sets"][name])


def test_special_files():
    """What made the published code raise, but for whole pictures too many or too few, is a fault of its picture."""
    for name, case in CASES["special"].items():
        if name in ("extra_image", "missing_image", "none"):
            continue
        pictures = [(case["prediction"][picture], truth) for picture, truth in case["true"].items()]
        if "error" in SCORES["special"][name]:
            assert any(truth_fault(truth) or answer_fault(predicted, truth) for predicted, truth in pictures)
        else:
            counts = total(label for picture in pictures for label in count_picture(*picture).values())
            check(counts, SCORES["special"][name])


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([[]], [], (0, 0, 0)),
        ([5, "x"], [], (0, 2, 0)),  # what is only counted is not looked at
        ([BOX], [], (0, 1, 0)),
        ([BOX, BOX], [], (0, 2, 0)),  # doubles count where nothing is true
        ([], [BOX, BOX], (0, 0, 2)),
        ([BOX], [BOX], (1, 0, 0)),
        ([BOX, [0.0, 0.0, 10.0, 10.0]], [BOX], (1, 0, 0)),  # equal neighbours count once,
        ([BOX, [50, 50, 1, 1], BOX], [BOX], (2, 1, 0)),  # apart again; both hit the same true box
        ([BOX, BOX], [BOX, BOX, BOX], (1, 0, 1)),  # what is missed counts them all
        ([[50, 50, 1, 1]], [BOX], (0, 1, 0)),  # nothing is hit, and still nothing is missed
        ([[0, 0, 10, 5]], [BOX], (1, 0, 0)),  # IoU of exactly one half
        ([[0, 0, 10, 4.99]], [BOX], (0, 1, 0)),
        ([[10, 10, -10, -10]], [BOX], (0, 1, 0)),
        ([[0, 0, 0, 0]], [[0, 0, 0, 0]], (0, 1, 0)),  # no area
    ],
)
def test_counts(prediction, truth, expected):
    assert count(prediction, truth) == expected


def test_many_boxes_are_compared_in_parts(monkeypatch):
    random = np.random.default_rng(0)
    prediction, truth = (random.uniform(0, 20, (60, 4)).tolist() for _ in range(2))
    whole = count(prediction, truth)
    monkeypatch.setattr(box_f1, "_PAIRS", 100)
    assert count(prediction, truth) == whole and 0 < whole.tp < 60


@given(BOXES, BOXES)
def test_any_numbers_have_counts(prediction, truth):
    counts = count(prediction, truth)
    assert counts.tp + counts.fp <= len(prediction) and 0 <= f1(counts) <= 1


@given(BOXES.filter(bool))
def test_iou_is_symmetrical(boxes):
    array = np.array(boxes, dtype=np.float64)
    np.testing.assert_array_equal(iou(array, array), iou(array, array).T)


@pytest.mark.parametrize(
    "box",
    [
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [],
        ["1", 2, 3, 4],
        [True, 2, 3, 4],
        [1, 2, 3, np.inf],
        [np.nan, 2, 3, 4],
        [9**999] * 4,
    ]
    + [7, {}],
)
def test_what_is_no_box_is_named(box):
    assert truth_fault({"kite": [BOX]}) is None and answer_fault({"kite": [BOX]}, {"kite": [BOX]}) is None
    assert "'kite' must have boxes of four finite numbers, not " in truth_fault({"kite": [BOX, box]})
    assert "'kite' must have boxes of four numbers, not " in answer_fault({"kite": [BOX, box]}, {"kite": [BOX]})
    assert answer_fault({"kite": [BOX, box], "more": box}, {"kite": []}) is None


def test_each_label_needs_an_entry():
    assert "has no entry for 'lamp'" in answer_fault({"kite": []}, {"kite": [], "lamp": []})


def test_resamples_score_as_sets_of_their_own():
    counts = np.array(list(counts_of(CASES["sets"]["size_20"]).values()))
    drawn = np.random.default_rng(0).integers(0, 20, (30, 20))
    found = resampled(counts, iter(drawn))
    assert found.tolist() == [float(f1(counts[positions].sum(axis=0))) for positions in drawn]
    assert f1(counts).shape == (20,) and f1(Counts(0, 0, 0)) == 0
