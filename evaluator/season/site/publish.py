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

from evaluator.core.errors import DataError

MARK = ".season-site"  # a folder that has it was written here, and may be replaced
_BUILDING, _REPLACED, _LOCK = ".building", ".replaced", ".lock"  # of hidden names beside the folder
_RENAME_EXCHANGE = 2  # linux/fs.h
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `out` at the end, at once; where filling it fails, or is killed,
    `out` stays as it is. What calls that were killed left is removed, or put back.

    Raises `DataError` where `out` is something that was not written so, or while another call is filling one for it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        _recover(out)
        _check(out)
        folder = _beside(out, _BUILDING)
        folder.mkdir()
        try:
            yield folder
            mark = "`python -m evaluator site` wrote this folder, and replaces it\n"
            (folder / MARK).write_text(mark, encoding="utf-8")
            _swap(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _check(out: Path) -> None:
    if out.exists() and not (out / MARK).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--out {out}: is neither empty nor a site of an earlier call; name a new folder")


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


def _beside(out: Path, kind: str) -> Path:
    return out.with_name(f".{out.name}.{secrets.token_hex(8)}{kind}")


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Have the lock on `out`, a file beside it, which ends with the process, however that ends. A folder itself cannot
    be locked on NFS, which wants a file that is open for writing.
    """
    path = out.with_name(f".{out.name}{_LOCK}")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DataError(f"--out {out}: another call is writing it; wait until that has ended") from None
        with contextlib.suppress(FileNotFoundError):  # whoever had it may have removed it since
            if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _swap(folder: Path, out: Path) -> None:
    """Put `folder` in the place of `out`, at once. Where the file system cannot exchange two folders, there is a moment
    without either; `_recover` puts the old one back after a kill in it.
    """
    try:
        os.rename(folder, out)  # nothing there, or an empty folder
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    if _exchange(folder, out):
        return
    old = _beside(out, _REPLACED)
    os.rename(out, old)
    try:
        os.rename(folder, out)
    except OSError:
        os.rename(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders; False where this cannot be done at once."""
    try:
        rename = _libc.renameat2
    except AttributeError:
        return False
    if rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), str(second))


def _recover(out: Path) -> None:
    """Put back an `out` that a kill took away, and remove what else calls that were killed left."""
    for kind in (_REPLACED, _BUILDING):
        for path in out.parent.glob(f".{glob.escape(out.name)}.*{kind}"):
            if kind == _REPLACED and not out.exists() and (path / MARK).is_file():
                os.rename(path, out)
            else:
                shutil.rmtree(path, ignore_errors=True)
