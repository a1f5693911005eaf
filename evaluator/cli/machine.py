"""Whether this machine can run submissions."""

from typing import Annotated

import typer

PANEL = "Machine"
app = typer.Typer()


@app.command("doctor", rich_help_panel=PANEL)
def doctor(
    image: Annotated[
        str | None,
        typer.Option(
            "--image", metavar="IMAGE", help="the image that submissions run in (default: the repository's own)"
        ),
    ] = None,
) -> int:
    """Can this machine run submissions? Each failure with its fix."""
    from evaluator.sandbox import doctor

    return doctor.report(doctor.examine(image or doctor.IMAGE), print)
