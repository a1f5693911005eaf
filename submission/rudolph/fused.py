"""One step of generation in few Triton kernels: what lies between the products of a layer is one kernel each.

A step of a small batch reads all weights and does little with them, so a GPU should be busy with reading and nothing
else. Launched as PyTorch's own operations, a layer's step is some twenty kernels, of which four are products; measured
on an H200 with 2.7B and one row, the others took more than half of the step. Here a layer is

* its four products, by cuBLAS, or for one row by `_gemv_kernel`, which computes the norms before it, too;
* the residual with CogView's norm and the next norm (`_norms_kernel`);
* attention (`_attend_kernel`): it stores the new key and value and reads the cache where it lies, the left text in one
  piece, the image tokens that may be seen by their positions; for few rows in pieces that `_combine_kernel` joins.
  Rows with one left text read it together, as products of all their queries (`_attend_left_kernel`).

Each kernel may start while the one before it ends (programmatic dependent launch, from Hopper on): what does not depend
on it, weights above all, is read before `gdc_wait`, all else and every write after it.

Sums and norms are in float32, as in PyTorch's kernels. The same step by PyTorch's operations is in `graphs`, which
compares the two before it uses this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

GEMV_ROWS = 1  # up to so many rows products are `_gemv_kernel`'s
GEMV_OUTPUTS, GEMV_TILES = 2, 8  # outputs that a program computes at a time, and how many times
LONG_GEMV_OUTPUTS = 4
WHOLE_INPUTS = 4096  # inputs of a product that one program holds at once
INPUTS_AT_A_TIME = 2048  # where there are more
KEYS_AT_A_TIME = 32
LEAST_OF_PRODUCTS = 16  # that each side of a product of Triton has
#: What numbers are rounded to in products: all bits of bfloat16 are among those of TF32.
PRODUCTS = {torch.bfloat16: "tf32", torch.float32: "ieee"}
GEMV_WARPS, LONG_GEMV_WARPS, ATTEND_WARPS, ATTEND_LEFT_WARPS = 4, 4, 1, 4
SPLIT_PROGRAMS = 256  # attention is split into pieces until there are so many: a GPU has some 130 multiprocessors
MOST_SPLITS = 8
OVERLAP, HOPPER = True, (9, 0)  # kernels that start while the one before ends, and from where on
_NEVER = tl.constexpr(-1e30)  # a score below all others that is still a number


@triton.jit
def _overlap(PDL: tl.constexpr):
    """The next kernel may start as soon as all programs of this one run; wait for the one before."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()


@triton.jit
def _normalized(x, inside, weight, bias, columns, SIZE: tl.constexpr, EPS: tl.constexpr):
    mean = tl.sum(x, 0) / SIZE
    centred = tl.where(inside, x - mean, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / SIZE + EPS)
    w = tl.load(weight + columns, mask=inside, other=0).to(tl.float32)
    b = tl.load(bias + columns, mask=inside, other=0).to(tl.float32)
    return centred * scale * w + b


@triton.jit
def _norms_kernel(
    x, branch, x_out, out, weight1, bias1, weight2, bias2,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, BRANCH: tl.constexpr, SANDWICH: tl.constexpr, EPS: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """A row of x_out = x + norm1(branch), and out = norm2(x_out)."""
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    row = tl.program_id(0) * SIZE
    _overlap(PDL)
    total = tl.load(x + row + columns, mask=inside, other=0).to(tl.float32)
    if BRANCH:
        added = tl.load(branch + row + columns, mask=inside, other=0).to(tl.float32)
        if SANDWICH:
            added = _normalized(added, inside, weight1, bias1, columns, SIZE, EPS)
        total += added
        tl.store(x_out + row + columns, total.to(x_out.dtype.element_ty), mask=inside)
    normed = _normalized(total, inside, weight2, bias2, columns, SIZE, EPS)
    tl.store(out + row + columns, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gelu(x):
    """The tanh approximation, as x times a sigmoid."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@triton.jit
def _gemv_kernel(
    x, branch, x_out, weight1, bias1, weight2, bias2, weight, bias, out, outputs,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr, NORM: tl.constexpr,
    BRANCH: tl.constexpr, SANDWICH: tl.constexpr, GELU: tl.constexpr, EPS: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """ROWS * TILES outputs of a product with one row of inputs: norm2(x + norm1(branch)), or x itself."""
    columns = tl.arange(0, BLOCK)
    inside = columns < SIZE
    number = tl.program_id(0) * ROWS * TILES + tl.arange(0, ROWS)
    # The first weights are on their way while the kernel before ends and the norms are computed.
    there = (number < outputs)[:, None] & inside[None, :]
    tile = tl.load(weight + number[:, None] * SIZE + columns[None, :], mask=there, other=0)
    _overlap(PDL)
    given = tl.load(x + columns, mask=inside, other=0).to(tl.float32)
    if NORM:
        if BRANCH:
            added = tl.load(branch + columns, mask=inside, other=0).to(tl.float32)
            if SANDWICH:
                added = _normalized(added, inside, weight1, bias1, columns, SIZE, EPS)
            given += added
            if tl.program_id(0) == 0:
                tl.store(x_out + columns, given.to(x_out.dtype.element_ty), mask=inside)
        given = _normalized(given, inside, weight2, bias2, columns, SIZE, EPS)
    for step in tl.static_range(TILES):
        now, place = tile, number
        if step + 1 < TILES:
            number += ROWS
            there = (number < outputs)[:, None] & inside[None, :]
            tile = tl.load(weight + number[:, None] * SIZE + columns[None, :], mask=there, other=0)
        found = tl.sum(now.to(tl.float32) * given[None, :], 1)
        found += tl.load(bias + place, mask=place < outputs, other=0).to(tl.float32)
        if GELU:
            found = _gelu(found)
        tl.store(out + place, found.to(out.dtype.element_ty), mask=place < outputs)


@triton.jit
def _long_gemv_kernel(
    x, weight, bias, out, outputs, SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, PDL: tl.constexpr
):
    """ROWS outputs of a product with one row of inputs, which are taken BLOCK at a time."""
    number = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    found = tl.zeros([ROWS, BLOCK], tl.float32)
    columns = tl.arange(0, BLOCK)
    there = (number < outputs)[:, None] & (columns < SIZE)[None, :]
    tile = tl.load(weight + number[:, None] * SIZE + columns[None, :], mask=there, other=0)
    _overlap(PDL)
    for start in tl.static_range(0, SIZE, BLOCK):
        now, place = tile, start + columns
        if start + BLOCK < SIZE:
            after = place + BLOCK
            there = (number < outputs)[:, None] & (after < SIZE)[None, :]
            tile = tl.load(weight + number[:, None] * SIZE + after[None, :], mask=there, other=0)
        given = tl.load(x + place, mask=place < SIZE, other=0)
        found += now.to(tl.float32) * given.to(tl.float32)[None, :]
    total = tl.sum(found, 1) + tl.load(bias + number, mask=number < outputs, other=0).to(tl.float32)
    tl.store(out + number, total.to(out.dtype.element_ty), mask=number < outputs)


@triton.jit
def _seen(query, key, value, inside, largest, total, mixed):
    """Softmax over the scores so far and those of some more keys [N, HEAD]: its largest score, sum and mixed values."""
    scores = tl.where(inside, tl.sum(key * query[None, :], 1), _NEVER)
    largest_now = tl.maximum(largest, tl.max(scores, 0))
    shares = tl.where(inside, tl.exp(scores - largest_now), 0.0)
    before = tl.exp(largest - largest_now)
    return largest_now, total * before + tl.sum(shares, 0), mixed * before + tl.sum(shares[:, None] * value, 0)


@triton.jit
def _attend_kernel(
    qkv, keys, values, out, parts, position, near, seen, lenders, batch_stride, head_stride,
    HEADS: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, LEFT: tl.constexpr, NEAR: tl.constexpr,
    NEAR_BLOCK: tl.constexpr, BLOCK: tl.constexpr, SPLITS: tl.constexpr, TOGETHER: tl.constexpr, SCALE: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """One head of one row, or a piece of its keys. NEAR > 0: the left text, which may be another row's, and, by their
    positions, image tokens; else all positions before this one. TOGETHER: the last piece, without the left text.
    """
    place = tl.program_id(0)
    split = SPLITS - 1 if TOGETHER else tl.program_id(1)
    row, head = place // HEADS, place % HEADS
    at = tl.load(position + row)
    lent = (tl.load(lenders + row) - row) * batch_stride  # from the row to the one that has its left text
    channel = tl.arange(0, HEAD_BLOCK)
    real = channel < HEAD
    _overlap(PDL)
    own = qkv + (row * 3 * HEADS + head) * HEAD + channel
    query = tl.load(own, mask=real, other=0).to(tl.float32) * SCALE
    key = tl.load(own + HEADS * HEAD, mask=real, other=0)
    value = tl.load(own + 2 * HEADS * HEAD, mask=real, other=0)
    start = row.to(tl.int64) * batch_stride + head * head_stride
    keys += start
    values += start

    largest = tl.full([], _NEVER, tl.float32)
    total = tl.full([], 0.0, tl.float32)
    mixed = tl.zeros([HEAD_BLOCK], tl.float32)
    if TOGETHER or split == 0:  # the position itself
        tl.store(keys + at * HEAD + channel, key, mask=real)
        tl.store(values + at * HEAD + channel, value, mask=real)
        largest = tl.sum(query * key.to(tl.float32), 0)
        total = tl.full([], 1.0, tl.float32)
        mixed = value.to(tl.float32)
    if not TOGETHER:
        if NEAR > 0:
            end = tl.full([], LEFT, tl.int64)
        else:
            end = at
        piece = tl.cdiv(tl.cdiv(end, SPLITS), BLOCK) * BLOCK
        last = tl.minimum((split + 1) * piece, end)
        for first in range(split * piece, last, BLOCK):
            token = first + tl.arange(0, BLOCK)
            there = token < last
            some = (token * HEAD + tl.where(token < LEFT, lent, 0))[:, None] + channel[None, :]
            mask = there[:, None] & real[None, :]
            k = tl.load(keys + some, mask=mask, other=0).to(tl.float32)
            v = tl.load(values + some, mask=mask, other=0).to(tl.float32)
            largest, total, mixed = _seen(query, k, v, there, largest, total, mixed)
    if NEAR > 0:
        if TOGETHER or split == SPLITS - 1:
            listed = tl.arange(0, NEAR_BLOCK)
            line = (at - LEFT) * NEAR + listed
            token = tl.load(near + line, mask=listed < NEAR, other=0)
            there = (tl.load(seen + line, mask=listed < NEAR, other=0) != 0) & (token != at)
            some = token[:, None] * HEAD + channel[None, :]
            mask = there[:, None] & real[None, :]
            k = tl.load(keys + some, mask=mask, other=0).to(tl.float32)
            v = tl.load(values + some, mask=mask, other=0).to(tl.float32)
            largest, total, mixed = _seen(query, k, v, there, largest, total, mixed)
    if SPLITS == 1:
        tl.store(out + place * HEAD + channel, (mixed / total).to(out.dtype.element_ty), mask=real)
    else:
        part = parts + (place * SPLITS + split) * (HEAD_BLOCK + 2)
        tl.store(part + channel, mixed)
        tl.store(part + HEAD_BLOCK, largest)
        tl.store(part + HEAD_BLOCK + 1, total)


@triton.jit
def _attend_left_kernel(
    qkv, keys, values, parts, tiles, lenders, batch_stride, head_stride,
    HEADS: tl.constexpr, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, LEFT: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, SPLITS: tl.constexpr, PRECISION: tl.constexpr, SCALE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """One head of up to ROWS rows that follow each other and read one left text, or a piece of it: all pieces but the
    last, which is `_attend_kernel`'s.
    """
    tile, head, split = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS, tl.program_id(1)
    first, count = tl.load(tiles + 2 * tile), tl.load(tiles + 2 * tile + 1)
    _overlap(PDL)
    if count > 0:
        channel = tl.arange(0, HEAD_BLOCK)
        real = channel < HEAD
        row = first + tl.arange(0, ROWS)
        rows = tl.arange(0, ROWS) < count
        own = ((row * 3 * HEADS + head) * HEAD)[:, None] + channel[None, :]
        query = tl.load(qkv + own, mask=rows[:, None] & real[None, :], other=0).to(tl.float32)
        start = tl.load(lenders + first) * batch_stride + head * head_stride
        largest = tl.full([ROWS], _NEVER, tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        mixed = tl.zeros([ROWS, HEAD_BLOCK], tl.float32)
        piece = tl.cdiv(tl.cdiv(LEFT, SPLITS - 1), BLOCK) * BLOCK
        last = tl.minimum((split + 1) * piece, LEFT)
        for begin in range(split * piece, last, BLOCK):
            token = begin + tl.arange(0, BLOCK)
            there = token < last
            some = start + token[:, None] * HEAD + channel[None, :]
            mask = there[:, None] & real[None, :]
            k = tl.load(keys + some, mask=mask, other=0).to(tl.float32)
            v = tl.load(values + some, mask=mask, other=0).to(tl.float32)
            scores = tl.dot(query, tl.trans(k), input_precision=PRECISION) * SCALE
            scores = tl.where(there[None, :], scores, _NEVER)
            largest_now = tl.maximum(largest, tl.max(scores, 1))
            shares = tl.where(there[None, :], tl.exp(scores - largest_now[:, None]), 0.0)
            before = tl.exp(largest - largest_now)
            total = total * before + tl.sum(shares, 1)
            mixed = mixed * before[:, None] + tl.dot(shares, v, input_precision=PRECISION)
            largest = largest_now
        part = parts + ((row * HEADS + head) * SPLITS + split) * (HEAD_BLOCK + 2)
        tl.store(part[:, None] + channel[None, :], mixed, mask=rows[:, None])
        tl.store(part + HEAD_BLOCK, largest, mask=rows)
        tl.store(part + HEAD_BLOCK + 1, total, mask=rows)


@triton.jit
def _combine_kernel(
    parts, out, HEAD: tl.constexpr, HEAD_BLOCK: tl.constexpr, SPLITS: tl.constexpr, PDL: tl.constexpr
):
    """A head of a row from its pieces, by the logarithms of their sums."""
    place = tl.program_id(0)
    channel = tl.arange(0, HEAD_BLOCK)
    _overlap(PDL)
    part = parts + (place * SPLITS + tl.arange(0, SPLITS)) * (HEAD_BLOCK + 2)
    largest = tl.load(part + HEAD_BLOCK)
    share = tl.exp(largest - tl.max(largest, 0))
    total = tl.sum(share * tl.load(part + HEAD_BLOCK + 1), 0)
    mixed = tl.sum(share[:, None] * tl.load(part[:, None] + channel[None, :]), 0) / total
    tl.store(out + place * HEAD + channel, mixed.to(out.dtype.element_ty), mask=channel < HEAD)


class FusedStep:
    """The layers' step of one number of rows. Holds the memory between its kernels; weights stay where they are."""

    def __init__(self, transformer: Any, rows: int, tile_rows: int) -> None:
        """transformer: a `RudolphTransformer` in evaluation mode, of a GPU, in float32 or bfloat16. tile_rows: that
        read a left text together, at most; a power of two from `LEAST_OF_PRODUCTS` on.
        """
        config, weight = transformer.config, transformer.final_layernorm.weight
        self._layers, self._kinds, self._final = transformer.layers, transformer.kinds, transformer.final_layernorm
        self._rows, self._width, self._heads = rows, config.hidden_size, config.num_attention_heads
        self._head, self._left = self._width // self._heads, config.l_text_seq_length
        self._head_block = max(LEAST_OF_PRODUCTS, triton.next_power_of_2(self._head))
        self._splits, self._tile_rows = self._pieces(rows), tile_rows
        # Where left texts are read together, one more piece is each row's own.
        self._splits_together = max(2, self._pieces(triton.cdiv(rows, tile_rows)))
        self._x = [weight.new_empty(rows, self._width) for _ in range(2)]
        self._normed, self._attended = (weight.new_empty(rows, self._width) for _ in range(2))
        parts = rows * self._heads * max(self._splits, self._splits_together) * (self._head_block + 2)
        self._parts = torch.empty(parts, dtype=torch.float32, device=weight.device)
        overlap = OVERLAP and weight.is_cuda and torch.cuda.get_device_capability(weight.device) >= HOPPER
        self._launch: dict[str, Any] = {"PDL": overlap} | ({"launch_pdl": True} if overlap else {})

    def _pieces(self, rows: int) -> int:
        """Into how many attention is split where there are so many programs a head."""
        return min(MOST_SPLITS, triton.next_power_of_2(triton.cdiv(SPLIT_PROGRAMS, rows * self._heads)))

    @torch.no_grad()
    def __call__(
        self, x: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], position: Tensor,
        near: Sequence[tuple[Tensor, Tensor]] | None, lenders: Tensor, tiles: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Embedded ids x [B, D] -> final hidden states [B, D], the same memory each time.

        keys, values: of each layer, [B, H, S, D / H], position 0 first. position: int64 [B], in an image all the same.
        near: by kind of layer, for each image token the positions that may be seen, int64 [m * m, K], and which of them
        are real, bool; None in the right text. lenders: int64 [B], of each row the one that has its left text. tiles:
        where rows read their left texts together, the first row and the number of those that do so,
        int64 [B, 2], zeros behind; only in an image.
        """
        self._x[0].copy_(x)
        one_row = self._rows <= GEMV_ROWS and self._width <= WHOLE_INPUTS
        branch: Tensor | None = None  # what the layer before adds to x
        norm: nn.LayerNorm | None = None  # the sandwich's, of the branch
        for number, (layer, kind) in enumerate(zip(self._layers, self._kinds, strict=True)):
            attention, mlp = layer.attention, layer.mlp
            product = self._normed_product if one_row else self._norm_and_product
            qkv = product(branch, norm, layer.input_layernorm, attention.query_key_value, False)
            listed = None if near is None else near[kind]
            self._attend(qkv, keys[number], values[number], position, listed, lenders, tiles)
            branch = _product(self._attended, attention.dense, one_row, self._launch)
            norm = layer.before_first_addition_layernorm if layer.sandwich else None
            wide = product(branch, norm, layer.post_attention_layernorm, mlp.dense_h_to_4h, True)
            branch = _product(wide, mlp.dense_4h_to_h, one_row, self._launch)
            norm = layer.before_second_addition_layernorm if layer.sandwich else None
        return self._norms(branch, norm, self._final)

    def _norms(self, branch: Tensor | None, norm: nn.LayerNorm | None, next_norm: nn.LayerNorm) -> Tensor:
        """x += norm(branch); next_norm(x)."""
        weights = norm or next_norm
        _norms_kernel[(self._rows,)](
            self._x[0], self._x[0] if branch is None else branch, self._x[0], self._normed,
            weights.weight, weights.bias, next_norm.weight, next_norm.bias,
            SIZE=self._width, BLOCK=triton.next_power_of_2(self._width), BRANCH=branch is not None,
            SANDWICH=norm is not None, EPS=next_norm.eps, **self._launch,
        )  # fmt: skip
        return self._normed

    def _norm_and_product(
        self, branch: Tensor | None, norm: nn.LayerNorm | None, next_norm: nn.LayerNorm, linear: nn.Linear, gelu: bool
    ) -> Tensor:
        """linear(next_norm(x + norm(branch))), perhaps with GELU, for several rows."""
        out = F.linear(self._norms(branch, norm, next_norm), linear.weight, linear.bias)
        return F.gelu(out, approximate="tanh") if gelu else out

    def _normed_product(
        self, branch: Tensor | None, norm: nn.LayerNorm | None, next_norm: nn.LayerNorm, linear: nn.Linear, gelu: bool
    ) -> Tensor:
        """The same for one row, in one kernel. The new x goes to other memory, as all programs read the old one."""
        weights = norm or next_norm
        out = torch.empty(1, linear.out_features, dtype=self._normed.dtype, device=self._normed.device)
        _gemv_kernel[(triton.cdiv(linear.out_features, GEMV_OUTPUTS * GEMV_TILES),)](
            self._x[0], self._x[0] if branch is None else branch, self._x[1],
            weights.weight, weights.bias, next_norm.weight, next_norm.bias, linear.weight, linear.bias, out,
            linear.out_features, SIZE=self._width, BLOCK=triton.next_power_of_2(self._width), ROWS=GEMV_OUTPUTS,
            TILES=GEMV_TILES, NORM=True, BRANCH=branch is not None, SANDWICH=norm is not None, GELU=gelu,
            EPS=next_norm.eps, num_warps=GEMV_WARPS, **self._launch,
        )  # fmt: skip
        if branch is not None:
            self._x.reverse()
        return out

    def _attend(
        self, qkv: Tensor, keys: Tensor, values: Tensor, position: Tensor, near: tuple[Tensor, Tensor] | None,
        lenders: Tensor, tiles: Tensor | None,
    ) -> None:  # fmt: skip
        table, seen = (position, position) if near is None else near
        listed = 0 if near is None else table.shape[1]
        places, splits = self._rows * self._heads, self._splits
        sizes: dict[str, Any] = {"HEADS": self._heads, "HEAD": self._head, "HEAD_BLOCK": self._head_block,
                                 "LEFT": self._left, "SCALE": self._head**-0.5} | self._launch  # fmt: skip
        if tiles is not None:
            splits = self._splits_together
            _attend_left_kernel[(places, splits - 1)](
                qkv, keys, values, self._parts, tiles, lenders, keys.stride(0), keys.stride(1),
                BLOCK=KEYS_AT_A_TIME, ROWS=self._tile_rows, SPLITS=splits, PRECISION=PRODUCTS[qkv.dtype],
                num_warps=ATTEND_LEFT_WARPS, **sizes,
            )  # fmt: skip
        _attend_kernel[(places, splits if tiles is None else 1)](
            qkv, keys, values, self._attended, self._parts, position, table, seen, lenders, keys.stride(0),
            keys.stride(1), NEAR=listed, NEAR_BLOCK=max(16, triton.next_power_of_2(max(1, listed))),
            BLOCK=KEYS_AT_A_TIME, SPLITS=splits, TOGETHER=tiles is not None, num_warps=ATTEND_WARPS, **sizes,
        )  # fmt: skip
        if splits > 1:
            _combine_kernel[(places,)](
                self._parts, self._attended, HEAD=self._head, HEAD_BLOCK=self._head_block, SPLITS=splits,
                **self._launch,
            )  # fmt: skip


def _product(x: Tensor, linear: nn.Linear, one_row: bool, launch: dict[str, Any]) -> Tensor:
    """linear(x), [B, in] -> [B, out]."""
    if not one_row:
        return F.linear(x, linear.weight, linear.bias)
    out = torch.empty(1, linear.out_features, dtype=x.dtype, device=x.device)
    if linear.in_features <= WHOLE_INPUTS:
        _gemv_kernel[(triton.cdiv(linear.out_features, GEMV_OUTPUTS),)](
            x, x, x, linear.weight, linear.bias, linear.weight, linear.bias, linear.weight, linear.bias, out,
            linear.out_features, SIZE=linear.in_features, BLOCK=triton.next_power_of_2(linear.in_features),
            ROWS=GEMV_OUTPUTS, TILES=1, NORM=False, BRANCH=False, SANDWICH=False, GELU=False, EPS=0.0,
            num_warps=GEMV_WARPS, **launch,
        )  # fmt: skip
    else:
        _long_gemv_kernel[(triton.cdiv(linear.out_features, LONG_GEMV_OUTPUTS),)](
            x, linear.weight, linear.bias, out, linear.out_features,
            SIZE=linear.in_features, BLOCK=INPUTS_AT_A_TIME, ROWS=LONG_GEMV_OUTPUTS,
            num_warps=LONG_GEMV_WARPS, **launch,
        )  # fmt: skip  # fmt: skip
    return out
