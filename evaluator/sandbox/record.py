"""The record of a run: what went in, under which limits, what came out, sealed so that a changed byte is found.

Without a key the seal is a plain digest: it finds damage, but whoever changes the record can seal it anew. With a key
it is an HMAC, which only those who have the key can make. A record names digests of the truth and is the organizer's:
whoever knows all but a few answers could find these out by trying.
"""

import contextlib
import errno
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evaluator.core.errors import DataError, Finding, show
from evaluator.core.files import FILE_MISSING, sha256_of, write_text
from evaluator.core.limits import Limits
from evaluator.core.regular import open_regular, read_whole
from evaluator.core.strict_json import check_structure
from evaluator.package.rules import FILE_CHANGED

VERSION = 1
MAX_RECORD_BYTES = 200 * 10**6
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 10**6
MAX_FILE_BYTES = 100 * 10**9  # of a file that a record names
_CHUNK = 1 << 20
# In the folder of a season that was restored from a backup: where files lie by the paths that records have for them.
PLACES = "places.json"
MAX_PLACES_BYTES = 10**8
SCORING_WINGS = ("core", "metrics", "competition", "data", "package", "sandbox", "scoring")
SCORING_FILES = ("reports/evaluation.py",)  # what a run is from its limits to its scores.json


def read_key(path: Path) -> bytes:
    """The key: the file's bytes, all of them. Raises `DataError` for one that is missing or short."""
    try:
        key = read_whole(path, MAX_KEY_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"key file {path} cannot be read: {_reason(error)}") from None
    if len(key) < MIN_KEY_BYTES:
        raise DataError(
            f"key file {path} has {len(key)} bytes; at least {MIN_KEY_BYTES} are needed (`openssl rand -hex 32`)"
        )
    return key


def write(
    path: Path,
    inputs: Iterable[Path],
    outputs: Iterable[Path],
    result: Mapping[str, Any],
    limits: Limits,
    started: datetime,
    key: bytes | None = None,
    seconds: float | None = None,
) -> None:
    """Write the record of a run to `path`, whole or not at all. It ended `seconds` after it `started`, by default now;
    a clock that is set meanwhile is why they can differ.

    `inputs` and `outputs` are files, and folders with all their files; each file's SHA-256 is taken now. `result` is
    the content of scores.json, with scores or without.
    """
    ended = datetime.now(UTC) if seconds is None else started + timedelta(seconds=seconds)
    files = {
        os.path.relpath(file.resolve(), path.parent.resolve()): sha256_of(file)
        for source in (*inputs, *outputs)
        for file in _files(source)
    }
    document = {
        "version": VERSION,
        "started": started.isoformat(timespec="seconds"),
        "ended": ended.isoformat(timespec="seconds"),
        "code": code_digest(),
        "limits": asdict(limits),
        "verdict": result["verdict"],
        "fault": result["fault"],
        "counts": result["counts"],
        "findings": result["findings"],
        "run": result.get("run"),
        "competition": result.get("competition"),
        **({"shared_parameters": result["shared_parameters"]} if "shared_parameters" in result else {}),
        "scores": {
            "integral": result.get("integral"),
            "open_part": result.get("open_part"),
            "tasks": {number: task["score"] for number, task in result.get("tasks", {}).items()},
        },
        "files": files,
    }
    write_text(path, _serialise(_sealed(document, key)))


def verify(path: Path, key: bytes | None = None) -> list[Finding]:
    """What differs from the time of the run, in the record and in the files that it names; empty where nothing does.

    Without `key` a signature is not looked at, and the digest stands alone. Files that were moved are looked for where
    `PLACES`, two folders above the record's, says. Raises `DataError` where there is no record.
    """
    try:
        content = read_whole(path, MAX_RECORD_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"record {path} cannot be read: {_reason(error)}") from None
    try:
        check_structure(content)
        document = json.loads(content)
        body = {name: value for name, value in document.items() if name not in ("sha256", "hmac_sha256")}
        resealed = _sealed(body, key) if key is not None else _digested(body | {"hmac_sha256": document["hmac_sha256"]})
        unsigned = document["hmac_sha256"] is None
        # The bytes, not the meaning: a space or a key that is written twice is a change, too.
        intact = hmac.compare_digest(_serialise(resealed).encode(), content)
        files = document["files"]
        # Who has no key can seal anything as a record.
        intact = intact and isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        intact = unsigned = False
    if key is not None and unsigned:
        return [Finding("record-unsigned", str(path), "has no signature", "a record signed with the key")]
    if not intact:
        why = "is not as it was written" if key is None else "is not as it was signed, or not with this key"
        return [Finding("record-changed", str(path), why, "the bytes that were written", "fetch the record anew")]
    found = []
    moved = _Moved(path)
    known: dict[tuple[int, int], str] = {}  # of each file: a record may name one by a million paths
    for name, digest in files.items():
        try:
            actual = _named_sha256(moved.place(name), known)
        except (OSError, ValueError) as error:
            reason = f"cannot be read: {_reason(error)}"
            found.append(Finding(FILE_MISSING.name, show(name), reason, "", "put the file back"))
            continue
        if actual != digest:
            found.append(
                Finding(
                    FILE_CHANGED.name,
                    show(name),
                    f"SHA-256 {actual}",
                    _shown(digest),
                    "put the file of the run back",
                )
            )
    return found


def read_places(folder: Path) -> dict[str, str]:
    """The `PLACES` of a folder: paths of files and folders below it by the paths from it that records have for them;
    empty where there are none. Raises `DataError`.
    """
    try:
        places = json.loads(read_whole(folder / PLACES, MAX_PLACES_BYTES))
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise ValueError("must be an object of texts")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{folder / PLACES} cannot be read: {_reason(error)}") from None
    return places


class _Moved:
    """Where the files lie that a record names."""

    def __init__(self, record: Path) -> None:
        self._folder = Path(os.path.abspath(record)).parent
        self._top = self._folder.parent.parent
        self._places = read_places(self._top)

    def place(self, name: str) -> Path:
        """Of the file that the record names so."""
        path = os.path.normpath(self._folder.relative_to(self._top) / name) if self._places else ""
        inner = ""
        while path:
            if path in self._places:
                return self._top / self._places[path] / inner
            path, _, last = path.rpartition("/")
            inner = f"{last}/{inner}" if inner else last
        return self._folder / name


def _shown(digest: str) -> str:
    return digest if digest.isalnum() and digest.isascii() and len(digest) == 64 else show(digest)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def code_digest(folder: Path = Path(__file__).parents[1]) -> str:
    """SHA-256 over the files of code and of limits, by their paths, that decide a score: those of `SCORING_WINGS` and
    `SCORING_FILES` in the evaluator's `folder`. Pages, the command line, CO2, the season and tools are none of them.
    """
    found = (path for wing in SCORING_WINGS for path in (folder / wing).rglob("*"))
    files = [path for path in found if path.suffix in (".py", ".c", ".toml")]
    files += [folder / name for name in SCORING_FILES]
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{sha256_of(path)}  {path.relative_to(folder).as_posix()}\n".encode())
    return digest.hexdigest()


def _sealed(body: dict[str, Any], key: bytes | None) -> dict[str, Any]:
    """With the signature, null where there is no key, and the digest of all before it."""
    signature = None if key is None else hmac.new(key, _serialise(body).encode(), hashlib.sha256).hexdigest()
    return _digested(body | {"hmac_sha256": signature})


def _digested(signed: dict[str, Any]) -> dict[str, Any]:
    return signed | {"sha256": hashlib.sha256(_serialise(signed).encode()).hexdigest()}


def _serialise(document: Mapping[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=True, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _files(source: Path) -> list[Path]:
    """A file, or all files of a folder."""
    if not source.is_dir():
        return [source]
    files, waiting = [], [source]
    while waiting:  # not rglob, which goes into itself as deep as the folders are nested
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    waiting += [Path(entry.path)] if entry.name != "__pycache__" else []
                elif entry.is_file():
                    files.append(Path(entry.path))
    return sorted(files)


def _named_sha256(path: Path, known: dict[tuple[int, int], str]) -> str:
    """Of a file that a record names, whatever lies there: nothing blocks, nothing is read twice or without an end."""
    with open_regular(path) as file:
        status = os.fstat(file.fileno())
        identity = status.st_dev, status.st_ino
        if identity in known:
            return known[identity]
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, f"has more than {MAX_FILE_BYTES} bytes")
        digest = hashlib.sha256()
        left = status.st_size + 1  # one more, which makes another digest, where it grows or states no size
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
    known[identity] = digest.hexdigest()
    return known[identity]
