"""Checkpoints made to run code, to mislead or to exhaust whoever counts their parameters: each gets its rule, nothing
of them is run, and no more parameters count than are stored.
"""

import builtins
import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes

from evaluator.core import limits
from evaluator.core.errors import DataError, RuleBroken
from evaluator.core.verdict import BAD_WEIGHTS
from evaluator.package import checkpoints
from tests.support.counting import count
from tests.support.verdicts import raises_verdict

REBUILD = torch._utils._rebuild_tensor_v2
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def rule_of(folder: Path, name: str) -> str:
    """The rule that a submission with this checkpoint breaks; the checkpoint is named."""
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(folder)
    (finding,) = caught.value.findings
    assert finding.where == name and finding.found and len(finding.found) < 1000
    assert all(line.isprintable() for line in str(caught.value).splitlines())
    return finding.rule


# --- safetensors ---


def header(text: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def stated(*spans: tuple[int, int], shape: list[int] | None = None, dtype: str = "F32", data: int = 8) -> bytes:
    """A header with a tensor for each span of bytes."""
    document = {
        f"t{number}": {
            "dtype": dtype,
            "shape": [(end - start) // 4] if shape is None else shape,
            "data_offsets": [start, end],
        }
        for number, (start, end) in enumerate(spans)
    }
    return header(json.dumps(document).encode(), bytes(data))


SAFETENSORS = {
    "no header": b"1234567",
    "a header longer than the file": header(b"{}", length=2**40),
    "a header longer than an address": header(b"{}", length=2**64 - 1),
    "deeply nested": header(b'{"__metadata__":' + b"[" * 100_000),
    "no JSON": header(b"\xff" * 100),
    "a list": header(b"[]"),
    "overlapping tensors": stated((0, 8), (4, 8)),
    "one place for two tensors": stated((0, 8), (0, 8)),
    "a hole": stated((0, 4), (8, 12), data=12),
    "beyond the end": stated((0, 16)),
    "bytes that belong to nothing": stated((0, 8), data=100),
    "an end before the start": stated((8, 0), shape=[0]),
    "negative": stated((-8, 0), shape=[2]),
    "more elements than bytes": stated((0, 8), shape=[10**6]),
    "fewer elements than bytes": stated((0, 8), shape=[1]),
    "a size beyond all numbers": stated((0, 8), shape=[2**32, 2**33]),
    "a size beyond all numbers, times zero": stated((0, 0), shape=[2**63, 2**63, 0], data=0),
    "an unknown kind": stated((0, 8), dtype="F128"),
    "one name twice": header(
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}',
        bytes(8),
    ),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors(tmp_path, case):
    (tmp_path / "веса.safetensors").write_bytes(SAFETENSORS[case])
    assert rule_of(tmp_path, "веса.safetensors") == "checkpoint-damaged"


@pytest.mark.slow
def test_safetensors_beyond_the_limits(tmp_path):
    dimensions = {"a": {"dtype": "U8", "shape": [1] * 33, "data_offsets": [0, 1]}}
    long_name = {"a" * 501: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    for document in (dimensions, long_name):
        (tmp_path / "a.safetensors").write_bytes(header(json.dumps(document).encode(), b"1"))
        assert rule_of(tmp_path, "a.safetensors") == "checkpoint-size"
    with open(tmp_path / "a.safetensors", "wb") as file:
        file.write(struct.pack("<Q", limits.MAX_CHECKPOINT_HEADER_BYTES + 1))
        file.truncate(2 * limits.MAX_CHECKPOINT_HEADER_BYTES)
    assert rule_of(tmp_path, "a.safetensors") == "checkpoint-size"
    empty = {f"{number}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for number in range(200_001)}
    (tmp_path / "a.safetensors").write_bytes(header(json.dumps(empty).encode()))
    assert rule_of(tmp_path, "a.safetensors") == "checkpoint-size"


def test_a_terminal_shows_no_name_as_it_is(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(safetensors_bytes({"\x1b[2J\nmet": torch.ones(3)}))
    lines = count(tmp_path).lines()
    assert all(line.isprintable() for line in lines) and any(r"'\x1b[2J\nmet'" in line for line in lines)


@many
@given(st.data())
def test_any_damage_to_safetensors_is_a_fault_or_none(tmp_path, data):
    honest = safetensors_bytes({"a.b": torch.ones(4), "c": torch.ones((2, 3), dtype=torch.float16)}, {"k": "v"})
    (tmp_path / "a.safetensors").write_bytes(damaged(honest, data))
    read_or_refused(tmp_path, "a.safetensors")


def damaged(content: bytes, data: Any) -> bytes:
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.sampled_from([len(changed), len(changed), len(changed) // 2]))])


def read_or_refused(folder: Path, name: str) -> None:
    try:
        tensors = checkpoints.read(folder, name)
    except RuleBroken:
        return
    size = (folder / name).stat().st_size
    assert sum(memory.size for memory in {tensor.memory for tensor in tensors}) <= size
    for tensor in tensors:
        checkpoints.digest(folder, tensor.memory)


# --- torch.save ---


@dataclass
class Storage:
    """`size` elements in the entry `key`, as the pickle states them."""

    key: Any = "0"
    kind: Any = torch.FloatStorage
    size: int = 4


class Call:
    """Pickled as a call of a function, with a state that is set afterwards where there is one."""

    def __init__(self, function: Callable[..., object], *arguments: object, state: object = None) -> None:
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.reduced


class Pickler(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return ("storage", value.kind, value.key, "cpu", value.size) if isinstance(value, Storage) else None


def pickled(value: object) -> bytes:
    content = io.BytesIO()
    Pickler(content, protocol=2).dump(value)
    return content.getvalue()


def tensor(
    *shape: int, strides: tuple[int, ...] = (1,), offset: int = 0, storage: Storage | None = None, **more
) -> Call:
    return Call(REBUILD, storage or Storage(), offset, shape or (4,), strides, False, None, **more)


def write(
    path: Path, content: bytes, entries: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED
) -> None:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("archive/data.pkl", content)
        for name, data in {"archive/data/0": bytes(16), "archive/version": b"3\n"}.items():
            file.writestr(name, (entries or {}).get(name, data))
        for name, data in (entries or {}).items():
            if name not in file.namelist():
                file.writestr(name, data)


def test_the_honest_one(tmp_path):
    write(tmp_path / "a.pt", pickled({"a": tensor()}))
    assert count(tmp_path).total == 4


TENSORS = {
    "beyond its storage": (tensor(5), "checkpoint-damaged"),
    "begins beyond its storage": (tensor(1, offset=4), "checkpoint-damaged"),
    "strides beyond its storage": (tensor(2, strides=(4,)), "checkpoint-damaged"),
    "stated to be larger than it is": (tensor(400, storage=Storage(size=400)), "checkpoint-damaged"),
    "one element many times": (tensor(10**12, strides=(0,)), "checkpoint-memory"),
    "one row many times": (tensor(10**9, 4, strides=(0, 1)), "checkpoint-memory"),
    "windows": (tensor(3, 2, strides=(1, 1)), "checkpoint-memory"),
    "negative": (tensor(-1), "checkpoint-damaged"),
    "a negative stride": (tensor(4, strides=(-1,), offset=3), "checkpoint-damaged"),
    "a negative offset": (tensor(offset=-1), "checkpoint-damaged"),
    "a number beyond all": (tensor(10**4000), "checkpoint-damaged"),
    "a number too long to show": (tensor(10**5000), "checkpoint-damaged"),
    "two strides": (tensor(strides=(1, 1)), "checkpoint-damaged"),
    "True": (tensor(True), "checkpoint-damaged"),
    "many dimensions": (tensor(*[1] * 33, strides=(1,) * 33), "checkpoint-size"),
    "an entry that is not there": (tensor(storage=Storage("1")), "checkpoint-damaged"),
    "a file beside": (tensor(storage=Storage("../../run.py")), "checkpoint-damaged"),
    "the pickle itself": (tensor(storage=Storage("../data.pkl")), "checkpoint-damaged"),
    "a key that is no text": (tensor(storage=Storage(0)), "checkpoint-damaged"),
    "a kind that is none": (tensor(storage=Storage(kind=7)), "checkpoint-damaged"),
    "a kind that nobody knows": (tensor(storage=Storage(kind=torch.QInt8Storage)), "checkpoint-tensors"),
    "no storage": (Call(REBUILD, 1, 0, (4,), (1,), False, None), "checkpoint-damaged"),
    "changed afterwards": (tensor(state={"shape": (10**6,)}), "checkpoint-damaged"),
    "changed to a text": (tensor(state={"shape": "ab", "strides": "cd"}), "checkpoint-damaged"),
    "changed to what is counted": (tensor(state={"dtype": 7}), "checkpoint-damaged"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(tmp_path, case):
    (tmp_path / "run.py").write_bytes(bytes(16))
    made, rule = TENSORS[case]
    write(tmp_path / "a.pt", pickled({"a": made}))
    assert rule_of(tmp_path, "a.pt") == rule


def test_what_a_pickle_calls_is_not_called(tmp_path):
    """Each would make a file, were it called."""
    target = tmp_path.parent / f"{tmp_path.name}-was-here"
    code = f"open({str(target)!r}, 'w')"
    for number, call in enumerate(
        [
            Call(os.system, f"touch {target}"),
            Call(eval, code),
            Call(exec, code),
            Call(open, str(target), "w"),
            Call(builtins.__import__, "os"),
            Call(map, eval, [code]),
            Call(torch.load, str(target)),
            Call(torch._tensor._rebuild_from_type_v2, eval, object, (code,), None),
            Call(torch._utils._rebuild_parameter, Call(eval, code), True, None),
            tensor(state={"__class__": Call(eval, code), "__reduce__": Call(eval, code)}),
        ]
    ):
        write(tmp_path / f"{number}.pt", pickled({"a": tensor(), "b": call}))
    # STACK_GLOBAL, INST and OBJ name what they call otherwise, EXT1 by a number.
    texts = b"\x8c\x08builtins\x8c\x04eval\x93", b"(" + b"\x8c" + bytes([len(code)]) + code.encode()
    write(tmp_path / "stack.pt", b"\x80\x04" + texts[0] + texts[1] + b"tR.")
    write(tmp_path / "inst.pt", b"(S" + repr(code).encode() + b"\nibuiltins\neval\n.")
    write(tmp_path / "obj.pt", b"(cbuiltins\neval\nS" + repr(code).encode() + b"\no.")
    write(tmp_path / "dotted.pt", b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x04true\x85R.")
    write(tmp_path / "extension.pt", b"\x80\x02\x82\x01)R.")
    for path in sorted(tmp_path.glob("*.pt")):
        try:
            checkpoints.read(tmp_path, path.name)
        except RuleBroken as broken:
            assert broken.rule.name in ("checkpoint-damaged", "checkpoint-tensors"), path.name
        assert not target.exists(), path.name


def shared_tuples(depth: int) -> bytes:
    """A key of a dictionary whose hash takes 2 ** depth steps."""
    return b"\x80\x02K\x01\x85q\x000" + b"h\x00h\x00\x86q\x000" * depth + b"}h\x00K\x01s."


EXHAUSTING = {
    "a memo of gigabytes": b"\x80\x02]r\xff\xff\xff\x7f.",
    "a text of gigabytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
    "millions of lists": b"\x80\x02(" + b"]" * (2 * 10**7) + b"l.",
    "nothing": b"",
    "no pickle": b"\xff" * 100,
    "cut short": pickled({"a": tensor()})[:-20],
    "an empty stack": b"\x80\x02.",
    "a future protocol": b"\x80\xff.",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", EXHAUSTING)
def test_what_exhausts_its_reader_ends_it_alone(tmp_path, case):
    write(tmp_path / "a.pt", EXHAUSTING[case])
    assert rule_of(tmp_path, "a.pt") == "checkpoint-damaged"


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".",
        b"\x80\x02\x8b" + struct.pack("<I", 10**7) + b"\x7f" * 10**7 + b".",
    ],
    ids=["lists in lists", "a number of megabytes"],
)
def test_what_is_large_and_no_harm(tmp_path, content):
    write(tmp_path / "a.pt", content, {"archive/data/0": b""})
    assert checkpoints.read(tmp_path, "a.pt") == []


def test_what_takes_forever_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PICKLE_SECONDS", 2.0)
    write(tmp_path / "a.pt", shared_tuples(100))
    assert rule_of(tmp_path, "a.pt") == "checkpoint-time"


@pytest.mark.parametrize(("each", "all"), [(2.0, 60.0), (60.0, 2.0)])
def test_the_first_that_takes_forever_is_the_last_that_is_read(tmp_path, monkeypatch, each, all):
    """Else a thousand of them would hold the evaluator for hours before a run. The rest is not looked at."""
    monkeypatch.setattr(limits, "PICKLE_SECONDS", each)
    monkeypatch.setattr(limits, "ALL_PICKLES_SECONDS", all)
    for name in "abc":
        write(tmp_path / f"{name}.pt", shared_tuples(100))
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(tmp_path)
    (finding,) = caught.value.findings
    assert (finding.rule, finding.where) == ("checkpoint-time", "a.pt")
    assert finding.found == "data.pkl takes longer than 2 s to read"


def test_no_pickle_is_read_when_the_time_of_all_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ALL_PICKLES_SECONDS", 0.0)
    (tmp_path / "a.safetensors").write_bytes(safetensors_bytes({"a": torch.ones(3)}))
    assert count(tmp_path).total == 3
    write(tmp_path / "b.pt", pickled({"вес": tensor()}))
    with raises_verdict(BAD_WEIGHTS, "the checkpoints before it took all of the time"):
        count(tmp_path)


def test_a_model_of_many_paths(tmp_path, monkeypatch):
    """Each counts once, however it is written; more than there may be checkpoints are a fault."""
    for name in ("a/x.safetensors", "a/b/y.safetensors", "z.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(safetensors_bytes({name: torch.ones(3)}))
    many = [".", "a", "./a/", "a/b/..", "a/b", "z.safetensors"] * 100
    (model,) = count(tmp_path, {"C2C": many, "VQA": ["."]}).models
    assert model.files == ("a/b/y.safetensors", "a/x.safetensors", "z.safetensors") and model.parameters == 9
    monkeypatch.setattr(limits, "MAX_MODEL_PATHS", 599)
    with pytest.raises(DataError, match="task 'C2C': names 600 paths"):
        count(tmp_path, {"C2C": many, "VQA": ["."]})


def test_names_are_looked_for_of_the_first_faults_alone(tmp_path):
    (tmp_path / "trunk.safetensors").write_bytes(safetensors_bytes({"a": torch.ones(3)}))
    paths = [f"trunk{number}.safetensors" for number in range(999)]
    (tmp_path / "models.json").write_text(json.dumps({"C2C": paths, "VQA": "."}))
    with raises_verdict(BAD_WEIGHTS) as caught:
        count(tmp_path)
    hints = [finding.found.endswith("; is 'trunk.safetensors' meant?") for finding in caught.value.findings]
    assert caught.value.total == 999 and hints[0] and sum(hints) == limits.NEAR_FAULTS


def test_containers_in_themselves_and_in_each_other(tmp_path):
    """Gone through once: 2 ** 60 paths lead to the last tensor."""
    inner: dict[str, Any] = {"вес": tensor()}
    for _ in range(60):
        inner = {"l": inner, "r": inner}
    inner["self"] = inner
    write(tmp_path / "a.pt", pickled(inner))
    (found,) = checkpoints.read(tmp_path, "a.pt")
    assert found.name == "l." * 60 + "вес"


def test_names(tmp_path):
    write(tmp_path / "a.pt", pickled({"\ud800\x1b": tensor()}))
    assert [found.name for found in checkpoints.read(tmp_path, "a.pt")] == ["\\ud800\x1b"]
    json.dumps(count(tmp_path).to_json(), ensure_ascii=False).encode()
    write(tmp_path / "a.pt", pickled({"a" * 250: {"b" * 250: tensor()}}))
    assert rule_of(tmp_path, "a.pt") == "checkpoint-size"


@pytest.mark.slow
def test_more_tensors_than_are_read(tmp_path):
    one = tensor()
    write(tmp_path / "a.pt", pickled([one] * 200_001))
    assert rule_of(tmp_path, "a.pt") == "checkpoint-size"


def test_a_pickle_beyond_the_limit(tmp_path):
    write(tmp_path / "a.pt", bytes(limits.MAX_CHECKPOINT_HEADER_BYTES + 1))
    assert rule_of(tmp_path, "a.pt") == "checkpoint-size"


def test_parameters_that_no_tensor_has_do_not_hide(tmp_path):
    write(tmp_path / "a.pt", pickled({"a": tensor()}), {"archive/data/1": bytes(4000)})
    assert rule_of(tmp_path, "a.pt") == "checkpoint-tensors"


def test_zips_that_are_not_of_torch(tmp_path):
    content = pickled({"a": tensor()})
    for write_it, rule in (
        (lambda: write(tmp_path / "a.pt", content, method=zipfile.ZIP_DEFLATED), "checkpoint-format"),
        (lambda: write(tmp_path / "a.pt", content, {"other/data.pkl": content}), "checkpoint-format"),
        (lambda: zipfile.ZipFile(tmp_path / "a.pt", "w").close(), "checkpoint-format"),
    ):
        write_it()
        assert rule_of(tmp_path, "a.pt") == rule
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:
        file.writestr("model/config.json", "{}")
    assert rule_of(tmp_path, "a.pt") == "checkpoint-format"
    write(tmp_path / "a.pt", content)
    (tmp_path / "a.pt").write_bytes((tmp_path / "a.pt").read_bytes() + b"PK")
    assert rule_of(tmp_path, "a.pt") == "checkpoint-damaged"


def test_two_entries_of_the_same_bytes(tmp_path):
    """A directory that leads twice to one entry: twice the parameters of one file."""
    state = {"a": tensor(), "b": tensor(storage=Storage("1"))}
    write(tmp_path / "a.pt", pickled(state), {"archive/data/1": bytes(16)})
    content = bytearray((tmp_path / "a.pt").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        first = file.getinfo("archive/data/0").header_offset
    second = content.rindex(b"archive/data/1") - 4  # the offset stands right before the name in the directory
    content[second : second + 4] = struct.pack("<I", first)
    (tmp_path / "a.pt").write_bytes(content)
    assert rule_of(tmp_path, "a.pt") == "checkpoint-damaged"


@pytest.mark.slow
@few
@given(st.data())
@example(data=None)
def test_any_damage_to_a_checkpoint_is_a_fault_or_none(tmp_path, data):
    content = io.BytesIO()
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"a": whole, "tied": whole, "t": whole.clone().t(), "n": {"h": torch.ones(3).half()}}, content)
    honest = content.getvalue()
    (tmp_path / "a.pt").write_bytes(honest if data is None else damaged(honest, data))
    read_or_refused(tmp_path, "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_a_link_a_folder_and_a_pipe_are_no_checkpoints(tmp_path, name):
    root = tmp_path / "s"
    root.mkdir()
    (root / name).mkdir()
    with raises_verdict(BAD_WEIGHTS, "checkpoint-missing"):
        count(root)
    (root / name).rmdir()
    for make in (lambda path: path.symlink_to("/etc/passwd"), os.mkfifo):
        make(root / name)
        code = f"import sys; from evaluator.cli.app import main; sys.exit(main(['shared-parameters', {str(root)!r}]))"
        assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 1
        (root / name).unlink()
