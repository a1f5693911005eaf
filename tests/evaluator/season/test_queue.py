"""The queue's worker with real runs: what they end as, how they are stopped, and what a broken machine does."""

import json
import os
import signal
import sys
import threading
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from evaluator.core.errors import DataError
from evaluator.sandbox import docker
from evaluator.season import PUBLIC
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Job, Ledger, RunEnd, Submission
from evaluator.season.queue import Queue
from evaluator.season.runs import (
    MAX_FAILURES,
    Call,
    Evaluator,
    Failures,
    LocalRuns,
    machine_gpus,
    read_end,
)
from evaluator.season.store import RUN_FILES, Store, digest
from tests.support.season import NOON, RUN, TRUTH, public_state
from tests.support.workers import SECONDS, children, command_line, gone, start, submission_runs, wait

SLEEPS = "import time\ntime.sleep(600)"


def submit(season: Season, path: Path, team: str = "Ёжики") -> tuple[Ledger, int]:
    from evaluator.package import archive

    ledger = Ledger(season, Database(season.url, season.folder))
    report = archive.check(path)
    Store(season.folder).add(path, digest(path))
    submission, _ = ledger.submit(team, Archive(digest(path), path.name, report.packed, report.metadata))
    return ledger, submission.id


def test_verdicts_limits_and_logs_of_real_runs(make_running, make_zip) -> None:
    season = make_running()
    text = season.path.read_text(encoding="utf-8")
    season.path.write_text(text + '\n[limits]\ntime = "1s"\ngrace = "1s"\n', encoding="utf-8")
    ledger, fails = submit(season, make_zip(code="print('ёж')\nraise SystemExit(3)", name="fails"))
    _, silent = submit(season, make_zip(code="", name="silent"))
    _, slow = submit(season, make_zip(code=SLEEPS, name="slow"))
    worker = start(season, "--drain", "--workers", "2")
    output = worker.communicate(timeout=SECONDS)[0]
    assert worker.returncode == 0, output
    states = {number: public_state(ledger, number) for number in (fails, silent, slow)}
    assert states == {fails: "EXIT", silent: "BAD_OUTPUT", slow: "TIMEOUT"}, output
    assert (Store(season.folder).run(1) / "log.txt").read_text(encoding="utf-8") == "ёж\n"
    assert "ёж" not in (Store(season.folder).run(1) / "evaluator.log").read_text(encoding="utf-8")
    (state,) = [state for state in ledger.states() if state.submission.id == fails]
    assert state.detail["exit_code"] == 3 and state.detail["fix"] and state.detail["findings"][0]["rule"] == "exit-code"
    assert ledger.attempts("Ёжики").invalid == 3


def test_a_cancelled_run_is_stopped(make_running, make_zip) -> None:
    season = make_running(lease_seconds="3")
    ledger, submission = submit(season, make_zip(code=SLEEPS))
    worker = start(season, "--drain")
    try:
        wait(lambda: submission_runs(worker))
        below = children(worker.pid)
        ledger.cancel(submission, PUBLIC, "enough")
        output = worker.communicate(timeout=SECONDS)[0]
    finally:
        worker.kill()
    assert worker.returncode == 0 and "was cancelled, or its lease ran out; it is stopped" in output
    assert gone(below) and public_state(ledger, submission) == "cancelled"


@pytest.mark.parametrize("shell", [(), ("sh", "-c", 'trap "" INT; exec "$@"', "sh")], ids=["", "in the background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_that_is_told_to_stop_gives_its_run_back(make_running, make_zip, number, shell) -> None:
    """Whether or not the shell that started it has SIGINT ignored, as it does in a script's background."""
    season = make_running()
    ledger, submission = submit(season, make_zip(code=SLEEPS))
    worker = start(season, shell=shell)
    try:
        wait(lambda: submission_runs(worker))
        below = children(worker.pid)
        worker.send_signal(number)
        output = worker.communicate(timeout=SECONDS)[0]
    finally:
        worker.kill()
    assert worker.returncode == 0 and "is given back" in output
    assert gone(below) and public_state(ledger, submission) == "queued"
    log = (Store(season.folder).run(1) / "evaluator.log").read_text(encoding="utf-8")
    assert log.endswith("interrupted\n")  # it was not killed, but ended
    (state,) = ledger.waiting()
    assert state.failures == 0 and state.run == 2


def test_who_ends_all_processes_at_once_costs_no_try(make_running, make_zip) -> None:
    """As systemd does when it stops a service."""
    season = make_running()
    ledger, submission = submit(season, make_zip(code=SLEEPS))
    worker = start(season)
    try:
        wait(lambda: submission_runs(worker))
        below = children(worker.pid)
        for pid in (worker.pid, *below):
            os.kill(pid, signal.SIGTERM)
        output = worker.communicate(timeout=SECONDS)[0]
    finally:
        worker.kill()
    assert worker.returncode == 0 and "is given back" in output
    wait(lambda: gone(below))
    (state,) = ledger.waiting()
    assert (state.kind, state.failures, state.run) == ("queued", 0, 2)


def test_a_killed_worker_takes_its_runs_along_and_a_killed_run_fails_by_infrastructure(make_running, make_zip) -> None:
    season = make_running(lease_seconds="2")
    marker = season.folder / "second"
    code = f"""
import os, time
if not os.path.exists({str(marker)!r}):
    time.sleep(600)
{RUN % TRUTH}
"""
    ledger, submission = submit(season, make_zip(code=code))
    worker = start(season)
    wait(lambda: submission_runs(worker))
    below = children(worker.pid)
    worker.kill()
    worker.communicate()
    wait(lambda: gone(below))
    worker = start(season, "--drain")
    try:
        wait(lambda: submission_runs(worker))
        assert [kind for _, _, kind, *_ in ledger.history(submission)][:3] == ["queued", "running", "lost"]
        (run,) = [pid for pid in children(worker.pid) if "-m evaluator run" in command_line(pid)]
        below = children(run)
        marker.touch()
        os.kill(run, signal.SIGKILL)
        output = worker.communicate(timeout=SECONDS)[0]
    finally:
        worker.kill()
    assert worker.returncode == 0, output
    wait(lambda: gone(below))  # the kernel ends them, at its own time
    assert "ended as INFRA" in output and "the evaluator ended with -9 and wrote no scores.json" in output
    assert [result.total for result in ledger.results(PUBLIC)] == [1.0]
    assert ledger.attempts("Ёжики").valid == 1 and ledger.attempts("Ёжики").invalid == 0


def test_a_machine_that_only_fails_stops_taking_runs(make_running, make_zip) -> None:
    season = make_running()
    (season.data[PUBLIC] / "ground_truth.json").unlink()
    ledger = Ledger(season, Database(season.url, season.folder))
    for number in range(MAX_FAILURES + 1):
        ledger.add_team(f"team {number}")
        submit(season, make_zip(str(number)), f"team {number}")
    worker = start(season)
    output = worker.communicate(timeout=SECONDS)[0]
    assert worker.returncode == 3
    assert "infrastructure failures in a row, of 3 teams: nothing more is started here" in output
    assert "`python -m evaluator season check`" in output and ledger.unfinished() == 1
    attempts = ledger.attempts("team 0")
    assert (attempts.valid, attempts.invalid, attempts.pending) == (0, 0, 0)


def test_a_team_whose_runs_only_fail_by_infrastructure_is_set_aside(make_running, make_zip) -> None:
    """What runs fail for is here that their stored ZIPs are not those that were sent; others' runs go on."""
    season = make_running()
    ledger = Ledger(season, Database(season.url, season.folder))
    ledger.add_team("Кот")
    for number in range(MAX_FAILURES + 2):
        path = make_zip(str(number))
        submit(season, path)
        stored = Store(season.folder).archive(digest(path))
        stored.chmod(0o644)
        stored.write_bytes(b"damaged")
    _, first = submit(season, make_zip("Ёлки"), "Кот")
    _, second = submit(season, make_zip(), "Кот")
    worker = start(season, "--drain")
    output = worker.communicate(timeout=SECONDS)[0]
    assert {result.submission for result in ledger.results(PUBLIC)} == {first, second}, output
    assert "team 'Ёжики': 3 infrastructure failures in a row, of 3 submissions: nothing more of it is started" in output
    left = ledger.unfinished()  # one more may have started while the digest of the third ZIP was taken
    assert 1 <= left <= 2 and f"{left} runs of 'Ёжики' are left waiting" in output
    assert worker.returncode == 3  # somebody has to look
    attempts = ledger.attempts("Ёжики")
    assert (attempts.valid, attempts.invalid, attempts.pending) == (0, 0, left)


def test_a_run_whose_end_the_database_does_not_take_stops_no_other(make_running, make_zip, monkeypatch) -> None:
    season = make_running(tries="2")
    ledger, bad = submit(season, make_zip("Ёлки"))
    _, good = submit(season, make_zip())
    refused: list[str] = []
    finish = Ledger.finish

    def picky(self: Ledger, job: Job, outcome: RunEnd) -> RunEnd | None:
        if job.submission.id == bad and len(refused) < 3:  # what was to be entered, that it was refused, and once more
            refused.append(outcome.verdict)
            with self.database.write() as connection:
                connection.exec_driver_sql("INSERT INTO event (run_id, step, kind) VALUES (1, 1, 'running')")
        return finish(self, job, outcome)

    monkeypatch.setattr(Ledger, "finish", picky)
    lines: list[str] = []
    season = season.model_copy(update={"lease_seconds": 1.0})
    queue = Queue(Ledger(season, Database(season.url, season.folder)), 1, lines.append)
    assert queue.run(drain=True)
    assert refused == ["OK", "INFRA", "OK"]
    assert public_state(ledger, good) == "OK" and public_state(ledger, bad) == "INFRA"
    assert any("is left to its lease" in line for line in lines)
    assert "the database does not take how the run ended" in str([s.detail for s in ledger.states()])


def failures_of(*rows: tuple[str, int, str, bool], places: int = 1) -> tuple[Failures, list[str]]:
    """After these ends: team, submission, place, whether by infrastructure. With the lines that were said."""
    failures, lines = Failures(), []
    for team, submission, place, is_failure in rows:
        sent = Submission(submission, team, "d", "n", 1, "a/b:1", NOON, NOON.date())
        if is_failure:
            lines.append(failures.add(sent, place, places))
        else:
            failures.end_row(sent, place)
    return failures, [line for line in lines if line]


def test_failures_are_counted_by_team_and_by_machine() -> None:
    bad = [("Ёжики", number % 2, "", True) for number in range(20)]
    failures, lines = failures_of(*bad, ("Кот", 5, "", True), ("Кот", 6, "", True))
    assert failures.set_aside == {"Ёжики"} and len(lines) == 1 and not failures.is_out("", 1)
    failures, _ = failures_of(*bad, ("Кот", 5, "", True), ("Лис", 6, "", True))
    assert failures.is_out("", 1) and failures.set_aside == {"Ёжики"}
    failures, _ = failures_of(*bad, ("Кот", 5, "", False), ("Кот", 5, "", True), ("Лис", 6, "", True))
    assert not failures.is_out("", 1)
    # One submission alone may fail by its own doing, and ends with its tries.
    failures, lines = failures_of(*[("Ёжики", 1, "", True)] * 20)
    assert not failures.set_aside and not lines and not failures.is_out("", 1)
    # A team that has a run which ends well, or by its own fault, is not set aside any more.
    failures, _ = failures_of(*bad, ("Ёжики", 30, "", False))
    assert not failures.set_aside
    failures, _ = failures_of(*bad[:2], ("Ёжики", 30, "", False), *bad[:2])
    assert not failures.set_aside


def test_failures_at_one_of_several_machines_are_the_machines_first() -> None:
    here = [("Ёжики", number, "а", True) for number in range(MAX_FAILURES)]
    failures, lines = failures_of(*here, places=2)
    assert failures.is_out("а", 2) and not failures.is_out("б", 2) and not failures.set_aside
    # The next one at the other machine shows that it was the team, and the first machine is back.
    failures, lines = failures_of(*here, ("Ёжики", 9, "б", True), places=2)
    assert failures.set_aside == {"Ёжики"} and len(lines) == 1
    assert not failures.is_out("а", 2) and not failures.is_out("б", 2)


def test_what_another_run_of_this_number_left_is_removed(make_running) -> None:
    """A database that began anew counts from one again, in a folder that was kept."""
    season = make_running()
    folder = Store(season.folder).run(1)
    folder.mkdir(parents=True)
    for name in RUN_FILES:
        (folder / name).write_text('{"verdict": "OK", "тот": "ёж"}', encoding="utf-8")
    data = season.data[PUBLIC]
    call = Call(season.folder / "нет.zip", folder, data, "local", "RU", "fbc2", None, (), None, None, None)
    process = Evaluator(call, {})
    process.stop()
    wait(lambda: process.returncode() is not None)
    assert not any("ёж" in path.read_text(encoding="utf-8") for path in folder.iterdir())


def test_a_stored_zip_that_is_damaged_is_no_valid_attempt(make_running, make_zip) -> None:
    season = make_running()
    ledger, submission = submit(season, path := make_zip())
    stored = Store(season.folder).archive(digest(path))
    stored.chmod(0o644)
    stored.write_bytes(b"damaged")
    worker = start(season, "--drain")
    output = worker.communicate(timeout=SECONDS)[0]
    assert worker.returncode == 0
    assert public_state(ledger, submission) == "INFRA" and "is not the ZIP that was sent any more" in output
    assert ledger.attempts("Ёжики").left == 100


def test_leases_are_kept_while_a_stored_zip_is_read(make_running, make_zip, monkeypatch) -> None:
    season = make_running(lease_seconds="1")
    ledger, submission = submit(season, path := make_zip())
    stored = Store(season.folder).archive(digest(path))
    stored.chmod(0o644)
    stored.write_bytes(b"damaged")
    beats: list[int] = []
    beat = Ledger.beat

    def counted(self: Ledger, jobs: Sequence[Job]) -> set[int]:
        beats.append(len(jobs))
        return beat(self, jobs)

    def slow(archive: Path) -> str:
        before = len(beats)
        wait(lambda: len(beats) >= before + 3)
        return digest(archive)

    monkeypatch.setattr(Ledger, "beat", counted)
    monkeypatch.setattr("evaluator.season.runs.digest", slow)
    assert Queue(ledger, 1, lambda line: None).run(drain=True)
    (state,) = ledger.states()
    assert state.verdict == "INFRA" and "is not the ZIP that was sent any more" in str(state.detail)


@pytest.mark.docker
def test_two_at_a_time_in_containers(make_running, make_zip, base_image) -> None:
    season = make_running(runner='"docker"')
    text = season.path.read_text(encoding="utf-8")
    season.path.write_text(text + '\n[limits]\nmemory = "1GB"\ncpus = 1\n', encoding="utf-8")
    ledger, first = submit(season, make_zip(image=base_image))
    _, second = submit(season, make_zip("Ёлки", image=base_image))
    _, other = submit(season, make_zip("x", image="no/such:image"))
    worker = start(season, "--drain", "--workers", "2")
    output = worker.communicate(timeout=2 * SECONDS)[0]
    assert worker.returncode == 0, output
    assert {result.submission: result.total for result in ledger.results(PUBLIC)} == {
        first: 1.0,
        second: pytest.approx(0.4),
    }
    assert public_state(ledger, other) == "BAD_IMAGE"
    assert {state.detail["runner"] for state in ledger.states() if state.verdict == "OK"} == {"docker"}


def test_slots_have_gpus_of_their_own(make_running, monkeypatch) -> None:
    season = make_running()
    ledger = Ledger(season, Database(season.url, season.folder))
    store = Store(season.folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, GPU-b,GPU-c")
    gpus = machine_gpus()
    assert gpus == ["GPU-a", "GPU-b", "GPU-c"]
    assert LocalRuns(season, store, 2, gpus, print).gpus == [("GPU-a",), ("GPU-b",)]
    with pytest.raises(DataError, match="4 workers need 4 GPUs; this machine has 3"):
        Queue(ledger, 4, print, gpus)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine_gpus() == []
    assert LocalRuns(season, store, 2, [], print).gpus == [(), ()]


def test_an_outage_of_the_database_loses_nothing(make_running, make_zip) -> None:
    """While somebody holds the database, nothing can be entered; what ended meanwhile is entered afterwards."""
    season = make_running(lease_seconds="120")
    ledger, submission = submit(season, make_zip())
    lines: list[str] = []
    database = Database(season.url, season.folder)
    queue = Queue(Ledger(season, database), 1, lines.append)
    with database.engine.connect() as connection:
        connection.connection.cursor().execute("PRAGMA busy_timeout = 100")  # this pool's only connection
    worker = threading.Thread(target=queue.run, args=(True,))
    worker.start()
    wait(lambda: public_state(ledger, submission) == "running")
    with ledger.database.write():
        wait(lambda: any("the database does not answer" in line for line in lines))
    worker.join(SECONDS)
    assert public_state(ledger, submission) == "OK" and ledger.attempts("Ёжики").valid == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda document: "{",
        lambda document: json.dumps([]),
        lambda document: json.dumps(document | {"verdict": "WON"}),
        lambda document: json.dumps(document | {"fault": "nobody"}),
        lambda document: json.dumps(document | {"tasks": {"five": {"score": 1.0}}}),
        lambda document: json.dumps(document | {"tasks": {"5": {"score": "high"}}}),
        lambda document: json.dumps({name: value for name, value in document.items() if name != "data_digest"}),
    ],
)
def test_scores_that_cannot_be_read_are_an_infrastructure_failure(tmp_path, change) -> None:
    document = {
        "verdict": "OK",
        "fault": None,
        "fix": "",
        "findings": [],
        "tasks": {"5": {"score": 0.5}, "2": {"score": None}},
        "data_digest": "d",
        "competition": {"digest": "c"},
        "run": {"seconds": 1.5},
    }
    (tmp_path / "scores.json").write_text(json.dumps(document))
    outcome = read_end(tmp_path, 0)
    assert (outcome.verdict, outcome.scores, outcome.detail["seconds"]) == ("OK", {5: 0.5}, 1.5)
    (tmp_path / "scores.json").write_text(change(document))
    outcome = read_end(tmp_path, 0)
    assert (outcome.verdict, outcome.fault) == ("INFRA", "infra") and not outcome.scores
    assert "scores.json cannot be read" in outcome.detail["findings"][0]["found"]


def test_a_container_gets_only_gpus_that_are_named(monkeypatch) -> None:
    """No machine here has three GPUs, so NVML is a stand-in here: of GPU-0 to GPU-2 the last one is least used."""
    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetIndex=lambda handle: handle,
        nvmlDeviceGetUUID=lambda handle: f"GPU-{handle}",
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(used=9 - handle),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    for visible, expected in ((None, "GPU-2"), ("GPU-0", "GPU-0"), ("1", "GPU-1"), ("0, GPU-1", "GPU-1")):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert docker._gpus(1) == [expected]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert docker._gpus(1) == [] and machine_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert machine_gpus() == ["GPU-0", "GPU-1", "GPU-2"]
