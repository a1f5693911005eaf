"""Single steps of generation as CUDA graphs: one for each bucket of rows and each part of the sequence.

A step of a small batch is hundreds of short kernels, which a host launches more slowly than a GPU runs them. A graph is
launched at once, but it is the same kernels on the same memory each time. So keys and values lie in one storage that
stays, the number of rows is rounded up to a bucket, positions are read from memory, and all shapes are those of the
largest step: at an image position, as many neighbours as any image token has; in the right text, all positions. What is
not there is masked.

A left text that several rows continue is kept once, in the first of them; which row has the left text of another is
read from memory, too. Rows that follow each other with one left text read it together (`fused`).

Where Triton can be used the kernels are those of `fused`, else PyTorch's own. A graph is compared with the same step as
PyTorch launches it before it is used. Where a graph cannot be made with the one or the other, steps are launched one by
one, with a line in the log: slower, not wrong.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .cache import KVCache
from .decoder import RudolphDecoder
from .linear import RowsLinear
from .masks import attention_masks
from .memory import is_out_of_memory

logger = logging.getLogger(__name__)

Part = Literal["image", "right"]

MOST_NEIGHBOURS = 128  # image tokens that an image token may see, in Triton's kernels
#: Rows with one left text that a program of Triton's kernels reads it for: the least that its products take.
TILE_ROWS = 16
_WARM_UPS = 2  # runs before a graph is made: libraries choose their kernels and reserve memory in the first ones
#: How far a graph's result may be from PyTorch's own step, as the norm of the difference over that of the result: what
#: another order of sums makes of 32 layers. Measured on an H200 with 2.7B in bfloat16: up to 0.02 of the largest value.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 2e-2}


class GraphCache(KVCache):
    """The first rows of a storage that stays where it is, for graphs to work on. Where it branches, a row may have its
    left text in another one.
    """

    def __init__(self, graphs: StepGraphs, storage: KVCache, rows: int) -> None:
        self._graphs, self._storage = graphs, storage
        self._lenders: Tensor | None = None  # of each row the one that has its left text, if it is not always itself
        self.capacity, self.scratch, self.length = storage.capacity, storage.scratch, 0
        self._take(rows)

    def _take(self, rows: int) -> None:
        self.keys = [tensor[:rows] for tensor in self._storage.keys]
        self.values = [tensor[:rows] for tensor in self._storage.values]

    def step(self, ids: Tensor, position: int | Tensor) -> Tensor:
        """Final hidden states [B, D] of ids [B, 1] at an image or right-text position, or at right-text positions of
        their own, int64 [B] on the CPU, until the next step.
        """
        return self._graphs.step(ids, position)

    def branch(self, before: KVCache, rows: Tensor) -> None:
        """Begins with all that another cache holds: row i with its row `rows[i]`, [B] int64, which may come again. A
        left text is copied once, into the first row that continues it, where Triton's kernels read it from there.
        """
        continued = rows.tolist()
        left_end = self._graphs.left_end
        if not self._graphs.fused or before.length != left_end or len(set(continued)) == len(continued):
            super().branch(before, rows)  # PyTorch's attention wants what a row reads in one piece
            return
        self.length = left_end
        firsts = {number: row for row, number in reversed(list(enumerate(continued)))}
        self._lenders = torch.tensor([firsts[number] for number in continued])
        targets, sources = (torch.tensor(list(some), device=rows.device) for some in (firsts.values(), firsts))
        stop = self.scratch + left_end
        for target, source in zip((*self.keys, *self.values), (*before.keys, *before.values), strict=True):
            target[targets, :, self.scratch : stop] = source[sources, :, before.scratch : before.scratch + left_end]
        self._graphs.lend(self._lenders)

    def keep_left_texts(self) -> None:
        """Copies what rows have in others into their own, for what does not look there."""
        if self._lenders is None:
            return
        lenders, self._lenders = self._lenders, None
        stop = self.scratch + self._graphs.left_end
        for tensor in (*self.keys, *self.values):
            tensor[:, :, self.scratch : stop] = tensor[lenders.to(tensor.device), :, self.scratch : stop]
        self._graphs.lend(None)

    def write(self, layer: int, position: int | Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """As of a `KVCache`."""
        self.keep_left_texts()
        return super().write(layer, position, key, value)

    def fill(self, rows: Tensor, other: KVCache) -> None:
        """As of a `KVCache`."""
        self.keep_left_texts()
        super().fill(rows, other)

    def select(self, rows: Tensor) -> None:
        """Keeps the batch rows with these indices, [B'] int64, in this order, at the front of the storage."""
        self.keep_left_texts()
        for tensor in (*self._storage.keys, *self._storage.values):
            tensor[: len(rows)] = tensor[rows]
        self._take(len(rows))


class StepGraphs:
    """The graphs of a model. `capture` False launches the same steps one by one, on any device. `fuse`: by Triton's
    kernels; None: where they can be used.
    """

    def __init__(self, model: RudolphDecoder, capture: bool = True, fuse: bool | None = None) -> None:
        self._model, self._capture = model, capture
        self._fuse = capture and _can_fuse(model) if fuse is None else fuse
        self._fused: dict[int, Callable[..., Tensor]] = {}
        self._storage: KVCache | None = None
        self._user: Callable[[], GraphCache | None] = lambda: None
        self._graphs: dict[tuple[Part, int, bool], tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self._lent = self._together = False

    @property
    def captured(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    @property
    def fused(self) -> bool:
        """Whether steps are Triton's kernels."""
        return self._fuse

    @property
    def left_end(self) -> int:
        """Where left texts end."""
        return self._model.config.l_text_seq_length

    def lend(self, lenders: Tensor | None) -> None:
        """The first rows read their left texts in these rows, int64 [n] on the CPU; None: in themselves."""
        self._lent, self._together = lenders is not None, False
        torch.arange(len(self._lenders), out=self._lenders)
        if lenders is None:
            return
        self._lenders[: len(lenders)] = lenders
        _, counts = lenders.unique_consecutive(return_counts=True)
        tiles, first = [], 0
        for count in counts.tolist():
            tiles += [(first + done, min(TILE_ROWS, count - done)) for done in range(0, count, TILE_ROWS)]
            first += count
        # A tile costs about as much as a row that reads alone.
        self._together = 2 * len(tiles) <= len(lenders)
        self._tiles.zero_()
        self._tiles[: len(tiles)] = torch.tensor(tiles)

    def new_cache(self, rows: int) -> GraphCache | None:
        """A cache in the storage, which grows where it has to; None as long as another one lies there, and where
        gradients are recorded, which would hold on to the storage.
        """
        if self._user() is not None or rows == 0 or torch.is_grad_enabled():
            return None
        if self._storage is None or self._storage.batch < rows:
            self.release()
            self._reserve(rows)
        assert self._storage is not None
        cache = GraphCache(self, self._storage, rows)
        # What is masked counts 0 times, which is no number where an earlier sequence left none. The left text, and
        # what is copied in front of it, are written before they are read.
        first = self._storage.scratch + self._model.config.l_text_seq_length
        for tensor in (*cache.keys, *cache.values):
            tensor[:, :, first:] = 0
        self.lend(None)
        self._user = weakref.ref(cache)
        return cache

    def release(self) -> None:
        """Let go of the storage and the graphs."""
        self._graphs.clear()
        self._fused.clear()
        self._storage = None

    @torch.inference_mode(False)  # what is made here is written to outside of inference mode too
    def _reserve(self, rows: int) -> None:
        model, config = self._model, self._model.config
        self._storage = KVCache(
            config.num_layers, rows, config.num_attention_heads, config.total_seq_length,
            config.hidden_size // config.num_attention_heads, scratch=model.transformer.most_neighbours,
            dtype=model.text_embeddings.weight.dtype, device=model.device,
        )  # fmt: skip
        self._ids = torch.zeros(rows, 1, dtype=torch.int64, device=model.device)
        self._position = torch.zeros(rows, dtype=torch.int64, device=model.device)
        self._lenders = torch.arange(rows, device=model.device)
        self._tiles = torch.zeros(rows, 2, dtype=torch.int64, device=model.device)  # first row and number of rows
        self._buckets = [2**power for power in range(rows.bit_length()) if 2**power < rows] + [rows]
        self._near, self._seen = _neighbour_tables(model)
        # Without the left text behind, which is seen always.
        self._real = [table[:, : -config.l_text_seq_length].contiguous() for table in self._seen]
        if self._capture:
            self._pool = torch.cuda.graph_pool_handle()
            self._aside = torch.cuda.Stream(model.device)

    def step(self, ids: Tensor, position: int | Tensor) -> Tensor:
        """Final hidden states [B, D] of ids [B, 1] at one position, or at right-text positions [B] of their own; the
        same memory is written to by the next step.
        """
        with on_device(ids.device):
            return self._step(ids, position)

    def _step(self, ids: Tensor, position: int | Tensor) -> Tensor:
        rows, first = len(ids), int(position[0]) if isinstance(position, Tensor) else position
        part: Part = "image" if first < self._model.config.image_end else "right"
        bucket = next(bucket for bucket in self._buckets if bucket >= rows)
        self._ids[:rows] = ids
        self._ids[rows:bucket] = 0  # those of an earlier step may be of the other vocabulary
        self._position.fill_(first)
        if isinstance(position, Tensor):
            self._position[:rows] = position
        while self._capture and (key := (part, bucket, part == "image" and self._together)) not in self._graphs:
            try:
                with torch.cuda.stream(torch.cuda.current_stream()):  # a capture that fails may leave its own current
                    self._graphs[key] = self._record(part, bucket, rows)
            except Exception as error:  # of CUDA, of Triton, of the compiler that it calls
                if is_out_of_memory(error):
                    raise  # fewer rows may fit
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                if self._fuse:
                    logger.warning("Triton's kernels are left out, PyTorch's do their work: %s", reason)
                    self._fuse = False
                    if (user := self._user()) is not None:
                        user.keep_left_texts()
                else:
                    logger.warning("steps are launched one by one, as a CUDA graph cannot be made: %s", reason)
                    self._capture = False
                self._graphs.clear()
        if not self._capture:
            return (self._compute_fused if self._fuse else self._compute)(part, bucket)[:rows]
        graph, hidden = self._graphs[key]
        graph.replay()
        return hidden[:rows]

    def _record(self, part: Part, bucket: int, rows: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A graph and where it writes. That it writes to the same position more than once changes nothing. Compared are
        the first `rows`: what the others read may be what an earlier sequence left.
        """
        compute = self._compute_fused if self._fuse else self._compute
        expected = self._compute(part, bucket)[:rows].clone()
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            for _ in range(_WARM_UPS):
                compute(part, bucket)
        torch.cuda.current_stream().wait_stream(self._aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            hidden = compute(part, bucket)
        graph.replay()
        error = float((hidden[:rows] - expected).float().norm() / expected.float().norm())
        if not error <= _TOLERANCE[hidden.dtype]:
            raise RuntimeError(f"the graph's values are off by {error:.2g} of PyTorch's")
        logger.debug("graph of the %s part, %d rows: off by %.2g of PyTorch's values", part, bucket, error)
        return graph, hidden

    def _compute_fused(self, part: Part, bucket: int) -> Tensor:
        """The same as `_compute` by Triton's kernels."""
        if bucket not in self._fused:
            from .fused import FusedStep

            with torch.inference_mode(False):  # its memory is written to outside of inference mode too
                self._fused[bucket] = FusedStep(self._model.transformer, bucket, TILE_ROWS)
        storage = self._storage
        assert storage is not None
        keys, values = (
            [tensor[:bucket, :, storage.scratch :] for tensor in tensors] for tensors in (storage.keys, storage.values)
        )
        near = list(zip(self._near, self._real, strict=True)) if part == "image" else None
        tiles = self._tiles if self._together and near is not None else None
        return self._fused[bucket](
            self._embed(part, bucket)[:, 0], keys, values, self._position, near, self._lenders, tiles
        )

    def _embed(self, part: Part, bucket: int) -> Tensor:
        """Ids with their position, [bucket, 1, D]."""
        model, config, ids = self._model, self._model.config, self._ids[:bucket]
        if part == "right":
            places = model.r_text_pos_embeddings(self._position[:bucket] - config.image_end)
            return model.text_embeddings(ids) + places[:, None]
        token, m = self._position[:1] - config.l_text_seq_length, config.image_tokens_per_dim
        places = model.image_row_embeddings(token // m) + model.image_col_embeddings(token % m)
        return model.image_embeddings(ids) + places

    def _compute(self, part: Part, bucket: int) -> Tensor:
        """The step of the rows of a bucket, [bucket, D]."""
        model, config, storage = self._model, self._model.config, self._storage
        assert storage is not None
        x, layers = self._embed(part, bucket), model.transformer.layers
        if part == "image":
            token = self._position[:1] - config.l_text_seq_length
            near = [table.index_select(0, token)[0] for table in self._near]
            masks = [table.index_select(0, token) for table in self._seen]
        else:
            before = torch.arange(storage.capacity, device=x.device) <= self._position[:bucket, None]
        for layer, (module, kind) in enumerate(zip(layers, model.transformer.kinds, strict=True)):
            keys, values = storage.keys[layer][:bucket], storage.values[layer][:bucket]
            if part == "image":
                exchange = partial(self._exchange, keys, values, near[kind])
                x = module(x, masks[kind], False, exchange)
            else:
                x = module(x, before[:, None, None], False, partial(self._exchange, keys, values, None))
        return model.transformer.final_layernorm(x)[:, 0]

    def _exchange(
        self, keys: Tensor, values: Tensor, near: Tensor | None, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Stores key and value [B, H, 1, D / H]; views of copies of the positions `near` and of the left text, or of
        all positions; copies where left texts are lent.
        """
        assert self._storage is not None
        scratch, left_end = self._storage.scratch, self._model.config.l_text_seq_length
        first, end = scratch, scratch + self._storage.capacity
        places = self._position[: len(key), None, None, None].expand_as(key)
        read = []
        for tensor, new in ((keys, key), (values, value)):
            past_scratch = tensor[:, :, scratch:]
            past_scratch.scatter_(2, places, new)
            if near is not None:
                first, end = scratch - len(near), scratch + left_end
                tensor[:, :, first:scratch] = past_scratch.index_select(2, near)
            if self._lent:
                left = past_scratch[:, :, :left_end].index_select(0, self._lenders[: len(key)])
                pieces = tensor[:, :, first:scratch], left, tensor[:, :, scratch + left_end : end]
                read.append(torch.cat(pieces, dim=2))
            else:
                read.append(tensor[:, :, first:end])
        return read[0], read[1]


def _neighbour_tables(model: RudolphDecoder) -> tuple[list[Tensor], list[Tensor]]:
    """By kind of layer and number of the image token: positions of the image tokens that it may see, [m * m, K] int64,
    of which those beyond its own are masked; and that mask, with the left text behind, bool [m * m, K + l].
    """
    config = model.config
    left_end = config.l_text_seq_length
    positions, masks = [], []
    for mask in attention_masks(config)[:, left_end : config.image_end, left_end : config.image_end]:
        order = mask.int().sort(dim=1, descending=True, stable=True)  # those that may be seen come first
        most = int(mask.sum(1).max())
        positions.append((order.indices[:, :most] + left_end).to(model.device))
        left = torch.ones(len(mask), left_end, dtype=torch.bool)
        masks.append(torch.cat((order.values[:, :most].bool(), left), dim=1).to(model.device))
    return positions, masks


def _can_fuse(model: RudolphDecoder) -> bool:
    """Whether Triton is there and has kernels for the model: float16 would need its bound after attention, weights of 8
    bits their scales, and more neighbours than one program holds a loop.
    """
    there = importlib.util.find_spec("triton") is not None and model.device.type == "cuda"
    plain = model.dtype in (torch.float32, torch.bfloat16) and not any(
        isinstance(module, RowsLinear) for module in model.modules()
    )
    return there and plain and model.transformer.most_neighbours <= MOST_NEIGHBOURS


def on_device(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a GPU the current one: streams, graphs and Triton's kernels are the current one's."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def use_step_graphs_(model: RudolphDecoder, capture: bool = True, fuse: bool | None = None) -> RudolphDecoder:
    """Has single steps of generation go through graphs, in place; see `StepGraphs`."""
    model.step_graphs = StepGraphs(model, capture, fuse)
    return model
