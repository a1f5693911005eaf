"""The teams, and what they send and choose."""

import dataclasses
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts

if TYPE_CHECKING:
    from evaluator.season.actions import Season, Sent

app = typer.Typer()
teams_app = typer.Typer(cls=shared.Group, help="The teams: who they are, and what they may.")
app.add_typer(teams_app, name="teams", rich_help_panel=options.PANEL)


Name = Annotated[str, typer.Argument(metavar="NAME", help="the team's name")]


@teams_app.command("list")
def list_teams(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """All teams."""
    from evaluator.season import actions, listing

    options.check_outputs(json, table)
    rows = listing.team_rows(actions.open_ledger(season).snapshot())
    options.give(texts.teams(rows), rows, json, rows, table)


@teams_app.command("add")
def add_team(
    name: Name,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Add a team."""
    from evaluator.season import actions, listing

    options.check_outputs(json)
    team = actions.open_ledger(season).add_team(name)
    options.give(f"team {team.name}: added", listing.team_row(team, [team]), json)


@teams_app.command("rename")
def rename(
    team: Name,
    name: Annotated[str, typer.Argument(metavar="NEW", help="what it is called from now on")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Call a team otherwise."""
    options.change(season, by, json, lambda organizer: organizer.rename(team, name, reason))


@teams_app.command("remove")
def remove(
    team: Name,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Take a team out of the season, as one that was entered by mistake."""
    options.change(season, by, json, lambda organizer: organizer.remove(team, reason))


@teams_app.command("disqualify")
def disqualify(
    team: Name,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Take a team off all boards and prizes; what it has waiting is cancelled."""
    options.change(season, by, json, lambda organizer: organizer.disqualify(team, reason))


@teams_app.command("out-of-competition")
def take_out_of_competition(
    team: Name,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Leave a team on the boards, without rank and prizes."""
    options.change(season, by, json, lambda organizer: organizer.take_out_of_competition(team, reason))


@teams_app.command("reinstate")
def reinstate(
    team: Name,
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Undo what took a team out."""
    options.change(season, by, json, lambda organizer: organizer.reinstate(team, reason))


@teams_app.command("merge")
def merge(
    team: Name,
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="the team that it is a part of from now on")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Make a team a part of another: its submissions and attempts are that one's."""
    options.change(season, by, json, lambda organizer: organizer.merge(team, into, reason))


@teams_app.command("extend")
def extend(
    team: Name,
    reason: options.Reason,
    until: Annotated[
        date | None, typer.Option("--until", metavar="DAY", parser=options.day, help="its last day to send")
    ] = None,
    attempts: Annotated[
        int | None,
        typer.Option("--attempts", metavar="N", parser=shared.whole_number(1000), help="so many more attempts"),
    ] = None,
    day: Annotated[
        date | None, typer.Option("--day", metavar="DAY", parser=options.day, help="on this day (default: today)")
    ] = None,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Give a team a later last day, or more attempts on a day."""
    options.change(season, by, json, lambda organizer: organizer.extend(team, reason, until, attempts, day))


@teams_app.command("members")
def members(
    team: Name,
    reason: options.Reason,
    member: Annotated[
        list[str] | None, typer.Option("--member", metavar="NAME", help="one of all its members; again for each")
    ] = None,
    contact: Annotated[str | None, typer.Option("--contact", metavar="TEXT", help="how to reach it")] = None,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Say who a team is, and how to reach it."""
    options.change(season, by, json, lambda organizer: organizer.set_members(team, member or None, contact, reason))


@teams_app.command("import")
def import_teams(
    path: Annotated[Path, shared.path_argument("a .csv with the columns team, members, contact", "FILE")],
    reason: options.Reason,
    dry_run: Annotated[bool, shared.flag("--dry-run", help="say what would change, and change nothing")] = False,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Add teams of a CSV, and change members and contacts of those that are there."""
    from evaluator.season import actions, organize

    options.check_outputs(json)
    organizer = organize.Organizer(actions.open_ledger(season), options.who(by))
    added, changed = organizer.import_teams(path, reason, dry_run)
    text = f"{added} teams added, {changed} changed" + ("; nothing was: a dry run" if dry_run else "")
    options.give(text, {"added": added, "changed": changed}, json)


@teams_app.command("export")
def export_teams(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", parser=shared.table_path, help="the .csv or .parquet to write")
    ],
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Write all teams into a table, which `teams import` reads."""
    from evaluator.season import actions, listing

    options.check_outputs(json, path)
    teams = actions.open_ledger(season).teams()
    rows = [listing.team_row(team, teams) for team in teams]
    options.give(f"{path}: {len(rows)} teams", rows, json, rows, path, listing.TEAM_COLUMNS)


@app.command("submit", rich_help_panel=options.PANEL)
def submit(
    archive: Annotated[Path, shared.path_argument("the submission", "ZIP")],
    team: options.Team,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Check a ZIP, keep it and queue its run."""
    from evaluator.season import actions

    options.check_outputs(json)
    ledger = actions.open_ledger(season)
    sent = actions.submit(ledger, archive, team)
    options.give(_sent(sent, ledger.season), sent.to_json(ledger.season), json)
    for line in sent.notices:
        shared.note(f"for the organizer: {line}")


def _sent(sent: "Sent", season: "Season") -> str:
    submission, attempts = sent.state.submission, sent.attempts
    if sent.is_new:
        return (
            f"submission {submission.id}: queued; on {attempts.day}: {attempts.valid} valid, {attempts.invalid}"
            f" invalid, {attempts.pending} not done yet, {attempts.left} left"
        )
    if submission.withdrawn:
        return f"submission {submission.id}: the same ZIP was sent before, and withdrawn by the organizers"
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
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """A team's choice for the private board, or what it is."""
    from evaluator.season import actions

    options.check_outputs(json)
    found = actions.choose(actions.open_ledger(season), team, submissions or ())
    how = "chosen" if found.chosen else "nothing chosen, so its best public ones"
    text = f"team {found.team}: {how}: {', '.join(map(str, found.submissions)) or 'none yet'}"
    options.give(text, dataclasses.asdict(found), json)
