"""The ledger: teams, submissions and their attempts, the runs that they get, and what comes of them.

A submission has runs on a test set, one after another: each is queued, then running, and ends as done (with a verdict),
lost (its worker's lease ran out), interrupted or cancelled. Where the end is no fault of the team's, another run may
follow; nothing ever goes back. Every method is one transaction, so that a process killed anywhere leaves the state
before it or the state after.

A worker holds a run by a lease, and whatever it says later must come with the lease's token. When the lease has run
out, the run is lost, and what its worker still brings is not taken.
"""

import contextlib
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from evaluator.core.errors import DataError, EvaluatorError, show
from evaluator.core.verdict import INFRA, OK
from evaluator.season import PRIVATE, PUBLIC, TEST_SETS, changes, names, schema
from evaluator.season.board import BoardResult, Choice, finals
from evaluator.season.changes import Change
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import queries
from evaluator.season.ledger.records import (
    Archive,
    Attempts,
    Edition,
    Event,
    Job,
    NewEdition,
    Queued,
    Refused,
    RunEnd,
    RunState,
    Snapshot,
    Submission,
    Team,
)

_team = schema.team
_submission = schema.submission
_run = schema.run
_event = schema.event
_result = schema.result
_score = schema.score
_job = schema.job
_test_set = schema.test_set
_change = schema.change

TAKEN_BACK = "taken back by the team"  # why a run was cancelled that a team did not want any more
SENT_AGAIN = "sent again by the team"  # why it was queued then


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
        self._seen: tuple[tuple[Any, ...], queries.View] | None = None  # the numbers of the last change and team
        database.check()
        with database.read() as connection:
            view = self._view(connection)
            for name in view.season.data:
                edition = queries.current_edition(connection, view, name)
                if edition is None:
                    continue
                if edition.weights != (weights := queries.formula_weights(view.season)):
                    raise DataError(
                        f"season {season.path}: [formula] gives weights {weights}, but the {name} results"
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

    def _view(self, connection: Connection) -> queries.View:
        """What holds, in a transaction that has changed nothing of it so far. It changes by new rows alone, so it is
        read anew where there are some.
        """
        rows = connection.execute(select(func.max(_change.c.id), select(func.max(_team.c.id)).scalar_subquery())).one()
        seen = self._seen  # another thread may put what it sees in its place
        if seen is None or seen[0] != tuple(rows):
            self._seen = seen = (tuple(rows), queries.read_view(connection, self.season))
        return seen[1]

    @contextlib.contextmanager
    def moment(self, write: bool = False) -> Iterator[tuple[Connection, queries.View, datetime]]:
        """A transaction about what other modules keep beside the ledger: what holds, and the time."""
        with self.database.write() if write else self.database.read() as connection:
            yield connection, self._view(connection), self._now(connection)

    # --- teams ---

    def add_team(
        self, name: str, by: str | None = None, reason: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> Team:
        """Add a team; with `detail`, its `members` and `contact`, that is entered as a change, too.

        Raises `DataError` for a name that is none, `Refused` for one that is taken, or looks like one that is.
        """
        name = names.checked(name)
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)  # one after another: two that look alike could come at once
            team = self._add_team(connection, self._view(connection), name)
            if detail is not None:
                self._enter_members(connection, queries.said_by(reason, by), team, detail)
            return queries.read_view(connection, self.season).of(team.id)  # not to be remembered: it may not come true

    def _enter_members(
        self, connection: Connection, said: Mapping[str, Any], team: Team, detail: Mapping[str, Any]
    ) -> None:
        values = {"kind": changes.MEMBERS, "detail": dict(detail), "team_id": team.id, "at": self._now(connection)}
        connection.execute(insert(_change).values({**said, **values}))

    def _add_team(self, connection: Connection, view: queries.View, name: str) -> Team:
        queries.check_name(name, view.teams.values())
        now, key = self._now(connection), queries.name_key(name)
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
            return self._by_team(view, day, queries.read_states(connection, view, queries.of_day(view, day)))

    def _by_team(self, view: queries.View, day: date, states: Iterable[RunState]) -> dict[str, Attempts]:
        teams = [team for team in view.teams.values() if team.into is None]
        of_day: dict[str, list[RunState]] = {team.name: [] for team in teams}
        for state in states:
            if state.submission.day == day and state.test_set == PUBLIC and state.submission.team in of_day:
                of_day[state.submission.team].append(state)
        return {team.name: self._count(view, team, day, of_day[team.name]) for team in teams}

    def _attempts(self, connection: Connection, view: queries.View, team: Team, day: date) -> Attempts:
        where = (queries.of_team(view, team), queries.of_day(view, day), _run.c.test_set == PUBLIC)
        states = [state for state in queries.read_states(connection, view, *where) if state.submission.day == day]
        return self._count(view, team, day, states)

    def _count(self, view: queries.View, team: Team, day: date, states: Sequence[RunState]) -> Attempts:
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
            sent = queries.find_sent(connection, view, found, digest)
            if sent is None:
                self._check_open(connection, view, found, self.season.day(self._now(connection)))
            return sent

    def submit(self, team: str, archive: Archive, by: str | None = None) -> tuple[Submission, bool]:
        """Enter a ZIP, which lies in the store by now, and queue its run on the public test set; False where it was
        sent before: the same bytes of the same team are one submission and one attempt. The event says `by` whom it was
        sent, where that is known.

        Raises as `admit`.
        """
        said = queries.said_by(None, by)
        with self.database.write() as connection:
            found, view = self._locked_team(connection, team)
            if sent := queries.find_sent(connection, view, found, archive.digest):
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
            self._queue(connection, id, PUBLIC, 0, now, now, said)
            return queries.get_submission(connection, view, id), True

    def _locked_team(self, connection: Connection, name: str) -> tuple[Team, queries.View]:
        """A team, whose submissions and choices come one after another, so that none exceeds the day's attempts, and
        not while an organizer changes something. Raises `Refused` where its name became another's meanwhile.
        """
        id = self._view(connection).find(name).id
        connection.execute(queries.for_update(select(_team.c.id).where(_team.c.id == id)))
        connection.execute(select(_test_set.c.name).where(_test_set.c.name == PUBLIC).with_for_update(read=True))
        view = self._view(connection)  # it may have changed meanwhile
        team = view.find(name)
        if team.id != id:
            raise Refused(f"team {show(name)}: another team is called so since a moment ago; do this again")
        return team, view

    def _check_open(self, connection: Connection, view: queries.View, team: Team, day: date) -> None:
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

    def choose(self, team: str, submissions: Sequence[int], by: str | None = None) -> None:
        """Enter the team's choice for the private board, with who made it, where that is known; the last one counts.

        Raises `Refused` where the rules do not allow it, or there is no such team.
        """
        wanted, said = sorted(set(submissions)), queries.said_by(None, by)
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
            public = queries.read_states(connection, view, queries.of_team(view, found), _run.c.test_set == PUBLIC)
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
                insert(schema.choice).values(team_id=found.id, at=now, **said).returning(schema.choice.c.id)
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
            return queries.read_states(
                connection, view, *(() if team is None else (queries.of_team(view, view.find(team)),))
            )

    def waiting(self) -> list[RunState]:
        """What has not ended, and what waits for somebody to retry or cancel it; by submission."""
        return [state for state in self.states() if state.waits]

    def history(self, submission: int) -> list[Event]:
        """All that happened to a submission's runs, in order. Raises `DataError` where there is no such submission."""
        with self.database.read() as connection:
            rows = connection.execute(
                select(_run.c.id, _run.c.test_set, *queries.EVENT_COLUMNS)
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
            day = self.season.day(now)
            states = queries.read_states(connection, view)
            events = connection.execute(
                select(_run.c.id, _run.c.test_set, *queries.EVENT_COLUMNS)
                .join(_event, _event.c.run_id == _run.c.id)
                .order_by(_run.c.id, _event.c.step)
            )
            scores: dict[int, dict[int, float]] = {}
            for run, task, value in connection.execute(select(_score).order_by(_score.c.run_id, _score.c.task)):
                scores.setdefault(run, {})[task] = value
            results = {test_set: queries.read_results(connection, view, test_set) for test_set in view.season.data}
            for of_set in results.values():
                scores |= queries.read_rescored_scores(connection, of_set)
            editions = {test_set: queries.current_edition(connection, view, test_set) for test_set in view.season.data}
            return Snapshot(
                view.season,
                now,
                tuple(view.teams.values()),
                tuple(states),
                tuple(Event(*row) for row in events),
                self._by_team(view, day, states),
                results,
                queries.read_choices(connection, view),
                scores,
                {test_set: edition for test_set, edition in editions.items() if edition is not None},
                view.changes,
                view.standing.frozen_at,
                view.standing.private_shown and day > view.season.choose_until,
                view.standing.announcements,
            )

    def version(self) -> tuple[object, ...]:
        """Another one whenever a `snapshot`, but for its `now`, or a place in the queue is another than before: at a
        change, a team, a run, what happens to it, a choice, results that were scored again, a lease that is renewed or
        has run out, a try whose time has come, and midnight, as attempts are of a day. It costs little to ask for.

        Rows are counted, as PostgreSQL can show those with lower numbers after those with higher ones.
        """
        with self.database.read() as connection:
            now = self._now(connection)
            tables = (_change, _team, _run, _event, schema.choice, schema.rescored)
            counts = connection.execute(
                select(*(select(func.count()).select_from(table).scalar_subquery() for table in tables))
            )
            ready = select(func.count()).where(_job.c.token.is_(None), _job.c.available_at <= now)
            held = select(_job.c.run_id, _job.c.expires_at).where(_job.c.token.is_not(None)).order_by(_job.c.run_id)
            leases = tuple((run, expires_at, expires_at < now) for run, expires_at in connection.execute(held))
            return (*counts.one(), connection.execute(ready).scalar_one(), leases, self.season.day(now))

    def retry(self, submission: int, test_set: str, reason: str, by: str | None = None) -> None:
        """Queue another run of a submission that has none under way and no score that the board shows; it is `by`
        whom that is entered, where that is known.

        Raises `Refused` otherwise, and where the submission never had a run on this test set, or does not count.
        """
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)  # not while another change may queue the same
            view = self._view(connection)
            state = queries.locked_state(connection, view, submission, test_set)
            queries.check_counts(connection, view, submission, test_set)
            if state.pending:
                raise Refused(f"submission {submission} ({test_set}) is {state.kind} already")
            if submission in {result.submission for result in queries.read_results(connection, view, test_set)}:
                raise Refused(f"submission {submission} ({test_set}) has its score, which stays")
            self._queue_again(connection, state, {"retry_of": state.run} | queries.said_by(reason, by))

    def queue(self, submissions: Iterable[int], test_set: str, reason: str, by: str | None = None) -> list[int]:
        """Queue runs on a test set of submissions that have none under way and no score there; returns those. It
        costs no attempt, unless it is the first result on the public test set.

        Raises `Refused` for a submission or a test set that is not there, or was withdrawn.
        """
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)  # two at once would queue each run twice
            view = self._view(connection)
            queries.check_set(view, test_set)
            have = {result.submission for result in queries.read_results(connection, view, test_set)}
            have |= set(
                connection.execute(
                    select(_job.c.submission_id)
                    .join(_run, _run.c.id == _job.c.run_id)
                    .where(_run.c.test_set == test_set)
                ).scalars()
            )
            now, new = self._now(connection), []
            for submission in sorted(set(submissions)):
                queries.check_counts(connection, view, submission, test_set)
                if submission not in have:
                    self._queue(connection, submission, test_set, 0, now, now, queries.said_by(reason, by))
                    new.append(submission)
            return new

    def _queue_again(self, connection: Connection, state: RunState, detail: dict[str, Any]) -> None:
        now = self._now(connection)
        self._queue(connection, state.submission.id, state.test_set, 0, now, now, detail)

    def cancel(self, submission: int, test_set: str, reason: str, by: str | None = None) -> None:
        """End a run that waits or runs, whose worker stops it at its next heartbeat; or give up a submission whose run
        failed by no fault of the team's: the run that it would get is queued and cancelled. It costs no attempt.

        Raises `Refused` where there is none.
        """
        with self.database.write() as connection:
            view, said = self._view(connection), queries.said_by(reason, by)
            state = queries.locked_state(connection, view, submission, test_set)
            if not state.waits:
                raise Refused(f"submission {submission} ({test_set}) is not waiting or running: {state.name}")
            if not state.pending:
                self._queue_again(connection, state, said | {"retry_of": state.run})
                state = queries.locked_state(connection, view, submission, test_set)
            self._end(connection, state.run, "cancelled", said)

    def take_back(self, team: str, submission: int, by: str | None = None) -> None:
        """End a run on the public test set that waits, as its team asks for. It costs no attempt; the team can send the
        same ZIP again (`send_again`). As ZIPs are kept, a team takes back as many a day as it has invalid attempts.

        Raises `Refused` where it has begun, or nothing waits, or the day has no more, and where there is no such team.
        Of a submission of another team's it says what it says of none.
        """
        said = queries.said_by(TAKEN_BACK, by)
        with self.database.write() as connection:
            view = self._view(connection)
            found = view.find(team)
            its = queries.of_team(view, found), _submission.c.id == submission
            if connection.execute(select(_submission.c.id).where(*its)).first() is None:
                raise Refused(f"submission {submission} is none of team {show(found.name)}'s")
            state = queries.locked_state(connection, view, submission, PUBLIC)
            if state.kind != "queued":
                raise Refused(f"submission {submission} does not wait: {state.name}")
            day, most = state.submission.day, view.season.invalid_a_day
            where = (queries.of_team(view, found), queries.of_day(view, day), _run.c.test_set == PUBLIC)
            of_day = [each for each in queries.read_states(connection, view, *where) if each.submission.day == day]
            if sum(map(_is_taken_back, of_day)) >= most:
                raise Refused(f"team {show(found.name)} has taken back {most} submissions of {day}: it may no more")
            self._end(connection, state.run, "cancelled", said)

    def send_again(self, team: str, submission: int, by: str | None = None) -> bool:
        """Queue a submission anew whose ZIP its team sends once more, if the team took it back; False where it did
        not: nothing is changed then.

        Raises `Refused` on another day, since its attempt is one of the day that it was sent on, and as `admit`.
        """
        with self.database.write() as connection:
            found, view = self._locked_team(connection, team)
            state = queries.locked_state(connection, view, submission, PUBLIC)
            if not _is_taken_back(state) or state.is_out or state.charged:
                return False
            day = self.season.day(self._now(connection))
            if day != state.submission.day:
                raise Refused(
                    f"this ZIP was sent on {state.submission.day} as submission {submission}, and taken back: it could"
                    " be sent again on that day alone; ask the organizers, or send another ZIP"
                )
            self._check_open(connection, view, found, day)
            self._queue_again(connection, state, {"retry_of": state.run} | queries.said_by(SENT_AGAIN, by))
            return True

    def queue_finals(self, reason: str | None = None, by: str | None = None) -> list[int]:
        """Queue the runs on the private test set that the private board needs and that were never queued; returns
        their submissions. `reason` and `by` are why and who does it, as far as that is known.

        Raises `Refused` while teams can still choose.
        """
        said = queries.said_by(reason, by)
        with self.database.write() as connection:
            for name in sorted(TEST_SETS):
                queries.lock_set(connection, name)  # two at once would queue each run twice
            now, view = self._now(connection), self._view(connection)
            season = view.season
            if season.day(now) <= season.choose_until:
                raise Refused(f"choices are open until {season.choose_until}, so the finals are not known yet")
            wanted = finals(
                queries.read_results(connection, view, PUBLIC), queries.read_choices(connection, view), season.chosen
            )
            queued = set(connection.execute(select(_run.c.submission_id).where(_run.c.test_set == PRIVATE)).scalars())
            new = sorted({submission for of_team in wanted.values() for submission in of_team} - queued)
            for submission in new:
                self._queue(connection, submission, PRIVATE, 0, now, now, said)
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
                .where(_job.c.token.is_(None), _job.c.available_at <= now, ~queries.is_of(view, without))
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
            queries.append_event(connection, found.run_id, "running", now, {"worker": worker})
            view = self._view(connection)  # the run may be one on a test set that was added meanwhile
            submission = queries.get_submission(connection, view, found.submission_id)
            data = view.season.data[found.test_set]
            return Job(found.run_id, token, submission, found.test_set, found.failures, data)

    def beat(self, jobs: Iterable[Job]) -> set[int]:
        """Renew the leases; returns the runs that are still held."""
        with self.database.write() as connection:
            expires_at = self._now(connection) + timedelta(seconds=self.season.lease_seconds)
            held = set()
            for job in sorted(jobs, key=lambda job: job.run):  # in one order, so that two cannot wait for each other
                renewed = connection.execute(update(_job).where(*queries.lease(job)).values(expires_at=expires_at))
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
            queries.lock_set(connection, job.test_set)  # before the run, as changes do
            if not self._held(connection, job):
                return None
            total, edition = None, None
            if end.verdict == OK.name:
                end, total, edition = self._comparable(connection, job, end)
            submission, test_set = job.submission.id, job.test_set
            if total is not None and queries.in_edition(connection, test_set, edition, submission):
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
                    queries.enter_rescored(connection, edition, test_set, submission, job.run, total, end.scores)
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
                raise DataError(f"there is no run {run}; `python -m evaluator runs` names them")
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
            left_out = and_(_job.c.token.is_(None), queries.is_of(self._view(connection), without))
            return connection.execute(select(func.count()).select_from(_job).where(~left_out)).scalar_one()

    def queued(self, without: Collection[str] = ()) -> Queued:
        """What is in the queue, those of the teams `without` apart."""
        with self.database.read() as connection:
            now, aside = self._now(connection), queries.is_of(self._view(connection), without)
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
        return (
            connection.execute(select(_job.c.run_id).where(*queries.lease(job)).with_for_update()).first() is not None
        )

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
        if impossible := queries.impossible(season, end.scores):
            return RunEnd.infra(impossible, end.detail), None, None
        labels = sorted(set(end.detail.get("labels") or ()))
        if row.data_digest is None:
            pinned = {
                "data_digest": end.data_digest,
                "weights": queries.formula_weights(season),
                "labels": labels,
                "competition": competition.digest,
                "best": queries.best_score(season),
                "evaluator": end.evaluator,
            }
            connection.execute(update(_test_set).where(_test_set.c.name == job.test_set).values(**pinned))
            return end, total, None
        editions = queries.read_editions(connection, view, job.test_set)
        current = [edition for edition in editions if edition.holds][-1]
        if current.weights != queries.formula_weights(season):
            found = f"earlier {job.test_set} results were made with the weights {current.weights}"
            return RunEnd.organizers(found, end.detail), None, None
        difference = current.difference(end, labels)
        if difference is None:
            return end, total, current.id
        for edition in editions:
            if edition.difference(end, labels) is None and edition.weights.keys() <= {str(task) for task in end.scores}:
                return end, queries.total_of(season, edition.weights, end.scores), edition.id
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
        queries.append_event(connection, run, "queued", now, detail)

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
        queries.append_event(connection, run, kind, now, detail, verdict, fault)
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
            return queries.read_results(connection, self._view(connection), test_set)

    def choices(self) -> list[Choice]:
        """Every team's last choice."""
        with self.database.read() as connection:
            return queries.read_choices(connection, self._view(connection))

    def scores(self, results: Iterable[BoardResult]) -> dict[int, dict[int, float]]:
        """Scores by task number of each of these results, by run."""
        results = list(results)
        scores: dict[int, dict[int, float]] = {result.run: {} for result in results}
        wanted = sorted(result.run for result in results if result.rescored is None)
        with self.database.read() as connection:
            for start in range(0, len(wanted), queries.AT_ONCE):
                rows = select(_score).where(_score.c.run_id.in_(wanted[start : start + queries.AT_ONCE]))
                for run, task, value in connection.execute(rows.order_by(_score.c.task)):
                    scores[run][task] = value
            return scores | queries.read_rescored_scores(connection, results)

    def edition(self, test_set: str) -> Edition | None:
        """What the results of a test set that the board shows have in common; None before the first."""
        with self.database.read() as connection:
            return queries.current_edition(connection, self._view(connection), test_set)

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
        detail: Callable[[queries.View], Mapping[str, Any]] = lambda view: {},
        undoes: Callable[[queries.View], int] | None = None,
        check: Callable[[queries.View], None] = lambda view: None,
    ) -> Change:
        """Enter a change, and what follows from it at once: what waits of a submission that counts no more is
        cancelled, what a change that was undone had cancelled is queued anew. `check` may refuse it, `undoes` finds the
        change that it takes back, which one that was done again is by undoing what did it again.

        Raises `DataError` where who or why is no line of text, `Refused` where the change cannot be, as for names that
        would look alike.
        """
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)  # one after another
            view = self._view(connection)
            check(view)
            if submission is not None:
                queries.check_submission(connection, submission)
            values: dict[str, Any] = queries.said_by(reason, by) | {
                "kind": kind,
                "team_id": None if team is None else view.find(team).id,
                "submission_id": submission,
                "test_set": test_set,
                "detail": dict(detail(view)),
                "undoes": None if undoes is None else changes.last_undoing(view.changes, undoes(view)),
            }
            change = self._record(connection, view, values)
            queries.check_editions(connection, view, queries.read_view(connection, self.season))
            return change

    def _record(self, connection: Connection, before: queries.View, values: Mapping[str, Any]) -> Change:
        now = self._now(connection)
        id = connection.execute(insert(_change).values(at=now, **values).returning(_change.c.id)).scalar_one()
        after = queries.read_view(connection, self.season)
        queries.check_view(before, after)
        teams = queries.read_submitters(connection)
        waiting = select(_job.c.run_id, _job.c.submission_id, _run.c.test_set).join(_run, _run.c.id == _job.c.run_id)
        ends = [run for run, of, test_set in connection.execute(waiting) if after.is_out(of, teams[of], test_set)]
        jobs = select(_job.c.run_id).where(_job.c.run_id.in_(ends)).order_by(_job.c.run_id)
        connection.execute(jobs.with_for_update())  # whoever works on one ends it before, or not at all
        detail = {"reason": values["reason"], "by": values["by"], "change": id}
        for state in queries.read_states(connection, after):
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
            others = data if weights is None else self._view(connection).season.data
            for name in sorted({PUBLIC, *editions, *others}):
                queries.lock_set(connection, name)
            view = self._view(connection)
            current = {name: queries.current_edition(connection, view, name) for name in editions}
            for name, edition in current.items():
                if edition is None or edition.id != shown[name]:
                    raise Refused(f"the {name} results were scored again by somebody else meanwhile; do this again")
            for name in others:
                if name not in editions and queries.current_edition(connection, view, name) is not None:
                    raise Refused(f"the {name} results are not among those that were scored again; do this again")
            data = {
                name: folder for name, folder in data.items() if view.season.folder / folder != view.season.data[name]
            }
            season = view.season.changed({}, view.season.data, weights)
            formula = queries.formula_weights(season)
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
                values = queries.said_by(reason, by) | {"kind": changes.RESCORED, "detail": detail, "undoes": None}
                change = self._record(connection, view, values)
                for name in detail["sets"]:
                    ids[name] = queries.enter_edition(connection, season, change.id, name, editions[name])
            for name, id in ids.items():
                have = queries.in_edition(connection, name, id)
                for submission, (run, scores) in editions[name].scores.items():
                    if submission not in have:
                        if found := queries.impossible(season, scores):
                            raise EvaluatorError(f"submission {submission} ({name}): {found}")
                        total = queries.total_of(season, formula, scores)
                        queries.enter_rescored(connection, id, name, submission, run, total, scores)
            return change

    def add_test_set(self, by: str, reason: str, name: str, data: str) -> Change:
        """Add a test set in the folder `data`. Raises `Refused` where there is, or was, one of this name."""
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)
            view = self._view(connection)
            if connection.execute(select(_test_set.c.name).where(_test_set.c.name == name)).first() is not None:
                raise Refused(f"test set {show(name)}: there is, or was, one of this name")
            connection.execute(insert(_test_set).values(name=name))
            detail = {"data": {name: data}}
            values = queries.said_by(reason, by) | {"kind": changes.SET_ADDED, "detail": detail, "undoes": None}
            return self._record(connection, view, values | {"test_set": name})

    def import_teams(
        self, by: str, reason: str, rows: Sequence[tuple[str, Mapping[str, Any]]], dry_run: bool = False
    ) -> tuple[int, int]:
        """Add the teams that are not there yet, each with its `members` and `contact` as far as they are given, and
        change those of the others where they differ; all, or nothing, which a `dry_run` does. Returns how many were
        added, and how many changed.

        Raises `Refused` with a line for each name that cannot be, or comes twice.
        """
        with self.database.write() as connection:
            queries.lock_set(connection, PUBLIC)
            faults: list[str] = []
            seen: set[str] = set()
            added = changed = 0
            for name, given in rows:
                if queries.name_key(name) in seen:
                    faults.append(f"team {show(name)}: comes twice")
                    continue
                seen.add(queries.name_key(name))
                view = queries.read_view(connection, self.season)
                known = [team for team in view.teams.values() if queries.name_key(team.name) == queries.name_key(name)]
                try:
                    team = known[0] if known else self._add_team(connection, view, name)
                except Refused as refused:
                    faults += refused.reasons
                    continue
                added += not known
                before: dict[str, Any] = {"members": list(team.members), "contact": team.contact}
                if (after := before | dict(given)) != before or not known:
                    changed += bool(known)
                    self._enter_members(connection, queries.said_by(reason, by), team, after)
            if faults:
                raise Refused(faults)
            if dry_run:
                connection.rollback()
            return added, changed

    def now(self) -> datetime:
        """The database's clock."""
        with self.database.read() as connection:
            return self._now(connection)

    def kept_outputs(self, runs: Sequence[int]) -> dict[int, str]:
        """The digests of what these runs answered, by run, of those that kept it."""
        found: dict[int, str] = {}
        with self.database.read() as connection:
            for start in range(0, len(runs), queries.AT_ONCE):
                wanted = and_(_event.c.run_id.in_(runs[start : start + queries.AT_ONCE]), _event.c.kind == "done")
                for run, detail in connection.execute(select(_event.c.run_id, _event.c.detail).where(wanted)):
                    if digest := detail.get("output_sha256"):
                        found[run] = digest
        return found

    def runs_of(self, test_set: str) -> list[BoardResult]:
        """A result for each submission that has one on a test set, of those too that do not count, in whatever edition:
        the one that the board shows, else its latest.
        """
        with self.database.read() as connection:
            return queries.read_results(connection, self._view(connection), test_set, all_editions=True)


def _is_taken_back(state: RunState) -> bool:
    return state.kind == "cancelled" and state.detail.get("reason") == TAKEN_BACK
