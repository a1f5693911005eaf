"""Looking at a ZIP: what `check` and `send` say of it on the team's machine, and the service of one that was sent.

The service looks at it in a process of its own, `python -m evaluator.web.preflight ZIP PACKED UNPACKED`, which limits
itself and writes the same JSON as `check --json` to its standard output.
"""

import dataclasses
import json
import resource
import sys
from pathlib import Path
from typing import Any

from evaluator.carbon import emission
from evaluator.carbon.emission import Emission
from evaluator.core import limits, verdict
from evaluator.core.errors import EvaluatorError
from evaluator.package import archive
from evaluator.package.archive import CheckedArchive


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
    """The process of its own. It ends with 0 whatever the ZIP is; another end says nothing of it."""
    path, max_packed, max_unpacked = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (limits.PREFLIGHT_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write but its answer, into a pipe
    resource.setrlimit(resource.RLIMIT_CPU, (limits.PREFLIGHT_CPU_SECONDS,) * 2)
    try:
        document = to_json(*examine(Path(path), int(max_packed), int(max_unpacked)))
    except EvaluatorError as error:
        document = error.to_json()
    sys.stdout.write(json.dumps(document))


if __name__ == "__main__":
    main()
