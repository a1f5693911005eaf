"""Configuration files as pydantic models, and what is wrong with a file: the place, the value seen, what is allowed.

Types are strict: `"3"` and `true` are no numbers, and neither is NaN. A field says in words what it allows:

    class Shares(StrictModel):
        share: Annotated[float, number(0, 1)] = 0.5
        runner: Annotated[str, one_of("docker", "local")]
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from evaluator.core.errors import show, unknown_key

Model = TypeVar("Model", bound=BaseModel)


class StrictModel(BaseModel):
    """A table of a configuration file: no conversions, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Fault:
    """One fault: `place` are the keys that lead to the value, `kind` is pydantic's name of the error."""

    place: tuple[str, ...]
    text: str
    kind: str

    def __str__(self) -> str:
        return " ".join((*self.place, self.text))


def parse(
    model: type[Model], values: object, allows: str = "allowed are", context: dict[str, Any] | None = None
) -> tuple[Model | None, list[Fault]]:
    """The model of `values`, or None and all faults. After an unknown key, `allows` introduces the known ones.
    `context` is for the model's own validators.
    """
    try:
        return model.model_validate(values, context=context), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A default made of other values, which are at fault themselves, is none of its own.
        return None, [_fault(model, one, allows) for one in found if one["type"] != "default_factory_not_called"]


def wrong(text: str) -> PydanticCustomError:
    """What a validator of a model raises: `text` follows the key."""
    return PydanticCustomError("wrong", "{text}", {"text": text})


def allowed(text: str, accepts: Callable[[Any], bool] = lambda value: True) -> WrapValidator:
    """Refuses what the annotated type refuses, and of the rest what `accepts` does not, with `text` for what is
    allowed.
    """

    def check(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            checked = handler(value)
            if accepts(checked):
                return checked
        except ValidationError:
            pass
        raise wrong(f"must be {text}, not {show(value)}")

    return WrapValidator(check)


def number(low: float, high: float = math.inf, kind: str = "number") -> WrapValidator:
    """A number in `low`..`high`, both included; `kind` says what the annotated type takes, such as a whole number."""
    text = f"a {kind} in {low:g}..{high:g}" if math.isfinite(high) else f"a {kind} >= {low:g}"
    return allowed(text, lambda value: low <= value <= high)


def one_of(*names: str) -> WrapValidator:
    """One of some texts."""
    return allowed(f"one of {', '.join(map(repr, names))}", lambda value: value in names)


def is_line(value: object) -> bool:
    """Whether it is a text of one line that is not empty."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _fraction(value: object) -> object:
    try:
        return float(Fraction(value)) if isinstance(value, str) else value
    except ArithmeticError:
        raise ValueError from None


ONE_LINE = "a text of one line that is not empty"
Flag = Annotated[bool, allowed("true or false")]
Line = Annotated[str, allowed(ONE_LINE, is_line)]
Share = Annotated[float, number(0, 1)]
Weight = Annotated[
    float,
    BeforeValidator(_fraction),
    allowed("a number in 0..1, or a fraction such as '1/15'", lambda weight: 0 <= weight <= 1),
]
Country = Annotated[
    str,
    allowed("two capital letters such as 'RU'", lambda c: len(c) == 2 and c.isascii() and c.isalpha() and c.isupper()),
]


def _fault(model: type[BaseModel], error: ErrorDetails, allows: str) -> Fault:
    place, kind = tuple(map(str, error["loc"])), error["type"]
    if kind == "extra_forbidden":
        return Fault(place[:-1], unknown_key(place[-1], _fields(model, place[:-1]), allows), kind)
    if kind == "missing":
        return Fault(place, "is missing", kind)
    return Fault(place, error["msg"] if kind == "wrong" else f"{error['msg']}, not {show(error['input'])}", kind)


def _fields(model: type[BaseModel], place: tuple[str, ...]) -> Iterable[str]:
    """The keys of the model that stands at a place inside of `model`."""
    for key in place:
        if key in model.model_fields:
            inside = _models(model.model_fields[key].annotation)
            model = inside[0] if len(inside) == 1 else model
    return model.model_fields


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation, such as the one of `tuple[Row, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]
