"""Settings files of the published training: read as they are, and what is left out is said."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.finetune.config import FineTuning
from training.finetune.published import FREEZE, WEIGHT_NAMES

ROOT = Path(__file__).resolve().parents[3]
SUBMISSION = ROOT / "submission"
FOLDERS = {
    "textqa": "text_small", "mathqa": "math", "generation": "generation", "captioning": "captioning", "vqa": "vqa",
    "text_recognition": "text_recognition",
}  # fmt: skip
WEIGHTS = {
    "text": (1, 0.01, 7), "math": (1, 0.01, 7), "gener": (1, 7, 0.01), "capt": (1, 1, 7), "vqa": (1, 1, 7),
    "text_recog": (1, 1, 7),
}  # fmt: skip
SLIDES = """
trainer:
  bs: 2
  task_weights:
    text_loss_weight: 0.5
    math_loss_weight: 0.5
    gener_loss_weight: 0.5
    capt_loss_weight: 0.5
    vqa_loss_weight: 0.5
    text_recog_loss_weight: 0.5
"""


def paths(folder: str, data: str = "/home/jovyan/datasets/fb_train_2022") -> dict[str, str]:
    name, place = FOLDERS[folder], f"{data}/{folder}/"
    return {"dataset_path": place} | {
        f"{split}_{kind}": f"{place}{name}_{split}{'_answer' * (kind == 'output')}.json"
        for split in ("train", "val") for kind in ("input", "output")
    }  # fmt: skip


def published() -> dict[str, Any]:
    """All sections and keys of fusion_train.yaml."""
    return {
        "tasks": dict.fromkeys(FOLDERS, True),
        "data": {folder: paths(folder) for folder in FOLDERS},
        "model": {
            "rudolph": {
                "name": "1.3B", "fp16": True, "device": "cuda", "cache_dir": "/tmp/rudolph", "pretrained": False,
            },
            "rudolph_weight": "weights/rudolph-1_3b-v1/pytorch_model.bin",
            "vae": {"dwt": False},
            "freeze": dict.fromkeys(FREEZE, False),
            "params": {"num_layers": 24, "hidden_size": 2048, "mlp_activation": "gelu_jit"},
        },
        "trainer": {
            "bs": 5,
            "task_weights": {f"{name}_loss_weight": 0.5 for name in WEIGHT_NAMES} | {
                name: dict(zip(("lt_loss_weight", "img_loss_weight", "rt_loss_weight"), parts, strict=True))
                for name, parts in WEIGHTS.items()
            },
            "scheduler": {"max_lr": "2e-5"},  # as YAML 1.1 reads it
            "logger": {"model_name": "multi"},
            "checkpoints": {
                "filename": "multi_{epoch}", "every_n_train_steps": 1000, "dirpath": "checkpoints_6tasks/",
                "monitor": "train_loss", "mode": "min", "save_top_k": 10, "save_last": True,
            },
            "pl_trainer": {
                "gpus": 2, "strategy": "ddp", "replace_sampler_ddp": True, "max_epochs": 3, "gradient_clip_val": 1.0,
                "enable_progress_bar": True, "progress_bar_refresh_rate": 30, "val_check_interval": 0.25,
            },
        },
    }  # fmt: skip


def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Any) -> FineTuning:
    monkeypatch.chdir(tmp_path)
    text = values if isinstance(values, str) else yaml.safe_dump(values)
    Path("fusion_train.yaml").write_text(text, encoding="utf-8")
    return FineTuning.from_file(Path("fusion_train.yaml"))


def test_the_published_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    run = read(tmp_path, monkeypatch, published())
    assert run.output == tmp_path / "checkpoints_6tasks" and run.device == "auto"
    (stage,) = run.stages
    assert (stage.model, stage.batch_size, stage.learning_rate, stage.epochs) == ("../weights/1.3B", 5, 2e-5, 3)
    assert (stage.clip, stage.checkpoint_every, stage.checkpoints_kept, stage.freeze) == (1.0, 1000, 10, ())
    assert (stage.precision, stage.accumulation) == ("auto", 1)
    assert run.config == {"dtype": "auto", "image_candidates": 1, "cut_working": False}
    for (name, task), folder in zip(stage.tasks.items(), FOLDERS, strict=True):
        short = next(short for short, ours in WEIGHT_NAMES.items() if ours == name)
        assert (task.task_weight, task.lt, task.img, task.rt) == (0.5, *WEIGHTS[short])
        expected = paths(folder)
        assert Path(task.dataset_path or "") == Path(expected["dataset_path"])
        assert (task.train_input, task.val_output) == (expected["train_input"], expected["val_output"])
    said = caplog.text
    for left_out in (
        "model.rudolph.cache_dir", "model.rudolph.pretrained", "model.rudolph_weight", "model.vae", "model.params",
        "trainer.logger", "checkpoints.filename", "checkpoints.monitor", "checkpoints.mode", "checkpoints.save_last",
        "pl_trainer.gpus", "pl_trainer.strategy", "replace_sampler_ddp", "enable_progress_bar", "val_check_interval",
    ):  # fmt: skip
        assert left_out in said
    assert "max_lr" not in said and "max_epochs" not in said


def test_what_is_set_otherwise_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    values = published()
    values["tasks"] = {"textqa": False, "vqa": True}
    values["data"] = {"vqa": paths("vqa", "my/data")}
    values["model"] |= {"rudolph_weight": str(model_folder / "pytorch_model.bin")}
    values["model"]["freeze"] |= {"freeze_emb": True, "freeze_ff": True}
    values["model"]["params"]["gradient_checkpointing"] = 6
    values["model"]["rudolph"] |= {"fp16": False, "device": "cpu"}
    values["trainer"]["task_weights"] |= {"vqa_loss_weight": 2, "vqa": {"img_loss_weight": 3}}
    values["trainer"]["pl_trainer"]["accumulate_grad_batches"] = 4
    values["trainer"]["checkpoints"]["save_top_k"] = -1
    run = read(tmp_path, monkeypatch, values)
    (stage,) = run.stages
    ((name, task),) = stage.tasks.items()
    assert (name, task.task_weight, task.lt, task.img, task.rt) == ("VisualQA", 2.0, 1.0, 3.0, 7.0)
    assert task.train_input == str(tmp_path / "my/data/vqa/vqa_train.json")
    assert (stage.model, stage.precision) == (str(model_folder), "float32")
    assert stage.freeze == ("embeddings", "feed_forward")
    assert (stage.accumulation, stage.gradient_checkpointing, stage.checkpoints_kept) == (4, True, 2)
    assert run.device == "cpu"


def test_the_slides_fragment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    run = read(tmp_path, monkeypatch, SLIDES.replace("vqa_loss_weight: 0.5", "vqa_loss_weight: 1e-1"))
    (stage,) = run.stages
    assert (stage.batch_size, stage.model, stage.data) == (2, "weights/nano", "training/sample_data")
    assert [task.task_weight for task in stage.tasks.values()] == [0.5, 0.5, 0.5, 0.5, 0.1, 0.5]
    assert run.output == ROOT / "build" / "finetune-published"
    assert "data: not given" in caplog.text and "weights/nano is taken" in caplog.text


def test_the_slides_fragment_trains(model_folder: Path, tmp_path: Path) -> None:
    """With the published words for a model that is there, through the command."""
    fragment = yaml.safe_load(SLIDES)
    fragment["model"] = {"rudolph": {"device": "cpu"}, "rudolph_weight": str(model_folder / "pytorch_model.bin")}
    fragment["tasks"] = {"textqa": True, "mathqa": True}
    fragment["trainer"]["pl_trainer"] = {"max_epochs": 1}
    path = tmp_path / "fragment.yaml"
    path.write_text(yaml.safe_dump(fragment), encoding="utf-8")
    command = [sys.executable, str(SUBMISSION / "finetune.py"), str(path), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "out" / "submission" / "weights" / "finetuned" / "model.safetensors").exists()
    assert "data: not given; training/sample_data is taken" in done.stderr
    assert "threads: OMP_NUM_THREADS=" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["trainer"]["task_weights"].update(txt_loss_weight=1), "key 'txt_loss_weight' is unknown"),
        (lambda v: v["tasks"].update(textqua=True), "tasks: key 'textqua' is unknown; allowed are textqa"),
        (lambda v: v["model"]["freeze"].update(freeze_emb="no"), "freeze_emb is 'no'; it must be true or false"),
        (lambda v: v["trainer"].update(bs=0), "batch_size is 0"),
        (lambda v: v["trainer"].update(scheduler={"max_lr": "fast"}), "learning_rate is 'fast'"),
        (lambda v: v["data"].pop("vqa"), "data.vqa has no train_input"),
        (lambda v: v.update(trainer=5), "trainer is 5; it must be keys and values"),
        (lambda v: v["model"]["rudolph"].pop("name"), "pytorch_model.bin'; it must lie in a model folder"),
    ],
)  # fmt: skip
def test_slips_are_named(change: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = published()
    change(values)
    with pytest.raises(ValueError, match="fusion_train.yaml") as error:
        read(tmp_path, monkeypatch, values)
    assert message in str(error.value)


def test_sizes_that_the_model_has_otherwise_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = published()
    values["model"]["rudolph_weight"] = str(model_folder / "pytorch_model.bin")
    with caplog.at_level(logging.WARNING):
        read(tmp_path, monkeypatch, values)
    assert "model.params.hidden_size is 2048; the model has 32" in caplog.text
