"""Learning: optimizer steps of fine-tuning's own model, optimizer and precision, on random weights.

nano's first loss is compared with the CPU's; then steps of 350M and 2.7B by the published recipe: batch 2, 2 batches a
step, gradients checkpointed; 8-bit Adam where bitsandbytes is, and LoRA.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback

from benchmark.gpu.card import is_cuda, limits, wait
from benchmark.gpu.fast import TINY, random_model
from benchmark.gpu.report import Report
from benchmark.measure import NANO
from rudolph import RudolphConfig, RudolphModel, Tokenizer
from rudolph.config import SIZES
from rudolph.memory import free_memory, is_out_of_memory
from training.dataset import DEFAULT_WEIGHTS, TrainingRow, TrainingRows
from training.finetune.config import FineTuning, Stage, TaskSettings
from training.finetune.model import prepare_model
from training.finetune.trainer import RudolphTrainer, training_arguments

BATCH, ACCUMULATION, STEPS = 2, 2, 4
LOSS_TOLERANCE = 1e-3
GOAL_BYTES, GOAL_ARITHMETIC = 80e9, 0.45
TEXT = "Сколько ёлок на картинке? «Две», отвечает ёж. " * 20


def run(report: Report, device: str, small: bool) -> None:
    """The loss first, then the sizes, 2.7B before 350M."""
    report.figure("limits", limits(device, small))
    report.figure("bitsandbytes", importlib.util.find_spec("bitsandbytes") is not None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        losses = [
            _train(_nano(), where, folder, 1, Stage(tasks=_tasks(), batch_size=4, precision="float32"))["losses"][0]
            for where in ("cpu", device)
        ]
        off = abs(losses[0] - losses[1])
        report.check("nano: the first loss", off < LOSS_TOLERANCE, f"{losses[1]:.5f}, off by {off:.1e} of the CPU's")
        for size in ("2.7B", "350M"):
            for lora in (0, 8):
                _measure(report, size, lora, device, folder, small)


def _nano() -> RudolphModel:
    model: Any = RudolphModel.from_pretrained(NANO, dtype=torch.float32)
    return model


def _tasks() -> dict[str, TaskSettings]:
    weights = {name: DEFAULT_WEIGHTS[name] for name in ("TextQA", "MathQA", "VisualQA")}
    return {name: TaskSettings(lt=lt, img=img, rt=rt) for name, (lt, img, rt) in weights.items()}


def _measure(report: Report, size: str, lora: int, device: str, folder: Path, small: bool) -> None:
    config = RudolphConfig(**(TINY if small else SIZES[size]))
    stage = Stage(
        tasks=_tasks(), batch_size=BATCH, accumulation=ACCUMULATION, gradient_checkpointing=True, lora_rank=lora,
        precision="bfloat16",
    )  # fmt: skip
    name = f"{size}{'/lora' if lora else '/full'}"
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats()
    try:
        found = _train(random_model(config, device, torch.float32), device, folder, STEPS, stage)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        found = {}
    gc.collect()
    free_memory()
    if not found:
        report.note(f"{name}: does not fit into this card's memory")
        return
    tokens = BATCH * ACCUMULATION * config.total_seq_length
    parameters = config.num_layers * 12 * config.hidden_size**2
    seconds = statistics.median(found.pop("seconds")[1:])
    # Forward 2, backward 4 and, with checkpointing, the forward again 2 operations a parameter and token. LoRA needs no
    # gradient of the weights.
    share = (8 - 2 * bool(lora)) * parameters * tokens / seconds / report.found["figures"]["limits"]["flops"]
    peak = torch.cuda.max_memory_allocated() if is_cuda(device) else None
    report.figure(name, found | {"step_s": seconds, "tokens_a_second": tokens / seconds, "of_arithmetic": share,
                                 "peak_bytes": peak})  # fmt: skip
    print(f"  {name}: {seconds:.2f} s a step, {tokens / seconds:.0f} tokens a second, {share:.2f} of the arithmetic, "
          f"{(peak or 0) / 1e9:.1f} GB", flush=True)  # fmt: skip
    if is_cuda(device) and size == "2.7B" and not lora:
        assert peak is not None
        report.goal("fine-tuning of 2.7B, GB", peak / 1e9, GOAL_BYTES / 1e9, at_most=True)
        report.goal("fine-tuning of 2.7B, share of the arithmetic", share, GOAL_ARITHMETIC, at_most=False)


class _Clock(TrainerCallback):
    def __init__(self, trainer: RudolphTrainer, device: str) -> None:
        self.trainer, self.device = trainer, device
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        wait(self.device)
        self.seconds.append(time.perf_counter() - self.start)
        self.losses.append(self.trainer.step_losses()[0])


def _train(model: RudolphModel, device: str, folder: Path, steps: int, stage: Stage) -> dict[str, Any]:
    """Seconds and losses of the steps, by fine-tuning's trainer, without checkpoints."""
    torch.manual_seed(0)
    run = FineTuning(
        stages=(stage,), output=folder, codes=folder / "codes", device="auto" if is_cuda(device) else "cpu"
    )
    arguments = training_arguments(run, stage)
    arguments = dataclasses.replace(arguments, save_strategy="no", max_steps=steps, use_cpu=not is_cuda(device))
    rows = [TrainingRow(name, TEXT[number:], TEXT[: 40 + number], None) for number in range(8) for name in stage.tasks]
    length = stage.batch_size * stage.accumulation * steps
    dataset = TrainingRows(
        rows, {}, model.config, _Ids(model.config), {name: (t.lt, t.img, t.rt) for name, t in stage.tasks.items()},
        {name: t.task_weight for name, t in stage.tasks.items()}, token_share=stage.task_token_share, seed=0,
        length=length,
    )  # fmt: skip
    model.config.embedding_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # devices draw differently
    trainer = RudolphTrainer(prepare_model(model, stage), stage, arguments, dataset)
    clock = _Clock(trainer, device)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(clock)
    trainer.train()
    return {"seconds": clock.seconds, "losses": clock.losses, "optimizer": type(trainer.optimizer).__name__}


class _Ids(Tokenizer):
    """nano's tokenizer, for models with more ids."""

    def __init__(self, config: RudolphConfig) -> None:
        known = Tokenizer.from_file(NANO / "bpe.model")
        super().__init__(known._bpe, known.path)
        self.vocab_size = config.bpe_vocab_size
