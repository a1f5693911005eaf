"""Run and score a submission, and compare scores."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import typer

from evaluator.cli import shared
from evaluator.competition import DEFAULT
from evaluator.core import files, results
from evaluator.core.errors import DataError

PANEL = "Run and score"
app = typer.Typer()


@app.command("run", rich_help_panel=PANEL)
def run(
    submission: Annotated[Path, shared.path_argument("folder or ZIP with metadata.json at its root", "SUBMISSION")],
    data: shared.Data,
    competition: shared.CompetitionName = DEFAULT,
    ruwordnet: shared.RuWordNet = None,
    assets: shared.Assets = None,
    table: shared.Table = None,
    report: shared.Report = None,
    no_report: shared.NoReport = False,
    report_private: shared.ReportPrivate = False,
    json: Annotated[Path, shared.path_option("--json", help="write all scores to this file")] = Path("scores.json"),
    runner: Annotated[
        Literal["auto", "engine", "docker", "local"],
        typer.Option(
            "--runner",
            metavar="NAME",
            help="docker, or local for code that you trust; auto takes docker where an engine has the image, engine"
            " where one answers",
        ),
    ] = "auto",
    limits: Annotated[
        Path | None, shared.path_option("--limits", help="limits in place of evaluator/core/limits.toml")
    ] = None,
    limit: Annotated[
        list[str], typer.Option("--limit", metavar="NAME=VALUE", help="replace one limit, as in memory=2GB")
    ] = [],  # noqa: B006  Typer hands over a list of its own
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", parser=shared.seconds, help="the same as --limit time=SECONDS"),
    ] = None,
    private: Annotated[
        bool,
        shared.flag(
            "--private",
            help="for hidden data: show neither what the submission prints nor anything of single examples, here, in"
            " the JSON and in the page; --keep, --keep-output, --log and --table still have it all",
        ),
    ] = False,
    record: Annotated[
        Path | None, shared.path_option("--record", help="write a record of the run, for `verify`")
    ] = None,
    key_file: Annotated[
        Path | None, shared.path_option("--key-file", help="sign the record with the key in this file")
    ] = None,
    log: Annotated[
        Path | None, shared.path_option("--log", help="keep what the submission prints in this file")
    ] = None,
    keep: Annotated[
        Path | None,
        shared.path_option(
            "--keep", help="keep the workspace and the log in this new or empty folder", metavar="FOLDER"
        ),
    ] = None,
    keep_output: Annotated[
        Path | None,
        shared.path_option(
            "--keep-output",
            help="keep what was scored, predictions and images, in this ZIP, to be scored again; the organizer's, as it"
            " has what --private hides",
        ),
    ] = None,
    country: Annotated[
        str | None,
        typer.Option(
            "--country",
            metavar="COUNTRY",
            parser=shared.country,
            help="ISO 3166 alpha-2 code for CO2 (default: the competition's)",
        ),
    ] = None,
    time_zone: Annotated[
        ZoneInfo | None,
        typer.Option(
            "--time-zone",
            metavar="ZONE",
            parser=shared.time_zone,
            help="of the page's time, such as Europe/Moscow (default: UTC)",
        ),
    ] = None,
) -> None:
    """Run a submission as the leaderboard does, then score it."""
    from evaluator.reports import evaluation

    request = evaluation.RunRequest(
        submission=submission,
        data=data,
        competition=competition,
        ruwordnet=ruwordnet,
        assets=assets,
        json=json,
        table=table,
        report=shared.page_path(json, report, no_report),
        report_private=report_private,
        runner=runner,
        limits=limits,
        limit_settings=(*limit, *([] if timeout is None else [f"time={timeout:.3f}"])),
        private=private,
        record=record,
        key_file=key_file,
        log=log,
        keep=keep,
        keep_output=keep_output,
        country=country,
        zone=time_zone or UTC,
    )
    with _stopped_by_signals():
        evaluation.run(request, shared.note, print)


@app.command("score", rich_help_panel=PANEL)
def score(
    output: Annotated[Path, shared.path_argument("folder with predictions.json and images/", "OUTPUT")],
    data: shared.Data,
    competition: shared.CompetitionName = DEFAULT,
    ruwordnet: shared.RuWordNet = None,
    assets: shared.Assets = None,
    table: shared.Table = None,
    report: shared.Report = None,
    no_report: shared.NoReport = False,
    report_private: shared.ReportPrivate = False,
    json: Annotated[Path | None, shared.path_option("--json", help="write all scores to this file")] = None,
) -> None:
    """Score an output folder."""
    from evaluator.reports import evaluation

    request = evaluation.ScoreRequest(
        output=output,
        data=data,
        competition=competition,
        ruwordnet=ruwordnet,
        assets=assets,
        json=json,
        table=table,
        report=shared.page_path(json, report, no_report),
        report_private=report_private,
    )
    evaluation.score(request, print)


@app.command("compare", rich_help_panel=PANEL)
def compare(
    a: Annotated[Path, shared.path_argument("scores.json of one submission", "A")],
    b: Annotated[Path, shared.path_argument("scores.json of another, on the same data", "B")],
    json: shared.Json = None,
) -> None:
    """Is B better than A? Differences id by id, with intervals."""
    from evaluator.scoring import compare

    files.check_writable("--json", json)
    if json is not None and any(json.resolve() == path.resolve() for path in (a, b)):
        raise DataError(f"--json {json}: is one of the two that are compared; name another file")
    results.remove_stale([json])
    with results.explained(json):
        comparison = compare.compare(a, b)
        print("\n".join(comparison.lines()))
        if json is not None:
            with shared.writing("--json", json):
                files.write_json(json, comparison.to_json())


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
