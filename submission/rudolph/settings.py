"""How to answer: the settings of `config.yaml`, checked; without torch, which takes a second to import."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from .faults import faults, number_hint, unknown_key
from .images import JPEG_QUALITY, Fit

#: `auto`: the model decides. `both`: text and image for every input without an image, as published.
Route = Literal["auto", "both"]
FirstImageId = Literal["text_head", "image_head"]
INT8 = "int8"  # weights alone
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "int8"]
DTYPE_NAMES = get_args(DtypeName)
_KEYS_AND_VALUES = "keys and values, with the keys"


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How to draw an id. `top_k` 0 keeps every id, 1 is greedy; `top_p` 1 keeps every id."""

    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must be 0 (keep all) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1]")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0 (top_k 1 is greedy)")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest id is taken always."""
        return self.top_k == 1


#: The published settings for images and for answers, and arg-max decoding.
IMAGE_SAMPLING = Sampling(top_k=1024, top_p=0.975, temperature=1.0)
TEXT_SAMPLING = Sampling(top_k=32, top_p=0.8, temperature=1.0)
GREEDY = Sampling(top_k=1)


def _sampling(values: Any) -> Any:
    """A Sampling of keys and values. Raises ValueError."""
    if isinstance(values, Sampling):
        return values
    allowed = [field.name for field in fields(Sampling)]
    if not isinstance(values, Mapping):
        raise ValueError(f"it must be {_KEYS_AND_VALUES} {', '.join(allowed)}")
    for key, value in values.items():
        if key not in allowed:
            raise ValueError(unknown_key(key, allowed))
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole or (key != "top_k" and isinstance(value, float))):
            kind = "a whole number" if key == "top_k" else "a number"
            raise ValueError(f"{key} is {value!r}; it must be {kind}{number_hint(value)}")
    return Sampling(**values)


Draws = Annotated[Sampling, BeforeValidator(_sampling)]


@dataclass(frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class Settings:
    """How to answer; `config.yaml` documents each setting. Raises ValueError naming setting, value and what is allowed.

    `model` is a folder; `vqgan` one with the VQGAN, for a model folder that has none. `max_answer_tokens` None: up to
    the end of the sequence.
    """

    model: Annotated[str, Field(min_length=1, description="the path of a model folder")] = "weights/nano"
    vqgan: Annotated[str | None, Field(min_length=1, description="null, or the path of a folder")] = None
    dtype: DtypeName = "auto"
    batch_size: Annotated[
        Annotated[int, Field(ge=1)] | Literal["auto"], Field(description="auto, or a whole number, 1 or more")
    ] = "auto"
    seed: int = 0
    route: Route = "auto"
    route_threshold: Annotated[float, Field(ge=0, le=1, description="a number from 0 to 1")] = 0.5
    route_by_form: bool = True
    fallback: bool = True
    text_sampling: Draws = GREEDY
    listed_options: bool = True
    cut_working: bool = True
    image_fit: Fit = "crop"
    windows: Annotated[int, Field(ge=1, description="a whole number from 1")] = 1
    max_answer_tokens: Annotated[int | None, Field(ge=1, description="null, or a whole number from 1 on")] = None
    image_sampling: Draws = IMAGE_SAMPLING
    first_image_id: FirstImageId = "text_head"
    image_candidates: Annotated[int, Field(ge=1, description="a whole number from 1")] = 1
    fast: bool = True
    jpeg_quality: Annotated[int, Field(ge=1, le=100, description="a whole number from 1 to 100")] = JPEG_QUALITY

    @classmethod
    def from_dict(cls, values: Any, source: str = "settings") -> Settings:
        """Settings of a parsed YAML file; what it leaves out has its default.

        Raises ValueError with `source` and all that is wrong in it.
        """
        allowed = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping):
            raise ValueError(
                f"{source}: the settings is {values!r:.80}; it must be {_KEYS_AND_VALUES} {', '.join(allowed)}"
            )
        found = [unknown_key(key, allowed, "the settings") for key in values if key not in allowed]
        try:
            settings = cls(**{key: value for key, value in values.items() if key in allowed})
        except ValidationError as error:
            found += faults(error, cls).values()
        if found:
            raise ValueError(f"{source}: {'; '.join(found)}")
        return settings
