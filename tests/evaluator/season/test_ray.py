"""The queue on a real Ray cluster of several nodes, all of them on this machine: what happens to runs when nodes, or
the queue's own process, are killed; and the storage that machines share.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.core.errors import DataError
from evaluator.metrics import assets
from evaluator.sandbox import record
from evaluator.season import PUBLIC, node
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Job, Ledger, RunEnd, Submission
from evaluator.season.runs import MAX_FAILURES, Call, Host, Lost
from evaluator.season.runs import failed as runs_failed
from evaluator.season.store import OUTPUT, Damaged, Shared, Store, digest
from tests.support.season import NOON, RUN, TRUTH, public_state
from tests.support.workers import ROOT, SECONDS, command_line, start, wait

ray = pytest.importorskip("ray", reason="Ray is not here (`make season-ray`)")
ray_runs = pytest.importorskip("evaluator.season.ray_runs")
MEMORY = 80 * 2**20  # Ray's least for a node's objects is 75 MiB


class Cluster:
    """A head without resources, and nodes for one run each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
        )
        self.address = self._cluster.address

    def add(self, name: str, **variables: str) -> object:
        return self._cluster.add_node(
            num_cpus=1,
            num_gpus=1,
            object_store_memory=MEMORY,
            node_name=name,
            env_vars={"SEASON_DATABASE_URL": "secret", **variables},
        )

    def kill(self, node: object) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def clear(self) -> None:
        """The next test must not find the nodes of this one, dead or dying."""
        for added in list(self._cluster.worker_nodes):
            self._cluster.remove_node(added)
        self._cluster.wait_for_nodes(SECONDS)

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def head_node() -> Iterator[Cluster]:
    from ray._raylet import Config

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: sockets lie below it
    variables = {
        "RAY_TMPDIR": folder,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "PYTHONPATH": str(ROOT),
        "FUSIONBRAIN_CACHE": f"{folder}/cache",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        Config.initialize("")  # Ray has read the environment when it was imported
        try:
            cluster = Cluster()
            yield cluster
            cluster.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    Config.initialize("")


@pytest.fixture
def cluster(head_node: Cluster) -> Iterator[Cluster]:
    yield head_node
    head_node.clear()


def submit(season: Season, path: Path) -> tuple[Ledger, int]:
    """Through the storage that the season names."""
    from evaluator.package import archive
    from evaluator.season.store import open_store

    ledger = Ledger(season, Database(season.url, season.folder))
    report = archive.check(path)
    open_store(season).add(path, digest(path))
    submission, _ = ledger.submit("Ёжики", Archive(digest(path), path.name, report.packed, report.metadata))
    return ledger, submission.id


def add_to_rules(season: Season, text: str) -> Season:
    from evaluator.season.config import read_season

    season.path.write_text(season.path.read_text(encoding="utf-8") + text, encoding="utf-8")
    return read_season(season.path)


def waiting_answer(gate: Path, text: str) -> str:
    """A program that says where it is, and answers when `gate` is there."""
    return f"""
import os, time
print("ёж ждёт 🦔", flush=True)
open({str(gate)!r} + ".started", "a").write(str(os.getpid()) + "\\n")
while not os.path.exists({str(gate)!r}):
    time.sleep(0.1)
{RUN % text}
"""


def processes(words: str) -> list[int]:
    return [int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if words in command_line(int(pid))]


def test_a_killed_node_and_a_killed_queue_cost_retries_and_no_attempt(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], cluster: Cluster, tmp_path: Path, capfd
) -> None:
    season = make_running(lease_seconds="4")
    season = add_to_rules(season, f'\n[limits]\ncpus = 1\n[storage]\nurl = "file://{tmp_path}/shared"\n')
    gates = [tmp_path / name for name in ("первый", "второй")]
    texts = (TRUTH, "Ёлки")
    for gate, text in zip(gates, texts, strict=True):
        ledger, _ = submit(season, make_zip(code=waiting_answer(gate, text), name=gate.name))
    ledger, quick = submit(season, make_zip(code="raise SystemExit(3)", name="третий"))
    nodes = {name: cluster.add(name) for name in ("узел-1", "узел-2")}
    started = [Path(f"{gate}.started") for gate in gates]

    head = start(season, "--ray", cluster.address)
    try:
        wait(lambda: all(path.exists() for path in started))
        workers = {state.submission.id: state.worker for state in ledger.waiting()}
        assert sorted(worker.split(" on ")[1] for worker in workers.values() if worker) == ["узел-1", "узел-2"]
        first_node = (workers[1] or "").split(" on ")[1]
        # The log of a run under way is seen from here.
        log = Path(f"{tmp_path}/shared/runs/1/evaluator.log")
        wait(lambda: log.exists() and "runner: local" in log.read_text(encoding="utf-8"))
        capfd.readouterr()
        assert main(["queue", "logs", "1", "--season", str(season.path)]) == 0
        assert "runner: local" in capfd.readouterr().out

        # The node of the first submission dies: its run is tried again, elsewhere, while the second goes on.
        doomed = processes(f"{digest_of(ledger, 1)}.zip")
        assert doomed
        environment = b"".join(Path(f"/proc/{pid}/environ").read_bytes() for pid in doomed)
        assert b"PATH=" in environment and b"secret" not in environment and b"RAY_AUTH_TOKEN" not in environment
        cluster.kill(nodes.pop(first_node))
        wait(lambda: [kind for _, _, kind, *_ in ledger.history(1)][:4] == ["queued", "running", "lost", "queued"])
        wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in doomed))
        gates[1].touch()
        wait(lambda: public_state(ledger, 2) == "OK")
        wait(lambda: started[0].read_text().count("\n") == 2)

        # The queue's process dies: its run dies with it, and the next queue takes it up.
        doomed = processes(f"{digest_of(ledger, 1)}.zip")
        assert doomed
    finally:
        head.kill()
        output = head.communicate()[0]
    wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in doomed))
    gates[0].touch()
    cluster.add("узел-3")
    again = start(season, "--ray", cluster.address, "--drain")
    output += again.communicate(timeout=SECONDS)[0]
    assert again.returncode == 0, output

    assert {result.submission: result.total for result in ledger.results(PUBLIC)} == {1: 1.0, 2: pytest.approx(0.4)}
    assert public_state(ledger, quick) == "EXIT"
    attempts = ledger.attempts("Ёжики")
    assert (attempts.valid, attempts.invalid, attempts.pending) == (2, 1, 0)
    kinds = [kind for _, _, kind, *_ in ledger.history(1)]
    # For a while Ray still counts the killed node among its own, so the next queue may lose a run there once more.
    lives = kinds.count("lost")
    assert lives in (2, 3) and kinds == ["queued", "running", "lost"] * lives + ["queued", "running", "done"], output
    assert [event.kind for event in ledger.history(2)] == ["queued", "running", "done"]
    lost = [event.detail["reason"] for event in ledger.history(1) if event.kind == "lost"]
    assert "NodeDiedError" in lost[0] and "was not heard of in time" in lost[1]
    for line in (f"starts on {first_node}", "is lost after", "узел-3 is up: 1 runs at a time"):
        assert line in output
    # What a run left has come into the season's folder, with names of files there.
    run = max(event.run for event in ledger.history(1))
    folder = Store(season.folder).run(run)
    assert {path.name for path in folder.iterdir()} == set(
        ("scores.json", "report.html", "record.json", "log.txt", "evaluator.log", "output.zip")
    )
    assert ledger.history(1)[-1].detail["output_sha256"] == digest(folder / "output.zip")
    names = json.loads((folder / "record.json").read_text(encoding="utf-8"))["files"]
    assert "../../data/public/input.json" in names
    capfd.readouterr()
    assert main(["queue", "logs", str(run), "--printed", "--season", str(season.path)]) == 0
    assert capfd.readouterr().out == "ёж ждёт 🦔\n"


def digest_of(ledger: Ledger, submission: int) -> str:
    return next(state.submission.digest for state in ledger.states() if state.submission.id == submission)


def test_a_node_where_everything_fails_is_set_aside(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], cluster: Cluster, tmp_path: Path
) -> None:
    """On one node a package is broken; the other goes on with its run, until the queue is told to stop."""
    season = add_to_rules(make_running(tries="2"), "\n[limits]\ncpus = 1\n")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "PIL.py").write_text("raise ImportError('сломан')", encoding="utf-8")
    gate = tmp_path / "ворота"
    sent = []  # more than the broken node gets: one alone would not set it aside
    for text in (TRUTH, "Ёлки", "Иголки", "Шишки", "Ежи"):
        ledger, submission = submit(season, make_zip(code=waiting_answer(gate, text), name=text))
        sent.append(submission)
    cluster.add("целый")
    cluster.add("сломанный", PYTHONPATH=f"{broken}:{ROOT}")
    head = start(season, "--ray", cluster.address, "--drain")
    try:
        wait(lambda: sum(event.verdict == "INFRA" for id in sent for event in ledger.history(id)) == MAX_FAILURES)
        wait(Path(f"{gate}.started").exists)
        doomed = [pid for id in sent for pid in processes(f"{digest_of(ledger, id)}.zip")]
        assert doomed
        head.send_signal(signal.SIGTERM)
        output = head.communicate(timeout=2 * SECONDS)[0]
    finally:
        head.kill()
    assert head.returncode == 0, output
    assert "node сломанный: infrastructure failures in a row, and not of one team's submissions: nothing" in output
    assert output.count("no work is done on сломанный: ImportError: сломан") == MAX_FAILURES
    assert output.count("starts on целый") == output.count("is given back") == 1
    # The node's processes wait for each other's end after the queue has heard of it.
    wait(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in doomed))
    (stopped,) = [event.run for id in sent for event in ledger.history(id) if event.kind == "interrupted"]
    log = Store(season.folder).run(stopped) / "evaluator.log"
    assert log.read_text(encoding="utf-8").endswith("interrupted\n")  # the evaluator was not killed, but ended
    attempts = ledger.attempts("Ёжики")
    assert (attempts.valid, attempts.invalid) == (0, 0)


def test_no_cluster_is_the_callers_fault(make_running: Callable[..., Season], capsys) -> None:
    season = make_running()
    assert main(["queue", "run", "--ray", "127.0.0.1:1", "--season", str(season.path)]) == 2
    assert "data error: --ray 127.0.0.1:1: " in capsys.readouterr().err
    season = add_to_rules(season, '\n[storage]\nurl = "shared"\n')
    assert main(["queue", "run", "--season", str(season.path)]) == 2
    assert "[storage] url is for `queue run --ray ADDRESS`" in capsys.readouterr().err


# --- storage, and a run's work on a node, without a cluster ---


@pytest.fixture(params=["file", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder's URL, that of objects in this process, and of a bucket of moto's server, which speaks S3."""
    if request.param != "s3":
        yield f"{request.param}://{tmp_path}/общее"
        return
    program = Path(sys.executable).with_name("moto_server")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ключ".encode().hex())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:

        def answers() -> bool:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT"))
                return True
            return False

        wait(answers)
        yield f"s3://bucket/season?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    finally:
        server.kill()
        server.wait()


def overwrite(shared: Shared, name: str, content: bytes) -> None:
    with shared._files.open(shared._path(name), "wb") as file:
        file.write(content)


def test_a_storage_gives_back_what_it_was_given_and_finds_what_is_damaged(
    storage: str, make_zip: Callable[..., Path], tmp_path: Path
) -> None:
    shared, path = Shared(storage), make_zip()
    sent = digest(path)
    shared.add(path, sent)
    shared.fetch(sent, tmp_path / "got" / "s.zip")
    assert (tmp_path / "got" / "s.zip").read_bytes() == path.read_bytes()
    shared.add(path, sent)  # again is no error
    with pytest.raises(DataError, match="changed while it was read"):
        shared.add(path, "0" * 64)
    with pytest.raises(FileNotFoundError):
        shared.fetch("0" * 64, tmp_path / "got" / "none.zip")

    data = tmp_path / "данные"
    (data / "images" / "пустая").mkdir(parents=True)
    (data / "images" / "ёж 🦔.jpg").write_bytes(b"\x00\xff" * 10**6)
    bundle = shared.publish(data)
    os.utime(data / "images" / "ёж 🦔.jpg", (0, 0))
    assert shared.publish(data) == bundle
    for name in ("один", "два"):
        shared.unpack(bundle, tmp_path / "cache", tmp_path / name)
        assert (tmp_path / name / "данные" / "images" / "ёж 🦔.jpg").read_bytes() == b"\x00\xff" * 10**6
        assert (tmp_path / name / "данные" / "images" / "пустая").is_dir()

    for name, text in (("evaluator.log", "ёж\n"), ("log.txt", "")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        shared.send(7, tmp_path / name)
    (tmp_path / "evaluator.log").write_text("ёж ушёл\n", encoding="utf-8")
    shared.send(7, tmp_path / "evaluator.log")
    assert (shared.read(7, "evaluator.log") or b"").decode() == "ёж ушёл\n" and shared.read(7, "scores.json") is None
    shared.bring(7, tmp_path / "run")
    assert {path.name: path.read_text() for path in (tmp_path / "run").iterdir()} == {
        "evaluator.log": "ёж ушёл\n",
        "log.txt": "",
    }

    if storage.startswith("file"):
        Path(shared._path(f"submissions/{sent}.zip")).chmod(0o644)
    overwrite(shared, f"submissions/{sent}.zip", path.read_bytes()[:-1])
    with pytest.raises(Damaged, match="is not the ZIP that was sent any more"):
        shared.fetch(sent, tmp_path / "got" / "again.zip")
    with pytest.raises(ZeroDivisionError), shared._writing(shared._path("runs/7/log.txt")) as sink:
        sink.write("половина".encode())
        raise ZeroDivisionError
    assert shared.read(7, "log.txt") == (b"" if storage.startswith("file") else None)  # never a half
    (tmp_path / "cache" / f"{bundle}.tar").write_bytes(b"damaged")
    with pytest.raises(Damaged, match="has the SHA-256"):
        shared.unpack(bundle, tmp_path / "cache", tmp_path / "три")
    shared.unpack(bundle, tmp_path / "cache", tmp_path / "три")  # fetched anew
    size = len((tmp_path / "cache" / f"{bundle}.tar").read_bytes())
    overwrite(shared, f"bundles/{bundle}.tar", b"x" * size)
    (tmp_path / "cache" / f"{bundle}.tar").unlink()
    assert shared.publish(data) == bundle
    shared.unpack(bundle, tmp_path / "cache", tmp_path / "четыре")

    (tmp_path / OUTPUT).write_bytes(b"PK")
    for run in (7, 8):
        shared.send(run, tmp_path / OUTPUT)
    assert [shared.remove_output(7), shared.remove_output(7), shared.remove_output(9)] == [True, False, False]
    assert shared.read(7, OUTPUT) is None and shared.read(8, OUTPUT) == b"PK"

    shared.send(8, tmp_path / "log.txt")
    shared.clear(7)
    shared.clear(7)  # of what is not there is no error
    assert shared.read(7, "evaluator.log") is None and shared.read(7, "log.txt") is None
    assert shared.read(8, "log.txt") == b""


@pytest.mark.parametrize("name", ["../evil", "{}/evil", "data/link/evil"])
def test_nothing_is_unpacked_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    """Whoever can write to the storage cannot write to a node, whichever filters its Python has."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link, evil = tarfile.TarInfo("data/link"), tarfile.TarInfo(name.format(outside))
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    evil.size = 4
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w") as tar:
        if "link" in name:
            tar.addfile(link)
        tar.addfile(evil, io.BytesIO(b"evil"))
    shared, bundle = Shared(f"file://{tmp_path}/shared"), hashlib.sha256(packed.getvalue()).hexdigest()
    (tmp_path / "shared" / "bundles").mkdir(parents=True, exist_ok=True)
    overwrite(shared, f"bundles/{bundle}.tar", packed.getvalue())
    shared.unpack(bundle, tmp_path / "cache", tmp_path / "node" / "inner")
    assert list(tmp_path.rglob("*evil")) == list((tmp_path / "node").rglob("link")) == []


def test_a_nodes_work_is_refused_or_signed(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], tmp_path: Path, monkeypatch
) -> None:
    """What a node does for a run: with another evaluator nothing, with a damaged ZIP no attempt; a record's key does
    not stay there, and the record holds for the season's own files.
    """
    monkeypatch.setattr(node, "WAIT_SECONDS", 0.01)
    monkeypatch.setenv("FUSIONBRAIN_CACHE", str(tmp_path / "cache"))
    season, path = make_running(), make_zip()
    store, sent = Store(season.folder), digest(path)
    store.add(path, sent)
    key = tmp_path / "record.key"
    key.write_bytes(b"k" * 32)
    data = season.data[PUBLIC]
    call = Call(store.archive(sent), store.run(1), data, "local", "RU", "fbc2", None, (), None, None, key)
    shared = Shared(str(season.folder))
    bundles = {data: shared.publish(data)}
    task = node.RemoteRun(1, sent, call, bundles, str(season.folder), key.read_bytes(), record.code_digest())
    assert "has another version" in found(node.work(replace(task, code="")))
    outcome = node.work(task)
    assert (outcome.verdict, dict(outcome.scores)) == ("OK", {5: 1.0})
    assert outcome.detail["output_sha256"] == digest(store.run(1) / OUTPUT)
    assert main(["verify", str(store.run(1) / "record.json"), "--key-file", str(key)]) == 0
    assert not list(Path(tempfile.gettempdir()).glob("fbc2-evaluator-node-*/**/record.key"))

    store.archive(sent).chmod(0o644)
    store.archive(sent).write_bytes(b"damaged")
    outcome = node.work(task)
    assert outcome.fault == "organizer" and "is not the ZIP that was sent any more" in found(outcome)
    assert not list(store.run(1).iterdir())  # the report of another run of this number
    store.archive(sent).unlink()
    outcome = node.work(task)
    assert outcome.fault == "infra" and "FileNotFoundError" in found(outcome)


def test_a_node_with_other_assets_or_without_its_gpus_refuses(
    make_running: Callable[..., Season], make_zip: Callable[..., Path], tmp_path: Path, monkeypatch
) -> None:
    season, path = make_running(), make_zip()
    store, sent = Store(season.folder), digest(path)
    store.add(path, sent)
    data = season.data[PUBLIC]
    call = Call(store.archive(sent), store.run(1), data, "local", "RU", "fbc2", None, (), None, None, None)
    own = assets.recorded()
    task = node.RemoteRun(1, sent, call, {}, str(season.folder), None, record.code_digest(), own | {"ёж.bin": "1"})
    assert "has other assets" in found(node.work(task)) and "ёж.bin" in found(node.work(task))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    task = replace(task, assets=own, call=replace(call, runner="docker"), gpus=1)
    assert "does not have the 1 GPUs" in found(node.work(task))


def test_recorded_assets_are_those_that_are_there_in_their_size(tmp_path: Path) -> None:
    paths = [asset.path for asset in assets.ENCODERS[-2:]]
    for path in paths:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"ab")
    entry = {"source": "", "sha256": "a" * 64}
    lock = {path: entry | {"size": size} for path, size in zip(paths, (2, 3), strict=True)}
    (tmp_path / assets.LOCK_FILE).write_text(json.dumps(lock), encoding="utf-8")
    assert assets.recorded(tmp_path) == {paths[0]: "a" * 64}
    assert assets.recorded(tmp_path / "нет") == {}


# --- what the head decides, on nodes that are only told of ---

GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


class Nodes:
    """A head that is told of nodes: what Ray would say is set here, and nothing is started."""

    def __init__(self, season: Season, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resources: dict[str, dict[str, float]] = {}
        self.lines: list[str] = []
        monkeypatch.setattr(ray_runs, "_check_answers", lambda _: None)
        monkeypatch.setattr(ray_runs, "LOOK_SECONDS", 0.0)
        monkeypatch.setattr(ray, "init", lambda **_: None)
        monkeypatch.setattr(ray, "nodes", self._nodes)
        self.runs = ray_runs.RayRuns(season, "auto", None, self.lines.append)

    def _nodes(self) -> list[dict[str, object]]:
        return [
            {"Alive": True, "NodeID": name, "NodeName": name, "Resources": resources}
            for name, resources in self.resources.items()
        ]

    def sizes(self) -> dict[str, int]:
        self.runs.room()
        return {id: found.size for id, found in self.runs._nodes.items()}

    def entered(self, submission: int, name: str, end: RunEnd | Lost, team: str = "Ёжики") -> None:
        sent = Submission(submission, team, "d", "n", 1, "a/b:1", NOON, NOON.date())
        self.runs.entered(Job(submission, "t", sent, PUBLIC, 0, Path("data")), Host(name, name), end)


@pytest.fixture
def make_nodes(make_running: Callable[..., Season], monkeypatch) -> Callable[..., Nodes]:
    def make(runner: str, limits: str = "") -> Nodes:
        return Nodes(add_to_rules(make_running(runner=f'"{runner}"'), f"\n[limits]\n{limits}\n"), monkeypatch)

    return make


def test_runs_that_are_to_have_gpus_never_go_where_there_is_none(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes("docker", "cpus = 2")
    nodes.resources = {"ёж-1": {"CPU": 8.0}, "голова": {}}
    assert nodes.sizes() == {} and nodes.runs.room() is None
    assert [line.partition(",")[0] for line in nodes.lines] == ["node ёж-1 gets nothing"]
    nodes.resources["кот-1"] = GPU_NODE
    assert nodes.sizes() == {"кот-1": 2}
    del nodes.resources["кот-1"]
    assert nodes.sizes() == {} and nodes.lines[-1] == "node кот-1 is gone" and len(nodes.lines) == 3


def test_trusted_code_goes_without_gpus_until_there_is_one(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes("local", "cpus = 2")
    nodes.resources = {"ёж-1": {"CPU": 8.0}}
    assert nodes.sizes() == {"ёж-1": 4}
    nodes.resources["кот-1"] = GPU_NODE
    assert nodes.sizes() == {"кот-1": 2}
    del nodes.resources["кот-1"]
    assert nodes.sizes() == {}


def test_without_gpus_in_the_limits_none_is_asked_for_and_memory_counts(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes("docker", 'cpus = 1\ngpus = 0\nmemory = "100GB"')
    nodes.resources = {"три": {"CPU": 8.0, "memory": 399e9}, "мало": {"CPU": 8.0, "memory": 9e9}, "все": {"CPU": 8.0}}
    assert nodes.sizes() == {"три": 3, "мало": 1, "все": 8}


def test_one_submission_that_always_fails_stops_neither_nodes_nor_fleet(make_nodes: Callable[..., Nodes]) -> None:
    bad, good = runs_failed("сломан"), RunEnd("OK", None)
    nodes = make_nodes("local", "cpus = 1")
    nodes.resources = {name: {"CPU": 1.0} for name in ("а", "б", "в", "г")}
    assert len(nodes.sizes()) == 4
    for name in ("а", "б", "в", "в", "в"):
        nodes.entered(1, name, bad)
    assert not nodes.runs.broken and nodes.lines[4:] == []
    nodes.entered(2, "в", bad, "Кот")
    assert not nodes.runs.broken and nodes.lines[4].startswith("node в: infrastructure failures in a row")
    nodes.entered(3, "а", Lost("узел пропал"), "Лис")  # says nothing of what all share
    assert not nodes.runs.broken
    nodes.entered(3, "а", bad, "Лис")
    assert nodes.runs.broken
    nodes.entered(4, "г", good)
    assert not nodes.runs.broken


def test_why_no_node_has_room(make_nodes: Callable[..., Nodes]) -> None:
    nodes = make_nodes("local", "cpus = 1")
    assert nodes.sizes() == {} and nodes.runs.why_no_room() == "no node that is up has room for a run"
    nodes.resources = {"а": {"CPU": 1.0}, "б": {"CPU": 1.0}}
    assert len(nodes.sizes()) == 2 and nodes.runs.why_no_room() == ""
    nodes.entered(1, "а", Lost("узел пропал"))
    nodes.entered(2, "б", Lost("узел пропал"), "Кот")
    assert nodes.runs.room() is None
    said = nodes.runs.why_no_room()
    assert re.fullmatch(r"(node [аб] rests until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d after a failure(; )?){2}", said), said
    assert nodes.runs.why_no_room() == said  # so it is said once


def test_one_team_whose_runs_always_fail_stops_neither_nodes_nor_fleet(make_nodes: Callable[..., Nodes]) -> None:
    bad = runs_failed("сломан")
    nodes = make_nodes("local", "cpus = 1")
    nodes.resources = {name: {"CPU": 1.0} for name in ("а", "б", "в")}
    assert len(nodes.sizes()) == 3
    for number in range(9):
        nodes.entered(number, "абв"[number % 3], bad)
    assert nodes.runs.set_aside == {"Ёжики"} and not nodes.runs.broken
    assert [line[:14] for line in nodes.lines[3:]] == ["team 'Ёжики': "]
    nodes.entered(20, "а", bad, "Кот")
    assert not nodes.runs.broken and nodes.runs.set_aside == {"Ёжики"}


def test_a_run_whose_image_another_node_has_is_no_fault_of_the_teams() -> None:
    for answer, expected in ((None, "BAD_IMAGE"), ("целый", "INFRA")):
        asked: Future[str | None] = Future()
        run = ray_runs._RayRun(Ended(RunEnd("BAD_IMAGE", "team")), Host("1", "пустой"), None, lambda: asked)  # noqa: B023
        assert run.end() is None  # until the others have answered
        asked.set_result(answer)
        end = run.end()
        assert isinstance(end, RunEnd) and end.verdict == expected
    assert found(end) == "the image is bad or missing on пустой, and good on целый"


def test_a_storage_that_hangs_does_not_keep_a_result(monkeypatch) -> None:
    run = ray_runs._RayRun(Ended(RunEnd("OK", None)), Host("1", "ёж"), Future, Future)
    assert run.end() is None
    late = time.monotonic() + ray_runs.FETCH_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: late)
    assert run.end() == RunEnd("OK", None)


class Ended:
    """Ray's reference to what has ended."""

    def __init__(self, outcome: RunEnd) -> None:
        self._outcome = outcome

    def future(self) -> "Future[RunEnd]":
        future: Future[RunEnd] = Future()
        future.set_result(self._outcome)
        return future


def found(outcome: RunEnd) -> str:
    return str(outcome.detail["findings"][0]["found"])
