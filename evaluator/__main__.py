"""The command line: `python -m evaluator COMMAND`; each command is one thin function here.

`run SUBMISSION --data DATA` runs and scores, `score OUTPUT --data DATA` scores alone, `check ZIP` looks at an archive,
`pack FOLDER ZIP` makes one, `compare A.json B.json` compares scores, `verify RECORD` a run's record with what it names,
`co2-report FOLDER` shows the CO2 of a training run, `prize --runs FOLDER` says whose solution is the most sustainable.
`season`, `teams`, `submit`, `queue`, `board`, `choose` and `prizes` are those of a season (`evaluator.season.cli`).

Exit codes: 0 all is well; 1 the submission's fault; 2 the organizer's data or wrong usage; 3 the evaluator's own; 128
and a signal's number: it was interrupted.
"""

import argparse
import contextlib
import io
import logging
import math
import re
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluator.core import cores, files, limits, verdict
from evaluator.core.errors import DataError, EvaluatorError
from evaluator.core.limits import TABLE_FORMATS, Limits
from evaluator.season import cli as season_commands

if TYPE_CHECKING:
    from evaluator.data.dataset import Data
    from evaluator.data.predictions import Predictions
    from evaluator.scoring.score import Scores  # imported late: `--help` need not wait for torch

logger = logging.getLogger("evaluator")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Only wrong usage leaves by SystemExit (2), as argparse does."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    # Of torch's import and eco2AI's rows: nothing that somebody who scores a submission could act on.
    warnings.simplefilter("ignore", FutureWarning)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except EvaluatorError as error:
        if getattr(options, "private", False):
            error = error.without_contents()
        kind = {1: "submission error", 2: "data error"}.get(error.exit_code, "evaluator error")
        for line in str(error).splitlines():
            print(f"{kind}: {line}", file=sys.stderr)
        if not isinstance(error, DataError):  # to whoever called wrongly no verdict matters
            print(f"verdict: {error.verdict}; {error.verdict.fix}", file=sys.stderr)
        _write_failure(options, error)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    except Exception as error:
        private = getattr(options, "private", False)
        logger.critical("this is a fault of the evaluator", exc_info=True)
        reason = type(error).__name__ if private else f"{type(error).__name__}: {error}"
        print(f"evaluator error: {reason}", file=sys.stderr)
        _write_failure(options, EvaluatorError(reason))
        return verdict.INFRA.exit_code


def _score(options: argparse.Namespace) -> int:
    from evaluator.data import dataset
    from evaluator.data.predictions import read_predictions
    from evaluator.reports import table as report
    from evaluator.scoring import score

    files.check_writable("--json", options.json)
    files.check_writable("--table", options.table)
    files.check_writable("--report", _report_path(options))
    _remove_stale(options)
    data = dataset.read_data(options.data)
    predictions = read_predictions(options.output, data)
    logger.info("%s", cores.settle())
    scores = score.score(predictions, data, options.ruwordnet, assets=options.assets)
    document = scores.to_json()
    print(report.table(scores))
    if options.json:
        files.write_json(options.json, document)
    _write_table(options, scores, data)
    _write_report(options, document, data, predictions)
    return _verdict(scores)


def _run(options: argparse.Namespace) -> int:
    from evaluator.carbon import meter as carbon
    from evaluator.data import dataset
    from evaluator.data.predictions import read_predictions
    from evaluator.package import metadata
    from evaluator.reports import table as report
    from evaluator.sandbox import launch, record
    from evaluator.scoring import score

    if options.private:
        options.report_private = True
        logging.disable()  # messages and tracebacks quote what they fail on
    for option in ("--json", "--table", "--record", "--log"):
        files.check_writable(option, getattr(options, option[2:]))
    files.check_writable("--report", _report_path(options))
    options.key = options.key_file and record.read_key(options.key_file)
    _remove_stale(options)
    options.started, options.started_monotonic = datetime.now(UTC), time.monotonic()
    options.effective = _limits(options)
    data = dataset.read_data(options.data)
    score.find_ruwordnet(options.ruwordnet, options.assets)  # a wrong path should not be noticed after hours of running
    with (
        _stopped_by_signals(),
        launch.workspace(options.submission, data, options.keep, options.effective) as space,
        _kept_log(space.log, options.log),
    ):
        facts = metadata.read(space.submission)
        runner, notes = launch.choose_runner(options.runner, facts.image, options.effective)
        print("\n".join([*facts.notes, *notes]), file=sys.stderr)
        options.run = {"runner": runner.name, "image": facts.image}
        with carbon.CarbonMeter(options.country, space.emission) as meter:
            outcome = launch.execute(space, runner, options.effective, private=options.private)
            meter.cpu_seconds = outcome.cpu_seconds
        options.run |= {
            "image_digest": outcome.image,
            "seconds": outcome.seconds,
            "exit_code": outcome.exit_code,
            "peak_memory": outcome.peak_memory,
            "carbon": meter.reading.to_json() if meter.reading else None,
        }
        launch.judge(outcome, options.effective, space.log, options.private)
        predictions = read_predictions(space.collected, data)
        print(cores.settle(), file=sys.stderr)  # not before: the submission chooses for itself
        scores = score.score(predictions, data, options.ruwordnet, assets=options.assets)
    if options.private:  # the notes name ids
        scores = replace(scores, notes=tuple(replace(note, where="") for note in scores.notes))
    full = scores.to_json() | {"run": options.run}
    document = _without_contents(full, scores) if options.private else full
    if not (options.private and scores.failure):  # the table has the reasons
        print(report.table(scores, meter.reading, outcome.seconds))
        if options.runner != runner.name == "local":  # who reads the scores may not have seen what they are worth
            print(f"{notes[0]}: these scores are of a run without the image and its limits")
    files.write_json(options.json, document)
    _write_table(options, scores, data)
    _write_record(options, document)
    _write_report(options, full, data, predictions, options.submission)
    return _verdict(scores)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a run as Ctrl-C does: its container or processes are stopped, its folders removed. One
    that is ignored, as below nohup, stays so.
    """
    numbers = (signal.SIGTERM, signal.SIGHUP)
    caught = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():  # of a program that is not ours to interrupt
        caught = []

    def stop(number: int, _: object) -> None:
        for other in caught:  # one is enough, and the next must not end the cleaning up
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def _kept_log(log: Path, target: Path | None) -> Iterator[None]:
    """Copy a run's log to `target` at the end, good or bad, where there is one."""
    try:
        yield
    finally:
        if target is not None and log.exists():
            shutil.copyfile(log, target)


def _limits(options: argparse.Namespace) -> Limits:
    """The limits of this run; what differs from the leaderboard's is printed."""
    chosen = limits.read_limits(options.limits) if options.limits else limits.RUN
    timeout = [] if options.timeout is None else [f"time={options.timeout:.3f}"]
    chosen = chosen.override([*options.limit, *timeout])
    for difference in chosen.differences(limits.RUN):
        print(f"limit: {difference}", file=sys.stderr)
    return chosen


def _without_contents(document: dict[str, Any], scores: "Scores") -> dict[str, Any]:
    """scores.json for a team: of the hidden data's single examples nothing."""
    failure = scores.failure.without_contents().to_json() if scores.failure else {}
    shown = ("name", "score", "interval", "n", "baseline", "threshold", "labels", "encoders")
    tasks = {number: {name: task[name] for name in shown} for number, task in document["tasks"].items()}
    return document | failure | {"tasks": tasks}


def _write_record(options: argparse.Namespace, document: dict[str, Any]) -> None:
    if options.record:
        from evaluator.sandbox import record

        record.write(
            options.record,
            [options.submission, options.data],
            [options.json],
            document,
            options.effective,
            options.started,
            options.key,
            time.monotonic() - options.started_monotonic,
        )


def _check(options: argparse.Namespace) -> int:
    from evaluator.carbon import emission
    from evaluator.package import archive

    files.check_writable("--json", options.json)
    _remove_stale(options)
    found = archive.check(options.archive)
    emitted = emission.read_archive(options.archive)
    print(
        f"{options.archive.name}: {found.packed} of {limits.RUN.archive} bytes packed, {found.unpacked} of"
        f" {limits.RUN.unpacked} unpacked, {found.files} files; image {found.metadata.image},"
        f" entrypoint {found.metadata.entrypoint}"
    )
    for note in found.metadata.notes:
        print(note)
    if emitted is not None:
        print("\n".join(emitted.lines()))
    if options.json:
        sizes = {"packed": found.packed, "unpacked": found.unpacked, "files": found.files}
        document = verdict.OK.to_json() | {"findings": [], "findings_total": 0, "archive": sizes}
        document["notes"] = found.metadata.notes
        document["emission"] = emitted and emitted.to_json()
        files.write_json(options.json, document)
    print("OK")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from evaluator.package import pack

    packed = pack.pack(options.folder, options.archive, options.force)
    for path in packed.left_out:
        print(f"left out: {path}")
    print(
        f"{options.archive}: {packed.report.packed} of {limits.RUN.archive} bytes packed, {packed.report.unpacked} of"
        f" {limits.RUN.unpacked} unpacked, {packed.report.files} files"
    )
    return 0


def _verify(options: argparse.Namespace) -> int:
    from evaluator.sandbox import record

    found = record.verify(options.record, options.key_file and record.read_key(options.key_file))
    for finding in found:
        print(finding)
    if not found:
        print(f"{options.record}: as it was {'signed' if options.key_file else 'written'}, with all files it names")
    return 1 if found else 0


def _prize(options: argparse.Namespace) -> int:
    from evaluator.carbon import prize

    files.check_writable("--json", options.json)
    _remove_stale(options)
    awarded = prize.award(prize.read_candidates(options.runs), prize.read_baseline(options.baseline))
    print("\n".join(awarded.lines()))
    if options.json:
        files.write_json(options.json, awarded.to_json())
    return 0


def _co2_report(options: argparse.Namespace) -> int:
    from evaluator.reports import co2 as co2_report

    output = options.output or options.folder / "co2"
    report = co2_report.write(options.folder, output)
    print("\n".join(report.lines()))
    print(f"Report: {output / co2_report.PAGE}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from evaluator.sandbox import doctor

    return doctor.report(doctor.examine(*filter(None, [options.image])), print)


def _write_table(options: argparse.Namespace, scores: "Scores", data: "Data") -> None:
    if options.table:
        from evaluator.scoring import tables  # needs pandas

        tables.write(options.table, tables.frame(scores, data))


def _report_path(options: argparse.Namespace) -> Path | None:
    """Where report.html goes: the path asked for, or beside scores.json; None where there is no such place."""
    if getattr(options, "no_report", True):
        return None
    return options.report or (options.json and options.json.with_name("report.html"))


def _write_report(
    options: argparse.Namespace,
    document: dict[str, Any],
    data: "Data",
    predictions: "Predictions",
    submission: Path | None = None,
) -> None:
    from evaluator.reports import html as report_html

    path = _report_path(options)
    if path is not None:
        report_html.write(
            path,
            document,
            data,
            predictions,
            submission,
            options.ruwordnet,
            options.assets,
            private=options.report_private,
        )
        print(f"Report: {path}")


def _compare(options: argparse.Namespace) -> int:
    from evaluator.scoring import compare

    files.check_writable("--json", options.json)
    if options.json and any(options.json.resolve() == path.resolve() for path in (options.a, options.b)):
        raise DataError(f"--json {options.json}: is one of the two that are compared; name another file")
    _remove_stale(options)
    comparison = compare.compare(options.a, options.b)
    print("\n".join(comparison.lines()))
    if options.json:
        files.write_json(options.json, comparison.to_json())
    return 0


def _verdict(scores: "Scores") -> int:
    """0, or the failure of the tasks that could not be scored."""
    if scores.failure:
        raise scores.failure
    return 0


def _remove_stale(options: argparse.Namespace) -> None:
    """Remove what an earlier run left where this one writes: whatever happens, it must not pass for this one's."""
    paths = [getattr(options, name, None) for name in ("json", "table", "record", "log")]
    for path in filter(None, [*paths, _report_path(options)]):
        try:
            if path.is_file():  # never a FIFO, device or folder, whatever was checked before
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{path} of an earlier run cannot be removed: {error.strerror}") from None
    options.writes_json = options.json is not None


def _write_failure(options: argparse.Namespace, error: EvaluatorError) -> None:
    """Say in scores.json why there are no scores. One that has the scores already, with a task's error, stays."""
    if getattr(options, "writes_json", False) and not options.json.exists():

        document = error.to_json() | ({"run": options.run} if getattr(options, "run", None) else {})
        try:
            files.write_json(options.json, document)
            if getattr(options, "effective", None):
                _write_record(options, document)
        except OSError as fault:
            print(f"evaluator error: {options.json} cannot be written: {fault.strerror}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evaluator", description="Score a submission to FusionBrain Challenge 2.0."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, required=True, help="data folder with input, truth and tasks.json")
    common.add_argument("--ruwordnet", type=Path, help="RuWordNet's SQLite database, for METEOR's synonyms")
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
        "--runner",
        choices=("auto", "engine", "docker", "local"),
        default="auto",
        help="docker, or local for code that you trust; auto takes docker where an engine has the image, engine where"
        " one answers",
    )
    command.add_argument("--limits", type=Path, metavar="FILE", help="limits in place of evaluator/core/limits.toml")
    command.add_argument(
        "--limit", action="append", default=[], metavar="NAME=VALUE", help="replace one limit, as in memory=2GB"
    )
    command.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="the same as --limit time=SECONDS")
    command.add_argument(
        "--private",
        action="store_true",
        help="for hidden data: show neither what the submission prints nor anything of single examples, here, in the"
        " JSON and in the page; --keep, --log and --table still have it all",
    )
    command.add_argument("--record", type=Path, metavar="FILE", help="write a record of the run, for `verify`")
    command.add_argument("--key-file", type=Path, metavar="FILE", help="sign the record with the key in this file")
    command.add_argument("--log", type=Path, metavar="FILE", help="keep what the submission prints in this file")
    command.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep the workspace and the log in this new or empty folder"
    )
    command.add_argument(
        "--country", type=_country, default="RU", help="ISO 3166 alpha-2 code for CO2 (default: %(default)s)"
    )
    command.set_defaults(command=_run)

    command = commands.add_parser("check", help="look at a submission's ZIP without unpacking it")
    command.add_argument("archive", type=Path, metavar="ZIP")
    command.add_argument("--json", type=Path, help="write verdict and findings to this file")
    command.set_defaults(command=_check)

    command = commands.add_parser("pack", help="pack a submission's folder: the same bytes every time")
    command.add_argument("folder", type=Path, metavar="FOLDER")
    command.add_argument("archive", type=Path, metavar="ZIP")
    command.add_argument("--force", action="store_true", help="replace an existing ZIP")
    command.set_defaults(command=_pack)

    command = commands.add_parser("verify", help="is a run's record, and are the files it names, as they were?")
    command.add_argument("record", type=Path, metavar="RECORD")
    command.add_argument("--key-file", type=Path, metavar="FILE", help="the key that it was signed with")
    command.set_defaults(command=_verify)

    command = commands.add_parser("compare", help="is B better than A? differences id by id, with intervals")
    command.add_argument("a", type=Path, metavar="A", help="scores.json of one submission")
    command.add_argument("b", type=Path, metavar="B", help="scores.json of another, on the same data")
    command.add_argument("--json", type=Path, help="write the comparison to this file")
    command.set_defaults(command=_compare)

    command = commands.add_parser("co2-report", help="a training run's CO2: plots and tables, as PNG and as a page")
    command.add_argument("folder", type=Path, metavar="FOLDER", help="with emission.csv, loss.csv and energy.csv")
    command.add_argument("--output", type=Path, metavar="FOLDER", help="write here (default: co2/ in that folder)")
    command.set_defaults(command=_co2_report)

    command = commands.add_parser("prize", help="the prize for the most sustainable solution: who is in, who wins")
    command.add_argument(
        "--runs",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="a folder with a folder for each team (scores.json or record.json; ZIP or emission.csv), or such folders"
        " or files themselves",
    )
    command.add_argument(
        "--baseline", metavar="SCORE", help="the baseline's score, or its scores.json (default: the slides' one)"
    )
    command.add_argument("--json", type=Path, help="write the places to this file")
    command.set_defaults(command=_prize)

    command = commands.add_parser("doctor", help="can this machine run submissions? each failure with its fix")
    command.add_argument("--image", help="the image that submissions run in (default: the repository's own)")
    command.set_defaults(command=_doctor)

    season_commands.add_commands(commands)
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
