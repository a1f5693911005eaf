"""The tensors of checkpoints as the libraries that wrote them have them; tests/hostile has those made to harm."""

import collections
import hashlib
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from evaluator.core.errors import RuleBroken
from evaluator.package import checkpoints, rules
from evaluator.package.checkpoints import digest, read

DATA = Path(__file__).parents[2] / "data"
ALL_KINDS = [
    *("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16"),
    *("float32", "float64", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz"),
    *("float8_e5m2fnuz",),
]


def broken(folder: Path, name: str) -> tuple[str, str]:
    with pytest.raises(RuleBroken) as caught:
        read(folder, name)
    return caught.value.rule.name, caught.value.found


def values(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()


def test_both_formats_give_the_same_names_shapes_kinds_and_bytes(tmp_path):
    state = {}
    for kind in ALL_KINDS:
        dtype = getattr(torch, kind)
        whole = torch.arange(6, dtype=torch.uint8).view(2, 3)
        state[f"слой.{kind}"] = whole.view(dtype) if kind == "float8_e8m0fnu" else whole.to(dtype)
        state[f"one.{kind}"] = torch.ones((), dtype=dtype)
        state[f"none.{kind}"] = torch.ones((0, 4), dtype=dtype)
    save_file(state, tmp_path / "веса.safetensors")
    torch.save(state, tmp_path / "веса.pt")
    found = [{t.name: t.memory for t in read(tmp_path, f"веса.{ending}")} for ending in ("safetensors", "pt")]
    for memories in found:
        assert set(memories) == set(state)
        for name, tensor in state.items():
            memory = memories[name]
            assert (memory.shape, memory.parameters) == (tuple(tensor.shape), tensor.numel())
            assert memory.size == tensor.numel() * tensor.element_size()
            assert digest(tmp_path, memory) == hashlib.sha256(values(tensor)).digest()
    assert all(found[0][name].dtype == found[1][name].dtype for name in state)


def test_kinds_that_pytorch_alone_has(tmp_path):
    torch.save({"c": torch.ones(3, dtype=torch.complex128)}, tmp_path / "a.pt")
    (tensor,) = read(tmp_path, "a.pt")
    assert (tensor.memory.dtype, tensor.memory.size) == ("C128", 48)


def test_a_tensor_is_its_elements_whatever_its_strides(tmp_path, monkeypatch):
    """In pieces that end within a row, at its end, and after several."""
    whole = torch.arange(3 * 50 * 7, dtype=torch.int16).view(3, 50, 7)
    state = {
        "transposed": whole.transpose(0, 2),
        "permuted": whole.clone().permute(1, 2, 0)[:, ::2],
        "column": whole.clone()[:, :, 3],
        "row": whole.clone()[1, 20:21],
        "reversed": whole.clone().flip(0),
    }
    torch.save(state, tmp_path / "a.pt")
    for size in (2, 26, 200, 2**20):
        monkeypatch.setattr(checkpoints, "CHUNK_BYTES", size)
        for tensor in read(tmp_path, "a.pt"):
            wanted = state[tensor.name]
            assert tensor.memory.shape == tuple(wanted.shape)
            assert digest(tmp_path, tensor.memory) == hashlib.sha256(values(wanted)).digest(), (tensor.name, size)


def test_tied_tensors_have_one_memory(tmp_path):
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(10, 4), "head": torch.nn.Linear(4, 10, bias=False)})
    model["head"].weight = model["embed"].weight
    torch.save(model.state_dict(), tmp_path / "a.pt")
    first, second = read(tmp_path, "a.pt")
    assert [first.name, second.name] == ["embed.weight", "head.weight"] and first.memory == second.memory


def test_parts_of_one_storage_that_do_not_overlap(tmp_path):
    """As torch.chunk and the flat weights of an LSTM are."""
    left, right = torch.chunk(torch.arange(20.0).view(4, 5), 2, dim=1)
    torch.save({"left": left, "right": right}, tmp_path / "a.pt")
    assert [tensor.memory.parameters for tensor in read(tmp_path, "a.pt")] == [12, 8]


class Settings:
    """A class of the training code, which is nowhere where the submission is looked at."""

    def __init__(self) -> None:
        self.rate, self.mean = 0.1, torch.ones(5)


@pytest.mark.slow  # torch.optim imports torch's compiler
def test_what_else_training_writes_is_read_without_its_classes(tmp_path, monkeypatch):
    module = types.ModuleType("their_training")
    monkeypatch.setitem(__import__("sys").modules, "their_training", module)
    monkeypatch.setattr(Settings, "__module__", "their_training")
    module.Settings = Settings
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "state_dict": layer.state_dict(),
        "parameters": list(layer.parameters()),
        "optimizer": optimizer.state_dict(),
        "settings": Settings(),
        "counts": collections.Counter("aab"),
        "when": collections.defaultdict(list, {1: [torch.zeros(2)]}),
        "path": Path("x"),
        ("no", "name"): {torch.float16, frozenset({1})},
        "random": torch.get_rng_state(),
    }
    torch.save(checkpoint, tmp_path / "last.ckpt")
    found = {tensor.name: tensor.memory.shape for tensor in read(tmp_path, "last.ckpt")}
    assert found.pop("random")[0] > 1000
    assert found == {
        **{"state_dict.weight": (2, 3), "state_dict.bias": (2,), "parameters.0": (2, 3), "parameters.1": (2,)},
        **{"optimizer.state.0.step": (), "optimizer.state.1.step": ()},
        **{f"optimizer.state.0.exp_avg{end}": (2, 3) for end in ("", "_sq")},
        **{f"optimizer.state.1.exp_avg{end}": (2,) for end in ("", "_sq")},
        **{"settings.mean": (5,), "when.1.0": (2,)},
    }


def test_a_whole_module_and_published_checkpoints(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(3, 2)), tmp_path / "module.pt")
    names = [tensor.name for tensor in read(tmp_path, "module.pt")]
    assert names == ["_modules.0._parameters.weight", "_modules.0._parameters.bias"]
    for path in ("vqgan/vqgan.ckpt", "ruclip/pytorch_model.bin"):
        loaded = torch.load(DATA / path, weights_only=True)
        loaded = {f"state_dict.{name}": tensor for name, tensor in loaded.get("state_dict", {}).items()} or loaded
        assert {t.name: t.memory.shape for t in read(DATA, path)} == {n: tuple(t.shape) for n, t in loaded.items()}


# --- one test a rule ---


def test_format(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    rule, found = broken(tmp_path, "old.pt")
    assert (rule, found) == ("checkpoint-format", "a file of torch.save before PyTorch 1.6")
    (tmp_path / "text.pt").write_bytes(b"\x1b[2J no checkpoint")
    assert broken(tmp_path, "text.pt") == ("checkpoint-format", r"begins with b'\x1b[2J no checkp'")
    (tmp_path / "empty.pt").write_bytes(b"")
    assert broken(tmp_path, "empty.pt") == ("checkpoint-format", "an empty file")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_damaged(tmp_path, name):
    state = {"a": torch.ones(300)}
    torch.save(state, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    content = (tmp_path / name).read_bytes()
    for damaged in (content[:-1], content[:40], content + b"\0"):
        (tmp_path / name).write_bytes(damaged)
        assert broken(tmp_path, name)[0] == rules.CHECKPOINT_DAMAGED.name


@pytest.mark.filterwarnings("ignore:torch.quantize")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
        lambda: torch.ones(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        lambda: torch.ones(4).untyped_storage(),
    ],
    ids=["quantised", "packed", "storage"],
)
def test_tensors(tmp_path, make):
    torch.save({"a": torch.ones(4), "b": make()}, tmp_path / "a.pt")
    assert broken(tmp_path, "a.pt")[0] == rules.CHECKPOINT_TENSORS.name


@pytest.mark.parametrize("state", [lambda a: {"a": a, "part": a[2:5]}, lambda a: {"a": a.expand(3, 10)}])
def test_memory(tmp_path, state):
    torch.save(state(torch.ones(10)), tmp_path / "a.pt")
    rule, found = broken(tmp_path, "a.pt")
    assert rule == rules.CHECKPOINT_MEMORY.name and " in the 40 of 'a/data/0'" in found
