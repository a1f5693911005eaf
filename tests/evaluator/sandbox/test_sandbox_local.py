"""The local runner with real programs and small limits: every ending, and what the kernel can keep from them."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.core import leftovers, verdict
from evaluator.core.errors import EvaluatorError
from evaluator.core.limits import RUN
from evaluator.data.dataset import read_data
from evaluator.sandbox import launch, local
from evaluator.sandbox.base import Execution
from tests.support.verdicts import raises_verdict

MB = 10**6
SMALL = replace(RUN, memory=300 * MB, gpus=0, time=60.0, pids=64, tmp=8 * MB, output=8 * MB, log=MB, grace=1.0)
needs_namespaces = pytest.mark.skipif(not local._can_unshare(), reason="this kernel grants no namespaces")


@pytest.fixture
def run(data_folder, make_submission):
    """Runs code; `.terminal` has what it printed, `.space` its workspace."""

    class Run:
        terminal = io.StringIO()

        def __call__(self, code: str, **limits: float) -> Execution:
            self.terminal = io.StringIO()
            workspace = launch.workspace(make_submission(code), read_data(data_folder))
            self.space = workspace.__enter__()
            spaces.append(workspace)
            chosen = replace(SMALL, **limits)
            return launch.execute(self.space, local.LocalRunner(), chosen, self.terminal)

    spaces = []
    yield Run()
    for workspace in spaces:
        workspace.__exit__(None, None, None)


# --- endings ---


def test_out_of_memory(run):
    outcome = run("import time; x = bytearray(b'1') * 10**9; time.sleep(60)")
    assert outcome.ending is verdict.OOM and outcome.peak_memory > SMALL.memory


def test_out_of_memory_in_a_child_of_its_own_session(run):
    code = """
        import subprocess, sys
        child = "import time; x = bytearray(b'1') * 10**9; time.sleep(60)"
        subprocess.run([sys.executable, "-c", child], start_new_session=True)
    """
    assert run(code).ending is verdict.OOM


@pytest.mark.parametrize("place", ["output/", "/tmp"])
def test_disk(run, place):
    folder = {"output/": "'output'", "/tmp": "os.environ['TMPDIR']"}[place]
    code = f"""
        import os, time
        for number in range(40):
            open(os.path.join({folder}, str(number)), "wb").write(bytes(10**6))
            time.sleep(0.05)
        time.sleep(60)
    """
    outcome = run(code)
    assert outcome.ending is verdict.DISK and outcome.full == place


def test_one_large_file(run):
    """The kernel stops it at the limit; the program sees an ordinary error."""
    outcome = run("open('output/big', 'wb').write(bytes(10**8))")
    assert outcome.ending is verdict.DISK and "File too large" in run.terminal.getvalue()


def test_too_many_processes(run):
    code = """
        import subprocess, sys, time
        children = [subprocess.Popen(["sleep", "60"]) for _ in range(40)]
        time.sleep(60)
    """
    outcome = run(code, pids=20)
    assert outcome.ending is verdict.EXIT and outcome.too_many_processes
    with raises_verdict(verdict.EXIT, match="too many processes and threads; allowed: 20 at a time"):
        launch.judge(outcome, replace(SMALL, pids=20), run.space.log)


def test_the_submission_knows_its_time_limit(run):
    outcome = run("import os; print('budget', os.environ['FUSIONBRAIN_BUDGET'])", time=90.0)
    assert outcome.ending is verdict.OK
    assert "budget 90" in run.terminal.getvalue()


def test_time_limit(run):
    outcome = run("import time; time.sleep(600)", time=2.0)
    assert outcome.ending is verdict.TIMEOUT and outcome.expired and outcome.seconds < 300  # it sleeps longer


@pytest.mark.parametrize("place", ["'output'", "os.environ['HOME']"])
def test_a_place_that_is_removed_is_no_failure_of_ours(run, place, monkeypatch):
    """Some clean up first, and then write. Without namespaces, output/ can be removed too."""
    monkeypatch.setattr(local, "_can_unshare", lambda: False)
    monkeypatch.setattr(local, "SIZE_POLL_SECONDS", 0.01)
    code = f"""
        import os, shutil, time
        shutil.rmtree({place})
        time.sleep(1)
        os.makedirs("output", exist_ok=True)
        open("output/predictions.json", "w").write("{{}}")
    """
    assert run(code).ending is verdict.OK
    assert (run.space.collected / "predictions.json").read_text() == "{}"


@pytest.mark.parametrize(("place", "ending"), [("os.environ['TMPDIR']", verdict.OK), ("'output'", verdict.DISK)])
def test_files_are_counted_by_their_place(run, place, ending):
    """As in a container, /tmp may hold more of them than output/."""
    code = f"""
        import os, time
        for number in range(20):
            open(os.path.join({place}, str(number)), "w").close()
        time.sleep({600 if ending is verdict.DISK else 2})
    """
    assert run(code, output_files=10).ending is ending


def test_a_log_that_cannot_be_written_neither_stops_nor_blames_the_submission(run, data_folder, make_submission):
    code = "print('ё' * 10**6); open('output/predictions.json', 'w').write('{}')"
    with launch.workspace(make_submission(code), read_data(data_folder)) as space:
        space.log.symlink_to("/dev/full")
        with pytest.raises(EvaluatorError, match="log.txt: No space left") as caught:
            launch.execute(space, local.LocalRunner(), SMALL, io.StringIO())
        assert caught.value.exit_code == 3 and (space.output / "predictions.json").exists()


def test_exit_0_with_output(run):
    outcome = run("open('output/predictions.json', 'w').write('{}'); open('output/ё🐈', 'w')")
    assert outcome.ending is verdict.OK and outcome.cpu_seconds > 0
    assert {path.name for path in run.space.collected.iterdir()} == {"predictions.json", "ё🐈"}


def test_crash_in_native_code(run):
    outcome = run("import ctypes; ctypes.string_at(0)")
    assert outcome.ending is verdict.EXIT and outcome.exit_code == -signal.SIGSEGV


# --- output ---


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("os.symlink('/etc/passwd', 'output/predictions.json')", "'predictions.json': is a symbolic link"),
        ("os.mkfifo('output/pipe')", "'pipe': is a FIFO"),
        ("open('output/a', 'w'); os.link('output/a', 'output/b')", "is a hard link"),
        ("import socket; socket.socket(socket.AF_UNIX).bind('output/s')", "'s': is a socket"),
        ("open('output/sparse', 'w').truncate(8 * 10**6); open('output/x', 'w').write('x')", "8000001 bytes"),
        ("os.makedirs('output/' + 'd/' * 20)", "folders deep"),
        ("open(b'output/\\xff', 'w')", "a character that is not allowed"),
        ("[open(f'output/{i}', 'w') for i in range(60)]", "more than 50 files and folders"),
    ],
)
def test_output_that_is_not_taken(run, code, found):
    with raises_verdict(verdict.BAD_OUTPUT) as caught:
        run(f"import os\n{code}", output_files=50)
    assert found in str(caught.value)


def test_folders_nested_without_end_are_the_teams_fault(data_folder, make_submission, tmp_path):
    code = """
        import os
        os.chdir("output")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        open("deepest", "wb").write(bytes(10**6))
    """
    roomy = replace(SMALL, output=64 * MB)  # a folder takes a block, too
    with launch.workspace(make_submission(code), read_data(data_folder), tmp_path / "kept") as space:
        with raises_verdict(verdict.BAD_OUTPUT) as caught:
            launch.execute(space, local.LocalRunner(), roomy, io.StringIO())
        assert caught.value.findings[0].rule == "output-depth"
        assert sum(local._blocks(space.output)) * 512 >= 10**6
    assert (tmp_path / "kept" / "log.txt").exists() and not space.base.exists()
    subprocess.run(["rm", "-rf", tmp_path / "kept"], check=True)  # pytest could not: it goes down by recursion


# --- what the kernel keeps from it ---


@needs_namespaces
def test_network_truth_and_code_are_out_of_reach(run, data_folder):
    code = f"""
        import errno, json, os, socket
        def fails(call):
            try:
                call()
            except OSError as error:
                return errno.errorcode[error.errno]
            return "worked"
        server = socket.create_server(("127.0.0.1", 0))
        with socket.socket() as s:
            tcp = fails(lambda: s.connect(("1.1.1.1", 80)))
        print(json.dumps({{
            "tcp": tcp,
            "loopback": fails(lambda: socket.create_connection(server.getsockname())),
            "truth": fails(lambda: open({str(data_folder / "ground_truth.json")!r})),
            "code": fails(lambda: open("new.py", "w")),
            "input": fails(lambda: open("../input/input.json", "a")),
            "output": fails(lambda: open("output/x", "w")),
            "home": fails(lambda: open(os.path.expanduser("~/x"), "w")),
        }}))
    """
    assert run(code).ending is verdict.OK, run.terminal.getvalue()
    assert json.loads(run.terminal.getvalue()) == {
        "tcp": "ENETUNREACH",
        "loopback": "worked",
        "truth": "ENOENT",
        "code": "EROFS",
        "input": "EROFS",
        "output": "worked",
        "home": "worked",
    }
    assert (data_folder / "ground_truth.json").exists()


def test_it_says_what_it_is():
    _, notes = launch.choose_runner("local", "any/image", RUN)
    assert notes[0] == "runner: local, as asked for" and "NO JAIL, only for code that you trust" in notes[1]


# --- after a kill ---


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_a_killed_evaluator_left_is_removed_by_the_next(run, data_folder, tmp_path):
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    child = "import time; time.sleep(600)"
    (hanging / "run.py").write_text(
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)\n"
        "print('pid', child.pid, flush=True)\ntime.sleep(600)"
    )
    (hanging / "metadata.json").write_text(json.dumps({"image": "a/b:1", "entrypoint": "python3 run.py"}))
    code = """
        import sys
        from evaluator.sandbox import launch
        from evaluator.data.dataset import read_data
        with launch.workspace(sys.argv[1], read_data(sys.argv[2])) as space:
            print("base", space.base, file=sys.stderr, flush=True)
            launch.execute(space)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(hanging), str(data_folder)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=Path(launch.__file__).parents[2], env=os.environ
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        base = Path(next(line for line in lines if line.startswith("base ")).split()[1])
        pid = int(next(line for line in lines if line.startswith("pid ")).split()[1])
        process.kill()
        process.wait()
        assert alive(pid) and base.exists()
        assert run("print('the next one')").ending is verdict.OK
        for _ in range(3000):
            if not alive(pid):
                break
            time.sleep(0.1)
    assert not alive(pid) and not base.exists() and leftovers.sweep("run") == []


def sleeper(owner: str) -> subprocess.Popen[bytes]:
    """A process as a run of that owner would have left it."""
    return subprocess.Popen(["sleep", "600"], env={local.OWNER_VARIABLE: owner}, start_new_session=True)


def test_only_runs_of_the_provably_dead_are_swept():
    place, pid, start = local._place(), os.getpid(), local._state_and_start(os.getpid())[1]
    boot, space = place.split(" ")
    ended = subprocess.Popen(["true"])
    ended.wait()
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    kept = [
        local._owner(),
        f"00000000-0000-0000-0000-000000000000 {space} {ended.pid} 1",  # another boot, as of a container moved here
        f"{boot} pid:[1] {ended.pid} 1",  # another namespace, in which this number is somebody else
        "",
        "/tmp/fbc2-evaluator-run-k3x9_a1b",
        f"{place} {pid}",
        f"{place} x y",
    ]
    dead = [f"{place} {ended.pid} 1", f"{place} {pid} {int(start) - 1}", f"{place} {zombie.pid} 1"]
    processes = [sleeper(owner) for owner in kept + dead]
    try:
        local.sweep()
        for process in processes[len(kept) :]:
            assert process.wait(60) == -signal.SIGKILL
        assert [process.poll() for process in processes[: len(kept)]] == [None] * len(kept)
    finally:
        zombie.wait()
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.skipif(os.geteuid() != 0 or not local._can_unshare(), reason="needs a mount namespace")
def test_a_run_of_ours_survives_one_with_a_tmp_of_its_own(data_folder, make_submission, tmp_path):
    """As of a service with PrivateTmp=yes: what it sees of /tmp says nothing of others' runs."""
    go = tmp_path / "go"
    code = f"""
        import os, time
        print("pid", os.getpid(), flush=True)
        while not os.path.exists({str(go)!r}):
            time.sleep(0.1)
        print("done")
    """
    sweeping = "import tempfile; from evaluator.sandbox import local; local.sweep(); print(tempfile.gettempdir())"
    script = f"mount -t tmpfs tmpfs \"$TMPDIR\" && exec '{sys.executable}' -c '{sweeping}'"
    private = tmp_path / "tmp"
    private.mkdir()

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if text.startswith("pid"):
                other = subprocess.run(
                    ["unshare", "--mount", "sh", "-c", script],
                    cwd=Path(launch.__file__).parents[2],
                    env=os.environ | {"TMPDIR": str(private)},
                    capture_output=True,
                    text=True,
                )
                assert other.stdout == f"{private}\n", other.stderr
                go.touch()
            return super().write(text)

    terminal = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(private))  # which the other one does not see as we do
        with launch.workspace(make_submission(code), read_data(data_folder)) as space:
            assert str(space.base).startswith(str(private))
            assert launch.execute(space, local.LocalRunner(), SMALL, terminal).ending is verdict.OK
    assert terminal.getvalue().endswith("done\n")
