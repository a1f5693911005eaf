"""VQA accuracy: equal to the published evaluation on every question, with its normalisation character by character."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluator.data.fbc1 import answer_texts
from evaluator.metrics.vqa_accuracy import CONTRACTIONS, MARKS, accuracy, normalise, vqa_accuracy

DATA = Path(__file__).parents[2] / "data" / "fbc1"
CASES = json.loads((DATA / "vqa.json").read_text(encoding="utf-8"))
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))["vqa"]


def values(predictions: dict, truth: dict) -> list[float]:
    return [vqa_accuracy(predictions[id], answer_texts(entry["answer"]), entry["lang"]) for id, entry in truth.items()]


def test_equals_the_published_score_for_every_question_and_set():
    for id_, entry in CASES["true"].items():
        assert normalise(CASES["prediction"][id_], entry["lang"]) == SCORES["normalised"][id_], id_
    found = dict(zip(CASES["true"], values(CASES["prediction"], CASES["true"]), strict=True))
    assert found == SCORES["per_id"] and len(found) == 60
    for name, ids in CASES["sets"].items():
        assert accuracy([found[id_] for id_ in ids]) == SCORES["sets"][name]["score"]


@pytest.mark.parametrize("name", ["answer_null", "answer_number", "order_of_keys", "rounded", "two_thirds"])
def test_special_files_that_have_a_score(name):
    case = CASES["special"][name]
    assert accuracy(values(case["prediction"], case["true"])) == SCORES["special"][name]["score"]


@pytest.mark.parametrize(
    ("prediction", "lang", "expected"),
    [
        ("Белая", "ru", "белый"),
        ("три кошки", "ru", "3 кошка"),
        ("никакого", "ru", "0"),
        ("a cat", "ru", "a cat"),  # no articles
        ("The Cat", "en", "cat"),
        ("an a the", "en", ""),
        ("none", "de", "0"),  # any other language is English
        ("dont", "en", "don't"),
        ("somebody'd", "en", "somebodyd"),
        ("lets", "en", "lets"),
        ("Im", "en", "im"),
        ("a-b", "en", "b"),  # the mark becomes a space, and then `a` is an article
        ("x-y", "en", "x y"),
        ("x -y", "en", "x y"),
        ("x- y z-w", "en", "x y zw"),  # touches a space once, is deleted everywhere
        ("1,000 x-y", "en", "1000 xy"),
        ("3.5", "en", "3.5"),
        ("end.", "en", "end"),
        ("." * 33 + "x", "en", ".x"),
        ("\n x\ty \r", "en", "x y"),
        ("x\xa0y", "en", "x y"),
        ("«да»:", "en", "«да»:"),
        ("", "ru", ""),
    ],
)
def test_normalisation(prediction, lang, expected):
    assert normalise(prediction, lang) == expected


def test_only_the_prediction_is_normalised():
    assert vqa_accuracy("Белая", ["Белая"], "ru") == 0
    assert vqa_accuracy("Белая", ["белый"], "ru") == 1
    assert vqa_accuracy("two", ["two", "2"], "en") == 1
    assert vqa_accuracy("2", ["two"], "en") == 0


def test_rounds_as_python_does_and_has_no_score_for_nothing():
    assert accuracy([1.0] + [0.0] * 15) == 0.062
    with pytest.raises(ValueError, match="need at least one question"):
        accuracy([])


def test_contractions():
    assert len(CONTRACTIONS) == 114
    assert all(key.replace("'", "") == word.replace("'", "") for key, word in CONTRACTIONS.items())


@given(st.text(st.characters(exclude_categories=()), max_size=60), st.sampled_from(["ru", "en", ""]))
def test_any_text_is_normalised(text, lang):
    found = normalise(text, lang)
    assert "  " not in found and not any(mark in found for mark in MARKS)
