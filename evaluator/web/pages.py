"""The pages for everybody, and how one comes in: signing in and out, and invitations."""

from typing import Annotated

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import RedirectResponse
from sse_starlette import EventSourceResponse

from evaluator.season import PUBLIC
from evaluator.season.accounts import MAX_NAME, SESSION, Accounts, Token
from evaluator.season.board import until
from evaluator.season.ledger import Snapshot
from evaluator.web.access import (
    AnyCaller,
    AWatcher,
    Caller,
    TheAccounts,
    TheLimiter,
    address,
    cookie_name,
    is_secure,
)
from evaluator.web.api import Number
from evaluator.web.live import TheLive, stamp
from evaluator.web.problems import Problem, not_found
from evaluator.web.site import ORGANIZERS, Site, TheSite, href, the_site

Secret = Annotated[str, Path(max_length=200)]
Name = Annotated[str, Form(max_length=10 * MAX_NAME)]

BOARD_SECONDS = 15.0  # at least, between two news of the board, which is large

# What went wrong, by the status; the rest is said by the problem's own line.
_WRONG = {
    403: ("Сюда нельзя", "This is not for you"),
    404: ("Такой страницы нет", "There is no such page"),
    409: ("Правила этого не позволяют", "The rules do not allow this"),
    429: ("Слишком много запросов", "Too many requests"),
    500: ("Сбой сервиса", "The service failed"),
}
_WRONG_AT_ALL = ("Не получилось", "It did not work")

router = APIRouter(include_in_schema=False)


@router.get("/")
def board(site: TheSite, caller: AnyCaller) -> Response:
    """The public board, with the caller's team marked; renewed live."""
    pages = site.pages()
    live = ("/board/live", board_stamp(pages.snapshot))
    return site.respond(caller, pages.board(), href("board"), live=live, modules=["live.js"])


@router.get("/board/live")
async def board_events(live: TheLive, watcher: AWatcher) -> EventSourceResponse:
    """Tells when the board is another."""
    return live.stream(watcher, "board", board_stamp, BOARD_SECONDS)


def board_stamp(snapshot: Snapshot) -> str:
    """Another one when the board shows something else; of what a frozen one hides it has nothing."""
    shown = until(snapshot.results(PUBLIC), snapshot.frozen_at)
    results = [(result.run, result.team, result.total) for result in shown]
    left = {team: attempts.left for team, attempts in snapshot.attempts.items()}
    return stamp(results, left, len(snapshot.changes), len(snapshot.teams))


@router.get("/rules")
def rules(site: TheSite, caller: AnyCaller) -> Response:
    """What the board goes by."""
    return site.respond(caller, site.pages().rules(), href("rules"))


@router.get("/send")
def send(request: Request, site: TheSite, caller: AnyCaller) -> Response:
    """How to send a submission here."""
    page = site.pages().send()
    return site.respond(caller, page, href("send"), template="send_here.html", address=site.address(request))


@router.get("/teams/{team}")
def public_team(team: Number, site: TheSite, caller: AnyCaller) -> Response:
    """What everybody sees of a team."""
    pages = site.pages()
    found = next((each for each in pages.teams if each.id == team), None)
    if found is None:
        raise not_found("such page")
    return site.respond(caller, pages.public_team(found), href("team", team))


@router.get("/private")
def private(site: TheSite, caller: AnyCaller) -> Response:
    """The private board, where it is shown; to organizers as it stands."""
    pages = site.pages()
    if not (pages.shows_private or caller.is_organizer):
        raise not_found("such page")
    return site.respond(caller, pages.private(secret=not pages.shows_private), href("private"))


@router.get("/prizes")
def prizes(site: TheSite, caller: AnyCaller) -> Response:
    """The prizes, where they are shown; to organizers as they stand."""
    pages = site.pages()
    if not (pages.shows_private or caller.is_organizer):
        raise not_found("such page")
    return site.respond(caller, pages.prizes(secret=caller.is_organizer), href("prizes"))


# --- coming in ---


@router.get("/signin")
def sign_in_page(site: TheSite, caller: AnyCaller, to: str = "") -> Response:
    """The form to sign in."""
    return _sign_in(site, caller, to, None)


def _sign_in(site: Site, caller: Caller, to: str, fault: str | None, status: int = 200) -> Response:
    page = site.pages().page("signin.html", ("Вход", "Sign in"), secret=True, to=to, fault=fault)
    return site.respond(caller, page, "/signin", status)


@router.post("/signin")
def sign_in(
    request: Request,
    site: TheSite,
    caller: AnyCaller,
    accounts: TheAccounts,
    limiter: TheLimiter,
    token: Annotated[str, Form(max_length=1000)] = "",
    to: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Sign in with a token: a session, by a cookie that no script reads."""
    limiter.may_guess(address(request))
    made = accounts.sign_in(token.strip())
    if made is None:
        limiter.guessed(address(request))
        return _sign_in(site, caller, to, "token", 422)
    return _signed_in(request, accounts, made, to)


def _signed_in(request: Request, accounts: Accounts, session: str, to: str = "") -> Response:
    holder = accounts.session(session)
    home = ORGANIZERS[0] if holder is not None and holder.team is None else href("own")
    response = RedirectResponse(to if is_own_path(to) else home, 303)
    _set_cookie(request, response, session)
    return response


def _set_cookie(request: Request, response: Response, session: str) -> None:
    response.set_cookie(
        cookie_name(request),
        session,
        max_age=round(SESSION.total_seconds()),
        secure=is_secure(request),
        httponly=True,
        samesite="strict",
    )


def is_own_path(path: str) -> bool:
    """Whether it is an address of this service, so that nobody is led elsewhere."""
    return path.startswith("/") and not path.startswith("//") and path.isprintable() and "\\" not in path


@router.post("/signout")
def sign_out(request: Request, caller: AnyCaller, accounts: TheAccounts) -> Response:
    """End the session."""
    if caller.cookie is not None:
        accounts.sign_out(caller.cookie)
    response = RedirectResponse("/", 303)
    response.delete_cookie(cookie_name(request), secure=is_secure(request), httponly=True, samesite="strict")
    return response


@router.get("/join/{secret}")
def join_page(
    request: Request, secret: Secret, site: TheSite, caller: AnyCaller, accounts: TheAccounts, limiter: TheLimiter
) -> Response:
    """What an invitation is to, and the form that uses it."""
    limiter.may_guess(address(request))
    holder = accounts.invitation(secret)
    if holder is None:
        limiter.guessed(address(request))
        raise Problem(404, "this invitation was used, was withdrawn, or has expired; ask for another one")
    title = ("Приглашение", "Invitation")
    page = site.pages().page("join.html", title, secret=True, team=holder.team, longest=MAX_NAME)
    return site.respond(caller, page, "")


@router.post("/join/{secret}")
def join(
    request: Request,
    secret: Secret,
    site: TheSite,
    caller: AnyCaller,
    accounts: TheAccounts,
    limiter: TheLimiter,
    name: Name = "",
) -> Response:
    """Use an invitation: a token, which is shown once, and a session with it."""
    limiter.may_guess(address(request))
    if accounts.invitation(secret) is None:
        limiter.guessed(address(request))
    token, made = accounts.accept(secret, name)
    session = accounts.sign_in(made)
    holder = accounts.holder(made)
    home = ORGANIZERS[0] if token.team is None else href("own")
    response = show_secret(request, site, Caller(holder, session), token, made, home)
    if session is not None:
        _set_cookie(request, response, session)
    return response


def show_secret(request: Request, site: Site, caller: Caller, token: Token, secret: str, back: str) -> Response:
    """The page that shows a new token, or the link of an invitation, the only time."""
    is_invitation = token.kind == "invitation"
    title = ("Ссылка-приглашение", "Invitation") if is_invitation else ("Новый токен", "New token")
    shown = f"{site.address(request)}/join/{secret}" if is_invitation else secret
    page = site.pages().page("secret.html", title, secret=True)
    return site.respond(
        caller,
        page,
        "",
        modules=["copy.js"],
        token=token,
        secret=shown,
        is_invitation=is_invitation,
        back=back,
        address=site.address(request),
    )


def tell(request: Request, problem: Problem) -> Response:
    """The page of what went wrong; the one to sign in, where that is all that lacks."""
    site = the_site(request)
    cookie = request.cookies.get(cookie_name(request))
    accounts: Accounts = request.app.state.accounts
    holder = accounts.session(cookie) if cookie and problem.status != 429 else None
    caller = Caller(holder, cookie if holder is not None else None)
    if problem.status == 401 and holder is None:
        to = request.url.path if request.method == "GET" else ""
        return _sign_in(site, caller, to, "signed-out", 401)
    page = site.pages().page("problem.html", _WRONG.get(problem.status, _WRONG_AT_ALL), secret=True)
    response = site.respond(caller, page, "", problem.status, problem=problem, back=_back(request, caller))
    response.headers.update(problem.headers)
    return response


def _back(request: Request, caller: Caller) -> str:
    if caller.is_organizer:
        return ORGANIZERS[0]
    return href("own") if caller.team and request.url.path != href("own") else href("board")
