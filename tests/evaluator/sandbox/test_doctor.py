"""What `doctor` says of this machine, of a wrong one, and of a real engine with and without the image."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from evaluator.competition.definition import default
from evaluator.core.gpus import Gpu
from evaluator.core.limits import RUN
from evaluator.sandbox import doctor
from evaluator.sandbox.doctor import FAIL, NOTE, OK, Check, _gpu_check

ROOT = Path(__file__).resolve().parents[3]
IMAGE = default().definition.image


def lines_of(subject: str, *arguments: object) -> list[Check]:
    return [line for line in doctor.examine(*arguments) if line.subject == subject]


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")


def test_without_an_engine_the_fix_is_named_and_the_exit_code_is_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evaluator", "doctor"],
        cwd=ROOT,
        env=os.environ | {"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    first, fix = done.stdout.splitlines()[:2]
    assert first.startswith("FAIL  engine") and f"{tmp_path}/nobody.sock" in first
    assert fix.strip().startswith("fix: ") and "DOCKER_HOST" in fix
    assert "One thing stops a run" in done.stdout.splitlines()[-1]
    assert not done.stderr


@pytest.mark.usefixtures("no_engine")
def test_each_subject_has_a_line_and_each_failure_a_fix() -> None:
    lines = list(doctor.examine(IMAGE, RUN.override(["unpacked=900000000GB"])))
    assert [line.subject for line in lines] == ["engine", "image", "gpu", "memory", "cpus", "disk"]
    failed = [line for line in lines if line.state == FAIL]
    assert [line.subject for line in failed] == ["engine", "disk"]
    assert all(line.fix for line in failed)
    assert "TMPDIR" in failed[1].fix


@pytest.mark.usefixtures("no_engine")
def test_less_memory_or_fewer_cpus_than_the_limits_are_notes() -> None:
    tight, ample = RUN.override(["memory=1MB", "cpus=1"]), RUN.override(["memory=900000GB", "cpus=100000"])
    for subject in ("memory", "cpus"):
        assert [line.state for line in lines_of(subject, IMAGE, tight)] == [OK]
        [line] = lines_of(subject, IMAGE, ample)
        assert line.state == NOTE
    assert "100000" in line.found


@pytest.mark.parametrize(
    ("driver", "cuda", "expected"),
    [
        ("535.183.01", "13.0", True),
        ("580.65.06", "13.0", False),
        ("535.183.01", "12.6", False),
        ("470.82.01", "12.6", True),
        ("535.183.01", "99.0", False),
    ],
)
def test_which_driver_is_too_old_for_which_cuda(driver: str, cuda: str, expected: bool) -> None:
    assert doctor._too_old(driver, cuda) is expected


@pytest.mark.docker
def test_an_image_that_is_missing_says_how_to_build_it(engine: docker.DockerClient) -> None:
    lines = {line.subject: line for line in doctor.examine("fusionbrain/no-such:latest")}
    assert lines["engine"].state == OK and engine.version()["Version"] in lines["engine"].found
    assert lines["image"].state == FAIL and "make build" in lines["image"].fix
    assert "inside" not in lines


@pytest.mark.docker
def test_a_name_that_no_image_can_have_is_a_failure_and_no_crash(engine: docker.DockerClient) -> None:
    [line] = lines_of("image", "Образ «ё» 🐈")
    assert line.state == FAIL and line.fix


@pytest.mark.docker
def test_an_image_without_torch_fails_inside(base_image: str) -> None:
    [line] = lines_of("inside", base_image)
    assert line.state == FAIL and "torch" in line.found and "make build" in line.fix


@pytest.mark.docker
def test_an_image_above_the_limit_fails(base_image: str) -> None:
    [line] = lines_of("image", base_image, RUN.override(["image=1MB"]))
    assert line.state == FAIL and "at most 0.0 GB" in line.found


@pytest.mark.docker
def test_a_container_of_the_image_is_asked_what_it_sees(runtime_image: str) -> None:
    lines = {line.subject: line for line in doctor.examine(runtime_image)}
    assert lines["image"].state == OK, lines["image"]
    assert lines["inside"].state == OK, lines["inside"]
    assert "Python 3.11" in lines["inside"].found and "uid 10001" in lines["inside"].found


@pytest.mark.docker
def test_doctor_leaves_no_container(engine: docker.DockerClient, base_image: str) -> None:
    def left() -> list[str]:
        return [item.id for item in engine.containers.list(all=True) if item.attrs["Config"]["Entrypoint"] == probe]

    probe = ["python3", "-c", doctor._PROBE]
    list(doctor.examine(base_image))
    assert left() == []


# --- a driver that refuses ---


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an NVML that begins, and then answers with an error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, ROOT / "tests/data/nvml/stub.c"], check=True)
    return folder


def python(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {"LD_LIBRARY_PATH": str(folder), "DOCKER_HOST": f"unix://{folder}/nobody.sock"} | variables
    command = [sys.executable, "-W", "ignore", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("code", ["3", "4", "15", "18", "999"])  # not supported, no permission, lost, other library
@pytest.mark.parametrize("handle", [{}, {"STUB_HANDLE": "1"}])
def test_a_driver_that_refuses_is_a_line(refusing: Path, code: str, handle: dict[str, str]) -> None:
    done = python(refusing, "-m", "evaluator", "doctor", STUB_CODE=code, **handle)
    assert done.returncode == 2 and not done.stderr
    [line] = [line for line in done.stdout.splitlines() if "  gpu  " in line]
    assert line.startswith("FAIL") and "NVML refuses to tell" in line and "GPU 1" in line
    assert "nvidia-smi" in done.stdout and "Traceback" not in done.stdout


def test_one_gpu_that_is_lost_leaves_the_other(refusing: Path) -> None:
    variables = {"STUB_CODE": "15", "STUB_HANDLE": "1", "STUB_GOOD": "1"}
    done = python(refusing, "-m", "evaluator", "doctor", **variables)
    [line] = [line for line in done.stdout.splitlines() if "  gpu  " in line]
    assert line.startswith("note") and "Stub with 80.0 GB" in line and "GPU 0's UUID" in line
    code = "from evaluator.season.runs import machine_gpus; print(machine_gpus())"
    assert python(refusing, "-c", code, **variables).stdout == "['GPU-1']\n"


@pytest.mark.parametrize("handle", [{}, {"STUB_HANDLE": "1"}])
def test_a_queue_starts_and_a_run_in_a_container_is_our_failure(refusing: Path, handle: dict[str, str]) -> None:
    """Without a GPU the submission would be blamed for its time."""
    code = """
from evaluator.core.errors import EvaluatorError
from evaluator.sandbox import docker
from evaluator.season.runs import machine_gpus
print(machine_gpus(), docker._gpus(0))
try:
    docker._gpus(1)
except EvaluatorError as error:
    print(error.verdict, error)
"""
    done = python(refusing, "-c", code, STUB_CODE="4", **handle)
    first, second = done.stdout.splitlines()
    assert first == "[] []" and second.startswith("INFRA 0 of 1 GPUs can be used; NVML refuses to tell")
    assert "--limit gpus=0" in second and not done.stderr


CARD = Gpu(0, "GPU-1", "NVIDIA H100", 80 * 10**9, 0)


def said(folder: Path, **changes: object) -> Path:
    """What gpu-check wrote."""
    document = {
        "begun": "2026-11-27T09:00:00Z", "card": {"device": CARD.name}, "small": False, "wrong": [],
        "parts": [{"part": "right", "state": "done"}, {"part": "fast", "state": "done"}],
    }  # fmt: skip
    path = folder / "summary.json"
    path.write_text(json.dumps(document | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "state", "found"),
    [
        ({}, "ok", "right, fast; nothing is wrong"),
        ({"wrong": [{"name": "a: logits"}]}, "note", "not right: a: logits"),
        ({"parts": [{"part": "fast", "state": "cut off"}]}, "note", "not right: fast"),
        ({"card": {"device": "NVIDIA A100"}}, "note", "that GPU is not here now"),
        ({"parts": [{"part": "fast", "state": "not run"}]}, "note", "not right: fast"),
        ({"small": True}, "note", "at tiny sizes"),
        ({"parts": 7}, "note", "cannot be read"),
    ],
)
def test_what_gpu_check_said_is_a_line(tmp_path: Path, changes: dict[str, object], state: str, found: str) -> None:
    (line,) = _gpu_check([CARD], said(tmp_path, **changes))
    assert line.state == state and found in line.found and bool(line.fix) == (state != "ok")


def test_a_gpu_that_was_never_checked_is_a_note(tmp_path: Path) -> None:
    (line,) = _gpu_check([CARD], tmp_path / "summary.json")
    assert line.state == "note" and "make gpu-check" in line.fix
    assert not list(_gpu_check([], said(tmp_path)))
