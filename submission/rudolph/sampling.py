"""Choosing the next id from logits: temperature, top-k, top-p. Written once for text and image.

A draw takes one uniform number per row, made beforehand from the row's own seed: what an example gets does not depend
on the batch that it is in, and no step waits for the host.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import native
from .memory import is_out_of_memory
from .settings import GREEDY as GREEDY
from .settings import IMAGE_SAMPLING as IMAGE_SAMPLING
from .settings import TEXT_SAMPLING as TEXT_SAMPLING
from .settings import Sampling as Sampling

logger = logging.getLogger(__name__)

MOST_IDS = 2**15  # that the kernel of `fused_sampling` holds


def uniforms(rows: int, steps: int, seeds: Sequence[int] | None, device: torch.device | str = "cpu") -> Tensor:
    """Uniform numbers in [0, 1), fp32 [rows, steps]; row i from `seeds[i]` alone, or all from torch's own generator.

    Raises ValueError if there is not one seed per row.
    """
    if seeds is None:
        return torch.rand(rows, steps).to(device)
    if len(seeds) != rows:
        raise ValueError(f"there are {len(seeds)} seeds for {rows} rows; give one per row")
    drawn = [torch.rand(steps, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device) if drawn else torch.empty(0, steps, device=device)


def sample(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """Ids, int64 [B], drawn from logits [B, V] with one uniform number per row, [B].

    The k largest logits are kept; of these, in falling order, as many as are needed for the probability `top_p`, and
    the first always. Ids with a logit of -inf are never drawn.
    """
    if sampling.greedy:
        return logits.argmax(-1)
    if logits.is_cuda and logits.shape[-1] <= MOST_IDS and (draw := kernel(logits.device)) is not None:
        return draw(logits, sampling.top_k, sampling.top_p, sampling.temperature, uniform)
    if logits.device.type == "cpu" and native.library() is not None:
        return native.draw(logits, sampling.top_k, sampling.top_p, sampling.temperature, uniform)
    return sample_by_sorting(logits, sampling, uniform)


def sample_by_sorting(logits: Tensor, sampling: Sampling, uniform: Tensor) -> Tensor:
    """`sample` by PyTorch's operations, on any device; not for greedy sampling."""
    width = logits.shape[-1]
    top, ids = (logits.float() / sampling.temperature).topk(min(sampling.top_k or width, width))
    probabilities = top.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    kept = (probabilities > 0) & (before <= sampling.top_p)
    kept[:, 0] = True
    cumulative = (probabilities * kept).cumsum(-1)
    place = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    last = kept.sum(-1, keepdim=True) - 1  # rounding must not lead past the kept ids
    return ids.gather(-1, place.minimum(last))[:, 0]


@functools.cache
def kernel(device: torch.device) -> Callable[..., Tensor] | None:
    """`fused_sampling.draw`; None where Triton, or the compiler that it calls, cannot be used on a GPU."""
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        from .fused_sampling import draw

        draw(torch.zeros(1, 8, device=device), 4, 0.5, 1.0, torch.zeros(1, device=device))
    except Exception as error:  # of Triton, of the compiler
        if is_out_of_memory(error):
            raise  # fewer rows may fit
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.warning("draws are PyTorch's operations, as Triton cannot be used: %s", reason)
        return None
    return draw
