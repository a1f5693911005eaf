"""The table and picture of nano's losses, from logs as its training writes them."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from training.nano import curves

REPOSITORY = Path(__file__).resolve().parents[3]
LINE = (
    "2026-01-01 10:00:00,000 step {step} of 90  TextQA {loss:.4f}  MathQA 9.5000  ImageGeneration 2.3000  "
    "ImageCaptioning+VisualQA+TRitW 0.2900  norm 0.3259  samples {samples}.0000  1.51 s a step, 80 min to go\n"
)


def write_log(path: Path, *points: tuple[int, float, int]) -> Path:
    lines = [LINE.format(step=step, loss=loss, samples=samples) for step, loss, samples in points]
    vqgan = "2026-01-01 10:00:00,000 step 50 of 2600  l1 0.1000  1.00 s a step, 9 min to go\n"
    path.write_text("FutureWarning: ёж\n" + vqgan + "  x\n".join(lines), encoding="utf-8")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["curves", *map(str, arguments)])
    curves.main()


def test_logs_become_a_table_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_log(tmp_path / "1.log", (50, 0.3, 6200), (100, 0.25, 12400), (100, 0.24, 12400))
    second = write_log(tmp_path / "2.log", (50, 0.1, 5000))
    run(monkeypatch, "--out", tmp_path, "--add", "first", first, "--add", "second", second)
    assert (tmp_path / "losses.csv").read_text(encoding="utf-8").splitlines() == [
        "run,samples,TextQA,MathQA,ImageGeneration,ImageCaptioning+VisualQA+TRitW",
        "first,6200,0.3000,9.5000,2.3000,0.2900",
        "first,12400,0.2400,9.5000,2.3000,0.2900",  # the step was made again
        "second,5000,0.1000,9.5000,2.3000,0.2900",
    ]
    drawn = (tmp_path / "losses.png").read_bytes()
    assert Image.open(tmp_path / "losses.png").size == (1000, 600)
    # A run's own log takes the place of what was there of it, and leaves the others.
    run(monkeypatch, "--out", tmp_path, "--add", "first", write_log(tmp_path / "3.log", (50, 0.5, 6200)))
    rows = curves.read_table(tmp_path / "losses.csv")
    assert {key: row["TextQA"] for key, row in rows.items()} == {("second", 5000): "0.1000", ("first", 6200): "0.5000"}
    assert (tmp_path / "losses.png").read_bytes() != drawn
    assert not list(tmp_path.glob("*.part"))


def test_a_restart_with_other_steps_goes_on_where_it_began(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log", (50, 0.4, 6200), (100, 0.3, 12400), (150, 0.2, 18600), (120, 0.25, 15000))
    assert list(curves.read_log("x", path)) == [("x", 6200), ("x", 12400), ("x", 15000)]


def test_what_is_no_log_or_no_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "ёж.log"
    other.write_text("step 50 of 2600  l1 0.1000  1.00 s a step\n", encoding="utf-8")
    for arguments, message in (
        (["--out", tmp_path], "losses.csv is not there"),
        (["--out", tmp_path, "--add", "x", other], "ёж.log has no line of a decoder's training"),
        (["--out", tmp_path, "--add", "x", tmp_path / "none"], "none"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(monkeypatch, *arguments)
    assert not (tmp_path / "losses.png").exists()


def test_the_cards_last_losses_are_those_of_the_table() -> None:
    rows = curves.read_table(REPOSITORY / "docs/nano/losses.csv")
    card = (REPOSITORY / "submission/weights/nano/README.md").read_text(encoding="utf-8")
    _, samples = max((key for key in rows if key[0] == "sixth"), key=lambda key: key[1])
    last = rows["sixth", samples]
    shown = f"| {float(last['TextQA']):.3f} | {float(last['MathQA']):.3f} | {float(last['ImageGeneration']):.2f} |"
    assert f"| sixth | {samples // 1000} {samples % 1000:03} {shown}" in card
