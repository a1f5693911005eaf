"""F1 over lemmas and exact match, as the challenge's published evaluation defines them.

An answer is normalised before it is compared: lower case, ASCII punctuation removed (exact match keeps `-`), split on
white space, each word replaced by the normal form of its first pymorphy parse, the words for 0 to 10 by digits.

Option letters: an answer that scores at most one half and holds a Latin letter a-e is scored by that letter alone
instead. The letter is looked for in the raw text, so it is a lower-case one, and it may sit inside a word; the letter's
score stands even where the whole answer had scored higher.
"""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import pymorphy3

from evaluator.core.validation import Flag
from evaluator.metrics.base import Parameters, text_metric

#: Normal forms that stand for a digit.
NUMBER_WORDS = {
    "ноль": "0",
    "нисколько": "0",
    "никакой": "0",
    "один": "1",
    "два": "2",
    "три": "3",
    "четыре": "4",
    "пять": "5",
    "шесть": "6",
    "семь": "7",
    "восемь": "8",
    "девять": "9",
    "десять": "10",
}
#: A best score up to this one lets the option letter decide.
OPTION_LETTER_LIMIT = 0.5

Answer = TypeVar("Answer")

_OPTION_LETTER = re.compile("[abcde]")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_NO_PUNCTUATION_BUT_MINUS = str.maketrans("", "", string.punctuation.replace("-", ""))


def f1(prediction: str, references: Sequence[str], *, option_letters: bool = True) -> float:
    """F1 between the multisets of lemmas of the prediction and of the best of the accepted answers, in 0..1.

    Where either side has no lemma the score is 1 if both have none, else 0. `option_letters`: the rule above.
    Raises ValueError if there is no accepted answer.
    """
    return _score(_f1, prediction, references, _NO_PUNCTUATION, option_letters)


def exact_match(prediction: str, references: Sequence[str], *, option_letters: bool = True) -> float:
    """1.0 if the normalised prediction equals a normalised accepted answer, else 0.0. `option_letters`: the rule above.

    Raises ValueError if there is no accepted answer.
    """
    return _score(_exact_match, prediction, references, _NO_PUNCTUATION_BUT_MINUS, option_letters)


def best(score: Callable[[Answer, Answer], float], prediction: Answer, references: Sequence[Answer]) -> float:
    """The highest `score(prediction, reference)` over the accepted answers; ValueError if there is none."""
    if not references:
        raise ValueError("references: got an empty list, need at least one accepted answer")
    return max(score(prediction, reference) for reference in references)


def strip_punctuation(text: str) -> str:
    """`text` in lower case without ASCII punctuation."""
    return text.lower().translate(_NO_PUNCTUATION)


@functools.lru_cache(maxsize=1 << 16)
def lemma(word: str) -> str:
    """The normal form of the word's first parse, or the digits it stands for.

    `word` may hold spaces: it is parsed as one word all the same. What pymorphy cannot parse is its own lemma: lone
    surrogates, letters that Unicode gives no name (Tangut), several hundred stacked prefixes or particles.
    """
    parse = _analyzer().parse
    try:
        normal_form = parse(word)[0].normal_form
    except (ValueError, RecursionError):  # ValueError: UnicodeEncodeError and unicodedata's "no such name"
        normal_form = word
    finally:
        parse.cache_clear()
    return NUMBER_WORDS.get(normal_form, normal_form)


@functools.cache
def _analyzer() -> pymorphy3.MorphAnalyzer:
    """The Russian analyzer, with the parses of a word's parts kept while the word is parsed.

    pymorphy parses what is left behind each known prefix again and again; without the memory "недонедонедонедо..."
    takes time exponential in its length.
    """
    analyzer = pymorphy3.MorphAnalyzer(lang="ru")
    analyzer.parse = functools.cache(analyzer.parse)
    return analyzer


def _score(
    score: Callable[[list[str], list[str]], float],
    prediction: str,
    references: Sequence[str],
    deletions: dict[int, int | None],
    option_letters: bool,
) -> float:
    accepted = [_lemmas(reference, deletions) for reference in references]
    value = best(score, _lemmas(prediction, deletions), accepted)
    if option_letters and value <= OPTION_LETTER_LIMIT and (letter := _OPTION_LETTER.search(prediction)):
        value = best(score, _lemmas(letter.group(), deletions), accepted)
    return value


def _lemmas(text: str, deletions: dict[int, int | None]) -> list[str]:
    return [lemma(word) for word in text.lower().translate(deletions).split()]


def _f1(predicted: list[str], true: list[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    if set(predicted).isdisjoint(true):
        return 0.0
    common = (Counter(predicted) & Counter(true)).total()
    precision, recall = common / len(predicted), common / len(true)
    return 2 * precision * recall / (precision + recall)


def _exact_match(predicted: list[str], true: list[str]) -> float:
    return float(predicted == true)


class OptionLetters(Parameters):
    """Whether a letter a-e alone may answer; published: it may."""

    option_letters: Flag = True


METRICS = (
    text_metric("f1_lemmas", "F1 over lemmas", f1, OptionLetters),
    text_metric("exact_match", "exact match", exact_match, OptionLetters),
)
