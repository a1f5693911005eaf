"""Fine-tuning and pre-training of RUDOLPH on data in the challenge's training format, with transformers' `Trainer`.

    OUTPUT/<stage>/checkpoint-N/   to go on from; the same command does
    OUTPUT/<stage>/model/          what the stage has learned, a folder as weights/nano is
    OUTPUT/loss.csv, emission.csv, encoded_emission.csv, energy.csv, validation.csv, tensorboard/
    OUTPUT/submission/             a submission with the model and emission.csv, to be packed
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import importlib.util
import io
import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import yaml
from accelerate import PartialState
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from contract import IMAGE_FOLDER, PREDICTIONS_NAME, show
from rudolph import VQGAN, RudolphModel, Tokenizer
from rudolph.answer import Question, Rudolph
from rudolph.images import save_jpeg
from rudolph.settings import Settings, number_hint
from training.carbon import EMISSION, ENCODED, TrainingCarbon, check_country, cpu_seconds
from training.data_format import FOLDERS, DataError, Sample, read_samples, split_files, write_evaluation_data
from training.dataset import DEFAULT_WEIGHTS, MODE_SOURCES, Draws, ImageCodes, TrainingRows, make_row
from training.finetune import published
from training.processes import locked

log = logging.getLogger(__name__)

SUBMISSION = Path(__file__).resolve().parents[2]
REPOSITORY = SUBMISSION.parent
LOSS, VALIDATION, MODEL, COMPLETE = "loss.csv", "validation.csv", "model", "complete"
LOSS_COLUMNS = ("step", "epoch", "stage", "loss", "lt", "img", "rt", "learning_rate", "seconds")
VALIDATION_COLUMNS = ("step", "epoch", "stage", "task", "score")
FREEZE_GROUPS = ("embeddings", "norms", "attention", "feed_forward", "other")
LORA_MODULES = ["query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"]
ENOUGH_EXAMPLES = 100  # of a task, to validate on
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
#: Of the submission's folder, not part of what is exported.
NOT_EXPORTED = ("training", "benchmark", "weights", "output", "finetune.py", "__pycache__", EMISSION, ENCODED)


# --- settings ---


@dataclass(frozen=True)
class Task:
    """What a task counts, and where its files are if not where `training.convert` puts them."""

    lt: float
    img: float
    rt: float
    task_weight: float = 0.5
    dataset_path: str | None = None  # the folder, in `data`
    train_input: str | None = None
    train_output: str | None = None
    val_input: str | None = None
    val_output: str | None = None


@dataclass(frozen=True)
class Stage:
    """Settings of one stage; configs/demo.yaml documents them. Raises ValueError naming setting and what is allowed."""

    tasks: Mapping[str, Task]
    name: str = "finetune"
    model: str | None = "weights/nano"
    data: str = "training/sample_data"
    freeze: tuple[str, ...] = ()
    epochs: int = 2
    batch_size: int = 2
    accumulation: int = 1
    epoch_size: int | None = None
    learning_rate: float = 2e-5
    final_div_factor: float = 500.0
    warmup_share: float = 0.3
    weight_decay: float = 0.0
    clip: float = 1.0
    optimizer: str = "auto"
    precision: str = "auto"
    gradient_checkpointing: bool = False
    task_token_share: float = 0.75
    checkpoint_every: int = 500
    checkpoints_kept: int = 2
    lora_rank: int = 0
    validation_examples: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        def need(name: str, holds: bool, allowed: str) -> None:
            if not holds:
                value = getattr(self, name)
                hint = number_hint(value) if "number" in allowed else ""
                raise ValueError(f"{name} is {show(value)}; it must be {allowed}{hint}")

        need("name", isinstance(self.name, str) and re.fullmatch(r"[\w-]{1,50}", self.name) is not None, "a plain name")
        for name in ("model", "data"):
            need(name, isinstance(getattr(self, name), str) and bool(getattr(self, name)), "the path of a folder")
        need("freeze", set(self.freeze) <= set(FREEZE_GROUPS), f"a list of {', '.join(FREEZE_GROUPS)}")
        need("freeze", set(self.freeze) != set(FREEZE_GROUPS), "fewer than all groups: nothing would be trained")
        for name in ("epochs", "batch_size", "accumulation", "checkpoint_every", "checkpoints_kept"):
            need(name, _is_int(getattr(self, name)) and getattr(self, name) >= 1, "a whole number, 1 or more")
        need("epoch_size", self.epoch_size is None or (_is_int(self.epoch_size) and self.epoch_size >= 1),
             "null, or a whole number from 1 on")  # fmt: skip
        for name in ("learning_rate", "clip"):
            need(name, _is_number(getattr(self, name)) and getattr(self, name) > 0, "a number above 0")
        factor, share = self.final_div_factor, self.task_token_share
        need("final_div_factor", _is_number(factor) and factor >= 1, "a number, 1 or more")
        need("warmup_share", _is_number(self.warmup_share) and 0 < self.warmup_share < 1, "a number between 0 and 1")
        need("weight_decay", _is_number(self.weight_decay) and self.weight_decay >= 0, "a number, 0 or more")
        need("optimizer", self.optimizer in ("auto", "adam", "adam8bit"), "one of auto, adam, adam8bit")
        need("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        need("gradient_checkpointing", isinstance(self.gradient_checkpointing, bool), "true or false")
        need("task_token_share", _is_number(share) and 0 <= share <= 1, "a number from 0 to 1")
        for name in ("lora_rank", "validation_examples"):
            need(name, _is_int(getattr(self, name)) and getattr(self, name) >= 0, "a whole number, 0 or more")
        need("seed", _is_int(self.seed), "a whole number")
        if self.lora_rank and self.freeze:
            raise ValueError("freeze and lora_rank are both given; LoRA freezes everything but itself")


@dataclass(frozen=True)
class FineTuning:
    """A whole run: its stages one after the other, each from the model of the one before.

    `config`: what the exported config.yaml has otherwise than this one's. Validation answers by these and, for what
    they leave out, by the defaults of `Settings`, as submission/config.yaml may draw each image many times.
    """

    stages: tuple[Stage, ...]
    output: Path
    codes: Path
    country: str
    device: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path, output: Path | None = None) -> FineTuning:
        """Settings of a YAML file; paths in it count from submission/. Raises ValueError with the file in it, OSError.

        `output`, which counts from the working directory, goes before the file's.

        A key of the file holds for all of `stages`, whose own keys go before; without `stages` the file is one.
        A file of the published training is translated, and logged is what of it has no counterpart.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            if published.is_published(values):
                translation = published.translate(values, Path.cwd())
                values = translation.values
                for note in translation.notes:
                    log.warning("%s: %s", path, note)
            shared = _known(values, "the file", [f.name for f in fields(Stage)] + ["stages", *_RUN_KEYS])
            written = str(output.resolve()) if output is not None else shared.get("output")
            if not isinstance(written, str) or not written:
                raise ValueError(f"output is {show(written)}; it must be the path of a folder")
            given = shared.get("stages", [{}])
            if not isinstance(given, list) or not given:
                raise ValueError(f"stages is {show(given)}; it must be a list of settings")
            common = {key: value for key, value in shared.items() if key not in ("stages", *_RUN_KEYS)}
            stages: list[Stage] = []
            for number, own in enumerate(given):
                own = dict(_known(own, f"stages[{number}]", [f.name for f in fields(Stage)]))
                if number:
                    own.setdefault("model", f"{written}/{stages[-1].name}/{MODEL}")
                stages.append(_stage(common | own))
            if len({stage.name for stage in stages}) < len(stages):
                raise ValueError("two stages have the same name")
            if (SUBMISSION / written).resolve().is_relative_to(SUBMISSION):
                raise ValueError(f"output is {show(written)}; it must not lie in submission/, which is copied to it")
            device = shared.get("device", "auto")
            if device not in ("auto", "cpu"):
                raise ValueError(f"device is {show(device)}; it must be auto or cpu")
            country = shared.get("country", "RU")
            check_country(country)
            codes = shared.get("codes") or f"{written}/codes"
            config = shared.get("config") or {}
            _known(config, "config", [f.name for f in fields(Settings) if f.name != "model"])
            Settings.from_dict(config, "config")
            return cls(
                tuple(stages), (SUBMISSION / written).resolve(), (SUBMISSION / codes).resolve(), country, device, config
            )  # fmt: skip
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: is not YAML in UTF-8: {' '.join(str(error).split())}") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


_RUN_KEYS = ("output", "codes", "country", "device", "config")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or isinstance(value, float)


def _known(values: Any, name: str, allowed: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ValueError(f"{name} is {show(values)}; it must be keys and values")
    for key in values:
        if key not in allowed:
            raise ValueError(f"{name}: key {show(key)} is unknown; allowed are {', '.join(allowed)}")
    return values


def _stage(values: Mapping[str, Any]) -> Stage:
    tasks = _known(values.get("tasks"), "tasks", list(DEFAULT_WEIGHTS))
    chosen = {name: _task(name, given) for name, given in tasks.items() if given is not False}
    if not chosen:
        raise ValueError(f"tasks are all off; allowed are {', '.join(DEFAULT_WEIGHTS)}")
    freeze = values.get("freeze") or []
    if not isinstance(freeze, list):
        raise ValueError(f"freeze is {show(freeze)}; it must be a list of {', '.join(FREEZE_GROUPS)}")
    return Stage(**dict(values) | {"tasks": chosen, "freeze": tuple(freeze)})


def _task(name: str, given: Any) -> Task:
    values = dict(_known({} if given in (None, True) else given, f"tasks: {name}", [f.name for f in fields(Task)]))
    for key, default in zip(("lt", "img", "rt"), DEFAULT_WEIGHTS[name], strict=True):
        values.setdefault(key, default)
    for key, value in values.items():
        if key in ("task_weight", "lt", "img", "rt"):
            if not _is_number(value) or value < 0:
                raise ValueError(
                    f"tasks: {name}: {key} is {show(value)}; it must be a number, 0 or more{number_hint(value)}"
                )
            values[key] = float(value)
        elif not isinstance(value, str):
            raise ValueError(f"tasks: {name}: {key} is {show(value)}; it must be a path")
    return Task(**values)


# --- data ---


def read_task(data: Path, name: str, task: Task, split: str) -> list[Sample]:
    """The examples of a task or of a mode of pre-training. Raises DataError where there are none to train on."""
    source = MODE_SOURCES.get(name, name)
    folder = data / (task.dataset_path or FOLDERS[source])
    files = [folder / path.name for path in split_files(data, source, split)]
    for i, kind in enumerate(("input", "output")):
        named = getattr(task, f"{split}_{kind}")
        files[i] = folder / named if named else files[i]
    if split == "val" and not any(file.exists() for file in files):
        return []
    samples = read_samples(source, files[0], files[1], folder)
    if not samples:
        raise DataError(f"{files[0]}: has no examples; allowed: at least one of {name}, or the task off")
    return samples


# --- the model in training ---


class WeightedLoss(nn.Module):
    """The model as the trainer calls it: loss weights differ by example, task weights by task."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, weights: Tensor, task_weight: Tensor) -> dict[str, Tensor]:
        """ids [B, L], weights [B, 3], task_weight [B] -> `loss` (to minimise) and the means `lt`, `img`, `rt`."""
        result: dict[str, Tensor] = {}
        for value in task_weight.unique():  # one, unless tasks weigh differently
            rows = task_weight == value
            losses = self.model.loss(ids[rows], *weights[rows].T)  # type: ignore[operator]
            share = rows.float().mean()
            parts = {"loss": losses.total * value, "lt": losses.lt, "img": losses.img, "rt": losses.rt}
            for key, part in parts.items():
                result[key] = result.get(key, 0) + part * share
        return result


def freeze_group(parameter: str) -> str:
    """The group of `FREEZE_GROUPS` that a parameter of RudolphModel is in, by its name."""
    if "embeddings" in parameter:
        return "embeddings"
    if "layernorm" in parameter or parameter.startswith("to_logits.0."):
        return "norms"
    if ".attention." in parameter:
        return "attention"
    return "feed_forward" if ".mlp." in parameter else "other"


def prepare_model(model: RudolphModel, stage: Stage) -> nn.Module:
    """Freezes, checkpoints gradients or adds LoRA, as the stage wants; returns what is trained."""
    if stage.gradient_checkpointing:
        # transformers 5.17 knows the older name alone, and a GPU's machine may have its own release.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if stage.lora_rank:
        lora = LoraConfig(r=stage.lora_rank, lora_alpha=2 * stage.lora_rank, target_modules=LORA_MODULES)
        return WeightedLoss(get_peft_model(model, lora))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = freeze_group(name) not in stage.freeze
    return WeightedLoss(model)


class RudolphTrainer(Trainer):
    """`Trainer` with the published optimizer and schedule, `Draws` as its order, and checkpoints that are whole."""

    def __init__(self, model: nn.Module, stage: Stage, arguments: TrainingArguments, rows: TrainingRows) -> None:
        self.stage = stage
        self.parts: list[Tensor] = []  # loss, lt, img, rt of each batch of the step, [4]
        super().__init__(model=model, args=arguments, train_dataset=rows)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        self.parts.append(torch.stack([outputs[key].detach().float() for key in ("loss", "lt", "img", "rt")]))
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def step_losses(self) -> list[float]:
        """Means of loss, lt, img and rt since the last call, over all processes, which must all call it."""
        mean = torch.stack(self.parts).mean(0)
        self.parts.clear()
        return (_sum_over_processes(mean) / self.args.world_size).tolist()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset
        assert isinstance(rows, TrainingRows)
        return Draws(rows.rows, rows.length, rows.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        stage = self.stage
        assert self.model is not None
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer_class(stage.optimizer, self.args.device)(
            trained, lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        stage = self.stage
        assert self.optimizer is not None
        # With a rise of one step exactly, PyTorch divides by 0.
        rise = stage.warmup_share * (1 + 1e-9 * (stage.warmup_share * num_training_steps == 1))
        schedule: Any = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, stage.learning_rate, total_steps=num_training_steps,
            pct_start=rise, final_div_factor=stage.final_div_factor,
        )  # fmt: skip
        self.lr_scheduler, self._created_lr_scheduler = schedule, True
        return schedule

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """A kill can leave half a checkpoint: one counts that has the file `complete`, which comes last."""
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # each process has written its random state
        if not self.args.should_save:
            return
        folder = Path(self.args.output_dir or "")
        (folder / f"checkpoint-{self.state.global_step}" / COMPLETE).touch()
        for _, old in _checkpoints(folder)[: -self.stage.checkpoints_kept]:
            (old / COMPLETE).unlink()
            shutil.rmtree(old)


def _optimizer_class(name: str, device: torch.device) -> Any:
    """8-bit Adam where bitsandbytes and a GPU are, unless the stage says otherwise."""
    there = importlib.util.find_spec("bitsandbytes") is not None
    if name == "adam8bit" and not there:
        raise ValueError("optimizer is 'adam8bit', but bitsandbytes is not installed; allowed here: auto, adam")
    if name == "adam8bit" or (name == "auto" and there and device.type == "cuda"):
        bitsandbytes: Any = importlib.import_module("bitsandbytes")
        return bitsandbytes.optim.AdamW8bit
    return torch.optim.AdamW  # with weight decay 0, Adam


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and folders of the complete checkpoints, in rising order."""
    found = [(int(path.parent.name.split("-")[1]), path.parent) for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(found)


def total_cpu_seconds(device: torch.device) -> float:
    """CPU time so far of all processes, which must all call it."""
    return float(_sum_over_processes(torch.tensor(cpu_seconds(), dtype=torch.float64, device=device)))


def _sum_over_processes(values: Tensor) -> Tensor:
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


# --- what is written down ---


class Record(TrainerCallback):
    """Writes loss.csv by step, CO2 by epoch and validation.csv. All processes call it, the first one writes."""

    def __init__(
        self, run: FineTuning, stage: Stage, carbon: TrainingCarbon | None, validation: Validation | None
    ) -> None:
        self.folder, self.stage, self.carbon, self.validation = run.output, stage, carbon, validation
        self.trainer: RudolphTrainer | None = None
        self.started = time.monotonic()
        self.losses: list[float] = []  # of the steps of this epoch

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.trainer is not None
        self.learning_rate = self.trainer._get_learning_rate()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.trainer is not None
        losses = self.trainer.step_losses()
        per_epoch = state.max_steps // self.stage.epochs
        if state.global_step % per_epoch == 0:
            control.should_save = False  # but after `on_epoch_end`: what that writes must not be lost between the two
        if not math.isfinite(losses[0]):
            raise ValueError(
                f"{self.stage.name}: the loss of step {state.global_step} is {losses[0]}; "
                "a lower learning_rate or another precision may help; the checkpoints are as they were"
            )
        if not state.is_world_process_zero:
            return
        self.losses.append(losses[0])
        row = [state.global_step, (state.global_step - 1) // per_epoch + 1, self.stage.name, *losses]
        seconds = f"{time.monotonic() - self.started:.2f}"
        with open(self.folder / LOSS, "a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([*row, self.learning_rate, seconds])
        if state.global_step % args.logging_steps == 0 or state.global_step == state.max_steps:
            log.info(
                "%s: step %d of %d, loss %.4f (lt %.3f, img %.3f, rt %.3f)",
                self.stage.name, state.global_step, state.max_steps, *losses,
            )  # fmt: skip

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        seconds = total_cpu_seconds(args.device)
        if self.carbon is not None and state.global_step % (state.max_steps // self.stage.epochs):
            self.carbon.read(seconds)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        epoch = round(state.epoch or 0)
        if self.validation is not None:
            self.validation(state.global_step, epoch)
        seconds = total_cpu_seconds(args.device)
        if self.carbon is not None:
            self.carbon.end_epoch(seconds, sum(self.losses) / max(1, len(self.losses)))
            self.losses.clear()
        control.should_save = True


class Validation:
    """Scores of the model on examples of `val`, by the evaluator's own metrics through its command line."""

    def __init__(self, run: FineTuning, stage: Stage, model: RudolphModel, samples: Sequence[Sample]) -> None:
        self.run, self.stage, self.model, self.samples = run, stage, model, samples
        self.folder = run.output / stage.name / "validation"

    def __call__(self, step: int, epoch: int) -> None:
        """Adds rows to validation.csv. A fault of the evaluator is a warning: training goes on."""
        shutil.rmtree(self.folder, ignore_errors=True)
        write_evaluation_data(self.samples, self.folder / "data")
        source = SUBMISSION / (self.stage.model or "")
        rudolph = Rudolph(
            self.model, VQGAN.from_pretrained(source / "vqgan").to(self.model.device),
            Tokenizer.from_file(source / "bpe.model"),
        )  # fmt: skip
        questions = [
            Question(f"{FOLDERS[sample.task]}-{sample.id}", sample.texts, sample.images) for sample in self.samples
        ]
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            answers = rudolph.answer(questions, Settings.from_dict({**self.run.config, "seed": self.stage.seed}))
        output = self.folder / "output"
        predictions: dict[str, list[dict[str, str]]] = {}
        for number, made in enumerate(answers):
            predictions[made.id] = [] if made.text is None else [{"type": "text", "content": made.text}]
            if made.image is not None:
                save_jpeg(made.image, output / f"{IMAGE_FOLDER}/{number}.jpg")
                predictions[made.id].append({"type": "image", "content": f"{IMAGE_FOLDER}/{number}.jpg"})
        output.mkdir(exist_ok=True)
        (output / PREDICTIONS_NAME).write_text(json.dumps(predictions, ensure_ascii=False), encoding="utf-8")
        scores = self.folder.resolve() / "scores.json"
        command = [sys.executable, "-m", "evaluator", "score", str(output.resolve())]
        command += ["--data", str((self.folder / "data").resolve()), "--json", str(scores), "--no-report"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if not scores.exists():
            log.warning("validation: the evaluator failed with %d: %s", done.returncode, done.stderr.strip()[-500:])
            return
        rows = []
        for task in json.loads(scores.read_text(encoding="utf-8"))["tasks"].values():
            if task["score"] is None:
                log.warning("validation: %s has no score: %s", task["name"], task["error"])
            else:
                rows.append([step, epoch, self.stage.name, task["name"], task["score"]])
        _rewrite(self.run.output / VALIDATION, VALIDATION_COLUMNS, self.stage.name, step - 1, rows)
        log.info("validation: %s", ", ".join(f"{name} {score:.4f}" for *_, name, score in rows))


def _rewrite(path: Path, columns: Sequence[str], stage: str, last_step: int, new: Sequence[Sequence[Any]] = ()) -> None:
    """Keeps of a CSV the whole rows of other stages, and those of `stage` up to a step; adds new ones."""
    kept = []
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [row for row in csv.reader(line for line in lines if line.endswith("\n"))][1:]
        kept = [row for row in rows if len(row) == len(columns) and (row[2] != stage or int(row[0]) <= last_step)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *kept, *new])
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    os.replace(temporary, path)


# --- running ---


def finetune(run: FineTuning) -> Path:
    """Runs what is left of the stages and exports a submission; returns its folder.

    Under `torchrun` the processes share the work. Raises DataError and ValueError for data or settings that cannot be
    used or an output that another training writes to, OSError where the output cannot be written.
    """
    run.output.mkdir(parents=True, exist_ok=True)
    with locked(run.output):
        return _finetune(run)


def _finetune(run: FineTuning) -> Path:
    for number, stage in enumerate(run.stages):
        if (run.output / stage.name / MODEL).exists():
            # Done is done on any number of processes, and wherever the stage before has its model by now.
            ignored = {"processes", "model"} if number else {"processes"}
            _check_same_settings(run.output / stage.name, stage, world=0, write=False, ignored=ignored)
            log.info("%s: is done, its model is in %s", stage.name, run.output / stage.name / MODEL)
            continue
        train_stage(run, stage, is_final=number == len(run.stages) - 1)
    model = run.output / run.stages[-1].name / MODEL
    target = run.output / "submission"
    state = PartialState()
    if state.is_main_process:
        export_submission(model, run.output, target, run.config)
    # A process that ends while others still talk to it can abort in gloo's threads.
    state.wait_for_everyone()
    state.destroy_process_group()
    return target


def training_arguments(run: FineTuning, stage: Stage) -> TrainingArguments:
    """The stage's settings in the trainer's words."""
    cuda = run.device == "auto" and torch.cuda.is_available()
    precision = stage.precision
    if precision == "auto":
        precision = "float32" if not cuda else "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float16" and not cuda:
        raise ValueError("precision is 'float16'; without a GPU it must be auto, float32 or bfloat16")
    arguments = TrainingArguments(
        output_dir=str(run.output / stage.name), use_cpu=not cuda, ddp_backend=_backend(cuda),
        per_device_train_batch_size=stage.batch_size, gradient_accumulation_steps=stage.accumulation,
        num_train_epochs=stage.epochs, max_grad_norm=stage.clip, bf16=precision == "bfloat16",
        fp16=precision == "float16", save_strategy="steps", save_steps=stage.checkpoint_every, logging_steps=10,
        seed=stage.seed, report_to="none", remove_unused_columns=False, ddp_find_unused_parameters=False,
        logging_nan_inf_filter=False, disable_tqdm=not sys.stderr.isatty(), dataloader_pin_memory=cuda,
    )  # fmt: skip
    if arguments.n_gpu > 1:
        log.warning("one of %d GPUs is used; torchrun --nproc-per-node %d uses all", arguments.n_gpu, arguments.n_gpu)
        arguments._n_gpu = 1  # not torch's DataParallel
    return arguments


def _backend(cuda: bool) -> str | None:
    """Given without `torchrun`, a backend makes accelerate look for processes that are not there."""
    return None if cuda or "WORLD_SIZE" not in os.environ else "gloo"


def train_stage(run: FineTuning, stage: Stage, is_final: bool) -> None:
    """Trains one stage, going on from its last checkpoint, and leaves its model in OUTPUT/<stage>/model."""
    folder = run.output / stage.name
    source = SUBMISSION / (stage.model or "")
    arguments = training_arguments(run, stage)
    first, world = arguments.process_index == 0, arguments.world_size
    _check_same_settings(folder, stage, world, write=first)
    checkpoints = _checkpoints(folder)
    done = checkpoints[-1][0] if checkpoints else 0
    if first:
        for half in set(folder.glob("checkpoint-*")) - {path for _, path in checkpoints}:
            shutil.rmtree(half)
    # Encoding pictures and validating cost energy too, so tracking begins here.
    carbon = TrainingCarbon(run.output, stage.name, is_final, run.country) if first else None

    samples = {name: read_task(SUBMISSION / stage.data, name, task, "train") for name, task in stage.tasks.items()}
    rows = [make_row(name, sample) for name, listed in samples.items() for sample in listed]
    torch.manual_seed(stage.seed)
    model = RudolphModel.from_pretrained(source, dtype=torch.float32)
    codes = ImageCodes(run.codes, source / "vqgan", model.config.image_tokens_per_dim)
    global_batch = stage.batch_size * stage.accumulation * world
    length = -(-(stage.epoch_size or len(rows)) // global_batch) * global_batch  # whole steps alone
    steps_per_epoch = length // global_batch
    begun = total_cpu_seconds(arguments.device)
    if carbon is not None:
        carbon.start(done // steps_per_epoch + 1, begun)
    with contextlib.ExitStack() as stack:
        if carbon is not None:
            stack.callback(carbon.stop)
        pictures = list(dict.fromkeys(row.image for row in rows if row.image is not None))
        codes.encode(pictures[arguments.process_index :: world], arguments.device)
        PartialState().wait_for_everyone()
        dataset = TrainingRows(
            rows, codes.read(pictures), model.config, Tokenizer.from_file(source / "bpe.model"),
            {name: (task.lt, task.img, task.rt) for name, task in stage.tasks.items()},
            {name: task.task_weight for name, task in stage.tasks.items()},
            token_share=stage.task_token_share, seed=stage.seed, length=length,
        )  # fmt: skip
        log.info("%s: %d rows of %s, %d steps an epoch", stage.name, len(rows), ", ".join(samples), steps_per_epoch)
        trainer = RudolphTrainer(prepare_model(model, stage), stage, arguments, dataset)
        record = Record(run, stage, carbon, _validation(run, stage, model) if first else None)
        record.trainer = trainer
        trainer.remove_callback(PrinterCallback)  # `record` says the same
        trainer.add_callback(record)
        if first:
            _rewrite(run.output / LOSS, LOSS_COLUMNS, stage.name, done)
            _rewrite(run.output / VALIDATION, VALIDATION_COLUMNS, stage.name, done)
            trainer.add_callback(_tensorboard(run.output / "tensorboard" / stage.name))
        if done:
            log.info("%s: goes on after step %d", stage.name, done)
        trainer.train(resume_from_checkpoint=str(checkpoints[-1][1]) if checkpoints else None)
        if first:
            export_model(model, trainer.model, source, folder / MODEL)  # type: ignore[arg-type]
    PartialState().wait_for_everyone()


def _check_same_settings(
    folder: Path, stage: Stage, world: int, write: bool, ignored: Collection[str] = ()
) -> None:  # fmt: skip
    """A training goes on with the settings that it began with, or its curve would be of neither; and one that is done
    is not taken for one with others.
    """
    path = folder / "settings.json"
    settings = json.loads(json.dumps(dataclasses.asdict(stage) | {"processes": world}))
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = {key for key in settings | before if settings.get(key) != before.get(key)}
        changed = sorted(different.difference(ignored))
        if changed and (_checkpoints(folder) or (folder / MODEL).exists()):
            raise ValueError(
                f"{folder}: was begun with other settings ({', '.join(changed)}); "
                "take them back, name another `output`, or remove the folder"
            )
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)


def _tensorboard(folder: Path) -> TensorBoardCallback:
    from torch.utils.tensorboard import SummaryWriter

    return TensorBoardCallback(SummaryWriter(str(folder)))


def _validation(run: FineTuning, stage: Stage, model: RudolphModel) -> Validation | None:
    if not stage.validation_examples:
        return None
    if not (REPOSITORY / "evaluator").is_dir():
        log.warning("no validation: there is no evaluator in %s", REPOSITORY)
        return None
    samples: list[Sample] = []
    for name, task in stage.tasks.items():
        if name in FOLDERS:
            answered = [s for s in read_task(SUBMISSION / stage.data, name, task, "val") if s.is_answered]
            samples += answered[: stage.validation_examples]
    if samples:
        warn_of_chance(stage.validation_examples, samples)
    else:
        log.warning("no validation: the tasks have no examples in val")
        return None
    return Validation(run, stage, model, samples)


def warn_of_chance(asked: int, samples: Sequence[Sample]) -> None:
    """A score in 0..1 of n examples is off by up to 1 / sqrt(n) in 95 of 100 cases."""
    numbers = Counter(sample.task for sample in samples)
    task, few = min(numbers.items(), key=lambda item: item[1])
    if few < ENOUGH_EXAMPLES:
        log.warning(
            "validation_examples is %d, and %s has %d: chance alone moves its score by up to %.2f; from %d on by %.2f",
            asked, task, few, min(1.0, few**-0.5), ENOUGH_EXAMPLES, ENOUGH_EXAMPLES**-0.5,
        )  # fmt: skip
    if numbers["ImageGeneration"] == 1:
        log.warning("validation_examples is %d: ImageGeneration has 1 and no score; FID needs 2", asked)


# --- export ---


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
