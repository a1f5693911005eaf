"""Private temporary folders that a `kill -9` cannot leave behind for good: the next run removes them.

Use::

    with leftovers.private_folder("run") as path:  # sweeps first, then makes /tmp/fbc2-evaluator-run-k3x9_a1b, mode 700
        ...
    leftovers.sweep("run")  # only the first half: remove what dead processes left, e.g. at the start of a command

A folder is in use as long as the process that made it holds an flock on the folder itself. The kernel drops the lock
with the process, however that ends, so a folder whose lock can be taken is dead: process ids, which come back, and
start times, which containers do not share, are not needed. The lock is on the folder, not on a file inside, so its
content may be anything, and may be mounted or handed to a program of another user.

Only folders of this very name, made by this user, in this temporary folder (`tempfile.gettempdir()`) are ever touched.
"""

import contextlib
import errno
import fcntl
import itertools
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_NAME = "fbc2-evaluator-"
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivateFolder:
    """A new, empty, locked folder (`path`, mode 700) that exists until `remove`, or until its process has ended and
    somebody sweeps. For one that ends with a block there is `private_folder`.

    `prefix` says what it is for, in lower-case letters and digits, such as "run". The lock is not inherited by programs
    that are started; a forked copy of this process holds it too, and its `remove` does nothing.
    """

    def __init__(self, prefix: str) -> None:
        _check_prefix(prefix)
        self._owner = os.getpid()
        lock = None
        while lock is None:  # a sweep may come between making and locking
            self.path = Path(tempfile.mkdtemp(prefix=f"{_NAME}{prefix}-"))
            lock = _lock(self.path, wait=True)
        self._lock: int | None = lock

    def remove(self) -> None:
        """Remove the folder with all that is in it; again is no error. What cannot be removed is logged."""
        if self._lock is None or os.getpid() != self._owner:
            return
        lock, self._lock = self._lock, None
        try:
            _remove(self.path, lock)
        finally:
            os.close(lock)


@contextlib.contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A `PrivateFolder`'s path, for the length of a block; leftovers of the same prefix are swept first."""
    sweep(prefix)
    folder = PrivateFolder(prefix)
    try:
        yield folder.path
    finally:
        folder.remove()


def sweep(prefix: str) -> list[Path]:
    """Remove the folders of `prefix` whose processes are dead; returns their paths. Folders in use, other users' and
    whatever else has such a name stay. What cannot be removed is logged, and is no reason to fail.
    """
    _check_prefix(prefix)
    name = re.compile(re.escape(f"{_NAME}{prefix}-") + "[a-z0-9_]{8}")  # as mkdtemp makes them
    parent = Path(tempfile.gettempdir())
    swept = []
    for path in sorted(parent / found for found in os.listdir(parent) if name.fullmatch(found)):
        try:
            lock = _lock(path, wait=False)
        except OSError as error:
            logger.warning("leftover %s cannot be opened: %s", path, error.strerror)
            continue
        if lock is None:
            continue
        try:
            if os.fstat(lock).st_uid == os.geteuid() and _remove(path, lock):
                swept.append(path)
        finally:
            os.close(lock)
    return swept


def _check_prefix(prefix: str) -> None:
    if not re.fullmatch("[a-z0-9]+", prefix):  # with a '-', one prefix's folders could be taken for another's
        raise ValueError(f"prefix {prefix!r} must be lower-case letters and digits")


def _lock(path: Path, wait: bool) -> int | None:
    """A descriptor of the folder with its lock taken; None where it is in use, or is not there (any more).

    Raises OSError.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):  # a link or a file of such a name is none of ours
            return None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):  # in use; or somebody removed it between opening and locking
        pass
    except OSError:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _remove(path: Path, descriptor: int) -> bool:
    """Remove the locked folder `path`, open as `descriptor`; False, with a warning, where something stays."""
    try:
        _empty(descriptor)
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("leftover %s cannot be removed: %s", path, error)
        return False
    return True


def _empty(top: int) -> None:
    """Remove all that is in the open folder `top`, without following a link.

    Not shutil.rmtree: a program may leave folders of mode 000, or so deep that paths become too long and recursion and
    open files run out. Here a folder's inner folders are first moved up into `top`, so that depth never matters.
    """
    os.fchmod(top, 0o700)
    counter = itertools.count()
    taken = set(os.listdir(top))
    waiting = list(taken)
    while waiting:
        name = waiting.pop()
        if not _is_folder(name, top):
            continue
        inner = os.open(name, _OPEN, dir_fd=top)
        try:
            for child in os.listdir(inner):
                if _is_folder(child, inner):
                    moved = next(new for number in counter if (new := f"moved-{number}") not in taken)
                    os.rename(child, moved, src_dir_fd=inner, dst_dir_fd=top)
                    waiting.append(moved)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)


def _is_folder(name: str, parent: int) -> bool:
    """Whether `name` is a folder, which then can be entered and moved; anything else is removed, and a name that is
    not there is no folder.
    """
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        with contextlib.suppress(PermissionError):  # another user's: what follows says whether it matters
            os.chmod(name, 0o700, dir_fd=parent)
        return True
    except FileNotFoundError:
        pass
    return False
