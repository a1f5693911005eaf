"""Looking at a ZIP: what `check` and `send` say of it on the team's machine, and the service of one that was sent.

The service has `python -m evaluator.web.preflight PACKED UNPACKED` look at it, in a process of its own for each ZIP,
which limits itself, and gives the same JSON as `check --json`.
"""

import dataclasses
import gc
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from evaluator.carbon import emission
from evaluator.carbon.emission import Emission
from evaluator.core import limits, verdict
from evaluator.core.errors import EvaluatorError
from evaluator.package import archive
from evaluator.package.archive import CheckedArchive

NICENESS = 10  # pages come first


def examine(path: Path, max_packed: int, max_unpacked: int) -> tuple[CheckedArchive, Emission | None]:
    """A good ZIP, and the emission.csv that it has, if any. Raises what `archive.check` raises."""
    return archive.check(path, max_packed, max_unpacked), emission.read_archive(path, max_packed, max_unpacked)


def to_json(found: CheckedArchive, emitted: Emission | None) -> dict[str, Any]:
    """What `check --json` writes of a good ZIP."""
    return verdict.OK.to_json() | {
        "findings": [],
        "findings_total": 0,
        "archive": {"packed": found.packed, "unpacked": found.unpacked, "files": found.files},
        "metadata": dataclasses.asdict(found.metadata),
        "notes": found.metadata.notes,
        "emission": emitted and emitted.to_json(),
    }


def lines(name: str, found: CheckedArchive, emitted: Emission | None, max_packed: int, max_unpacked: int) -> list[str]:
    """The same for people, but the last line, which says that all is well."""
    sizes = f"{found.packed} of {max_packed} bytes packed, {found.unpacked} of {max_unpacked} unpacked"
    contract = f"image {found.metadata.image}, entrypoint {found.metadata.entrypoint}"
    return [
        f"{name}: {sizes}, {found.files} files; {contract}",
        *found.metadata.notes,
        *([] if emitted is None else emitted.lines()),
    ]


def main() -> None:
    """The processes of their own. A line of standard input is a path in JSON; each gets two lines of standard output:
    what `check --json` writes, and how the process ended that looked, 0 whatever the ZIP is. Another end says nothing
    of the ZIP.

    Each ZIP has a process that is a fork of this one, so that nothing has to be imported again, nor is remembered.
    """
    max_packed, max_unpacked = map(int, sys.argv[1:])
    os.nice(NICENESS)
    gc.freeze()  # what was imported is shared by all forks
    for line in sys.stdin.buffer:
        process = os.fork()
        if not process:
            _look(Path(json.loads(line)), max_packed, max_unpacked)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        os.write(1, f"\n{os.waitstatus_to_exitcode(status)}\n".encode())


def _look(path: Path, max_packed: int, max_unpacked: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.PREFLIGHT_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write but its answer, into a pipe
    resource.setrlimit(resource.RLIMIT_CPU, (limits.PREFLIGHT_CPU_SECONDS,) * 2)
    signal.setitimer(signal.ITIMER_REAL, limits.PREFLIGHT_SECONDS)
    try:
        document = to_json(*examine(path, max_packed, max_unpacked))
    except EvaluatorError as error:
        document = error.to_json()
    answer = json.dumps(document).encode()
    while answer:
        answer = answer[os.write(1, answer) :]


if __name__ == "__main__":
    main()
