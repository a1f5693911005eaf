"""Checkpoints of the published training, with objects of its own code in them, as model folders."""

import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from rudolph.answer import Question, Rudolph
from training.finetune.lightning import CheckpointError, convert, main, read_state


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def checkpoint(path: Path, folder: Path, prefix: str, **more: Any) -> Path:
    """As Lightning writes one: the VQGAN beside the model, masks among the buffers, optimizers, hyperparameters."""
    model = Rudolph.from_pretrained(folder, "cpu", "float32", fast=False).model
    state = {f"{prefix}{name}": value.half() for name, value in model.state_dict().items() if "masks" not in name}
    state[f"{prefix}transformer.row_mask"] = torch.ones(3, 3)
    state["vae.model.quantize.embed.weight"] = torch.ones(3, 3)
    optimizer = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    whole = {
        "epoch": 1, "global_step": 7, "pytorch-lightning_version": "1.6.4", "state_dict": state,
        "optimizer_states": [optimizer.state_dict()], "hyper_parameters": more,
    }  # fmt: skip
    torch.save(whole, path)
    return path


@pytest.mark.parametrize("prefix", ["model.", "model.module."])
def test_a_checkpoint_becomes_a_model_that_answers_alike(prefix: str, model_folder: Path, tmp_path: Path) -> None:
    """The code whose objects are in the file is not there any more; nothing of it runs."""
    module = types.ModuleType("src_of_the_baseline")
    vars(module)["Conf"] = type("Conf", (dict,), {"__module__": module.__name__})
    vars(module)["Plain"] = type("Plain", (), {"__module__": module.__name__})
    sys.modules[module.__name__] = module
    conf, plain = module.Conf(bs=2), module.Plain()
    plain.conf, conf.note = conf, {1, 2}
    ran = tmp_path / "ran"
    path = checkpoint(tmp_path / "last.ckpt", model_folder, prefix, conf=conf, plain=plain, trap=Trap(f"touch {ran}"))
    del sys.modules[module.__name__]
    assert main([str(path), "--like", str(model_folder), "--output", str(tmp_path / "mine")]) == 0
    assert not ran.exists()
    old, new = (Rudolph.from_pretrained(folder, "cpu", "float32") for folder in (model_folder, tmp_path / "mine"))
    for name, value in old.model.state_dict().items():
        assert torch.equal(new.model.state_dict()[name], value.half().float() if value.is_floating_point() else value)
    assert new.answer([Question("0", ("что это?",))])[0].text is not None


def test_what_is_no_such_checkpoint_is_said(model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="a.ckpt: is no checkpoint of torch, or damaged"):
        read_state(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(CheckpointError, match=r"a.ckpt: has no key 'state_dict' \(found: \['weights'\]\)"):
        read_state(path)
    torch.save({"state_dict": {"bert.x": torch.ones(1)}}, path)
    with pytest.raises(CheckpointError, match=r"no tensor of state_dict begins with model. \(found: bert.x\)"):
        read_state(path)
    torch.save({"state_dict": {"model.x": torch.ones(1)}}, path)
    with pytest.raises(CheckpointError, match=r"a.ckpt with .*config.json: the checkpoint does not fit"):
        convert(path, model_folder, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    assert main([str(tmp_path / "none.ckpt"), "--like", str(model_folder), "--output", str(tmp_path / "mine")]) == 1
    assert main([str(path), "--like", str(tmp_path), "--output", str(tmp_path / "mine")]) == 1
    assert main([str(path), "--like", str(model_folder), "--output", str(tmp_path)]) == 1
