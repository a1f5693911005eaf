"""The runs that made nano's weights, read from runs.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseModel):
    """Settings that name no other keys and stay as they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VQGANTraining(Settings):
    """A run of the VQGAN."""

    steps: int
    batch_size: int
    plain_share: Share  # of the steps without quantisation
    learning_rate: float
    sign_share: Share  # of the pictures; the rest are scenes
    edge_weight: float  # of the L1 between horizontal and vertical differences: it keeps letters sharp
    commitment: float
    codebook_decay: float
    first_picture: int  # number of the first training picture
    seed: int


class AnyDecoderTraining(Settings):
    """A run of a decoder, whatever its examples are."""

    begins_with: tuple[str, ...]  # earlier runs, the mean of whose weights is the beginning
    shares: dict[str, int]  # examples of each task in a step of one process
    samples: int
    whole_share: Share  # of the steps keep all padding and zeros; the others are cut
    whole_from: int  # samples after which every step does
    learning_rate: float
    warmup: int  # samples
    weight_decay: float
    first_step: int  # number of the first step's examples: a later run goes on behind those of an earlier one
    seed: int


class DecoderTraining(AnyDecoderTraining):
    """A run of nano's decoder; a scene is drawn and encoded once for its three tasks."""

    late_from: int  # samples after which `late_shares` hold
    late_shares: dict[str, int]
    easy_until: int  # samples up to which most scenes are single shapes (`scenes.EASY_KINDS`)
    late_kinds: tuple[tuple[str, float], ...]  # of the scenes after them
    named_share: Share  # of the examples carry their task's tokens, as published; the others UNK
    blurred_share: Share  # of the UNK examples whose instruction stands alone have half its words replaced


class Runs(Settings):
    """All runs by name, in their order, and those of which the mean is shipped."""

    vqgan: dict[str, VQGANTraining]
    decoder: dict[str, DecoderTraining]
    shipped: tuple[str, ...]


RUNS = Runs.model_validate(yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
