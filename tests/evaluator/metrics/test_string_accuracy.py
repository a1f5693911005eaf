"""String accuracy: equal to the published evaluation on every picture, set and special file."""

import json
from pathlib import Path

import pytest

from evaluator.metrics.assets import FOLDER
from evaluator.metrics.base import Resources, Sample
from evaluator.metrics.string_accuracy import METRICS

DATA = Path(__file__).parents[2] / "data" / "fbc1"
CASES = json.loads((DATA / "htr.json").read_text(encoding="utf-8"))
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))["htr"]
(METRIC,) = METRICS


def result(predictions: dict, truth: dict):
    samples = [
        Sample(id, predicted_json=predictions.get(id, METRIC.missing), reference_json=text)
        for id, text in truth.items()
    ]
    return METRIC.evaluate(samples, Resources(FOLDER))


def test_equals_the_published_score_for_every_picture_and_set():
    values = dict(zip(CASES["true"], result(CASES["prediction"], CASES["true"]).values, strict=True))
    assert values == SCORES["per_id"] and len(values) == 60
    for name, pictures in CASES["sets"].items():
        truth = {picture: CASES["true"][picture] for picture in pictures}
        score = result(CASES["prediction"], truth).total
        assert score == pytest.approx(SCORES["sets"][name]["score"], abs=1e-12)


def test_special_files_that_have_a_score():
    scored = {name: expected for name, expected in SCORES["special"].items() if "score" in expected}
    assert len(scored) == 8
    for name, expected in scored.items():
        case = CASES["special"][name]
        assert result(case["prediction"], case["true"]).total == pytest.approx(expected["score"]), name


@pytest.mark.parametrize(
    ("prediction", "text", "expected"),
    [
        ({}, "", 1.0),  # missing is empty
        ({}, "кот", 0.0),
        ({"0.png": "ёж"}, "е\u0308ж", 0.0),  # composed and decomposed
        ({"0.png": "кот"}, "кот ", 0.0),
        ({"0.png": "кот"}, "Кот", 0.0),
        ({"0.png": "a\xa0b"}, "a b", 0.0),
        ({"0.png": "\ud800"}, "\ud800", 1.0),
    ],
)
def test_every_character_counts(prediction, text, expected):
    assert result(prediction, {"0.png": text}).values.tolist() == [expected]
