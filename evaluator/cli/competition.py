"""Definitions of competitions: what one says, and what one may say."""

import json as jsons
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.core import limits
from evaluator.core.text import aligned

PANEL = "Competitions"
app = typer.Typer()
competition_app = typer.Typer(cls=shared.Group, help="Look at a competition's definition.")
app.add_typer(competition_app, name="competition", rich_help_panel=PANEL)


@competition_app.command("show")
def show(
    competition: Annotated[
        str, typer.Argument(metavar="NAME|FOLDER", help="fbc2, fbc1, or a folder with a competition.toml")
    ] = shared.DEFAULT_COMPETITION,
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


@competition_app.command("schema")
def schema() -> None:
    """The JSON Schema of competition.toml, for editors."""
    from evaluator.competition import definition

    print(jsons.dumps(definition.schema(), ensure_ascii=False, indent=2))
