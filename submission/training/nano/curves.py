"""The losses of nano's training: what its log said, kept as a table, and a picture of that.

    python -m training.nano.curves --out ../docs/nano --add sixth train.log # a log into losses.csv, and losses.png
    python -m training.nano.curves --out ../docs/nano                       # losses.png of the losses.csv there
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import sys
from pathlib import Path

from rudolph.files import replacing

log = logging.getLogger("curves")

#: As `train_decoder` names the running means that it logs, with what the picture calls them.
LOSSES = {
    "TextQA": "TextQA: answers",
    "MathQA": "MathQA: steps and answers",
    "ImageGeneration": "ImageGeneration: image codes",
    "ImageCaptioning+VisualQA+TRitW": "captions, questions on pictures, signs: answers",
}
COLUMNS = ("run", "samples", *LOSSES)
LOG_FROM = 20  # times between the least and the largest loss of a panel, from which its axis is logarithmic
_STEP = re.compile(r"step \d+ of \d+  (.*)")
_FIGURE = re.compile(r"(\S+) (-?\d+\.\d+)")

Rows = dict[tuple[str, int], dict[str, str]]  # by run and samples


def read_log(run: str, path: Path) -> Rows:
    """Losses by run and samples; of a step that a restarted training made again, the later. Raises ValueError where the
    log has none.
    """
    rows: Rows = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if step := _STEP.search(line):
                found = dict(_FIGURE.findall(step[1]))
                if {"samples", *LOSSES} <= found.keys():
                    samples = int(float(found["samples"]))
                    rows = {key: row for key, row in rows.items() if key[1] < samples}  # a restart goes on before them
                    rows[run, samples] = {name: found[name] for name in LOSSES}
    if not rows:
        raise ValueError(f"{path} has no line of a decoder's training, `step … of …` with {', '.join(LOSSES)}")
    return rows


def read_table(path: Path) -> Rows:
    """What `write_table` wrote; nothing where there is no file."""
    if not path.exists():
        return {}
    with open(path, encoding="utf-8", newline="") as file:
        return {
            (row["run"], int(row["samples"])): {name: row[name] for name in LOSSES} for row in csv.DictReader(file)
        }


def write_table(rows: Rows, path: Path) -> None:
    """Writes losses as CSV, a row for each run and number of samples."""
    with replacing(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((run, samples, *row.values()) for (run, samples), row in rows.items())


def draw(rows: Rows, path: Path) -> None:
    """A panel for each loss, in it a line for each run over its own samples."""
    from matplotlib.figure import Figure  # of the extra `train`, like all that trains but nano

    figure = Figure(figsize=(10, 6), dpi=100, layout="constrained")
    for place, (name, title) in enumerate(LOSSES.items(), start=1):
        axes = figure.add_subplot(2, 2, place)
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#dfdcd3", linewidth=0.8)
        for run in dict.fromkeys(run for run, _ in rows):
            points = [(samples / 1000, float(row[name])) for (own, samples), row in rows.items() if own == run]
            axes.plot(*zip(*points, strict=True), label=f"{run} run")
        values = [float(row[name]) for row in rows.values()]
        if 0 < min(values) < max(values) / LOG_FROM:
            axes.set_yscale("log")
        if place == 1:
            axes.legend(frameon=False, fontsize=9)
        if place > 2:
            axes.set_xlabel("thousand samples of the run", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.nano.curves", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder of losses.csv and losses.png")
    parser.add_argument(
        "--add", nargs=2, action="append", default=[], metavar=("RUN", "LOG"),
        help="may be repeated; the log takes the place of what is there of the run",
    )  # fmt: skip
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    table, picture = arguments.out / "losses.csv", arguments.out / "losses.png"
    rows = read_table(table)
    try:
        for run, path in arguments.add:
            rows = {key: row for key, row in rows.items() if key[0] != run} | read_log(run, Path(path))
    except (OSError, ValueError) as error:
        sys.exit(f"curves: {error}")
    if not rows:
        sys.exit(f"curves: {table} is not there, and no log was added")
    write_table(rows, table)
    draw(rows, picture)
    log.info("%s, %s: %d points", table, picture, len(rows))


if __name__ == "__main__":
    main()
