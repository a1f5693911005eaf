"""Archives made to harm, mislead or exhaust whoever opens them: each gets its verdict and its rule, in bounded time
and memory, with nothing written outside the folder and nothing left in it.
"""

import io
import itertools
import shutil
import stat
import struct
import subprocess
import sys
import time
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evaluator.core import files, limits, strict_json
from evaluator.core.errors import MAX_FINDINGS, SubmissionError
from evaluator.core.verdict import BAD_METADATA, BAD_ZIP
from evaluator.package import archive, rules
from tests.support.rules import rules_of

EVIL_WAS_THERE = Path("/tmp/fbc-evil").exists()  # somebody else's, as /tmp is everybody's
SECONDS = 300.0  # far beyond what any archive takes, also on a busy machine
METADATA = b'{"image": "a/b:1", "entrypoint": "python3 run.py"}'
RULES = {
    *rules_of(rules, files, strict_json),
    *(rule(0).name for rule in (rules.packed_size, rules.unpacked_size, rules.entry_count, files.file_size)),
}

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Member:
    """One entry, with each field of its two headers as an attacker may want it; None: the honest value."""

    name: bytes
    content: bytes = b"x"
    method: int = 8
    version: int = 20
    local_version: int = 20
    flags: int = 0x800
    mode: int = stat.S_IFREG | 0o644
    attributes: int = 0
    extra: bytes = b""
    packed: bytes | None = None
    size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    local_size: int | None = None
    local_method: int | None = None
    at: int | None = None  # where the directory says that it begins
    central_extra: bytes = b""
    disk: int = 0


def build(
    members: list[Member], prefix: bytes = b"", suffix: bytes = b"", before_directory: bytes = b"", **end: int
) -> bytes:
    """A ZIP of these members, written by hand."""
    body, records = bytearray(prefix), []
    for member in members:
        packed = member.packed
        if packed is None:
            packed = member.content if member.method != 8 else deflate(member.content)
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        size = len(member.content) if member.size is None else member.size
        local = member.name if member.local_name is None else member.local_name
        start = len(body) if member.at is None else member.at
        local_size = size if member.local_size is None else member.local_size
        method = member.method if member.local_method is None else member.local_method
        head = (b"PK\3\4", member.local_version, member.flags, method, 0, 33, crc, len(packed), local_size, len(local))
        if member.at is None:
            body += struct.pack("<4s5H3L2H", *head, len(member.extra)) + local + member.extra + packed
        extra = member.extra + member.central_extra
        central = (b"PK\1\2", 0x314, member.version, member.flags, member.method, 0, 33, crc, len(packed), size)
        more = (len(member.name), len(extra), 0, member.disk, 0, member.mode << 16 | member.attributes, start)
        records.append(struct.pack("<4s6H3L5H2L", *central, *more) + member.name + extra)
    body += before_directory
    directory = b"".join(records)
    fields = {"disk": 0, "first": 0, "here": len(members), "count": len(members), "size": len(directory)}
    fields |= {"start": len(body), "comment": 0} | end
    return bytes(body) + directory + struct.pack("<4s4H2LH", b"PK\5\6", *fields.values()) + suffix


def deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


GOOD = [Member(b"metadata.json", METADATA), Member(b"run.py", b"print('x')\n")]


def verdict(content: bytes, folder: Path) -> set[str]:
    """The rules that `check` and `unpack` name; empty for an archive that both take. Fails for anything but a verdict,
    and for anything left behind.
    """
    path, destination = folder / "s.zip", folder / "unpacked"
    path.write_bytes(content)
    shutil.rmtree(destination, ignore_errors=True)
    destination.mkdir()
    start = time.monotonic()
    found: set[str] = set()
    for step in (lambda: archive.check(path), lambda: archive.unpack(path, destination)):
        try:
            step()
        except SubmissionError as error:
            assert error.verdict in (BAD_ZIP, BAD_METADATA) and error.exit_code == 1
            assert 0 < len(error.findings) <= MAX_FINDINGS and error.total >= len(error.findings)
            for finding in error.findings:
                assert finding.rule in RULES, finding
                assert finding.found and finding.allowed and finding.fix and str(finding).isprintable()
            found |= {finding.rule for finding in error.findings}
            assert list(destination.iterdir()) == []
    assert time.monotonic() - start < SECONDS and (EVIL_WAS_THERE or not Path("/tmp/fbc-evil").exists())
    assert sorted(path.name for path in folder.iterdir()) == ["s.zip", "unpacked"]
    if not found:
        for path in destination.rglob("*"):
            assert path.is_dir() or (path.is_file() and not path.is_symlink())
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    return inner


def test_the_builder_makes_good_archives(folder):
    """Else every test below could pass for a wrong reason."""
    assert verdict(build(GOOD), folder) == set()
    assert (folder / "unpacked" / "metadata.json").read_bytes() == METADATA
    assert zipfile.ZipFile(io.BytesIO(build(GOOD))).testzip() is None


def named(name: str | bytes, **fields: object) -> list[Member]:
    return [*GOOD, Member(name if isinstance(name, bytes) else name.encode(), **fields)]  # type: ignore[arg-type]


def pair(first: str, second: str) -> list[Member]:
    return [*GOOD, Member(first.encode()), Member(second.encode())]


LINK, SOCKET = stat.S_IFLNK | 0o777, stat.S_IFSOCK | 0o777
E_COMPOSED, E_DECOMPOSED = unicodedata.normalize("NFC", "ё"), unicodedata.normalize("NFD", "ё")
ZIP64_TWICE = struct.pack("<2HQ", 1, 8, 1) * 2
OTHER_NAME = b"../evil"
UNICODE_NAME = struct.pack("<2HBL", 0x7075, 5 + len(OTHER_NAME), 1, zlib.crc32(b"innocent")) + OTHER_NAME

CASES: dict[str, tuple[list[Member], str]] = {
    # names that lead elsewhere
    "zip slip": (named("../evil"), "entry-path"),
    "zip slip, deep": (named("a/b/../../../evil"), "entry-path"),
    "absolute": (named("/tmp/fbc-evil"), "entry-path"),
    "drive letter": (named("C:/evil"), "entry-path"),
    "drive letter, relative": (named("C:evil"), "entry-path"),
    "backslashes": (named("..\\..\\evil"), "entry-path"),
    "share": (named("\\\\host\\evil"), "entry-path"),
    "only dots": (named("./."), "entry-path"),
    "empty name": (named(""), "entry-path"),
    # names that mislead
    "NUL": (named("run.py\0.txt"), "entry-path"),
    "new line": (named("a\nINFO: forged"), "entry-path"),
    "escape": (named("a\x1b[2J"), "entry-path"),
    "right to left": (named("a\u202egpj.exe"), "entry-path"),
    "not UTF-8": (named("модель".encode("cp866"), flags=0), "entry-encoding"),
    "not UTF-8, flagged so": (named(b"\xff\xfe"), "entry-encoding"),
    "half a surrogate": (named(b"\xed\xa0\x80"), "entry-encoding"),
    "overlong UTF-8 of ../": (named(b"\xc0\xae\xc0\xae/evil"), "entry-encoding"),
    "second name": (named("innocent", extra=UNICODE_NAME), "archive-contradiction"),
    "long part": (named("ё" * 128), "entry-name-length"),
    "long path": (named("/".join(["a" * 250] * 9)), "entry-name-length"),
    "longest name": (named("a" * 65535), "entry-name-length"),
    "deep": (named("a/" * 64 + "b"), "entry-depth"),
    # names against each other
    "duplicate": (pair("a", "a"), "entry-duplicate"),
    "duplicate run.py": (named("run.py"), "entry-duplicate"),
    "duplicate, written otherwise": (pair("a/b", "./a//b"), "entry-duplicate"),
    "case": (pair("Веса", "веса"), "entry-collision"),
    "case of a folder": (pair("A/b", "a/c"), "entry-collision"),
    "normalisation": (pair(E_COMPOSED, E_DECOMPOSED), "entry-collision"),
    "file and folder": (pair("a", "a/"), "entry-conflict"),
    "file below a file": (pair("a", "a/b"), "entry-conflict"),
    "file far below a file": (pair("a/b/c/d", "a"), "entry-conflict"),
    # what is no file
    "symbolic link": (named("weights", content=b"/etc/passwd", mode=LINK), "entry-kind"),
    "link, then through it": ([*GOOD, Member(b"d", b"/tmp", mode=LINK), Member(b"d/fbc-evil")], "entry-kind"),
    "link called a folder": (named("weights/", content=b"", mode=LINK), "entry-kind"),
    "FIFO": (named("a", mode=stat.S_IFIFO | 0o644), "entry-kind"),
    "device": (named("a", mode=stat.S_IFCHR | 0o666), "entry-kind"),
    "block device": (named("a", mode=stat.S_IFBLK | 0o666), "entry-kind"),
    "socket": (named("a", mode=SOCKET), "entry-kind"),
    "link of Windows": (named("a", attributes=0x400), "entry-kind"),
    "folder by its mode": (named("a", mode=stat.S_IFDIR | 0o755), "entry-conflict"),
    "folder with content": (named("a/", mode=stat.S_IFDIR | 0o755), "entry-conflict"),
    # records that contradict each other
    "two names": (named("good", local_name=b"evil"), "archive-contradiction"),
    "two sizes": (named("a", local_size=2), "archive-contradiction"),
    "two methods": (named("a", local_method=0), "archive-contradiction"),
    "no entry there": (named("a", at=5), "archive-contradiction"),
    "beyond the end": (named("a", at=10**9), "archive-contradiction"),
    "ZIP64 twice": (named("a", central_extra=ZIP64_TWICE), "archive-contradiction"),
    "ZIP64 without the value": (named("a", size=2**32 - 1, extra=b"\1\0\0\0"), "archive-contradiction"),
    "extra cut short": (named("a", extra=b"\1\0\xff\xff"), "archive-contradiction"),
    "another volume": (named("a", disk=1), "archive-disks"),
    # contents
    "encrypted": (named("a", flags=0x801), "archive-encrypted"),
    "strongly encrypted": (named("a", flags=0x841), "archive-encrypted"),
    "AES": (named("a", method=99), "archive-encrypted"),
    "bzip2": (named("a", method=12), "archive-method"),
    "LZMA": (named("a", method=14), "archive-method"),
    "Deflate64": (named("a", method=9), "archive-method"),
    "patch": (named("a", flags=0x820), "archive-method"),
    "version 6.4": (named("a", version=64), "archive-version"),
    "version 25.5 in the entry alone": (named("a", local_version=0x3FF), "archive-version"),
    "folder of rubbish": (named("a/", content=b"", mode=stat.S_IFDIR, packed=b"\7"), "archive-corrupt"),
    "wrong checksum": (named("a", crc=1), "archive-corrupt"),
    "not deflated": (named("a", packed=b"\xff" * 9), "archive-corrupt"),
    "deflated and cut": (named("a", content=b"abc" * 99, packed=deflate(b"abc" * 99)[:-2]), "archive-corrupt"),
    "bytes behind the deflated": (named("a", packed=deflate(b"x") + b"hidden"), "archive-surplus"),
    "stored, two sizes": (named("a", method=0, size=2), "archive-contradiction"),
    "less than declared": (named("a", size=10**6), "archive-corrupt"),
    "more than declared": (named("a", content=b"\0" * 10**7, size=10), "archive-corrupt"),
    # bombs
    "declares 1 EB": (
        named("a", size=2**32 - 1, extra=struct.pack("<2HQ", 1, 8, 10**18)), "archive-unpacked-size"
    ),
    "ratio": (named("a", content=b"\0" * (10**8 + 1)), "archive-ratio"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_entries(folder, case):
    members, rule = CASES[case]
    found = verdict(build(members), folder)
    also = {"declares 1 EB": {"archive-ratio"}, "link, then through it": {"entry-conflict"}}
    assert found == {rule} | also.get(case, set())


@pytest.mark.parametrize(
    ("content", "rule"),
    {
        "empty": (b"", "archive-format"),
        "text": ("это не архив".encode(), "archive-format"),
        "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "archive-format"),
        "tar.gz": (b"\x1f\x8b\x08" + bytes(100), "archive-format"),
        "program before it": (build(GOOD, prefix=b"#!/bin/sh\nexit\n"), "archive-surplus"),
        "program before it, offsets left": (b"#!/bin/sh\nexit\n" + build(GOOD), "archive-surplus"),
        "JPEG before it": (b"\xff\xd8\xff\xe0" + bytes(99) + build(GOOD), "archive-surplus"),
        "bytes behind it": (build(GOOD) + b"more", "archive-surplus"),
        "bytes before the directory": (build(GOOD, before_directory=b"hidden"), "archive-surplus"),
        "another archive before it": (build(GOOD) + build(GOOD), "archive-surplus"),
        "another end in the comment": (
            build(GOOD, comment=22) + b"PK\5\6" + bytes(18), "archive-contradiction",
        ),
        "volume": (build(GOOD, disk=1), "archive-disks"),
        "volumes": (build(GOOD, here=1), "archive-disks"),
        "fewer entries than it says": (build(GOOD, here=3, count=3), "archive-contradiction"),
        "more entries than it says": (build(GOOD, here=1, count=1), "archive-surplus"),
        "directory out of the file": (build(GOOD, start=10**6), "archive-truncated"),
        "directory of 4 GB": (build(GOOD, size=2**32 - 1), "archive-contradiction"),
        "directory of 1 GB": (build(GOOD, size=10**9), "archive-truncated"),
        "65 535 entries, none there": (build([], here=65535, count=65535), "archive-contradiction"),
    }.values(),
)  # fmt: skip
def test_archives(folder, content, rule):
    assert verdict(content, folder) == {rule}


def zip64_end(members: list[Member], length: int = 44, offset: int = 0, disks: int = 1, **end: int) -> bytes:
    """A small ZIP with ZIP64 end records."""
    plain = build(members)
    body, (_, _, _, here, count, size, start, _) = plain[:-22], struct.unpack("<4s4H2LH", plain[-22:])
    fields = {"here": here, "count": count, "size": size, "start": start} | end
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", length, 45, 45, 0, 0, *fields.values())
    return body + record + struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + offset, disks) + plain[-22:]


FULL = build([], count=65535, here=65535, size=2**32 - 1, start=2**32 - 1)  # an end record that says: see ZIP64


@pytest.mark.parametrize(
    ("content", "rules_found"),
    [
        (zip64_end(GOOD), set()),
        (zip64_end(GOOD, count=3, here=3), {"archive-contradiction"}),
        (zip64_end(GOOD, start=0), {"archive-contradiction"}),
        (zip64_end(GOOD, length=60), {"archive-surplus"}),
        (zip64_end(GOOD, offset=-1), {"archive-surplus"}),
        (zip64_end(GOOD, disks=2), {"archive-disks"}),
        (zip64_end(GOOD)[:-22] + FULL, set()),
        (zip64_end(GOOD, count=2**60, here=2**60), {"archive-contradiction"}),
        (zip64_end(GOOD, count=2**60, here=2**60)[:-22] + FULL, {"archive-entries"}),
    ],
)  # fmt: skip
def test_zip64(folder, content, rules_found):
    assert verdict(content, folder) == rules_found


def test_all_findings_at_once(folder):
    members = [Member(b"Metadata.JSON", METADATA), Member(b"../x"), Member(b"l", mode=LINK), Member(b"e", flags=0x801)]
    assert verdict(build(members), folder) == {"entry-path", "entry-kind", "archive-encrypted"}
    assert verdict(build(members[:-1]), folder) == {"entry-path", "entry-kind", "metadata-missing"}


# --- bombs ---


def test_overlapping_bomb(folder):
    """David Fifield's: many entries share one kernel of data, so that 10 MB declare terabytes."""
    kernel = Member(b"kernel", b"\0" * 10**6)
    at = len(build([*GOOD, kernel]).partition(b"PK\1\2")[0]) - 30 - len(b"kernel" + deflate(kernel.content))
    same = [Member(b"kernel", b"\0" * 10**6, at=at) for _ in range(50)]
    assert verdict(build([*GOOD, kernel, *same]), folder) == {"archive-overlap", "entry-duplicate"}
    # With names of their own the headers must be there, each quoting the next as its content.
    quoted = b""
    members: list[Member] = []
    for index in reversed(range(20)):
        name = b"f%02d" % index
        content = quoted or b"x"
        head = (b"PK\3\4", 20, 0x800, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name), 0)
        quoted = struct.pack("<4s5H3L2H", *head) + name + content
        members.insert(0, Member(name, content, method=0))
    offset = 0
    for member in members:
        member.at = offset
        offset += 30 + 3
    assert verdict(build(members, prefix=quoted), folder) == {"archive-overlap", "metadata-missing"}


def test_nested_bomb_costs_nothing(folder):
    """An archive inside is a file; nobody opens it."""
    inner = build([Member(b"zeros", b"\0" * 10**8)])
    for _ in range(3):
        inner = build([Member(b"%d.zip" % index, inner) for index in range(8)])
    assert verdict(build([*GOOD, Member(b"bomb.zip", inner)]), folder) == set()
    assert sum(path.stat().st_size for path in (folder / "unpacked").iterdir()) < 10**6


def test_lying_bomb_is_stopped_in_memory_and_on_disk(folder):
    """1 GB of zeros that declares 1000 bytes, unpacked by a process that may use no such memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(10**7)) + packer.flush(zlib.Z_FULL_FLUSH)  # after which nothing refers to it
    packed = block * 100 + packer.flush()
    assert zlib.decompressobj(-15).decompress(block * 2) == bytes(2 * 10**7)
    (folder / "s.zip").write_bytes(build([*GOOD, Member(b"a", packed=packed, size=1000, crc=0)]))
    code = """
import resource, sys
from pathlib import Path
from evaluator.package import archive
from evaluator.core import errors
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for step in (lambda: archive.check(Path(sys.argv[1])), lambda: archive.unpack(Path(sys.argv[1]), Path(sys.argv[2]))):
    try:
        step()
    except errors.SubmissionError as error:
        print(error.findings[0].rule)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)
"""
    (folder / "unpacked").mkdir()
    command = [sys.executable, "-c", code, folder / "s.zip", folder / "unpacked"]
    root = Path(archive.__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=root)
    *found, grown = done.stdout.split()
    assert found == ["archive-corrupt"] * 2 and int(grown) < 30_000  # KiB
    assert list((folder / "unpacked").iterdir()) == []


def test_too_many_entries(folder):
    with zipfile.ZipFile(folder / "s.zip", "w") as file:
        for index in range(limits.MAX_ARCHIVE_ENTRIES + 1):
            file.writestr(zipfile.ZipInfo(str(index)), b"")
    content = (folder / "s.zip").read_bytes()
    start = time.process_time()
    assert verdict(content, folder) == {"archive-entries"}
    assert time.process_time() - start < 2  # they are counted, not read


def test_too_many_implied_folders(folder):
    """2000 entries, each below 63 folders of its own: 126 000 folders to make."""
    members = [Member(b"%d/" % index + b"d/" * 62 + b"f") for index in range(2000)]
    assert verdict(build([*GOOD, *members]), folder) == {"archive-entries"}


def test_huge_directory(folder):
    fields = struct.pack("<2H", 0x9999, 65000) + bytes(65000)
    members = [Member(b"%d" % index, central_extra=fields) for index in range(1000)]
    assert verdict(build([*GOOD, *members]), folder) == {"archive-directory"}


def test_many_findings_are_bounded(folder):
    content = build([Member(b"../%d" % index) for index in range(20_000)])
    assert verdict(content, folder) == {"entry-path", "metadata-missing"}


# --- damage ---


def realistic() -> bytes:
    """What people send: stored weights, deflated code, Russian names, from Python's own packer."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", METADATA)
        file.writestr("run.py", "print('ответ')\n" * 20)
        file.writestr(zipfile.ZipInfo("веса/модель ё.bin"), bytes(range(256)) * 2)
    return packed.getvalue()


def test_truncated(folder):
    """At every tenth of its length, at every byte of its end, and the other way round: the beginning is missing."""
    content = realistic()
    assert verdict(content, folder) == set()
    places = [len(content) * tenth // 10 for tenth in range(10)] + list(range(len(content) - 22, len(content)))
    for place in places:
        assert verdict(content[:place], folder) & {"archive-truncated", "archive-format"}, place
        if place:
            assert verdict(content[place:], folder) & {"archive-truncated", "archive-format"}, place


@many
@given(data=st.data())
def test_flipped_bytes(tmp_path_factory, data):
    """Whatever is damaged: a verdict, or an archive that both take and that unpacks to bytes of the same CRC-32."""
    content = bytearray(realistic())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    verdict(bytes(content), tmp_path_factory.mktemp("flip"))


@pytest.mark.parametrize("version", [10, 20, 45, 63, 0x31E])
def test_versions_that_readers_take(folder, version):
    assert verdict(build([*GOOD, Member(b"a", version=version, local_version=version)]), folder) == set()


def test_what_is_taken_is_read_by_zipfile(folder):
    """Each bit of an archive with files, a folder and a name beyond ASCII, flipped alone."""
    good = build([*GOOD, Member("ё".encode()), Member(b"f/", b"", mode=stat.S_IFDIR | 0o755)])
    taken = 0
    for at, bit in itertools.product(range(len(good)), range(8)):
        content = bytearray(good)
        content[at] ^= 1 << bit
        (folder / "s.zip").write_bytes(content)
        try:
            report = archive.check(folder / "s.zip")
        except SubmissionError:
            continue
        with zipfile.ZipFile(folder / "s.zip") as file:
            assert file.testzip() is None
            assert sum(info.file_size for info in file.infolist()) == report.unpacked
        taken += 1
    assert taken > 100  # times, modes, what packed it


@many
@given(content=st.binary(max_size=300), directory=st.booleans())
def test_rubbish(tmp_path_factory, content, directory):
    """Random bytes, also where the directory should be."""
    if directory:
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(content), 0, 0)
        content = b"PK\1\2" + content + end
    assert verdict(content, tmp_path_factory.mktemp("rubbish"))


@many
@given(
    name=st.one_of(st.binary(max_size=20), st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))),
    mode=st.integers(0, 0xFFFF),
    flags=st.integers(0, 0xFFFF),
    size=st.none() | st.integers(0, 2**32 - 1),
    extra=st.binary(max_size=20),
)
def test_random_entries(tmp_path_factory, name, mode, flags, size, extra):
    member = Member(name, name * 3, mode=mode, flags=flags, size=size, extra=extra)
    verdict(build([*GOOD, member]), tmp_path_factory.mktemp("entry"))


# --- what must work ---


@pytest.mark.parametrize(
    "name",
    ["веса/ёж.bin", "веса/«лучшая» модель №1.bin", "кот 🐈.txt", "учёный 👩\u200d🔬.txt", "a b/c'd\"e$f;g.txt",
     ".скрыто", "ё" * 127, "a..b/...", "-rf", "naïve/ß/日本語"],
)  # fmt: skip
def test_names_of_people(folder, name):
    assert verdict(build(named(name, content=b"content")), folder) == set()
    assert (folder / "unpacked" / name).read_bytes() == b"content"


def test_flags_are_no_matter_for_utf8(folder):
    """macOS writes UTF-8 and does not say so."""
    assert verdict(build(named("модель ё", flags=0)), folder) == set()
    assert (folder / "unpacked" / "модель ё").exists()
