"""Can this machine run submissions as the leaderboard does? One line for each thing a run stands on, with its fix.

`ok` is as it should be, `note` differs from the leaderboard and stops nobody, `FAIL` stops a run.
"""

import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from evaluator.competition.definition import default
from evaluator.core import gpus
from evaluator.core.gpus import Gpu
from evaluator.core.limits import RUN, Limits
from evaluator.core.text import gigabytes
from evaluator.core.verdict import DATA_ERROR
from evaluator.sandbox.docker import USER

docker: Any = importlib.import_module("docker")  # untyped, and mypy would take the folder docker/ for it
types: Any = importlib.import_module("docker.types")

GPU_CHECK = Path(__file__).resolve().parents[2] / "build" / "gpu-check" / "summary.json"
ENGINE_SECONDS = 120  # for one answer of the engine; a first container of a large image takes its time
MIN_ENGINE = (20, 10)
# The oldest NVIDIA driver that a CUDA release runs on, by CUDA's major version.
MIN_DRIVER = {11: 450, 12: 525, 13: 580}

OK, NOTE, FAIL = "ok", "note", "FAIL"
_ENGINE_FAILURES = (docker.errors.DockerException, requests.RequestException, OSError)
# What the image's own Python sees from inside a container.
_PROBE = """
import json, os, sys, torch
gpu = torch.cuda.is_available()
print(json.dumps({
    "uid": os.getuid(), "python": sys.version.split()[0], "torch": torch.__version__, "cuda": torch.version.cuda,
    "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if gpu else [],
    "sum": torch.ones(64, 64, device="cuda" if gpu else "cpu").sum().item(),
}))
"""


@dataclass(frozen=True)
class Check:
    """What was found of `subject`: `state` is OK, NOTE or FAIL, `fix` is empty where there is nothing to do."""

    state: str
    subject: str
    found: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.state:4}  {self.subject:7}  {self.found}"
        return f"{text}\n{'':15}fix: {self.fix}" if self.fix else text


def examine(image: str, limits: Limits = RUN, gpu_check: Path = GPU_CHECK) -> Iterator[Check]:
    """Look at the engine, the image, the GPU, the driver, memory, CPUs and disk; a line as soon as it is known.

    gpu_check: what `make gpu-check` wrote last.
    """
    client, line = _engine()
    yield line
    found, line = _image(client, image, limits)
    yield line
    usable, driver, line = _gpus(limits)
    yield line
    yield from _gpu_check(usable, gpu_check)
    if found is not None:
        yield from _container(client, found, usable[: limits.gpus], driver)
    yield from _machine(client, limits)
    yield from _disk(client, found is not None, limits)


def _engine() -> tuple[Any, Check]:
    where = os.environ.get("DOCKER_HOST", "/var/run/docker.sock")
    try:
        client = docker.from_env(timeout=ENGINE_SECONDS)
        version = client.version()
        driver = client.info()["Driver"]
    except _ENGINE_FAILURES as error:
        if "Permission denied" in str(error):
            fix = f"sudo usermod -aG docker {os.environ.get('USER', '$USER')}, then log in again"
        elif "DOCKER_HOST" in os.environ:
            fix = "start the engine that DOCKER_HOST names, or unset DOCKER_HOST to use this machine's own"
        else:
            fix = "install Docker (Debian, Ubuntu: apt install docker.io) and start it: sudo systemctl start docker"
        return None, Check(FAIL, "engine", f"no Docker engine answers at {where}: {_one_line(error)}", fix)
    text = f"Docker {version['Version']} (API {version['ApiVersion']}, storage {driver}) at {where}"
    try:
        old = tuple(int(part) for part in version["Version"].split(".")[:2]) < MIN_ENGINE
    except ValueError:  # a build of one's own, such as "dev"
        old = False
    if old:
        return client, Check(FAIL, "engine", text, f"upgrade Docker to {'.'.join(map(str, MIN_ENGINE))} or newer")
    return client, Check(OK, "engine", text)


def _image(client: Any, name: str, limits: Limits) -> tuple[Any, Check]:
    if client is None:
        return None, Check(NOTE, "image", f"{name}: not looked for without an engine")
    try:
        image = client.images.get(name)
    except docker.errors.ImageNotFound:
        return None, Check(FAIL, "image", f"{name} is not built", "make build (without a GPU: make build DEVICE=cpu)")
    except _ENGINE_FAILURES as error:
        fix = f"give --image a name such as {default().definition.image}"
        return None, Check(FAIL, "image", f"{name}: {_one_line(error)}", fix)
    labels = image.labels or {}
    version = labels.get("org.opencontainers.image.version", "unknown")
    commit = labels.get("org.opencontainers.image.revision", "unknown")
    size = image.attrs["Size"]
    text = f"{name}, version {version}, commit {commit[:12]}, {gigabytes(size)} of at most {gigabytes(limits.image)}"
    if size > limits.image:
        return image, Check(FAIL, "image", text, "leave packages out; docker history shows the large layers")
    return image, Check(OK, "image", text)


def _gpus(limits: Limits) -> tuple[Sequence[Gpu], str, Check]:
    """The GPUs of this machine that a run may be given, the driver's version, and the line about both."""
    if not limits.gpus:
        return (), "", Check(OK, "gpu", "the limits give a run none")
    found = gpus.find()
    driver = f"driver {found.driver or 'of an unknown version'}"
    if found.absent:
        wanted = f"no NVIDIA GPU ({_one_line(found.absent)}); the leaderboard has {limits.gpus}"
        return (), "", Check(NOTE, "gpu", f"{wanted}. Submissions run on the CPU here, much slower")
    names = ", ".join(
        f"{gpu.name} with {'unknown memory' if gpu.memory is None else gigabytes(gpu.memory)}" for gpu in found.usable
    )
    if found.refused:
        text = f"{driver}; {names or 'no GPU that can be used'}; NVML refuses to tell {'; '.join(found.refused)}"
        if len(found.usable) >= limits.gpus:
            return found.usable, found.driver, Check(NOTE, "gpu", text)
        fix = "see what `nvidia-smi` says: ask for permission, or reset the GPU; or run with --limit gpus=0"
        return found.usable, found.driver, Check(FAIL, "gpu", text, fix)
    if not found.usable:
        return (), found.driver, Check(NOTE, "gpu", f"{driver}, but no GPU; the leaderboard has {limits.gpus}")
    return found.usable, found.driver, Check(OK, "gpu", f"{driver}; {names}")


def _gpu_check(usable: Sequence[Gpu], summary: Path) -> Iterator[Check]:
    """What `make gpu-check` said last on this machine's GPU; nothing where there is none."""
    if not usable:
        return
    again = "make gpu-check, which takes 8 minutes"
    try:
        said = json.loads(summary.read_text(encoding="utf-8"))
        card, begun = said["card"]["device"], said["begun"]
        states = {part["part"]: part["state"] for part in said["parts"]}
        wrong = [check["name"] for check in said["wrong"]]
        wrong += [part for part, state in states.items() if state != "done"]
        small = said["small"] is True
    except FileNotFoundError:
        yield Check(NOTE, "check", "gpu-check has not run here", again)
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield Check(NOTE, "check", f"what gpu-check wrote cannot be read: {_one_line(error)}", again)
        return
    text = f"gpu-check of {begun} on {card}: {', '.join(states)}"
    if card not in {gpu.name for gpu in usable}:
        yield Check(NOTE, "check", f"{text}; that GPU is not here now", again)
    elif small:
        yield Check(NOTE, "check", f"{text}, at tiny sizes", again)
    elif wrong:
        yield Check(
            NOTE, "check", f"{text}; not right: {', '.join(wrong)}", f"look into {summary.parent}, then {again}"
        )
    else:
        yield Check(OK, "check", f"{text}; nothing is wrong")


def _container(client: Any, image: Any, given: Sequence[Gpu], driver: str) -> Iterator[Check]:
    """Start a container of the image as a run does, with its GPU, and ask the Python in it what it sees."""
    devices = [types.DeviceRequest(device_ids=[gpu.uuid for gpu in given], capabilities=[["gpu"]])] if given else None
    try:
        answer = client.containers.run(
            image.id,
            entrypoint=["python3", "-c", _PROBE],
            user=USER,
            network_mode="none",
            read_only=True,
            tmpfs={"/tmp": "size=256m"},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            device_requests=devices,
            remove=True,
        )
        seen = json.loads(answer)
    except (*_ENGINE_FAILURES, ValueError) as error:
        if given and "gpu" in str(error).lower():
            fix = "install nvidia-container-toolkit, run nvidia-ctk runtime configure --runtime=docker, restart Docker"
        else:
            fix = "build the image anew: make build; its own check says what is missing"
        yield Check(FAIL, "inside", f"a container of the image does not work: {_one_line(error)}", fix)
        return
    text = f"a container runs Python {seen['python']} and torch {seen['torch']} as uid {seen['uid']}"
    if not given:
        yield Check(OK, "inside", text)
    elif seen["gpus"]:
        yield Check(OK, "inside", f"{text} and sees {', '.join(seen['gpus'])}")
    elif seen["cuda"] is None:
        yield Check(FAIL, "inside", f"{text}, a build without CUDA", "build the image for the GPU: make build")
    elif _too_old(driver, seen["cuda"]):
        oldest = MIN_DRIVER[int(seen["cuda"].split(".")[0])]
        yield Check(
            FAIL,
            "inside",
            f"{text}, built for CUDA {seen['cuda']}, which driver {driver} cannot run",
            f"upgrade the NVIDIA driver to {oldest} or newer, or lock an older CUDA's torch (docker/README.md)",
        )
    else:
        fix = "see that nvidia-container-toolkit is installed and `docker run --gpus all` works"
        yield Check(FAIL, "inside", f"{text}, built for CUDA {seen['cuda']}, which sees no GPU", fix)


def _too_old(driver: str, cuda: str) -> bool:
    oldest = MIN_DRIVER.get(int(cuda.split(".")[0]))
    major = driver.split(".")[0]
    return oldest is not None and major.isdigit() and int(major) < oldest


def _machine(client: Any, limits: Limits) -> Iterator[Check]:
    """Memory and CPUs, of the engine's machine where there is an engine: Docker Desktop's is a smaller one."""
    try:
        information = client.info() if client else {}
    except _ENGINE_FAILURES:
        information = {}
    memory, cpus = machine_size()
    memory, cpus = information.get("MemTotal") or memory, information.get("NCPU") or cpus
    for subject, there, allowed, limit in (
        ("memory", gigabytes(memory), gigabytes(limits.memory), memory >= limits.memory),
        ("cpus", f"{cpus}", f"{limits.cpus:g}", cpus >= limits.cpus),
    ):
        text = f"{there}; a submission may use {allowed}"
        if limit:
            yield Check(OK, subject, text)
        else:
            yield Check(NOTE, subject, f"{text}, so that one which needs all of it fails here and not there")


def machine_size() -> tuple[int, int]:
    """This machine's memory in bytes, and its CPUs."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), os.cpu_count() or 1


def _disk(client: Any, built: bool, limits: Limits) -> Iterator[Check]:
    """Room for a submission as large as allowed where it is unpacked, and for the image where the engine keeps it."""
    temporary = Path(tempfile.gettempdir())
    needs = {temporary: (limits.unpacked + limits.output, f"set TMPDIR to a folder of a larger disk than {temporary}")}
    root = _engine_root(client)
    if root is not None and not built:
        needs[root] = (limits.image, "remove what Docker does not use: docker system prune")
    for folder, (wanted, fix) in needs.items():
        free = shutil.disk_usage(folder).free
        text = f"{gigabytes(free)} free at {folder}; a run may need {gigabytes(wanted)}"
        yield Check(OK, "disk", text) if free >= wanted else Check(FAIL, "disk", text, f"free some, or {fix}")


def _engine_root(client: Any) -> Path | None:
    """Where the engine keeps images; None where that is another machine's folder, or cannot be looked at."""
    try:
        root = Path(client.info()["DockerRootDir"]) if client else None
        return root if root and root.is_dir() else None
    except _ENGINE_FAILURES:
        return None


def _one_line(error: Exception | str) -> str:
    """The last line of an error: a program's is the one that says what went wrong."""
    text = getattr(error, "explanation", None) or getattr(error, "stderr", None) or str(error)
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return (text.strip().splitlines() or [type(error).__name__])[-1][:300]


def report(lines: Iterator[Check], write: Callable[[str], object]) -> int:
    """Write each line as it comes, then the sum; returns the exit code, that of an organizer's mistake for a `FAIL`."""
    failures = 0
    for line in lines:
        write(str(line))
        failures += line.state == FAIL
    if failures:
        things = "One thing stops" if failures == 1 else f"{failures} things stop"
        write(f"{things} a run in Docker here. Code that you trust can run without: make evaluate RUNNER=local")
    else:
        write("Submissions can run here.")
    return DATA_ERROR.exit_code if failures else 0
