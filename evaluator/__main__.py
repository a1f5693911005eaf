"""The command line: `python -m evaluator score OUTPUT --data DATA`, `python -m evaluator run SUBMISSION --data DATA`
and `python -m evaluator compare A.json B.json`.

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
from typing import TYPE_CHECKING, Any

from evaluator.errors import DataError, EvaluatorError
from evaluator.limits import TABLE_FORMATS, TIME_LIMIT_SECONDS

if TYPE_CHECKING:
    from evaluator.contract import Data
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
        _write_failure(options, error)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        logger.critical("this is a fault of the evaluator", exc_info=True)
        reason = f"{type(error).__name__}: {error}"
        print(f"evaluator error: {reason}", file=sys.stderr)
        _write_failure(options, EvaluatorError(reason))
        return EvaluatorError.exit_code


def _score(options: argparse.Namespace) -> int:
    from evaluator import contract, report, score

    _check_path("--json", options.json)
    _check_path("--table", options.table)
    _check_path("--report", _report_path(options))
    _remove_stale(options)
    data = contract.read_data(options.data)
    scores = score.score(options.output, data, options.ruwordnet, assets=options.assets)
    document = scores.to_json()
    print(report.table(scores))
    if options.json:
        report.write_json(options.json, document)
    _write_table(options, scores, data)
    _write_report(options, document, data, options.output)
    return _verdict(scores)


def _run(options: argparse.Namespace) -> int:
    from evaluator import carbon, contract, launch, report, score

    _check_path("--json", options.json)
    _check_path("--table", options.table)
    _check_path("--report", _report_path(options))
    _remove_stale(options)
    data = contract.read_data(options.data)
    score.find_ruwordnet(options.ruwordnet, options.assets)  # a wrong path should not be noticed after hours of running
    with launch.workspace(options.submission, data, options.keep) as space:
        with carbon.CarbonMeter(options.country, space.emission) as meter:
            seconds = launch.execute(space, data, options.timeout)
        scores = score.score(space.output, data, options.ruwordnet, assets=options.assets)
        document = scores.to_json() | {
            "run": {"seconds": seconds, "carbon": meter.reading.to_json() if meter.reading else None}
        }
        print(report.table(scores, meter.reading, seconds))
        report.write_json(options.json, document)
        _write_table(options, scores, data)
        _write_report(options, document, data, space.output, options.submission)  # while the output is there
    return _verdict(scores)


def _write_table(options: argparse.Namespace, scores: "Scores", data: "Data") -> None:
    if options.table:
        from evaluator import tables  # needs pandas

        tables.write(options.table, tables.frame(scores, data))


def _report_path(options: argparse.Namespace) -> Path | None:
    """Where report.html goes: the path asked for, or beside scores.json; None where there is no such place."""
    if options.no_report:
        return None
    return options.report or (options.json and options.json.with_name("report.html"))


def _write_report(
    options: argparse.Namespace, document: dict[str, Any], data: "Data", output: Path, submission: Path | None = None
) -> None:
    from evaluator import report_html

    path = _report_path(options)
    if path is not None:
        report_html.write(
            path,
            document,
            data,
            output,
            submission,
            options.ruwordnet,
            options.assets,
            private=options.report_private,
        )
        print(f"Report: {path}")


def _compare(options: argparse.Namespace) -> int:
    from evaluator import compare, report

    _check_path("--json", options.json)
    comparison = compare.compare(options.a, options.b)
    print("\n".join(comparison.lines()))
    if options.json:
        report.write_json(options.json, comparison.to_json())
    return 0


def _verdict(scores: "Scores") -> int:
    """0, or the gravest of the tasks' errors: ours before the data's."""
    code = max((task.exit_code for task in scores.tasks), default=0)
    if code:
        raise (DataError if code == DataError.exit_code else EvaluatorError)(scores.errors)
    return 0


def _remove_stale(options: argparse.Namespace) -> None:
    """Remove what an earlier run left where this one writes: whatever happens, it must not pass for this one's."""
    for path in filter(None, (options.json, options.table, _report_path(options))):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{path} of an earlier run cannot be removed: {error.strerror}") from None
    options.writes_json = options.json is not None


def _write_failure(options: argparse.Namespace, error: EvaluatorError) -> None:
    """Say in scores.json why there are no scores. One that has the scores already, with a task's error, stays."""
    if getattr(options, "writes_json", False) and not options.json.exists():
        from evaluator import report

        try:
            report.write_json(options.json, error.to_json())
        except OSError as fault:
            print(f"evaluator error: {options.json} cannot be written: {fault.strerror}", file=sys.stderr)


def _check_path(option: str, path: Path | None) -> None:
    """A path that cannot be written should not be noticed after hours of running."""
    if path is None:
        return
    if path.is_dir():
        raise DataError(f"{option} {path} is a folder; it must be a file's path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{option} {path}: its folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{option} {path}: its folder cannot be written to")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluator", description="Score a submission to FusionBrain Challenge 2.0."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, required=True, help="data folder with input, truth and tasks.json")
    common.add_argument("--ruwordnet", type=Path, help="RuWordNet's SQLite data base, for METEOR's synonyms")
    common.add_argument(
        "--assets", type=Path, metavar="FOLDER", help="encoders and RuWordNet (default: the evaluator's own)"
    )
    common.add_argument(
        "--table", type=_table_path, metavar="FILE", help="write a row for each id to this .csv or .parquet file"
    )

    place = common.add_mutually_exclusive_group()
    place.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page to browse (default: report.html beside scores.json)"
    )
    place.add_argument("--no-report", action="store_true", help="write no page")
    common.add_argument(
        "--report-private",
        action="store_true",
        help="leave inputs, predictions, truths and single scores out of the page, for teams to see",
    )

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

    command = commands.add_parser("compare", help="is B better than A? differences id by id, with intervals")
    command.add_argument("a", type=Path, metavar="A", help="scores.json of one submission")
    command.add_argument("b", type=Path, metavar="B", help="scores.json of another, on the same data")
    command.add_argument("--json", type=Path, help="write the comparison to this file")
    command.set_defaults(command=_compare)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a positive number of seconds, not {text}")
    return value


def _table_path(text: str) -> Path:
    if not text.lower().endswith(TABLE_FORMATS):
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(TABLE_FORMATS)}, not {text!r}")
    return Path(text)


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", text):
        raise argparse.ArgumentTypeError(f"must be two capital letters such as RU, not {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
