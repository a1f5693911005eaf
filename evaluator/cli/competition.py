"""Definitions of competitions: what one says, and what one may say."""

import json as jsons
from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.competition import DEFAULT
from evaluator.core import limits
from evaluator.core.text import aligned

PANEL = "Competitions"
app = typer.Typer()
competition_app = typer.Typer(cls=shared.Group, help="A competition's definition, and its data's layout.")
app.add_typer(competition_app, name="competition", rich_help_panel=PANEL)


@competition_app.command("show")
def show(
    competition: Annotated[
        str, typer.Argument(metavar="NAME|FOLDER", help="fbc2, fbc1, or a folder with a competition.toml")
    ] = DEFAULT,
) -> None:
    """What a definition says, or all that is wrong in it."""
    from evaluator.competition.definition import find

    found = find(competition)
    rows: list[tuple[str, ...]] = [("number", "task", "title", "answer", "metric", "weight", "baseline", "threshold")]
    for task in found.definition.tasks:
        fixed = found.tasks.get(task.number)
        kind = ("in tasks.json", "") if fixed is None else (fixed.output, fixed.metric_title)
        title = task.title.shown(found.definition.languages) or ""
        numbers = ("-" if value is None else f"{value:g}" for value in (task.baseline, task.threshold))
        name = f"{task.name} (hidden)" if task.hidden else task.name
        rows.append((str(task.number), name, title, *kind, f"{task.weight:g}", *numbers))
    print(f"{found.title} ({found.name}), digest {found.digest[:12]}")
    print(f"image {found.definition.image}, country {found.definition.country}")
    for difference in found.limits.differences(limits.RUN):
        print(f"limit: {difference}")
    print("\n".join(aligned(rows, left=(1, 2, 3, 4), rules=(1,))))


WithItsTasks = Annotated[
    str,
    typer.Option("--competition", metavar="NAME|FOLDER", help="fbc1, or a folder of your own with its tasks"),
]
NewFolder = Annotated[Path, shared.path_argument("what is written; it must not exist", "NEW_FOLDER")]


@competition_app.command("convert")
def convert(
    data: Annotated[Path, shared.path_argument("data folder, in either layout", "DATA")],
    new_folder: NewFolder,
    competition: WithItsTasks = "fbc1",
) -> None:
    """Data of FusionBrain Challenge 1.0's layout into the standard contract, or the other way round."""
    from evaluator.competition.definition import find
    from evaluator.data.convert import convert_data

    made = convert_data(data, new_folder, find(competition))
    counts = ", ".join(f"{task.name} {len(examples)}" for task, examples in made.by_task().items())
    print(f"{new_folder}: contract {made.contract}; {counts}")


@competition_app.command("convert-predictions")
def convert_predictions(
    output: Annotated[Path, shared.path_argument("output folder, in the layout of its data", "OUTPUT")],
    new_folder: NewFolder,
    data: Annotated[Path, shared.path_option("--data", help="data folder that it answers", metavar="FOLDER")],
    competition: WithItsTasks = "fbc1",
) -> None:
    """Predictions for such data into the layout that the data are not in."""
    from evaluator.competition.definition import find
    from evaluator.data import convert, fbc1

    read = fbc1.read_data(data, find(competition))
    for finding in convert.convert_predictions(output, new_folder, read):
        shared.note(f"note: {finding}")
    print(f"{new_folder}: contract {convert.OTHER[read.contract]}; {len(read.examples)} answers")


@competition_app.command("schema")
def schema() -> None:
    """The JSON Schema of competition.toml, for editors."""
    from evaluator.competition import definition

    print(jsons.dumps(definition.schema(), ensure_ascii=False, indent=2))
