"""Settings of the published training, `fusion_train.yaml` or parts of it, in the words of `config`.

    trainer: {bs: 2, task_weights: {text_loss_weight: 0.5, ...}}     # the slides'

Paths count from the working directory, as there. What has no counterpart here is named, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import show
from training.data_format import FOLDERS

#: The tasks as `task_weights` calls them.
WEIGHT_NAMES = {
    "text": "TextQA", "math": "MathQA", "gener": "ImageGeneration", "capt": "ImageCaptioning", "vqa": "VisualQA",
    "text_recog": "TRitW",
}  # fmt: skip
PARTS = {"lt_loss_weight": "lt", "img_loss_weight": "img", "rt_loss_weight": "rt"}
FREEZE = {
    "freeze_emb": "embeddings", "freeze_ln": "norms", "freeze_attn": "attention", "freeze_ff": "feed_forward",
    "freeze_other": "other",
}  # fmt: skip
FILES = ("dataset_path", "train_input", "train_output", "val_input", "val_output")
#: Plain counterparts, by section.
TRAINER = {"bs": "batch_size"}
SCHEDULER = {"max_lr": "learning_rate"}
PL_TRAINER = {"max_epochs": "epochs", "gradient_clip_val": "clip", "accumulate_grad_batches": "accumulation"}
CHECKPOINTS = {"every_n_train_steps": "checkpoint_every", "save_top_k": "checkpoints_kept"}
DEFAULT_OUTPUT = "../build/finetune-published"
WEIGHTS = "../weights"  # where `make weights` puts models, from submission/
#: What the exported submission has otherwise than nano's, as in configs/fbc2.yaml.
CONFIG = {"dtype": "auto", "image_candidates": 1, "cut_working": False}
WHY = {
    "logger": "loss.csv and tensorboard/ are written instead",
    "gpus": "torchrun --nproc-per-node says how many",
    "strategy": "torchrun's processes train together",
    "params": "sizes are those of the model's config.json",
    "vae": "the model's folder has its own",
    "val_check_interval": "validation_examples are scored after each epoch",
}


def is_published(values: Any) -> bool:
    """Whether a file is written in the published words: ours have neither a trainer nor sections model and data."""
    if not isinstance(values, Mapping):
        return False
    return "trainer" in values or any(isinstance(values.get(name), Mapping) for name in ("model", "data"))


@dataclass
class Translation:
    """`values` for `FineTuning`, and a line for each setting that was left out or changed its meaning."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def left_out(self, name: str, key: str) -> None:
        """Notes that a setting has no counterpart."""
        self.notes.append(f"{name}.{key}: not used{f'; {WHY[key]}' if key in WHY else ''}")


def translate(values: Mapping[str, Any], root: Path) -> Translation:
    """Published settings as ours; a relative path counts from `root`. Raises ValueError, naming the place."""
    made = Translation()
    known = ("tasks", "data", "model", "trainer")
    sections = {name: _section(values.get(name), name) for name in known}
    for key in values:
        if key not in known:
            made.notes.append(f"{key}: not used")
    tasks: dict[str, dict[str, Any] | bool] = {}
    given = _only(sections["tasks"], "tasks", list(FOLDERS.values()))
    for task, folder in FOLDERS.items():
        wanted = given.get(folder, not given)  # without a list of tasks, all
        if not isinstance(wanted, bool):
            raise ValueError(f"tasks.{folder} is {show(wanted)}; it must be true or false")
        tasks[task] = {} if wanted else False
    _take_weights(made, _section(sections["trainer"].get("task_weights"), "trainer.task_weights"), tasks)
    for folder, paths in _only(sections["data"], "data", list(FOLDERS.values())).items():
        own = tasks[next(task for task, name in FOLDERS.items() if name == folder)]
        for key, path in _only(_section(paths, f"data.{folder}"), f"data.{folder}", FILES).items():
            if isinstance(own, dict):
                own[key] = str(root / _text(path, f"data.{folder}.{key}"))
    for task, settings in tasks.items():
        if given and sections["data"] and isinstance(settings, dict) and "train_input" not in settings:
            folder = FOLDERS[task]
            raise ValueError(f"data.{folder} has no train_input; it must have one, or tasks.{folder} be false")
    if not sections["data"]:
        made.notes.append("data: not given; training/sample_data is taken")
    made.values["tasks"] = tasks
    _take_model(made, sections["model"], root)
    _take_trainer(made, sections["trainer"], root)
    return made


def _take_weights(made: Translation, weights: Mapping[str, Any], tasks: dict[str, dict[str, Any] | bool]) -> None:
    totals = {f"{name}_loss_weight": task for name, task in WEIGHT_NAMES.items()}
    for key, value in _only(weights, "trainer.task_weights", [*WEIGHT_NAMES, *totals]).items():
        task = tasks[totals.get(key) or WEIGHT_NAMES[key]]
        where = f"trainer.task_weights.{key}"
        if not isinstance(task, dict):
            continue
        if key in totals:
            task["task_weight"] = _number(value)
            continue
        for part, weight in _only(_section(value, where), where, list(PARTS)).items():
            task[PARTS[part]] = _number(weight)


def _take_model(made: Translation, model: Mapping[str, Any], root: Path) -> None:
    rudolph = _section(model.get("rudolph"), "model.rudolph")
    params = _section(model.get("params"), "model.params")
    weights = model.get("rudolph_weight")
    beside = (root / _text(weights, "model.rudolph_weight")).parent if weights is not None else None
    name = rudolph.get("name")
    if beside is not None and (beside / "config.json").is_file():
        made.values["model"] = str(beside)
    elif name is not None:
        made.values["model"] = f"{WEIGHTS}/{_text(name, 'model.rudolph.name')}"
        if weights is not None:
            made.notes.append(
                f"model.rudolph_weight: {show(weights)} lies in no model folder with a config.json; begun is with "
                f"{made.values['model']} (make weights MODEL={name}; a .ckpt becomes a folder by "
                f"training.finetune.lightning)"
            )
    elif weights is not None:
        raise ValueError(
            f"model.rudolph_weight is {show(weights)}; it must lie in a model folder with a config.json, or "
            "model.rudolph.name be given"
        )
    if "model" in made.values:
        made.values["config"] = dict(CONFIG)
    else:
        made.notes.append("model.rudolph: not given; weights/nano is taken")
    if "fp16" in rudolph:
        half = rudolph["fp16"]
        if not isinstance(half, bool):
            raise ValueError(f"model.rudolph.fp16 is {show(half)}; it must be true or false")
        made.values["precision"] = "auto" if half else "float32"
        if half:
            made.notes.append("model.rudolph.fp16: precision is auto: bfloat16 or else float16 on GPUs, else float32")
    if "device" in rudolph:
        made.values["device"] = "cpu" if str(rudolph["device"]).startswith("cpu") else "auto"
    for key in rudolph:
        if key not in ("name", "fp16", "device"):
            made.left_out("model.rudolph", key)
    frozen = _only(_section(model.get("freeze"), "model.freeze"), "model.freeze", list(FREEZE))
    for key, value in frozen.items():
        if not isinstance(value, bool):
            raise ValueError(f"model.freeze.{key} is {show(value)}; it must be true or false")
    if "freeze" in model:
        made.values["freeze"] = [FREEZE[key] for key, value in frozen.items() if value]
    if params.get("gradient_checkpointing"):
        made.values["gradient_checkpointing"] = True
    if params:
        made.left_out("model", "params")
        made.notes += _other_sizes(params, made.values.get("model"))
    for key in model:
        if key not in ("rudolph", "rudolph_weight", "freeze", "params"):
            made.left_out("model", key)


def _other_sizes(params: Mapping[str, Any], model: str | None) -> list[str]:
    """A line for each size that the model has otherwise."""
    path = Path(__file__).resolve().parents[2] / (model or "") / "config.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # `make weights` has not been here yet
        return []
    return [
        f"model.params.{key} is {show(value)}; the model has {show(stated[key])}"
        for key, value in params.items() if key in stated and stated[key] != value
    ]  # fmt: skip


def _take_trainer(made: Translation, trainer: Mapping[str, Any], root: Path) -> None:
    made.values["output"] = DEFAULT_OUTPUT
    for section, counterparts in (
        ("", TRAINER), ("scheduler", SCHEDULER), ("checkpoints", CHECKPOINTS), ("pl_trainer", PL_TRAINER),
    ):  # fmt: skip
        where = f"trainer.{section}".rstrip(".")
        for key, value in (_section(trainer.get(section), where) if section else trainer).items():
            if key in counterparts:
                made.values[counterparts[key]] = _number(value)
            elif key == "dirpath":
                made.values["output"] = str(root / _text(value, f"{where}.dirpath"))
            elif section or key not in ("task_weights", "scheduler", "checkpoints", "pl_trainer"):
                made.left_out(where, key)
    if made.values.get("checkpoints_kept") in (-1, 0):  # all of them, and none
        made.notes.append("trainer.checkpoints.save_top_k: the newest are kept, as checkpoints_kept says")
        del made.values["checkpoints_kept"]


def _section(value: Any, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is {show(value)}; it must be keys and values")
    return value


def _only(values: Mapping[str, Any], name: str, allowed: Sequence[str]) -> Mapping[str, Any]:
    """A key with a slip in it would be left out without harm to be seen: these sections have no others."""
    for key in values:
        if key not in allowed:
            raise ValueError(f"{name}: key {show(key)} is unknown; allowed are {', '.join(allowed)}")
    return values


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} is {show(value)}; it must be a text")
    return value


def _number(value: Any) -> Any:
    """The published reader takes `2e-5` for a number, YAML 1.1 for a text; anything else is judged later."""
    is_number = isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value, re.ASCII)
    return float(value) if is_number else value
