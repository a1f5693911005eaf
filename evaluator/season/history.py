"""What happened to runs and what they wait for, as rows for an organizer to see."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import select

from evaluator.core.errors import show
from evaluator.season import PRIVATE, PUBLIC, schema
from evaluator.season.config import Season
from evaluator.season.ledger import Event, Ledger, Queued, Refused, RunState, Snapshot, Submission, reason


@dataclass(frozen=True)
class _Row:
    @classmethod
    def columns(cls) -> list[str]:
        """Their names."""
        return [field.name for field in fields(cls)]

    def to_json(self, season: Season) -> dict[str, Any]:
        """The row by column; moments are those of the season's time zone, in ISO 8601."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: season.moment(value) if isinstance(value, datetime) else value for name, value in values.items()}


@dataclass(frozen=True)
class RunRow(_Row):
    """A run. `state` is the last of `schema.STEPS` that happened to it, `failures` how many infrastructure failures
    went before it; `next_try` is when a queued one can start, where that is not yet; `overdue_since` is when its lease
    ran out, where nobody has noticed yet. `reason` says why it ended so, or why it is queued again.
    """

    run: int
    submission: int
    team: str
    test_set: str
    state: str
    verdict: str | None
    fault: str | None
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    failures: int
    worker: str | None
    next_try: datetime | None
    overdue_since: datetime | None
    reason: str

    @property
    def last_at(self) -> datetime:
        """When something happened to it last."""
        return self.ended_at or self.started_at or self.queued_at


@dataclass(frozen=True)
class EventRow(_Row):
    """What happened to a run; `state` is one of `schema.STEPS`, `by` is who did it, where that is known."""

    at: datetime
    run: int
    submission: int
    team: str
    test_set: str
    state: str
    verdict: str | None
    reason: str
    by: str


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted: those of a team (by its name as it is kept), a test set, a verdict, a state, and of what
    happened last from `since` on; None: of all.
    """

    team: str | None = None
    test_set: str | None = None
    verdict: str | None = None
    state: str | None = None
    since: datetime | None = None

    def has(self, row: RunRow | EventRow) -> bool:
        """Whether a row is one of them."""
        at = row.last_at if isinstance(row, RunRow) else row.at
        wanted = ((self.team, row.team), (self.test_set, row.test_set), (self.verdict, row.verdict))
        return all(one is None or one == other for one, other in (*wanted, (self.state, row.state))) and (
            self.since is None or at >= self.since
        )


class History:
    """All runs of a ledger at one moment."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        run = schema.run
        with ledger.database.read() as connection:
            columns = select(run.c.id, run.c.submission_id, run.c.failures)
            self._runs = {id: (submission, failures) for id, submission, failures in connection.execute(columns)}
        self.snapshot: Snapshot = ledger.snapshot()
        self._submissions: dict[int, Submission] = {
            state.submission.id: state.submission for state in self.snapshot.states
        }
        self._latest: dict[int, RunState] = {state.run: state for state in self.snapshot.states}
        self._lives: dict[int, list[Event]] = {}
        for event in self.snapshot.events:
            if event.run in self._runs:  # not one that was queued between the two reads
                self._lives.setdefault(event.run, []).append(event)

    def runs(self, wanted: Selection | None = None) -> list[RunRow]:
        """By their numbers."""
        rows = (self._row(run, life) for run, life in sorted(self._lives.items()))
        return [row for row in rows if (wanted or Selection()).has(row)]

    def events(self, wanted: Selection | None = None) -> list[EventRow]:
        """In the order in which they happened."""
        found = sorted(
            (event for life in self._lives.values() for event in life),
            key=lambda event: (event.at, event.run, schema.STEPS[event.kind]),
        )
        rows = (self._event(event) for event in found)
        return [row for row in rows if (wanted or Selection()).has(row)]

    @property
    def season(self) -> Season:
        """Whose runs they are."""
        return self.snapshot.season

    def select(
        self,
        team: str | None = None,
        test_set: str | None = None,
        verdict: str | None = None,
        state: str | None = None,
        since: datetime | None = None,
    ) -> Selection:
        """A selection by a team's name as a person writes it, and by a moment of the season's time zone, where that
        names none. Raises `Refused` for a team or a test set that is not there.
        """
        if test_set is not None and test_set not in (known := {PUBLIC, PRIVATE} | self.snapshot.season.data.keys()):
            raise Refused(f"test set {show(test_set)}: must be one of {', '.join(sorted(known))}")
        named = None if team is None else self._ledger.team(team).name
        moment = since.replace(tzinfo=self.season.zone) if since is not None and since.tzinfo is None else since
        return Selection(named, test_set, verdict, state, moment)

    def of(self, submission: int) -> list[EventRow]:
        """All that happened to a submission's runs, run by run. Raises `Refused` where there is no such one."""
        if submission not in self._submissions:
            raise Refused(f"there is no submission {submission}")
        return sorted(
            (row for row in self.events() if row.submission == submission),
            key=lambda row: (row.run, schema.STEPS[row.state]),
        )

    def waiting(self) -> list[RunRow]:
        """Runs that have not ended, and those that wait for somebody to retry or cancel them; by submission."""
        runs = [state.run for state in self.snapshot.states if state.waits]  # in the order of submissions
        return [self._row(run, self._lives[run]) for run in runs if run in self._lives]

    def _row(self, run: int, life: list[Event]) -> RunRow:
        number, failures = self._runs[run]
        submission, state = self._submissions[number], self._latest.get(run)
        at = {schema.STEPS[event.kind]: event.at for event in life}
        last, now = life[-1], self.snapshot.now
        available = state.available_at if state is not None and last.kind == "queued" else None
        expires = state.expires_at if state is not None and last.kind == "running" else None
        started = next((event for event in life if event.kind == "running"), None)
        return RunRow(
            run,
            number,
            submission.team,
            last.test_set,
            last.kind,
            last.verdict,
            last.fault,
            at[schema.STEPS["queued"]],
            at.get(schema.STEPS["running"]),
            at.get(schema.STEPS["done"]),
            failures,
            str(started.detail.get("worker") or "") if started else None,
            available if available is not None and available > now else None,
            expires if expires is not None and expires < now else None,
            self._why(last),
        )

    def _event(self, event: Event) -> EventRow:
        number = self._runs[event.run][0]
        team = self._submissions[number].team
        said = self._why(event) or str(event.detail.get("worker") or "")
        by = str(event.detail.get("by") or "")
        return EventRow(event.at, event.run, number, team, event.test_set, event.kind, event.verdict, said, by)

    def _why(self, event: Event) -> str:
        """Why; of a run that is queued again how the one before it ended, and why that did."""
        before = self._lives.get(event.detail.get("retry_of") or 0)
        said = _reason(event.detail)
        if before is None or event.kind != "queued":
            return said
        return f"{said}: {ended}" if (ended := _reason(before[-1].detail)) and ended != said else said


def _reason(detail: Mapping[str, Any]) -> str:
    said = reason(detail)
    return f"{said}: {detail['log']}" if detail.get("log") else said


def waits_for(queued: Queued, season: Season) -> str:
    """What a queue that has nothing to start waits for; the same as long as it waits for the same."""
    said = [f"{_runs(queued.ready)} queued"] if queued.ready else []
    if queued.next_try is not None:
        at = f"{queued.next_try.astimezone(season.zone):%Y-%m-%d %H:%M:%S}"
        which = "its next try, at" if queued.later == 1 else "their next try, the first at"
        said.append(f"{_runs(queued.later)} queued for {which} {at}")
    if not said:
        said = ["nothing queued"]
    if queued.running:
        said.append("others run elsewhere")
    if queued.aside:
        said.append(f"{_runs(queued.aside)} of teams that are set aside")
    return "; ".join(said)


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
