"""Configuration files as pydantic models, and what is wrong with a file: the place, the value seen, what is allowed.

Types are strict: `"3"` and `true` are no numbers, and neither is NaN. A field says in words what it allows:

    class Shares(StrictModel):
        share: Annotated[float, number(0, 1)] = 0.5
        runner: Annotated[str, one_of("docker", "local")]
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
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


def parse(model: type[Model], values: object, allows: str = "allowed are") -> tuple[Model | None, list[Fault]]:
    """The model of `values`, or None and all faults. After an unknown key, `allows` introduces the known ones."""
    try:
        return model.model_validate(values), []
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


Flag = Annotated[bool, allowed("true or false")]


def _fault(model: type[BaseModel], error: ErrorDetails, allows: str) -> Fault:
    place, kind = tuple(map(str, error["loc"])), error["type"]
    if kind == "extra_forbidden":
        return Fault(place[:-1], unknown_key(place[-1], model.model_fields, allows), kind)
    if kind == "missing":
        return Fault(place, "is missing", kind)
    return Fault(place, error["msg"] if kind == "wrong" else f"{error['msg']}, not {show(error['input'])}", kind)
