"""Reads a ZIP strictly and in bounded memory: what two programs could read in two ways is a fault.

Python's zipfile reads what it can. It passes over bytes before, between and behind the entries, believes each of two
records that contradict each other, loads a directory of any size, and unpacks bzip2 and LZMA without a bound. Here
the archive's bytes must be the entries one after the other, the directory, the end records, and nothing else; so
there are no hidden files and no bombs of overlapping entries.

Names of the fields and records are those of PKWARE's APPNOTE.TXT 6.3.10. All reads are at given offsets of one open
file.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from evaluator.core.errors import Findings, RuleBroken, show
from evaluator.package import rules

CHUNK_BYTES = 2**20
STORED, DEFLATED = 0, 8

_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_EXTRA = struct.Struct("<2H")
_END_MARK, _LOCATOR64_MARK, _END64_MARK = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_CENTRAL_MARK, _LOCAL_MARK, _DESCRIPTOR_MARK = b"PK\1\2", b"PK\3\4", b"PK\7\x08"
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # the value stands in the ZIP64 record instead
_ZIP64_FIELD, _UNICODE_PATH_FIELD = 0x0001, 0x7075
_ENCRYPTED, _DESCRIPTOR, _PATCH, _STRONG, _UTF8, _MASKED = 0x1, 0x8, 0x20, 0x40, 0x800, 0x2000
_COMPARED_FLAGS = _ENCRYPTED | _DESCRIPTOR | _PATCH | _STRONG | _UTF8 | _MASKED
#: In tenths, as the format writes it; no reader at hand (Python's zipfile, Info-ZIP's unzip) takes more.
_MAX_VERSION = 63
_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
_INFLATE_INPUT_BYTES = 2**16  # at most 1032 times as much comes out, in chunks
_OTHER_FORMATS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "RAR",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    _DESCRIPTOR_MARK: "the first volume of a split ZIP",
}


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """`name` as written, a folder's with '/' at its end; `mode` as in stat(2), 0 where the archive has none.

    The entry's bytes are `start` to `end`; its `packed` bytes of content begin at `data`.
    """

    name: str
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    start: int
    data: int
    end: int

    @property
    def is_folder(self) -> bool:
        """Whether the name is a folder's."""
        return self.name.endswith("/")


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of the central directory. `place` is how findings name the entry."""

    raw_name: bytes
    name: str
    place: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    start: int


def read_entries(file: int, max_entries: int, findings: Findings) -> tuple[list[ZipEntry], bool]:
    """The entries of the ZIP that is open as descriptor `file`, in the directory's order, and whether they are all.

    Adds to `findings` what is wrong with single entries, which are then left out, and with the layout. Raises
    `RuleBroken` where there is no directory to read.
    """
    total = os.fstat(file).st_size
    count, size, start = _find_directory(file, total)
    if count > max_entries:
        raise RuleBroken(rules.entry_count(max_entries), f"{count} entries")
    if size > rules.MAX_DIRECTORY_BYTES:
        raise RuleBroken(rules.ARCHIVE_DIRECTORY, f"a directory of {size} bytes")
    records = _read_directory(_read(file, start, size), count, findings)
    entries: list[ZipEntry] = []
    spans: list[tuple[int, int, str]] = []
    for record in records:
        try:
            entry = _read_local(file, record, start)
        except RuleBroken as broken:
            findings.add_broken(record.place, broken)
            continue
        spans.append((entry.start, entry.end, record.place))
        entries.append(entry)
    complete = len(entries) == count  # of an entry that is left out nobody knows where it ends
    _check_layout(spans, start, complete, findings)
    return entries, complete


def read_content(file: int, entry: ZipEntry) -> Iterator[bytes]:
    """The entry's content, in chunks of at most `CHUNK_BYTES`; never more than the size that the archive states.

    Raises `RuleBroken` as soon as the data are not what the archive states.
    """
    crc = produced = 0
    for chunk in _stored(file, entry) if entry.method == STORED else _inflated(file, entry):
        produced += len(chunk)
        if produced > entry.size:
            raise RuleBroken(rules.ARCHIVE_CORRUPT, f"unpacks to more than the {entry.size} bytes that it declares")
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if produced < entry.size:
        raise RuleBroken(rules.ARCHIVE_CORRUPT, f"unpacks to {produced} bytes and declares {entry.size}")
    if crc != entry.crc:
        raise RuleBroken(rules.ARCHIVE_CORRUPT, f"Bad CRC-32: {crc:08x}, declared {entry.crc:08x}")


def _stored(file: int, entry: ZipEntry) -> Iterator[bytes]:
    for at in range(entry.data, entry.data + entry.packed, CHUNK_BYTES):
        yield _read(file, at, min(CHUNK_BYTES, entry.data + entry.packed - at))


def _inflated(file: int, entry: ZipEntry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    at, end, pending = entry.data, entry.data + entry.packed, b""
    while not inflater.eof:
        if not pending:
            pending = _read(file, at, min(_INFLATE_INPUT_BYTES, end - at))
            at += len(pending)
        try:
            chunk = inflater.decompress(pending, CHUNK_BYTES)
        except zlib.error as error:
            raise RuleBroken(rules.ARCHIVE_CORRUPT, f"the packed data are broken: {error}") from None
        pending = inflater.unconsumed_tail
        if chunk:
            yield chunk
        elif not pending and at == end and not inflater.eof:
            raise RuleBroken(rules.ARCHIVE_CORRUPT, "the packed data end too early")
    if inflater.unused_data or at < end:
        raise RuleBroken(rules.ARCHIVE_SURPLUS, "bytes follow the end of the packed data")


def _read(file: int, at: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = os.pread(file, size - len(content), at + len(content))
        if not piece:
            raise RuleBroken(rules.ARCHIVE_TRUNCATED, f"the file ends before byte {at + size}")
        content += piece
    return content


# --- the end records and the directory ---


def _find_directory(file: int, total: int) -> tuple[int, int, int]:
    """(number of entries, size in bytes, offset) of the central directory."""
    at, end = _find_end(file, total)
    _, disk, first_disk, count_here, count, size, start, _ = end
    end64 = _find_end64(file, at)
    records = at
    if end64 is not None:
        _, length, _, _, disk64, first64, count_here64, count64, size64, start64 = end64
        if length != _END64.size - 12:
            raise RuleBroken(rules.ARCHIVE_SURPLUS, f"the ZIP64 end record states a length of {length}")
        narrow = ((disk, disk64), (first_disk, first64), (count_here, count_here64), (count, count64))
        wide = ((size, size64), (start, start64))
        if any(a not in (b, _FULL16) for a, b in narrow) or any(a not in (b, _FULL32) for a, b in wide):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "the end record and the ZIP64 end record differ")
        disk, first_disk, count_here, count, size, start = disk64, first64, count_here64, count64, size64, start64
        records = at - _LOCATOR64.size - _END64.size
    elif _FULL32 in (size, start):
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "the end record names a ZIP64 record, and there is none")
    if disk or first_disk or count_here != count:
        raise RuleBroken(rules.ARCHIVE_DISKS, "the archive is a volume of several")
    if start + size != records:
        surplus = records - start - size
        if surplus < 0:
            raise RuleBroken(rules.ARCHIVE_TRUNCATED, f"{-surplus} bytes of the archive are missing")
        raise RuleBroken(rules.ARCHIVE_SURPLUS, f"{surplus} bytes that belong to no entry, before the archive or in it")
    return count, size, start


def _find_end(file: int, total: int) -> tuple[int, tuple[bytes, int, int, int, int, int, int, int]]:
    """Offset and fields of the end record, whose comment must reach the file's end."""
    head = _read(file, 0, min(8, total))
    base = max(0, total - _END.size - _FULL16)
    tail = _read(file, base, total - base)
    whole: list[int] = []
    at = last = tail.find(_END_MARK)
    while at >= 0:
        last = at
        if at + _END.size <= len(tail) and at + _END.size + _END.unpack_from(tail, at)[-1] == len(tail):
            whole.append(at)
        at = tail.find(_END_MARK, at + 1)
    if len(whole) == 1 and whole[0] == last:
        return base + last, _END.unpack_from(tail, last)
    if whole:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "several end records, of which readers choose different ones")
    if last >= 0:
        stated = _END.size + (_END.unpack_from(tail, last)[-1] if last + _END.size <= len(tail) else 0)
        found = f"the end record at byte {base + last}, of {stated} bytes with its comment, does not end the file"
        raise RuleBroken(rules.ARCHIVE_TRUNCATED if last + stated > len(tail) else rules.ARCHIVE_SURPLUS, found)
    if head.startswith(_LOCAL_MARK):
        raise RuleBroken(rules.ARCHIVE_TRUNCATED, f"not a ZIP with an end: {total} bytes, and no end record")
    other = next((name for mark, name in _OTHER_FORMATS.items() if head.startswith(mark)), None)
    raise RuleBroken(
        rules.ARCHIVE_FORMAT,
        "not a ZIP: " + (f"looks like {other}" if other else f"starts with {show(head)}" if head else "empty"),
    )


def _find_end64(file: int, end: int) -> tuple[bytes, int, int, int, int, int, int, int, int, int] | None:
    """The ZIP64 end record that the locator before the end record at offset `end` leads to, if there is one."""
    if end < _LOCATOR64.size + _END64.size:
        return None
    at = end - _LOCATOR64.size - _END64.size
    block = _read(file, at, _LOCATOR64.size + _END64.size)
    mark, disk, offset, disks = _LOCATOR64.unpack_from(block, _END64.size)
    if mark != _LOCATOR64_MARK:
        return None
    if disk or disks > 1:
        raise RuleBroken(rules.ARCHIVE_DISKS, "the archive is a volume of several")
    if offset != at or not block.startswith(_END64_MARK):
        raise RuleBroken(rules.ARCHIVE_SURPLUS, "the ZIP64 end record is not where its locator says, before it")
    return _END64.unpack_from(block, 0)


def _read_directory(content: bytes, count: int, findings: Findings) -> list[_Record]:
    """The records whose names and methods can be used; raises `RuleBroken` where the directory cannot be followed."""
    records: list[_Record] = []
    at = 0
    for index in range(count):
        if at + _CENTRAL.size > len(content) or not content.startswith(_CENTRAL_MARK, at):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"{count} entries are stated; record {index} is none")
        fields = _CENTRAL.unpack_from(content, at)
        name_at = at + _CENTRAL.size
        extra_at = name_at + fields[10]
        comment_at = extra_at + fields[11]
        at = comment_at + fields[12]
        if at > len(content):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"record {index} reaches beyond the directory")
        raw_name = content[name_at:extra_at]
        place = f"entry {show(raw_name.decode('utf-8', 'backslashreplace'))}"
        try:
            records.append(_record(fields, raw_name, place, content[extra_at:comment_at]))
        except RuleBroken as broken:
            findings.add_broken(place, broken)
    if at != len(content):
        raise RuleBroken(rules.ARCHIVE_SURPLUS, f"{len(content) - at} bytes follow the directory's last record")
    return records


def _record(fields: tuple[int, ...], raw_name: bytes, place: str, extra: bytes) -> _Record:
    _, _, version, flags, method, _, _, crc, packed, size, _, _, _, disk, _, attributes, start = fields
    try:
        # Without the flag the name is in the packer's own code page, which is UTF-8 on macOS and Linux.
        name = raw_name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RuleBroken(rules.ENTRY_ENCODING, f"byte {error.start} of the name is not UTF-8") from None
    extras = _extra_fields(extra)
    size, packed, start, disk = _zip64(
        extras, ((size, _FULL32, 8), (packed, _FULL32, 8), (start, _FULL32, 8), (disk, _FULL16, 4))
    )
    # Another name for readers that know this field: one byte of version, the CRC-32 of the first name, UTF-8.
    if _UNICODE_PATH_FIELD in extras and extras[_UNICODE_PATH_FIELD][5:] != raw_name:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "a second name, in the Unicode field, differs from the first")
    if disk:
        raise RuleBroken(rules.ARCHIVE_DISKS, f"lies in volume {disk + 1}")
    _check_version(version)
    if flags & (_ENCRYPTED | _STRONG | _MASKED) or method == 99:
        raise RuleBroken(rules.ARCHIVE_ENCRYPTED, "is encrypted")
    if method not in (STORED, DEFLATED) or flags & _PATCH:
        name_of = "patch data" if flags & _PATCH else _METHODS.get(method, "unknown")
        raise RuleBroken(rules.ARCHIVE_METHOD, f"is packed with method {method} ({name_of})")
    if method == STORED and packed != size:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"is stored, with {packed} bytes packed and {size} unpacked")
    if attributes & 0x400:  # Windows' FILE_ATTRIBUTE_REPARSE_POINT: a link
        raise RuleBroken(rules.ENTRY_KIND, "is a link of Windows")
    return _Record(raw_name, name, place, flags, method, crc, packed, size, attributes >> 16, start)


def _check_version(needed: int) -> None:
    version = needed & 0xFF  # the other byte is of the packer's system
    if version > _MAX_VERSION:
        found = f"needs version {version // 10}.{version % 10} of the ZIP format to unpack"
        raise RuleBroken(rules.ARCHIVE_VERSION, found)


def _extra_fields(extra: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    at = 0
    while at < len(extra):
        if at + _EXTRA.size > len(extra):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "the extra field is cut short")
        kind, size = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size + size
        if at > len(extra):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "the extra field is cut short")
        if kind in fields and kind in (_ZIP64_FIELD, _UNICODE_PATH_FIELD):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"the extra field {kind:#06x} occurs twice")
        fields[kind] = extra[at - size : at]
    return fields


def _zip64(extras: dict[int, bytes], values: tuple[tuple[int, int, int], ...]) -> list[int]:
    """Each (value, full, bytes) of `values`, taken from the ZIP64 field where the value is `full`."""
    field, at = extras.get(_ZIP64_FIELD, b""), 0
    taken: list[int] = []
    for value, full, width in values:
        if value == full and _ZIP64_FIELD in extras:
            if at + width > len(field):
                raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "the ZIP64 field lacks a value")
            value = int.from_bytes(field[at : at + width], "little")
            at += width
        taken.append(value)
    return taken


# --- an entry's own header, and where entries lie ---


def _read_local(file: int, record: _Record, directory: int) -> ZipEntry:
    """The entry of a record, after its header has said the same. `directory` is where the entries end."""
    # Headers with a short extra field come in one read.
    available = max(0, directory - record.start)
    block = _read(file, record.start, min(available, _LOCAL.size + len(record.raw_name) + 64))
    if len(block) < _LOCAL.size or not block.startswith(_LOCAL_MARK):
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"no entry begins at byte {record.start}")
    _, version, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(block)
    _check_version(version)
    data = record.start + _LOCAL.size + name_size + extra_size
    end = data + record.packed
    if end > directory:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "reaches into the directory")
    if data > record.start + len(block):
        block = _read(file, record.start, data - record.start)
    raw_name = block[_LOCAL.size : _LOCAL.size + name_size]
    if raw_name != record.raw_name:
        other = show(raw_name.decode("utf-8", "backslashreplace"))
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"its own header names it {other}")
    extras = _extra_fields(block[_LOCAL.size + name_size : data - record.start])
    if _UNICODE_PATH_FIELD in extras and extras[_UNICODE_PATH_FIELD][5:] != raw_name:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "a second name, in the Unicode field, differs from the first")
    size, packed = _zip64(extras, ((size, _FULL32, 8), (packed, _FULL32, 8)))
    if method != record.method or (flags ^ record.flags) & _COMPARED_FLAGS:
        raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "its own header states another method or other flags")
    later = bool(flags & _DESCRIPTOR)  # what was not known yet stands behind the data, and is 0 here
    sizes = (("packed size", packed, record.packed), ("size", size, record.size))
    for what, own, stated in (("CRC-32", crc, record.crc), *sizes):
        if own != stated and not (later and own in (0, _FULL32)):
            raise RuleBroken(rules.ARCHIVE_CONTRADICTION, f"its own header states another {what}: {own}, not {stated}")
    if later:
        end += _descriptor_size(file, record, end, directory, wide=_ZIP64_FIELD in extras)
    return ZipEntry(record.name, method, record.crc, record.packed, record.size, record.mode, record.start, data, end)


def _descriptor_size(file: int, record: _Record, at: int, directory: int, wide: bool) -> int:
    """Bytes of the data descriptor at `at`: with or without its mark, with sizes of 8 bytes where `wide`, else 4."""
    content = _read(file, at, min(24, directory - at))
    for mark in (_DESCRIPTOR_MARK, b""):
        for layout in ("<L2Q", "<3L") if wide else ("<3L", "<L2Q"):  # not all packers keep to it
            if max(record.packed, record.size) > _FULL32 and layout == "<3L":
                continue
            wanted = mark + struct.pack(layout, record.crc, record.packed, record.size)
            if content.startswith(wanted):
                return len(wanted)
    raise RuleBroken(rules.ARCHIVE_CONTRADICTION, "no data descriptor that says the same follows its data")


def _check_layout(spans: list[tuple[int, int, str]], directory: int, complete: bool, findings: Findings) -> None:
    """Entries must lie from 0 to `directory` without overlap, and where they are all, without gaps."""
    spans.sort()
    end, previous = 0, ""
    for start, stop, place in spans:
        if start < end:
            findings.add(rules.ARCHIVE_OVERLAP, place, f"begins at byte {start}, within {previous}")
        elif start > end and complete:
            findings.add(rules.ARCHIVE_SURPLUS, place, f"{start - end} bytes lie before it and in no entry")
        if stop > end:
            end, previous = stop, place
    if end < directory and complete:
        findings.add(rules.ARCHIVE_SURPLUS, "", f"{directory - end} bytes lie before the directory and in no entry")
