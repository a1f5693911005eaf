"""1 - NED: equal to the published evaluation on every reference id."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.metrics.edit import one_minus_ned

DATA = Path(__file__).parents[2] / "data" / "metrics"
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates included


def test_equals_the_published_score_for_every_id():
    cases = json.loads((DATA / "text_recognition.json").read_text(encoding="utf-8"))
    published = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))["text_recognition"]["per_sample"]
    assert len(published) == 150
    for id_, expected in published.items():
        answer = next(entry["content"] for entry in cases["predictions"][id_] if entry["type"] == "text")
        references = cases["ground_truth"][id_][0]["content"]
        assert one_minus_ned(answer, references) == pytest.approx(expected, abs=1e-9), (id_, answer, references)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("кафе «Мечта»", ["кафе «Мечта»"], 1.0),
        ("АПТЕКА", ["аптека"], 0.0),  # case counts
        ("вход ", ["вход"], 0.8),  # white space counts
        ("ёлка", ["елка"], 0.75),
        ("вход", ["выход", "входы"], 0.8),
        ("", [""], 0.0),
        ("", ["вход"], 0.0),
        ("😀!", ["😀"], 0.5),
    ],
)
def test_one_minus_ned(prediction, references, expected):
    assert one_minus_ned(prediction, references) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT, st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_any_strings_score_between_0_and_1(prediction, references):
    score = one_minus_ned(prediction, references)
    assert isinstance(score, float)
    assert 0 <= score <= 1


def test_long_texts_end():
    start = time.process_time()
    assert one_minus_ned("аб" * 50_000, ["ба" * 50_000]) == pytest.approx(1 - 2 / 100_000)
    assert time.process_time() - start < 20


def test_no_accepted_answer_is_an_error():
    with pytest.raises(ValueError, match="at least one accepted answer"):
        one_minus_ned("вход", [])
