"""Runs a submission in a container that has nothing: no network, no capabilities, no writable root, a user of its own.

    /work/input                 read-only
    /work/submission            read-only, the working folder
    /work/submission/output     a tmpfs volume of a fixed size: the cap holds whatever storage driver the engine has
    /tmp                        a tmpfs, also the home folder

The output's tmpfs lives as long as a container has it mounted, so a second one, the keeper, has it until the output is
copied out of it. Every container and volume carries the name of the run's folder; the next run removes those whose
folder is gone.
"""

import base64
import contextlib
import importlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import requests
import urllib3

from evaluator.core import verdict
from evaluator.core.errors import EvaluatorError, SubmissionError, show
from evaluator.core.gpus import find as find_gpus
from evaluator.core.limits import Limits
from evaluator.data.contracts import Layout
from evaluator.sandbox.base import (
    BUDGET_VARIABLE,
    STANDARD,
    TMP_FILES,
    Execution,
    LogCopier,
    Workspace,
    collect_tar,
    exit_code,
)

docker: Any = importlib.import_module("docker")  # untyped, and mypy would take the folder docker/ for it
types: Any = importlib.import_module("docker.types")
logger = logging.getLogger(__name__)

UID = 10001
USER = f"{UID}:{UID}"
KEEPER_USER = "10002:10002"
RUN_LABEL, HOST_LABEL = "fbc2.evaluator.run", "fbc2.evaluator.host"
ATTEMPTS = 3  # where the engine fails, not the submission
RETRY_SECONDS = 2.0
POLL_SECONDS = 0.25
ENGINE_SECONDS = 120  # for one answer of the engine
LOG_SECONDS = 10.0
LOG_END_LINES = 100_000  # more than the longest end has, but for a log of empty ones
LOG_ERROR_BYTES = 2**14
END_SECONDS = 10.0  # after the evaluator would have killed it
COPY_SECONDS = 3600  # for the output to be copied out of the keeper
# What the engine runs in a container whose time is up, as its health check: all of its user's processes end, and with
# them the init process. Where there still is an evaluator, it has ended the container before.
END_COMMAND = ["CMD", "sh", "-c", "kill -KILL -1"]
KEEPER_MEMORY = 32 * 2**20
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as the engine has it

# What an engine (docker 20 to 28, with runc) answers where an image cannot be what is asked of it, whatever the status.
# All that we ask is always the same, so what is not in this table is not the image's fault.
_IMAGES_FAULT = re.compile(
    r"(?:to rootfs at|^mount |^mkdir ).*"  # a mount point of ours that the image has as something else
    r"(?:not a directory|is a directory|file exists|too many l\w+|read-only file system|inside /proc)"
    r"|Cannot mkdir: .* is not a directory"
    # A program of the container, not one of the engine's own, which are found on its PATH.
    r'|exec: "(?!docker-init|runc|crun|nvidia-|containerd-)[^"]*": .*'
    r"(?:no such file|not found|permission denied|exec format error|is a directory|not a directory)"
    r"|unable to setup user|cannot mount volume over existing file|^source .* is not (?:a )?directory"
    r"|unsatisfied condition"  # NVIDIA_REQUIRE_... of the image's environment, as of a newer driver
)
# What it answers where it looks for a file of a container, and finds none, or goes round in circles.
_NO_FILE = re.compile(r"(?:not a directory|[Ff]ile ?name too long)\W*$")
_CIRCLE = re.compile(r"^(?:\w+: )?too many l|too many levels of symbolic links\W*$")
# Of Go's FileMode: folder, link, device, FIFO, socket, character device, and what is nothing of these.
_FOLDER, _LINK = 1 << 31, 1 << 27
_NO_REGULAR_FILE = _FOLDER | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19
MAX_LINKS = 40  # of a path, as Linux has it
MAX_DEPTH = 200  # of a path that is looked for: the engine takes more than 255 names for a circle
MAX_VOLUMES = 100  # that an image declares

_ENGINE_FAILURES = (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class _EngineError(Exception):
    """The engine failed, not the submission."""


class DockerRunner:
    """A `Runner` in containers of the engine that DOCKER_HOST names (default: the one of this machine)."""

    name = "docker"

    def __init__(self) -> None:
        self._client = _connect()

    def preflight(self, image: str, limits: Limits) -> list[str]:
        """As `Runner.preflight`."""
        attributes = _image(self._client, image, limits)
        _check_volumes(attributes)
        information = _retried(self._client.info)
        notes = [f"image: {image} = {attributes['Id']}"]
        if limits.cpus > information["NCPU"]:
            notes.append(f"cpus: {information['NCPU']}, all there are, instead of {limits.cpus:g}")
        if limits.memory > information["MemTotal"]:
            notes.append(f"memory: this machine has {information['MemTotal']} bytes, fewer than the limit")
        if limits.gpus:
            given = _gpus(limits.gpus)
            notes.append(f"gpus: {', '.join(given)}" if given else "gpus: none, as this machine has none")
        return notes

    def run(self, space: Workspace, arguments: list[str], image: str, limits: Limits, terminal: TextIO) -> Execution:
        """As `Runner.run`."""
        sweep(self._client)
        identity = _image(self._client, image, limits)
        _check_volumes(identity, space.layout)
        space.output.mkdir(exist_ok=True)  # the volume's mount point, as the folder around it is read-only
        for attempt in range(1, ATTEMPTS + 1):
            shutil.rmtree(space.collected, ignore_errors=True)
            run = _Run(self._client, space, arguments, identity, limits, terminal)
            try:
                return run.outcome()
            except _EngineError as error:
                if attempt == ATTEMPTS:
                    raise run.failure(f"the Docker engine failed {ATTEMPTS} times", str(error)) from error
                logger.warning("the Docker engine failed, trying again: %s", error)
                time.sleep(RETRY_SECONDS)
            except docker.errors.APIError as error:  # of a call whose answer depends on nothing of the submission
                raise run.failure("the Docker engine refuses", _reason(error)) from error
        raise AssertionError


def unavailable(image: str | None) -> str:
    """Why docker cannot run `image`, or with None any, here, in half a sentence; empty where it can."""
    try:
        client = _connect()
    except EvaluatorError:
        return "no Docker engine answers"
    if image is None:
        return ""
    try:
        client.images.get(image)
    except docker.errors.ImageNotFound:
        return f"the Docker engine does not have the image {show(image)}"
    except _ENGINE_FAILURES:
        return "the Docker engine does not answer"
    return ""


def can_use(image: str, limits: Limits) -> bool:
    """Whether this machine's engine has `image`, and a run may use it."""
    try:
        _image(_connect(), image, limits)
    except (EvaluatorError, *_ENGINE_FAILURES) as error:
        logger.debug("%s: %s", image, error)
        return False
    return True


def has_gpus(count: int) -> bool:
    """Whether a run gets so many GPUs here."""
    return len(_gpus(count)) >= count


def sweep(client: Any) -> None:
    """Remove containers and volumes of runs that are over: those whose folder is gone from this machine."""
    mine = {"label": [RUN_LABEL, f"{HOST_LABEL}={_host()}"]}

    def over(labels: dict[str, str] | None) -> bool:
        return not os.path.lexists((labels or {}).get(RUN_LABEL, "/"))

    for container in _retried(lambda: client.containers.list(all=True, filters=mine, ignore_removed=True)):
        if over(container.labels):
            logger.warning("removing container %s of a run that was killed", container.name)
            _remove_container(container)
    for volume in _retried(lambda: client.volumes.list(filters=mine)):
        if over(volume.attrs.get("Labels")):
            logger.warning("removing volume %s of a run that was killed", volume.name)
            _remove_volume(volume)


class _Run:
    """One try at a run."""

    def __init__(
        self,
        client: Any,
        space: Workspace,
        arguments: list[str],
        image: dict[str, Any],
        limits: Limits,
        terminal: TextIO,
    ) -> None:
        self._client, self._space, self._layout, self._arguments = client, space, space.layout, arguments
        self._image, self._limits, self._terminal = image, limits, terminal
        self._labels = {RUN_LABEL: str(space.base), HOST_LABEL: _host()}
        self._started = False  # the submission

    def failure(self, what: str, said: str) -> EvaluatorError:
        """The error that the engine failed, which `said` why; of a run that was started it can name what that wrote."""
        if self._started:
            return EvaluatorError(f"{what} after the submission was started", quoting=said)
        return EvaluatorError(f"{what}: {said}")

    def outcome(self) -> Execution:
        with contextlib.ExitStack() as stack:
            volume, declared = self._output_volume(stack), self._declared_volumes(stack)
            keeper = self._container(stack, self._keeper_settings(volume, declared))
            self._start(keeper)
            container = self._container(stack, self._settings(volume, declared))
            self._check_program(container)
            self._printed = _Printed(_call(container.attach, stream=True, demux=True))
            self._start(container)
            self._started = True
            outcome = self._wait(container)
            _call(keeper.reload)
            if outcome.ending is verdict.EXIT:  # it can fill output/ and end before the meter looks
                outcome = replace(outcome, full=_full(keeper, {"output/": self._layout.output}))
            if outcome.ending is verdict.OK:
                if keeper.status != "running":
                    raise SubmissionError(verdict.BAD_IMAGE, "the image's `sleep` ended, and the output went with it")
                with _archive(keeper, self._layout.output) as chunks:
                    collect_tar(chunks, self._space.collected, self._limits)
        return outcome

    def _settings(self, volume: str, declared: list[Any]) -> dict[str, Any]:
        limits, layout = self._limits, self._layout
        cpus = min(limits.cpus, _call(self._client.info)["NCPU"])
        given = _gpus(limits.gpus)
        return self._common() | {
            "entrypoint": self._arguments,  # in place of the image's ENTRYPOINT and CMD
            "user": USER,
            "working_dir": layout.submission,
            "environment": {
                "HOME": "/tmp",
                "TMPDIR": "/tmp",
                "PYTHONUNBUFFERED": "1",
                "PYTHONIOENCODING": "utf-8",
                "PYTHONDONTWRITEBYTECODE": "1",
                "HF_HUB_OFFLINE": "1",
                BUDGET_VARIABLE: f"{limits.time:g}",
                # An image could ask the NVIDIA runtime for all of them.
                "NVIDIA_VISIBLE_DEVICES": ",".join(given) or "void",
            },
            "mounts": [
                *([] if layout.nested else [types.Mount(layout.input, str(self._space.input), "bind", read_only=True)]),
                types.Mount(layout.submission, str(self._space.submission), "bind", read_only=True),
                types.Mount(layout.output, volume, "volume", no_copy=True),
                *declared,
            ],
            "tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,size={limits.tmp},nr_inodes={TMP_FILES},mode=1777"},
            "shm_size": limits.shm,
            "mem_limit": limits.memory,
            "memswap_limit": limits.memory,
            "nano_cpus": int(cpus * 1e9),
            "pids_limit": limits.pids,
            "log_config": types.LogConfig(type="json-file", config={"max-size": str(limits.log), "max-file": "2"}),
            "healthcheck": {"test": END_COMMAND, "interval": _nanoseconds(self._last_second), "retries": 1},
            "device_requests": [types.DeviceRequest(device_ids=given, capabilities=[["gpu"]])] if given else None,
        }

    @property
    def _last_second(self) -> float:
        """How long a container can run, whoever is there to end it."""
        return self._limits.time + self._limits.grace + END_SECONDS

    def _keeper_settings(self, volume: str, declared: list[Any]) -> dict[str, Any]:
        """The keeper runs a program of an image that nobody vouches for, and gets next to nothing to run it with."""
        return self._common() | {
            "entrypoint": ["sleep", f"{self._last_second + COPY_SECONDS:.0f}"],
            "user": KEEPER_USER,
            "mounts": [types.Mount(self._layout.output, volume, "volume", read_only=True, no_copy=True), *declared],
            "shm_size": 2**20,
            "mem_limit": KEEPER_MEMORY,
            "memswap_limit": KEEPER_MEMORY,
            "nano_cpus": 10**7 * 5,
            "pids_limit": 8,
            "healthcheck": {"test": ["NONE"]},
            "log_config": types.LogConfig(type="none"),
        }

    def _common(self) -> dict[str, Any]:
        return {
            "image": self._image["Id"],
            "command": [],
            "labels": self._labels,
            "network_mode": "none",
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "read_only": True,
            "init": True,
            "ipc_mode": "private",
            "privileged": False,
            "oom_kill_disable": False,
            "ulimits": [types.Ulimit(name="core", soft=0, hard=0)],
            "restart_policy": {"Name": "no"},
        }

    def _declared_volumes(self, stack: contextlib.ExitStack) -> list[Any]:
        """The image's VOLUMEs, which would be writable and without a cap: read-only, with the image's content."""
        declared = {os.path.normpath(path) for path in self._image["Config"].get("Volumes") or ()}
        return [
            types.Mount(path, self._volume(stack, {}), "volume", read_only=True)
            for path in sorted(declared - _replaced(self._layout))
        ]

    def _output_volume(self, stack: contextlib.ExitStack) -> str:
        uid, gid = USER.split(":")
        size = f"size={self._limits.output},nr_inodes={self._limits.output_files + 1}"
        options = f"{size},uid={uid},gid={gid},mode=0755,nosuid,nodev"
        return self._volume(stack, {"type": "tmpfs", "device": "tmpfs", "o": options})

    def _volume(self, stack: contextlib.ExitStack, options: dict[str, str]) -> str:
        """The name of a new volume."""
        volume = _call(self._client.volumes.create, driver="local", driver_opts=options, labels=self._labels)
        stack.callback(_remove_volume, volume)
        return str(volume.name)

    def _check_program(self, container: Any) -> None:
        """Raise `SubmissionError` (BAD_METADATA) where the entrypoint's program is not there: the init process, which
        is, would start and end with 127, as any program can.
        """
        program = self._arguments[0]
        variables = dict(text.partition("=")[::2] for text in self._image["Config"].get("Env") or ())
        folders = [self._layout.submission] if "/" in program else variables.get("PATH", DEFAULT_PATH).split(":")
        if any(self._can_run(container, os.path.join(self._layout.submission, folder, program)) for folder in folders):
            return
        shown = show(shlex.join(self._arguments))
        raise SubmissionError(
            verdict.BAD_METADATA,
            f"entrypoint {shown} cannot be started: there is no such program in archive or image that may be run",
        )

    def _can_run(self, container: Any, path: str, links: int = 0) -> bool:
        """Whether a path of the container is a program. Raises `SubmissionError` (BAD_IMAGE) for links that lead in a
        circle.
        """
        path = os.path.normpath(path)
        if path.startswith(prefix := f"{self._layout.submission}/"):  # not mounted yet
            return self._can_run_ours(container, self._space.submission / path.removeprefix(prefix))
        found = _look(container, path)
        mode = found["mode"] if found else 0
        if mode & _LINK and found:
            if links == MAX_LINKS:
                raise SubmissionError(verdict.BAD_IMAGE, f"the image's {show(path)} is a link that leads in a circle")
            return self._can_run(container, os.path.join(os.path.dirname(path), found["linkTarget"]), links + 1)
        return bool(mode & 0o111) and not mode & _NO_REGULAR_FILE

    def _can_run_ours(self, container: Any, file: Path) -> bool:
        """Whether the kernel takes a file of the submission for a program: as for itself, the init process would take
        any text for a shell's.
        """
        try:
            if not file.is_file() or not file.stat().st_mode & 0o111:
                return False
            with open(file, "rb") as opened:
                first = opened.read(256).partition(b"\n")[0]
        except OSError:  # a path that is too long, or below a file
            return False
        if first.startswith(b"#!"):
            interpreter = re.split(rb"[ \t]", first[2:].strip(b" \t"))[0].decode("utf-8", "replace")
            return self._can_run(container, os.path.join(self._layout.submission, interpreter))
        return first.startswith(b"\x7fELF")

    def _container(self, stack: contextlib.ExitStack, settings: dict[str, Any]) -> Any:
        try:
            container = self._client.containers.create(**settings)
        except docker.errors.APIError as error:
            raise _refusal(error) from None
        except _ENGINE_FAILURES as error:
            raise _EngineError(str(error)) from error
        stack.callback(_remove_container, container)
        return container

    def _start(self, container: Any) -> None:
        try:
            container.start()
        except docker.errors.APIError as error:
            raise _refusal(error) from None
        except _ENGINE_FAILURES as error:
            raise _EngineError(str(error)) from error

    def _wait(self, container: Any) -> Execution:
        """Follow the container to its end, and end it when its time is up."""
        limits = self._limits
        begun = int(time.time())
        start = time.monotonic()
        copier = LogCopier(self._printed, self._space.log, self._terminal, limits.log)
        copier.start()
        meter = _Meter(container, self._layout.output)
        expired = not self._ended(container, start + limits.time, meter)
        if expired:
            _signal(container, "SIGTERM")
            if not self._ended(container, time.monotonic() + limits.grace, meter):
                _signal(container, "SIGKILL")
                if not self._ended(container, time.monotonic() + 2 * limits.grace, meter):
                    raise _EngineError("a container does not end after SIGKILL")
        seconds = time.monotonic() - start
        state = container.attrs["State"]
        if state["Error"] or state["Status"] == "dead":
            raise _EngineError(state["Error"] or "the container is dead")
        code = state["ExitCode"]
        expired |= exit_code(code) == -signal.SIGKILL and seconds > limits.time  # by END_COMMAND, before we looked
        copier.join(LOG_SECONDS)
        end = _log_end(container, copier.tail_bytes) if copier.is_alive() or self._printed.broken else b""
        copier.finish(0, end, self._printed.last_errors if code else b"")
        events = _call(
            self._client.events,
            since=begun - 1,
            until=int(time.time()) + 1,
            filters={"container": container.id, "event": "oom"},
            decode=True,
        )
        return Execution(
            exit_code=exit_code(code),
            seconds=seconds,
            expired=expired,
            oom=bool(state["OOMKilled"]) or any(True for _ in events),
            full=meter.full,
            peak_memory=meter.peak_memory,
            cpu_seconds=meter.cpu_seconds,
            image=self._image["Id"],
        )

    def _ended(self, container: Any, deadline: float, meter: "_Meter") -> bool:
        """Whether the container ended before `deadline` (monotonic)."""
        while True:
            _call(container.reload)
            if container.status in ("exited", "dead"):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            meter.read()
            time.sleep(min(left, POLL_SECONDS))


class _Meter:
    """Reads a running container's memory, CPU time and full places; what cannot be read stays None or empty.

    A program that fills /tmp and ends at once, between two looks, ends as EXIT: its /tmp goes with it.
    """

    def __init__(self, container: Any, output: str) -> None:
        self._container, self._output = container, output
        self.full = ""
        self.peak_memory: int | None = None
        self.cpu_seconds: float | None = None

    def read(self) -> None:
        with contextlib.suppress(*_ENGINE_FAILURES, KeyError):
            stats = self._container.client.api.stats(self._container.id, stream=False, one_shot=True)
            memory = stats["memory_stats"]
            if used := memory.get("max_usage") or memory.get("usage"):
                self.peak_memory = max(self.peak_memory or 0, used)
            self.cpu_seconds = max(self.cpu_seconds or 0.0, stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9)
        self.full = _full(self._container, {"output/": self._output, "/tmp": "/tmp"}) or self.full


def _full(container: Any, places: Mapping[str, str]) -> str:
    """The name of the place (name to path) that has no room left in a running container, for files or for their names;
    empty where all have some.

    This can be read by root of the engine's machine alone. For others a full place ends as EXIT, not as DISK.
    """
    process = Path("/proc", str(container.attrs["State"]["Pid"]))
    with contextlib.suppress(OSError):
        if container.id not in (process / "cgroup").read_text():
            return ""  # the engine counts processes otherwise than we do
        for name, path in places.items():
            found = os.statvfs(f"{process}/root{path}")
            if not found.f_bavail or not found.f_favail:
                return name
    return ""


def _connect() -> Any:
    """Raises `EvaluatorError` where no engine answers."""
    try:
        client = docker.from_env(timeout=ENGINE_SECONDS)
        client.ping()
    except _ENGINE_FAILURES as error:
        raise EvaluatorError(
            f"no Docker engine answers: {error}; start one, or use --runner local for code that you trust"
        ) from error
    return client


def _image(client: Any, name: str, limits: Limits) -> dict[str, Any]:
    """The attributes of a local image; never pulled. Raises `SubmissionError` (BAD_IMAGE)."""
    try:
        attributes = _retried(lambda: client.images.get(name)).attrs
    except docker.errors.ImageNotFound:
        raise SubmissionError(
            verdict.BAD_IMAGE, f"the image {show(name)} is not on this engine, and nothing is pulled for a run"
        ) from None
    except docker.errors.APIError as error:
        raise SubmissionError(verdict.BAD_IMAGE, f"the image {show(name)} cannot be used: {_reason(error)}") from None
    if attributes["Id"].removeprefix("sha256:").startswith(name):  # whose image that is, nobody said
        raise SubmissionError(verdict.BAD_IMAGE, f"{show(name)} is an image's number; it must be its name")
    if attributes["Size"] > limits.image:
        raise SubmissionError(
            verdict.BAD_IMAGE, f"the image {show(name)} has {attributes['Size']} bytes; allowed: at most {limits.image}"
        )
    return attributes


def _gpus(count: int) -> list[str]:
    """The UUIDs of `count` GPUs of this machine, the least used first; fewer where there are fewer. Where
    CUDA_VISIBLE_DEVICES is set, only those that it names, so that two runs at a time have GPUs of their own.

    Raises `EvaluatorError` where there are too few as the driver refuses: without a GPU, a submission would be blamed
    for its time.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = None if visible is None else {name.strip() for name in visible.split(",")} - {""}
    if not count or named == set():
        return []
    found = find_gpus()
    chosen = [gpu for gpu in found.usable if named is None or named & {str(gpu.index), gpu.uuid}]
    if len(chosen) < count and found.refused:
        raise EvaluatorError(
            f"{len(chosen)} of {count} GPUs can be used; NVML refuses to tell {'; '.join(found.refused)}; see what"
            " `nvidia-smi` says, or run with --limit gpus=0"
        )
    chosen.sort(key=lambda gpu: gpu.used or 0)
    return [gpu.uuid for gpu in chosen[:count]]


def _host() -> str:
    """This machine, and its folder in which the runs' are: what their names belong to. A container that is made anew,
    as a service whose mounts are its own, still has the same one.
    """
    temporary = os.stat(tempfile.gettempdir())
    return f"{socket.gethostname()} {temporary.st_dev}:{temporary.st_ino}"


def _call(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call the engine. Raises `_EngineError` where it fails, `APIError` where it refuses."""
    try:
        return function(*arguments, **settings)
    except docker.errors.APIError as error:
        if error.is_client_error():
            raise
        raise _EngineError(_reason(error)) from error
    except _ENGINE_FAILURES as error:
        raise _EngineError(str(error)) from error


def _retried(function: Callable[[], Any]) -> Any:
    """Call the engine for what can be asked again. Raises `EvaluatorError` where it keeps failing."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _call(function)
        except _EngineError as error:
            if attempt == ATTEMPTS:
                raise EvaluatorError(f"the Docker engine failed {ATTEMPTS} times: {error}") from error
            time.sleep(RETRY_SECONDS)
    raise AssertionError


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _reason(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())


def _refusal(error: Any) -> Exception:
    """What it means that the engine makes or starts no container of an image: it is the image's fault where the engine
    says what only the image can have done.
    """
    reason = _reason(error)
    if _IMAGES_FAULT.search(reason):
        return SubmissionError(verdict.BAD_IMAGE, f"no container of the image can be started: {reason}")
    return _EngineError(reason)


def _replaced(layout: Layout) -> frozenset[str]:
    """What a run has of its own, where an image declares VOLUMEs."""
    return frozenset({"/tmp", "/dev/shm", layout.input, layout.submission, layout.output})


def _check_volumes(image: Mapping[str, Any], layout: Layout = STANDARD) -> None:
    """Raise `SubmissionError` (BAD_IMAGE) for a VOLUME where a run has something of its own: the engine finds no words
    for it that are always the same.
    """
    declared = image["Config"].get("Volumes") or ()
    if len(declared) > MAX_VOLUMES:
        raise SubmissionError(
            verdict.BAD_IMAGE, f"the image declares {len(declared)} VOLUMEs; allowed: at most {MAX_VOLUMES}"
        )
    for given in declared:
        path = os.path.normpath(f"/{given.lstrip('/')}")
        mounted = ("/proc/", f"{layout.input}/", f"{layout.submission}/")
        ours = f"{path}/".startswith(mounted) and path not in _replaced(layout)
        if not given.startswith("/") or path in ("/", "/dev", os.path.dirname(layout.submission)) or ours:
            raise SubmissionError(
                verdict.BAD_IMAGE,
                f"the image declares the VOLUME {show(given)}; allowed: absolute paths outside of /proc and of what a"
                f" run mounts, which are not /, /dev or {os.path.dirname(layout.submission)}",
            )


def _look(container: Any, path: str) -> dict[str, Any] | None:
    """What a container's path is, as the engine has it: `mode` and, of a link, `linkTarget`; None where nothing is.

    Raises `SubmissionError` (BAD_IMAGE) for links that lead in a circle, and for an image that nothing can be
    mounted into.
    """
    address, settings = _archive_address(container), {"params": {"path": path}}
    response = _call(container.client.api.head, address, **settings)
    if response.status_code == requests.codes.ok:
        return dict(json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"])))
    if response.status_code == requests.codes.not_found:
        return None
    response = _call(container.client.api.get, address, stream=True, timeout=ENGINE_SECONDS, **settings)
    try:  # its words, which HEAD leaves out
        words = response.raw.read(2**16, decode_content=True)
    except _ENGINE_FAILURES as error:
        raise _EngineError(str(error)) from error
    finally:
        response.close()
    try:
        reason = " ".join(json.loads(words)["message"].split())
    except (ValueError, TypeError, KeyError):
        reason = f"it does not look for {show(path)}, with status {response.status_code}"
    if _IMAGES_FAULT.search(reason):
        raise SubmissionError(verdict.BAD_IMAGE, f"nothing can be mounted into a container of the image: {reason}")
    if _CIRCLE.search(reason) and path.count("/") < MAX_DEPTH:
        raise SubmissionError(verdict.BAD_IMAGE, f"the image's {show(path)} leads in a circle of links")
    if _NO_FILE.search(reason) or _CIRCLE.search(reason):
        return None
    raise _EngineError(reason)


def _archive_address(container: Any) -> str:
    api = container.client.api
    return f"{api.base_url}/v{api.api_version}/containers/{container.id}/archive"


@contextlib.contextmanager
def _archive(container: Any, path: str) -> Iterator[Iterator[bytes]]:
    """The tar stream of a container's folder. The client's own `get_archive` cannot be closed before its end, and the
    engine would go on packing, a sparse file's terabyte for instance, and keep the container until then.
    """
    settings = {"params": {"path": path}, "stream": True, "timeout": ENGINE_SECONDS}
    response = _call(container.client.api.get, _archive_address(container), **settings)
    try:
        if response.status_code != requests.codes.ok:
            raise _EngineError(f"the output cannot be copied: {response.text[:200]}")
        yield response.iter_content(1 << 20)
    finally:
        response.close()


def _signal(container: Any, name: str) -> None:
    """Signal the container; one that has ended meanwhile is no error."""
    with contextlib.suppress(docker.errors.APIError):
        _call(container.kill, signal=name)


class _Printed:
    """What a container prints, as it comes. Not the engine's log, which is rotated and leaves out what is not read in
    time. The engine brings stderr by a way of its own, faster than a full stdout: what was written last to stderr may
    come before what was written to stdout, so that the end of it is kept.
    """

    def __init__(self, frames: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        self._frames = frames
        self._last = self._errors = b""
        self.broken = False  # before its end, which is found elsewhere

    def __iter__(self) -> Iterator[bytes]:
        try:
            for printed, errors in self._frames:
                chunk = (printed or b"") + (errors or b"")
                self._last = (self._last + chunk)[-LOG_ERROR_BYTES:]
                self._errors = (self._errors + (errors or b""))[-LOG_ERROR_BYTES:]
                yield chunk
        except _ENGINE_FAILURES:
            self.broken = True

    @property
    def last_errors(self) -> bytes:
        """The end of stderr, where it is not the end of all that was printed."""
        last, errors = (text.strip().rpartition(b"\n")[2] for text in (self._last, self._errors))
        return b"" if last.endswith(errors) else self._errors


def _log_end(container: Any, size: int) -> bytes:
    """At most `size` bytes of the end of a log, as the engine keeps it. Empty where the engine fails, as the run's end
    does not depend on it.
    """
    end = bytearray()
    with contextlib.suppress(*_ENGINE_FAILURES):
        for chunk in container.logs(stream=True, follow=False, tail=LOG_END_LINES):
            end += chunk
            if len(end) > 4 * size:  # seldom, as it moves all of it
                del end[: len(end) - size]
    return bytes(end[max(0, len(end) - size) :])


def _remove_container(container: Any) -> None:
    """Kill and remove, with its anonymous volumes. What fails is left to the next run."""
    try:
        _retried(lambda: container.remove(force=True, v=True))
    except docker.errors.NotFound:
        pass
    except (docker.errors.APIError, EvaluatorError) as error:
        if "already in progress" in str(error):  # by another evaluator's sweep; its volumes go when it is gone
            with contextlib.suppress(*_ENGINE_FAILURES):
                container.wait(timeout=ENGINE_SECONDS, condition="removed")
            return
        logger.warning("container %s is left behind: %s", container.name, error)


def _remove_volume(volume: Any) -> None:
    try:
        _retried(lambda: volume.remove(force=True))
    except docker.errors.NotFound:
        pass
    except (docker.errors.APIError, EvaluatorError) as error:
        logger.warning("volume %s is left behind: %s", volume.name, error)
