"""Hostile submissions, run the public way in a container and, where the local runner promises it, without one: each
gets its verdict, the host is as it was, nothing is left, and the next submission is not affected.

`tests.support.hostile_cases` has the table; pytest's summary shows what came of it.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from evaluator.cli.app import main
from evaluator.core import verdict
from evaluator.core.limits import RUN
from evaluator.sandbox import local
from evaluator.sandbox.docker import RUN_LABEL
from tests.support.data import build_data, build_output
from tests.support.hostile_cases import CASES, KIT, Case

TASKS = (0, 2, 3)  # a task that is answered with a text, one with an image, and an image to look at
KILL_SECONDS = 300.0  # from the time limit to the end of the whole tree, at most, on a busy machine too
LOG_SURPLUS = 20_000  # what the evaluator itself prints, in bytes
CANARY = "hostile-canary-5f1d"
HIDDEN = "Инструкция"  # stands in every example of task 0
SMALL = [
    "memory=256MB", "cpus=2", "gpus=0", "time=60s", "grace=2s", "pids=64", "shm=8MB", "tmp=8MB", "output=8MB",
    "output_files=1000", "log=1MB",
]  # fmt: skip
GOOD = Case("answer()\nprint('готово')", docker="OK", local="OK")
PARAMETERS = [
    pytest.param(name, runner, id=f"{runner}-{name}", marks=[pytest.mark.docker] if runner == "docker" else [])
    for runner in ("docker", "local")
    for name, case in CASES.items()
    if getattr(case, runner)
]
RUNNERS = [pytest.param("docker", marks=pytest.mark.docker), "local"]


def digests(*folders: Path) -> dict[str, str]:
    """What folders are: kind, mode, owner, time and content of everything in them."""
    found = {}
    for path in (path for folder in folders for path in (folder, *folder.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        facts = (status.st_mode, status.st_uid, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
        found[str(path)] = " ".join(map(str, facts))
    return found


def mentions(process: Path, text: bytes) -> bool:
    """Whether a process has `text` in its environment, arguments, working folder or mounts."""
    for name in ("environ", "cmdline", "mountinfo"):
        try:
            if text in (process / name).read_bytes():
                return True
        except OSError:  # it has ended
            return False
    return False


@dataclass(frozen=True)
class Ran:
    code: int
    document: dict[str, Any]  # of --json
    printed: str
    seconds: float


@dataclass(frozen=True)
class Host:
    """What a run must leave as it is, and `temporary`, the folder for temporary folders, empty before and after."""

    data: Path
    answer: Path
    sentinel: Path
    temporary: Path
    facts: dict[str, Any]

    def left(self, client: docker.DockerClient | None) -> list[str]:
        """What a run left behind: folders, mounts, processes; containers and volumes of the engine."""
        text = os.fsencode(self.temporary)
        left = [path.name for path in self.temporary.iterdir()]
        left += ["a mount"] * (text in Path("/proc/self/mountinfo").read_bytes())
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and int(process.name) != os.getpid() and mentions(process, text):
                left.append(f"process {process.name}")
        if client is not None:
            mine = {"label": RUN_LABEL}
            labels = {c.name: c.labels for c in client.containers.list(all=True, filters=mine, ignore_removed=True)}
            labels |= {volume.name: volume.attrs["Labels"] for volume in client.volumes.list(filters=mine)}
            left += [name for name, label in labels.items() if label[RUN_LABEL].startswith(str(self.temporary))]
        return left


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A data folder, a file that everybody may write to, and servers to connect to."""
    root = tmp_path_factory.mktemp("hostile")
    data, sentinel, temporary = root / "data", root / "host" / "sentinel", root / "tmp"
    build_data(data, TASKS)
    sentinel.parent.mkdir()
    sentinel.write_text("untouched")
    sentinel.chmod(0o666)
    sentinel.parent.chmod(0o777)
    temporary.mkdir()
    abstract = f"fbc2-hostile-{os.getpid()}"
    with socket.create_server(("", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"\0{abstract}")
        unix.listen()
        facts = {
            "data": str(data),
            "sentinel": str(sentinel),
            "abstract": abstract,
            "port": server.getsockname()[1],
            "address": _address(),
        }
        for address in ("127.0.0.1", facts["address"]):  # from here they can be reached
            socket.create_connection((address, facts["port"]), timeout=10).close()
        yield Host(data, build_output(root / "answer", data), sentinel, temporary, facts)


def _address() -> str:
    """This machine's address where it has a network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


class Runs:
    """Runs cases as the command line does, and looks at the host after each."""

    def __init__(
        self,
        host: Host,
        folder: Path,
        client: docker.DockerClient | None,
        image: str,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        self._host, self._folder, self._client, self._image, self._capfd = host, folder, client, image, capfd

    def __call__(self, case: Case) -> Ran:
        host, result = self._host, self._folder / "scores.json"
        submission = self._folder / "submission"
        shutil.rmtree(submission, ignore_errors=True)
        submission.mkdir()
        image = case.image or self._image
        if image == "@number":
            assert self._client is not None
            image = self._client.images.get(self._image).short_id.removeprefix("sha256:")
        facts = host.facts | {"jail": self._client is not None}
        facts["engine"] = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/run/docker.sock"
        metadata = {"image": image, "entrypoint": case.entrypoint}
        (submission / "run.py").write_text(KIT + case.code, encoding="utf-8")
        (submission / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        (submission / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
        for name, content in case.files.items():
            (submission / name).write_bytes(content())
        shutil.copytree(host.answer, submission / "answer")
        command = ["run", str(submission), "--data", str(host.data), "--json", str(result), "--no-report"]
        command += ["--runner", "docker" if self._client is not None else "local", *case.arguments]
        # eco2AI knows no such country and does not start, which saves a second.
        command += ["--country", "ZZ"]
        command += [f"--limit={limit}" for limit in (*SMALL, *case.limits)]
        kept = (host.data, host.sentinel.parent, submission)
        before = digests(*kept)
        self._capfd.readouterr()
        start = time.monotonic()
        code = main(command)
        seconds = time.monotonic() - start
        printed = "".join(self._capfd.readouterr())
        assert digests(*kept) == before
        assert host.left(self._client) == []
        return Ran(code, json.loads(result.read_text(encoding="utf-8")), printed, seconds)


@pytest.fixture
def run(
    host: Host,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Runs]:
    docker_wanted = request.node.get_closest_marker("docker") is not None
    client = request.getfixturevalue("engine") if docker_wanted else None
    image = request.getfixturevalue("base_image") if docker_wanted else "no/image:1"
    # After the engine has started, which must not get these; folders of the evaluator's own in a place of our own, so
    # that runs of other tests at the same time are not taken for leftovers.
    monkeypatch.setenv("TMPDIR", str(host.temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(host.temporary))
    for name in ("HOSTILE_TOKEN", "AWS_SECRET_ACCESS_KEY", "DATA"):
        monkeypatch.setenv(name, CANARY)
    yield Runs(host, tmp_path, client, image, capfd)
    logging.disable(logging.NOTSET)  # --private disables it


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_kit(run, runner):
    """A good submission is OK, an attempt that works is seen: else the tests below could pass for a wrong reason."""
    ran = run(GOOD)
    assert (ran.code, ran.document["verdict"], ran.document["counts"]) == (0, "OK", True), ran.printed
    assert "готово" in ran.printed and ran.document["tasks"]["0"]["score"] > 0.9
    ran = run(Case("answer()\nattempt('sum', lambda: 1 + 1)\nattempt('file', lambda: open('none'))", "OK", "OK"))
    assert "ESCAPED sum 2\nheld file FileNotFoundError" in ran.printed and ran.code == 0


@pytest.mark.parametrize(("name", "runner"), PARAMETERS)
def test_run(run, name, runner, record_property):
    case = CASES[name]
    if runner == "local" and case.held and not local._can_unshare():
        pytest.skip("this kernel grants no namespaces, and without them the local runner promises nothing here")
    expected, _, rule = getattr(case, runner).partition(" ")
    ran = run(case)
    found = ran.document["verdict"]
    record_property("hostile", [name, runner, expected, found, round(ran.seconds, 1)])

    row = verdict.TABLE[expected]
    assert (found, ran.code) == (expected, 0 if row is verdict.OK else 1), ran.printed
    assert (ran.document["fault"], ran.document["counts"]) == (row.fault, row.counts)
    rules = {finding["rule"] for finding in ran.document["findings"]}
    assert rule in rules if rule else not rules, ran.document["findings"]
    limits = RUN.override([*SMALL, *case.limits])
    if row is verdict.TIMEOUT:
        assert ran.seconds < limits.time + KILL_SECONDS

    lines = ran.printed.splitlines()
    assert not [line for line in lines if line.startswith("ESCAPED")]
    assert len([line for line in lines if line.startswith("held ")]) == case.held, ran.printed
    assert len(ran.printed.encode()) < limits.log + LOG_SURPLUS
    assert not any(ord(c) < 32 and c not in "\n\r\t" or 127 <= ord(c) < 160 for c in ran.printed)
    shown = ran.printed + json.dumps(ran.document, ensure_ascii=False)
    assert CANARY not in shown and "forged" not in json.dumps(ran.document)
    assert "--private" not in case.arguments or HIDDEN not in shown

    if case.dangerous:
        good = run(GOOD)
        assert (good.code, good.document["verdict"]) == (0, "OK"), good.printed
