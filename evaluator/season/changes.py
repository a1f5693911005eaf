"""What organizers change in a season that runs: teams, submissions, deadlines, test sets, the formula.

season.toml has the rules at the start; each `Change` since is an event with who, when and why. None is ever removed:
one that was wrong is undone by another. `standing` says what holds, of the rules and of the changes that are in force.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from evaluator.core.errors import show
from evaluator.season.config import Season

# Of teams. One that is removed or disqualified has no place on any board, one that is out of competition no rank there.
RENAMED, MEMBERS, MERGED, EXTENDED = "renamed", "members", "merged", "extended"
REMOVED, DISQUALIFIED, OUT_OF_COMPETITION = "removed", "disqualified", "out of competition"
# Of submissions.
WITHDRAWN, DATED = "withdrawn", "dated"
# Of the season: what `RULES` names, until when results are on the public board, that everybody may see the private one,
# and what is said to all.
RULES_CHANGED, FROZEN, PRIVATE_SHOWN, ANNOUNCED = "rules", "frozen", "private board shown", "announced"
# Of test sets.
SET_ADDED, SET_WITHDRAWN, RESCORED = "test set added", "test set withdrawn", "rescored"
UNDONE = "undone"

# Keys of season.toml that can be changed: those of [season] and of [attempts].
DEADLINES = ("start", "end", "choose_until")
ATTEMPTS = ("valid_a_day", "invalid_a_day", "chosen")

Status = Literal["removed", "disqualified", "out of competition"]


@dataclass(frozen=True)
class Change:
    """A row of the table: `team`, `submission` and `test_set` are what it is about, `undoes` the change that it takes
    back; `detail` is of its kind.
    """

    id: int
    at: datetime
    by: str
    kind: str
    team: int | None
    submission: int | None
    test_set: str | None
    detail: Mapping[str, Any]
    reason: str
    undoes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As `changes list --json` has it."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "by": self.by,
            "kind": self.kind,
            "team": self.team,
            "submission": self.submission,
            "test_set": self.test_set,
            "detail": dict(self.detail),
            "reason": self.reason,
            "undoes": self.undoes,
        }


class Announcement(NamedTuple):
    """What is said to all since a moment, by the change of this number."""

    change: int
    at: datetime
    text: str


@dataclass(frozen=True)
class Standing:
    """What holds: the rules as they are now, and of teams and submissions, by number, what was changed.

    `merged` is each team's new number, also where that was merged again; `until` and `extra` are last days and
    attempts that single teams have; `days` those of submissions; `frozen_at` is the moment of the public board;
    `private_shown` says that everybody may see the private one, when choices are made; `announcements` are in the order
    of time.
    """

    season: Season
    names: Mapping[int, str] = field(default_factory=dict)
    members: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    status: Mapping[int, Status] = field(default_factory=dict)
    merged: Mapping[int, int] = field(default_factory=dict)
    until: Mapping[int, date] = field(default_factory=dict)
    extra: Mapping[tuple[int, date], int] = field(default_factory=dict)
    withdrawn: frozenset[int] = frozenset()
    days: Mapping[int, date] = field(default_factory=dict)
    frozen_at: datetime | None = None
    in_force: frozenset[int] = frozenset()
    private_shown: bool = False
    announcements: tuple[Announcement, ...] = ()

    def team(self, id: int) -> int:
        """The number of the team that a team's submissions are now."""
        return self.merged.get(id, id)

    def parts(self, id: int) -> list[int]:
        """The numbers of all teams that are this one now, its own first."""
        return [id, *(part for part, into in self.merged.items() if into == id)]

    def competes(self, id: int) -> bool:
        """Whether a team has a rank."""
        return id not in self.status

    def is_hidden(self, id: int) -> bool:
        """Whether a team stands on no board."""
        return self.status.get(id) in (REMOVED, DISQUALIFIED)

    def end(self, id: int) -> date:
        """The last day on which a team may send submissions."""
        return max(self.season.end, self.until.get(id, self.season.end))


def in_force(changes: Sequence[Change]) -> list[Change]:
    """Those that hold, in order: what another one that holds undoes does not, and an undoing changes nothing itself."""
    undone: set[int] = set()
    for change in reversed(changes):  # what undoes comes later
        if change.undoes is not None and change.id not in undone:
            undone.add(change.undoes)
    return [change for change in changes if change.id not in undone]


def standing(season: Season, changes: Sequence[Change]) -> Standing:
    """What holds, of the rules in season.toml and all changes in their order."""
    holding = in_force(changes)
    names: dict[int, str] = {}
    members: dict[int, Mapping[str, Any]] = {}
    status: dict[int, Status] = {}
    merged: dict[int, int] = {}
    until: dict[int, date] = {}
    extra: dict[tuple[int, date], int] = {}
    withdrawn: set[int] = set()
    days: dict[int, date] = {}
    frozen_at: datetime | None = None
    for change in holding:
        detail, team, submission = change.detail, change.team, change.submission
        match change.kind:
            case "renamed" if team is not None:
                names[team] = detail["name"]
            case "members" if team is not None:
                members[team] = detail
            case "removed" | "disqualified" | "out of competition" if team is not None:
                status[team] = change.kind
            case "merged" if team is not None:
                merged[team] = detail["into"]
            case "extended" if team is not None:
                if "until" in detail:
                    until[team] = date.fromisoformat(detail["until"])
                if "attempts" in detail:
                    day = date.fromisoformat(detail["day"])
                    extra[team, day] = extra.get((team, day), 0) + detail["attempts"]
            case "withdrawn" if submission is not None:
                withdrawn.add(submission)
            case "dated" if submission is not None:
                days[submission] = date.fromisoformat(detail["day"])
            case "frozen":
                frozen_at = datetime.fromisoformat(detail["at"])
    return Standing(
        _changed(season, holding),
        names,
        members,
        status,
        _ends(merged),
        until,
        extra,
        frozenset(withdrawn),
        days,
        frozen_at,
        frozenset(change.id for change in holding),
        any(change.kind == PRIVATE_SHOWN for change in holding),
        tuple(Announcement(each.id, each.at, each.detail["text"]) for each in holding if each.kind == ANNOUNCED),
    )


def rules_fault(season: Season) -> str | None:
    """What is wrong with the days of changed rules, if anything."""
    for first, second in zip(DEADLINES, DEADLINES[1:], strict=False):
        if getattr(season, second) < getattr(season, first):
            return f"{second} must be a day not before {first}, {getattr(season, first)}, not {getattr(season, second)}"
    return None


def last_undoing(changes: Iterable[Change], change: int) -> int:
    """Which change is to be undone so that this one, which holds, does not: itself, or what did it again last."""
    by = {each.undoes: each.id for each in changes if each.undoes is not None}
    while change in by:
        change = by[change]
    return change


def _ends(merged: Mapping[int, int]) -> dict[int, int]:
    """Where chains of merged teams end. Of a circle, which the ledger refuses, anywhere in it."""
    ends = {}
    for team, into in merged.items():
        seen = {team}
        while into in merged and into not in seen:
            seen.add(into)
            into = merged[into]
        ends[team] = into
    return ends


def _changed(season: Season, holding: Iterable[Change]) -> Season:
    """The rules with what was changed of them. A test set that is withdrawn, or was not added, stays away, whatever
    was said of its data.
    """
    values: dict[str, Any] = {}
    data = dict(season.data)
    withdrawn: set[str] = set()
    weights: dict[int, float] | None = None
    for change in holding:
        if change.kind == RULES_CHANGED:
            values |= {
                key: date.fromisoformat(value) if key in DEADLINES else value for key, value in change.detail.items()
            }
        elif change.kind in (SET_ADDED, RESCORED):
            for name, path in change.detail.get("data", {}).items():
                if name in data or change.kind == SET_ADDED:
                    data[name] = season.folder / path
            if "weights" in change.detail:
                weights = {int(task): weight for task, weight in change.detail["weights"].items()}
        elif change.kind == SET_WITHDRAWN and change.test_set is not None:
            withdrawn.add(change.test_set)
    kept = {name: folder for name, folder in data.items() if name not in withdrawn}
    return season.changed(values, kept, weights)


def describe(change: Change, teams: Mapping[int, str]) -> str:
    """One line for people: what was changed."""
    detail = change.detail
    team = detail.get("was") or teams.get(change.team or 0, f"number {change.team}")
    about = [
        show(team) if change.team is not None else "",
        f"submission {change.submission}" if change.submission is not None else "",
        change.test_set or "",
    ]
    what = {
        UNDONE: lambda: f"undoes change {change.undoes}",
        RENAMED: lambda: f"renamed to {show(detail['name'])}",
        MERGED: lambda: f"merged into {show(teams.get(detail['into'], detail['into']))}",
        MEMBERS: lambda: (
            f"members {', '.join(detail.get('members', ())) or 'none'}; contact {detail.get('contact', '')}"
        ),
        ANNOUNCED: lambda: f"{ANNOUNCED}: {detail['text']}",
        SET_ADDED: lambda: f"{SET_ADDED}: {', '.join(detail['data'].values())}",
        RESCORED: lambda: "; ".join(
            [
                f"rescored: {', '.join(detail['sets'])}",
                *(f"{name} by {path}" for name, path in detail.get("data", {}).items()),
                *_weights(detail.get("weights", {})),
            ]
        ),
    }.get(change.kind, lambda: " ".join([change.kind, *(f"{key} = {value}" for key, value in detail.items())]))()
    return ": ".join([" ".join(filter(None, about)), what]) if any(about) else what


def _weights(weights: Mapping[str, float]) -> list[str]:
    return [f"weights {', '.join(f'{task}={weight:g}' for task, weight in weights.items())}"] if weights else []
