"""Boards, prizes and pages."""

from pathlib import Path
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts
from evaluator.season import PRIVATE, PUBLIC

app = typer.Typer()


@app.command("board", rich_help_panel=options.PANEL)
def board(
    public: Annotated[bool, shared.flag("--public", help="the public one (default)")] = False,
    private: Annotated[bool, shared.flag("--private", help="the private one")] = False,
    test_set: Annotated[
        str | None, typer.Option("--set", metavar="NAME", help="that of this test set, such as one that was added")
    ] = None,
    live: Annotated[bool, shared.flag("--live", help="the public one as it is while it is frozen")] = False,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """The leaderboard."""
    from evaluator.season import actions

    shared.exclusive(public=public, private=private, set=test_set is not None)
    options.check_outputs(json, table)
    name = test_set or (PRIVATE if private else PUBLIC)
    found = actions.read_board(actions.open_ledger(season), name, live)
    options.give(texts.board(found), found.to_json(), json, found.rows(), table)


@app.command("prizes", rich_help_panel=options.PANEL)
def prizes(json: options.Json = None, season: options.Rules = options.DEFAULT_RULES) -> None:
    """Who wins the prizes, and why others cannot."""
    from evaluator.season import actions

    options.check_outputs(json)
    found = actions.award_prizes(actions.open_ledger(season))
    options.give(texts.prizes(found), found.to_json(), json)


@app.command("site", rich_help_panel=options.PANEL)
def site(
    out: Annotated[Path, shared.path_option("--out", "--output", help="new, or of an earlier call", metavar="FOLDER")],
    private: Annotated[
        bool,
        shared.flag("--private", help="show the private board and the prizes to everybody, when it is final"),
    ] = False,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Write the season's pages into a folder, all at once."""
    from evaluator.season import actions
    from evaluator.season.site.build import build

    options.check_outputs(json)
    built = build(actions.open_ledger(season), out, private)
    text = (
        f"{out}: {built.pages} pages, {built.reports} reports; public/ is for everybody,\n"
        "teams/ for each team its own folder (organizer/teams.json names them), organizer/ for you alone"
    )
    options.give(text, {"out": str(out), "pages": built.pages, "reports": built.reports}, json)
