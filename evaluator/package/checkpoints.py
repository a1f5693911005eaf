"""The tensors of untrusted checkpoints: their names, kinds and places in the file, without loading or running anything.

    read(root: Path, path: str) -> list[Tensor]
    digest(root: Path, memory: Memory) -> bytes

Two formats are read, told apart by content: safetensors, whose header the library of that name checks (sizes, offsets
without holes or overlaps), and the ZIPs of torch.save, whose layout `evaluator.package.zip_format` checks (entries that
share no bytes) and whose pickle `evaluator.package.pickled` reads. In both, a file has no more parameters than are
really stored in it.
"""

import contextlib
import hashlib
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from evaluator.core import limits
from evaluator.core.errors import Findings, RuleBroken, show
from evaluator.package import pickled, rules
from evaluator.package.zip_format import STORED, ZipEntry, read_entries

ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
#: Bits of one element, by safetensors' names of kinds; C128 is PyTorch's alone.
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
    "C128": 128,
}
CHUNK_BYTES = 2**20
_ZIP_MARK = b"PK\3\4"
_LEGACY_MARK = bytes.fromhex("8002 8a0a 6cfc 9c46 f920 6aa8 5019")  # the pickled magic number of torch.save before 1.6
_HEADER_LENGTH = 8  # bytes before a safetensors header


@dataclass(frozen=True, slots=True)
class Memory:
    """The elements of a tensor in the file at `path`, from byte `start` on. `strides` count elements."""

    path: str
    start: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """How many bytes they are."""
        return self.parameters * BITS[self.dtype] // 8

    @property
    def reach(self) -> int:
        """How many bytes lie between the first element's start and the last one's end."""
        if not self.parameters:
            return 0
        last = sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        return (last + 1) * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """Tied tensors have different names and one memory."""

    name: str
    memory: Memory


def read(root: Path, path: str, deadline: float = math.inf) -> list[Tensor]:
    """The tensors of the checkpoint at `path` below `root`, in its order; a pickle is read until `deadline` (of
    time.monotonic). Raises `RuleBroken`.
    """
    with _opened(root, path) as file:
        start = os.pread(file, max(len(_ZIP_MARK), len(_LEGACY_MARK)), 0)
        if start.startswith(_ZIP_MARK):
            return _read_torch(file, path, deadline)
        if path.endswith(".safetensors"):
            return _read_safetensors(root, file, path)
        if start.startswith(_LEGACY_MARK):
            raise RuleBroken(rules.CHECKPOINT_FORMAT, "a file of torch.save before PyTorch 1.6")
        raise RuleBroken(rules.CHECKPOINT_FORMAT, f"begins with {show(start)}" if start else "an empty file")


def is_torch(root: Path, path: str) -> bool:
    """Whether a file that is called *.bin, as others are, may be one of torch.save. Raises `RuleBroken`."""
    with _opened(root, path) as file:
        return os.pread(file, len(_LEGACY_MARK), 0).startswith((_ZIP_MARK, _LEGACY_MARK))


def digest(root: Path, memory: Memory) -> bytes:
    """SHA-256 of a tensor's elements in order, whatever its strides are; reads at most `CHUNK_BYTES` at a time. Raises
    `RuleBroken`.
    """
    sha256 = hashlib.sha256()
    with _opened(root, memory.path) as file:
        for piece in _stored(file, memory) if memory.strides == _contiguous(memory.shape) else _strided(file, memory):
            sha256.update(piece)
    return sha256.digest()


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        file = os.open(root / path, flags)
    except OSError as error:
        raise RuleBroken(rules.FILE_CHANGED, f"cannot be opened: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise RuleBroken(rules.FILE_CHANGED, "is no longer a file")
        yield file
    finally:
        os.close(file)


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor whose elements follow each other."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


# --- safetensors ---


def _read_safetensors(root: Path, file: int, path: str) -> list[Tensor]:
    length = int.from_bytes(os.pread(file, _HEADER_LENGTH, 0), "little")
    if _HEADER_LENGTH + length <= os.fstat(file).st_size and length > limits.MAX_CHECKPOINT_HEADER_BYTES:
        raise RuleBroken(rules.CHECKPOINT_SIZE, f"a header of {length} bytes")
    tensors: list[Tensor] = []
    at = _HEADER_LENGTH + length
    try:
        with safe_open(root / path, "np") as opened:
            names = opened.offset_keys()
            if len(names) > limits.MAX_TENSORS:
                raise RuleBroken(rules.CHECKPOINT_SIZE, f"{len(names)} tensors")
            for name in names:  # in the order of their bytes, which have no holes
                described = opened.get_slice(name)
                memory = _memory(name, path, at, described.get_dtype(), tuple(described.get_shape()))
                at += memory.size
                tensors.append(Tensor(name, memory))
    except (SafetensorError, OSError) as error:
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, f"cannot be read: {show(str(error))}") from None
    return tensors


def _memory(name: str, path: str, start: int, dtype: str, shape: tuple[int, ...]) -> Memory:
    if len(name) > limits.MAX_TENSOR_NAME_CHARACTERS or len(shape) > limits.MAX_TENSOR_DIMENSIONS:
        found = f"the tensor {show(name)}, with a name of {len(name)} characters and {len(shape)} dimensions"
        raise RuleBroken(rules.CHECKPOINT_SIZE, found)
    if dtype not in BITS:
        raise RuleBroken(rules.CHECKPOINT_TENSORS, f"the tensor {show(name)} is of {show(dtype)}")
    return Memory(path, start, dtype, shape, _contiguous(shape))


# --- torch.save ---


def _read_torch(file: int, path: str, deadline: float) -> list[Tensor]:
    findings = Findings()
    try:
        entries, _ = read_entries(file, limits.MAX_ARCHIVE_ENTRIES, findings)
    except RuleBroken as broken:  # whose rule is told to those who pack a submission
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, broken.found) from None
    if findings:
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, f"{findings.kept[0].where}: {findings.kept[0].found}")
    by_name = {entry.name: entry for entry in entries}
    if packed := next((entry for entry in entries if entry.method != STORED), None):
        raise RuleBroken(rules.CHECKPOINT_FORMAT, f"its entry {show(packed.name)} is compressed")
    pickles = [name for name in by_name if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1 or len(by_name) < len(entries):
        raise RuleBroken(rules.CHECKPOINT_FORMAT, f"a ZIP with {len(pickles)} data.pkl, not of torch.save")
    folder = pickles[0].removesuffix("data.pkl") + "data/"
    content = by_name[pickles[0]]
    if content.size > limits.MAX_CHECKPOINT_HEADER_BYTES:
        raise RuleBroken(rules.CHECKPOINT_SIZE, f"a data.pkl of {content.size} bytes")
    # Its CRC is not looked at: torch.save can be told to write none.
    tensors: list[Tensor] = []
    views: dict[str, set[Memory]] = {name: set() for name in by_name if name.startswith(folder)}
    for described in pickled.describe(os.pread(file, content.size, content.data), deadline):
        storage = by_name.get(folder + described.key)
        if storage is None:
            found = f"the tensor {show(described.name)} is in {show(folder + described.key)}, which is not there"
            raise RuleBroken(rules.CHECKPOINT_DAMAGED, found)
        tensor = _view(path, storage, described)
        views[storage.name].add(tensor.memory)
        tensors.append(tensor)
    _check_storages(by_name, views)
    return tensors


def _view(path: str, storage: ZipEntry, described: pickled.PickledTensor) -> Tensor:
    # A dimension of length 1 has no stride that matters.
    contiguous = _contiguous(described.shape)
    stated = zip(described.shape, described.strides, contiguous, strict=True)
    strides = tuple(plain if length == 1 else stride for length, stride, plain in stated)
    if not math.prod(described.shape):
        strides = contiguous
    start = described.offset * BITS[described.dtype] // 8
    memory = Memory(path, storage.data + start, described.dtype, described.shape, strides)
    if start + memory.reach > storage.size:
        found = (
            f"the tensor {show(described.name)} ends at byte {start + memory.reach} of {storage.size} that are stored"
        )
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, found)
    return Tensor(described.name, memory)


def _check_storages(by_name: dict[str, ZipEntry], views: dict[str, set[Memory]]) -> None:
    """No more parameters than are stored, and no storage that is in no tensor."""
    for name, memories in views.items():
        if (stated := sum(memory.size for memory in memories)) > (stored := by_name[name].size):
            raise RuleBroken(
                rules.CHECKPOINT_MEMORY, f"tensors of {stated} bytes overlap in the {stored} of {show(name)}"
            )
        if not memories and by_name[name].size:
            raise RuleBroken(rules.CHECKPOINT_TENSORS, f"{show(name)} belongs to no such tensor")


# --- elements ---


def _stored(file: int, memory: Memory) -> Iterator[bytes]:
    end = memory.start + memory.size
    for at in range(memory.start, end, CHUNK_BYTES):
        piece = os.pread(file, min(CHUNK_BYTES, end - at), at)
        if not piece:
            raise RuleBroken(rules.FILE_CHANGED, f"ends before byte {end} by now")
        yield piece


def _strided(file: int, memory: Memory) -> Iterator[bytes]:
    if os.fstat(file).st_size < memory.start + memory.reach:
        raise RuleBroken(rules.FILE_CHANGED, f"ends before byte {memory.start + memory.reach} by now")
    width = BITS[memory.dtype] // 8
    with open(file, "rb", closefd=False) as opened:
        mapped = np.memmap(opened, f"V{width}", "r", memory.start, (memory.reach // width,))
    strides = [stride * width for stride in memory.strides]
    view = np.lib.stride_tricks.as_strided(mapped, memory.shape, strides, writeable=False)
    for piece in _pieces(view, max(1, CHUNK_BYTES // width)):
        yield piece.tobytes()


def _pieces(view: NDArray[np.void], most: int) -> Iterator[NDArray[np.void]]:
    """Parts of at most `most` elements that make up an array, in order."""
    if view.size <= most:
        yield view
        return
    row = view[0].size
    for at in range(0, len(view), max(1, most // row)):
        part = view[at : at + max(1, most // row)]
        if row <= most:
            yield part
        else:
            yield from _pieces(part[0], most)
