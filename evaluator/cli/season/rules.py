"""Make a season's database, look at its rules."""

import typer

from evaluator.cli import shared
from evaluator.cli.season import backups, options

app = typer.Typer()
season_app = typer.Typer(cls=shared.Group, help="Make a season's database, look at its rules.")
app.add_typer(season_app, name="season", rich_help_panel=options.PANEL)
season_app.add_typer(backups.app)


@season_app.command("migrate")
def migrate(season: options.Rules = options.DEFAULT_RULES) -> None:
    """Make the database, or bring it to this version."""
    from evaluator.season import actions

    print(f"{actions.migrate(season)}: ready")


@season_app.command("notices")
def notices(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """What to look at: the same ZIP from two teams, names that look alike."""
    from evaluator.season import actions
    from evaluator.season import notices as found

    options.check_outputs(json, table)
    cases = found.find(actions.open_ledger(season))
    rows = [{"kind": case.to_json()["kind"], "what": str(case)} for case in cases]
    text = "\n".join(map(str, cases)) or "nothing to look at"
    options.give(text, [case.to_json() for case in cases], json, rows, table)


@season_app.command("check")
def check(season: options.Rules = options.DEFAULT_RULES) -> None:
    """Read the rules and the test sets, and say what they are."""
    from evaluator.season import actions

    rules = actions.open_ledger(season).rules()
    print(f"{rules.name}: {rules.start} to {rules.end}, choices until {rules.choose_until} ({rules.zone})")
    print(f"a day {rules.valid_a_day} valid and {rules.invalid_a_day} invalid attempts; {rules.chosen} are chosen")
    for found in actions.read_test_sets(rules):
        print(f"{found.name}: {found.examples} examples of {found.tasks} tasks, digest {found.digest}")
