"""What organizers do over the web: each a model of what it needs, with the call of the season's library that does it.

The API has a route for each of `DEEDS`, the pages a form. Who did it is entered with it, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, Protocol

from fastapi import Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evaluator.core.validation import Line, wrong
from evaluator.season import PUBLIC, actions, listing
from evaluator.season.accounts import INVITED, TOKEN, Accounts
from evaluator.season.changes import Change
from evaluator.season.organize import Organizer
from evaluator.web.access import AnOrganizer, TheAccounts
from evaluator.web.api import MAX_NUMBER, MadeToken, NewToken, TokenView, expiry
from evaluator.web.rescoring import RescoringRequest, Rescorings, RescoringView, own_folder

Words = tuple[str, str]  # in Russian and in English
TABLE_NAME = "teams.csv"  # of a table of teams that came without a name of its own


@dataclass(frozen=True)
class Desk:
    """What an organizer works with."""

    organizer: Organizer
    accounts: Accounts
    rescorings: Rescorings


def the_desk(organizer: AnOrganizer, accounts: TheAccounts, request: Request) -> Desk:
    """The caller's, who must be an organizer."""
    return Desk(organizer, accounts, request.app.state.rescorings)


TheDesk = Annotated[Desk, Depends(the_desk)]


# --- what comes of it ---


class Outcome(Protocol):
    """What came of a deed."""

    def said(self) -> Words:
        """A line for people."""


class ChangeRow(BaseModel):
    """A change, as `changes list --json` has it: `what` it was in a line, and whether it is in force."""

    id: int
    at: datetime
    by: str
    kind: str
    team: int | None
    submission: int | None
    test_set: str | None
    detail: dict[str, Any]
    reason: str
    undoes: int | None
    what: str
    in_force: bool
    undone_by: int | None


class Changed(BaseModel):
    """A change that was entered, and what is in force now of what it is about."""

    change: ChangeRow
    in_force: dict[str, Any]

    def said(self) -> Words:
        id, what = self.change.id, self.change.what
        return f"Изменение {id}: {what}", f"Change {id}: {what}"


class TeamRow(BaseModel):
    """A team, as `teams list --json` has it; its attempts of today are None where they are not told."""

    team: str
    members: str
    contact: str
    id: int
    status: str
    merged_into: str
    until: str
    valid: int | None = None
    invalid: int | None = None
    pending: int | None = None
    left: int | None = None

    def said(self) -> Words:
        return f"Команда «{self.team}» добавлена", f"Team {self.team} was added"


class Imported(BaseModel):
    """How many teams a table adds, and how many it changes; a dry run has done neither."""

    added: int
    changed: int
    dry_run: bool

    def said(self) -> Words:
        if self.dry_run:
            return (
                f"Проверено, ничего не изменено: таблица добавит команд: {self.added}, изменит: {self.changed}",
                f"Checked, nothing was changed: the table adds {self.added} teams and changes {self.changed}",
            )
        return f"Добавлено команд: {self.added}, изменено: {self.changed}", (
            f"{self.added} teams were added, {self.changed} were changed"
        )


class RunNow(BaseModel):
    """What the latest run of a submission on a test set is now."""

    submission: int
    test_set: str
    state: Literal["queued", "cancelled"]

    def said(self) -> Words:
        run = f"{self.submission} ({self.test_set})"
        if self.state == "queued":
            return f"Решение {run} снова в очереди", f"Submission {run} is queued again"
        return f"Прогон решения {run} отменён", f"The run of submission {run} is cancelled"


class Queued(BaseModel):
    """Submissions that were queued on a test set; those are not among them that have a result, or a run under way."""

    test_set: str
    queued: list[int]

    def said(self) -> Words:
        named = ", ".join(map(str, self.queued))
        return (
            f"В очереди на «{self.test_set}»: {named or 'ничего нового, у всех есть результат или прогон'}",
            f"Queued on {self.test_set}: {named or 'none, all have a result, or a run under way'}",
        )


class QueuedFinals(BaseModel):
    """How many private runs were queued, and how many public ones, on which the finals hang, are not done (`pending`),
    or `failed` by no fault of a team's.
    """

    queued: int
    pending: int
    failed: int

    def said(self) -> Words:
        ru, en = [f"Приватных прогонов в очереди: {self.queued}"], [f"{self.queued} private runs are queued"]
        if self.pending:
            ru += [f"не кончились публичные: {self.pending}, потом повторите"]
            en += [f"{self.pending} public ones are not done: do this again then"]
        if self.failed:
            ru += [f"ждут вас публичные: {self.failed}, повторите или отмените их"]
            en += [f"{self.failed} public ones wait for you: retry or cancel them"]
        return "; ".join(ru), "; ".join(en)


class Made(MadeToken):
    """A token or an invitation that was made."""

    def said(self) -> Words:
        if self.kind == INVITED:
            return f"Приглашение {self.id}, {self.name}", f"Invitation {self.id}, {self.name}"
        return f"Токен {self.id}, {self.name}", f"Token {self.id}, {self.name}"


class Ended(TokenView):
    """A token or an invitation that ended."""

    def said(self) -> Words:
        return f"Отозван: {self.id}, {self.name}", f"Revoked: {self.id}, {self.name}"


class Begun(RescoringView):
    """Scoring again that has begun."""

    def said(self) -> Words:
        return "Пересчёт начался", "Scoring again has begun"


# --- what is done ---

Number = Annotated[int, Field(ge=1, le=MAX_NUMBER)]
Attempts = Annotated[int, Field(ge=1, le=1000)]


def _listed(value: Any) -> Any:
    """Of a form's field: what stands between commas and ends of lines."""
    if not isinstance(value, str):
        return value
    return [one.strip() for one in value.replace("\n", ",").split(",") if one.strip()]


Names = Annotated[list[Line], BeforeValidator(_listed)]
Numbers = Annotated[list[Number], BeforeValidator(_listed)]


class Deed(BaseModel):
    """Something that an organizer does, and why."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    path: ClassVar[str]  # below /api/v1/organizer/
    is_grave: ClassVar[bool] = False  # pages ask whether it is meant
    empty: ClassVar[tuple[str, ...]] = ()  # fields of which a form that leaves them empty says so

    reason: Line

    def do(self, desk: Desk) -> Outcome:
        """Do it. Raises what the library raises."""
        raise NotImplementedError


def _changed(desk: Desk, change: Change) -> Changed:
    return Changed.model_validate(listing.in_force(desk.organizer.ledger, change).to_json())


class _OfTeam(Deed):
    team: Line


class AddTeam(_OfTeam):
    """Add a team."""

    path = "teams/add"
    members: Names = []
    contact: str = ""

    def do(self, desk: Desk) -> TeamRow:
        team = desk.organizer.add(self.team, self.members, self.contact, self.reason)
        return TeamRow(**listing.team_row(team, [team]))


class ImportTeams(Deed):
    """Add the teams of a CSV with the columns team, members, contact, and change those that are there; all rows, or
    none.
    """

    path = "teams/import"
    table: str
    name: Line = TABLE_NAME
    dry_run: bool = True

    def do(self, desk: Desk) -> Imported:
        content = self.table.encode("utf-8", "surrogatepass")
        added, changed = desk.organizer.import_table(content, self.name, self.reason, self.dry_run)
        return Imported(added=added, changed=changed, dry_run=self.dry_run)


class RenameTeam(_OfTeam):
    """Call a team otherwise."""

    path = "teams/rename"
    name: Line

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.rename(self.team, self.name, self.reason))


class SetMembers(_OfTeam):
    """Say who a team is, and how to reach it; what is not said stays as it is."""

    path = "teams/members"
    empty = ("members", "contact")
    members: Names | None = None
    contact: str | None = None

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.set_members(self.team, self.members, self.contact, self.reason))


class RemoveTeam(_OfTeam):
    """Take a team out of the season, as one that was entered by mistake."""

    path = "teams/remove"
    is_grave = True

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.remove(self.team, self.reason))


class DisqualifyTeam(_OfTeam):
    """Take a team off all boards and prizes; what it has waiting is cancelled."""

    path = "teams/disqualify"
    is_grave = True

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.disqualify(self.team, self.reason))


class TakeOutOfCompetition(_OfTeam):
    """Leave a team on the boards, without rank and prizes."""

    path = "teams/out-of-competition"
    is_grave = True

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.take_out_of_competition(self.team, self.reason))


class ReinstateTeam(_OfTeam):
    """Undo what took a team out."""

    path = "teams/reinstate"

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.reinstate(self.team, self.reason))


class MergeTeam(_OfTeam):
    """Make a team a part of another: its submissions and attempts are that one's."""

    path = "teams/merge"
    is_grave = True
    into: Line

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.merge(self.team, self.into, self.reason))


class ExtendTeam(_OfTeam):
    """Give a team a later last day, or more attempts on a day (none said: today)."""

    path = "teams/extend"
    until: date | None = None
    attempts: Attempts | None = None
    day: date | None = None

    def do(self, desk: Desk) -> Changed:
        made = desk.organizer.extend(self.team, self.reason, self.until, self.attempts, self.day)
        return _changed(desk, made)


class _OfSubmission(Deed):
    submission: Number


class Withdraw(_OfSubmission):
    """Take a submission off boards, choices and prizes; its attempt stays used."""

    path = "submissions/withdraw"
    is_grave = True

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.withdraw(self.submission, self.reason))


class Restore(_OfSubmission):
    """Undo a withdrawal."""

    path = "submissions/restore"

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.restore(self.submission, self.reason))


class Redate(_OfSubmission):
    """Say on which day it was sent, where a clock was wrong."""

    path = "submissions/redate"
    day: date

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.set_day(self.submission, self.day, self.reason))


class Retry(_OfSubmission):
    """Queue another run of a submission that failed."""

    path = "queue/retry"
    test_set: Line = PUBLIC

    def do(self, desk: Desk) -> RunNow:
        desk.organizer.retry(self.submission, self.test_set, self.reason)
        return RunNow(submission=self.submission, test_set=self.test_set, state="queued")


class Cancel(_OfSubmission):
    """End a run that waits or runs; it costs no attempt."""

    path = "queue/cancel"
    is_grave = True
    test_set: Line = PUBLIC

    def do(self, desk: Desk) -> RunNow:
        desk.organizer.cancel(self.submission, self.test_set, self.reason)
        return RunNow(submission=self.submission, test_set=self.test_set, state="cancelled")


class Queue(Deed):
    """Queue runs on a test set, for finals or a rehearsal: of these submissions, or of those that teams have chosen."""

    path = "queue/add"
    test_set: Line
    submissions: Numbers = []
    chosen: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> "Queue":
        if bool(self.submissions) == self.chosen:
            raise wrong("name submissions, or ask for those that teams have chosen in their place")
        return self

    def do(self, desk: Desk) -> Queued:
        organizer = desk.organizer
        if self.chosen:
            queued = organizer.queue_chosen(self.test_set, self.reason)
        else:
            queued = organizer.queue(self.submissions, self.test_set, self.reason)
        return Queued(test_set=self.test_set, queued=queued)


class MoveDeadlines(Deed):
    """Move deadlines: those that are said."""

    path = "rules/deadlines"
    start: date | None = None
    end: date | None = None
    choose_until: date | None = None

    def do(self, desk: Desk) -> Changed:
        said = self.model_dump(exclude={"reason"}, exclude_none=True)
        return _changed(desk, desk.organizer.set_rules(said, self.reason))


class SetAttempts(Deed):
    """Change how many attempts a team has a day, or may choose: those that are said."""

    path = "rules/attempts"
    valid_a_day: Attempts | None = None
    invalid_a_day: Attempts | None = None
    chosen: Attempts | None = None

    def do(self, desk: Desk) -> Changed:
        said = self.model_dump(exclude={"reason"}, exclude_none=True)
        return _changed(desk, desk.organizer.set_rules(said, self.reason))


class Freeze(Deed):
    """Have the public board show what was there at a moment (none said: now; without a zone it is the season's)."""

    path = "board/freeze"
    at: datetime | None = None

    def do(self, desk: Desk) -> Changed:
        at, zone = self.at, desk.organizer.ledger.season.zone
        moment = at if at is None or at.tzinfo is not None else at.replace(tzinfo=zone)
        return _changed(desk, desk.organizer.freeze(moment, self.reason))


class Unfreeze(Deed):
    """Have the public board show what is there."""

    path = "board/unfreeze"

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.unfreeze(self.reason))


class ShowPrivate(Deed):
    """Let everybody see the private board and the prizes, when nobody can choose any more."""

    path = "board/show-private"
    is_grave = True

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.show_private(self.reason))


class HidePrivate(Deed):
    """Undo that."""

    path = "board/hide-private"

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.hide_private(self.reason))


class Announce(Deed):
    """Say something to all, on the pages, until it is undone."""

    path = "announcements/add"
    text: Line

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.announce(self.text, self.reason))


class AddTestSet(Deed):
    """Add a test set, whose data are in a folder within the season's."""

    path = "test-sets/add"
    name: Line
    data: Line

    def do(self, desk: Desk) -> Changed:
        folder = own_folder(desk.organizer.ledger.season.folder, self.data)
        return _changed(desk, desk.organizer.add_test_set(self.name, folder, self.reason))


class WithdrawTestSet(Deed):
    """Take a test set that was added out again."""

    path = "test-sets/withdraw"
    is_grave = True
    name: Line

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.withdraw_test_set(self.name, self.reason))


class Undo(Deed):
    """Take a change back; undoing what undid it makes it hold again."""

    path = "changes/undo"
    is_grave = True
    change: Number

    def do(self, desk: Desk) -> Changed:
        return _changed(desk, desk.organizer.undo(self.change, self.reason))


class QueueFinals(Deed):
    """Queue the private runs, after the last day to choose. Again, it queues those that are missing."""

    path = "finals/queue"
    is_grave = True

    def do(self, desk: Desk) -> QueuedFinals:
        found = actions.queue_finals(desk.organizer.ledger, desk.organizer.by, self.reason)
        return QueuedFinals(queued=found.queued, pending=found.pending, failed=found.failed)


class Rescore(RescoringRequest, Deed):
    """Score kept outputs again in the background: first a dry run, then the same in earnest."""

    path = "rescoring/start"

    def do(self, desk: Desk) -> Begun:
        organizer = desk.organizer
        wanted = RescoringRequest(**self.model_dump())
        return Begun(**dict(desk.rescorings.start(wanted, organizer.by, organizer.ledger.now())))


class MakeToken(Deed, NewToken):
    """Make a token, or an invitation to one, of a team or (none said) an organizer's."""

    path = "tokens/make"
    reason: Line = "made over the web"
    team: Line | None = None

    def do(self, desk: Desk) -> Made:
        by, now = desk.organizer.by, desk.organizer.ledger.now()
        kind = INVITED if self.kind == INVITED else TOKEN
        token, secret = desk.accounts.make(self.team, self.name, by, expiry(self, now), kind)
        return Made(**token.to_json(), secret=secret)


class RevokeToken(Deed):
    """End a token or an invitation, and sign out who came with it."""

    path = "tokens/revoke"
    is_grave = True
    token: Number

    def do(self, desk: Desk) -> Ended:
        return Ended(**desk.accounts.revoke(self.token, desk.organizer.by, self.reason).to_json())


DEEDS: Sequence[type[Deed]] = (
    AddTeam,
    ImportTeams,
    RenameTeam,
    SetMembers,
    RemoveTeam,
    DisqualifyTeam,
    TakeOutOfCompetition,
    ReinstateTeam,
    MergeTeam,
    ExtendTeam,
    Withdraw,
    Restore,
    Redate,
    Retry,
    Cancel,
    Queue,
    MoveDeadlines,
    SetAttempts,
    Freeze,
    Unfreeze,
    ShowPrivate,
    HidePrivate,
    Announce,
    AddTestSet,
    WithdrawTestSet,
    Undo,
    QueueFinals,
    Rescore,
    MakeToken,
    RevokeToken,
)
