"""Workers of a season's queue as processes, and what runs below them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import evaluator
from evaluator.season.config import Season

ROOT = Path(evaluator.__file__).parents[1]
SECONDS = 300.0  # at most, for anything waited for here, on a busy machine too


def start(season: Season, *options: str, shell: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [*shell, sys.executable, "-m", "evaluator", "queue", "run", "--season", str(season.path), *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """All processes below this one."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, of in parents if of == parent]
    return found[1:]


def gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def submission_runs(worker: subprocess.Popen[str]) -> bool:
    """Whether the evaluator below the worker has started the submission."""
    below = children(worker.pid)
    return any("run.py" in command_line(pid) for pid in below)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def is_run(pid: int) -> bool:
    """Whether it is the evaluator's process of a run."""
    return " evaluator run " in command_line(pid)
