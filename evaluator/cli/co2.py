"""The CO2 of a training run, and the prize for the most sustainable solution."""

from pathlib import Path
from typing import Annotated, Any

import typer

from evaluator.cli import shared
from evaluator.competition import DEFAULT
from evaluator.core import files, results

PANEL = "CO2"
app = typer.Typer()


class _PrizeCommand(typer.core.TyperCommand):
    """`--runs A B` is `--runs A --runs B`, the only way in which click knows an option with several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _repeated("--runs", args))


def _repeated(option: str, words: list[str]) -> list[str]:
    """With `option` before each of its values, which go on to the next word that begins like an option."""
    found: list[str] = []
    inside = False
    for word in words:
        if word.startswith("-"):
            inside = word == option
        elif inside and found[-1] != option:
            found.append(option)
        found.append(word)
    return found


@app.command("co2-report", rich_help_panel=PANEL)
def co2_report(
    folder: Annotated[Path, shared.path_argument("with emission.csv, loss.csv and energy.csv", "FOLDER")],
    out: Annotated[
        Path | None,
        shared.path_option("--out", "--output", help="write here (default: co2/ in that folder)", metavar="FOLDER"),
    ] = None,
) -> None:
    """A training run's CO2: plots and tables, as PNG and as a page."""
    from evaluator.reports import co2

    out = out or folder / "co2"
    report = co2.write(folder, out)
    print("\n".join(report.lines()))
    print(f"Report: {out / co2.PAGE}")


@app.command("prize", cls=_PrizeCommand, rich_help_panel=PANEL)
def prize(
    runs: Annotated[
        list[Path],
        shared.path_option(
            "--runs",
            metavar="PATH...",
            help="a folder with a folder for each team (scores.json or record.json; ZIP or emission.csv), or such"
            " folders or files themselves",
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="SCORE",
            help="the baseline's score, or its scores.json (default: the competition's)",
        ),
    ] = None,
    competition: shared.CompetitionName = DEFAULT,
    json: Annotated[Path | None, shared.path_option("--json", help="write the places to this file")] = None,
) -> None:
    """The prize for the most sustainable solution: who is in, who wins."""
    from evaluator.carbon import prize
    from evaluator.competition.definition import find

    results.prepare({"--json": json})
    with results.explained(json):
        chosen = find(competition)
        awarded = prize.award(prize.read_candidates(runs, chosen), prize.read_baseline(baseline, chosen))
        print("\n".join(awarded.lines()))
        if json is not None:
            with shared.writing("--json", json):
                files.write_json(json, awarded.to_json())
