"""Small Russian worlds for all six open tasks: seeded, fast, endless.

`make_example(task, seed, split)` is one example; the splits `train` and `heldout` never share a seed, and the
instructions of `heldout` never occur in `train`. `python -m training.worlds export` writes captioned scenes into a
folder.
"""

import random

from training.worlds import mathqa, scenes, signs, textqa
from training.worlds.example import Example

TASKS = ("TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW")
SPLITS = ("train", "heldout")
IMAGE_SIZE = 64  # pixels; the default of pictures drawn here


def seeded(*key: object) -> random.Random:
    """A generator for a key such as (split, task, seed): the same in every process and Python version."""
    return random.Random("/".join(map(str, key)))


def make_example(task: str, seed: int, split: str = "train", size: int = IMAGE_SIZE) -> Example:
    """The example number `seed` of a task; pictures are `size` × `size` pixels.

    Raises:
        ValueError: an unknown task or split.
        FileNotFoundError: a picture's inputs (stamps, fonts) are not installed.
    """
    if task not in TASKS or split not in SPLITS:
        raise ValueError(f"no world for task {task!r}, split {split!r}: tasks are {TASKS}, splits {SPLITS}")
    rng = seeded(split, task, seed)
    if task == "TextQA":
        return textqa.make(rng, split)
    if task == "MathQA":
        return mathqa.make(rng, split)
    if task == "TRitW":
        return signs.sign_example(rng, size, split)
    scene = scenes.draw_scene(rng, size)
    return scene_example(task, rng, scene, split)


def scene_example(task: str, rng: random.Random, scene: scenes.Scene, split: str) -> Example:
    """The example of a picture task on a scene that is drawn already."""
    if task == "ImageCaptioning":
        return scenes.caption_example(rng, scene, split)
    if task == "ImageGeneration":
        return scenes.generation_example(rng, scene, split)
    return scenes.question_example(rng, scene, split)
