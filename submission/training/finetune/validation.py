"""Scores of a model in training, by the evaluator on examples of `val`."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence

import torch

from contract import IMAGE_FOLDER, PREDICTIONS_NAME
from rudolph import VQGAN, RudolphModel, Tokenizer
from rudolph.answer import Question, Rudolph
from rudolph.images import save_jpeg
from rudolph.settings import Settings
from training.data_format import FOLDERS, Sample, write_evaluation_data
from training.finetune.config import SUBMISSION, FineTuning, Stage
from training.finetune.data import read_task
from training.finetune.tables import VALIDATION, VALIDATION_COLUMNS, rewrite

log = logging.getLogger(__name__)

REPOSITORY = SUBMISSION.parent
ENOUGH_EXAMPLES = 100  # of a task, to validate on


class Validation:
    """Scores of the model on examples of `val`, by the evaluator's own metrics through its command line."""

    def __init__(self, run: FineTuning, stage: Stage, model: RudolphModel, samples: Sequence[Sample]) -> None:
        self.run, self.stage, self.model, self.samples = run, stage, model, samples
        self.folder = run.output / stage.name / "validation"

    def __call__(self, step: int, epoch: int) -> None:
        """Adds rows to validation.csv. A fault of the evaluator is a warning: training goes on."""
        shutil.rmtree(self.folder, ignore_errors=True)
        write_evaluation_data(self.samples, self.folder / "data")
        source = SUBMISSION / (self.stage.model)
        rudolph = Rudolph(
            self.model, VQGAN.from_pretrained(source / "vqgan").to(self.model.device),
            Tokenizer.from_file(source / "bpe.model"),
        )  # fmt: skip
        questions = [
            Question(f"{FOLDERS[sample.task]}-{sample.id}", sample.texts, sample.images) for sample in self.samples
        ]
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            answers = rudolph.answer(questions, Settings.from_dict({**self.run.config, "seed": self.stage.seed}))
        output = self.folder / "output"
        predictions: dict[str, list[dict[str, str]]] = {}
        for number, made in enumerate(answers):
            predictions[made.id] = [] if made.text is None else [{"type": "text", "content": made.text}]
            if made.image is not None:
                save_jpeg(made.image, output / f"{IMAGE_FOLDER}/{number}.jpg")
                predictions[made.id].append({"type": "image", "content": f"{IMAGE_FOLDER}/{number}.jpg"})
        output.mkdir(exist_ok=True)
        (output / PREDICTIONS_NAME).write_text(json.dumps(predictions, ensure_ascii=False), encoding="utf-8")
        scores = self.folder.resolve() / "scores.json"
        command = [sys.executable, "-m", "evaluator", "score", str(output.resolve())]
        command += ["--data", str((self.folder / "data").resolve()), "--json", str(scores), "--no-report"]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        if not scores.exists():
            log.warning("validation: the evaluator failed with %d: %s", done.returncode, done.stderr.strip()[-500:])
            return
        rows = []
        for task in json.loads(scores.read_text(encoding="utf-8"))["tasks"].values():
            if task["score"] is None:
                log.warning("validation: %s has no score: %s", task["name"], task["error"])
            else:
                rows.append([step, epoch, self.stage.name, task["name"], task["score"]])
        rewrite(self.run.output / VALIDATION, VALIDATION_COLUMNS, self.stage.name, step - 1, rows)
        log.info("validation: %s", ", ".join(f"{name} {score:.4f}" for *_, name, score in rows))


def warn_of_chance(asked: int, samples: Sequence[Sample]) -> None:
    """A score in 0..1 of n examples is off by up to 1 / sqrt(n) in 95 of 100 cases."""
    numbers = Counter(sample.task for sample in samples)
    task, few = min(numbers.items(), key=lambda item: item[1])
    if few < ENOUGH_EXAMPLES:
        log.warning(
            "validation_examples is %d, and %s has %d: chance alone moves its score by up to %.2f; from %d on by %.2f",
            asked, task, few, min(1.0, few**-0.5), ENOUGH_EXAMPLES, ENOUGH_EXAMPLES**-0.5,
        )  # fmt: skip
    if numbers["ImageGeneration"] == 1:
        log.warning("validation_examples is %d: ImageGeneration has 1 and no score; FID needs 2", asked)


def make_validation(run: FineTuning, stage: Stage, model: RudolphModel) -> Validation | None:
    """The stage's validation; None where none is asked for, or nothing is there to validate on or with."""
    if not stage.validation_examples:
        return None
    if not (REPOSITORY / "evaluator").is_dir():
        log.warning("no validation: there is no evaluator in %s", REPOSITORY)
        return None
    samples: list[Sample] = []
    for name, task in stage.tasks.items():
        if name in FOLDERS:
            answered = [s for s in read_task(SUBMISSION / stage.data, name, task, "val") if s.is_answered]
            samples += answered[: stage.validation_examples]
    if samples:
        warn_of_chance(stage.validation_examples, samples)
    else:
        log.warning("no validation: the tasks have no examples in val")
        return None
    return Validation(run, stage, model, samples)
