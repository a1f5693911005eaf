"""A submission's folder, seen as the archive that it becomes: which files count, what their names must keep.

A folder that is run and a folder that is packed are the same files, so that what was tested is what is sent.
"""

import contextlib
import os
import shutil
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from evaluator.core import limits
from evaluator.core.errors import EvaluatorError, Findings, RuleBroken, SubmissionError, show
from evaluator.core.files import read_regular
from evaluator.core.verdict import BAD_ZIP
from evaluator.package import rules
from evaluator.package.ignore import Patterns

IGNORE_FILE = ".submissionignore"  # patterns as in .gitignore, read after LEFT_OUT: `!/training/` brings it back
LEFT_OUT = (
    f"/{IGNORE_FILE}",
    "/training/",  # what made the weights
    "/finetune.py",
    "/benchmark/",
    "/output/",  # answers must come from the run itself
    *("__pycache__/", "*.py[co]", ".ipynb_checkpoints/", ".pytest_cache/", ".mypy_cache/", ".ruff_cache/"),
    *(".hypothesis/", ".venv/", ".git", ".gitignore", ".gitattributes", ".hg/", ".svn/"),
    *(".DS_Store", "._*", "__MACOSX/", "Thumbs.db", "desktop.ini", ".idea/", ".vscode/", "*.sw[op]", "*~", ".#*"),
)
MAX_IGNORE_BYTES, MAX_IGNORE_PATTERNS = 10_000, 500  # each is tried on each path
CHUNK_BYTES = 2**20
_JOINER = "\N{ZERO WIDTH JOINER}"  # joins emoji, and is no printable character


@dataclass
class Listing:
    """Paths relative to the folder, with '/' between their parts; `folders` has no '/' at the end, `left_out` has."""

    sizes: dict[str, int] = field(default_factory=dict)  # of each file, in bytes
    executable: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def list_folder(root: Path, max_bytes: int = limits.MAX_UNPACKED_BYTES) -> Listing:
    """The files of a submission's folder, sorted by their UTF-8, without what `LEFT_OUT` and its own
    `.submissionignore` name.

    Links are refused, not followed: one may lead to files that were never meant to be sent, or that change from one
    packing to the next. Raises `SubmissionError` (BAD_ZIP) with all findings.
    """
    findings = Findings()
    ignored = _patterns(root)
    listing = Listing()
    todo = [""]
    while todo:
        prefix = todo.pop()
        try:
            with os.scandir(root / prefix) as found:
                entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
        except OSError as error:
            findings.add(rules.FILE_CHANGED, f"entry {show(prefix)}", f"cannot be listed: {error.strerror}")
            continue
        for name, status in entries:
            path = prefix + name
            is_folder = stat.S_ISDIR(status.st_mode)
            written = path + "/" if is_folder else path
            if ignored.match(written):
                listing.left_out.append(written)
            elif is_folder:
                listing.folders.append(path)
                todo.append(written)
            elif stat.S_ISREG(status.st_mode):
                listing.sizes[path] = status.st_size
                if status.st_mode & stat.S_IXUSR:
                    listing.executable.add(path)
            else:
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "a device, FIFO or socket"
                findings.add(rules.ENTRY_KIND, f"entry {show(path)}", kind)
        if len(listing.sizes) + len(listing.folders) > limits.MAX_ARCHIVE_ENTRIES:
            break  # check_names says so
    check_names([*listing.sizes, *(f"{path}/" for path in listing.folders)], findings)
    total = sum(listing.sizes.values())
    if total > max_bytes:
        findings.add(rules.unpacked_size(max_bytes), root.name, f"{total} bytes unpacked")
    if findings:
        raise SubmissionError(BAD_ZIP, findings)
    listing.sizes = {path: listing.sizes[path] for path in sorted(listing.sizes, key=str.encode)}
    listing.folders.sort(key=str.encode)
    listing.left_out.sort()
    return listing


def read_file(root: Path, path: str, size: int) -> Iterator[bytes]:
    """The `size` bytes of a listed file, in chunks. Each part of the path is opened in the folder opened before, never
    through a link, so that what is swapped meanwhile cannot lead out of `root`.

    Raises `SubmissionError` (BAD_ZIP) where the file is no longer what was listed.
    """
    where = f"entry {show(path)}"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *parents, name = path.split("/")
        for parent in parents:
            inner = os.open(parent, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A FIFO in its place must not block.
        source = open(os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=folder), "rb", buffering=0)
    except OSError as error:
        raise SubmissionError(
            BAD_ZIP, rules.FILE_CHANGED.finding(where, f"cannot be opened: {error.strerror}")
        ) from None
    finally:
        os.close(folder)
    with source:
        regular = stat.S_ISREG(os.fstat(source.fileno()).st_mode)
        left = size
        while regular and left and (chunk := source.read(min(left, CHUNK_BYTES))):
            left -= len(chunk)
            yield chunk
        if not regular or left or source.read(1):
            raise SubmissionError(BAD_ZIP, rules.FILE_CHANGED.finding(where, f"is no longer a file of {size} bytes"))


def copy_folder(source: Path, destination: Path, max_bytes: int = limits.MAX_UNPACKED_BYTES) -> None:
    """Copy a submission's folder into the empty folder `destination` as if it had been zipped and unpacked.

    Nothing is left there when it fails. Raises `SubmissionError` (BAD_ZIP) with all findings.
    """
    listing = list_folder(source, max_bytes)
    with whole_or_empty(destination):
        make_folders(destination, listing.folders)
        for path, size in listing.sizes.items():
            with create_file(destination / path, path in listing.executable) as sink:
                for chunk in read_file(source, path, size):
                    sink.write(chunk)


@contextlib.contextmanager
def whole_or_empty(folder: Path) -> Iterator[None]:
    """Empties a folder that is filled inside of this context, should that fail or be interrupted.

    Raises `EvaluatorError` where anything is in it before.
    """
    if any(folder.iterdir()):
        raise EvaluatorError(f"{folder}, where a submission is to be put, is not empty")
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        raise


def make_folders(root: Path, folders: Iterable[str]) -> None:
    """Make new folders below `root`, for all to enter whatever the umask."""
    for folder in sorted(folders):  # a folder sorts before what it holds
        os.mkdir(root / folder)
        os.chmod(root / folder, 0o755)


def create_file(path: Path, executable: bool) -> BinaryIO:
    """A new file, open for writing, that all may read whatever the umask. Raises `OSError` where anything is there,
    a link included.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.fchmod(file, 0o755 if executable else 0o644)
    return open(file, "wb", buffering=0)


def check_names(names: Iterable[str], findings: Findings) -> dict[str, bool]:
    """Check the names of an archive's entries, a folder's with '/' at its end, alone and against each other.

    Returns each path that they make, whether it is a folder; the folders that a name implies are among them. What it
    returns is of use only where there are no findings.
    """
    paths: dict[str, bool] = {}
    for name in names:
        where = f"entry {show(name)}"
        try:
            path = _path(name)
        except RuleBroken as broken:
            findings.add_broken(where, broken)
            continue
        is_folder = name.endswith("/")
        if paths.get(path, is_folder) != is_folder:
            findings.add(rules.ENTRY_CONFLICT, where, "is the name of a file and of a folder")
        elif path in paths:
            findings.add(rules.ENTRY_DUPLICATE, where, "occurs twice")
        paths.setdefault(path, is_folder)
    for path, is_folder in paths.items():
        if not is_folder and path.lower() in rules.RESERVED_NAMES:
            findings.add(rules.ENTRY_RESERVED, f"entry {show(path)}", "is a file")
    implied: set[str] = set()
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent and parent not in implied:  # the folders above one that is known are known
            implied.add(parent)
            if paths.get(parent) is False:
                findings.add(rules.ENTRY_CONFLICT, f"entry {show(path)}", f"lies below {show(parent)}, which is a file")
            parent = parent.rpartition("/")[0]
        if len(implied) > limits.MAX_ARCHIVE_ENTRIES:
            break
    for parent in implied:
        paths.setdefault(parent, True)
    if len(paths) > limits.MAX_ARCHIVE_ENTRIES:
        rule = rules.entry_count(limits.MAX_ARCHIVE_ENTRIES)
        findings.add(rule, "", f"more than {limits.MAX_ARCHIVE_ENTRIES} files and folders")
    else:
        _check_collisions(paths, findings)
    return paths


def _path(name: str) -> str:
    """The path that a name means, without '.' and doubled '/'; raises `RuleBroken`."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    try:
        encoded = name.encode()
    except UnicodeEncodeError as error:
        raise RuleBroken(rules.ENTRY_ENCODING, f"character {error.start} of the name is not UTF-8") from None
    if not parts:
        raise RuleBroken(rules.ENTRY_PATH, "the name is empty")
    if "\\" in name or not name.replace(_JOINER, "").isprintable():
        raise RuleBroken(rules.ENTRY_PATH, "the name has a character that is not allowed")
    if name.startswith("/") or parts[0][1:2] == ":":
        raise RuleBroken(rules.ENTRY_PATH, "the path is absolute")
    if ".." in parts:
        raise RuleBroken(rules.ENTRY_PATH, "the path has '..'")
    longest = max(len(part.encode()) for part in parts)
    if longest > rules.MAX_PART_BYTES or len(encoded) > rules.MAX_NAME_BYTES:
        raise RuleBroken(
            rules.ENTRY_NAME_LENGTH, f"the name is too long: {longest} bytes in a part, {len(encoded)} in all"
        )
    if len(parts) > rules.MAX_DEPTH:
        raise RuleBroken(rules.ENTRY_DEPTH, f"{len(parts)} names in the path")
    return "/".join(parts)


def _check_collisions(paths: Iterable[str], findings: Findings) -> None:
    """Names in one folder that a file system may take for one: macOS and Windows look at neither case nor form."""
    seen: dict[tuple[str, str], str] = {}
    for path in sorted(paths):
        parent, _, name = path.rpartition("/")
        folded = name.lower() if name.isascii() else _fold(name)
        other = seen.setdefault((parent, folded), path)
        if other != path:
            findings.add(
                rules.ENTRY_COLLISION, f"entry {show(path)}", f"differs from {show(other)} in case or form alone"
            )


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _patterns(root: Path) -> Patterns:
    """What stays out of `root`'s archive. Raises `SubmissionError` (BAD_ZIP) for an ignore file that cannot be read."""
    lines: list[str] = []
    try:
        if os.path.lexists(root / IGNORE_FILE):
            lines = read_regular(root, IGNORE_FILE, MAX_IGNORE_BYTES).decode("utf-8-sig").splitlines()
        patterns = Patterns(LEFT_OUT)
        for number, line in enumerate(lines, 1):
            try:
                patterns.add(line)
            except ValueError as error:
                raise RuleBroken(rules.SUBMISSION_IGNORE, f"line {number}: {error}") from None
        if len(patterns) > MAX_IGNORE_PATTERNS + len(LEFT_OUT):
            raise RuleBroken(rules.SUBMISSION_IGNORE, f"{len(patterns) - len(LEFT_OUT)} patterns")
    except UnicodeDecodeError as error:
        found = f"not UTF-8 at byte {error.start}"
        raise SubmissionError(BAD_ZIP, rules.SUBMISSION_IGNORE.finding(IGNORE_FILE, found)) from None
    except RuleBroken as broken:
        raise SubmissionError(BAD_ZIP, rules.SUBMISSION_IGNORE.finding(IGNORE_FILE, broken.found)) from None
    return patterns
