"""Options that several of a season's commands have."""

import getpass
import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evaluator.cli import shared
from evaluator.core import files

PANEL = "Season"
DEFAULT_RULES = Path("season.toml")

number = shared.whole_number(2**31 - 1)  # of a submission or a run, as the database can have them

Rules = Annotated[Path, shared.path_option("--season", help="the season's rules")]
Team = Annotated[str, typer.Option("--team", metavar="NAME", help="the team")]
Submission = Annotated[int, typer.Argument(metavar="N", parser=number, help="number of a submission")]
TestSetName = Annotated[Literal["public", "private"], typer.Option("--set", help="of its run on which test set")]
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
    """Who does something, for the record."""
    return by or getpass.getuser()


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
) -> None:
    """Print what a command found, and write it where that was asked for: `document` as JSON, `rows`, which have the
    same keys, as a table.
    """
    if json == _STDOUT:
        print(json_format.dumps(document, ensure_ascii=False, indent=2, allow_nan=False))
    else:
        print(text)
        if json is not None:
            files.write_json(json, document)
    if table is not None:
        import pandas as pd

        from evaluator.scoring import tables

        tables.write(table, pd.DataFrame(rows))
