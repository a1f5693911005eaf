"""The one shape in which every world hands over an example."""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Example:
    """One input of the challenge with its truth.

    `inputs` are texts and images in the order in which the challenge gives them. `answers` are the accepted texts, of
    which the first is the training target; no answer is empty, and an ImageGeneration example has none.
    `working`: steps to be written before it, up to a `rudolph.working.MARK`.
    """

    task: str  # TextQA, MathQA, ImageGeneration, ImageCaptioning, VisualQA or TRitW
    kind: str  # a finer kind for reporting, e.g. 'linear_1d' or 'colour'
    inputs: list[str | Image.Image]
    answers: list[str]
    image: Image.Image | None = None  # the wanted picture of an ImageGeneration example
    working: str = ""
