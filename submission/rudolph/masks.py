"""Attention masks over `left text | image | right text`; True means 'may attend'.

Every mask is causal and full for text rows and text columns; the masks differ between image tokens only:
row (the previous m + 1 tokens), column (the same column), convolution (a k x k neighbourhood).
"""

import torch

from .cache import Positions
from .config import DecoderConfig

#: Order of the masks in the tensor of `attention_masks`.
ROW, COLUMN, CONV, LAST_CONV = range(4)


def layer_kind(layer: int, num_layers: int) -> int:
    """Which mask (ROW, COLUMN, CONV or LAST_CONV) layer number `layer` (from 0) uses."""
    if (layer - 1) % 4 == 0:
        return COLUMN
    if layer == num_layers - 1:
        return LAST_CONV
    if (layer - 3) % 4 == 0:
        return CONV
    return ROW


def attention_masks(config: DecoderConfig, device: torch.device | str | None = None) -> torch.Tensor:
    """All four masks, bool [4, L, L] with L = l + m * m + r; indexed [kind, query position, key position]."""
    size, start, end = config.total_seq_length, config.l_text_seq_length, config.image_end
    masks = torch.ones(size, size, dtype=torch.bool, device=device).tril().repeat(4, 1, 1)
    token = torch.arange(config.image_seq_length, device=device)
    row, column = token // config.image_tokens_per_dim, token % config.image_tokens_per_dim

    def distance(index: torch.Tensor) -> torch.Tensor:
        return index[:, None] - index[None, :]

    causal = distance(token) >= 0
    masks[ROW, start:end, start:end] = causal & (distance(token) <= config.image_tokens_per_dim)
    masks[COLUMN, start:end, start:end] = causal & (distance(column) == 0)
    for kind, kernel in ((CONV, config.kernel_size), (LAST_CONV, config.last_kernel_size)):
        near = (distance(row).abs() <= kernel // 2) & (distance(column).abs() <= kernel // 2)
        masks[kind, start:end, start:end] = causal & near
    return masks


def image_neighbours(config: DecoderConfig, device: torch.device | str | None = None) -> list[list[Positions]]:
    """Positions in the sequence of the image tokens that an image token may see, itself included, in rising order, by
    kind and number of the token (from 0): at most m + 1 (row), m (column), or about k * k / 2 (conv).
    """
    start, end = config.l_text_seq_length, config.image_end
    masks = attention_masks(config)[:, start:end, start:end]
    return [[_as_slice(row.nonzero()[:, 0] + start, device) for row in mask] for mask in masks]


def _as_slice(positions: torch.Tensor, device: torch.device | str | None) -> Positions:
    steps = positions.diff().unique().tolist()
    if len(steps) > 1:
        return positions.to(device)
    return slice(int(positions[0]), int(positions[-1]) + 1, steps[0] if steps else 1)


def most_neighbours(config: DecoderConfig) -> int:
    """At most so many image tokens may be seen by one, itself included, whatever the kind of its layer."""
    m, half = config.image_tokens_per_dim, max(config.kernel_size, config.last_kernel_size) // 2
    above = min(half, m - 1) * min(2 * half + 1, m)
    return max(m + 1, above + min(half + 1, m))
