"""Packing: the same bytes twice, what stays out, and never a half-written or bad archive."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from evaluator.core.errors import DataError
from evaluator.core.verdict import BAD_METADATA, BAD_ZIP
from evaluator.package import archive, folder, ignore
from evaluator.package import pack as pack_module
from evaluator.package.pack import pack
from tests.support.verdicts import raises_verdict

ROOT = Path(archive.__file__).parents[2]
METADATA = {"image": "fusionbrain/fbc2:latest", "entrypoint": "python3 run.py"}


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"content of {name}\n" * 50, encoding="utf-8")


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    root = tmp_path / "submission"
    write(root, "run.py", "src/ёж.py", "src/Яма.py", "src/emoji 🐈.txt", "b/x", "A/y")
    (root / "metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    (root / "empty" / "inner").mkdir(parents=True)
    (root / "weights.bin").write_bytes(os.urandom(3_000_000))
    (root / "run.py").chmod(0o700)
    return root


def names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as file:
        return file.namelist()


def test_packed_and_unpacked_is_the_same(submission, tmp_path):
    packed = pack(submission, tmp_path / "s.zip")
    assert packed.left_out == () and packed.report == archive.check(tmp_path / "s.zip")
    (tmp_path / "out").mkdir()
    archive.unpack(tmp_path / "s.zip", tmp_path / "out")
    for path in submission.rglob("*"):
        other = tmp_path / "out" / path.relative_to(submission)
        assert other.is_dir() if path.is_dir() else other.read_bytes() == path.read_bytes()
        assert os.access(other, os.X_OK) == os.access(path, os.X_OK) or path.is_dir()
    assert names(tmp_path / "s.zip") == sorted(names(tmp_path / "s.zip"), key=str.encode)
    assert names(tmp_path / "s.zip")[:3] == ["A/y", "b/x", "empty/inner/"]


def test_same_bytes_twice(submission, tmp_path):
    """From a copy made in another order, at another time, with other modes, umask, locale and hash seed."""
    pack(submission, tmp_path / "1.zip")
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    for path in sorted(submission.rglob("*"), reverse=True):
        target = copy / path.relative_to(submission)
        if path.is_dir():
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o775 if path.name == "run.py" else 0o600)
            os.utime(target, (10**9, 10**9))
    code = (
        "import locale, os, sys; os.umask(0o077); locale.setlocale(locale.LC_ALL, '');"
        "from pathlib import Path; from evaluator.package.pack import pack; pack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    environment = os.environ | {"LC_ALL": "C", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code, copy, tmp_path / "2.zip"], cwd=ROOT, env=environment, check=True)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_what_stays_out(submission, tmp_path):
    write(submission, "training/train.py", "output/predictions.json", "src/__pycache__/a.pyc", ".git/config")
    write(submission, "src/.DS_Store", "src/run.py~", "src/.run.py.swp", ".idea/x", ".pytest_cache/x", "src/a.pyc")
    write(submission, "src/training/kept.py", "src/output/kept.txt", "logs/1.log", "logs/важный.log", "заметки.md")
    (submission / ".submissionignore").write_text("# мои\n*.log\n!важный.log\n/заметки.md\n", encoding="utf-8")
    packed = pack(submission, tmp_path / "s.zip")
    assert packed.left_out == (
        ".git/", ".idea/", ".pytest_cache/", ".submissionignore", "logs/1.log", "output/", "src/.DS_Store",
        "src/.run.py.swp", "src/__pycache__/", "src/a.pyc", "src/run.py~", "training/", "заметки.md",
    )  # fmt: skip
    assert {"src/training/kept.py", "src/output/kept.txt", "logs/важный.log"} <= set(names(tmp_path / "s.zip"))


def test_a_default_can_be_brought_back(submission, tmp_path):
    write(submission, "training/vocabulary.txt")
    (submission / ".submissionignore").write_text("!/training/\n")
    pack(submission, tmp_path / "s.zip")
    assert "training/vocabulary.txt" in names(tmp_path / "s.zip")


@pytest.mark.parametrize("content", [b"\xff", b"x" * 10_001, b"a\n!\n", b"a\n" * 501, b"a\\"])
def test_bad_ignore_file(submission, tmp_path, content):
    (submission / ".submissionignore").write_bytes(content)
    with raises_verdict(BAD_ZIP) as caught:
        pack(submission, tmp_path / "s.zip")
    assert caught.value.findings[0].rule == "submission-ignore" and not (tmp_path / "s.zip").exists()


def test_brackets_that_stay_open_are_looked_for_once(submission, tmp_path, monkeypatch):
    """Looking again for each of them took 9 s; and each line is read once."""
    calls: list[str] = []
    for name in ("_class_end", "_parse"):
        known = getattr(ignore, name)
        monkeypatch.setattr(ignore, name, lambda *a, name=name, known=known: calls.append(name) or known(*a))
    (submission / ".submissionignore").write_text("[" * 9990 + "\nlogs\n")
    pack(submission, tmp_path / "s.zip")
    assert calls.count("_class_end") == 1 + sum(line.count("[") for line in folder.LEFT_OUT)
    assert calls.count("_parse") == 2 + len(folder.LEFT_OUT)


def test_brackets_that_stay_open_mean_themselves():
    for glob, path in (("[ab][c", "a[c"), ("[][[x", "[][[x"), ("[!\\][y", "[!][y"), ("[a\\][b]", "][")):
        assert ignore.Patterns([glob]).match(path) == (path != "]["), glob
    assert ignore.Patterns(["[a\\][b]"]).match("b")


def test_ignoring_the_entrypoint_is_noticed(submission, tmp_path):
    (submission / ".submissionignore").write_text("*.py\n")
    with raises_verdict(BAD_METADATA, match="'run.py' is not in the archive"):
        pack(submission, tmp_path / "s.zip")
    (submission / ".submissionignore").write_text("*.json\n")
    with raises_verdict(BAD_METADATA, match="metadata.json is missing"):
        pack(submission, tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


def test_links_are_refused(submission, tmp_path):
    (submission / "weights").symlink_to(tmp_path)
    (submission / "модель").symlink_to("weights.bin")
    with raises_verdict(BAD_ZIP) as caught:
        pack(submission, tmp_path / "s.zip")
    assert sorted(finding.where for finding in caught.value.findings) == ["entry 'weights'", "entry 'модель'"]
    assert "cp -rL" in str(caught.value) and not (tmp_path / "s.zip").exists()
    (submission / ".submissionignore").write_text("/weights\n/модель\n", encoding="utf-8")
    assert pack(submission, tmp_path / "s.zip").left_out == (".submissionignore", "weights", "модель")


def test_nothing_is_overwritten_silently(submission, tmp_path):
    target = tmp_path / "s.zip"
    target.write_text("mine")
    with pytest.raises(DataError, match="exists"):
        pack(submission, target)
    assert target.read_text() == "mine"
    pack(submission, target, force=True)
    archive.check(target)
    (tmp_path / "link.zip").symlink_to(target)
    (tmp_path / "folder.zip").mkdir()
    for name in ("link.zip", "folder.zip"):
        with pytest.raises(DataError, match="exists"):
            pack(submission, tmp_path / name, force=True)


def test_a_failure_leaves_what_was_there(submission, tmp_path, monkeypatch):
    target = tmp_path / "s.zip"
    target.write_text("mine")
    before = sorted(path.name for path in tmp_path.iterdir())

    def shrink(*arguments):
        chunks = list(folder.read_file(*arguments))
        os.truncate(submission / "weights.bin", 10)
        yield from chunks

    monkeypatch.setattr(pack_module, "read_file", shrink)
    with raises_verdict(BAD_ZIP) as caught:
        pack(submission, target, force=True)
    assert caught.value.findings[0].rule == "file-changed"
    assert target.read_text() == "mine" and sorted(path.name for path in tmp_path.iterdir()) == before


def test_sizes(submission, tmp_path):
    with raises_verdict(BAD_ZIP, match="bytes unpacked") as caught:
        pack(submission, tmp_path / "s.zip", max_unpacked=1_000_000)
    assert [finding.rule for finding in caught.value.findings] == ["archive-unpacked-size"]
    with raises_verdict(BAD_ZIP, match="^s.zip: 30.* bytes packed"):
        pack(submission, tmp_path / "s.zip", max_packed=1_000_000)
    assert not (tmp_path / "s.zip").exists()


def test_wrong_paths(submission, tmp_path):
    for source, target in (
        (tmp_path / "none", tmp_path / "s.zip"),
        (submission / "run.py", tmp_path / "s.zip"),
        (submission, tmp_path / "none" / "s.zip"),
        (submission, submission / "s.zip"),
        (submission, submission / "empty" / "s.zip"),
    ):
        with pytest.raises(DataError):
            pack(source, target)


def test_what_shrinks_is_deflated_and_the_rest_stored(submission, tmp_path):
    (submission / "table.csv").write_text("1,2,3\n" * 100_000)
    (submission / "tiny.bin").write_bytes(os.urandom(100))
    pack(submission, tmp_path / "s.zip")
    with zipfile.ZipFile(tmp_path / "s.zip") as file:
        methods = {info.filename: info.compress_type for info in file.infolist()}
    assert methods["weights.bin"] == zipfile.ZIP_STORED
    assert methods["table.csv"] == methods["tiny.bin"] == methods["run.py"] == zipfile.ZIP_DEFLATED


@pytest.mark.slow
def test_large_files_are_streamed(submission, tmp_path):
    """300 MB, sparse: less than 60 MB of memory."""
    with open(submission / "weights.bin", "r+b") as file:
        file.truncate(300_000_000)
    code = (
        "import resource, sys; from pathlib import Path; from evaluator.package.pack import pack;"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "pack(Path(sys.argv[1]), Path(sys.argv[2]));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)"
    )
    command = [sys.executable, "-c", code, submission, tmp_path / "s.zip"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60_000  # KiB
    assert (tmp_path / "s.zip").stat().st_size > 300_000_000  # stored


def test_the_repositorys_own_submission(tmp_path):
    start = time.process_time()
    packed = pack(ROOT / "submission", tmp_path / "s.zip")
    assert time.process_time() - start < 10
    found = set(names(tmp_path / "s.zip"))
    assert {"run.py", "metadata.json", "config.yaml", "contract.py", "rudolph/modeling.py"} <= found
    assert {"weights/nano/model.safetensors", "weights/nano/vqgan/model.safetensors"} <= found
    assert "training/" in packed.left_out and not [name for name in found if name.startswith(("training", "output"))]
    assert packed.report.metadata.arguments == ("python3", "run.py")
    assert packed.report.verified == packed.report.files == len(found)


@pytest.mark.slow
def test_the_packed_submission_runs(tmp_path):
    """Two examples through the unpacked ZIP, with nothing of the repository in reach."""
    pack(ROOT / "submission", tmp_path / "s.zip")
    unpacked = tmp_path / "submission"
    unpacked.mkdir()
    archive.unpack(tmp_path / "s.zip", unpacked)
    (tmp_path / "input").mkdir()
    examples = {"0": [{"type": "text", "content": "Сколько будет 2 + 2?"}], "1": [{"type": "text", "content": "Ёж?"}]}
    (tmp_path / "input" / "input.json").write_text(json.dumps(examples), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "run.py"], cwd=unpacked, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads((unpacked / "output" / "predictions.json").read_text(encoding="utf-8"))) == {"0", "1"}
