"""A season's database, what to look at, and what will go wrong; the group that backups and the service are in, too."""

from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import backups, options, texts, web
from evaluator.core import verdict

app = typer.Typer()
season_app = typer.Typer(
    cls=shared.Group, help="A season's database, rules, test sets, backups, service and tokens, and scoring again."
)
app.add_typer(season_app, name="season", rich_help_panel=options.PANEL)
season_app.add_typer(backups.app)
season_app.add_typer(web.app)


@season_app.command("migrate")
def migrate(json: options.Json = None, season: options.Rules = options.DEFAULT_RULES) -> None:
    """Make the database, or bring it to this version."""
    from evaluator.season import actions

    options.check_outputs(json)
    database = actions.migrate(season)
    options.give(f"{database}: ready", {"database": database}, json)


@season_app.command("notices")
def notices(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """What to look at: the same ZIP from two teams, names that look alike."""
    from evaluator.season import actions
    from evaluator.season import notices as found

    options.check_outputs(json, table)
    ledger = actions.open_ledger(season)
    cases = found.find(ledger)
    documents = [case.to_json(ledger.season) for case in cases]
    rows = [{"kind": document["kind"], "what": str(case)} for case, document in zip(cases, documents, strict=True)]
    text = "\n".join(map(str, cases)) or "nothing to look at"
    options.give(text, documents, json, rows, table, ("kind", "what"))


@season_app.command("machines")
def machines(
    json: options.Json = None, table: options.Table = None, season: options.Rules = options.DEFAULT_RULES
) -> None:
    """What the machines did: runs, hours, how much of the time they were used."""
    from evaluator.season import actions
    from evaluator.season.site import usage

    options.check_outputs(json, table)
    taken = actions.open_ledger(season).snapshot()
    rows = usage.machines(taken)
    options.give(texts.machines(rows, taken.season), rows, json, rows, table, usage.MACHINE_COLUMNS)


@season_app.command("check")
def check(
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", parser=shared.whole_number(1000), help="runs at a time, as of `queue run`"
        ),
    ] = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> int:
    """What will go wrong in the season: each thing with its fix."""
    from evaluator.season import check

    options.check_outputs(json)
    lines = list(check.examine(season, workers))
    failures, warnings = (sum(line.state == state for line in lines) for state in (check.FAILURE, check.WARNING))
    text = "\n".join([*map(str, lines), f"{failures} failures, {warnings} warnings"])
    document = {"failures": failures, "warnings": warnings, "lines": [line.to_json() for line in lines]}
    options.give(text, document, json)
    return verdict.DATA_ERROR.exit_code if failures else 0
