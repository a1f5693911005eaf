"""What organizers list: teams, submissions, test sets, changes, each a row for people, JSON and tables."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from evaluator.season import PRIVATE, PUBLIC, changes
from evaluator.season.changes import Announcement, Change
from evaluator.season.config import Season
from evaluator.season.ledger import Attempts, Ledger, RunState, Snapshot, Team

BETWEEN = ", "  # members, in a table
CHANGE_COLUMNS = (*(field.name for field in fields(Change)), "what", "in_force", "undone_by")  # of `change_rows`
TEAM_COLUMNS = ("team", "members", "contact", "id", "status", "merged_into", "until")  # of `team_row`


@dataclass(frozen=True)
class SubmissionRow:
    """A submission: the state of its latest run on both test sets, and its total on the board's edition; None where
    there is none.
    """

    submission: int
    team: str
    day: date
    submitted_at: datetime
    digest: str
    public: RunState
    public_total: float | None
    private: RunState | None
    private_total: float | None
    withdrawn: bool

    @classmethod
    def columns(cls) -> list[str]:
        """The keys of `to_json`."""
        return [field.name for field in fields(cls)]

    def to_json(self, season: Season) -> dict[str, Any]:
        """As `submissions list` writes it."""
        return {
            "submission": self.submission,
            "team": self.team,
            "day": self.day.isoformat(),
            "submitted_at": season.moment(self.submitted_at),
            "digest": self.digest,
            "public": self.public.name,
            "public_total": self.public_total,
            "private": None if self.private is None else self.private.name,
            "private_total": self.private_total,
            "withdrawn": self.withdrawn,
        }

    def is_in(self, state: str) -> bool:
        """Whether one of its runs is in a state, or has a verdict, of this name."""
        runs = [run for run in (self.public, self.private) if run is not None]
        return any(state in (run.kind, run.verdict) for run in runs)


def submissions(
    ledger: Ledger,
    team: str | None = None,
    day: date | None = None,
    state: str | None = None,
    withdrawn: bool = False,
) -> list[SubmissionRow]:
    """All submissions, or those of a team, of a day, in a state (of `schema.STEPS`, or a verdict), withdrawn ones; in
    the order of their numbers. Raises `Refused` for a team that is not there.
    """
    wanted = None if team is None else ledger.team(team).name
    taken = ledger.snapshot()
    totals = {(name, result.submission): result.total for name in taken.season.data for result in taken.results(name)}
    private = {each.submission.id: each for each in taken.states if each.test_set == PRIVATE}
    rows = []
    for each in taken.states:
        sent = each.submission
        if each.test_set == PUBLIC and wanted in (None, sent.team) and day in (None, sent.day):
            row = SubmissionRow(
                sent.id,
                sent.team,
                sent.day,
                sent.submitted_at,
                sent.digest,
                each,
                totals.get((PUBLIC, sent.id)),
                private.get(sent.id),
                totals.get((PRIVATE, sent.id)),
                sent.withdrawn,
            )
            if (state is None or row.is_in(state)) and (sent.withdrawn or not withdrawn):
                rows.append(row)
    return rows


def team_row(team: Team, teams: Iterable[Team], attempts: Attempts | None = None) -> dict[str, Any]:
    """A team as `teams export` writes it, with `attempts` those of today."""
    names = {each.id: each.name for each in teams}
    row = {
        "team": team.name,
        "members": BETWEEN.join(team.members),
        "contact": team.contact,
        "id": team.id,
        "status": team.status or "",
        "merged_into": "" if team.into is None else names[team.into],
        "until": "" if team.until is None else team.until.isoformat(),
    }
    if attempts is not None:
        row |= attempts.counts()
    return row


def team_rows(taken: Snapshot) -> list[dict[str, Any]]:
    """A row for each team, with its attempts of today; 0 of all where it may send nothing."""
    none = Attempts(taken.season.day(taken.now), 0, 0, 0, 0, 0)
    return [team_row(team, taken.teams, taken.attempts.get(team.name, none)) for team in taken.teams]


def test_set_rows(ledger: Ledger) -> list[dict[str, Any]]:
    """A row for each test set: its folder, how many results it has, and what they have in common."""
    rows = []
    for name, folder in ledger.rules().data.items():
        edition = ledger.edition(name)
        rows.append(
            {
                "test_set": name,
                "data": str(folder),
                "results": len(ledger.results(name)),
                "digest": "" if edition is None else edition.data_digest,
                "labels": "" if edition is None else "; ".join(edition.labels),
            }
        )
    return rows


def change_rows(found: Sequence[Change], teams: Iterable[Team], season: Season) -> list[dict[str, Any]]:
    """A row for each change: what it was in a line, and whether it is in force."""
    holding = {change.id for change in changes.in_force(found)}
    undone = {change.undoes: change.id for change in found if change.undoes is not None and change.id in holding}
    names = {team.id: team.name for team in teams}
    return [
        change.to_json()
        | {
            "at": season.moment(change.at),
            "what": changes.describe(change, names),
            "in_force": change.id in holding,
            "undone_by": undone.get(change.id),
        }
        for change in found
    ]


def flat(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with the detail of a change as text, for tables."""
    return [row | {"detail": json.dumps(row["detail"], ensure_ascii=False)} for row in rows]


@dataclass(frozen=True)
class InForce:
    """A change that was just entered, in a line, and what holds now of what it is about: a team, a submission, the test
    sets, what is announced, or the rules, since when the public board is frozen and whether the private one is shown.
    """

    change: dict[str, Any]
    season: Season
    frozen_at: datetime | None = None
    private_shown: bool = False
    team: dict[str, Any] | None = None
    submission: SubmissionRow | None = None
    test_sets: Sequence[dict[str, Any]] | None = None
    announcements: Sequence[Announcement] | None = None

    def to_json(self) -> dict[str, Any]:
        """What the command that made the change writes."""
        now: dict[str, Any]
        if self.team is not None:
            now = {"team": self.team}
        elif self.submission is not None:
            now = {"submission": self.submission.to_json(self.season)}
        elif self.test_sets is not None:
            now = {"test_sets": list(self.test_sets)}
        elif self.announcements is not None:
            now = {
                "announcements": [
                    {"change": each.change, "at": self.season.moment(each.at), "text": each.text}
                    for each in self.announcements
                ]
            }
        else:
            days = {key: getattr(self.season, key).isoformat() for key in changes.DEADLINES}
            attempts = {key: getattr(self.season, key) for key in changes.ATTEMPTS}
            now = {
                "rules": days | attempts,
                "frozen_at": self.season.moment(self.frozen_at),
                "private_shown": self.private_shown,
            }
        return {"change": self.change, "in_force": now}


def in_force(ledger: Ledger, change: Change) -> InForce:
    """What holds after a change, of what it, or what it undoes, is about."""
    taken = ledger.snapshot()
    by_id = {each.id: each for each in taken.changes}
    (row,) = [row for row in change_rows(taken.changes, taken.teams, taken.season) if row["id"] == change.id]
    about = change
    while about.undoes is not None:
        about = by_id[about.undoes]
    if about.team is not None:
        (team,) = [each for each in team_rows(taken) if each["id"] == about.team]
        return InForce(row, taken.season, team=team)
    if about.submission is not None:
        (submission,) = [each for each in submissions(ledger) if each.submission == about.submission]
        return InForce(row, taken.season, submission=submission)
    if about.kind in (changes.SET_ADDED, changes.SET_WITHDRAWN, changes.RESCORED):
        return InForce(row, taken.season, test_sets=test_set_rows(ledger))
    if about.kind == changes.ANNOUNCED:
        return InForce(row, taken.season, announcements=taken.announcements)
    return InForce(row, taken.season, taken.frozen_at, taken.private_shown)
