"""The challenge's file contract: `input.json` with its images in, `predictions.json` with its images out.

A fault in one example must not cost the others their answers: it is logged with id, value and what is allowed, and the
example keeps its sound entries. Only a file that cannot be read as a whole is an error.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

INPUT_NAME = "input.json"
PREDICTIONS_NAME = "predictions.json"
IMAGE_FOLDER = "images"
#: Ids that stand in a file's name as they are; the length keeps the name below 255 bytes of UTF-8.
_PLAIN_ID = re.compile(r"[\w.-]{1,50}")
_SHOWN_CHARACTERS = 80


class InputError(ValueError):
    """An input that cannot be read as a whole; the message is one line."""


@dataclass(frozen=True)
class Example:
    """One id of the input. `entries` in their order: a text as str, an image as the path of an existing file.

    `faulty_image`: an image entry was left out, because it is faulty; the example still is one with an image.
    """

    id: str
    entries: tuple[str | Path, ...]
    faulty_image: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, str))

    @property
    def images(self) -> tuple[Path, ...]:
        return tuple(entry for entry in self.entries if isinstance(entry, Path))


def read_examples(input_dir: str | os.PathLike[str]) -> list[Example]:
    """The examples of `<input_dir>/input.json` in the order of the file.

    A faulty entry is left out, with a warning that names id, value and what is allowed. Raises InputError where the
    file is missing, is no JSON, or is not an object of ids.
    """
    root = Path(input_dir)
    path = root / INPUT_NAME
    try:
        document = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_Members)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON in UTF-8: {error}") from error
    if not isinstance(document, _Members):
        raise InputError(
            f'{path}: is {show(document)}; it must be an object {{"<id>": [{{"type": "text" | "image", '
            '"content": "..."}, ...], ...}'
        )
    for id in document.repeated:
        logger.warning("%s: id %s occurs more than once; the last one counts", path, show(id))
    return [_read_example(root, id, entries) for id, entries in document.items()]


class _Members(dict[str, Any]):
    """An object of JSON that remembers keys that occurred more than once."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        seen: set[str] = set()
        self.repeated = list(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]


def _read_example(root: Path, id: str, entries: Any) -> Example:
    def fault(what: str) -> None:
        logger.warning("%s: id %s: %s; left out", root / INPUT_NAME, show(id), what)

    sound: list[str | Path] = []
    faulty_image = False
    if not isinstance(entries, list):
        fault(f"is {show(entries)}; it must be a list of entries")
        entries = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            fault(f"entry {number} is {show(entry)}; it must be an object with type and content")
            continue
        type, content = entry.get("type"), entry.get("content")
        if type not in ("text", "image"):
            fault(f"entry {number}: type is {show(type)}; it must be 'text' or 'image'")
        elif not isinstance(content, str):
            fault(f"entry {number}: content is {show(content)}; it must be a text")
            faulty_image |= type == "image"
        elif type == "text":
            sound.append(content)
        else:
            try:
                sound.append(_image_file(root, content))
            except ValueError as error:
                fault(f"entry {number}: image is {show(content)}; {error}")
                faulty_image = True
    return Example(id, tuple(sound), faulty_image)


def _image_file(root: Path, content: str) -> Path:
    # Links are followed: who lays out the input may link its images, and a JSON text cannot make a link.
    relative = PurePosixPath(content)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ValueError("it must be a path inside the input folder")
    path = root / relative
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        raise ValueError("there is no such file in the input folder") from None
    except OSError as error:
        raise ValueError(f"it must be a file in the input folder: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"it must be a file in the input folder: {error}") from None
    if not regular:
        raise ValueError("it must be a file in the input folder, not a folder, pipe or device")
    return path


class PredictionWriter:
    """Collects the answers to `ids` in an output folder; `predictions.json` appears at the end, whole or not at all.

    Raises OSError where the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], ids: Iterable[str], jpeg_quality: int = 95) -> None:
        self.folder = Path(folder)
        self.jpeg_quality = jpeg_quality
        self._answers: dict[str, list[dict[str, str]] | None] = dict.fromkeys(ids)
        (self.folder / IMAGE_FOLDER).mkdir(parents=True, exist_ok=True)

    def add(self, id: str, text: str | None = None, image: Image | None = None, image_first: bool = False) -> None:
        """Answer one id with a text, an image (written at once) or both, the text first unless `image_first`.

        Raises ValueError for an id that was not asked, for a second answer, and for an empty one.
        """
        if id not in self._answers:
            raise ValueError(f"id {show(id)} was not asked")
        if self._answers[id] is not None:
            raise ValueError(f"id {show(id)} is answered already")
        entries = []
        if text is not None:
            entries.append({"type": "text", "content": text})
        if image is not None:
            # torch and transformers take seconds to import; a faulty input is reported without them.
            from rudolph.images import save_jpeg

            content = f"{IMAGE_FOLDER}/{image_name(id)}"
            save_jpeg(image, self.folder / content, self.jpeg_quality)
            entries.append({"type": "image", "content": content})
        if not entries:
            raise ValueError(f"id {show(id)}: the answer has neither text nor image")
        self._answers[id] = entries[::-1] if image_first else entries

    def write(self) -> Path:
        """Write `predictions.json` in the order of the ids. Raises ValueError while ids have no answer."""
        lacking = [id for id, entries in self._answers.items() if entries is None]
        if lacking:
            raise ValueError(f"{len(lacking)} ids have no answer, the first is {show(lacking[0])}")
        path = self.folder / PREDICTIONS_NAME
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        document = json.dumps(self._answers, ensure_ascii=False, indent=1) + "\n"
        try:
            # A half surrogate cannot be encoded; its backslash replacement is the JSON escape of the same character.
            temporary.write_bytes(document.encode("utf-8", "backslashreplace"))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path


def image_name(id: str) -> str:
    """`image_<id>.jpg`; an id that is no plain file name (a slash, too long) is replaced by its hash."""
    if not _PLAIN_ID.fullmatch(id):
        id = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"image_{id}.jpg"


def show(value: object) -> str:
    """A value for a message, on one line and not long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
