"""METEOR for captions and for visual questions, as the challenge's published evaluation defines it.

One alignment (Lavie & Agarwal 2007, in NLTK's greedy form) serves both; they differ in how a text becomes tokens, in
the stemmer and in gamma. Three stages, each on what the one before left: equal tokens, equal stems, RuWordNet.
Each walks the hypothesis from its last token backwards, and a token takes the last free reference token it matches. Two
details of the published code decide scores: RuWordNet is asked about stems (the stem stage hands its stems on), and
English number words become digits in the prediction only.

NLTK's sentence splitter and part-of-speech tagger need downloaded data and are not used: a text is one sentence to
`NLTKWordTokenizer`, and a number is a token that begins with a digit and that `float` reads: the tagger calls `nan`,
`inf` and `infinity` words.
"""

import contextlib
import functools
import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import razdel

from evaluator.core.errors import DataError
from evaluator.core.validation import number, one_of
from evaluator.metrics import assets
from evaluator.metrics.base import Parameters, Resource, text_metric
from evaluator.metrics.text import best, lemma, strip_punctuation

ALPHA = 0.9
BETA = 3.0
CAPTION_GAMMA = 0.5
VQA_GAMMA = 0.0  # no penalty for word order
CAPTION_STEMMER = "russian"
VQA_STEMMER = "porter"

#: Removed from captions before they are split; the opening brace is not, as published.
CAPTION_PUNCTUATION = ",.!?:;%()[]}"
#: In a predicted caption the first becomes the second, once the punctuation is gone; published, like all of this.
UNKNOWN, UNKNOWN_TOKEN = "@@UNKNOWN@@", "<unk>"

_UNITS = {
    word: number
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen".split()
    )
}
_TENS = {
    word: 10 * number
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 1_000_000}
_ENGLISH_NUMBERS = {**_UNITS, **_TENS, **_MULTIPLIERS}
#: Python refuses to print integers of more than 4300 digits; "hundred hundred ..." gets there.
_LARGEST_NUMBER = 10**4000

_NO_CAPTION_PUNCTUATION = str.maketrans("", "", CAPTION_PUNCTUATION)
#: Cyrillic words and digits apart from each other: neither razdel nor NLTK splits them anywhere but at the spaces, and
#: both take 50 to 100 times as long as `str.split`. (NLTK's rules for words concern Latin letters alone.)
_PLAIN = re.compile(r" *(?:(?:[а-яА-ЯёЁ]+|[0-9]+)(?: +|$))*")
_SPACED_QUOTES = (re.compile(r'"\s([^"]+)\s"'), re.compile(r"'\s([^']+)\s'"))


class RuWordNet:
    """What METEOR needs of RuWordNet: for each lemma the words that count as its synonyms, in memory."""

    def __init__(self, related: dict[str, frozenset[str]]):
        """`related`: upper-case lemma -> lower-case words."""
        self._related = related

    @classmethod
    def from_file(cls, db: str | Path) -> "RuWordNet":
        """Reads RuWordNet's SQLite file (tables sense, synset, hypernym_relation, derivation_relation) once, read-only.

        Raises FileNotFoundError if there is no such file, ValueError if it is not such a database.
        """
        db = Path(db)
        if not db.is_file():
            raise FileNotFoundError(f"{db}: no such file, need RuWordNet's SQLite database")
        related: defaultdict[str, set[str]] = defaultdict(set)
        try:
            with contextlib.closing(sqlite3.connect(f"{db.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                for (word,) in connection.execute("SELECT lemma FROM sense WHERE lemma IS NOT NULL"):
                    related[word].add(word.lower())
                pairs = connection.execute(
                    "SELECT sense.lemma, synset.title FROM sense"
                    " JOIN hypernym_relation ON hypernym_relation.hyponym_id = sense.synset_id"
                    " JOIN synset ON synset.id = hypernym_relation.hypernym_id"
                    " UNION SELECT sense.lemma, derived.name FROM sense"
                    " JOIN derivation_relation ON derivation_relation.source_id = sense.id"
                    " JOIN sense AS derived ON derived.id = derivation_relation.derivative_id"
                )
                for word, name in pairs:
                    if word is not None and name is not None:
                        related[word].add(name.lower())
        except sqlite3.Error as error:
            raise ValueError(f"{db}: not a RuWordNet database: {error}") from error
        return cls({word: frozenset(names) for word, names in related.items()})

    def synonyms(self, word: str) -> frozenset[str]:
        """The word itself, the titles of the hypernym synsets of its senses and the names of its senses' derivations,
        in lower case; empty for a word that RuWordNet does not have."""
        return self._related.get(word.upper().strip(), frozenset())


def read_ruwordnet(path: Path) -> RuWordNet:
    """RuWordNet from its SQLite file. Raises `DataError` where it is not there, or is none."""
    if not path.is_file():
        raise DataError(f"RuWordNet database {path} does not exist")
    try:
        return RuWordNet.from_file(path)
    except Exception as error:
        raise DataError(f"RuWordNet database {path} cannot be read: {error}") from error


def load_ruwordnet(folder: Path) -> RuWordNet | None:
    """RuWordNet of an assets folder; None where that has none. Raises `DataError`."""
    path = assets.ruwordnet_path(folder)
    return None if path is None else read_ruwordnet(path)


WITHOUT_RUWORDNET = "without RuWordNet, not comparable with the leaderboard"
#: Nothing stands in: METEOR leaves the stage of synonyms out.
RUWORDNET: Resource[RuWordNet | None] = Resource(
    "ruwordnet", load_ruwordnet, lambda ruwordnet: WITHOUT_RUWORDNET if ruwordnet is None else None
)


def caption_meteor(
    prediction: str,
    references: Sequence[str],
    ruwordnet: RuWordNet | None = None,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = CAPTION_GAMMA,
    stemmer: str = CAPTION_STEMMER,
) -> float:
    """METEOR of a caption against the best of the accepted ones, in 0..1; without `ruwordnet` that stage is left out.

    `stemmer` is a key of `STEMMERS`. Time and memory are linear in the texts. Raises ValueError if there is no
    accepted caption.
    """
    words = _razdel_words(_cleaned(prediction).replace(UNKNOWN, UNKNOWN_TOKEN))
    hypothesis = tuple(_split(english_numbers_to_digits(words)))
    stem = STEMMERS[stemmer]

    def score(_: str, reference: str) -> float:
        return meteor(hypothesis, _caption_tokens(reference), stem, gamma, ruwordnet, alpha, beta)

    return best(score, prediction, references)


def vqa_meteor(
    prediction: str,
    references: Sequence[str],
    ruwordnet: RuWordNet | None = None,
    *,
    alpha: float = ALPHA,
    beta: float = BETA,
    gamma: float = VQA_GAMMA,
    stemmer: str = VQA_STEMMER,
) -> float:
    """METEOR of an answer to a visual question against the best of the accepted ones, in 0..1.

    The whole answer is lemmatised as if it were one word. Against an answer that is one number the score is the ratio
    of the smaller to the larger of it and the first number in the prediction, 0 if there is none. `stemmer` is a key of
    `STEMMERS`. Raises ValueError if there is no accepted answer.
    """
    hypothesis = _split(english_numbers_to_digits(_vqa_lemma(prediction)))
    stem = STEMMERS[stemmer]

    def score(_: str, reference: str) -> float:
        true = _vqa_tokens(reference)
        if len(true) == 1 and true[0].isnumeric():
            return _number_ratio(hypothesis, true[0])
        return meteor(hypothesis, true, stem, gamma, ruwordnet, alpha, beta)

    return best(score, prediction, references)


def meteor(
    hypothesis: Sequence[str],
    reference: Sequence[str],
    stem: Callable[[str], str],
    gamma: float,
    ruwordnet: RuWordNet | None = None,
    alpha: float = ALPHA,
    beta: float = BETA,
) -> float:
    """METEOR of two token sequences, in 0..1; 0 if nothing matches.

    alpha weighs recall against precision, gamma is the largest penalty for broken word order, beta its shape.
    """
    matches = align(hypothesis, reference, stem, ruwordnet)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(hypothesis), len(matches) / len(reference)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    chunks = 1 + sum((i + 1, j + 1) != following for (i, j), following in zip(matches, matches[1:], strict=False))
    return (1 - gamma * (chunks / len(matches)) ** beta) * mean


def align(
    hypothesis: Sequence[str], reference: Sequence[str], stem: Callable[[str], str], ruwordnet: RuWordNet | None = None
) -> list[tuple[int, int]]:
    """Matched (hypothesis position, reference position), sorted; each position occurs at most once.

    The definition compares every pair; here each reference token's free positions are a stack, so a stage takes time
    linear in the tokens.
    """
    matches: list[tuple[int, int]] = []
    left, right = dict(enumerate(hypothesis)), dict(enumerate(reference))
    _match_equal(left, right, matches)
    if left and right:
        left, right = {i: stem(token) for i, token in left.items()}, {j: stem(token) for j, token in right.items()}
        _match_equal(left, right, matches)
        if ruwordnet is not None:
            _match_related(left, right, matches, ruwordnet)
    return sorted(matches)


def _match_equal(left: dict[int, str], right: dict[int, str], matches: list[tuple[int, int]]) -> None:
    """Move pairs of equal tokens from `left` and `right` to `matches`."""
    free = _positions(right)
    for i, token in reversed(list(left.items())):
        if stack := free.get(token):
            j = stack.pop()
            matches.append((i, j))
            del left[i], right[j]


def _match_related(
    left: dict[int, str], right: dict[int, str], matches: list[tuple[int, int]], ruwordnet: RuWordNet
) -> None:
    """Move pairs of a token in `left` and one of its RuWordNet words in `right` to `matches`."""
    free = _positions(right)
    for i, token in reversed(list(left.items())):
        related = ruwordnet.synonyms(token)
        if related.isdisjoint(free):
            continue
        if stacks := [stack for word in related if (stack := free.get(word))]:
            j = max(stacks, key=lambda stack: stack[-1]).pop()
            matches.append((i, j))
            del left[i], right[j]


def _positions(tokens: dict[int, str]) -> dict[str, list[int]]:
    """The positions of each token, in ascending order."""
    positions: dict[str, list[int]] = {}
    for position, token in tokens.items():
        positions.setdefault(token, []).append(position)
    return positions


@functools.lru_cache(maxsize=1 << 16)
def russian_stem(word: str) -> str:
    """The Russian Snowball stem."""
    return _russian_stemmer().stem(word)


@functools.lru_cache(maxsize=1 << 16)
def porter_stem(word: str) -> str:
    """The English Porter stem: the published choice for answers, which leaves Cyrillic words as they are."""
    return _porter_stemmer().stem(word)


def english_numbers_to_digits(text: str) -> str:
    """`text` (lower case, without `.?!`) with English number words as digits: "one hundred and two" -> "102".

    Behaves as the published code's `wordtodigits` 1.0.2, oddities included: "and" before a number word is dropped even
    where no number precedes it, a multiplier alone is 0, "five point six" is 5.6, a second "point" counts the number
    before the first one twice.
    """
    words = text.split()
    result: list[str] = []
    total = part = 0  # the number so far is total + part; part is still to be multiplied
    in_number = in_decimals = False
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word in _ENGLISH_NUMBERS and not in_decimals:
            in_number = True
            if word == "hundred":
                part *= _MULTIPLIERS[word]
            elif word in _MULTIPLIERS:
                total, part = total + part * _MULTIPLIERS[word], 0
            else:
                part += _ENGLISH_NUMBERS[word]
        elif word in _UNITS:
            result[-1] += str(_UNITS[word])
        elif word == "and" and following in _ENGLISH_NUMBERS:
            continue
        elif word == "point" and following in _ENGLISH_NUMBERS:
            total += part
            in_number, in_decimals = False, True
            result.append(f"{min(total, _LARGEST_NUMBER)}.")
        else:
            if in_number:
                result.append(str(min(total + part, _LARGEST_NUMBER)))
            result.append(word)
            total = part = 0
            in_number = in_decimals = False
    if in_number:
        result.append(str(min(total + part, _LARGEST_NUMBER)))
    return " ".join(result)


def _cleaned(text: str) -> str:
    """The caption without punctuation and without the spaces inside quotation marks."""
    text = text.strip().translate(_NO_CAPTION_PUNCTUATION)
    if _PLAIN.fullmatch(text):
        return text
    for quotes in _SPACED_QUOTES:
        text = quotes.sub(lambda found: found[0][0] + found[1] + found[0][-1], text)
    return text.replace("' s", "'s").replace(" 's", "'s")


def _razdel_words(text: str) -> str:
    """The text's razdel tokens, lower case, joined by spaces."""
    words = text.split() if _PLAIN.fullmatch(text) else [token.text for token in razdel.tokenize(text)]
    return " ".join(words).lower()


@functools.lru_cache(maxsize=1 << 12)
def _caption_tokens(text: str) -> tuple[str, ...]:
    return tuple(_split(_razdel_words(_cleaned(text))))


def _vqa_lemma(text: str) -> str:
    return lemma(strip_punctuation(text))


@functools.lru_cache(maxsize=1 << 12)
def _vqa_tokens(text: str) -> tuple[str, ...]:
    return tuple(_split(_vqa_lemma(text)))


def _split(text: str) -> list[str]:
    return text.split() if _PLAIN.fullmatch(text) else _tokenizer().tokenize(text)


def _number_ratio(hypothesis: Sequence[str], reference: str) -> float:
    """min / max of the reference and the first number in the hypothesis; 0 where one of them is none."""
    true = _as_number(reference)
    predicted = next((number for token in hypothesis if (number := _as_number(token)) is not None), None)
    if true is None or predicted is None:
        return 0.0
    if not (math.isfinite(true) and math.isfinite(predicted)):  # digits beyond a float
        return 0.0
    return 1.0 if true == predicted else min(true, predicted) / max(true, predicted)


def _as_number(token: str) -> float | None:
    if not token[:1].isdigit():  # "nan" and "infinity", which float reads too, are words
        return None
    try:
        return float(token)
    except ValueError:
        return None


# NLTK has no types, and importing any part of it imports all of it and SciPy: a second that other metrics do not need.
@functools.cache
def _tokenizer() -> Any:
    from nltk.tokenize import NLTKWordTokenizer

    return NLTKWordTokenizer()


@functools.cache
def _russian_stemmer() -> Any:
    from nltk.stem.snowball import SnowballStemmer

    return SnowballStemmer("russian")


@functools.cache
def _porter_stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


#: Names of stemmers in tasks.json; with `none` the second stage finds nothing that the first did not.
STEMMERS: dict[str, Callable[[str], str]] = {"russian": russian_stem, "porter": porter_stem, "none": str}


Stemmer = Annotated[str, one_of(*STEMMERS)]


class CaptionParameters(Parameters):
    """Of METEOR; published: alpha, beta, gamma and stemmer at their defaults."""

    alpha: Annotated[float, number(0, 1)] = ALPHA
    beta: Annotated[float, number(0, 100)] = BETA
    gamma: Annotated[float, number(0, 1)] = CAPTION_GAMMA
    stemmer: Stemmer = CAPTION_STEMMER


class VqaParameters(CaptionParameters):
    """The same with the published defaults for answers."""

    gamma: Annotated[float, number(0, 1)] = VQA_GAMMA
    stemmer: Stemmer = VQA_STEMMER


METRICS = (
    text_metric("caption_meteor", "METEOR (captions)", caption_meteor, CaptionParameters, requires=(RUWORDNET,)),
    text_metric("vqa_meteor", "METEOR", vqa_meteor, VqaParameters, requires=(RUWORDNET,)),
)
