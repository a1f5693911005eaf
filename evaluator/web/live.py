"""Tells open pages that what they show is new: server-sent events. What is new they read from the page itself."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Annotated

import anyio
from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool
from sse_starlette import EventSourceResponse

from evaluator.season.ledger import Snapshot
from evaluator.web.access import Watcher
from evaluator.web.problems import Problem
from evaluator.web.watching import Watch

SECONDS = 1.0  # between two looks at the ledger, while anybody watches
HOLDS_SECONDS = 20.0  # between two looks at whether who watches is still let in
MOST_STREAMS = 100  # of a token, or of an address with none: nothing else ends them
PING = 20  # seconds between two signs of life, which proxies wait for
ENDING = 5.0  # seconds that streams have to end in with the service


class Live:
    """One look at the ledger at a time for all who watch."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._look: asyncio.Task[Snapshot] | None = None
        self._seen: Snapshot | None = None
        self._digests: dict[Hashable, asyncio.Task[str]] = {}  # of what was seen
        self._open: Counter[str] = Counter()  # streams, by who watches

    def stream(
        self, watcher: Watcher, page: Hashable, digest: Callable[[Snapshot], str], every: float = SECONDS
    ) -> EventSourceResponse:
        """An event `changed` with what `digest` gives: at first, and whenever it gives something else, but at most one
        in `every` seconds. It gives the same to all who watch the same `page`, and may block. The stream ends when
        `watcher` is let in no more. Raises `Problem` 429 where the same one has too many.
        """
        if self._open[watcher.key] >= MOST_STREAMS:
            raise Problem(429, f"too many streams: {MOST_STREAMS} at a time are allowed")
        ending = anyio.Event()  # the service's
        events = self._counted(watcher, page, digest, every, ending)
        return EventSourceResponse(events, ping=PING, shutdown_event=ending, shutdown_grace_period=ENDING)

    async def _counted(
        self, watcher: Watcher, page: Hashable, digest: Callable[[Snapshot], str], every: float, ending: anyio.Event
    ) -> AsyncIterator[dict[str, str]]:
        self._open[watcher.key] += 1
        try:
            async for event in self._events(watcher, page, digest, every, ending):
                yield event
        finally:
            self._open -= Counter({watcher.key: 1})  # and forget who has none

    async def _events(
        self, watcher: Watcher, page: Hashable, digest: Callable[[Snapshot], str], every: float, ending: anyio.Event
    ) -> AsyncIterator[dict[str, str]]:
        seen, said, looked = None, "", time.monotonic()
        while not ending.is_set():
            snapshot = await self._next()
            if time.monotonic() - looked >= HOLDS_SECONDS:
                if not await run_in_threadpool(watcher.holds):
                    return
                looked = time.monotonic()
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
