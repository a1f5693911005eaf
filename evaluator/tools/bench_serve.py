"""How the service bears a deadline: all teams send at once, people look meanwhile, and some callers mean ill.

    python -m evaluator.tools.bench_serve
    python -m evaluator.tools.bench_serve --teams 50 --mb 1 --earlier 1000 --seconds 5

Serves seasons in a temporary folder by `python -m evaluator season serve` on this machine, which the callers share.
Each team sends a ZIP by tus as the web client does: creation, PATCH, then asking what came of it. Beside
that people open pages at a steady rate, whether the ones before were answered or not: the board, a team's own page, the
API's board, each by a connection of its own.

    quiet      the pages alone
    round 1    all teams send at once
    round 2    once more, other ZIPs
    round 3    once more, while each team has its own page open, which reads itself again when an event says so
    earlier    a season with `--earlier` submissions; teams send, and runs end, one after another
    attacked   ZIPs one after another, first alone, then beside connections that send a byte a second: some of them of a
               request's head, others of an upload's body

After each round the ledger and the store are compared with what was sent. The last line is one JSON object; the exit
code is 1 where something was lost, came twice or failed, or where pages took longer than is allowed.
"""

import argparse
import asyncio
import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from evaluator.competition.definition import default
from evaluator.season.accounts import Accounts
from evaluator.season.config import Season, read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger, RunEnd
from evaluator.season.store import Store, digest
from evaluator.tools.bench_season import fill, make_season
from evaluator.web import protocol
from evaluator.web.protocol import CHECKING, RECEIVING

PAGE_SECONDS_ALLOWED = 0.3  # of a page, at the median, while all teams send
PAGES = {"board": "/", "own": "/team", "api": f"{protocol.API}/board"}
ASK_SECONDS = 1.0  # between two looks at an upload, as the page's script does
RENEW_SECONDS = 2.0  # between two readings of an open page, as its script does
HEADS, BODIES = 500, 100  # connections that send a byte a second
ROUND = "round"
_PIECE = 1 << 18
_ROOT = Path(__file__).parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluator.tools.bench_serve")
    parser.add_argument("--teams", type=int, default=300)
    parser.add_argument("--mb", type=float, default=5.0, help="10^6 bytes of a ZIP (default: %(default)s)")
    parser.add_argument("--pages", type=float, default=10.0, metavar="N", help="opened a second (default: %(default)s)")
    parser.add_argument("--earlier", type=int, default=10_000, metavar="N", help="submissions (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of what is no round (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serve-bench-") as folder:
        parcels = Parcels(round(options.mb * 1e6), random.Random(options.seed))
        found = _rounds(Path(folder) / "new", parcels, options) | _earlier(Path(folder) / "old", parcels, options)
    document = {
        "teams": options.teams,
        "zip_bytes": parcels.size,
        "earlier": options.earlier,
        "scenes": found,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    _print_table(found)
    rounds = [scene for name, scene in found.items() if name.startswith(ROUND)]
    slowest = max(scene["pages"]["all"]["median"] for scene in rounds)
    document["slowest_page_median_of_allowed"] = round(slowest / PAGE_SECONDS_ALLOWED, 3)
    failed = sum(scene.get(name, 0) for scene in found.values() for name in ("lost", "twice", "failed"))
    print(json.dumps(document))
    return 0 if not failed and slowest <= PAGE_SECONDS_ALLOWED else 1


# --- scenes ---


def _rounds(folder: Path, parcels: "Parcels", options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    season, tokens = _make_season(folder, options.teams, 0, options.seed)
    found: dict[str, dict[str, Any]] = {}
    with Service(season) as service:
        with Beside(_read_pages, service.port, tokens, options.pages) as readers:
            time.sleep(options.seconds / 2)
        found["quiet"] = {"pages": readers.result}
        for number in (1, 2, 3):
            sent = [parcels.make(f"{number} {team}") for team in range(options.teams)]
            before, worked = service.memory(), service.cpu_seconds()
            watching = Beside(_watch, service.port, tokens) if number == 3 else None
            with (
                watching or contextlib.nullcontext(),
                Beside(_read_pages, service.port, tokens, options.pages) as readers,
                service.watched() as seen,
            ):
                began = time.monotonic()
                ends = asyncio.run(_send_all(service.port, tokens, sent))
                seconds = time.monotonic() - began
            scene = {
                "seconds": round(seconds, 1),
                "uploads_per_second": round(len(sent) / seconds, 1),
                "mb_per_second": round(len(sent) * parcels.size / 1e6 / seconds, 1),
                "longest_upload": round(max(end.seconds for end in ends), 1),
                "cpu_of_service": round(service.cpu_seconds() - worked, 1),
                "pages": readers.result,
                "memory_mb": _memory(before, seen, service.memory()),
                **_compare(season, sent, ends),
            }
            if watching is not None:
                scene["open_pages"] = watching.result
            found[f"{ROUND} {number}"] = scene
        found["attacked"] = _attacked(service, tokens, parcels, options.seconds)
    return found


def _earlier(folder: Path, parcels: "Parcels", options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    season, tokens = _make_season(folder, options.teams, options.earlier, options.seed)
    sent = [parcels.make(f"earlier {number}") for number in range(round(options.seconds))]
    with Service(season) as service:
        before = service.memory()
        with (
            Beside(_work, season.path) as workers,
            Beside(_read_pages, service.port, tokens, options.pages) as readers,
            service.watched() as seen,
        ):
            ends = asyncio.run(_send_all(service.port, tokens, sent, pause=1.0))
        scene = {
            "pages": readers.result,
            "runs_ended": workers.result,
            "memory_mb": _memory(before, seen, service.memory()),
            "longest_upload": round(max(end.seconds for end in ends), 1),
            **_compare(season, sent, ends, options.earlier),
        }
    return {"earlier": scene}


def _attacked(service: "Service", tokens: Sequence[str], parcels: "Parcels", seconds: float) -> dict[str, Any]:
    """The median seconds of an upload, alone and beside the slow ones."""
    some = max(1, len(tokens) // 4)
    alone, ends = _one_by_one(service.port, tokens[:some], parcels, "alone", seconds / 2)
    with Beside(_attack, service.port, tokens[some:], parcels.size) as attack:
        time.sleep(5)
        beside, more = _one_by_one(service.port, tokens[:some], parcels, "beside", seconds)
    return {
        "sent": len(ends + more),
        "upload_alone": round(median(alone), 3),
        "upload_beside": round(median(beside), 3),
        "times_as_long": round(median(beside) / median(alone), 2),
        "attackers_open": attack.result,
        "failed": sum(not end.is_new for end in ends + more),
    }


def _one_by_one(
    port: int, tokens: Sequence[str], parcels: "Parcels", name: str, seconds: float
) -> tuple[list[float], list["End"]]:
    """By one team after another: each may call only so often."""
    ends: list[End] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or len(ends) < 3:
        token = tokens[len(ends) % len(tokens)]
        ends += asyncio.run(_send_all(port, [token], [parcels.make(f"{name} {len(ends)}")], ask=0.02))
    return [end.seconds for end in ends], ends


def _compare(season: Season, sent: Sequence["Parcel"], ends: Sequence["End"], earlier: int = 0) -> dict[str, int]:
    """What the ledger and the store have of what was sent, by digest."""
    ledger = Ledger(season, Database(season.url, season.folder))
    entered = Counter((state.submission.team, state.submission.digest) for state in ledger.states())
    expected = {(f"team {number + 1}", parcel.digest) for number, parcel in enumerate(sent)}
    submissions = [end.submission for end in ends if end.is_new]
    store = Store(season.folder)
    ledger.database.engine.dispose()
    return {
        "sent": len(sent),
        "failed": sum(not end.is_new for end in ends),
        "lost": sum(
            not entered[key] or not store.archive(key[1]).exists() or digest(store.archive(key[1])) != key[1]
            for key in expected
        ),
        "twice": sum(entered[key] > 1 for key in expected) + len(submissions) - len(set(submissions)),
    }


# --- seasons and what is sent ---


def _make_season(folder: Path, teams: int, submissions: int, seed: int) -> tuple[Season, list[str]]:
    """A season that has been open for two months, and a token of each of its teams."""
    folder.mkdir()
    now = datetime.now(UTC)
    replace = {
        "start = 2022-09-28": f"start = {(now - timedelta(days=61)).date()}",
        "end = 2022-11-13": f"end = {(now + timedelta(days=60)).date()}",
        "choose_until = 2022-11-15": f"choose_until = {(now + timedelta(days=62)).date()}",
        "keep_free_gb = 20": "keep_free_gb = 1",
        "invalid_a_day = 10": "invalid_a_day = 1000",
    }
    season = make_season(folder, "sqlite:///season.sqlite3", replace)
    database = Database(season.url, folder)
    database.migrate()
    fill(database, season, submissions, teams, random.Random(seed), now - timedelta(days=60))
    accounts = Accounts(Ledger(season, database))
    tokens = [accounts.make(f"team {number + 1}", "bench", "bench")[1] for number in range(teams)]
    database.engine.dispose()
    return season, tokens


class Parcel(NamedTuple):
    """A ZIP in two parts, the first of which all have in common, and its SHA-256."""

    head: bytes
    tail: bytes
    digest: str


class Parcels:
    """ZIPs of `size` bytes and a little, each another one."""

    def __init__(self, size: int, chance: random.Random) -> None:
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as file:
            file.writestr(zipfile.ZipInfo("weights.bin"), chance.randbytes(size))
            end = file.start_dir
        self._made, self._head = made.getvalue(), made.getvalue()[:end]
        self._hash = hashlib.sha256(self._head)
        self.size = sum(map(len, self.make("")[:2]))

    def make(self, name: str) -> Parcel:
        """The one of that name."""
        made = io.BytesIO(self._made)
        with zipfile.ZipFile(made, "a") as file:
            metadata = json.dumps({"image": "fusionbrain/fbc2:latest", "entrypoint": "python3 run.py"})
            file.writestr(zipfile.ZipInfo("metadata.json"), metadata)
            file.writestr(zipfile.ZipInfo("run.py"), f"print({name!r:>40})")
        counted, tail = self._hash.copy(), made.getvalue()[len(self._head) :]
        counted.update(tail)
        return Parcel(self._head, tail, counted.hexdigest())


# --- the service, and what runs beside it ---


class Memory(NamedTuple):
    """Resident megabytes of the service, and of the processes that it has started."""

    own: float
    children: float


class Service:
    """`python -m evaluator season serve`, on any port."""

    def __init__(self, season: Season) -> None:
        self._season = season

    def __enter__(self) -> "Service":
        command = [sys.executable, "-m", "evaluator", "season", "serve", "--season", str(self._season.path)]
        self._log = open(self._season.folder / "log", "w+b")  # noqa: SIM115
        self._process = subprocess.Popen([*command, "--port", "0"], cwd=_ROOT, stdout=self._log, stderr=self._log)
        while True:
            said = (self._season.folder / "log").read_text(encoding="utf-8")
            if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", said):
                self.port = int(found[1])
                return self
            if self._process.poll() is not None:
                raise RuntimeError(f"the service ended: {said}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._log.seek(0)
        sys.stderr.write(self._log.read().decode(errors="replace"))
        self._log.close()

    def memory(self) -> Memory:
        """Now."""
        children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                children.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parts[2]))
        started, found = [], [self._process.pid]
        while found:
            found = [child for parent in found for child in children.get(parent, ())]
            started += found
        return Memory(_resident(self._process.pid), sum(map(_resident, started)))

    def cpu_seconds(self) -> float:
        """So far, without those of the processes that it has started."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[Memory]]:
        """What it has each second, while the block runs."""
        seen, is_over = [self.memory()], threading.Event()

        def look() -> None:
            while not is_over.wait(1.0):
                seen.append(self.memory())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seen
        finally:
            is_over.set()
            thread.join()


def _resident(pid: int) -> float:
    with contextlib.suppress(OSError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


def _memory(before: Memory, seen: Sequence[Memory], after: Memory) -> dict[str, float]:
    """At begin, middle and end, the most, and the most of the processes that look at ZIPs."""
    return {
        "begin": round(before.own, 1),
        "middle": round(seen[len(seen) // 2].own, 1),
        "end": round(after.own, 1),
        "most": round(max(one.own for one in (*seen, after)), 1),
        "most_of_checks": round(max(one.children for one in seen), 1),
    }


_SPAWN = multiprocessing.get_context("spawn")


class Beside:
    """A function in a process of its own, which is given what tells whether it is to end, and `arguments`. When it has
    ended, `result` is what it returned.
    """

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._pipe, other = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_run_beside, args=(other, function, arguments))
        self._process.start()
        other.close()
        self._pipe.recv()
        self.result: Any = None

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(None)
        self.result = self._pipe.recv()
        self._process.join()


def _run_beside(pipe: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    pipe.send(None)
    pipe.send(function(pipe.poll, *arguments))


IsOver = Callable[[], bool]


async def _until(is_over: IsOver, forever: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run what has no end of its own."""
    tasks = [asyncio.create_task(one) for one in forever]
    while not is_over():
        await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    for end in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(end, asyncio.CancelledError):
            print(f"a caller ended: {end!r}", file=sys.stderr)


def _work(is_over: IsOver, rules: Path) -> int:
    """End two runs a second, as a queue does; returns how many."""
    season = read_season(rules)
    ledger = Ledger(season, Database(season.url, season.folder))
    outcome = RunEnd("OK", None, dict.fromkeys(default().numbers, 0.5), "d" * 64, {"seconds": 3600.0, "findings": []})
    ended = 0
    while not is_over():
        job = ledger.claim("bench")
        time.sleep(0.5)
        ended += job is not None and ledger.finish(job, outcome) is not None
    return ended


# --- callers ---


class Answer(NamedTuple):
    """Of the service; `headers` by their names in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Line:
    """A connection to the service, for one caller."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Send a request's head."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {headers[name]}" for name in headers)]
        self.writer.write("\r\n".join((*lines, "", "")).encode())

    async def call(self, method: str, path: str, headers: Mapping[str, str], *body: bytes) -> Answer:
        """Send a request, and read its answer."""
        size = {"Content-Length": str(sum(map(len, body)))} if body else {}
        self.say(method, path, {**headers, **size})
        for part in body:
            for start in range(0, len(part), _PIECE):
                self.writer.write(memoryview(part)[start : start + _PIECE])
                await self.writer.drain()
        status, found = await self.head()
        return Answer(status, found, await self.reader.readexactly(int(found.get("content-length", "0"))))

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read an answer's head: the status and the headers."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


@contextlib.asynccontextmanager
async def _line(port: int) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def _of(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _somewhere(number: int) -> dict[str, str]:
    """Who shows no token calls from an address of his own."""
    return {"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}


class End(NamedTuple):
    """What came of an upload, `seconds` after it was begun."""

    seconds: float
    submission: int | None
    is_new: bool


async def _send_all(
    port: int, tokens: Sequence[str], sent: Sequence[Parcel], pause: float = 0.0, ask: float = ASK_SECONDS
) -> list[End]:
    """Each by the next team, and `pause` seconds after the one before."""

    async def send(number: int, parcel: Parcel) -> End:
        await asyncio.sleep(number * pause)
        began = time.monotonic()
        try:
            found = await _send(port, _of(tokens[number % len(tokens)]), parcel, ask)
        except (OSError, EOFError, ValueError) as error:
            found = {"state": repr(error)}
        if not found.get("is_new"):
            print(f"an upload failed: {found}", file=sys.stderr)
        return End(time.monotonic() - began, found.get("submission"), bool(found.get("is_new")))

    return await asyncio.gather(*(send(number, parcel) for number, parcel in enumerate(sent)))


async def _send(port: int, caller: Mapping[str, str], parcel: Parcel, ask: float) -> dict[str, Any]:
    """Send a ZIP, and wait for what comes of it. Raises ValueError for an answer that is not what was asked for."""
    async with _line(port) as line:
        place = await _begin(line, caller, len(parcel.head) + len(parcel.tail), parcel.digest)
        said = {protocol.UPLOAD_OFFSET: "0", "Content-Type": protocol.OFFSET_TYPE}
        answer = await line.call("PATCH", place, {**_TUS, **caller, **said}, parcel.head, parcel.tail)
        if answer.status != 204:
            raise ValueError(f"{answer.status} {answer.content.decode(errors='replace')}")
        while True:
            answer = await line.call("GET", place, {**caller, **protocol.WAITING})
            if answer.status != 200:
                raise ValueError(f"{answer.status} {answer.content.decode(errors='replace')}")
            found: dict[str, Any] = json.loads(answer.content)
            if found["state"] not in (RECEIVING, CHECKING):
                return found
            await asyncio.sleep(ask)


_TUS = {protocol.TUS_RESUMABLE: protocol.TUS_VERSION}


async def _begin(line: Line, caller: Mapping[str, str], size: int, sent: str) -> str:
    """The path of a new upload. Raises ValueError where it is refused."""
    pairs = {protocol.NAME_KEY: b"submission.zip", protocol.DIGEST_KEY: sent.encode()}
    said = {protocol.UPLOAD_LENGTH: str(size), protocol.UPLOAD_METADATA: protocol.metadata(pairs)}
    answer = await line.call("POST", protocol.UPLOADS, {**_TUS, **caller, **said}, b"")
    if answer.status != 201:
        raise ValueError(f"{answer.status} {answer.content.decode(errors='replace')}")
    return answer.headers["location"]


Opened = tuple[str, float, bool]  # which page, the seconds, and whether it came


def _read_pages(is_over: IsOver, port: int, tokens: Sequence[str], rate: float) -> dict[str, dict[str, float]]:
    """Open `rate` pages a second; returns their seconds, from when each was due."""

    async def read() -> list[Opened]:
        tasks: list[asyncio.Task[Opened]] = []
        began = time.monotonic()
        for number, kind in enumerate(itertools.cycle(PAGES)):
            due = began + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if is_over():
                return await asyncio.gather(*tasks)
            caller = _of(tokens[number % len(tokens)]) if kind == "own" else _somewhere(number)
            tasks.append(asyncio.create_task(_open(port, kind, caller, due)))
        raise AssertionError

    return _summary(asyncio.run(read()))


async def _open(port: int, kind: str, caller: Mapping[str, str], due: float) -> Opened:
    try:
        async with _line(port) as line:
            answer = await line.call("GET", PAGES[kind], caller)
    except (OSError, EOFError):
        return kind, time.monotonic() - due, False
    return kind, time.monotonic() - due, answer.status == 200


def _summary(found: Sequence[Opened]) -> dict[str, dict[str, float]]:
    """Of each kind of page, and of all: how many, how many failed, and the seconds."""
    summary = {}
    for kind in (*PAGES, "all"):
        own = [(seconds, is_well) for each, seconds, is_well in found if kind in (each, "all")]
        if len(own) > 1:
            seconds = [each for each, _ in own]
            summary[kind] = {
                "count": len(own),
                "failed": sum(not is_well for _, is_well in own),
                "median": round(median(seconds), 4),
                "p95": round(quantiles(seconds, n=20)[-1], 4),
            }
    return summary


def _watch(is_over: IsOver, port: int, tokens: Sequence[str]) -> dict[str, Any]:
    """Each team has its page open: what the service tells it, and how long it takes to read the page again. It does not
    end before each was told something.
    """
    events, waiting, again = 0, len(tokens), []

    async def watch(token: str) -> None:
        nonlocal events, waiting
        is_first = True
        try:
            async with _line(port) as line:
                page = await line.call("GET", PAGES["own"], _of(token))
                found = re.search(rb'data-live="([^"]+)"', page.content)
            async with _line(port) as line:
                line.say("GET", found[1].decode() if found else "", _of(token))
                status, _ = await line.head()
                if status != 200:
                    raise RuntimeError(f"no events, but {status}")
                while piece := await line.reader.readline():
                    if not piece.startswith(b"data:"):
                        continue
                    events += 1
                    if is_first:
                        is_first, waiting = False, waiting - 1
                        continue
                    again.append(await _open(port, "own", _of(token), time.monotonic()))  # what the page shows by now
                    await asyncio.sleep(RENEW_SECONDS)
        finally:
            waiting -= is_first

    asyncio.run(_until(lambda: not waiting and is_over(), map(watch, tokens)))
    return {"events": events, "read_again": _summary(again).get("own", {})}


def _attack(is_over: IsOver, port: int, tokens: Sequence[str], size: int) -> dict[str, int]:
    """Connections that send a byte a second, and others in place of those that the service ends. Returns how many were
    open in the end, and how many the service has ended.
    """
    count = {"heads": 0, "bodies": 0, "ended": 0}

    async def slow(kind: str, begin: Callable[[Line], Coroutine[Any, Any, None]]) -> None:
        while True:
            with contextlib.suppress(OSError, EOFError, ValueError):
                async with _line(port) as line:
                    await begin(line)
                    count[kind] += 1
                    try:
                        while not line.reader.at_eof():
                            line.writer.write(b"a")
                            await line.writer.drain()
                            await asyncio.sleep(1.0)
                    finally:
                        if not is_over():
                            count[kind] -= 1
                            count["ended"] += 1
            await asyncio.sleep(0.1)

    async def head(line: Line) -> None:
        line.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

    async def body(line: Line, caller: Mapping[str, str]) -> None:
        place = await _begin(line, caller, size, hashlib.sha256(os.urandom(8)).hexdigest())
        said = {protocol.UPLOAD_OFFSET: "0", "Content-Type": protocol.OFFSET_TYPE, "Content-Length": str(size)}
        line.say("PATCH", place, {**_TUS, **caller, **said})

    heads = [slow("heads", head) for _ in range(HEADS)]
    bodies = [slow("bodies", partial(body, caller=_of(token))) for token in tokens[:BODIES]]
    asyncio.run(_until(is_over, [*heads, *bodies]))
    return count


# --- what is told ---


def _print_table(scenes: Mapping[str, Mapping[str, Any]]) -> None:
    """A column for each scene."""
    columns = {name: dict(_flat(scene)) for name, scene in scenes.items()}
    keys = list(dict.fromkeys(itertools.chain.from_iterable(columns.values())))
    print(f"{'':<32}" + "".join(f"{name:>11}" for name in columns))
    for key in keys:
        print(f"{key:<32}" + "".join(f"{column.get(key, '–'):>11}" for column in columns.values()))


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name} ")
        else:
            yield f"{before}{name}", value


if __name__ == "__main__":
    sys.exit(main())
