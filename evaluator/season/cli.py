"""The command line of a season; the functions behind it are in `commands`, imported when one is called, as they need
the packages of requirements-season.txt.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluator.core.errors import DataError
from evaluator.season import PRIVATE, PUBLIC, TEST_SETS

PACKAGES = {  # what brings them
    **dict.fromkeys(
        ("sqlalchemy", "alembic", "psycopg", "jinja2", "markupsafe"), ("season-tools", "requirements-season.txt")
    ),
    **dict.fromkeys(("ray", "fsspec"), ("season-ray", "requirements-ray.txt")),
}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the season's commands to those of the evaluator."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--season",
        type=Path,
        default=Path("season.toml"),
        metavar="FILE",
        help="the season's rules (default: %(default)s)",
    )
    team = argparse.ArgumentParser(add_help=False)
    team.add_argument("--team", required=True, metavar="NAME")

    what = _group(commands, "season", "make a season's database, look at its rules")
    _add(what, "migrate", "migrate", [common], "make the database, or bring it to this version")
    _add(what, "check", "check", [common], "read the rules and the test sets, and say what they are")

    what = _group(commands, "teams", "the teams and their attempts of today")
    _add(what, "list", "list_teams", [common], "all teams")
    _add(what, "add", "add_team", [common], "add a team").add_argument("name", metavar="NAME")

    command = _add(commands, "submit", "submit", [common, team], "check a ZIP, keep it and queue its run")
    command.add_argument("archive", type=Path, metavar="ZIP")

    what = _group(commands, "queue", "the runs that wait, and working on them")
    command = _add(what, "list", "list_queue", [common], "what waits, runs, or needs somebody")
    command.add_argument("--submission", type=_number, metavar="N", help="all that ever happened to this submission")
    command = _add(what, "run", "run_queue", [common], "work on the queue, on this machine or a cluster")
    command.add_argument(
        "--workers", type=_count, metavar="N", help="runs at a time (default: as many as GPUs allow, or 1)"
    )
    command.add_argument(
        "--ray", metavar="ADDRESS", help="run on the nodes of this Ray cluster, `auto` for the one of this machine"
    )
    command.add_argument("--drain", action="store_true", help="end when the queue is empty")
    command = _add(what, "logs", "show_logs", [common], "what the evaluator of a run says, of one under way too")
    command.add_argument("run", type=_number, metavar="RUN", help="its number, as `queue list --submission N` has it")
    command.add_argument("--follow", action="store_true", help="go on until the run has ended")
    command.add_argument(
        "--printed", action="store_true", help="what the submission printed, when it has ended; may have hidden data"
    )
    for name, function, text in (
        ("retry", "retry", "queue another run of a submission that failed"),
        ("cancel", "cancel", "end a run that waits or runs; it costs no attempt"),
    ):
        command = _add(what, name, function, [common], text)
        command.add_argument("submission", type=_number, metavar="N")
        command.add_argument("--set", dest="test_set", choices=TEST_SETS, default=PUBLIC, help="default: %(default)s")
        command.add_argument("--reason", required=True, help="for the record")
    _add(what, "finals", "finals", [common], "queue the private runs, after the last day to choose")

    command = _add(commands, "board", "show_board", [common], "the leaderboard")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--public", dest="test_set", action="store_const", const=PUBLIC, default=PUBLIC)
    which.add_argument("--private", dest="test_set", action="store_const", const=PRIVATE)
    command.add_argument("--json", type=Path, metavar="FILE", help="write it to this file, too")

    command = _add(commands, "choose", "choose", [common, team], "a team's choice for the private board, or what it is")
    command.add_argument("submissions", type=_number, nargs="*", metavar="N", help="submissions; none: show the choice")

    command = _add(commands, "prizes", "show_prizes", [common], "who wins the prizes, and why others cannot")
    command.add_argument("--json", type=Path, metavar="FILE", help="write it to this file, too")

    command = _add(commands, "site", "make_site", [common], "write the season's pages into a folder, all at once")
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="new, or of an earlier call")
    command.add_argument(
        "--private",
        dest="publish",  # `private` is that of `run`, by which errors say less
        action="store_true",
        help="show the private board and the prizes to everybody, when it is final",
    )


def _group(commands: Any, name: str, text: str) -> Any:
    return commands.add_parser(name, help=text).add_subparsers(required=True, metavar="WHAT")


def _add(
    commands: Any, name: str, function: str, parents: Sequence[argparse.ArgumentParser], text: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, parents=parents, help=text)
    command.set_defaults(command=functools.partial(_call, function))
    return command


def _call(function: str, options: argparse.Namespace) -> int:
    """Run the function of that name in `commands`. Raises `DataError` where the packages for it are not installed."""
    try:
        from evaluator.season import commands

        code: int = getattr(commands, function)(options)
        return code
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        target, file = PACKAGES[error.name]
        raise DataError(
            f"a season needs the package {error.name}: `make {target}`, or `pip install -r {file}`"
        ) from None


def _number(text: str) -> int:
    """Of a submission or a run, as the database can have them."""
    value = int(text)
    if not 1 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"must be 1..{2**31 - 1}, not {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"must be 1..1000, not {text}")
    return value
