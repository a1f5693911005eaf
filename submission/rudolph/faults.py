"""What is wrong with settings, a line for each fault: the place, the value, what is allowed."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

_SHOWN_CHARACTERS = 80  # of a value
_WORDS = {
    "bool_type": "true or false", "int_type": "a whole number", "float_type": "a number", "string_type": "a text",
    "model_type": "keys and values", "dict_type": "keys and values", "tuple_type": "a list", "list_type": "a list",
}  # fmt: skip
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


def faults(error: ValidationError, kind: Any) -> dict[tuple[str | int, ...], str]:
    """A line for each place in the values for `kind`, a model or dataclass of pydantic, that `error` is about.

    What is allowed is the field's description where it has one, else pydantic's own words.
    """
    lines = {}
    for fault in error.errors(include_url=False):
        place, value = fault["loc"], fault.get("input")
        fields, description, depth = _follow(kind, place)
        if fault["type"] in _UNKNOWN:
            lines[place] = unknown_key(place[-1], list(fields), written(place[:-1]))
        elif fault["type"] in ("missing", "missing_argument"):
            lines[place] = f"{written(place)} is missing"
        elif fault["type"] == "value_error" and description is None:
            told = str(fault["ctx"]["error"])
            if told.startswith("it must"):
                told = f"{written(place)} is {value!r:.{_SHOWN_CHARACTERS}}; {told}"
            elif place and not told.startswith(str(place[-1])):
                told = f"{written(place)}: {told}"
            lines[place] = told
        else:
            # Of a choice between types pydantic tells one fault each; they are one.
            place = place[:depth] if description else place
            allowed = description or _WORDS.get(fault["type"])
            if allowed is None and fault["type"] == "literal_error":
                allowed = "one of " + fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
            allowed = allowed or re.sub(r"^\w+ should (be )?", "", fault["msg"])
            hint = number_hint(value) if "number" in allowed else ""
            lines[place] = f"{written(place)} is {value!r:.{_SHOWN_CHARACTERS}}; it must be {allowed}{hint}"
    return lines


def unknown_key(key: object, allowed: Sequence[str], place: str = "") -> str:
    """The line for a key that does not exist, with the one that was probably meant."""
    near = difflib.get_close_matches(str(key), allowed, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    start = f"{place}: " if place else ""
    return f"{start}key {key!r:.{_SHOWN_CHARACTERS}} is unknown; {meant}allowed are {', '.join(allowed)}"


def written(place: Sequence[str | int]) -> str:
    """`tasks: TextQA: lt`, `stages[0]: freeze[1]`."""
    return re.sub(r": (\d+)", r"[\1]", ": ".join(map(str, place)))


def _follow(kind: Any, place: Sequence[str | int]) -> tuple[dict[str, Any], str | None, int]:
    """The fields around a place, the description of the field that it lies in, and how much of it leads to that."""
    fields: dict[str, Any] = {}
    description, depth = None, 0
    for number, key in enumerate(place, start=1):
        if hasattr(kind, "__pydantic_fields__"):
            fields = kind.__pydantic_fields__
            if key not in fields:
                break
            kind, description, depth = fields[str(key)].annotation, fields[str(key)].description, number
        elif get_args(kind):  # of a list or of values by name
            kind = next(one for one in reversed(get_args(kind)) if one is not Ellipsis)
    return fields, description, depth


def number_hint(value: object) -> str:
    """For a text that is meant as a number, how YAML 1.1 wants it: with a point, and with a sign of the exponent."""
    number = r"\s*([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?)(\d+))?\s*"
    match = re.fullmatch(number, value) if isinstance(value, str) else None
    if match is None:
        return ""
    sign, digits, exponent_sign, exponent = match.groups()
    if exponent is not None:
        digits = f"{digits}{'' if '.' in digits else '.0'}e{exponent_sign or '+'}{exponent}"
    return f"; as a number of YAML it is written {sign}{digits}, without quotes"
