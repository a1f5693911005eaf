"""A team's own page: what it sent and how that goes, live; sending, choosing, taking back; who comes for the team."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from pydantic import Field
from sse_starlette import EventSourceResponse

from evaluator.season import PRIVATE, PUBLIC, actions, organize
from evaluator.season.accounts import INVITATION, INVITED, MAX_DAYS, MAX_NAME, TOKEN
from evaluator.season.ledger import RunState, Snapshot, Team
from evaluator.season.site import team_reports
from evaluator.season.site.pages import Pages
from evaluator.season.store import Store
from evaluator.web import mine
from evaluator.web.access import AnyCaller, AWatcher, Caller, Member, Somebody, TheAccounts, TheLedger
from evaluator.web.api import MAX_NUMBER, Number
from evaluator.web.live import TheLive, stamp
from evaluator.web.pages import Name, show_secret
from evaluator.web.problems import Problem, not_found
from evaluator.web.site import TheSite, href

LOG = "log.txt"
REVOKED = "revoked by its team"
_HOME = href("own")

# A report runs a script of its own. Here it has neither this service's origin nor anything of the network.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'"
)
_DONE = {
    "chosen": ("Выбор записан.", "Your choice is entered."),
    "cancelled": ("Решение отменено, попытка не потрачена.", "The submission is cancelled; it cost no attempt."),
    "revoked": ("Отозвано.", "Revoked."),
    "renamed": ("Команда называется иначе.", "The team has its new name."),
}

_Id = Annotated[int, Field(ge=1, le=MAX_NUMBER)]

router = APIRouter(include_in_schema=False)


@router.get("/team")
def team_page(
    request: Request, site: TheSite, caller: AnyCaller, member: Member, accounts: TheAccounts, done: str = ""
) -> Response:
    """The team's page."""
    pages = site.pages(member.team.id)
    team = next(each for each in pages.snapshot.teams if each.id == member.team.id)
    page = pages.team(team, lambda state: _report_address(pages, state))
    attempts = pages.snapshot.attempts[team.name]
    now = pages.snapshot.now
    return site.respond(
        caller,
        page,
        _HOME,
        template="own.html",
        live=("/team/live", team_stamp(pages, team)),
        modules=["live.js", "upload.js", "choice.js"],
        said=_DONE.get(done),
        new_day=pages.season.last_moment(attempts.day),
        may_send=pages.takes_from(team) and attempts.left > 0 and not team.is_hidden,
        places=pages.places,
        logs=_logs(pages, team),
        choosable=_choosable(pages, team),
        tokens=[token for token in accounts.tokens(team.name) if token.holds(now)],
        longest=MAX_NAME,
        most_days=MAX_DAYS,
        own_names=organize.OWN_NAMES,
        address=site.address(request),
    )


@router.get("/team/live")
async def team_events(site: TheSite, live: TheLive, member: Member, watcher: AWatcher) -> EventSourceResponse:
    """Tells when the team's page is another."""

    def digest(snapshot: Snapshot) -> str:
        pages = site.pages_of(snapshot)
        team = next(each for each in snapshot.teams if each.id == member.team.id)
        return team_stamp(pages, team) if team.into is None else ""  # the page is another team's by now

    return live.stream(watcher, member.team.id, digest)


def team_stamp(pages: Pages, team: Team) -> str:
    """Another one when a team's page shows something else; of other teams, and of private runs, it has no more than the
    page.
    """
    snapshot, own = pages.snapshot, pages.states_by_team[team.name]
    waiting = [pages.places[state.run] for state in own if state.run in pages.places]
    # A guess that moves by some minutes is no news.
    places = [(each.run, each.place, each.starts_at and each.starts_at.timestamp() // 600) for each in waiting]
    line = pages.lines_by_team.get(team.name)
    return stamp(
        [(state.run, state.name, state.failures, state.is_out) for state in own],
        places,
        line and (line.rank, line.total),
        snapshot.attempts[team.name],
        [choice for choice in snapshot.choices() if choice.team == team.name],
        len(snapshot.changes),
    )


def _report_address(pages: Pages, state: RunState) -> str | None:
    if not (pages.results_of(state.run, state.test_set) / team_reports.NAME).is_file():
        return None
    return f"/submissions/{state.submission.id}/report" + ("?set=private" if state.test_set == PRIVATE else "")


def _logs(pages: Pages, team: Team) -> set[int]:
    """The submissions whose log the team may read, and that have one."""
    own = (state for state in pages.states_by_team[team.name] if state.test_set == PUBLIC)
    return {state.submission.id for state in own if _shows_log(pages, state)}


def _shows_log(pages: Pages, state: RunState) -> bool:
    """Whether a run on the public test set has a log that its team may read."""
    return pages.season.web_logs == PUBLIC and (Store(pages.season.folder).run(state.run) / LOG).is_file()


def _choosable(pages: Pages, team: Team) -> set[int]:
    """The submissions that the team may choose now."""
    if team.is_hidden or pages.season.day(pages.snapshot.now) > pages.season.choose_until:
        return set()
    return {result.submission for result in pages.snapshot.results(PUBLIC) if result.team == team.name}


# --- what runs left ---


@router.get("/submissions/{submission}/report")
def report(
    submission: Number, site: TheSite, caller: Somebody, test_set: Annotated[str, Query(alias="set")] = PUBLIC
) -> Response:
    """A scored run's report, apart from this service's origin; organizers see all."""
    pages = site.pages()
    state = own_run(pages, caller, submission, test_set)
    content = team_reports.read(pages.results_of(state.run, state.test_set)) if state.verdict == "OK" else None
    if content is None:
        raise not_found("such page")
    headers = {"Content-Security-Policy": _REPORT_POLICY}
    return Response(content, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/submissions/{submission}/log")
def log(submission: Number, site: TheSite, caller: Somebody, ledger: TheLedger) -> Response:
    """What a submission printed in its run on the public test set, where the rules show that; to organizers always."""
    pages = site.pages()
    state = own_run(pages, caller, submission, PUBLIC)
    if caller.team is not None and not _shows_log(pages, state):
        raise not_found("such page")
    return PlainTextResponse("".join(actions.read_log(ledger, state.run, LOG, follow=False)))


def own_run(pages: Pages, caller: Caller, submission: int, test_set: str) -> RunState:
    """A submission's run. Raises `Problem` 404, also where the caller may not see it."""
    name = None if caller.team is None else mine.name(pages.snapshot, caller.team)
    for state in pages.snapshot.states:
        if (state.submission.id, state.test_set) == (submission, test_set):
            is_own = caller.team is not None and state.submission.team == name
            if caller.is_organizer or (is_own and test_set in mine.shown_sets(pages.snapshot)):
                return state
    raise not_found("such page")


# --- what a team does ---


@router.post("/team/choice")
def choose(ledger: TheLedger, member: Member, submission: Annotated[list[_Id] | None, Form()] = None) -> Response:
    """Choose for the private board."""
    if submission is None:
        raise Problem(422, "tick one submission at least")
    actions.choose(ledger, member.team.name, submission, member.by)
    return _back("chosen")


@router.post("/team/submissions/{submission}/cancel")
def cancel(submission: Number, ledger: TheLedger, caller: Somebody, member: Member, site: TheSite) -> Response:
    """Take back what waits."""
    own_run(site.pages(), caller, submission, PUBLIC)
    ledger.take_back(member.team.name, submission, member.by)
    return _back("cancelled")


def _back(done: str, anchor: str = "done") -> Response:
    return RedirectResponse(f"{_HOME}?done={done}#{anchor}", 303)


@router.post("/team/name")
def rename(ledger: TheLedger, member: Member, name: Name = "") -> Response:
    """Call the team otherwise."""
    organize.rename_by_team(ledger, member.team.name, name, member.by)
    return _back("renamed")


@router.post("/team/tokens")
def make_token(
    request: Request,
    site: TheSite,
    caller: AnyCaller,
    member: Member,
    accounts: TheAccounts,
    ledger: TheLedger,
    name: Name = "",
    days: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Make a token; without `days` it works until it is revoked."""
    if days and not (days.isdecimal() and 1 <= int(days) <= MAX_DAYS):
        raise Problem(422, f"days: must be a whole number in 1..{MAX_DAYS}, or empty")
    end = ledger.now() + timedelta(days=int(days)) if days else None
    token, secret = accounts.make(member.team.name, name, member.by, end, TOKEN)
    return show_secret(request, site, caller, token, secret, f"{_HOME}#tokens")


@router.post("/team/invitations")
def invite(
    request: Request,
    site: TheSite,
    caller: AnyCaller,
    member: Member,
    accounts: TheAccounts,
    ledger: TheLedger,
    name: Name = "",
) -> Response:
    """Make an invitation, by a link."""
    token, secret = accounts.make(member.team.name, name, member.by, ledger.now() + INVITATION, INVITED)
    return show_secret(request, site, caller, token, secret, f"{_HOME}#tokens")


@router.post("/team/tokens/{token}/revoke")
def revoke(token: Number, accounts: TheAccounts, member: Member) -> Response:
    """End a token or an invitation of the team's."""
    if token not in {each.id for each in accounts.tokens(member.team.name)}:
        raise not_found("such page")
    accounts.revoke(token, member.by, REVOKED, member.team.name)
    return _back("revoked")
