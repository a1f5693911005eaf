"""`python -m evaluator send` as a process, to the service as a process, over lines that break."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from evaluator.season.store import Store
from evaluator.web.protocol import UPLOADS
from tests.support import workers
from tests.support.season import TRUTH
from tests.support.serving import Service
from tests.support.uploads import TEAMS, BreakingLine, open_again, served_season, sha256, zipped
from tests.support.workers import ROOT, SECONDS, wait

SEED = 23


class Done(NamedTuple):
    code: int
    out: str
    err: str
    document: dict[str, Any]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    served = Service(served_season(tmp_path / "season", valid_a_day="3"), tmp_path / "log").start()
    yield served
    served.end()


@pytest.fixture
def make_sender(service: Service, tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command, for the first team, with the token in the environment."""
    started: list[subprocess.Popen[str]] = []
    tokens: list[str] = []

    def start(path: Path, *options: str, url: str | None = None, token: str | None = None) -> "subprocess.Popen[str]":
        if not tokens:
            tokens.append(service.token(TEAMS[0]))
        given = {"FBC_TOKEN": tokens[0] if token is None else token, "NO_PROXY": "*"}
        json_option = ["--json", str(tmp_path / "sent.json")]
        command = [sys.executable, "-m", "evaluator", "send", str(path), "--url", url or service.url, *json_option]
        pipe = subprocess.PIPE
        started.append(
            subprocess.Popen(
                [*command, *options], cwd=ROOT, env=os.environ | given, stdout=pipe, stderr=pipe, text=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def send(make_sender: Callable[..., "subprocess.Popen[str]"], tmp_path: Path) -> Callable[..., Done]:
    def call(path: Path, *options: str, **given: Any) -> Done:
        process = make_sender(path, *options, **given)
        out, err = process.communicate(timeout=SECONDS)
        written = tmp_path / "sent.json"
        document = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
        return Done(process.returncode, out, err, document)

    return call


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[..., Path]:
    def make(content: bytes, name: str = "Ёж «финал» 🐈.zip") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


def test_a_zip_is_sent_and_followed_to_its_verdict(
    service: Service, send: Callable[..., Done], make_file: Callable[..., Path]
) -> None:
    path = make_file(zipped(TRUTH, 200_000))
    first = send(path)
    assert first.code == 0, first.err
    assert (first.document["submission"], first.document["state"], first.document["verdict"]) == (1, "queued", None)
    assert first.document["is_new"] and first.document["attempts"]["left"] == 2
    assert "submission 1: taken" in first.out and "attempts left today: 2" in first.out
    again = send(path)
    assert again.code == 0 and again.document["submission"] == 1 and again.document["is_new"] is False
    assert "this ZIP was sent before" in again.out
    worker = workers.start(service.season)
    try:
        done = send(path, "--wait")
        assert done.code == 0, done.err
        assert (done.document["state"], done.document["verdict"], done.document["score"]) == ("done", "OK", 1.0)
        assert "score: 1.0000" in done.out
        bad = send(make_file(zipped(code="raise SystemExit(7)"), "плохой.zip"), "--wait")
        assert bad.code == 1 and bad.document["verdict"] == "EXIT" and bad.document["submission"] == 2
        assert bad.document["findings"] and "verdict: EXIT" in bad.err
    finally:
        worker.terminate()
        worker.communicate(timeout=SECONDS)
    assert [state.submission.name for state in open_again(service.season).states()] == [path.name, "плохой.zip"]


def test_a_faulty_zip_is_not_sent(service: Service, send: Callable[..., Done], make_file: Callable[..., Path]) -> None:
    done = send(make_file(b"PK no zip at all"))
    assert done.code == 1 and "verdict: BAD_ZIP" in done.err
    assert (done.document["submission"], done.document["state"]) == (None, "faulty")
    assert done.document["verdict"] == "BAD_ZIP" and done.document["findings"]
    assert service.tus(service.token(TEAMS[0])).client.get(UPLOADS).json() == []


def test_what_the_rules_do_not_allow(
    service: Service, send: Callable[..., Done], make_file: Callable[..., Path]
) -> None:
    for number in range(3):
        assert send(make_file(zipped(f"ответ {number}"))).code == 0
    done = send(make_file(zipped("лишний")))
    assert done.code == 4 and "no attempt left" in done.err
    assert done.document["state"] == "refused" and "no attempt left" in done.document["reason"]
    assert done.document["submission"] is None and done.document["verdict"] is None


def test_tokens(service: Service, send: Callable[..., Done], make_file: Callable[..., Path], tmp_path: Path) -> None:
    path = make_file(zipped())
    assert send(path, token="").code == 2
    wrong = send(path, token="fbc_nothing")
    assert wrong.code == 2 and "does not take the token" in wrong.err
    assert send(path, token="две строки\nX-Evil: 1").code == 2
    file = tmp_path / "token"
    file.write_text(service.token(TEAMS[1]) + "\n", encoding="utf-8")
    file.chmod(0o640)
    seen = send(path, "--token-file", str(file))
    assert seen.code == 2 and "chmod 600" in seen.err
    file.chmod(0o600)
    assert send(path, "--token-file", str(file), token="").code == 0
    assert [state.submission.team for state in open_again(service.season).states()] == [TEAMS[1]]
    assert send(path, "--token-file", str(tmp_path)).code == 2
    assert send(path, "--token-file", str(tmp_path / "нет")).code == 2


class _Elsewhere(BaseHTTPRequestHandler):
    """Something else that speaks HTTP."""

    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(308)
            self.send_header("Location", "https://other.example/")
        else:
            self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


def test_no_service_there(send: Callable[..., Done], make_file: Callable[..., Path]) -> None:
    path = make_file(zipped())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = send(path, url=f"http://127.0.0.1:{port}")
    assert nobody.code == 3 and "cannot be reached" in nobody.err and nobody.document["state"] == "failed"
    assert send(path, url="ftp://127.0.0.1").code == 2
    assert send(path, url="season.example").code == 2
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{elsewhere.server_address[1]}"
        other = send(path, url=url)
        assert other.code == 2 and "no season's service" in other.err
        moved = send(path, url=f"{url}/moved")
        assert moved.code == 2 and "https://other.example/" in moved.err
        plain = send(path, url=url.replace("http:", "https:"))  # it speaks no TLS
        assert plain.code == 3 and "cannot be reached" in plain.err
        elsewhere.shutdown()


def test_lines_that_break(service: Service, send: Callable[..., Done], make_file: Callable[..., Path]) -> None:
    """After any number of bytes; a service that wants a pause gets it."""
    content, chance = zipped("обрыв", 3_000_000), random.Random(SEED)
    line = BreakingLine(service.port, [chance.randrange(1, 500_000) for _ in range(5)], refusals=1)
    done = send(make_file(content), url=line.url)
    line.close()
    assert done.code == 0, done.err
    assert line.broken == 5 and line.refused == 1 and done.err.count("once more in") >= 5
    assert Store(service.season.folder).size(sha256(content)) == len(content)
    assert len(open_again(service.season).states()) == 1


def test_the_service_is_killed_and_comes_back(
    service: Service, make_sender: Callable[..., "subprocess.Popen[str]"], make_file: Callable[..., Path]
) -> None:
    content = zipped("сервер убит", 60_000_000)
    path = make_file(content)
    process = make_sender(path)
    wait(lambda: _received(service) > 0)
    service.kill()
    service.start()
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert Store(service.season.folder).size(sha256(content)) == len(content)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_sender_is_ended_and_goes_on(
    service: Service,
    make_sender: Callable[..., "subprocess.Popen[str]"],
    send: Callable[..., Done],
    make_file: Callable[..., Path],
    number: signal.Signals,
) -> None:
    """From the byte where it was, which the second call's log tells."""
    content = zipped("клиент убит", 10_000_000)
    path = make_file(content)
    line = BreakingLine(service.port, [], pause=0.2)
    process = make_sender(path, url=line.url)
    wait(lambda: _received(service) > 1_000_000)
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    if number == signal.SIGINT:
        assert process.returncode == 130 and "the same command goes on with it" in err
    line.close()
    before = _received(service)
    assert before > 1_000_000
    done = send(path)
    assert done.code == 0, done.err
    assert Store(service.season.folder).size(sha256(content)) == len(content)
    assert len(open_again(service.season).states()) == 1


def _received(service: Service) -> int:
    """Bytes of uploads that have come."""
    files = (service.season.folder / "uploads").glob("*/submission.zip")
    return sum(path.stat().st_size for path in files)


def test_two_senders_of_one_zip(
    service: Service, make_sender: Callable[..., "subprocess.Popen[str]"], make_file: Callable[..., Path]
) -> None:
    content = zipped("вдвоём", 30_000_000)
    path = make_file(content)
    senders = [make_sender(path), make_sender(path)]
    ended = [sender.communicate(timeout=SECONDS) for sender in senders]
    assert [sender.returncode for sender in senders] == [0, 0], ended
    assert len(open_again(service.season).states()) == 1
