"""A small data folder of FusionBrain Challenge 1.0, an example of each task."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (80, 60)
_PROGRAM = """
import json, os
def write(task, answers):
    json.dump(answers, open(f"output/prediction_{task}.json", "w", encoding="utf-8"))
def read(name):
    return json.load(open(f"input/{name}", encoding="utf-8"))
write("C2C", {id: "def x ( ) : NEW_LINE INDENT pass DEDENT" for id in read("C2C/requests.json")})
write("HTR", {name: "последовал" for name in os.listdir("input/HTR/images")})
write("zsOD", {name: {label: BOXES for label in labels} for name, labels in read("zsOD/requests.json").items()})
write("VQA", {id: question["question"].split()[-1] for id, question in read("VQA/questions.json").items()})
"""


def write(path: Path, document: object) -> None:
    """Write JSON, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")


def build_fbc1(root: Path) -> Path:
    """Write the data folder; HTR has two pictures."""
    write(root / "C2C" / "requests.json", {"0": "void x ( ) { }"})
    write(root / "C2C" / "true_C2C.json", {"0": "def x ( ) : NEW_LINE INDENT pass DEDENT"})
    write(root / "HTR" / "true_HTR.json", {"0.png": "последовал", "1.png": "за"})
    write(root / "zsOD" / "requests.json", {"0.jpg": ["рыжий кот", "bald man"]})
    write(root / "zsOD" / "true_zsOD.json", {"0.jpg": {"рыжий кот": [[1, 2, 30, 40]], "bald man": []}})
    write(root / "VQA" / "questions.json", {"0": {"file_name": "1.jpg", "question": "Он смотрит вниз"}})
    write(root / "VQA" / "true_VQA.json", {"0": {"answer": ["вниз"], "lang": "ru", "question_id": 5}})
    for name in ("HTR/images/0.png", "HTR/images/1.png", "zsOD/images/0.jpg", "VQA/images/1.jpg"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 200, dtype=np.uint8)).save(path)
    return root


def program(boxes: str) -> str:
    """A run.py that answers what `build_fbc1` asks, rightly but for the `boxes` that it finds whatever is described."""
    return f"BOXES = {boxes}\n{_PROGRAM}"
