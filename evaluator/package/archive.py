"""Checks a submission's ZIP, and unpacks it without trusting a byte of it.

    check(archive: Path, max_packed: int = ..., max_unpacked: int = ...) -> CheckedArchive
    unpack(archive: Path, destination: Path, max_packed: int = ..., max_unpacked: int = ...) -> None
    read_files(archive: Path, paths: Collection[str], max_bytes: int, findings: Findings, ...) -> dict[str, bytes]

All raise `SubmissionError` (BAD_ZIP or BAD_METADATA) with all findings at once, and `DataError` where the path is no
file that can be read. `check` writes nothing; it looks at metadata.json and the entrypoint too, which `unpack` does
not.
"""

import contextlib
import os
import posixpath
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluator.core import limits
from evaluator.core.errors import (
    MAX_FINDINGS,
    DataError,
    EvaluatorError,
    Findings,
    RuleBroken,
    SubmissionError,
    show,
)
from evaluator.core.files import file_size
from evaluator.core.verdict import BAD_METADATA, BAD_ZIP
from evaluator.package import metadata, rules
from evaluator.package.folder import check_names, create_file, make_folders, whole_or_empty
from evaluator.package.metadata import Metadata
from evaluator.package.zip_format import ZipEntry, read_content, read_entries

VERIFIED_BYTES = 200 * 10**6  # packed and unpacked: as much as `check` unpacks, in memory, within about two seconds


@dataclass(frozen=True)
class CheckedArchive:
    """What a good archive is. Sizes in bytes; `verified` of the `files` were read to their end and have their CRC-32;
    `unpack` reads them all.
    """

    packed: int
    unpacked: int
    files: int
    verified: int
    metadata: Metadata


def check(
    archive: Path, max_packed: int = limits.MAX_ARCHIVE_BYTES, max_unpacked: int = limits.MAX_UNPACKED_BYTES
) -> CheckedArchive:
    """Check an archive, its metadata.json and that the entrypoint's script is there, without unpacking to disk.

    Names, sizes and headers of all entries are checked; contents of the smallest files, as far as `VERIFIED_BYTES`
    go. An archive inside is a file like any other and is not opened.
    """
    findings = Findings()
    with _open(archive) as file:
        entries, _, complete = _survey(file, archive.name, max_packed, max_unpacked, findings)
        files = [entry for entry in entries if not entry.is_folder]
        verified = 0 if findings else _verify(file, entries, findings)
        try:
            facts = _read_metadata(file, files)
        except SubmissionError as error:
            if not findings:
                raise
            if complete:  # else the file that is missed may be one that could not be read
                faults = [*error.findings, *findings.kept][:MAX_FINDINGS]
                raise SubmissionError(BAD_ZIP, faults, findings.total + error.total) from None
        if findings:
            raise SubmissionError(BAD_ZIP, findings)
        return CheckedArchive(os.fstat(file).st_size, sum(entry.size for entry in files), len(files), verified, facts)


def unpack(
    archive: Path,
    destination: Path,
    max_packed: int = limits.MAX_ARCHIVE_BYTES,
    max_unpacked: int = limits.MAX_UNPACKED_BYTES,
) -> None:
    """Unpack `archive` into the empty folder `destination`, as files of mode 0644 or 0755.

    Nothing is written before every entry was checked, and nothing is left there when it fails. Raises `EvaluatorError`
    where the disk has no room.
    """
    with _open(archive) as file:
        entries, paths = _trusted(file, archive.name, max_packed, max_unpacked)
        needed, free = sum(entry.size for entry in entries), shutil.disk_usage(destination).free
        if needed > free:
            raise EvaluatorError(f"unpacking {archive.name} needs {needed} bytes in {destination}; {free} are free")
        with whole_or_empty(destination):
            make_folders(destination, (path for path, is_folder in paths.items() if is_folder))
            for entry in entries:
                _extract(file, entry, destination)


def read_files(
    archive: Path,
    paths: Collection[str],
    max_bytes: int,
    findings: Findings,
    max_packed: int = limits.MAX_ARCHIVE_BYTES,
    max_unpacked: int = limits.MAX_UNPACKED_BYTES,
) -> dict[str, bytes]:
    """The contents of those of `paths` that an archive has. What is larger than `max_bytes`, or broken, is added to
    `findings` instead. Raises `SubmissionError` (BAD_ZIP) where the archive's directory cannot be trusted.
    """
    contents: dict[str, bytes] = {}
    with _open(archive) as file:
        entries, _ = _trusted(file, archive.name, max_packed, max_unpacked)
        for entry in entries:
            path = posixpath.normpath(entry.name)
            if path in paths and not entry.is_folder:
                try:
                    contents[path] = _read_whole(file, entry, max_bytes)
                except RuleBroken as broken:
                    findings.add_broken(path, broken)
    return contents


def list_files(
    archive: Path, max_packed: int = limits.MAX_ARCHIVE_BYTES, max_unpacked: int = limits.MAX_UNPACKED_BYTES
) -> dict[str, int]:
    """The size in bytes of each file in an archive, by path. Raises `SubmissionError` (BAD_ZIP) where its directory
    cannot be trusted.
    """
    with _open(archive) as file:
        entries, _ = _trusted(file, archive.name, max_packed, max_unpacked)
    return {posixpath.normpath(entry.name): entry.size for entry in entries if not entry.is_folder}


@contextlib.contextmanager
def _open(archive: Path) -> Iterator[int]:
    """The archive's descriptor: what was checked is what is unpacked, whatever the path leads to by then."""
    try:
        file = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a FIFO must not block
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise DataError(f"{archive} is not a file; give a submission's ZIP")
        yield file
    finally:
        os.close(file)


def _trusted(file: int, name: str, max_packed: int, max_unpacked: int) -> tuple[list[ZipEntry], dict[str, bool]]:
    """The entries and the paths that they make, as `_survey`. Raises `SubmissionError` (BAD_ZIP) for any fault."""
    findings = Findings()
    entries, paths, _ = _survey(file, name, max_packed, max_unpacked, findings)
    if findings:
        raise SubmissionError(BAD_ZIP, findings)
    return entries, paths


def _survey(
    file: int, name: str, max_packed: int, max_unpacked: int, findings: Findings
) -> tuple[list[ZipEntry], dict[str, bool], bool]:
    """The entries, the paths that they make (whether each is a folder) and whether these are all entries, checked
    without reading any content.
    """
    packed = os.fstat(file).st_size
    if packed > max_packed:
        findings.add(rules.packed_size(max_packed), name, f"{packed} bytes packed")
    try:
        entries, complete = read_entries(file, limits.MAX_ARCHIVE_ENTRIES, findings)
    except RuleBroken as broken:
        findings.add_broken(name, broken)
        raise SubmissionError(BAD_ZIP, findings) from None
    unpacked = sum(entry.size for entry in entries)
    if unpacked > max_unpacked:
        findings.add(rules.unpacked_size(max_unpacked), name, f"{unpacked} bytes unpacked")
    if unpacked > max(rules.RATIO_FREE_BYTES, rules.MAX_RATIO * packed):
        findings.add(rules.ARCHIVE_RATIO, name, f"{unpacked} bytes unpacked of {packed} packed, 1:{unpacked // packed}")
    for entry in entries:
        _check_kind(entry, findings)
    return entries, check_names([entry.name for entry in entries], findings), complete


def _verify(file: int, entries: list[ZipEntry], findings: Findings) -> int:
    """Read the smallest entries to their end, as far as `VERIFIED_BYTES` go; returns how many of them are files."""
    budget, verified = VERIFIED_BYTES, 0
    for entry in sorted(entries, key=lambda entry: entry.packed + entry.size):
        budget -= entry.packed + entry.size
        if budget < 0:
            break
        verified += not entry.is_folder
        try:
            for _ in read_content(file, entry):
                pass
        except RuleBroken as broken:
            findings.add_broken(_where(entry), broken)
    return verified


def _check_kind(entry: ZipEntry, findings: Findings) -> None:
    kind = stat.S_IFMT(entry.mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device, FIFO or socket"
        findings.add(rules.ENTRY_KIND, _where(entry), what)
    elif kind and (kind == stat.S_IFDIR) != entry.is_folder:
        findings.add(rules.ENTRY_CONFLICT, _where(entry), "its name and its mode differ on whether it is a folder")
    elif entry.is_folder and entry.size:
        findings.add(rules.ENTRY_CONFLICT, _where(entry), f"a folder with {entry.size} bytes of content")


def _read_metadata(file: int, files: list[ZipEntry]) -> Metadata:
    by_path = {posixpath.normpath(entry.name): entry for entry in files}
    entry = by_path.get(metadata.NAME)
    if entry is None:
        raise metadata.missing(by_path)
    try:
        content = _read_whole(file, entry, rules.MAX_METADATA_BYTES)
    except RuleBroken as broken:
        raise SubmissionError(BAD_METADATA, broken.rule.finding(metadata.NAME, broken.found)) from None
    facts = metadata.parse(content)
    findings = Findings()
    metadata.check_script(facts, {path: bool(entry.mode & 0o111) for path, entry in by_path.items()}, findings)
    if findings:
        raise SubmissionError(BAD_METADATA, findings)
    return facts


def _read_whole(file: int, entry: ZipEntry, max_bytes: int) -> bytes:
    if entry.size > max_bytes:
        raise RuleBroken(file_size(max_bytes), f"the file has {entry.size} bytes")
    return b"".join(read_content(file, entry))


def _extract(file: int, entry: ZipEntry, destination: Path) -> None:
    """Write a file. A folder is there already; its content, which must be empty, is read."""
    try:
        if entry.is_folder:
            for _ in read_content(file, entry):
                pass
            return
        with create_file(destination / entry.name, bool(entry.mode & 0o111)) as sink:
            for chunk in read_content(file, entry):
                sink.write(chunk)
    except RuleBroken as broken:
        raise SubmissionError(BAD_ZIP, broken.rule.finding(_where(entry), broken.found)) from None


def _where(entry: ZipEntry) -> str:
    return f"entry {show(entry.name)}"
