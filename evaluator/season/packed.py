"""Many files in one that can be checked: a tar, written and read as a stream, whose last entry has the SHA-256 of all
others, as `sha256sum --check` reads it.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import IO

from evaluator.core.errors import DataError, show

SUMS = "SHA256SUMS"
_CHUNK = 1 << 20
_MAX_SUMS_BYTES = 10**9
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class Writer:
    """Packs into `sink` what is added; `seal` ends it. `progress` gets the number of bytes of each piece."""

    def __init__(self, sink: IO[bytes], progress: Callable[[int], None]) -> None:
        self._tar = tarfile.open(  # type: ignore[call-overload]
            fileobj=sink, mode="w|", bufsize=_CHUNK, format=tarfile.PAX_FORMAT, copybufsize=_CHUNK
        )
        self._progress = progress
        self._digests: dict[str, str] = {}

    def add(self, name: str, file: IO[bytes], size: int, mode: int = 0o644) -> str:
        """Pack the next `size` bytes of a file, as `name`; returns their SHA-256.

        Raises `DataError` where there are fewer, or where it is no name that can be packed.
        """
        if not is_plain(name) or name == SUMS or name in self._digests:
            raise DataError(f"{show(name)} cannot be packed: a path's characters must be printable, and no backslash")
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, mode
        counted = Counted(file, self._progress)
        try:
            self._tar.addfile(entry, counted)
        except OSError as error:
            if counted.size < size and error.errno is None:  # tarfile's own, of a file that became shorter
                raise DataError(f"{name} changed while it was read: {counted.size} bytes instead of {size}") from None
            raise
        self._digests[name] = counted.digest.hexdigest()
        return self._digests[name]

    def add_bytes(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Pack these bytes as `name`."""
        self.add(name, io.BytesIO(content), len(content), mode)

    def seal(self) -> None:
        """Write the digests, and the end."""
        sums = "".join(f"{digest}  {name}\n" for name, digest in self._digests.items()).encode()
        entry = tarfile.TarInfo(SUMS)
        entry.size = len(sums)
        self._tar.addfile(entry, io.BytesIO(sums))
        self._tar.close()


class Counted:
    """A file that is read through, and the SHA-256 and size of what went by; `shown` names what it is a part of."""

    def __init__(self, file: IO[bytes], progress: Callable[[int], None] = lambda size: None, shown: str = "") -> None:
        self._file, self._progress, self._shown = file, progress, shown
        self.digest, self.size = hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises `DataError` where a tar that it is a part of is cut off."""
        try:
            chunk = self._file.read(size)
        except tarfile.ReadError as error:
            raise DataError(f"{self._shown} is damaged or cut off: {error}") from None
        self.digest.update(chunk)
        self.size += len(chunk)
        self._progress(len(chunk))
        return chunk


def entries(file: IO[bytes], shown: str) -> Iterator[tuple[tarfile.TarInfo, Counted]]:
    """Each file that was packed into `file`, by its name, and its content, to be read before the next one is asked for.
    What is given is not checked until the last one was: nothing may be done with it before the iterator has ended.

    Raises `DataError` where a byte is another than was written, one is missing, or an entry is none of `Writer`'s: a
    link, a device, a path that leads out of the folder.
    """
    found: dict[str, str] = {}
    sums: bytes | None = None
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=_CHUNK) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else None
                if content is None or entry.issparse() or not is_plain(entry.name) or entry.name in found:
                    raise DataError(f"{shown} is damaged: it has an entry {show(entry.name)} that nobody packed")
                if sums is not None:
                    raise DataError(f"{shown} is damaged: {show(entry.name)} stands after {SUMS}")
                if entry.name == SUMS:
                    sums = content.read(_MAX_SUMS_BYTES)
                    continue
                counted = Counted(content, shown=shown)
                yield entry, counted
                while counted.read(_CHUNK):
                    pass
                found[entry.name] = counted.digest.hexdigest()
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DataError(f"{shown} is damaged or cut off: {error}") from None
    if sums is None:
        raise DataError(f"{shown} is damaged or cut off: it does not end with {SUMS}")
    listed = _listed(sums, shown)
    for name in listed.keys() | found.keys():
        if found.get(name) != listed.get(name):
            raise DataError(
                f"{shown} is damaged: {name} has the SHA-256 {found.get(name)}, packed was {listed.get(name)}"
            )


def is_plain(name: str) -> bool:
    """Whether it is a path below a folder, of characters that can be seen."""
    parts = PurePosixPath(name).parts
    return name.isprintable() and "\\" not in name and ".." not in parts and name == "/".join(parts) != ""


def _listed(sums: bytes, shown: str) -> dict[str, str]:
    """The digests by name."""
    lines = [_LINE.fullmatch(line) for line in sums.decode("utf-8", "replace").split("\n")[:-1]]
    listed = {line[2]: line[1] for line in lines if line is not None}
    if len(listed) != len(lines) or not sums.endswith(b"\n"):
        raise DataError(f"{shown} is damaged: {SUMS} has lines that nobody wrote")
    return listed
