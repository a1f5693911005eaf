"""F1 and exact match: equal to the published evaluation on every reference id, and total over strange strings."""

import json
import time
from pathlib import Path

import pymorphy3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.metrics import text

DATA = Path(__file__).parents[2] / "data" / "metrics"
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates included


@pytest.mark.parametrize(("task", "metric"), [("textqa", text.f1), ("mathqa", text.exact_match)])
def test_equals_the_published_score_for_every_id(task, metric):
    cases = json.loads((DATA / f"{task}.json").read_text(encoding="utf-8"))
    published = SCORES[task]["per_sample"]
    assert len(published) == 150
    for id_, expected in published.items():
        answer = next(entry["content"] for entry in cases["predictions"][id_] if entry["type"] == "text")
        references = cases["ground_truth"][id_][0]["content"]
        assert metric(answer, references) == pytest.approx(expected, abs=1e-9), (id_, answer, references)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("Кошками!", ["кошка"], 1.0),
        ("«кошка»", ["кошка"], 0.0),  # only ASCII punctuation is removed
        ("три кошки", ["3 кошка"], 1.0),
        ("никакого", ["ноль"], 1.0),
        ("кот и пёс", ["кот", "кот и слон"], 2 / 3),
        ("кот кот", ["кот"], 2 / 3),  # multisets
        ("", [""], 1.0),
        ("", ["кот"], 0.0),
        ("...", ["!"], 1.0),
        ("кот 😀", ["😀"], 2 / 3),
        ("\U00017000 \ud800", ["\U00017000"], 2 / 3),  # a letter without a name, a lone surrogate
    ],
)
def test_f1(prediction, references, expected):
    assert text.f1(prediction, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("x = -5", ["x -5"], 1.0),
        ("-5", ["5"], 0.0),  # the minus stays
        ("Пять", ["5"], 1.0),
        ("", [""], 1.0),
        ("кот и пёс", ["кот"], 0.0),
    ],
)
def test_exact_match(prediction, references, expected):
    assert text.exact_match(prediction, references) == expected


def test_the_first_option_letter_decides_a_low_score():
    assert text.f1("ответ b) кот", ["b", "слон"]) == 1.0  # 1/2 as a whole
    assert text.exact_match("d) 7", ["d"]) == 1.0
    assert text.exact_match("xyzc", ["c"]) == 1.0  # a letter inside a word counts
    assert text.f1("Cyx", ["c"]) == 0.0  # a capital does not
    assert text.f1("да b, c", ["c"]) == 0.0  # only the first one
    assert text.f1("кот a слон", ["кот пёс"]) == 0.0  # 0.4 as a whole, and the letter's 0 stands
    assert text.f1("кот a", ["кот"]) == pytest.approx(2 / 3)  # above one half nothing is replaced


def test_the_kept_parses_change_no_lemma():
    plain = pymorphy3.MorphAnalyzer(lang="ru")
    words = "недонекошками псевдокотики супернедокот кое-какими по-русски красного-то ку-ку бутявкам стали два 5 xiv"
    for word in words.split():
        expected = plain.parse(word)[0].normal_form
        assert text.lemma(word) == text.NUMBER_WORDS.get(expected, expected)


@pytest.mark.parametrize(
    "answer",
    [
        "недо" * 25_000,
        "супернедо" * 30 + "кот",
        "а" + "-то" * 33_000,
        "\ud800" * 100_000,
        "слово " * 16_000,
        "😀" * 100_000,
    ],
    ids=["prefixes", "prefixed-word", "particles", "surrogates", "words", "emoji"],
)
def test_long_and_hostile_answers_end(answer):
    start = time.process_time()
    for metric in (text.f1, text.exact_match):
        assert metric(answer, ["кот"]) == 0.0
        assert metric(answer, [answer]) == 1.0
    assert time.process_time() - start < 30


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT, st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_any_strings_score_between_0_and_1(prediction, references):
    for metric in (text.f1, text.exact_match):
        score = metric(prediction, references)
        assert isinstance(score, float)
        assert 0 <= score <= 1


def test_no_accepted_answer_is_an_error():
    with pytest.raises(ValueError, match="at least one accepted answer"):
        text.f1("кот", [])
