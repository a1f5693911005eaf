"""Whether this machine can run submissions."""

from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.competition import DEFAULT

PANEL = "Machine"
app = typer.Typer()


@app.command("doctor", rich_help_panel=PANEL)
def doctor(
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="IMAGE", help="the image that submissions run in (default: the competition's)"),
    ] = None,
    competition: shared.CompetitionName = DEFAULT,
) -> int:
    """Can this machine run a competition's submissions? Each failure with its fix."""
    from evaluator.competition.definition import find
    from evaluator.sandbox import doctor

    chosen = find(competition)
    return doctor.report(doctor.examine(image or chosen.definition.image, chosen.limits), print)
