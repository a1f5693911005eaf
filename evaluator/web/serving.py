"""Runs the service: one process, by uvicorn, until SIGINT or SIGTERM."""

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from evaluator.core.errors import DataError

HEAD_SECONDS = 15.0  # for the first line and the headers of a request
KEEP_ALIVE_SECONDS = 30
GRACEFUL_SECONDS = 10  # for requests that are being answered when the service ends
MAX_HEAD_BYTES = 32 * 1024
_BACKLOG = 2048


class _Protocol(H11Protocol):
    """Ends a connection whose request does not begin in time, or comes a byte now and a byte then."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._head is None:
            self._wait()

    def _wait(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _too_slow(self) -> None:
        self._head = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Ends in order at a signal, which is then nobody else's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(app: FastAPI, host: str, port: int, proxies: str, say: Callable[[str], None]) -> None:
    """Serve `app` on an address until SIGINT or SIGTERM; port 0 is any. `proxies` are addresses, with commas between,
    whose word on the caller's address and scheme is taken. `say` gets a line when calls are taken.

    Raises `DataError` where the address cannot be had.
    """
    _raise_open_files()
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(place, family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"--host {host} --port {port}: cannot be served on: {reason}") from None
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=proxies,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    with listening:
        app.state.say_ready = lambda: say(f"serving on http://{shown}:{listening.getsockname()[1]}")
        _Server(config).run(sockets=[listening])


def _raise_open_files() -> None:
    """A connection is an open file, and so is an upload."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
