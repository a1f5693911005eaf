"""Folders that are replaced as a whole, so that readers never see half of one; and a secret of their own."""

import contextlib
import ctypes
import errno
import fcntl
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evaluator.errors import DataError

MARK = ".season-site"  # a folder that has it was written here, and may be replaced
_BUILDING = ".building"
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `out` at the end, at once; where filling it fails, or is killed,
    `out` stays as it is.

    Raises `DataError` where `out` is something that was not written so.
    """
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out}: is neither empty nor a site of an earlier call; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    with _building(out) as folder:
        yield folder
        (folder / MARK).write_text("`python -m evaluator site` wrote this folder, and replaces it\n", encoding="utf-8")
        _swap(folder, out)


def key(path: Path) -> bytes:
    """The secret that is kept in this file; made by whoever needs it first."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            found = path.read_bytes()
            if len(found) < 32:
                raise DataError(f"{path} is damaged; put it back, or remove it: then all teams' addresses change")
            return found
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
        finally:
            os.unlink(name)


@contextlib.contextmanager
def _building(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, which this process has a lock on as long as it lives; removed at the end, whatever
    is in it by then.
    """
    while True:
        folder = out.with_name(f".{out.name}.{secrets.token_hex(8)}{_BUILDING}")
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # a sweep may come between making and locking
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _swap(folder: Path, out: Path) -> None:
    """Put `folder` in the place of `out`, at once. Where the file system cannot exchange two folders, there is a moment
    without either.
    """
    while True:
        try:
            os.rename(folder, out)  # nothing there, or an empty folder
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _exchange(folder, out):
            return
        old = out.with_name(f".{out.name}.{secrets.token_hex(8)}{_BUILDING}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(out, old)
            os.rename(folder, out)
            shutil.rmtree(old, ignore_errors=True)
            return


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders; False where this cannot be done at once."""
    try:
        rename = _libc.renameat2
    except AttributeError:
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOENT):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _sweep(out: Path) -> None:
    """Remove what buildings that were killed left."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*{_BUILDING}"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:  # being built
            continue
        finally:
            os.close(descriptor)
