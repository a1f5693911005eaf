"""Private folders: gone with their block, and swept after a process that was killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from evaluator.core import leftovers

HOLD = """
import os, sys
from evaluator.core import leftovers
with leftovers.private_folder(sys.argv[1]) as path:
    (path / "big.bin").write_bytes(b"x")
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, for this process and those that it starts."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def hold(prefix: str) -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder of `prefix`, and that folder."""
    root = Path(leftovers.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, prefix], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def end(process: subprocess.Popen[str], kill: bool) -> None:
    if kill:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_folder_lives_as_long_as_its_block(temporary: Path) -> None:
    with leftovers.private_folder("run") as path:
        assert path.parent == temporary
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "внутри").mkdir()
        assert leftovers.sweep("run") == []
        assert (path / "внутри").is_dir()
    assert not path.exists()


def test_a_folder_goes_when_its_block_raises() -> None:
    with pytest.raises(RuntimeError), leftovers.private_folder("run") as path:
        raise RuntimeError
    assert not path.exists()


def test_what_a_killed_process_left_is_swept_and_a_living_ones_stays() -> None:
    living, kept = hold("run")
    dead, left = hold("run")
    other, foreign = hold("log")
    try:
        end(dead, kill=True)
        end(other, kill=True)
        assert left.is_dir() and (left / "big.bin").is_file()
        assert leftovers.sweep("run") == [left]
        assert not left.exists()
        assert (kept / "big.bin").is_file()
        assert foreign.is_dir(), "another prefix is another's business"
    finally:
        end(living, kill=False)
    assert not kept.exists()


def test_making_a_folder_sweeps_its_prefix() -> None:
    dead, left = hold("run")
    end(dead, kill=True)
    with leftovers.private_folder("run"):
        assert not left.exists()


def test_a_program_that_outlives_the_process_does_not_keep_the_folder() -> None:
    start = "subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)"
    code = HOLD.replace(
        "sys.stdin.read()", f"import subprocess; print({start}.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    root = Path(leftovers.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code, "run"], cwd=root, stdout=subprocess.PIPE, text=True, check=False
    )
    path, survivor = result.stdout.split()
    try:
        os.kill(int(survivor), 0)
        assert leftovers.sweep("run") == [Path(path)]
    finally:
        os.kill(int(survivor), signal.SIGKILL)


def test_names_that_only_look_alike_stay(temporary: Path, tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / "file").touch()
    for name in ("run-abcdefgh", "fbc2-evaluator-run-abcdefg", "fbc2-evaluator-run-abcdefgh.bak", "fbc2-evaluator-run"):
        (temporary / name).mkdir()
    (temporary / "fbc2-evaluator-run-aaaaaaaa").symlink_to(aside)
    (temporary / "fbc2-evaluator-run-bbbbbbbb").touch()
    before = sorted(temporary.iterdir())
    assert leftovers.sweep("run") == []
    assert sorted(temporary.iterdir()) == before
    assert (aside / "file").exists()


def test_content_that_resists_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    aside = tmp_path / "aside"
    aside.mkdir()
    (aside / "file").touch()
    with leftovers.private_folder("run") as path:
        (path / "link").symlink_to(aside)
        (path / "moved-0").mkdir()  # a name that removal uses itself
        (path / "a" / "b").mkdir(parents=True)
        (path / "a" / "b" / "ёж «🐈».txt").touch()
        (path / "a" / "b" / "link").symlink_to(aside)
        os.mkfifo(path / "a" / "fifo")
        (path / "a" / "b").chmod(0)
        (path / "a").chmod(0)
        path.chmod(0o500)
    assert not path.exists()
    assert (aside / "file").exists()


def test_a_tree_deeper_than_paths_and_recursion_go_is_removed() -> None:
    with leftovers.private_folder("run") as path:
        here = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(3000):
            os.mkdir("deeper", dir_fd=here)
            inner = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(here)
            here = inner
        os.close(here)
    assert not path.exists()


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = leftovers._lock
    made: list[Path] = []

    def late(path: Path, wait: bool) -> int | None:
        if wait and not made:
            made.append(path)
            monkeypatch.setattr(leftovers, "_lock", lock)
            assert leftovers.sweep("run") == [path]
        return lock(path, wait)

    monkeypatch.setattr(leftovers, "_lock", late)
    folder = leftovers.PrivateFolder("run")
    assert made and folder.path != made[0]
    assert folder.path.is_dir()
    folder.remove()
    folder.remove()
    assert not folder.path.exists()


def test_sweeps_beside_each_other_never_take_a_living_folder() -> None:
    stop = threading.Event()
    lost: list[Path] = []

    def sweeper() -> None:
        while not stop.is_set():
            leftovers.sweep("run")

    threads = [threading.Thread(target=sweeper) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        with leftovers.private_folder("run") as path:
            if not path.is_dir():
                lost.append(path)
    stop.set()
    for thread in threads:
        thread.join()
    assert not lost


def test_a_forked_copy_does_not_remove_the_folder() -> None:
    folder = leftovers.PrivateFolder("run")
    child = os.fork()
    if child == 0:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.is_dir()
    folder.remove()
    assert not folder.path.exists()


@pytest.mark.parametrize("prefix", ["", "Run", "a-b", "../x", "*"])
def test_a_prefix_is_a_plain_word(prefix: str) -> None:
    with pytest.raises(ValueError):
        leftovers.sweep(prefix)
    with pytest.raises(ValueError):
        leftovers.PrivateFolder(prefix)
