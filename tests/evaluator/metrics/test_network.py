"""Loading networks: what is read, what is refused, where it ends up; and batches."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from evaluator.metrics.network import batches, load_network, precision

CPU = torch.device("cpu")


class Payload:
    """Unpickled by anyone who does not forbid it, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def make() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_weights_are_used_as_float32_for_inference() -> None:
    state = {key: value.double() if value.is_floating_point() else value for key, value in make().state_dict().items()}
    network = load_network(make, state, CPU)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    loaded = network.state_dict()
    assert loaded["0.weight"].dtype == torch.float32 and loaded["1.num_batches_tracked"].dtype == torch.long
    assert torch.equal(loaded["0.weight"], state["0.weight"].float())
    assert state["0.weight"].dtype == torch.float64


def test_weights_of_before_batch_norm_counted_batches(tmp_path: Path) -> None:
    state = {key: value for key, value in make().state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    assert torch.isfinite(load_network(make, tmp_path / "old.pth", CPU)(torch.ones(1, 3))).all()


def test_a_type_that_is_asked_for_wins_over_the_devices() -> None:
    network = load_network(make, make().state_dict(), CPU, torch.float64)
    assert network.state_dict()["0.weight"].dtype == torch.float64


def test_half_precision_is_for_gpus() -> None:
    assert precision(CPU) == torch.float32 and precision(torch.device("cuda")) == torch.float16


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"<html>", pickle.dumps([1, 2], protocol=2)])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(ValueError, match="weights.bin: (cannot be read|holds list)"):
        load_network(make, tmp_path / "weights.bin", CPU)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    torch.save({"0.weight": Payload(tmp_path / "ran")}, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="weights.bin: cannot be read as a state dict"):
        load_network(make, tmp_path / "weights.bin", CPU)
    assert not (tmp_path / "ran").exists()


def test_what_is_no_state_dict_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"0.weight": torch.zeros(2, 3)}}, tmp_path / "weights.bin")
    with pytest.raises(ValueError, match="weights.bin: holds dict, not a state dict of tensors"):
        load_network(make, tmp_path / "weights.bin", CPU)


def test_batches_are_taken_one_at_a_time() -> None:
    taken: list[int] = []
    source = (taken.append(i) or i for i in range(7))
    lists = batches(source, 3)
    assert next(lists) == [0, 1, 2] and taken == [0, 1, 2]
    assert list(lists) == [[3, 4, 5], [6]]
