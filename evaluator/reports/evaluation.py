"""Runs a submission as the leaderboard does, scores it, and writes what comes of it: scores.json, the table of ids, the
record and the page. `score` scores an output folder alone, `rescore` what was kept of a run.
"""

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from evaluator.carbon import meter as carbon
from evaluator.competition import DEFAULT
from evaluator.competition.definition import Competition, find
from evaluator.core import cores, files, limits, results
from evaluator.core.errors import SHOWN_FAULTS, EvaluatorError, SubmissionError
from evaluator.core.limits import Limits
from evaluator.data import kept
from evaluator.data.contracts import read_data, read_predictions
from evaluator.data.dataset import Data
from evaluator.data.predictions import Predictions
from evaluator.metrics.base import Resources
from evaluator.package import metadata, shared_parameters
from evaluator.reports import html, table
from evaluator.sandbox import launch, record
from evaluator.sandbox.base import Workspace
from evaluator.sandbox.launch import RunnerName
from evaluator.scoring import score as scoring
from evaluator.scoring.score import Scores

logger = logging.getLogger(__name__)

# Of a task, what a team may see of hidden data.
_SHOWN_OF_TASK = ("name", "score", "interval", "n", "baseline", "threshold", "labels", "encoders")


@dataclass(frozen=True, kw_only=True)
class _Scoring:
    """What is scored on, with what, and where the results go; a file that is None is not written.

    `competition` is the name of one, or its folder.
    `assets` is the folder with encoders and RuWordNet (None: the evaluator's own), `ruwordnet` a database in place of
    the one there. `table` ends in .csv or .parquet. With `report_private` the page has aggregates alone; the time on it
    is that of `zone`.
    """

    data: Path
    competition: str = DEFAULT
    ruwordnet: Path | None = None
    assets: Path | None = None
    json: Path | None = None
    table: Path | None = None
    report: Path | None = None
    report_private: bool = False
    zone: tzinfo = UTC

    def result_files(self) -> dict[str, Path | None]:
        """By the option that names each."""
        return {"--json": self.json, "--table": self.table, "--report": self.report}

    def resources(self) -> Resources:
        """What metrics may ask for. Raises `DataError` where it cannot be had."""
        return scoring.find_resources(self.ruwordnet, self.assets)


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(_Scoring):
    """Score the folder `output`, with predictions.json and images/."""

    output: Path


@dataclass(frozen=True, kw_only=True)
class RunRequest(_Scoring):
    """Run `submission`, a folder or ZIP, and score its output.

    `limits` is a file in place of the competition's limits, of which `limit_settings` replace some, each as in
    `memory=2GB`. `record`, signed with the key in `key_file`, `log` (what the submission prints) and `keep` (a folder
    for the workspace) are written where they are not None; `keep_output` is a file for what was scored
    (`evaluator.data.kept`). `country` is an ISO 3166 alpha-2 code for CO2 (None: the competition's).

    With `private`, for hidden data, nothing of single examples, nor what the submission prints, is shown, logged or
    written into `json` and `report`; `keep`, `keep_output`, `log` and `table` have it all.
    """

    submission: Path
    runner: RunnerName = "auto"
    limits: Path | None = None
    limit_settings: tuple[str, ...] = ()
    private: bool = False
    record: Path | None = None
    key_file: Path | None = None
    log: Path | None = None
    keep: Path | None = None
    keep_output: Path | None = None
    country: str | None = None

    def result_files(self) -> dict[str, Path | None]:
        """Those of scoring, and what a run leaves beside them."""
        own = {"--record": self.record, "--log": self.log, "--keep-output": self.keep_output}
        return super().result_files() | own


Show = Callable[[str], None]

# Of the scores.json of a run, what stays true however its output is scored again.
_CARRIED = ("shared_parameters", "run")


def score(request: ScoreRequest, show: Show) -> Scores:
    """Score an output folder. `show` gets what a person asked for: the table as soon as there are scores, before they
    are written, and where the page is.

    Raises `DataError` where the data or a path is wrong, `SubmissionError` where the output breaks the contract, and
    when all is written `Scores.failure`; then `request.json` has the reason.
    """
    results.prepare(request.result_files())
    with results.explained(request.json), contextlib.ExitStack() as stack:
        data = read_data(request.data, find(request.competition))
        predictions = stack.enter_context(contextlib.closing(read_predictions(request.output, data)))
        logger.info("%s", cores.settle())
        scores = scoring.score(predictions, data, request.resources())
        show(table.table(scores))
        document = scores.to_json()
        if request.json is not None:
            files.write_json(request.json, document)
        _write_table(request, scores, data)
        _write_page(request, show, document, data, predictions, private=request.report_private)
        if scores.failure is not None:
            raise scores.failure
    return scores


def run(request: RunRequest, note: Show, show: Show) -> Scores:
    """Run a submission to its end, good or bad, and score it. `note` gets what a person should know meanwhile, a line
    each, `show` what was asked for, as in `score`.

    Raises `SubmissionError` for every ending but a good one, `DataError` where the data, a path or a limit is wrong,
    and when all is written `Scores.failure`; then `request.json` has the reason. With `request.private` no error quotes
    what it is about.
    """
    with _private() if request.private else contextlib.nullcontext():
        return _run(request, note, show)


@contextlib.contextmanager
def _private() -> Iterator[None]:
    """Messages and tracebacks quote what they fail on: none is logged, and errors come without."""
    logging.disable()
    try:
        yield
    except Exception as error:
        private = results.shown(error, private=True)
        for said in getattr(error, "__notes__", ()):
            if isinstance(said, results.OwnNote):
                private.add_note(said)
        raise private from None
    finally:
        logging.disable(logging.NOTSET)


def _run(request: RunRequest, note: Show, show: Show) -> Scores:
    key = None if request.key_file is None else record.read_key(request.key_file)
    results.prepare(request.result_files())
    started, clock = datetime.now(UTC), time.monotonic()
    with results.explained(request.json, private=request.private):
        competition = find(request.competition)
        chosen = _limits(request, competition, note)
    facts: dict[str, Any] = {}  # of the run, as far as they are known
    counted: dict[str, Any] = {}

    def write(document: dict[str, Any]) -> None:
        document = document | counted | ({"run": facts} if facts else {})
        if request.json is not None:
            files.write_json(request.json, document)
        if request.record is not None:
            sources = [request.submission, request.data]
            outputs = [path for path in (request.json, request.keep_output) if path is not None and path.exists()]
            record.write(
                request.record, sources, outputs, document, chosen, started, key, seconds=time.monotonic() - clock
            )

    with results.explained(request.json, write, request.private), contextlib.ExitStack() as stack:
        data = read_data(request.data, competition)
        # What is wrong here should not be noticed after hours of running.
        resources = request.resources()
        scoring.load_small(data, resources)
        with launch.workspace(request.submission, data, request.keep, chosen) as space, _kept(space.log, request.log):
            metadata_read = metadata.read(space.submission)
            runner, notes = launch.choose_runner(request.runner, metadata_read.image, chosen)
            for line in (*metadata_read.notes, *notes):
                note(line)
            facts |= {"runner": runner.name, "image": metadata_read.image}
            # Before it runs: a program can write into its own folder.
            counted |= _count_shared_parameters(space, competition, note)
            with carbon.CarbonMeter(request.country or competition.definition.country, space.emission) as meter:
                outcome = launch.execute(space, runner, chosen, private=request.private)
                meter.cpu_seconds = outcome.cpu_seconds
            facts |= {
                "image_digest": outcome.image,
                "seconds": outcome.seconds,
                "exit_code": outcome.exit_code,
                "peak_memory": outcome.peak_memory,
                "carbon": meter.reading.to_json() if meter.reading else None,
            }
            launch.judge(outcome, chosen, space.log, request.private)
            predictions = stack.enter_context(contextlib.closing(read_predictions(space.collected, data)))
            if request.keep_output is not None:  # before it is scored, which may fail
                facts["output_sha256"] = kept.write(request.keep_output, predictions)
            note(cores.settle())  # not before: the submission chooses for itself
            scores = scoring.score(predictions, data, resources)
        failure = scores.failure
        if request.private:
            scores, failure = _without_places(scores), failure and failure.without_contents()
        document = scores.to_json() | counted | {"run": facts}
        if not (request.private and failure):  # the table has the reasons
            show(table.table(scores, meter.reading, outcome.seconds))
            if request.runner != runner.name == "local":  # who reads the scores may not have seen what they are worth
                show(f"{notes[0]}: these scores are of a run without the image and its limits")
        write(_without_examples(document, failure) if request.private else document)
        _write_table(request, scores, data)
        private = request.private or request.report_private
        _write_page(request, show, document, data, predictions, request.submission, private)
        if failure is not None:
            raise failure
    return scores


def rescore(
    output: Path,
    digest: str,
    data: Data,
    resources: Resources,
    folder: Path,
    *,
    earlier: Mapping[str, Any] | None = None,
    submission: Path | None = None,
    ruwordnet: Path | None = None,
    assets: Path | None = None,
    zone: tzinfo = UTC,
) -> Scores:
    """Score again what a run answered, kept in `output` with the SHA-256 `digest`, on `data` and with `resources` that
    serve many: what is large is loaded by the first call that asks for it. `cores.settle` comes before that, as in a
    run. Into `folder`, made where it is missing, go scores.json and report.html as a run with `private` writes them:
    nothing of single examples.

    `earlier` is the content of the run's own scores.json: what it says of the run and of shared parameters stands in
    the new one, too. The page names `submission`, the ZIP of the run, and `ruwordnet` and `assets`, where the resources
    are of these; the time on it is that of `zone`. A task that cannot be scored is no end of it: `Scores.failure` says
    so, and scores.json.

    Raises as `evaluator.data.kept.read`: `Unanswered` where the run was not asked what the data ask, `DataError`; then
    nothing is written.
    """
    with contextlib.closing(kept.read(output, digest, data)) as predictions:
        scores = scoring.score(predictions, data, resources)
        carried = {name: earlier[name] for name in _CARRIED if name in earlier} if earlier else {}
        document = _without_places(scores).to_json() | carried
        failure = scores.failure and scores.failure.without_contents()
        files.write_json(folder / "scores.json", _without_examples(document, failure))
        page = folder / "report.html"
        html.write(page, document, data, predictions, submission, ruwordnet, assets, private=True, zone=zone)
    return scores


def _count_shared_parameters(space: Workspace, competition: Competition, note: Show) -> dict[str, Any]:
    """`shared_parameters` of scores.json, where the competition's prizes need that count; else nothing. One that cannot
    be made has `errors` in its place, and is no end of the run: scores do not depend on it.
    """
    required = competition.definition.prizes.shared_parameters
    if required is None:
        return {}
    tasks = tuple(competition.names.values())
    try:
        found = shared_parameters.count_unpacked(space.submission, launch.delivered(space), required, tasks=tasks)
    except SubmissionError as error:
        for line in str(error).splitlines():
            note(f"shared parameters cannot be counted: {line}")
        errors = error.reasons[:SHOWN_FAULTS]
        return {"shared_parameters": {"met": False, "share": None, "required": required, "errors": errors}}
    note(found.summary)
    document = found.to_json()
    del document["tensors"]  # of a large model thousands
    return {"shared_parameters": document}


def _limits(request: RunRequest, competition: Competition, note: Show) -> Limits:
    """The limits of a run; what differs from the competition's is said."""
    chosen = competition.limits if request.limits is None else limits.read_limits(request.limits)
    chosen = chosen.override(request.limit_settings)
    for difference in chosen.differences(competition.limits):
        note(f"limit: {difference}")
    return chosen


@contextlib.contextmanager
def _kept(log: Path, target: Path | None) -> Iterator[None]:
    """Copy a run's log to `target` at the end, good or bad, where there is one."""
    try:
        yield
    finally:
        if target is not None and log.exists():
            shutil.copyfile(log, target)


def _without_places(scores: Scores) -> Scores:
    """The same scores with notes that name no ids."""
    return replace(scores, notes=tuple(replace(each, where="") for each in scores.notes))


def _without_examples(document: dict[str, Any], failure: EvaluatorError | None) -> dict[str, Any]:
    """scores.json for a team: of the hidden data's single examples nothing."""
    tasks = {number: {name: task[name] for name in _SHOWN_OF_TASK} for number, task in document["tasks"].items()}
    return document | (failure.to_json() if failure else {}) | {"tasks": tasks}


def _write_table(request: _Scoring, scores: Scores, data: Data) -> None:
    if request.table is not None:
        from evaluator.scoring import tables  # needs pandas

        tables.write(request.table, tables.frame(scores, data))


def _write_page(
    request: _Scoring,
    show: Show,
    document: dict[str, Any],
    data: Data,
    predictions: Predictions,
    submission: Path | None = None,
    private: bool = False,
) -> None:
    if request.report is not None:
        html.write(
            request.report,
            document,
            data,
            predictions,
            submission,
            request.ruwordnet,
            request.assets,
            private=private,
            zone=request.zone,
        )
        show(f"Report: {request.report}")
