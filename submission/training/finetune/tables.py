"""The tables of a training: loss.csv by step, validation.csv by epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rudolph.files import replacing

LOSS, VALIDATION = "loss.csv", "validation.csv"
LOSS_COLUMNS = ("step", "epoch", "stage", "loss", "lt", "img", "rt", "learning_rate", "seconds")
VALIDATION_COLUMNS = ("step", "epoch", "stage", "task", "score")


def rewrite(path: Path, columns: Sequence[str], stage: str, last_step: int, new: Sequence[Sequence[Any]] = ()) -> None:
    """Keeps of a CSV the whole rows of other stages, and those of `stage` up to a step; adds new ones."""
    kept = []
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        rows = [row for row in csv.reader(line for line in lines if line.endswith("\n"))][1:]
        kept = [row for row in rows if len(row) == len(columns) and (row[2] != stage or int(row[0]) <= last_step)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *kept, *new])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
