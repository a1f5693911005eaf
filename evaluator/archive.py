"""Unpacks a submission's ZIP without trusting a byte of it."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from evaluator import limits
from evaluator.errors import SubmissionError, show

_CHUNK = 1 << 20


def unpack(
    archive: Path,
    destination: Path,
    max_packed: int = limits.MAX_ARCHIVE_BYTES,
    max_unpacked: int = limits.MAX_UNPACKED_BYTES,
) -> None:
    """Unpack `archive` into the empty folder `destination`.

    Refused, each as a line of one `SubmissionError`: more than `max_packed` or `max_unpacked` bytes (declared or
    real), too many entries, absolute paths, `..`, backslashes, links and devices, encrypted entries, names that occur
    twice or are both file and folder. Nothing is written before every name has been checked.
    """
    size = archive.stat().st_size
    if size > max_packed:
        raise SubmissionError(f"{archive.name}: {size} bytes packed; at most {max_packed} are allowed")
    try:
        with zipfile.ZipFile(archive) as file:
            entries = file.infolist()
            faults = _faults(entries, max_unpacked)
            if faults:
                raise SubmissionError([f"{archive.name}: {fault}" for fault in faults])
            left = max_unpacked
            for entry in entries:
                left -= _extract(file, entry, destination, left, archive.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise SubmissionError(f"{archive.name}: not a ZIP that can be unpacked: {error}") from None
    except OSError as error:
        if error.errno is None:  # bz2 reports broken data this way
            raise SubmissionError(f"{archive.name}: not a ZIP that can be unpacked: {error}") from None
        raise


def _faults(entries: list[zipfile.ZipInfo], max_unpacked: int) -> list[str]:
    if len(entries) > limits.MAX_ARCHIVE_ENTRIES:
        return [f"{len(entries)} entries; at most {limits.MAX_ARCHIVE_ENTRIES} are allowed"]
    declared = sum(entry.file_size for entry in entries)
    faults = [f"{declared} bytes unpacked; at most {max_unpacked} are allowed"] if declared > max_unpacked else []
    kinds: dict[PurePosixPath, bool] = {}  # path: is a folder
    for entry in entries:
        # orig_filename is what the archive says; zipfile cuts `filename` at a NUL.
        name, path = entry.orig_filename, PurePosixPath(entry.orig_filename)
        mode = entry.external_attr >> 16
        if not path.parts or not name.isprintable() or "\\" in name:
            faults.append(f"entry {show(name)}: the name is empty or has a character that is not allowed")
        elif path.is_absolute() or (len(path.parts[0]) > 1 and path.parts[0][1] == ":"):
            faults.append(f"entry {show(name)}: the path is absolute")
        elif ".." in path.parts:
            faults.append(f"entry {show(name)}: the path has '..'")
        elif any(len(part.encode()) > 255 for part in path.parts) or len(name.encode()) > 2048:
            faults.append(f"entry {show(name)}: the name is too long")
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            faults.append(f"entry {show(name)}: only files and folders are allowed, no links or devices")
        elif entry.flag_bits & 0x1:
            faults.append(f"entry {show(name)}: is encrypted")
        elif path in kinds:
            faults.append(f"entry {show(name)}: occurs twice")
        else:
            kinds[path] = entry.is_dir()
    faults += [
        f"entry {show(str(path))}: lies below {show(str(parent))}, which is a file"
        for path in kinds
        for parent in path.parents
        if kinds.get(parent) is False
    ]
    return faults


def _extract(file: zipfile.ZipFile, entry: zipfile.ZipInfo, destination: Path, left: int, archive: str) -> int:
    """Write one entry of at most `left` bytes; returns its size."""
    target = destination / PurePosixPath(entry.orig_filename)
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with file.open(entry) as source, open(target, "xb") as sink:
        while chunk := source.read(min(_CHUNK, left - written + 1)):
            written += len(chunk)
            if written > left:
                raise SubmissionError(f"{archive}: unpacks to more bytes than it declares and is allowed")
            sink.write(chunk)
    target.chmod(0o755 if (entry.external_attr >> 16) & 0o111 else 0o644)
    return written


def copy_folder(source: Path, destination: Path) -> None:
    """Copy a submission's folder as if it had been zipped: the output of an earlier run, caches and version control
    stay behind.

    Raises `SubmissionError` naming every link, device or FIFO, which a ZIP could not carry either.
    """
    faults: list[str] = []

    def ignore(folder: str, names: list[str]) -> set[str]:
        skipped = {name for name in names if name in ("__pycache__", ".git")}
        if Path(folder) == source:
            skipped |= {"output"} & set(names)
        for name in set(names) - skipped:
            path = Path(folder, name)
            if not stat.S_ISREG(path.lstat().st_mode) and not stat.S_ISDIR(path.lstat().st_mode):
                faults.append(f"{path.relative_to(source)}: only files and folders are allowed, no links or devices")
                skipped.add(name)
        return skipped

    shutil.copytree(source, destination, ignore=ignore, symlinks=True, dirs_exist_ok=True)
    if faults:
        raise SubmissionError(sorted(faults))
