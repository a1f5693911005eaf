"""`kill -9` of the service, the queue, runs and the database, at random: what was acknowledged becomes a submission
without being sent again, each gets its score, and no attempt is charged twice.
"""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from evaluator.season.store import Store, digest
from tests.support import postgres
from tests.support.season import BACKENDS, check_lives
from tests.support.serving import Tus, World
from tests.support.uploads import TEAMS, sha256, zipped
from tests.support.workers import SECONDS, children, is_run, wait

SEED, KILLS = 29, 8
COUNT, PIECE = 3, 200_000  # ZIPs of a team, bytes of a request


def answered(call: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The answer, once there is one."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx2.TransportError):
            answer = call()
            if answer.status_code < 500 and answer.status_code not in (409, 423, 429):
                return answer
        time.sleep(0.2)
    raise AssertionError("no answer came")


def deliver(tus: Tus, content: bytes) -> dict[str, Any]:
    """What came of a ZIP, of which nothing is sent again once all of it is acknowledged."""
    place = answered(lambda: tus.create(content)).headers["Location"]
    offset = 0
    while offset < len(content):
        head = answered(lambda: tus.client.head(place))
        offset = int(head.headers["Upload-Offset"])
        with contextlib.suppress(httpx2.TransportError):
            while offset < len(content):
                sent = tus.patch(place, offset, content[offset : offset + PIECE])
                if sent.status_code != 204:
                    break
                offset = int(sent.headers["Upload-Offset"])
    while True:
        found = answered(lambda: tus.client.get(place))
        assert found.status_code == 200, found.text
        document: dict[str, Any] = found.json()
        if document["state"] not in ("receiving", "checking"):
            return document
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", BACKENDS)
def test_nothing_is_lost_or_charged_twice(kind: str, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {"lease_seconds": "2", "tries": "1000"}
        if kind == "postgresql":
            cluster = stack.enter_context(postgres.running())
            given["url"] = stack.enter_context(postgres.new_database(cluster.folder))
        world = World(tmp_path, **given)
        stack.callback(world.end)

        def kill_service() -> None:
            world.service.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            world.service.start()

        def kill_queue() -> None:
            world.queue.kill()
            world.queue.communicate()
            world.start_queue()

        def kill_runs() -> None:
            for pid in filter(is_run, children(world.queue.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        def kill_database() -> None:
            cluster.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            cluster.start()

        def deliver_all(team: str) -> list[dict[str, Any]]:
            tus = world.service.tus(world.token(team))
            return [deliver(tus, content) for content in contents[team]]

        contents = {team: [zipped(padding=1_500_000) for _ in range(COUNT)] for team in TEAMS}
        kills = [kill_service, kill_queue, kill_runs, *([kill_database] * 2 if kind == "postgresql" else [])]
        with ThreadPoolExecutor() as pool:
            ends = [pool.submit(deliver_all, team) for team in TEAMS]
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 1.5))
                chance.choice(kills)()
                check_lives(world.ledger)
            told = [document for end in ends for document in end.result(SECONDS)]
        assert [document["state"] for document in told] == ["accepted"] * COUNT * len(TEAMS), told

        world.wait_for_results(COUNT * len(TEAMS))
        store = Store(world.season.folder)
        for team in TEAMS:
            sent = sorted(map(sha256, contents[team]))
            assert sorted(state.submission.digest for state in world.ledger.states(team)) == sent
            assert [digest(store.archive(each)) for each in sent] == sent
            check_lives(world.ledger, charged=COUNT, team=team)
        assert world.ledger.unfinished() == 0


def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(postgres.running())
        world = World(tmp_path, url=stack.enter_context(postgres.new_database(cluster.folder)))
        stack.callback(world.end)
        tus, content = world.service.tus(world.token(TEAMS[0])), zipped()
        place = tus.place(content)
        assert tus.patch(place, 0, content).status_code == 204
        cluster.kill()
        wait(lambda: tus.client.get("/").status_code == 503)
        page, call = tus.client.get("/team"), tus.client.get(place)
        assert page.status_code == call.status_code == 503 and int(call.headers["Retry-After"]) > 0
        assert "does not answer; try again" in page.text and page.headers["Content-Type"].startswith("text/plain")
        assert call.json()["detail"] == page.text
        cluster.start()
        assert answered(lambda: tus.client.get("/team")).status_code == 200
        assert deliver(tus, content)["state"] == "accepted"
        world.wait_for_results(1)
