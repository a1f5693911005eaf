"""What a training leaves: a model folder, and a submission with it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rudolph import RudolphModel
from training.carbon import EMISSION, ENCODED
from training.finetune.config import SUBMISSION
from training.finetune.model import WeightedLoss

#: Of the submission's folder, not part of what is exported.
NOT_EXPORTED = (
    "training", "benchmark", "weights", "models.json", "output", "finetune.py", "__pycache__", EMISSION, ENCODED,
)  # fmt: skip


def export_model(model: RudolphModel, trained: WeightedLoss, source: Path, target: Path) -> None:
    """Writes a model folder beside the tokenizer and VQGAN it was trained with, whole or not at all; LoRA is merged."""
    if trained.model is not model:
        model = trained.model.merge_and_unload()  # type: ignore[operator]
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    model.eval().save_pretrained(temporary)
    shutil.copyfile(source / "bpe.model", temporary / "bpe.model")
    shutil.copytree(source / "vqgan", temporary / "vqgan")
    os.replace(temporary, target)


def export_submission(model: Path, output: Path, target: Path, config: Mapping[str, Any]) -> None:
    """Writes a submission of this one's code, a model folder and the emission.csv in `output`; replaces an old one.

    Its config.yaml is this one's but for `model` and the settings of `config`.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(SUBMISSION, temporary, ignore=lambda _, names: [name for name in names if name in NOT_EXPORTED])
    shutil.copytree(model, temporary / "weights" / "finetuned")
    path = temporary / "config.yaml"
    text = path.read_text(encoding="utf-8")
    for key, value in {"model": "weights/finetuned", **config}.items():
        written = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
        line = f"{key}: {written}"
        text, found = re.subn(rf"(?m)^{key}:[ \t]*(\{{[^}}]*\}}|[^\s#]*)", line, text)  # comments stay
        text = text if found else f"{line}\n{text}"
    path.write_text(text, encoding="utf-8")
    for name in (EMISSION, ENCODED):
        if (output / name).exists():
            shutil.copyfile(output / name, temporary / name)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(temporary, target)
