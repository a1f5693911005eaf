"""A real Docker engine for the tests marked `docker`, and the base image that their containers start from.

An engine that answers is used as it is (DOCKER_HOST, else /var/run/docker.sock). Where none does, root starts one of
its own from Debian's docker.io: no bridge, no iptables rules, nothing outside the cache folder. All processes that
want it share it, pytest-xdist's workers and other checkouts alike; the last one to leave stops it. Its images stay in
the cache folder, FUSIONBRAIN_CACHE (default ~/.cache/fusionbrain), so that the next start has them.

`python -m tests.support.engine` keeps an engine up until Ctrl-C, for a look with `docker` or for test after test.
"""

import fcntl
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import docker

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("FUSIONBRAIN_CACHE", "~/.cache/fusionbrain")).expanduser()
SUITE = "bookworm"  # the Debian release that has Python 3.11
# What docker/Dockerfile would otherwise install from the network. debootstrap resolves no virtual packages:
# python3-distutils stands for python3.11-distutils, which python3.11-venv depends on.
PACKAGES = ("python3.11", "python3.11-venv", "python3.11-dev", "python3-distutils", "g++", "procps")
PUBLIC_BASE_IMAGE = "python:3.11-slim-bookworm"  # for machines without debootstrap whose engine can pull
RUNTIME_IMAGE = "fusionbrain/test:cpu"
SERVICE_IMAGE = "fusionbrain/test:service"

START_SECONDS = 120.0
STOP_SECONDS = 60.0
MAX_FOLDER_CHARACTERS = 107 - len("/exec/containerd/containerd.sock.ttrpc")  # 107 is what a socket's address holds
IMAGE_AGE = "168h"  # older layers that no image needs are dropped when the engine stops


class EngineUnavailable(Exception):
    """No engine can be had here, or no base image for it; the text is the reason."""


@contextmanager
def engine() -> Iterator[str]:
    """Yield the DOCKER_HOST of an engine that answers; start one where none does, stop it when nobody uses it.

    Raises:
        EngineUnavailable: none answers and none can be started.
    """
    wanted = os.environ.get("DOCKER_HOST")
    public = wanted or "unix:///var/run/docker.sock"
    if _answers(public):
        yield public
        return
    if wanted and wanted != _own_host():
        raise EngineUnavailable(f"no engine answers at DOCKER_HOST={wanted}")
    if os.geteuid() != 0:
        raise EngineUnavailable(f"no engine answers at {public}, and starting one needs root")
    if not shutil.which("dockerd", path=_path()):
        raise EngineUnavailable(f"no engine answers at {public}, and dockerd is not installed (Debian: docker.io)")

    if len(str(_folder())) > MAX_FOLDER_CHARACTERS:
        raise EngineUnavailable(f"{_folder()} is too long a path for sockets; set FUSIONBRAIN_CACHE to a shorter one")

    _folder().mkdir(parents=True, exist_ok=True)
    with (_folder() / "users.lock").open("w") as users:
        with lock("engine"):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not _answers(_own_host()):
                _start()
        try:
            yield _own_host()
        finally:
            with lock("engine"):
                fcntl.flock(users, fcntl.LOCK_UN)
                with suppress(BlockingIOError):  # somebody else holds it still
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _stop()


def base_image(client: docker.DockerClient) -> str:
    """The name of an image of Debian with Python 3.11 and its venv, made by debootstrap on first use (minutes).

    Where debootstrap cannot run, python:3.11-slim-bookworm is pulled instead.

    Raises:
        EngineUnavailable: neither can be had; the text says why.
    """
    recipe = hashlib.sha256("\n".join((SUITE, *PACKAGES)).encode()).hexdigest()[:12]
    name = f"fusionbrain/base:{SUITE}-{recipe}"
    with lock("base-image"):
        for known in (name, PUBLIC_BASE_IMAGE):
            with suppress(docker.errors.ImageNotFound):
                client.images.get(known)
                return known
        mirror = _debian_mirror()
        if os.geteuid() == 0 and mirror and shutil.which("debootstrap", path=_path()):
            _debootstrap(client, mirror, name)
            return name
        try:
            client.images.pull(PUBLIC_BASE_IMAGE)
        except docker.errors.APIError as error:
            raise EngineUnavailable(
                f"no base image: debootstrap needs root, its package and an apt that knows Debian's archive; "
                f"{PUBLIC_BASE_IMAGE} cannot be pulled: {error.explanation or error}"
            ) from None
        return PUBLIC_BASE_IMAGE


def runtime_image(client: docker.DockerClient, host: str) -> str:
    """The name of the CPU image, built by `make build` from docker/Dockerfile and wheels of the cache folder.

    `host` is the engine's DOCKER_HOST. The first build takes minutes; the engine's layers make later ones quick.

    Raises:
        EngineUnavailable: there is no base image.
        subprocess.CalledProcessError: the wheels cannot be fetched or the build failed; its output was logged.
    """
    base = base_image(client)
    with lock("runtime-image"), _context(host) as context:
        options = [f"TAG={RUNTIME_IMAGE}", f"BASE_IMAGE={base}", f"CONTEXT={context / 'docker'}"]
        # A base that was pulled lacks g++ and procps; only then the build needs the network, for apt.
        _make(["build", "DEVICE=cpu", *options] + (["OFFLINE=1"] if base != PUBLIC_BASE_IMAGE else []), host)
    return RUNTIME_IMAGE


def service_image(client: docker.DockerClient, host: str) -> str:
    """The name of the image of service and queue, built by `make build-service` on `runtime_image`'s.

    Raises as `runtime_image`.
    """
    runtime = runtime_image(client, host)
    with lock("service-image"), _context(host) as context:
        _make(
            ["build-service", f"TAG={runtime}", f"SERVICE_TAG={SERVICE_IMAGE}", f"CONTEXT={context}", "OFFLINE=1"], host
        )
    return SERVICE_IMAGE


@contextmanager
def _context(host: str) -> Iterator[Path]:
    """A folder with what the images are built from, and with their wheels, fetched if the cache folder lacks them."""
    locks = [ROOT / "docker" / f"requirements.{name}.lock" for name in ("build", "cpu", "web")]
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in locks)).hexdigest()[:12]
    wheels = CACHE / "wheels" / wanted
    with tempfile.TemporaryDirectory(prefix="context-", dir=CACHE) as folder:
        context = Path(folder)
        for name in ("docker", "evaluator"):
            left_out = shutil.ignore_patterns("*.whl", "*.tar.gz", "__pycache__")
            shutil.copytree(ROOT / name, context / name, ignore=left_out)
        shutil.copy(ROOT / ".dockerignore", context)
        with lock("wheels"):
            if not wheels.is_dir():
                shutil.rmtree(CACHE / "wheels", ignore_errors=True)  # of other lock files
                partial = wheels.with_name(f"{wanted}.partial")
                partial.mkdir(parents=True)
                _make(["wheels", "DEVICE=cpu", f"WHEELS={partial}"], host)
                partial.rename(wheels)
            shutil.copytree(wheels, context / "docker/wheels", copy_function=os.link, dirs_exist_ok=True)
        yield context


def _make(arguments: list[str], host: str) -> None:
    environment = os.environ | {"DOCKER_HOST": host, "DOCKER_BUILDKIT": "0"}
    for name in ("MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):  # of a `make test` that started the tests
        environment.pop(name, None)
    done = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        logger.error("make %s:\n%s", " ".join(arguments), "\n".join(done.stdout.splitlines()[-60:]))
    done.check_returncode()


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache folder, against every other process; it ends with the process."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _folder() -> Path:
    return CACHE / "engine"


def _own_host() -> str:
    return f"unix://{_folder()}/docker.sock"


def _path() -> str:
    """PATH with the folders of root's programs, which `su` and cron leave out."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _answers(host: str) -> bool:
    with suppress(docker.errors.DockerException, OSError):
        with closing(docker.DockerClient(base_url=host, timeout=30)) as client:
            return client.ping()
    return False


def _start() -> None:
    _end_daemons()  # those that run and do not answer
    log = _folder() / "dockerd.log"
    command = ["setsid", "--fork", "dockerd", "--host", _own_host(), "--pidfile", str(_folder() / "docker.pid")]
    command += ["--data-root", str(_folder() / "data"), "--exec-root", str(_folder() / "exec")]
    # Nothing of the machine's network is touched: containers here get no network at all, or the machine's own.
    command += ["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"]
    with log.open("wb") as output:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"PATH": _path()},
            cwd="/",
            check=True,
        )
    end = time.monotonic() + START_SECONDS
    while not _answers(_own_host()):
        if time.monotonic() > end:
            last = _tail(log)
            _stop()
            raise EngineUnavailable(f"dockerd does not answer after {START_SECONDS:.0f} s: {last}")
        time.sleep(0.2)
    _remove_containers()  # of an engine that was killed


def _stop() -> None:
    with suppress(docker.errors.DockerException, OSError):
        _remove_containers()
        with closing(docker.DockerClient(base_url=_own_host())) as client:
            client.volumes.prune()
            client.images.prune(filters={"dangling": True, "until": IMAGE_AGE})
    _end_daemons()
    # dockerd unmounts its own; after a kill some may be left.
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if mount.startswith(f"{_folder()}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(_folder() / "exec", ignore_errors=True)
    (_folder() / "docker.sock").unlink(missing_ok=True)


def _remove_containers() -> None:
    with closing(docker.DockerClient(base_url=_own_host())) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            with suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)


def _end_daemons() -> None:
    """dockerd, then its containerd, which ends with it: SIGTERM, then SIGKILL after `STOP_SECONDS`.

    Their files of process ids go, too. Where nobody waits for the dead, as in a container without an init process, a
    containerd that was killed stays a zombie, which the next dockerd would believe to be running.
    """
    for name, file in (("dockerd", "docker.pid"), ("containerd", "exec/containerd/containerd.pid")):
        path = _folder() / file
        with suppress(OSError, ValueError):
            _end_process(int(path.read_text()), name)
        path.unlink(missing_ok=True)


def _runs(pid: int, name: str) -> bool:
    with suppress(OSError):
        found, state = Path(f"/proc/{pid}/stat").read_text().split(" ", 1)[1].rsplit(") ", 1)
        return found == f"({name}" and not state.startswith("Z")
    return False


def _end_process(pid: int, name: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _runs(pid, name):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        end = time.monotonic() + STOP_SECONDS
        while _runs(pid, name) and time.monotonic() < end:
            time.sleep(0.1)


def _tail(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-500:] if lines else "its log is empty"


def _debian_mirror() -> str | None:
    """The address that this machine's apt has Debian's archive from; None where apt knows none."""
    if not shutil.which("apt-get"):
        return None
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CREATED_BY)|$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    for line in listed.splitlines():
        created_by, origin, codename, component, address = line.split("|", 4)
        # The archive itself, not its -updates or -security parts, which lie elsewhere.
        if (created_by, origin, component) == ("Packages", "Debian", "main") and codename.isalpha():
            return address
    return None


def _apt_proxies() -> dict[str, str]:
    """apt's proxies as the variables that debootstrap's downloads obey."""
    proxies = {}
    for scheme in ("http", "https"):
        command = ["apt-config", "shell", "VALUE", f"Acquire::{scheme}::Proxy"]
        line = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        value = line.removeprefix("VALUE=").strip("'\"")
        if value and value != "DIRECT":
            proxies[f"{scheme}_proxy"] = value
    return proxies


def _debootstrap(client: docker.DockerClient, mirror: str, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="debootstrap-", dir=CACHE) as folder:
        root = Path(folder) / "root"
        settings = root / "etc/dpkg/dpkg.cfg.d/unsafe-io"
        settings.parent.mkdir(parents=True)
        settings.write_text("force-unsafe-io\n")  # a crash costs a new start, not a machine; syncing costs minutes
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root), mirror]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=os.environ | {"PATH": _path(), "DEBIAN_FRONTEND": "noninteractive"} | _apt_proxies(),
        )
        if done.returncode:
            last = " / ".join(done.stdout.splitlines()[-5:])
            raise EngineUnavailable(f"no base image: debootstrap failed with {done.returncode}: {last}")
        (root / "etc/apt/sources.list").write_text("")  # the image works on every machine, or on none
        for used in (root / "var/cache/apt/archives", root / "var/lib/apt/lists", root / "usr/share/doc"):
            shutil.rmtree(used, ignore_errors=True)
        archive = Path(folder) / "root.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(root, arcname=".", filter=_no_devices)
        repository, tag = name.split(":")
        try:
            client.api.import_image(src=str(archive), repository=repository, tag=tag)
            client.images.get(name)
        except docker.errors.APIError as error:
            raise EngineUnavailable(
                f"no base image: the engine does not take it: {error.explanation or error}"
            ) from None


def _no_devices(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without /dev: the engine makes its own in each container."""
    return None if member.isdev() else member


def main() -> None:
    """Keep an engine up until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt), engine() as host:
        print(f"export DOCKER_HOST={host}", flush=True)
        print(f"base image: {base_image(docker.DockerClient(base_url=host, timeout=600))}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
