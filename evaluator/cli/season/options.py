"""Options that several of a season's commands have."""

import getpass
import json as json_format
from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluator.cli import shared
from evaluator.cli.season import texts
from evaluator.core import files

if TYPE_CHECKING:
    from evaluator.season.changes import Change
    from evaluator.season.organize import Organizer

PANEL = "Season"
DEFAULT_RULES = Path("season.toml")

number = shared.whole_number(2**31 - 1)  # of a submission or a run, as the database can have them

Rules = Annotated[Path, shared.path_option("--season", help="the season's rules")]
Team = Annotated[str, typer.Option("--team", metavar="NAME", help="the team")]
Submission = Annotated[int, typer.Argument(metavar="N", parser=number, help="number of a submission")]
TestSetName = Annotated[
    str, typer.Option("--set", metavar="NAME", help="on which test set: public, private, or one that was added")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="for the record")]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", envvar="SEASON_BY", help="who does it (default: the user's login name)"),
]
Json = Annotated[
    Path | None,
    shared.path_option("--json", help="write it as JSON to this file, too; `-` prints the JSON in place of the text"),
]
Table = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE", parser=shared.table_path, help="write the rows to this .csv or .parquet"),
]

_STDOUT = Path("-")


def who(by: str | None) -> str:
    """Who does something, for the record. Raises the error of wrong usage where the user has no name."""
    try:
        return by or getpass.getuser()
    except (OSError, KeyError):  # of a user of a container, that nobody has entered there
        raise typer.BadParameter("must say who does it, as this user has no name", param_hint="--by") from None


def day(text: str) -> date:
    """A day, as an option's value has it."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.isoformat() != text:
        raise typer.BadParameter(f"must be a day such as 2022-11-13, not {text!r}")
    return found


def moment(text: str) -> datetime:
    """A moment, as an option's value has it; without a zone it is of the season's."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"must be a moment such as 2022-11-13T18:00, or with a zone 2022-11-13T18:00+03:00, not {text!r}"
        ) from None


def one_of(names: Collection[str], text: str) -> str:
    """The one of these that an option's value is, whatever the case of its letters."""
    for name in names:
        if text.lower() == name.lower():
            return name
    raise typer.BadParameter(f"must be one of {', '.join(names)}, not {text!r}")


def change(season: Path, by: str | None, json: Path | None, call: "Callable[[Organizer], Change]") -> None:
    """Have an organizer change something, and say what is in force then."""
    from evaluator.season import actions, listing
    from evaluator.season.organize import Organizer

    check_outputs(json)
    ledger = actions.open_ledger(season)
    found = listing.in_force(ledger, call(Organizer(ledger, who(by))))
    give(texts.in_force(found), found.to_json(), json)


def check_outputs(json: Path | None, table: Path | None = None) -> None:
    """That what a command is to write can be written should be known before it does anything. Raises `DataError`."""
    files.check_writable("--json", None if json == _STDOUT else json)
    files.check_writable("--table", table)


def give(
    text: str,
    document: Any,
    json: Path | None,
    rows: Sequence[dict[str, Any]] = (),
    table: Path | None = None,
    columns: Sequence[str] = (),
) -> None:
    """Print what a command found, and write it where that was asked for: `document` as JSON, `rows`, which have the
    same keys, as a table; `columns` are these keys, where there may be no row.
    """
    if json == _STDOUT:
        print(json_format.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print(text)
        if json is not None:
            with shared.writing("--json", json):
                files.write_json(json, document)
    if table is not None:
        from evaluator.scoring import tables

        with shared.writing("--table", table):
            tables.write(table, tables.of_rows(rows, columns))
