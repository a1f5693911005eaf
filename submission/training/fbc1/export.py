"""Held-out examples, and how they are written as a data folder of FusionBrain Challenge 1.0, with truth, as published.

    python -m training.fbc1.export --out FOLDER                                     # those of the model's card
    python -m training.fbc1.export --out FOLDER --examples 50 --first-seed 30000    # others
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

from contract_fbc1 import REQUESTS
from training.fbc1 import make_example, objects
from training.fbc1.example import Example
from training.worlds import seeded

#: Of each task, where nothing else is said; those of the model's card, on which no choice is to be made.
EXAMPLES, FIRST_SEED = 200, 20_000
DESCRIPTIONS = 4  # of a picture of zsOD
QUALITY = 92  # of JPEG files


class HeldOut(NamedTuple):
    """Held-out examples of each task by the keys that the files have."""

    programs: dict[str, Example]
    words: dict[str, Example]
    requests: dict[str, list[Example]]  # by picture
    questions: dict[str, tuple[str, Example]]  # with the name of the picture


def held_out(examples: int = EXAMPLES, first_seed: int = FIRST_SEED) -> HeldOut:
    """So many programs, words and questions, and half as many pictures for zsOD and VQA each."""
    seeds = range(first_seed, first_seed + examples)
    found = HeldOut(
        {str(number): make_example("C2C", seed, "heldout") for number, seed in enumerate(seeds)},
        {f"{number}.png": make_example("HTR", seed, "heldout") for number, seed in enumerate(seeds)}, {}, {},
    )  # fmt: skip
    for number, seed in enumerate(seeds[: examples // objects.PER_SCENE]):
        name = f"{number}.jpg"
        rng, scene = _scene("zsOD", seed)
        found.requests[name] = objects.requests(rng, scene, DESCRIPTIONS)
        rng, scene = _scene("VQA", seed)
        asked: dict[str, Example] = {}
        while len(asked) < objects.PER_SCENE:
            example = objects.question(rng, scene)
            asked.setdefault(example.text, example)
        for example in asked.values():
            found.questions[str(len(found.questions))] = (name, example)
    return found


def export(folder: Path, examples: int = EXAMPLES, first_seed: int = FIRST_SEED) -> None:
    """Writes `held_out` examples, with true_{TASK}.json beside the tasks' folders."""
    programs, words, requests, questions = held_out(examples, first_seed)
    _write(folder / "C2C" / REQUESTS["C2C"], {id: example.text for id, example in programs.items()})
    _write(folder / "true_C2C.json", {id: example.answer for id, example in programs.items()})

    for name, example in words.items():
        _save(example, folder / "HTR" / "images" / name)
    _write(folder / "true_HTR.json", {name: example.answer for name, example in words.items()})

    for name, listed in requests.items():
        _save(listed[0], folder / "zsOD" / "images" / name)
    _write(folder / "zsOD" / REQUESTS["zsOD"], {name: [e.text for e in listed] for name, listed in requests.items()})
    _write(
        folder / "true_zsOD.json",
        {name: {e.text: [list(box) for box in e.boxes] for e in listed} for name, listed in requests.items()},
    )

    for name, example in dict(questions.values()).items():
        _save(example, folder / "VQA" / "images" / name)
    _write(
        folder / "VQA" / REQUESTS["VQA"],
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
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="of each task (default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, help="sample_input/fbc1 has 0 to 23 (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.out, arguments.examples, arguments.first_seed)


if __name__ == "__main__":
    main()
