"""Files that an organizer's commands are pointed at, made to harm: `verify`, `compare`, `prize` and `co2-report` end
with a line that names the file, whatever lies there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluator.carbon import emission
from evaluator.cli.app import main
from evaluator.core.errors import DataError
from evaluator.core.files import check_writable, write_json
from evaluator.core.results import remove_stale
from evaluator.sandbox import record
from tests.support.emission import made
from tests.support.scores import document

HUGE = 10**99
GOOD = document({0: [0.0, 1.0]})


def task(**changes: object) -> dict:
    return {"tasks": {"0": GOOD["tasks"]["0"] | changes}}


DOCUMENTS = [
    b"", b"{", b"null", b"7", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{}", b"\0", b'"\\ud800"',
    b'{"verdict": "OK", "integral": 1e999}', b'{"tasks": {"0": {"score": NaN}}}', b"9" * 5000,
    b'{"hmac_sha256": null, "files": ' + b"9" * 5000 + b"}", b"[" + b"[]," * 3_000_000 + b"[]]",
    *(
        json.dumps(value).encode()
        for value in (
            {"verdict": []}, {"verdict": {}}, {"verdict": "OK", "integral": HUGE}, {"verdict": "OK", "integral": -2},
            {"verdict": "OK", "integral": [1]}, {"verdict": "OK", "scores": 7}, {"verdict": "INFRA"},
            {"verdict": "OK", "integral": 0.5, "data_digest": "\x1b[2J"}, {"verdict": "OK", "integral": 0.5,
            "data_digest": {}}, {"tasks": {"0": 1}}, {"tasks": {"0": {}}}, {"tasks": {"٠": {}}}, {"tasks": []},
            task(score=HUGE), task(ids={"a": HUGE, "b": -HUGE}), task(ids=[]), task(ids={"a": True}),
            task(score=None, error={"a": "\n"}), task(score=None, error="\x1b[2J"), task(name="a\nb"), task(name=[]),
            task(labels=["\x1b[2J"]), task(labels={}), task(parameters=[]), task(replicates=[HUGE] * 1000),
            task(replicates="x", name="y"), task(interval_of="a\n\x1b"), task(metric=None), GOOD | {"data_digest": 1},
        )
    ),
]  # fmt: skip
PLACES = ["fifo", "/dev/zero", "/dev/null", "/dev/tty", "/proc/kmsg", "folder", "socket", "none", "a" * 300, "loop"]


@pytest.fixture
def place(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "socket", 0o140644)
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    return lambda name: tmp_path / name


def ended(arguments: list[object], capsys: pytest.CaptureFixture[str], *codes: int) -> str:
    """What a command said, in lines that a terminal shows as they are."""
    assert main([str(argument) for argument in arguments]) in codes, arguments
    out, err = capsys.readouterr()
    assert "Traceback" not in err and (out + err).replace("\n", "").isprintable()
    return out + err


@pytest.mark.parametrize("name", PLACES)
def test_places(place, name, capsys):
    path = place(name)
    write_json(place("good.json"), GOOD | {"verdict": "OK", "integral": 0.5})
    assert name in ended(["verify", path], capsys, 1, 2)  # the kernel's own files may have some lines
    assert name in ended(["compare", place("good.json"), path], capsys, 2)
    assert name in ended(["compare", path, place("good.json")], capsys, 2)
    assert name in ended(["prize", "--runs", path], capsys, 2)
    assert name in ended(["prize", "--runs", place("good.json"), "--baseline", path], capsys, 2)
    assert name in ended(["co2-report", path], capsys, 2)
    place("r.json").write_text("{}", encoding="utf-8")
    assert name in ended(["verify", place("r.json"), "--key-file", path], capsys, 2)


@pytest.mark.parametrize("name", PLACES)
def test_places_of_a_team(place, name, capsys):
    """In the place of each file of a run's folder."""
    target = name if name.startswith("/") else place(name)
    emissions = (emission.NAME, emission.ENCODED_NAME)
    for kept in ("scores.json", "record.json", "team.zip", *emissions, "loss.csv", "energy.csv"):
        folder = place("runs") / f"of {kept}"
        folder.mkdir(parents=True)
        plain, encoded = made()
        (folder / emission.NAME).write_bytes(plain)
        (folder / emission.ENCODED_NAME).write_bytes(encoded)
        (folder / kept).unlink(missing_ok=True)
        (folder / kept).symlink_to(target)
        ended(["co2-report", folder], capsys, 0, 2)
    ended(["prize", "--runs", place("runs")], capsys, 0, 2)


@pytest.mark.parametrize("content", DOCUMENTS, ids=lambda content: repr(content[:40]))
def test_documents(place, content, capsys):
    write_json(place("good.json"), GOOD)
    place("bad.json").write_bytes(content)
    ended(["verify", place("bad.json")], capsys, 1)
    good = (0,) if b"interval_of" in content else (2,)  # a note that cannot be shown is left out
    assert "bad.json" in ended(["compare", place("good.json"), place("bad.json")], capsys, *good)
    ended(["prize", "--runs", place("bad.json"), "--baseline", "0.1"], capsys, 0, 2)
    ended(["prize", "--runs", place("bad.json"), "--baseline", place("bad.json")], capsys, 2)


def sealed(files: object) -> str:
    return record._serialise(record._sealed({"files": files}, None))


@pytest.mark.parametrize(
    "files",
    [
        None, [], "a", {"a": 1}, {"a": None}, {"fifo": "0"}, {"/dev/zero": "0"}, {"/dev/tty": "0"},
        {"/proc/kcore": "0"}, {"/proc/kmsg": "0"}, {"/dev/stdin": "0"}, {"a\0b": "0"}, {"\ud800": "0"}, {"": "0"},
        {"a" * 10_000: "0"}, {"folder": "0"}, {"socket": "0"}, {"loop": "0"}, {"../" * 2000: "0"},
        {"r.json": "\x1b[2J\n\ud800"},
    ],
)  # fmt: skip
def test_records_that_anybody_could_seal(place, files, capsys):
    place("r.json").write_text(sealed(files), encoding="utf-8")
    assert ended(["verify", place("r.json")], capsys, 1)


def test_a_file_of_many_names_is_read_once(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    known: dict[tuple[int, int], str] = {}
    first = record._named_sha256(tmp_path / "a", known)
    (tmp_path / "a").write_bytes(b"2")
    assert record._named_sha256(tmp_path / "b", known) == first != record._named_sha256(tmp_path / "b", {})


def test_a_name_that_the_terminal_cannot_show(tmp_path):
    folder = tmp_path / "ё"
    folder.mkdir()
    for name in ("a.json", "b.json"):
        write_json(folder / name, document({0: [0.0] * 8}, name="Ёж", labels=["кодировщик"]))
    command = [sys.executable, "-m", "evaluator", "compare", folder / "a.json", folder / "b.json"]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0 and b"cannot be told apart" in done.stdout and not done.stderr


WRITTEN = ["--json", "--table", "--report", "--log", "--record"]


@pytest.mark.parametrize("option", WRITTEN)
@pytest.mark.parametrize("name", ["fifo", "socket", "folder", "loop", "to-fifo", "/dev/null", "/dev/zero", "a" * 300])
def test_places_to_write_to(place, name, option, capsys):
    """Nothing is opened there, removed or replaced."""
    path = place(name)
    place("to-fifo").symlink_to("fifo")
    if option == "--table":  # whose name must end so
        place("link.csv").symlink_to(path)
        path = name = place("link.csv")
    before = path.lstat().st_mode if len(path.name) < 300 else None
    command = (
        ["score", place("folder")] if option in WRITTEN[:3] else ["run", place("folder"), "--json", place("x.json")]
    )
    said = ended([*command, "--data", place("folder"), option, path], capsys, 2)
    assert f"{option} " in said and str(name) in said
    assert before is None or path.lstat().st_mode == before


def test_a_link_beside_devices_is_not_replaced(tmp_path, monkeypatch):
    with open(tmp_path / "out", "w") as file:
        for path in (f"/proc/self/fd/{file.fileno()}", f"/dev/fd/{file.fileno()}"):
            with pytest.raises(DataError, match="--json .* is one of the system's own"):
                check_writable("--json", Path(path))


def test_places_that_can_be_written_to(place):
    place("file").write_text("x")
    place("link").symlink_to("file")
    place("dangling").symlink_to("none-yet")
    for name in ("file", "link", "dangling", "new", "new-folder/new"):
        check_writable("--json", place(name))
    check_writable("--json", None)


def test_stale_files_alone_are_removed(place):
    place("file").write_text("x")
    place("link").symlink_to("file")
    remove_stale(map(place, ("fifo", "socket", "folder", "link")))
    assert place("fifo").is_fifo() and place("socket").is_socket() and place("folder").is_dir()
    assert place("file").exists() and not os.path.lexists(place("link"))
    remove_stale([place("file"), None])
    assert not place("file").exists()


@pytest.mark.parametrize("name", [*PLACES, "huge", "deep", "latin"])
def test_places_of_limits(place, name, capsys):
    place("huge").write_text("#" * 2 * 10**6)
    place("deep").write_text("a = " + "[" * 100_000)
    place("latin").write_bytes(b"# \xe9")
    said = ended(["run", place("folder"), "--data", place("folder"), "--limits", place(name)], capsys, 2)
    assert "limits " in said and name in said
