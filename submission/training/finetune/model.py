"""The model in training: its loss, and which of its parameters are trained."""

from __future__ import annotations

from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from rudolph import RudolphModel
from training.finetune.config import FreezeGroup, Stage

LORA_MODULES = ["query_key_value", "attention.dense", "dense_h_to_4h", "dense_4h_to_h"]


class WeightedLoss(nn.Module):
    """The model as the trainer calls it: loss weights differ by example, task weights by task."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, weights: Tensor, task_weight: Tensor) -> dict[str, Tensor]:
        """ids [B, L], weights [B, 3], task_weight [B] -> `loss` (to minimise) and the means `lt`, `img`, `rt`."""
        result: dict[str, Tensor] = {}
        for value in task_weight.unique():  # one, unless tasks weigh differently
            rows = task_weight == value
            losses = self.model.loss(ids[rows], *weights[rows].T)  # type: ignore[operator]
            share = rows.float().mean()
            parts = {"loss": losses.total * value, "lt": losses.lt, "img": losses.img, "rt": losses.rt}
            for key, part in parts.items():
                result[key] = result.get(key, 0) + part * share
        return result


def freeze_group(parameter: str) -> FreezeGroup:
    """The group of `FREEZE_GROUPS` that a parameter of RudolphModel is in, by its name."""
    if "embeddings" in parameter:
        return "embeddings"
    if "layernorm" in parameter or parameter.startswith("to_logits.0."):
        return "norms"
    if ".attention." in parameter:
        return "attention"
    return "feed_forward" if ".mlp." in parameter else "other"


def prepare_model(model: RudolphModel, stage: Stage) -> nn.Module:
    """Freezes, checkpoints gradients or adds LoRA, as the stage wants; returns what is trained."""
    if stage.gradient_checkpointing:
        # transformers 5.17 knows the older name alone, and a GPU's machine may have its own release.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if stage.lora_rank:
        lora = LoraConfig(r=stage.lora_rank, lora_alpha=2 * stage.lora_rank, target_modules=LORA_MODULES)
        return WeightedLoss(get_peft_model(model, lora))
    for name, parameter in model.named_parameters():
        parameter.requires_grad = freeze_group(name) not in stage.freeze
    return WeightedLoss(model)
