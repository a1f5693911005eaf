"""`kill -9` of the service while it receives and at every step of finishing: what was acknowledged is there, and a ZIP
is one submission.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import httpx2
import pytest

from evaluator.season.config import Season
from evaluator.season.store import Store, digest
from evaluator.web.receiving import CHECKED, FOLDER, RESULT, ZIP, Incoming, Info, Receiving
from tests.support.killing import Killer
from tests.support.serving import Service, encoded
from tests.support.uploads import TEAMS, open_again, served_season, sha256, zipped
from tests.support.workers import wait

SEED, KILLS = 23, 4


@pytest.fixture
def season(tmp_path: Path) -> Season:
    return served_season(tmp_path / "season")


@pytest.fixture
def service(season: Season, tmp_path: Path) -> Iterator[Service]:
    served = Service(season, tmp_path / "log").start()
    yield served
    served.end()


def check(season: Season, content: bytes) -> None:
    """The team has one submission, of these bytes, and nothing else is left."""
    states = open_again(season).states()
    assert [state.submission.digest for state in states] == [sha256(content)]
    assert digest(Store(season.folder).archive(sha256(content))) == sha256(content)
    assert {path.suffix for path in (season.folder / "submissions").iterdir()} == {".zip"}
    assert not list((season.folder / FOLDER).glob(f"*/{ZIP}"))


def test_the_service_is_killed_while_it_receives(season: Season, service: Service) -> None:
    content, chance = zipped("убит", 8_000_000), random.Random(SEED)
    tus = service.tus(service.token(TEAMS[0]))
    place, acknowledged = tus.place(content), 0
    for _ in range(KILLS):
        killed = threading.Timer(chance.uniform(0.0, 0.3), service.kill)
        killed.start()
        with contextlib.suppress(httpx2.TransportError):
            offset = acknowledged
            while offset < len(content):
                sent = tus.patch(place, offset, content[offset : offset + chance.randrange(1, 100_000)])
                assert sent.status_code == 204
                acknowledged = offset = int(sent.headers["Upload-Offset"])
                time.sleep(0.01)
        killed.join()
        service.start()
        if acknowledged == len(content):
            break
        offset = tus.offset(place)
        assert acknowledged <= offset <= len(content)
        acknowledged = offset
    while acknowledged < len(content):
        sent = tus.patch(place, acknowledged, content[acknowledged:])
        acknowledged = int(sent.headers["Upload-Offset"])
    assert tus.ended(place)["state"] == "accepted"
    check(season, content)


@pytest.mark.parametrize("moment", ["whole", CHECKED, "taken", RESULT])
def test_the_service_is_killed_while_it_finishes(season: Season, service: Service, moment: str) -> None:
    """As soon as that is seen on the disk; meanwhile it may have gone further."""
    content = zipped("проверка", 3_000_000)
    tus = service.tus(service.token(TEAMS[0]))
    place = tus.place(content)
    folder = season.folder / FOLDER / place.rpartition("/")[2]
    seen = {
        "whole": lambda: (folder / ZIP).stat().st_size == len(content),
        "taken": lambda: not (folder / ZIP).exists(),
    }.get(moment, lambda: (folder / moment).exists())

    def kill() -> None:
        wait(seen)
        service.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with contextlib.suppress(httpx2.TransportError):
        tus.patch(place, 0, content)
    killer.join()
    service.start()
    ended = tus.ended(place)
    assert ended["state"] == "accepted" and ended["archive"]["files"] == 3
    assert tus.create(content).json()["submission"] == ended["submission"]
    check(season, content)


def test_finishing_is_killed_at_every_step(season: Season) -> None:
    """One upload, and one process after another finishes it, each killed a step later than the one before."""
    content = zipped("шаги", 50_000)
    info = Info(
        team=1, by="ёж", name="шаги.zip", digest=sha256(content), length=len(content),
        metadata=encoded(sha256=sha256(content)), created_at=datetime.now(UTC),
    )  # fmt: skip
    parent = season.folder / FOLDER
    parent.mkdir()
    incoming = Incoming.make(parent, info)
    incoming.zip.write_bytes(content)
    for number in itertools.count(1):
        killed = finish_killed_at(number, season)
        ledger = open_again(season)
        states = ledger.states()
        assert len(states) <= 1
        if states:
            assert digest(Store(season.folder).archive(sha256(content))) == sha256(content)
        ledger.database.engine.dispose()
        if not killed:
            break
    assert number > 8  # steps there are
    check(season, content)
    assert json.loads((incoming.folder / RESULT).read_text(encoding="utf-8"))["state"] == "accepted"


def finish_killed_at(number: int, season: Season) -> bool:
    """Finish what is there in a process that is killed before that step; False where it ended before."""
    process = os.fork()
    if not process:
        code = 70
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            ledger = open_again(season)
            Killer(number, season.folder)
            anyio.run(_finish, Receiving(ledger), next((season.folder / FOLDER).glob("*/")) / RESULT)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


async def _finish(receiving: Receiving, result: Path) -> None:
    async with receiving.running():
        while any((incoming.state) == "checking" for incoming in receiving._all.values()):
            await anyio.sleep(0.01)
        assert result.exists()
