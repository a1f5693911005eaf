"""The CO2 of a training run, as the rules ask for it: CO2 added per epoch, and loss against accumulated CO2.

    write(folder: Path, output: Path) -> Co2Report     PNGs, and co2.html with both and the tables

Read is what a training run leaves in its folder: eco2AI's emission.csv with its encoded copy, and where they are
there loss.csv (stage, epoch, loss of each step) and energy.csv (an independent reading of each epoch: stage, epoch,
complete, kwh, kg). Without loss.csv the losses are those that `new_epoch` was given.

An epoch's CO2 is known at its end alone; within it, it is spread evenly over the steps. The page runs no script and its
policy allows none.
"""

import base64
import csv
import importlib
import io
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluator.carbon import emission
from evaluator.carbon.emission import NAME, TARGET, Emission, Row
from evaluator.carbon.meter import DISAGREEMENT, JOULES_PER_KWH
from evaluator.core import limits
from evaluator.core.errors import DataError, RuleBroken, show
from evaluator.core.files import FILE_MISSING, read_regular, write_bytes, write_text
from evaluator.core.text import MASS, aligned, duration, energy, mass, unit
from evaluator.reports.rendering import environment, light_colours, visible

LOSS, ENERGY = "loss.csv", "energy.csv"
PAGE, PER_EPOCH, BY_CO2 = "co2.html", "co2_per_epoch.png", "loss_by_co2.png"

MAX_POINTS = 2000  # of a curve; more are drawn as means of neighbours
MAX_NAMED_STAGES = 10  # in a legend
MAX_STAGE_CHARACTERS = 40  # of a name in a plot
FIGURE_INCHES, DOTS_PER_INCH = (9.0, 4.6), 160
# Of stages; by name where all pages have them.
COLOURS = ("open", "#c2571a", "good", "hidden", "mid", "#0f7285", "bad", "muted", "#b0377b", "#577a12")

_EPOCH = re.compile(r"epoch: (\d{1,9})\b", re.ASCII)
_LOSS = re.compile(r"\bloss: ([^,]{1,40}),")


@dataclass(frozen=True)
class Epoch:
    """A row of emission.csv: the stage that its description names, its number (None for a run without epochs), the
    losses of its steps in their order, and the energy (kWh) and CO2 (kg) of the independent reading where there is one.
    """

    stage: str
    number: int | None
    row: Row
    losses: tuple[float, ...] = ()
    other_kwh: float | None = None
    other_kg: float | None = None

    @property
    def loss(self) -> float | None:
        """The mean over its steps; None without losses."""
        return math.fsum(self.losses) / len(self.losses) if self.losses else None


@dataclass(frozen=True)
class Total:
    """Sums over epochs. The `compared` ones, which have an independent reading, used `other_kwh` by it, and by eco2AI
    `compared_kwh`.
    """

    name: str
    epochs: int
    seconds: float
    kwh: float
    kg: float
    compared: int
    compared_kwh: float
    other_kwh: float
    loss: float | None

    @property
    def gap(self) -> float | None:
        """How far eco2AI and the independent reading are apart, 0..1 of the larger; None where one is missing."""
        larger = max(self.compared_kwh, self.other_kwh)
        return abs(self.compared_kwh - self.other_kwh) / larger if self.compared and larger > 0 else None

    @property
    def disagrees(self) -> bool:
        """Whether the gap is above `DISAGREEMENT`."""
        return self.gap is not None and self.gap > DISAGREEMENT


@dataclass(frozen=True)
class Co2Report:
    """What the page shows; `cut_off` is what killed parts of epochs used, (kWh, kg), by the independent reading."""

    emission: Emission
    epochs: tuple[Epoch, ...]
    cut_off: tuple[float, float] | None
    warnings: tuple[str, ...]

    @property
    def stages(self) -> tuple[Total, ...]:
        """By stage, in the order of their first rows."""
        by_stage: dict[str, list[Epoch]] = {}
        for epoch in self.epochs:
            by_stage.setdefault(epoch.stage, []).append(epoch)
        return tuple(_total(stage, epochs) for stage, epochs in by_stage.items())

    @property
    def total(self) -> Total:
        """Of all epochs."""
        return _total("all", self.epochs)

    def lines(self) -> list[str]:
        """The table by stage, and what to look at."""
        rows = [_HEADER, *(_stage_cells(total) for total in (*self.stages, self.total))]
        return aligned(rows, left=(0,), rules=(1, len(rows) - 1)) + [f"! {warning}" for warning in self.warnings]


def write(folder: Path, output: Path) -> Co2Report:
    """Write the page and its plots into the folder `output`. Raises `DataError`."""
    report = read(folder)
    plots = {PER_EPOCH: _per_epoch(report)}
    if any(epoch.losses for epoch in report.epochs):
        plots[BY_CO2] = _by_co2(report)
    try:
        for name in (PER_EPOCH, BY_CO2):
            if name in plots:
                write_bytes(output / name, plots[name])
            else:
                (output / name).unlink(missing_ok=True)  # of an earlier run, which had losses
        write_text(output / PAGE, render(report, plots))
    except OSError as error:
        raise DataError(f"{output} cannot be written to: {error.strerror}") from None
    return report


def read(folder: Path) -> Co2Report:
    """Read what a training run left in `folder`. Raises `DataError`."""
    found = emission.read_folder(folder)
    if found is None:
        raise DataError(f"{folder} has no {NAME}; give the folder that a training run wrote")
    if not found.rows:
        raise DataError([f"{folder}: {finding}" for finding in found.faults] or f"{folder}: {NAME} has no rows")
    said: list[str] = []
    losses = _read_losses(folder, said)
    readings, cut_off = _read_energy(folder, said)
    epochs = [_epoch(row) for row in found.rows]
    last = {(epoch.stage, epoch.number): index for index, epoch in enumerate(epochs)}
    for key, index in last.items():  # an epoch that was done anew has the losses of the last time
        if losses is not None:
            epochs[index] = replace(epochs[index], losses=tuple(losses.pop(key, ())))
        elif (loss := _said_loss(epochs[index].row)) is not None:
            epochs[index] = replace(epochs[index], losses=(loss,))
    if losses:
        lone = [f"{len(steps)} steps of epoch {number} of {show(stage)}" for (stage, number), steps in losses.items()]
        more = f" and of {len(lone) - 3} more epochs" if len(lone) > 3 else ""
        said.append(f"{', '.join(lone[:3])}{more} in {LOSS} are of no row of {NAME}")
    for index, epoch in enumerate(epochs):
        waiting = readings.get((epoch.stage, epoch.number))
        if waiting:
            kwh, kg = waiting.pop(0)
            epochs[index] = replace(epoch, other_kwh=kwh, other_kg=kg)
    report = Co2Report(found, tuple(epochs), cut_off, ())
    totals = [(f"stage {visible(stage.name)}", stage) for stage in report.stages]
    if len(totals) > 1:
        totals.append(("all stages", report.total))
    for name, total in totals:
        if total.disagrees:
            said.append(
                f"{name}: eco2AI and the independent reading are {total.gap:.0%} apart, more than {DISAGREEMENT:.0%}:"
                f" {energy(total.compared_kwh)} and {energy(total.other_kwh)}"
            )
    if cut_off is not None:
        said.append(
            f"parts of epochs that were cut off, or are not done, used {energy(cut_off[0])}, {mass(cut_off[1])} of"
            f" CO2, by the independent reading; {NAME} does not have them"
        )
    said += [f"{NAME}: {fault}" for fault in emission.by_rule(found.faults)]
    said += emission.by_rule(found.notes)
    return replace(report, warnings=tuple(said))


# --- reading ---


def _epoch(row: Row) -> Epoch:
    match = _EPOCH.match(row.epoch)
    return Epoch(_stage(row.description), int(match[1]) if match else None, row)


def _stage(description: str) -> str:
    """The stage that an experiment_description names: `finetune` of `finetune, TargetValue`."""
    return description.replace(TARGET, "").strip(" ,;:-") or "training"


def _said_loss(row: Row) -> float | None:
    """The loss that `new_epoch` was given."""
    match = _LOSS.search(row.epoch)
    try:
        value = float(match[1]) if match else math.nan
    except ValueError:
        return None
    return value if abs(value) <= limits.MAX_EMISSION_NUMBER else None


def _read_losses(folder: Path, said: list[str]) -> dict[tuple[str, int | None], list[float]] | None:
    """The losses of each epoch's steps; None without loss.csv. A last line that was cut short is left out."""
    losses: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    table = _table(folder, LOSS, ("stage", "epoch", "loss"))
    if table is None:
        return None
    bad = 0
    for where, cells in table:
        loss = _float(where, "loss", cells["loss"], finite=False)
        if abs(loss) <= limits.MAX_EMISSION_NUMBER:
            losses[_stage(cells["stage"]), _whole(where, "epoch", cells["epoch"])].append(loss)
        else:
            bad += 1
    if bad:
        said.append(f"{bad} steps of {LOSS} have a loss that is not finite, or beyond reason; they are left out")
    return losses


_Reading = tuple[float | None, float | None]  # kWh and kg


def _read_energy(
    folder: Path, said: list[str]
) -> tuple[dict[tuple[str, int | None], list[_Reading]], tuple[float, float] | None]:
    """Energy and CO2 of each epoch that was finished, in their order, and what parts of others used. Of one whose power
    cannot be there is neither.
    """
    readings: dict[tuple[str, int | None], list[_Reading]] = defaultdict(list)
    cut_off: list[tuple[float, float]] = []
    for where, cells in _table(folder, ENERGY, ("stage", "epoch", "complete", "kwh", "kg")) or ():
        kwh = _float(where, "kwh", cells["kwh"])
        kg = _float(where, "kg", cells["kg"]) if cells["kg"] else None
        seconds = _float(where, "seconds", cells["seconds"], finite=False) if "seconds" in cells else math.inf
        most = limits.MAX_EMISSION_WATTS
        can_be = kwh * JOULES_PER_KWH <= most * max(1.0, seconds)
        if not can_be:
            said.append(f"{where}: {energy(kwh)} in {seconds:.1f} s cannot be, above {most:.0f} W, and is left out")
        if _whole(where, "complete", cells["complete"]):
            reading: _Reading = (kwh, kg) if can_be else (None, None)
            readings[_stage(cells["stage"]), _whole(where, "epoch", cells["epoch"])].append(reading)
        elif can_be:
            cut_off.append((kwh, kg or 0.0))
    if not cut_off:
        return readings, None
    return readings, (math.fsum(kwh for kwh, _ in cut_off), math.fsum(kg for _, kg in cut_off))


def _table(folder: Path, name: str, columns: Sequence[str]) -> Iterable[tuple[str, dict[str, str]]] | None:
    """Place and cells of each row of a CSV that has `columns` at least; None where there is no such file."""
    try:
        content = read_regular(folder, name, limits.MAX_LOSS_BYTES)
    except RuleBroken as broken:
        if broken.rule is FILE_MISSING:
            return None
        raise DataError(broken.rule.finding(str(folder / name), broken.found)) from None
    whole = content[: content.rfind(b"\n") + 1]  # a line that was being written when the run was killed
    try:
        reader = csv.reader(io.StringIO(whole.decode("utf-8"), newline=""), strict=True)
        header = next(reader, [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{folder / name}: is no CSV in UTF-8: {error}") from None
    for column in columns:
        if header.count(column) != 1:
            raise DataError(f"{folder / name}: must have the column {column} once; it has {show(', '.join(header))}")
    return _rows(reader, header, folder / name)


def _rows(reader: Iterator[list[str]], header: list[str], path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    number = 1
    try:
        for number, cells in enumerate(reader, 2):
            if len(cells) != len(header):
                raise DataError(f"{path}: row {number} has {len(cells)} cells, not {len(header)}")
            yield f"{path}: row {number}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}: row {number + 1}: {error}") from None


def _float(where: str, column: str, text: str, finite: bool = True) -> float:
    try:
        value = float(text)
    except ValueError:
        raise DataError(f"{where}: {column} must be a number, not {show(text)}") from None
    if finite and not 0 <= value <= limits.MAX_EMISSION_NUMBER:
        raise DataError(f"{where}: {column} must be in 0..{limits.MAX_EMISSION_NUMBER:g}, not {show(text)}")
    return value


def _whole(where: str, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise DataError(f"{where}: {column} must be a whole number, not {show(text)}")
    return int(text)


def _total(name: str, epochs: Sequence[Epoch]) -> Total:
    compared = [(epoch.row.kwh, epoch.other_kwh) for epoch in epochs if epoch.other_kwh is not None]
    losses = [epoch.loss for epoch in epochs if epoch.loss is not None]
    return Total(
        name,
        len(epochs),
        math.fsum(epoch.row.seconds for epoch in epochs),
        math.fsum(epoch.row.kwh for epoch in epochs),
        math.fsum(epoch.row.kg for epoch in epochs),
        len(compared),
        math.fsum(kwh for kwh, _ in compared),
        math.fsum(kwh for _, kwh in compared),
        losses[-1] if losses else None,
    )


# --- plots ---


def _figure() -> tuple[Any, Any]:
    try:
        figure_module: Any = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError:
        raise DataError(
            "the plots need matplotlib: `make co2-report`, or "
            "`pip install --constraint requirements.txt --editable '.[train]'`"
        ) from None
    figure = figure_module.Figure(figsize=FIGURE_INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=light_colours()["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Any) -> bytes:
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)  # where it hides nothing
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # an emoji in a stage's name
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _plain(text: str) -> str:
    """A stage's name for a plot: cut, and not taken for mathematics."""
    text = visible(text)
    return (text if len(text) <= MAX_STAGE_CHARACTERS else text[: MAX_STAGE_CHARACTERS - 1] + "…").replace("$", r"\$")


def _colours(report: Co2Report) -> dict[str, str]:
    named = light_colours()
    colours = [named.get(colour, colour) for colour in COLOURS]
    return {total.name: colours[i % len(colours)] for i, total in enumerate(report.stages)}


def _per_epoch(report: Co2Report) -> bytes:
    """Bars of the CO2 that each epoch added, and a line for the independent reading of each that has one."""
    figure, axes = _figure()
    others = [epoch.other_kg for epoch in report.epochs]
    name, factor = unit(max([epoch.row.kg for epoch in report.epochs] + [kg for kg in others if kg is not None]), MASS)
    for position, (stage, colour) in enumerate(_colours(report).items()):
        mine = [(i, epoch.row.kg * factor) for i, epoch in enumerate(report.epochs, 1) if epoch.stage == stage]
        label = f"eco2AI: {_plain(stage)}" if position < MAX_NAMED_STAGES else None
        axes.bar([i for i, _ in mine], [kg for _, kg in mine], width=0.8, color=colour, label=label)
    read = [(i, kg * factor) for i, kg in enumerate(others, 1) if kg is not None]
    if read:
        axes.hlines(
            [kg for _, kg in read],
            [i - 0.45 for i, _ in read],
            [i + 0.45 for i, _ in read],
            colors=light_colours()["ink"],
            linewidth=2,
            label="independent reading",
        )
    axes.set_title("CO2 added per epoch", loc="left", fontweight="bold")
    axes.set_xlabel("epoch, in the order of training")
    axes.set_ylabel(f"CO2, {name}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlim(0.4, len(report.epochs) + 0.6)
    axes.set_ylim(bottom=0)
    return _png(figure)


def _by_co2(report: Co2Report) -> bytes:
    """The losses of all steps over the CO2 up to each, and each epoch's mean at its end."""
    figure, axes = _figure()
    name, factor = unit(report.total.kg, MASS)
    stages: dict[str, tuple[list[float], list[float], list[float], list[float]]] = {}
    spent = 0.0
    for epoch in report.epochs:
        x, y, ends, means = stages.setdefault(epoch.stage, ([], [], [], []))
        count = len(epoch.losses)
        if count > 1:
            x += [(spent + epoch.row.kg * step / count) * factor for step in range(1, count + 1)]
            y += epoch.losses
        spent += epoch.row.kg
        if epoch.loss is not None:
            ends.append(spent * factor)
            means.append(epoch.loss)
    for position, (stage, colour) in enumerate(_colours(report).items()):
        x, y, ends, means = stages[stage]
        named = position < MAX_NAMED_STAGES
        axes.plot(*_thinned(x, y), color=colour, alpha=0.45, linewidth=1)
        axes.plot(
            ends, means, "o-", color=colour, markersize=5, label=f"{_plain(stage)}: mean of epoch" if named else None
        )
    axes.set_title("Loss against accumulated CO2", loc="left", fontweight="bold")
    axes.set_xlabel(f"accumulated CO2, {name}")
    axes.set_ylabel("loss")
    axes.set_xlim(left=0)
    return _png(figure)


def _thinned(x: list[float], y: list[float]) -> tuple[list[float], list[float]]:
    """At most `MAX_POINTS` points: means of as many neighbours as it takes."""
    size = -(-len(x) // MAX_POINTS) or 1
    blocks = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return [math.fsum(a) / len(a) for a, _ in blocks], [math.fsum(b) / len(b) for _, b in blocks]


# --- the page ---

_HEADER = ("stage", "epochs", "time", "energy", "CO2", "power", "independent", "gap", "last loss")


def _stage_cells(total: Total) -> tuple[str, ...]:
    return (
        visible(total.name),
        str(total.epochs),
        duration(total.seconds),
        energy(total.kwh),
        mass(total.kg),
        f"{total.kwh * 3.6e6 / total.seconds:.3g} W",
        energy(total.other_kwh) if total.compared else "-",
        "-" if total.gap is None else f"{total.gap:.1%}" + (" !" if total.disagrees else ""),
        "-" if total.loss is None else f"{total.loss:.4f}",
    )


def _epoch_cells(epoch: Epoch, spent: float) -> tuple[str, ...]:
    total = _total("", [epoch])
    return (
        visible(epoch.stage),
        "-" if epoch.number is None else str(epoch.number),
        f"{epoch.row.start:%Y-%m-%d %H:%M:%S}",
        duration(epoch.row.seconds),
        energy(epoch.row.kwh),
        mass(epoch.row.kg),
        mass(spent),
        "-" if epoch.other_kwh is None else energy(epoch.other_kwh),
        "-" if total.gap is None else f"{total.gap:.1%}" + (" !" if total.disagrees else ""),
        "-" if epoch.loss is None else f"{epoch.loss:.4f}",
    )


def render(report: Co2Report, plots: dict[str, bytes]) -> str:
    """The page as HTML, given the PNGs by name."""
    spent, epochs = 0.0, []
    for epoch in report.epochs:
        spent += epoch.row.kg
        epochs.append(_epoch_cells(epoch, spent))
    made = environment("co2.css")
    made.filters |= {"mass": mass, "energy": energy, "duration": duration}
    return made.get_template("co2.html").render(
        report=report,
        target=TARGET,
        emission_file=NAME,
        loss_file=LOSS,
        per_epoch=_base64(plots[PER_EPOCH]),
        by_co2=_base64(plots[BY_CO2]) if BY_CO2 in plots else None,
        stages=[_stage_cells(stage) for stage in report.stages],
        all=_stage_cells(report.total),
        epochs=epochs,
    )


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")
