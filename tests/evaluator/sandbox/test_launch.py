import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from evaluator.core.errors import DataError, EvaluatorError, SubmissionError
from evaluator.core.limits import RUN
from evaluator.core.verdict import BAD_METADATA, INFRA
from evaluator.data.dataset import read_data
from evaluator.data.predictions import read_predictions
from evaluator.sandbox import crash, launch, local
from evaluator.sandbox.base import LOG_LONG, Execution, LogCopier


def run(submission, data, keep=None, **limits) -> str:
    """Run a submission on the local runner; returns what it printed."""
    terminal = io.StringIO()
    with launch.workspace(submission, data, keep) as space:
        execute(space, terminal, **limits)
    return terminal.getvalue()


def execute(space, terminal, **limits) -> None:
    chosen = replace(RUN, **{"time": 60.0} | limits)
    launch.judge(launch.execute(space, limits=chosen, terminal=terminal), chosen, space.log)


def fault(submission, data, **limits) -> str:
    with pytest.raises(SubmissionError) as caught:
        run(submission, data, **limits)
    return str(caught.value)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- a run ---


def test_a_submission_answers(data_folder, make_submission, answering_code):
    data = read_data(data_folder)
    submission = make_submission(answering_code)
    terminal = io.StringIO()
    with launch.workspace(submission, data) as space:
        assert launch.execute(space, terminal=terminal).seconds > 0
        predictions = read_predictions(space.collected, data)
        assert space.log.read_text(encoding="utf-8") == terminal.getvalue() == "готово: ёж 36\n"
        base, aside = space.work.parent, space.log.parent
    assert len(predictions.texts) == 33 and not base.exists() and not aside.exists()
    assert not (submission / "output").exists()


def test_zip_and_folder_are_the_same(data_folder, make_submission, answering_code, tmp_path):
    data = read_data(data_folder)
    folder = make_submission(answering_code)
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for path in folder.iterdir():
            file.write(path, path.name)
        file.writestr("output/predictions.json", "{}")  # stale output does not count
    keep = tmp_path / "kept"
    assert run(tmp_path / "s.zip", data, keep=keep) == "готово: ёж 36\n"
    assert sorted(path.name for path in keep.iterdir()) == ["log.txt", "work"]
    assert len(read_predictions(keep / "work" / "submission" / "output", data).images) == 3


def test_the_truth_is_not_reachable(data_folder, make_submission, monkeypatch):
    """The submission lists every file from its workspace's parent down, its environment, and its open files."""
    monkeypatch.setenv("DATA", str(data_folder))
    monkeypatch.setenv("OLDPWD", str(data_folder))
    monkeypatch.setenv("PYTHONPATH", str(Path(launch.__file__).parents[2]))
    monkeypatch.setenv("LC_TRUTH", f"{data_folder}/ground_truth.json")
    monkeypatch.setenv("API_TOKEN", "secret")
    code = """
        import json, os
        files = [os.path.join(folder, name) for folder, _, names in os.walk("../..") for name in names]
        opened = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
                  and os.path.exists(f"/proc/self/fd/{fd}")]
        print(json.dumps({"files": files, "environment": dict(os.environ), "opened": opened, "cwd": os.getcwd()}))
    """
    seen = json.loads(run(make_submission(code), read_data(data_folder)))
    names = [os.path.relpath(path, "../..") for path in seen["files"]]
    assert "work/input/input.json" in names and "work/input/images/300.png" in names
    assert not [
        name for name in names if "truth" in name or "gt_images" in name or "sample_ids" in name or "tasks" in name
    ]
    text = json.dumps(seen, ensure_ascii=False)
    assert str(data_folder) not in text and "secret" not in text and "PYTHONPATH" not in seen["environment"]
    assert set(seen["environment"]) >= {"PATH", "HOME"} and not Path(seen["environment"]["HOME"]).exists()


def test_only_named_images_are_copied(data_folder, make_submission):
    (data_folder / "images" / "answer.png").write_bytes(b"not named by input.json")
    assert (
        run(
            make_submission("import os; print(os.listdir('../input'), len(os.listdir('../input/images')))"),
            read_data(data_folder),
        )
        .strip()
        .endswith("27")
    )


def test_two_spellings_of_an_image_are_one(data_folder, make_submission, edit_json):
    edit_json(data_folder / "input.json", lambda d: d["401"][1].update(content="images//400.png"))
    with launch.workspace(make_submission("pass"), read_data(data_folder)) as space:
        assert (space.input / "images" / "400.png").is_file()


def test_whatever_the_umask_the_containers_user_can_read(data_folder, make_submission):
    before = os.umask(0o077)
    try:
        with launch.workspace(make_submission("pass"), read_data(data_folder)) as space:
            for path in (space.submission, space.input, *space.submission.rglob("*"), *space.input.rglob("*")):
                assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path
            assert space.base.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)


def test_output_is_shown_while_it_runs(data_folder, make_submission, tmp_path):
    """The program goes on when its first line has been shown."""
    shown = tmp_path / "shown"

    class Terminal(io.StringIO):
        def write(self, text: str) -> int:
            if "первая" in text:
                shown.touch()
            return super().write(text)

    code = f"""
        import os, time
        print("первая")
        while not os.path.exists({str(shown)!r}):
            time.sleep(0.05)
        print("вторая")
    """
    terminal = Terminal()
    with launch.workspace(make_submission(code), read_data(data_folder)) as space:
        execute(space, terminal, time=300.0)
    assert terminal.getvalue() == "первая\nвторая\n"


def test_control_characters_do_not_reach_the_terminal(data_folder, make_submission):
    printed = run(make_submission(r"print('\x1b[2J\x1b]0;x\x07forged\r50%')"), read_data(data_folder))
    assert printed == "�[2J�]0;x�forged\r50%\n"


def test_log_and_terminal_are_bounded(data_folder, make_submission):
    data = read_data(data_folder)
    terminal = io.StringIO()
    with launch.workspace(make_submission("print('ж' * 10_000_000)"), data) as space:
        execute(space, terminal, log=100_001)  # in the middle of a character
        assert space.log.stat().st_size < 101_000
        # A tail of a quarter, of one line: 20 000 001 bytes are 10 million characters and a line break.
        assert f"[{20_000_001 - 100_001} bytes of what the submission printed are left out" in terminal.getvalue()
        log = space.log.read_text(encoding="utf-8")
        assert log.startswith("ж" * 37_500) and log.endswith("ж" * 12_499 + "\n")


LONG = """
    import sys
    for number in range({lines}):
        print("строка", number)
    print("готово", file=sys.stderr)
    raise ValueError("нет весов")
"""


@pytest.mark.parametrize("lines", [0, 10, 5_000, 5_700, 100_000])
def test_the_end_of_a_long_log_is_kept(data_folder, make_submission, lines):
    data, terminal, limit = read_data(data_folder), io.StringIO(), 100_000
    with launch.workspace(make_submission(LONG.format(lines=lines)), data) as space:
        chosen = replace(RUN, time=60.0, log=limit)
        outcome = launch.execute(space, limits=chosen, terminal=terminal)
        log = space.log.read_text(encoding="utf-8")
        with pytest.raises(SubmissionError, match="its last line: ValueError: нет весов"):
            launch.judge(outcome, chosen, space.log)
        with pytest.raises(SubmissionError, match="with ValueError"):
            launch.judge(outcome, chosen, space.log, private=True)
    printed = [f"строка {number}" for number in range(lines)] + ["готово", "Traceback (most recent call last):"]
    found = [line for line in log.splitlines() if line and not line.startswith((" ", "ValueError"))]
    assert len(log.encode()) < limit + 200 and "Traceback" in terminal.getvalue()
    if lines <= 5_000:  # all of it, and nothing twice
        assert found == printed
        return
    [cut] = [number for number, line in enumerate(found) if "left out" in line]
    assert found[:cut][:-1] == printed[: cut - 1] and printed[-len(found[cut + 1 :]) :] == found[cut + 1 :]
    assert len(found) - cut > 500 and cut > 2_000


def copied(chunks, folder, limit: int, end: bytes = b"") -> str:
    terminal = io.StringIO()
    copier = LogCopier(chunks, folder / "log", terminal, limit)
    copier.start()
    copier.finish(60, end[-copier.tail_bytes :])
    assert terminal.getvalue().replace(LOG_LONG, "") == (folder / "log").read_text(encoding="utf-8")
    return terminal.getvalue()


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("length", [0, 5, 299, 300, 301, 399, 400, 401, 5000])
def test_whatever_the_chunks_the_log_has_beginning_and_end(tmp_path, length, size):
    printed = "".join(f"{number}ё🐈\n" for number in range(length))[:length].encode()
    chunks = [printed[i : i + size] for i in range(0, len(printed), size)]
    found = copied(chunks, tmp_path, 400, printed).replace(LOG_LONG, "")
    if len(printed) <= 400:
        assert found.encode() == printed
        return
    beginning, _, rest = found.partition("\n[")
    end = rest.partition("]\n")[2]
    assert printed.startswith(beginning.encode()) and printed.endswith(end.encode()) and len(end) > 20
    missing = int(rest.split(" ")[0])
    assert abs(len(beginning.encode()) + len(end.encode()) + missing - len(printed)) < 4  # a character that was cut


def test_an_end_that_the_stream_did_not_bring(tmp_path):
    whole = b"".join(b"line %d\n" % number for number in range(1000))
    assert copied([whole[:20]], tmp_path, 400, whole[:90]) == whole[:90].decode()
    found = copied([whole[:200]], tmp_path, 400, whole)
    assert found.startswith(whole[:200].decode() + "\n[some bytes of what") and found.endswith("\nline 998\nline 999\n")
    found = copied([whole[:5000]], tmp_path, 400, whole).replace(LOG_LONG, "")
    assert found.startswith(whole[:300].decode() + "\n[some bytes of what") and found.endswith("\nline 998\nline 999\n")


def test_a_stream_without_an_end_is_not_waited_for(tmp_path):
    go = threading.Event()

    def chunks():
        yield b"first\n"
        go.wait(60)
        yield b"too late\n"

    copier = LogCopier(chunks(), tmp_path / "log", io.StringIO(), 400)
    copier.start()
    copier.finish(0.5, b"first\nlast\n")
    go.set()
    copier.join(60)
    assert (tmp_path / "log").read_text() == "first\nlast\n"


# --- a run that fails ---


def test_exit_code(data_folder, make_submission):
    message = fault(make_submission("raise SystemExit('нет весов')"), read_data(data_folder))
    assert "ended with exit code 1 after" in message and "its last line: нет весов" in message


CRASH = "Traceback (most recent call last):\n  File 'run.py', line 1\nFileNotFoundError: weights.bin\n"
BAR = "".join(f"\r{done // 50:3d}%|{'#' * (done // 100):50}| {done}/5000" for done in range(5001))


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (CRASH, "FileNotFoundError: weights.bin"),
        (CRASH + "\n" * 5000, "FileNotFoundError: weights.bin"),
        (CRASH + " \r\n" * 200_000, "FileNotFoundError: weights.bin"),
        (CRASH.replace("\n", "\r\n"), "FileNotFoundError: weights.bin"),
        (CRASH.replace("\n", "\r"), "FileNotFoundError: weights.bin"),
        (BAR + "\n" + CRASH, "FileNotFoundError: weights.bin"),
        (CRASH + BAR, BAR.rpartition("\r")[2]),
        (CRASH.rstrip() + BAR + "\n" * 5000, BAR.rpartition("\r")[2]),
    ],
    ids=range(8),
)
def test_the_end_of_a_log(tmp_path, text, last):
    log = tmp_path / "log"
    log.write_bytes(text.encode())
    outcome = Execution(1, 1.0, False, False, "", False, None, None)
    with pytest.raises(SubmissionError) as caught:
        launch.judge(outcome, RUN, log)
    assert f"; its last line: {last.strip()}" in str(caught.value) and crash.MISSING_FILE in str(caught.value)
    with pytest.raises(SubmissionError, match="with FileNotFoundError"):
        launch.judge(outcome, RUN, log, private=True)


@pytest.mark.parametrize("text", ["", "\n" * 5000, "\r \n", "x\n" * 3000, "x" * 10**6, "ValueError: \n" + "x\n" * 9000])
def test_the_end_of_a_log_without_an_exception(tmp_path, text):
    log = tmp_path / "log"
    log.write_text(text, encoding="utf-8")
    assert launch._exception(log) == "" and sum(map(len, launch._tail(log))) <= 4096
    assert launch._last_line(log) == ("; its last line: " + text.split()[-1][:200] if text.strip() else "")


def test_killed_by_a_signal(data_folder, make_submission):
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert "was killed by SIGKILL" in fault(make_submission(code), read_data(data_folder))


GRANDCHILDREN = """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    same_group = subprocess.Popen([sys.executable, "-c", child])
    own_session = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
    read, write = os.pipe()
    if os.fork() == 0:  # a daemon: forks twice, its parent is gone, its session is its own
        os.setsid()
        daemon = os.fork()
        if daemon:
            os.write(write, str(daemon).encode())
            os._exit(0)
        time.sleep(600)
    daemon = int(os.read(read, 20))
    print("pids", os.getpid(), same_group.pid, own_session.pid, daemon, flush=True)
"""


def test_timeout_kills_all_descendants(data_folder, make_submission):
    data = read_data(data_folder)
    terminal = io.StringIO()
    start = time.monotonic()
    with launch.workspace(make_submission(GRANDCHILDREN + "    time.sleep(600)\n"), data) as space:
        with pytest.raises(SubmissionError, match="longer than the time limit of 3 s"):
            execute(space, terminal, time=3.0, grace=1.0)
    assert time.monotonic() - start < 300  # they sleep longer
    pids = [int(pid) for pid in terminal.getvalue().split()[1:]]
    assert len(pids) == 4 and not any(map(alive, pids))


def test_processes_left_behind_by_a_good_run_are_killed_too(data_folder, make_submission):
    printed = run(make_submission(GRANDCHILDREN), read_data(data_folder))
    pids = [int(pid) for pid in printed.split()[1:]]
    assert len(pids) == 4 and not any(map(alive, pids))


def test_own_children_survive_a_run(data_folder, make_submission):
    mine = [
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=session)
        for session in (False, True)
    ]
    try:
        run(make_submission("print('x')"), read_data(data_folder))
        assert [child.poll() for child in mine] == [None, None]
    finally:
        for child in mine:
            child.kill()
            child.wait()


def test_sigterm_gives_time_to_end(data_folder, make_submission):
    code = """
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: (print("прощай"), sys.exit(0)))
        time.sleep(600)
    """
    data = read_data(data_folder)
    terminal = io.StringIO()
    with launch.workspace(make_submission(code), data) as space:
        with pytest.raises(SubmissionError, match="time limit"):
            execute(space, terminal, time=2.0)
    assert "прощай" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seen", "shown"),
    [(4_000_000, None), (0, None), (None, None), (500_000_000, None), (999_997_440, 999_997_440), (1_200_000_000,) * 2],
)
def test_a_memory_figure_that_cannot_be_is_left_out(data_folder, make_submission, tmp_path, seen, shown):
    """What was killed at the limit had more than was seen long before."""
    killed = Execution(exit_code=-9, seconds=1.0, oom=True, peak_memory=seen)

    class Killed(local.LocalRunner):
        def run(self, *_: object) -> Execution:
            return killed

    chosen = replace(RUN, memory=10**9)
    with launch.workspace(make_submission("pass"), read_data(data_folder)) as space:
        assert launch.execute(space, Killed(), chosen, io.StringIO()).peak_memory == shown
    (tmp_path / "log").touch()
    with pytest.raises(SubmissionError) as caught:
        launch.judge(killed, chosen, tmp_path / "log")
    assert ("were seen in use" in str(caught.value)) == bool(shown)


def test_a_good_run_has_the_memory_that_was_seen(data_folder, make_submission, tmp_path, monkeypatch):
    """The program ends when somebody has looked at it in all its size."""
    seen, look = tmp_path / "seen", local._Watch._look

    def look_and_tell(watch: local._Watch) -> None:
        look(watch)
        if watch.peak_memory > 50_000_000:
            seen.touch()

    monkeypatch.setattr(local._Watch, "_look", look_and_tell)
    code = f"""
        import os, time
        x = bytearray(b"1") * 50_000_000
        while not os.path.exists({str(seen)!r}):
            time.sleep(0.05)
    """
    with launch.workspace(make_submission(code), read_data(data_folder)) as space:
        assert 50_000_000 < launch.execute(space, terminal=io.StringIO()).peak_memory < 500_000_000


# --- metadata.json ---


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "metadata.json is missing at the root of the submission"),
        ("{", "metadata.json: invalid JSON"),
        ('{"image": "a", "image": "b", "entrypoint": "x"}', "the key 'image' occurs twice"),
        ("[]", "metadata.json: must be an object like"),
        ('{"entrypoint": "python3 run.py"}', "image must be a text that is not empty, not None"),
        ('{"image": "a", "entrypoint": " "}', "entrypoint must be a text that is not empty"),
        ('{"image": "a", "entrypoint": ["python3"]}', "entrypoint must be a text that is not empty"),
        ('{"image": "a", "entrypoint": "python3 \'run.py"}', "No closing quotation"),
        ('{"image": "a", "entrypoint": "no-such-program run.py"}', "'no-such-program run.py' cannot be started: "),
        ('{"image": "a", "entrypoint": "./run.py"}', "cannot be started: Permission denied"),
        ('{"image": "a", "entrypoint": "\'\'"}', "cannot be started"),
        ('{"image": "a", "entrypoint": "python3 none.py"}', "ended with exit code 2"),
    ],
)
def test_metadata(data_folder, make_submission, metadata, message):
    submission = make_submission("print('x')")
    if metadata is None:
        (submission / "metadata.json").unlink()
    else:
        (submission / "metadata.json").write_text(metadata, encoding="utf-8")
    assert message in fault(submission, read_data(data_folder))


ELF = b"\x7fELF\x02\x01\x01" + bytes(9)
# The header of a 64-bit program with one program header, an interpreter's, which lies far beyond the end of the file.
BROKEN = ELF + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
BROKEN += struct.pack("<IIQQQQQQ", 3, 4, 2**40, 0, 0, 28, 28, 1)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is one for x86-64")
def test_a_broken_program_is_the_submissions_fault(data_folder, make_submission):
    submission = make_submission("")
    (submission / "metadata.json").write_text('{"image": "a", "entrypoint": "./broken"}', encoding="utf-8")
    (submission / "broken").write_bytes(BROKEN)
    (submission / "broken").chmod(0o755)
    assert "cannot be started: Input/output error" in fault(submission, read_data(data_folder))


@pytest.mark.parametrize(
    ("number", "named", "row"),
    [
        (errno.EIO, True, BAD_METADATA),
        (errno.ENOTSUP, True, BAD_METADATA),
        (errno.EIO, False, INFRA),
        (errno.EAGAIN, False, INFRA),
        (errno.EAGAIN, True, INFRA),
        (errno.ENOMEM, True, INFRA),
        (errno.EMFILE, True, INFRA),
    ],
)
def test_whose_fault_it_is_that_nothing_starts(data_folder, make_submission, monkeypatch, number, named, row):
    def fail(arguments, **settings):
        raise OSError(number, os.strerror(number), arguments[0] if named else None)

    with launch.workspace(make_submission(""), read_data(data_folder)) as space:
        local._can_unshare()  # before, as it starts a process
        monkeypatch.setattr(local.subprocess, "Popen", fail)
        with pytest.raises(EvaluatorError) as caught:
            launch.execute(space, terminal=io.StringIO())
        monkeypatch.undo()
    assert caught.value.verdict is row


def test_nested_metadata_is_hinted_at(data_folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as file:
        file.writestr("submission/metadata.json", "{}")
    assert "found 'submission/metadata.json': pack the folder's content" in fault(
        tmp_path / "s.zip", read_data(data_folder)
    )


def test_entrypoint_has_no_shell(data_folder, make_submission):
    code = "import sys; print(sys.argv[1:])"
    submission = make_submission(code, "python3 run.py 'a b' $HOME ; echo injected")
    assert run(submission, read_data(data_folder)) == "['a b', '$HOME', ';', 'echo', 'injected']\n"


# --- folders ---


def test_links_in_a_submission_folder(data_folder, make_submission):
    submission = make_submission("print(open('answers.json').read())")
    (submission / "answers.json").symlink_to(data_folder / "ground_truth.json")
    (submission / "more").mkdir()
    (submission / "more" / "gt").symlink_to(data_folder / "gt_images")
    faults = fault(submission, read_data(data_folder)).splitlines()
    assert [line.partition(";")[0] for line in faults] == [
        "entry 'answers.json': a symbolic link",
        "entry 'more/gt': a symbolic link",
    ]


def test_earlier_output_does_not_count(data_folder, make_submission, output_folder):
    submission = make_submission("print('nothing written')")
    output_folder.rename(submission / "output")
    data = read_data(data_folder)
    with launch.workspace(submission, data) as space:
        execute(space, io.StringIO())
        with pytest.raises(SubmissionError, match="predictions.json"):
            read_predictions(space.collected, data)


def test_wrong_paths_are_not_the_submissions_fault(data_folder, make_submission, tmp_path):
    data = read_data(data_folder)
    submission = make_submission("print('x')")
    for source, keep in ((tmp_path / "none", None), (tmp_path, None), (submission, data_folder)):
        with pytest.raises(DataError), launch.workspace(source, data, keep):
            pass


OPTIONS = ("--runner", "local", "--country", "ZZ")  # eco2AI knows no such country and does not start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_leaves_no_process(data_folder, make_submission, tmp_path, number):
    """Ctrl-C on the evaluator ends the submission too, and so does its service's end, or its terminal's."""
    submission = make_submission("import os, time; print('pid', os.getpid()); time.sleep(600)")
    command = [
        sys.executable,
        "-m",
        "evaluator",
        "run",
        submission,
        "--data",
        data_folder,
        "--json",
        tmp_path / "s.json",
        *OPTIONS,
    ]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(launch.__file__).parents[2],
        # A shell starts its background jobs with SIGINT ignored, nohup with SIGHUP, and they hand that on.
        preexec_fn=lambda: [signal.signal(ours, signal.SIG_DFL) for ours in (signal.SIGINT, signal.SIGHUP)],
    ) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("pid "))
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == 128 + number and "interrupted" in rest and "Traceback" not in rest
    assert not alive(int(line.split()[1])) and not (tmp_path / "s.json").exists()


def test_a_signal_that_is_ignored_stays_so(data_folder, make_submission, tmp_path):
    """As below nohup."""
    submission = make_submission("import time; print('pid', flush=True); time.sleep(2); raise SystemExit(7)")
    command = [sys.executable, "-m", "evaluator", "run", submission, "--data", data_folder, *OPTIONS]
    with subprocess.Popen(
        [*command, "--json", tmp_path / "s.json"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(launch.__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as process:
        assert process.stderr is not None
        assert any(line == "pid\n" for line in process.stderr)
        process.send_signal(signal.SIGHUP)
        assert "exit code 7" in process.stderr.read()
    assert process.returncode == 1
