"""What a run answered, kept in one file to be scored again: with a corrected truth, a mended metric, other encoders.

The file is a ZIP: `output.json` with the predictions as they were read, and each image that was scored as
`images/DIGEST.png`, of the pixels that the evaluator decoded, whichever version of a decoder reads it later. The same
predictions make the same bytes. What a submission wrote beside what is scored is not in it.
"""

import contextlib
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from PIL import Image
from pydantic import model_validator

from evaluator.core import limits
from evaluator.core.errors import DataError, EvaluatorError, Finding, Findings, Rule, show
from evaluator.core.files import replacing
from evaluator.core.regular import open_regular
from evaluator.core.validation import StrictModel, parse, wrong
from evaluator.data.dataset import Data, Example
from evaluator.data.images import pixel_digest
from evaluator.data.predictions import Predictions, check_text, private_predictions

KEPT_OUTPUT = Rule(
    "kept-output",
    "an answer of the output's own to every id of the data, as its task has it",
    "run the submission again on these data",
)

_DOCUMENT = "output.json"
_VERSION = 1
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that the format can say: when it was written is none of the content
_MODE = 0o644 << 16
# What predictions are made of is limited when they are read; in here a number or a text may be written longer.
_MAX_DOCUMENT_BYTES = 10 * limits.MAX_JSON_BYTES
_MAX_IMAGE_BYTES = 4 * limits.MAX_IMAGE_PIXELS  # of a PNG of 3 bytes a pixel, however badly they compress
_PNG_LEVEL = 1  # of zlib: of photographs 3 % more bytes than 6, in less than half of the time


class Unanswered(DataError):
    """A kept output that is whole, but cannot answer these data: they ask what its run was not asked."""


class _Kept(StrictModel):
    """The content of output.json: fields of `Predictions`, and the `pixel_digest` of each image by its path."""

    version: Literal[1]
    texts: dict[str, str]
    values: dict[str, Any]
    images: dict[str, str]
    types: dict[str, list[str]]
    surplus: dict[str, str]
    files: dict[str, str]
    notes: list[dict[str, str]]
    pixels: dict[str, str]

    @model_validator(mode="after")
    def _has_all_of_images(self) -> Self:
        if not self.pixels.keys() == set(self.images.values()) <= self.files.keys():
            raise wrong("images, pixels and files name different images")
        return self


def write(path: Path, predictions: Predictions) -> str:
    """Keep what was read into `predictions` in the file `path`, whole or not at all; returns the file's SHA-256. Each
    image is decoded once more and compressed.

    Raises `EvaluatorError` where the file cannot be written.
    """
    pixels: dict[str, str] = {}
    try:
        with replacing(path) as temporary:
            with zipfile.ZipFile(temporary, "w") as archive:
                for id, image_path in predictions.images.items():
                    if image_path in pixels:
                        continue
                    image = predictions.image(id)
                    pixels[image_path] = digest = pixel_digest(image)
                    if _image_name(digest) not in archive.NameToInfo:
                        _add(archive, _image_name(digest), _png(image), zipfile.ZIP_STORED)
                _add(archive, _DOCUMENT, _document(predictions, pixels), zipfile.ZIP_DEFLATED)
            with open(temporary, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EvaluatorError(f"the output cannot be kept in {path}: {error.strerror}") from error


def read(path: Path, digest: str, data: Data) -> Predictions:
    """The predictions in a file that `write` made, whose SHA-256 is `digest`, as they answer `data`: what these do not
    ask is left out.

    Raises `DataError` where the file is not there, is another one or damaged; `Unanswered` where it lacks an answer to
    an id of the data, or one of the kind and shape that the id's task has by now, or where the answer is a reference
    image; `EvaluatorError` where this machine cannot take the images in.
    """
    try:
        with open_regular(path) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != digest:
                raise DataError(f"{path} is not the output that was kept: its SHA-256 is {found}, not {show(digest)}")
            with _explained(path), zipfile.ZipFile(file) as archive:
                kept = _parse(_content(archive, _DOCUMENT, zipfile.ZIP_DEFLATED, _MAX_DOCUMENT_BYTES))
                notes = [Finding(**note) for note in kept.notes]
                with contextlib.ExitStack() as unless_read:
                    predictions = private_predictions(kept.files)
                    unless_read.callback(predictions.close)
                    predictions.notes.extend(notes)
                    _answer(path, kept, data, predictions)
                    _unpack(archive, kept, predictions)
                    unless_read.pop_all()
                return predictions
    except OSError as error:
        raise DataError(f"kept output {path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes its readers raise means the same."""
    try:
        yield
    except (ValueError, TypeError, LookupError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no kept output, or a damaged one: {error}") from None


def _parse(content: bytes) -> _Kept:
    """The content of output.json. Raises ValueError, RecursionError."""
    kept, faults = parse(_Kept, json.loads(content))
    if kept is None:
        raise ValueError(f"{_DOCUMENT}: {faults[0]}")
    return kept


def _answer(path: Path, kept: _Kept, data: Data, predictions: Predictions) -> None:
    """Give `predictions` what is kept for the ids of the data. Raises `Unanswered`."""
    found = Findings()
    for example in data.examples:
        where = f"{path.name}: id {show(example.id)} ({example.task.name})"
        if example.id not in kept.types:
            found.add(KEPT_OUTPUT, where, "was not asked for when the output was made")
            continue
        predictions.types[example.id] = tuple(kept.types[example.id])
        if fault := _take(example, kept, data, predictions):
            found.add(KEPT_OUTPUT, where, fault)
        elif example.task.output != "image":  # what was not scored then was not checked
            answer = predictions.texts.get(example.id, predictions.values.get(example.id))
            if isinstance(answer, str):
                check_text(answer, where, found)
    if found:
        raise Unanswered(found)


def _take(example: Example, kept: _Kept, data: Data, predictions: Predictions) -> str | None:
    """Take over the answer to an example; what is wrong with it, if anything."""
    id, output = example.id, example.task.output
    if output == "text":
        text = kept.texts.get(id, kept.surplus.get(id))
        if text is None:
            return "no text is kept"
        predictions.texts[id] = text
        return None
    if output == "json":
        if id not in kept.values:
            return "no JSON value is kept"
        predictions.values[id] = kept.values[id]
        return example.task.metric.answer_fault(kept.values[id], example.truth_json)
    if id not in kept.images:
        return "no image is kept"
    predictions.images[id] = kept.images[id]
    if id in kept.surplus:
        predictions.surplus[id] = kept.surplus[id]
    return "the image is a reference image" if kept.pixels[kept.images[id]] in data.truth_digests else None


def _unpack(archive: zipfile.ZipFile, kept: _Kept, predictions: Predictions) -> None:
    """Write the images that are needed into the private folder."""
    for number, path in enumerate(dict.fromkeys(predictions.images.values())):
        predictions.copies[path] = f"{number}.image"
        content = _content(archive, _image_name(kept.pixels[path]), zipfile.ZIP_STORED, _MAX_IMAGE_BYTES)
        try:
            (predictions.root / predictions.copies[path]).write_bytes(content)
        except OSError as error:
            raise EvaluatorError(f"an image cannot be kept in {predictions.root}: {error.strerror}") from error


def _image_name(digest: str) -> str:
    return f"images/{digest}.png"


def _png(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=_PNG_LEVEL)
    return content.getvalue()


def _document(predictions: Predictions, pixels: dict[str, str]) -> bytes:
    kept = {
        "version": _VERSION,
        "texts": predictions.texts,
        "values": predictions.values,
        "images": predictions.images,
        "types": predictions.types,
        "surplus": predictions.surplus,
        "files": predictions.files,
        "notes": [note.to_json() for note in predictions.notes],
        "pixels": pixels,
    }
    return json.dumps(kept, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _add(archive: zipfile.ZipFile, name: str, content: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.compress_type, entry.external_attr, entry.create_system = method, _MODE, 3
    archive.writestr(entry, content)


def _content(archive: zipfile.ZipFile, name: str, method: int, limit: int) -> bytes:
    """An entry of at most so many bytes, compressed as `write` does it; so images are no longer than the file is."""
    entry = archive.getinfo(name)
    if entry.compress_type != method or entry.flag_bits & 1 or entry.file_size > limit:
        raise ValueError(f"{name} has {entry.file_size} bytes, by the method {entry.compress_type}")
    with archive.open(entry) as file:  # reads no more than the size that was stated
        return file.read()
