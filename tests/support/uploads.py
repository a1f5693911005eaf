"""Seasons that are served, what teams send to them, and a line that breaks."""

import contextlib
import hashlib
import io
import json
import math
import os
import random
import select
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from evaluator.season.config import Season, read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from tests.support.data import build_data
from tests.support.season import RUN, TASK, TRUTH, write_season

TEAMS = ("Ёжики", "Кот «Ё»")


def served_season(
    folder: Path,
    web: Sequence[str] = ("keep_free_gb = 0",),
    limits: str = "",
    url: str = "sqlite:///season.sqlite3",
    **replace: str,
) -> Season:
    """A season of today with data, a database and teams, whose submissions can really run."""
    for name in ("public", "private"):
        build_data(folder / "data" / name, (TASK,))
    hours_ahead = 12 - datetime.now(UTC).hour  # about noon: no day ends while a test goes on
    settings = {
        "time_zone": f'"Etc/GMT{-hours_ahead:+d}"',
        "start": "2020-01-01",
        "end": "2090-01-01",
        "choose_until": "2090-01-01",
        "valid_a_day": "1000",
        "invalid_a_day": "1000",
        "retry_seconds": "0",
    }
    season = write_season(folder, url, **(settings | replace))
    with open(season.path, "a", encoding="utf-8") as file:
        file.write("\n".join(["", "[web]", *web, "[limits]", limits, ""]))
    season = read_season(season.path)
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database)
    for team in TEAMS:
        ledger.add_team(team)
    database.engine.dispose()
    return season


def open_again(season: Season) -> Ledger:
    return Ledger(season, Database(season.url, season.folder))


def zipped(text: str = TRUTH, padding: int = 0, code: str | None = None) -> bytes:
    """A submission that answers `text`, or runs `code`, with so many random bytes beside it."""
    packed = io.BytesIO()
    metadata = json.dumps({"image": "a/b:1", "entrypoint": "python3 -S run.py"})
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr(zipfile.ZipInfo("metadata.json"), metadata)
        file.writestr(zipfile.ZipInfo("run.py"), RUN % text if code is None else code)
        if padding:
            file.writestr(zipfile.ZipInfo("веса.bin"), os.urandom(padding))
    return packed.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class BreakingLine:
    """Passes on what comes to `port`, both ways, and breaks each of the first connections after as many bytes of the
    caller's as `breaks` says; the first `refusals` are answered with 429 instead. It may `pause` for some seconds
    before each piece.
    """

    def __init__(self, to: int, breaks: Sequence[int], refusals: int = 0, pause: float = 0.0) -> None:
        self._to, self._breaks, self._refusals, self._pause = to, list(breaks), refusals, pause
        self.broken = self.refused = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            if self.refused < self._refusals:
                self.refused += 1
                caller.recv(65536)
                caller.sendall(b"HTTP/1.1 429 Too\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                caller.close()
                continue
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._to)) as service,
            caller,
        ):
            back = threading.Thread(target=_pass, args=(service, caller), daemon=True)
            back.start()
            count = 0
            while piece := _received(caller):
                left = self._breaks[0] - count if self._breaks else len(piece)
                if len(piece) > left:
                    service.sendall(piece[:left])
                    self._breaks.pop(0)
                    self.broken += 1
                    return
                time.sleep(self._pause)
                service.sendall(piece)
                count += len(piece)


class Line:
    """Passes on what comes to `port`, both ways. Nothing more of what callers send is passed on after as many bytes of
    theirs, all connections together, as `hold_at` says, until that is set anew.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.hold_at: float = math.inf
        self.passed = self._cuts = 0
        self._counting = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def holds(self) -> bool:
        return self.passed >= self.hold_at

    def cut(self) -> None:
        """Break what is connected."""
        self._cuts += 1

    def close(self) -> None:
        self._listening.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        cuts = self._cuts
        with caller, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as service:
            back = threading.Thread(target=_pass, args=(service, caller), daemon=True)
            back.start()
            while back.is_alive() and self._cuts == cuts:
                if self.holds or not select.select([caller], [], [], 0.02)[0]:
                    time.sleep(0.01 if self.holds else 0)
                    continue
                piece = _received(caller)
                if not piece:
                    break
                service.sendall(piece)
                with self._counting:
                    self.passed += len(piece)
            if self.holds or self._cuts != cuts:  # at once, though the caller still sends
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            service.shutdown(socket.SHUT_RDWR)
            back.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := _received(source):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def pieces(content: bytes, chance: random.Random, count: int) -> list[bytes]:
    """The content in so many pieces of any size."""
    cuts = sorted(chance.randrange(len(content)) for _ in range(count - 1))
    return [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]
