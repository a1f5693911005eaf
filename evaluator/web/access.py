"""Who calls, and what they may: routes say whom they are for by the type of a parameter.

A program shows its token (`Authorization: Bearer ...`), a browser that is signed in its cookie. Whatever a browser
changes comes with a token against forged requests, too, in the header `X-CSRF-Token` or the form's field `csrf`.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from evaluator.season.accounts import Accounts, Holder
from evaluator.season.ledger import Ledger, Team
from evaluator.season.organize import Organizer
from evaluator.web.limiting import Limiter, site
from evaluator.web.problems import Problem
from evaluator.web.protocol import UPLOADS
from evaluator.web.watching import Watch

CSRF_HEADER, CSRF_FIELD = "X-CSRF-Token", "csrf"
_COOKIE = "fbc"
SAFE = ("GET", "HEAD", "OPTIONS")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
Found = TypeVar("Found")
_OWN_SITES = ("same-origin", "none")


@dataclass(frozen=True)
class Caller:
    """Who calls; `holder` is None where nobody has said. `cookie` is the session's secret, where a browser calls."""

    holder: Holder | None
    cookie: str | None = None

    @property
    def team(self) -> Team | None:
        """The team that the caller is of."""
        return None if self.holder is None else self.holder.team

    @property
    def is_organizer(self) -> bool:
        """Whether it is an organizer."""
        return self.holder is not None and self.holder.team is None

    @property
    def by(self) -> str:
        """Who it is, for the record."""
        return "" if self.holder is None else self.holder.by

    @property
    def csrf(self) -> str:
        """What a browser's requests that change something must have; empty where none is needed."""
        return "" if self.cookie is None else hashlib.sha256(f"csrf {self.cookie}".encode()).hexdigest()


@dataclass(frozen=True)
class TeamCaller:
    """Somebody of a team. `by` and `csrf` are as of `Caller`."""

    team: Team
    holder: Holder
    by: str
    csrf: str


def the_ledger(request: Request) -> Ledger:
    """The service's ledger."""
    ledger: Ledger = request.app.state.ledger
    return ledger


def the_accounts(request: Request) -> Accounts:
    """The service's accounts."""
    accounts: Accounts = request.app.state.accounts
    return accounts


def the_watch(request: Request) -> Watch:
    """What the service sees of the ledger."""
    watch: Watch = request.app.state.watch
    return watch


def the_limiter(request: Request) -> Limiter:
    """What counts calls."""
    limiter: Limiter = request.app.state.limiter
    return limiter


TheLedger = Annotated[Ledger, Depends(the_ledger)]
TheAccounts = Annotated[Accounts, Depends(the_accounts)]
TheWatch = Annotated[Watch, Depends(the_watch)]
TheLimiter = Annotated[Limiter, Depends(the_limiter)]


def cookie_name(request: Request) -> str:
    """The session's cookie; behind TLS one that no other host, path or plain connection can set."""
    return f"__Host-{_COOKIE}" if is_secure(request) else _COOKIE


def is_secure(request: Request) -> bool:
    """Whether the browser talks TLS, to this service or to the proxy before it."""
    return request.url.scheme == "https"


def address(request: Request) -> str:
    """Where a call comes from."""
    return request.client.host if request.client else ""


# Read below, where another scheme is refused; this has the description of the API tell of it.
_Described = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(scheme_name="token", auto_error=False))]


async def find_caller(request: Request, accounts: TheAccounts, limiter: TheLimiter, described: _Described) -> Caller:
    """Who calls. Raises `Problem` 401 for a token that is none, 403 for a forged request, 429 for too many."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    cookie = request.cookies.get(cookie_name(request))
    caller = Caller(None)
    if scheme:
        holder = None
        if scheme.lower() == "bearer":
            holder = await guarded(request, limiter, token.strip(), accounts.holder)
        if holder is None:
            raise Problem(401, "this token is none, was revoked or has expired", {"WWW-Authenticate": "Bearer"})
        caller = Caller(holder)
    elif cookie and (holder := await run_in_threadpool(accounts.session, cookie)) is not None:
        caller = Caller(holder, cookie)
    limiter.call(None if caller.holder is None else caller.holder.token.id, address(request))
    if request.method not in SAFE and not scheme:
        await _check_own(request, caller)
    return caller


async def guarded(request: Request, limiter: Limiter, secret: str, find: Callable[[str], Found | None]) -> Found | None:
    """What is found by a secret. An address that guesses has to wait, but who was let in before does not wait for
    others there.
    """
    known: set[bytes] = request.app.state.known
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
    if digest not in known:
        limiter.may_guess(address(request))
    found = await run_in_threadpool(find, secret)
    if found is None:
        known.discard(digest)
        limiter.guessed(address(request))
    else:
        known.add(digest)
    return found


async def _check_own(request: Request, caller: Caller) -> None:
    """That a browser's request which changes something comes from a page of this service."""
    forged = Problem(
        403, "this request did not come from a page of this service, or from one that is too old: reload it"
    )
    if not _is_own(request):
        raise forged
    if caller.cookie is None:
        return
    shown = request.headers.get(CSRF_HEADER)
    is_form = request.headers.get("Content-Type", "").partition(";")[0].strip() in _FORMS
    if shown is None and is_form and not request.scope["path"].startswith(UPLOADS):  # whose bodies have any size
        field = (await request.form()).get(CSRF_FIELD)
        shown = field if isinstance(field, str) else None
    if shown is None or not hmac.compare_digest(shown.encode(), caller.csrf.encode()):
        raise forged


def _is_own(request: Request) -> bool:
    """Whether a browser says that the request is of a page of this service, as far as it says where it is of: over
    plain HTTP it names the page's origin alone. Programs say nothing.
    """
    if (said := request.headers.get("Sec-Fetch-Site")) is not None:
        return said in _OWN_SITES
    if (origin := request.headers.get("Origin")) is None:
        return True
    ledger: Ledger = request.app.state.ledger
    return origin == ledger.season.web_url or origin.partition("://")[2] == request.headers.get("Host")


AnyCaller = Annotated[Caller, Depends(find_caller)]


@dataclass(frozen=True)
class Watcher:
    """Whoever has a stream open: `key` is the same for all streams of a token, or of an address that shows none.
    `holds` says whether it is still let in, as who it was; it blocks.
    """

    key: str
    holds: Callable[[], bool]


def _watcher(request: Request, caller: AnyCaller, accounts: TheAccounts) -> Watcher:
    holder = caller.holder
    if holder is None:
        return Watcher(f"address {site(address(request))}", lambda: True)
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()

    def holds() -> bool:
        now = accounts.holder(token) if caller.cookie is None else accounts.session(caller.cookie)
        return now is not None and (now.team and now.team.id) == (holder.team and holder.team.id)

    return Watcher(f"token {holder.token.id}", holds)


AWatcher = Annotated[Watcher, Depends(_watcher)]


def _somebody(caller: AnyCaller) -> Caller:
    if caller.holder is None:
        raise Problem(401, "show a token, or sign in", {"WWW-Authenticate": "Bearer"})
    return caller


Somebody = Annotated[Caller, Depends(_somebody)]


def _member(caller: Somebody) -> TeamCaller:
    if caller.holder is None or caller.team is None:
        raise Problem(403, "this is for teams")
    return TeamCaller(caller.team, caller.holder, caller.by, caller.csrf)


Member = Annotated[TeamCaller, Depends(_member)]


def _organizer(caller: Somebody, ledger: TheLedger) -> Organizer:
    if not caller.is_organizer:
        raise Problem(403, "this is for organizers")
    return Organizer(ledger, caller.by)


AnOrganizer = Annotated[Organizer, Depends(_organizer)]
