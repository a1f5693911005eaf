"""DeepMind's Mathematics Dataset (Saxton et al., 2019), linear equations and comparisons → MathQA in Russian.

Its text files have a question and an answer on alternating lines. What the modules ask is a small language of fixed
sentences (mathematics_dataset/modules/algebra.py and comparison.py); each is parsed and asked anew in Russian, with
some signs in words, options and distractors.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from training.convert.reading import READ_ERRORS, clean, open_text
from training.convert.source import ConvertSettings, Part, find_files
from training.convert.writer import Row
from training.data_format import DataError
from training.worlds import mathqa
from training.worlds.wording import option_key

FILES = (
    "algebra__linear_1d.txt", "algebra__linear_2d.txt", "comparison__pair.txt", "comparison__kth_biggest.txt",
    "comparison__closest.txt", "comparison__sort.txt",
)  # fmt: skip
VAL_FOLDERS = ("interpolate", "extrapolate")  # the source's own tests; train-easy, -medium, -hard train
ALL_WORDS, SOME_WORDS = 0.35, 0.25  # shares of equations with every sign in words, with some
IN_ONE = 0.15  # share of equations that name the unknown behind the statement: «6*y = 12, для y.»

_NUMBER = r"-?\d+(?:\.\d+|/\d+)?"
_LIST = rf"{_NUMBER}(?:, {_NUMBER})*"
_CHOICES = rf"(?:\s+\([a-z]\) {_NUMBER})+"
_SOLVE = re.compile(r"Solve (?P<equations>[^=]+=[^=,]+(?:, [^=]+=[^=]+)?) for (?P<letter>[a-z])\.")
_WHICH = re.compile(rf"Which is (?P<way>bigger|greater|smaller): (?P<a>{_NUMBER}) or (?P<b>{_NUMBER})\?")
_IS = re.compile(
    rf"(?:Is|Does|Are|Do) (?P<a>{_NUMBER}) (?P<relation>[a-z<>=! ]+?) (?P<b>{_NUMBER})"
    r"(?: (?P<end>equal|unequal|nonequal|non-equal|have the same value|have different values))?\?"
)
_KTH = re.compile(
    r"(?:What|Which) is the (?:(?P<rank>[a-z]+) )?(?P<way>biggest|smallest) value"
    rf"(?: in (?P<list>{_LIST})\?|\?(?P<choices>{_CHOICES}))"
)
_CLOSEST = re.compile(
    rf"(?:What|Which) is the (?:closest|nearest) to (?P<target>{_NUMBER})"
    rf"(?: in (?P<list>{_LIST})\?|\?(?P<choices>{_CHOICES}))"
)
_SORT = re.compile(
    rf"(?:Sort|Put) (?P<list>{_LIST})(?: in (?P<way>ascending|increasing|descending|decreasing) order)?\."
)
_RANKS = {
    "second": "второе", "third": "третье", "fourth": "четвёртое", "fifth": "пятое", "sixth": "шестое",
    "seventh": "седьмое", "eighth": "восьмое", "ninth": "девятое", "tenth": "десятое",
}  # fmt: skip
_LESS, _AT_MOST = ("{a} < {b}", "{a} меньше, чем {b}"), ("{a} <= {b}", "{a} меньше или равно {b}", "{a} не больше {b}")
_MORE, _AT_LEAST = ("{a} > {b}", "{a} больше, чем {b}"), ("{a} >= {b}", "{a} больше или равно {b}", "{a} не меньше {b}")
_SAME, _OTHER = ("{a} = {b}", "{a} равно {b}", "{a} и {b} равны"), ("{a} не равно {b}", "{a} и {b} не равны")
_RELATIONS = {
    "<": _LESS, "less than": _LESS, "smaller than": _LESS,
    "<=": _AT_MOST, "less than or equal to": _AT_MOST, "at most": _AT_MOST, "at most as big as": _AT_MOST,
    ">": _MORE, "greater than": _MORE, "bigger than": _MORE,
    ">=": _AT_LEAST, "greater than or equal to": _AT_LEAST, "at least": _AT_LEAST, "at least as big as": _AT_LEAST,
    "=": _SAME, "equal to": _SAME, "and equal": _SAME, "and have the same value": _SAME,
    "!=": _OTHER, "not equal to": _OTHER, "and unequal": _OTHER, "and nonequal": _OTHER, "and non-equal": _OTHER,
    "and have different values": _OTHER,
}  # fmt: skip
_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[a-z]|[-+*/=()])")
_WORDS = {"+": mathqa.ADD, "-": mathqa.SUBTRACT, "*": ("умножить на",), "/": mathqa.DIVIDE,
          "=": (*mathqa.EQUALS, "это")}  # fmt: skip


def mathematics(settings: ConvertSettings) -> list[Part]:
    """Rows of all files in turn, so that a limit takes of each; equal questions fall into the same split."""
    files = find_files(settings.inputs, FILES)
    own = {path: "val" if path.parent.name in VAL_FOLDERS else "train" for path in files}

    def rows(paths: list[Path]) -> Iterator[Row]:
        for together in itertools.zip_longest(*(_file_rows(path, settings) for path in paths)):
            yield from filter(None, together)

    by_part = {part: [path for path in files if own[path] == part] for part in ("val", "train")}
    return [Part(part, rows(paths)) for part, paths in by_part.items() if paths]


def _file_rows(path: Path, settings: ConvertSettings) -> Iterator[Row]:
    name = settings.report.name(path)
    try:
        with open_text(path) as file:
            lines = filter(None, map(clean, file))
            for number in itertools.count(1):
                question = next(lines, None)
                if question is None:
                    return
                answer = next(lines, "")
                place = f"{name}: question {number}"
                try:
                    row = translate(settings.rng(place), place, question, answer)
                except ValueError as error:
                    settings.report.bad(place, f"{question} {answer}", str(error))
                    continue
                if row is None:
                    settings.report.leave_out("options that exact match cannot tell apart")
                else:
                    yield row
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read to its end as UTF-8: {error}") from error


def translate(rng: random.Random, place: str, question: str, answer: str) -> Row | None:
    """A question in Russian; None where no two options can be told apart. Raises ValueError for another sentence."""
    for pattern, make in _MAKERS.items():
        match = pattern.fullmatch(question)
        if match:
            texts, right, wrong = make(rng, match, answer)
            keys = {option_key(right)}
            distractors = []
            for text in wrong:
                if option_key(text) not in keys:
                    keys.add(option_key(text))
                    distractors.append(text)
            if not distractors:
                return None
            few = tuple(distractors[: mathqa.DISTRACTORS])
            return Row("MathQA", place, question, tuple(texts), (right,), few, is_comparison=pattern is not _SOLVE)
    raise ValueError("a sentence of linear_1d, linear_2d or a comparison, with its answer on the next line")


Asked = tuple[list[str], str, list[str]]  # texts, the right option, wrong ones


def _solve(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    value = _integer(answer)
    letter, equations = match["letter"], match["equations"].split(", ")
    if letter not in match["equations"]:
        raise ValueError("an equation with the unknown that is asked for")
    draw = rng.random()
    share = 1.0 if draw < ALL_WORDS else 0.5 if draw < ALL_WORDS + SOME_WORDS else 0.0
    statement = rng.choice((", ", "; ", " и ")).join(in_words(rng, equation, share) for equation in equations)
    wrong = mathqa.near_integers(rng, value)
    if rng.random() < IN_ONE:
        return [f"{statement}, для {letter}."], str(value), wrong
    return [statement, mathqa.ask(rng, letter)], str(value), wrong


def in_words(rng: random.Random, equation: str, share: float) -> str:
    """An equation with a `share` of its signs in words, but for a minus that is no subtraction.

    Raises ValueError for what is no equation.
    """
    tokens, at = [], 0
    while at < len(equation.rstrip()):
        match = _TOKEN.match(equation, at)
        if match is None:
            raise ValueError("an equation of numbers, letters and + - * / = ( )")
        tokens.append(match[1])
        at = match.end()
    said, previous = "", "("
    for token in tokens:
        is_sign = token in _WORDS and not (token == "-" and previous in "+-*/=(")
        if not is_sign:
            said += token
        elif rng.random() < share:
            said += f" {rng.choice(_WORDS[token])} "
        else:
            said += token if token in "*/" else f" {token} "
        previous = token
    return said.strip()


def _which(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    first, second = match["a"], match["b"]
    if answer not in (first, second):
        raise ValueError(f"an answer that is {first} or {second}")
    a, b, right = map(_shown, (first, second, answer))
    way = "меньше" if match["way"] == "smaller" else "больше"
    texts = rng.choice((
        [f"{a} и {b}", f"Какое число {way}?"],
        [f"Даны числа {a} и {b}.", f"Какое из чисел {way}?"],
        [f"Сравните {a} и {b}.", f"Что {way}?"],
        [f"Что {way}: {a} или {b}?"],
    ))  # fmt: skip
    return texts, right, [b if right == a else a, "они равны", "нельзя сравнить"][: rng.randint(1, 3)]


def _is(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    relation = match["relation"] if match["end"] is None else f"{match['relation']} {match['end']}"
    if relation not in _RELATIONS or answer not in ("True", "False"):
        raise ValueError("a comparison of two numbers, and True or False")
    said = rng.choice(_RELATIONS[relation]).format(a=_shown(match["a"]), b=_shown(match["b"]))
    texts = rng.choice(([f"Верно ли, что {said}?"], [f"Правда ли, что {said}?"], [said, "Это верно?"]))
    return texts, *(("да", ["нет"]) if answer == "True" else ("нет", ["да"]))


def _kth(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    numbers, right = _listed(match, answer)
    is_biggest = match["way"] == "biggest"
    if match["rank"] is None:
        names = ("наибольшее", "самое большое") if is_biggest else ("наименьшее", "самое маленькое")
        asked = rng.choice(("Какое число {}?", "Какое из чисел {}?", "Назовите {} число.")).format(rng.choice(names))
    elif match["rank"] in _RANKS:
        end = "наибольшего" if is_biggest else "наименьшего"
        asked = f"Какое число {_RANKS[match['rank']]} по величине, считая от {end}?"
    else:
        raise ValueError(f"a rank of {', '.join(_RANKS)}")
    return [_numbers(rng, numbers), asked], right, _others(rng, numbers, right)


def _closest(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    numbers, right = _listed(match, answer)
    asked = rng.choice(("Какое из чисел ближе всего к {}?", "Какое число ближайшее к {}?", "Назовите ближайшее к {}."))
    return [_numbers(rng, numbers), asked.format(_shown(match["target"]))], right, _others(rng, numbers, right)


def _sort(rng: random.Random, match: re.Match[str], answer: str) -> Asked:
    numbers, ordered = match["list"].split(", "), answer.split(", ")
    if sorted(numbers) != sorted(ordered):
        raise ValueError("an answer with the numbers of the question")
    is_falling = (match["way"] or "").startswith("de")
    way = "убывания" if is_falling else "возрастания"
    asked = rng.choice(("Расположите числа в порядке {}.", "Упорядочите числа в порядке {}.",
                        "Запишите числа в порядке {}.")).format(way)  # fmt: skip
    orders = [list(reversed(ordered)), *(rng.sample(ordered, len(ordered)) for _ in range(8))]
    for _ in range(4):  # two neighbours in each other's place: near enough to be read with care
        at = rng.randrange(len(ordered) - 1) if len(ordered) > 1 else 0
        orders.append([*ordered[:at], *reversed(ordered[at : at + 2]), *ordered[at + 2 :]])
    rng.shuffle(orders)
    return [_numbers(rng, numbers), asked], _join(ordered), [_join(order) for order in orders]


_MAKERS = {_SOLVE: _solve, _WHICH: _which, _IS: _is, _KTH: _kth, _CLOSEST: _closest, _SORT: _sort}


def _listed(match: re.Match[str], answer: str) -> tuple[list[str], str]:
    """The numbers among which is asked, and the right one as it is shown; an answer may be the letter of a choice."""
    if match["list"] is not None:
        numbers, right = match["list"].split(", "), answer
    else:
        choices = dict(re.findall(rf"\(([a-z])\) ({_NUMBER})", match["choices"]))
        numbers, right = list(choices.values()), choices.get(answer, "")
    if right not in numbers:
        raise ValueError("an answer that is among the numbers of the question")
    return numbers, _shown(right)


def _numbers(rng: random.Random, numbers: list[str]) -> str:
    end = rng.choice(("", ".", "."))
    return rng.choice(("Даны числа: {}", "Числа: {}", "Даны числа {}", "{}")).format(_join(numbers)) + end


def _others(rng: random.Random, numbers: list[str], right: str) -> list[str]:
    others = [shown for shown in map(_shown, numbers) if shown != right]
    return rng.sample(others, len(others))


def _join(numbers: list[str]) -> str:
    """Numbers as a list; behind a decimal comma a semicolon parts them."""
    return ("; " if any("." in number for number in numbers) else ", ").join(map(_shown, numbers))


def _shown(number: str) -> str:
    """A number as it is written in Russian. Raises ValueError for a fraction with denominator 0."""
    if "/" in number and Fraction(number.partition("/")[2]) == 0:
        raise ValueError("fractions with a denominator other than 0")
    return number.replace(".", ",")


def _integer(answer: str) -> int:
    if not re.fullmatch(r"-?\d{1,18}", answer):
        raise ValueError("an answer that is a whole number")
    return int(answer)
