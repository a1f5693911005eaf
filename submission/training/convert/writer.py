"""From rows of a source to a data folder: instructions, the split, images, files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any

from PIL import Image

from contract import show
from training.convert.counter import RowCounter
from training.data_format import FOLDERS, IMAGES, SPLITS, DataError, link_or_copy
from training.worlds import mathqa, seeded
from training.worlds.wording import instruct, options

logger = logging.getLogger(__name__)

#: What run.py and the evaluator both read.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
MAX_PIXELS = 4096 * 4096
MAX_BYTES = 32 * 10**6
MAX_RATIO = 100  # longer to shorter side
#: Of images that are made smaller or cut, which may be larger and of more formats.
SHRINK_FORMATS = (*FORMATS, "GIF", "TIFF")
SHRINK_MAX_PIXELS = 50_000_000
JPEG_QUALITY = 90  # of what is cut, made smaller or drawn
_MAX_PATH = 900  # characters; the evaluator takes 1024 with the folders before it
_MAX_NAME = 200  # bytes; file systems take 255 with what is added to it
# Wordings of a training split never occur in a validation split: they are the worlds' own two sets.
_WORDINGS = {"train": "train", "val": "heldout"}


@dataclass(frozen=True)
class Picture:
    """An image of a source: `name` is its path below `root`, which annotations give and which nobody vouches for.

    `box` (left, top, right, bottom), in pixels or, with `relative`, in shares of the sides, is cut out; `number` tells
    the boxes of an image apart. `size` is the annotation's (width, height): an image that has it only when turned as
    its EXIF tag says is turned before it is cut.
    """

    root: Path
    name: str
    box: tuple[float, float, float, float] | None = None
    number: int = 0
    relative: bool = False
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Row:
    """One example of a source, without an instruction.

    `place` is where it stands in the source, `group` the document or image that must not be in two splits. `texts` is
    what is asked; `distractors`, where there are any, are listed with the first of `answers` as options.
    """

    task: str
    place: str
    group: str
    texts: tuple[str, ...]
    answers: tuple[str, ...] = ()
    distractors: tuple[str, ...] = ()
    picture: Picture | None = None  # of the question; of ImageGeneration, the wanted one
    is_comparison: bool = False  # of MathQA


class Writer:
    """Writes the task folders of one source into `output`. A context: what is not `finish`ed leaves no trace.

    Raises DataError where a folder that is to be written exists already and `replace` is not set, and OSError where
    `output` cannot be written to.
    """

    def __init__(
        self, output: Path, source: str, tasks: tuple[str, ...], report: RowCounter, *, seed: int = 0,
        val_share: float = 0.0, limit: int | None = None, max_side: int | None = None, replace: bool = False,
    ) -> None:  # fmt: skip
        self.output, self.source, self.tasks, self.report = output, source, tasks, report
        self.seed, self.val_share, self.limit, self.max_side = seed, val_share, limit, max_side
        self.counts: Counter[tuple[str, str]] = Counter()  # by task and split
        self._taken: Counter[tuple[str, str]] = Counter()  # by task and part of the source
        self._val_groups: set[bytes] = set()  # of the source's part val
        self._files: dict[tuple[str, str], tuple[IO[str], IO[str]]] = {}
        self._roots: dict[Path, int] = {}  # folders of images, in the order of their first image
        self._placed: dict[tuple[str, str], Picture] = {}  # by task and path in its folder
        self._checked: dict[tuple[Path, str], str] = {}  # of each image, what is allowed instead of it, or nothing
        self._loaded: tuple[tuple[Path, str], Image.Image] | None = None  # the last image that was cut
        for task in tasks:
            folder = output / FOLDERS[task]
            if os.path.lexists(folder) and not replace:
                raise DataError(f"{folder}: exists already; allowed: another --output, or --replace")
        self._is_new = not output.exists()
        output.mkdir(parents=True, exist_ok=True)
        self._work = tempfile.TemporaryDirectory(dir=output, prefix=".convert-")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for files in self._files.values():
            for file in files:
                with contextlib.suppress(OSError):  # a full disk, of which `finish` tells
                    file.close()
        self._work.cleanup()
        if self._is_new and not any(self.output.iterdir()):
            self.output.rmdir()

    def is_full(self, part: str) -> bool:
        """Whether all tasks have `limit` examples from a part of the source."""
        return self.limit is not None and all(self._taken[task, part] >= self.limit for task in self.tasks)

    def add(self, row: Row, part: str) -> None:
        """Write a row of the source's part `train` or `val`, or report it as bad. Rows above `limit` are not taken."""
        if self.limit is not None and self._taken[row.task, part] >= self.limit:
            return
        split = self._split(row.group, part)
        rng = seeded(self.seed, self.source, row.task, row.place)
        listed: list[str] = []
        answers = list(row.answers)
        if row.distractors:
            text, (answer, letter) = options(rng, answers[0], list(row.distractors))
            listed, answers = [text], [answer, letter, f"{letter} {answer}"]
        if row.task == "MathQA":
            texts = mathqa.instructed(rng, list(row.texts), row.is_comparison, _WORDINGS[split])
        else:
            texts = instruct(rng, row.task, *row.texts, split=_WORDINGS[split])
        image = None
        if row.picture is not None:
            try:
                image = self._place(row.task, row.picture)
            except ValueError as error:
                self.report.bad(row.place, row.picture.name, str(error))
                return
        shown = [image] if image is not None and row.task != "ImageGeneration" else []
        entries = [_text(text) for text in texts] + [_image(name) for name in shown] + [_text(text) for text in listed]
        self._write(row.task, split, entries, _image(image) if image and not shown else _text(answers))
        self._taken[row.task, part] += 1

    def add_ready(
        self, task: str, split: str, inputs: list[str | Image.Image], answers: list[str], image: Image.Image | None
    ) -> None:
        """Write an example that has its instruction, and its pictures in memory."""
        number = self.counts[task, split]
        entries = []
        for entry in inputs:
            if isinstance(entry, str):
                entries.append(_text(entry))
            else:
                entries.append(_image(self._save(task, f"{split}-{number}.jpg", entry)))
        answer = _text(answers) if image is None else _image(self._save(task, f"{split}-{number}.jpg", image))
        self._write(task, split, entries, answer)

    def finish(self, tolerance: float) -> None:
        """Move the folders to where they belong. Raises DataError where more than `tolerance` of all rows is bad."""
        self.report.finish(tolerance)
        for files in self._files.values():
            for file in files:
                file.write("\n}\n")
                file.close()
        for task in self.tasks:
            if not any(self.counts[task, split] for split in SPLITS):
                raise DataError(f"{self.source}: no example of {task}; nothing is written")
        for task in self.tasks:
            target = self.output / FOLDERS[task]
            self._move(self._folder(task), target)
            numbers = ", ".join(f"{self.counts[task, split]} {split}" for split in SPLITS)
            logger.info("%s: %s", target, numbers)
            if not self.counts[task, "val"]:
                logger.warning("%s: nothing fell into val; --val-share makes it larger", target)

    def _move(self, folder: Path, target: Path) -> None:
        """Put a finished folder in the place of what is there, which comes back if that fails."""
        old = folder.with_name(f"{folder.name}-replaced")
        if os.path.lexists(target):
            os.rename(target, old)
        try:
            os.rename(folder, target)
        except BaseException:
            if os.path.lexists(old):
                os.rename(old, target)
            raise

    def _split(self, group: str, part: str) -> str:
        """A group's split: val where the source's own part val, which comes first, has it, else by its hash.

        No seed moves it, so that no change of settings trains on what validated before.
        """
        digest = hashlib.blake2b(group.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        if part == "val":
            self._val_groups.add(digest)
        is_val = digest in self._val_groups or int.from_bytes(digest) < self.val_share * 2**64
        return "val" if is_val else "train"

    def _write(self, task: str, split: str, entries: list[dict[str, Any]], answer: dict[str, Any]) -> None:
        number = sum(self.counts[task, split] for split in SPLITS)
        if (task, split) not in self._files:
            folder = self._folder(task)
            name = f"{folder.name}_{split}"
            first, second = (folder / f"{name}{end}.json" for end in ("", "_answer"))
            self._files[task, split] = first.open("w", encoding="utf-8"), second.open("w", encoding="utf-8")
        for file, document in zip(self._files[task, split], (entries, [answer]), strict=True):
            file.write("{\n" if self.counts[task, split] == 0 else ",\n")
            file.write(f' "{self.source}-{number}": {json.dumps(document, ensure_ascii=False)}')
        self.counts[task, split] += 1
        self.report.ok()

    def _folder(self, task: str) -> Path:
        folder = Path(self._work.name) / FOLDERS[task]
        folder.mkdir(exist_ok=True)
        return folder

    def _save(self, task: str, name: str, image: Image.Image) -> str:
        target = self._folder(task) / IMAGES / name
        target.parent.mkdir(parents=True, exist_ok=True)
        bare = image.convert("RGB")
        bare.info.clear()  # comments and profiles, which Pillow would carry over
        bare.save(target, "JPEG", quality=JPEG_QUALITY)
        return f"{IMAGES}/{name}"

    def _place(self, task: str, picture: Picture) -> str:
        """The path, in the task's folder, of a picture's image there: linked, made smaller, or cut out.

        Raises ValueError or OSError, whose text says what is allowed.
        """
        name = PurePosixPath(_checked_name(picture.name))
        is_made = picture.box is not None or self.max_side is not None
        if picture.box is not None:
            name = name.with_name(f"{name.name}.{picture.number}.jpg")
        elif is_made and name.suffix.lower() not in (".jpg", ".jpeg"):
            name = name.with_name(f"{name.name}.jpg")
        root = self._roots.setdefault(picture.root, len(self._roots))
        if root:  # two folders may have images of the same name
            name = f"folder{root}" / name
        placed = self._placed.setdefault((task, str(name)), picture)
        if (placed.root, placed.name, placed.box) != (picture.root, picture.name, picture.box):
            raise ValueError(f"a name that does not become {name}, as {show(placed.name)} does")
        target = self._folder(task) / IMAGES / name
        if target.exists():
            return f"{IMAGES}/{name}"
        if not is_made:
            source = self._check(picture)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(source, target)
            return f"{IMAGES}/{name}"
        image = self._load(picture)
        if picture.box is not None:
            image = image.crop(_pixels(picture, image.size))
        if self.max_side is not None:
            image.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS)
        _check_size(*image.size, MAX_PIXELS)
        return self._save(task, str(name), image)

    def _check(self, picture: Picture) -> Path:
        """The file of a picture that is taken as it is; an image is decoded once, however many rows name it."""
        source, key = _find(picture.root, picture.name), (picture.root, picture.name)
        if key not in self._checked:
            try:
                _check_image(source)
                self._checked[key] = ""
            except ValueError as error:
                self._checked[key] = str(error)
        if self._checked[key]:
            raise ValueError(self._checked[key])
        return source

    def _load(self, picture: Picture) -> Image.Image:
        """A copy of a picture's image; the boxes of one image follow each other, so the last one is kept."""
        key = picture.root, picture.name
        if self._loaded is None or self._loaded[0] != key:
            source = _find(picture.root, picture.name)
            self._loaded = key, _load(source, picture.size if picture.box else None)
        return self._loaded[1].copy()


def _text(content: str | list[str]) -> dict[str, Any]:
    return {"type": "text", "content": content}


def _image(name: str) -> dict[str, Any]:
    return {"type": "image", "content": name}


def _checked_name(name: str) -> str:
    """A path of an annotation file that stays below a folder and that any reader takes. Raises ValueError."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise ValueError("a relative path without '..', '\\' and unprintable characters")
    if len(name) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in path.parts):
        raise ValueError(f"a path of at most {_MAX_PATH} characters, each name in it of at most {_MAX_NAME} bytes")
    return name


def _find(root: Path, name: str) -> Path:
    """The regular file `name` below `root`, with no link that leads out. Raises ValueError."""
    try:
        path = (root / name).resolve(strict=True)
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        raise ValueError(f"a file in {root} ({error.strerror})") from None
    except RuntimeError:  # links in a circle
        raise ValueError(f"a file in {root}") from None
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"a file in {root}, not a link out of it")
    if not regular:
        raise ValueError(f"a regular file in {root}")
    return path


def _check_image(path: Path) -> None:
    """Raise ValueError unless an image is whole and within what run.py and the evaluator read."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"an image file of at most {MAX_BYTES} bytes, or --max-side")
    with _open(path, FORMATS) as image:
        _check_size(*image.size, MAX_PIXELS)
        # The smallest scale of a JPEG: its data are read to the end, which is what matters, at a third of the time.
        image.draft("RGB", (1, 1))
        _decode(image)


def _load(path: Path, size: tuple[int, int] | None) -> Image.Image:
    """An image as RGB, turned as its EXIF tag says unless it has the annotation's `size` as it lies.

    Raises ValueError.
    """
    from rudolph.images import upright  # here, as only --max-side needs it

    with _open(path, SHRINK_FORMATS) as opened:
        _check_size(*opened.size, SHRINK_MAX_PIXELS)
        is_as_annotated = opened.size == size and size[0] != size[1]
        _decode(opened)
        image = opened if is_as_annotated else upright(opened)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")


def _open(path: Path, formats: tuple[str, ...]) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # _check_size is stricter
            return Image.open(path, formats=formats)
    except (Image.UnidentifiedImageError, Image.DecompressionBombError):
        raise ValueError(f"an image in one of the formats {', '.join(formats)}") from None
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, OverflowError) as error:
        raise ValueError(f"an image that can be read: {show(str(error))}") from None


def _decode(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # a decoder fed with damaged bytes may raise anything; all of it means the same
        raise ValueError(f"an image that can be read: {show(str(error))}") from None


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(f"at most {max_pixels} pixels, not {width}x{height}; --max-side makes images smaller")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise ValueError(f"sides of at most {MAX_RATIO} to 1, not {width}x{height}")


def _pixels(picture: Picture, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A picture's box in whole pixels within the image. Raises ValueError where nothing of it is."""
    assert picture.box is not None
    left, top, right, bottom = picture.box
    width, height = size
    if picture.relative:
        left, top, right, bottom = left * width, top * height, right * width, bottom * height
    box = max(0, int(left)), max(0, int(top)), min(width, int(right + 0.999)), min(height, int(bottom + 0.999))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise ValueError(f"a box inside the image of {width}x{height}, not {show(picture.box)}")
    return box

