"""The published inference algorithm, in our own words: the oracle that the engine is compared and timed with.

What it does is what github.com/ai-forever/ru-dolph does with `use_cache=True`, the wasted work included: every step
embeds the whole sequence, concatenates keys, values and attention outputs to those of the step before, multiplies
masks of the whole sequence, runs all norms and residuals over all positions, and takes the logits of all positions for
both vocabularies. Every input without an image gets a full image first, and no answer ends before its last position.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rudolph.config import Vocabulary
from rudolph.decoder import FP16_MAX, RudolphDecoder, RudolphLayer
from rudolph.sampling import Sampling

MASKED = 10000.0
PB_RELAX = 32


class LayerCache(NamedTuple):
    """keys, values [B, H, S, D / H]; attention outputs and, of the last layer, MLP outputs [B, S, D]."""

    keys: Tensor
    values: Tensor
    attended: Tensor
    transformed: Tensor | None


Cache = list[LayerCache]


@torch.no_grad()
def forward(model: RudolphDecoder, ids: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
    """Logits [B, S, text rows + image rows] of ids [B, S], and the cache for the next call, with longer ids."""
    x = model.embed(ids)
    batch, length = ids.shape
    causal = torch.ones(batch, 1, length, length, dtype=x.dtype, device=ids.device).tril()
    layers = model.transformer.layers
    new_cache: Cache = []
    for number, (layer, kind) in enumerate(zip(layers, model.transformer.kinds, strict=True)):
        mask = causal * model.transformer.masks[kind, :length, :length]
        past = None if cache is None else cache[number]
        x, kept = _layer(cast(RudolphLayer, layer), x, mask, past, number == len(layers) - 1)
        new_cache.append(kept)
    return model.to_logits(model.transformer.final_layernorm(x)), new_cache


def _layer(
    layer: RudolphLayer, x: Tensor, mask: Tensor, past: LayerCache | None, last: bool
) -> tuple[Tensor, LayerCache]:
    done = 0 if past is None else past.keys.shape[2]
    normed = layer.input_layernorm(x)
    keys, values, attended = _attention(layer, normed, mask, past)
    x = x + (layer.before_first_addition_layernorm(attended) if layer.sandwich else attended)
    normed = layer.post_attention_layernorm(x)
    if past is None:
        transformed = layer.mlp(normed)
    else:
        # Earlier positions keep whatever stands there: only the last layer's are read again.
        before = past.transformed if past.transformed is not None else normed[:, :done]
        transformed = torch.cat((before, layer.mlp(normed[:, done:])), dim=1)
    kept = LayerCache(keys, values, attended, transformed if last else None)
    x = x + (layer.before_second_addition_layernorm(transformed) if layer.sandwich else transformed)
    return x, kept


def _attention(
    layer: RudolphLayer, normed: Tensor, mask: Tensor, past: LayerCache | None
) -> tuple[Tensor, Tensor, Tensor]:
    attention = layer.attention
    done = 0 if past is None else past.keys.shape[2]
    batch, length, width = normed.shape
    head = width // attention.heads
    query, keys, values = (
        part.view(batch, length - done, attention.heads, head).transpose(1, 2)
        for part in attention.query_key_value(normed[:, done:]).split(width, dim=-1)
    )
    if past is not None:
        keys, values = torch.cat((past.keys, keys), dim=2), torch.cat((past.values, values), dim=2)
    mask = mask[:, :, done:]
    scores = (query / math.sqrt(head)) @ keys.transpose(-1, -2)
    scores = scores * mask - MASKED * (1.0 - mask)
    scaled = scores / PB_RELAX
    largest = scaled.reshape(batch, attention.heads, -1).amax(-1)[..., None, None]
    mixed = ((scaled - largest) * PB_RELAX).softmax(-1) @ values
    output = attention.dense(mixed.transpose(1, 2).reshape(batch, length - done, width)).clamp(-FP16_MAX, FP16_MAX)
    if past is not None:
        output = torch.cat((past.attended, output), dim=1)
    return keys, values, output


def draw(logits: Tensor, sampling: Sampling) -> Tensor:
    """Ids [B] from logits [B, V]: everything outside top-k, then outside top-p, becomes -inf; then a multinomial."""
    logits = logits / sampling.temperature
    if sampling.top_k:
        smallest = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if sampling.top_p < 1:
        ordered, places = logits.sort(descending=True)
        beyond = ordered.softmax(-1).cumsum(-1) > sampling.top_p
        beyond[:, 1:] = beyond[:, :-1].clone()
        beyond[:, 0] = False
        logits = logits.masked_fill(beyond.scatter(1, places, beyond), -torch.inf)
    return torch.multinomial(F.softmax(logits, dim=-1), 1)[:, 0]


@torch.no_grad()
def generate(model: RudolphDecoder, prefix: Tensor, n: int, vocabulary: Vocabulary, sampling: Sampling) -> Tensor:
    """n ids [B, n] of one vocabulary after prefixes [B, P]; nothing ends a row."""
    start, stop = model.config.vocabulary_rows(vocabulary)
    ids, cache = prefix, None
    for _ in range(n):
        logits, cache = forward(model, ids, cache)
        ids = torch.cat((ids, draw(logits[:, -1, start:stop], sampling)[:, None]), dim=1)
    return ids[:, prefix.shape[1] :]
