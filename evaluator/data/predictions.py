"""A submission's output: predictions.json and the images that it names, from a folder that is not trusted.

Nothing here follows a link, reads a device, or opens a path outside the folder. Faults are collected, so that one
reading names all of them; each is a `Finding` of a rule, with the id it belongs to.

An output folder is read once. Metrics and reports see the texts and images that the verdict was about, whatever
happens to the folder afterwards: texts are kept, and of images the files' bytes, in a private folder that lives as long
as the `Predictions`. Pixels are kept nowhere, as a small file can have many: an image is decoded, in a process of its
own, when it is checked and again whenever it is looked at.
"""

import hashlib
import json
import os
import re
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from evaluator.core import leftovers, limits
from evaluator.core.errors import EvaluatorError, Finding, Findings, Rule, RuleBroken, SubmissionError, show
from evaluator.core.files import CONTROL_CHARACTER, OUTPUT_FOLDER, read_regular
from evaluator.core.verdict import BAD_OUTPUT
from evaluator.data.dataset import Data, Example
from evaluator.data.entries import ALL_TYPES, TYPES, FileEntry, check_ids, depth_note, read_entries
from evaluator.data.images import DEEP_MODE, FOLDER_BYTES, Decoder, pixel_digest
from evaluator.metrics.base import Output

MISSING_OUTPUT = Rule(
    "missing-output",
    "an entry of the type that the task's output has",
    "answer every id with both a text and an image where the task is in doubt",
)
TEXT_LENGTH = Rule(
    "text-length", f"at most {limits.MAX_TEXT_CHARACTERS} characters in a scored text", "cut the text or stop earlier"
)
ANSWER_JSON = Rule("answer-json", "a value that the metric allows", "write the value as the task has it")
REFERENCE_IMAGE = Rule(
    "reference-image",
    "images that the submission made; no file and no pixels of a reference image",
    "write the image that the model generated",
)

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_PREFIX = "predictions"  # of the private folders
DECODE_AGAIN_SECONDS = 10 * limits.DECODE_SECONDS


@dataclass(frozen=True)
class Predictions:
    """What an output folder predicted when it was read: per id the first text (of a text task), the first image's
    path in the output folder (of an image task) or the first JSON value, in `values` (of a task with JSON output).

    `types` are those of all entries of an id, in their order; `surplus` the first text of an id of an image task, which
    is shown and not scored; `files` the SHA-256 of predictions.json and of every scored image, by path. `root` is the
    private folder with the images' files, which `close` removes, or the end of this object. `notes` say what is
    unusual, though not wrong.
    """

    root: Path
    texts: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    types: dict[str, tuple[str, ...]] = field(default_factory=dict)
    surplus: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)  # name below `root` of each path in the output folder
    # Each image was decoded within the limits before: now only a busy machine could make one take longer.
    decoder: Decoder = field(default_factory=lambda: Decoder(DECODE_AGAIN_SECONDS, limited=False), compare=False)
    notes: list[Finding] = field(default_factory=list)
    closing: ExitStack = field(default_factory=ExitStack, compare=False, repr=False)

    def written(self, id: str, output: Output) -> str:
        """What was predicted, as a line of a table: the text, the image's path, the value as JSON."""
        if output == "json":
            return json.dumps(self.values[id], ensure_ascii=False)
        return self.texts[id] if output == "text" else self.images[id]

    def close(self) -> None:
        """Remove the private folder and end the process that decodes; there are no images any more."""
        self.closing.close()

    def image(self, id: str) -> Image.Image:
        """The image that was predicted for an id of an image task, from its private copy."""
        content = (self.root / self.copies[self.images[id]]).read_bytes()
        try:
            return self.decoder.decode(content)
        except RuleBroken:  # the process may have come to the end of its time with many images before this one
            return self.decoder.decode(content)


def read_predictions(folder: Path | str, data: Data) -> Predictions:
    """Read and check `predictions.json` and the images that scoring needs. Every id of the input must be there
    exactly once, with an entry of its task's output type; surplus entries are allowed and not looked at further.

    A text may hold any characters but ASCII control characters (tab, line feed and carriage return are allowed): no
    answer needs them, and terminals, CSV and HTML give them meanings of their own. An image must not be a reference
    image: not its file, not its bytes, not its pixels in whatever lossless file. A reference that was changed in any
    way (saved anew as JPEG, resized, one pixel) is not told from a very good prediction.

    Raises `SubmissionError` (BAD_OUTPUT) with all faults; `EvaluatorError` where this machine cannot take the
    images in.
    """
    root = output_root(folder)
    found = Findings()
    files: dict[str, str] = {}
    types = ALL_TYPES if any(example.task.output == "json" for example in data.examples) else TYPES
    bad_output = partial(SubmissionError, BAD_OUTPUT)
    predicted = read_entries(root, "predictions.json", found, bad_output, files, types=types)
    check_ids("predictions.json", {example.id: None for example in data.examples}, predicted, found)
    predictions = private_predictions(files)
    deep: list[str] = []
    with _Images(root, predictions, data) as images, ExitStack() as unless_read:
        unless_read.callback(predictions.close)  # an error's traceback would keep `predictions` alive
        for example, where, entries, content in _outputs(predicted, data, found):
            predictions.types[example.id] = tuple(entry.type for entry in entries)
            if example.task.output == "text":
                predictions.texts[example.id] = content
                check_text(content, where, found)
                continue
            if example.task.output == "json":
                predictions.values[example.id] = content
                if isinstance(content, str):
                    check_text(content, where, found)
                if fault := example.task.metric.answer_fault(content, example.truth_json):
                    found.add(ANSWER_JSON, where, fault)
                continue
            predictions.images[example.id] = content
            surplus = next((entry.content for entry in entries if entry.type == "text"), None)
            if surplus is not None:
                predictions.surplus[example.id] = surplus
            broken = images.take(content, write=not found)
            if content in images.deep:
                deep.append(example.id)
            if broken:
                found.add(broken.rule, f"{where}: image {show(content)}", broken.found)
        if found:
            raise SubmissionError(BAD_OUTPUT, found)
        unless_read.pop_all()
    if deep:
        predictions.notes.append(depth_note("predictions.json", deep))
    return predictions


def private_predictions(files: dict[str, str]) -> Predictions:
    """No predictions yet, with an empty private folder for images. Raises OSError."""
    leftovers.sweep(_PREFIX)
    private = leftovers.PrivateFolder(_PREFIX)
    predictions = Predictions(private.path, files=files)
    for close in (private.remove, predictions.decoder.close):
        predictions.closing.callback(weakref.finalize(predictions, close))
    return predictions


def output_root(folder: Path | str) -> Path:
    """The output folder's path. Raises `SubmissionError` (BAD_OUTPUT) where it is none, or a link to one."""
    root = Path(folder)
    if root.is_symlink() or not root.is_dir():
        kind = "is a symbolic link" if root.is_symlink() else "does not exist or is not a folder"
        raise SubmissionError(BAD_OUTPUT, OUTPUT_FOLDER.finding(f"output folder {root}", kind))
    return root


def prediction_documents(predictions: Predictions, data: Data) -> dict[str, dict[str, Any]]:
    """The JSON file that says what was predicted, by its name; for tasks with text or JSON output alone."""
    answers: dict[str, Any] = {}
    for example in data.examples:
        output = example.task.output
        content = predictions.values[example.id] if output == "json" else predictions.texts[example.id]
        answers[example.id] = [{"type": output, "content": content}]
    return {"predictions.json": answers}


def _outputs(
    predicted: dict[str, list[FileEntry] | None], data: Data, found: Findings
) -> Iterator[tuple[Example, str, list[FileEntry], Any]]:
    """What is to be scored: example, place, all its entries, the scored content. Ids that are missing or malformed were
    reported before.
    """
    for example in data.examples:
        entries = predicted.get(example.id)
        if entries is None:
            continue
        output = example.task.output
        where = f"predictions.json: id {show(example.id)} ({example.task.name})"
        scored = next((entry for entry in entries if entry.type == output), None)
        if scored is None:
            found.add(MISSING_OUTPUT, where, f"no {output} entry, and the task's output is {output}")
        else:
            yield example, where, entries, scored.content


def check_text(text: str, where: str, found: Findings) -> None:
    """Add to `found` what is wrong with a text that was predicted: its length, and its first control character."""
    if len(text) > limits.MAX_TEXT_CHARACTERS:
        found.add(TEXT_LENGTH, where, f"a text of {len(text)} characters")
    if control := _CONTROL.search(text):
        at = f"U+{ord(control[0]):04X} at character {control.start()}"
        found.add(CONTROL_CHARACTER, where, f"a text with a control character, {at}")


class _Images:
    """Takes images of an output folder into the private one of `predictions`. A file that several ids name is read
    once.
    """

    def __init__(self, root: Path, predictions: Predictions, data: Data) -> None:
        self._root, self._predictions, self._data = root, predictions, data
        truths = {example.truth_image for example in data.examples if example.truth_image}
        self._truth_paths = {str(data.root / path) for path in truths}
        self._truth_files = {data.files[path] for path in truths}
        self._taken: dict[str, RuleBroken | None] = {}
        self._bytes = self._missing = 0
        self._decoder = Decoder()
        self.deep: set[str] = set()  # paths of those with more than 8 bits a pixel

    def __enter__(self) -> "_Images":
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def take(self, path: str, write: bool) -> RuleBroken | None:
        """Check an image and, with `write`, keep its file; returns the rule that it breaks, if any."""
        if path not in self._taken:
            self._taken[path] = self._take(path, write)
        return self._taken[path]

    def _take(self, path: str, write: bool) -> RuleBroken | None:
        try:
            if self._bytes > limits.MAX_FOLDER_IMAGE_BYTES:
                raise RuleBroken(FOLDER_BYTES, f"images before this one have {self._bytes} bytes")
            self._decoder.check_folder()
            self._missing += 1
            content = read_regular(self._root, path, limits.MAX_IMAGE_BYTES, near=self._missing <= limits.NEAR_FAULTS)
            self._missing -= 1
            self._bytes += len(content)
            if os.path.realpath(self._root / path) in self._truth_paths:
                raise RuleBroken(REFERENCE_IMAGE, "is a reference image")
            digest = hashlib.sha256(content).hexdigest()
            if digest in self._truth_files:
                raise RuleBroken(REFERENCE_IMAGE, "is a copy of a reference image's file")
            image = self._decoder.decode(content)
            if DEEP_MODE in image.info:
                self.deep.add(path)
            if pixel_digest(image) in self._data.truth_digests:
                raise RuleBroken(REFERENCE_IMAGE, "is a copy of a reference image's pixels")
        except RuleBroken as broken:
            return broken
        if write:
            kept = self._predictions
            # A name of ours: the path may be one that cannot be made here, if the folder changed while it was read.
            kept.copies[path] = f"{len(kept.copies)}.image"
            kept.files[path] = digest
            try:
                (kept.root / kept.copies[path]).write_bytes(content)
            except OSError as error:
                raise EvaluatorError(f"an image cannot be kept in {kept.root}: {error.strerror}") from error
        return None
