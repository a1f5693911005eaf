"""The challenge's file contract: `input.json` with its images in, `predictions.json` with its images out.

A fault in one example must not cost the others their answers: it is logged with id, value and what is allowed, and the
example keeps its sound entries. Only a file that cannot be read as a whole is an error.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from rudolph.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

    from resume import Journal

logger = logging.getLogger(__name__)

Kind = Literal["text", "image"]
KINDS: tuple[Kind, ...] = ("text", "image")  # of entries
INPUT_NAME = "input.json"
PREDICTIONS_NAME = "predictions.json"
IMAGE_FOLDER = "images"
PLACEHOLDER_IMAGE = f"{IMAGE_FOLDER}/placeholder.jpg"  # no id's image is called so: see `image_name`
SAVE_SECONDS = 5.0  # between two versions of predictions.json
_SAVE_SHARE = 0.05  # of the time, at most, for writing it
JPEG_THREADS, JPEG_PENDING = 2, 256  # images on their way to the disk
_LAST_IMAGES_SECONDS = 2.0  # what a run that has to end at once waits for them
#: Ids that stand in a file's name as they are; the length keeps the name below 255 bytes of UTF-8.
_PLAIN_ID = re.compile(r"[\w.-]{1,50}")
_SHOWN_CHARACTERS = 80
MAX_DIGITS = 640  # of an integer that Python converts however it is set up
MAX_DEPTH = 100  # of lists and objects, where they are too many for Python's parser; the contract has three
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_CLOSING = {"[": "]", "{": "}"}


class InputError(ValueError):
    """An input that cannot be read as a whole; the message is one line."""


@dataclass(frozen=True)
class Example:
    """One id of the input. `entries` in their order: a text as str, an image as the path of an existing file.

    `answer_in_text`: a text is wanted, whatever the entries; for instance, an image entry was faulty and is left out.
    """

    id: str
    entries: tuple[str | Path, ...]
    answer_in_text: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of entries that the answer consists of as long as the model has not said which of the two it is."""
        return KINDS[:1] if self.images or self.answer_in_text else KINDS

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts, in their order."""
        return tuple(entry for entry in self.entries if isinstance(entry, str))

    @property
    def images(self) -> tuple[Path, ...]:
        """The paths of the images, in their order."""
        return tuple(entry for entry in self.entries if isinstance(entry, Path))


def read_examples(input_dir: str | os.PathLike[str]) -> list[Example]:
    """The examples of `<input_dir>/input.json` in the order of the file.

    A faulty entry is left out, with a warning that names id, value and what is allowed. Raises InputError where the
    file is missing, is no JSON, or is not an object of ids.
    """
    root = Path(input_dir)
    path = root / INPUT_NAME
    document = read_object(path, '{"<id>": [{"type": "text" | "image", "content": "..."}, ...], ...}')
    return [_read_example(root, id, entries) for id, entries in document.items()]


def read_object(path: Path, shape: str) -> dict[str, Any]:
    """The object of ids in a JSON file; of an id that occurs twice, the last one, with a warning.

    Raises InputError where the file is missing, is no JSON, or holds something else, which should have been `shape`.
    """
    try:
        document = _parse(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON in UTF-8: {error}") from error
    if not isinstance(document, _Members):
        raise InputError(f"{path}: is {show(document)}; it must be an object {shape}")
    for id in document.repeated:
        logger.warning("%s: id %s occurs more than once; the last one counts", path, show(id))
    return document


def _parse(text: str) -> Any:
    """A JSON document; numbers that Python does not convert and lists that it does not nest are left out of it."""
    try:
        return json.loads(text, object_pairs_hook=_Members, parse_int=_integer)
    except RecursionError:
        return json.loads(_cut_depths(text), object_pairs_hook=_Members, parse_int=_integer)


def _integer(digits: str) -> object:
    return int(digits) if len(digits) <= MAX_DIGITS else _LongInteger(digits)


class _LongInteger:
    """An integer of more digits than Python may convert. No number has a place in an input: it is only shown."""

    def __init__(self, digits: str) -> None:
        self._digits = digits

    def __repr__(self) -> str:
        return self._digits


def _cut_depths(text: str) -> str:
    """`text` with "…" in place of each list and object that is nested more than `MAX_DEPTH` deep."""
    kept, end, start = [], 0, 0
    closing: list[str] = []
    for token in _STRING_OR_BRACKET.finditer(text):
        bracket = token[0]
        if bracket in _CLOSING:
            closing.append(_CLOSING[bracket])
            if len(closing) == MAX_DEPTH + 1:
                start = token.start()
        elif bracket in _CLOSING.values():
            if not closing or closing.pop() != bracket:
                raise ValueError(f"{bracket} at character {token.start()} closes nothing")
            if len(closing) == MAX_DEPTH:
                kept += [text[end:start], '"…"']
                end = token.end()
    return "".join([*kept, text[end:]])


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
    answer_in_text = False
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
            answer_in_text |= type == "image"
        elif type == "text":
            sound.append(content)
        else:
            try:
                sound.append(image_file(root, content))
            except ValueError as error:
                fault(f"entry {number}: image is {show(content)}; {error}")
                answer_in_text = True
    return Example(id, tuple(sound), answer_in_text)


def image_file(root: Path, content: str) -> Path:
    """A file inside the input folder. Raises ValueError, saying what is allowed."""
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


@dataclass(frozen=True)
class Layout:
    """How a competition lays out its input and its output, and the settings that suit it."""

    config: str  # a file beside run.py
    read: Callable[[Path], Sequence[Example]]  # raises InputError
    writer: Callable[[Path, Sequence[Any], int], PredictionWriter]  # of the output folder, the examples, JPEG's quality
    files: tuple[str, ...]  # those of the input folder that say what is asked; some may be missing


class PredictionWriter:
    """Answers in an output folder, whose `predictions.json` is complete from `begin` on, whenever the process dies.

    What is not there yet stands as a placeholder. Images are written by threads of the writer's own, and
    `predictions.json` names one when it lies on the disk. A thread writes the file anew every `SAVE_SECONDS` in which
    something came; whatever comes is in the journal before (see `resume`), which `finish` removes.

    outputs: the kinds of entries, "text" and "image", that each id gets as long as nothing else is said. To be used
    with `with`. Raises OSError where the folder cannot be made or written to, or is in use by another run.
    """

    with_images = True  # whether an answer may be an image

    def __init__(self, folder: str | os.PathLike[str], outputs: Mapping[str, Sequence[str]], jpeg_quality: int) -> None:
        self.folder = Path(folder)
        self.jpeg_quality = jpeg_quality
        self._outputs = dict(outputs)
        self._made: dict[str, dict[str, str]] = {id: {} for id in outputs}  # content by kind
        self._placeholders: dict[str, str] = {}
        self._journal: Journal | None = None
        self._changed = False
        self._lock = threading.Lock()  # of all the above
        self._saving = threading.Lock()
        self._closed = threading.Event()
        self._pending: set[concurrent.futures.Future[None]] = set()
        self._threads = concurrent.futures.ThreadPoolExecutor(JPEG_THREADS, thread_name_prefix="jpeg")
        self._saver = threading.Thread(target=self._save_regularly, name="predictions", daemon=True)
        self._error: Exception | None = None
        (self.folder / IMAGE_FOLDER if self.with_images else self.folder).mkdir(parents=True, exist_ok=True)
        self._folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._folder)
            raise BlockingIOError("another run is writing to it") from None
        except OSError as error:  # not every file system has locks
            logger.debug("%s cannot be locked: %s", self.folder, error)

    def __enter__(self) -> PredictionWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop the threads; where an error ends the run, with what there is on the disk."""
        try:
            self._closed.set()
            if self._saver.is_alive():
                self._saver.join()
            self._threads.shutdown()
            if kind is not None and self._placeholders:
                with contextlib.suppress(OSError):  # the error that is on its way says more
                    self.save()
        finally:
            if self._journal is not None:
                self._journal.close()
            os.close(self._folder)

    def begin(self, text: str, image: Image, journal: Journal) -> list[dict[str, Any]]:
        """Write the first `predictions.json`, with these placeholders and what an earlier run left in the journal.

        Returns that run's records, without those whose image is not on the disk as it was.
        """
        for temporary in (*self.folder.glob(".*.tmp"), *(self.folder / IMAGE_FOLDER).glob(".*.tmp")):
            temporary.unlink(missing_ok=True)  # of a run that was killed; no other one is running
        if self.with_images:
            save_image(image, self.folder / PLACEHOLDER_IMAGE, self.jpeg_quality)
        kept = []
        for record in journal.records:
            id, made = record["id"], self._made[record["id"]]
            if "image" in record:
                content = f"{IMAGE_FOLDER}/{image_name(id)}"
                if _size(self.folder / content) != record["image"]:
                    logger.warning("id %s: the image of the earlier run is not there any more", show(id))
                    continue
                made["image"] = content
            if "text" in record:
                made["text"] = record["text"]
            kept.append(record)
        self._placeholders = {"text": text, "image": PLACEHOLDER_IMAGE}
        self._journal = journal
        self.save()
        self._saver.start()
        return kept

    def add(
        self, id: str, outputs: Sequence[str] | None = None, text: str | None = None, image: Image | None = None,
        text_probability: float | None = None,
    ) -> None:  # fmt: skip
        """What is known now about the answer to one id: the kinds of its entries in their order, its text, its image,
        and the route's estimate, for the journal.

        An image is written in the background. Raises ValueError for an id that was not asked and for what is there
        already, OSError for what could not be written since the last call.
        """
        self._raise_errors()
        if id not in self._made:
            raise ValueError(f"id {show(id)} was not asked")
        record: dict[str, Any] = {"id": id}
        with self._lock:
            for kind, value in (("text", text), ("image", image)):
                if value is not None and kind in self._made[id]:
                    raise ValueError(f"id {show(id)} has its {kind} already")
            if outputs is not None:
                self._outputs[id] = list(outputs)
            if text is not None:
                record["text"] = self._made[id]["text"] = text
            if text_probability is not None:
                record["text_probability"] = text_probability
            if len(record) > 1:
                self._record(record)
            self._changed = True
        if image is not None:
            if len(self._pending) >= JPEG_PENDING:
                concurrent.futures.wait(self._pending, return_when=concurrent.futures.FIRST_COMPLETED)
            self._pending.add(self._threads.submit(self._write_image, id, image))

    def save(self) -> None:
        """Write `predictions.json`, in the order of the ids. Raises OSError."""
        with self._saving:
            with self._lock:
                self._changed = False
                documents = self.documents()
            for name, document in documents.items():
                text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
                # A half surrogate cannot be encoded; its backslash replacement is the character's JSON escape.
                _write(self.folder / name, text.encode("utf-8", "backslashreplace"))

    def documents(self) -> dict[str, Any]:
        """What is to be written now, by the name of its file."""
        document = {
            id: [
                {"type": kind, "content": self._made[id].get(kind, self._placeholders[kind])}
                for kind in self._outputs[id]
            ]
            for id in self._made
        }
        return {PREDICTIONS_NAME: document}

    def save_soon(self) -> bool:
        """As `save`, with the images that come within two seconds; for a process that has to end.

        Returns False, with nothing written, before `begin`.
        """
        if not self._placeholders:
            return False
        concurrent.futures.wait(list(self._pending), timeout=_LAST_IMAGES_SECONDS)
        self.save()
        return True

    def finish(self, keep_journal: bool = False) -> Path:
        """Write what is on its way, give every image that is missing a file of its own, and clean up.

        keep_journal: the run left something out, and a second one may go on. Returns the output folder.
        """
        concurrent.futures.wait(self._pending)
        self._raise_errors()
        if self.with_images:
            self._fill_images()
        self.save()
        (self.folder / PLACEHOLDER_IMAGE).unlink(missing_ok=True)
        if self._journal is not None and not keep_journal:
            self._journal.remove()
        return self.folder

    def _fill_images(self) -> None:
        placeholder = (self.folder / PLACEHOLDER_IMAGE).read_bytes()
        for id, outputs in self._outputs.items():
            if "image" in outputs and "image" not in self._made[id]:
                content = f"{IMAGE_FOLDER}/{image_name(id)}"
                _write(self.folder / content, placeholder)
                self._made[id]["image"] = content

    def _write_image(self, id: str, image: Image) -> None:
        content = f"{IMAGE_FOLDER}/{image_name(id)}"
        save_image(image, self.folder / content, self.jpeg_quality)
        with self._lock:
            self._record({"id": id, "image": _size(self.folder / content)})
            self._made[id]["image"] = content
            self._changed = True

    def _record(self, record: dict[str, Any]) -> None:
        if self._journal is None:
            raise ValueError("begin() comes before add()")
        self._journal.add(record)

    def _raise_errors(self) -> None:
        done = {future for future in self._pending if future.done()}
        self._pending -= done
        for future in done:
            future.result()
        if self._error is not None:
            raise self._error

    def _save_regularly(self) -> None:
        pause = SAVE_SECONDS
        while not self._closed.wait(pause):
            if self._changed:
                began = time.monotonic()
                try:
                    self.save()
                except Exception as error:
                    self._error = error  # `add` and `finish` raise it
                    return
                pause = max(SAVE_SECONDS, (time.monotonic() - began) / _SAVE_SHARE)


def save_image(image: Image, path: Path, jpeg_quality: int) -> None:
    """Writes a JPEG of `jpeg_quality`, 1 to 100, whole or not at all."""
    # PIL and numpy, which come with it, are imported while the number of threads is settled: see `run.answer`.
    from rudolph.images import save_jpeg

    save_jpeg(image, path, jpeg_quality)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _size(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            return status.st_size
    return None


def image_name(id: str) -> str:
    """`image_<id>.jpg`; an id that is no plain file name (a slash, too long) is replaced by its hash."""
    if not _PLAIN_ID.fullmatch(id):
        id = hashlib.blake2b(id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"image_{id}.jpg"


def show(value: object) -> str:
    """A value for a message, on one line and not long."""
    try:
        text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    except RecursionError:
        text = f"a {type(value).__name__}, nested too deep to be shown"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def open_writer(folder: Path, examples: Sequence[Example], jpeg_quality: int) -> PredictionWriter:
    """A writer for all examples. Raises OSError, see `PredictionWriter`."""
    return PredictionWriter(folder, {example.id: example.kinds for example in examples}, jpeg_quality)


#: FusionBrain Challenge 2.0
FBC2 = Layout("config.yaml", read_examples, open_writer, (INPUT_NAME,))
