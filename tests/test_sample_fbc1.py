"""The folder `sample_input/fbc1/` is consistent with itself and is what its build script writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.handwriting import needs_pictures

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_input" / "fbc1"
PYTHON = {"def", "return", ":", "NEW_LINE", "INDENT", "DEDENT"}


def load(name: str, folder: Path = SAMPLE) -> Any:
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def pictures(task: str) -> dict[str, tuple[int, int]]:
    found = {}
    for path in (SAMPLE / task / "images").iterdir():
        with Image.open(path) as image:
            image.load()
            found[path.name] = image.size
    return found


def test_programs() -> None:
    asked, truth = load("C2C/requests"), load("true_C2C")
    assert list(asked) == list(truth) == [str(number) for number in range(24)]
    assert all(source.split() == source.split(" ") and "{" in source for source in asked.values())
    assert all(set(program.split()) >= PYTHON for program in truth.values())
    assert len(set(truth.values())) == len(truth)


def test_handwriting_in_two_languages() -> None:
    truth = load("true_HTR")
    assert pictures("HTR").keys() == truth.keys() and len(truth) == 24
    russian = [word for word in truth.values() if set(word) <= set("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")]
    assert 6 <= len(russian) <= 18


def test_requests_and_boxes() -> None:
    asked, truth, sizes = load("zsOD/requests"), load("true_zsOD"), pictures("zsOD")
    assert asked == {name: list(boxes) for name, boxes in truth.items()} and asked.keys() == sizes.keys()
    assert len(asked) == 12
    absent = 0
    for name, labels in truth.items():
        for boxes in labels.values():
            absent += not boxes
            for x, y, w, h in boxes:
                assert min(x, y) >= 0 and min(w, h) > 10 and x + w <= sizes[name][0] and y + h <= sizes[name][1]
    assert 10 < absent < 38, "some requests are for nothing in the picture"


def test_questions_in_two_languages() -> None:
    asked, truth, sizes = load("VQA/questions"), load("true_VQA"), pictures("VQA")
    assert asked.keys() == truth.keys() and len(asked) == 24
    assert {question["file_name"] for question in asked.values()} == sizes.keys()
    languages = [answer["lang"] for answer in truth.values()]
    assert min(languages.count("ru"), languages.count("en")) >= 6
    assert all(answer["answer"].strip().lower() == answer["answer"] != "" for answer in truth.values())


@needs_pictures
def test_what_is_built_is_what_is_here(tmp_path: Path) -> None:
    """Texts and truth; the pictures' bytes depend on Pillow's version, so they are compared with a second build."""
    for name in ("first", "second"):
        subprocess.run(
            [sys.executable, str(SAMPLE / "build.py"), "--output", str(tmp_path / name)],
            env=os.environ | {"PYTHONPATH": str(ROOT / "submission")}, check=True,
        )  # fmt: skip
    files = {path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file()}
    assert len(files) == 7 + 24 + 12 + 12
    for file in files:
        first = (tmp_path / "first" / file).read_bytes()
        assert first == (tmp_path / "second" / file).read_bytes()
        assert (SAMPLE / file).exists()
        if file.suffix == ".json":
            assert first == (SAMPLE / file).read_bytes()


def test_the_shipped_model_is_small() -> None:
    folders = (ROOT / "submission" / "weights" / name for name in ("fbc1", "nano/vqgan"))
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in files) <= 10_000_000


def test_all_tasks_share_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    from evaluator.cli.app import main

    assert main(["shared-parameters", str(ROOT / "submission")]) == 0
    assert "at least 0.25 needed: met" in capsys.readouterr().out


def test_the_shipped_model_reaches_the_minimal_scores(tmp_path: Path) -> None:
    """One model for all four tasks, above what 2021's challenge asked of a prize, though on this sample."""
    import run
    from evaluator.cli.app import main

    assert run.main(["--input", str(SAMPLE), "--output", str(tmp_path / "output"), "--device", "cpu"]) == 0
    call = ["score", str(tmp_path / "output"), "--data", str(SAMPLE), "--competition", "fbc1", "--no-report"]
    assert main([*call, "--json", str(tmp_path / "scores.json")]) == 0
    scores = {task["name"]: task["score"] for task in load("scores", tmp_path)["tasks"].values()}
    assert scores.keys() == {"C2C", "HTR", "ZsOD", "VQA"}
    assert scores["C2C"] >= 0.2 and scores["HTR"] >= 0.3 and scores["ZsOD"] >= 0.1 and scores["VQA"] >= 0.25
