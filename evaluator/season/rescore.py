"""Score again what runs answered, without running anything: with a corrected truth, a mended metric, other encoders,
another formula. What changes is shown before boards show it.

What is scored is kept below `rescored/` in the season's folder, by what it was scored with, so that a call that was
interrupted goes on, and pages have the reports of the edition that they show.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evaluator.core import cores, files
from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.data import contracts, dataset
from evaluator.data.dataset import Data
from evaluator.metrics import assets
from evaluator.metrics.base import Resources
from evaluator.reports import evaluation
from evaluator.sandbox import record
from evaluator.scoring import score as scoring
from evaluator.season import board
from evaluator.season.board import BoardResult, Line
from evaluator.season.changes import Change
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger, NewEdition, Refused, Snapshot
from evaluator.season.organize import Organizer, relative
from evaluator.season.store import OUTPUT, Store, open_shared

logger = logging.getLogger(__name__)

Missing = Literal["refuse", "queue", "leave"]


@dataclass(frozen=True)
class Moved:
    """A team's place on a board before and after; None where it has no result, or no rank."""

    team: str
    before: Line | None
    after: Line | None

    @property
    def is_changed(self) -> bool:
        """Whether score or rank are others."""
        values = [(line.total, line.rank) if line else (None, None) for line in (self.before, self.after)]
        return values[0] != values[1]

    def to_json(self) -> dict[str, Any]:
        """Ranks and totals."""
        return {
            "team": self.team,
            "rank_before": self.before and self.before.rank,
            "rank_after": self.after and self.after.rank,
            "total_before": self.before and self.before.total,
            "total_after": self.after and self.after.total,
        }


@dataclass(frozen=True)
class Rescored:
    """A test set that was scored again: how many results have how many other totals, where teams stand, and why
    submissions could not be scored, by number.
    """

    test_set: str
    results: int
    changed: int
    moved: Sequence[Moved]
    missing: Mapping[int, str]

    def to_json(self) -> dict[str, Any]:
        return {
            "test_set": self.test_set,
            "results": self.results,
            "changed": self.changed,
            "board": [each.to_json() for each in self.moved],
            "missing": {str(submission): why for submission, why in self.missing.items()},
        }


@dataclass(frozen=True)
class Rescoring:
    """All that was scored again; `change` is what was entered, None where nothing was, or nothing differed. `queued`
    are submissions that get another run.
    """

    sets: Sequence[Rescored]
    change: Change | None = None
    queued: Sequence[int] = ()

    def to_json(self) -> dict[str, Any]:
        """What `season rescore --json` writes."""
        return {
            "sets": [each.to_json() for each in self.sets],
            "change": self.change and self.change.id,
            "queued": list(self.queued),
        }


@dataclass(frozen=True)
class Request:
    """What is to be scored again: the results of `test_set`, on the data in the folder `data` from now on (None: those
    that it has), and all results by a formula with these `weights` in place of those it has. `missing` says what to do
    about submissions whose output is not kept: nothing at all, queue another run of each, or leave them off the board.
    """

    test_set: str | None = None
    data: Path | None = None
    weights: Mapping[int, float] = field(default_factory=dict)
    missing: Missing = "refuse"
    dry_run: bool = False


class _Lacking(Exception):
    """Why there is nothing to score."""


@dataclass
class _Set:
    """A test set's new edition, as far as it is scored: by submission its result so far with the new scores by task, or
    why there are none.
    """

    digest: str
    labels: tuple[str, ...]
    evaluator: str | None
    scores: dict[int, tuple[BoardResult, Mapping[int, float]]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    skipped: set[int] = field(default_factory=set)  # the missing, and those that do not count

    def edition(self) -> NewEdition:
        """As the ledger takes it."""
        scores = {submission: (result.run, scores) for submission, (result, scores) in self.scores.items()}
        return NewEdition(self.digest, self.labels, self.evaluator, scores)


def rescore(organizer: Organizer, request: Request, reason: str, say: Callable[[str], None]) -> Rescoring:
    """Score again, and enter it unless that is a dry run. `say` gets a line for whatever takes long.

    Raises `DataError` where the data cannot be read or a metric fails on them, `Refused` where there is nothing to do,
    submissions are missing, or somebody else has scored again meanwhile; then boards stay as they are.
    """
    ledger = organizer.ledger
    before = ledger.snapshot()
    weights = _weights(before.season, request.weights)
    after = before.season.changed({}, before.season.data, weights)
    if request.test_set is None and weights is None:
        if request.weights:
            raise Refused("the formula has these weights already")
        raise DataError("say which test set is to be scored again, or which weights the formula is to have")
    if request.test_set is not None and request.test_set not in before.season.data:
        raise Refused(f"test set {show(request.test_set)}: must be one of {', '.join(before.season.data)}")
    found: dict[str, _Set] = {}
    if request.test_set is not None:
        scored = _score_outputs(organizer.ledger, after, request.test_set, request.data, say)
        if request.test_set in before.editions:
            found[request.test_set] = scored
    if weights is not None:
        for name in before.editions.keys() - found.keys():
            found[name] = _stored(ledger, before, after, name)
    snapshot = ledger.snapshot()
    rescored = [_compared(snapshot, after, name, found) for name in sorted(found)]
    missing = {name: each.missing for name, each in found.items() if each.missing}
    if request.dry_run:
        return Rescoring(rescored)
    if missing and request.missing == "refuse":
        raise Refused(_missing_lines(missing))
    shown = {name: edition.id for name, edition in before.editions.items()}
    editions = {name: each.edition() for name, each in found.items()}
    data = {}
    if request.test_set is not None and request.data is not None:
        data = {request.test_set: relative(ledger, request.data)}
    change = ledger.publish(organizer.by, reason, editions, data, weights, shown)
    queued: list[int] = []
    if request.missing == "queue":
        for name, submissions in missing.items():
            queued += ledger.queue(submissions, name, reason, organizer.by)
    return Rescoring(rescored, change, queued)


def _weights(season: Season, stated: Mapping[int, float]) -> dict[int, float] | None:
    """All weights, with those that are stated in place; None where they are as before."""
    if unknown := stated.keys() - set(season.competition.numbers):
        allowed = ", ".join(map(str, season.competition.numbers))
        raise DataError(f"task {min(unknown)}: must be one of {allowed}")
    weights = {task: weight for task, weight in (season.weights | dict(stated)).items() if weight}
    if not weights:
        raise DataError("the formula must give some task a weight")
    return None if weights == season.weights else weights


def _score_outputs(
    ledger: Ledger, season: Season, test_set: str, other: Path | None, say: Callable[[str], None]
) -> _Set:
    """Score the kept outputs of all results of a test set, those too that come meanwhile."""
    data = contracts.read_data(other or season.data[test_set], season.competition)
    tasks = {example.task.number for example in data.examples}
    if lacking := season.weights.keys() - tasks:
        raise DataError(f"the data have no examples of task {', '.join(map(str, sorted(lacking)))}, which has weight")
    resources = scoring.find_resources(season.ruwordnet, season.assets)
    scoring.load_small(data, resources)
    logger.info("%s", cores.settle())
    needed = {resource for task in data.by_task() for resource in task.metric.requires}
    labels = tuple(sorted({label for label in map(resources.label, needed) if label}))
    scored = _Set(dataset.data_digest(data), labels, record.code_digest())
    made_with = {"assets": assets.recorded() if season.assets is None else assets.recorded(season.assets)}
    while results := [
        each for each in ledger.runs_of(test_set) if each.submission not in scored.scores.keys() | scored.skipped
    ]:
        outputs = ledger.kept_outputs([each.run for each in results])
        for number, result in enumerate(results, start=1):
            say(f"{test_set}: {number} of {len(results)}: submission {result.submission} of {result.team}")
            try:
                target = Store(season.folder).rescored(result.run, scored.digest, labels, scored.evaluator)
                scores = _score(season, result.run, outputs.get(result.run), data, resources, target, made_with)
                scored.scores[result.submission] = (result, scores)
            except _Lacking as lacking:
                scored.skipped.add(result.submission)
                if result.counts:
                    scored.missing[result.submission] = str(lacking)
    return scored


def _score(
    season: Season,
    run: int,
    digest: str | None,
    data: Data,
    resources: Resources,
    target: Path,
    made_with: Mapping[str, Any],
) -> dict[int, float]:
    """The scores by task of a run's kept output, as an earlier call left them or made anew. Raises `_Lacking` where
    nothing can be scored.
    """
    marker = {"output": digest, **made_with}
    if _read(target / "made-with.json") != marker:
        if digest is None:
            raise _Lacking("its run kept no output")
        store = Store(season.folder)
        output = store.run(run) / OUTPUT
        if not output.exists():
            open_shared(season).bring(run, store.run(run))
        if not output.exists():
            raise _Lacking("its output is not kept any more")
        try:
            scores = evaluation.rescore(
                output,
                digest,
                data,
                resources,
                target,
                earlier=_read(store.run(run) / "scores.json"),
                ruwordnet=season.ruwordnet,
                assets=season.assets,
                zone=season.zone,
            )
        except DataError as error:  # damaged, or it was not asked what the data ask
            raise _Lacking(error.reasons[0]) from None
        if scores.failure is not None:
            raise EvaluatorError([f"run {run}: {line}" for line in scores.errors], verdict=scores.failure.verdict)
        files.write_json(target / "made-with.json", marker)
    document = _read(target / "scores.json") or {}
    return {int(number): float(task["score"]) for number, task in document["tasks"].items()}


def _stored(ledger: Ledger, snapshot: Snapshot, after: Season, test_set: str) -> _Set:
    """The scores that the board shows, for another formula."""
    edition = snapshot.editions[test_set]
    results = ledger.runs_of(test_set)
    scores = ledger.scores(results)
    stored = _Set(edition.data_digest, edition.labels, edition.evaluator)
    for result in results:
        lacking = after.weights.keys() - scores[result.run].keys()
        if result.edition == edition.id and not lacking:
            stored.scores[result.submission] = (result, scores[result.run])
        elif result.counts:
            tasks = ", ".join(map(str, sorted(lacking)))
            why = f"it has no score of task {tasks}" if lacking else "its scores are of an earlier version"
            stored.missing[result.submission] = f"{why}; rescore the {test_set} test set"
    return stored


def _compared(snapshot: Snapshot, season: Season, test_set: str, found: Mapping[str, _Set]) -> Rescored:
    """The board before and after, which of the private one is of the new public results, too."""
    results: dict[str, list[BoardResult]] = {}
    scores: dict[int, Mapping[int, float]] = dict(snapshot.all_scores)
    totals: dict[int, float | None] = {}
    for name in season.data:
        if name not in found:
            results[name] = snapshot.results(name)
            continue
        new = []
        for submission, (result, values) in found[name].scores.items():
            total = season.total(values)
            if total is not None and result.counts:
                new.append(replace(result, total=total))
                scores[result.run] = values
            if name == test_set and result.counts:
                totals[submission] = total
        results[name] = new
    after = replace(snapshot, season=season, all_results=results, all_scores=scores)
    lines = [board.lines(source, test_set, live=True) for source in (snapshot, after)]
    before, now = ({line.team: line for line in of if line.team} for of in lines)
    teams = list(dict.fromkeys([*now, *before]))
    moved = [Moved(team, before.get(team), now.get(team)) for team in teams]
    had = {result.submission: result.total for result in snapshot.results(test_set)}
    changed = sum(had.get(submission) != total for submission, total in totals.items())
    return Rescored(test_set, len(totals), changed, moved, dict(found[test_set].missing))


def _missing_lines(missing: Mapping[str, Mapping[int, str]]) -> list[str]:
    lines = [
        f"submission {submission} ({name}) cannot be scored: {why}"
        for name, submissions in missing.items()
        for submission, why in submissions.items()
    ]
    return [
        *lines,
        "--queue-missing runs these again at no cost to the teams, --leave-missing takes them off the board",
    ]


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON file of our own; None where it is not there, or not whole."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document
    except (OSError, ValueError):
        return None
