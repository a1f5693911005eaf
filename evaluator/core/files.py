"""Reading single files of an untrusted folder: regular ones, below the folder, without a link on the way; and writing
our own, whole or not at all.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from evaluator.core import limits
from evaluator.core.errors import DataError, Rule, RuleBroken, near_name, show
from evaluator.core.regular import KINDS

OUTPUT_FOLDER = Rule(
    "output-folder", "a folder, reached without a symbolic link", "write output/ as a folder, with predictions.json"
)
FILE_MISSING = Rule("file-missing", "an existing file", "write the file, and name it as it is written, case included")
FILE_PATH = Rule(
    "file-path",
    f"a path below the folder with '/' between its parts: not empty, not absolute, no '..', no backslash, control or"
    f" other unprintable characters, at most {limits.MAX_PATH_CHARACTERS} characters",
    "name the file relative to the folder, such as images/image_0.jpg",
)
FILE_LINK = Rule("file-link", "files and folders that are no symbolic links", "copy the file in place of the link")
FILE_KIND = Rule("file-kind", "a regular file", "write a regular file: no folder, FIFO, socket or device")
FILE_UNREADABLE = Rule("file-unreadable", "a file that can be read", "check the file's permissions and name")
CONTROL_CHARACTER = Rule(
    "control-character",
    "texts without ASCII control characters (U+0000 to U+001F, U+007F) other than tab, line feed and carriage return",
    "drop these characters from the text",
)


def file_size(limit: int) -> Rule:
    """The rule for a file of at most `limit` bytes."""
    return Rule("file-size", f"at most {limit} bytes", "write a smaller file")


_NEAR_NAMES = 1000  # that are compared with one that does not exist
_FOLDERS_BELOW, _FOLDERS_LOOKED_AT = 2, 20  # how deep, and how many in a folder


def read_regular(root: Path, relative: str, limit: int, near: bool = False) -> bytes:
    """The bytes of a regular file of at most `limit` bytes below `root`. With `near` the message on one that does not
    exist names one of nearly its name, for which its folder is read.

    Each part of the path is opened in the folder opened before, never through a link, so what is swapped meanwhile
    cannot lead out of `root`. `root` itself is trusted.

    Raises `RuleBroken`.
    """
    parts = _parts(relative)
    folder, part = -1, ""
    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            _check_kind(part, folder, stat.S_IFDIR)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        part = parts[-1]
        _check_kind(part, folder, stat.S_IFREG)
        # Should it have become a FIFO since, opening it must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with open(os.open(part, flags, dir_fd=folder), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise RuleBroken(FILE_KIND, "the file is not a regular file")
            if found.st_size > limit:
                raise RuleBroken(file_size(limit), f"the file has {found.st_size} bytes")
            content = file.read(limit + 1 if found.st_size == limit else found.st_size + 1)
    except FileNotFoundError:
        other = near_name(part, _names(folder)) if near and folder >= 0 else None
        hint = f"; there is {show(other)}" if other else ""
        raise RuleBroken(FILE_MISSING, f"the file does not exist{hint}") from None
    except OSError as error:
        raise RuleBroken(FILE_UNREADABLE, f"the file cannot be read: {error.strerror}") from None
    finally:
        if folder >= 0:
            os.close(folder)
    return content


def _names(folder: int) -> list[str]:
    """Some names in an open folder."""
    try:
        with os.scandir(folder) as found:
            return [entry.name for entry in itertools.islice(found, _NEAR_NAMES)]
    except OSError:
        return []


def file_elsewhere(root: Path, name: str) -> str | None:
    """Where a file that was looked for as `name` in the folder `root`, which has none of nearly that name, may be: of
    nearly its name one or two folders below, else the one file in `root` with its ending. Of each folder the first
    `_NEAR_NAMES` are looked at.
    """
    folders = [Path(".")]
    for folder in folders:  # grows while it is gone through
        files, inner = _content(root / folder)
        if len(folder.parts) < _FOLDERS_BELOW:
            folders += [folder / below for below in inner[:_FOLDERS_LOOKED_AT]]
        if folder.parts and (found := name if name in files else near_name(name, files)):
            return (folder / found).as_posix()
    ending = os.path.splitext(name)[1]
    alike = [file for file in _content(root)[0] if os.path.splitext(file)[1] == ending]
    return alike[0] if len(alike) == 1 else None


def _content(folder: Path) -> tuple[list[str], list[str]]:
    """Names of some regular files and folders in a folder, each in order."""
    try:
        with os.scandir(folder) as found:
            entries = list(itertools.islice(found, _NEAR_NAMES))
            files = sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False))
            return files, sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return [], []


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write `document` to `path` as UTF-8 JSON, whole or not at all."""
    write_text(path, json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path`, whose folder is made where it is missing. What the block writes there takes the place of
    `path` when it ends well, and is removed when it raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path`, which becomes `path` when the block ends well, and is removed when it raises.

    Raises `DataError` where `path` exists, as it is for the caller to say what is done with that, and where it cannot
    be written.
    """
    if os.path.lexists(path):
        raise DataError(f"{path} exists; name a folder that does not")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.rename(temporary, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a trusted file, as 64 hexadecimal digits. Raises `OSError`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parts(relative: str) -> tuple[str, ...]:
    """The parts of a path that may be looked at."""
    if len(relative) > limits.MAX_PATH_CHARACTERS:
        raise RuleBroken(FILE_PATH, f"the path has {len(relative)} characters")
    path = PurePosixPath(relative)
    if not path.parts:
        raise RuleBroken(FILE_PATH, "the path is empty")
    if "\\" in relative or not relative.isprintable():
        raise RuleBroken(FILE_PATH, "the path has a character that is not allowed")
    if path.is_absolute():
        raise RuleBroken(FILE_PATH, "the path is absolute")
    if ".." in path.parts:
        raise RuleBroken(FILE_PATH, "the path has '..'")
    return path.parts


def _check_kind(name: str, folder: int, wanted: int) -> None:
    """Raise `RuleBroken` unless `name` in the open `folder` is a regular file (S_IFREG) or a folder (S_IFDIR)."""
    kind = stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    if kind == wanted:
        return
    if kind == stat.S_IFLNK:
        raise RuleBroken(FILE_LINK, "the path goes through a symbolic link")
    if wanted == stat.S_IFDIR:
        raise RuleBroken(FILE_MISSING, "the path goes through a file that is no folder")
    raise RuleBroken(FILE_KIND, f"the file is {KINDS.get(kind, 'of an unknown kind')}, not a regular file")


def check_writable(option: str, path: Path | None) -> None:
    """Make the folder of a file that a command will write, if any: that it cannot be written should not be noticed
    after hours of running. A link to a regular file will do; devices, FIFOs and folders are refused, and so is what
    lies beside devices: /dev/stdout can be a link to a regular file, and would be replaced. Raises `DataError`.
    """
    if path is None:
        return
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        folder = path.parent.resolve()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise DataError(f"{option} {path}: cannot be written: {error.strerror}") from None
    else:
        if kind != stat.S_IFREG:
            raise DataError(f"{option} {path} is {KINDS.get(kind, 'of an unknown kind')}; it must be a file's path")
        if folder == Path("/dev") or folder.is_relative_to("/proc"):
            raise DataError(f"{option} {path} is one of the system's own; it must be a file's path")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{option} {path}: its folder cannot be made: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"{option} {path}: its folder cannot be written to")
