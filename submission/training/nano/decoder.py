"""Trains a small RUDOLPH on the worlds: the published loss, weights and task tokens, with balanced tasks."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor
from torch.func import functional_call
from torch.nn import Linear
from torch.utils.data import DataLoader, IterableDataset

from rudolph import VQGAN, RudolphConfig, RudolphModel, Tokenizer
from rudolph.answer import join_texts
from rudolph.config import PAD
from rudolph.images import preprocess
from rudolph.masks import attention_masks
from rudolph.modeling import Losses
from rudolph.options import listed_options
from training.nano.checkpoint import Checkpoint, fast_autocast
from training.nano.muon import Muon
from training.nano.runs import AnyDecoderTraining, DecoderTraining
from training.tasks import LOSS_WEIGHTS, TASK_TOKENS, UNKNOWN_TOKENS
from training.worlds import Example, make_example, scene_example, scenes, seeded, signs

log = logging.getLogger(__name__)

GROUPS = (("TextQA",), ("MathQA",), ("ImageGeneration",), ("ImageCaptioning", "VisualQA", "TRitW"))
# Read letter by letter: a word that training never showed is spelt of letters that it did.
SPELT_TASKS = ("TRitW",)
TASKS_OF_THEIR_OWN = ("TextQA", "MathQA", "TRitW")
SCENE_TASKS = ("ImageGeneration", "ImageCaptioning", "VisualQA")
PADDING_STEP = 8  # a cut left text keeps 1 to 8 ids of padding
# Standard deviations of the embeddings at the beginning, and of the code's rows in the head.
EMBEDDING_SCALE, CODE_LOGIT_SCALE = 0.5, 0.03
BRANCH_SCALE = 0.2  # gains of the sandwich's inner norms at the beginning


class Layout(NamedTuple):
    """Lengths of the three parts: `left` ids, `side` × `side` codes, `right` ids (0: none)."""

    left: int
    side: int
    right: int


class Group(NamedTuple):
    """Rows of one layout: ids [B, left + side² + right] int64, loss weights [B, 3]."""

    name: str
    layout: Layout
    ids: Tensor
    weights: Tensor


def left_and_right(
    config: RudolphConfig, tokenizer: Tokenizer, example: Example, rng: random.Random, training: DecoderTraining
) -> tuple[Tensor, Tensor]:
    """Ids of the left text [l] and the right text [r]; no right text, all padding, where a picture is wanted."""
    named = rng.random() < training.named_share
    left_token, right_token = TASK_TOKENS[example.task] if named else UNKNOWN_TOKENS
    texts = [entry for entry in example.inputs if isinstance(entry, str)]
    if not named and stands_alone(example.task, texts) and rng.random() < training.blurred_share:
        texts[0] = blur(texts[0], rng)
    question = join_texts(texts)
    left = tokenizer.encode_text(question, config.l_text_seq_length, config.special_id(left_token))
    if not example.answers:
        return left, torch.zeros(config.r_text_seq_length, dtype=torch.long)
    answer = f"{example.working} {example.answers[0]}"
    right = tokenizer.encode_text(
        answer, config.r_text_seq_length, config.special_id(right_token), example.task in SPELT_TASKS
    )
    return left, right


def stands_alone(task: str, texts: list[str]) -> bool:
    """Whether the first text is surely an instruction and nothing else."""
    if task == "VisualQA":
        return len(texts) > 1 + bool(listed_options(texts))
    return task in ("ImageCaptioning", "TRitW") or (task == "ImageGeneration" and len(texts) > 1)


def blur(instruction: str, rng: random.Random) -> str:
    """The instruction with about half its words replaced by any: the others, and the picture, say what is wanted."""
    return " ".join(rng.choice(signs.dictionary()) if rng.random() < 0.5 else word for word in instruction.split())


class Row(NamedTuple):
    """An example as ids: left text [l], codes [m²], right text [r], and its loss weights [3]."""

    left: Tensor
    codes: Tensor
    right: Tensor
    weights: Tensor


class AnySteps(IterableDataset[list[Group]]):
    """Endless steps of one process among `world`, each a list of groups; `rows` says of what.

    They begin at `first_step`, after `seen` samples. Rounds of the data are numbered; a process takes every `world`-th,
    so no two see the same examples.
    """

    #: Tasks whose rows share a layout, so that a group is cut as short as its longest texts allow.
    groups: ClassVar[tuple[tuple[str, ...], ...]]
    loss_weights: ClassVar[Mapping[str, Sequence[float]]] = LOSS_WEIGHTS

    def __init__(
        self, config: RudolphConfig, tokenizer: Path, vqgan: Path, training: Any,
        first_step: int, seen: int, rank: int, world: int,
    ) -> None:  # fmt: skip
        self.config, self.tokenizer, self.vqgan, self.training = config, tokenizer, vqgan, training
        self.first_step, self.seen, self.rank, self.world = first_step, seen, rank, world

    def rows(
        self, rng: random.Random, number: int, seen: int, tokenizer: Tokenizer, vqgan: VQGAN
    ) -> dict[str, list[Row]]:
        """The rows of round `number` by task, when `seen` samples have been seen."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[list[Group]]:
        torch.set_num_threads(1)
        tokenizer, vqgan = Tokenizer.from_file(self.tokenizer), VQGAN.from_pretrained(self.vqgan)
        training = self.training
        seen = self.seen
        for step in itertools.count(self.first_step):
            number = (training.first_step + step) * self.world + self.rank
            rng = seeded("train", "decoder", training.seed, number)
            rows = self.rows(rng, number, seen, tokenizer, vqgan)
            whole = rng.random() < (1.0 if seen >= training.whole_from else training.whole_share)
            yield [
                self._group("+".join(tasks), [row for task in tasks for row in rows.get(task, [])], whole)
                for tasks in self.groups
                if any(task in rows for task in tasks)
            ]
            seen += sum(map(len, rows.values())) * self.world

    def collected(
        self, examples: Iterable[tuple[str, tuple[Tensor, Tensor], Tensor | None]]
    ) -> dict[str, list[Row]]:
        """Rows by task, of examples as (task, ids of both texts, codes [m²] or None without a picture)."""
        no_picture = torch.zeros(self.config.image_seq_length, dtype=torch.long)  # code 0 everywhere, as published
        rows: dict[str, list[Row]] = {}
        for task, (left, right), codes in examples:
            weights = torch.tensor(self.loss_weights[task])
            rows.setdefault(task, []).append(Row(left, no_picture if codes is None else codes, right, weights))
        return rows

    def _group(self, name: str, rows: list[Row], whole: bool) -> Group:
        config = self.config
        left, codes, right, weights = (torch.stack(part) for part in zip(*rows, strict=True))
        layout = Layout(
            config.l_text_seq_length, config.image_tokens_per_dim,
            int((right != PAD).sum(1).max()),  # padding at the end changes nothing
        )  # fmt: skip
        if not whole:
            longest = int((left != PAD).sum(1).max())
            layout = layout._replace(
                left=min(layout.left, (longest // PADDING_STEP + 1) * PADDING_STEP),
                side=layout.side if codes.any() else 2,  # of zeros alone the smallest square will do
            )
        ids = torch.cat((left[:, : layout.left], codes[:, : layout.side**2], right[:, : layout.right]), dim=1)
        return Group(name, layout, ids, weights)


class Steps(AnySteps):
    """Those of nano: all six tasks of FusionBrain Challenge 2.0."""

    groups = GROUPS

    def rows(
        self, rng: random.Random, number: int, seen: int, tokenizer: Tokenizer, vqgan: VQGAN
    ) -> dict[str, list[Row]]:
        """As the settings of the run say for so many samples seen."""
        config, training = self.config, self.training
        shares = training.late_shares if seen >= training.late_from else training.shares
        kinds = training.late_kinds if seen >= training.easy_until else scenes.EASY_KINDS
        size = 8 * config.image_tokens_per_dim
        examples: list[tuple[Example, int | None]] = []  # with the number of its picture
        pictures: list[Image.Image] = []
        for task in TASKS_OF_THEIR_OWN:
            for i in range(shares[task]):
                example = make_example(task, number * shares[task] + i, "train", size)
                examples.append((example, len(pictures) if task == "TRitW" else None))
                pictures += [entry for entry in example.inputs if isinstance(entry, Image.Image)]
        for i in range(max(shares[task] for task in SCENE_TASKS)):
            scene = scenes.draw_scene(rng, size, kinds)
            for task in SCENE_TASKS:
                if i < shares[task]:
                    examples.append((scene_example(task, rng, scene, "train"), len(pictures)))
            pictures.append(scene.image)
        codes = vqgan.encode(torch.stack([preprocess(picture, size) for picture in pictures]))
        return self.collected(
            (
                example.task, left_and_right(config, tokenizer, example, rng, training),
                None if picture is None else codes[picture],
            )
            for example, picture in examples
        )  # fmt: skip


class ShortLoss:
    """The loss of a model on groups of any layout within its own.

    A RUDOLPH with shorter parts is the same network with fewer rows in its tables: padding ids and positions are
    numbered from the beginning of each part. So a cut group costs what its own length does, and what it teaches holds
    for the whole layout but for the padding and the zeros in between.
    """

    def __init__(self, model: RudolphModel) -> None:
        self.model = model
        self.short: dict[Layout, tuple[RudolphModel, Tensor]] = {}

    def __call__(self, group: Group) -> Losses:
        short, masks = self._short(group.layout)
        tensors = self._tables(short.config) | {"transformer.masks": masks}
        return functional_call(
            _Loss(short), {f"model.{name}": t for name, t in tensors.items()}, (group.ids, group.weights)
        )

    def _short(self, layout: Layout) -> tuple[RudolphModel, Tensor]:
        if layout not in self.short:
            config = copy.deepcopy(self.model.config)
            config.vocab_size += layout.left - config.l_text_seq_length
            config.l_text_seq_length, config.image_tokens_per_dim = layout.left, layout.side
            config.r_text_seq_length = layout.right or config.r_text_seq_length
            with torch.device("meta"):
                model = RudolphModel(config)
            self.short[layout] = model, attention_masks(config)
        return self.short[layout]

    def _tables(self, short: RudolphConfig) -> dict[str, Tensor]:
        text, rows = short.text_vocab_size, self.model.config.text_vocab_size
        kept = {
            "text_embeddings.weight": text,
            "l_text_pos_embeddings.weight": short.l_text_seq_length + 1,
            "r_text_pos_embeddings.weight": short.r_text_seq_length + 1,
            "image_row_embeddings.weight": short.image_tokens_per_dim,
            "image_col_embeddings.weight": short.image_tokens_per_dim,
        }
        tables = {name: p[: kept[name]] if name in kept else p for name, p in self.model.named_parameters()}
        for name in ("to_logits.1.weight", "to_logits.1.bias"):
            tables[name] = torch.cat((tables[name][:text], tables[name][rows:]))
        return tables


class _Loss(torch.nn.Module):
    """`model.loss` as a `forward`, which `functional_call` wants."""

    def __init__(self, model: RudolphModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, weights: Tensor) -> Losses:
        lt, img, rt = weights.T
        return self.model.loss(ids, lt, img, rt)


def train_decoder(
    folder: Path, config: RudolphConfig, tokenizer: Path, vqgan: Path, training: AnyDecoderTraining,
    first: Sequence[Path] = (), steps: type[AnySteps] = Steps, saved: Callable[[], None] | None = None,
) -> RudolphModel:  # fmt: skip
    """Trains on the groups of `steps`, going on from `folder`/checkpoint.pt, and saves the model in `folder`.

    saved: called after each checkpoint. It begins with the mean of the weights in the folders `first`, or from nothing.
    Under `torchrun` the processes share the work; each uses the threads that OMP_NUM_THREADS gives it.
    """
    distributed = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if distributed else (0, 1)
    torch.manual_seed(training.seed)
    if first:
        model = load_mean(first).train()
        config = model.config
    else:
        model = RudolphModel(config).train()
        begin(model, VQGAN.from_pretrained(vqgan))
    matrices = [p for p in model.transformer.parameters() if p.dim() == 2]
    inside = set(map(id, matrices))
    optimizers: dict[str, torch.optim.Optimizer] = {
        "muon": Muon(matrices, lr=training.learning_rate, weight_decay=training.weight_decay),
        "adamw": torch.optim.AdamW(
            [p for p in model.parameters() if id(p) not in inside],
            lr=training.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True,
        ),
    }  # fmt: skip
    seen = Seen()
    checkpoint = Checkpoint(folder, {"model": model, "seen": seen, **optimizers}, rank == 0, saved)
    step = checkpoint.restore()
    loss_of = ShortLoss(model)
    half_precision = fast_autocast()
    figures = RunningMeans()
    data = steps(config, tokenizer, vqgan, training, step, seen.samples, rank, world)
    for groups in DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4):
        for optimizer in optimizers.values():
            for parameters in optimizer.param_groups:
                parameters["lr"] = training.learning_rate * schedule(seen.samples, training)
            optimizer.zero_grad()
        rows = sum(len(group.ids) for group in groups)
        for group in groups:
            with half_precision:
                losses = loss_of(group)
            (losses.total * (len(group.ids) / rows)).backward()
            figures.add(group.name, losses.rt if group.layout.right else losses.img)
        if distributed:
            average_gradients(model, world)
        figures.add("norm", torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        for optimizer in optimizers.values():
            optimizer.step()
        seen.samples += rows * world
        step += 1
        left = math.ceil((training.samples - seen.samples) / (rows * world))
        checkpoint.report(step, step + max(0, left), **figures.values, samples=seen.samples)
        if left <= 0:
            break
    model.eval()
    if rank == 0:
        model.save_pretrained(folder)
    if distributed:
        dist.barrier()  # the next run reads what is saved
    return model


@torch.no_grad()
def load_mean(folders: Sequence[Path]) -> RudolphModel:
    """A float32 model whose weights are the mean of those in `folders`.

    A model soup (Wortsman et al., 2022, arXiv:2203.05482): runs that went on from the same weights keep in their mean
    most of what each has learnt.
    """
    model, *others = (RudolphModel.from_pretrained(folder, dtype=torch.float32) for folder in folders)
    for i, other in enumerate(others, start=2):
        rest = dict(other.named_parameters())
        for name, parameter in model.named_parameters():
            parameter.lerp_(rest[name], 1 / i)
    return model


@torch.no_grad()
def begin(model: RudolphModel, vqgan: VQGAN) -> None:
    """Sets what the published initialisation leaves too small for a short training.

    The sandwich's inner norms add outputs of unit size onto embeddings of 0.02, in which the tokens are lost: so
    embeddings begin larger and the gains of these norms smaller. The tables of the image codes begin as a random
    rotation of the codebook: codes that look alike begin alike.
    """
    for name, parameter in model.named_parameters():
        if "embeddings" in name:
            parameter.normal_(0.0, EMBEDDING_SCALE)
        elif "_addition_layernorm.weight" in name:
            parameter.fill_(BRANCH_SCALE)
    codebook = vqgan.quantize.embed.weight
    codebook = (codebook - codebook.mean(0)) / codebook.std()
    width, codes = model.config.hidden_size, len(codebook)
    rotation = torch.linalg.qr(torch.randn(width, codebook.shape[1])).Q.T * (width / codebook.shape[1]) ** 0.5
    first, _ = model.config.vocabulary_rows("codes")
    model.image_embeddings.weight[:codes] = EMBEDDING_SCALE * codebook @ rotation
    cast(Linear, model.to_logits[1]).weight[first : first + codes] = CODE_LOGIT_SCALE * codebook @ rotation


def schedule(samples: int, training: AnyDecoderTraining) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine down to 1 %."""
    if samples < training.warmup:
        return (samples + 1) / training.warmup
    done = (samples - training.warmup) / (training.samples - training.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def average_gradients(model: torch.nn.Module, world: int) -> None:
    """One all-reduce of all gradients; DistributedDataParallel does not wrap `loss`, only `forward`."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class Seen:
    """How many samples were seen so far, kept with the checkpoint."""

    samples = 0

    def state_dict(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"samples": self.samples}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """From a checkpoint."""
        self.samples = state["samples"]


class RunningMeans:
    """Means of figures by name over about the last hundred values."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Moves the mean of `name` towards a value."""
        self.values[name] = self.values.get(name, float(value)) * 0.99 + 0.01 * float(value)
