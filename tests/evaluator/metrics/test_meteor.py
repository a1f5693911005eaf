"""METEOR: equal to the published evaluation on every reference id, with and without RuWordNet."""

import json
import shutil
import time
from pathlib import Path

import pytest
import razdel
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from evaluator.metrics import meteor
from evaluator.metrics.meteor import RuWordNet, caption_meteor, vqa_meteor

DATA = Path(__file__).parents[2] / "data" / "metrics"
SCORES = json.loads((DATA / "scores.json").read_text(encoding="utf-8"))
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates included


@pytest.fixture(scope="module")
def ruwordnet():
    return RuWordNet.from_file(DATA / "ruwordnet.db")


@pytest.mark.parametrize("with_ruwordnet", [False, True])
@pytest.mark.parametrize(
    ("task", "name", "metric"),
    [("captioning", "captioning_meteor", caption_meteor), ("vqa", "vqa", vqa_meteor)],
    ids=["captioning", "vqa"],
)
def test_equals_the_published_score_for_every_id(task, name, metric, with_ruwordnet, ruwordnet):
    cases = json.loads((DATA / f"{task}.json").read_text(encoding="utf-8"))
    published = SCORES[f"{name}_{'with' if with_ruwordnet else 'without'}_ruwordnet"]["per_sample"]
    assert len(published) == 150
    for id_, expected in published.items():
        answer = next(entry["content"] for entry in cases["predictions"][id_] if entry["type"] == "text")
        references = cases["ground_truth"][id_][0]["content"]
        score = metric(answer, references, ruwordnet if with_ruwordnet else None)
        assert score == pytest.approx(expected, abs=1e-9), (id_, answer, references)


def test_caption_score_by_hand():
    # 3 of 4 words match in 2 chunks: P = 3/4, R = 3/3, and the penalty is 1/2 (2/3)^3.
    mean = 0.75 * 1 / (0.9 * 0.75 + 0.1 * 1)
    assert caption_meteor("Кошка белая на столе", ["кошка на столе."]) == pytest.approx(
        (1 - 0.5 * (2 / 3) ** 3) * mean, abs=1e-12
    )
    assert caption_meteor("кошка} (на) [столе]!", ["кошкой, на столах"]) == pytest.approx(1 - 0.5 / 27, abs=1e-12)
    assert caption_meteor("кот", ["слон", "кот"]) == 0.5  # one match is one whole chunk
    assert caption_meteor("", [""]) == 0.0


def test_ruwordnet_matches_hypernyms_and_derivations_but_not_backwards(ruwordnet):
    assert caption_meteor("кот", ["животное"], ruwordnet) == 0.0  # "животн", the reference's stem, is no title
    assert vqa_meteor("кошка", ["животное"], ruwordnet) == 1.0
    assert vqa_meteor("кошка", ["кошачий"], ruwordnet) == 1.0
    assert vqa_meteor("животное", ["кошка"], ruwordnet) == 0.0
    assert vqa_meteor("кошка", ["животное"]) == 0.0


def test_synonyms(ruwordnet):
    assert ruwordnet.synonyms(" Кошка ") == {"кошка", "животное", "кошачий"}
    assert ruwordnet.synonyms("мебель") == {"мебель"}
    assert ruwordnet.synonyms("самовар") == frozenset()


def test_ruwordnet_is_read_without_a_trace_and_bad_files_are_named(tmp_path):
    db = tmp_path / "база #1?.db"
    shutil.copy(DATA / "ruwordnet.db", db)
    before = db.read_bytes()
    assert RuWordNet.from_file(db).synonyms("торт") == {"торт", "еда"}
    assert db.read_bytes() == before
    assert list(tmp_path.iterdir()) == [db]
    with pytest.raises(FileNotFoundError, match="absent.db"):
        RuWordNet.from_file(tmp_path / "absent.db")
    db.write_text("не база", encoding="utf-8")
    with pytest.raises(ValueError, match="not a RuWordNet database"):
        RuWordNet.from_file(db)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("Белая!", ["белый"], 1.0),
        ("три", ["3"], 1.0),
        ("их 4, а не 5", ["5"], 4 / 5),  # the first number
        ("two", ["4"], 0.5),  # English number words, in the prediction
        ("2", ["two"], 0.0),  # but not in the accepted answer
        ("много", ["5"], 0.0),
        ("ноль", ["0"], 1.0),
        ("0", ["5"], 0.0),
        ("2.5", ["25"], 1.0),  # the point is punctuation
        ("½", ["½"], 0.0),  # numeric, but no float
        ("nan", ["5"], 0.0),
        ("inf", ["5"], 0.0),
        ("nan 5", ["5"], 1.0),  # a word that float reads is no number, as for the published tagger
        ("infinity 3", ["3"], 1.0),
        ("INF, 4", ["5"], 4 / 5),
        ("5 nan", ["5"], 1.0),
        ("5nan 4", ["5"], 4 / 5),  # begins as a number does, and is none
        ("1e1 4", ["5"], 0.5),
        ("٥", ["5"], 1.0),  # digits of another script
        ("² 5", ["5"], 1.0),
        ("1e999 5", ["5"], 0.0),
        ("9" * 400, ["9" * 400], 0.0),  # beyond a float
        ("", ["да"], 0.0),
        ("на столе стоит кот", ["кот на столе стоит"], None),  # lemmatised as one word each
    ],
)
def test_vqa(prediction, references, expected):
    score = vqa_meteor(prediction, references)
    if expected is None:
        assert 0 < score < 1
    else:
        assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("{", ["{"], 0.5),  # one match is one whole chunk
        ("{да}", ["да"], 0.5 * (0.5 / 0.55)),  # `{` is a token of the prediction, `}` is not: P = 1/2, R = 1
        ("да", ["{да}"], 0.5 * (0.5 / 0.95)),  # P = 1, R = 1/2
        ("{{да}}", ["{{ да"], 1 - 0.5 / 27),
        ("@@UNKNOWN@@", ["<unk>"], 1 - 0.5 / 27),  # three tokens
        ("@@UNKNOWN@@", ["@@UNKNOWN@@"], 0.0),  # in the prediction only
        ("@@UNKNOWN@@", ["unk"], 0.5 * (1 / 3) / (0.9 / 3 + 0.1)),
        ("@@UNK.NOWN@@", ["<unk>"], 1 - 0.5 / 27),  # once the punctuation is gone
        ("@@unknown@@", ["<unk>"], 0.0),
        ("кот@@UNKNOWN@@", ["кот<unk>"], 1 - 0.5 / 64),
    ],
)
def test_edge_tokens_of_captions(prediction, references, expected):
    assert caption_meteor(prediction, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("cat and two dogs", "cat 2 dogs"),
        ("three thousand and fifty three point five", "3053.5"),
        ("one hundred and ten meters", "110 meters"),
        ("nine million two", "9000002"),
        ("point six", "0.6"),
        ("hundred cats", "0 cats"),
        ("five point six point seven", "5.6 10.7"),
        ("five point twenty", "5. twenty"),
        ("one and", "1 and"),
        ("", ""),
        ("кот one", "кот 1"),
    ],
)
def test_english_numbers(words, digits):
    assert meteor.english_numbers_to_digits(words).split() == digits.split()


def naive_align(hypothesis, reference, stem, ruwordnet):
    """The definition, pair by pair."""
    hypothesis, reference, matches = list(enumerate(hypothesis)), list(enumerate(reference)), []

    def stage(matching):
        for i in reversed(range(len(hypothesis))):
            for j in reversed(range(len(reference))):
                if matching(hypothesis[i][1], reference[j][1]):
                    matches.append((hypothesis.pop(i)[0], reference.pop(j)[0]))
                    break

    stage(lambda a, b: a == b)
    hypothesis = [(i, stem(word)) for i, word in hypothesis]
    reference = [(j, stem(word)) for j, word in reference]
    stage(lambda a, b: a == b)
    stage(lambda a, b: b in ruwordnet.synonyms(a))
    return sorted(matches)


WORDS = st.lists(
    st.sampled_from("кошка кошки кошку животное кошачий собака дом домик цвет красный".split()), max_size=12
)


@settings(max_examples=300, deadline=None)
@given(WORDS, WORDS)
def test_alignment_equals_the_pairwise_definition(hypothesis, reference):
    ruwordnet = RuWordNet.from_file(DATA / "ruwordnet.db")
    for stem in (meteor.russian_stem, meteor.porter_stem):
        assert meteor.align(hypothesis, reference, stem, ruwordnet) == naive_align(
            hypothesis, reference, stem, ruwordnet
        )


PIECES = st.lists(
    st.sampled_from(["кот", "Ёж", "КОТ", "5", "08", " ", "  ", "\t", "-", "--", "'", "a", "gonna", "°", "½", "²", "й"]),
    max_size=8,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(st.one_of(PIECES, st.text(st.sampled_from("кёЖ 05-аb'"), max_size=12)))
@pytest.mark.slow
def test_splitting_at_spaces_changes_no_token(caption):
    tokens = [token.text for token in razdel.tokenize(caption.strip())]
    assert meteor._razdel_words(meteor._cleaned(caption)) == " ".join(tokens).lower()
    if meteor._PLAIN.fullmatch(caption):
        assert caption.split() == tokens == NLTKWordTokenizer().tokenize(caption)
    assert meteor._split(caption) == NLTKWordTokenizer().tokenize(caption)


def test_plain_texts_are_told_from_others():
    for caption in ("", " ", "кот", " Два кота  на 15 ковриках "):
        assert meteor._PLAIN.fullmatch(caption), caption
    for caption in ("кот5", "cat", "кот-пёс", "кот\tпёс", "кот\n", "кот, пёс", "«кот»", "і", "٣"):
        assert not meteor._PLAIN.fullmatch(caption), caption


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT, st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_any_strings_score_between_0_and_1(prediction, references):
    for metric in (caption_meteor, vqa_meteor):
        score = metric(prediction, references)
        assert isinstance(score, float)
        assert 0 <= score <= 1


@pytest.mark.parametrize(
    "answer",
    ["недо" * 25_000, "кот " * 25_000, " ".join(f"слово{n}" for n in range(10_000)), "hundred " * 12_000, "y" * 100_000,
     "\ud800" * 30_000, "' " * 30_000],
    ids=["prefixes", "same-word", "words", "numbers", "porter-y", "surrogates", "quotes"],
)  # fmt: skip
@pytest.mark.slow
def test_long_and_hostile_answers_end(answer, ruwordnet):
    start = time.process_time()
    for metric in (caption_meteor, vqa_meteor):
        assert 0 <= metric(answer, ["кот на столе", answer], ruwordnet) <= 1
    assert time.process_time() - start < 30


def test_no_accepted_answer_is_an_error():
    for metric in (caption_meteor, vqa_meteor):
        with pytest.raises(ValueError, match="at least one accepted answer"):
            metric("кот", [])
