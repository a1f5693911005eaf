"""Small worlds and trainings for FusionBrain Challenge 1.0: code, handwriting, objects with boxes, questions.

`make_example(task, seed, split)` is one example; the splits `train` and `heldout` never share a seed.
"""

from training.fbc1 import handwriting, objects, translation
from training.fbc1.example import TASKS, Example
from training.worlds import SPLITS, seeded

__all__ = ["SPLITS", "TASKS", "Example", "make_example"]


def make_example(task: str, seed: int, split: str = "train") -> Example:
    """The example number `seed` of a task.

    Raises:
        ValueError: an unknown task or split.
        FileNotFoundError: a picture's inputs (stamps, fonts) are not installed.
    """
    if task not in TASKS or split not in SPLITS:
        raise ValueError(f"no world for task {task!r}, split {split!r}: tasks are {TASKS}, splits {SPLITS}")
    rng = seeded(split, "fbc1", task, seed)
    if task == "C2C":
        return translation.make(rng)
    if task == "HTR":
        return handwriting.make(rng)
    scene = objects.draw_scene(rng)
    return objects.request(rng, scene) if task == "zsOD" else objects.question(rng, scene)
