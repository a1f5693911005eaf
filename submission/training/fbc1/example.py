"""The one shape in which every world of FusionBrain Challenge 1.0 hands over an example."""

from dataclasses import dataclass

from PIL import Image

from contract_fbc1 import TASKS

__all__ = ["TASKS", "Box", "Example"]

Box = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Example:
    """What is asked and its truth: a text, or for zsOD the boxes of what the text names, none where it is not there."""

    task: str
    kind: str  # a finer kind for reporting
    text: str  # Java, a description, a question; empty for HTR
    image: Image.Image | None = None
    answer: str = ""
    boxes: tuple[Box, ...] = ()
    language: str = ""  # of a question, `ru` or `en`
