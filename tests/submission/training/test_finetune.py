"""Fine-tuning: what a row teaches, resuming after kill -9, parity with a plain loop, two processes, CO2, the export."""

import csv
import json
import math
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from transformers import TrainingArguments

import cores
from evaluator.cli.app import main as evaluator
from rudolph import VQGAN, RudolphModel, Tokenizer
from tests.support.gradients import save_gradients
from training.carbon import TrainingCarbon, cpu_seconds
from training.data_format import DataError, Sample, read_split
from training.dataset import DEFAULT_WEIGHTS, TOKENS, Draws, ImageCodes, TrainingRow, TrainingRows, make_row
from training.finetune.config import FREEZE_GROUPS, FineTuning, Stage, TaskSettings
from training.finetune.export import export_model, export_submission
from training.finetune.model import WeightedLoss, freeze_group, prepare_model
from training.finetune.trainer import RudolphTrainer, finetune
from training.finetune.validation import warn_of_chance
from training.processes import LOCK, locked

ROOT = Path(__file__).resolve().parents[3]
SUBMISSION = ROOT / "submission"
REFERENCE = ROOT / "tests" / "data" / "rudolph"
TASKS = ("TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW")
ONE_TASK = {"TextQA": TaskSettings(lt=1, img=0.01, rt=7)}
DROPOUT = 0.1  # so that a curve goes on only where the random state does
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def trainable(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with dropout."""
    folder = tmp_path_factory.mktemp("trainable") / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {f"{place}_dropout_prob": DROPOUT for place in ("embedding", "output", "attention")}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_config(path: Path, model: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "output": str(path.parent / "out"), "codes": str(path.parent.parent / "codes"), "model": str(model),
        "tasks": {task: {} for task in TASKS}, "epochs": 2, "batch_size": 2, "learning_rate": 1e-3,
        "checkpoint_every": 7, "epoch_size": 60, "device": "cpu",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings | changes, allow_unicode=True), encoding="utf-8")
    return path


def run_finetune(config: Path) -> None:
    """In this process; test_published_settings.py runs the command."""
    finetune(FineTuning.from_file(config))


@pytest.fixture(scope="session")
def ready() -> ForkServerContext:
    """Starts processes that have the trainer imported already, which takes seconds of CPU time: once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.finetune.trainer"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SUBMISSION))  # Python 3.11's server preloads without this process's sys.path
        patch.setenv("PYTHONWARNINGS", "ignore")  # of the resource tracker, which finds what the killed ones leave
        forkserver.ensure_running()
    return context


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def curve(out: Path) -> list[tuple[str, ...]]:
    return [tuple(value for key, value in row.items() if key != "seconds") for row in table(out / "loss.csv")]


# --- rows and their order ---


def rows_of(tasks: tuple[str, ...] = TASKS) -> list[TrainingRow]:
    data = SUBMISSION / "training" / "sample_data"
    return [make_row(task, sample) for task in tasks for sample in read_split(data, task, "train")]


def training_rows(folder: Path, rows: list[TrainingRow], codes: Path, **changes: Any) -> TrainingRows:
    model = RudolphModel.from_pretrained(folder)
    cache = ImageCodes(codes, folder / "vqgan", model.config.image_tokens_per_dim)
    images = [row.image for row in rows if row.image is not None]
    cache.encode(images, torch.device("cpu"))
    settings: dict[str, Any] = {"token_share": 0.75, "seed": 0, "length": len(rows)} | changes
    return TrainingRows(
        rows, cache.read(images), model.config, Tokenizer.from_file(folder / "bpe.model"), DEFAULT_WEIGHTS,
        dict.fromkeys(DEFAULT_WEIGHTS, 0.5), **settings,
    )  # fmt: skip


def test_draws_are_balanced_and_functions_of_seed_and_epoch() -> None:
    numbers = {"TextQA": 50, "VisualQA": 3, "TRitW": 7}
    rows = [TrainingRow(task, "", "", None) for task, number in numbers.items() for _ in range(number)]
    draws = Draws(rows, 40, seed=5)
    first = list(draws)
    assert [(epoch, position) for epoch, position, _ in first] == [(0, i) for i in range(40)]
    for start in range(0, 39, 3):
        assert {rows[number].task for _, _, number in first[start : start + 3]} == {"TextQA", "VisualQA", "TRitW"}
    counts = Counter(number for _, _, number in first if rows[number].task == "VisualQA")
    assert len(counts) == 3 and max(counts.values()) - min(counts.values()) <= 1
    assert list(draws) == first
    draws.set_epoch(1)
    assert [number for *_, number in draws] != [number for *_, number in first]
    assert list(Draws(rows, 40, seed=6)) != first


def test_a_row_has_its_tasks_tokens_three_times_of_four(trainable: Path, tmp_path: Path) -> None:
    data = training_rows(trainable, rows_of(), tmp_path)
    config, length = data.config, data.config.l_text_seq_length
    named = 0
    for number, row in enumerate(data.rows):
        item = data[0, number, number]
        left, right = item["ids"][1], item["ids"][config.image_end + 1]
        tokens = TOKENS[row.task]
        own = left == config.special_id(tokens[0])
        named += int(own)
        assert left == config.special_id(tokens[0] if own else "LT_UNK")
        if row.task == "ImageGeneration":
            assert (item["ids"][config.image_end :] == 0).all()
        else:
            assert right == config.special_id(tokens[1] if own else "RT_UNK")
        codes = item["ids"][length : config.image_end]
        assert codes.any() == (row.image is not None)
        assert item["weights"].tolist() == pytest.approx(DEFAULT_WEIGHTS[row.task])
        assert torch.equal(item["ids"], data[0, number, number]["ids"])
    assert 0.65 < named / len(data.rows) < 0.85
    differ = [not torch.equal(data[0, i, i]["ids"], data[1, i, i]["ids"]) for i in range(20)]
    assert any(differ), "epochs differ in tokens"


def test_the_modes_of_pre_training(trainable: Path, tmp_path: Path) -> None:
    rows = rows_of(("ImageCaptioning",))[:1]
    sample = read_split(SUBMISSION / "training" / "sample_data", "ImageCaptioning", "train")[0]
    passage = read_split(SUBMISSION / "training" / "sample_data", "TextQA", "train")[0]
    t2i, i2t, t2t = make_row("T2I", sample), make_row("I2T", sample), make_row("T2T", passage)
    assert (t2i.left, t2i.right, t2i.image) == (sample.answers[0], None, rows[0].image)
    assert (i2t.left, i2t.right, i2t.image) == ("", sample.answers[0], rows[0].image)
    assert f"{t2t.left} {t2t.right}".split() == " ".join(passage.texts).split() and t2t.image is None
    data = training_rows(trainable, [t2i, i2t, t2t], tmp_path, token_share=1.0)
    ids = [data[0, i, i]["ids"] for i in range(3)]
    config = data.config
    left = [config.special_id(name) for name in ("LT_T2I", "LT_I2T", "LT_T2T")]
    assert [int(row[1]) for row in ids] == left
    assert int(ids[1][config.image_end + 1]) == config.special_id("RT_I2T")
    assert not ids[0][config.image_end :].any()


def test_codes_are_computed_once_and_again_where_damaged(trainable: Path, tmp_path: Path) -> None:
    picture = tmp_path / "ёж 🦔.png"
    Image.effect_noise((40, 30), 90).convert("RGB").save(picture)
    codes = ImageCodes(tmp_path / "codes", trainable / "vqgan", 4)
    assert codes.read([picture]) == {}
    codes.encode([picture], torch.device("cpu"))
    path = codes.path(picture)
    before, written = codes.read([picture])[picture], path.stat().st_mtime_ns
    codes.encode([picture], torch.device("cpu"))
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:-7])
    codes.encode([picture], torch.device("cpu"))
    assert np.array_equal(codes.read([picture])[picture], before)
    other = tmp_path / "vqgan"
    shutil.copytree(trainable / "vqgan", other)
    vqgan = VQGAN.from_pretrained(other)
    with torch.no_grad():
        next(vqgan.parameters()).add_(1)
    vqgan.save_pretrained(other)
    assert ImageCodes(tmp_path / "codes", other, 4).path(picture) != path
    picture.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="ёж"):
        codes.encode([picture], torch.device("cpu"))


# --- the model in training ---


def reference(name: str) -> tuple[RudolphModel, torch.Tensor]:
    model = RudolphModel.from_pretrained(REFERENCE / name, dtype=torch.float32)
    with np.load(REFERENCE / name / "reference.npz") as file:
        return model, torch.from_numpy(np.concatenate([file[part] for part in ("left", "image", "right")], axis=1))


class FixedRows(TrainingRows):
    """The same rows in every epoch, without texts or pictures."""

    def __init__(self, ids: torch.Tensor, weights: torch.Tensor) -> None:
        self.ids, self.fixed_weights = ids, weights
        self.rows, self.length, self.seed = [TrainingRow("TextQA", "", None, None)] * len(ids), len(ids), 0

    def __getitem__(self, key: tuple[int, int, int]) -> dict[str, torch.Tensor]:
        number = key[2]
        weights = self.fixed_weights[number]
        return {"ids": self.ids[number], "weights": weights, "task_weight": torch.tensor(0.5)}


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_step_changes_the_loss_as_a_plain_loop_does(name: str, tmp_path: Path) -> None:
    weights = torch.tensor(list(DEFAULT_WEIGHTS.values()))
    model, ids = reference(name)
    count = len(ids)
    weights = weights[torch.arange(count) % len(weights)]
    steps, rate = 3, 2e-3

    plain = reference(name)[0].eval()
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    optimizer = torch.optim.AdamW(plain.parameters(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, final_div_factor=500)
    expected = []
    for _ in range(steps):
        # by hand: each example's weighted mean of its three parts, half of it, mean over the examples
        by_hand = torch.stack([plain.loss(ids[i : i + 1], *weights[i].tolist()).total for i in range(count)])
        loss = 0.5 * by_hand.mean()
        expected.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    for module in model.modules():  # without dropout, though in training
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    stage = Stage(tasks=ONE_TASK, learning_rate=rate, optimizer="adam", epochs=steps)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=count, num_train_epochs=steps,
        max_grad_norm=1.0, report_to="none", save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    trainer = RudolphTrainer(prepare_model(model, stage), stage, arguments, FixedRows(ids, weights))
    trainer.train()
    found = [float(part[0]) for part in trainer.parts]
    assert found == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < expected[0]
    moved = {key: (value - before[key]).abs().max() for key, value in plain.state_dict().items()}
    for key, value in model.state_dict().items():
        apart = (value - plain.state_dict()[key]).abs()
        if key.endswith("query_key_value.bias"):
            # Of the keys' bias softmax sees nothing: its gradient is rounding alone, which Adam makes a whole step of.
            query, _, values = apart.chunk(3)
            apart = torch.cat((query, values))
        assert apart.max() <= 0.05 * moved[key] + 1e-6, key


def test_task_weights_count_by_example() -> None:
    model, ids = reference("a")
    model.eval()
    ids = ids[[0, 1, 0, 1]] if len(ids) < 4 else ids[:4]
    weights = torch.tensor([DEFAULT_WEIGHTS[task] for task in ("TextQA", "VisualQA", "ImageGeneration", "TRitW")])
    by_task = torch.tensor([0.5, 2.0, 0.5, 0.25])
    got = WeightedLoss(model)(ids, weights, by_task)["loss"]
    single = [model.loss(ids[i : i + 1], *weights[i].tolist()).total * by_task[i] for i in range(4)]
    assert got.item() == pytest.approx(torch.stack(single).mean().item(), abs=1e-5)


@pytest.mark.parametrize("group", FREEZE_GROUPS)
def test_a_frozen_group_stays(group: str) -> None:
    model, ids = reference("a")
    groups = {freeze_group(name) for name, _ in model.named_parameters()}
    assert groups == set(FREEZE_GROUPS)
    trained = prepare_model(model, Stage(tasks=ONE_TASK, freeze=(group,)))
    trained(ids[:1], torch.ones(1, 3), torch.ones(1))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (freeze_group(name) == group), name


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model, ids = reference("a")
        trained = prepare_model(model, Stage(tasks=ONE_TASK, gradient_checkpointing=checkpointing)).train()
        torch.manual_seed(3)
        trained(ids[:2], torch.ones(2, 3), torch.ones(2))["loss"].backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed, atol=1e-6)


def test_lora_is_small_and_merged_on_export(trainable: Path, tmp_path: Path) -> None:
    model = RudolphModel.from_pretrained(trainable, dtype=torch.float32)
    stage = Stage(tasks=ONE_TASK, lora_rank=2)
    trained = prepare_model(model, stage)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    assert 0 < sum(p.numel() for p in parameters) < 0.3 * sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(0, 0.3)
    ids = torch.randint(4, 60, (1, model.config.total_seq_length))
    expected = model.eval()(ids).logits
    export_model(model, trained, trainable, tmp_path / "model")
    merged = RudolphModel.from_pretrained(tmp_path / "model").eval()
    assert (merged(ids).logits - expected).abs().max() < 1e-4
    plain = RudolphModel.from_pretrained(trainable, dtype=torch.float32).eval()
    assert (plain(ids).logits - expected).abs().max() > 1e-2


# --- whole runs ---


@pytest.fixture(scope="session")
def uninterrupted(trainable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = write_config(folder / "whole" / "config.yaml", trainable, epochs=3)
    run_finetune(config)
    return folder / "whole"


def test_kill_9_and_the_same_command_give_the_same_curve(
    trainable: Path, uninterrupted: Path, ready: ForkServerContext, tmp_path: Path
) -> None:
    """Killed once between two checkpoints, and once as if it had been killed while it wrote one."""
    expected = curve(uninterrupted / "out")
    assert len(expected) == 90
    config = write_config(tmp_path / "killed" / "config.yaml", trainable, epochs=3)
    out = tmp_path / "killed" / "out"
    for steps, half_written in ((17, False), (50, True)):  # inside of the first epoch and of the second
        process = ready.Process(target=finetune, args=(FineTuning.from_file(config),))
        process.start()
        give_up = time.monotonic() + 500
        while process.is_alive() and time.monotonic() < give_up:
            if (out / "loss.csv").exists() and len((out / "loss.csv").read_bytes().splitlines()) > steps:
                process.kill()
                break
            time.sleep(0.001)
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
        assert len(curve(out)) < len(expected)
        if half_written:
            newest = max(out.glob("finetune/checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
            (newest / "complete").unlink(missing_ok=True)
            (newest / "optimizer.pt").write_bytes(b"half")
            with open(out / "loss.csv", "ab") as file:
                file.write(b"99,1,fine")
    run_finetune(config)
    assert curve(out) == expected
    models = [folder / "finetune" / "model" for folder in (out, uninterrupted / "out")]
    weights = [RudolphModel.from_pretrained(folder).state_dict() for folder in models]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    energy = table(out / "energy.csv")
    assert [row["epoch"] for row in energy if row["complete"] == "1"] == ["1", "2", "3"]
    assert any(row["complete"] == "0" for row in energy), "what the killed parts used"


def test_a_kill_before_the_export_costs_nothing(uninterrupted: Path, trainable: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(uninterrupted, folder)
    shutil.rmtree(folder / "out" / "finetune" / "model")
    run_finetune(write_config(folder / "config.yaml", trainable, epochs=3))
    for name in ("loss.csv", "emission.csv", "energy.csv", "finetune/model/model.safetensors"):
        assert (folder / "out" / name).read_bytes() == (uninterrupted / "out" / name).read_bytes(), name


def test_other_settings_do_not_go_on(uninterrupted: Path, trainable: Path, tmp_path: Path) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(uninterrupted, folder)
    shutil.rmtree(folder / "out" / "finetune" / "model")
    config = write_config(folder / "config.yaml", trainable, epochs=4)
    with pytest.raises(ValueError, match=r"other settings \(epochs\)"):
        finetune(FineTuning.from_file(config))


def test_what_is_done_with_other_settings_is_not_exported_again(
    uninterrupted: Path, trainable: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "whole"
    shutil.copytree(uninterrupted, folder)
    config = write_config(folder / "config.yaml", trainable, epochs=3, learning_rate=5e-4)
    with pytest.raises(ValueError, match=r"other settings \(learning_rate\)"):
        finetune(FineTuning.from_file(config))
    finetune(FineTuning.from_file(write_config(folder / "config.yaml", trainable, epochs=3)))


def test_stages_that_are_done_stay_so_under_another_name_of_the_output(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(SUBMISSION)
    stages = [{"name": "a"}, {"name": "b"}]
    config = write_config(tmp_path / "config.yaml", tmp_path, stages=stages, output=os.path.relpath(tmp_path / "out"))
    first, again = FineTuning.from_file(config), FineTuning.from_file(config, tmp_path / "out")
    assert first.output == again.output and first.stages[1].model != again.stages[1].model
    for stage in first.stages:
        (first.output / stage.name / "model").mkdir(parents=True)
        settings = stage.model_dump(mode="json") | {"processes": 2}
        (first.output / stage.name / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert finetune(again) == first.output / "submission"


@pytest.mark.parametrize(("steps", "share"), [(10, 0.1), (2, 0.5), (20, 0.05), (10, 0.3)])
def test_a_warmup_of_one_step_is_a_warmup(trainable: Path, tmp_path: Path, steps: int, share: float) -> None:
    config = write_config(tmp_path / "config.yaml", trainable, warmup_share=share)
    (stage,) = FineTuning.from_file(config).stages
    trainer = RudolphTrainer.__new__(RudolphTrainer)
    trainer.stage = stage
    trainer.optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = trainer.create_scheduler(steps)
    rates = [schedule.get_last_lr()[0]]
    for _ in range(steps - 1):
        trainer.optimizer.step()
        schedule.step()
        rates += schedule.get_last_lr()
    assert max(rates) <= stage.learning_rate * (1 + 1e-6) and rates[0] < 0.1 * stage.learning_rate
    assert rates[-1] < rates[0]


def test_what_a_run_leaves(uninterrupted: Path, trainable: Path, tmp_path: Path) -> None:
    out = uninterrupted / "out"
    rows, emission = table(out / "loss.csv"), table(out / "emission.csv")
    assert [int(row["step"]) for row in rows] == list(range(1, 91))
    assert [int(row["epoch"]) for row in rows] == [1 + i // 30 for i in range(90)]
    assert max(float(row["learning_rate"]) for row in rows) == pytest.approx(1e-3, rel=0.01)
    first, last = (sum(float(row["loss"]) for row in part) for part in (rows[:10], rows[-10:]))
    assert last < first, "it learns"
    assert [row["epoch"].split(",")[0] for row in emission] == ["epoch: 1", "epoch: 2", "epoch: 3"]
    assert all("TargetValue" in row["experiment_description"] and row["region/country"] == "RU" for row in emission)
    assert len(table(out / "encoded_emission.csv")) == 2 * len(emission)
    for row in table(out / "energy.csv"):
        assert 0 < float(row["cpu_seconds"]) and 0 <= float(row["gap"]) <= 1
        assert float(row["kwh"]) * 3.6e6 >= float(row["cpu_seconds"]) * float(row["cpu_watts_per_core"]) * 0.999
    assert list((out / "tensorboard" / "finetune").glob("events*"))

    submission = out / "submission"
    assert not (submission / "finetune.py").exists() and not (submission / "training").exists()
    assert (submission / "emission.csv").read_bytes() == (out / "emission.csv").read_bytes()
    archive = tmp_path / "submission.zip"
    for arguments in (["pack", str(submission), str(archive)], ["check", str(archive)]):
        assert evaluator(arguments) == 0
    data = tmp_path / "input"
    (data / "images").mkdir(parents=True)
    (data / "input.json").write_text('{"0": [{"type": "text", "content": "сколько будет 2 + 2?"}]}', "utf-8")
    answered = subprocess.run(
        [sys.executable, "run.py", "--input", str(data), "--output", str(tmp_path / "answers")],
        cwd=submission, capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr
    assert "weights/finetuned" in answered.stderr


def test_two_stages_with_validation_by_the_evaluator(
    trainable: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stages = [
        {"name": "pretrain", "tasks": {"T2I": {}, "I2T": {}, "T2T": {}}, "epochs": 1, "freeze": ["norms"]},
        {"name": "tune", "validation_examples": 2, "epochs": 1, "lora_rank": 2, "accumulation": 2},
    ]
    config = write_config(tmp_path / "run" / "config.yaml", trainable, stages=stages, epoch_size=12)
    run_finetune(config)
    out = tmp_path / "run" / "out"
    assert [(row["stage"], row["step"]) for row in table(out / "loss.csv")] == (
        [("pretrain", str(i)) for i in range(1, 7)] + [("tune", str(i)) for i in range(1, 4)]
    )
    emission = table(out / "emission.csv")
    assert ["TargetValue" in row["experiment_description"] for row in emission] == [False, True]
    scores = table(out / "validation.csv")
    assert {row["task"] for row in scores} == set(TASKS) and all(-0.5 <= float(row["score"]) <= 1 for row in scores)
    start = RudolphModel.from_pretrained(trainable, dtype=torch.float32).state_dict()
    middle = RudolphModel.from_pretrained(out / "pretrain" / "model").state_dict()
    assert torch.equal(start["transformer.final_layernorm.weight"], middle["transformer.final_layernorm.weight"])
    assert not torch.equal(start["text_embeddings.weight"], middle["text_embeddings.weight"])
    with caplog.at_level("INFO"):
        finetune(FineTuning.from_file(config))
    assert "is done" in caplog.text, "a second time there is nothing to do"


def launch(processes: int, function: Callable[..., None], *arguments: Any) -> None:
    """What torchrun does with a function instead of a command, whose processes would import all anew."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, start_method="forkserver",
    )  # fmt: skip
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        elastic_launch(config, function)(*arguments)
    finally:  # torch leaves its own
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)


def test_two_processes_give_the_gradients_of_one(model_folder: Path, ready: ForkServerContext, tmp_path: Path) -> None:
    gradients, curves = [], []
    for processes in (1, 2):
        config = write_config(
            tmp_path / str(processes) / "config.yaml", model_folder, epochs=1, epoch_size=12, batch_size=4 // processes
        )
        saved = tmp_path / f"{processes}.pt"
        if processes == 1:
            save_gradients(config, saved)
        else:
            launch(processes, save_gradients, config, saved)
        gradients.append(torch.load(saved))
        curves.append([float(row["loss"]) for row in table(tmp_path / str(processes) / "out" / "loss.csv")])
    largest = max(float(gradient.abs().max()) for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        other = gradients[1][name.removeprefix("module.")]
        assert (gradient - other).abs().max() < 1e-5 * largest, name
    assert curves[0] == pytest.approx(curves[1], rel=1e-4) and len(curves[0]) == 3


# --- CO2 ---


def test_carbon_touches_its_folder_alone_and_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import eco2ai

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", offline)
    package = Path(eco2ai.__file__).parent
    before = {path: path.stat().st_mtime_ns for path in package.rglob("*") if "__pycache__" not in path.parts}
    carbon = TrainingCarbon(tmp_path / "ё 🌱", "обучение", True, "RU")
    carbon.start(3, cpu_seconds())
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass
    carbon.read(cpu_seconds())
    assert [row["complete"] for row in table(tmp_path / "ё 🌱" / "energy.csv")] == ["0"]
    carbon.end_epoch(cpu_seconds(), 1.25)
    carbon.stop()
    assert {path: path.stat().st_mtime_ns for path in package.rglob("*") if "__pycache__" not in path.parts} == before
    (row,) = table(tmp_path / "ё 🌱" / "emission.csv")
    assert row["epoch"] == "epoch: 3, loss: 1.2500, " and row["experiment_description"] == "обучение, TargetValue"
    (reading,) = table(tmp_path / "ё 🌱" / "energy.csv")
    assert float(reading["cpu_seconds"]) >= 0.5 and reading["complete"] == "1"
    a, b = float(reading["kwh"]), float(reading["eco2ai_kwh"])
    assert float(reading["gap"]) == pytest.approx(abs(a - b) / max(a, b))
    assert sorted(path.name for path in (tmp_path / "ё 🌱").iterdir()) == [
        "emission.csv", "encoded_emission.csv", "energy.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("step", [-7200.0, 7200.0, 400 * 86400.0])
def test_a_clock_that_is_set_changes_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    real, began = time.time, time.monotonic()
    carbon = TrainingCarbon(tmp_path, "обучение", True, "RU")
    carbon.start(1, cpu_seconds())
    time.sleep(0.3)
    monkeypatch.setattr(time, "time", lambda: real() + step)
    carbon.end_epoch(cpu_seconds(), 1.0)
    time.sleep(0.2)
    monkeypatch.setattr(time, "time", real)
    carbon.end_epoch(cpu_seconds(), 0.5)
    carbon.stop()
    took = time.monotonic() - began
    for name, column in (("emission.csv", "duration(s)"), ("energy.csv", "seconds")):
        first, second = (float(row[column]) for row in table(tmp_path / name))
        assert 0.3 <= first <= took and 0.2 <= second <= took
    assert all(float(row["CO2_emissions(kg)"]) >= 0 for row in table(tmp_path / "emission.csv"))
    assert all(float(row["kwh"]) >= 0 for row in table(tmp_path / "energy.csv"))


@pytest.mark.parametrize("kwh", [-0.5, 1e6, math.nan])
def test_a_row_that_cannot_be_gets_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture, kwh: float) -> None:
    """An epoch's alone: the next one has its row, and energy.csv has both."""
    carbon = TrainingCarbon(tmp_path, "обучение", True, "RU")
    carbon.start(1, cpu_seconds())
    carbon._tracker._consumption = kwh
    carbon.end_epoch(cpu_seconds(), 1.0)
    assert "обучение, epoch 1: eco2AI's reading cannot be" in caplog.text
    assert not (tmp_path / "emission.csv").exists()
    carbon.end_epoch(cpu_seconds(), 0.5)
    carbon.stop()
    (row,) = table(tmp_path / "emission.csv")
    assert row["epoch"] == "epoch: 2, loss: 0.5000, " and 0 <= float(row["power_consumption(kWh)"]) < 1
    assert "epoch 1" not in (tmp_path / "encoded_emission.csv").read_text("utf-8")
    first, second = table(tmp_path / "energy.csv")
    assert (first["eco2ai_kwh"], first["gap"]) == ("", "") and float(second["eco2ai_kwh"]) >= 0


def test_without_eco2ai_training_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "emission.csv").write_text("not,a,table\n1\n", "utf-8")
    carbon = TrainingCarbon(tmp_path, "x", False, "RU")
    carbon.start(1, cpu_seconds())
    carbon.end_epoch(cpu_seconds(), 1.0)
    carbon.stop()
    assert "eco2AI failed" in caplog.text
    assert (tmp_path / "emission.csv").read_text("utf-8") == "not,a,table\n1\n", "what was there stays"
    (row,) = table(tmp_path / "energy.csv")
    assert row["complete"] == "1" and row["eco2ai_kwh"] == ""


# --- one training a folder ---


def test_a_second_training_on_a_folder_is_refused_until_the_first_is_dead(trainable: Path, tmp_path: Path) -> None:
    run = FineTuning.from_file(write_config(tmp_path / "run" / "config.yaml", trainable))
    run.output.mkdir()
    holding = "import sys, time\nfrom pathlib import Path\nfrom training.processes import locked\n"
    holding += "with locked(Path(sys.argv[1])):\n    print(flush=True)\n    time.sleep(600)"
    environment = ENVIRONMENT | {"PYTHONPATH": str(SUBMISSION)}
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(run.output)], env=environment, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None and first.stdout.readline()
        with pytest.raises(ValueError, match=rf"another training writes to it \(process {first.pid} on "):
            finetune(run)
        assert [path.name for path in run.output.iterdir()] == [LOCK]  # nothing was touched
        first.kill()
    with locked(run.output):
        pass


# --- validation ---


@pytest.mark.parametrize(
    ("asked", "numbers", "said"),
    [
        (2, {"TextQA": 2, "TRitW": 2}, "examples is 2, and TextQA has 2: chance alone moves its score by up to 0.71"),
        (200, {"TextQA": 200, "TRitW": 16}, "is 200, and TRitW has 16: chance alone moves its score by up to 0.25"),
        (1, {"ImageGeneration": 1}, "ImageGeneration has 1 and no score; FID needs 2"),
        (100, {"TextQA": 100, "TRitW": 100}, ""),
    ],
)  # fmt: skip
def test_few_validation_examples_warn(
    asked: int, numbers: dict[str, int], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_chance(asked, [Sample(task, str(i), (), ("да",)) for task, n in numbers.items() for i in range(n)])
    assert said in caplog.text and bool(caplog.text) == bool(said)


# --- settings ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be a whole number, 1 or more"),
        ({"learning_rate": "2e-5"}, "learning_rate is '2e-5'; it must be a number above 0"),
        ({"learning_rate": "3e-4"}, "as a number of YAML it is written 3.0e-4, without quotes"),
        ({"clip": "1.5e3"}, "as a number of YAML it is written 1.5e+3, without quotes"),
        ({"weight_decay": "0.5"}, "as a number of YAML it is written 0.5, without quotes"),
        ({"tasks": {"TextQA": {"rt": "7e0"}}}, "rt is '7e0'; it must be a number, 0 or more; as a number"),
        ({"config": {"route_threshold": "5e-1"}}, "it must be a number from 0 to 1; as a number of YAML"),
        ({"learing_rate": 1e-5}, "key 'learing_rate' is unknown; did you mean learning_rate? allowed are tasks"),
        ({"tasks": {"TextQa": {}}}, "tasks: key 'TextQa' is unknown; did you mean TextQA? allowed are TextQA"),
        ({"tasks": {"TextQA": False}}, "tasks: all are off"),
        ({"freeze": list(FREEZE_GROUPS)}, "freeze names all groups"),
        ({"tasks": {"TextQA": {"lt": -1}}}, "tasks: TextQA: lt is -1"),
        ({"freeze": "norms"}, "must be a list of embeddings, norms, attention, feed_forward, other"),
        ({"freeze": ["norm"]}, "freeze[0] is 'norm'; it must be one of embeddings, norms"),
        ({"freeze": ["norms"], "lora_rank": 4}, "freeze and lora_rank"),
        ({"country": "ZZ"}, "country is 'ZZ'"),
        ({"output": None}, "output is None"),
        ({"output": "weights/x"}, "it must not lie in submission"),
        ({"stages": [{"name": "a"}, {"name": "a"}]}, "two stages have the same name"),
        ({"name": "../x"}, "name is '../x'"),
        ({"precision": "fp16"}, "precision is 'fp16'; it must be one of auto"),
        ({"config": {"image_candidates": 0}}, "config: image_candidates is 0; it must be a whole number from 1"),
        ({"config": {"model": "weights/nano"}}, "config: key 'model' is unknown"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", tmp_path, **changes)
    with pytest.raises(ValueError, match="config.yaml") as error:
        FineTuning.from_file(config)
    assert message in str(error.value)


def test_all_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    """What holds for all stages once, what is a stage's own with its number."""
    stages = [{"name": "a", "precision": "fp16"}, {"name": "b", "tasks": {"TRitW": {"lt": "1"}}}]
    config = write_config(tmp_path / "config.yaml", tmp_path, stages=stages, epochs=0, seed=True, gpu=1, device="tpu")
    with pytest.raises(ValueError) as error:
        FineTuning.from_file(config)
    faults = str(error.value).removeprefix(f"{config}: ").split("; ")
    assert [fault for fault in faults if not fault.startswith(("it must", "allowed", "as a number", "did you"))] == [
        "key 'gpu' is unknown", "epochs is 0", "stages[0]: precision is 'fp16'", "seed is True",
        "stages[1]: tasks: TRitW: lt is '1'", "device is 'tpu'",
    ]  # fmt: skip


def test_an_exported_config_differs_in_what_is_asked_for_alone(tmp_path: Path) -> None:
    for name in ("model", "out"):
        (tmp_path / name).mkdir()
    changes = {
        "dtype": "auto", "image_candidates": 1, "cut_working": False, "max_answer_tokens": 7,
        "text_sampling": {"top_k": 5, "top_p": 0.5},
    }  # fmt: skip
    export_submission(tmp_path / "model", tmp_path / "out", tmp_path / "submission", changes)
    before, after = (
        yaml.safe_load((folder / "config.yaml").read_text("utf-8")) for folder in (SUBMISSION, tmp_path / "submission")
    )
    assert after == before | changes | {"model": "weights/finetuned"}
    text = (tmp_path / "submission" / "config.yaml").read_text("utf-8")
    assert text.count("#") == (SUBMISSION / "config.yaml").read_text("utf-8").count("#")  # comments stay


@pytest.mark.parametrize("path", sorted((SUBMISSION / "training" / "configs").glob("*")), ids=lambda path: path.stem)
def test_shipped_settings_are_right(path: Path) -> None:
    run = FineTuning.from_file(path)
    assert run.stages and run.country == "RU"
    for stage in run.stages:
        for name, task in stage.tasks.items():
            assert (task.lt, task.img, task.rt) == DEFAULT_WEIGHTS[name]


def test_data_that_is_not_there_is_named(
    trainable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = write_config(tmp_path / "run" / "config.yaml", trainable, data=str(tmp_path / "нет"))
    command = str(SUBMISSION / "finetune.py")
    monkeypatch.setattr(sys, "argv", [command, str(config)])
    monkeypatch.setenv(cores.SPINS, str(cores.SPIN_COUNT))  # the command would set it for the tests to come
    with pytest.raises(SystemExit) as end:
        runpy.run_path(command, run_name="__main__")
    assert end.value.code == 2 and "нет" in caplog.text and "Traceback" not in caplog.text


def test_one_of_torchruns_processes_ends_at_once_with_its_code_and_what_is_registered_done() -> None:
    code = "import atexit\nfrom training.processes import exit_now\n"
    code += "class Left:\n    def __del__(self):\n        print('finalised')\n"
    code += "left = Left()\natexit.register(print, 'registered')\nexit_now(3)"
    for elastic, expected in (({}, ["registered", "finalised"]), ({"TORCHELASTIC_RUN_ID": "1"}, ["registered"])):
        done = subprocess.run(
            [sys.executable, "-c", code], env=ENVIRONMENT | {"PYTHONPATH": str(SUBMISSION)} | elastic,
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout.split(), done.stderr) == (3, expected, "")
