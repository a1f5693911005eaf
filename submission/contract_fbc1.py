"""FusionBrain Challenge 1.0: what a model is asked for each task, and what its text says."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

#: What stands before the text of a request; `{}` is that text.
PROMPTS = {"C2C": "{}", "HTR": "прочитай", "zsOD": "найди: {}", "VQA": "{}"}
#: An edge of a box is a letter: so many STEPS of the picture's width or height from its left or upper side.
EDGES = string.ascii_lowercase
STEPS = len(EDGES) - 1
NOTHING = "-"  # an answer without boxes
#: Words of the published form of Python that a model, whose texts are lower case, has lost the case of.
_CASED = {word.lower(): word for word in ("NEW_LINE", "INDENT", "DEDENT", "None", "True", "False")}

Box = Sequence[float]  # left, top, width, height in pixels


def prompt(task: str, text: str = "") -> str:
    """What a model reads for a request."""
    return PROMPTS[task].format(text)


def write_boxes(boxes: Iterable[Box], size: tuple[int, int]) -> str:
    """Boxes in a picture of `size` (width, height) as text: four letters a box, left, top, right, bottom."""
    edges = [
        EDGES[min(STEPS, max(0, round(edge / side * STEPS)))]
        for left, top, width, height in boxes
        for edge, side in zip((left, top, left + width, top + height), (*size, *size), strict=True)
    ]
    return " ".join(edges) or NOTHING


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
