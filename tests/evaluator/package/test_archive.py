"""Checking, unpacking and copying of honest and mistaken submissions; tests/hostile has the archives made to harm."""

import json
import os
import shutil
import stat
import subprocess
import time
import zipfile
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.core.errors import DataError, EvaluatorError, Findings
from evaluator.core.verdict import BAD_METADATA, BAD_ZIP, Verdict
from evaluator.package import archive, folder, metadata
from evaluator.package import rules as archive_rules
from tests.support.verdicts import raises_verdict

METADATA = {"image": "fusionbrain/fbc2:latest", "entrypoint": "python3 run.py"}


@pytest.fixture
def submission(tmp_path: Path) -> Path:
    root = tmp_path / "моя работа"
    (root / "веса ё").mkdir(parents=True)
    (root / "пусто").mkdir()
    (root / "metadata.json").write_text(json.dumps(METADATA), encoding="utf-8")
    (root / "run.py").write_text("print('ответ')\n", encoding="utf-8")
    (root / "run.sh").write_text("python3 run.py\n", encoding="utf-8")
    (root / "run.sh").chmod(0o4770)
    (root / "веса ё" / "модель 🐈.bin").write_bytes(bytes(range(256)) * 40)
    (root / "ничего").write_bytes(b"")
    return root


def zipped(path: Path, **files: bytes | str) -> Path:
    """A ZIP with good metadata, where `files` name none, and a run.py."""
    contents = {"metadata.json": json.dumps(METADATA), "run.py": "pass", **files}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in contents.items():
            if content is not None:
                file.writestr(name, content)
    return path


def contents(root: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


def findings_of(verdict: Verdict, path: Path, **caps: int) -> list[tuple[str, str, str]]:
    with raises_verdict(verdict) as caught:
        archive.check(path, **caps)
    return [(finding.rule, finding.where, finding.found) for finding in caught.value.findings]


# --- good archives, from every packer at hand ---


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP's zip is not installed")
@pytest.mark.parametrize("command", ["zip -qr S .", "zip -q0rX S .", "zip -qr - . | cat > S", "zip -qr -fz S ."])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_archives_of_zip(submission, tmp_path, command, locale):
    environment = os.environ | {"LC_ALL": locale}
    command = command.replace("S", str(tmp_path / "s.zip"))
    subprocess.run(command, shell=True, cwd=submission, env=environment, check=True)
    report = archive.check(tmp_path / "s.zip")
    assert (report.files, report.verified) == (5, 5)
    assert report.unpacked == sum(len(content) for content in contents(submission).values() if content is not None)
    assert report.packed == (tmp_path / "s.zip").stat().st_size
    assert report.metadata == metadata.Metadata(**METADATA, arguments=("python3", "run.py"))
    (tmp_path / "out").mkdir()
    archive.unpack(tmp_path / "s.zip", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(submission)


def test_archives_of_python(submission, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "s"), "zip", submission))
    archive.check(path)
    (tmp_path / "out").mkdir()
    archive.unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(submission)


@pytest.mark.parametrize("wide", [False, True])
def test_streamed_archives(submission, tmp_path, wide):
    """Whose sizes stand behind the data; `wide` ones in 8 bytes."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=open(tmp_path / "s.zip", "wb")) as cat:
        with zipfile.ZipFile(cat.stdin, "w", zipfile.ZIP_DEFLATED) as file:
            for name in ("metadata.json", "run.py", "ничего"):
                with file.open(zipfile.ZipInfo(name), "w", force_zip64=wide) as sink:
                    sink.write((submission / name).read_bytes())
    assert archive.check(tmp_path / "s.zip").verified == 3


def test_modes_are_normalised(submission, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "s"), "zip", submission))
    before = os.umask(0o077)
    try:
        for name, source, fill in (("unpacked", path, archive.unpack), ("copied", submission, folder.copy_folder)):
            (tmp_path / name).mkdir()
            fill(source, tmp_path / name)
            modes = {item.name: stat.S_IMODE(item.stat().st_mode) for item in (tmp_path / name).rglob("*")}
            assert modes.pop("run.sh") == modes.pop("веса ё") == modes.pop("пусто") == 0o755
            assert set(modes.values()) == {0o644}
    finally:
        os.umask(before)


def test_check_is_quick_and_writes_nothing(submission, tmp_path):
    path = zipped(tmp_path / "s.zip", **{"weights.bin": os.urandom(10_000_000)})
    start = time.process_time()
    assert archive.check(path).verified == 3
    assert time.process_time() - start < 20  # far beyond
    assert sorted(item.name for item in tmp_path.iterdir()) == ["s.zip", submission.name]


def test_check_reads_the_smallest_files_first(tmp_path, monkeypatch):
    """Up to a budget; the broken file beyond it is found by `unpack`."""
    path = zipped(tmp_path / "s.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("large", bytes(range(256)) * 400)
    content = bytearray(path.read_bytes())
    content[content.index(bytes(range(256)) * 2) + 700] ^= 1
    path.write_bytes(content)
    assert findings_of(BAD_ZIP, path)[0][:2] == ("archive-corrupt", "entry 'large'")
    monkeypatch.setattr(archive, "VERIFIED_BYTES", 1000)
    report = archive.check(path)
    assert (report.files, report.verified) == (3, 2)
    (tmp_path / "out").mkdir()
    with raises_verdict(BAD_ZIP, match="Bad CRC"):
        archive.unpack(path, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# --- limits ---


def test_sizes(tmp_path):
    path = zipped(tmp_path / "s.zip", zeros=b"\0" * 1_000_000)
    packed, unpacked = path.stat().st_size, 1_000_000 + len(json.dumps(METADATA)) + 4
    archive.check(path, max_packed=packed, max_unpacked=unpacked)
    assert findings_of(BAD_ZIP, path, max_packed=packed - 1, max_unpacked=unpacked - 1) == [
        ("archive-packed-size", "s.zip", f"{packed} bytes packed"),
        ("archive-unpacked-size", "s.zip", f"{unpacked} bytes unpacked"),
    ]
    (tmp_path / "out").mkdir()
    with raises_verdict(BAD_ZIP, match=f"allowed: at most {unpacked - 1} bytes"):
        archive.unpack(path, tmp_path / "out", max_unpacked=unpacked - 1)
    archive.unpack(path, tmp_path / "out", max_unpacked=unpacked)


def test_ratio(tmp_path, monkeypatch):
    path = zipped(tmp_path / "s.zip", zeros=b"\0" * 1_000_000)
    archive.check(path)  # 1:600, but small
    monkeypatch.setattr(archive_rules, "RATIO_FREE_BYTES", 1_000_000)
    assert [rule for rule, _, _ in findings_of(BAD_ZIP, path)] == ["archive-ratio"]


def test_no_room(tmp_path, monkeypatch):
    """A full disk is ours to mend, not the team's fault."""
    path = zipped(tmp_path / "s.zip")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))  # type: ignore[attr-defined]
    with pytest.raises(EvaluatorError, match="1 are free") as caught:
        archive.unpack(path, tmp_path / "out")
    assert type(caught.value) is EvaluatorError


# --- wrong usage ---


def test_wrong_paths(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("none", "fifo", "folder"):
        for step in (archive.check, lambda path: archive.unpack(path, tmp_path / "folder")):
            with pytest.raises(DataError, match=name):
                step(tmp_path / name)


def test_unpacking_over_something_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(EvaluatorError, match="not empty"):
        archive.unpack(zipped(tmp_path / "s.zip"), tmp_path / "out")
    assert (tmp_path / "out" / "mine").exists()


# --- metadata.json ---


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Metadata.json", "found 'Metadata.json': case matters"),
        ("METADATA.JSON", "found 'METADATA.JSON': case matters"),
        ("моя работа/metadata.json", "found 'моя работа/metadata.json': pack the folder's content, not the folder"),
        ("a/b/Metadata.json", "found 'a/b/Metadata.json': pack the folder's content"),
        ("other.json", "metadata.json is missing at the root of the submission"),
    ],
)
def test_metadata_is_missing(tmp_path, name, hint):
    path = zipped(tmp_path / "s.zip", **{"metadata.json": None, name: json.dumps(METADATA)})
    ((rule, _, found),) = findings_of(BAD_METADATA, path)
    assert rule == "metadata-missing" and hint in found
    if name.count("/") < 2:  # the same in a folder
        (tmp_path / "out").mkdir()
        archive.unpack(path, tmp_path / "out")
        with raises_verdict(BAD_METADATA, match="is missing") as caught:
            metadata.read(tmp_path / "out")
        assert hint in str(caught.value)


IMAGE = '"image": "a/b:1"'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["json-syntax"]),
        ("{", ["json-syntax"]),
        ("[" * 10_000, ["json-depth"]),
        (b"\xff", ["json-encoding"]),
        (" " * 1_000_001, ["file-size"]),
        ("[]", ["metadata-shape"]),
        ("null", ["metadata-shape"]),
        ("{}", ["metadata-shape", "metadata-shape"]),
        ('{"image": 1, "entrypoint": ["python3", "run.py"]}', ["metadata-shape", "metadata-shape"]),
        ('{"image": "", "entrypoint": "\\u00a0"}', ["metadata-shape", "metadata-shape"]),
        (f'{{{IMAGE}, {IMAGE}, "entrypoint": "python3 run.py"}}', ["duplicate-key"]),
        (f'{{{IMAGE}, "entrypoint": "python3 run.py", "x": NaN}}', ["json-number"]),
        (f'{{{IMAGE}, "entrypoint": "python3 \'run.py"}}', ["entrypoint-syntax"]),
        (f'{{{IMAGE}, "entrypoint": "python3 run.py \\u0000"}}', ["entrypoint-syntax"]),
        (f'{{{IMAGE}, "entrypoint": "python3 run.py \\ud800"}}', ["half-surrogate"]),
        (f'{{{IMAGE}, "entrypoint": "python3 {"x" * 2**17}"}}', ["entrypoint-length"]),
        (f'{{{IMAGE}, "entrypoint": "python3 {"ё" * 2**16}"}}', ["entrypoint-length"]),
        (f'{{{IMAGE}, "entrypoint": "{"x" * 256}"}}', ["entrypoint-length"]),
        (f'{{{IMAGE}, "entrypoint": "bin/{"ё" * 128}"}}', ["entrypoint-length"]),
        (f'{{{IMAGE}, "entrypoint": "{"d/" * 2048}run"}}', ["entrypoint-length"]),
        ('{"image": "Fusion/Brain", "entrypoint": "x"}', ["metadata-image"]),
        ('{"image": "a b", "entrypoint": "x"}', ["metadata-image"]),
        ('{"image": "--privileged", "entrypoint": "\'"}', ["metadata-image", "entrypoint-syntax"]),
    ],
)
def test_metadata_is_wrong(tmp_path, content, expected):
    path = zipped(tmp_path / "s.zip", **{"metadata.json": content})
    found = findings_of(BAD_METADATA, path)
    assert [rule for rule, _, _ in found] == expected and {where.partition(":")[0] for _, where, _ in found} == {
        "metadata.json"
    }


@pytest.mark.parametrize(
    "image",
    ["python", "python:3.11-slim", "a/b:1", "cr.ru/team_1/ru-dolph:v2.0", "localhost:5000/x", "a@sha256:" + "0" * 64],
)
def test_image_names(image):
    assert metadata.parse(json.dumps({"image": image, "entrypoint": "x"}).encode()).image == image


def test_metadata_may_have_a_byte_order_mark_and_more_keys(tmp_path):
    document = json.dumps(METADATA | {"authors": "ёжик"}, ensure_ascii=False)
    assert archive.check(zipped(tmp_path / "s.zip", **{"metadata.json": b"\xef\xbb\xbf" + document.encode()}))


@pytest.mark.parametrize(
    ("entrypoint", "found"),
    [
        ("python3 run.py", ""),
        ("python3 -u -X dev ./run.py --fast", ""),
        ("python3 -W ignore -O 'src/мой код.py'", ""),
        ("python3.11 src", ""),  # it has a __main__.py
        ("python3 -m torch.distributed.run run.py", ""),
        ("python3 -c 'import run'", ""),
        ("sh src/run.sh", ""),
        ("bash -c 'python3 run.py'", ""),
        ("./src/run.sh", ""),
        ("/usr/bin/env python3 run.py", ""),
        ("accelerate launch run.py", ""),
        ("python3 main.py", "'main.py' is not in the archive"),
        ("python3 Run.py", "'Run.py' is not in the archive"),
        ("python3 submission/run.py", "'submission/run.py' is not in the archive"),
        ("python3 -W ignore main.py", "'main.py' is not in the archive"),
        ("python3 run.py; echo", "'run.py;' is not in the archive"),
        ("python3", "names no script"),
        ("bash run.sh", "'run.sh' is not in the archive"),
        ("./run.py", "'./run.py' is not executable"),
        ("run.py", "looked for on PATH, not in the archive; write ./run.py"),
        ("''", "name is empty"),
    ],
)
def test_entrypoints(entrypoint, found):
    files = {"run.py": False, "src/run.sh": True, "src/__main__.py": False, "src/мой код.py": False}
    facts = metadata.parse(json.dumps({"image": "a", "entrypoint": entrypoint}).encode())
    findings = Findings()
    metadata.check_script(facts, files, findings)
    assert bool(findings) == bool(found)
    if found:
        assert findings.kept[0].rule == "entrypoint-script" and found in findings.kept[0].found


def test_a_long_entrypoint_within_the_limits():
    for entrypoint in ("python3 run.py ".ljust(2**17 - 1, "x"), "x" * 255, f"{'d/' * 2047}x"):
        assert metadata.parse(json.dumps({"image": "a", "entrypoint": entrypoint}).encode()).entrypoint == entrypoint


def entrypoint_findings(entrypoint: str) -> list[tuple[str, str]]:
    facts = metadata.parse(json.dumps({"image": "a", "entrypoint": entrypoint}).encode())
    findings = Findings()
    metadata.check_script(facts, {"run.py": False, "run.sh": True}, findings)
    return [(finding.rule, finding.found) for finding in findings.kept]


@pytest.mark.parametrize(
    ("entrypoint", "piece"),
    [
        ("python3 run.py && echo done", "&&"),
        ("python3 run.py || true", "||"),
        ("python3 run.py ; echo done", ";"),
        ("python3 run.py | tee output/log", "|"),
        ("python3 run.py &", "&"),
        ("python3 run.py > output/log.txt", ">"),
        ("python3 run.py 2>&1", ">"),
        ("python3 run.py >> output/log.txt", ">>"),
        ("python3 run.py < ../input/input.json", "<"),
        ("python3 run.py $HOME", "$HOME"),
        ("python3 run.py --home=${HOME}", "${"),
        ('python3 run.py "$HOME/x"', "$HOME"),
        ("python3 run.py $(nproc)", "$("),
        ("python3 run.py `nproc`", "`"),
        ('python3 run.py "`nproc`"', "`"),
        ("python3 run.py ../input/images/*.jpg", "*"),
        ("python3 run.py ~/weights", "~"),
        ("python3 run.py # as fast as it can", "#"),
        ("python3 prepare.py\npython3 run.py", "line break"),
        ("OMP_NUM_THREADS=1 python3 run.py", "OMP_NUM_THREADS=1"),
        ("cd src && python3 run.py", "cd"),
        ("source venv/bin/activate", "source"),
        (". venv/bin/activate", "."),
        ("export A=1; python3 run.py", "export"),
        ("exec python3 run.py", "exec"),
        *((f"python3 run.py a{piece}", piece) for piece in ("$1", "$?", "$$", "$!", "$#", "$*", "$-", "(", ")")),
        ("python3 run.py {a,b}.json", "{a,b}"),
        ("python3 run.py {1..3}", "{1..3}"),
        ("python3 run.py a=~", "~"),
        ("python3 run.py --out=~/x", "~"),
        ('sh -c "python3 run.py" && echo "$HOME"', "&&"),
        *((f"{word} python3 run.py", word) for word in "command time then do wait pushd popd read".split()),
        *((f"{word} python3 run.py", word) for word in "return local declare builtin shopt let if for while".split()),
    ],
)
def test_entrypoints_for_a_shell(entrypoint, piece):
    """Refused, in words that say why; what else is wrong with it may be said as well."""
    rule, found = entrypoint_findings(entrypoint)[-1]
    assert rule == "entrypoint-shell"
    assert f": {piece!r} is for a shell" in found and "no shell" in found


@pytest.mark.parametrize(
    "entrypoint",
    [
        "  python3 run.py\n",
        "sh -c 'cd src && python3 run.py > log; echo $HOME `id` *'",
        'bash -c "python3 run.py; true & wait"',
        "python3 run.py --stop ';' '$5' '*' '~' '#1' \\$x \\; \\*",
        'python3 run.py --prompt "100 $, a \\$x & b"',
        "python3 run.py --color=#fff --ref=HEAD~1 --size [1,2] --what?",
        "env OMP_NUM_THREADS=1 python3 run.py A=1",
        "./run.sh --price 5$",
        'bash -c "python3 run.py --out $TMPDIR"',
        'sh -c "x=$(ls); python3 run.py"',
        'bash -lc "python3 run.py --id `hostname`"',
        "python3 -c \"print('$HOME')\"",
        'env A=1 bash -euc "cd src; python3 run.py $1 {a,b} (x)"',
        'python3 run.py \'(\' "{a,b}" \\( {"a,b"} {a} {} "$5 $?" a=x~ HEAD~ --time \'a=~\'',
    ],
)
def test_entrypoints_that_need_no_shell(entrypoint):
    assert entrypoint_findings(entrypoint) == []


@pytest.mark.parametrize("piece", ["{", "{,", ",", "{a..", "a", "1", "$", "~", "=~"])
def test_a_long_entrypoint_is_read_in_a_time_that_is_linear(piece):
    """The square of its length would take minutes."""
    entrypoint_findings("python3 run.py {" + piece * (100_000 // len(piece)))


def test_unknown_keys_of_the_metadata_are_named(tmp_path, capsys):
    document = METADATA | {"authors": "ёжик", "Entrypoint": "x"}
    path = zipped(tmp_path / "s.zip", **{"metadata.json": json.dumps(document)})
    assert main(["check", str(path), "--json", str(tmp_path / "check.json")]) == 0
    printed = capsys.readouterr().out
    notes = json.loads((tmp_path / "check.json").read_text(encoding="utf-8"))["notes"]
    assert len(notes) == 2
    for key, note in zip(("authors", "Entrypoint"), notes, strict=True):
        assert note == f"note: metadata.json: the key '{key}' is unknown and not used; known are image and entrypoint"
        assert note in printed
    meant = json.dumps({"image": "a/b:1", "entry_point": "python3 run.py"})
    found = findings_of(BAD_METADATA, zipped(tmp_path / "t.zip", **{"metadata.json": meant}))
    assert "not None; unknown keys are 'entry_point'" in str(found)


# --- folders ---


@pytest.mark.parametrize("name", ["output", "input", "tmp", "./output", "Output"])
def test_a_file_where_a_run_has_a_folder(tmp_path, name):
    path = zipped(tmp_path / "s.zip", **{name: "x"})
    ((rule, where, found),) = findings_of(BAD_ZIP, path)
    assert (rule, where, found) == ("entry-reserved", f"entry {name.strip('./')!r}", "is a file")
    (tmp_path / "out").mkdir()
    with raises_verdict(BAD_ZIP, match="entry-reserved"):
        archive.unpack(path, tmp_path / "out")
    copied, source = tmp_path / "copied", tmp_path / "source"
    copied.mkdir()
    source.mkdir()
    (source / "metadata.json").write_text(json.dumps(METADATA))
    (source / name.strip("./")).write_text("x")
    with raises_verdict(BAD_ZIP, match="entry-reserved"):
        folder.copy_folder(source, copied)


def test_folders_of_these_names_and_files_below_them_may_be(tmp_path):
    path = zipped(tmp_path / "s.zip", **{"output/a": "x", "input/b": "x", "tmp/c": "x", "src/output": "x"})
    assert archive.check(path).files == 6
    with zipfile.ZipFile(tmp_path / "closed.zip", "w") as file:
        file.writestr("metadata.json", json.dumps(METADATA))
        file.writestr("run.py", "x")
        closed = zipfile.ZipInfo("output/")
        closed.external_attr = (stat.S_IFDIR | 0o000) << 16
        file.writestr(closed, "")
    (tmp_path / "out").mkdir()
    archive.unpack(tmp_path / "closed.zip", tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out/output").stat().st_mode) == 0o755


def test_copying_is_zipping_and_unpacking(submission, tmp_path):
    before = contents(submission)
    for name in ("output/x.json", "training/x.py", "веса ё/__pycache__/x.pyc", ".git/config", "веса ё/.DS_Store"):
        (submission / name).parent.mkdir(parents=True, exist_ok=True)
        (submission / name).write_text("x")
    (tmp_path / "out").mkdir()
    folder.copy_folder(submission, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_what_a_zip_could_not_carry_is_refused(submission, tmp_path):
    (submission / "ссылка").symlink_to("/etc/passwd")
    (submission / "веса ё" / "loop").symlink_to(submission)
    os.mkfifo(submission / "fifo")
    (submission / "Run.py").write_text("x")
    (submission / os.fsdecode(b"\xff.txt")).write_text("x")
    (tmp_path / "out").mkdir()
    with raises_verdict(BAD_ZIP) as caught:
        folder.copy_folder(submission, tmp_path / "out")
    broken = sorted(finding.rule for finding in caught.value.findings)
    assert broken == ["entry-collision", "entry-encoding", "entry-kind", "entry-kind", "entry-kind"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_becomes_a_link_is_not_followed(submission, tmp_path):
    """Swapped between listing and reading, as a program of the participant's could."""
    secret = tmp_path / "secret"
    secret.write_text("print('ответ')\n", encoding="utf-8")
    size = (submission / "run.py").stat().st_size
    assert b"".join(folder.read_file(submission, "run.py", size))
    (submission / "run.py").unlink()
    (submission / "run.py").symlink_to(secret)
    (submission / "веса ё").rename(tmp_path / "elsewhere")
    (submission / "веса ё").symlink_to(tmp_path / "elsewhere")
    (submission / "ничего").unlink()
    os.mkfifo(submission / "ничего")
    changed = {"run.py": size, "веса ё/модель 🐈.bin": 10240, "ничего": 0, "metadata.json": 3, "run.sh": 99, "none": 1}
    for path, listed in changed.items():
        with raises_verdict(BAD_ZIP) as caught:
            b"".join(folder.read_file(submission, path, listed))
        assert caught.value.findings[0].rule == "file-changed"


def test_a_copy_that_fails_leaves_nothing(submission, tmp_path, monkeypatch):
    read = folder.read_file

    def interrupted(root, path, size):
        if path == "run.py":
            raise KeyboardInterrupt
        return read(root, path, size)

    monkeypatch.setattr(folder, "read_file", interrupted)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        folder.copy_folder(submission, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    total = sum(path.stat().st_size for path in submission.rglob("*") if path.is_file())
    with raises_verdict(BAD_ZIP, match=f"{total} bytes unpacked"):
        folder.copy_folder(submission, tmp_path / "out", total - 1)


@pytest.mark.parametrize(
    ("length", "rule"), [(2**17 - 1, None), (2**17, "entrypoint-length"), (990_000, "entrypoint-length")]
)
def test_a_long_entrypoint(tmp_path, length, rule):
    entrypoint = "python3 run.py "
    entrypoint += "ё" * 1000
    entrypoint += "a" * (length - len(entrypoint.encode()))
    path = zipped(tmp_path / "s.zip", **{"metadata.json": json.dumps(METADATA | {"entrypoint": entrypoint})})
    if rule is None:
        assert archive.check(path).metadata.entrypoint == entrypoint
    else:
        ((found, _, value),) = findings_of(BAD_METADATA, path)
        assert found == rule and f"has {length} bytes" in value
