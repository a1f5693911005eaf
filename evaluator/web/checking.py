"""The processes that look at ZIPs for the service, `preflight.main`: begun when they are needed, then kept."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from evaluator.core import limits
from evaluator.core.errors import EvaluatorError

_MAX_ANSWER = 64 * 2**20  # bytes
_ROOT = Path(__file__).parents[2]


class _Process:
    """One of them, for one ZIP after another."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process, self._input = process, process.stdin
        self._output = BufferedByteReceiveStream(process.stdout)

    async def look(self, path: Path) -> tuple[bytes, int]:
        """What it says of a ZIP, and how the process ended that has looked."""
        await self._input.send(json.dumps(str(path)).encode() + b"\n")
        answer = await self._output.receive_until(b"\n", _MAX_ANSWER)
        return answer, int(await self._output.receive_until(b"\n", _MAX_ANSWER))

    async def end(self) -> None:
        """Kill it, with what it has started."""
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            await self.process.aclose()


class Checks:
    """Looks at ZIPs of at most so many bytes, packed and unpacked, until its block ends: in as many processes as there
    are calls at a time.
    """

    def __init__(self, max_packed: int, max_unpacked: int) -> None:
        self._limits = (str(max_packed), str(max_unpacked))
        self._idle: list[_Process] = []

    async def __aenter__(self) -> "Checks":
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            await self._idle.pop().end()

    async def look(self, path: Path) -> dict[str, Any]:
        """What `check --json` writes of a ZIP. Raises `EvaluatorError` where that does not come to an end."""
        process = await self._get()
        try:
            with anyio.fail_after(limits.PREFLIGHT_SECONDS):
                answer, status = await process.look(path)
        except (TimeoutError, OSError, anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError) as error:
            await process.end()
            raise EvaluatorError(f"the process that looks at {path} ended: {type(error).__name__}") from None
        except BaseException:
            await process.end()
            raise
        self._idle.append(process)
        if status:
            raise EvaluatorError(f"the process that looks at {path} ended with {status}")
        document: dict[str, Any] = json.loads(answer)
        return document

    async def _get(self) -> _Process:
        while self._idle:
            process = self._idle.pop()
            if process.process.returncode is None:
                return process
        return _Process(
            await anyio.open_process(
                [sys.executable, "-P", "-m", "evaluator.web.preflight", *self._limits],
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                # Threads of numpy count as memory, on a machine of many cores more than all else.
                env=os.environ | {"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        )
