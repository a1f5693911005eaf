"""co2-report: the plots and tables of a training run, from eco2AI's own files and made ones, and in Chromium."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluator.carbon.emission import ENCODED_NAME, NAME
from evaluator.cli.app import main
from evaluator.core import limits
from evaluator.core.errors import DataError
from evaluator.reports import co2 as co2_report
from evaluator.reports.co2 import BY_CO2, ENERGY, LOSS, PAGE, PER_EPOCH
from tests.support.browser import DESK, PHONE, Page
from tests.support.emission import made

HOSTILE = '<img src=x onerror="window.hacked=1"> $\\frac{$ {{total}} \u202eтяхо 🐈'
# Stage, epoch, kWh of eco2AI, kWh of the independent reading, losses of the steps: hand-made, an hour each at 200 W.
EPOCHS: tuple[tuple[str, int, float, float, list[float]], ...] = (
    ("pretrain", 1, 0.20, 0.21, [4.0, 3.0]),
    ("pretrain", 2, 0.22, 0.21, [2.5, 2.0, 1.5]),
    ("finetune", 1, 0.10, 0.20, [1.0]),
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Writes what a training run leaves."""

    def write_table(path: Path, rows: Sequence[Sequence[object]]) -> None:
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\n").writerows(rows)
        path.write_text(out.getvalue(), encoding="utf-8")

    def write(epochs: Sequence[tuple[str, int, float, float, list[float]]] = EPOCHS) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        rows, steps, energy = [], [], []
        last = epochs[-1][0]
        for hour, (stage, epoch, kwh, other, losses) in enumerate(epochs):
            rows.append(
                {
                    "id": f"{hour:08x}-9abc-4def-8123-456789abcdef",
                    "experiment_description": f"{stage}, TargetValue" if stage == last else stage,
                    "epoch": f"epoch: {epoch}, loss: {losses[-1] if losses else 9}, ",
                    "start_time": f"2022-11-{13 + hour // 24} {hour % 24:02}:00:00",
                    "duration(s)": "3600.0",
                    "power_consumption(kWh)": repr(kwh),
                    "CO2_emissions(kg)": repr(kwh * 0.347451),
                }
            )
            steps += [[n, epoch, stage, loss, loss, "", loss, 2e-5, n] for n, loss in enumerate(losses, 1)]
            energy.append([stage, epoch, 1, other, other * 0.347451])
        plain, encoded = made(*rows)
        (folder / NAME).write_bytes(plain)
        (folder / ENCODED_NAME).write_bytes(encoded)
        header = ["step", "epoch", "stage", "loss", "lt", "img", "rt", "learning_rate", "seconds"]
        write_table(folder / LOSS, [header, *steps])
        write_table(folder / ENERGY, [["stage", "epoch", "complete", "kwh", "kg"], *energy])
        return folder

    return write


def test_sums_by_hand(run):
    report = co2_report.read(run())
    pretrain, finetune = report.stages
    assert (pretrain.name, pretrain.epochs, pretrain.seconds) == ("pretrain", 2, 7200.0)
    assert pretrain.kwh == pytest.approx(0.42) and pretrain.kg == pytest.approx(0.14592942)
    assert pretrain.gap == pytest.approx(0.0) and not pretrain.disagrees
    assert finetune.name == "finetune" and finetune.gap == pytest.approx(0.5) and finetune.disagrees
    assert report.total.kwh == pytest.approx(0.52) and report.total.gap == pytest.approx(0.1 / 0.62)
    assert [epoch.loss for epoch in report.epochs] == [3.5, 2.0, 1.0]
    assert [epoch.losses for epoch in report.epochs] == [(4.0, 3.0), (2.5, 2.0, 1.5), (1.0,)]
    assert report.warnings[:2] == (
        "stage finetune: eco2AI and the independent reading are 50% apart, more than 10%: 100 Wh and 200 Wh",
        "all stages: eco2AI and the independent reading are 16% apart, more than 10%: 520 Wh and 620 Wh",
    )
    assert report.emission.counting.number == 4


def test_pngs_and_page_are_written(run, capsys, tmp_path):
    folder = run()
    assert main(["co2-report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"Report: {folder / 'co2' / PAGE}"
    assert "finetune       1  1:00:00  100 Wh  34.75 g  100 W       200 Wh  50.0% !     1.0000" in out
    for name in (PER_EPOCH, BY_CO2):
        image = Image.open(folder / "co2" / name)
        image.load()
        assert image.format == "PNG" and image.width > 1000
        assert {(47, 86, 198), (194, 87, 26)} <= {colour for _, colour in image.convert("RGB").getcolors(10**6)}
    assert main(["co2-report", str(folder), "--output", str(tmp_path / "x" / "y")]) == 0
    for name in (PER_EPOCH, BY_CO2, PAGE):  # the same from the same, and nothing half-written beside
        assert (tmp_path / "x" / "y" / name).read_bytes() == (folder / "co2" / name).read_bytes()
    assert {path.name for path in (folder / "co2").iterdir()} == {PER_EPOCH, BY_CO2, PAGE}


def test_the_bars_are_as_high_as_the_co2(run):
    """The first epoch's bar has 20 / 22 of the pixels of the second's, of one colour; the third's 10 / 22."""
    folder = run()
    (folder / ENERGY).unlink()
    co2_report.write(folder, folder)
    image = Image.open(folder / PER_EPOCH).convert("RGB")

    def heights(colour: tuple[int, int, int]) -> list[int]:
        counts = [
            sum(image.getpixel((x, y)) == colour for y in range(image.height - 90)) for x in range(0, image.width, 4)
        ]
        return sorted({count for count in counts if count > 20})

    blue, orange = heights((47, 86, 198)), heights((194, 87, 26))
    assert blue[-1] / max(orange) == pytest.approx(2.2, rel=0.02)
    assert min(blue, key=lambda h: abs(h - blue[-1] * 20 / 22)) / blue[-1] == pytest.approx(20 / 22, rel=0.01)


def test_the_losses_lie_over_the_co2_up_to_them(run, monkeypatch, tmp_path):
    """2 steps over the first 0.2 kWh, 3 over the next 0.22, 1 over the last 0.1; 347.451 g/kWh."""
    drawn = []
    monkeypatch.setattr(co2_report, "_thinned", lambda x, y: drawn.append((x, y)) or (x, y))
    co2_report.write(run(), tmp_path / "out")
    (x, y), (x2, y2) = drawn
    assert y == [4.0, 3.0, 2.5, 2.0, 1.5] and (x2, y2) == ([], [])  # one step makes no line
    assert [value / 347.451 for value in x] == pytest.approx([0.1, 0.2, 0.2 + 0.22 / 3, 0.2 + 0.44 / 3, 0.42])


def test_readings_that_cannot_be_are_no_figures(run, tmp_path):
    """Of eco2AI above the power of the hardware that its row names, and a negative time; of counters above any."""
    folder = run()
    rows = (folder / NAME).read_text("utf-8").replace("3600.0,0.22,", "-3600.0,0.22,").replace(",0.1,", ",9000.0,")
    (folder / NAME).write_text(rows.replace("0.0347451", "3127.059"), "utf-8")
    (folder / ENERGY).write_text(
        "stage,epoch,complete,seconds,kwh,kg\npretrain,1,1,3600,5000,9\nfinetune,1,0,-7,5000,9\n", "utf-8"
    )
    report = co2_report.write(folder, tmp_path / "out")
    assert [(epoch.stage, epoch.number, epoch.row.kwh) for epoch in report.epochs] == [("pretrain", 1, 0.2)]
    assert report.total.compared == 0 and report.cut_off is None
    said = "\n".join(report.warnings)
    assert "row 2: 5000 kWh in 3600.0 s cannot be, above 100000 W, and is left out" in said
    assert "row 3: 5000 kWh in -7.0 s cannot be" in said
    assert "row 3, duration(s): '-3600.0'" in said and "W, of a machine of at most" in said
    page = (tmp_path / "out" / co2_report.PAGE).read_text("utf-8")
    assert "No row counts for the prize" in page and "9000 kWh" not in page and "3127" not in page


def test_real_files_of_eco2ai(tracked, tmp_path):
    """Without loss.csv: the losses are those that new_epoch was given."""
    report = co2_report.write(tracked, tmp_path)
    assert [(epoch.stage, epoch.number, epoch.loss) for epoch in report.epochs] == [
        ("прогрев, lr 2e-5", 1, 1.5),
        ("прогрев, lr 2e-5", 2, 1.25),
        ("fine-tuning", 1, 1.0),
    ]
    assert report.total.gap is None and report.emission.ok
    assert (tmp_path / BY_CO2).exists() and "прогрев, lr 2e-5" in (tmp_path / PAGE).read_text(encoding="utf-8")


def test_without_any_loss_there_is_one_plot(run, tmp_path):
    folder = run()
    co2_report.write(folder, tmp_path / "out")
    (folder / LOSS).write_text("step,epoch,stage,loss\n", encoding="utf-8")
    co2_report.write(folder, tmp_path / "out")
    assert (tmp_path / "out" / PER_EPOCH).exists() and not (tmp_path / "out" / BY_CO2).exists()
    assert "No losses" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


def test_a_killed_and_resumed_run(run):
    folder = run()
    with open(folder / LOSS, "a", encoding="utf-8") as file:
        file.write("1,2,finetune,0.5,,,,,\n2,2,finetune,nan,,,,,\n3,2,finetune,0.")  # the last line was being written
    with open(folder / ENERGY, "a", encoding="utf-8") as file:
        file.write("finetune,2,0,0.05,0.0173\nfinetune,2,0,0.01,\n")
    warnings = "\n".join(co2_report.read(folder).warnings)
    assert "1 steps of epoch 2 of 'finetune' in loss.csv are of no row of emission.csv" in warnings
    assert "1 steps of loss.csv have a loss that is not finite" in warnings
    assert "parts of epochs that were cut off, or are not done, used 60 Wh, 17.3 g of CO2" in warnings


def test_an_epoch_that_was_done_anew_has_its_losses_once(run):
    first, second, third = EPOCHS
    report = co2_report.read(run((first, ("pretrain", 2, 0.3, 0.31, []), second, third)))
    assert [epoch.losses for epoch in report.epochs] == [(4.0, 3.0), (), (2.5, 2.0, 1.5), (1.0,)]
    assert [epoch.other_kwh for epoch in report.epochs] == [0.21, 0.31, 0.21, 0.2]
    assert report.total.kwh == pytest.approx(0.82) and report.stages[0].epochs == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LOSS, "step,epoch,loss\n", "must have the column stage once"),
        (LOSS, "epoch,stage,loss\n1,a,much\n", "row 2: loss must be a number, not 'much'"),
        (LOSS, "epoch,stage,loss\none,a,1\n", "row 2: epoch must be a whole number, not 'one'"),
        (LOSS, "epoch,stage,loss\n1,a\n", "row 2 has 2 cells, not 3"),
        (LOSS, 'epoch,stage,loss\n1,"a"b,1\n', "row 2: "),
        (ENERGY, "stage,epoch,complete,kwh,kg\na,1,1,-1,0\n", "kwh must be in 0..1e+12, not '-1'"),
        (ENERGY, "stage,epoch,complete,kwh,kg\na,1,1,nan,0\n", "kwh must be in 0..1e+12, not 'nan'"),
        (NAME, "a,b\n", "column 'id' is missing"),
    ],
)
def test_a_faulty_file_is_named(run, name, content, message):
    folder = run()
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        co2_report.read(folder)
    assert message in str(caught.value) and str(folder) in str(caught.value)


def test_no_emission_csv_and_no_place_to_write(run, tmp_path, capsys, monkeypatch):
    assert main(["co2-report", str(tmp_path)]) == 2
    assert "has no emission.csv" in capsys.readouterr().err
    folder = run()
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["co2-report", str(folder), "--output", str(tmp_path / "file")]) == 2
    assert "cannot be written to" in capsys.readouterr().err
    monkeypatch.setattr(limits, "MAX_LOSS_BYTES", 10)
    assert main(["co2-report", str(folder)]) == 2 and "loss.csv" in capsys.readouterr().err


def test_many_steps_are_thinned():
    x, y = co2_report._thinned([float(i) for i in range(100_000)], [1.0] * 100_000)
    assert len(x) == 2000 and x[0] == 24.5 and y == [1.0] * 2000


# In Chromium


def open_page(driver: Any, path: Path, width: int = DESK, scheme: str = "light") -> Page:
    return Page(driver).open(path, width, scheme)


@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_the_page_in_chromium(run, driver, tmp_path, width, scheme):
    co2_report.write(run(), tmp_path / "out")
    page = open_page(driver, tmp_path / "out" / PAGE, width, scheme)
    assert page.log == []
    assert page.one("#total").text == "180.7 g" and "Row 4 counts for the prize" in page.one("#counting").text
    sizes = page.run("return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])")
    assert len(sizes) == 2 and all(complete and natural > 1000 and shown > 250 for complete, natural, shown in sizes)
    cells = "[...row.cells].map(cell => cell.textContent)"
    rows = page.run(f"return [...document.querySelectorAll('#stages tr')].map(row => {cells})")
    assert [row[0] for row in rows] == ["Stage", "pretrain", "finetune", "all"]
    assert rows[2][6:8] == ["200 Wh", "50.0% !"] and all(len(row) == 9 for row in rows)
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert page.run("return document.querySelectorAll('#epochs tbody tr').length") == 3
    assert "apart, more than 10%" in page.one("#warnings").text
    assert page.run("return document.scripts.length") == 0


def test_hostile_names_stay_text_in_chromium(run, driver, tmp_path):
    co2_report.write(run([(HOSTILE, 1, 0.2, 0.2, [1.0, 0.5])]), tmp_path / "out")
    page = open_page(driver, tmp_path / "out" / PAGE)
    assert page.log == [] and page.run("return window.hacked") is None
    shown = page.run("return document.querySelector('#stages tbody th').textContent")
    assert shown == HOSTILE.replace("\u202e", "‹U+202E›")
    assert page.run("return document.images.length") == 2


def test_the_policy_allows_no_script_and_no_network(run, tmp_path):
    co2_report.write(run(), tmp_path)
    text = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in text and "script-src" not in text
    assert "<script" not in text and "http://" not in text and "https://" not in text
