"""Trains a byte-pair encoding, that of `nano` on texts of the worlds."""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import youtokentome

from rudolph.config import BOS, EOS, PAD, UNK
from rudolph.files import replacing
from training.worlds import TASKS, make_example

log = logging.getLogger(__name__)

EXAMPLES_PER_TASK = 6000
# Characters that users may type although the worlds lack them; one occurrence each gives them an id.
ALPHABET = (
    "абвгдеёжзийклмнопрстуфхцчшщъыьэюя abcdefghijklmnopqrstuvwxyz 0123456789 "
    ".,:;!?()[]{}«»„“\"'—–-+−*/×÷=<>≤≥≠%№&@#$€₽°^_~|\\…"
)


def texts() -> Iterator[str]:
    """What nano's BPE is made of: questions and answers of all tasks, fewer of signs, which are spelt."""
    for task in TASKS:
        for seed in range(EXAMPLES_PER_TASK if task != "TRitW" else EXAMPLES_PER_TASK // 20):
            example = make_example(task, seed)
            yield from (text for text in (*example.inputs, *example.answers[:1]) if isinstance(text, str))


def train_bpe(texts: Iterable[str], path: Path, vocab_size: int) -> None:
    """Writes a YouTokenToMe model of texts with `vocab_size` ids, in which every digit is an id of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as corpus:
        for text in texts:
            corpus.write(spaced_digits(text.lower()) + "\n")
        corpus.write((" ".join(ALPHABET) + "\n") * 50)
        corpus.flush()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            youtokentome.BPE.train(
                data=corpus.name, model=str(temporary), vocab_size=vocab_size, coverage=1.0, n_threads=1,
                pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS,
            )  # fmt: skip
    log.info("%s: %d ids", path, vocab_size)


def spaced_digits(text: str) -> str:
    """Digits set apart, so that no merge ever joins two of them: a sum is read digit by digit."""
    return re.sub(r"(\d)", r" \1 ", text)
