"""RUDOLPH as a model of `transformers`: to train, to save, and for whatever else that library is wanted for.

A published folder (`config.json` + `pytorch_model.bin`) loads unchanged. Inference does without: see `decoder`.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import CausalLMOutput

from .checkpoint import STORED_MASKS, check_keys, check_sizes
from .config import PAD, DecoderConfig, Vocabulary
from .decoder import RudolphDecoder, RudolphTransformer
from .masks import attention_masks


class RudolphConfig(DecoderConfig, PretrainedConfig):
    """`DecoderConfig`, with what `transformers` adds."""

    model_type = "rudolph"

    def __post_init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("architectures", ["RudolphModel"])
        PretrainedConfig.__post_init__(self, **kwargs)
        self.check()


class Losses(NamedTuple):
    """Scalars: `total` is what to minimise; `lt`, `img`, `rt` are the token means of the three parts over the batch.

    Without right text `rt` is 0 and its weight does not count.
    """

    total: Tensor
    lt: Tensor
    img: Tensor
    rt: Tensor


class RudolphModel(RudolphDecoder, PreTrainedModel):
    """RUDOLPH as a `transformers` model."""

    config_class = RudolphConfig
    base_model_prefix = ""
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["RudolphLayer"]
    _keys_to_ignore_on_load_unexpected = [STORED_MASKS]

    config: RudolphConfig

    def __init__(self, config: RudolphConfig) -> None:
        PreTrainedModel.__init__(self, config)
        self.build(config)
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
            folder = Path(pretrained_model_name_or_path)
            check_sizes(folder, kwargs.get("config") or RudolphConfig.from_pretrained(folder))
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model, info = loaded
        check_keys(
            Path(pretrained_model_name_or_path),
            *(map(str, info[problem]) for problem in ("missing_keys", "unexpected_keys", "mismatched_keys")),
        )
        return (model, info) if with_info else model

    def get_input_embeddings(self) -> nn.Module:
        """The table of text ids; that of image ids is `image_embeddings`."""
        return self.text_embeddings

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        """As of the decoder, a `CausalLMOutput`."""
        return CausalLMOutput(logits=super().forward(input_ids).logits)

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
