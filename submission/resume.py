"""What a run has found so far, so that a second start goes on where the first was killed.

A journal of JSON lines in the output folder. Its first line is the fingerprint of all that answers depend on; each
further line is one thing that is final. Lines are only ever added, so a kill can cost no more than the last one, which
is then incomplete and dropped. (A crash of the whole machine can cost more lines; what is there still holds.)
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rudolph.files import sha256_of

logger = logging.getLogger("run.resume")

JOURNAL_NAME = ".resume.jsonl"
_HASHED_BYTES = 2**26  # of larger files, which are weights, size and time of change must do


def fingerprint(values: Mapping[str, Any], files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 of values (as JSON) and of named files: of their bytes, or above 64 MiB of size and time of change.

    A file that cannot be read counts as missing.
    """
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=repr).encode())
    for name, path in files:
        try:
            status = path.stat()
            if status.st_size <= _HASHED_BYTES:
                about = sha256_of(path)
            else:
                about = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:
            about = "missing"
        digest.update(json.dumps([name, about]).encode())
    return digest.hexdigest()


class Journal:
    """The journal of a folder. `records`, each with an `id`: those of an earlier run with the same fingerprint; those
    of another one are dropped, with a line in the log. Raises OSError where the file cannot be read or written.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.path = folder / JOURNAL_NAME
        self.records: list[dict[str, Any]] = []
        header = self._line({"fingerprint": fingerprint})
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = 0
        if content.startswith(header):
            whole = len(header)
            for line in content[whole:].splitlines(keepends=True):
                record = _parse(line)
                if record is None:
                    break
                self.records.append(record)
                whole += len(line)
            logger.info("going on with an earlier run, which left %d results", len(self.records))
        elif content:
            logger.warning("%s is of a run with other questions, settings or weights; starting anew", self.path)
        self._file = open(self.path, "ab" if whole else "wb", buffering=0)
        if whole:
            os.ftruncate(self._file.fileno(), whole)
        else:
            self._file.write(header)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record, a dict of JSON values with an `id`, in one write."""
        self._file.write(self._line(record))

    def close(self) -> None:
        """Closes the file; what was added stays."""
        self._file.close()

    def remove(self) -> None:
        """Close and remove: nothing is left to go on with."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    @staticmethod
    def _line(record: Mapping[str, Any]) -> bytes:
        return json.dumps(record).encode() + b"\n"  # ASCII, in one line


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("id"), str) else None
