"""Tells open pages that what they show is new: server-sent events. What is new they read from the page itself."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Annotated

import anyio
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse

from evaluator.season.ledger import Snapshot
from evaluator.web.watching import Watch

SECONDS = 1.0  # between two looks at the ledger, while anybody watches
PING = 20  # seconds between two signs of life, which proxies wait for
ENDING = 5.0  # seconds that streams have to end in with the service


class Live:
    """One look at the ledger at a time for all who watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._look: asyncio.Task[Snapshot] | None = None
        self._seen: Snapshot | None = None
        self._digests: dict[Hashable, asyncio.Task[str]] = {}  # of what was seen

    def stream(self, page: Hashable, digest: Callable[[Snapshot], str], every: float = SECONDS) -> EventSourceResponse:
        """An event `changed` with what `digest` gives: at first, and whenever it gives something else, but at most one
        in `every` seconds. It gives the same to all who watch the same `page`, and may block.
        """
        ending = anyio.Event()  # the service's
        events = self._events(page, digest, every, ending)
        return EventSourceResponse(events, ping=PING, shutdown_event=ending, shutdown_grace_period=ENDING)

    async def _events(
        self, page: Hashable, digest: Callable[[Snapshot], str], every: float, ending: anyio.Event
    ) -> AsyncIterator[dict[str, str]]:
        seen, said = None, ""
        while not ending.is_set():
            snapshot = await self._next()
            if snapshot is seen:
                continue
            seen, found = snapshot, await self._digest(snapshot, page, digest)
            if found != said:
                said = found
                yield {"event": "changed", "data": said}
                with anyio.move_on_after(every):
                    await ending.wait()

    async def _digest(self, snapshot: Snapshot, page: Hashable, digest: Callable[[Snapshot], str]) -> str:
        if self._seen is not snapshot:
            self._seen, self._digests = snapshot, {}
        if page not in self._digests:
            self._digests[page] = asyncio.create_task(run_in_threadpool(digest, snapshot))
        return await asyncio.shield(self._digests[page])

    async def _next(self) -> Snapshot:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._after_a_while())
        return await asyncio.shield(self._look)

    async def _after_a_while(self) -> Snapshot:
        await asyncio.sleep(SECONDS)
        return (await run_in_threadpool(self._watch.see)).snapshot


def stamp(*shown: object) -> str:
    """A digest of what is shown."""
    return hashlib.sha256(repr(shown).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def the_live(request: Request) -> Live:
    """What tells open pages that something is new."""
    live: Live = request.app.state.live
    return live


TheLive = Annotated[Live, Depends(the_live)]
