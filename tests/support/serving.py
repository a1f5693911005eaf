"""The service as a process that can be killed and started again, and a few lines of tus."""

import base64
import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from evaluator.season import PUBLIC
from evaluator.season.accounts import Accounts
from evaluator.season.config import Season
from evaluator.season.ledger import Ledger
from tests.support import workers
from tests.support.uploads import open_again, served_season, zipped
from tests.support.workers import ROOT, SECONDS


class Service:
    """`python -m evaluator season serve`; it keeps its port over restarts. Its log goes to a file."""

    def __init__(self, season: Season, log: Path) -> None:
        self.season, self.log = season, log
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Service":
        """Returns when it takes calls."""
        before = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", "evaluator", "season", "serve", "--season", str(self.season.path)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port)], cwd=ROOT, stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS
        while True:
            said = self.log.read_bytes()[before:].decode(errors="replace")
            if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", said):
                self.port = int(found[1])
                return self
            assert self.process.poll() is None and time.monotonic() < deadline, said
            time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would, but that the kernel goes on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """In order; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def token(self, team: str) -> str:
        command = [sys.executable, "-m", "evaluator", "season", "token", team, "--season", str(self.season.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    def tus(self, token: str) -> "Tus":
        return Tus(self.url, token)


class World:
    """A season that is served, with a queue that works."""

    def __init__(self, folder: Path, **given: Any) -> None:
        self.folder = folder
        self.season: Season = served_season(folder / "season", **given)
        self.ledger: Ledger = open_again(self.season)
        self.service = Service(self.season, folder / "log")
        self.service.start()
        self.queue = self.start_queue()

    def start_queue(self) -> subprocess.Popen[str]:
        self.queue = workers.start(self.season)
        return self.queue

    def wait_for_results(self, count: int) -> None:
        """Three failures in a row end a queue, and so does a database that is away when it starts: somebody would start
        it again.
        """

        def are_there() -> bool:
            if self.queue.poll() is not None:
                self.start_queue()
            return len(self.ledger.results(PUBLIC)) >= count

        workers.wait(are_there)

    def token(self, team: str) -> str:
        return Accounts(self.ledger).make(team, "ноутбук «Ё»", "test", None)[1]

    def zip(self, name: str, *given: Any, **named: Any) -> Path:
        path = self.folder / name
        path.write_bytes(zipped(*given, **named))
        return path

    def end(self) -> None:
        self.queue.terminate()
        self.queue.communicate(timeout=SECONDS)
        self.service.end()
        self.ledger.database.engine.dispose()


def encoded(**values: str | bytes) -> str:
    """Upload-Metadata."""
    pairs = []
    for key, value in values.items():
        content = value.encode() if isinstance(value, str) else value
        pairs.append(f"{key} {base64.b64encode(content).decode()}")
    return ",".join(pairs)


class Tus:
    """A caller that says each header itself."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.client = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"},
            timeout=SECONDS,
            trust_env=False,
        )

    def create(
        self, content: bytes, name: str | bytes = "посылка.zip", digest: str | None = None, **headers: str
    ) -> httpx2.Response:
        metadata = encoded(filename=name, sha256=digest or hashlib.sha256(content).hexdigest())
        said = {"Upload-Length": str(len(content)), "Upload-Metadata": metadata}
        return self.client.post("/api/v1/uploads", headers=said | headers)

    def place(self, content: bytes, **given: Any) -> str:
        """The path of an upload of this."""
        made = self.create(content, **given)
        assert made.status_code in (200, 201), made.text
        return made.headers["Location"]

    def patch(self, place: str, offset: int, content: bytes, **headers: str) -> httpx2.Response:
        said = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return self.client.patch(
            place, content=content, headers=said | {k.replace("_", "-"): v for k, v in headers.items()}
        )

    def offset(self, place: str) -> int:
        while (answer := self.client.head(place)).status_code == 423:  # what was sent before may come later
            pass
        assert answer.status_code == 200
        return int(answer.headers["Upload-Offset"])

    def ended(self, place: str) -> dict[str, Any]:
        """What came of an upload."""
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self.client.get(place)
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            if found["state"] not in ("receiving", "checking"):
                return found
            assert found["state"] == "checking" and time.monotonic() < deadline
            time.sleep(0.2)  # a token may not call all the time

    def send(self, content: bytes, **given: Any) -> dict[str, Any]:
        """All of it at once, and what came of it."""
        place = self.place(content, **given)
        if (offset := self.offset(place)) < len(content):
            sent = self.patch(place, offset, content[offset:])
            assert sent.status_code == 204, sent.text
        return self.ended(place)

    def begun(self, place: str, offset: int, length: int, content: bytes = b"") -> socket.socket:
        """The connection of a PATCH of `length` bytes, of which these are sent: the rest is the caller's."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        connection = socket.create_connection((host, int(port)), timeout=SECONDS)
        lines = (
            f"PATCH {place} HTTP/1.1",
            f"Host: {host}",
            f"Authorization: Bearer {self.token}",
            "Tus-Resumable: 1.0.0",
            f"Upload-Offset: {offset}",
            "Content-Type: application/offset+octet-stream",
            f"Content-Length: {length}",
        )
        connection.sendall("\r\n".join((*lines, "", "")).encode() + content)
        return connection


def status(connection: socket.socket) -> int | None:
    """The status of the answer that ends a connection; None where it ends without one."""
    answer = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            answer += piece
    return int(answer.split()[1]) if answer else None


def pid_exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
