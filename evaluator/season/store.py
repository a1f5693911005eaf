"""Where the season's folder keeps what belongs to submissions and runs: ZIPs by their digest, and a folder a run; and
the same at a URL, for machines that do not have that folder.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import logging
import os
import re
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from evaluator.core import leftovers
from evaluator.core.errors import DataError
from evaluator.core.files import sha256_of

if TYPE_CHECKING:
    from evaluator.season.config import Season

logger = logging.getLogger(__name__)

# What a run leaves; log.txt is what the submission printed, output.zip what it answered, to be scored again.
OUTPUT = "output.zip"
RUN_FILES = ("scores.json", "report.html", "record.json", "log.txt", "evaluator.log", OUTPUT)
RESCORED = "rescored"  # the folder of what was scored again
PARTIAL = "incoming-"  # begins the names of files that are being written

_CHUNK = 1 << 20


class Damaged(DataError):
    """What is kept under a digest has another one."""


class Store:
    """Below `root`: submissions/<digest>.zip, runs/<number>/ and rescored/<what they were scored with>/<number>/."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def archive(self, digest: str) -> Path:
        """A stored ZIP's path."""
        return self._root / _archive(digest)

    def size(self, digest: str) -> int | None:
        """Bytes of a stored ZIP; None where it is not there."""
        try:
            return self.archive(digest).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, digest: str) -> IO[bytes]:
        """A stored ZIP, to read. Raises OSError."""
        return open(self.archive(digest), "rb")

    def run(self, run: int) -> Path:
        """The folder of a run's `RUN_FILES`."""
        return self._root / _run(run)

    def rescored(self, run: int, data_digest: str, labels: Sequence[str], evaluator: str | None) -> Path:
        """The folder of a run's scores.json and report.html as it was scored again: on these data, with these labels
        and this code.
        """
        key = hashlib.sha256(json.dumps([data_digest, list(labels), evaluator]).encode()).hexdigest()
        return self._root / RESCORED / key[:16] / str(run)

    def clear(self, run: int) -> None:
        """Remove a run's files: another run of this number may have left some, before the database began anew."""
        for name in RUN_FILES:
            (self.run(run) / name).unlink(missing_ok=True)

    def remove_output(self, run: int) -> bool:
        """Remove what a run answered; False where it is not there."""
        try:
            (self.run(run) / OUTPUT).unlink()
        except FileNotFoundError:
            return False
        return True

    def add(self, source: Path, digest: str) -> None:
        """Keep a copy of `source`, on disk when this returns; what is there already stays. What copies that were killed
        left is removed.

        Raises `DataError` where the file is not (any more) that of `digest`, or cannot be copied.
        """
        target = self.archive(digest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            sweep(target.parent)
            if target.exists():
                return
            with open(source, "rb") as file, partial(target.parent) as (sink, path):
                if _copy(file, sink) != digest:
                    raise DataError(f"{source} changed while it was read; send it again")
                sink.flush()
                os.fsync(sink.fileno())
                os.chmod(path, 0o444)
                os.replace(path, target)
            _sync_folder(target.parent)
        except OSError as error:
            raise DataError(f"{source} cannot be kept as {target}: {error.strerror}") from None

    def take(self, received: Path, digest: str) -> None:
        """Keep `received`, whose SHA-256 was computed as it came, without another copy of it where the file systems
        are the same: on disk, and away from its old place, when this returns. What is there already stays. Again, after
        a kill, is no error.

        Raises `DataError` where it cannot be kept.
        """
        target = self.archive(digest)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                descriptor = os.open(received, os.O_RDONLY)
                try:
                    os.fchmod(descriptor, 0o444)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.rename(received, target)
            _sync_folder(target.parent)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise DataError(f"{received} cannot be kept as {target}: {error.strerror}") from None
            self.add(received, digest)
        received.unlink(missing_ok=True)


class Shared:
    """What machines of a cluster have in common, at fsspec's `url`, which may be a folder's path: the layout of a
    `Store`, and bundles/<digest>.tar with test sets and encoders.

    s3:// is read and written by pyarrow, which takes the endpoint and the region from the URL
    (`?endpoint_override=host:port&scheme=http&region=...`), keys from the environment.

    Raises `DataError` for a URL that cannot be used; the methods raise OSError where the storage fails.
    """

    def __init__(self, url: str) -> None:
        self.shown = re.sub("//[^/@]*@", "//", url.partition("?")[0])  # keys may stand in both
        try:
            self._files, self._root = _filesystem(url)
        except (ValueError, ImportError, OSError) as error:
            raise DataError(f"[storage] url {self.shown}: {error}") from None
        self._is_folder = "file" in self._files.protocol

    def add(self, source: Path, digest: str) -> None:
        """As `Store.add`."""
        if self._is_folder:
            return Store(Path(self._root)).add(source, digest)
        target = self._path(_archive(digest))
        try:
            # An upload that was cut off may have left an object that is shorter.
            if self._size(target) == source.stat().st_size:
                return
            with open(source, "rb") as file, self._writing(target) as sink:
                copied = _copy(file, sink)
            if copied != digest:
                self._files.rm_file(target)
                raise DataError(f"{source} changed while it was read; send it again")
        except OSError as error:
            raise DataError(f"{source} cannot be kept in {self.shown}: {error}") from None

    def take(self, received: Path, digest: str) -> None:
        """As `Store.take`."""
        if self._is_folder:
            return Store(Path(self._root)).take(received, digest)
        if received.exists():  # or it was sent whole, by a call that was killed before it returned
            self.add(received, digest)
            received.unlink(missing_ok=True)
        elif self.size(digest) is None:
            raise DataError(f"{received} cannot be kept in {self.shown}: it does not exist")

    def size(self, digest: str) -> int | None:
        """As `Store.size`."""
        return self._size(self._path(_archive(digest)))

    def open(self, digest: str) -> IO[bytes]:
        """As `Store.open`."""
        file: IO[bytes] = self._files.open(self._path(_archive(digest)), "rb")
        return file

    def fetch(self, digest: str, target: Path) -> None:
        """Copy the ZIP of `digest` to `target`. Raises `Damaged` where its bytes are others by now."""
        source = self._path(_archive(digest))
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._files.open(source, "rb") as file, open(target, "wb") as sink:
            copied = _copy(file, sink)
        if copied != digest:
            raise Damaged(f"{source} is not the ZIP that was sent any more: its SHA-256 is {copied}")

    def publish(self, path: Path) -> str:
        """Keep a copy of a file, or of a folder with all that is in it, as a tar; returns the digest to `unpack` it
        by. The same content has the same digest, and is kept once; what is there by now is read, and replaced where it
        is damaged.
        """
        counted = _Digest()
        _pack(path, counted)
        digest, target = counted.digest.hexdigest(), self._path(_bundle(counted.digest.hexdigest()))
        if self._size(target) != counted.size or self._digest(target) != digest:
            with self._writing(target) as sink:
                _pack(path, again := _Digest(sink))
            if again.digest.hexdigest() != digest:
                self._files.rm_file(target)
                raise DataError(f"{path} changed while it was read")
        return digest

    def unpack(self, digest: str, cache: Path, folder: Path) -> None:
        """Unpack what was published, by its own name, into `folder`. The tar is kept in `cache`.

        Raises `Damaged` where its bytes are others than those of `digest`; then it is not kept.
        """
        cached = cache / Path(_bundle(digest)).name
        if not cached.exists():
            cache.mkdir(parents=True, exist_ok=True)
            sweep(cache)
            with self._files.open(self._path(_bundle(digest)), "rb") as file, partial(cache) as (sink, path):
                _copy(file, sink)
                sink.flush()
                os.replace(path, cached)
        folder.mkdir(parents=True, exist_ok=True)
        with open(cached, "rb") as file:
            source = _Digest(file)
            with contextlib.suppress(tarfile.TarError):  # the digest tells
                with tarfile.open(fileobj=source, mode="r|") as tar:  # type: ignore[call-overload]
                    _unpack(tar, folder)
            while source.read(_CHUNK):
                pass
        if source.digest.hexdigest() != digest:
            cached.unlink()
            raise Damaged(f"{self._path(_bundle(digest))} has the SHA-256 {source.digest.hexdigest()}")

    def send(self, run: int, path: Path) -> None:
        """Keep one of a run's files, in place of what was there."""
        with open(path, "rb") as file, self._writing(self._path(f"{_run(run)}/{path.name}")) as sink:
            _copy(file, sink)

    def clear(self, run: int) -> None:
        """As `Store.clear`."""
        for name in RUN_FILES:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(f"{_run(run)}/{name}"))

    def remove_output(self, run: int) -> bool:
        """As `Store.remove_output`."""
        try:
            self._files.rm_file(self._path(f"{_run(run)}/{OUTPUT}"))
        except FileNotFoundError:
            return False
        return True

    def bring(self, run: int, folder: Path) -> None:
        """Copy all of a run's files that there are into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in RUN_FILES:
            with (
                contextlib.suppress(FileNotFoundError),
                self._files.open(self._path(f"{_run(run)}/{name}"), "rb") as file,
                partial(folder) as (sink, path),
            ):
                _copy(file, sink)
                sink.flush()
                os.chmod(path, 0o644)
                os.replace(path, folder / name)

    def read(self, run: int, name: str) -> bytes | None:
        """One of a run's files; None where it is not there."""
        try:
            with self._files.open(self._path(f"{_run(run)}/{name}"), "rb") as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _size(self, path: str) -> int | None:
        try:
            size: int = self._files.info(path)["size"]
            return size
        except FileNotFoundError:
            return None

    def _digest(self, path: str) -> str:
        with self._files.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @contextlib.contextmanager
    def _writing(self, path: str) -> Iterator[IO[bytes]]:
        """Write a file that others see when it is whole: an object is made when it is closed."""
        if not self._is_folder:
            sink = self._files.open(path, "wb")
            try:
                yield sink
            except BaseException:
                # Closing is the only way to end it, and makes an object of what there is so far.
                with contextlib.suppress(Exception):
                    sink.close()
                with contextlib.suppress(Exception):
                    self._files.rm_file(path)
                raise
            sink.close()
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        with partial(target.parent) as (sink, written):
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
            os.chmod(written, 0o644)
            os.replace(written, target)


def open_store(season: "Season") -> Store | Shared:
    """Where the season's ZIPs are kept."""
    return Store(season.folder) if season.storage is None else Shared(season.storage)


def open_shared(season: "Season") -> Shared:
    """What all machines reach: the place that season.toml names, or else the season's folder, on a shared disk."""
    return Shared(season.storage or str(season.folder))


def remove_outputs(season: "Season", runs: Iterable[int]) -> int:
    """Remove what these runs answered, wherever the season keeps it; returns of how many there was something.

    Raises `DataError` for a storage that cannot be used, OSError where it fails.
    """
    places: list[Store | Shared] = [Store(season.folder)]
    if season.storage is not None:
        places.append(Shared(season.storage))
    return sum(any([place.remove_output(run) for place in places]) for run in runs)


@contextlib.contextmanager
def local_archive(store: Store | Shared, sent: str) -> Iterator[Path]:
    """The stored ZIP of the digest `sent` as a file of this machine, for as long as it is needed.

    Raises `Damaged` where its bytes are others by now, `DataError` or OSError where it cannot be read.
    """
    if isinstance(store, Store):
        path = store.archive(sent)
        if (found := digest(path)) != sent:
            raise Damaged(f"{path} is not the ZIP that was sent any more: its SHA-256 is {found}")
        yield path
        return
    with leftovers.private_folder("zip") as folder:  # a kill must not leave what fills the disk
        path = folder / "submission.zip"
        store.fetch(sent, path)
        yield path


def digest(path: Path) -> str:
    """SHA-256 of a file. Raises `DataError` where it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _archive(digest: str) -> str:
    return f"submissions/{digest}.zip"


def _run(run: int) -> str:
    return f"runs/{run}"


def _bundle(digest: str) -> str:
    return f"bundles/{digest}.tar"


def _filesystem(url: str) -> tuple[Any, str]:
    import fsspec.core

    if url.startswith("s3://"):  # by a package that is here anyway; s3fs would want an older python-dateutil
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FileSystem

        files, root = FileSystem.from_uri(url)
        return ArrowFSWrapper(files), root
    found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    return found


class _Digest:
    """A file that is read or written through, if there is one, and the SHA-256 and size of what went by."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> int:
        if self._file is not None:
            self._file.write(chunk)
        self._count(chunk)
        return len(chunk)

    def read(self, size: int) -> bytes:
        chunk = self._file.read(size) if self._file is not None else b""
        self._count(chunk)
        return chunk

    def _count(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)


def _pack(path: Path, sink: _Digest) -> None:
    """Write a tar that depends on names and contents alone. Links are followed."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() else 0o644
        return entry

    try:
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, dereference=True) as tar:  # type: ignore[call-overload]
            tar.add(path, path.name, filter=plain)  # a folder's entries in the order of their names
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}") from None


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """Write what `_pack` packed into a folder. Raises TarError at an entry that it never packs: a link, a device, or a
    path that leads out of the folder.
    """
    # Python before 3.11.4, Debian 12's, has no filters: there the check below does their work.
    tar.extraction_filter = getattr(tarfile, "data_filter", lambda entry, path: entry)
    for entry in tar:
        path = PurePosixPath(entry.name)
        if not (entry.isfile() or entry.isdir()) or path.is_absolute() or ".." in path.parts:
            raise tarfile.TarError(f"{entry.name!r} is no plain file or folder")
        tar.extract(entry, folder)


def _copy(file: IO[bytes], sink: IO[bytes]) -> str:
    """Copy all of a file; returns its SHA-256."""
    copied = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        copied.update(chunk)
        sink.write(chunk)
    return copied.hexdigest()


@contextlib.contextmanager
def partial(folder: Path, prefix: str = PARTIAL) -> Iterator[tuple[IO[bytes], Path]]:
    """A new file to write and rename; this process has a lock on it, which ends with the process, however that ends, so
    that `sweep` knows one that was left.
    """
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=folder)
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


def sweep(folder: Path, prefix: str = PARTIAL) -> None:
    """Remove what `partial` has left in a folder of processes that were killed. What cannot be removed is logged."""
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        try:
            # For writing, as NFS wants it for this lock; what was left just before its renaming may be read-only.
            with open(path, "r+b" if os.access(path, os.W_OK) else "rb") as file:
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
