"""Trains a small RUDOLPH on the worlds: the published loss, weights and task tokens, with balanced tasks."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from rudolph import VQGAN, RudolphConfig, RudolphModel, Tokenizer
from rudolph.answer import join_texts
from rudolph.images import preprocess
from training.checkpoint import Checkpoint
from training.worlds import Example, make_example, scene_example, scenes, seeded

log = logging.getLogger(__name__)

# Loss weights (lt, img, rt) and the tokens of each task, as published.
LOSS_WEIGHTS = {
    "TextQA": (1.0, 0.01, 7.0),
    "MathQA": (1.0, 0.01, 7.0),
    "ImageGeneration": (1.0, 7.0, 0.01),
    "ImageCaptioning": (1.0, 1.0, 7.0),
    "VisualQA": (1.0, 1.0, 7.0),
    "TRitW": (1.0, 1.0, 7.0),
}
TASK_TOKENS = {
    "TextQA": ("LT_TQA", "RT_TQA"),
    "MathQA": ("LT_MQA", "RT_MQA"),
    "ImageGeneration": ("LT_GEN", "RT_UNK"),
    "ImageCaptioning": ("LT_CAP", "RT_CAP"),
    "VisualQA": ("LT_VQA", "RT_VQA"),
    "TRitW": ("LT_REC", "RT_REC"),
}
UNKNOWN_TOKENS = ("LT_UNK", "RT_UNK")
TASK_TOKEN_SHARE = 0.75
ENCODED_AT_ONCE = 16  # pictures
FIRST_ROUND_WITH_PICTURES = 10**6  # far from the rounds of texts alone, so that no text is seen twice
TEXT_TASKS = ("TextQA", "MathQA")
SCENE_TASKS = ("ImageGeneration", "ImageCaptioning", "VisualQA")


@dataclass(frozen=True)
class DecoderTraining:
    """What decides the shipped weights besides the code."""

    samples: int = 80_000
    batch_size: int = 16  # in each process
    # Examples of each task in a round of the data; a scene is drawn and encoded once for its three tasks.
    shares: dict[str, int] = field(
        default_factory=lambda: {
            "TextQA": 16, "MathQA": 24, "ImageGeneration": 16, "ImageCaptioning": 16, "VisualQA": 16, "TRitW": 20,
        }
    )  # fmt: skip
    text_first: int = 28_800  # samples of text-only tasks before all six: they need no VQGAN
    learning_rate: float = 1.2e-3
    warmup: int = 3000  # samples
    weight_decay: float = 0.05
    seed: int = 0


def left_and_right(
    config: RudolphConfig, tokenizer: Tokenizer, example: Example, rng: random.Random
) -> tuple[Tensor, Tensor]:
    """Ids of the left text [l] and the right text [r]; no right text, all padding, where a picture is wanted."""
    named = rng.random() < TASK_TOKEN_SHARE
    left_token, right_token = TASK_TOKENS[example.task] if named else UNKNOWN_TOKENS
    question = join_texts([entry for entry in example.inputs if isinstance(entry, str)])
    left = tokenizer.encode_text(question, config.l_text_seq_length, config.special_id(left_token))
    if not example.answers:
        return left, torch.zeros(config.r_text_seq_length, dtype=torch.long)
    return left, tokenizer.encode_text(example.answers[0], config.r_text_seq_length, config.special_id(right_token))


class Batches(IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches (ids [B, l + m² + r] int64, loss weights [B, 3]) of one process among `world`.

    They begin at `first_step`. Rounds are numbered; a process takes every `world`-th round, so no two see the same
    examples.
    """

    def __init__(
        self, config: RudolphConfig, tokenizer: Path, vqgan: Path | None, training: DecoderTraining,
        first_step: int, rank: int, world: int,
    ) -> None:  # fmt: skip
        self.config, self.tokenizer, self.vqgan, self.training = config, tokenizer, vqgan, training
        self.first_step, self.rank, self.world = first_step, rank, world

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        torch.set_num_threads(1)
        tokenizer = Tokenizer.from_file(self.tokenizer)
        vqgan = VQGAN.from_pretrained(self.vqgan) if self.vqgan else None
        tasks = [task for task in self.training.shares if vqgan is not None or task in TEXT_TASKS]
        per_round = sum(self.training.shares[task] for task in tasks)
        skipped_rounds, skipped_rows = divmod(self.first_step * self.training.batch_size, per_round)
        number = skipped_rounds * self.world + self.rank + (FIRST_ROUND_WITH_PICTURES if vqgan is not None else 0)
        rows = self._round(number, tokenizer, vqgan)[skipped_rows:]
        while True:
            number += self.world
            rows += self._round(number, tokenizer, vqgan)
            while len(rows) >= self.training.batch_size:
                batch, rows = rows[: self.training.batch_size], rows[self.training.batch_size :]
                yield torch.stack([ids for ids, _ in batch]), torch.stack([weights for _, weights in batch])

    def _round(self, number: int, tokenizer: Tokenizer, vqgan: VQGAN | None) -> list[tuple[Tensor, Tensor]]:
        config, shares = self.config, self.training.shares
        size = 8 * config.image_tokens_per_dim
        rng = seeded("train", "decoder", self.training.seed, number)
        examples: list[tuple[Example, int | None]] = []  # with the number of its picture
        pictures: list[Image.Image] = []
        for task in (*TEXT_TASKS, *(("TRitW",) if vqgan is not None else ())):
            for i in range(shares[task]):
                example = make_example(task, number * shares[task] + i, "train", size)
                examples.append((example, len(pictures) if task == "TRitW" else None))
                pictures += [entry for entry in example.inputs if isinstance(entry, Image.Image)]
        if vqgan is not None:
            for i in range(max(shares[task] for task in SCENE_TASKS)):
                scene = scenes.draw_scene(rng, size)
                for task in SCENE_TASKS:
                    if i < shares[task]:
                        examples.append((scene_example(task, rng, scene, "train"), len(pictures)))
                pictures.append(scene.image)
        no_picture = torch.zeros(config.image_seq_length, dtype=torch.long)  # code 0 everywhere, as published
        codes: list[Tensor] = []
        if vqgan is not None:
            for start in range(0, len(pictures), ENCODED_AT_ONCE):
                batch = [preprocess(picture, size) for picture in pictures[start : start + ENCODED_AT_ONCE]]
                codes += vqgan.encode(torch.stack(batch))
        rows = []
        for example, picture in examples:
            left, right = left_and_right(config, tokenizer, example, rng)
            ids = torch.cat((left, no_picture if picture is None else codes[picture], right))
            rows.append((ids, torch.tensor(LOSS_WEIGHTS[example.task])))
        rng.shuffle(rows)
        return rows


def train_decoder(
    folder: Path, config: RudolphConfig, tokenizer: Path, vqgan: Path | None, training: DecoderTraining, until: int
) -> RudolphModel:
    """Trains up to `until` samples, going on from `folder`/checkpoint.pt, and saves the model in `folder`.

    Without a VQGAN only the text tasks are seen. Under `torchrun` the processes share the work; each uses the threads
    that OMP_NUM_THREADS gives it.
    """
    distributed = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    torch.manual_seed(training.seed)
    model = RudolphModel(config).train()
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": training.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=training.learning_rate, betas=(0.9, 0.98),
    )  # fmt: skip
    seen = Counter()
    checkpoint = Checkpoint(folder, {"model": model, "optimizer": optimizer, "seen": seen}, save=rank == 0)
    step = checkpoint.restore()
    loss_of = torch.compile(model.loss)
    data = Batches(config, tokenizer, vqgan, training, step, rank, world)
    for ids, weights in DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=8):
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * schedule(seen.samples, training)
        with torch.autocast("cpu", torch.bfloat16):
            losses = loss_of(ids, *weights.T)
        optimizer.zero_grad()
        losses.total.backward()
        if distributed:
            average_gradients(model, world)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen.samples += len(ids) * world
        step += 1
        left = math.ceil((until - seen.samples) / (len(ids) * world))
        checkpoint.report(
            step, step + max(0, left), lt=losses.lt, img=losses.img, rt=losses.rt, norm=norm, samples=seen.samples
        )
        if left <= 0:
            break
    model.eval()
    if rank == 0:
        model.save_pretrained(folder)
    return model


def schedule(samples: int, training: DecoderTraining) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine to 2 % of it."""
    if samples < training.warmup:
        return (samples + 1) / training.warmup
    done = min(1.0, (samples - training.warmup) / (training.samples - training.warmup))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def average_gradients(model: torch.nn.Module, world: int) -> None:
    """One all-reduce of all gradients; DistributedDataParallel does not wrap `loss`, only `forward`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class Counter:
    """How many samples were seen, kept with the checkpoint."""

    samples = 0

    def state_dict(self) -> dict[str, int]:
        return {"samples": self.samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.samples = state["samples"]
