"""What the ledger hands out and takes: teams, submissions, runs and how they ended, editions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from evaluator.core.errors import DataError
from evaluator.core.verdict import INFRA, REFUSED_EXIT_CODE
from evaluator.package.metadata import Metadata
from evaluator.season import changes
from evaluator.season.board import BoardResult, Choice
from evaluator.season.changes import Announcement, Change
from evaluator.season.config import Season


class Refused(DataError):
    """The rules do not allow what was asked for."""

    @property
    def exit_code(self) -> int:
        """Apart from an organizer's mistake, for who calls commands for teams."""
        return REFUSED_EXIT_CODE


@dataclass(frozen=True)
class Team:
    """`id` is the number by which its page is addressed, `name` what it is called now. `status` says why it does not
    compete, `into` is the team that it was merged into; `until` is the last day that it may send submissions on, where
    that is its own.
    """

    id: int
    name: str
    created_at: datetime
    status: changes.Status | None = None
    into: int | None = None
    until: date | None = None
    members: tuple[str, ...] = ()
    contact: str = ""

    @property
    def is_hidden(self) -> bool:
        """Whether it stands on no board."""
        return self.into is not None or self.status in (changes.REMOVED, changes.DISQUALIFIED)


@dataclass(frozen=True)
class Archive:
    """A ZIP that was checked: `digest` is its SHA-256, `name` the file's."""

    digest: str
    name: str
    bytes: int
    metadata: Metadata


@dataclass(frozen=True)
class Submission:
    """`team` is what its team is called now, `day` the season's day whose attempt it is."""

    id: int
    team: str
    digest: str
    name: str
    bytes: int
    image: str
    submitted_at: datetime
    day: date
    withdrawn: bool = False


@dataclass(frozen=True)
class RunState:
    """The latest run of a submission on a test set, and what happened to it last. `kind` is one of `schema.STEPS`;
    `verdict` and `fault` are those of a run that is done. `charged` tells whether the submission has a result on the
    test set, of this run or an earlier one, `is_out` whether nothing of it counts there, as it was withdrawn.
    """

    submission: Submission
    test_set: str
    run: int
    failures: int
    kind: str
    at: datetime
    verdict: str | None
    fault: str | None
    detail: Mapping[str, Any]
    worker: str | None = None  # that has it now
    expires_at: datetime | None = None  # its lease
    available_at: datetime | None = None  # when it may start
    charged: bool = False
    is_out: bool = False

    @property
    def pending(self) -> bool:
        """Whether it waits or runs."""
        return self.kind in ("queued", "running")

    @property
    def is_infrastructure_failure(self) -> bool:
        """Whether it ended without a result by no fault of the team's: somebody has to look, and retry or cancel."""
        failed = self.kind == "lost" or (self.kind == "done" and self.fault not in (None, "team"))
        return failed and not self.is_out

    @property
    def waits(self) -> bool:
        """Whether it has not ended, or waits for somebody to retry or cancel it."""
        return self.pending or self.is_infrastructure_failure

    @property
    def name(self) -> str:
        """One word for a person: queued, running, the verdict, lost or cancelled."""
        return self.verdict or self.kind


class Event(NamedTuple):
    """What happened to a run; `kind` is one of `schema.STEPS`."""

    run: int
    test_set: str
    kind: str
    at: datetime
    verdict: str | None
    detail: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True)
class Attempts:
    """A team's attempts of a day. `pending` ones may still become valid or invalid, so each stands for both."""

    day: date
    valid: int
    invalid: int
    pending: int
    valid_allowed: int
    invalid_allowed: int

    @property
    def left(self) -> int:
        """How many more may be sent now."""
        left = min(self.valid_allowed - self.valid, self.invalid_allowed - self.invalid) - self.pending
        return max(0, left)

    def counts(self) -> dict[str, int]:
        """As commands write them."""
        return {"valid": self.valid, "invalid": self.invalid, "pending": self.pending, "left": self.left}


@dataclass(frozen=True)
class Edition:
    """A version of what results of a test set have in common; `id` None is the first. `labels` say why no score is the
    leaderboard's, `evaluator` is the digest of the code that scored, None where an older version did; `change` brought
    it, and `holds` tells whether that is in force.
    """

    test_set: str
    id: int | None
    data_digest: str
    weights: Mapping[str, float]
    labels: tuple[str, ...]
    competition: str
    evaluator: str | None
    change: int | None = None
    holds: bool = True

    def difference(self, end: "RunEnd", labels: Sequence[str]) -> str | None:
        """What a run's end has in which it cannot stand beside results of this edition, if anything."""
        if end.data_digest != self.data_digest:
            earlier = f"earlier results have {self.data_digest}"
            return f"the {self.test_set} test set has the digest {end.data_digest}, {earlier}"
        if tuple(labels) != self.labels:
            return (
                f"earlier {self.test_set} results have {shown_labels(self.labels)}, this one has {shown_labels(labels)}"
            )
        if end.evaluator is not None and self.evaluator not in (None, end.evaluator):
            return f"earlier {self.test_set} results were scored by another version of the evaluator"
        return None

    def to_json(self) -> dict[str, Any]:
        """Which data, labels, code and formula its results are of."""
        return {
            "change": self.change,
            "data_digest": self.data_digest,
            "labels": list(self.labels),
            "evaluator": self.evaluator,
            "competition": self.competition,
            "weights": dict(self.weights),
        }


@dataclass(frozen=True)
class Snapshot:
    """All of the ledger at one moment, `now`: the rules as they are then, teams by number, `states` as `Ledger.states`,
    `events` of all runs in the order of their numbers, `attempts` of today by team, the `editions` that boards show, by
    test set; `private_shown` says whether everybody may see the private board, which nobody may while teams can choose.
    `board.lines` takes it as it takes the ledger.
    """

    season: Season
    now: datetime
    teams: tuple[Team, ...]
    states: tuple[RunState, ...]
    events: tuple[Event, ...]
    attempts: Mapping[str, Attempts]
    all_results: Mapping[str, Sequence[BoardResult]]
    all_choices: Sequence[Choice]
    all_scores: Mapping[int, Mapping[int, float]]
    editions: Mapping[str, Edition]
    changes: Sequence[Change]
    frozen_at: datetime | None = None
    private_shown: bool = False
    announcements: Sequence[Announcement] = ()

    def rules(self) -> Season:
        """As `Ledger.rules`."""
        return self.season

    def results(self, test_set: str) -> list[BoardResult]:
        """As `Ledger.results`."""
        return list(self.all_results.get(test_set, ()))

    def choices(self) -> list[Choice]:
        """As `Ledger.choices`."""
        return list(self.all_choices)

    def scores(self, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
        """As `Ledger.scores`: by run and task number."""
        return {result.run: dict(self.all_scores.get(result.run, {})) for result in results}


@dataclass(frozen=True)
class Job:
    """A run that a worker holds by the lease with `token`, on the test set in the folder `data`."""

    run: int
    token: str
    submission: Submission
    test_set: str
    failures: int
    data: Path


class Queued(NamedTuple):
    """How many runs are `ready` to start, wait for their next try (`later`, the first one from `next_try` on), are of
    teams that are set `aside`, and are `running`, wherever.
    """

    ready: int
    later: int
    next_try: datetime | None
    aside: int
    running: int


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: verdict and fault as in scores.json, scores by task number where there are any, and the digests
    of the data, of the competition and of the evaluator's code that they are of.
    """

    verdict: str
    fault: str | None
    scores: Mapping[int, float] = field(default_factory=dict)
    data_digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    competition: str | None = None
    evaluator: str | None = None

    @classmethod
    def organizers(cls, found: str, detail: Mapping[str, Any]) -> "RunEnd":
        """A run whose end says nothing of the submission, by the organizer's fault."""
        return cls(INFRA.name, "organizer", detail={**detail, "findings": [_finding(found)]})

    @classmethod
    def infra(cls, found: str, detail: Mapping[str, Any]) -> "RunEnd":
        """The same by a machine's fault: another one may do better."""
        return cls(INFRA.name, INFRA.fault, detail={**detail, "fix": INFRA.fix, "findings": [_finding(found)]})


def reason(detail: Mapping[str, Any]) -> str:
    """Why something happened to a run, as the detail of the event says, in a line; empty where it does not."""
    if said := detail.get("reason"):
        return str(said)
    findings = detail.get("findings") or ()
    lines = [" ".join(f"{one.get('where') or one.get('rule', '')}: {one.get('found', '')}".split()) for one in findings]
    return f"{lines[0]} ... and {len(lines) - 1} more" if len(lines) > 1 else "".join(lines)


def _finding(found: str) -> dict[str, str]:
    return {"rule": "season-failure", "where": "", "found": found, "allowed": "", "fix": ""}


@dataclass(frozen=True)
class NewEdition:
    """What a test set's results have in common from now on, and the scores by task of each submission, by the run that
    they are of.
    """

    data_digest: str
    labels: tuple[str, ...]
    evaluator: str | None
    scores: Mapping[int, tuple[int, Mapping[int, float]]]


def shown_labels(labels: Sequence[str]) -> str:
    return f"the labels {'; '.join(labels)}" if labels else "no labels"
