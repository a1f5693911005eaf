"""How a ZIP that was received is kept: once, whole, and without another copy of it where that can be."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import evaluator
from evaluator.core.errors import DataError
from evaluator.season.store import Shared, Store, digest

ROOT = Path(evaluator.__file__).parents[1]
CONTENT = "ёж «🦔»".encode() * 1000


@pytest.fixture
def received(tmp_path: Path) -> Path:
    path = tmp_path / "season" / "uploads" / "ёж 1" / "submission.zip"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    path.chmod(0o600)
    return path


@pytest.fixture(params=["season", "folder", "objects"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Store | Shared:
    """A season's own store, a folder's URL, and objects in this process."""
    if request.param == "season":
        return Store(tmp_path / "season")
    pytest.importorskip("fsspec", reason="fsspec is not here (`make season-ray`)")
    return Shared(f"{'file' if request.param == 'folder' else 'memory'}://{tmp_path}/общее")


def test_what_was_received_is_kept_once(kept: Store | Shared, received: Path) -> None:
    sent = digest(received)
    kept.take(received, sent)
    with kept.open(sent) as file:
        assert file.read() == CONTENT
    assert not received.exists()
    kept.take(received, sent)  # as after a kill
    received.write_bytes(CONTENT)  # the same ZIP of another team
    kept.take(received, sent)
    assert not received.exists() and kept.size(sent) == len(CONTENT)
    with pytest.raises(DataError, match="cannot be kept"):
        kept.take(received, "0" * 64)
    assert kept.size("0" * 64) is None


def test_on_one_file_system_nothing_is_copied(received: Path, tmp_path: Path) -> None:
    store, sent, inode = Store(tmp_path / "season"), digest(received), received.stat().st_ino
    store.take(received, sent)
    found = store.archive(sent).stat()
    assert (found.st_ino, found.st_mode & 0o777) == (inode, 0o444)
    received.write_bytes(CONTENT)
    store.take(received, sent)
    assert store.archive(sent).stat().st_ino == inode, "what is there stays"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of another file system."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is no other file system here")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def test_from_another_file_system_it_is_copied(received: Path, elsewhere: Path) -> None:
    store, sent = Store(elsewhere), digest(received)
    store.take(received, sent)
    assert not received.exists() and store.archive(sent).read_bytes() == CONTENT
    assert store.archive(sent).stat().st_mode & 0o777 == 0o444
    received.write_bytes(b"no such bytes")
    with pytest.raises(DataError, match="changed while it was read"):
        store.take(received, "0" * 64)
    assert received.exists() and store.size("0" * 64) is None


@pytest.mark.parametrize(("step", "is_moved"), [("fsync", False), ("rename", False), ("_sync_folder", True)])
def test_a_kill_leaves_it_in_one_of_the_two_places(received: Path, tmp_path: Path, step: str, is_moved: bool) -> None:
    store, sent = Store(tmp_path / "season"), digest(received)
    code = f"""
import os, signal, pathlib
from evaluator.season import store
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr({"store" if step.startswith("_") else "store.os"}, {step!r}, die)
store.Store(pathlib.Path({str(tmp_path / "season")!r})).take(pathlib.Path({str(received)!r}), {sent!r})
"""
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert (store.archive(sent).exists(), received.exists()) == (is_moved, not is_moved)
    store.take(received, sent)
    assert store.archive(sent).read_bytes() == CONTENT and not received.exists()
