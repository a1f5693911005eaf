"""The decoder on a CPU as one C++ call a pass (`native.cpp`), where `native_build` has built it for this processor.

Where it is not there, PyTorch's operations do the work: slower, not wrong. A pass of few tokens is bound by the calls
that they take, not by their work: see docs/performance.md. A row's values do not depend on the rows beside it, to the
last bit.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn

from .cache import KVCache
from .config import DecoderConfig
from .linear import RowsLinear, replace_linears_
from .masks import attention_masks
from .native_build import built

logger = logging.getLogger(__name__)

MOST_VECTORS = 16  # that a head takes, in native.cpp


@functools.cache
def library() -> Any:
    """The library for this processor; None where there is none."""
    try:
        path = built()
        loaded = ctypes.CDLL(str(path)) if path is not None else None
    except OSError as error:
        loaded = None
        logger.debug("%s", error)
    if loaded is None:
        logger.info("native.cpp is not built for this machine: PyTorch's operations do its work, more slowly")
        return None
    for function in (loaded.lanes, loaded.packed_weights, loaded.workspace_floats, loaded.forward):
        function.restype = c_int64
    loaded.packed_weights.argtypes = [c_int64, c_int64]
    loaded.pack.argtypes = [c_void_p, c_int64, c_int64, c_int, c_void_p]
    loaded.linear.argtypes = [c_void_p, c_int, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int]
    loaded.workspace_floats.argtypes = [c_void_p, c_void_p, c_int64, c_int]
    loaded.forward.argtypes = [
        c_void_p, c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_int,
    ]  # fmt: skip
    loaded.draw.argtypes = [
        c_void_p, c_int64, c_int64, c_int64, c_double, c_float, c_void_p, c_void_p, c_void_p, c_int,
    ]  # fmt: skip
    return loaded


class _Linear(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p), ("outputs", c_int64), ("inputs", c_int64)]


class _Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class _Layer(Structure):
    _fields_ = [
        *((name, _Linear) for name in ("qkv", "dense", "up", "down")),
        *((name, _Norm) for name in ("before_attention", "after_attention", "before_mlp", "after_mlp")),
        ("kind", c_int64),
    ]


class _Model(Structure):
    _fields_ = [
        *((name, c_int64) for name in (
            "layers", "width", "heads", "left", "image", "right", "bfloat", "text_rows", "image_rows", "most_near",
        )),
        ("layer", POINTER(_Layer)), ("last", _Norm),
        *((name, c_void_p) for name in ("text", "images", "places", "near", "near_count")),
    ]  # fmt: skip


class _Cache(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("left_keys", "left_values", "image_keys", "own_keys", "own_values")),
        ("own", c_int64), ("readable", c_int64),
    ]  # fmt: skip


class NativeLinear(RowsLinear):
    """W in the layout of `native.cpp`, in float32 or bfloat16; sums are in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().contiguous()
        self.dtype, self._bfloat = weight.dtype, weight.dtype == torch.bfloat16
        self.bias = linear.bias.detach().float()
        self.packed = torch.empty(library().packed_weights(self.out_features, self.in_features), dtype=weight.dtype)
        library().pack(
            weight.data_ptr(), self.out_features, self.in_features, self._bfloat, self.packed.data_ptr()
        )
        self.described = _Linear(self.packed.data_ptr(), self.bias.data_ptr(), self.out_features, self.in_features)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """x [..., in] -> [..., stop - start]: these outputs alone."""
        flat = x.to(self.dtype).reshape(-1, self.in_features).contiguous()
        out = torch.empty(len(flat), stop - start)
        library().linear(
            ctypes.byref(self.described), self._bfloat, flat.data_ptr(), len(flat), start, stop, out.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        return out.view(*x.shape[:-1], stop - start).to(x.dtype)


class NativeDecoder:
    """A model's layers as `native.cpp` reads them; makes its caches. The model's linear layers are `NativeLinear`."""

    def __init__(self, model: Any) -> None:
        self.config: DecoderConfig = model.config
        self.dtype: torch.dtype = model.dtype
        config, transformer = self.config, model.transformer
        self.lanes = library().lanes()
        self._kept: list[Any] = []  # what the structures point to
        m = config.image_tokens_per_dim
        token = torch.arange(config.image_seq_length)
        places = torch.cat((
            model.l_text_pos_embeddings.weight[: config.l_text_seq_length].float(),
            model.image_row_embeddings.weight[token // m].float()
            + model.image_col_embeddings.weight[token % m].float(),
            model.r_text_pos_embeddings.weight[: config.r_text_seq_length].float(),
        ))  # fmt: skip
        start, end = config.l_text_seq_length, config.image_end
        seen = attention_masks(config)[:, start:end, start:end]
        counts = seen.sum(2)
        most = int(counts.max())
        near = seen.int().sort(dim=2, descending=True, stable=True).indices[:, :, :most]  # what is seen, rising
        layers = (_Layer * config.num_layers)()
        for described, layer, kind in zip(layers, transformer.layers, transformer.kinds, strict=True):
            described.qkv = layer.attention.query_key_value.described
            described.dense = layer.attention.dense.described
            described.up, described.down = layer.mlp.dense_h_to_4h.described, layer.mlp.dense_4h_to_h.described
            described.before_attention = self._norm(layer.input_layernorm)
            described.before_mlp = self._norm(layer.post_attention_layernorm)
            if layer.sandwich:
                described.after_attention = self._norm(layer.before_first_addition_layernorm)
                described.after_mlp = self._norm(layer.before_second_addition_layernorm)
            described.kind = kind
        self._kept += [layers, transformer]
        self.described = _Model(
            config.num_layers, config.hidden_size, config.num_attention_heads, config.l_text_seq_length,
            config.image_seq_length, config.r_text_seq_length, self.dtype == torch.bfloat16, config.text_vocab_size,
            config.image_table_size, most, layers, self._norm(transformer.final_layernorm),
            self._keep(model.text_embeddings.weight), self._keep(model.image_embeddings.weight),
            self._keep(places), self._keep(near.int()), self._keep(counts.int()),
        )  # fmt: skip

    def new_cache(self, rows: int, capacity: int) -> NativeCache:
        """An empty cache for sequences of up to `capacity` positions."""
        return NativeCache(self, rows, capacity)

    def _keep(self, tensor: Tensor) -> int:
        self._kept.append(tensor.detach().contiguous())
        return self._kept[-1].data_ptr()

    def _norm(self, norm: nn.LayerNorm) -> _Norm:
        return _Norm(self._keep(norm.weight.float()), self._keep(norm.bias.float()))


class NativeCache(KVCache):
    """Keys and values in float32, as `native.cpp` reads them, of R left texts and S sequences; sizes that end with `'`
    are rounded up to whole vectors. By layer:

    * of the left text, keys [R, heads, head, l'], so that many are read at a time, and values [R, heads, l, head'];
    * of an image, keys [S, heads, m * m, head'], as an image token sees few of them;
    * of image and right text, values [S, heads, n, head'], and where a right text may come keys [S, heads, head, n'].

    Sequences that go on from one left text share it.
    """

    def __init__(self, decoder: NativeDecoder, rows: int, capacity: int) -> None:
        self._decoder, self.capacity, self.scratch, self.length = decoder, capacity, 0, 0
        config = decoder.config
        heads, head = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self._own = max(0, capacity - config.l_text_seq_length)
        readable = capacity >= config.image_end  # a right text may come, or go on from this one
        wide = self._up(head)

        def make(*shape: int) -> list[Tensor]:
            return [torch.empty(shape) for _ in range(config.num_layers)]

        self._left_keys: list[Tensor] = []
        self._left_values: list[Tensor] = []
        image = config.image_seq_length if self._own else 0
        self._image_keys = make(rows, heads, image, wide)
        self._own_keys = make(rows, heads, head, self._up(self._own)) if readable else []
        self._own_values = make(rows, heads, self._own, wide)
        self._sequences = self._lefts = torch.arange(rows)
        self._memory = torch.empty(0)
        self._readable = readable
        self._described: _Cache | None = None

    def _up(self, size: int) -> int:
        return -(-size // self._decoder.lanes) * self._decoder.lanes

    @property
    def keys(self) -> list[Tensor]:  # type: ignore[override]
        """All that holds keys."""
        self._describe()
        return [*self._left_keys, *self._image_keys, *self._own_keys]

    @property
    def values(self) -> list[Tensor]:  # type: ignore[override]
        """All that holds values."""
        self._describe()
        return [*self._left_values, *self._own_values]

    @property
    def batch(self) -> int:
        """B, the number of rows."""
        return len(self._sequences)

    def _describe(self) -> _Cache:
        if self._described is None:
            config = self._decoder.config
            heads, head = config.num_attention_heads, config.hidden_size // config.num_attention_heads
            if not self._left_keys:
                rows, left = len(self._lefts), config.l_text_seq_length
                self._left_keys = [torch.empty(rows, heads, head, self._up(left)) for _ in range(config.num_layers)]
                self._left_values = [torch.empty(rows, heads, left, self._up(head)) for _ in range(config.num_layers)]
            pieces = (self._left_keys, self._left_values, self._image_keys, self._own_keys, self._own_values)
            self._pointers = [(c_void_p * len(piece))(*(tensor.data_ptr() for tensor in piece)) for piece in pieces]
            self._described = _Cache(
                *(ctypes.addressof(pointers) for pointers in self._pointers), self._own, self._readable
            )
        return self._described

    def run(self, ids: Tensor, position: int | Tensor, last: int) -> Tensor:
        """Final hidden states [B, last, D] of the last of ids [B, T] at positions `position`.., or of ids [B, 1] at
        positions of their own, int64 [B]. Raises IndexError for an id or a position that does not exist.
        """
        batch, length = ids.shape
        places = torch.atleast_1d(torch.as_tensor(position))[:, None] + torch.arange(length)  # [B or 1, T]
        tokens = torch.stack([
            part.expand(batch, length) for part in (self._sequences[:, None], self._lefts[:, None], places)
        ], dim=2)  # fmt: skip
        wanted = torch.arange(batch * length).view(batch, length)[:, length - last :].flatten().contiguous()
        states = self._forward(ids.long().contiguous(), tokens.view(-1, 3), wanted)
        return states.view(batch, last, states.shape[1])

    def _forward(self, ids: Tensor, tokens: Tensor, wanted: Tensor) -> Tensor:
        model, cache = ctypes.byref(self._decoder.described), ctypes.byref(self._describe())
        threads, count = torch.get_num_threads(), len(tokens)
        out = torch.empty(len(wanted), self._decoder.config.hidden_size)
        needed = library().workspace_floats(model, cache, count, threads)
        if len(self._memory) < needed:
            self._memory = torch.empty(needed)
        wrong = library().forward(
            model, cache, ids.data_ptr(), tokens.data_ptr(), count, wanted.data_ptr(), len(wanted), out.data_ptr(),
            self._memory.data_ptr(), threads,
        )  # fmt: skip
        if wrong >= 0:
            raise IndexError(f"there is no id {int(ids.flatten()[wrong])} at position {int(tokens[wrong, 2])}")
        return out.to(self._decoder.dtype)

    def write(self, *_: Any) -> Any:
        raise NotImplementedError("keys and values are written by `run`")

    def branch(self, before: KVCache, rows: Tensor) -> None:
        """Begins with all that another cache holds: row i with its row `rows[i]`, [B] int64, which may come again. The
        left texts are shared.
        """
        assert isinstance(before, NativeCache)
        before._describe()
        self._left_keys, self._left_values = before._left_keys, before._left_values
        self._lefts, self.length, self._described = before._lefts[rows], before.length, None
        self._copy_own(self._sequences, before, before._sequences[rows])

    def _copy_own(self, to: Tensor, other: NativeCache, sequences: Tensor) -> None:
        """What another cache holds of images and right texts, from its `sequences` [n] to those of this one."""
        kept = other.length - self._decoder.config.l_text_seq_length
        if kept <= 0:
            return
        for mine, others in ((self._image_keys, other._image_keys), (self._own_values, other._own_values)):
            for target, source in zip(mine, others, strict=True):
                target[to, :, :kept] = source[sequences, :, : min(kept, target.shape[2])]
        for layer, target in enumerate(self._own_keys):
            if other._readable:
                target[to, :, :, :kept] = other._own_keys[layer][sequences, :, :, :kept]
            else:  # it holds a part of an image alone
                keys = other._image_keys[layer][sequences, :, :kept, : target.shape[2]]
                target[to, :, :, :kept] = keys.transpose(2, 3)

    def fill(self, rows: Tensor, other: KVCache) -> None:
        """Begins these rows, int64 [n], anew with all that another cache of n rows holds. Their left texts must not be
        shared.
        """
        assert isinstance(other, NativeCache)
        self._describe()
        self.length = max(self.length, other.length)
        lefts, sequences = self._lefts[rows], self._sequences[rows]
        for mine, others in ((self._left_keys, other._left_keys), (self._left_values, other._left_values)):
            for target, source in zip(mine, others, strict=True):
                target[lefts] = source[other._lefts]
        self._copy_own(sequences, other, other._sequences)

    def copies(self, rows: int) -> KVCache:
        """A cache of a batch of `rows`, each as the first of this one, which stays as it is."""
        copied = NativeCache(self._decoder, rows, self.capacity)
        copied.branch(self, torch.zeros(rows, dtype=torch.int64))
        return copied

    def select(self, rows: Tensor) -> None:
        """Keeps the batch rows with these indices, [B'] int64, in this order."""
        self._sequences, self._lefts = self._sequences[rows], self._lefts[rows]


def can_use(model: Any) -> bool:
    """Whether the library is there and computes with this model's weights: on a CPU, float32, or bfloat16 that the
    processor multiplies, and heads that are not wider than it knows.
    """
    weight = next(model.parameters())
    if weight.device.type != "cpu" or library() is None:
        return False
    config: DecoderConfig = model.config
    if config.hidden_size // config.num_attention_heads > MOST_VECTORS * library().lanes():
        return False
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and bool(library().can_bfloat())
        and all(linear.in_features % 2 == 0 for linear in linears)
    )  # fmt: skip


def use_native_(model: Any) -> Any:
    """Has a decoder's passes computed by the library, in place; it must satisfy `can_use`, and can neither be trained
    nor saved afterwards.
    """
    replace_linears_(model, NativeLinear, 0)
    model.native = NativeDecoder(model)
    return model


def draw(logits: Tensor, top_k: int, top_p: float, temperature: float, uniform: Tensor) -> Tensor:
    """`sampling.sample_by_sorting` of logits [B, V] on a CPU -> int64 [B]. The library must be there."""
    logits = logits.float().contiguous()
    rows, width = logits.shape
    uniform = uniform.float().expand(rows).contiguous()
    threads, lanes = torch.get_num_threads(), library().lanes()
    ids, memory = torch.empty(rows, dtype=torch.int64), torch.empty(threads, -(-width // lanes) * lanes)
    library().draw(
        logits.data_ptr(), rows, width, top_k, top_p, temperature, uniform.data_ptr(), ids.data_ptr(),
        memory.data_ptr(), threads,
    )  # fmt: skip
    return ids
