"""Fine-tuning and pre-training of RUDOLPH on data in the challenge's training format, with transformers' `Trainer`.

    OUTPUT/<stage>/checkpoint-N/   to go on from; the same command does
    OUTPUT/<stage>/model/          what the stage has learned, a folder as weights/nano is
    OUTPUT/loss.csv, emission.csv, encoded_emission.csv, energy.csv, validation.csv, tensorboard/
    OUTPUT/submission/             a submission with the model and emission.csv, to be packed
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from rudolph import RudolphModel, Tokenizer
from rudolph.files import replacing
from training.carbon import TrainingCarbon, cpu_seconds
from training.dataset import Draws, ImageCodes, TrainingRows, make_row
from training.finetune.config import MODEL, SUBMISSION, FineTuning, Stage
from training.finetune.data import read_task
from training.finetune.export import export_model, export_submission
from training.finetune.model import prepare_model
from training.finetune.tables import LOSS, LOSS_COLUMNS, VALIDATION, VALIDATION_COLUMNS, rewrite
from training.finetune.validation import Validation, make_validation
from training.processes import locked

log = logging.getLogger(__name__)

COMPLETE = "complete"  # the file that a whole checkpoint has


class RudolphTrainer(Trainer):
    """`Trainer` with the published optimizer and schedule, `Draws` as its order, and checkpoints that are whole."""

    def __init__(self, model: nn.Module, stage: Stage, arguments: TrainingArguments, rows: TrainingRows) -> None:
        self.stage = stage
        self.parts: list[Tensor] = []  # loss, lt, img, rt of each batch of the step, [4]
        super().__init__(model=model, args=arguments, train_dataset=rows)

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The batch's loss, a scalar; keeps it and its parts for `step_losses`."""
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
        """Adam over what is trained, with 8-bit states where the stage says so."""
        stage = self.stage
        assert self.model is not None
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = _optimizer_class(stage.optimizer, self.args.device)(
            trained, lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """OneCycle over all steps, as published."""
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


class CurveWriter(TrainerCallback):
    """Writes loss.csv by step, CO2 by epoch and validation.csv. All processes call it, the first one writes."""

    def __init__(
        self, run: FineTuning, stage: Stage, carbon: TrainingCarbon | None, validation: Validation | None
    ) -> None:
        self.folder, self.stage, self.carbon, self.validation = run.output, stage, carbon, validation
        self.trainer: RudolphTrainer | None = None
        self.started = time.monotonic()
        self.losses: list[float] = []  # of the steps of this epoch

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Notes the step's learning rate."""
        assert self.trainer is not None
        self.learning_rate = self.trainer._get_learning_rate()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Adds the step's row to loss.csv. Raises ValueError for a loss that is no number."""
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
        """Reads the energy so far, but at an epoch's end, which does so itself."""
        seconds = total_cpu_seconds(args.device)
        if self.carbon is not None and state.global_step % (state.max_steps // self.stage.epochs):
            self.carbon.read(seconds)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Validates, ends the epoch's account of CO2, and asks for a checkpoint."""
        epoch = round(state.epoch or 0)
        if self.validation is not None:
            self.validation(state.global_step, epoch)
        seconds = total_cpu_seconds(args.device)
        if self.carbon is not None:
            self.carbon.end_epoch(seconds, sum(self.losses) / max(1, len(self.losses)))
            self.losses.clear()
        control.should_save = True


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
    source = SUBMISSION / (stage.model)
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
        record = CurveWriter(run, stage, carbon, make_validation(run, stage, model) if first else None)
        record.trainer = trainer
        trainer.remove_callback(PrinterCallback)  # `record` says the same
        trainer.add_callback(record)
        if first:
            rewrite(run.output / LOSS, LOSS_COLUMNS, stage.name, done)
            rewrite(run.output / VALIDATION, VALIDATION_COLUMNS, stage.name, done)
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
    settings = stage.model_dump(mode="json") | {"processes": world}
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
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(settings, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _tensorboard(folder: Path) -> TensorBoardCallback:
    from torch.utils.tensorboard import SummaryWriter

    return TensorBoardCallback(SummaryWriter(str(folder)))
