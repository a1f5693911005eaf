"""RUDOLPH: a decoder-only transformer over `left text (l) | image (m x m) | right text (r)`, and its three-part loss.

Module names are those of the published state dict, so a published folder (`config.json` + `pytorch_model.bin`) loads
unchanged. Shapes: B batch, L sequence, D width, H heads, S cached positions, V rows of a vocabulary.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutput

from .cache import CacheFactory, KVCache, Positions
from .config import PAD, RudolphConfig, Vocabulary
from .linear import RowsLinear
from .masks import attention_masks, image_neighbours, layer_kind, most_neighbours

FP16_MAX = 65504.0

_LAYER = re.compile(r"transformer\.layers\.(\d{1,9})\.")

#: Stores a layer's new keys and values, [B, H, T, D / H] each, and returns all that the new positions read.
Exchange = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Losses(NamedTuple):
    """Scalars: `total` is what to minimise; `lt`, `img`, `rt` are the token means of the three parts over the batch.

    Without right text `rt` is 0 and its weight does not count.
    """

    total: Tensor
    lt: Tensor
    img: Tensor
    rt: Tensor


class Attention(nn.Module):
    """Multi-head attention with a fused QKV projection."""

    def __init__(self, config: RudolphConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.attention_dropout = config.attention_dropout_prob
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.output_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor | None, causal: bool, exchange: Exchange | None, last_only: bool
    ) -> Tensor:
        """x [B, L, D] -> [B, L, D], or with `last_only` [B, 1, D]; mask bool [L, S], None: everything or `causal`."""
        batch, length, width = x.shape
        qkv = self.query_key_value(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, H, L, D / H]
        if exchange is not None:
            key, value = exchange(key, value)
        if last_only:
            query, length, causal = query[:, :, -1:], 1, False  # of a causal mask the last row sees everything
            mask = None if mask is None else mask[-1:]
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, dropout_p=dropout)
        return self.output_dropout(self.dense(mixed.transpose(1, 2).reshape(batch, length, width)))


class FeedForward(nn.Module):
    """D -> 4 D -> D with tanh-GELU."""

    def __init__(self, config: RudolphConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 4 * config.hidden_size)
        self.dense_4h_to_h = nn.Linear(4 * config.hidden_size, config.hidden_size)
        self.output_dropout = nn.Dropout(config.output_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, L, D] -> [B, L, D]."""
        return self.output_dropout(self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh")))


class RudolphLayer(GradientCheckpointingLayer):
    """`x + LN(attention(LN(x)))`, then `x + LN(mlp(LN(x)))`; without CogView's sandwich the inner norms are absent."""

    def __init__(self, config: RudolphConfig) -> None:
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

    def __init__(self, config: RudolphConfig) -> None:
        super().__init__()
        self.config = config
        self.kinds = [layer_kind(layer, config.num_layers) for layer in range(config.num_layers)]
        self.layers = nn.ModuleList(RudolphLayer(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size)
        self.register_buffer("masks", attention_masks(config), persistent=False)
        self.most_neighbours = most_neighbours(config)
        self._neighbours: dict[torch.device, list[list[Positions]]] = {}

    def forward(
        self, x: Tensor, position: int = 0, cache: KVCache | None = None, last_only: bool = False
    ) -> Tensor:
        """x [B, L, D] at positions `position`.. -> [B, L, D]; with a cache, earlier positions are read from it.

        With `last_only` the result is [B, 1, D], and the last layer does no work for the positions that it leaves out.
        """
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


def _check_sizes(folder: Path, config: RudolphConfig | None) -> None:
    """Raise ValueError where the weights are damaged, or where the sizes of config.json are not those of the weights: a
    model of such sizes may take all memory, or years, before anything shows that it does not fit.
    """
    paths = _weight_files(folder)
    if not paths:
        return  # whoever loads them says that they are missing
    config = config or RudolphConfig.from_pretrained(folder)
    shapes = {key: shape for path in paths for key, shape in _stored_shapes(path).items()}
    start = f"{folder}: the checkpoint does not fit its config.json: "
    layers = 1 + max((int(found[1]) for key in shapes if (found := _LAYER.match(key))), default=-1)
    if config.num_layers > layers:
        raise ValueError(f"{start}num_layers is {config.num_layers}, the weights have {layers}")
    rows = {
        "text_embeddings": config.text_vocab_size,
        "image_embeddings": config.image_table_size,
        "l_text_pos_embeddings": config.l_text_seq_length + 1,
        "r_text_pos_embeddings": config.r_text_seq_length + 1,
        "image_row_embeddings": config.image_tokens_per_dim,
    }
    for name, count in rows.items():
        wanted, stored = [count, config.hidden_size], shapes.get(f"{name}.weight")
        if stored not in (None, wanted):
            raise ValueError(f"{start}mismatched keys: {name}.weight is {stored}, config.json asks for {wanted}")


def _weight_files(folder: Path) -> list[Path]:
    """The files that `transformers` loads: safetensors before pickles, one file before many."""
    for whole, shards in (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin")):
        paths = [folder / whole] if (folder / whole).exists() else sorted(folder.glob(shards))
        for path in paths:
            if not path.is_file():  # a pipe, for instance, would be waited for without an end
                raise ValueError(f"{path} is no regular file")
        if paths:
            return paths
    return []


def _stored_shapes(path: Path) -> dict[str, list[int]]:
    """The shape of every tensor in a file of weights, without reading them where the format allows that.

    Raises ValueError where the file is damaged.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        return {key: list(value.shape) for key, value in state.items()}
    except (
        OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
        SafetensorError, pickle.UnpicklingError,
    ) as error:  # fmt: skip
        # torch's own message advises unpickling everything; only its reason is passed on.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(" Please use")[0]
        reason = " ".join(f"{type(error).__name__}: {reason}".split())
        raise ValueError(f"{path} is damaged or holds more than tensors: {reason}") from error


class RudolphModel(PreTrainedModel):
    """RUDOLPH as a `transformers` model.

    Input ids are raw: a left-text 0 is padding and is embedded as the padding id of its position.
    """

    config_class = RudolphConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["RudolphLayer"]
    # Published checkpoints hold the masks; they follow from the sizes.
    _keys_to_ignore_on_load_unexpected = [r"transformer\.(row|col|conv|last_conv)_mask$"]

    config: RudolphConfig
    transformer: "RudolphTransformer"
    #: Where they are, single steps are replayed; see `graphs.use_step_graphs_`.
    step_graphs: CacheFactory | None = None

    def __init__(self, config: RudolphConfig) -> None:
        super().__init__(config)
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
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RudolphTransformer):
            # A model loaded from disk is built without memory first, so buffers that are not stored are set here.
            init.copy_(module.masks, attention_masks(self.config, module.masks.device))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in `transformers`, but a checkpoint whose keys differ from the model's raises ValueError."""
        with_info = kwargs.pop("output_loading_info", False)
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}  # reported below, all at once
        if os.path.isdir(pretrained_model_name_or_path):
            _check_sizes(Path(pretrained_model_name_or_path), kwargs.get("config"))
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model, info = loaded
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            keys = sorted(map(str, info[problem]))
            if keys:
                shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
                raise ValueError(
                    f"{pretrained_model_name_or_path}: the checkpoint does not fit its config.json: "
                    f"{problem.replace('_', ' ')}: {shown}"
                )
        return (model, info) if with_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The table of text ids; that of image ids is `image_embeddings`."""
        return self.text_embeddings

    def _with_padding_ids(self, ids: Tensor, position: int) -> Tensor:
        """Left-text ids [B, T] from `position` on, with 0 replaced by the padding id of its position."""
        first = self.config.text_vocab_size - self.config.l_text_seq_length + position
        padding = torch.arange(first, first + ids.shape[1], device=ids.device)
        return torch.where(ids == PAD, padding, ids)

    def embed(self, ids: Tensor, position: int = 0) -> Tensor:
        """Token plus position embeddings of ids [B, T] at positions `position`.. -> [B, T, D]."""
        config = self.config
        left_end, image_end, stop = config.l_text_seq_length, config.image_end, position + ids.shape[1]
        if not 0 <= position < stop <= config.total_seq_length:
            raise ValueError(
                f"ids cover the positions {position} to {stop} (not included); "
                f"they must lie in 0 to {config.total_seq_length} and not be empty"
            )
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
        self, input_ids: Tensor, position: int = 0, cache: KVCache | None = None, last_only: bool = False
    ) -> Tensor:
        """Final hidden states of ids [B, T] at positions `position`.. -> [B, T, D], or [B, 1, D] of the last alone."""
        return self.transformer(self.embed(input_ids, position), position, cache, last_only)

    def head(self, hidden: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Logits [..., V] of hidden states [..., D] for the rows of one vocabulary only."""
        start, stop = self.config.vocabulary_rows(vocabulary)
        normed, output = self.to_logits[0](hidden), self.to_logits[1]
        if isinstance(output, RowsLinear):
            return output.rows(normed, start, stop)
        output = cast(nn.Linear, output)
        return F.linear(normed, output.weight[start:stop], output.bias[start:stop])

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutput:
        """Logits over the sequence or any beginning of it.

        input_ids [B, L] with 1 <= L <= l + m * m + r -> `.logits` [B, L, text rows + image rows].
        """
        return CausalLMOutput(logits=self.to_logits(self.hidden(input_ids)))

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

    def new_cache(self, rows: int, prefix: int, capacity: int | None = None) -> KVCache:
        """An empty cache for prefixes of length `prefix` and the steps after them, up to `capacity` positions."""
        config = self.config
        if self.step_graphs is not None and (cache := self.step_graphs.new_cache(rows)) is not None:
            return cache
        capacity = capacity or config.total_seq_length
        # Image positions that come step by step are read sparsely; a cache without such steps needs no place for that.
        sparse = prefix < config.image_end and capacity > config.l_text_seq_length
        return KVCache(
            config.num_layers, rows, config.num_attention_heads, capacity,
            config.hidden_size // config.num_attention_heads, scratch=self.transformer.most_neighbours if sparse else 0,
            dtype=self._compute_dtype(), device=self.device,
        )  # fmt: skip

    def decode(self, ids: Tensor, position: int, cache: KVCache) -> Tensor:
        """Runs ids [B, T] at positions `position`.. against the cache, which it extends -> last state [B, D].

        Raises ValueError if the positions lie outside the cache.
        """
        stop = position + ids.shape[1]
        if stop > cache.capacity:
            raise ValueError(f"position {stop - 1} lies outside the cache, which holds {cache.capacity} positions")
        cache.length = stop
        if ids.shape[1] == 1 and position >= self.config.l_text_seq_length:
            state = cache.step(ids, position)
            if state is not None:
                return state
        return self.hidden(ids, position, cache, last_only=True)[:, 0]

    def release_step_graphs(self) -> None:
        """Let go of the memory that step graphs reserve; the next cache reserves what it needs."""
        if self.step_graphs is not None:
            self.step_graphs.release()

    def _compute_dtype(self) -> torch.dtype:
        weight = self.text_embeddings.weight
        kind = weight.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype

    def loss(
        self, input_ids: Tensor, lt: float | Tensor = 1.0, img: float | Tensor = 7.0, rt: float | Tensor = 1.0
    ) -> Losses:
        """The published three-part loss of ids [B, l + m * m] or with right text [B, up to l + m * m + r].

        * left: text logits at positions 0..l-1; targets are the left text from its second token, padding ids included,
          and then the first image id, read as a text id;
        * image: image logits at positions l..l+m*m-2; targets are the image ids from the second;
        * right: text logits; targets are the right text from its second token, padding ignored.

        Float weights: each part is the mean over the tokens of the batch, the total their weighted mean (published).
        If a weight is a tensor [B], weights differ by example: each part is the mean over the tokens of an example, an
        example's loss is the weighted mean of its parts, and the total is the mean over the examples. In both cases the
        right part's weight counts only where there is right text. `lt`, `img`, `rt` of the result are batch means.
        """
        config = self.config
        left_end, image_end, length = config.l_text_seq_length, config.image_end, input_ids.shape[1]
        if not image_end <= length <= config.total_seq_length or length == image_end + 1:
            raise ValueError(
                f"input_ids have length {length}; the loss needs {image_end} (left text and image) "
                f"or {image_end + 2} to {config.total_seq_length} (with right text)"
            )
        left, image, right = input_ids[:, :left_end], input_ids[:, left_end:image_end], input_ids[:, image_end:]
        hidden = self.hidden(input_ids)

        left_targets = torch.cat((self._with_padding_ids(left, 0)[:, 1:], image[:, :1]), dim=1)
        lt_tokens = self._token_losses(hidden[:, :left_end], left_targets, "text")
        img_tokens = self._token_losses(hidden[:, left_end : image_end - 1], image[:, 1:], "image")
        parts = [lt_tokens.mean(1), img_tokens.mean(1)]  # each [B]
        weights: list[Any] = [lt, img]
        means = [lt_tokens.mean(), img_tokens.mean()]
        if length > image_end:
            rt_tokens = self._token_losses(hidden[:, image_end:-1], right[:, 1:], "text", ignore=PAD)
            counts = (right[:, 1:] != PAD).sum(1)
            parts.append(rt_tokens.sum(1) / counts.clamp(min=1))
            weights.append(rt)
            means.append(rt_tokens.sum() / counts.sum().clamp(min=1))

        if any(isinstance(weight, Tensor) for weight in weights):
            rows = [torch.as_tensor(w, dtype=torch.float32, device=hidden.device).expand(len(left)) for w in weights]
            if length > image_end:
                rows[2] = rows[2] * (counts > 0)
            shares = torch.stack(rows)  # [parts, B]
            total = ((torch.stack(parts) * shares).sum(0) / shares.sum(0)).mean()
        else:
            if length > image_end:
                weights[2] = rt * (counts.sum() > 0)
            total = torch.stack([m * w for m, w in zip(means, weights, strict=True)]).sum() / sum(weights)
        shown = [mean.detach() for mean in means] + [total.new_zeros(())] * (3 - len(means))
        return Losses(total, *shown)

    def _token_losses(self, hidden: Tensor, targets: Tensor, vocabulary: Vocabulary, ignore: int = -100) -> Tensor:
        """Cross-entropy of each token, fp32 [B, n]; 0 where the target is `ignore`."""
        logits = self.head(hidden, vocabulary).flatten(0, 1).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=ignore, reduction="none").view(targets.shape)
