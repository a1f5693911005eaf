"""CodeBLEU: equal to the published evaluation on every stable id and set, part by part, and unharmed by any text."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

from evaluator.metrics import codebleu
from evaluator.metrics.codebleu import PARTS, resampled, scores, statistics
from evaluator.metrics.syntax_trees import NO_TREE, STAND_IN_LABEL, CurrentGrammar, Grammar

DATA = Path(__file__).parents[2] / "data" / "fbc1"
CASES = json.loads((DATA / "c2c.json").read_text(encoding="utf-8"))
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))["c2c"]
NGRAMS = ("ngram", "weighted_ngram")
WORDS = st.lists(st.sampled_from(["x", "y", "=", "for", "in", "not", "1"]), max_size=12).map(" ".join)


@pytest.fixture(scope="module")
def rows(published: Grammar) -> dict[str, np.ndarray]:
    """The statistics of each id."""
    return {id_: statistics(CASES["prediction"][id_], [text], published) for id_, text in CASES["true"].items()}


def check(sums: np.ndarray, expected: dict, parts: tuple[str, ...] = PARTS) -> None:
    """Compare what `expected` has of the score, these parts and the counts."""
    total, found = scores(sums)
    for part in parts:
        assert found[part] == pytest.approx(expected[part], abs=1e-9), part
    if parts == PARTS:
        assert total == pytest.approx(expected["score"], abs=1e-9)
    if "syntax_counts" in expected and "syntax" in parts:
        assert sums[[19, 20]].tolist() == expected["syntax_counts"]
    if "dataflow_counts" in expected and "dataflow" in parts:
        assert sums[[21, 22]].tolist() == expected["dataflow_counts"]


def test_equals_the_published_score_for_every_stable_id_and_set(rows):
    assert len(SCORES["per_id"]) == 55 and len(SCORES["sets"]) == 8
    for id_, expected in SCORES["per_id"].items():
        check(rows[id_], expected)
    for name, expected in SCORES["sets"].items():
        check(sum(rows[id_] for id_ in CASES["sets"][name]), expected)


def test_where_the_published_score_depends_on_the_order_of_sets_it_is_one_of_those_seen(rows):
    unstable = SCORES["unstable"]
    assert len(unstable["per_id"]) == 5 and list(unstable["sets"]) == ["all"]
    sums = {id_: rows[id_] for id_ in unstable["per_id"]} | {"all": sum(rows.values())}
    for name, expected in (unstable["per_id"] | unstable["sets"]).items():
        check(sums[name], expected["fixed"], ("ngram", "weighted_ngram", "syntax"))
        seen = expected["seen"]["score"]
        assert min(seen) - 1e-9 <= scores(sums[name])[0] <= max(seen) + 1e-9


def test_several_references(published):
    assert len(SCORES["several_references"]) == 6
    for name, expected in SCORES["several_references"].items():
        case = CASES["several_references"][name]
        pairs = zip(case["predictions"], case["references"], strict=True)
        check(sum(statistics(prediction, references, published) for prediction, references in pairs), expected)


@pytest.mark.parametrize("name", ["all_empty", "extra_key", "order_of_keys"])
def test_special_files_that_have_a_score(published, name):
    case = CASES["special"][name]
    sums = sum(statistics(case["prediction"][id_], [text], published) for id_, text in case["true"].items())
    check(sums, SCORES["special"][name])


def test_without_the_published_grammar_the_ngram_parts_agree_and_the_score_has_a_label(current):
    for id_, expected in SCORES["per_id"].items():
        check(statistics(CASES["prediction"][id_], [CASES["true"][id_]], current), expected, NGRAMS)
    assert current.label == STAND_IN_LABEL and "not comparable" in STAND_IN_LABEL


def test_the_published_grammar_has_no_label(published):
    assert published.label is None


@given(st.lists(st.tuples(WORDS, st.lists(WORDS, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_ngram_is_the_bleu_of_nltk(pairs):
    grammar = CurrentGrammar()
    sums = sum(statistics(prediction, references, grammar) for prediction, references in pairs)
    predictions = [prediction.split() for prediction, _ in pairs]
    references = [[reference.split() for reference in accepted] for _, accepted in pairs]
    expected = corpus_bleu(references, predictions, smoothing_function=SmoothingFunction().method1)
    assert scores(sums)[1]["ngram"] == pytest.approx(expected, abs=1e-9)


def test_resamples_score_as_corpora_of_their_own(rows):
    table = np.array([rows[id_] for id_ in CASES["sets"]["size_10"]])
    drawn = np.random.default_rng(0).integers(0, 10, (20, 10))
    found = resampled(table, iter(drawn))
    assert found.shape == (20,)
    for score, positions in zip(found, drawn, strict=True):
        assert score == pytest.approx(float(scores(table[positions].sum(axis=0))[0]), abs=1e-12)
    alone, parts = scores(table)  # each text as a corpus of its own
    assert alone.shape == (10,) and all(part.shape == (10,) for part in parts.values())


def test_no_reference_and_no_text_have_no_score(current):
    with pytest.raises(ValueError, match="need at least one"):
        statistics("x", [], current)
    with pytest.raises(ValueError, match="at least one text"):
        scores(np.zeros(codebleu.STATISTICS))


@pytest.mark.parametrize(
    ("prediction", "reference", "ngram", "weighted"),
    [
        ("x = y", "x\xa0=\xa0y", True, True),  # a no-break space parts words
        ("", "x", False, False),
        ("x", "", False, False),
        ("", "", False, False),
    ],
)
def test_words(any_grammar, prediction, reference, ngram, weighted):
    _, parts = scores(statistics(prediction, [reference], any_grammar))
    assert (bool(parts["ngram"]), bool(parts["weighted_ngram"])) == (ngram, weighted)


def test_a_keyword_weighs_five_times_as_much_as_another_word(current):
    for prediction, matched in (("for", 1.0), ("x", 0.2), ("print", 0.0)):
        row = statistics(prediction, ["for x in y"], current)
        assert row[[8, 12]].tolist() == pytest.approx([matched, 2.4])  # words matched, words of the reference


def test_surplus_code_costs_no_syntax_and_identical_programs_without_data_flow_score_three_quarters(any_grammar):
    _, parts = scores(statistics("pass\nx = [1, 2]\nimport a", ["pass\npass\npass"], any_grammar))
    assert parts["syntax"] == pytest.approx(3 / 4)  # all but the module; one `pass` serves three
    assert scores(statistics("import a , b", ["import a , b"], any_grammar))[0] == pytest.approx(0.75)


N = 5_000
HOSTILE = {
    **{repr(text): text * (N // len(text)) for text in ("(", "[", "{", ")", "([{", '"', "'''", "f'{", "\\", "`", "@")},
    **{repr(text): text * (N // len(text)) for text in ("\0", "a\0 ", "\n", "\t\n x", "\r", "\ud800", "\U0001f600")},
    **{
        repr(text): text * (N // len(text)) for text in (";not", "not ", "-", "x=", "a.", "a[", "f(", "lambda x:", "a,")
    },
    **{repr(text): text * (N // len(text)) for text in ("if a : ", "for i in x : ", "while x : ", "шёл = ", "else : ")},
    "nested loops": "".join(f"{' ' * i}for v{i} in x{i}:\n" for i in range(100)) + " " * 100 + "y = z\n",
    "nested ifs": "".join(f"{' ' * i}if a{i}:\n" for i in range(100)) + " " * 100 + "y = z\n",
    "many ifs": "".join(f"if a{i}:\n v{i} = 1\n" for i in range(300)),
    "a long if": "if a:\n x = 1\n" + "elif b:\n x = 2\n" * 400,
    "parentheses": "(" * (N // 2 - 1) + "a" + ")" * (N // 2 - 1),
    "many names from many": ", ".join(f"a{i}" for i in range(800)) + " = " + " + ".join(f"b{i}" for i in range(800)),
    "a chain": " = ".join(f"v{i}" for i in range(900)) + " = " + ", ".join(f"w{i}" for i in range(500)),
    "defaults": f"def f({', '.join(f'a{i}=b{i}' for i in range(500))}):\n pass",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_score_like_others(any_grammar, name):
    """Also within the time that pytest allows: some would take hours."""
    total, parts = scores(statistics(HOSTILE[name], ["x = y"], any_grammar))
    assert 0 <= total <= 1 and all(0 <= part <= 1 for part in parts.values())


def test_a_text_that_keeps_the_parser_too_long_has_no_tree(any_grammar):
    text = ";not" * 5000  # the parser's actions grow with the square
    assert any_grammar.parse(text) is NO_TREE
    assert any_grammar.parse("x = y") is not NO_TREE  # the next one is not affected
    row = statistics(text, ["x = y"], any_grammar)
    assert scores(row)[1]["syntax"] == scores(row)[1]["dataflow"] == 0
