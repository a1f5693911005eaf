"""The runs that make the models of FusionBrain Challenge 1.0, read from runs.yaml or a file like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from training.nano.runs import AnyDecoderTraining, Settings


class Runs(Settings):
    """Sizes of the models, and the trainings of decoders by name."""

    model: dict[str, Any]  # of `rudolph.RudolphConfig`
    bpe_examples: int
    decoder: dict[str, AnyDecoderTraining]

    def behind(self, name: str) -> tuple[str, ...]:
        """A run with all that it began with, the first ones first."""
        earlier = (part for begin in self.decoder[name].begins_with for part in self.behind(begin))
        return (*dict.fromkeys(earlier), name)


DEFAULT = Path(__file__).with_suffix(".yaml")


def read_runs(path: Path = DEFAULT) -> Runs:
    """The runs of a YAML file. Raises ValueError, naming each key that is wrong, and OSError."""
    return Runs.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
