"""The teams, and what they send and choose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts

if TYPE_CHECKING:
    from evaluator.season.actions import Season, Sent

app = typer.Typer()
teams_app = typer.Typer(cls=shared.Group, help="The teams and their attempts of today.")
app.add_typer(teams_app, name="teams", rich_help_panel=options.PANEL)


@teams_app.command("list")
def list_teams(season: options.Rules = options.DEFAULT_RULES) -> None:
    """All teams."""
    from evaluator.season import actions

    rows = [
        [team, attempts.valid, attempts.invalid, attempts.pending, attempts.left]
        for team, attempts in actions.open_ledger(season).all_attempts().items()
    ]
    print(texts.table(["team", "valid", "invalid", "not done", "left today"], rows))


@teams_app.command("add")
def add_team(
    name: Annotated[str, typer.Argument(metavar="NAME", help="the team's name")],
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Add a team."""
    from evaluator.season import actions

    print(f"team {actions.open_ledger(season).add_team(name).name}: added")


@app.command("submit", rich_help_panel=options.PANEL)
def submit(
    archive: Annotated[Path, shared.path_argument("the submission", "ZIP")],
    team: options.Team,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Check a ZIP, keep it and queue its run."""
    from evaluator.season import actions

    ledger = actions.open_ledger(season)
    sent = actions.submit(ledger, archive, team)
    print(_sent(sent, ledger.season))
    for line in sent.notices:
        shared.note(f"for the organizer: {line}")


def _sent(sent: "Sent", season: "Season") -> str:
    submission, attempts = sent.state.submission, sent.attempts
    if sent.is_new:
        return (
            f"submission {submission.id}: queued; on {attempts.day}: {attempts.valid} valid, {attempts.invalid}"
            f" invalid, {attempts.pending} not done yet, {attempts.left} left"
        )
    costs = "and still one attempt"
    if sent.state.is_infrastructure_failure or sent.state.kind == "cancelled":
        costs = "which costs no attempt; only the organizers can `queue retry` it"
    return (
        f"submission {submission.id}: the same ZIP was sent {texts.moment(submission.submitted_at, season)};"
        f" it is {sent.state.name}, {costs}"
    )


@app.command("choose", rich_help_panel=options.PANEL)
def choose(
    team: options.Team,
    submissions: Annotated[
        list[int] | None,
        typer.Argument(metavar="N", parser=options.number, help="submissions; none: show the choice"),
    ] = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """A team's choice for the private board, or what it is."""
    from evaluator.season import actions

    found = actions.choose(actions.open_ledger(season), team, submissions or ())
    how = "chosen" if found.chosen else "nothing chosen, so its best public ones"
    print(f"team {found.team}: {how}: {', '.join(map(str, found.submissions)) or 'none yet'}")
