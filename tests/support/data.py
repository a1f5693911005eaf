"""A small data folder with all twelve tasks, and an output folder that answers it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
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
