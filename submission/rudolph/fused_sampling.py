"""A draw from logits as one Triton kernel: `sampling.sample`'s choice for the same uniform number.

PyTorch's top-k, sort, sums and search are some fifteen kernels, which take more time on a GPU than the layers of a
small model. Nothing has to be sorted: the k-th largest logit, the last one of the nucleus and the one that is drawn are
each found by halving the range of values, and every halving is a sum over the row. Logits that are equal to the k-th
are all kept, as the published code does, and so are those that are equal to the last of the nucleus; PyTorch's sort
keeps some of them. Among equal ones the order is that of their ids.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .graphs import on_device

_LEAST = tl.constexpr(-(2**31))


@triton.jit
def _draw_kernel(
    logits, uniform, out, width, stride, uniform_stride, temperature,
    BLOCK: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    id = tl.arange(0, BLOCK)
    there = id < width
    line = logits + row.to(tl.int64) * stride
    value = tl.load(line + id, mask=there, other=float("-inf")).to(tl.float32) / temperature
    # Whole numbers in the order of the values. What SHIFT drops is 0 in values of 16 bits.
    bits = value.to(tl.int32, bitcast=True)
    key = (tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits) >> SHIFT).to(tl.int64)
    key = tl.where(there, key, _LEAST)
    above = tl.max(key, 0) + 1  # no key is there
    low = tl.min(tl.where(there, key, above), 0)
    if TOP_K > 0:
        high = above
        while high - low > 1:  # at least TOP_K keys are `low` or more, fewer are `high` or more
            middle = (low + high) // 2
            enough = tl.sum((key >= middle).to(tl.int32), 0) >= TOP_K
            low = tl.where(enough, middle, low)
            high = tl.where(enough, high, middle)
    share = tl.where(there & (key >= low), tl.exp(value - tl.max(value, 0)), 0.0)
    if TOP_P < 1:
        # More than TOP_P is above `low`, no more than that above `high`, which is the last that is kept.
        bound = TOP_P * tl.sum(share, 0)
        low, high = low - 1, above - 1
        while high - low > 1:
            middle = (low + high) // 2
            more = tl.sum(tl.where(key > middle, share, 0.0), 0) > bound
            low = tl.where(more, middle, low)
            high = tl.where(more, high, middle)
        low = high
        share = tl.where(key >= low, share, 0.0)
    target = tl.load(uniform + row * uniform_stride) * tl.sum(share, 0)
    high = above
    while high - low > 1:  # more than `target` is `low` or more, no more than that is `high` or more
        middle = (low + high) // 2
        more = tl.sum(tl.where(key >= middle, share, 0.0), 0) > target
        low = tl.where(more, middle, low)
        high = tl.where(more, high, middle)
    equal = (key == low) & (share > 0)
    rest = target - tl.sum(tl.where(key > low, share, 0.0), 0)
    count = tl.sum(equal.to(tl.int32), 0)
    # No share is a number above 0 where all logits are -inf or one is inf: then it is the first of the largest.
    equal = tl.where(count > 0, equal, key == above - 1)
    place = tl.minimum((rest / tl.max(tl.where(equal, share, 0.0), 0)).to(tl.int32), count - 1)
    place = tl.where(count > 0, place, 0)
    rank = tl.cumsum(equal.to(tl.int32), 0) - 1
    tl.store(out + row, tl.sum(tl.where(equal & (rank == tl.maximum(place, 0)), id, 0), 0).to(tl.int64))


def draw(logits: Tensor, top_k: int, top_p: float, temperature: float, uniform: Tensor) -> Tensor:
    """Ids, int64 [B], of logits [B, V] with one uniform number per row, [B]. One program holds a row: V is at most
    `sampling.MOST_IDS`.
    """
    rows, width = logits.shape
    if logits.stride(1) != 1:
        logits = logits.contiguous()
    out = torch.empty(rows, dtype=torch.int64, device=logits.device)
    block = triton.next_power_of_2(width)
    with on_device(logits.device):
        _draw_kernel[(rows,)](
            logits, uniform, out, width, logits.stride(0), uniform.stride(0), temperature,
            BLOCK=block, TOP_K=top_k if top_k < width else 0, TOP_P=top_p,
            SHIFT=16 if logits.dtype == torch.bfloat16 and temperature == 1 else 0,
            num_warps=max(4, min(16, block // 512)),
        )  # fmt: skip
    return out
