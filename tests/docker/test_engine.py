"""The engine that the other tests of this kind stand on: it runs containers, is shared, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.support import engine as docker_engine

ROOT = Path(__file__).resolve().parents[2]
USER = """
import sys
from tests.support.engine import EngineUnavailable, engine
try:
    with engine() as host:
        print(host, flush=True)
        sys.stdin.read()
except EngineUnavailable as reason:
    print("unavailable:", reason, flush=True)
"""

pytestmark = pytest.mark.docker


def test_a_container_runs_and_its_exit_code_passes_through(engine: docker.DockerClient, base_image: str) -> None:
    code = "import sys; print(sys.version_info[:2]); sys.exit(41)"
    with pytest.raises(docker.errors.ContainerError) as failure:
        engine.containers.run(base_image, ["python3", "-c", code], network_mode="none", remove=True)
    assert failure.value.exit_status == 41


def test_base_image_has_python_3_11_with_venv(engine: docker.DockerClient, base_image: str) -> None:
    code = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    assert engine.containers.run(base_image, ["python3", "-c", code], network_mode="none", remove=True) == b"3 11\n"


def test_base_image_names_no_mirror(engine: docker.DockerClient, base_image: str) -> None:
    if base_image == docker_engine.PUBLIC_BASE_IMAGE:
        pytest.skip("the base image was pulled")
    command = ["sh", "-c", "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null; true"]
    assert engine.containers.run(base_image, command, network_mode="none", remove=True) == b""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A cache folder with a path short enough for sockets, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="engine-") as name:
        yield Path(name)


@pytest.fixture
def start_user(folder: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that uses an engine of its own cache folder until its standard input is closed."""
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_HOST"}
    environment["FUSIONBRAIN_CACHE"] = str(folder)
    users: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        users.append(
            subprocess.Popen(
                [sys.executable, "-c", USER],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return users[-1]

    yield start
    for user in users:
        user.kill()
        user.communicate()
    for pid in processes(folder):
        os.kill(pid, signal.SIGKILL)


def host_of(user: subprocess.Popen[str], folder: Path) -> str:
    assert user.stdout
    host = user.stdout.readline().strip()
    if host.startswith("unavailable"):
        pytest.skip(host)
    if str(folder) not in host:
        pytest.skip(f"an engine answers at {host}; none is started here")
    return host


def leave(user: subprocess.Popen[str]) -> None:
    user.communicate("", timeout=180)
    assert user.returncode == 0


def answers(host: str) -> bool:
    try:
        client = docker.DockerClient(base_url=host)
    except docker.errors.DockerException:
        return False
    try:
        return client.ping()
    finally:
        client.close()


def processes(folder: Path) -> list[int]:
    """The processes of the engine: those that have `folder` in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if any(os.fsencode(folder) in word for word in words):
            found.append(int(path.parent.name))
    return found


def assert_nothing_left(folder: Path) -> None:
    end = time.monotonic() + 300  # containerd ends a moment after dockerd
    while processes(folder) and time.monotonic() < end:
        time.sleep(0.2)
    assert processes(folder) == []
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert {path.name for path in (folder / "engine").iterdir()} == {"data", "dockerd.log", "users.lock"}


def test_processes_share_one_engine_and_the_last_one_stops_it(
    folder: Path, start_user: Callable[[], subprocess.Popen[str]]
) -> None:
    first, second = start_user(), start_user()  # at the same time
    host = host_of(first, folder)
    assert host_of(second, folder) == host
    leave(first)
    assert answers(host)
    leave(second)
    assert not answers(host)
    assert_nothing_left(folder)


def test_an_engine_whose_user_was_killed_is_used_and_stopped_by_the_next_one(
    folder: Path, start_user: Callable[[], subprocess.Popen[str]]
) -> None:
    killed = start_user()
    host = host_of(killed, folder)
    killed.kill()
    killed.wait()
    daemon = (folder / "engine/docker.pid").read_text()
    following = start_user()
    assert host_of(following, folder) == host
    assert (folder / "engine/docker.pid").read_text() == daemon
    leave(following)
    assert_nothing_left(folder)


def test_an_engine_that_was_killed_is_started_again(
    folder: Path, start_user: Callable[[], subprocess.Popen[str]]
) -> None:
    first = start_user()
    host = host_of(first, folder)
    os.kill(int((folder / "engine/docker.pid").read_text()), signal.SIGKILL)
    following = start_user()
    assert host_of(following, folder) == host
    assert answers(host)
    leave(first)
    leave(following)
    assert_nothing_left(folder)
