"""ruCLIP against latents of the published code on random weights, and what it promises beyond them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evaluator.metrics import clip
from evaluator.metrics.clip import FILES, TEMPLATES, Config, RuCLIP, to_pixels

FOLDER = Path(__file__).parents[2] / "data" / "ruclip"
CPU = torch.device("cpu")
TEXTS: list[str] = json.loads((FOLDER / "texts.json").read_text(encoding="utf-8"))
REFERENCE = np.load(FOLDER / "reference.npz")


@pytest.fixture(scope="module")
def ruclip() -> RuCLIP:
    return RuCLIP.from_pretrained(FOLDER, CPU)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "ruclip"
    folder.mkdir()
    for name in FILES:
        shutil.copy(FOLDER / name, folder)
    return folder


def images() -> list[Image.Image]:
    return [Image.open(FOLDER / f"image_{i}.png") for i in range(len(TEXTS))]


def test_published_ids(ruclip: RuCLIP) -> None:
    ids = ruclip.tokenize(TEXTS)
    assert ids.dtype == torch.long
    np.testing.assert_array_equal(ids.numpy(), REFERENCE["ids"])


def test_published_latents_and_scores(ruclip: RuCLIP) -> None:
    text_latents, image_latents = ruclip.text_latents(TEXTS), ruclip.image_latents(images())
    np.testing.assert_allclose(text_latents, REFERENCE["text_latents"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(image_latents, REFERENCE["image_latents"], rtol=0, atol=1e-4)
    np.testing.assert_allclose((text_latents * image_latents).sum(axis=1), REFERENCE["scores"], rtol=0, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_half_precision_on_a_gpu_is_close() -> None:
    ruclip = RuCLIP.from_pretrained(FOLDER)
    np.testing.assert_allclose(ruclip.text_latents(TEXTS), REFERENCE["text_latents"], rtol=0, atol=5e-3)
    np.testing.assert_allclose(ruclip.image_latents(images()), REFERENCE["image_latents"], rtol=0, atol=5e-3)


@pytest.mark.parametrize("size", [1, 2])
def test_batches_and_generators_change_nothing(ruclip: RuCLIP, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A batch without the longest text is cut shorter, which may not be seen."""
    monkeypatch.setattr(clip, "TEXT_BATCH", size)
    monkeypatch.setattr(clip, "IMAGE_BATCH", size)
    text_latents = ruclip.text_latents(text for text in TEXTS)
    image_latents = ruclip.image_latents(image for image in images())
    np.testing.assert_allclose(text_latents, REFERENCE["text_latents"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(image_latents, REFERENCE["image_latents"], rtol=0, atol=1e-5)


def test_rows_are_in_the_order_of_the_texts(ruclip: RuCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are encoded by their lengths, and equal ones once."""
    monkeypatch.setattr(clip, "TEXT_BATCH", 2)
    texts = ["красный кот на окне и собака у двери", "кот", "", "Кот ", "кот", "две собаки"]
    alone = np.concatenate([ruclip.text_latents([text]) for text in texts])
    np.testing.assert_allclose(ruclip.text_latents(texts), alone, rtol=0, atol=1e-6)
    encoded = []
    encode = ruclip._network.encode_text
    monkeypatch.setattr(ruclip._network, "encode_text", lambda ids: encoded.extend(ids) or encode(ids))
    ruclip.text_latents(texts)
    assert len(encoded) == 4 * len(TEMPLATES)


def test_templates_are_averaged_before_they_are_normalised(ruclip: RuCLIP) -> None:
    filled = [template.format("красный кот") for template in TEMPLATES]
    with torch.inference_mode():
        latents = [ruclip._network.encode_text(ruclip.tokenize([text]))[0] for text in filled]
    mean = torch.stack(latents).mean(dim=0)
    np.testing.assert_allclose(ruclip.text_latents(["  Красный КОТ\n"])[0], mean / mean.norm(), rtol=0, atol=1e-5)
    assert len(set(filled)) == 6


def test_any_text_has_a_unit_latent(ruclip: RuCLIP) -> None:
    texts = ["", "{0} {x} {", "🙂\x00\ud800", "слово " * 5000, "<EOS>"]
    latents = ruclip.text_latents(texts)
    np.testing.assert_allclose(np.linalg.norm(latents, axis=1), 1, atol=1e-5)
    ids = ruclip.tokenize(texts)
    assert ids.shape == (5, 24) and ((ids == clip.EOS).sum(dim=1) == 1).all()
    assert ids[0, :3].tolist() == [clip.BOS, clip.EOS, clip.PAD] and ids[3, -1] == clip.EOS


def test_nothing_in_gives_no_rows(ruclip: RuCLIP) -> None:
    assert ruclip.text_latents([]).shape == ruclip.image_latents([]).shape == (0, 32)
    assert ruclip.tokenize([]).shape == (0, 24)


# By torchvision's RandomResizedCrop(scale=(1, 1), ratio=(1, 1)). Where sides differ by one, its crop is random.
@pytest.mark.parametrize(
    ("width", "height", "begin"),
    [(29, 28, 0), (30, 28, 1), (31, 28, 1), (35, 28, 3), (37, 28, 4), (500, 333, 83), (640, 425, 107)],
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_square_begins_at_half_the_excess_rounded_down(width: int, height: int, begin: int, turned: bool) -> None:
    config = Config.from_file(FOLDER / "config.json")
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))
    square = image.crop((begin, 0, begin + height, height))
    if turned:
        image, square = image.transpose(Image.Transpose.TRANSPOSE), square.transpose(Image.Transpose.TRANSPOSE)
    assert torch.equal(to_pixels([image], config, CPU), to_pixels([square], config, CPU))


def test_images_of_any_mode(ruclip: RuCLIP) -> None:
    grey = Image.linear_gradient("L")
    expected = ruclip.image_latents([grey.convert("RGB")])
    for mode in ("L", "P", "RGBA"):
        np.testing.assert_array_equal(ruclip.image_latents([grey.convert(mode)]), expected)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def test_mean_and_std_of_the_configuration_are_used(copy: Path) -> None:
    edit(copy / "config.json", lambda config: config.update(mean=[0, 0.5, 1], std=[1, 0.5, 2], eos_id=3))
    config = Config.from_file(copy / "config.json")
    white = to_pixels([Image.new("RGB", (30, 30), "white")], config, CPU)
    np.testing.assert_allclose(white[0, :, 0, 0], [1, 1, 0])


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        RuCLIP.from_pretrained(copy, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("embed_dim"), "embed_dim is None"),
        (lambda config: config.update(vision_layers=0), "vision_layers is 0; allowed is a whole number"),
        (lambda config: config.update(context_length=24.0), "context_length is 24.0"),
        (lambda config: config.update(vision_width=True), "vision_width is True"),
        (lambda config: config.update(mean=[0, 1]), r"mean is \[0, 1\]; allowed are three numbers"),
        (lambda config: config.update(vision_width=96), "vision_width is 96; allowed are multiples of 64"),
        (lambda config: config.update(transformer_heads=5), "transformer_width is 64; allowed are multiples of 5"),
        (lambda config: config.update(vocab_size=172), "bpe.model: damaged, or has more than the 172 ids"),
        (lambda config: config.update(vision_layers=3), r"(?s)pytorch_model.bin: not the weights.*resblocks.2"),
    ],
)
def test_a_wrong_configuration_is_named(copy: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit(copy / "config.json", change)
    with pytest.raises(ValueError, match=message):
        RuCLIP.from_pretrained(copy, CPU)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00"])
def test_a_damaged_configuration_is_named(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.json: (not JSON|top level is list)"):
        RuCLIP.from_pretrained(copy, CPU)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "not a youtokentome model"),
        (lambda text: text[: len(text) // 2], "bpe.model: "),
        (lambda text: text.replace("29 140", "30 140", 1), "damaged"),
        (lambda text: text.replace("12 170 171", "12 999 171", 1), "damaged"),
        (lambda text: text.replace("1 0 2 3", "0 1 2 3"), r"have the ids \[0, 1, 2, 3\]"),
        (lambda text: "<html>", "not a youtokentome model"),
    ],
)
def test_a_damaged_bpe_is_named_and_not_loaded(copy: Path, damage: Callable[[str], str], message: str) -> None:
    path = copy / "bpe.model"
    path.write_text(damage(path.read_text(encoding="ascii")), encoding="ascii")
    with pytest.raises(ValueError, match=message):
        RuCLIP.from_pretrained(copy, CPU)
