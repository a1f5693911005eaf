"""A process that is killed before one of its steps.

A step is whatever changes something outside of the process: a statement that writes, the end of a transaction, a file
made, renamed or removed, a process started.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Engine, event

AUDITED = ("os.rename", "os.remove", "os.mkdir", "subprocess.Popen")


class Killer:
    """Kills its process before step `number`."""

    def __init__(self, number: int, folder: Path) -> None:
        self._left, self._folder = number, str(folder)
        sys.addaudithook(self._audit)
        event.listen(Engine, "before_cursor_execute", self._statement)
        event.listen(Engine, "commit", self._step)

    def _step(self, *_: object) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)

    def _statement(self, _c: object, _d: object, statement: str, *_: object) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            self._step()

    def _audit(self, name: str, arguments: Sequence[object]) -> None:
        writes = name == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa+")
        here = self._folder in os.path.abspath(str(arguments[0])) if arguments else False
        if (name in AUDITED and (here or name == "subprocess.Popen")) or (writes and here):
            self._step()
