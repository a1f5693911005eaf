"""What an organizer should look at: the same ZIP from two teams, and names of teams that look alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import select

from evaluator.core.errors import show
from evaluator.season import names, schema
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger, RunState, Snapshot, Submission


@dataclass(frozen=True)
class SameZip:
    """A ZIP that several teams sent: the submissions, the earliest first."""

    digest: str
    submissions: tuple[Submission, ...]

    def __str__(self) -> str:
        first, *others = self.submissions
        later = "; ".join(f"{_sent(one)} is the same ZIP" for one in others)
        return f"{_sent(first)}; {later}"

    def to_json(self, season: Season) -> dict[str, Any]:
        sent = [
            {
                "submission": one.id,
                "team": one.team,
                "file": one.name,
                "submitted_at": season.moment(one.submitted_at),
            }
            for one in self.submissions
        ]
        return {"kind": "same-zip", "digest": self.digest, "submissions": sent}


@dataclass(frozen=True)
class LookAlikes:
    """Two teams whose names are easily taken for each other."""

    teams: tuple[str, str]

    def __str__(self) -> str:
        return f"the teams {show(self.teams[0])} and {show(self.teams[1])} have names that look alike"

    def to_json(self, season: Season) -> dict[str, Any]:
        return {"kind": "look-alike-names", "teams": list(self.teams)}


Notice = SameZip | LookAlikes


def find(ledger: Ledger) -> list[Notice]:
    """All cases, by what is known now."""
    return of_snapshot(ledger.snapshot())


def of_snapshot(snapshot: Snapshot) -> list[Notice]:
    """All cases, by what was known then."""
    return [*same_zips(snapshot.states), *look_alikes(team.name for team in snapshot.teams)]


def same_zips(states: Iterable[RunState]) -> list[SameZip]:
    """The ZIPs that several teams sent, by the first time that each was sent."""
    sent: dict[str, dict[int, Submission]] = {}
    for state in states:
        sent.setdefault(state.submission.digest, {})[state.submission.id] = state.submission
    return [
        SameZip(digest, tuple(same[number] for number in sorted(same)))
        for digest, same in sent.items()
        if len({one.team for one in same.values()}) > 1
    ]


def look_alikes(teams: Iterable[str]) -> list[LookAlikes]:
    """Each pair of names that have a look in common."""
    return [LookAlikes(pair) for pair in combinations(teams, 2) if names.looks(pair[0]) & names.looks(pair[1])]


def same_zip(ledger: Ledger, submission: Submission) -> str:
    """A line where other teams sent the same ZIP as this submission; empty where none did."""
    sent = schema.submission.c
    with ledger.database.read() as connection:  # the whole ledger is looked at where there is something to see alone
        teams = connection.execute(select(sent.team_id).where(sent.digest == submission.digest).distinct()).all()
    found = same_zips(ledger.states()) if len(teams) > 1 else ()
    return "".join(f"look at this: {same}" for same in found if same.digest == submission.digest)


def _sent(submission: Submission) -> str:
    return f"submission {submission.id} of {show(submission.team)}"
