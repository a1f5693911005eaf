"""The gradients of a fine-tuning's first step, in a module that the processes of a launch can import."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from training.finetune.config import FineTuning
from training.finetune.trainer import RudolphTrainer, finetune


class Gradients(TrainerCallback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.is_world_process_zero and state.global_step == 0:
            torch.save({name: parameter.grad for name, parameter in model.named_parameters()}, self.path)


def save_gradients(config: Path, path: Path) -> None:
    """Fine-tunes as the settings say."""
    plain = RudolphTrainer.__init__

    def with_gradients(self: RudolphTrainer, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        self.add_callback(Gradients(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RudolphTrainer, "__init__", with_gradients)
        finetune(FineTuning.from_file(config))
