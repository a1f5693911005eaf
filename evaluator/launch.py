"""Runs a submission as the leaderboard does: a fresh workspace, one entrypoint, a time limit.

The workspace is `<work>/input` (input.json and the images it names, nothing else) and `<work>/submission` (a copy).
The truth is copied nowhere, and neither the working folder nor the environment leads to it. A process of the same
user can still search the whole file system: this runner is for submissions one trusts not to, and keeps honest ones
honest.
"""

import codecs
import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from evaluator import limits
from evaluator.archive import copy_folder, unpack
from evaluator.contract import Data, read_json
from evaluator.errors import DataError, SubmissionError, show

# What a submission gets of the environment: how to find programs, libraries and devices, and the language. All else
# stays here.
ENVIRONMENT_NAMES = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"})
ENVIRONMENT_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")
PYTHON_NAMES = frozenset({"python", "python3"})
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Workspace:
    """Folders of one run. `log` and `emission` lie outside of what the submission works in."""

    work: Path
    log: Path
    emission: Path

    @property
    def submission(self) -> Path:
        return self.work / "submission"

    @property
    def output(self) -> Path:
        return self.submission / "output"


@contextlib.contextmanager
def workspace(submission: Path | str, data: Data, keep: Path | str | None = None) -> Iterator[Workspace]:
    """Lay out a fresh workspace for a submission's folder or ZIP; it is removed at the end, or moved to `keep` (new
    or empty).

    Raises `SubmissionError` for a faulty archive or folder, `DataError` where the paths given cannot be used.
    """
    source, kept = Path(submission), Path(keep) if keep is not None else None
    if not source.exists():
        raise DataError(f"submission {source} does not exist")
    if data.root.is_relative_to(source.resolve()):
        raise DataError(f"data folder {data.root} lies inside the submission {source}, which would see the truth")
    if kept is not None and kept.exists() and (not kept.is_dir() or any(kept.iterdir())):
        raise DataError(f"folder to keep the workspace in, {kept}, exists and is not an empty folder")
    # Two folders with names of their own: from the workspace no relative path leads to the log.
    base, aside = Path(tempfile.mkdtemp(prefix="run-")), Path(tempfile.mkdtemp(prefix="log-"))
    space = Workspace(base / "work", aside / "log.txt", aside / "emission.csv")
    try:
        space.submission.mkdir(parents=True)
        _copy_input(data, space.work / "input")
        if source.is_dir():
            copy_folder(source.resolve(), space.submission)
        else:
            unpack(source, space.submission)
            # Answers must come from this run, so output that was packed along does not count.
            shutil.rmtree(space.output, ignore_errors=True)
        yield space
    finally:
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
            for path in (space.work, space.log, space.emission):
                if path.exists():
                    shutil.move(path, kept / path.name)
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def read_entrypoint(submission: Path) -> list[str]:
    """The arguments of `metadata.json`'s entrypoint, split as a shell would, run without one.

    Raises `SubmissionError` when the file is missing or wrong.
    """
    if not os.path.lexists(submission / "metadata.json"):
        nested = sorted(path.relative_to(submission) for path in submission.glob("*/metadata.json"))
        hint = f"; found {show(str(nested[0]))}: pack the folder's content, not the folder" if nested else ""
        raise SubmissionError(f"metadata.json is missing at the root of the submission{hint}")
    metadata = read_json(submission, "metadata.json", SubmissionError)
    if not isinstance(metadata, dict):
        raise SubmissionError('metadata.json: must be an object like {"image": "...", "entrypoint": "python3 run.py"}')
    faults = [
        f"metadata.json: {key} must be a text that is not empty, not {show(metadata.get(key))}"
        for key in ("image", "entrypoint")
        if not isinstance(metadata.get(key), str) or not metadata[key].strip()
    ]
    if faults:
        raise SubmissionError(faults)
    try:
        return shlex.split(metadata["entrypoint"])
    except ValueError as error:
        raise SubmissionError(f"metadata.json: entrypoint {show(metadata['entrypoint'])}: {error}") from None


def execute(
    space: Workspace, data: Data, timeout: float = limits.TIME_LIMIT_SECONDS, terminal: TextIO | None = None
) -> float:
    """Run the entrypoint to its end and return the seconds it took. Its output goes to `terminal` (default stderr)
    and to the log.

    `python3` is the interpreter that runs this. When it returns or raises, no process that the run started is left.
    Raises `SubmissionError` when the program cannot be started, exceeds `timeout` seconds, or ends with another code
    than 0.
    """
    arguments = read_entrypoint(space.submission)
    if arguments[0] in PYTHON_NAMES:
        arguments[0] = sys.executable
    home = space.work.parent / "home"
    home.mkdir()
    _become_subreaper()
    before = {pid for pid, _, _ in _descendants()}
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            arguments,
            cwd=space.submission,
            env=_environment(data, home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SubmissionError(f"entrypoint {show(shlex.join(arguments))} cannot be started: {reason}") from None
    assert process.stdout is not None
    copier = threading.Thread(
        target=_copy_output, args=(process.stdout, space.log, terminal or sys.stderr), daemon=True
    )
    copier.start()
    expired = False
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        expired = True
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limits.TERMINATE_GRACE_SECONDS)
    finally:
        seconds = time.monotonic() - start
        _kill_all(process, before)
        copier.join(limits.TERMINATE_GRACE_SECONDS)
    if expired:
        raise SubmissionError(f"the entrypoint ran longer than the time limit of {timeout:g} s and was stopped")
    if process.returncode:
        raise SubmissionError(
            f"the entrypoint {_ending(process.returncode)} after {seconds:.1f} s{_last_line(space.log)}"
        )
    return seconds


def _copy_input(data: Data, destination: Path) -> None:
    destination.mkdir(parents=True)
    (destination / "images").mkdir()
    shutil.copyfile(data.root / "input.json", destination / "input.json")
    for path in sorted({path for example in data.examples for path in example.images}):
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data.root / path, target)


def _environment(data: Data, home: Path) -> dict[str, str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if (name in ENVIRONMENT_NAMES or name.startswith(ENVIRONMENT_PREFIXES)) and str(data.root) not in value
    }
    return environment | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "HF_HUB_OFFLINE": "1",  # the leaderboard has no network
    }


def _copy_output(stream: IO[bytes], log: Path, terminal: TextIO) -> None:
    """Copy what the submission prints as it comes; the log takes the first `MAX_LOG_BYTES`, the rest goes to the
    terminal alone.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    written = 0
    with open(log, "w", encoding="utf-8", newline="") as file:
        while chunk := stream.read1(65536):  # type: ignore[attr-defined]
            # Control characters could rewrite what the evaluator has printed.
            text = "".join(
                c if c.isprintable() or c in "\n\r\t" else "\N{REPLACEMENT CHARACTER}" for c in decoder.decode(chunk)
            )
            if written < limits.MAX_LOG_BYTES:
                file.write(text)
                file.flush()
                written += len(chunk)
            with contextlib.suppress(OSError, ValueError):  # a closed terminal must not stop the run
                terminal.write(text)
                terminal.flush()


def _become_subreaper() -> None:
    """Have orphans of the run become children of this process (Linux), so that none gets away and their CPU time is
    counted.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants() -> list[tuple[int, int, int]]:
    """(pid, parent, session) of all processes below this one, from /proc; zombies included. Empty where there is no
    /proc.
    """
    processes: dict[int, tuple[int, int]] = {}
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # it may end while it is read
            fields = stat_file.read_text(errors="replace").rpartition(")")[2].split()
            processes[int(stat_file.parent.name)] = int(fields[1]), int(fields[3])
    found: list[tuple[int, int, int]] = []
    below = {os.getpid()}
    while below:
        level = [(pid, parent, session) for pid, (parent, session) in processes.items() if parent in below]
        found += level
        below = {pid for pid, _, _ in level}
    return found


def _kill_all(process: subprocess.Popen[bytes], before: set[int]) -> None:
    """Kill what is left of the run: its group, then every descendant that left the group, however it did.

    The run started in a session of its own and nothing can join ours, so a new descendant in another session is the
    run's.
    """
    session = os.getsid(0)

    def strays() -> list[tuple[int, int]]:
        return [(pid, parent) for pid, parent, other in _descendants() if other != session and pid not in before]

    _signal_group(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + limits.TERMINATE_GRACE_SECONDS
    while (left := strays()) and time.monotonic() < deadline:
        for pid, parent in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            if parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}" + (" (often: out of memory)" if -code == signal.SIGKILL else "")


def _last_line(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; its last line: {last[:200]}" if last else ""
