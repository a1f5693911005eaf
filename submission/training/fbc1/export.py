"""Writes held-out examples as a data folder of FusionBrain Challenge 1.0, with truth, in the published layout.

    python -m training.fbc1.export --examples 200 --first-seed 10000 --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from training.fbc1 import make_example, objects
from training.fbc1.example import Example
from training.worlds import seeded

PICTURE_SHARE = 2  # examples of zsOD and VQA for each picture
REQUESTS = 4  # descriptions a picture of zsOD
QUALITY = 92  # of JPEG files


def export(folder: Path, examples: int, first_seed: int) -> None:
    """Writes `examples` programs, words and questions, and half as many pictures for zsOD and VQA each.

    Beside the tasks' folders stand true_C2C.json, true_HTR.json, true_zsOD.json and true_VQA.json.
    """
    seeds = range(first_seed, first_seed + examples)
    programs = {str(number): make_example("C2C", seed, "heldout") for number, seed in enumerate(seeds)}
    _write(folder / "C2C" / "requests.json", {id: example.text for id, example in programs.items()})
    _write(folder / "true_C2C.json", {id: example.answer for id, example in programs.items()})

    words = {f"{number}.png": make_example("HTR", seed, "heldout") for number, seed in enumerate(seeds)}
    for name, example in words.items():
        _save(example, folder / "HTR" / "images" / name)
    _write(folder / "true_HTR.json", {name: example.answer for name, example in words.items()})

    requests: dict[str, list[Example]] = {}
    questions: dict[str, tuple[str, Example]] = {}
    for number in range(examples // PICTURE_SHARE):
        name = f"{number}.jpg"
        rng, scene = _scene("zsOD", first_seed + number)
        requests[name] = objects.requests(rng, scene, REQUESTS)
        _save(requests[name][0], folder / "zsOD" / "images" / name)
        rng, scene = _scene("VQA", first_seed + number)
        asked: dict[str, Example] = {}
        while len(asked) < PICTURE_SHARE:
            example = objects.question(rng, scene)
            asked.setdefault(example.text, example)
        for example in asked.values():
            questions[str(len(questions))] = (name, example)
        _save(example, folder / "VQA" / "images" / name)
    _write(folder / "zsOD" / "requests.json", {name: [e.text for e in listed] for name, listed in requests.items()})
    _write(
        folder / "true_zsOD.json",
        {name: {e.text: [list(box) for box in e.boxes] for e in listed} for name, listed in requests.items()},
    )
    _write(
        folder / "VQA" / "questions.json",
        {id: {"file_name": name, "question": example.text} for id, (name, example) in questions.items()},
    )
    _write(
        folder / "true_VQA.json",
        {
            id: {"answer": example.answer, "lang": example.language, "question_id": int(id)}
            for id, (_, example) in questions.items()
        },
    )


def _scene(task: str, seed: int) -> tuple[random.Random, objects.Scene]:
    rng = seeded("heldout", "fbc1", task, seed)
    return rng, objects.draw_scene(rng)


def _save(example: Example, path: Path) -> None:
    assert example.image is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    example.image.save(path, quality=QUALITY)


def _write(path: Path, document: dict[str, Any]) -> None:
    """JSON with a line for each key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in document.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.fbc1.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=200, help="of each task")
    parser.add_argument("--first-seed", type=int, default=10_000, help="sample_input/fbc1 has those from 0 on")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.out, arguments.examples, arguments.first_seed)


if __name__ == "__main__":
    main()
