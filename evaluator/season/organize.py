"""What an organizer changes in a season that runs, a typed call each: teams, submissions, days, test sets. Each is
entered with who and why, is in force at once, and can be undone.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from evaluator.core.errors import DataError, show
from evaluator.core.validation import ONE_LINE, is_line
from evaluator.scoring import tables
from evaluator.season import PUBLIC, TEST_SETS, actions, board, changes, names
from evaluator.season.changes import Change
from evaluator.season.ledger import Ledger, Refused, Team, View
from evaluator.season.listing import BETWEEN

# Columns of the table of teams (`listing.team_row`), and those that an import passes over, as other commands change
# what they say.
COLUMNS = ("team", "members", "contact")
_TOLD = ("id", "status", "merged_into", "until", "valid", "invalid", "pending", "left")
MAX_ANNOUNCEMENT = 1000  # characters


OWN_NAMES = 3  # that a team may give itself
BY_TEAM = "renamed by the team itself"


@dataclass(frozen=True)
class Organizer:
    """Who changes something in a season."""

    ledger: Ledger
    by: str

    # --- teams ---

    def add(self, team: str, members: Sequence[str], contact: str, reason: str) -> Team:
        """Add a team, and say who it is and how to reach it. Raises as `Ledger.add_team`."""
        detail = {"members": _members(members), "contact": _contact(contact)}
        return self.ledger.add_team(team, self.by, reason, detail)

    def rename(self, team: str, name: str, reason: str, check: Callable[[View], None] = lambda view: None) -> Change:
        """Call a team otherwise. Raises `DataError` for a name that is none, `Refused` for one that is taken, and
        where `check` does.
        """
        checked = names.checked(name)
        return self._of_team(
            changes.RENAMED, team, reason, lambda view: {"name": checked, "was": view.find(team).name}, check
        )

    def set_members(self, team: str, members: Sequence[str] | None, contact: str | None, reason: str) -> Change:
        """Say who a team is, and how to reach it, in place of what was said before; None leaves that as it is."""
        given = {} if members is None else {"members": _members(members)}
        said = given | ({} if contact is None else {"contact": _contact(contact)})
        if not said:
            raise DataError(f"team {show(team)}: say who its members are, or how to reach it")

        def detail(view: View) -> dict[str, Any]:
            found = view.find(team)
            return {"members": list(found.members), "contact": found.contact} | said

        return self._of_team(changes.MEMBERS, team, reason, detail)

    def remove(self, team: str, reason: str) -> Change:
        """Take a team out of the season, as if it had never been there."""
        return self._of_team(changes.REMOVED, team, reason, check=_competing(team))

    def disqualify(self, team: str, reason: str) -> Change:
        """Take a team off all boards and prizes; it may send and choose nothing more."""
        return self._of_team(changes.DISQUALIFIED, team, reason, check=_competing(team))

    def take_out_of_competition(self, team: str, reason: str) -> Change:
        """Let a team go on without a rank, and without prizes."""
        return self._of_team(changes.OUT_OF_COMPETITION, team, reason, check=_competing(team))

    def reinstate(self, team: str, reason: str) -> Change:
        """Undo what took a team out. Raises `Refused` where nothing did."""

        def out(view: View) -> int:
            id = view.find(team).id
            kinds = (changes.REMOVED, changes.DISQUALIFIED, changes.OUT_OF_COMPETITION)
            return _last(view, lambda change: change.team == id and change.kind in kinds, f"team {show(team)} competes")

        return self.ledger.record(changes.UNDONE, self.by, reason, team=team, undoes=out)

    def merge(self, team: str, into: str, reason: str) -> Change:
        """Make a team a part of another one: what it has sent, its attempts and its choice are that one's. Raises
        `Refused` for the team itself, and for one that does not compete.
        """

        def detail(view: View) -> dict[str, Any]:
            part, whole = view.find(team), view.find(into)
            if part.id == whole.id:
                raise Refused(f"team {show(team)}: cannot be merged into itself")
            if whole.status:
                raise Refused(f"team {show(into)} is {whole.status}; `teams reinstate` it before it takes up another")
            return {"into": whole.id}

        return self._of_team(changes.MERGED, team, reason, detail, _competing(team))

    def extend(self, team: str, reason: str, until: date | None, attempts: int | None, day: date | None) -> Change:
        """Give a team a later last day, or more attempts on a day (None: today). Raises `Refused` for a day after
        the last one to choose.
        """
        detail: dict[str, Any] = {}
        if until is not None:
            detail["until"] = until.isoformat()
        if attempts is not None:
            today = self.ledger.season.day(self.ledger.now())
            detail |= {"attempts": attempts, "day": (day or today).isoformat()}
        if not detail:
            raise DataError(f"team {show(team)}: say until which day, or by how many attempts")
        return self._of_team(changes.EXTENDED, team, reason, lambda view: detail)

    def import_teams(self, path: Path, reason: str, dry_run: bool = False) -> tuple[int, int]:
        """As `import_table`, of a file."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from None
        return self.import_table(content, str(path), reason, dry_run)

    def import_table(self, content: bytes, name: str, reason: str, dry_run: bool = False) -> tuple[int, int]:
        """Add the teams of a CSV with the `COLUMNS`, as `listing.team_row` has them, and change the members and
        contacts of those that are there where they are others; all rows, or none, as a `dry_run` does. A column that is
        missing changes nothing. Returns how many were added, and how many changed.

        Raises `DataError` with a line for each faulty row of the file of this `name`.
        """
        return self.ledger.import_teams(self.by, reason, _read(content, name), dry_run)

    # --- submissions ---

    def withdraw(self, submission: int, reason: str) -> Change:
        """Take a submission off all boards, choices and prizes. Its attempt stays used."""

        def check(view: View) -> None:
            if submission in view.standing.withdrawn:
                raise Refused(f"submission {submission} is withdrawn already")

        return self.ledger.record(changes.WITHDRAWN, self.by, reason, submission=submission, check=check)

    def restore(self, submission: int, reason: str) -> Change:
        """Undo a withdrawal. Raises `Refused` where there is none."""

        def withdrawal(view: View) -> int:
            return _last(
                view,
                lambda change: change.submission == submission and change.kind == changes.WITHDRAWN,
                f"submission {submission} is not withdrawn",
            )

        return self.ledger.record(changes.UNDONE, self.by, reason, submission=submission, undoes=withdrawal)

    def set_day(self, submission: int, day: date, reason: str) -> Change:
        """Say on which day a submission was sent, where a clock was wrong: its attempt is one of that day. Raises
        `Refused` for a day on which nobody could send anything: the attempt would be one of no day that counts.
        """

        def check(view: View) -> None:
            last = max([view.season.end, *view.standing.until.values()])
            if not view.season.start <= day <= last:
                raise Refused(f"submission {submission}: its day must be from {view.season.start} to {last}, not {day}")

        return self.ledger.record(
            changes.DATED,
            self.by,
            reason,
            submission=submission,
            detail=lambda view: {"day": day.isoformat()},
            check=check,
        )

    # --- rules ---

    def set_rules(self, values: Mapping[str, date | int], reason: str) -> Change:
        """Change days and numbers of attempts: keys of `changes.DEADLINES` and `changes.ATTEMPTS`. Raises `Refused`
        where days would not follow each other.
        """
        if not values:
            raise DataError("say what is to be changed")
        detail = {key: value.isoformat() if isinstance(value, date) else value for key, value in values.items()}
        return self.ledger.record(changes.RULES_CHANGED, self.by, reason, detail=lambda view: detail)

    def freeze(self, at: datetime | None, reason: str) -> Change:
        """Have the public board show what was there at a moment (None: now), until it is unfrozen. Raises `Refused`
        where it is frozen already, or for a moment that is still to come.
        """
        now, zone = self.ledger.now(), self.ledger.season.zone
        moment = (at or now).astimezone(zone).isoformat()

        def check(view: View) -> None:
            if at is not None and at > now:
                raise Refused(f"the public board can show what was there by now, {now.astimezone(zone):%Y-%m-%dT%H:%M}")
            if view.standing.frozen_at is not None:
                raise Refused("the public board is frozen already; `season unfreeze` undoes that")

        return self.ledger.record(changes.FROZEN, self.by, reason, detail=lambda view: {"at": moment}, check=check)

    def unfreeze(self, reason: str) -> Change:
        """Have the public board show what is there. Raises `Refused` where it is not frozen."""

        def last(view: View) -> int:
            return _last(view, lambda change: change.kind == changes.FROZEN, "the public board is not frozen")

        return self.ledger.record(changes.UNDONE, self.by, reason, undoes=last)

    def show_private(self, reason: str) -> Change:
        """Let everybody see the private board and the prizes. Raises `Refused` while teams can choose, and where they
        are shown already.
        """
        today = self.ledger.season.day(self.ledger.now())

        def check(view: View) -> None:
            if today <= view.season.choose_until:
                until = view.season.choose_until
                raise Refused(f"choices are open until {until}, so the private board is not to be shown yet")
            if view.standing.private_shown:
                raise Refused("the private board is shown already; `season hide-private` undoes that")

        return self.ledger.record(changes.PRIVATE_SHOWN, self.by, reason, check=check)

    def hide_private(self, reason: str) -> Change:
        """Undo that. Raises `Refused` where it is not shown."""

        def shown(view: View) -> int:
            return _last(view, lambda change: change.kind == changes.PRIVATE_SHOWN, "the private board is not shown")

        return self.ledger.record(changes.UNDONE, self.by, reason, undoes=shown)

    def announce(self, text: str, reason: str) -> Change:
        """Say something to all teams, on the pages, until that is undone. Raises `DataError` for a text that is none of
        one line, or too long.
        """
        text = text.strip()
        if not is_line(text) or len(text) > MAX_ANNOUNCEMENT:
            raise DataError(f"announcement {show(text)}: must be {ONE_LINE}, of at most {MAX_ANNOUNCEMENT} characters")
        return self.ledger.record(changes.ANNOUNCED, self.by, reason, detail=lambda view: {"text": text})

    # --- test sets ---

    def add_test_set(self, name: str, folder: Path, reason: str) -> Change:
        """Add a test set for finals or a rehearsal. Raises `DataError` for data that cannot be read, or lack a task."""
        if not is_line(name) or not name.isidentifier():
            raise DataError(f"test set {show(name)}: must be a name of letters, digits and _")
        actions.read_test_set(self.ledger.rules(), name, folder)
        return self.ledger.add_test_set(self.by, reason, name, relative(self.ledger, folder))

    def withdraw_test_set(self, name: str, reason: str) -> Change:
        """Take a test set that was added out again: nothing more is run on it, and it has no board."""

        def check(view: View) -> None:
            if name in TEST_SETS or name not in view.season.data:
                added = [name for name in view.season.data if name not in TEST_SETS]
                raise Refused(
                    f"test set {show(name)}: must be one that was added: {', '.join(added) or 'there is none'}"
                )

        return self.ledger.record(changes.SET_WITHDRAWN, self.by, reason, test_set=name, check=check)

    # --- runs ---

    def queue(self, submissions: Sequence[int], test_set: str, reason: str) -> list[int]:
        """As `Ledger.queue`."""
        return self.ledger.queue(submissions, test_set, reason, self.by)

    def queue_chosen(self, test_set: str, reason: str) -> list[int]:
        """The same with the submissions that teams have chosen, or else their best public ones."""
        taken = self.ledger.snapshot()
        finals = board.finals(taken.results(PUBLIC), taken.choices(), taken.season.chosen)
        return self.queue([submission for of_team in finals.values() for submission in of_team], test_set, reason)

    def retry(self, submission: int, test_set: str, reason: str) -> None:
        """As `Ledger.retry`."""
        self.ledger.retry(submission, test_set, reason, self.by)

    def cancel(self, submission: int, test_set: str, reason: str) -> None:
        """As `Ledger.cancel`."""
        self.ledger.cancel(submission, test_set, reason, self.by)

    # --- all ---

    def undo(self, change: int, reason: str) -> Change:
        """Take a change back. Raises `Refused` where it does not hold."""

        def it(view: View) -> int:
            if change not in {each.id for each in view.changes}:
                raise Refused(f"there is no change {change}; `python -m evaluator changes list` names them")
            if change not in view.standing.in_force:
                raise Refused(f"change {change} is undone already")
            return change

        return self.ledger.record(changes.UNDONE, self.by, reason, undoes=it)

    def _of_team(
        self,
        kind: str,
        team: str,
        reason: str,
        detail: Callable[[View], Mapping[str, Any]] = lambda view: {},
        check: Callable[[View], None] = lambda view: None,
    ) -> Change:
        return self.ledger.record(kind, self.by, reason, team=team, detail=detail, check=check)


def rename_by_team(ledger: Ledger, team: str, name: str, by: str) -> Change:
    """Call a team otherwise, as somebody of it asks for; organizers can undo it. Raises `DataError` for a name that is
    none, `Refused` for one that is taken, and where the team was renamed so `OWN_NAMES` times or does not compete.
    """

    def check(view: View) -> None:
        found = view.find(team)
        if found.is_hidden:
            raise Refused(f"team {show(found.name)} is {found.status}")
        wanted = (changes.RENAMED, found.id, BY_TEAM)
        own = [each for each in view.changes if (each.kind, each.team, each.reason) == wanted]
        if len(own) >= OWN_NAMES:
            raise Refused(f"team {show(found.name)} has renamed itself {OWN_NAMES} times; ask the organizers")

    return Organizer(ledger, by).rename(team, name, BY_TEAM, check)


def relative(ledger: Ledger, folder: Path) -> str:
    """A folder as changes name it: relative to the season's, where it lies in that."""
    path, own = folder.resolve(), ledger.season.folder.resolve()
    return path.relative_to(own).as_posix() if path.is_relative_to(own) else str(path)


def _last(view: View, wanted: Callable[[Change], bool], otherwise: str) -> int:
    found = [change.id for change in view.changes if change.id in view.standing.in_force and wanted(change)]
    if not found:
        raise Refused(otherwise)
    return found[-1]


def _competing(team: str) -> Callable[[View], None]:
    def check(view: View) -> None:
        if status := view.find(team).status:
            raise Refused(f"team {show(team)} is {status} already; `teams reinstate` undoes that")

    return check


def _members(members: Sequence[str]) -> list[str]:
    stripped = [member.strip() for member in members]
    for member in stripped:
        if not is_line(member) or BETWEEN.strip() in member:
            raise DataError(f"member {show(member)}: must be {ONE_LINE}, without {BETWEEN.strip()!r}")
    return stripped


def _contact(text: str) -> str:
    text = text.strip()
    if text and not is_line(text):
        raise DataError(f"contact {show(text)}: must be a text of one line")
    return text


def _read(content: bytes, path: str) -> list[tuple[str, dict[str, Any]]]:
    """Names, with members and contact where there are such columns, of a CSV. Raises `DataError`."""
    try:
        text = content.decode("utf-8-sig")
    except ValueError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[str, dict[str, Any]]] = []
    lines: list[str] = []
    try:
        columns = reader.fieldnames or ()
        unknown = [show(name) for name in columns if name not in (*COLUMNS, *_TOLD)]
        if "team" not in columns or unknown or len(set(columns)) < len(columns):
            there = f"there is {', '.join(unknown)} too" if unknown else "each once"
            raise DataError(
                f"{path}: the first line must name the columns {', '.join(COLUMNS)}, `team` at least; {there}"
            )
        for row in reader:
            try:
                if None in row or None in row.values():
                    raise DataError(f"must have {len(columns)} cells, as the first line has")
                cells = {key: tables.unescape(row[key]).strip() for key in COLUMNS if key in columns}
                given: dict[str, Any] = {}
                if "members" in cells:
                    given["members"] = _members(
                        [name for name in cells["members"].split(BETWEEN.strip()) if name.strip()]
                    )
                if "contact" in cells:
                    given["contact"] = _contact(cells["contact"])
                rows.append((names.checked(cells["team"]), given))
            except DataError as error:
                lines += [f"{path} line {reader.line_num}: {reason}" for reason in error.reasons]
    except csv.Error as error:
        lines.append(f"{path} line {reader.line_num}: {error}")
    if lines:
        raise DataError(lines)
    return rows
