"""A small data folder with all twelve tasks, and submissions that are real programs."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

PAIRS = 3  # examples of each task
HIDDEN_METRICS = ("exact_match", "f1_lemmas", "vqa_meteor", "one_minus_ned", "captioning", "caption_meteor")
ANSWERS = {
    0: "из-за «сильного» дождя",
    1: "b) -38",
    3: "рыжая кошка сидит на столе 🐈",
    4: "красный",
    5: "Ёлки-палки",
    6: "3",
    7: "кот учёный",
    8: "четыре",
    9: "1729",
    10: "синий поезд на мосту",
    11: "птицы летают над озером",
}

# Two stages by epoch, the second final; and a run that is no training. In a process of its own: eco2AI and its
# scheduler leave threads and warnings behind.
TRACKED = """
import sys, time, warnings
warnings.simplefilter("ignore")
import eco2ai.emission_track as eco
eco.get_params = dict
eco.set_params = lambda **_: None  # not into site-packages
def tracker(description, file):
    return eco.Tracker(project_name='Проект «Ёж», "1,5"', experiment_description=description, file_name=file,
        measure_period=1, alpha_2_code="RU", cpu_processes="all", encode_file=True, ignore_warnings=True,
        timezone="UTC")
def spend(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
stage = tracker("прогрев, lr 2e-5", "emission.csv")
stage.start_training()
spend(0.2); stage.new_epoch({"loss": 1.5, "заметка": "а'б, \\"в\\" 🐈"})
spend(0.2); stage.new_epoch({"loss": 1.25})
stage.stop_training()
stage = tracker("fine-tuning TargetValue", "emission.csv")
stage.start_training()
spend(0.2); stage.new_epoch({"loss": 1.0})
stage.stop_training()
run = tracker("whole TargetValue run", "run.csv")
run.start(); spend(1.2); run.stop()
"""


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """An image of its own for each seed: large random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST)


def build_data(root: Path, tasks: range | tuple[int, ...] = range(12)) -> Path:
    """Write a data folder with `PAIRS` examples of each of `tasks`."""
    inputs: dict[str, Any] = {}
    truth: dict[str, Any] = {}
    numbers: dict[str, int] = {}
    (root / "images").mkdir(parents=True)
    (root / "gt_images").mkdir()
    for task in tasks:
        for pair in range(PAIRS):
            id = str(100 * task + pair)
            numbers[id] = task
            if task == 2:
                text = [["Нарисуй картинку.", "Красный мяч на траве."], ["Нарисуй: кот. Рыжий кот. Он спит."]][pair % 2]
                inputs[id] = [{"type": "text", "content": part} for part in text]
                noise(int(id)).save(root / "gt_images" / f"{id}.png")
                truth[id] = [{"type": "image", "content": f"gt_images/{id}.png"}]
                continue
            inputs[id] = [{"type": "text", "content": f"Инструкция «{task}»: ответь на вопрос, ёж?"}]
            if task not in (0, 1):
                noise(int(id)).save(root / "images" / f"{id}.png")
                inputs[id].append({"type": "image", "content": f"images/{id}.png"})
            truth[id] = [{"type": "text", "content": [ANSWERS[task], "иной ответ"]}]
    hidden = {
        str(number): {"name": f"Hidden{number - 5}", "title": f"Скрытая {number}", "output": "text", "metric": metric}
        for number, metric in zip(range(6, 12), HIDDEN_METRICS, strict=True)
    }
    for name, document in {
        "input.json": inputs,
        "ground_truth.json": truth,
        "sample_ids.json": numbers,
        "tasks.json": hidden,
    }.items():
        (root / name).write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return root


def build_output(root: Path, data: Path) -> Path:
    """Write an output folder that answers every text task rightly and every image task with noise."""
    numbers = json.loads((data / "sample_ids.json").read_text(encoding="utf-8"))
    (root / "images").mkdir(parents=True)
    predictions: dict[str, Any] = {}
    for id, task in numbers.items():
        if task == 2:
            noise(7000 + int(id)).save(root / "images" / f"image_{id}.jpg")
            predictions[id] = [{"type": "image", "content": f"images/image_{id}.jpg"}]
        else:
            predictions[id] = [{"type": "text", "content": ANSWERS[task]}]
    (root / "predictions.json").write_text(json.dumps(predictions, ensure_ascii=False), encoding="utf-8")
    return root


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    return build_data(tmp_path / "data")


@pytest.fixture
def output_folder(tmp_path: Path, data_folder: Path) -> Path:
    return build_output(tmp_path / "output", data_folder)


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Builds a data folder that has only some tasks."""

    def make(*tasks: int) -> Path:
        return build_data(tmp_path / "some-data", tasks)

    return make


@pytest.fixture
def make_output(tmp_path: Path) -> Callable[[Path], Path]:
    def make(data: Path) -> Path:
        return build_output(tmp_path / "some-output", data)

    return make


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Changes a JSON file through a function that mutates its document or returns another."""

    def edit(path: Path, change: Callable[[Any], Any]) -> None:
        document = json.loads(path.read_text(encoding="utf-8"))
        changed = change(document)
        path.write_text(json.dumps(document if changed is None else changed, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.fixture
def make_submission(tmp_path: Path) -> Callable[..., Path]:
    """Writes a submission folder whose run.py is the given code."""

    def make(code: str, entrypoint: str = "python3 run.py", name: str = "submission") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.py").write_text(textwrap.dedent(code), encoding="utf-8")
        (folder / "metadata.json").write_text(
            json.dumps({"image": "example/image:1", "entrypoint": entrypoint}), encoding="utf-8"
        )
        return folder

    return make


@pytest.fixture
def answering_code() -> str:
    """A submission that knows no truth: it answers every example with a text and a picture of noise."""
    return """
        import json, os, random
        from PIL import Image
        examples = json.load(open("../input/input.json", encoding="utf-8"))
        os.makedirs("output/images")
        predictions = {}
        for id in examples:
            random.seed(id)
            image = Image.frombytes("RGB", (32, 32), random.randbytes(32 * 32 * 3))
            image.save(f"output/images/image_{id}.jpg")
            predictions[id] = [{"type": "text", "content": "красный"},
                               {"type": "image", "content": f"images/image_{id}.jpg"}]
        json.dump(predictions, open("output/predictions.json", "w", encoding="utf-8"), ensure_ascii=False)
        print("готово: ёж", len(predictions))
    """


@pytest.fixture(scope="session")
def tracked(tmp_path_factory) -> Path:
    """A folder with emission.csv, run.csv and their encoded twins, by eco2AI."""
    folder = tmp_path_factory.mktemp("tracked")
    subprocess.run([sys.executable, "-c", TRACKED], cwd=folder, check=True, capture_output=True, timeout=300)
    return folder
