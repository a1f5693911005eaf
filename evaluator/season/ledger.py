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
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, delete, func, insert, select, update

from evaluator.competition.definition import default
from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.core.verdict import INFRA, OK
from evaluator.package.metadata import Metadata
from evaluator.season import PRIVATE, PUBLIC, TEST_SETS, names, schema
from evaluator.season.board import BoardResult, Choice, Sharing, finals
from evaluator.season.config import Season
from evaluator.season.database import Database

_team, _submission, _run, _event = schema.team, schema.submission, schema.run, schema.event
_result, _score, _job, _test_set = schema.result, schema.score, schema.job, schema.test_set


class Refused(DataError):
    """The rules do not allow what was asked for."""

    rule = "season-refused"


@dataclass(frozen=True)
class Team:
    """`id` is the number by which its page is addressed, `name` as it was given."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True)
class Archive:
    """A ZIP that was checked: `digest` is its SHA-256, `name` the file's."""

    digest: str
    name: str
    bytes: int
    metadata: Metadata


@dataclass(frozen=True)
class Submission:
    """`day` is the season's day whose attempt it is."""

    id: int
    team: str
    digest: str
    name: str
    bytes: int
    image: str
    submitted_at: datetime
    day: date


@dataclass(frozen=True)
class RunState:
    """The latest run of a submission on a test set, and what happened to it last. `kind` is one of `schema.STEPS`;
    `verdict` and `fault` are those of a run that is done.
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

    @property
    def pending(self) -> bool:
        """Whether it waits or runs."""
        return self.kind in ("queued", "running")

    @property
    def is_infrastructure_failure(self) -> bool:
        """Whether it ended without a result by no fault of the team's: somebody has to look, and retry or cancel."""
        return self.kind == "lost" or (self.kind == "done" and self.fault not in (None, "team"))

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
class Snapshot:
    """All of the ledger at one moment, `now`: teams by number, `states` as `Ledger.states`, `events` of all runs in the
    order of their numbers, `attempts` of today by team. `board.lines` takes it as it takes the ledger.
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

    def results(self, test_set: str) -> list[BoardResult]:
        """As `Ledger.results`."""
        return list(self.all_results[test_set])

    def choices(self) -> list[Choice]:
        """As `Ledger.choices`."""
        return list(self.all_choices)

    def scores(self, runs: Iterable[int]) -> dict[int, dict[int, float]]:
        """As `Ledger.scores`: by run and task number."""
        return {run: dict(self.all_scores.get(run, {})) for run in runs}


@dataclass(frozen=True)
class Job:
    """A run that a worker holds by the lease with `token`."""

    run: int
    token: str
    submission: Submission
    test_set: str
    failures: int


@dataclass(frozen=True)
class RunEnd:
    """How a run ended: verdict and fault as in scores.json, scores by task number where there are any, and the digests
    of the data and of the competition that they are of.
    """

    verdict: str
    fault: str | None
    scores: Mapping[int, float] = field(default_factory=dict)
    data_digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    competition: str | None = None

    @classmethod
    def organizers(cls, found: str, detail: Mapping[str, Any]) -> "RunEnd":
        """A run whose end says nothing of the submission, by the organizer's fault."""
        return cls(INFRA.name, "organizer", detail={**detail, "findings": [_finding(found)]})

    @classmethod
    def infra(cls, found: str, detail: Mapping[str, Any]) -> "RunEnd":
        """The same by a machine's fault: another one may do better."""
        return cls(INFRA.name, INFRA.fault, detail={**detail, "fix": INFRA.fix, "findings": [_finding(found)]})


def _finding(found: str) -> dict[str, str]:
    return {"rule": "season-failure", "where": "", "found": found, "allowed": "", "fix": ""}


class Ledger:
    """`clock` replaces the database's clock, for a season that is simulated.

    Raises `DataError` unless the database is there, of this version, with results of this formula.
    """

    def __init__(
        self, season: Season, database: Database, clock: Callable[[Connection], datetime] | None = None
    ) -> None:
        self.season, self.database = season, database
        self._now = clock or database.now
        database.check()
        with database.read() as connection:
            for row in connection.execute(select(_test_set).where(_test_set.c.data_digest.is_not(None))):
                if row.weights != self._weights:
                    raise DataError(
                        f"season {season.path}: [formula] gives weights {self._weights}, but the {row.name} results so"
                        f" far were made with {row.weights}"
                    )
                if (row.competition or default().digest) != season.competition.digest:
                    raise DataError(
                        f"season {season.path}: [season] competition is {season.competition.name} as it is defined now,"
                        f" but the {row.name} results so far were made with another, or another version of it"
                    )

    @property
    def _weights(self) -> dict[str, float]:
        return {str(number): weight for number, weight in sorted(self.season.weights.items())}

    # --- teams ---

    def add_team(self, name: str) -> Team:
        """Raises `DataError` for a name that is none, `Refused` for one that is taken, or looks like one that is."""
        name = names.checked(name)
        with self.database.write() as connection:
            _lock_set(connection, PUBLIC)  # one after another: two that look alike could come at once
            for other, key in connection.execute(select(_team.c.name, _team.c.key).order_by(_team.c.id)):
                if key == _key(name):
                    raise Refused(f"team {show(name)}: there is a team {show(other)} already")
                if names.looks(name) & names.looks(other):
                    raise Refused(f"team {show(name)}: looks like the team {show(other)}; choose another name")
            now = self._now(connection)
            values = {"name": name, "key": _key(name), "created_at": now}
            return Team(connection.execute(insert(_team).values(values).returning(_team.c.id)).scalar_one(), name, now)

    def team(self, name: str) -> Team:
        """The team that is meant by a name. Raises `DataError` where there is none."""
        with self.database.read() as connection:
            row = _find_team(connection, name)
            return Team(row.id, row.name, row.created_at)

    def attempts(self, team: str) -> Attempts:
        """The team's attempts of today. Raises `DataError` for a team that is not there."""
        with self.database.read() as connection:
            row = _find_team(connection, team)
            return self._attempts(connection, row.id, self.season.day(self._now(connection)))

    def all_attempts(self) -> dict[str, Attempts]:
        """Today's attempts of every team, by its name."""
        with self.database.read() as connection:
            day = self.season.day(self._now(connection))
            teams = connection.execute(select(_team.c.name).order_by(_team.c.id)).scalars()
            return self._by_team(day, teams, _states(connection, _submission.c.day == day))

    def _by_team(self, day: date, teams: Iterable[str], states: Iterable[RunState]) -> dict[str, Attempts]:
        of_day: dict[str, list[RunState]] = {team: [] for team in teams}
        for state in states:
            if state.submission.day == day and state.test_set == PUBLIC:
                of_day[state.submission.team].append(state)
        return {team: self._count(day, of_team) for team, of_team in of_day.items()}

    def _attempts(self, connection: Connection, team: int, day: date) -> Attempts:
        of_day = and_(_submission.c.team_id == team, _submission.c.day == day)
        return self._count(day, _states(connection, of_day, _run.c.test_set == PUBLIC))

    def _count(self, day: date, states: Sequence[RunState]) -> Attempts:
        done = [state for state in states if state.kind == "done"]
        return Attempts(
            day,
            sum(state.fault is None for state in done),
            sum(state.fault == "team" for state in done),
            sum(state.pending for state in states),
            self.season.valid_a_day,
            self.season.invalid_a_day,
        )

    # --- submissions ---

    def admit(self, team: str, digest: str) -> Submission | None:
        """The team's submission of this ZIP, where it was sent before; None where it may be sent now.

        Raises `Refused` where the rules do not allow it, `DataError` for a team that is not there. `submit` asks again.
        """
        with self.database.read() as connection:
            row = _find_team(connection, team)
            sent = _sent(connection, row.id, digest)
            if sent is None:
                self._check_open(connection, row, self.season.day(self._now(connection)))
            return sent

    def submit(self, team: str, archive: Archive) -> tuple[Submission, bool]:
        """Enter a ZIP, which lies in the store by now, and queue its run on the public test set; False where it was
        sent before: the same bytes of the same team are one submission and one attempt.

        Raises as `admit`.
        """
        with self.database.write() as connection:
            row = _find_team(connection, team, lock=True)  # one after another, so that none exceeds the day's attempts
            if sent := _sent(connection, row.id, archive.digest):
                return sent, False
            now = self._now(connection)
            self._check_open(connection, row, self.season.day(now))
            values = {
                "team_id": row.id,
                "digest": archive.digest,
                "name": archive.name,
                "bytes": archive.bytes,
                "image": archive.metadata.image,
                "submitted_at": now,
                "day": self.season.day(now),
            }
            id = connection.execute(insert(_submission).values(values).returning(_submission.c.id)).scalar_one()
            self._queue(connection, id, PUBLIC, 0, now, now, {})
            return _get_submission(connection, id), True

    def _check_open(self, connection: Connection, team: Row[Any], day: date) -> None:
        season = self.season
        if not season.start <= day <= season.end:
            raise Refused(f"submissions are taken from {season.start} to {season.end}; today is {day} ({season.zone})")
        attempts = self._attempts(connection, team.id, day)
        if not attempts.left:
            raise Refused(
                f"team {show(team.name)} has no attempt left on {day}: {attempts.valid} valid of"
                f" {attempts.valid_allowed}, {attempts.invalid} invalid of {attempts.invalid_allowed},"
                f" {attempts.pending} not done yet"
            )

    def choose(self, team: str, submissions: Sequence[int]) -> None:
        """Enter the team's choice for the private board; the last one counts.

        Raises `Refused` where the rules do not allow it, `DataError` for a team that is not there.
        """
        wanted, most = sorted(set(submissions)), self.season.chosen
        if not 1 <= len(wanted) <= most:
            raise Refused(f"team {show(team)}: choose 1 to {most} submissions, not {len(wanted)}")
        with self.database.write() as connection:
            row = _find_team(connection, team, lock=True)
            day = self.season.day(now := self._now(connection))
            if day > self.season.choose_until:
                raise Refused(f"choices were open until {self.season.choose_until}; today is {day}")
            of_team = _submission.c.team_id == row.id
            states = {state.submission.id: state for state in _states(connection, of_team, _run.c.test_set == PUBLIC)}
            for submission in wanted:
                state = states.get(submission)
                if state is None:
                    raise Refused(f"submission {submission} is none of team {show(row.name)}'s")
                if state.verdict != OK.name:
                    raise Refused(f"submission {submission} has no public score: {state.name}")
            choice = connection.execute(
                insert(schema.choice).values(team_id=row.id, at=now).returning(schema.choice.c.id)
            ).scalar_one()
            connection.execute(
                insert(schema.chosen), [{"choice_id": choice, "submission_id": submission} for submission in wanted]
            )

    # --- runs, for people ---

    def states(self, team: str | None = None) -> list[RunState]:
        """The latest run of each submission, or each of a team's, on each test set, by submission.

        Raises `DataError` for a team that is not there.
        """
        with self.database.read() as connection:
            where = () if team is None else (_submission.c.team_id == _find_team(connection, team).id,)
            return _states(connection, *where)

    def waiting(self) -> list[RunState]:
        """What has not ended, and what waits for somebody to retry or cancel it; by submission."""
        return [state for state in self.states() if state.pending or state.is_infrastructure_failure]

    def history(self, submission: int) -> list[Event]:
        """All that happened to a submission's runs, in order. Raises `DataError` where there is no such submission."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(_run.c.id, _run.c.test_set, _event.c.kind, _event.c.at, _event.c.verdict, _event.c.detail)
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
            teams = [Team(*row) for row in connection.execute(select(*_TEAM).order_by(_team.c.id))]
            states = _states(connection)
            events = connection.execute(
                select(_run.c.id, _run.c.test_set, _event.c.kind, _event.c.at, _event.c.verdict, _event.c.detail)
                .join(_event, _event.c.run_id == _run.c.id)
                .order_by(_run.c.id, _event.c.step)
            )
            scores: dict[int, dict[int, float]] = {}
            for run, task, value in connection.execute(select(_score).order_by(_score.c.run_id, _score.c.task)):
                scores.setdefault(run, {})[task] = value
            return Snapshot(
                self.season,
                now,
                tuple(teams),
                tuple(states),
                tuple(Event(*row) for row in events),
                self._by_team(self.season.day(now), (team.name for team in teams), states),
                {test_set: _results(connection, test_set) for test_set in TEST_SETS},
                _choices(connection),
                scores,
            )

    def retry(self, submission: int, test_set: str, reason: str) -> None:
        """Queue another run of a submission that has none under way and no score.

        Raises `Refused` otherwise, and where the submission never had a run on this test set.
        """
        with self.database.write() as connection:
            state = _locked_state(connection, submission, test_set)
            if state.pending:
                raise Refused(f"submission {submission} ({test_set}) is {state.kind} already")
            if state.verdict == OK.name:
                raise Refused(f"submission {submission} ({test_set}) has its score, which stays")
            now = self._now(connection)
            self._queue(connection, submission, test_set, 0, now, now, {"retry_of": state.run, "reason": reason})

    def cancel(self, submission: int, test_set: str, reason: str) -> None:
        """End a run that waits or runs; its worker stops it at its next heartbeat. It costs no attempt.

        Raises `Refused` where there is none.
        """
        with self.database.write() as connection:
            state = _locked_state(connection, submission, test_set)
            if not state.pending:
                raise Refused(f"submission {submission} ({test_set}) is not waiting or running: {state.name}")
            self._end(connection, state.run, "cancelled", {"reason": reason})

    def queue_finals(self) -> list[int]:
        """Queue the runs on the private test set that the private board needs and that were never queued; returns
        their submissions.

        Raises `Refused` while teams can still choose.
        """
        with self.database.write() as connection:
            now = self._now(connection)
            if self.season.day(now) <= self.season.choose_until:
                raise Refused(f"choices are open until {self.season.choose_until}, so the finals are not known yet")
            _lock_set(connection, PRIVATE)  # two at once would queue each run twice
            wanted = finals(_results(connection, PUBLIC), _choices(connection), self.season.chosen)
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
            now = self._now(connection)
            self._lose(connection, now)
            found = connection.execute(
                select(_job.c.run_id, _run.c.test_set, _run.c.failures, _job.c.submission_id)
                .join(_run, _run.c.id == _job.c.run_id)
                .where(_job.c.token.is_(None), _job.c.available_at <= now, ~_is_of(without))
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
            submission = _get_submission(connection, found.submission_id)
            return Job(found.run_id, token, submission, found.test_set, found.failures)

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
        """
        with self.database.write() as connection:
            if not self._held(connection, job):
                return None
            total = None
            if end.verdict == OK.name:
                end, total = self._comparable(connection, job, end)
            detail = dict(end.detail)
            retry = end.verdict == INFRA.name and end.fault == INFRA.fault
            self._end(connection, job.run, "done", detail, end.verdict, end.fault, retry=retry)
            if total is not None:
                connection.execute(
                    insert(_result).values(
                        run_id=job.run, submission_id=job.submission.id, test_set=job.test_set, total=total
                    )
                )
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

    def unfinished(self, without: Collection[str] = ()) -> int:
        """How many runs wait or run, those that wait of the teams `without` left out."""
        left_out = and_(_job.c.token.is_(None), _is_of(without))
        with self.database.read() as connection:
            return connection.execute(select(func.count()).select_from(_job).where(~left_out)).scalar_one()

    def _held(self, connection: Connection, job: Job) -> bool:
        """Whether the lease still stands. An expired one does, until somebody takes the run for lost."""
        return connection.execute(select(_job.c.run_id).where(*_lease(job)).with_for_update()).first() is not None

    def _comparable(self, connection: Connection, job: Job, end: RunEnd) -> tuple[RunEnd, float | None]:
        total = self.season.total(end.scores)
        if total is None:
            missing = ", ".join(str(task) for task in sorted(self.season.weights.keys() - end.scores.keys()))
            found = f"the {job.test_set} test set gives no score for task {missing}, which the formula needs"
            return RunEnd.organizers(found, end.detail), None
        competition = self.season.competition
        if end.competition not in (None, competition.digest):
            found = f"the run was scored by another version of the competition {competition.name} than the season's"
            return RunEnd.organizers(found, end.detail), None
        best = {task: competition.best(task) for task in end.scores}
        bad = {task: value for task, value in end.scores.items() if not -best[task] <= value <= best[task]}  # NaN, too
        if bad:
            found = ", ".join(
                f"task {task} has the score {value!r}; a score must be in {-best[task]:g}..{best[task]:g}"
                for task, value in sorted(bad.items())
            )
            return RunEnd.infra(found, end.detail), None
        most = self.season.total(best) or 0.0
        if not -most / 2 <= total <= most:  # at most half of a score is a cosine, which can be negative
            found = f"the total {total!r} is not in the formula's range, {-most / 2:g}..{most:g}"
            return RunEnd.infra(found, end.detail), None
        row = _lock_set(connection, job.test_set)
        labels = sorted(set(end.detail.get("labels") or ()))
        if row.data_digest is None:
            pinned: dict[str, Any] = {"data_digest": end.data_digest, "weights": self._weights, "labels": labels}
            pinned |= {"competition": competition.digest, "best": max(best.values())}
            connection.execute(update(_test_set).where(_test_set.c.name == job.test_set).values(**pinned))
        elif row.data_digest != end.data_digest:
            found = (
                f"the {job.test_set} test set has the digest {end.data_digest}, earlier results have"
                f" {row.data_digest}: put the data back as they were"
            )
            return RunEnd.organizers(found, end.detail), None
        elif row.weights != self._weights:
            found = f"earlier {job.test_set} results were made with the weights {row.weights}"
            return RunEnd.organizers(found, end.detail), None
        elif row.labels != labels:
            found = (
                f"earlier {job.test_set} results have {_shown(row.labels)}, this one has {_shown(labels)}: the machines"
                " do not have the same assets (`make assets-check`)"
            )
            return RunEnd.infra(found, end.detail), None
        return end, total

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

    def results(self, test_set: str) -> list[BoardResult]:
        """Every result of a test set, the earliest submission first."""
        with self.database.read() as connection:
            return _results(connection, test_set)

    def choices(self) -> list[Choice]:
        """Every team's last choice."""
        with self.database.read() as connection:
            return _choices(connection)

    def scores(self, runs: Iterable[int]) -> dict[int, dict[int, float]]:
        """Scores by task number of each of these runs."""
        scores: dict[int, dict[int, float]] = {run: {} for run in runs}
        wanted = sorted(scores)
        with self.database.read() as connection:
            for start in range(0, len(wanted), 500):  # a statement takes only so many values
                rows = select(_score).where(_score.c.run_id.in_(wanted[start : start + 500])).order_by(_score.c.task)
                for run, task, value in connection.execute(rows):
                    scores[run][task] = value
        return scores


_TEAM = (_team.c.id, _team.c.name, _team.c.created_at)
_SUBMISSION = (
    _submission.c.id,
    _team.c.name.label("team"),
    *(_submission.c[name] for name in ("digest", "name", "bytes", "image", "submitted_at", "day")),
)
_SUBMISSIONS = select(*_SUBMISSION).join(_team, _team.c.id == _submission.c.team_id)


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


def _find_team(connection: Connection, name: str, lock: bool = False) -> Row[Any]:
    key = _key(name)
    if not key.isprintable():  # bytes of the command line that are no text, for instance
        raise DataError(f"there is no team {show(name)}")
    query = select(*_TEAM).where(_team.c.key == key)
    row = connection.execute(_for_update(query) if lock else query).first()
    if row is None:
        raise DataError(f"there is no team {show(name)}; `python -m evaluator teams add NAME` adds one")
    return row


def _get_submission(connection: Connection, id: int) -> Submission:
    return Submission(*connection.execute(_SUBMISSIONS.where(_submission.c.id == id)).one())


def _sent(connection: Connection, team: int, digest: str) -> Submission | None:
    same = _SUBMISSIONS.where(_submission.c.team_id == team, _submission.c.digest == digest)
    row = connection.execute(same).first()
    return None if row is None else Submission(*row)


def _states(connection: Connection, *where: Any) -> list[RunState]:
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
        )
        .join(_team, _team.c.id == _submission.c.team_id)
        .join(_run, _run.c.submission_id == _submission.c.id)
        .join(latest, latest.c.id == _run.c.id)
        .join(_event, and_(_event.c.run_id == _run.c.id, _event.c.step == last))
        .outerjoin(_job, _job.c.run_id == _run.c.id)
        .order_by(_submission.c.id, _run.c.id)
    )
    size = len(_SUBMISSION)
    return [RunState(Submission(*row[:size]), *row[size:]) for row in rows]


def _locked_state(connection: Connection, submission: int, test_set: str) -> RunState:
    """The state, which nobody else changes before this transaction ends. Raises `Refused` where no run ever was."""
    if test_set not in TEST_SETS:
        raise DataError(f"test set {show(test_set)}: must be one of {', '.join(TEST_SETS)}")
    connection.execute(_for_update(select(_submission.c.id).where(_submission.c.id == submission)))
    connection.execute(_for_update(select(_job.c.run_id).where(_job.c.submission_id == submission)))
    states = _states(connection, _submission.c.id == submission, _run.c.test_set == test_set)
    if not states:
        raise Refused(f"submission {submission} has no run on the {test_set} test set")
    return states[0]


def _is_of(teams: Collection[str]) -> ColumnElement[bool]:
    """Whether a job is of one of these teams."""
    theirs = select(_submission.c.id).join(_team, _team.c.id == _submission.c.team_id)
    return _job.c.submission_id.in_(theirs.where(_team.c.name.in_(sorted(teams))))


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


def _results(connection: Connection, test_set: str) -> list[BoardResult]:
    rows = connection.execute(
        select(
            _result.c.run_id,
            _submission.c.id,
            _team.c.name,
            _submission.c.submitted_at,
            _result.c.total,
            _event.c.detail["shared_parameters"],
        )
        .join(_submission, _submission.c.id == _result.c.submission_id)
        .join(_team, _team.c.id == _submission.c.team_id)
        .join(_event, and_(_event.c.run_id == _result.c.run_id, _event.c.step == schema.STEPS["done"]))
        .where(_result.c.test_set == test_set)
        .order_by(_submission.c.submitted_at, _submission.c.id)
    )
    return [
        BoardResult(run, submission, team, at, total, Sharing.from_json(counted) if counted else Sharing())
        for run, submission, team, at, total, counted in rows
    ]


def _choices(connection: Connection) -> list[Choice]:
    last = select(func.max(schema.choice.c.id)).group_by(schema.choice.c.team_id)
    rows = connection.execute(
        select(_team.c.name, schema.choice.c.at, schema.chosen.c.submission_id)
        .join(schema.choice, schema.choice.c.team_id == _team.c.id)
        .join(schema.chosen, schema.chosen.c.choice_id == schema.choice.c.id)
        .where(schema.choice.c.id.in_(last))
        .order_by(_team.c.id, schema.chosen.c.submission_id)
    )
    choices: dict[str, Choice] = {}
    for team, at, submission in rows:
        before = choices[team].submissions if team in choices else ()
        choices[team] = Choice(team, at, (*before, submission))
    return list(choices.values())
