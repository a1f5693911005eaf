"""docker/compose.yaml is one that compose takes, keeps apart what it says it keeps apart, and serves a season.

The image of service and queue is built as `make build-service` does; for PostgreSQL's published image stands the one of
this machine, as the tests fetch no images.
"""

import json
import os
import random
import re
import shlex
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest
import yaml

from evaluator.cli.app import main
from evaluator.sandbox.docker import UID
from evaluator.season.runs import STOP_SECONDS
from evaluator.web.serving import GRACEFUL_SECONDS
from tests.support import engine as docker_engine
from tests.support.data import build_data
from tests.support.season import RUN, TASK, TRUTH, write_season
from tests.support.serving import Tus
from tests.support.workers import ROOT, SECONDS

FILE = ROOT / "docker" / "compose.yaml"
WITH_GPUS = ROOT / "docker" / "compose.gpu.yaml"
OURS = ("service", "queue", "migration")
TEAM = "Ёжики «№ 1» 🦔"
SERVICE_UID = 10002


def compose() -> list[str]:
    """The plugin of docker, or the program of its own that it was before."""
    for command in (["docker", "compose"], ["docker-compose"]):
        with suppress(OSError):
            if subprocess.run([*command, "version"], capture_output=True).returncode == 0:
                return command
    pytest.skip("compose is not here (Debian: docker-compose)")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """What the file says, with the default of each variable."""
    text = re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", FILE.read_text(encoding="utf-8"))
    found: dict[str, Any] = yaml.safe_load(text)["services"]
    return found


@pytest.mark.parametrize("files", [[FILE], [FILE, WITH_GPUS]], ids=["alone", "with GPUs"])
def test_compose_takes_the_file(files: list[Path]) -> None:
    command = [*compose(), *(f"--file={path}" for path in files), "config"]
    environment = {name: value for name, value in os.environ.items() if name != "DOCKER_GID"}
    done = subprocess.run(command, env=environment | {"DOCKER_GID": "999"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {*OURS, "database"}
    without = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert without.returncode != 0 and "the group that may use Docker" in without.stderr


def test_the_program_takes_its_commands(services: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    for name in OURS:
        python, dash_m, program, *words = shlex.split(services[name]["command"])
        assert (python, dash_m, program) == ("python3", "-m", "evaluator")
        assert main([*words, "--help"]) == 0, capsys.readouterr().err
        assert main([*words, "--no-such-option", "--help"]) == 2
        assert words[words.index("--season") + 1] == "/srv/season/season.toml"


def test_nothing_has_more_than_it_needs(services: dict[str, Any]) -> None:
    """The engine's socket is the queue's alone; only the service listens, at an address of the machine's own."""
    assert {name: service["network_mode"] for name, service in services.items()} == {
        "service": "host",
        "queue": "none",
        "migration": "none",
        "database": "none",
    }
    words = shlex.split(services["service"]["command"])
    assert words[words.index("--host") + 1] == words[words.index("--proxy") + 1] == "127.0.0.1"
    sockets = [name for name, service in services.items() if any("docker.sock" in each for each in service["volumes"])]
    assert sockets == ["queue"]
    for name in OURS:
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "ports" not in service and "privileged" not in service
        assert service["user"] == f"{SERVICE_UID}:{SERVICE_UID}" and UID != SERVICE_UID


def test_the_engine_finds_what_the_queue_unpacks(services: dict[str, Any]) -> None:
    """At the same path on the machine."""
    queue = services["queue"]
    places = dict(volume.split(":")[:2] for volume in queue["volumes"])
    assert places["/srv/season"] == "/srv/season"
    assert queue["environment"]["TMPDIR"] == "/srv/season/tmp"


def test_they_have_the_time_that_they_need_to_stop(services: dict[str, Any]) -> None:
    for name, seconds in (("queue", STOP_SECONDS), ("service", GRACEFUL_SECONDS)):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) >= 2 * seconds


# --- for real ---


@pytest.fixture(scope="module")
def service_image(engine: docker.DockerClient) -> str:
    return docker_engine.service_image(engine, os.environ["DOCKER_HOST"])


@pytest.fixture
def folder(base_image: str, tmp_path: Path) -> Path:
    """A season's folder, whose runs are in containers."""
    season = tmp_path / "season"
    for name in ("public", "private"):
        build_data(season / "data" / name, (TASK,))
    today = {"start": "2020-01-01", "end": "2100-01-01", "choose_until": "2100-01-01"}
    written = write_season(season, "sqlite:///not-used.sqlite3", runner='"docker"', **today)
    with open(written.path, "a", encoding="utf-8") as rules:
        rules.write('\n[web]\nkeep_free_gb = 0\n[limits]\nmemory = "1GB"\ncpus = 1\n')
    (season / "tmp").mkdir()
    if os.geteuid() == 0:
        for path in (season, *season.rglob("*")):
            os.chown(path, SERVICE_UID, SERVICE_UID)
    return season


def _free_port() -> int:
    """One that the kernel gives to no outgoing connection."""
    while True:
        port = random.randint(20_000, 32_000)
        with suppress(OSError), socket.socket() as tried:
            tried.bind(("127.0.0.1", port))
            return port


class Project:
    """Calls compose in a project of the test's own."""

    def __init__(self, files: list[Path], folder: Path, settings: dict[str, str]) -> None:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.rules = folder / "season.toml"
        self._environment = os.environ | settings | {"SEASON_FOLDER": str(folder), "PORT": str(port)}
        name = f"fbc-test-{random.randrange(10**9)}"
        self._command = [*compose(), f"--project-name={name}", *(f"--file={path}" for path in files)]

    def __call__(self, *words: str) -> str:
        """Returns what was printed."""
        done = self._run(*words)
        assert done.returncode == 0, f"{words}: {done.stderr}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        return self._run("logs").stdout[-5000:]

    def evaluator(self, *words: str) -> str:
        """Calls the evaluator where the service runs."""
        program = ("python3", "-m", "evaluator", *words, "--season", str(self.rules))
        return self("exec", "-T", "--env=SEASON_BY=test", "service", *program)

    def remove(self) -> None:
        self._run("down", "--volumes", "--timeout=30")

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *words]
        return subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )


@pytest.fixture
def project(
    engine: docker.DockerClient, base_image: str, service_image: str, folder: Path, tmp_path: Path
) -> Iterator[Project]:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL's programs are not here (Debian: postgresql)")
    override = tmp_path / "test.yaml"
    override.write_text(json.dumps({"services": {"database": _own_postgres(binaries[-1])}}), encoding="utf-8")
    path = os.environ["DOCKER_HOST"].removeprefix("unix://")
    settings = {
        "SERVICE_IMAGE": service_image,
        "DATABASE_IMAGE": base_image,
        "DOCKER_SOCKET": path,
        "DOCKER_GID": str(os.stat(path).st_gid),
    }
    if os.geteuid():
        settings["SEASON_USER"] = f"{os.geteuid()}:{os.getegid()}"
    made = Project([FILE, override], folder, settings)
    try:
        yield made
    finally:
        made.remove()


def _own_postgres(binaries: Path) -> dict[str, Any]:
    """What takes the place of the published image: this machine's /usr, and what that image does when it starts."""
    data, user = "/var/lib/postgresql/data", 33  # www-data's number, which any Debian has
    prepare = f"install -d -o {user} -g {user} -m 700 {data} && chown {user}:{user} /var/run/postgresql && cd {data}"
    server = f"postgres -D {data} -c unix_socket_directories=/var/run/postgresql -c listen_addresses=127.0.0.1"
    start = (
        f"if [ ! -e PG_VERSION ]; then initdb -D {data} -U season -A trust -E UTF8 --locale=C -N"
        f" && echo 'CREATE DATABASE season' | postgres --single -D {data} postgres; fi && exec {server} -c fsync=off"
    )
    as_user = f"exec setpriv --reuid={user} --regid={user} --clear-groups sh -c {shlex.quote(start)}"
    return {
        "command": ["sh", "-c", f"{prepare} && {as_user}".replace("$", "$$")],
        "environment": {"PATH": f"{binaries}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        "volumes": ["/usr:/usr:ro"],
    }


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(3600)  # it may be the one that waits for the images
def test_a_season_is_served(project: Project, base_image: str, tmp_path: Path) -> None:
    """A team sends a ZIP to the service; the queue runs it in a container, and the board has its score. After all of it
    was killed, it is still there.
    """
    project("up", "--detach")
    _answer(project)
    project.evaluator("teams", "add", TEAM)
    token = project.evaluator("season", "token", TEAM).splitlines()[-1]
    path = tmp_path / "посылка.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("metadata.json", json.dumps({"image": base_image, "entrypoint": "python3 -S run.py"}))
        packed.writestr("run.py", RUN % TRUTH)
    sent = Tus(project.url, token).send(path.read_bytes())
    assert sent["state"] == "accepted", sent
    deadline = time.monotonic() + SECONDS
    while not (rows := _scores(project)):
        assert time.monotonic() < deadline, project.logs()
        time.sleep(0.5)
    assert [(row["team"], row["rank"], row["score"]) for row in rows] == [(TEAM, 1, 1.0)]
    project("kill")
    project("up", "--detach")
    _answer(project)
    assert _scores(project) == rows


def _answer(project: Project) -> None:
    """Returns when the service takes calls."""
    deadline = time.monotonic() + SECONDS
    while True:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{project.url}/api/v1/season", trust_env=False).status_code == 200:
                return
        assert time.monotonic() < deadline, project.logs()
        time.sleep(0.2)


def _scores(project: Project) -> list[dict[str, Any]]:
    """The lines of teams that have a score."""
    rows: list[dict[str, Any]] = httpx2.get(f"{project.url}/api/v1/board", trust_env=False).json()
    return [row for row in rows if row["team"] is not None and row["score"] is not None]
