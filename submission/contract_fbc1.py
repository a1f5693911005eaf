"""The file contract of FusionBrain Challenge 1.0, what a model is asked for each of its tasks, and what its text says.

The input has a folder for each task; every task that asks something is answered in a prediction_{TASK}.json of its own:

* `C2C/requests.json`: `{"0": "<Java>"}`; the prediction is `{"0": "<Python>"}`;
* `HTR/images/`: the prediction has `{"0.png": "<text>"}` for each picture;
* `zsOD/requests.json` and `zsOD/images/`: `{"0.jpg": ["<description>"]}`; the prediction is
  `{"0.jpg": {"<description>": [[left, top, width, height]]}}`, in pixels;
* `VQA/questions.json` and `VQA/images/`: `{"0": {"file_name": "1.jpg", "question": "…"}}`; the prediction is
  `{"0": "<text>"}`.
"""

from __future__ import annotations

import logging
import os
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import (
    IMAGE_FOLDER,
    INPUT_NAME,
    Example,
    InputError,
    Layout,
    PredictionWriter,
    image_file,
    read_object,
    show,
)  # fmt: skip

logger = logging.getLogger(__name__)

TASKS = ("C2C", "HTR", "zsOD", "VQA")
REQUESTS = {"C2C": "requests.json", "zsOD": "requests.json", "VQA": "questions.json"}  # in the task's folder
#: What stands before the text of a request; `{}` is that text.
PROMPTS = {"C2C": "{}", "HTR": "прочитай", "zsOD": "найди: {}", "VQA": "{}"}
#: An edge of a box is a letter: so many STEPS of the picture's width or height from its left or upper side.
EDGES = string.ascii_lowercase
STEPS = len(EDGES) - 1
#: The first word of an answer about boxes: a model decides first whether there is any, and then where.
SOMETHING = "+"
#: As long as a box: training takes the mean over the words of an answer, so a shorter one would weigh more.
NOTHING = "- - - - -"
#: Words of the published form of Python that a model, whose texts are lower case, has lost the case of.
_CASED = {word.lower(): word for word in ("NEW_LINE", "INDENT", "DEDENT", "None", "True", "False")}

Box = Sequence[float]  # left, top, width, height in pixels


def prompt(task: str, text: str = "") -> str:
    """What a model reads for a request."""
    return PROMPTS[task].format(text)


def prediction_file(task: str) -> str:
    """The name of a task's file in the output folder."""
    return f"prediction_{task}.json"


def write_boxes(boxes: Iterable[Box], size: tuple[int, int]) -> str:
    """Boxes in a picture of `size` (width, height) as text: SOMETHING and four letters a box, left, top, right, bottom;
    or NOTHING.
    """
    edges = [
        EDGES[min(STEPS, max(0, round(edge / side * STEPS)))]
        for left, top, width, height in boxes
        for edge, side in zip((left, top, left + width, top + height), (*size, *size), strict=True)
    ]
    return " ".join([SOMETHING, *edges]) if edges else NOTHING


def read_boxes(text: str, size: tuple[int, int]) -> list[list[float]]:
    """The boxes that a text names, in pixels with one decimal; words that are no box are passed over."""
    found = []
    for box in re.findall(r"(?<!\S)[a-z] [a-z] [a-z] [a-z](?!\S)", text):
        left, top, right, bottom = (
            EDGES.index(letter) / STEPS * side for letter, side in zip(box.split(), (*size, *size), strict=True)
        )
        if left < right and top < bottom:
            found.append([round(edge, 1) for edge in (left, top, right - left, bottom - top)])
    return found


def restore_case(answer: str, source: str) -> str:
    """A Python answer with the case that its words have in Python, else in the Java source, where they occur there."""
    cased = {word.lower(): word for word in source.split()} | _CASED
    return " ".join(cased.get(word, word) for word in answer.split())


@dataclass(frozen=True)
class Request(Example):
    """An example with its task, the key of its answer there, and the text that was asked.

    `asked` None: a picture of which no description is given; the prediction names it all the same.
    """

    task: str = ""
    key: str = ""
    asked: str | None = ""


def is_fbc1(folder: Path) -> bool:
    """Whether an input folder is one of FusionBrain Challenge 1.0: it has a task's folder, and no input.json."""
    # Of os.path, which also says no of a path that cannot be looked at: whoever reads the input says why.
    return not os.path.exists(folder / INPUT_NAME) and any(os.path.isdir(folder / task) for task in TASKS)


def read_requests(folder: Path) -> list[Request]:
    """The requests of all tasks that the input has, in the order of TASKS and of the files.

    What is no request is left out or asked without its picture, with a warning. Raises InputError where a task's
    folder is there and its file cannot be read.
    """
    found: list[Request] = []
    for task, read in (("C2C", _programs), ("HTR", _handwriting), ("zsOD", _descriptions), ("VQA", _questions)):
        if (folder / task).is_dir():
            found += read(folder / task)
        else:
            logger.warning("%s: there is no folder %s, so nothing to answer for it", folder, task)
    return found


def _programs(folder: Path) -> Iterator[Request]:
    path = folder / REQUESTS["C2C"]
    for key, source in read_object(path, '{"<id>": "<Java>", ...}').items():
        yield _request("C2C", key, _text(path, key, source))


def _handwriting(folder: Path) -> Iterator[Request]:
    images = folder / IMAGE_FOLDER
    try:
        names = sorted(path.name for path in images.iterdir())
    except OSError as error:
        raise InputError(f"{images}: cannot be read: {error.strerror or error}") from error
    for name in sorted(names, key=lambda name: (len(name), name)):  # 2.png before 10.png
        yield _request("HTR", name, "", folder, name)


def _descriptions(folder: Path) -> Iterator[Request]:
    path = folder / REQUESTS["zsOD"]
    for name, labels in read_object(path, '{"<picture>": ["<description>", ...], ...}').items():
        if not isinstance(labels, list):
            _warn(path, name, f"is {show(labels)}; it must be a list of descriptions; left out")
            labels = []
        if not labels:
            yield _request("zsOD", name, None, folder, name, "-")
        for number, label in enumerate(dict.fromkeys(_text(path, name, label) for label in labels)):
            yield _request("zsOD", name, label, folder, name, number)


def _questions(folder: Path) -> Iterator[Request]:
    path = folder / REQUESTS["VQA"]
    for key, asked in read_object(path, '{"<id>": {"file_name": "...", "question": "..."}, ...}').items():
        if not isinstance(asked, dict):
            _warn(path, key, f"is {show(asked)}; it must be an object with file_name and question")
            asked = {}
        name = asked.get("file_name")
        yield _request("VQA", key, _text(path, key, asked.get("question")), folder, name if name else "")


def _request(
    task: str, key: str, text: str | None, folder: Path | None = None, image: Any = "", number: int | str | None = None
) -> Request:
    entries: list[str | Path] = [prompt(task, text or "")]
    if folder is not None:
        try:
            entries.append(image_file(folder, f"{IMAGE_FOLDER}/{_file_name(image)}"))
        except ValueError as error:
            _warn(folder, key, f"picture is {show(image)}; {error}; asked without it")
    id = f"{task}/{key}" if number is None else f"{task}/{number}/{key}"  # a key may end in a slash and a number
    return Request(id, tuple(entries), True, task, key, text)


def _file_name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("it must be the name of a file")
    return value


def _text(path: Path, key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    _warn(path, key, f"is {show(value)}; it must be a text; asked as an empty one")
    return ""


def _warn(path: Path, key: str, what: str) -> None:
    logger.warning("%s: %s: %s", path, show(key), what)


class Writer(PredictionWriter):
    """As `PredictionWriter`, with a prediction_{TASK}.json for each task. What is not answered yet is empty."""

    with_images = False

    def __init__(self, folder: Path, requests: Sequence[Request], jpeg_quality: int) -> None:
        super().__init__(folder, {request.id: request.kinds for request in requests}, jpeg_quality)
        self._requests = requests
        self._answers: dict[str, Any] = {}  # by id: of a text once and for all

    def documents(self) -> dict[str, Any]:
        """The predictions of each task that is asked, by the name of their file."""
        documents: dict[str, dict[str, Any]] = {}
        for request in self._requests:
            text = self._made[request.id].get("text")
            if text is not None and request.id not in self._answers:
                self._answers[request.id] = read_answer(request, text)
            answer = self._answers.get(request.id, [] if request.task == "zsOD" else "")
            answers = documents.setdefault(prediction_file(request.task), {})
            if request.task == "zsOD":
                boxes = answers.setdefault(request.key, {})
                if request.asked is not None:
                    boxes[request.asked] = answer
            else:
                answers[request.key] = answer
        return documents


def read_answer(request: Request, text: str) -> str | list[list[float]]:
    """What a model's text says: boxes for zsOD, none without a picture; a text for the other tasks."""
    if request.task == "zsOD":
        return read_boxes(text, _size(request.images[0])) if request.images else []
    return restore_case(text, request.asked or "") if request.task == "C2C" else text


def _size(path: Path) -> tuple[int, int]:
    """Width and height of a picture in pixels; 0 × 0 of one that cannot be read, which has no boxes."""
    from rudolph.images import ImageError, upright_size  # see `contract.save_image`

    try:
        return upright_size(path)
    except ImageError:
        return 0, 0


#: FusionBrain Challenge 1.0
FBC1 = Layout(
    "config_fbc1.yaml", read_requests, Writer,
    tuple(f"{task}/{name}" for task, name in REQUESTS.items()),
)  # fmt: skip
