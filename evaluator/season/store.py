"""Where the season's folder keeps what belongs to submissions and runs: ZIPs by their digest, and a folder a run."""

import contextlib
import fcntl
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from evaluator.errors import DataError

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20
_PARTIAL = "incoming-"


class Store:
    """Below `root`: submissions/<digest>.zip and runs/<number>/."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def archive(self, digest: str) -> Path:
        """A stored ZIP's path."""
        return self._root / "submissions" / f"{digest}.zip"

    def run(self, run: int) -> Path:
        """A run's folder: scores.json, report.html, record.json, log.txt (what the submission printed), and
        evaluator.log.
        """
        return self._root / "runs" / str(run)

    def add(self, source: Path, digest: str) -> None:
        """Keep a copy of `source`, on disk when this returns; what is there already stays. What copies that were killed
        left is removed.

        Raises `DataError` where the file is not (any more) that of `digest`, or cannot be copied.
        """
        target = self.archive(digest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sweep(target.parent)
            if target.exists():
                return
            with open(source, "rb") as file, _partial(target.parent) as (sink, path):
                copied = hashlib.sha256()
                while chunk := file.read(_CHUNK):
                    copied.update(chunk)
                    sink.write(chunk)
                if copied.hexdigest() != digest:
                    raise DataError(f"{source} changed while it was read; send it again")
                sink.flush()
                os.fsync(sink.fileno())
                os.chmod(path, 0o444)
                os.replace(path, target)
            _sync_folder(target.parent)
        except OSError as error:
            raise DataError(f"{source} cannot be kept as {target}: {error.strerror}") from None


def digest(path: Path) -> str:
    """SHA-256 of a file. Raises `DataError` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _partial(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file to write and rename; this process has a lock on it, which ends with the process, however that ends."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        path = Path(name)
        with contextlib.suppress(FileNotFoundError):  # a sweep may come between making and locking
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                break
        os.close(descriptor)
    try:
        with open(descriptor, "wb") as file:
            yield file, path
    finally:
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_PARTIAL}*"):
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):  # being written; gone
            continue
        except OSError as error:
            logger.warning("leftover %s cannot be removed: %s", path, error.strerror)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
