"""The held-out export: opponents and checks of pictures and routes."""

import json
import shutil
from pathlib import Path

import pytest

from training.heldout import check_pictures, check_routes, export
from training.worlds.signs import FONT_FILES, FONTS
from training.worlds.stamps import STAMPS

pytestmark = pytest.mark.skipif(
    not STAMPS.is_dir() or not all((FONTS / file).exists() for file in FONT_FILES),
    reason="Debian's stamps and fonts are not installed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heldout")
    export(out, n=30, first_seed=500, size=64)
    return out


def test_true_pictures_show_what_was_asked_and_swapped_ones_do_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for picture in (folder / "data" / "gt_images").iterdir():
        shutil.copy(picture, tmp_path / "images" / f"image_{picture.stem}.jpg")
    true, swapped = check_pictures(folder, tmp_path), check_pictures(folder, folder / "chance")
    assert true["background"][0] == 1.0 and true["colour"][0] == 1.0 and true["shape"][0] > 0.7
    assert swapped["background"][0] < 0.5


def test_a_missing_picture_is_a_miss(folder: Path, tmp_path: Path) -> None:
    assert {share for share, _ in check_pictures(folder, tmp_path).values()} == {0.0}


def test_routes_are_told_by_the_first_entry(folder: Path, tmp_path: Path) -> None:
    tasks = json.loads((folder / "data" / "sample_ids.json").read_text(encoding="utf-8"))
    text, image = {"type": "text", "content": "да"}, {"type": "image", "content": "images/image_0.jpg"}
    predictions = {key: [text, image] for key in tasks}
    (tmp_path / "predictions.json").write_text(json.dumps(predictions), encoding="utf-8")
    assert check_routes(folder, tmp_path) == {"TextQA": (1.0, 30), "MathQA": (1.0, 30), "ImageGeneration": (0.0, 30)}


def test_the_constant_answer_is_the_most_accepted_one(folder: Path) -> None:
    truth, constant = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("data/ground_truth.json", "constant/predictions.json")
    )
    tasks = json.loads((folder / "data" / "sample_ids.json").read_text(encoding="utf-8"))
    for number in (0, 1, 3, 4, 5):
        keys = [key for key, task in tasks.items() if task == number]
        (answer,) = {constant[key][0]["content"] for key in keys}
        accepted = [set(truth[key][0]["content"]) for key in keys]
        hits = {a: sum(a in answers for answers in accepted) for a in set().union(*accepted)}
        assert hits[answer] == max(hits.values())
