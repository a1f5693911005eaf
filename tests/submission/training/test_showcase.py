"""The page and pictures that show nano: made of its answers, small, and those of the shipped weights."""

from pathlib import Path

import pytest
from PIL import Image, ImageFont

from rudolph import Settings
from training.nano import showcase
from training.worlds.signs import FONT_FILES, FONTS
from training.worlds.stamps import STAMPS

ROOT = Path(__file__).parents[3]
NANO = ROOT / "submission" / "weights" / "nano"
needs_packages = pytest.mark.skipif(
    not STAMPS.is_dir() or not all((FONTS / file).exists() for file in FONT_FILES),
    reason="Debian's stamps and fonts are not installed",
)


def test_docs_show_the_shipped_weights() -> None:
    """After other weights are shipped: make showcase."""
    page = (ROOT / "docs" / "nano" / "README.md").read_text(encoding="utf-8")
    assert f"`{showcase.weights_digest(NANO)}`" in page
    for name in ("strip.png", "zero_shot.png"):
        assert f"({name})" in page and (ROOT / "docs" / "nano" / name).stat().st_size < 300_000


@needs_packages
def test_the_page_has_what_the_pictures_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "REQUESTS": showcase.REQUESTS[:2], "TASKS": showcase.TASKS, "EXAMPLES": 1, "CAPTIONED": 1, "DRAWS": 1,
        "PAINTINGS": showcase.PAINTINGS[:1], "BEGINNINGS": showcase.BEGINNINGS[:1],
    }.items():  # fmt: skip
        monkeypatch.setattr(showcase, name, value)
    composed: dict[str, list[list[showcase.Cell]]] = {}
    compose = showcase._compose
    monkeypatch.setattr(
        showcase, "_compose", lambda path, rows: composed.update({path.name: rows}) or compose(path, rows)
    )
    showcase.show(tmp_path / "nano", Settings(dtype="float32"), NANO)
    page = (tmp_path / "nano" / "README.md").read_text(encoding="utf-8")
    for task in showcase.TASKS:
        assert f"## {task}\n\n| input | answer | accepted |" in page
    for call in ("caption(rudolph, ", "inpaint(rudolph, ", "classify(rudolph, ", "continue_text(rudolph, "):
        assert call in page
    answers = [line.removeprefix("→ ") for rows in composed.values() for row in rows for cell in row
               for line, _ in cell.lines if line.startswith("→ ")]  # fmt: skip
    assert len(answers) >= 6 and all(showcase._plain(answer) in page for answer in answers)
    assert sum(cell.picture is not None for row in composed["strip.png"] for cell in row) == 2 + 3
    for name in composed:
        with Image.open(tmp_path / "nano" / name) as picture:
            assert picture.width == 986 and picture.height > 200


@needs_packages
def test_lines_fit_their_cell() -> None:
    font = ImageFont.truetype(str(FONTS / "dejavu/DejaVuSans.ttf"), 12)
    text = "Прочитайте «вывеску» и скажите, что на ней написано, ёжик 🦔"
    for width, picture in ((1, None), (2, None), (2, Image.new("RGB", (8, 8)))):
        cell = showcase.Cell(((text, showcase.INK), ("→ да", showcase.GREEN)), picture, width)
        lines = showcase._wrapped(cell, font)
        room = showcase.CELL * (1 if picture else width) - showcase.GAP
        assert all(font.getlength(line) <= room for line, _ in lines)
        assert " ".join(line for line, _ in lines) == f"{text} → да"
        assert lines[-1] == ("→ да", showcase.GREEN)


def test_tables_keep_their_columns() -> None:
    header, rule, row = showcase._table(("a", "b"), [("x | <br>", "две\nстроки")])[1:]
    assert header == "| a | b |" and rule == "| --- | --- |" and row == "| x \\| &lt;br> | две строки |"
