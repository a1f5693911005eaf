"""The best constant answers to FusionBrain Challenge 1.0's tasks: what a model has to be above.

They are chosen on training examples: the program that has most in common with the others, the commonest word, for each
language the commonest answer, and the box that meets most boxes.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from contract_fbc1 import TASKS, prediction_file
from training.fbc1 import make_example, objects
from training.fbc1.example import Box

EXAMPLES = 300  # of each task
IOU = 0.5  # of a box that is met


def write_constants(data: Path, folder: Path) -> None:
    """Answers a data folder of the published layout into prediction_{TASK}.json."""
    truth = {task: _read(data / f"true_{task}.json") for task in TASKS}
    program, word, box = _program(), _word(), [list(best_box())]
    answers = {language: _answer(language) for language in objects.LANGUAGES}
    predictions: dict[str, dict[str, Any]] = {
        "C2C": dict.fromkeys(truth["C2C"], program),
        "HTR": dict.fromkeys(truth["HTR"], word),
        "zsOD": {name: dict.fromkeys(labels, box) for name, labels in truth["zsOD"].items()},
        "VQA": {id: answers[question["lang"]] for id, question in truth["VQA"].items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for task, document in predictions.items():
        (folder / prediction_file(task)).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def _program() -> str:
    programs = [make_example("C2C", number).answer for number in range(EXAMPLES)]
    words = [Counter(program.split()) for program in programs]
    return max(programs, key=lambda program: sum(_common(Counter(program.split()), other) for other in words))


def _common(one: Counter[str], other: Counter[str]) -> float:
    return 2 * (one & other).total() / (one.total() + other.total())


def _word() -> str:
    return Counter(make_example("HTR", number).answer for number in range(EXAMPLES)).most_common(1)[0][0]


def _answer(language: str) -> str:
    examples = (make_example("VQA", number) for number in range(2 * EXAMPLES))
    return Counter(e.answer for e in examples if e.language == language).most_common(1)[0][0]


def best_box() -> Box:
    """The box of the training examples that meets most of their boxes."""
    boxes = [box for number in range(EXAMPLES) for box in make_example("zsOD", number).boxes]
    return max(boxes, key=lambda box: sum(iou(box, other) >= IOU for other in boxes))


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes that have an area."""
    sides = [
        min(one[side] + one[side + 2], other[side] + other[side + 2]) - max(one[side], other[side]) for side in (0, 1)
    ]
    common = max(0, sides[0]) * max(0, sides[1])
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
