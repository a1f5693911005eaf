import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.core import verdict
from evaluator.core.errors import DataError
from evaluator.core.limits import RUN
from evaluator.sandbox import record

KEY = b"0123456789abcdef-\xd1\x91"
EVALUATOR = Path(record.__file__).parents[1]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A ZIP, a data folder and scores.json; only their bytes matter here."""
    archive, data, scores = tmp_path / "посылка «ё».zip", tmp_path / "data", tmp_path / "out" / "scores.json"
    (data / "images").mkdir(parents=True)
    scores.parent.mkdir()
    archive.write_bytes(b"PK")
    (data / "input.json").write_text("{}")
    (data / "images" / "🐈.png").write_bytes(b"png")
    scores.write_text('{"integral": 0.5}')
    return archive, data, scores


def write(path: Path, files: tuple[Path, Path, Path], key: bytes | None = None) -> None:
    archive, data, scores = files
    result = verdict.OK.to_json() | {
        "findings": [],
        "integral": 0.5,
        "open_part": 0.25,
        "tasks": {"0": {"score": 0.125}},
        "run": {"seconds": 1.5, "image": "a/б:1", "image_digest": "sha256:00", "peak_memory": 7},
    }
    record.write(path, [archive, data], [scores], result, RUN, datetime.now(UTC), key)


def test_what_it_says(files, tmp_path):
    write(tmp_path / "record.json", files)
    document = json.loads((tmp_path / "record.json").read_bytes())
    assert document["files"].keys() == {
        "посылка «ё».zip",
        "data/input.json",
        "data/images/🐈.png",
        "out/scores.json",
    }
    assert document["verdict"] == "OK" and document["counts"] is True and document["limits"]["memory"] == RUN.memory
    assert document["scores"] == {"integral": 0.5, "open_part": 0.25, "tasks": {"0": 0.125}}
    assert document["run"]["peak_memory"] == 7 and document["started"] <= document["ended"]
    assert len(document["code"]) == 64 and document["hmac_sha256"] is None
    assert record.verify(tmp_path / "record.json") == []


@pytest.mark.parametrize("step", [timedelta(hours=2), timedelta(hours=-2), timedelta(days=400)])
def test_a_clock_that_was_set_changes_no_duration(files, tmp_path, step):
    archive, data, scores = files
    started = datetime.now(UTC).replace(microsecond=0) + step
    result = verdict.OK.to_json() | {"findings": []}
    record.write(tmp_path / "record.json", [archive, data], [scores], result, RUN, started, seconds=90.0)
    document = json.loads((tmp_path / "record.json").read_bytes())
    took = datetime.fromisoformat(document["ended"]) - datetime.fromisoformat(document["started"])
    assert took == timedelta(seconds=90)


@pytest.mark.parametrize("key", [None, KEY])
def test_every_changed_byte_of_the_record_is_found(files, tmp_path, key):
    path = tmp_path / "record.json"
    write(path, files, key)
    content = path.read_bytes()
    assert record.verify(path, key) == [] == record.verify(path)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert [finding.rule for finding in record.verify(path, key)] == ["record-changed"], position
        assert record.verify(path), position  # without the key, too
    for changed in (content[:-1], content + b" ", content.replace(b"{", b"{ ", 1), b"", b"[" * 100_000, b"null"):
        path.write_bytes(changed)
        assert record.verify(path, key)


def test_who_has_no_key_cannot_sign(files, tmp_path):
    path = tmp_path / "record.json"
    write(path, files, KEY)
    document = json.loads(path.read_bytes())
    assert [finding.rule for finding in record.verify(path, KEY[::-1])] == ["record-changed"]
    body = {name: value for name, value in document.items() if not name.endswith("sha256")} | {"verdict": "OOM"}
    for forged in (record._sealed(body, None), record._digested(body | {"hmac_sha256": document["hmac_sha256"]})):
        path.write_text(record._serialise(forged))
        assert record.verify(path) == [], "the digest alone does not keep a forger out"
        assert record.verify(path, KEY)


def test_changed_and_missing_files_are_named(files, tmp_path):
    archive, data, scores = files
    write(tmp_path / "record.json", files, KEY)
    archive.write_bytes(b"PK\0")
    (data / "images" / "🐈.png").unlink()
    found = record.verify(tmp_path / "record.json", KEY)
    assert [(finding.rule, finding.where) for finding in found] == [
        ("file-missing", "'data/images/🐈.png'"),
        ("file-changed", "'посылка «ё».zip'"),
    ]


def test_keys(tmp_path):
    (tmp_path / "short").write_bytes(b"1234567")
    for name, message in (("short", "has 7 bytes; at least 16"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=message):
            record.read_key(tmp_path / name)


def test_the_command(files, tmp_path, capsys):
    path = tmp_path / "record.json"
    (tmp_path / "key").write_bytes(KEY)
    write(path, files, KEY)
    assert main(["verify", str(path), "--key-file", str(tmp_path / "key")]) == 0
    assert "as it was signed, with all files it names" in capsys.readouterr().out
    files[2].write_text('{"integral": 0.9}')
    assert main(["verify", str(path), "--key-file", str(tmp_path / "key")]) == 1
    assert "'out/scores.json'" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "none.json")]) == 2


@pytest.fixture
def evaluator_copy(tmp_path) -> Path:
    folder = tmp_path / "evaluator"
    shutil.copytree(EVALUATOR, folder, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    return folder


@pytest.mark.parametrize("name", ["metrics/fid.py", "core/limits.toml", "data/images.py", "scoring/score.py"])
def test_the_codes_digest_covers_what_decides_a_score(evaluator_copy, name):
    before = record.code_digest(evaluator_copy)
    assert before == record.code_digest() and (evaluator_copy / name).is_file()
    with open(evaluator_copy / name, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert record.code_digest(evaluator_copy) != before


def test_the_codes_digest_covers_nothing_else(evaluator_copy):
    others = [
        path
        for path in evaluator_copy.rglob("*")
        if path.is_file()
        and path.relative_to(evaluator_copy).parts[0] not in record.SCORING_WINGS
        and path.relative_to(evaluator_copy).as_posix() not in record.SCORING_FILES
    ]
    assert {"__main__.py", "report.html", "bench_metrics.py"} <= {path.name for path in others}
    for path in others:
        path.write_text("changed")
    assert record.code_digest(evaluator_copy) == record.code_digest()
