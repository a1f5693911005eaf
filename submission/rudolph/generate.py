"""Generation: a prefix is run once, then one loop draws ids, for images and for texts alike."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .cache import KVCache, Prefix
from .config import EOS, Vocabulary
from .decoder import RudolphDecoder
from .sampling import IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, sample, uniforms

#: Rows begin as soon as this share of a batch's places is free, and no more of them at a time: a prefill of few rows
#: costs more for each, holds up all others and, beside their cache, needs memory; places that wait do work for nothing.
REFILL_SHARE = 4


class Begun(NamedTuple):
    """Sequences that have been run to their first draw: by what their caller knows them, and their seeds."""

    keys: list[int]
    seeds: list[int]
    prefix: Prefix


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
    after, prefix = _text_prefix(model, left, image, right_prefix)
    n_tokens = model.config.r_text_seq_length - right_prefix.shape[-1]
    if max_tokens is not None:
        n_tokens = min(n_tokens, max_tokens)
    ids = generate(
        model, prefix, n_tokens, "bpe", sampling,
        after=after, seeds=seeds, allowed=allowed, stop_id=EOS if stop else None, progress=progress,
    )  # fmt: skip
    rows = ids.tolist()
    return [row[: row.index(EOS)] if stop and EOS in row else row for row in rows]


@torch.no_grad()
def begin_text(model: RudolphDecoder, left: Tensor | KVCache, image: Tensor, right_prefix: Tensor) -> Prefix:
    """Runs what `generate_text` continues, for `generate_refilled`."""
    after, prefix = _text_prefix(model, left, image, right_prefix)
    if after is None:
        return model.prefix(prefix)
    return Prefix(model.decode(prefix, after.length, after), after)


@torch.no_grad()
def generate_refilled(
    model: RudolphDecoder,
    places: int,
    start: int,
    more: Callable[[int], Begun | None],
    sampling: Sampling = TEXT_SAMPLING,
    *,
    allowed: Tensor | None = None,
    max_tokens: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[tuple[int, list[int]]]]:
    """What `generate_text` gives, in a batch of `places` rows in which others begin where some have ended: continuous
    batching (Yu et al. 2022, Orca).

    more: begins up to so many right texts (`begin_text`), perhaps none just now, which fill the positions before
    `start`; None: there are no more. Yields what has ended, after each beginning and each end: keys with ids up to EOS,
    which is left out.
    allowed, max_tokens: as of `generate_text`. progress: called with (rows that go on, places) after each step.
    """
    device, least = model.device, max(1, places // REFILL_SHARE)
    n_tokens = model.config.total_seq_length - start
    if max_tokens is not None:
        n_tokens = min(n_tokens, max_tokens)
    if n_tokens < 1:
        raise ValueError(f"{n_tokens} tokens after {start} positions were asked for; it must be at least 1")
    cache = model.new_cache(places, start, start + n_tokens - 1)
    for tensor in (*cache.keys, *cache.values):  # a place that no row has taken yet is computed, too
        tensor.zero_()
    hidden = torch.zeros(places, model.config.hidden_size, dtype=model.dtype, device=device)
    # Of each place, on the CPU, as which of them have ended is decided there.
    live, step = torch.zeros(places, dtype=torch.bool), torch.zeros(places, dtype=torch.int64)
    uniform = torch.zeros(places, n_tokens)
    keys: list[int] = [0] * places
    ids: list[list[int]] = [[] for _ in keys]
    waiting = True
    while True:
        while waiting and len(live) - int(live.sum()) >= least:
            begun = more(least)
            if begun is None:
                waiting = False
                break
            if begun.keys:
                assert begun.prefix.cache.length == start
                free = (~live).nonzero()[: len(begun.keys), 0]
                cache.fill(free.to(device), begun.prefix.cache)
                hidden = hidden.index_copy(0, free.to(device), begun.prefix.hidden)
                uniform[free] = uniforms(len(free), n_tokens, begun.seeds)
                live[free], step[free] = True, 0
                for place, key in zip(free.tolist(), begun.keys, strict=True):
                    keys[place], ids[place] = key, []
            del begun
            yield []
        if not live.any():
            return
        logits = model.head(hidden, "bpe")
        if allowed is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        drawn = sample(logits, sampling, uniform[torch.arange(len(step)), step].to(device))
        ended = []
        for place, id in enumerate(drawn.tolist()):
            if live[place]:
                if id != EOS:
                    ids[place].append(id)
                if id == EOS or len(ids[place]) == n_tokens:
                    live[place] = False
                    ended.append((keys[place], ids[place]))
        if ended:
            yield ended
        if progress is not None:
            progress(int(live.sum()), places)
        if not live.any():
            continue
        if not waiting and not live.all():
            going = live.nonzero()[:, 0]
            cache.select(going.to(device))
            drawn, live, step, uniform = drawn[going.to(device)], live[going], step[going], uniform[going]
            keys, ids = [keys[place] for place in going.tolist()], [ids[place] for place in going.tolist()]
        # Places that wait go along with the last of the others, so that positions are equal as long as they can be.
        position = start + torch.where(live, step, step[live].max())
        hidden = model.decode(drawn[:, None], position, cache)
        step += live


def _text_prefix(
    model: RudolphDecoder, left: Tensor | KVCache, image: Tensor, right_prefix: Tensor
) -> tuple[KVCache | None, Tensor]:
    """The cache that holds the left texts, if one does, and the ids that come then."""
    config = model.config
    _check_length("image", image, config.image_seq_length)
    right_prefix = torch.atleast_2d(right_prefix).expand(len(image), -1)
    if isinstance(left, KVCache):
        if (left.batch, left.length) != (len(image), config.l_text_seq_length):
            raise ValueError(
                f"the cache holds {left.batch} rows of {left.length} positions; it must hold {len(image)} left texts "
                f"of {config.l_text_seq_length}"
            )
        return left, torch.cat((image, right_prefix), dim=1)
    _check_length("left", left, config.l_text_seq_length)
    return None, torch.cat((left, image, right_prefix), dim=1)


def _check_length(name: str, ids: Tensor, length: int) -> None:
    if ids.dim() != 2 or ids.shape[1] != length:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}; it must be (batch, {length})")
