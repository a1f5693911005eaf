"""The runs that wait, and working on them."""

import dataclasses
import sys
from datetime import datetime
from typing import Annotated

import typer

from evaluator.cli import shared
from evaluator.cli.season import options, texts
from evaluator.core import verdict as verdicts

app = typer.Typer()
queue_app = typer.Typer(cls=shared.Group, help="The runs that wait, and working on them.")
app.add_typer(queue_app, name="queue", rich_help_panel=options.PANEL)


def _verdict(text: str) -> str:
    return options.one_of(verdicts.TABLE, text)


def _state(text: str) -> str:
    from evaluator.season.schema import STEPS

    return options.one_of(STEPS, text)


TeamFilter = Annotated[str | None, typer.Option("--team", metavar="NAME", help="of this team alone")]
SetFilter = Annotated[str | None, typer.Option("--set", metavar="NAME", help="on this test set alone")]
SinceFilter = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        parser=options.moment,
        help="from a day (2022-11-13) or a moment (2022-11-13T18:00) of the season's time zone on",
    ),
]


@queue_app.command("list")
def list_queue(
    submission: Annotated[
        int | None,
        typer.Option(
            "--submission", metavar="N", parser=options.number, help="all that ever happened to this submission"
        ),
    ] = None,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """What waits, runs, or needs somebody, and why."""
    from evaluator.season import actions
    from evaluator.season.history import EventRow, RunRow

    options.check_outputs(json, table)
    history = actions.read_history(season)
    if submission is not None:
        events = history.of(submission)
        rows = [event.to_json(history.season) for event in events]
        options.give(texts.events(events, history.season), rows, json, rows, table, EventRow.columns())
        return
    waiting = history.waiting()
    rows = [row.to_json(history.season) for row in waiting]
    options.give(texts.queue(waiting, history.season), rows, json, rows, table, RunRow.columns())


@app.command("runs", rich_help_panel=options.PANEL)
def list_runs(
    team: TeamFilter = None,
    test_set: SetFilter = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", metavar="VERDICT", parser=_verdict, help="that ended with this verdict")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state", metavar="STATE", parser=_state, help="of which this was the last to happen, such as lost"
        ),
    ] = None,
    since: SinceFilter = None,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """All runs, or some."""
    from evaluator.season import actions
    from evaluator.season.history import RunRow

    options.check_outputs(json, table)
    history = actions.read_history(season)
    found = history.runs(history.select(team, test_set, verdict, state, since))
    rows = [row.to_json(history.season) for row in found]
    options.give(texts.runs(found, history.season), rows, json, rows, table, RunRow.columns())


@app.command("events", rich_help_panel=options.PANEL)
def list_events(
    team: TeamFilter = None,
    test_set: SetFilter = None,
    since: SinceFilter = None,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """All that happened to runs, in order."""
    from evaluator.season import actions
    from evaluator.season.history import EventRow

    options.check_outputs(json, table)
    history = actions.read_history(season)
    found = history.events(history.select(team, test_set, since=since))
    rows = [row.to_json(history.season) for row in found]
    options.give(texts.events(found, history.season), rows, json, rows, table, EventRow.columns())


@queue_app.command("run")
def run_queue(
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            parser=shared.whole_number(1000),
            help="runs at a time (default: as many as GPUs allow, or 1)",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="run on the nodes of this Ray cluster, `auto` for the one of this machine",
        ),
    ] = None,
    drain: Annotated[bool, shared.flag("--drain", help="end when the queue is empty")] = False,
    season: options.Rules = options.DEFAULT_RULES,
) -> int:
    """Work on the queue, on this machine or a cluster."""
    from evaluator.season import actions

    ledger = actions.open_ledger(season)

    def say(line: str) -> None:
        print(f"{datetime.now(ledger.season.zone):%Y-%m-%d %H:%M:%S} {line}", flush=True)

    if actions.work(ledger, say, workers, ray, drain):
        return 0
    checks = "`python -m evaluator season check` and `python -m evaluator doctor`"
    shared.note(f"evaluator error: look at runs/*/evaluator.log, {checks}")
    return 3


@queue_app.command("logs")
def show_logs(
    run: Annotated[
        int,
        typer.Argument(metavar="RUN", parser=options.number, help="its number, as `queue list` and `runs` have it"),
    ],
    follow: Annotated[bool, shared.flag("--follow", help="go on until the run has ended")] = False,
    printed: Annotated[
        bool,
        shared.flag("--printed", help="what the submission printed, when it has ended; may have hidden data"),
    ] = False,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """What the evaluator of a run says, of one under way too."""
    from evaluator.season import actions

    ledger, name = actions.open_ledger(season), "log.txt" if printed else "evaluator.log"
    is_empty = True
    for text in actions.read_log(ledger, run, name, follow):
        sys.stdout.write(text)
        sys.stdout.flush()
        is_empty = False
    if is_empty:
        print(f"run {run} has no {name} yet" if ledger.is_pending(run) else f"run {run} left no {name}")


@queue_app.command("retry")
def retry(
    submission: options.Submission,
    reason: options.Reason,
    test_set: options.TestSetName = "public",
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Queue another run of a submission that failed."""
    from evaluator.season import actions, organize

    options.check_outputs(json)
    organize.Organizer(actions.open_ledger(season), options.who(by)).retry(submission, test_set, reason)
    document = {"submission": submission, "test_set": test_set, "state": "queued"}
    options.give(f"submission {submission} ({test_set}): queued", document, json)


@queue_app.command("cancel")
def cancel(
    submission: options.Submission,
    reason: options.Reason,
    test_set: options.TestSetName = "public",
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """End a run that waits or runs; it costs no attempt."""
    from evaluator.season import actions, organize

    options.check_outputs(json)
    organize.Organizer(actions.open_ledger(season), options.who(by)).cancel(submission, test_set, reason)
    document = {"submission": submission, "test_set": test_set, "state": "cancelled"}
    options.give(f"submission {submission} ({test_set}): cancelled", document, json)


@queue_app.command("add")
def add(
    test_set: options.TestSetName,
    reason: options.Reason,
    submissions: Annotated[
        list[int] | None, typer.Argument(metavar="N", parser=options.number, help="submissions")
    ] = None,
    chosen: Annotated[
        bool, shared.flag("--chosen", help="those that teams have chosen, or else their best public ones")
    ] = False,
    by: options.By = None,
    json: options.Json = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Queue runs on a test set, for finals or a rehearsal, or where a result is missing."""
    from evaluator.season import actions, organize

    if bool(submissions) == chosen:
        raise typer.BadParameter("must be numbers of submissions, or --chosen in their place", param_hint="N")
    options.check_outputs(json)
    organizer = organize.Organizer(actions.open_ledger(season), options.who(by))
    if chosen:
        queued = organizer.queue_chosen(test_set, reason)
    else:
        queued = organizer.queue(submissions or (), test_set, reason)
    named = ", ".join(map(str, queued)) or "none: all have a result, or a run under way"
    options.give(f"queued on {test_set}: {named}", {"test_set": test_set, "queued": queued}, json)


@queue_app.command("finals")
def finals(by: options.By = None, json: options.Json = None, season: options.Rules = options.DEFAULT_RULES) -> None:
    """Queue the private runs, after the last day to choose."""
    from evaluator.season import actions

    options.check_outputs(json)
    found = actions.queue_finals(actions.open_ledger(season), options.who(by))
    lines = [f"{found.queued} private runs queued"]
    if found.pending:
        lines.append(f"{found.pending} public runs are not done; do this again when they are")
    if found.failed:
        lines.append(
            f"{found.failed} public runs ended as infrastructure failures: retry or cancel them, then do this again"
        )
    options.give("\n".join(lines), dataclasses.asdict(found), json)
