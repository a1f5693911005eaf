"""What fine-tuning reads: rows of ids with their loss weights, drawn so that every task comes equally often.

Order, task tokens and halves of texts are functions of the seed, the epoch and the position in it, so a training that
goes on after a kill sees what it would have seen.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from tqdm import tqdm

from rudolph import VQGAN, RudolphConfig, Tokenizer
from rudolph.answer import join_texts
from rudolph.files import replacing
from rudolph.images import ImageError, load_image, preprocess
from training.data_format import DataError, Sample
from training.tasks import LOSS_WEIGHTS, TASK_TOKENS, UNKNOWN_TOKENS
from training.worlds import seeded

log = logging.getLogger(__name__)

#: The modes of pre-training, and the task whose examples they are made of.
MODE_SOURCES = {"T2I": "ImageCaptioning", "I2T": "ImageCaptioning", "T2T": "TextQA"}
TOKENS = TASK_TOKENS | {"T2I": ("LT_T2I", "RT_UNK"), "I2T": ("LT_I2T", "RT_I2T"), "T2T": ("LT_T2T", "RT_UNK")}
#: (lt, img, rt). Those of T2I, the others as the tasks alike.
DEFAULT_WEIGHTS = LOSS_WEIGHTS | {"T2I": (1.0, 7.0, 1.0), "I2T": (1.0, 1.0, 7.0), "T2T": (1.0, 0.01, 7.0)}
ENCODE_BATCH = 32  # pictures


@dataclass(frozen=True)
class TrainingRow:
    """What one example teaches. `right` None: no right text; `image` None: codes that are all 0."""

    task: str
    left: str
    right: str | None
    image: Path | None


def make_row(task: str, sample: Sample) -> TrainingRow:
    """The row of a task or of a mode of pre-training. Raises DataError for a mode's example without its picture."""
    if MODE_SOURCES.get(task) == "ImageCaptioning" and not sample.images:
        raise DataError(f"{sample.task}: id {sample.id}: has no picture; {task} needs one")
    answer = sample.answers[0] if sample.answers else None
    if task == "T2I":
        return TrainingRow(task, answer or "", None, sample.images[0])
    if task == "I2T":
        return TrainingRow(task, "", answer, sample.images[0])
    if task == "T2T":  # a text and how it goes on
        words = join_texts(sample.texts).split()
        half = len(words) // 2
        return TrainingRow(task, " ".join(words[:half]), " ".join(words[half:]), None)
    image = sample.image or (sample.images[0] if sample.images else None)
    return TrainingRow(task, join_texts(sample.texts), answer, image)


class ImageCodes:
    """Codes of pictures, computed once: a file for each in `folder`, by the bytes of the picture, the VQGAN and m.

    Files are written under another name and renamed, so several processes may share the folder.
    """

    def __init__(self, folder: Path, vqgan_folder: Path, side: int) -> None:
        self.folder, self.vqgan_folder, self.side = folder, vqgan_folder, side
        digest = hashlib.sha256()
        for path in sorted(path for path in vqgan_folder.iterdir() if path.is_file()):
            digest.update(path.name.encode() + path.read_bytes())
        self.vqgan_key = digest.hexdigest()

    def path(self, image: Path) -> Path:
        """Where the codes of a picture are."""
        key = hashlib.sha256(f"{self.vqgan_key}/{self.side}/".encode() + image.read_bytes()).hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def encode(self, images: Sequence[Path], device: torch.device) -> None:
        """Computes what is not there yet. Raises DataError, naming the file, for a picture that cannot be read."""
        missing = list({path: image for image in images if self._load(path := self.path(image)) is None}.items())
        if not missing:
            return
        log.info("%d of %d pictures to encode", len(missing), len(images))
        vqgan = VQGAN.from_pretrained(self.vqgan_folder).to(device).eval()
        pixels = self.side * vqgan.config.reduction
        for start in tqdm(range(0, len(missing), ENCODE_BATCH), desc="encoding", disable=None):
            batch = missing[start : start + ENCODE_BATCH]
            try:
                pictures = torch.stack([preprocess(load_image(image), pixels) for _, image in batch])
            except ImageError as error:
                raise DataError(str(error)) from error
            for (path, _), codes in zip(batch, vqgan.encode(pictures.to(device)).cpu().numpy(), strict=True):
                content = io.BytesIO()
                np.save(content, codes.astype(np.uint16))
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary:
                    temporary.write_bytes(content.getvalue())

    def read(self, images: Sequence[Path]) -> dict[Path, np.ndarray]:
        """Codes [m²] of pictures that were encoded."""
        read = {image: self._load(self.path(image)) for image in set(images)}
        return {image: codes for image, codes in read.items() if codes is not None}

    def _load(self, path: Path) -> np.ndarray | None:
        try:
            codes = np.load(path)
        except (OSError, ValueError, EOFError):  # not there, or damaged: computed again
            return None
        return codes if codes.shape == (self.side**2,) else None


class TrainingRows(Dataset[dict[str, Tensor]]):
    """Rows of the model's whole length; the keys are those of `Draws`: epoch, position in it, number of the row.

    A row is `ids` [l + m² + r] int64, `weights` [3] (lt, img, rt) and `task_weight` [].
    """

    def __init__(
        self, rows: Sequence[TrainingRow], codes: Mapping[Path, np.ndarray], config: RudolphConfig,
        tokenizer: Tokenizer, weights: Mapping[str, tuple[float, float, float]], task_weights: Mapping[str, float], *,
        token_share: float, seed: int, length: int,
    ) -> None:  # fmt: skip
        self.rows, self.codes, self.config, self.tokenizer = rows, codes, config, tokenizer
        self.weights, self.task_weights = weights, task_weights
        self.token_share, self.seed, self.length = token_share, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, Tensor]:
        epoch, position, number = key
        row, config = self.rows[number], self.config
        named = seeded("tokens", self.seed, epoch, position).random() < self.token_share
        left_token, right_token = TOKENS[row.task] if named else UNKNOWN_TOKENS
        left = self.tokenizer.encode_text(row.left, config.l_text_seq_length, config.special_id(left_token))
        codes = torch.zeros(config.image_seq_length, dtype=torch.long)  # code 0 everywhere without one, as published
        if row.image is not None:
            codes = torch.from_numpy(self.codes[row.image].astype(np.int64))
        right = torch.zeros(config.r_text_seq_length, dtype=torch.long)
        if row.right is not None:
            right = self.tokenizer.encode_text(row.right, config.r_text_seq_length, config.special_id(right_token))
        return {
            "ids": torch.cat((left, codes, right)),
            "weights": torch.tensor(self.weights[row.task]),
            "task_weight": torch.tensor(self.task_weights[row.task]),
        }


class Draws(Sampler[tuple[int, int, int]]):
    """Keys of one epoch: of any T that follow each other from a multiple of T on, one is of each of the T tasks.

    A task's rows come in an order of the epoch's own, again from the beginning where there are too few. `length` is the
    number of draws in an epoch.
    """

    def __init__(self, rows: Sequence[TrainingRow], length: int, seed: int) -> None:
        self.by_task: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            self.by_task.setdefault(row.task, []).append(number)
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer; epochs count from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        epoch = self.epoch
        rng = seeded("order", self.seed, epoch)
        orders = {task: rng.sample(numbers, len(numbers)) for task, numbers in self.by_task.items()}
        for start in range(0, self.length, len(orders)):
            pass_, tasks = start // len(orders), rng.sample(list(orders), len(orders))
            for offset, task in enumerate(tasks[: self.length - start]):
                yield epoch, start + offset, orders[task][pass_ % len(orders[task])]
