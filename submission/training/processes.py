"""Processes that train or measure: their log, alone in their folder or together with others, and how they end."""

import atexit
import contextlib
import fcntl
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import cores

log = logging.getLogger(__name__)

LOCK = ".lock"


class StepError(RuntimeError):
    """A step that failed; the message names it."""


def log_training() -> None:
    """Logs with the time, without what libraries say of themselves; the first line is of the threads."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for library in ("pymorphy3", "apscheduler"):
        logging.getLogger(library).setLevel(logging.WARNING)
    log.info("%s", cores.settle())


def run_python(name: str, arguments: Sequence[str | Path], folder: Path) -> None:
    """Runs this Python in `folder`, to its end. Raises StepError, with the end of what it said, if it failed."""
    log.info("%s …", name)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace",
    )  # fmt: skip
    if done.returncode:
        raise StepError(f"{name} ended with {done.returncode}:\n{done.stdout[-3000:]}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second training out of the folder; the kernel frees it, however this process ends. Raises ValueError.

    The first of torchrun's processes holds it for all: where it is refused, torchrun ends the others.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ValueError(
                f"{folder}: another training writes to it ({file.read(200).strip() or 'it has just begun'}); "
                "wait for its end, or name another `output`"
            ) from None
        except OSError as error:
            log.warning("%s: cannot be locked (%s); see to it that no other training writes to it", folder, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def exit_now(code: int) -> NoReturn:
    """Ends the process with `code`.

    One of torchrun's ends without the interpreter's finalisation. There, rarely, one aborted after a training that went
    well (`terminate called without an active exception`: probably a thread of gloo's that wanted the interpreter's lock
    and was unwound through C++), and torchrun reported a failure.
    What is registered to be done at the end is done.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        atexit._run_exitfuncs()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
