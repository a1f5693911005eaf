"""How to answer: the settings of `config.yaml`, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch

from .images import JPEG_QUALITY
from .route import Route
from .sampling import GREEDY, IMAGE_SAMPLING, Sampling

FirstImageId = Literal["text_head", "image_head"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INT8 = "int8"  # weights alone
DTYPE_NAMES = ("auto", *DTYPES, INT8)


@dataclass(frozen=True)
class Settings:
    """How to answer; `config.yaml` documents each setting. Raises ValueError naming setting, value and what is allowed.

    `model` is a folder. `max_answer_tokens` None: up to the end of the sequence.
    """

    model: str = "weights/nano"
    dtype: str = "auto"
    batch_size: int | Literal["auto"] = "auto"
    seed: int = 0
    route: Route = "auto"
    route_threshold: float = 0.5
    route_by_form: bool = True
    fallback: bool = True
    text_sampling: Sampling = GREEDY
    listed_options: bool = True
    cut_working: bool = True
    max_answer_tokens: int | None = None
    image_sampling: Sampling = IMAGE_SAMPLING
    first_image_id: FirstImageId = "text_head"
    image_candidates: int = 1
    fast: bool = True
    jpeg_quality: int = JPEG_QUALITY

    def __post_init__(self) -> None:
        def need(name: str, holds: bool, allowed: str) -> None:
            if not holds:
                value = getattr(self, name)
                hint = number_hint(value) if "number" in allowed else ""
                raise ValueError(f"{name} is {value!r}; it must be {allowed}{hint}")

        def one_of(name: str, allowed: Sequence[str]) -> None:
            need(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")

        need("model", isinstance(self.model, str) and bool(self.model), "the path of a model folder")
        one_of("dtype", DTYPE_NAMES)
        size = self.batch_size
        need("batch_size", size == "auto" or (_is_int(size) and size >= 1), "auto, or a whole number, 1 or more")
        need("seed", _is_int(self.seed), "a whole number")
        one_of("route", get_args(Route))
        threshold = self.route_threshold
        need("route_threshold", _is_number(threshold) and 0 <= threshold <= 1, "a number from 0 to 1")
        for name in ("route_by_form", "fallback", "fast", "listed_options", "cut_working"):
            need(name, isinstance(getattr(self, name), bool), "true or false")
        for name in ("text_sampling", "image_sampling"):
            need(name, isinstance(getattr(self, name), Sampling), "a Sampling")
        limit = self.max_answer_tokens
        need("max_answer_tokens", limit is None or (_is_int(limit) and limit >= 1), "null, or a whole number from 1 on")
        one_of("first_image_id", get_args(FirstImageId))
        need("image_candidates", _is_int(self.image_candidates) and self.image_candidates >= 1, "a whole number from 1")
        quality = self.jpeg_quality
        need("jpeg_quality", _is_int(quality) and 1 <= quality <= 100, "a whole number from 1 to 100")

    @classmethod
    def from_dict(cls, values: Any, source: str = "settings") -> Settings:
        """Settings of a parsed YAML file; what it leaves out has its default. Raises ValueError with `source` in it."""
        try:
            values = dict(_known(values, "the settings", cls))
            for name in ("text_sampling", "image_sampling"):
                if name in values:
                    values[name] = _sampling(name, values[name])
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error


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


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _known(values: Any, name: str, kind: type) -> Mapping[str, Any]:
    allowed = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {values!r}; it must be keys and values, with the keys {', '.join(allowed)}")
    for key in values:
        if key not in allowed:
            raise ValueError(f"{name}: key {key!r} is unknown; allowed are {', '.join(allowed)}")
    return values


def _sampling(name: str, values: Any) -> Sampling:
    for key, value in _known(values, name, Sampling).items():
        if not (_is_int(value) if key == "top_k" else _is_number(value)):
            kind = "a whole number" if key == "top_k" else "a number"
            raise ValueError(f"{name}: {key} is {value!r}; it must be {kind}{number_hint(value)}")
    try:
        return Sampling(**values)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
