"""The routes for programs, /api/v1: what the pages do and show, as JSON."""

from datetime import date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from evaluator.season import PRIVATE, PUBLIC, actions, board, organize
from evaluator.season.accounts import INVITATION, INVITED, MAX_DAYS, TOKEN
from evaluator.season.config import Season
from evaluator.season.ledger import Attempts, Snapshot
from evaluator.web import mine
from evaluator.web.access import AnyCaller, Member, TheAccounts, TheLedger, TheWatch
from evaluator.web.mine import SubmissionView
from evaluator.web.problems import Problem, not_found

BOARD_AGE = 2.0  # seconds that a board may be old
MAX_NUMBER = 2**31 - 1  # of a submission or a token, as the database can have them

Number = Annotated[int, Path(ge=1, le=MAX_NUMBER)]

router = APIRouter(prefix="/api/v1", tags=["season"])


class SeasonView(BaseModel):
    """The rules as they are now; sizes in bytes."""

    name: str
    competition: str
    time_zone: str
    now: datetime
    opens: datetime
    closes: datetime
    choose_until: datetime
    valid_a_day: int
    invalid_a_day: int
    chosen: int
    max_zip: int
    max_unpacked: int
    tasks: dict[str, float]
    is_frozen: bool
    private_shown: bool


class BoardRow(BaseModel):
    """A team's place: its best submission's `score`, and those of the tasks by their names; all None without one."""

    rank: int | None
    team: str | None
    score: float | None
    tasks: dict[str, float]
    submission: int | None
    submitted_at: datetime | None
    results: int
    competes: bool


class AttemptsView(BaseModel):
    """A team's attempts of today: how many may be sent now, and when a new day begins."""

    day: date
    left: int
    valid: int
    valid_allowed: int
    invalid: int
    invalid_allowed: int
    pending: int
    new_day: datetime


class Me(BaseModel):
    """Who calls: nobody, a team's member or an organizer, by the name of the token."""

    role: str
    name: str | None
    team: str | None
    attempts: AttemptsView | None


class ChoiceView(BaseModel):
    """What stands for the private board; where the team has not chosen, its best public ones."""

    team: str
    chosen: bool
    submissions: list[int]


class NewChoice(BaseModel):
    """The submissions that a team chooses."""

    submissions: list[Annotated[int, Field(ge=1, le=MAX_NUMBER)]]


class NewName(BaseModel):
    """What the team wants to be called."""

    name: str


class Named(BaseModel):
    """What the team is called now."""

    team: str


class TokenView(BaseModel):
    """A token, without its secret."""

    id: int
    name: str
    kind: str
    by: str
    at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None


class NewToken(BaseModel):
    """A token that is wanted; of an invitation the name says whom it is for."""

    name: str
    kind: Annotated[str, Field(pattern=f"^({TOKEN}|{INVITED})$")] = TOKEN
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] | None = None


class MadeToken(TokenView):
    """A new token with its secret, which nobody can see again."""

    secret: str


@router.get("/season")
def get_season(watch: TheWatch, ledger: TheLedger, _: AnyCaller) -> SeasonView:
    """The rules, days and limits."""
    seen = watch.see(BOARD_AGE).snapshot
    season = seen.season
    return SeasonView(
        name=season.name,
        competition=season.competition.name,
        time_zone=str(season.zone),
        now=ledger.now().astimezone(season.zone),
        opens=season.first_moment(season.start),
        closes=season.last_moment(season.end),
        choose_until=season.last_moment(season.choose_until),
        valid_a_day=season.valid_a_day,
        invalid_a_day=season.invalid_a_day,
        chosen=season.chosen,
        max_zip=season.limits.archive,
        max_unpacked=season.limits.unpacked,
        tasks={season.competition.names[task]: weight for task, weight in season.weights.items()},
        is_frozen=seen.frozen_at is not None,
        private_shown=seen.private_shown,
    )


@router.get("/board")
def get_board(
    watch: TheWatch,
    caller: AnyCaller,
    test_set: Annotated[str, Query(alias="set", description="public, or private when it is shown")] = PUBLIC,
) -> list[BoardRow]:
    """The board, the best team first, and the baseline (`team` null)."""
    seen = watch.see(BOARD_AGE).snapshot
    if not (test_set == PUBLIC or (test_set == PRIVATE and (seen.private_shown or caller.is_organizer))):
        raise not_found(f"board {test_set!r}" if test_set != PRIVATE else "private board to be seen yet")
    names = seen.season.competition.names
    return [
        BoardRow(
            rank=line.rank,
            team=line.team,
            score=line.total,
            tasks={names[task]: value for task, value in sorted(line.scores.items())},
            submission=None if line.result is None else line.result.submission,
            submitted_at=None if line.result is None else line.result.submitted_at.astimezone(seen.season.zone),
            results=line.count,
            competes=line.competes,
        )
        for line in board.lines(seen, test_set)
    ]


@router.get("/me")
def get_me(watch: TheWatch, caller: AnyCaller) -> Me:
    """Who calls, and how many attempts are left."""
    if caller.holder is None:
        return Me(role="nobody", name=None, team=None, attempts=None)
    name = caller.holder.token.name
    if caller.team is None:
        return Me(role="organizer", name=name, team=None, attempts=None)
    seen = watch.see().snapshot
    attempts = seen.attempts.get(mine.name(seen, caller.team) or "")
    return Me(
        role="team",
        name=name,
        team=caller.team.name,
        attempts=None if attempts is None else view_attempts(attempts, seen),
    )


def view_attempts(attempts: Attempts, seen: Snapshot) -> AttemptsView:
    """A team's attempts of today, as they are told."""
    return AttemptsView(
        day=attempts.day,
        left=attempts.left if is_open(seen, seen.season) else 0,
        valid=attempts.valid,
        valid_allowed=attempts.valid_allowed,
        invalid=attempts.invalid,
        invalid_allowed=attempts.invalid_allowed,
        pending=attempts.pending,
        new_day=seen.season.last_moment(attempts.day),
    )


def is_open(seen: Snapshot, season: Season) -> bool:
    """Whether submissions are taken today."""
    return season.start <= season.day(seen.now) <= season.end


@router.get("/submissions")
def get_submissions(watch: TheWatch, caller: Member) -> list[SubmissionView]:
    """The team's submissions, the newest first."""
    return mine.submissions(watch.see().snapshot, caller.team)


@router.get("/submissions/{submission}")
def get_submission(submission: Number, watch: TheWatch, caller: Member) -> SubmissionView:
    """One of the team's submissions."""
    return find_submission(watch, caller, submission)


def find_submission(watch: TheWatch, caller: Member, submission: int) -> SubmissionView:
    """One of a team's. Raises `Problem` 404, also where it is another's."""
    found = mine.submission(watch.see().snapshot, caller.team, submission)
    if found is None:  # it may have been entered a moment ago
        watch.renew()
        found = mine.submission(watch.see().snapshot, caller.team, submission)
    if found is None:
        raise not_found(f"submission {submission}")
    return found


@router.post("/submissions/{submission}/cancel")
def cancel(submission: Number, ledger: TheLedger, watch: TheWatch, caller: Member) -> SubmissionView:
    """Take back a submission whose run has not begun; it costs no attempt."""
    find_submission(watch, caller, submission)
    ledger.take_back(caller.team.name, submission, caller.by)
    watch.renew()
    return find_submission(watch, caller, submission)


@router.get("/choice")
def get_choice(ledger: TheLedger, caller: Member) -> ChoiceView:
    """What stands for the private board."""
    return _choice(actions.choose(ledger, caller.team.name, []))


@router.put("/choice")
def put_choice(wanted: NewChoice, ledger: TheLedger, caller: Member) -> ChoiceView:
    """Choose for the private board; the last choice counts."""
    if not wanted.submissions:
        raise Problem(422, "submissions: name one at least")
    return _choice(actions.choose(ledger, caller.team.name, wanted.submissions, caller.by))


def _choice(finals: actions.Finals) -> ChoiceView:
    return ChoiceView(team=finals.team, chosen=finals.chosen, submissions=list(finals.submissions))


@router.put("/name")
def put_name(wanted: NewName, ledger: TheLedger, caller: Member) -> Named:
    """Call the team otherwise; a few times in a season."""
    change = organize.rename_by_team(ledger, caller.team.name, wanted.name, caller.by)
    return Named(team=change.detail["name"])


@router.get("/tokens")
def get_tokens(accounts: TheAccounts, caller: Member) -> list[TokenView]:
    """The team's tokens and invitations."""
    return [TokenView(**token.to_json()) for token in accounts.tokens(caller.team.name)]


@router.post("/tokens", status_code=201)
def post_token(wanted: NewToken, accounts: TheAccounts, ledger: TheLedger, caller: Member) -> MadeToken:
    """Make a token, or an invitation: a secret that lasts some days, and that somebody gets a token for, once."""
    kind = INVITED if wanted.kind == INVITED else TOKEN
    token, secret = accounts.make(caller.team.name, wanted.name, caller.by, expiry(wanted, ledger.now()), kind)
    return MadeToken(**token.to_json(), secret=secret)


def expiry(wanted: NewToken, now: datetime) -> datetime | None:
    """When a token that is wanted ends."""
    if wanted.days is not None:
        return now + timedelta(days=wanted.days)
    return now + INVITATION if wanted.kind == INVITED else None


@router.delete("/tokens/{token}")
def delete_token(
    token: Number, accounts: TheAccounts, caller: Member, reason: Annotated[str, Query()] = "revoked by its team"
) -> TokenView:
    """Revoke a token or an invitation of the team's."""
    if token not in {each.id for each in accounts.tokens(caller.team.name)}:
        raise not_found(f"token {token}")
    return TokenView(**accounts.revoke(token, caller.by, reason, caller.team.name).to_json())
