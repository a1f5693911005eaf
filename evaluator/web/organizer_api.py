"""The routes of organizers for programs, /api/v1/organizer: what there is, what is done, tables to take away."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from evaluator.core.errors import DataError
from evaluator.scoring import tables
from evaluator.season import PRIVATE, PUBLIC, actions, listing, notices
from evaluator.season.history import EventRow, History, RunRow
from evaluator.season.ledger import Ledger, Refused
from evaluator.season.site import usage
from evaluator.web.access import AnOrganizer, TheAccounts
from evaluator.web.api import Number, TokenView
from evaluator.web.organizing import DEEDS, ChangeRow, Deed, TeamRow, TheDesk
from evaluator.web.problems import not_found
from evaluator.web.rescoring import RescoringView

LOGS = {"evaluator": "evaluator.log", "printed": "log.txt"}

router = APIRouter(prefix="/api/v1/organizer", tags=["organizers"])


class SubmissionRow(BaseModel):
    """A submission, as `submissions list --json` has it."""

    submission: int
    team: str
    day: date
    submitted_at: datetime
    digest: str
    public: str
    public_total: float | None
    private: str | None
    private_total: float | None
    withdrawn: bool


class Notice(BaseModel):
    """Something to look at, in a line."""

    kind: str
    what: str
    detail: dict[str, Any]


class TestSetRow(BaseModel):
    """A test set, as `season test-set list --json` has it."""

    test_set: str
    data: str
    results: int
    digest: str
    labels: str


class MachineRow(BaseModel):
    """What a machine did, in seconds; `mean` and `most` are runs at a time, `used` the share of its places."""

    machine: str
    processes: int
    runs: int
    lost: int
    seconds: float
    first: datetime
    last: datetime
    mean: float
    most: int
    used: float


Team = Annotated[str | None, Query(description="of this team alone")]
TestSet = Annotated[str | None, Query(alias="set", description="on this test set alone")]
Since = Annotated[datetime | None, Query(description="without a zone it is of the season's")]


@router.get("/queue", response_model=list[RunRow])
def get_queue(organizer: AnOrganizer) -> Any:
    """What waits, runs, or needs somebody, and why."""
    history = History(organizer.ledger)
    return [row.to_json(history.season) for row in history.waiting()]


@router.get("/runs", response_model=list[RunRow])
def get_runs(
    organizer: AnOrganizer,
    team: Team = None,
    test_set: TestSet = None,
    verdict: str | None = None,
    state: str | None = None,
    since: Since = None,
) -> Any:
    """All runs, or some."""
    history = History(organizer.ledger)
    found = history.runs(history.select(team, test_set, verdict, state, since))
    return [row.to_json(history.season) for row in found]


@router.get("/runs/{run}/log", response_class=PlainTextResponse)
def get_log(organizer: AnOrganizer, run: Number, of: Literal["evaluator", "printed"] = "evaluator") -> Response:
    """What the evaluator of a run says, so far, or what the submission printed, which may have hidden data."""
    try:
        text = "".join(actions.read_log(organizer.ledger, run, LOGS[of], follow=False))
    except DataError:
        raise not_found(f"run {run}") from None
    return PlainTextResponse(text or f"run {run} has no {LOGS[of]}, or not yet\n")


@router.get("/events", response_model=list[EventRow])
def get_events(organizer: AnOrganizer, team: Team = None, test_set: TestSet = None, since: Since = None) -> Any:
    """All that happened to runs, in order."""
    history = History(organizer.ledger)
    found = history.events(history.select(team, test_set, since=since))
    return [row.to_json(history.season) for row in found]


@router.get("/machines")
def get_machines(organizer: AnOrganizer) -> list[MachineRow]:
    """What the machines did so far."""
    return [MachineRow(**row) for row in usage.machines(organizer.ledger.snapshot())]


@router.get("/submissions", response_model=list[SubmissionRow])
def get_submissions(
    organizer: AnOrganizer,
    team: Team = None,
    day: date | None = None,
    state: Annotated[str | None, Query(description="with a run in this state, or of this verdict")] = None,
    withdrawn: Annotated[bool, Query(description="those alone that were withdrawn")] = False,
) -> Any:
    """All submissions, or some."""
    season = organizer.ledger.season
    return [row.to_json(season) for row in listing.submissions(organizer.ledger, team, day, state, withdrawn)]


@router.get("/submissions/{submission}/events", response_model=list[EventRow])
def get_submission_events(organizer: AnOrganizer, submission: Number) -> Any:
    """All that ever happened to a submission's runs."""
    history = History(organizer.ledger)
    try:
        return [row.to_json(history.season) for row in history.of(submission)]
    except Refused:
        raise not_found(f"submission {submission}") from None


@router.get("/teams")
def get_teams(organizer: AnOrganizer) -> list[TeamRow]:
    """All teams, with their attempts of today."""
    return [TeamRow(**row) for row in listing.team_rows(organizer.ledger.snapshot())]


@router.get("/changes")
def get_changes(organizer: AnOrganizer) -> list[ChangeRow]:
    """All that organizers changed."""
    taken = organizer.ledger.snapshot()
    return [ChangeRow(**row) for row in listing.change_rows(taken.changes, taken.teams, taken.season)]


@router.get("/notices")
def get_notices(organizer: AnOrganizer) -> list[Notice]:
    """What to look at: the same ZIP from two teams, names that look alike."""
    season = organizer.ledger.season
    found = [(case, case.to_json(season)) for case in notices.find(organizer.ledger)]
    return [Notice(kind=detail.pop("kind"), what=str(case), detail=detail) for case, detail in found]


@router.get("/test-sets")
def get_test_sets(organizer: AnOrganizer) -> list[TestSetRow]:
    """The test sets that there are now."""
    return [TestSetRow(**row) for row in listing.test_set_rows(organizer.ledger)]


@router.get("/tokens")
def get_tokens(
    organizer: AnOrganizer, accounts: TheAccounts, team: Annotated[str | None, Query(description="whose")] = None
) -> list[TokenView]:
    """The tokens and invitations of a team, or the organizers'."""
    return [TokenView(**token.to_json()) for token in accounts.tokens(team)]


@router.get("/board")
def get_board(
    organizer: AnOrganizer,
    test_set: Annotated[str, Query(alias="set", description="of which test set, whoever may see it")] = PUBLIC,
    live: Annotated[bool, Query(description="the public one as it is while it is frozen")] = False,
) -> dict[str, Any]:
    """A board as it stands now, as `board --json` writes it; scores are by task number."""
    return actions.read_board(organizer.ledger, test_set, live).to_json()


@router.get("/prizes")
def get_prizes(organizer: AnOrganizer) -> dict[str, Any]:
    """Who wins the prizes by the private board as it stands, as `prizes --json` writes it."""
    return actions.award_prizes(organizer.ledger).to_json()


@router.get("/rescoring")
def get_rescoring(desk: TheDesk) -> RescoringView:
    """The scoring again that is under way, or was the last."""
    return desk.rescorings.view()


# --- tables ---


class Table(NamedTuple):
    """Rows, with their columns, for where there is no row."""

    rows: Sequence[dict[str, Any]]
    columns: Sequence[str] = ()


def _board(test_set: str, live: bool = False) -> Callable[[Ledger], Table]:
    return lambda ledger: Table(actions.read_board(ledger, test_set, live).rows())


def _submissions(ledger: Ledger) -> Table:
    rows = [row.to_json(ledger.season) for row in listing.submissions(ledger)]
    return Table(rows, listing.SubmissionRow.columns())


def _runs(ledger: Ledger) -> Table:
    history = History(ledger)
    return Table([row.to_json(history.season) for row in history.runs()], RunRow.columns())


def _events(ledger: Ledger) -> Table:
    history = History(ledger)
    return Table([row.to_json(history.season) for row in history.events()], EventRow.columns())


def _teams(ledger: Ledger) -> Table:
    return Table(listing.team_rows(ledger.snapshot()), listing.TEAM_COLUMNS)


def _changes(ledger: Ledger) -> Table:
    taken = ledger.snapshot()
    rows = listing.change_rows(taken.changes, taken.teams, taken.season)
    return Table(listing.flat(rows), listing.CHANGE_COLUMNS)


EXPORTS: dict[str, Callable[[Ledger], Table]] = {
    "board": _board(PUBLIC),
    "live-board": _board(PUBLIC, live=True),
    "private-board": _board(PRIVATE),
    "submissions": _submissions,
    "runs": _runs,
    "events": _events,
    "teams": _teams,
    "changes": _changes,
}
Exported = Literal["board", "live-board", "private-board", "submissions", "runs", "events", "teams", "changes"]


@router.get("/exports/{what}.json")
def export_json(organizer: AnOrganizer, what: Exported) -> list[dict[str, Any]]:
    """The rows that the commands write with `--table`."""
    return list(EXPORTS[what](organizer.ledger).rows)


@router.get("/exports/{what}.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
def export_csv(organizer: AnOrganizer, what: Exported) -> Response:
    """The same as CSV, safe to open in a spreadsheet."""
    content = tables.to_csv(tables.of_rows(*EXPORTS[what](organizer.ledger)))
    headers = {"Content-Disposition": f'attachment; filename="{what}.csv"', "Content-Type": "text/csv; charset=utf-8"}
    return Response(content, headers=headers)


# --- what is done ---


def _add_route(deed: type[Deed]) -> None:
    def do(wanted: Any, desk: TheDesk) -> Any:
        return wanted.do(desk)

    do.__annotations__["wanted"] = deed
    name = deed.path.replace("/", "_").replace("-", "_")
    router.add_api_route(
        f"/{deed.path}",
        do,
        methods=["POST"],
        name=name,
        description=deed.__doc__,
        summary=deed.path.replace("/", ": "),
        response_model=get_type_hints(deed.do)["return"],
    )


for _deed in DEEDS:
    _add_route(_deed)
