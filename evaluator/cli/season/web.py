"""The season's service, and the tokens of those who come over it."""

from datetime import timedelta
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts

app = typer.Typer()

Organizer = Annotated[bool, shared.flag("--organizer", help="of an organizer; the name is the organizer's")]


@app.command("serve")
def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="where to listen")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any that is free")] = 8000,
    proxies: Annotated[
        str,
        typer.Option("--proxy", metavar="ADDRESSES", help="proxies whose word on who calls is taken, with commas"),
    ] = "127.0.0.1,::1",
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Serve the season to teams and organizers, until SIGINT or SIGTERM."""
    import logging

    from evaluator.web import app as service
    from evaluator.web import serving

    logging.getLogger("evaluator").setLevel(logging.INFO)
    app = service.make_app(season)
    app.state.receiving.check()
    serving.serve(app, host, port, proxies, shared.note)


@app.command("token")
def token(
    team: Annotated[str, typer.Argument(metavar="TEAM", help="whose; with --organizer the organizer's name")],
    organizer: Organizer = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="of the person or machine that gets it")
    ] = None,
    days: Annotated[
        int | None, typer.Option("--days", metavar="N", parser=shared.whole_number(3650), help="how long it holds")
    ] = None,
    invite: Annotated[bool, shared.flag("--invite", help="an invitation: the link is used once, for a token")] = False,
    by: options.By = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Make a token, which is shown this once: the last line."""
    from evaluator.season import accounts, actions

    ledger = actions.open_ledger(season)
    expires = timedelta(days=days) if days is not None else accounts.INVITATION if invite else None
    made, secret = accounts.Accounts(ledger).make(
        None if organizer else team,
        name or (team if organizer else "command line"),
        options.who(by),
        None if expires is None else ledger.now() + expires,
        accounts.INVITED if invite else accounts.TOKEN,
    )
    whose = "organizer" if organizer else f"team {ledger.team(team).name}"
    until = "" if made.expires_at is None else f", until {texts.moment(made.expires_at, ledger.season)}"
    shared.note(f"{made.kind} {made.id} of {whose}, {made.name}{until}; this is shown once:")
    print(secret)


@app.command("tokens")
def tokens(
    team: Annotated[str | None, typer.Argument(metavar="TEAM", help="whose (default: the organizers')")] = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """The tokens of a team, or the organizers'."""
    from evaluator.season import accounts, actions

    options.check_outputs(json)
    ledger = actions.open_ledger(season)
    found = accounts.Accounts(ledger).tokens(team)
    options.give(texts.tokens(found, ledger.season, ledger.now()), [each.to_json() for each in found], json)


@app.command("revoke")
def revoke(
    id: Annotated[
        int, typer.Argument(metavar="TOKEN", parser=options.number, help="its number, as of `season tokens`")
    ],
    reason: options.Reason,
    by: options.By = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """End a token or an invitation, and sign out who came with it."""
    from evaluator.season import accounts, actions

    ended = accounts.Accounts(actions.open_ledger(season)).revoke(id, options.who(by), reason)
    print(f"{ended.kind} {ended.id}, {ended.name}: revoked")
