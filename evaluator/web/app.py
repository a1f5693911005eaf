"""The service as an ASGI application: what it keeps, its routes, and what holds for every answer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evaluator.season import actions
from evaluator.season.accounts import Accounts
from evaluator.web import api, docs, organizer, organizer_api, pages, problems, protocol, site, team, uploads
from evaluator.web.access import SAFE
from evaluator.web.limiting import Limiter
from evaluator.web.live import Live
from evaluator.web.problems import Problem
from evaluator.web.receiving import Receiving
from evaluator.web.rescoring import Rescorings
from evaluator.web.site import Site
from evaluator.web.watching import Watch

MAX_BODY = 1 << 20  # bytes of a request that is no upload
BODY_SECONDS = 30.0  # for the next piece of it
THREADS = 12  # that make pages; more would have one another wait for the interpreter, and uploads too

# Pages run and show what this service serves alone, and stand in no frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",  # what one may see is nobody else's, and changes
}
_HSTS = "max-age=31536000"


def make_app(rules: Path) -> FastAPI:
    """The service of the season whose season.toml is `rules`. Raises `DataError` where it cannot be opened."""
    ledger = actions.open_ledger(rules)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        async with app.state.receiving.running():
            app.state.say_ready()
            yield

    app = _App(
        title=ledger.season.name,
        summary="What the pages of the season do, for programs.",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=docs.OPENAPI_AT,
        lifespan=lifespan,
    )
    app.state.ledger = ledger
    app.state.accounts = Accounts(ledger)
    app.state.watch = Watch(ledger)
    app.state.limiter = Limiter()
    app.state.receiving = Receiving(ledger)
    app.state.rescorings = Rescorings(ledger.season)
    app.state.known = set()  # digests of secrets that let somebody in
    app.state.say_ready = lambda: None
    app.state.site = Site(ledger.season, app.state.watch)
    app.state.live = Live(app.state.watch)
    app.state.told = organizer.Told()
    problems.install(app, pages.tell)
    app.include_router(api.router)
    app.include_router(uploads.router)
    app.include_router(organizer_api.router)
    app.include_router(docs.router)
    app.mount(docs.FILES_AT, docs.FILES)
    for module in (site, pages, team, organizer):
        app.include_router(module.router)
    app.add_middleware(_Bodies)
    return app


class _App(FastAPI):
    """Puts the headers around what tells of the service's own failures, too, where no middleware gets to."""

    def build_middleware_stack(self) -> ASGIApp:
        return _Headers(super().build_middleware_stack())


class _Headers:
    """What every answer says to browsers, unless its route says otherwise; and who has changed something sees that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if scope["method"] not in SAFE and not scope["path"].startswith(protocol.UPLOADS):
                    scope["app"].state.watch.renew()
                said = {name.lower() for name, _ in message["headers"]}
                ours = dict(_HEADERS)
                if scope["scheme"] == "https":
                    ours["Strict-Transport-Security"] = _HSTS
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in ours.items()
                        if name.lower().encode() not in said
                    ),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


class _Bodies:
    """Refuses bodies that are too large, or come too slowly. Those of uploads are read by their own rules."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(protocol.UPLOADS):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        broken = None if _length(headers) <= MAX_BODY else _too_large()
        seen, complete, started = 0, False, False

        async def limited() -> Message:
            nonlocal broken, seen, complete
            if complete:  # what comes now is that the caller has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except TimeoutError:
                broken = Problem(408, f"nothing more came of the request in {BODY_SECONDS:g} s")
                raise broken from None
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > MAX_BODY:
                broken = _too_large()
                raise broken
            return message

        async def unless_broken(message: Message) -> None:
            nonlocal started
            if broken is None or started:
                started = True
                await send(message)

        if broken is None:
            await self._app(scope, limited, unless_broken)
        if broken is not None and not started:  # whatever the route made of a body that it could not read
            document = JSONResponse(broken.to_json(), broken.status, {"Connection": "close"}, problems.MEDIA_TYPE)
            await document(scope, receive, send)


def _length(headers: dict[bytes, bytes]) -> int:
    said = headers.get(b"content-length", b"0")
    return int(said) if said.isdigit() else 0


def _too_large() -> Problem:
    return Problem(413, f"a request may have {MAX_BODY} bytes, uploads apart")
