"""Options that several commands have, how their values are read, and what commands have in common."""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from evaluator.core.errors import DataError
from evaluator.core.limits import TABLE_FORMATS

# What brings a package that not every command needs: a target of the Makefile, and an extra of pyproject.toml.
_OPTIONAL_PACKAGES = {
    **dict.fromkeys(("sqlalchemy", "alembic", "psycopg", "tomlkit"), ("season-tools", "season")),
    **dict.fromkeys(("fastapi", "uvicorn", "limits", "sse_starlette", "multipart"), ("season-tools", "web")),
    **dict.fromkeys(("ray", "fsspec"), ("season-ray", "ray")),
}


class Group(typer.core.TyperGroup):
    """Says which commands there are to somebody who names another."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that is named first. Raises `typer.TyperException` with all names."""
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as error:
            error.message += f" There are {', '.join(self.list_commands(ctx))}."
            raise


def path_argument(help: str, metavar: str) -> typer.models.ArgumentInfo:
    """A path; whether it can be read is for the library to say."""
    argument: typer.models.ArgumentInfo = typer.Argument(metavar=metavar, help=help, readable=False)
    return argument


def path_option(*names: str, help: str, metavar: str = "FILE") -> typer.models.OptionInfo:
    """A path; whether it can be read is for the library to say."""
    option: typer.models.OptionInfo = typer.Option(*names, metavar=metavar, help=help, readable=False)
    return option


def flag(name: str, help: str) -> typer.models.OptionInfo:
    """An option without a value."""
    option: typer.models.OptionInfo = typer.Option(name, metavar="", help=help)
    return option


def seconds(text: str) -> float:
    """A time, as an option's value has it."""
    with _wrong(f"must be a positive number of seconds, not {text!r}"):
        value = float(text)
        if not (math.isfinite(value) and value > 0):
            raise ValueError
    return value


def whole_number(largest: int) -> Callable[[str], int]:
    """Reads a number from 1 to `largest`."""

    def read(text: str) -> int:
        with _wrong(f"must be 1..{largest}, not {text!r}"):
            value = int(text)
            if not 1 <= value <= largest:
                raise ValueError
        return value

    return read


def share(text: str) -> float:
    """A part of a whole."""
    with _wrong(f"must be a number in 0..1, not {text!r}"):
        value = float(text)
        if not 0 <= value <= 1:
            raise ValueError
    return value


def country(text: str) -> str:
    """An ISO 3166 alpha-2 code."""
    with _wrong(f"must be two capital letters such as RU, not {text!r}"):
        if not re.fullmatch(r"[A-Z]{2}", text):
            raise ValueError
    return text


def time_zone(text: str) -> ZoneInfo:
    """One that this machine knows."""
    with _wrong(f"must be a time zone such as Europe/Moscow, not {text!r}"):
        try:
            return ZoneInfo(text)
        except (OSError, LookupError):
            raise ValueError from None


def table_path(text: str) -> Path:
    """A file whose name's ending is that of a format of tables."""
    with _wrong(f"must end in {' or '.join(TABLE_FORMATS)}, not {text!r}"):
        if not text.lower().endswith(TABLE_FORMATS):
            raise ValueError
    return Path(text)


@contextlib.contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """What is written at the end of a command can still fail, as on a full disk. Raises `DataError` with the file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{option} {path}: cannot be written: {error.strerror or error}") from None


@contextlib.contextmanager
def _wrong(message: str) -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise typer.BadParameter(message) from None


def exclusive(**given: bool) -> None:
    """Raise the error of wrong usage where more than one of these options are given."""
    names = [f"--{name.replace('_', '-')}" for name, is_given in given.items() if is_given]
    if len(names) > 1:
        raise typer.BadParameter(f"not allowed with {names[0]}", param_hint=names[1])


Data = Annotated[Path, path_option("--data", help="data folder with input, truth and tasks.json", metavar="FOLDER")]
CompetitionName = Annotated[
    str,
    typer.Option(
        "--competition", metavar="NAME|FOLDER", help="whose tasks and rules: fbc2, fbc1, or a folder of your own"
    ),
]
RuWordNet = Annotated[
    Path | None, path_option("--ruwordnet", help="RuWordNet's SQLite database, for METEOR's synonyms")
]
Assets = Annotated[
    Path | None,
    path_option("--assets", help="encoders and RuWordNet (default: the evaluator's own)", metavar="FOLDER"),
]
Table = Annotated[
    Path | None,
    typer.Option(
        "--table", metavar="FILE", parser=table_path, help="write a row for each id to this .csv or .parquet file"
    ),
]
Report = Annotated[
    Path | None, path_option("--report", help="write a page to browse (default: report.html beside scores.json)")
]
NoReport = Annotated[bool, flag("--no-report", help="write no page")]
ReportPrivate = Annotated[
    bool,
    flag(
        "--report-private",
        help="leave inputs, predictions, truths and single scores out of the page, for teams to see",
    ),
]
Json = Annotated[Path | None, path_option("--json", help="write the results to this file, too")]


def page_path(json: Path | None, report: Path | None, no_report: bool) -> Path | None:
    """Where report.html goes: the path asked for, or beside scores.json; None where there is no such place."""
    exclusive(report=report is not None, no_report=no_report)
    if no_report:
        return None
    return report or (json and json.with_name("report.html"))


def note(line: str) -> None:
    """Print what is not a result."""
    print(line, file=sys.stderr)


@contextlib.contextmanager
def packages_named() -> Iterator[None]:
    """Where an optional package is not installed, say what brings it. Raises `DataError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in _OPTIONAL_PACKAGES:
            raise
        target, extra = _OPTIONAL_PACKAGES[error.name]
        raise DataError(
            f"a season needs the package {error.name}: `make {target}`, or "
            f"`pip install --constraint requirements.txt --editable '.[{extra}]'`"
        ) from None
