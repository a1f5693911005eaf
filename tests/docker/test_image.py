"""docker/Dockerfile builds an image in which a submission runs with next to nothing allowed."""

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from evaluator.sandbox.docker import UID, USER
from rudolph.native_build import SETS, library_of

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., tuple[int, str]]


def pins(path: Path) -> dict[str, str]:
    """Package to version, of the lines `name==version` that are for an image's Python; names as pip compares them,
    without torch's `+cpu`.
    """
    line = r"^([A-Za-z0-9._-]+)==([^\s+;\\]+)[^\s;]*(?: ; ([^\\\n]+))?"
    image = {"sys_platform": "linux", "python_version": "3.11", "python_full_version": "3.11.2"}
    return {
        re.sub(r"[-_.]+", "-", name).lower(): version
        for name, version, marker in re.findall(line, path.read_text(encoding="utf-8"), re.MULTILINE)
        if not marker or Marker(marker).evaluate(image)
    }


@pytest.fixture
def run(engine: docker.DockerClient, runtime_image: str) -> Run:
    """Runs a command in a container of the image without a network, on a read-only root: (exit code, output)."""

    def start(command: list[str], **settings: Any) -> tuple[int, str]:
        defaults = {"network_mode": "none", "read_only": True, "tmpfs": {"/tmp": "mode=1777"}, "cap_drop": ["ALL"]}
        container = engine.containers.create(runtime_image, command, **(defaults | settings))
        try:
            container.start()
            code = container.wait(timeout=900)["StatusCode"]
            return code, container.logs().decode()
        finally:
            container.remove(force=True, v=True)

    return start


def test_the_decoder_for_cpus_is_built_and_loads(run: Run) -> None:
    folder = "/opt/venv/lib/python3.11/site-packages/rudolph_native"
    loads = "import ctypes, sys, torch; ctypes.CDLL(sys.argv[1])"
    code, output = run(["sh", "-c", f"ls {folder} && python3 -W ignore -c '{loads}' {folder}/*-avx2.so"])
    assert code == 0, output
    assert set(output.split()) == {library_of(instructions).name for instructions in SETS}


def wanted(*extras: str) -> list[Requirement]:
    """What pyproject.toml names: its dependencies and those of the extras, without the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return [found for found in map(Requirement, lines) if found.name != project["name"]]


@pytest.mark.parametrize("lock", ["requirements.txt", "docker/requirements.gpu.lock", "docker/requirements.cpu.lock"])
def test_lock_files_have_what_pyproject_names(lock: str) -> None:
    locked = pins(ROOT / lock)
    found = wanted(*(("season", "web", "ray", "train", "dev") if lock == "requirements.txt" else ()))
    assert len(found) > 20
    wrong = [str(one) for one in found if locked.get(canonicalize_name(one.name), "none") not in one.specifier]
    assert wrong == [], "run `make lock`"


@pytest.mark.parametrize("device", ["gpu", "cpu", "web"])
def test_the_image_has_the_versions_that_make_installs(device: str) -> None:
    here, image = pins(ROOT / "requirements.txt"), pins(ROOT / "docker" / f"requirements.{device}.lock")
    assert {name: here.get(name) for name in image} == image, "run `make lock`"


def test_the_image_has_no_extras() -> None:
    image = pins(ROOT / "docker/requirements.gpu.lock")
    brought = {"triton", "fsspec"}  # by torch's CUDA build and huggingface_hub
    extras = {canonicalize_name(one.name) for one in {*wanted("season", "web", "ray", "train", "dev")} - {*wanted()}}
    assert extras & image.keys() == brought


def test_the_image_of_a_service_has_what_a_season_needs_beyond_that() -> None:
    image, more = (pins(ROOT / f"docker/requirements.{name}.lock") for name in ("gpu", "web"))
    assert {canonicalize_name(one.name) for one in {*wanted("season", "web")} - {*wanted()}} <= more.keys()
    assert not image.keys() & more.keys()


@pytest.mark.parametrize("name", ["build", "gpu", "cpu", "web"])
def test_every_locked_package_has_a_hash(name: str) -> None:
    text = (ROOT / "docker" / f"requirements.{name}.lock").read_text()
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) > 3
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_cpu_lock_brings_no_cuda() -> None:
    names = pins(ROOT / "docker/requirements.cpu.lock").keys()
    assert [name for name in names if re.match(r"cuda|triton|nvidia-(?!ml-py)", name)] == []
    assert "torch==2.13.0+cpu" in (ROOT / "docker/requirements.cpu.lock").read_text()


def test_the_dockerfile_has_the_uid_of_a_run() -> None:
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^ARG UID=(.*)$", text, re.MULTILINE)) == {str(UID)}


@pytest.mark.docker
def test_imports_as_the_uid_of_a_run(run: Run) -> None:
    code = (
        "import os, sys, torch, transformers, youtokentome, PIL, numpy, pandas, pynvml, eco2ai\n"
        "print(os.getuid(), os.getgid(), *sys.version_info[:2], os.environ['HF_HUB_OFFLINE'], os.environ['HOME'])"
    )
    status, output = run(["python3", "-W", "ignore", "-c", code])
    assert (status, output) == (0, f"{UID} {UID} 3 11 1 /tmp\n")


@pytest.mark.docker
def test_installed_versions_are_the_locked_ones(run: Run) -> None:
    status, output = run(["cat", "/opt/versions.txt"])
    assert status == 0
    installed = {
        re.sub(r"[-_.]+", "-", name): version.split("+")[0]
        for name, version in (line.split("==") for line in output.splitlines())
    }
    assert installed.pop("pip") == pins(ROOT / "docker/requirements.build.lock")["pip"]
    locked = pins(ROOT / "docker/requirements.cpu.lock")
    assert installed == locked  # Cython and wheel, which built youtokentome, are gone


@pytest.mark.docker
def test_labels_name_version_and_commit(engine: docker.DockerClient, runtime_image: str) -> None:
    labels = engine.images.get(runtime_image).labels
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version and labels["org.opencontainers.image.version"] == version[1]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == head.strip()


@pytest.mark.docker
def test_image_declares_nothing_that_a_run_would_have_to_undo(engine: docker.DockerClient, runtime_image: str) -> None:
    config = engine.images.get(runtime_image).attrs["Config"]
    assert config["User"] == USER
    assert not config.get("Entrypoint") and not config.get("Volumes") and not config.get("Healthcheck")
    # The engine's NVIDIA runtime reads these.
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(config["Env"])
    # Where pip looked belongs to one machine.
    assert [value for value in config["Env"] if value.startswith("PIP_")] == []
    history = json.dumps(engine.images.get(runtime_image).history())
    assert "PIP_" not in history


@pytest.mark.docker
@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["python3", "-c", "raise SystemExit(41)"], 41),
        (["python3", "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"], 139),
        (["python3", "no-such-file.py"], 2),
        (["true"], 0),
    ],
)
def test_exit_codes_pass_through(run: Run, command: list[str], expected: int) -> None:
    assert run(command, init=True)[0] == expected


@pytest.mark.docker
def test_eco2ai_keeps_its_settings_and_writes_a_row_on_a_read_only_root(run: Run) -> None:
    code = """
import time, eco2ai
eco2ai.set_params(project_name="кот", experiment_description="TargetValue ё", file_name="/tmp/emission.csv")
assert eco2ai.get_params()["project_name"] == "кот"
tracker = eco2ai.Tracker(alpha_2_code="RU", measure_period=1)
tracker.start()
time.sleep(2)
tracker.stop()
print(open("/tmp/emission.csv").read())
"""
    status, output = run(["python3", "-W", "ignore", "-c", code])
    assert status == 0, output
    assert "TargetValue ё" in output


@pytest.mark.docker
def test_submission_answers_sample_inputs(run: Run, tmp_path: Path) -> None:
    """The real model on three examples, text and image in and out, as `python3 run.py` finds them in a run."""
    inputs = json.loads((ROOT / "sample_input/input.json").read_text(encoding="utf-8"))
    numbers = json.loads((ROOT / "sample_input/sample_ids.json").read_text(encoding="utf-8"))
    chosen = {next(key for key in inputs if numbers[key] == task): task for task in (0, 2, 4)}
    tmp_path.chmod(0o755)
    (tmp_path / "input.json").write_text(json.dumps({key: inputs[key] for key in chosen}), encoding="utf-8")
    output = tmp_path / "output"
    (output / "images").mkdir(parents=True)
    for folder in (output, output / "images"):
        folder.chmod(0o777)
    status, log = run(
        ["python3", "run.py", "--output", "/output"],
        working_dir="/work/submission",
        volumes={
            str(ROOT / "submission"): {"bind": "/work/submission", "mode": "ro"},
            str(tmp_path / "input.json"): {"bind": "/work/input/input.json", "mode": "ro"},
            str(ROOT / "sample_input/images"): {"bind": "/work/input/images", "mode": "ro"},
            str(output): {"bind": "/output", "mode": "rw"},
        },
    )
    assert status == 0, log
    predictions = json.loads((output / "predictions.json").read_text(encoding="utf-8"))
    assert predictions.keys() == chosen.keys()
    for key, task in chosen.items():
        kind = "image" if task == 2 else "text"
        entry = next(entry for entry in predictions[key] if entry["type"] == kind)
        assert entry["content"]
        if kind == "image":
            assert (output / entry["content"]).stat().st_size > 0


@pytest.mark.docker
def test_interact_container_is_a_shell_where_a_run_would_be(engine: docker.DockerClient, runtime_image: str) -> None:
    commands = "pwd; id -u; ls ../input; touch x ../input/x 2>/dev/null || echo read-only; touch output/x && exit 7"
    of_make = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")  # of a `make test` around this
    inherited = {name: value for name, value in os.environ.items() if name not in of_make}
    done = subprocess.run(
        ["make", "--silent", "interact-container", f"TAG={runtime_image}"],
        cwd=ROOT,
        env=inherited,
        input=commands,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines() == ["/work/submission", str(UID), "images", "input.json", "read-only"]
    assert "Error 7" in done.stderr
