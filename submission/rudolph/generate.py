"""Generation: a prefix is run once, then one loop draws ids, for images and for texts alike."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from .cache import KVCache, Prefix
from .config import EOS, Vocabulary
from .decoder import RudolphDecoder
from .sampling import IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, sample, uniforms


@torch.no_grad()
def generate(
    model: RudolphDecoder,
    prefix_ids: Tensor | Prefix,
    n_tokens: int,
    vocabulary: Vocabulary,
    sampling: Sampling,
    *,
    after: KVCache | None = None,
    branches: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    allowed: Tensor | None = None,
    stop_id: int | None = None,
    first_vocabulary: Vocabulary | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Continues prefixes [B, P] of raw ids by `n_tokens` ids of one vocabulary -> int64 [B, n_tokens].

    Of prefixes that have been run, row i continues number `branches[i]`, [B] int64 (default: all, in their order).
    after: a cache of what stands before the prefixes, which are its rows; it is used up.
    seeds: one per row; None draws from torch's own generator. allowed: bool [V], the ids that may be drawn. stop_id: a
    row ends with this id, which then fills it up; ended rows leave the batch and cost nothing more. first_vocabulary:
    another vocabulary for the first id only. progress: called with (tokens done, n_tokens) after each step.
    Raises ValueError if the ids do not fit into the sequence.
    """
    past = 0 if after is None else after.length
    device = model.device
    if isinstance(prefix_ids, Prefix):
        if branches is None:
            branches = torch.arange(len(prefix_ids.hidden), device=device)
        batch, start = len(branches), prefix_ids.cache.length
    else:
        batch, start = len(prefix_ids), past + prefix_ids.shape[1]
    total = model.config.total_seq_length
    if n_tokens < 1 or start + n_tokens > total:
        raise ValueError(
            f"{n_tokens} tokens after a prefix of {start} were asked for; the sequence has {total} positions"
        )
    if model.training:
        raise ValueError("the model is in training mode; call model.eval() before generating")
    ids = torch.full((batch, n_tokens), 0 if stop_id is None else stop_id, dtype=torch.int64, device=device)
    if batch == 0:
        return ids
    uniform = uniforms(batch, n_tokens, seeds, device)
    alive = torch.arange(batch, device=device)
    if isinstance(prefix_ids, Prefix):
        assert branches is not None
        hidden, cache = prefix_ids.hidden[branches], model.new_cache(batch, start, start + n_tokens - 1)
        cache.branch(prefix_ids.cache, branches)
    elif after is None:
        hidden, cache = model.prefill(prefix_ids, capacity=start + n_tokens - 1)
    else:
        hidden, cache = model.decode(prefix_ids, past, after), after
    for step in range(n_tokens):
        logits = model.head(hidden, (first_vocabulary if step == 0 else None) or vocabulary)
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        drawn = sample(logits, sampling, uniform[alive, step])
        ids[alive, step] = drawn
        if progress is not None:
            progress(step + 1, n_tokens)
        if stop_id is not None:
            (going,) = (drawn != stop_id).nonzero(as_tuple=True)
            if len(going) == 0:
                break
            if len(going) < len(alive):
                alive, drawn = alive[going], drawn[going]
                cache.select(going)
        if step + 1 < n_tokens:
            hidden = model.decode(drawn[:, None], start + step, cache)
    return ids


def generate_image(
    model: RudolphDecoder,
    left: Tensor | Prefix,
    sampling: Sampling = IMAGE_SAMPLING,
    *,
    branches: Tensor | None = None,
    seeds: Sequence[int] | None = None,
    allowed: Tensor | None = None,
    first_image_id: Literal["image_head", "text_head"] = "image_head",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Codebook ids [B, m * m] after left texts [B, l]; image special tokens are never drawn.

    Of left texts that have been run, [R, l], row i is drawn after number `branches[i]`, [B] int64.
    first_image_id: `image_head` is the published way, but no loss ever reaches the image head at the last left
    position; `text_head` reads the head that is trained there.
    """
    if isinstance(left, Tensor):
        _check_length("left", left, model.config.l_text_seq_length)
    elif left.cache.length != model.config.l_text_seq_length:
        raise ValueError(
            f"the left texts that have been run have {left.cache.length} positions; "
            f"they must have {model.config.l_text_seq_length}"
        )
    first: dict[str, Vocabulary] = {"image_head": "codes", "text_head": "first_code"}
    if first_image_id not in first:
        raise ValueError(f"first_image_id is {first_image_id!r}; it must be one of {', '.join(first)}")
    return generate(
        model, left, model.config.image_seq_length, "codes", sampling,
        branches=branches, seeds=seeds, allowed=allowed, first_vocabulary=first[first_image_id], progress=progress,
    )  # fmt: skip


def generate_text(
    model: RudolphDecoder,
    left: Tensor | KVCache,
    image: Tensor,
    right_prefix: Tensor,
    sampling: Sampling = TEXT_SAMPLING,
    *,
    seeds: Sequence[int] | None = None,
    allowed: Tensor | None = None,
    max_tokens: int | None = None,
    stop: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """BPE ids that follow left texts [B, l], images [B, m * m] and the beginnings of right texts, [B, R] or shared [R].

    left: or a cache that holds the left texts, which is used up.
    Per row: the new ids up to EOS, which is left out, and at most `max_tokens` (default: to the end of the sequence).
    With `stop=False` nothing ends a row (as published). allowed: bool [BPE ids]; it should allow EOS.
    """
    config = model.config
    _check_length("image", image, config.image_seq_length)
    right_prefix = torch.atleast_2d(right_prefix).expand(len(image), -1)
    if isinstance(left, KVCache):
        if (left.batch, left.length) != (len(image), config.l_text_seq_length):
            raise ValueError(
                f"the cache holds {left.batch} rows of {left.length} positions; it must hold {len(image)} left texts "
                f"of {config.l_text_seq_length}"
            )
        after, prefix = left, torch.cat((image, right_prefix), dim=1)
    else:
        _check_length("left", left, config.l_text_seq_length)
        after, prefix = None, torch.cat((left, image, right_prefix), dim=1)
    n_tokens = config.r_text_seq_length - right_prefix.shape[1]
    if max_tokens is not None:
        n_tokens = min(n_tokens, max_tokens)
    ids = generate(
        model, prefix, n_tokens, "bpe", sampling,
        after=after, seeds=seeds, allowed=allowed, stop_id=EOS if stop else None, progress=progress,
    )  # fmt: skip
    rows = ids.tolist()
    return [row[: row.index(EOS)] if stop and EOS in row else row for row in rows]


def _check_length(name: str, ids: Tensor, length: int) -> None:
    if ids.dim() != 2 or ids.shape[1] != length:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; it must be (batch, {length})")
