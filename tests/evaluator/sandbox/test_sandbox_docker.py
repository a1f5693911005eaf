"""The docker runner with a real engine: what a container gets, every ending, and that nothing is left."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from evaluator.core import verdict
from evaluator.core.errors import EvaluatorError, SubmissionError
from evaluator.core.limits import RUN, Limits
from evaluator.data.dataset import Data, read_data
from evaluator.data.predictions import read_predictions
from evaluator.sandbox import docker as sandbox
from evaluator.sandbox import launch, local
from evaluator.sandbox.base import Execution, Workspace
from tests.support.verdicts import raises_verdict

pytestmark = pytest.mark.docker

MB = 10**6
SMALL = replace(RUN, memory=128 * MB, cpus=1.0, gpus=0, time=120.0, grace=2.0, pids=64, log=MB)
SMALL = replace(SMALL, shm=8 * MB, tmp=8 * MB, output=8 * MB)


def ours(client: docker.DockerClient) -> list[str]:
    """Containers and volumes of this test's runs that the engine has; other workers use the same engine."""
    mine = {"label": sandbox.RUN_LABEL}
    found = [(c.name, c.labels) for c in client.containers.list(all=True, filters=mine, ignore_removed=True)]
    found += [(volume.name, volume.attrs["Labels"]) for volume in client.volumes.list(filters=mine)]
    return [name for name, labels in found if labels[sandbox.RUN_LABEL].startswith(tempfile.gettempdir())]


@pytest.fixture
def data(data_folder: Path) -> Data:
    return read_data(data_folder)


@pytest.fixture
def run(
    engine: docker.DockerClient,
    base_image: str,
    data: Data,
    make_submission: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Execution]]:
    """Runs code in a container; `.terminal` has what it printed, `.space` its workspace as long as the test goes on."""

    class Run:
        image = base_image
        terminal: io.StringIO
        space: Workspace
        number = 0

        def __call__(
            self,
            code: str,
            image: str = base_image,
            entrypoint: str = "python3 run.py",
            max_image: int = SMALL.image,
            **limits: float,
        ) -> Execution:
            Run.number += 1
            submission = make_submission(code, entrypoint, f"submission-{Run.number}")
            (submission / "metadata.json").write_text(json.dumps({"image": image, "entrypoint": entrypoint}))
            self.terminal = io.StringIO()
            self.limits: Limits = replace(SMALL, image=max_image, **limits)  # type: ignore[arg-type]
            workspace = launch.workspace(submission, data)
            self.space = workspace.__enter__()
            spaces.append(workspace)
            return launch.execute(self.space, sandbox.DockerRunner(), self.limits, self.terminal)

    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    spaces: list[Any] = []
    yield Run()
    for workspace in spaces:
        workspace.__exit__(None, None, None)
    assert not ours(engine), "a run left something behind"


def build(client: docker.DockerClient, base: str, name: str, *lines: str) -> str:
    """An image of the base with a few settings; no step runs a program, so it is there at once."""
    recipe = "\n".join([f"FROM {base}", *lines])
    client.images.build(fileobj=io.BytesIO(recipe.encode()), tag=f"fbc2-test/{name}", rm=True)
    return f"fbc2-test/{name}"


# --- a good run ---


def test_a_submission_answers(run, data):
    code = """
        import json, os
        examples = json.load(open("../input/input.json", encoding="utf-8"))
        answers = {id: [{"type": "text", "content": "ёж «🐈»"}] for id in examples}
        os.makedirs("output/images/ё")
        open("output/images/ё/🐈.txt", "w").write("мяу")
        json.dump(answers, open("output/predictions.json", "w", encoding="utf-8"), ensure_ascii=False)
        print("готово: ёж", len(answers))
    """
    outcome = run(code)
    assert outcome.ending is verdict.OK and outcome.exit_code == 0 and outcome.seconds > 0, run.terminal.getvalue()
    assert run.terminal.getvalue() == run.space.log.read_text(encoding="utf-8") == "готово: ёж 36\n"
    answers = json.loads((run.space.collected / "predictions.json").read_text(encoding="utf-8"))
    assert len(answers) == 36 and answers["0"][0]["content"] == "ёж «🐈»"
    assert (run.space.collected / "images/ё/🐈.txt").read_text(encoding="utf-8") == "мяу"
    assert outcome.image.startswith("sha256:") and not (run.space.output / "predictions.json").exists()
    with raises_verdict(verdict.BAD_OUTPUT, match="missing-output"):
        read_predictions(run.space.collected, data)


def test_what_the_engine_was_told(run, engine, base_image):
    """`docker inspect` of the running container, beside the limits."""
    seen: list[dict[str, Any]] = []
    original = sandbox._Run._wait

    def look(self: Any, container: Any) -> Execution:
        container.reload()
        seen.append(container.attrs)
        return original(self, container)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox._Run, "_wait", look)
        run("print('x')")
    (attributes,) = seen
    host, config = attributes["HostConfig"], attributes["Config"]
    assert host["NetworkMode"] == "none" and host["CapDrop"] == ["ALL"] and not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"] and host["ReadonlyRootfs"] and host["Init"]
    assert not host["Privileged"] and host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
    assert host["IpcMode"] == "private" and not host["Devices"] and not host["DeviceRequests"] and not host["Binds"]
    assert host["Memory"] == host["MemorySwap"] == SMALL.memory and host["NanoCpus"] == SMALL.cpus * 1e9
    assert host["PidsLimit"] == SMALL.pids and host["ShmSize"] == SMALL.shm
    assert host["Tmpfs"]["/tmp"].startswith(f"rw,exec,nosuid,nodev,size={SMALL.tmp},")
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": str(SMALL.log), "max-file": "2"}}
    assert config["User"] == "10001:10001" and config["Healthcheck"] == {
        "Test": ["CMD", "sh", "-c", "kill -KILL -1"],  # when its time is up and no evaluator has ended it
        "Interval": int((SMALL.time + SMALL.grace + 10) * 1e9),
        "Retries": 1,
    }
    assert config["Image"] == attributes["Image"] == engine.images.get(base_image).id
    mounts = {mount["Destination"]: (mount["Type"], mount["RW"]) for mount in attributes["Mounts"]}
    assert mounts == {
        "/work/input": ("bind", False),
        "/work/submission": ("bind", False),
        "/work/submission/output": ("volume", True),
    }
    assert not any("docker.sock" in json.dumps(mount) for mount in attributes["Mounts"])


def test_limits_of_the_file_are_those_of_the_container(engine, base_image, tmp_path):
    """The published limits as they are, without a run: this machine has less memory and fewer CPUs."""
    space = Workspace(tmp_path, tmp_path, tmp_path)
    run = sandbox._Run(engine, space, ["true"], engine.images.get(base_image).attrs, RUN, io.StringIO())
    settings = run._settings("volume", [])
    assert settings["mem_limit"] == settings["memswap_limit"] == 100 * 10**9
    assert settings["nano_cpus"] == min(3, engine.info()["NCPU"]) * 10**9
    assert settings["shm_size"] == RUN.shm and settings["pids_limit"] == RUN.pids


def test_inside_there_is_nothing(run):
    code = """
        import errno, json, os, socket
        def fails(call):
            try:
                call()
            except OSError as error:
                return errno.errorcode.get(error.errno, str(error))
            return "worked"
        def connect(family, kind, address):
            with socket.socket(family, kind) as s:
                s.settimeout(3)
                s.connect(address)
                s.send(b"x")
        print(json.dumps({
            "interfaces": [name for _, name in socket.if_nameindex()],
            "tcp": fails(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("1.1.1.1", 80))),
            "udp": fails(lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("8.8.8.8", 53))),
            "metadata": fails(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("169.254.169.254", 80))),
            "dns": fails(lambda: socket.getaddrinfo("example.com", 80)) != "worked",
            "raw": fails(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
            "code": fails(lambda: open("new.py", "w")),
            "input": fails(lambda: open("../input/input.json", "a")),
            "image": fails(lambda: os.unlink("../input/images/300.png")),
            "root": fails(lambda: open("/etc/x", "w")),
            "home": fails(lambda: open(os.path.expanduser("~/x"), "w")),
            "output": fails(lambda: open("output/x", "w")),
            "shm": fails(lambda: open("/dev/shm/x", "w")),
            "uid": [os.getuid(), os.getgid(), os.getgroups()],
            "setuid": fails(lambda: os.setuid(0)),
            "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Cap")],
            "new_privileges": [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNew")],
            "files": sorted(os.path.join(folder, name) for folder, _, names in os.walk("..") for name in names
                            if not name.endswith(".png")),
            "socket": [path for path in ("/var/run/docker.sock", "/run/docker.sock") if os.path.exists(path)],
            "pids": len([name for name in os.listdir("/proc") if name.isdigit()]),
            "environment": sorted(os.environ),
        }))
    """
    assert run(code).ending is verdict.OK, run.terminal.getvalue()
    seen = json.loads(run.terminal.getvalue())
    assert seen["interfaces"] == ["lo"]
    assert seen["tcp"] == seen["udp"] == seen["metadata"] == "ENETUNREACH" and seen["dns"]
    assert {seen["code"], seen["input"], seen["image"], seen["root"]} <= {"EROFS", "EACCES"}
    assert seen["home"] == seen["output"] == seen["shm"] == "worked" and seen["raw"] == seen["setuid"] == "EPERM"
    assert seen["uid"] == [10001, 10001, [10001]] and set(seen["capabilities"]) == {"0" * 16}
    assert seen["new_privileges"] == ["1"] and seen["socket"] == [] and seen["pids"] == 2  # init and the program
    assert seen["files"] == [
        "../input/input.json",
        "../submission/metadata.json",
        "../submission/output/x",
        "../submission/run.py",
    ]
    assert not {"DATA", "DOCKER_HOST", "API_TOKEN"} & set(seen["environment"])


# --- endings ---


def test_out_of_memory(run):
    outcome = run("x = bytearray(10**9)\nfor i in range(0, 10**9, 4096): x[i] = 1\n")
    assert outcome.ending is verdict.OOM and outcome.oom


def test_out_of_memory_in_a_child(run):
    """The main process gets an ordinary error, and ends with 1."""
    code = """
        import subprocess, sys
        raise SystemExit(subprocess.call([sys.executable, "-c", "x = b'1' * 10**9"]) != 0)
    """
    outcome = run(code)
    assert outcome.exit_code == 1 and outcome.ending is verdict.OOM


def test_killed_by_itself_is_not_out_of_memory(run):
    outcome = run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert outcome.exit_code == -signal.SIGKILL and outcome.ending is verdict.EXIT and not outcome.oom


@pytest.mark.parametrize("code", [1, 137, 143, 255])
def test_exit_code(run, code):
    outcome = run(f"print('нет весов'); raise SystemExit({code})")
    assert outcome.ending is verdict.EXIT and outcome.exit_code == {137: -9, 143: -15}.get(code, code)
    with pytest.raises(EvaluatorError, match="нет весов") as caught:
        launch.judge(outcome, run.limits, run.space.log)
    assert caught.value.verdict.name == "EXIT" and caught.value.to_json()["counts"] is False


def test_time_limit_ends_everything(run):
    code = """
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for new_session in (False, True):
            child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
            subprocess.Popen([sys.executable, "-c", child], start_new_session=new_session)
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
        time.sleep(600)
    """
    start = time.monotonic()
    outcome = run(code, time=3.0, grace=1.0)
    assert outcome.ending is verdict.TIMEOUT and outcome.expired
    assert time.monotonic() - start < 300  # its children sleep longer


def test_sigterm_reaches_the_program(run):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("прощай"), sys.exit(0)))
        time.sleep(600)
    """
    outcome = run(code, time=3.0, grace=10.0)
    assert outcome.ending is verdict.TIMEOUT and "прощай" in run.terminal.getvalue()


@pytest.mark.parametrize("place", ["output", "/tmp"])
def test_disk(run, place):
    code = f"import time\nfile = open('{place}/big', 'wb')\ntry:\n    while True: file.write(bytes(10**6))\nfinally:\n"
    outcome = run(code + "    time.sleep(5)")  # to be looked at meanwhile
    assert outcome.ending is verdict.DISK and outcome.full == {"output": "output/", "/tmp": "/tmp"}[place]


def test_fork_bomb_stays_inside(run):
    outcome = run("import os\nwhile True: os.fork()", time=5.0)
    assert outcome.ending in (verdict.EXIT, verdict.TIMEOUT, verdict.OOM)
    assert run("print('the next one')").ending is verdict.OK


def test_log_flood(run):
    outcome = run("for _ in range(300): print('ж' * 50_000)", log=200_000)
    assert outcome.ending is verdict.OK and run.space.log.stat().st_size < 210_000
    assert "bytes of what the submission printed are left out here" in run.terminal.getvalue()


@pytest.mark.parametrize("log", [200_000, 4 * MB])
def test_the_end_of_a_log_that_the_engine_rotates(run, log):
    """It is written faster than it can be followed."""
    code = """
        import sys
        for number in range(120):
            sys.stdout.write(f"line {number}\\n" * 20_000)
        sys.stderr.write("warning\\n" * 3)
        raise ValueError("no weights")
    """
    outcome = run(code, log=log)
    text = run.space.log.read_text(encoding="utf-8")
    assert "are left out here" in text and "\nTraceback (most recent call last)" in text and len(text) < log + 20_000
    with pytest.raises(EvaluatorError, match="its last line: ValueError: no weights"):
        launch.judge(outcome, run.limits, run.space.log)
    assert run.terminal.getvalue().endswith("ValueError: no weights\n")


# --- output ---


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.symlink('/etc/passwd', 'output/predictions.json')", "'predictions.json': is a symbolic link"),
        ("os.symlink('/', 'output/images')", "'images': is a symbolic link"),
        ("os.mkfifo('output/pipe')", "'pipe': is a FIFO"),
        ("open('output/a', 'w'); os.link('output/a', 'output/b')", "'b': is a hard link"),
        ("open('output/sparse', 'w').truncate(10**12)", "'sparse': with it there are 1000000000000 bytes"),
        ("os.makedirs('output/' + 'd/' * 20)", "folders deep"),
        ("open('output/a\\nb', 'w')", "a character that is not allowed"),
        ("open(b'output/\\xff', 'w')", "a character that is not allowed"),
    ],
)
def test_output_that_is_not_taken(run, code, found):
    with raises_verdict(verdict.BAD_OUTPUT) as caught:
        run(f"import os\n{code}")
    assert found in str(caught.value) and caught.value.verdict is verdict.BAD_OUTPUT


def test_too_many_files(run):
    code = "for i in range(10**6): open(f'output/{i}', 'w').close()"
    outcome = run(code, output_files=500)  # the file system has no more room for names
    assert outcome.ending in (verdict.DISK, verdict.EXIT) and "No space left" in run.terminal.getvalue()


def test_sockets_do_not_leave(run):
    run("import socket; socket.socket(socket.AF_UNIX).bind('output/s'); open('output/predictions.json', 'w')")
    assert [path.name for path in run.space.collected.iterdir()] == ["predictions.json"]


def test_unreadable_output_is_read(run):
    run("import os; open('output/a', 'w').write('x'); os.chmod('output/a', 0); os.chmod('output', 0)")
    assert (run.space.collected / "a").read_text() == "x"


# --- images ---


def test_an_image_that_is_not_there(run):
    with raises_verdict(verdict.BAD_IMAGE, match="is not on this engine, and nothing is pulled") as caught:
        run("print('x')", image="fbc2-test/none")
    assert caught.value.to_json()["counts"] is False and caught.value.exit_code == 1


def test_an_image_by_its_number(run, engine, base_image):
    with raises_verdict(verdict.BAD_IMAGE, match="is an image's number"):
        run("print('x')", image=engine.images.get(base_image).short_id.removeprefix("sha256:"))


def test_an_image_that_is_too_large(run):
    with raises_verdict(verdict.BAD_IMAGE, match="allowed: at most 1000"):
        run("print('x')", max_image=1000)


def test_an_images_own_settings_do_not_count(run, engine, base_image):
    image = build(
        engine,
        base_image,
        "settings",
        "USER root",
        "ENV NVIDIA_VISIBLE_DEVICES=all",
        'ENTRYPOINT ["/bin/sh", "-c", "echo entrypoint", "--"]',
        'CMD ["echo", "cmd"]',
        "WORKDIR /root",
        'VOLUME ["/data", "/etc/alternatives", "/tmp", "/work/submission"]',
        "HEALTHCHECK --interval=1s CMD touch /tmp/healthy",
        "STOPSIGNAL SIGKILL",
    )
    code = """
        import os, time
        time.sleep(2)
        for path in ("/data/x", "/etc/alternatives/x"):
            try:
                open(path, "w")
                print("wrote", path)
            except OSError as error:
                print(error.strerror)
        print(os.getuid(), os.getcwd(), os.environ["NVIDIA_VISIBLE_DEVICES"], os.listdir("/tmp"))
        print(len(os.listdir("/etc/alternatives")) > 0)
    """
    assert run(code, image=image).ending is verdict.OK, run.terminal.getvalue()
    assert run.terminal.getvalue().splitlines() == [
        "Read-only file system",
        "Read-only file system",
        "10001 /work/submission void []",
        "True",
    ]


@pytest.mark.parametrize(
    "entrypoint",
    ["no-such-program", "./run.py", "/etc", "/etc/passwd", "''"]
    + ["/etc/passwd/x", "/usr/bin/python3/x", "run.py/x", "/etc/passwd/../passwd/x", "/proc/none/exe", "../../etc/x"]
    + ["x" * 255, f"/{'ё' * 127}", f"./{'x' * 255}", f"/{'d/' * 2047}", f"{'d/' * 2000}x", "/" + "etc/" * 1000],
)
def test_a_program_that_cannot_be_started(run, entrypoint):
    """The same with both runners."""
    with pytest.raises(SubmissionError, match="cannot be started: .* no (such )?program") as caught:
        run("print('x')", entrypoint=entrypoint)
    assert caught.value.verdict is verdict.BAD_METADATA
    with pytest.raises(SubmissionError, match="cannot be started: ") as caught:
        launch.execute(run.space, local.LocalRunner(), run.limits, io.StringIO())
    assert caught.value.verdict is verdict.BAD_METADATA


@pytest.mark.parametrize(
    ("entrypoint", "content"),
    [("x" * 256, b""), (f"./{'x' * 300}", b""), (f"/{'d/' * 2100}", b""), ("python3 run.py " + "x" * 2**17, b"")]
    + [("./prog", content) for content in (b"echo x", b"", b"\x00\x01\x02", b"#!\n", b"#!/nowhere\n", b"#!/etc\n")]
    + [("./prog", b"#!/usr/bin/python3\r\nprint(1)\n"), ("./prog", b"#!metadata.json\n")],
)
def test_a_program_that_the_kernel_does_not_take(run, make_submission, data, entrypoint, content):
    submission = make_submission("print('x')", entrypoint, "other")
    (submission / "prog").write_bytes(content)
    (submission / "prog").chmod(0o755)
    (submission / "metadata.json").write_text(json.dumps({"image": run.image, "entrypoint": entrypoint}))
    for runner in (sandbox.DockerRunner(), local.LocalRunner()):
        with launch.workspace(submission, data) as space, pytest.raises(SubmissionError) as caught:
            launch.execute(space, runner, SMALL, io.StringIO())
        assert caught.value.verdict is verdict.BAD_METADATA


def test_programs_that_may_be_run(run, make_submission, data):
    """By a first line, by a link of the image, with an argument as long as Linux takes it."""
    code = "import sys; print(len(sys.argv[-1]))"
    long = 2**17 - 1 - len("python3 run.py ")
    for entrypoint, printed in ((f"python3 run.py {'x' * long}", long), ("./prog 12345", 5), ("env python3 run.py", 6)):
        submission = make_submission(code, entrypoint, f"may-{printed}")
        (submission / "prog").write_text(f"#! /usr/bin/env python3\n{code}\n")
        (submission / "prog").chmod(0o755)
        (submission / "metadata.json").write_text(json.dumps({"image": run.image, "entrypoint": entrypoint}))
        for runner in (sandbox.DockerRunner(), local.LocalRunner()):
            terminal = io.StringIO()
            with launch.workspace(submission, data) as space:
                assert launch.execute(space, runner, SMALL, terminal).ending is verdict.OK, terminal.getvalue()
            assert terminal.getvalue() == f"{printed}\n"


VOLUMES = ["/work", "/work/", "/proc", "/proc/x", "/var/../proc", "/dev", "/work/input/x", "/work/submission/x"]
VOLUMES += ["/work/submission/output/x", "/", "data", "/sbin"]
VOLUMES += ["/usr/sbin"]  # where the engine's init goes


@pytest.mark.parametrize(
    "lines",
    [[f'VOLUME ["{path}"]'] for path in VOLUMES]
    + [
        ["VOLUME " + json.dumps([f"/v{number}" for number in range(101)])],
        ["RUN mkdir /work && ln -s /etc /work/submission"],
        ["RUN mkdir /work && ln -s submission /work/submission"],
        ["RUN mkdir -p /work/submission && echo > /work/submission/output"],
        ["RUN mkdir /work && echo > /work/input"],
        ["RUN echo > /work"],
        ["RUN rm -r /tmp && ln -s tmp /tmp"],
        ["RUN rm -r /tmp && echo > /tmp"],
        ["RUN rm -rf /sbin && ln -s sbin /sbin"],
        ["RUN ln -sf python3 /usr/bin/python3"],
        ["RUN ln -sf true /bin/sleep"],
        ["RUN rm /bin/sleep"],
    ],
    ids=lambda lines: lines[0][:50],
)
def test_an_image_that_a_run_cannot_be_in(run, engine, base_image, lines):
    with raises_verdict(verdict.BAD_IMAGE) as caught:
        run("print('x')", image=build(engine, base_image, "cannot", *lines))
    assert caught.value.verdict is verdict.BAD_IMAGE


def test_a_volume_over_a_file(run, engine, base_image):
    """`docker build` makes no such image, but others do."""
    container = engine.containers.create(base_image, ["true"])
    try:
        container.commit("fbc2-test/over-a-file", conf={"Volumes": {"/etc/passwd": {}}})
    finally:
        container.remove(force=True)
    with raises_verdict(verdict.BAD_IMAGE):
        run("print('x')", image="fbc2-test/over-a-file")


def test_volumes_that_are_in_nobodys_way(run, engine, base_image):
    image = build(engine, base_image, "volumes", 'VOLUME ["/tmp/x", "/work/other", "/run", "/work/input", "/dev/shm"]')
    assert run("print('x')", image=image).ending is verdict.OK, run.terminal.getvalue()


def test_an_engine_that_does_not_see_our_folders_is_not_the_teams_fault(run, monkeypatch):
    """As one that runs as a snap, on another machine, or beside a private /tmp."""
    monkeypatch.setattr(sandbox, "RETRY_SECONDS", 0.0)
    original = sandbox.types.Mount

    def mount(target: str, source: str, kind: str, **options: Any) -> Any:
        return original(target, f"/unseen{source}" if kind == "bind" else source, kind, **options)

    monkeypatch.setattr(sandbox.types, "Mount", mount)
    with pytest.raises(EvaluatorError, match="bind source path does not exist") as caught:
        run("print('x')")
    assert caught.value.verdict is verdict.INFRA


def test_a_limit_that_the_engine_refuses_is_not_the_teams_fault(run, monkeypatch):
    monkeypatch.setattr(sandbox, "RETRY_SECONDS", 0.0)
    with pytest.raises(EvaluatorError, match="Minimum memory limit") as caught:
        run("print('x')", memory=1000)
    assert caught.value.verdict is verdict.INFRA


def test_no_shell(run):
    run("import sys; print(sys.argv[1:])", entrypoint="python3 run.py $HOME ';' 'echo x' `id`")
    assert run.terminal.getvalue() == "['$HOME', ';', 'echo x', '`id`']\n"


# --- trouble that is not the team's ---


def test_no_engine(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EvaluatorError, match="no Docker engine answers") as caught:
        sandbox.DockerRunner()
    assert caught.value.verdict is verdict.INFRA and caught.value.exit_code == 3
    assert sandbox.unavailable("x") == "no Docker engine answers"


def test_auto_says_why(engine, base_image):
    runner, notes = launch.choose_runner("auto", base_image, SMALL)
    assert runner.name == "docker" and notes[0].startswith("runner: docker, as an engine answers and has the image")
    runner, notes = launch.choose_runner("auto", "fbc2-test/none", SMALL)
    assert runner.name == "local" and "does not have the image 'fbc2-test/none'" in notes[0] and "NO JAIL" in notes[1]
    with raises_verdict(verdict.BAD_IMAGE):
        launch.choose_runner("docker", "fbc2-test/none", SMALL)


def test_an_engine_that_fails_is_tried_again_and_then_infra(run, monkeypatch):
    monkeypatch.setattr(sandbox, "RETRY_SECONDS", 0.0)
    original, calls = sandbox._Run._wait, []

    def wait(self: Any, container: Any) -> Execution:
        calls.append(container.name)
        if len(calls) <= failures:
            raise sandbox._EngineError("containerd has gone")
        return original(self, container)

    monkeypatch.setattr(sandbox._Run, "_wait", wait)
    failures = 1
    assert run("print('x')").ending is verdict.OK and len(calls) == 2
    failures = 100
    said = "failed 3 times after the submission was started: containerd has gone"
    with pytest.raises(EvaluatorError, match=said) as caught:
        run("print('x')")
    assert caught.value.verdict is verdict.INFRA and not caught.value.to_json()["counts"]


@pytest.fixture
def hanging(
    engine: docker.DockerClient, base_image: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[str]]:
    """An evaluator with a submission that runs, ignores SIGTERM, and has 8 seconds."""
    submission, temporary = tmp_path / "hanging", tmp_path / "tmp"
    submission.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    code = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(600)"
    (submission / "run.py").write_text(code)
    (submission / "metadata.json").write_text(json.dumps({"image": base_image, "entrypoint": "python3 run.py"}))
    command = [sys.executable, "-m", "evaluator", "run", submission, "--data", data_folder, "--runner", "docker"]
    command += ["--json", tmp_path / "s.json", "--country", "ZZ", "--limit=gpus=0", "--limit=memory=128MB"]
    with subprocess.Popen(
        [*command, "--limit=time=8", "--limit=grace=1", "--limit=output=8MB"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(launch.__file__).parents[2],
        env=os.environ | {"TMPDIR": str(temporary)},
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        assert any(line == "up\n" for line in lines)
        yield process
        process.kill()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for path in temporary.glob("fbc2-evaluator-*"):
        shutil.rmtree(path)
    sandbox.sweep(engine)
    assert not ours(engine)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_container_too(hanging, engine, tmp_path, number):
    assert len(ours(engine)) == 3  # two containers and a volume
    hanging.send_signal(number)
    assert hanging.wait(120) == 128 + number
    assert not ours(engine) and not (tmp_path / "s.json").exists() and not list((tmp_path / "tmp").iterdir())


def test_a_container_whose_evaluator_was_killed_ends_at_its_limit(hanging, engine):
    hanging.kill()
    hanging.wait()
    names = ours(engine)
    [container] = [
        found
        for found in engine.containers.list(all=True, filters={"label": sandbox.RUN_LABEL})
        if found.name in names and found.attrs["Config"]["User"] == sandbox.USER
    ]
    assert container.status == "running"
    assert container.wait(timeout=300)["StatusCode"] == 137
    container.reload()
    assert not container.attrs["State"]["OOMKilled"]


def test_what_a_killed_evaluator_left_is_removed_by_the_next(run, engine, base_image, data_folder, tmp_path):
    submission = tmp_path / "hanging"
    submission.mkdir()
    (submission / "run.py").write_text("import time; print('pid', flush=True); time.sleep(600)")
    (submission / "metadata.json").write_text(json.dumps({"image": base_image, "entrypoint": "python3 run.py"}))
    code = """
        import sys
        from dataclasses import replace
        from evaluator.sandbox import launch
        from evaluator.data.dataset import read_data
        from evaluator.core.limits import RUN
        from evaluator.sandbox.docker import DockerRunner
        with launch.workspace(sys.argv[1], read_data(sys.argv[2])) as space:
            launch.execute(space, DockerRunner(), replace(RUN, memory=10**8, cpus=1.0, gpus=0, output=10**6))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(submission), str(data_folder)]
    root = Path(launch.__file__).parents[2]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root, env=os.environ) as process:
        assert process.stderr is not None
        assert any(line == "pid\n" for line in process.stderr)
        assert len(ours(engine)) == 3  # two containers and a volume
        process.kill()
    assert len(ours(engine)) == 3
    assert run("print('the next one')").ending is verdict.OK
    assert not ours(engine)


def test_a_service_with_mounts_of_its_own_finds_what_it_left():
    """As systemd gives it others each time that it is started."""
    call = [sys.executable, "-c", "from evaluator.sandbox import docker; print(docker._host())"]
    root = Path(launch.__file__).parents[2]
    done = subprocess.run(["unshare", "--mount", *call], capture_output=True, text=True, cwd=root)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("making a mount namespace is not allowed here")
    assert done.stdout.strip() == sandbox._host(), done.stderr


def test_two_sweep_at_once(engine, base_image, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "run"
    folder.mkdir()  # as long as it is there no other worker's sweep touches them
    labels = {sandbox.RUN_LABEL: str(folder), sandbox.HOST_LABEL: sandbox._host()}
    for _ in range(3):
        volume = engine.volumes.create(labels=labels)
        engine.containers.create(
            base_image, ["sleep", "600"], labels=labels, mounts=[docker.types.Mount("/x", volume.name)]
        ).start()
    assert len(ours(engine)) == 6
    folder.rmdir()
    both = threading.Barrier(2)

    def sweep() -> None:
        client = docker.from_env()
        both.wait()
        sandbox.sweep(client)
        assert not ours(client)
        client.close()

    with ThreadPoolExecutor(2) as pool:
        for sweeping in [pool.submit(sweep) for _ in range(2)]:
            sweeping.result()
    assert "left behind" not in caplog.text
