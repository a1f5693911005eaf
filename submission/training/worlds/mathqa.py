"""Linear equations, systems and comparisons, in digits and in words, with options.

The kinds follow the challenge's MathQA: `linear_1d`, `linear_2d` and `comparison` modules of the Mathematics Dataset
(Saxton et al., 2019), some with the signs spelled out in words. Every unknown is an integer. What is learnt is a
scratchpad (Nye et al., 2021): the steps to the answer stand before it.
"""

import random
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from training.worlds.example import Example
from training.worlds.wording import instruct, option_key, options
from training.worlds.words import read_words

KINDS = {  # shares
    "linear_1d": 0.4,
    "linear_1d_words": 0.26,
    "linear_2d": 0.06,
    "linear_2d_words": 0.04,
    "comparison_pair": 0.1,
    "comparison_relation": 0.06,
    "comparison_extreme": 0.08,
}
EASY = 0.65  # share of unknowns in -4..10
MIDDLE = 0.25  # share in -20..20; the rest reaches ±60
SMALL = 0.75  # share of coefficients up to 5 and of constants up to 10
UNKNOWNS = "xxxyyyzabcdkmnpqtuvw"
DISTRACTORS = 3
_WORDS = read_words(__file__)
ADD, SUBTRACT, DIVIDE, EQUALS = (tuple(_WORDS[name]) for name in ("add", "subtract", "divide", "equals"))
MAX_WRITTEN = 22  # characters of working and answer: each is an id, and the right text of nano holds that many


class Problem(NamedTuple):
    """Texts, the answer, wrong options, and the steps to the answer up to a last `=` (`Example.working`)."""

    texts: list[str]
    answer: str
    distractors: list[str]
    working: str = ""


def make(rng: random.Random, split: str) -> Example:
    """One example of a kind drawn from `KINDS`: [instruction] statement, question, options; the answer is a value."""
    kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
    task = MAKERS[kind](rng)
    listed, answers = options(rng, task.answer, task.distractors)
    inputs = instructed(rng, [*task.texts, listed], kind.startswith("comparison"), split)
    written = f"{task.working} {task.answer}"
    return Example("MathQA", kind, list(inputs), answers, working=task.working if len(written) <= MAX_WRITTEN else "")


def instructed(rng: random.Random, texts: list[str], is_comparison: bool, split: str) -> list[str]:
    """`texts` with an instruction as `instruct` adds it; to a comparison, none that speaks of an equation."""
    while True:
        inputs = instruct(rng, "MathQA", *texts, split=split)
        if not (is_comparison and "уравнени" in inputs[0].lower()):
            return inputs


# --- numbers ---------------------------------------------------------------------------------------------------------


def _solution(rng: random.Random) -> int:
    draw = rng.random()
    if draw < EASY:
        return rng.randint(-4, 10)
    limit = 20 if draw < EASY + MIDDLE else 60
    return rng.randint(-limit, limit)


def _coefficient(rng: random.Random, least: int = 2) -> int:
    return rng.randint(least, 5 if rng.random() < SMALL else 12)


def _constant(rng: random.Random) -> int:
    return rng.randint(1, 10 if rng.random() < SMALL else 40)


def near_integers(rng: random.Random, answer: int) -> list[str]:
    """Wrong integers: each is made of the answer or of another wrong one, so that no pattern gives the answer away."""
    pool = [answer]
    while len(pool) <= DISTRACTORS:
        base = rng.choice(pool)
        step = rng.choice((1, 1, 2, 2, 3, 4, 5, 10)) * rng.choice((-1, 1))
        wrong = -base if rng.random() < 0.3 else base + step
        if wrong not in pool:
            pool.append(wrong)
    return [str(wrong) for wrong in pool[1:]]


# --- expressions -----------------------------------------------------------------------------------------------------


def _term(rng: random.Random, factor: int, letter: str) -> str:
    """`6*y`, `6y` or `y`."""
    if abs(factor) == 1:
        return letter if factor == 1 else f"-{letter}"
    return f"{factor}*{letter}" if rng.random() < 0.75 else f"{factor}{letter}"


def _plus(number: int) -> str:
    return f" + {number}" if number > 0 else f" - {-number}" if number < 0 else ""


def _undone(number: int, added: int) -> str:
    """The step that takes `added` away again, not yet worked out: `15-7`, `15+7`."""
    return f"{number}-{added}" if added >= 0 else f"{number}+{-added}"


def ask(rng: random.Random, letter: str) -> str:
    """A question for an unknown."""
    return rng.choice(_WORDS["unknown"]).format(letter=letter)


def _linear_1d(rng: random.Random) -> Problem:
    letter, x = rng.choice(UNKNOWNS), _solution(rng)
    a, b = _coefficient(rng), _constant(rng) * rng.choice((-1, 1))
    form = rng.choices(range(9), (3, 4, 1, 2, 2, 1, 2, 1, 1))[0]
    left: str
    right: int | str
    if form == 0:  # one step
        left, right, working = rng.choice((
            (f"{letter}{_plus(b)}", x + b, f"{_undone(x + b, b)}="), (_term(rng, a, letter), a * x, f"{a * x}/{a}="),
        ))  # fmt: skip
    elif form == 1:
        left, right = f"{_term(rng, a, letter)}{_plus(b)}", a * x + b
        working = f"{_undone(right, b)}={a * x}/{a}="
    elif form == 2:
        left, right = f"{b} {'+' if rng.random() < 0.5 else '-'} {_term(rng, a, letter)}", 0
        a = a if " + " in left else -a
        right = b + a * x
        working = f"{_undone(right, b)}={a * x}/{a}="
    elif form == 3:  # both sides
        c = rng.choice([c for c in range(1, 10) if c != a])
        rest = a * x + b - c * x
        left, right = f"{_term(rng, a, letter)}{_plus(b)}", f"{_term(rng, c, letter)}{_plus(rest)}"
        working = f"{a - c},{_undone(rest, b)}={(a - c) * x}/{a - c}="
    elif form == 4:  # brackets
        b = (b if abs(b) < 20 else b // 4) or 1
        left, right = f"{a}*({letter}{_plus(b)})", a * (x + b)
        working = f"{right}/{a}={_undone(x + b, b)}="
    elif form == 5:  # collected from two terms
        c = rng.randint(1, 9)
        left, right = f"{_term(rng, a, letter)} + {_term(rng, c, letter)}", (a + c) * x
        working = f"{right}/{a + c}="
    elif form == 6:  # division of the unknown
        x = x * a if abs(x * a) <= 40 else x - x % a
        left, right = f"{letter} {rng.choice('/:')} {a}{_plus(b)}", x // a + b
        working = f"{_undone(right, b)}={x // a}*{a}="
    elif form == 7:
        b += (-(x + b)) % a
        left, right = f"({letter}{_plus(b)})/{a}", (x + b) // a
        working = f"{right}*{a}={_undone(x + b, b)}="
    else:  # zero on one side
        left, right = f"{_term(rng, a, letter)}{_plus(-a * x)}", 0
        working = f"{a * x}/{a}="
    sides = [left, str(right)] if rng.random() < 0.8 else [str(right), left]
    texts = [f"{' = '.join(sides)}{rng.choice(('', '', '.'))}", ask(rng, letter)]
    return Problem(texts, str(x), near_integers(rng, x), working)


def _step(rng: random.Random, number: int) -> str:
    """`прибавить 7`, `вычесть 7` for a number other than 0."""
    return f"{rng.choice(ADD if number > 0 else SUBTRACT)} {abs(number)}"


def _linear_1d_words(rng: random.Random) -> Problem:
    letter, x = rng.choice(UNKNOWNS), _solution(rng)
    a, b = _coefficient(rng), _constant(rng) * rng.choice((-1, 1))
    add, verb, equals = _step(rng, b), "прибавить" if b > 0 else "вычесть", rng.choice(EQUALS)
    more = f"на {abs(b)} {'больше' if b > 0 else 'меньше'}"
    form = rng.choices(range(12), (3, 3, 2, 1, 2, 2, 1, 1, 1, 1, 1, 2))[0]
    working = f"{_undone(a * x + b, b)}={a * x}/{a}="
    if form == 0:
        text = f"Если {a} умножить на {letter} и {verb} {abs(b)}, то получится {a * x + b}."
    elif form == 1:
        text = f"{a} умножить на {letter} {add} {equals} {a * x + b}."
    elif form == 2:
        text = f"{letter} {add} {equals} {x + b}."
        working = f"{_undone(x + b, b)}="
    elif form == 3:
        text = f"Если к {letter} прибавить {abs(b)}, то {rng.choice(('получится', 'будет', 'выйдет'))} {x + abs(b)}."
        working = f"{_undone(x + abs(b), abs(b))}="
    elif form == 4:
        text = f"Если {letter} умножить на {a}, а потом {verb} {abs(b)}, получится {a * x + b}."
    elif form == 5:
        x = x * a if abs(x * a) <= 40 else x - x % a
        text = f"{letter} {rng.choice(DIVIDE)} {a} {add} {equals} {x // a + b}."
        working = f"{_undone(x // a + b, b)}={x // a}*{a}="
    elif form == 6:
        text = f"Если из {letter} вычесть {abs(b)}, то получится {x - abs(b)}."
        working = f"{_undone(x - abs(b), -abs(b))}="
    elif form == 7:
        text = f"Сумма {letter} и {abs(b)} равна {x + abs(b)}."
        working = f"{_undone(x + abs(b), abs(b))}="
    elif form == 8:
        text, working = f"Произведение {a} и {letter} равно {a * x}.", f"{a * x}/{a}="
    elif form == 9:
        text, working = f"Число {letter} {more}, чем {x - b}.", f"{_undone(x - b, -b)}="
    elif form == 10:
        text, working = f"Задумали число {letter}, умножили на {a} и получили {a * x}.", f"{a * x}/{a}="
    else:
        c = rng.choice([c for c in range(2, 10) if c != a])
        rest = a * x + b - c * x
        tail = f" {_step(rng, rest)}" if rest else ""
        text = f"{a} умножить на {letter} {add} равно {c} умножить на {letter}{tail}."
        working = f"{a - c},{_undone(rest, b)}={(a - c) * x}/{a - c}="
    return Problem([text, ask(rng, letter)], str(x), near_integers(rng, x), working)


def _pair(rng: random.Random) -> tuple[str, str, int, int]:
    first, second = rng.sample(sorted(set(UNKNOWNS)), 2) if rng.random() < 0.4 else ("x", "y")
    limit = 9 if rng.random() < 0.6 else 20
    return first, second, rng.randint(-limit, limit), rng.randint(-limit, limit)


def _linear_2d(rng: random.Random) -> Problem:
    first, second, x, y = _pair(rng)
    form = rng.choices(range(4), (3, 2, 2, 3))[0]
    if form == 0:  # one unknown is given
        a, b = _coefficient(rng, 1), rng.choice((-1, 1)) * _coefficient(rng, 1)
        both = f"{_term(rng, a, first)} {'+' if b > 0 else '-'} {_term(rng, abs(b), second)} = {a * x + b * y}"
        equations, asked = [both, f"{second} = {y}"], first
        workings = {first: f"{b * y},{_undone(a * x + b * y, b * y)}={a * x}/{a}="}
    elif form == 1:  # sum and difference
        equations, asked = [f"{first} + {second} = {x + y}", f"{first} - {second} = {x - y}"], first
        workings = _halves(first, second, x, y)
    elif form == 2:  # one unknown by the other
        a, b = _coefficient(rng), _coefficient(rng, 1)
        equations = [f"{first} = {_term(rng, b, second)}{_plus(x - b * y)}", f"{first} = {x}"]
        workings = {
            second: f"{_undone(x, x - b * y)}={b * y}/{b}=", first: f"{_undone(y, y - a * x)}={a * x}/{a}=",
        }  # fmt: skip
        equations, asked = rng.choice((
            (equations, second),
            ([f"{_term(rng, a, first)} = {second}{_plus(a * x - y)}", f"{second} = {y}"], first),
        ))  # fmt: skip
    else:
        while True:
            a, b, c, d = (rng.choice((-1, 1)) * rng.randint(1, 6) for _ in range(4))
            if a * d != b * c:
                break
        equations = [
            f"{_term(rng, p, first)} {'+' if q > 0 else '-'} {_term(rng, abs(q), second)} = {p * x + q * y}"
            for p, q in ((a, b), (c, d))
        ]
        asked, determinant = first, a * d - b * c
        workings = {
            first: f"{determinant * x}/{determinant}=", second: f"{determinant * y}/{determinant}=",
        }  # fmt: skip
    if asked == first and form in (1, 3) and rng.random() < 0.5:
        asked = second
    rng.shuffle(equations)
    answer = x if asked == first else y
    texts = [rng.choice((", ", "; ", " и ")).join(equations), ask(rng, asked)]
    return Problem(texts, str(answer), near_integers(rng, answer), workings.get(asked, ""))


def _halves(first: str, second: str, x: int, y: int) -> dict[str, str]:
    """Working by unknown where sum and difference are known."""
    total, difference = x + y, x - y
    return {first: f"{_undone(total, -difference)}={2 * x}/2=", second: f"{_undone(total, difference)}={2 * y}/2="}


def _linear_2d_words(rng: random.Random) -> Problem:
    first, second, x, y = _pair(rng)
    a = _coefficient(rng)
    difference, asked = x - y, rng.choice((first, second))
    form = rng.randrange(5)
    workings = _halves(first, second, x, y)
    if form == 0:
        text = f"Сумма {first} и {second} равна {x + y}, а разность {first} и {second} равна {x - y}."
    elif form == 1:
        text = f"{first} плюс {second} равно {x + y}, {first} минус {second} равно {x - y}."
    elif form == 2:
        text, asked = f"{a} умножить на {first} плюс {second} равно {a * x + y}, {second} равно {y}.", first
        workings = {first: f"{_undone(a * x + y, y)}={a * x}/{a}="}
    elif form == 3 and difference:
        relation = f"на {abs(difference)} {'больше' if difference > 0 else 'меньше'}"
        text = f"Число {first} {relation} числа {second}, а их сумма равна {x + y}."
    else:
        x = a * y
        text, asked = f"Число {first} получится, если {second} умножить на {a}. {first} равно {x}.", second
        if rng.random() < 0.5:
            text, asked = f"Число {first} получится, если {second} умножить на {a}. {second} равно {y}.", first
        workings = {first: f"{a}*{y}=", second: f"{x}/{a}="}
    answer = x if asked == first else y
    return Problem([text, ask(rng, asked)], str(answer), near_integers(rng, answer), workings[asked])


# --- comparisons -----------------------------------------------------------------------------------------------------


def _number(rng: random.Random, style: str, around: Fraction | None = None) -> tuple[str, Fraction]:
    """A number as shown and its value, near `around` where that is given."""
    near = around is not None and rng.random() < 0.6
    if style == "fraction":
        below = rng.randint(2, 10)
        above = rng.randint(1, 2 * below)
        if near and around is not None:
            above = round(around * below) + rng.choice((-1, 0, 1))
        value = Fraction(above, below)
        return f"{above}/{below}", value
    if style == "decimal":
        tenths = rng.randint(-99, 99) if rng.random() < 0.3 else rng.randint(1, 99)
        if near and around is not None:
            tenths = round(around * 10) + rng.choice((-2, -1, 1, 2, 5))
        return f"{tenths / 10:.1f}".replace(".", ",").replace("-0,0", "0,0"), Fraction(tenths, 10)
    limit = rng.choice((10, 10, 30, 100, 1000))
    value = Fraction(rng.randint(-limit, limit))
    if near and around is not None:
        value = round(around) + Fraction(rng.choice((-10, -2, -1, 1, 2, 10)))
    return str(value), value


def _numbers(rng: random.Random, count: int) -> list[tuple[str, Fraction]]:
    """Different numbers that stay different texts once exact-match scoring has removed `,` and `/`."""
    style = rng.choices(("integer", "decimal", "fraction", "mixed"), (7, 1.5, 1, 0.5))[0]
    found: list[tuple[str, Fraction]] = []
    while len(found) < count:
        own = rng.choice(("integer", "decimal", "fraction")) if style == "mixed" else style
        text, value = _number(rng, own, found[0][1] if found else None)
        if all(value != other and option_key(text) != option_key(shown) for shown, other in found):
            found.append((text, value))
    rng.shuffle(found)
    return found


_LARGER = ("больше", "меньше")


def _comparison_pair(rng: random.Random) -> Problem:
    """Which of two numbers is larger: two options, at times with 'они равны' among them."""
    (first, p), (second, q) = _numbers(rng, 2)
    way = rng.choice(_LARGER)
    said = {"first": first, "second": second, "way": way, "which": "большее" if way == "больше" else "меньшее"}
    statement = rng.choice(_WORDS["pair_statements"]).format_map(said)
    question = rng.choice(_WORDS["pair_questions"]).format_map(said)
    texts = [question] if first in question else [statement, question]
    answer, wrong = (first, second) if (p > q) == (way == "больше") else (second, first)
    return Problem(
        texts, answer, [wrong, "они равны", "нельзя сравнить"][: rng.choice((1, 2, 3))], f"{first};{second}="
    )


def _comparison_relation(rng: random.Random) -> Problem:
    """Whether the first number is larger, smaller or equal."""
    (first, p), (second, q) = _numbers(rng, 2)
    if rng.random() < 0.25:
        second, q = first, p
        if p.denominator == 1 and rng.random() < 0.5:
            part = rng.randint(1, 20)
            first = f"{p - part} + {part}" if p - part >= 0 else f"{p + part} - {part}"
    working = f"{second if p == q else first};{second}="  # with a sum worked out
    words = {"больше": p > q, "меньше": p < q, "равно": p == q}
    if rng.random() < 0.25:
        words = {">": p > q, "<": p < q, "=": p == q}
        texts = [f"{first} … {second}", rng.choice(_WORDS["sign_questions"])]
    else:
        statement = rng.choice(_WORDS["relation_statements"]).format(first=first, second=second)
        texts = [statement, rng.choice(_WORDS["relation_questions"])]
    answer = next(word for word, true in words.items() if true)
    if answer in "<>=":  # exact match drops these signs, so they are named
        names = {">": "знак больше", "<": "знак меньше", "=": "знак равно"}
        return Problem(texts, names[answer], [names[word] for word in words if word != answer], working)
    return Problem(texts, answer, [word for word in words if word != answer], working)


def _comparison_extreme(rng: random.Random) -> Problem:
    """The largest, the smallest or the nearest of four numbers."""
    shown = _numbers(rng, DISTRACTORS + 1)
    listed = ", ".join(text for text, _ in shown)
    if any("," in text for text, _ in shown):
        listed = "; ".join(text for text, _ in shown)
    way = rng.choices(("наибольшее", "наименьшее", "второе"), (3, 3, 1))[0]
    ordered = sorted(shown, key=lambda number: number[1])
    if way == "наибольшее":
        question = rng.choice(_WORDS["largest_questions"])
        answer = ordered[-1][0]
    elif way == "наименьшее":
        question = rng.choice(_WORDS["smallest_questions"])
        answer = ordered[0][0]
    else:
        question, answer = "Какое число второе по величине?", ordered[-2][0]
    texts = [rng.choice(_WORDS["lists"]) + listed, question]
    best, found = [], shown[0]  # the largest, or smallest, of the first two, of the first three, and so on
    for number in shown[1:]:
        found = (min if way == "наименьшее" else max)(found, number, key=lambda number: number[1])
        best.append(found[0])
    working = ";".join(best if way == "второе" else best[:-1]) + "="
    return Problem(texts, answer, [text for text, _ in shown if text != answer], working)


MAKERS: dict[str, Callable[[random.Random], Problem]] = {
    "linear_1d": _linear_1d,
    "linear_1d_words": _linear_1d_words,
    "linear_2d": _linear_2d,
    "linear_2d_words": _linear_2d_words,
    "comparison_pair": _comparison_pair,
    "comparison_relation": _comparison_relation,
    "comparison_extreme": _comparison_extreme,
}
