"""Which tensors the pickle of a PyTorch checkpoint describes, found without running anything that it names.

A pickle is a program that may call whatever can be imported. Here it can call what makes tensors, storages and
dictionaries, each replaced by a record of what it was called with; all other classes become inert containers (of
`pickle`'s documentation: "Restricting Globals"), so that the checkpoints of training frameworks are read, too, which
torch.load(weights_only=True) refuses. What a pickle can still do is take time and memory, so it is read in a process
of its own, that has limits:

    describe(content: bytes) -> list[PickledTensor]      starts that process

No torch is imported, and no value of a tensor is read: they lie beside the pickle.
"""

import io
import json
import math
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from evaluator.core import limits
from evaluator.core.errors import RuleBroken, show
from evaluator.package import rules

#: How safetensors calls what a storage, or a tensor of an untyped storage, holds. PyTorch alone has C128.
_STORAGES = {
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}
_DTYPES = {
    "float32": "F32",
    "float64": "F64",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
_OTHER_DTYPES = ("float4", "float8", "quint", "qint")  # known by name, and refused
_LARGEST = 2**62  # of a dimension, a stride or an offset


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """A tensor's `name` is the path of keys to it, with '.' between them. Its elements are those of the storage `key`,
    from `offset` on; offset and `strides` count elements.
    """

    name: str
    key: str
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def describe(content: bytes, deadline: float = math.inf) -> list[PickledTensor]:
    """The tensors of a checkpoint's data.pkl, in its order, read until `deadline` (of time.monotonic) at most. Raises
    `RuleBroken`.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise RuleBroken(rules.CHECKPOINT_TIME, "the checkpoints before it took all of the time")
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        # -P: the current folder, which may hold anything, is no place to import from.
        done = subprocess.run(
            [sys.executable, "-P", "-m", "evaluator.package.pickled"],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
            timeout=min(left, limits.PICKLE_SECONDS),
        )
    except subprocess.TimeoutExpired as error:
        raise RuleBroken(rules.CHECKPOINT_TIME, f"data.pkl takes longer than {error.timeout:.3g} s to read") from None
    if done.returncode:
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, "data.pkl made its reader crash or run out of memory")
    answer = json.loads(done.stdout)
    if "rule" in answer:
        raise RuleBroken(getattr(rules, answer["rule"]), answer["found"])
    return [
        PickledTensor(name, key, dtype, offset, tuple(shape), tuple(strides))
        for name, key, dtype, offset, shape, strides in answer["tensors"]
    ]


# --- the other side ---


# A pickle can set any attribute of these, so what they hold is looked at in the end.


@dataclass
class _Dtype:
    name: Any


@dataclass
class _Storage:
    dtype: Any
    key: Any


@dataclass
class _Tensor:
    storage: Any
    dtype: Any
    offset: Any
    shape: Any
    strides: Any


class _Dict(dict[Any, Any]):
    """Stands for OrderedDict, whose attributes (a state dict has `_metadata`) hold no tensors."""

    def __setstate__(self, state: object) -> None:
        pass


class _Other:
    """Stands for an object of any other class: what it was made of, and what was put into it."""

    def __init__(self, *arguments: object, **named: object) -> None:
        self.parts: list[tuple[object, object]] = [*enumerate(arguments), *named.items()]

    def __new__(cls, *_: object, **__: object) -> "_Other":
        made = super().__new__(cls)
        made.parts = []  # NEWOBJ calls no __init__
        return made

    def __setstate__(self, state: object) -> None:
        states = state if isinstance(state, tuple) else (state,)  # (attributes, slots) of some
        for one in states:
            self.parts += one.items() if isinstance(one, dict) else [("state", one)]

    def __setitem__(self, key: object, value: object) -> None:
        self.parts.append((key, value))

    def append(self, value: object) -> None:
        self.parts.append((len(self.parts), value))

    add = append


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: object) -> _Tensor:
    """torch._utils._rebuild_tensor and its second version. In the third `rest` has the dtype."""
    stated = next((one for one in rest if isinstance(one, _Dtype)), None)
    return _Tensor(storage, stated or storage.dtype, offset, shape, strides)


def _parameter(tensor: object, *_: object) -> object:
    return tensor


def _subclass(function: Any, kind: object, arguments: tuple[Any, ...], state: object) -> object:
    """A tensor with attributes of its own."""
    return function(*arguments)


_REPLACED: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return _Dtype(_STORAGES.get(name, name))
        if module == "torch" and (name in _DTYPES or name.startswith(_OTHER_DTYPES)):
            return _Dtype(_DTYPES.get(name, name))
        return _REPLACED.get((module, name), _Other)

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, *_ = pid
        return _Storage(dtype, key)


def _walk(document: object) -> Iterator[tuple[str, _Tensor]]:
    """Each tensor with its name. A container that lies in several is gone through once."""
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", document)]
    while todo:
        name, value = todo.pop()
        if isinstance(value, _Tensor):
            yield name, value
        elif isinstance(value, dict | list | tuple | set | frozenset | _Other) and id(value) not in seen:
            seen.add(id(value))
            # Names of such a length are refused where they are a tensor's, and must not grow with the depth till then.
            prefix = f"{name[: limits.MAX_TENSOR_NAME_CHARACTERS]}." if name else ""
            todo += reversed([(prefix + _key(key), inner) for key, inner in _parts(value)])


def _parts(value: Any) -> Iterable[tuple[object, object]]:
    if isinstance(value, _Other):
        return value.parts
    return value.items() if isinstance(value, dict) else enumerate(value)


def _key(key: object) -> str:
    """A key of another kind is no name; what is below it counts all the same."""
    return str(key) if isinstance(key, str | int) else type(key).__name__


def _checked(name: str, tensor: _Tensor) -> PickledTensor:
    if len(name) > limits.MAX_TENSOR_NAME_CHARACTERS:
        raise RuleBroken(rules.CHECKPOINT_SIZE, f"the name {show(name)} has {len(name)} characters")
    shape, strides = tuple(tensor.shape), tuple(tensor.strides)
    if len(shape) > limits.MAX_TENSOR_DIMENSIONS:
        raise RuleBroken(rules.CHECKPOINT_SIZE, f"the tensor {show(name)} has {len(shape)} dimensions")
    numbers = (tensor.offset, *shape, *strides)
    if not all(type(number) is int and 0 <= number < _LARGEST for number in numbers) or len(shape) != len(strides):
        found = (
            f"the tensor {show(name)} has shape {show(shape)}, strides {show(strides)}, offset {show(tensor.offset)}"
        )
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, found)
    dtype, key = tensor.dtype.name, tensor.storage.key
    if dtype not in _DTYPES.values():
        raise RuleBroken(rules.CHECKPOINT_TENSORS, f"the tensor {show(name)} is of {show(dtype)}")
    if type(key) is not str:
        raise RuleBroken(rules.CHECKPOINT_DAMAGED, f"the tensor {show(name)} lies in {show(key)}")
    plain = name.encode("utf-8", "backslashreplace").decode()  # a pickle's texts may hold halves of surrogates
    return PickledTensor(plain, key, dtype, tensor.offset, shape, strides)


def _read(content: bytes) -> list[PickledTensor]:
    """The tensors of a pickle. Raises `RuleBroken`, and whatever a pickle makes the unpickler raise."""
    found: list[PickledTensor] = []
    for name, tensor in _walk(_Unpickler(io.BytesIO(content)).load()):
        if len(found) == limits.MAX_TENSORS:
            raise RuleBroken(rules.CHECKPOINT_SIZE, f"more than {limits.MAX_TENSORS} tensors")
        found.append(_checked(name, tensor))
    return found


def main() -> None:
    """The process of `describe`: limits itself, reads a pickle from standard input and writes JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.PICKLE_MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = math.ceil(limits.PICKLE_SECONDS)  # should nobody be left to end it
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    answer: dict[str, Any]
    try:
        answer = {"tensors": [astuple(tensor) for tensor in _read(sys.stdin.buffer.read())]}
    except RuleBroken as broken:
        name = next(name for name, rule in vars(rules).items() if rule is broken.rule)
        answer = {"rule": name, "found": broken.found}
    except Exception as error:  # bytes that are no pickle may make it raise anything
        found = f"data.pkl cannot be read: {type(error).__name__}: {show(str(error))}"
        answer = {"rule": "CHECKPOINT_DAMAGED", "found": found}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
