"""What every source has in common: what it is asked for, and the parts in which it hands over its rows."""

from __future__ import annotations

import itertools
import logging
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.convert.counter import RowCounter
from training.convert.reading import clean, read_json
from training.convert.writer import Row
from training.data_format import DataError
from training.worlds import seeded

logger = logging.getLogger(__name__)

_PART_NAMES = {"val": ("val", "valid", "validation", "dev"), "test": ("test",)}


@dataclass(frozen=True)
class ConvertSettings:
    """What the command line asks of a source."""

    inputs: list[Path]
    report: RowCounter
    images: Path | None = None  # the folder of images, where they are not beside the annotations
    translations: Path | None = None
    seed: int = 0
    crop: bool = False  # of text recognition: an example for each box instead of each image
    per_image: int = 1  # of Visual Genome: questions an image; 0 for all

    def rng(self, *key: object) -> random.Random:
        """Random numbers that depend on the seed, the source and `key` alone."""
        return seeded(self.seed, self.report.source, *key)


@dataclass(frozen=True)
class Part:
    """Rows of a source's own part: 'train', or 'val' where the source says what validates."""

    name: str
    rows: Iterator[Row]


@dataclass(frozen=True)
class Source:
    """A data set: its tasks, what it is in a line, and its parts, which are read when their rows are asked for."""

    tasks: tuple[str, ...]
    help: str
    parts: Callable[[ConvertSettings], list[Part]]


def part_of(path: Path) -> str:
    """The part that a file's name tells: 'val' (also validation, dev), 'test' or 'train'; `dev_v1.0.json` is 'val'."""
    words = re.findall("[a-z]+", path.name.lower())
    for part, names in _PART_NAMES.items():
        if any(name in words for name in names):
            return part
    return "train"


def find_files(inputs: list[Path], patterns: tuple[str, ...]) -> list[Path]:
    """The files that `inputs` name: files as they are, and of folders all below that match one of `patterns`.

    Raises DataError where an input does not exist, or a folder has no such file.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_file():
            found.append(path)
            continue
        if not path.is_dir():
            raise DataError(f"{path}: does not exist")
        matching = sorted({file for pattern in patterns for file in path.rglob(pattern) if file.is_file()})
        if not matching:
            raise DataError(f"{path}: has no file {' or '.join(patterns)}")
        found += matching
    return list(dict.fromkeys(found))


def make_parts(files: list[Path], rows: Callable[[Path], Iterator[Row]]) -> list[Part]:
    """The rows of files in parts that the files' names tell. What is named test is left out: its answers are not given.

    Raises DataError where nothing is left.
    """
    parts = [
        Part(part, itertools.chain.from_iterable(map(rows, [file for file in files if part_of(file) == part])))
        for part in ("val", "train")
        if any(part_of(file) == part for file in files)
    ]
    for file in files:
        if part_of(file) == "test":
            logger.info("%s: not read: test sets come without answers", file)
    if not parts:
        raise DataError(f"{files[0]}: is a test set; allowed: files for training and validation")
    return parts


class Translations:
    """Texts by their originals, from a JSON object; without a file, every text stays as it is."""

    def __init__(self, path: Path | None) -> None:
        self._texts: dict[str, str] | None = None
        if path is not None:
            document = read_json(path)
            if not isinstance(document, dict):
                raise DataError(f"{path}: must be a JSON object of texts by their originals")
            self._texts = {clean(key): clean(value) for key, value in document.items()}

    def of(self, text: Any) -> str:
        """The text to use; empty where `text` is none, or where it has no translation and there should be one."""
        original = clean(text)
        return original if self._texts is None else self._texts.get(original, "")

    @property
    def allowed(self) -> str:
        """What a text of the source must be, for messages."""
        return "a text" if self._texts is None else "a text with a translation in --translations"
