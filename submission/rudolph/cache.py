"""Static key/value cache: memory is reserved once, a step writes at its positions and reads what it may see."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

#: Some positions of a sequence: a slice where they are evenly spaced, else int64 [n].
Positions = slice | Tensor


class KVCache:
    """Keys and values of every layer, each [B, heads, scratch + capacity, head width].

    The first `scratch` places are a working area. A step at an image position may see all of the left text and a few
    image tokens: it copies those few in front of the left text, so that what attention reads lies in one piece.
    """

    length: int  # positions filled so far

    def __init__(
        self, num_layers: int, batch: int, heads: int, capacity: int, head_size: int,
        *, scratch: int = 0, dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        shape = (batch, heads, scratch + capacity, head_size)
        self.capacity, self.scratch, self.length = capacity, scratch, 0
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(num_layers)]

    def run(self, ids: Tensor, position: int | Tensor, last: int) -> Tensor | None:
        """Final hidden states [B, last, D] of the last of ids [B, T] at positions `position`.., or of ids [B, 1] at
        positions of their own, int64 [B] on the CPU, where the cache can compute them by itself; None where the model
        has to, as here.
        """
        return None

    def step(self, ids: Tensor, position: int | Tensor) -> Tensor | None:
        """Final hidden states [B, D] of ids [B, 1] at an image or right-text position, or at right-text positions of
        their own, int64 [B] on the CPU, where the cache can compute them by itself; None where the model has to, as
        here.
        """
        return None

    @property
    def batch(self) -> int:
        """B, the number of rows."""
        return self.keys[0].shape[0]

    @property
    def nbytes(self) -> int:
        """Reserved bytes: 2 * layers * B * heads * (scratch + capacity) * head width * element size."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def write(self, layer: int, position: int | Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores key and value, [B, heads, T, head width], from `position` on, or of one position that each row has of
        its own, int64 [B] on the CPU; returns views of all up to there, up to the last of the rows.
        """
        if isinstance(position, Tensor):
            stop = self.scratch + int(position.max()) + 1
            rows, places = torch.arange(len(key), device=key.device), (self.scratch + position).to(key.device)
            self.keys[layer][rows, :, places] = key[:, :, 0]
            self.values[layer][rows, :, places] = value[:, :, 0]
            return self.keys[layer][:, :, self.scratch : stop], self.values[layer][:, :, self.scratch : stop]
        start, stop = self.scratch + position, self.scratch + position + key.shape[2]
        self.keys[layer][:, :, start:stop] = key
        self.values[layer][:, :, start:stop] = value
        return self.keys[layer][:, :, self.scratch : stop], self.values[layer][:, :, self.scratch : stop]

    def write_sparse(
        self, layer: int, position: int, near: Positions, text: int, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Stores key and value, [B, heads, 1, head width], at an image position; returns views [B, heads, n + text,
        head width] of copies of the n positions `near` (n <= scratch) and of the first `text` positions.
        """
        stored = self.keys[layer], self.values[layer]
        for tensor, new in zip(stored, (key, value), strict=True):
            past_scratch = tensor[:, :, self.scratch :]
            past_scratch[:, :, position : position + 1] = new
            # A slice is copied once; an index would be gathered first.
            chosen = past_scratch[:, :, near] if isinstance(near, slice) else past_scratch.index_select(2, near)
            first = self.scratch - chosen.shape[2]
            tensor[:, :, first : self.scratch] = chosen
        keys, values = (tensor[:, :, first : self.scratch + text] for tensor in stored)
        return keys, values

    def branch(self, before: KVCache, rows: Tensor) -> None:
        """Begins with all that another cache holds: row i with its row `rows[i]`, [B] int64, which may come again."""
        self.length = before.length
        stop = self.scratch + before.length
        for target, source in zip((*self.keys, *self.values), (*before.keys, *before.values), strict=True):
            target[:, :, self.scratch : stop] = source[rows, :, before.scratch : before.scratch + before.length]

    def fill(self, rows: Tensor, other: KVCache) -> None:
        """Begins these rows, int64 [n], anew with all that another cache of n rows holds. Behind that stands what was
        there, which rows at positions of their own do not see; it must be numbers.
        """
        self.length = max(self.length, other.length)
        stop = self.scratch + other.length
        for target, source in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            target[rows, :, self.scratch : stop] = source[:, :, other.scratch : other.scratch + other.length]

    def copies(self, rows: int) -> KVCache:
        """A cache of a batch of `rows`, each as the first of this one, which stays as it is."""
        layers, (_, heads, places, head_size) = len(self.keys), self.keys[0].shape
        copied = KVCache(
            layers, rows, heads, places - self.scratch, head_size,
            scratch=self.scratch, dtype=self.keys[0].dtype, device=self.keys[0].device,
        )  # fmt: skip
        copied.length = self.length
        for target, source in zip((*copied.keys, *copied.values), (*self.keys, *self.values), strict=True):
            target[:] = source[:1]
        return copied

    def select(self, rows: Tensor) -> None:
        """Keeps the batch rows with these indices, [B'] int64, in this order; layer by layer, so memory peaks low."""
        for tensors in (self.keys, self.values):
            for layer, tensor in enumerate(tensors):
                tensors[layer] = tensor[rows]


class Prefix(NamedTuple):
    """Beginnings of sequences that have been run: their last hidden states [R, D], and a cache of R rows."""

    hidden: Tensor
    cache: KVCache


class CacheFactory(Protocol):
    """Makes caches that compute single steps by themselves, as `graphs.StepGraphs` does."""

    def new_cache(self, rows: int) -> KVCache | None:
        """An empty cache for a batch of `rows` and all positions; None where it cannot make one just now."""

    def release(self) -> None:
        """Lets go of the memory that is reserved; the next cache reserves what it needs."""
