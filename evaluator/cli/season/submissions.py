"""All submissions, and what an organizer changes of them."""

from datetime import date
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts
from evaluator.core import verdict

app = typer.Typer()
submissions_app = typer.Typer(cls=shared.Group, help="All submissions, and what is changed of them.")
app.add_typer(submissions_app, name="submissions", rich_help_panel=options.PANEL)


def _state(text: str) -> str:
    from evaluator.season.schema import STEPS

    return options.one_of((*STEPS, *verdict.TABLE), text)


@submissions_app.command("list")
def list_submissions(
    team: Annotated[str | None, typer.Option("--team", metavar="NAME", help="those of this team")] = None,
    day: Annotated[
        date | None, typer.Option("--day", metavar="DAY", parser=options.day, help="those of this day's attempts")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", parser=_state, help="with a run in this state, or of this verdict"),
    ] = None,
    withdrawn: Annotated[bool, shared.flag("--withdrawn", help="those that were withdrawn")] = False,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """All submissions, or some."""
    from evaluator.season import actions, listing

    options.check_outputs(json, table)
    ledger = actions.open_ledger(season)
    found = listing.submissions(ledger, team, day, state, withdrawn)
    rows = [row.to_json(ledger.season) for row in found]
    options.give(texts.submissions(found, ledger.season), rows, json, rows, table, listing.SubmissionRow.columns())


@submissions_app.command("withdraw")
def withdraw(
    submission: options.Submission,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Take a submission off boards, choices and prizes; its attempt stays used."""
    options.change(season, by, json, lambda organizer: organizer.withdraw(submission, reason))


@submissions_app.command("restore")
def restore(
    submission: options.Submission,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Undo a withdrawal."""
    options.change(season, by, json, lambda organizer: organizer.restore(submission, reason))


@submissions_app.command("redate")
def redate(
    submission: options.Submission,
    day: Annotated[date, typer.Argument(metavar="DAY", parser=options.day, help="such as 2022-11-13")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Say on which day it was sent, where a clock was wrong."""
    options.change(season, by, json, lambda organizer: organizer.set_day(submission, day, reason))
