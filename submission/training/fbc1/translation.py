"""Small Java functions with their Python translations, both in the published form: tokens apart by spaces.

Every part of a program is made in both languages at once, so the translation holds by construction; for numbers above
0, as Java rounds a quotient towards zero.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from training.fbc1.example import Example
from training.worlds.words import read_words

_WORDS = read_words(__file__)
INDENT, DEDENT, NEW_LINE = "INDENT", "DEDENT", "NEW_LINE"


class Pair(NamedTuple):
    """A part of a program in both languages."""

    java: str
    python: str


class Scope(NamedTuple):
    """Names that an expression may use: whole numbers, and an array with its length, if there is one."""

    numbers: tuple[str, ...]
    array: str | None


def make(rng: random.Random) -> Example:
    """C2C: a Java function and its translation."""
    kind, (java, python) = function(rng)
    return Example("C2C", kind, java, answer=python)


def function(rng: random.Random) -> tuple[str, Pair]:
    """(kind, function): a formula, a choice, a loop over numbers or over an array, or a loop that ends by itself."""
    name = rng.choice(_WORDS["functions"])
    kind = rng.choice(("formula", "choice", "range", "range", "array", "array", "while"))
    numbers = tuple(rng.sample(_WORDS["numbers"], 1 if kind == "while" else 2))
    array = rng.choice(_WORDS["arrays"]) if kind == "array" else None
    scope = Scope(numbers, array)
    body = {"formula": _formula, "choice": _choice, "range": _range, "array": _array, "while": _while}[kind](rng, scope)
    given = [f"int {array} [ ]"] * (array is not None) + [f"int {number}" for number in numbers]
    names = [array] * (array is not None) + list(numbers)
    java = f"static int {name} ( {' , '.join(given)} ) {{ {body.java} }}"
    return kind, Pair(java, f"def {name} ( {' , '.join(map(str, names))} ) : {_block(body.python)}")


def _formula(rng: random.Random, scope: Scope) -> Pair:
    result = rng.choice(_WORDS["results"])
    first, last = _value(rng, scope, 2), _value(rng, Scope((*scope.numbers, result), None), 1)
    return _join(_declare(result, first), _return(last))


def _choice(rng: random.Random, scope: Scope) -> Pair:
    then, other = _return(_value(rng, scope, 1)), _return(_value(rng, scope, 1))
    if rng.random() < 0.5:
        return _join(_if(_condition(rng, scope), then), other)
    condition = _condition(rng, scope)
    java = f"if ( {condition.java} ) {{ {then.java} }} else {{ {other.java} }}"
    return Pair(java, f"if {condition.python} : {_block(then.python)} else : {_block(other.python)}")


def _range(rng: random.Random, scope: Scope) -> Pair:
    result, counter = rng.choice(_WORDS["results"]), rng.choice(_WORDS["counters"])
    end = rng.choice(scope.numbers)
    inside = Scope((*scope.numbers, counter), None)
    loop = _for(rng, counter, end, _maybe_if(rng, inside, _update(rng, result, inside)))
    return _join(_declare(result, _constant(rng)), loop, _return(Pair(result, result)))


def _array(rng: random.Random, scope: Scope) -> Pair:
    result, counter = rng.choice(_WORDS["results"]), rng.choice(_WORDS["counters"])
    end = scope.numbers[0]
    element = f"{scope.array} [ {counter} ]"
    inside = Scope((element, rng.choice((element, counter, scope.numbers[1]))), None)
    if rng.random() < 0.3:
        name = rng.choice(("max", "min"))
        call = f"{name} ( {result} , {element} )"
        change = Pair(f"{result} = Math . {call} ;", f"{result} = {call}")
    else:
        change = _update(rng, result, inside)
    loop = _for(rng, counter, end, _maybe_if(rng, inside, change))
    return _join(_declare(result, _constant(rng)), loop, _return(Pair(result, result)))


def _while(rng: random.Random, scope: Scope) -> Pair:
    result, number = rng.choice(_WORDS["results"]), scope.numbers[0]
    divisor = rng.choice(("2", "3", "10"))
    digit = f"{number} % {divisor}"
    change = _update(rng, result, Scope((digit,), None))
    step = Pair(f"{number} = {number} / {divisor} ;", f"{number} = {number} // {divisor}")
    body = _join(change, step)
    loop = Pair(f"while ( {number} > 0 ) {{ {body.java} }}", f"while {number} > 0 : {_block(body.python)}")
    return _join(_declare(result, _constant(rng)), loop, _return(Pair(result, result)))


def _for(rng: random.Random, counter: str, end: str, body: Pair) -> Pair:
    start = rng.choice(("0", "0", "1", "2"))
    closed = rng.random() < 0.4
    head = f"int {counter} = {start} ; {counter} {'<=' if closed else '<'} {end} ; {counter} ++"
    stop = f"{end} + 1" if closed else end
    bounds = stop if start == "0" else f"{start} , {stop}"
    python = f"for {counter} in range ( {bounds} ) : {_block(body.python)}"
    return Pair(f"for ( {head} ) {{ {body.java} }}", python)


def _maybe_if(rng: random.Random, scope: Scope, body: Pair) -> Pair:
    return _if(_condition(rng, scope), body) if rng.random() < 0.5 else body


def _if(condition: Pair, body: Pair) -> Pair:
    return Pair(f"if ( {condition.java} ) {{ {body.java} }}", f"if {condition.python} : {_block(body.python)}")


def _update(rng: random.Random, result: str, scope: Scope) -> Pair:
    if rng.random() < 0.25:
        return Pair(f"{result} ++ ;", f"{result} += 1")
    operator, value = rng.choice(("+=", "+=", "-=", "*=")), _value(rng, scope, 1)
    return Pair(f"{result} {operator} {value.java} ;", f"{result} {operator} {value.python}")


def _declare(name: str, value: Pair) -> Pair:
    return Pair(f"int {name} = {value.java} ;", f"{name} = {value.python}")


def _return(value: Pair) -> Pair:
    return Pair(f"return {value.java} ;", f"return {value.python}")


def _condition(rng: random.Random, scope: Scope) -> Pair:
    first = rng.choice(scope.numbers)
    if rng.random() < 0.3:
        text = f"{first} % {rng.randint(2, 9)} == 0"
        simple = Pair(text, text)
    else:
        text = f"{first} {rng.choice(('<', '>', '==', '!=', '<=', '>='))} {_operand(rng, scope)}"
        simple = Pair(text, text)
    if rng.random() < 0.25:
        word, symbol = rng.choice((("and", "&&"), ("or", "||")))
        text = f"{rng.choice(scope.numbers)} > {rng.randint(0, 9)}"
        return Pair(f"{simple.java} {symbol} {text}", f"{simple.python} {word} {text}")
    return simple


def _value(rng: random.Random, scope: Scope, depth: int) -> Pair:
    """An expression of at most `depth` operators."""
    if depth == 0 or rng.random() < 0.2:
        text = _operand(rng, scope)
        return Pair(text, text)
    kind = rng.random()
    if kind < 0.15:
        name, first, second = rng.choice(("max", "min")), rng.choice(scope.numbers), _operand(rng, scope)
        return Pair(f"Math . {name} ( {first} , {second} )", f"{name} ( {first} , {second} )")
    if kind < 0.3:
        number, divisor = rng.choice(scope.numbers), rng.randint(2, 9)
        return Pair(f"{number} / {divisor}", f"{number} // {divisor}")
    operator, first, rest = rng.choice("+-*%"), rng.choice(scope.numbers), _value(rng, scope, depth - 1)
    if operator == "%":
        rest = Pair(*[str(rng.randint(2, 9))] * 2)
    elif " " in rest.java and not rest.python.startswith(("max", "min")):
        rest = Pair(f"( {rest.java} )", f"( {rest.python} )")
    return Pair(f"{first} {operator} {rest.java}", f"{first} {operator} {rest.python}")


def _operand(rng: random.Random, scope: Scope) -> str:
    return rng.choice(scope.numbers) if rng.random() < 0.6 else str(rng.randint(0, 20))


def _constant(rng: random.Random) -> Pair:
    return Pair(*[rng.choice(("0", "0", "1", "2", "100"))] * 2)


def _join(*parts: Pair) -> Pair:
    """One after the other; in Python a block ends its own line already."""
    python = parts[0].python
    for before, part in zip(parts, parts[1:], strict=False):
        python += f" {part.python}" if before.python.endswith(DEDENT) else f" {NEW_LINE} {part.python}"
    return Pair(" ".join(part.java for part in parts), python)


def _block(python: str) -> str:
    """A block of lines, as the published data has it: `NEW_LINE INDENT … NEW_LINE DEDENT`."""
    end = DEDENT if python.endswith(DEDENT) else f"{NEW_LINE} {DEDENT}"
    return f"{NEW_LINE} {INDENT} {python} {end}"
