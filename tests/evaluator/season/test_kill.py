"""`kill -9` at every step of sending and running, at random moments, and with two runners at once: nothing is lost,
and no attempt is charged twice.

A step is whatever changes something outside of the process: a statement that writes, the begin and the end of a
transaction, a file made, renamed or removed, a process started. The killed process is a real one, and what is looked
at afterwards is what the next process finds.
"""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy

import evaluator.season.actions  # noqa: F401  once, and not in each of the many forks below
from evaluator.cli.app import main
from evaluator.package import archive
from evaluator.season import PUBLIC, schema
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Ledger
from evaluator.season.store import Store, digest
from tests.support.killing import Killer
from tests.support.season import check_lives
from tests.support.workers import SECONDS, children, is_run, start

SEED, KILLS = 8, 6


def killed_at(number: int, season: Season, *arguments: object) -> bool:
    """Run a command in a process that is killed before that step; False where it ended before."""
    process = os.fork()
    if not process:
        code = 70
        try:
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, 1)
            os.dup2(sink, 2)
            Killer(number, season.folder)
            code = main([*map(str, arguments), "--season", str(season.path)])
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


def expire(ledger: Ledger) -> None:
    """Let the leases run out, without the wait."""
    with ledger.database.write() as connection:
        past = datetime(2000, 1, 1, tzinfo=UTC)
        held = schema.job.c.token.is_not(None)
        connection.execute(sqlalchemy.update(schema.job).where(held).values(expires_at=past))


def test_sending_is_killed_at_every_step(make_running: Callable[..., Season], make_zip: Callable[..., Path]) -> None:
    season = make_running()
    ledger = Ledger(season, Database(season.url, season.folder))
    store = Store(season.folder)
    for number in itertools.count(1):
        path = make_zip(f"ответ {number}")
        sent = digest(path)
        before = len(ledger.states())
        killed = killed_at(number, season, "submit", path, "--team", "Ёжики")
        check_lives(ledger)
        after = len(ledger.states())
        assert after in (before, before + 1)
        if after > before:
            assert digest(store.archive(sent)) == sent
        assert not killed_at(10**9, season, "submit", path, "--team", "Ёжики")
        check_lives(ledger, charged=number)
        assert len(ledger.states()) == before + 1 and digest(store.archive(sent)) == sent
        assert {file.suffix for file in (season.folder / "submissions").iterdir()} == {".zip"}
        if not killed:
            break
    assert number > 10  # steps there are


def test_running_is_killed_at_every_step(make_running: Callable[..., Season], make_zip: Callable[..., Path]) -> None:
    """One submission, and one process after another works on it, each killed a step later than the one before."""
    season = make_running(lease_seconds="3600")
    ledger = Ledger(season, Database(season.url, season.folder))
    assert not killed_at(10**9, season, "submit", make_zip(), "--team", "Ёжики")
    for number in itertools.count(1):
        killed = killed_at(number, season, "queue", "run", "--drain")
        check_lives(ledger, charged=1)
        if not killed:
            break
        expire(ledger)
    assert number > 20
    assert [result.total for result in ledger.results(PUBLIC)] == [1.0] and ledger.unfinished() == 0
    kinds = [kind for _, _, kind, *_ in ledger.history(1)]
    assert kinds.count("done") == 1 and kinds.count("lost") == kinds.count("running") - 1 > 5


def test_two_runners_are_killed_at_random(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], url: str
) -> None:
    """Runners and their runs are killed now and then; all submissions get their score, each once."""
    season = make_running(url, lease_seconds="2")
    ledger = Ledger(season, Database(season.url, season.folder))
    chance = random.Random(SEED)
    runners: list[subprocess.Popen[str]] = []
    sent = 0

    def start_missing() -> None:
        # Three failures in a row, which these kills are to a runner, end it; somebody would start it again.
        runners[:] = [runner for runner in runners if runner.poll() is None]
        runners.extend(start(season, "--drain") for _ in range(2 - len(runners)))

    try:
        for _ in range(KILLS):
            while ledger.unfinished() < 2:  # something to kill
                _send(ledger, make_zip(f"ответ {sent}"))
                sent += 1
            start_missing()
            time.sleep(chance.uniform(0.5, 4.0))
            check_lives(ledger, charged=sent)
            runner = chance.choice(runners)
            victims = [runner.pid, *(pid for pid in children(runner.pid) if is_run(pid))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(victims), signal.SIGKILL)
        deadline = time.monotonic() + SECONDS
        while len(ledger.results(PUBLIC)) < sent:
            assert time.monotonic() < deadline
            start_missing()
            time.sleep(0.5)
        for runner in runners:
            runner.communicate(timeout=SECONDS)
    finally:
        for runner in runners:
            runner.kill()
    check_lives(ledger, charged=sent)
    assert len(ledger.results(PUBLIC)) == sent and ledger.unfinished() == 0


def _send(ledger: Ledger, path: Path) -> None:
    Store(ledger.season.folder).add(path, digest(path))
    report = archive.check(path)
    ledger.submit("Ёжики", Archive(digest(path), path.name, report.packed, report.metadata))
