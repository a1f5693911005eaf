"""The command line: `python -m evaluator score OUTPUT --data DATA` and `python -m evaluator run SUBMISSION --data
DATA`.

Exit codes: 0 scored; 1 the submission's fault; 2 the organizer's data or wrong usage; 3 the evaluator's own.
"""

import argparse
import logging
import math
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from evaluator.errors import DataError, EvaluatorError
from evaluator.limits import TIME_LIMIT_SECONDS

if TYPE_CHECKING:
    from evaluator.score import Scores  # imported late: `--help` need not wait for torch

logger = logging.getLogger("evaluator")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Only wrong usage leaves by SystemExit (2), as argparse does."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Of torch's import and eco2AI's rows: nothing that somebody who scores a submission could act on.
    warnings.simplefilter("ignore", FutureWarning)
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except EvaluatorError as error:
        kind = {1: "submission error", 2: "data error"}.get(error.exit_code, "evaluator error")
        for line in str(error).splitlines():
            print(f"{kind}: {line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        logger.critical("this is a fault of the evaluator", exc_info=True)
        print(f"evaluator error: {type(error).__name__}: {error}", file=sys.stderr)
        return EvaluatorError.exit_code


def _score(options: argparse.Namespace) -> int:
    from evaluator import contract, report, score

    _check_json_path(options.json)
    data = contract.read_data(options.data)
    scores = score.score(options.output, data, options.ruwordnet)
    print(report.table(scores))
    if options.json:
        report.write_json(options.json, scores.to_json())
    return _verdict(scores)


def _run(options: argparse.Namespace) -> int:
    from evaluator import carbon, contract, launch, report, score

    _check_json_path(options.json)
    data = contract.read_data(options.data)
    if options.ruwordnet:
        score.load_ruwordnet(options.ruwordnet)  # a wrong path should not be noticed after hours of running
    with launch.workspace(options.submission, data, options.keep) as space:
        with carbon.CarbonMeter(options.country, space.emission) as meter:
            seconds = launch.execute(space, data, options.timeout)
        scores = score.score(space.output, data, options.ruwordnet)
    document = scores.to_json() | {
        "run": {"seconds": seconds, "carbon": meter.reading.to_json() if meter.reading else None}
    }
    print(report.table(scores, meter.reading, seconds))
    report.write_json(options.json, document)
    return _verdict(scores)


def _verdict(scores: "Scores") -> int:
    """0, or the gravest of the tasks' errors: ours before the data's."""
    code = max((task.exit_code for task in scores.tasks), default=0)
    if code:
        raise (DataError if code == DataError.exit_code else EvaluatorError)(scores.errors)
    return 0


def _check_json_path(path: Path | None) -> None:
    """A path that cannot be written should not be noticed after hours of running."""
    if path is None:
        return
    if path.is_dir():
        raise DataError(f"--json {path} is a folder; it must be a file's path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"--json {path}: its folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"--json {path}: its folder cannot be written to")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluator", description="Score a submission to FusionBrain Challenge 2.0."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, required=True, help="data folder with input, truth and tasks.json")
    common.add_argument("--ruwordnet", type=Path, help="RuWordNet's SQLite data base, for METEOR's synonyms")

    command = commands.add_parser("score", parents=[common], help="score an output folder")
    command.add_argument("output", type=Path, help="folder with predictions.json and images/")
    command.add_argument("--json", type=Path, help="write all scores to this file")
    command.set_defaults(command=_score)

    command = commands.add_parser(
        "run", parents=[common], help="run a submission as the leaderboard does, then score it"
    )
    command.add_argument("submission", type=Path, help="folder or ZIP with metadata.json at its root")
    command.add_argument(
        "--json", type=Path, default=Path("scores.json"), help="write all scores to this file (default: %(default)s)"
    )
    command.add_argument(
        "--timeout", type=_seconds, default=float(TIME_LIMIT_SECONDS), metavar="SECONDS", help="default: %(default)s"
    )
    command.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the workspace and the log in this new or empty folder"
    )
    command.add_argument(
        "--country", type=_country, default="RU", help="ISO 3166 alpha-2 code for CO2 (default: %(default)s)"
    )
    command.set_defaults(command=_run)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text}")
    return value


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text):
        raise argparse.ArgumentTypeError(f"must be two capital letters such as RU, not {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
