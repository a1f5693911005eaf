"""RUDOLPH's decoder: a transformer over `left text (l) | image (m x m) | right text (r)`, as inference needs it.

Nothing here imports `transformers`, which takes longer than torch itself; `modeling` makes a model of that library of
it. Module names are those of the published state dict.

Shapes: B batch, L sequence, D width, H heads, S cached positions, V rows of a vocabulary.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import CacheFactory, KVCache, Positions, Prefix
from .checkpoint import Uninitialized, check_keys, check_sizes, load_state
from .config import PAD, DecoderConfig, Vocabulary
from .linear import RowsLinear
from .masks import attention_masks, image_neighbours, layer_kind, most_neighbours
from .native import NativeDecoder

FP16_MAX = 65504.0

#: Stores a layer's new keys and values, [B, H, T, D / H] each, and returns all that the new positions read.
Exchange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Logits(NamedTuple):
    """Of each position, over all rows: text first, then image."""

    logits: Tensor


class Attention(nn.Module):
    """Multi-head attention with a fused QKV projection."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_dropout_prob
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.output_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, exchange: Exchange | None, last_only: bool
    ) -> Tensor:
        """x [B, L, D] -> [B, L, D], or with `last_only` [B, 1, D]; mask bool [L, S] or [B, 1, L, S], None:
        everything or `causal`.
        """
        batch, length, width = x.shape
        qkv = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, L, D / H]
        if exchange is not None:
            key, value = exchange(key, value)
        if last_only:
            query, length, causal = query[:, :, -1:], 1, False  # of a causal mask the last row sees everything
            mask = None if mask is None else mask[..., -1:, :]
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout)
        return self.output_dropout(self.dense(mixed.transpose(1, 2).reshape(batch, length, width)))


class FeedForward(nn.Module):
    """D -> 4 D -> D with tanh-GELU."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 4 * config.hidden_size)
        self.dense_4h_to_h = nn.Linear(4 * config.hidden_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.output_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, D] -> [B, L, D]."""
        return self.output_dropout(self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh")))


class RudolphLayer(nn.Module):
    """`x + LN(attention(LN(x)))`, then `x + LN(mlp(LN(x)))`; without CogView's sandwich the inner norms are absent."""

    #: `transformers` sets these two, by these names, where a model that learns is to run its layers twice.
    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Any]

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.input_layernorm = nn.LayerNorm(width)
        self.attention = Attention(config)
        self.post_attention_layernorm = nn.LayerNorm(width)
        self.mlp = FeedForward(config)
        self.sandwich = config.cogview_sandwich_layernorm
        if self.sandwich:
            self.before_first_addition_layernorm = nn.LayerNorm(width)
            self.before_second_addition_layernorm = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, exchange: Exchange | None = None, last_only: bool = False
    ) -> Tensor:
        """x [B, L, D] -> [B, L, D], or with `last_only` [B, 1, D]: the last position, which has read all."""
        if self.gradient_checkpointing and self.training:
            return self._gradient_checkpointing_func(self._run, x, mask, causal, exchange, last_only)
        return self._run(x, mask, causal, exchange, last_only)

    def _run(self, x: Tensor, mask: Tensor | None, causal: bool, exchange: Exchange | None, last_only: bool) -> Tensor:
        attended = self.attention(self.input_layernorm(x), mask, causal, exchange, last_only)
        if last_only:
            x = x[:, -1:]
        if attended.dtype == torch.float16:  # no other type reaches the bound
            attended = attended.clamp(-FP16_MAX, FP16_MAX)
        x = x + (self.before_first_addition_layernorm(attended) if self.sandwich else attended)
        transformed = self.mlp(self.post_attention_layernorm(x))
        return x + (self.before_second_addition_layernorm(transformed) if self.sandwich else transformed)


class RudolphTransformer(nn.Module):
    """The layers, their masks and the final norm."""

    masks: Tensor  # bool [4, L, L]

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.kinds = [layer_kind(layer, config.num_layers) for layer in range(config.num_layers)]
        self.layers = nn.ModuleList(RudolphLayer(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size)
        self.register_buffer("masks", attention_masks(config), persistent=False)
        self.most_neighbours = most_neighbours(config)
        self._neighbours: dict[torch.device, list[list[Positions]]] = {}

    def forward(
        self, x: Tensor, position: int | Tensor = 0, cache: KVCache | None = None, last_only: bool = False
    ) -> Tensor:
        """x [B, L, D] at positions `position`.. -> [B, L, D]; with a cache, earlier positions are read from it.

        position: or right-text positions of each row's own, int64 [B] on the CPU, of x [B, 1, D].
        With `last_only` the result is [B, 1, D], and the last layer does no work for the positions that it leaves out.
        """
        if isinstance(position, Tensor):
            assert cache is not None
            return self._step_of_rows(x, position, cache)
        stop = position + x.shape[1]
        first_image = self.config.l_text_seq_length
        if cache is not None and cache.scratch and x.shape[1] == 1 and first_image <= position < self.config.image_end:
            return self._sparse_step(x, position, cache)
        # Where no query has an image token before it that it may not see, no mask has to be read.
        causal = position == 0 and x.shape[1] > 1 and stop <= first_image + 1
        everything = x.shape[1] == 1 and not first_image < position < self.config.image_end
        masks = None if causal or everything else self.masks[:, position:stop, :stop]
        for layer, (module, kind) in enumerate(zip(self.layers, self.kinds, strict=True)):
            exchange = None if cache is None else partial(cache.write, layer, position)
            last = last_only and layer == len(self.layers) - 1
            x = module(x, None if masks is None else masks[kind], causal, exchange, last)
        return self.final_layernorm(x)

    def _step_of_rows(self, x: Tensor, position: Tensor, cache: KVCache) -> Tensor:
        """One right-text position of each row's own [B], x [B, 1, D] -> [B, 1, D], reading all up to there."""
        seen = torch.arange(int(position.max()) + 1) <= position[:, None]
        mask = seen[:, None, None].to(x.device)
        for layer, module in enumerate(self.layers):
            x = module(x, mask, False, partial(cache.write, layer, position))
        return self.final_layernorm(x)

    def _sparse_step(self, x: Tensor, position: int, cache: KVCache) -> Tensor:
        """One image position, x [B, 1, D] -> [B, 1, D], reading the left text and the image tokens that it may see."""
        left_end = self.config.l_text_seq_length
        near = [tokens[position - left_end] for tokens in self.neighbours(x.device)]
        for layer, (module, kind) in enumerate(zip(self.layers, self.kinds, strict=True)):
            x = module(x, None, False, partial(cache.write_sparse, layer, position, near[kind], left_end))
        return self.final_layernorm(x)

    def neighbours(self, device: torch.device) -> list[list[Positions]]:
        """`image_neighbours` on a device, made once for each."""
        if device not in self._neighbours:
            self._neighbours[device] = image_neighbours(self.config, device)
        return self._neighbours[device]


class RudolphDecoder(nn.Module):
    """Token ids in, hidden states and logits out, with a cache.

    Input ids are raw: a left-text 0 is padding and is embedded as the padding id of its position.
    """

    config: DecoderConfig
    transformer: RudolphTransformer
    #: Where they are, single steps are replayed; see `graphs.use_step_graphs_`.
    step_graphs: CacheFactory | None = None
    #: Where it is, caches on a CPU are its own; see `use_native_`.
    native: NativeDecoder | None = None

    def __init__(self, config: DecoderConfig) -> None:
        nn.Module.__init__(self)  # the next class, `super()`, is PreTrainedModel in a RudolphModel
        self.config = config
        self.build(config)

    def build(self, config: DecoderConfig) -> None:
        """Makes the modules."""
        width = config.hidden_size
        self.text_embeddings = nn.Embedding(config.text_vocab_size, width)
        self.image_embeddings = nn.Embedding(config.image_table_size, width)
        self.l_text_pos_embeddings = nn.Embedding(config.l_text_seq_length + 1, width)
        self.r_text_pos_embeddings = nn.Embedding(config.r_text_seq_length + 1, width)
        self.image_row_embeddings = nn.Embedding(config.image_tokens_per_dim, width)
        self.image_col_embeddings = nn.Embedding(config.image_tokens_per_dim, width)
        self.to_logits = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, config.text_vocab_size + config.image_table_size)
        )
        self.embedding_dropout = nn.Dropout(config.embedding_dropout_prob)
        self.transformer = RudolphTransformer(config)

    @classmethod
    def from_folder(cls, folder: Path, dtype: torch.dtype) -> "RudolphDecoder":
        """The weights of a folder as `transformers` lays it out, mapped where they have this dtype already.

        Raises ValueError where they are damaged or do not fit config.json, OSError where they cannot be read.
        """
        config = DecoderConfig.from_folder(folder)
        check_sizes(folder, config)
        with Uninitialized():
            decoder = cls(config)
        state = load_state(folder, dtype)
        wanted = decoder.state_dict()
        check_keys(
            folder, missing=wanted.keys() - state.keys(), unexpected=state.keys() - wanted.keys(),
            mismatched={
                f"{key}: {list(state[key].shape)} is stored, {list(value.shape)} is wanted"
                for key, value in wanted.items() if key in state and state[key].shape != value.shape
            },
        )  # fmt: skip
        decoder.load_state_dict(state, assign=True)
        return decoder.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.text_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.text_embeddings.weight.dtype

    def _with_padding_ids(self, ids: Tensor, position: int) -> Tensor:
        """Left-text ids [B, T] from `position` on, with 0 replaced by the padding id of its position."""
        first = self.config.text_vocab_size - self.config.l_text_seq_length + position
        padding = torch.arange(first, first + ids.shape[1], device=ids.device)
        return torch.where(ids == PAD, padding, ids)

    def _check_positions(self, position: int, length: int) -> None:
        stop = position + length
        if not 0 <= position < stop <= self.config.total_seq_length:
            raise ValueError(
                f"ids cover the positions {position} to {stop} (not included); "
                f"they must lie in 0 to {self.config.total_seq_length} and not be empty"
            )

    def embed(self, ids: Tensor, position: int | Tensor = 0) -> Tensor:
        """Token plus position embeddings of ids [B, T] at positions `position`.. -> [B, T, D], or of ids [B, 1] at
        right-text positions of each row's own, int64 [B].
        """
        config = self.config
        if isinstance(position, Tensor):
            places = self.r_text_pos_embeddings((position - config.image_end).to(ids.device))
            return self.embedding_dropout(self.text_embeddings(ids) + places[:, None])
        self._check_positions(position, ids.shape[1])
        left_end, image_end, stop = config.l_text_seq_length, config.image_end, position + ids.shape[1]
        parts = []
        if position < left_end:
            text = self._with_padding_ids(ids[:, : left_end - position], position)
            places = self.l_text_pos_embeddings.weight[position : position + text.shape[1]]
            parts.append(self.text_embeddings(text) + places)
        if position < image_end and stop > left_end:
            first, last = max(position, left_end), min(stop, image_end)
            token = torch.arange(first - left_end, last - left_end, device=ids.device)
            row = self.image_row_embeddings(token // config.image_tokens_per_dim)
            column = self.image_col_embeddings(token % config.image_tokens_per_dim)
            parts.append(self.image_embeddings(ids[:, first - position : last - position]) + (row + column))
        if stop > image_end:
            first = max(position, image_end)
            places = self.r_text_pos_embeddings.weight[first - image_end : stop - image_end]
            parts.append(self.text_embeddings(ids[:, first - position :]) + places)
        embedded = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return self.embedding_dropout(embedded)

    def hidden(
        self, input_ids: Tensor, position: int | Tensor = 0, cache: KVCache | None = None, last: int | None = None
    ) -> Tensor:
        """Final hidden states of ids [B, T] at positions `position`.. -> [B, T, D], or of the `last` ones alone."""
        if not isinstance(position, Tensor):
            self._check_positions(position, input_ids.shape[1])
        if cache is None and self.native is not None and position == 0 and not torch.is_grad_enabled():
            cache = self.native.new_cache(*input_ids.shape)
        if cache is not None and (states := cache.run(input_ids, position, last or input_ids.shape[1])) is not None:
            return states
        states = self.transformer(self.embed(input_ids, position), position, cache, last == 1)
        return states if last is None else states[:, -last:]

    def head(self, hidden: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Logits [..., V] of hidden states [..., D] for the rows of one vocabulary only."""
        start, stop = self.config.vocabulary_rows(vocabulary)
        normed, output = self.to_logits[0](hidden), self.to_logits[1]
        if isinstance(output, RowsLinear):
            return output.rows(normed, start, stop)
        output = cast(nn.Linear, output)
        return F.linear(normed, output.weight[start:stop], output.bias[start:stop])

    def forward(self, input_ids: Tensor) -> Logits:
        """Logits over the sequence or any beginning of it.

        input_ids [B, L] with 1 <= L <= l + m * m + r -> `.logits` [B, L, text rows + image rows].
        """
        return Logits(self.to_logits(self.hidden(input_ids)))

    def prefill(
        self, input_ids: Tensor, capacity: int | None = None, past_image: bool = False
    ) -> tuple[Tensor, KVCache]:
        """Runs a prefix [B, P]; returns its last hidden state [B, D] and a cache that the prefix fills.

        The cache holds `capacity` positions (default: all); the state is read with `head(hidden, vocabulary)`.
        past_image: no image position will be decoded by itself.
        """
        prefix = self.config.image_end if past_image else input_ids.shape[1]
        cache = self.new_cache(len(input_ids), prefix, capacity)
        return self.decode(input_ids, 0, cache), cache

    def prefix(self, ids: Tensor, capacity: int | None = None) -> Prefix:
        """Runs beginnings [R, P], which other caches go on from: see `KVCache.branch` and `KVCache.fill`. It can go on
        itself up to `capacity` positions (default: P), but not by image positions one by one.
        """
        capacity = capacity or ids.shape[1]
        cache = self._plain_cache(len(ids), capacity, capacity)
        return Prefix(self.decode(ids, 0, cache), cache)

    def new_cache(self, rows: int, prefix: int, capacity: int | None = None) -> KVCache:
        """An empty cache for prefixes of length `prefix` and the steps after them, up to `capacity` positions."""
        if self.step_graphs is not None and (cache := self.step_graphs.new_cache(rows)) is not None:
            return cache
        return self._plain_cache(rows, prefix, capacity or self.config.total_seq_length)

    def _plain_cache(self, rows: int, prefix: int, capacity: int) -> KVCache:
        if self.native is not None and not torch.is_grad_enabled():
            return self.native.new_cache(rows, capacity)
        config = self.config
        # Image positions that come step by step are read sparsely; a cache without such steps needs no place for that.
        sparse = prefix < config.image_end and capacity > config.l_text_seq_length
        return KVCache(
            config.num_layers, rows, config.num_attention_heads, capacity,
            config.hidden_size // config.num_attention_heads, scratch=self.transformer.most_neighbours if sparse else 0,
            dtype=self._compute_dtype(), device=self.device,
        )  # fmt: skip

    def decode(self, ids: Tensor, position: int | Tensor, cache: KVCache) -> Tensor:
        """Runs ids [B, T] at positions `position`.. against the cache, which it extends -> last state [B, D].

        position: or of each row its own, int64 [B] on the CPU, for ids [B, 1] of right texts. A row sees all positions
        up to its own; what its cache holds behind that must be numbers.
        Raises ValueError if the positions lie outside the cache, or if rows of other parts have positions of their own.
        """
        if isinstance(position, Tensor):
            first, last = int(position.min()), int(position.max())
            if first == last:
                return self.decode(ids, first, cache)
            if first < self.config.image_end or last >= cache.capacity:
                raise ValueError(
                    f"rows' own positions are {first} to {last}; right texts begin at {self.config.image_end}, and the "
                    f"cache holds {cache.capacity} positions"
                )
            cache.length = max(cache.length, last + 1)
            state = cache.step(ids, position)
            return self.hidden(ids, position, cache)[:, 0] if state is None else state
        stop = position + ids.shape[1]
        if stop > cache.capacity:
            raise ValueError(f"position {stop - 1} lies outside the cache, which holds {cache.capacity} positions")
        cache.length = stop
        if ids.shape[1] == 1 and position >= self.config.l_text_seq_length:
            state = cache.step(ids, position)
            if state is not None:
                return state
        return self.hidden(ids, position, cache, last=1)[:, 0]

    def release_step_graphs(self) -> None:
        """Let go of the memory that step graphs reserve; the next cache reserves what it needs."""
        if self.step_graphs is not None:
            self.step_graphs.release()

    def _compute_dtype(self) -> torch.dtype:
        weight = self.text_embeddings.weight
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
