"""Packs a submission's folder into a ZIP: the same bytes from the same files, on every run.

Names are sorted by their UTF-8; times, modes and the compression level are fixed; locale, umask and the order of the
file system play no part. (Deflated bytes are those of one zlib; another build of it may pack, equally well, otherwise.)

Weights hardly shrink, and both sizes have the same limit: deflating gains 7 % of float32 and 8 % of float16 at 30 MB
a second, while storing is as fast as the disk. So files are deflated where their first MiB shrinks well, else stored.
"""

import os
import stat
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from evaluator.core import limits
from evaluator.core.errors import DataError, Findings, SubmissionError
from evaluator.core.verdict import BAD_METADATA
from evaluator.package import archive, metadata
from evaluator.package.folder import list_folder, read_file

STORED_ABOVE = 0.7  # packed to unpacked bytes of a file's first chunk, at level 1
_SMALL_BYTES = 2**16  # deflated anyhow
_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can state


@dataclass(frozen=True)
class Packed:
    """`left_out` are the paths that were not packed, folders with '/' at their end."""

    report: archive.CheckedArchive
    left_out: tuple[str, ...]


def pack(
    folder: Path,
    target: Path,
    force: bool = False,
    max_packed: int = limits.MAX_ARCHIVE_BYTES,
    max_unpacked: int = limits.MAX_UNPACKED_BYTES,
) -> Packed:
    """Pack a submission's `folder` into the ZIP `target`, which exists only once it is whole and has passed
    `archive.check`. An existing file is replaced only with `force`.

    Raises `SubmissionError` (BAD_ZIP, BAD_METADATA) with all findings, `DataError` for paths that cannot be used.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a submission's folder")
    if os.path.lexists(target) and not (force and target.is_file() and not target.is_symlink()):
        raise DataError(f"{target} exists; name another file, or replace it with --force (ARGS=--force)")
    if not target.parent.is_dir():
        raise DataError(f"{target.parent}, the folder of {target.name}, does not exist")
    if target.parent.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{target} lies inside the folder that is packed, and would be packed the next time")
    listing = list_folder(folder, max_unpacked)
    _check_metadata(folder, listing.sizes, listing.executable)
    filled = {path.rpartition("/")[0] for path in [*listing.sizes, *listing.folders]}
    names = [*listing.sizes, *(f"{path}/" for path in listing.folders if path not in filled)]
    with tempfile.TemporaryDirectory(prefix=".pack-", dir=target.parent) as aside:
        written = Path(aside, target.name)
        with zipfile.ZipFile(written, "x") as file:
            for name in sorted(names, key=str.encode):
                if name.endswith("/"):
                    file.writestr(_info(name, stat.S_IFDIR | 0o755), b"")
                else:
                    _add(file, folder, name, listing.sizes[name], name in listing.executable)
        report = archive.check(written, max_packed, max_unpacked)
        with open(written, "rb") as content:
            os.fsync(content.fileno())
        if not force and os.path.lexists(target):
            raise DataError(f"{target} appeared meanwhile; name another file")
        os.replace(written, target)
    return Packed(report, tuple(listing.left_out))


def _check_metadata(folder: Path, sizes: dict[str, int], executable: set[str]) -> None:
    """What `archive.check` would say of the finished archive, before gigabytes are packed."""
    if metadata.NAME not in sizes:
        raise metadata.missing(sizes)
    findings = Findings()
    metadata.check_script(metadata.read(folder), {path: path in executable for path in sizes}, findings)
    if findings:
        raise SubmissionError(BAD_METADATA, findings)


def _info(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _TIME)
    info.create_system = 3  # Unix, on every system
    info.external_attr = mode << 16
    return info


def _add(file: zipfile.ZipFile, folder: Path, path: str, size: int, executable: bool) -> None:
    info = _info(path, stat.S_IFREG | (0o755 if executable else 0o644))
    info.file_size = size  # zipfile chooses ZIP64 by it
    chunks = read_file(folder, path, size)
    first = next(chunks, b"")
    shrinks = size <= _SMALL_BYTES or len(zlib.compress(first, 1)) <= STORED_ABOVE * len(first)
    info.compress_type = zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED
    with file.open(info, "w") as sink:
        sink.write(first)
        for chunk in chunks:
            sink.write(chunk)
