"""What the networks with published weights share: safe loading, where they run and how exactly, batches of inputs."""

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

Weights = Mapping[str, Tensor] | str | os.PathLike[str]  # a state dict, or the path of one

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_... of malloc.h
_KEPT_BYTES = 2**30

N = TypeVar("N", bound=nn.Module)
T = TypeVar("T")


def default_device() -> torch.device:
    """The GPU where torch has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(device: torch.device) -> torch.dtype:
    """Half precision on a GPU; on a CPU it would be slower and less exact, so float32."""
    return torch.float16 if device.type == "cuda" else torch.float32


def keep_freed_memory() -> None:
    """Let the C library keep up to a gigabyte of what this process frees. Otherwise each large tensor's memory goes
    back to the system, which clears it for the next one: up to a sixth of a forward pass. Nothing without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # A threshold that this glibc finds too large is refused; the other alone would have each tensor mapped anew.
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _KEPT_BYTES):
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def load_network(make: Callable[[], N], weights: Weights, device: torch.device, dtype: torch.dtype | None = None) -> N:
    """The network that `make` builds, with `weights`, for inference on `device` in `dtype` (None: its `precision`).

    Built without memory of its own and given the tensors as they are, so weights are never held twice on one device.
    Raises FileNotFoundError, or ValueError where the weights cannot be read or are of another network.
    """
    name = "the state dict" if isinstance(weights, Mapping) else os.fspath(weights)
    state = weights if isinstance(weights, Mapping) else _read(Path(weights))
    dtype = dtype or precision(device)
    if device.type == "cpu":
        keep_freed_memory()
    placed = {
        key: value.to(device, dtype if value.is_floating_point() else value.dtype) for key, value in state.items()
    }
    with torch.device("meta"):
        network = make()
    try:
        network.load_state_dict(placed, assign=True)
    except RuntimeError as error:  # lists the keys and shapes that differ
        raise ValueError(f"{name}: not the weights of this network: {error}") from error
    return network.eval().requires_grad_(False)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items, taken from `items` only when they are asked for."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever damaged bytes make zip, pickle and torch raise
        raise ValueError(f"{path}: cannot be read as a state dict: {type(error).__name__}: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: holds {type(state).__name__}, not a state dict of tensors by name")
    return state
