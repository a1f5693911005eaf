"""What keeps the service quick: processes that look at ZIPs are kept, large seasons rest, uploads are waited for."""

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from evaluator.core import limits
from evaluator.core.errors import EvaluatorError
from evaluator.season.accounts import Accounts, Holder
from evaluator.season.ledger import Ledger
from evaluator.web import api, watching
from evaluator.web.access import TeamCaller
from evaluator.web.checking import Checks
from evaluator.web.watching import Watch
from tests.support.season import archive
from tests.support.serving import Service
from tests.support.uploads import TEAMS, open_again, served_season, zipped
from tests.support.workers import ROOT

MAX = 10**8


def test_many_zips_are_looked_at_by_processes_that_are_kept(tmp_path: Path) -> None:
    good, bad = tmp_path / "хорошее «ё».zip", tmp_path / "плохое\n🦔.zip"
    good.write_bytes(zipped("ответ", 100_000))
    bad.write_bytes(b"PK no ZIP")

    async def look() -> None:
        async with Checks(MAX, MAX) as checks:
            verdicts = [(await checks.look(path))["verdict"] for path in (good, bad, good)]
            assert verdicts == ["OK", "BAD_ZIP", "OK"] and len(checks._idle) == 1
            process = checks._idle[0].process
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(checks.look, good)
            assert len(checks._idle) == 3
        assert process.returncode == -signal.SIGKILL

    anyio.run(look)


def test_a_process_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped("ответ"))

    async def look() -> None:
        async with Checks(MAX, MAX) as checks:
            await checks.look(path)
            process = checks._idle[0].process
            process.kill()
            await process.wait()
            assert (await checks.look(path))["verdict"] == "OK"
            assert checks._idle[0].process.pid != process.pid

    anyio.run(look)


def test_a_process_that_ends_while_it_looks_says_nothing_of_the_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped("ответ"))

    async def look() -> None:
        async with Checks(MAX, MAX) as checks:
            await checks.look(path)
            process = checks._idle[0].process
            process.send_signal(signal.SIGSTOP)  # it will not get to it

            async def kill() -> None:
                while checks._idle:  # until it was asked
                    await anyio.sleep(0.01)
                process.kill()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                with pytest.raises(EvaluatorError, match="ended"):
                    await checks.look(path)
            assert (await checks.look(path))["verdict"] == "OK"

    anyio.run(look)


def test_a_look_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped("ответ"))

    async def look() -> None:
        async with Checks(MAX, MAX) as checks:
            await checks.look(path)
            process = checks._idle[0].process
            process.send_signal(signal.SIGSTOP)
            monkeypatch.setattr(limits, "PREFLIGHT_SECONDS", 0.5)
            with pytest.raises(EvaluatorError, match="TimeoutError"):
                await checks.look(path)
            assert not checks._idle and process.returncode == -signal.SIGKILL

    anyio.run(look)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_again(served_season(tmp_path / "season"))


def test_a_small_season_is_always_seen_as_it_is(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "CHEAP", 1000.0)
    watch = Watch(ledger)
    for number in range(3):
        ledger.add_team(f"Команда {number}")
        assert watch.see().snapshot.teams[-1].name == f"Команда {number}"
    assert watch.see() is watch.see()


def test_a_large_season_rests_but_not_for_who_has_changed_it(ledger: Ledger) -> None:
    watch = Watch(ledger)
    before = watch.see()
    watch.spent(1000.0)
    ledger.add_team("Новая")
    assert watch.see() is before
    watch.renew()
    assert watch.see().snapshot.teams[-1].name == "Новая"


def test_a_large_season_where_nothing_happens_rests_no_longer_each_time(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its board is made anew as time goes on: all night long, for whoever has left it open."""
    monkeypatch.setattr(watching, "MOMENT", timedelta(0))
    watch = Watch(ledger)
    for _ in range(100):
        watch.see()
        watch.spent(1.0)
        watch._begun -= watching.REST * 1000  # its rest is over
    watch.see()
    ledger.add_team("Новая")
    watch._begun -= watching.REST * 3
    assert watch.see().snapshot.teams[-1].name == "Новая"


def test_who_takes_back_a_submission_of_a_large_season_is_told_so(ledger: Ledger) -> None:
    team = ledger.team(TEAMS[0])
    sent, _ = ledger.submit(team.name, archive("ё"))
    watch = Watch(ledger)
    watch.see()
    watch.spent(1000.0)
    token, _ = Accounts(ledger).make(team.name, "ноутбук", "Судья")
    caller = TeamCaller(team, Holder(token, team), "Аня", "")
    assert api.cancel(sent.id, ledger, watch, caller).state == "cancelled"


def test_while_a_large_season_is_read_others_have_what_was_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(ledger)
    before = watch.see()
    watch.spent(1000.0)
    ledger.add_team("Новая")
    watch._begun -= 1.5 * watching.REST * 1000  # its rest is over
    reads, goes_on, snapshot = threading.Event(), threading.Event(), ledger.snapshot

    def slowly() -> object:
        reads.set()
        goes_on.wait()
        return snapshot()

    monkeypatch.setattr(ledger, "snapshot", slowly)
    reader = threading.Thread(target=watch.see)
    reader.start()
    reads.wait()
    assert watch.see() is before
    goes_on.set()
    reader.join()
    assert watch.see().snapshot.teams[-1].name == "Новая"


def test_what_comes_of_an_upload_is_waited_for(tmp_path: Path) -> None:
    service = Service(served_season(tmp_path / "season"), tmp_path / "log").start()
    try:
        tus = service.tus(service.token(TEAMS[0]))
        content = zipped("ответ", 100_000)
        place = tus.place(content)
        assert tus.client.get(place, headers={"Prefer": "wait=20"}).json()["state"] == "receiving"
        tus.patch(place, 0, content)
        until = time.monotonic() + 600
        found = tus.client.get(place, headers={"Prefer": "respond-async, wait=20"}).json()
        while found["state"] == "checking" and time.monotonic() < until:  # a machine that is very busy
            found = tus.client.get(place, headers={"Prefer": "wait=20"}).json()
        assert found["state"] == "accepted" and found["submission"] == 1
        for other in ("wait=", "wait=1e9", "wait=9999", "await=5", "ждать=5".encode()):
            assert tus.client.get(place, headers={"Prefer": other}).status_code == 200
    finally:
        service.end()


@pytest.mark.slow
def test_the_benchmark_of_the_service_loses_nothing() -> None:
    command = [sys.executable, "-m", "evaluator.tools.bench_serve"]
    command += ["--teams", "4", "--mb", "0.2", "--earlier", "50", "--seconds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    document = json.loads(done.stdout.splitlines()[-1])
    scenes = document["scenes"]
    assert list(scenes) == ["quiet", "round 1", "round 2", "round 3", "attacked", "earlier"], done.stderr
    for name in ("round 1", "round 2", "round 3", "earlier"):
        assert [scenes[name][key] for key in ("failed", "lost", "twice")] == [0, 0, 0], done.stderr
        assert scenes[name]["pages"]["all"]["failed"] == 0
    assert scenes["round 3"]["sent"] == 4 and scenes["round 3"]["open_pages"]["events"] >= 4
    assert scenes["attacked"]["failed"] == 0 and scenes["attacked"]["attackers_open"]["bodies"] == 3
