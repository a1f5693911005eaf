"""A checkpoint of the published training (PyTorch Lightning) as a model folder.

    cd submission && python -m training.finetune.lightning last.ckpt --like ../weights/2.7B --output ../weights/mine

Taken are the tensors of `state_dict` that are the model's, whatever precision they have; config.json, bpe.model and
vqgan/ come from the folder `--like`, of a model of the same sizes. The published training also pickles objects of its
own code into the file (hyperparameters, optimizers). They are not made: nothing of the file's code runs.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import shutil
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rudolph import RudolphModel

log = logging.getLogger("lightning")

EXIT_OK, EXIT_FAILED = 0, 1
#: Of the names in `state_dict`: the Lightning module's attribute, and the wrapper for half precision.
PREFIXES = ("model.module.", "model.")
_REBUILDERS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"}


class CheckpointError(ValueError):
    """A file that holds no RUDOLPH; the message is one line that names it."""


class _Unknown:
    """Stands for any object of the file that is no tensor, and takes whatever pickle does to it."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> _Unknown:
        return self

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    """Makes tensors and containers, and of everything else an `_Unknown`."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch._utils" and name in _REBUILDERS:
            return getattr(torch._utils, name)
        if module == "torch" and name == "Size":
            return torch.Size
        if module in ("torch", "torch.storage") and name.endswith("Storage") and hasattr(torch.storage, name):
            return getattr(torch.storage, name)
        found = getattr(torch, name, None) if module == "torch" else None
        return found if isinstance(found, torch.dtype) else _Unknown


def _module() -> types.ModuleType:
    """A stand-in for `pickle`, as torch.load wants one."""
    module = types.ModuleType("tensors_alone")
    vars(module).update(Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load())
    return module


def read_state(path: Path) -> dict[str, Tensor]:
    """The model's tensors by the names that they have in a model folder. Raises CheckpointError, OSError."""
    try:
        checkpoint = torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=_module(), mmap=zipfile.is_zipfile(path)
        )
    except OSError:
        raise
    except Exception as error:  # a damaged pickle fails in whatever way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"{path}: is no checkpoint of torch, or damaged: {reason[:300]}") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        found = sorted(map(str, checkpoint))[:5] if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise CheckpointError(f"{path}: has no key 'state_dict' (found: {found}); allowed: a checkpoint of Lightning")
    tensors = {}
    for name, value in state.items():
        prefix = next((prefix for prefix in PREFIXES if str(name).startswith(prefix)), None)
        if prefix is not None and isinstance(value, Tensor) and not name.endswith("_mask"):
            tensors[name.removeprefix(prefix)] = value
    if not tensors:
        shown = ", ".join(sorted(map(str, state))[:5])
        raise CheckpointError(f"{path}: no tensor of state_dict begins with model. (found: {shown})")
    return tensors


def convert(checkpoint: Path, like: Path, output: Path) -> int:
    """Writes the model folder `output`, whole or not at all, and returns the number of tensors.

    Raises CheckpointError, OSError, and ValueError where the tensors are not those of `like`'s sizes.
    """
    if os.path.lexists(output):
        raise CheckpointError(f"{output}: exists already; allowed: a folder that does not")
    for name in ("config.json", "bpe.model", "vqgan"):
        if not (like / name).exists():
            raise CheckpointError(f"{like}: lacks {name}; allowed: a model folder, as `make weights` makes it")
    state = read_state(checkpoint)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        for name in ("config.json", "bpe.model"):
            shutil.copyfile(like / name, temporary / name)
        shutil.copytree(like / "vqgan", temporary / "vqgan")
        # A copy each: tensors that share memory cannot be saved.
        own = {name: value.detach().clone().contiguous() for name, value in state.items()}
        save_file(own, temporary / "model.safetensors", metadata={"format": "pt"})
        try:
            RudolphModel.from_pretrained(temporary, dtype=next(iter(state.values())).dtype)
        except ValueError as error:
            told = str(error).replace(str(temporary), f"{checkpoint} with {like}/config.json")
            raise CheckpointError(told) from error
        os.rename(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(state)


def main(arguments: list[str] | None = None) -> int:
    """Command line. Exit codes: 0 converted, 1 the file or a folder cannot be used, 2 bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune.lightning", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="the .ckpt file")
    parser.add_argument("--like", type=Path, required=True, metavar="DIR", help="a model folder of the same sizes")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="the model folder to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        count = convert(options.checkpoint, options.like, options.output)
    except (CheckpointError, OSError) as error:
        log.error("%s", " ".join(str(error).split()))
        return EXIT_FAILED
    log.info("%s: %d tensors of %s", options.output, count, options.checkpoint)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
