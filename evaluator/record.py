"""The record of a run: what went in, under which limits, what came out, sealed so that a changed byte is found.

Without a key the seal is a plain digest: it finds damage, but whoever changes the record can seal it anew. With a key
it is an HMAC, which only those who have the key can make. A record names digests of the truth and is the organizer's:
whoever knows all but a few answers could find these out by trying.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evaluator.errors import DataError, Finding, show
from evaluator.files import write_text
from evaluator.limits import Limits

VERSION = 1
MAX_RECORD_BYTES = 200 * 10**6
MIN_KEY_BYTES = 16
_CHUNK = 1 << 20


def read_key(path: Path) -> bytes:
    """The key: the file's bytes, all of them. Raises `DataError` for one that is missing or short."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(f"key file {path} cannot be read: {error.strerror}") from None
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
        os.path.relpath(file.resolve(), path.parent.resolve()): _sha256(file)
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

    Without `key` a signature is not looked at, and the digest stands alone. Raises `DataError` where there is no
    record.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_RECORD_BYTES + 1)
    except OSError as error:
        raise DataError(f"record {path} cannot be read: {error.strerror}") from None
    try:
        document = json.loads(content)
        body = {name: value for name, value in document.items() if name not in ("sha256", "hmac_sha256")}
        resealed = _sealed(body, key) if key is not None else _digested(body | {"hmac_sha256": document["hmac_sha256"]})
        unsigned = document["hmac_sha256"] is None
        # The bytes, not the meaning: a space or a key that is written twice is a change, too.
        intact = hmac.compare_digest(_serialise(resealed).encode(), content)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        intact = unsigned = False
    if key is not None and unsigned:
        return [Finding("record-unsigned", str(path), "has no signature", "a record signed with the key")]
    if not intact:
        why = "is not as it was written" if key is None else "is not as it was signed, or not with this key"
        return [Finding("record-changed", str(path), why, "the bytes that were written", "fetch the record anew")]
    found = []
    for name, digest in document["files"].items():
        try:
            actual = _sha256(path.parent / name)
        except (OSError, ValueError) as error:
            found.append(Finding("file-missing", show(name), f"cannot be read: {error}", "", "put the file back"))
            continue
        if actual != digest:
            found.append(
                Finding("file-changed", show(name), f"SHA-256 {actual}", digest, "put the file of the run back")
            )
    return found


def code_digest() -> str:
    """SHA-256 over the evaluator's own files of code and limits, by their paths."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml", ".html")):
        digest.update(f"{_sha256(path)}  {path.relative_to(folder).as_posix()}\n".encode())
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
    return sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        error.filename = None
        raise
    return digest.hexdigest()
