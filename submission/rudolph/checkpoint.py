"""A model's weights on disk: which files they are, whether they are sound, and whether they fit their config.json.

A published folder (`config.json` + `pytorch_model.bin`) is read as well as one that `transformers` saves. Pickles are
read without running what they might hold.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .config import DecoderConfig

_LAYER = re.compile(r"transformer\.layers\.(\d{1,9})\.")
#: Published checkpoints hold the masks; they follow from the sizes.
STORED_MASKS = r"transformer\.(row|col|conv|last_conv)_mask$"
_SHOWN_KEYS = 5


class Uninitialized(TorchFunctionMode):
    """Modules made inside keep their parameters as they come: where weights are loaded, random numbers are work for
    nothing, and memory that nobody writes to is never taken. On torch's device `meta` the first of them would import
    torch's compiler, which takes seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **kwargs or {})


def check_sizes(folder: Path, config: DecoderConfig) -> None:
    """Raise ValueError where the weights are damaged, or where the sizes of config.json are not those of the weights: a
    model of such sizes may take all memory, or years, before anything shows that it does not fit.
    """
    shapes = {key: shape for path in weight_files(folder) for key, shape in _stored_shapes(path).items()}
    start = f"{folder}: the checkpoint does not fit its config.json: "
    layers = 1 + max((int(found[1]) for key in shapes if (found := _LAYER.match(key))), default=-1)
    if config.num_layers > layers:
        raise ValueError(f"{start}num_layers is {config.num_layers}, the weights have {layers}")
    rows = {
        "text_embeddings": config.text_vocab_size,
        "image_embeddings": config.image_table_size,
        "l_text_pos_embeddings": config.l_text_seq_length + 1,
        "r_text_pos_embeddings": config.r_text_seq_length + 1,
        "image_row_embeddings": config.image_tokens_per_dim,
    }
    for name, count in rows.items():
        wanted, stored = [count, config.hidden_size], shapes.get(f"{name}.weight")
        if stored not in (None, wanted):
            raise ValueError(f"{start}mismatched keys: {name}.weight is {stored}, config.json asks for {wanted}")


def weight_files(folder: Path) -> list[Path]:
    """The files that `transformers` loads: safetensors before pickles, one file before many.

    Raises ValueError where there is none, or where one is no regular file.
    """
    for whole, shards in (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")):
        paths = [folder / whole] if (folder / whole).exists() else sorted(folder.glob(shards))
        for path in paths:
            if not path.is_file():  # a pipe, for instance, would be waited for without an end
                raise ValueError(f"{path} is no regular file")
        if paths:
            return paths
    raise ValueError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _stored_shapes(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a file of weights, without reading them where the format allows that.

    Raises ValueError where the file is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        return {key: list(value.shape) for key, value in unpickled(path).items()}
    except (
        OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
        SafetensorError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        # torch's own message advises unpickling everything; only its reason is passed on.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0]
        reason = " ".join(f"{type(error).__name__}: {reason}".split())
        raise ValueError(f"{path} is damaged or holds more than tensors: {reason}") from error


def unpickled(path: Path) -> dict[str, Tensor]:
    """What a file of `torch.save` holds, read without running it, and mapped where its format allows that."""
    # Files from before torch 1.6 are no zip archives and cannot be mapped.
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    return state


def load_state(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """All weights of a folder that `check_sizes` has found sound, as `dtype`, without the masks.

    Files are mapped where their format allows it: what has the dtype already takes no memory of its own.
    """
    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        state |= load_file(path) if path.suffix == ".safetensors" else unpickled(path)
    return {key: value.to(dtype) for key, value in state.items() if not re.match(STORED_MASKS, key)}


def check_keys(folder: Path, missing: Iterable[str], unexpected: Iterable[str], mismatched: Iterable[str]) -> None:
    """Raise ValueError that names the keys which differ between a checkpoint and the model of its config.json."""
    for problem, keys in (("missing", missing), ("unexpected", unexpected), ("mismatched", mismatched)):
        if keys := sorted(keys):
            shown = ", ".join(keys[:_SHOWN_KEYS])
            shown += f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
            raise ValueError(f"{folder}: the checkpoint does not fit its config.json: {problem} keys: {shown}")
