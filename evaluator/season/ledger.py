"""The ledger: teams, submissions and their attempts, the runs that they get, and what comes of them.

A submission has runs on a test set, one after another: each is queued, then running, and ends as done (with a verdict),
lost (its worker's lease ran out), interrupted or cancelled. Where the end is no fault of the team's, another run may
follow; nothing ever goes back. Every method is one transaction, so that a process killed anywhere leaves the state
before it or the state after.

A worker holds a run by a lease, and whatever it says later must come with the lease's token. When the lease has run
out, the run is lost, and what its worker still brings is not taken.
"""

import secrets
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import fsum
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, or_, select, update

from evaluator.competition.definition import default
from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.core.validation import ONE_LINE, is_line
from evaluator.core.verdict import INFRA, OK, REFUSED_EXIT_CODE
from evaluator.package.metadata import Metadata
from evaluator.season import PRIVATE, PUBLIC, TEST_SETS, changes, names, schema
from evaluator.season.board import BoardResult, Choice, Sharing, finals
from evaluator.season.changes import Change, Standing
from evaluator.season.config import Season
from evaluator.season.database import Database

_team, _submission, _run, _event = schema.team, schema.submission, schema.run, schema.event
_result, _score, _job, _test_set = schema.result, schema.score, schema.job, schema.test_set
_change, _edition, _rescored, _rescored_score = schema.change, schema.edition, schema.rescored, schema.rescored_score


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
    best: float
    evaluator: str | None
    change: int | None = None
    holds: bool = True

    def difference(self, end: "RunEnd", labels: Sequence[str]) -> str | None:
        """What a run's end has in which it cannot stand beside results of this edition, if anything."""
        if end.data_digest != self.data_digest:
            earlier = f"earlier results have {self.data_digest}"
            return f"the {self.test_set} test set has the digest {end.data_digest}, {earlier}"
        if tuple(labels) != self.labels:
            return f"earlier {self.test_set} results have {_shown(self.labels)}, this one has {_shown(labels)}"
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
    test set. `board.lines` takes it as it takes the ledger.
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
class View:
    """What holds in one transaction: the changes and what follows from them, and all teams by number."""

    changes: tuple[Change, ...]
    standing: Standing
    teams: Mapping[int, Team]

    @property
    def season(self) -> Season:
        """The rules as they are now."""
        return self.standing.season

    def of(self, id: int) -> Team:
        """The team that what a team has sent is of now."""
        return self.teams[self.standing.team(id)]

    def find(self, name: str) -> Team:
        """The team that is meant by a name. Raises `Refused` where there is none."""
        key = _key(name)
        if not key.isprintable():  # bytes of the command line that are no text, for instance
            raise Refused(f"there is no team {show(name)}")
        named = [team for team in self.teams.values() if _key(team.name) == key]
        for team in named:
            if team.into is None:
                return team
            raise Refused(f"team {show(team.name)} was merged into team {show(self.teams[team.into].name)}")
        raise Refused(f"there is no team {show(name)}; `python -m evaluator teams add NAME` adds one")

    def is_out(self, submission: int, team: int, test_set: str) -> bool:
        """Whether nothing of a submission counts, or is run, on a test set."""
        is_gone = submission in self.standing.withdrawn or test_set not in self.season.data
        return is_gone or self.standing.is_hidden(self.standing.team(team))


@dataclass(frozen=True)
class NewEdition:
    """What a test set's results have in common from now on, and the scores by task of each submission, by the run that
    they are of.
    """

    data_digest: str
    labels: tuple[str, ...]
    evaluator: str | None
    scores: Mapping[int, tuple[int, Mapping[int, float]]]


class Ledger:
    """`clock` replaces the database's clock, for a season that is simulated. `season` is what season.toml says, `rules`
    what holds now.

    Raises `DataError` unless the database is there, of this version, with results of this formula.
    """

    def __init__(
        self, season: Season, database: Database, clock: Callable[[Connection], datetime] | None = None
    ) -> None:
        self.season, self.database = season, database
        self._now = clock or database.now
        database.check()
        with database.read() as connection:
            view = self._view(connection)
            for name in view.season.data:
                edition = _current(connection, view, name)
                if edition is None:
                    continue
                if edition.weights != _weights(view.season):
                    raise DataError(
                        f"season {season.path}: [formula] gives weights {_weights(view.season)}, but the {name} results"
                        f" so far were made with {edition.weights}; `python -m evaluator season rescore` changes them"
                    )
                if edition.competition != season.competition.digest:
                    raise DataError(
                        f"season {season.path}: [season] competition is {season.competition.name} as it is defined now,"
                        f" but the {name} results so far were made with another, or another version of it"
                    )

    def rules(self) -> Season:
        """The rules as they are now: season.toml, and what was changed since."""
        with self.database.read() as connection:
            return self._view(connection).season

    def _view(self, connection: Connection) -> View:
        found = tuple(Change(*row) for row in connection.execute(select(*_CHANGE).order_by(_change.c.id)))
        standing = changes.standing(self.season, found)
        teams = {}
        for id, name, created_at in connection.execute(select(*_TEAM).order_by(_team.c.id)):
            members = standing.members.get(id, {})
            teams[id] = Team(
                id,
                standing.names.get(id, name),
                created_at,
                standing.status.get(id),
                standing.merged.get(id),
                standing.until.get(id),
                tuple(members.get("members", ())),
                members.get("contact", ""),
            )
        return View(found, standing, teams)

    # --- teams ---

    def add_team(self, name: str) -> Team:
        """Raises `DataError` for a name that is none, `Refused` for one that is taken, or looks like one that is."""
        name = names.checked(name)
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)  # one after another: two that look alike could come at once
            return self._add_team(connection, self._view(connection), name)

    def _add_team(self, connection: Connection, view: View, name: str) -> Team:
        _check_name(name, view.teams.values())
        now, key = self._now(connection), _key(name)
        if connection.execute(select(_team.c.id).where(_team.c.key == key)).first() is not None:
            raise Refused(f"team {show(name)}: a team was called so before; choose another name")
        values = {"name": name, "key": key, "created_at": now}
        return Team(connection.execute(insert(_team).values(values).returning(_team.c.id)).scalar_one(), name, now)

    def team(self, name: str) -> Team:
        """The team that is meant by a name. Raises `Refused` where there is none."""
        with self.database.read() as connection:
            return self._view(connection).find(name)

    def teams(self) -> list[Team]:
        """All teams, those too that do not compete any more, by number."""
        with self.database.read() as connection:
            return list(self._view(connection).teams.values())

    def attempts(self, team: str) -> Attempts:
        """The team's attempts of today. Raises `Refused` for a team that is not there."""
        with self.database.read() as connection:
            view = self._view(connection)
            return self._attempts(connection, view, view.find(team), self.season.day(self._now(connection)))

    def all_attempts(self) -> dict[str, Attempts]:
        """Today's attempts of every team that was not merged into another, by its name."""
        with self.database.read() as connection:
            view = self._view(connection)
            day = self.season.day(self._now(connection))
            return self._by_team(view, day, _states(connection, view, _of_day(view, day)))

    def _by_team(self, view: View, day: date, states: Iterable[RunState]) -> dict[str, Attempts]:
        teams = [team for team in view.teams.values() if team.into is None]
        of_day: dict[str, list[RunState]] = {team.name: [] for team in teams}
        for state in states:
            if state.submission.day == day and state.test_set == PUBLIC and state.submission.team in of_day:
                of_day[state.submission.team].append(state)
        return {team.name: self._count(view, team, day, of_day[team.name]) for team in teams}

    def _attempts(self, connection: Connection, view: View, team: Team, day: date) -> Attempts:
        where = (_of_team(view, team), _of_day(view, day), _run.c.test_set == PUBLIC)
        states = [state for state in _states(connection, view, *where) if state.submission.day == day]
        return self._count(view, team, day, states)

    def _count(self, view: View, team: Team, day: date, states: Sequence[RunState]) -> Attempts:
        """An attempt that has a result is a valid one, whatever becomes of a later run of it."""
        season, allowed = view.season, not team.is_hidden
        others = [state for state in states if not state.charged]
        extra = view.standing.extra.get((team.id, day), 0)
        return Attempts(
            day,
            len(states) - len(others),
            sum(state.kind == "done" and state.fault == "team" for state in others),
            sum(state.pending for state in others),
            allowed * (season.valid_a_day + extra),
            allowed * (season.invalid_a_day + extra),
        )

    # --- submissions ---

    def admit(self, team: str, digest: str) -> Submission | None:
        """The team's submission of this ZIP, where it was sent before; None where it may be sent now.

        Raises `Refused` where the rules do not allow it, or there is no such team. `submit` asks again.
        """
        with self.database.read() as connection:
            view = self._view(connection)
            found = view.find(team)
            sent = _sent(connection, view, found, digest)
            if sent is None:
                self._check_open(connection, view, found, self.season.day(self._now(connection)))
            return sent

    def submit(self, team: str, archive: Archive) -> tuple[Submission, bool]:
        """Enter a ZIP, which lies in the store by now, and queue its run on the public test set; False where it was
        sent before: the same bytes of the same team are one submission and one attempt.

        Raises as `admit`.
        """
        with self.database.write() as connection:
            found, view = self._locked_team(connection, team)
            if sent := _sent(connection, view, found, archive.digest):
                return sent, False
            now = self._now(connection)
            self._check_open(connection, view, found, self.season.day(now))
            values = {
                "team_id": found.id,
                "digest": archive.digest,
                "name": archive.name,
                "bytes": archive.bytes,
                "image": archive.metadata.image,
                "submitted_at": now,
                "day": self.season.day(now),
            }
            id = connection.execute(insert(_submission).values(values).returning(_submission.c.id)).scalar_one()
            self._queue(connection, id, PUBLIC, 0, now, now, {})
            return _get_submission(connection, view, id), True

    def _locked_team(self, connection: Connection, name: str) -> tuple[Team, View]:
        """A team, whose submissions and choices come one after another, so that none exceeds the day's attempts, and
        not while an organizer changes something.
        """
        id = self._view(connection).find(name).id
        connection.execute(_for_update(select(_team.c.id).where(_team.c.id == id)))
        connection.execute(select(_test_set.c.name).where(_test_set.c.name == PUBLIC).with_for_update(read=True))
        view = self._view(connection)  # it may have changed meanwhile
        return view.find(name), view

    def _check_open(self, connection: Connection, view: View, team: Team, day: date) -> None:
        season, end = view.season, view.standing.end(team.id)
        if team.is_hidden:
            raise Refused(f"team {show(team.name)} is {team.status}")
        if not season.start <= day <= end:
            raise Refused(f"submissions are taken from {season.start} to {end}; today is {day} ({season.zone})")
        attempts = self._attempts(connection, view, team, day)
        if not attempts.left:
            raise Refused(
                f"team {show(team.name)} has no attempt left on {day}: {attempts.valid} valid of"
                f" {attempts.valid_allowed}, {attempts.invalid} invalid of {attempts.invalid_allowed},"
                f" {attempts.pending} not done yet"
            )

    def choose(self, team: str, submissions: Sequence[int]) -> None:
        """Enter the team's choice for the private board; the last one counts.

        Raises `Refused` where the rules do not allow it, or there is no such team.
        """
        wanted = sorted(set(submissions))
        with self.database.write() as connection:
            found, view = self._locked_team(connection, team)
            season = view.season
            if not 1 <= len(wanted) <= season.chosen:
                raise Refused(f"team {show(team)}: choose 1 to {season.chosen} submissions, not {len(wanted)}")
            if found.is_hidden:
                raise Refused(f"team {show(found.name)} is {found.status}")
            day = season.day(now := self._now(connection))
            if day > season.choose_until:
                raise Refused(f"choices were open until {season.choose_until}; today is {day}")
            public = _states(connection, view, _of_team(view, found), _run.c.test_set == PUBLIC)
            states = {state.submission.id: state for state in public}
            for submission in wanted:
                state = states.get(submission)
                if state is None:
                    raise Refused(f"submission {submission} is none of team {show(found.name)}'s")
                if state.submission.withdrawn:
                    raise Refused(f"submission {submission} was withdrawn")
                if not state.charged:
                    raise Refused(f"submission {submission} has no public score: {state.name}")
            choice = connection.execute(
                insert(schema.choice).values(team_id=found.id, at=now).returning(schema.choice.c.id)
            ).scalar_one()
            connection.execute(
                insert(schema.chosen), [{"choice_id": choice, "submission_id": submission} for submission in wanted]
            )

    # --- runs, for people ---

    def states(self, team: str | None = None) -> list[RunState]:
        """The latest run of each submission, or each of a team's, on each test set, by submission.

        Raises `Refused` for a team that is not there.
        """
        with self.database.read() as connection:
            view = self._view(connection)
            return _states(connection, view, *(() if team is None else (_of_team(view, view.find(team)),)))

    def waiting(self) -> list[RunState]:
        """What has not ended, and what waits for somebody to retry or cancel it; by submission."""
        return [state for state in self.states() if state.pending or state.is_infrastructure_failure]

    def history(self, submission: int) -> list[Event]:
        """All that happened to a submission's runs, in order. Raises `DataError` where there is no such submission."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(_run.c.id, _run.c.test_set, *_EVENT)
                .join(_event, _event.c.run_id == _run.c.id)
                .where(_run.c.submission_id == submission)
                .order_by(_run.c.id, _event.c.step)
            )
            events = [Event(*row) for row in rows]
        if not events:
            raise DataError(f"there is no submission {submission}")
        return events

    def snapshot(self) -> Snapshot:
        """Everything, as it is at one moment."""
        with self.database.read() as connection:
            now = self._now(connection)
            view = self._view(connection)
            states = _states(connection, view)
            events = connection.execute(
                select(_run.c.id, _run.c.test_set, *_EVENT)
                .join(_event, _event.c.run_id == _run.c.id)
                .order_by(_run.c.id, _event.c.step)
            )
            scores: dict[int, dict[int, float]] = {}
            for run, task, value in connection.execute(select(_score).order_by(_score.c.run_id, _score.c.task)):
                scores.setdefault(run, {})[task] = value
            results = {test_set: _results(connection, view, test_set) for test_set in view.season.data}
            for of_set in results.values():
                scores |= _rescored_scores(connection, of_set)
            editions = {test_set: _current(connection, view, test_set) for test_set in view.season.data}
            return Snapshot(
                view.season,
                now,
                tuple(view.teams.values()),
                tuple(states),
                tuple(Event(*row) for row in events),
                self._by_team(view, self.season.day(now), states),
                results,
                _choices(connection, view),
                scores,
                {test_set: edition for test_set, edition in editions.items() if edition is not None},
                view.changes,
                view.standing.frozen_at,
            )

    def retry(self, submission: int, test_set: str, reason: str, by: str | None = None) -> None:
        """Queue another run of a submission that has none under way and no score that the board shows; it is `by`
        whom that is entered, where that is known.

        Raises `Refused` otherwise, and where the submission never had a run on this test set, or does not count.
        """
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)  # not while another change may queue the same
            view = self._view(connection)
            state = _locked_state(connection, view, submission, test_set)
            _check_counts(connection, view, submission, test_set)
            if state.pending:
                raise Refused(f"submission {submission} ({test_set}) is {state.kind} already")
            if submission in {result.submission for result in _results(connection, view, test_set)}:
                raise Refused(f"submission {submission} ({test_set}) has its score, which stays")
            self._queue_again(connection, state, {"retry_of": state.run} | _said(reason, by))

    def queue(self, submissions: Iterable[int], test_set: str, reason: str, by: str | None = None) -> list[int]:
        """Queue runs on a test set of submissions that have none under way and no score there; returns those. It
        costs no attempt, unless it is the first result on the public test set.

        Raises `Refused` for a submission or a test set that is not there, or was withdrawn.
        """
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)  # two at once would queue each run twice
            view = self._view(connection)
            _check_set(view, test_set)
            have = {result.submission for result in _results(connection, view, test_set)}
            have |= set(
                connection.execute(
                    select(_job.c.submission_id)
                    .join(_run, _run.c.id == _job.c.run_id)
                    .where(_run.c.test_set == test_set)
                ).scalars()
            )
            now, new = self._now(connection), []
            for submission in sorted(set(submissions)):
                _check_counts(connection, view, submission, test_set)
                if submission not in have:
                    self._queue(connection, submission, test_set, 0, now, now, _said(reason, by))
                    new.append(submission)
            return new

    def _queue_again(self, connection: Connection, state: RunState, detail: dict[str, Any]) -> None:
        now = self._now(connection)
        self._queue(connection, state.submission.id, state.test_set, 0, now, now, detail)

    def cancel(self, submission: int, test_set: str, reason: str, by: str | None = None) -> None:
        """End a run that waits or runs; its worker stops it at its next heartbeat. It costs no attempt.

        Raises `Refused` where there is none.
        """
        with self.database.write() as connection:
            state = _locked_state(connection, self._view(connection), submission, test_set)
            if not state.pending:
                raise Refused(f"submission {submission} ({test_set}) is not waiting or running: {state.name}")
            self._end(connection, state.run, "cancelled", _said(reason, by))

    def queue_finals(self) -> list[int]:
        """Queue the runs on the private test set that the private board needs and that were never queued; returns
        their submissions.

        Raises `Refused` while teams can still choose.
        """
        with self.database.write() as connection:
            for name in sorted(TEST_SETS):
                _lock_set(connection, name)  # two at once would queue each run twice
            now, view = self._now(connection), self._view(connection)
            season = view.season
            if season.day(now) <= season.choose_until:
                raise Refused(f"choices are open until {season.choose_until}, so the finals are not known yet")
            wanted = finals(_results(connection, view, PUBLIC), _choices(connection, view), season.chosen)
            queued = set(connection.execute(select(_run.c.submission_id).where(_run.c.test_set == PRIVATE)).scalars())
            new = sorted({submission for of_team in wanted.values() for submission in of_team} - queued)
            for submission in new:
                self._queue(connection, submission, PRIVATE, 0, now, now, {})
            return new

    # --- runs, for workers ---

    def claim(self, worker: str, without: Collection[str] = ()) -> Job | None:
        """Take the run that waits longest, if any, on a lease, but none of the teams `without`. Runs whose leases have
        run out are lost first.
        """
        with self.database.write() as connection:
            now, view = self._now(connection), self._view(connection)
            self._lose(connection, now)
            found = connection.execute(
                select(_job.c.run_id, _run.c.test_set, _run.c.failures, _job.c.submission_id)
                .join(_run, _run.c.id == _job.c.run_id)
                .where(_job.c.token.is_(None), _job.c.available_at <= now, ~_is_of(view, without))
                .order_by(_job.c.submission_id, _job.c.run_id)
                .limit(1)
                .with_for_update(of=_job, skip_locked=True)
            ).first()
            if found is None:
                return None
            token = secrets.token_hex(16)
            connection.execute(
                update(_job)
                .where(_job.c.run_id == found.run_id)
                .values(token=token, worker=worker, expires_at=now + timedelta(seconds=self.season.lease_seconds))
            )
            _append(connection, found.run_id, "running", now, {"worker": worker})
            submission = _get_submission(connection, view, found.submission_id)
            data = view.season.data[found.test_set]
            return Job(found.run_id, token, submission, found.test_set, found.failures, data)

    def beat(self, jobs: Iterable[Job]) -> set[int]:
        """Renew the leases; returns the runs that are still held."""
        with self.database.write() as connection:
            expires_at = self._now(connection) + timedelta(seconds=self.season.lease_seconds)
            held = set()
            for job in sorted(jobs, key=lambda job: job.run):  # in one order, so that two cannot wait for each other
                renewed = connection.execute(update(_job).where(*_lease(job)).values(expires_at=expires_at))
                if renewed.rowcount:
                    held.add(job.run)
            return held

    def finish(self, job: Job, end: RunEnd) -> RunEnd | None:
        """Enter how a run ended, and its scores; returns what was entered, None where the lease is gone: then nothing
        is.

        Scores that cannot stand beside those entered before, as the data or the tasks are others, become an
        organizer's failure; those that were made with other encoders one that is tried again, on another machine maybe.
        Scores of another edition than the one that the board shows stand there, until all is scored again.
        """
        with self.database.write() as connection:
            _lock_set(connection, job.test_set)  # before the run, as changes do
            if not self._held(connection, job):
                return None
            total, edition = None, None
            if end.verdict == OK.name:
                end, total, edition = self._comparable(connection, job, end)
            submission, test_set = job.submission.id, job.test_set
            if total is not None and _in_edition(connection, test_set, edition, submission):
                found = (
                    f"submission {submission} has its {test_set} score by these data and this evaluator, which stays"
                )
                end, total = RunEnd.organizers(found, end.detail), None
            detail = dict(end.detail)
            retry = end.verdict == INFRA.name and end.fault == INFRA.fault
            self._end(connection, job.run, "done", detail, end.verdict, end.fault, retry=retry)
            if total is not None:
                its = and_(_result.c.submission_id == submission, _result.c.test_set == test_set)
                if connection.execute(select(_result.c.run_id).where(its)).first() is not None:
                    _enter_rescored(connection, edition, test_set, submission, job.run, total, end.scores)
                    return end
                values = {"run_id": job.run, "submission_id": submission, "test_set": test_set, "total": total}
                connection.execute(insert(_result).values(edition_id=edition, **values))
                rows = [{"run_id": job.run, "task": task, "value": value} for task, value in end.scores.items()]
                connection.execute(insert(_score), rows)
            return end

    def give_back(self, job: Job, reason: str) -> bool:
        """Let go of a run that was not brought to its end; it is queued anew, and no failure. False where the lease is
        gone.
        """
        with self.database.write() as connection:
            if not self._held(connection, job):
                return False
            self._end(connection, job.run, "interrupted", {"reason": reason})
            return True

    def lose(self, job: Job, reason: str) -> bool:
        """Give up a run whose machine is gone. It is tried again at once, as one whose lease ran out. False where the
        lease is gone.
        """
        with self.database.write() as connection:
            if not self._held(connection, job):
                return False
            self._end(connection, job.run, "lost", {"reason": reason}, retry=True)
            return True

    def is_pending(self, run: int) -> bool:
        """Whether a run waits or runs. Raises `DataError` where there is none of that number."""
        with self.database.read() as connection:
            if connection.execute(select(_run.c.id).where(_run.c.id == run)).first() is None:
                raise DataError(f"there is no run {run}; `python -m evaluator queue list` names them")
            return connection.execute(select(_job.c.run_id).where(_job.c.run_id == run)).first() is not None

    def ended(self, days: int) -> list[int]:
        """The runs that ended so many days ago, or before."""
        with self.database.read() as connection:
            since = self._now(connection) - timedelta(days=days)
            last = _event.c.step == schema.STEPS["done"]
            return list(connection.execute(select(_event.c.run_id).where(last, _event.c.at <= since)).scalars())

    def unfinished(self, without: Collection[str] = ()) -> int:
        """How many runs wait or run, those that wait of the teams `without` left out."""
        with self.database.read() as connection:
            left_out = and_(_job.c.token.is_(None), _is_of(self._view(connection), without))
            return connection.execute(select(func.count()).select_from(_job).where(~left_out)).scalar_one()

    def queued(self, without: Collection[str] = ()) -> Queued:
        """What is in the queue, those of the teams `without` apart."""
        with self.database.read() as connection:
            now, aside = self._now(connection), _is_of(self._view(connection), without)
            waits = _job.c.token.is_(None)

            def count(*where: ColumnElement[bool]) -> int:
                return connection.execute(select(func.count()).select_from(_job).where(*where)).scalar_one()

            later = waits, ~aside, _job.c.available_at > now
            return Queued(
                count(waits, ~aside, _job.c.available_at <= now),
                count(*later),
                connection.execute(select(func.min(_job.c.available_at)).where(*later)).scalar_one(),
                count(waits, aside),
                count(~waits),
            )

    def _held(self, connection: Connection, job: Job) -> bool:
        """Whether the lease still stands. An expired one does, until somebody takes the run for lost."""
        return connection.execute(select(_job.c.run_id).where(*_lease(job)).with_for_update()).first() is not None

    def _comparable(self, connection: Connection, job: Job, end: RunEnd) -> tuple[RunEnd, float | None, int | None]:
        """The end, the total, and the number of the edition that they are of."""
        row = connection.execute(select(_test_set).where(_test_set.c.name == job.test_set)).one()
        view = self._view(connection)
        season, competition = view.season, self.season.competition
        total = season.total(end.scores)
        if total is None:
            missing = ", ".join(str(task) for task in sorted(season.weights.keys() - end.scores.keys()))
            found = f"the {job.test_set} test set gives no score for task {missing}, which the formula needs"
            return RunEnd.organizers(found, end.detail), None, None
        if end.competition not in (None, competition.digest):
            found = f"the run was scored by another version of the competition {competition.name} than the season's"
            return RunEnd.organizers(found, end.detail), None, None
        best = {task: competition.best(task) for task in end.scores}
        if impossible := _impossible(season, end.scores):
            return RunEnd.infra(impossible, end.detail), None, None
        labels = sorted(set(end.detail.get("labels") or ()))
        if row.data_digest is None:
            pinned: dict[str, Any] = {"data_digest": end.data_digest, "weights": _weights(season), "labels": labels}
            pinned |= {"competition": competition.digest, "best": max(best.values()), "evaluator": end.evaluator}
            connection.execute(update(_test_set).where(_test_set.c.name == job.test_set).values(**pinned))
            return end, total, None
        editions = _editions(connection, view, job.test_set)
        current = [edition for edition in editions if edition.holds][-1]
        if current.weights != _weights(season):
            found = f"earlier {job.test_set} results were made with the weights {current.weights}"
            return RunEnd.organizers(found, end.detail), None, None
        difference = current.difference(end, labels)
        if difference is None:
            return end, total, current.id
        for edition in editions:
            if edition.difference(end, labels) is None and edition.weights.keys() <= {str(task) for task in end.scores}:
                return end, _total(season, edition.weights, end.scores), edition.id
        if current.data_digest != end.data_digest:
            return RunEnd.organizers(f"{difference}: put the data back as they were", end.detail), None, None
        if current.labels != tuple(labels):
            found = f"{difference}: the machines do not have the same assets (`make assets-check`)"
            return RunEnd.infra(found, end.detail), None, None
        rescore = f"`python -m evaluator season rescore --test-set {job.test_set}` scores all anew by this one"
        return RunEnd.organizers(f"{difference}: {rescore}, then `queue retry`", end.detail), None, None

    def _lose(self, connection: Connection, now: datetime) -> None:
        expired = connection.execute(
            select(_job.c.run_id, _job.c.worker)
            .where(_job.c.expires_at < now)
            .order_by(_job.c.run_id)
            .with_for_update(skip_locked=True)
        ).all()
        for run, worker in expired:
            self._end(connection, run, "lost", {"reason": f"worker {worker} was not heard of in time"}, retry=True)

    def _queue(
        self,
        connection: Connection,
        submission: int,
        test_set: str,
        failures: int,
        now: datetime,
        available_at: datetime,
        detail: dict[str, Any],
    ) -> None:
        run = connection.execute(
            insert(_run).values(submission_id=submission, test_set=test_set, failures=failures).returning(_run.c.id)
        ).scalar_one()
        connection.execute(insert(_job).values(run_id=run, submission_id=submission, available_at=available_at))
        _append(connection, run, "queued", now, detail)

    def _end(
        self,
        connection: Connection,
        run: int,
        kind: str,
        detail: dict[str, Any],
        verdict: str | None = None,
        fault: str | None = None,
        retry: bool = False,
    ) -> None:
        """The last event of a run; with it the run leaves the queue, and where it is to be tried again the next one
        enters. With `retry` it was an infrastructure failure, and there are so many tries; an interruption is none.
        """
        now = self._now(connection)
        _append(connection, run, kind, now, detail, verdict, fault)
        connection.execute(delete(_job).where(_job.c.run_id == run))
        row = connection.execute(select(_run).where(_run.c.id == run)).one()
        again = {"retry_of": run, "reason": kind if verdict is None else verdict}
        if kind == "interrupted":
            self._queue(connection, row.submission_id, row.test_set, row.failures, now, now, again)
        elif retry and row.failures + 1 < self.season.tries:
            # A machine that is gone says nothing of the next one; a failure may well repeat at once.
            wait = timedelta(seconds=0 if kind == "lost" else self.season.retry_seconds * 2**row.failures)
            self._queue(connection, row.submission_id, row.test_set, row.failures + 1, now, now + wait, again)

    # --- results ---

    @property
    def frozen_at(self) -> datetime | None:
        """The moment whose public board is shown; None where it is shown as it is."""
        with self.database.read() as connection:
            return self._view(connection).standing.frozen_at

    def results(self, test_set: str) -> list[BoardResult]:
        """Every result of a test set that counts, in the edition that the board shows, by the submissions' time."""
        with self.database.read() as connection:
            return _results(connection, self._view(connection), test_set)

    def choices(self) -> list[Choice]:
        """Every team's last choice."""
        with self.database.read() as connection:
            return _choices(connection, self._view(connection))

    def scores(self, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
        """Scores by task number of each of these results, by run."""
        results = list(results)
        scores: dict[int, dict[int, float]] = {result.run: {} for result in results}
        wanted = sorted(result.run for result in results if result.rescored is None)
        with self.database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                rows = select(_score).where(_score.c.run_id.in_(wanted[start : start + _AT_ONCE]))
                for run, task, value in connection.execute(rows.order_by(_score.c.task)):
                    scores[run][task] = value
            return scores | _rescored_scores(connection, results)

    def edition(self, test_set: str) -> Edition | None:
        """What the results of a test set that the board shows have in common; None before the first."""
        with self.database.read() as connection:
            return _current(connection, self._view(connection), test_set)

    # --- changes, of organizers ---

    def changes(self) -> list[Change]:
        """All of them, in order."""
        with self.database.read() as connection:
            return list(self._view(connection).changes)

    def record(
        self,
        kind: str,
        by: str,
        reason: str,
        *,
        team: str | None = None,
        submission: int | None = None,
        test_set: str | None = None,
        detail: Callable[[View], Mapping[str, Any]] = lambda view: {},
        undoes: Callable[[View], int] | None = None,
        check: Callable[[View], None] = lambda view: None,
    ) -> Change:
        """Enter a change, and what follows from it at once: what waits of a submission that counts no more is
        cancelled, what a change that was undone had cancelled is queued anew. `check` may refuse it, `undoes` finds the
        change that it takes back, which one that was done again is by undoing what did it again.

        Raises `DataError` where who or why is no line of text, `Refused` where the change cannot be, as for names that
        would look alike.
        """
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)  # one after another
            view = self._view(connection)
            check(view)
            if submission is not None:
                _check_submission(connection, submission)
            values: dict[str, Any] = _said(reason, by) | {
                "kind": kind,
                "team_id": None if team is None else view.find(team).id,
                "submission_id": submission,
                "test_set": test_set,
                "detail": dict(detail(view)),
                "undoes": None if undoes is None else changes.last_undoing(view.changes, undoes(view)),
            }
            return self._record(connection, view, values)

    def _record(self, connection: Connection, before: View, values: Mapping[str, Any]) -> Change:
        now = self._now(connection)
        id = connection.execute(insert(_change).values(at=now, **values).returning(_change.c.id)).scalar_one()
        after = self._view(connection)
        _check_view(before, after)
        teams = _submitters(connection)
        waiting = select(_job.c.run_id, _job.c.submission_id, _run.c.test_set).join(_run, _run.c.id == _job.c.run_id)
        ends = [run for run, of, test_set in connection.execute(waiting) if after.is_out(of, teams[of], test_set)]
        jobs = select(_job.c.run_id).where(_job.c.run_id.in_(ends)).order_by(_job.c.run_id)
        connection.execute(jobs.with_for_update())  # whoever works on one ends it before, or not at all
        detail = {"reason": values["reason"], "by": values["by"], "change": id}
        for state in _states(connection, after):
            its = (state.submission.id, teams[state.submission.id], state.test_set)
            if after.is_out(*its):
                if state.pending:
                    self._end(connection, state.run, "cancelled", detail)
            elif before.is_out(*its) and state.kind == "cancelled" and "change" in state.detail:
                self._queue_again(connection, state, {"retry_of": state.run} | detail)
        return after.changes[-1]

    def publish(
        self,
        by: str,
        reason: str,
        editions: Mapping[str, NewEdition],
        data: Mapping[str, str],
        weights: Mapping[int, float] | None,
        shown: Mapping[str, int | None],
    ) -> Change | None:
        """Enter new editions of test sets, with the scores of all results, so that boards show these from now on; the
        test sets are in the folders `data` then, and the formula has these `weights`. `shown` are the numbers of the
        editions so far. An edition that is the same as the one so far gets the scores that it lacks; where all are,
        nothing is changed, and None returned.

        Raises `Refused` where another edition is shown by now.
        """
        with self.database.write() as connection:
            for name in sorted({PUBLIC, *editions}):
                _lock_set(connection, name)
            view = self._view(connection)
            current = {name: _current(connection, view, name) for name in editions}
            for name, edition in current.items():
                if edition is None or edition.id != shown[name]:
                    raise Refused(f"the {name} results were scored again by somebody else meanwhile; do this again")
            season = view.season.changed({}, view.season.data, weights)
            formula = _weights(season)
            same = {
                name: edition
                for name, edition in current.items()
                if edition is not None
                and (edition.data_digest, edition.labels, edition.evaluator, edition.weights)
                == (editions[name].data_digest, editions[name].labels, editions[name].evaluator, formula)
            }
            change: Change | None = None
            ids: dict[str, int | None] = {name: edition.id for name, edition in same.items()}
            if editions.keys() - same.keys() or data:
                detail: dict[str, Any] = {"sets": sorted(editions.keys() - same.keys()), "data": dict(data)}
                if weights is not None:
                    detail["weights"] = formula
                values = _said(reason, by) | {"kind": changes.RESCORED, "detail": detail, "undoes": None}
                change = self._record(connection, view, values)
                for name in detail["sets"]:
                    ids[name] = _enter_edition(connection, season, change.id, name, editions[name])
            for name, id in ids.items():
                have = _in_edition(connection, name, id)
                for submission, (run, scores) in editions[name].scores.items():
                    if submission not in have:
                        if found := _impossible(season, scores):
                            raise EvaluatorError(f"submission {submission} ({name}): {found}")
                        total = _total(season, formula, scores)
                        _enter_rescored(connection, id, name, submission, run, total, scores)
            return change

    def add_test_set(self, by: str, reason: str, name: str, data: str) -> Change:
        """Add a test set in the folder `data`. Raises `Refused` where there is, or was, one of this name."""
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)
            view = self._view(connection)
            if connection.execute(select(_test_set.c.name).where(_test_set.c.name == name)).first() is not None:
                raise Refused(f"test set {show(name)}: there is, or was, one of this name")
            connection.execute(insert(_test_set).values(name=name))
            detail = {"data": {name: data}}
            values = _said(reason, by) | {"kind": changes.SET_ADDED, "detail": detail, "undoes": None}
            return self._record(connection, view, values | {"test_set": name})

    def import_teams(self, by: str, reason: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[int, int]:
        """Add the teams that are not there yet, each with its `members` and `contact` as far as they are given, and
        change those of the others where they differ; all, or nothing. Returns how many were added, and how many
        changed.

        Raises `Refused` with a line for each name that cannot be, or comes twice.
        """
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)
            faults: list[str] = []
            seen: set[str] = set()
            added = changed = 0
            for name, given in rows:
                if _key(name) in seen:
                    faults.append(f"team {show(name)}: comes twice")
                    continue
                seen.add(_key(name))
                view = self._view(connection)
                known = [team for team in view.teams.values() if _key(team.name) == _key(name)]
                try:
                    team = known[0] if known else self._add_team(connection, view, name)
                except Refused as refused:
                    faults += refused.reasons
                    continue
                added += not known
                before: dict[str, Any] = {"members": list(team.members), "contact": team.contact}
                if (after := before | dict(given)) != before:
                    changed += bool(known)
                    values = _said(reason, by) | {"kind": changes.MEMBERS, "detail": after, "team_id": team.id}
                    connection.execute(insert(_change).values(values | {"at": self._now(connection)}))
            if faults:
                raise Refused(faults)
            return added, changed

    def now(self) -> datetime:
        """The database's clock."""
        with self.database.read() as connection:
            return self._now(connection)

    def kept_outputs(self, runs: Sequence[int]) -> dict[int, str]:
        """The digests of what these runs answered, by run, of those that kept it."""
        found: dict[int, str] = {}
        with self.database.read() as connection:
            for start in range(0, len(runs), _AT_ONCE):
                wanted = and_(_event.c.run_id.in_(runs[start : start + _AT_ONCE]), _event.c.kind == "done")
                for run, detail in connection.execute(select(_event.c.run_id, _event.c.detail).where(wanted)):
                    if digest := detail.get("output_sha256"):
                        found[run] = digest
        return found

    def runs_of(self, test_set: str) -> list[BoardResult]:
        """A result for each submission that has one on a test set, in whatever edition: the one that the board shows,
        else its latest.
        """
        with self.database.read() as connection:
            return _results(connection, self._view(connection), test_set, all_editions=True)


_AT_ONCE = 500  # values of a statement, which takes only so many
_CHANGE = tuple(
    _change.c[name]
    for name in ("id", "at", "by", "kind", "team_id", "submission_id", "test_set", "detail", "reason", "undoes")
)
_EVENT = tuple(_event.c[name] for name in ("kind", "at", "verdict", "detail", "fault"))
_TEAM = (_team.c.id, _team.c.name, _team.c.created_at)
_SUBMISSION = tuple(
    _submission.c[name] for name in ("id", "team_id", "digest", "name", "bytes", "image", "submitted_at", "day")
)


def _weights(season: Season) -> dict[str, float]:
    return {str(number): weight for number, weight in sorted(season.weights.items())}


def _total(season: Season, weights: Mapping[str, float], scores: Mapping[int, float]) -> float:
    return fsum(weight * season.competition.part(scores[int(task)]) for task, weight in weights.items())


def _impossible(season: Season, scores: Mapping[int, float]) -> str | None:
    """What no metric can have given, or the triggers of the database would refuse."""
    best = {task: season.competition.best(task) for task in scores}
    bad = {task: value for task, value in scores.items() if not -best[task] <= value <= best[task]}  # NaN, too
    if bad:
        return ", ".join(
            f"task {task} has the score {value!r}; a score must be in {-best[task]:g}..{best[task]:g}"
            for task, value in sorted(bad.items())
        )
    most, total = season.total(best) or 0.0, season.total(scores)
    if total is not None and not -most / 2 <= total <= most:  # at most half of a score is a cosine, can be negative
        return f"the total {total!r} is not in the formula's range, {-most / 2:g}..{most:g}"
    return None


def _check_name(name: str, teams: Iterable[Team]) -> None:
    """Raises `Refused` for a name that is one of the teams', or looks like it."""
    for team in teams:
        if _key(team.name) == _key(name):
            raise Refused(f"team {show(name)}: there is a team {show(team.name)} already")
        if names.looks(name) & names.looks(team.name):
            raise Refused(f"team {show(name)}: looks like the team {show(team.name)}; choose another name")


def _check_view(before: View, after: View) -> None:
    """Raises `Refused` where a change has made something that cannot be."""
    for team in after.teams.values():
        if team.name != before.teams[team.id].name:
            _check_name(team.name, (other for other in after.teams.values() if other.id != team.id))
        if team.into is not None and team.into in after.standing.merged:
            raise Refused(f"team {show(team.name)}: would be merged in a circle")
        if team.into is not None and team.status is not None:
            raise Refused(
                f"team {show(team.name)}: would be {team.status} and merged into another; undo one of the two"
            )
        if team.until is not None and team.until > after.season.choose_until:
            last = f"choose_until, {after.season.choose_until}"
            raise Refused(f"team {show(team.name)}: its last day must not be after {last}, as {team.until} is")
    if found := changes.rules_fault(after.season):
        raise Refused(found)


def _check_submission(connection: Connection, submission: int) -> int:
    """The number of its team. Raises `Refused` where there is no such submission."""
    team = connection.execute(select(_submission.c.team_id).where(_submission.c.id == submission)).scalar()
    if team is None:
        raise Refused(f"there is no submission {submission}")
    return int(team)


def _check_counts(connection: Connection, view: View, submission: int, test_set: str) -> None:
    """Raises `Refused` where nothing of a submission counts."""
    team = _check_submission(connection, submission)
    if submission in view.standing.withdrawn:
        raise Refused(f"submission {submission} was withdrawn")
    if view.is_out(submission, team, test_set):
        raise Refused(f"submission {submission}: team {show(view.of(team).name)} is {view.of(team).status}")


def _said(reason: str, by: str | None) -> dict[str, Any]:
    """Who did something, where that is known, and why. Raises `DataError` where these are no lines of text."""
    said = {"reason": reason} | ({} if by is None else {"by": by})
    for key, text in said.items():
        if not is_line(text):
            raise DataError(f"{key} must be {ONE_LINE}, not {show(text)}")
    return dict(said)


def _check_set(view: View, test_set: str) -> None:
    if test_set not in view.season.data:
        raise Refused(f"test set {show(test_set)}: must be one of {', '.join(view.season.data)}")


def _editions(connection: Connection, view: View, test_set: str) -> list[Edition]:
    """All of a test set's that were ever made, the first one first."""
    row = connection.execute(select(_test_set).where(_test_set.c.name == test_set)).first()
    if row is None or row.data_digest is None:
        return []
    competition = row.competition or default().digest
    pinned = (row.data_digest, row.weights, tuple(row.labels or ()), competition, row.best or 1.0, row.evaluator)
    found = [Edition(test_set, None, *pinned)]
    for row in connection.execute(select(_edition).where(_edition.c.test_set == test_set).order_by(_edition.c.id)):
        pinned = (row.data_digest, row.weights, tuple(row.labels), row.competition, row.best, row.evaluator)
        holds = row.change_id in view.standing.in_force
        found.append(Edition(test_set, row.id, *pinned, row.change_id, holds))
    return found


def _current(connection: Connection, view: View, test_set: str) -> Edition | None:
    """The one that boards show: the last that holds."""
    return next((edition for edition in reversed(_editions(connection, view, test_set)) if edition.holds), None)


def _enter_edition(connection: Connection, season: Season, change: int, test_set: str, new: NewEdition) -> int:
    competition = season.competition
    values = {
        "change_id": change,
        "test_set": test_set,
        "data_digest": new.data_digest,
        "weights": _weights(season),
        "labels": list(new.labels),
        "competition": competition.digest,
        "best": max(competition.best(task) for task in season.weights),
        "evaluator": new.evaluator,
    }
    return connection.execute(insert(_edition).values(values).returning(_edition.c.id)).scalar_one()


def _enter_rescored(
    connection: Connection,
    edition: int | None,
    test_set: str,
    submission: int,
    run: int,
    total: float,
    scores: Mapping[int, float],
) -> None:
    values = {"edition_id": edition, "test_set": test_set, "submission_id": submission, "run_id": run, "total": total}
    id = connection.execute(insert(_rescored).values(values).returning(_rescored.c.id)).scalar_one()
    rows = [{"rescored_id": id, "task": task, "value": value} for task, value in scores.items()]
    connection.execute(insert(_rescored_score), rows)


def _in_edition(connection: Connection, test_set: str, edition: int | None, submission: int | None = None) -> set[int]:
    """The submissions that have a result of an edition; of one alone, whether that has."""
    found: set[int] = set()
    for table in (_result, _rescored):
        its = [table.c.test_set == test_set, table.c.edition_id.is_not_distinct_from(edition)]
        its += [] if submission is None else [table.c.submission_id == submission]
        found |= set(connection.execute(select(table.c.submission_id).where(*its)).scalars())
    return found


def _rescored_scores(connection: Connection, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
    """The scores by task, by run, of those that were scored again."""
    runs = {result.rescored: result.run for result in results if result.rescored is not None}
    scores: dict[int, dict[int, float]] = {run: {} for run in runs.values()}
    wanted = sorted(runs)
    for start in range(0, len(wanted), _AT_ONCE):
        rows = select(_rescored_score).where(_rescored_score.c.rescored_id.in_(wanted[start : start + _AT_ONCE]))
        for id, task, value in connection.execute(rows.order_by(_rescored_score.c.task)):
            scores[runs[id]][task] = value
    return scores


def _for_update(query: Select[Any]) -> Select[Any]:
    """Lock the rows, yet not against new rows that refer to them. (SQLite has one writer, and no such locks.)"""
    return query.with_for_update(key_share=True)


def _shown(labels: Sequence[str]) -> str:
    return f"the labels {'; '.join(labels)}" if labels else "no labels"


def _lock_set(connection: Connection, name: str) -> Row[Any]:
    return connection.execute(_for_update(select(_test_set).where(_test_set.c.name == name))).one()


def _key(name: str) -> str:
    """Two names that look alike but for case and kind of letters are one."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _of_team(view: View, team: Team) -> ColumnElement[bool]:
    """Whether a submission is one of this team's, or of those that were merged into it."""
    return _submission.c.team_id.in_(view.standing.parts(team.id))


def _of_day(view: View, day: date) -> ColumnElement[bool]:
    """Whether a submission may be one of this day: its own says, unless that was corrected."""
    return or_(_submission.c.day == day, _submission.c.id.in_(sorted(view.standing.days)))


def _submitters(connection: Connection) -> dict[int, int]:
    """The numbers of the teams that sent each submission."""
    return {id: team for id, team in connection.execute(select(_submission.c.id, _submission.c.team_id))}


def _read_submission(view: View, row: Sequence[Any]) -> Submission:
    id, team, digest, name, size, image, submitted_at, day = row
    day, withdrawn = view.standing.days.get(id, day), id in view.standing.withdrawn
    return Submission(id, view.of(team).name, digest, name, size, image, submitted_at, day, withdrawn)


def _get_submission(connection: Connection, view: View, id: int) -> Submission:
    row = connection.execute(select(*_SUBMISSION).where(_submission.c.id == id)).one()
    return _read_submission(view, tuple(row))


def _sent(connection: Connection, view: View, team: Team, digest: str) -> Submission | None:
    same = select(*_SUBMISSION).where(_of_team(view, team), _submission.c.digest == digest).order_by(_submission.c.id)
    row = connection.execute(same).first()
    return None if row is None else _read_submission(view, tuple(row))


def _states(connection: Connection, view: View, *where: Any) -> list[RunState]:
    """The latest run of each submission on each test set, of those that `where` (of submission and run) selects."""
    latest = (
        select(func.max(_run.c.id).label("id"))
        .join(_submission, _submission.c.id == _run.c.submission_id)
        .where(*where)
        .group_by(_run.c.submission_id, _run.c.test_set)
        .subquery()
    )
    last = select(func.max(_event.c.step)).where(_event.c.run_id == _run.c.id).correlate(_run).scalar_subquery()
    rows = connection.execute(
        select(
            *_SUBMISSION,
            _run.c.test_set,
            _run.c.id.label("run"),
            _run.c.failures,
            *(_event.c[name] for name in ("kind", "at", "verdict", "fault", "detail")),
            _job.c.worker,
            _job.c.expires_at,
            _job.c.available_at,
            _result.c.run_id.is_not(None),
        )
        .join(_run, _run.c.submission_id == _submission.c.id)
        .join(latest, latest.c.id == _run.c.id)
        .join(_event, and_(_event.c.run_id == _run.c.id, _event.c.step == last))
        .outerjoin(_job, _job.c.run_id == _run.c.id)
        .outerjoin(_result, and_(_result.c.submission_id == _submission.c.id, _result.c.test_set == _run.c.test_set))
        .order_by(_submission.c.id, _run.c.id)
    )
    size = len(_SUBMISSION)
    return [
        RunState(_read_submission(view, row[:size]), *(*row[size:], view.is_out(row[0], row[1], row[size])))
        for row in rows
    ]


def _locked_state(connection: Connection, view: View, submission: int, test_set: str) -> RunState:
    """The state, which nobody else changes before this transaction ends. Raises `Refused` where no run ever was, or
    nothing is run any more.
    """
    _check_set(view, test_set)
    connection.execute(_for_update(select(_submission.c.id).where(_submission.c.id == submission)))
    jobs = select(_job.c.run_id).where(_job.c.submission_id == submission).order_by(_job.c.run_id)
    connection.execute(_for_update(jobs))
    states = _states(connection, view, _submission.c.id == submission, _run.c.test_set == test_set)
    if not states:
        raise Refused(f"submission {submission} has no run on the {test_set} test set")
    return states[0]


def _is_of(view: View, teams: Collection[str]) -> ColumnElement[bool]:
    """Whether a job is of one of these teams, or of one that was merged into it."""
    ids = [part for team in view.teams.values() if team.name in teams for part in view.standing.parts(team.id)]
    return _job.c.submission_id.in_(select(_submission.c.id).where(_submission.c.team_id.in_(sorted(ids))))


def _lease(job: Job) -> tuple[Any, Any]:
    return _job.c.run_id == job.run, _job.c.token == job.token


def _append(
    connection: Connection,
    run: int,
    kind: str,
    at: datetime,
    detail: Mapping[str, Any],
    verdict: str | None = None,
    fault: str | None = None,
) -> None:
    """Append an event, if it may follow what happened last."""
    events = select(_event.c.kind).where(_event.c.run_id == run).order_by(_event.c.step.desc()).limit(1)
    last = connection.execute(events).scalar()
    if kind not in schema.AFTER.get(last, ()):
        raise EvaluatorError(f"run {run} is {last}, so it cannot become {kind}")
    values = {"kind": kind, "at": at, "verdict": verdict, "fault": fault, "detail": dict(detail)}
    connection.execute(insert(_event).values(run_id=run, step=schema.STEPS[kind], **values))


def _results(connection: Connection, view: View, test_set: str, all_editions: bool = False) -> list[BoardResult]:
    """Those that count: in the edition that boards show, or of each submission in that or else its latest one."""
    edition = _current(connection, view, test_set)
    if edition is None:
        return []
    by_submission: dict[int, BoardResult] = {}
    for table, id in ((_result, None), (_rescored, _rescored.c.id)):
        wanted = table.c.test_set == test_set
        if not all_editions:
            wanted = and_(wanted, table.c.edition_id.is_not_distinct_from(edition.id))
        rows = connection.execute(
            select(
                table.c.run_id,
                _submission.c.id,
                _submission.c.team_id,
                _submission.c.submitted_at,
                table.c.total,
                _event.c.detail["shared_parameters"],
                _event.c.at,
                table.c.edition_id,
                *(() if id is None else (id,)),
            )
            .join(_submission, _submission.c.id == table.c.submission_id)
            .join(_event, and_(_event.c.run_id == table.c.run_id, _event.c.step == schema.STEPS["done"]))
            .where(wanted)
            .order_by(table.c.run_id if id is None else id)
        )
        for run, submission, team, at, total, counted, entered_at, its_edition, *rescored in rows:
            if view.is_out(submission, team, test_set):
                continue
            if submission in by_submission and by_submission[submission].edition == edition.id:
                continue
            its_team = view.of(team)
            sharing = Sharing.from_json(counted) if counted else Sharing()
            competes = view.standing.competes(its_team.id)
            number = rescored[0] if rescored else None
            by_submission[submission] = BoardResult(
                run, submission, its_team.name, at, total, sharing, entered_at, its_edition, number, competes
            )
    return sorted(by_submission.values(), key=lambda result: (result.submitted_at, result.submission))


def _choices(connection: Connection, view: View) -> list[Choice]:
    """The last one of each team, or of any that was merged into it, in the order of teams."""
    rows = connection.execute(
        select(
            schema.choice.c.id,
            schema.choice.c.team_id,
            schema.choice.c.at,
            schema.chosen.c.submission_id,
            _submission.c.team_id,
        )
        .join(schema.chosen, schema.chosen.c.choice_id == schema.choice.c.id)
        .join(_submission, _submission.c.id == schema.chosen.c.submission_id)
        .order_by(schema.choice.c.id, schema.chosen.c.submission_id)
    )
    last: dict[int, tuple[int, datetime, tuple[int, ...]]] = {}  # by team: number, moment, submissions
    for id, team, at, submission, sender in rows:
        team = view.standing.team(team)
        before = last[team][2] if team in last and last[team][0] == id else ()
        its = view.standing.team(sender) == team  # not of one that was merged into it, and is not any more
        last[team] = (id, at, (*before, submission) if its else before)
    choices = []
    for team, (_, at, submissions) in sorted(last.items()):
        kept = tuple(submission for submission in submissions if submission not in view.standing.withdrawn)
        if kept and not view.standing.is_hidden(team):
            choices.append(Choice(view.teams[team].name, at, kept))
    return choices
