"""The small encoders: what they promise to callers, that training works, that the shipped weights can be used."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from evaluator.metrics.clip import TEMPLATES
from evaluator.metrics.fid import frechet_distance
from evaluator.metrics.nano import FILE, ImageEncoder, NanoEncoders, TextEncoder, bags, to_pixels
from evaluator.tools import nano_encoders

ROOT = Path(__file__).parents[3]
COLOURS = {"красный": "red", "зелёный": "green", "синий": "blue", "жёлтый": "yellow", "чёрный": "black"}
SHAPES = {"круг": "ellipse", "квадрат": "rectangle"}
NAMES = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


def draw(name: str, random: np.random.Generator, size: int = 64) -> Image.Image:
    colour, shape = name.split()
    background = tuple(int(value) for value in random.integers(170, 256, 3))
    image = Image.new("RGB", (size, size), background)
    side = size * random.uniform(0.4, 0.7)
    left, top = random.uniform(0, size - side, 2)
    getattr(ImageDraw.Draw(image), SHAPES[shape])((left, top, left + side, top + side), fill=COLOURS[colour])
    return image


def write_folder(folder: Path, count: int) -> None:
    random = np.random.default_rng(0)
    folder.mkdir()
    entries = []
    for i in range(count):
        name = NAMES[random.integers(len(NAMES))]
        draw(name, random).save(folder / f"{i}.png")
        entries.append({"image": f"{i}.png", "captions": [name, f"На картинке {name}."]})
    (folder / "captions.json").write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> NanoEncoders:
    folder = tmp_path_factory.mktemp("nano")
    write_folder(folder / "data", 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nano_encoders, "LEARNING_RATE", nano_encoders.LEARNING_RATE / 2)  # learns more in so few steps
        nano_encoders.main(
            ["--data", str(folder / "data"), "--out", str(folder / "out"), "--steps", "60", "--batch-size", "32"]
        )
    card = (folder / "out" / "README.md").read_text(encoding="utf-8")
    assert "270 generated scenes" in card and NanoEncoders.label in card
    return NanoEncoders.load(folder / "out")


@pytest.fixture(scope="module")
def shipped() -> NanoEncoders:
    return NanoEncoders.load()


def photographs(count: int) -> list[Image.Image]:
    random = np.random.default_rng(1)
    images = []
    for i in range(count):
        width, height = (int(value) for value in random.integers(20, 300, 2))
        noise = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8))
        images.append(noise.resize((width, height)).convert(("RGB", "L", "RGBA", "P", "CMYK")[i % 5]))
    return images


@pytest.mark.slow
def test_trained_encoders_know_colours_and_shapes(trained: NanoEncoders) -> None:
    random = np.random.default_rng(99)
    images = [draw(name, random, size=100) for name in NAMES for _ in range(10)]
    cosines = trained.image_latents(images) @ trained.text_latents(NAMES).T
    right = np.repeat(np.arange(len(NAMES)), 10)
    assert (cosines.argmax(axis=1) == right).mean() > 0.6  # chance is 0.1
    correct = np.eye(len(NAMES), dtype=bool)[right]
    assert cosines[correct].mean() > cosines[~correct].mean() + 0.4


@pytest.mark.slow
def test_features_tell_other_pictures_from_alike_ones(trained: NanoEncoders) -> None:
    random = np.random.default_rng(7)
    first, second = ([draw(NAMES[i % 10], random) for i in range(60)] for _ in range(2))
    blurred = [image.filter(ImageFilter.GaussianBlur(8)) for image in second]
    noise = [Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(60)]
    features = trained.image_features(first)
    assert features.shape == (60, 160) and features.dtype == np.float64
    alike, soft, unlike = (frechet_distance(features, trained.image_features(x)) for x in (second, blurred, noise))
    assert alike < soft < unlike


def test_latents_are_unit_rows_of_one_space(shipped: NanoEncoders) -> None:
    texts = ["Красный круг", "«Ёлка» 🙂", "🙂", "", "слово " * 5000]
    text_latents, image_latents = shipped.text_latents(texts), shipped.image_latents(photographs(5))
    assert text_latents.shape == image_latents.shape == (5, 96)
    np.testing.assert_allclose(np.linalg.norm(text_latents, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(image_latents, axis=1), 1, atol=1e-5)


def test_nothing_in_gives_no_rows(shipped: NanoEncoders) -> None:
    assert shipped.text_latents([]).shape == shipped.image_latents([]).shape == (0, 96)
    assert shipped.image_features([]).shape == (0, 160)


def test_batches_do_not_change_results(shipped: NanoEncoders) -> None:
    images = photographs(70)  # more than a batch
    texts = [f"{name}, номер {i}" for i in range(14) for name in NAMES[:5]]
    pairs: list[tuple[Callable, list]] = [
        (shipped.text_latents, texts),
        (shipped.image_latents, images),
        (shipped.image_features, images),
    ]
    for encode, items in pairs:
        together = encode(items)
        np.testing.assert_allclose(together, np.concatenate([encode([item]) for item in items]), atol=2e-5)
        np.testing.assert_array_equal(together, encode(items))


def test_text_is_the_normalised_mean_over_templates(shipped: NanoEncoders) -> None:
    with torch.inference_mode():
        mean = sum(shipped.text(*bags([template.format("красный круг")]))[0] for template in TEMPLATES) / 6
    assert isinstance(mean, torch.Tensor)
    expected = (mean / mean.norm()).numpy()
    np.testing.assert_allclose(shipped.text_latents(["  КРАСНЫЙ круг\n"])[0], expected, atol=1e-5)
    assert len(TEMPLATES) == 6


def test_braces_in_a_text_are_text(shipped: NanoEncoders) -> None:
    assert shipped.text_latents(["{0} {x} {"]).shape == (1, 96)


def test_bags_know_order_and_ignore_yo() -> None:
    def bag(text: str) -> list[int]:
        return sorted(bags([text])[0].tolist())

    assert bag("кот и пёс") == bag("Кот и пес")
    assert bag("кот и пёс") != bag("пёс и кот")
    ids, offsets = bags(["кот", "", "пёс"])
    assert ids[offsets[0] : offsets[1]].tolist() == bags(["кот"])[0].tolist()


@pytest.mark.slow
def test_hash_is_the_same_in_every_process() -> None:
    code = "from evaluator.metrics.nano import bags; print(bags(['красный круг'])[0].tolist(), hash('круг'))"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": other}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=True, text=True
    )
    ids, python = done.stdout.strip().rsplit(" ", 1)
    assert ids == str(bags(["красный круг"])[0].tolist()) and int(python) != hash("круг")


def test_centre_of_an_image_counts() -> None:
    image = Image.new("RGB", (200, 100), "red")
    image.paste("blue", (50, 0, 150, 100))
    pixels = to_pixels([image])
    assert pixels.shape == (1, 3, 64, 64)
    np.testing.assert_array_equal(pixels, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 64, 64))


def test_sizes() -> None:
    assert 400_000 < sum(p.numel() for p in ImageEncoder().parameters()) < 600_000
    assert sum(p.numel() for p in TextEncoder().parameters()) < 900_000
    assert sum(path.stat().st_size for path in (ROOT / "evaluator/assets/nano").iterdir()) <= 3_000_000


def test_missing_or_foreign_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=FILE):
        NanoEncoders.load(tmp_path)
    (tmp_path / FILE).write_bytes(b"not safetensors")
    with pytest.raises(ValueError, match=FILE):
        NanoEncoders.load(tmp_path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "top level is dict"),
        ([{"image": 3}], "entry 0 is"),
        ([{"image": "0.png", "captions": []}], "entry 0 has the captions"),
    ],
)
def test_bad_training_data_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entries: object, message: str
) -> None:
    (tmp_path / "captions.json").write_text(json.dumps(entries), encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        nano_encoders.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
