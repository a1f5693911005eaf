"""VQA accuracy, as FusionBrain Challenge 1.0 published it: the share of questions whose normalised prediction is one of
the answers, rounded to three decimals.

Only the prediction is normalised, the answers are taken as they are, so that an answer such as "Белая", "the dog" or
"two" can never be met. The normalisation is that of the VQA challenge (Antol et al. 2015) with its accidents, and with
lemmas for Russian; `normalise` has them one by one.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from evaluator.metrics.base import Metric, Resources, Result, Sample
from evaluator.metrics.text import lemma

DECIMALS = 3
RUSSIAN = "ru"  # any other language is taken for English
MARKS = ';/[]"{}()=+\\_-><@`,?!'
#: Full stops beyond these stay: a flag of the published code stands where the number of replacements belongs.
MAX_STOPS_DELETED = 32
NUMBER_WORDS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
ARTICLES = ("a", "an", "the")
#: Written without one of their apostrophes, these get it back.
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd"
    " he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've"
    " needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've"
    " somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll"
    " that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've"
    " weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've"
    " why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're"
    " you've"
).split()
CONTRACTIONS = {
    word[: apostrophe.start()] + word[apostrophe.end() :]: word
    for word in _CONTRACTED
    for apostrophe in re.finditer("'", word)
} | {"somebody'd": "somebodyd"}

_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")


def vqa_accuracy(prediction: str, answers: Sequence[str], lang: str | None) -> float:
    """1.0 if the normalised prediction is one of the answers, else 0.0."""
    return float(normalise(prediction, lang) in answers)


def accuracy(values: Sequence[float]) -> float:
    """The score of all questions: their mean, rounded as Python does, 1/16 to 0.062. Raises ValueError for none."""
    if not len(values):
        raise ValueError("values: there are none, need at least one question")
    return round(float(sum(values)) / len(values), DECIMALS)


def normalise(prediction: str, lang: str | None) -> str:
    """A prediction as it is compared.

    A mark is deleted where it touches a space anywhere in the prediction; all are where a comma stands between digits
    anywhere in it; else it becomes a space. Full stops that no digit follows are deleted, the first 32 only. Then words
    in lower case: in Russian each word's lemma, with digits for нисколько, никакой and ноль to десять, and no articles;
    else digits for none and zero to ten, no articles, and apostrophes in contractions. `'`, `:`, `*`, `&`, `%`, `$`,
    `#`, `«` and `—` stay.
    """
    text = prediction.replace("\n", " ").replace("\t", " ").strip()
    thousands = _DIGIT_COMMA_DIGIT.search(text) is not None
    replaced = {ord(mark): "" if thousands or f"{mark} " in text or f" {mark}" in text else " " for mark in MARKS}
    words = _STOP.sub("", text.translate(replaced), count=MAX_STOPS_DELETED).lower().split()
    if lang == RUSSIAN:
        return " ".join(map(lemma, words))
    numbers = (NUMBER_WORDS.get(word, word) for word in words)
    return " ".join(CONTRACTIONS.get(word, word) for word in numbers if word not in ARTICLES)


def _evaluate(samples: Sequence[Sample], resources: Resources) -> Result:
    values = [vqa_accuracy(each.prediction, each.answers, each.language) for each in samples]
    return replace(Result.mean(values), total=accuracy(values))


METRICS = (Metric("vqa_accuracy", "accuracy of normalised answers", "text", _evaluate, language=True),)
