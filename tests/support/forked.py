"""Processes that begin with torch and the model's code imported, which alone takes seconds of CPU time.

Each is forked from a process that has done nothing but import: what it computes, which signals it gets and how it ends
is its own.
"""

import gc
import os
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = 300.0  # at most, for a process to end, on a busy machine too
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["run", "rudolph.answer"])


def start(function: Callable[..., object], *arguments: object, folder: Path, log: Path) -> BaseProcess:
    """A process that calls a function of a module in `folder`, with the environment of now, and ends with what it
    returns, a small number; what it prints goes into `log`.
    """
    job = (function, arguments, folder, log, dict(os.environ))
    process = _CONTEXT.Process(target=_call, args=job, daemon=True)
    with pytest.MonkeyPatch.context() as patch:  # for the imports of the process that is forked from
        patch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT / "submission"), str(ROOT))))
        process.start()
    return process


def ended(process: BaseProcess) -> int:
    """Its exit code, when it has ended; a signal's number is negative."""
    process.join(SECONDS)
    assert process.exitcode is not None, f"{process} goes on and on"
    return process.exitcode


def _call(
    function: Callable[..., object], arguments: tuple[object, ...], folder: Path, log: Path, environment: dict[str, str]
) -> None:  # fmt: skip
    gc.freeze()  # of what has been imported nothing can be collected, and looking through it takes long
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(function(*arguments))
