"""What a team sees of its own submissions: as pages show it and the API gives it out.

Of an infrastructure failure a team sees that it was one; of runs on the private test set, nothing before the organizers
show it; of other test sets nothing at all.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pydantic import BaseModel

from evaluator.season import PRIVATE, PUBLIC
from evaluator.season.board import BoardResult
from evaluator.season.ledger import RunState, Snapshot, Team


class RunView(BaseModel):
    """A run on a test set. `state` is queued, running, done, lost, interrupted or cancelled; `verdict` that of one that
    is done. `waits_for_organizers` tells of an infrastructure failure: there is nothing for the team to do.
    """

    test_set: str
    state: str
    verdict: str | None
    at: datetime
    score: float | None
    tasks: dict[str, float]
    fix: str | None
    findings: list[dict[str, Any]]
    seconds: float | None
    peak_memory: float | None
    waits_for_organizers: bool


class SubmissionView(BaseModel):
    """A submission. `state` and `verdict` are those of its run on the public test set, `score` and `tasks` what that
    scored, by the names of tasks.
    """

    submission: int
    name: str
    digest: str
    bytes: int
    submitted_at: datetime
    day: date
    withdrawn: bool
    state: str
    verdict: str | None
    score: float | None
    tasks: dict[str, float]
    fix: str | None
    findings: list[dict[str, Any]]
    runs: list[RunView]


def shown_sets(snapshot: Snapshot) -> tuple[str, ...]:
    """The test sets of which teams see their own runs."""
    return (PUBLIC, PRIVATE) if snapshot.private_shown else (PUBLIC,)


def name(snapshot: Snapshot, team: Team) -> str | None:
    """What a team was called in a snapshot, which may be older than `team`: its name may have been another's then. None
    where it was not there yet.
    """
    return next((each.name for each in snapshot.teams if each.id == team.id), None)


def submissions(snapshot: Snapshot, team: Team) -> list[SubmissionView]:
    """A team's, the newest first."""
    shown, its = shown_sets(snapshot), name(snapshot, team)
    results = {
        (result.submission, test_set): result
        for test_set in shown
        for result in snapshot.results(test_set)
        if result.team == its
    }
    states: dict[int, list[RunState]] = {}
    for state in snapshot.states:
        if state.submission.team == its and state.test_set in shown:
            states.setdefault(state.submission.id, []).append(state)
    return [_submission(snapshot, own, results) for _, own in sorted(states.items(), reverse=True)]


def submission(snapshot: Snapshot, team: Team, id: int) -> SubmissionView | None:
    """One of a team's; None where it is none."""
    return next((each for each in submissions(snapshot, team) if each.submission == id), None)


def _submission(
    snapshot: Snapshot, states: Sequence[RunState], results: Mapping[tuple[int, str], BoardResult]
) -> SubmissionView:
    sent = states[0].submission
    runs = [_run(snapshot, state, results.get((sent.id, state.test_set))) for state in states]
    public = next(run for run in runs if run.test_set == PUBLIC)
    return SubmissionView(
        submission=sent.id,
        name=sent.name,
        digest=sent.digest,
        bytes=sent.bytes,
        submitted_at=sent.submitted_at.astimezone(snapshot.season.zone),
        day=sent.day,
        withdrawn=sent.withdrawn,
        state=public.state,
        verdict=public.verdict,
        score=public.score,
        tasks=public.tasks,
        fix=public.fix,
        findings=public.findings,
        runs=runs,
    )


def _run(snapshot: Snapshot, state: RunState, result: BoardResult | None) -> RunView:
    names, detail = snapshot.season.competition.names, state.detail
    is_done = state.kind == "done"
    is_teams = is_done and state.fault == "team"
    scores = {} if result is None else snapshot.all_scores.get(result.run, {})

    def number(name: str) -> float | None:
        value = detail.get(name) if is_done else None
        return float(value) if isinstance(value, int | float) else None

    return RunView(
        test_set=state.test_set,
        state=state.kind,
        verdict=state.verdict,
        at=state.at.astimezone(snapshot.season.zone),
        score=None if result is None else result.total,
        tasks={names[task]: value for task, value in scores.items()},
        fix=(str(detail.get("fix") or "") or None) if is_teams else None,
        findings=list(detail.get("findings") or ()) if is_teams else [],
        seconds=number("seconds"),
        peak_memory=number("peak_memory"),
        waits_for_organizers=state.is_infrastructure_failure,
    )
