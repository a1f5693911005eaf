"""Regular files at paths that somebody named: nothing else is opened, which might block, never end, or do something."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

#: What stands at a path that is no regular file, by the type in its mode.
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def open_regular(path: Path) -> BufferedReader:
    """The regular file at a path, open for reading; a link to one will do. Raises `OSError`."""
    _check_regular(os.stat(path))
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(file))  # should it have become another meanwhile
    except OSError:
        os.close(file)
        raise
    return open(file, "rb")


def read_whole(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; a link to one will do. Raises `OSError`."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if content is None:  # files of the kernel's, such as /proc/kmsg, may have nothing yet
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit} bytes")
    return content


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file")
