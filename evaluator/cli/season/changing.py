"""What an organizer changes of the rules, the public board and the test sets, and all changes."""

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, rules, texts

if TYPE_CHECKING:
    from evaluator.season.changes import Change
    from evaluator.season.organize import Organizer

app = typer.Typer()
changes_app = typer.Typer(cls=shared.Group, help="What organizers changed, and undoing it.")
app.add_typer(changes_app, name="changes", rich_help_panel=options.PANEL)
sets_app = typer.Typer(cls=shared.Group, help="The test sets, with those that are added for finals or a rehearsal.")
rules.season_app.add_typer(sets_app, name="test-set")


def _of_season(key: str, help: str) -> typer.models.OptionInfo:
    return typer.Option(key, metavar="DAY", parser=options.day, help=help)


def _a_day(key: str, help: str) -> typer.models.OptionInfo:
    return typer.Option(key, metavar="N", parser=shared.whole_number(1000), help=help)


@rules.season_app.command("deadline")
def deadline(
    reason: options.Reason,
    start: Annotated[date | None, _of_season("--start", "the first day to send")] = None,
    end: Annotated[date | None, _of_season("--end", "the last day to send")] = None,
    choose_until: Annotated[date | None, _of_season("--choose-until", "the last day to choose")] = None,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Move a deadline."""
    given = {"start": start, "end": end, "choose_until": choose_until}
    values = {key: day for key, day in given.items() if day is not None}
    options.change(season, by, json, lambda organizer: organizer.set_rules(values, reason))


@rules.season_app.command("attempts")
def attempts(
    reason: options.Reason,
    valid_a_day: Annotated[int | None, _a_day("--valid-a-day", "valid attempts a day")] = None,
    invalid_a_day: Annotated[int | None, _a_day("--invalid-a-day", "invalid attempts a day")] = None,
    chosen: Annotated[int | None, _a_day("--chosen", "submissions for the private board")] = None,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Change how many attempts a team has, or may choose."""
    given = {"valid_a_day": valid_a_day, "invalid_a_day": invalid_a_day, "chosen": chosen}
    values = {key: number for key, number in given.items() if number is not None}
    options.change(season, by, json, lambda organizer: organizer.set_rules(values, reason))


@rules.season_app.command("freeze")
def freeze(
    reason: options.Reason,
    at: Annotated[
        datetime | None,
        typer.Option("--at", metavar="MOMENT", parser=options.moment, help="as of then (default: now)"),
    ] = None,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Have the public board show what was there at a moment."""

    def freeze(organizer: "Organizer") -> "Change":
        zone = organizer.ledger.season.zone
        return organizer.freeze(at if at is None or at.tzinfo else at.replace(tzinfo=zone), reason)

    options.change(season, by, json, freeze)


@rules.season_app.command("unfreeze")
def unfreeze(
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Have the public board show what is there."""
    options.change(season, by, json, lambda organizer: organizer.unfreeze(reason))


@rules.season_app.command("show-private")
def show_private(
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Let everybody see the private board and the prizes, on the season's own pages."""
    options.change(season, by, json, lambda organizer: organizer.show_private(reason))


@rules.season_app.command("hide-private")
def hide_private(
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Undo that."""
    options.change(season, by, json, lambda organizer: organizer.hide_private(reason))


@rules.season_app.command("announce")
def announce(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="what is said, in a line")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Say something to all teams; `changes undo` takes it back."""
    options.change(season, by, json, lambda organizer: organizer.announce(text, reason))


@sets_app.command("list")
def list_test_sets(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """The test sets that there are now."""
    from evaluator.season import actions, listing

    options.check_outputs(json, table)
    rows = listing.test_set_rows(actions.open_ledger(season))
    options.give(texts.test_sets(rows), rows, json, rows, table)


@sets_app.command("add")
def add_test_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what it is called: letters, digits and _")],
    data: Annotated[Path, shared.path_option("--data", help="its data", metavar="FOLDER")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Add a test set, on which `queue add` queues runs."""
    options.change(season, by, json, lambda organizer: organizer.add_test_set(name, data, reason))


@sets_app.command("withdraw")
def withdraw_test_set(
    name: Annotated[str, typer.Argument(metavar="NAME", help="one that was added")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Take a test set that was added out again."""
    options.change(season, by, json, lambda organizer: organizer.withdraw_test_set(name, reason))


@changes_app.command("list")
def list_changes(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """All that organizers changed."""
    from evaluator.season import actions, listing

    options.check_outputs(json, table)
    ledger = actions.open_ledger(season)
    rows = listing.change_rows(ledger.changes(), ledger.teams(), ledger.season)
    options.give(texts.changes(rows, ledger.season), rows, json, listing.flat(rows), table, listing.CHANGE_COLUMNS)


@changes_app.command("undo")
def undo(
    change: Annotated[int, typer.Argument(metavar="N", parser=options.number, help="its number, as `list` has it")],
    reason: options.Reason,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Take a change back; undoing what undid it makes it hold again."""
    options.change(season, by, json, lambda organizer: organizer.undo(change, reason))
