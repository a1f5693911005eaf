"""Scoring again what runs answered."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from evaluator.cli import shared
from evaluator.cli.season import options, rules, texts
from evaluator.core.validation import Weight


@rules.season_app.command("rescore")
def rescore(
    reason: options.Reason,
    test_set: Annotated[
        str | None, typer.Option("--test-set", metavar="NAME", help="score what was answered to this test set again")
    ] = None,
    data: Annotated[
        Path | None,
        shared.path_option("--data", help="its data from now on (default: those it has)", metavar="FOLDER"),
    ] = None,
    weight: Annotated[
        list[str], typer.Option("--weight", metavar="TASK=W", help="a task's weight in the formula from now on")
    ] = [],  # noqa: B006  Typer hands over a list of its own
    dry_run: Annotated[bool, shared.flag("--dry-run", help="show what would change, and change nothing")] = False,
    queue_missing: Annotated[
        bool, shared.flag("--queue-missing", help="run those again whose output is not kept, at no cost to the teams")
    ] = False,
    leave_missing: Annotated[
        bool, shared.flag("--leave-missing", help="take those off the board whose output is not kept")
    ] = False,
    by: options.By = None,
    json: options.Json = None,
    table: options.Table = None,
    season: options.Rules = options.DEFAULT_RULES,
) -> None:
    """Score kept outputs again: a corrected truth, other encoders, another formula."""
    from evaluator.season import actions, rescore
    from evaluator.season.organize import Organizer

    shared.exclusive(queue_missing=queue_missing, leave_missing=leave_missing)
    options.check_outputs(json, table)
    request = rescore.Request(
        test_set=test_set,
        data=data,
        weights=dict(map(_weight, weight)),
        missing="queue" if queue_missing else "leave" if leave_missing else "refuse",
        dry_run=dry_run,
    )
    organizer = Organizer(actions.open_ledger(season), options.who(by))
    found = rescore.rescore(organizer, request, reason, shared.note)
    rows = [{"test_set": each.test_set} | moved.to_json() for each in found.sets for moved in each.moved]
    options.give(texts.rescoring(found, dry_run), found.to_json(), json, rows, table)


def _weight(text: str) -> tuple[int, float]:
    """A task and its weight. Raises the error of wrong usage."""
    task, _, weight = text.partition("=")
    try:
        return TypeAdapter(NonNegativeInt).validate_python(task), TypeAdapter(Weight).validate_python(weight)
    except ValidationError:
        raise typer.BadParameter(
            f"must be a task's number and its weight, as in 11=0 or 6=1/10, not {text!r}", param_hint="--weight"
        ) from None
