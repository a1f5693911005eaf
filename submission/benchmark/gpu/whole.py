"""Whole: run.py's own path on 2.7B for the six open tasks of sample_input, and the published loop beside it.

The weights are random, so routes and lengths of answers are given by the settings: the form of a question decides
between text and image, and an answer has `ANSWER` ids. The tokenizer is nano's, with ids added up to 16384.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from benchmark.gpu.card import is_cuda, joules, wait
from benchmark.gpu.fast import TINY, TINY_VQGAN, random_model
from benchmark.gpu.report import Report
from benchmark.measure import NANO, OPEN_TASKS, SAMPLE_INPUT, published_answers, questions
from rudolph import VQGAN, RudolphConfig
from rudolph.answer import Question, Rudolph
from rudolph.batches import row_bytes, rows_that_fit
from rudolph.config import SIZES
from rudolph.memory import free_bytes
from rudolph.settings import Settings
from rudolph.vqgan import SBER_GUMBEL_F8

SUBMISSION = Path(__file__).resolve().parents[2]
ANSWER = 16  # ids; those of nano's longest answers, descriptions, have 20
PRIVATE_USE = 0xE000  # characters that no text has, for ids that nano's tokenizer lacks
GOAL_FASTER, GOAL_JOULES = 20.0, 0.1
MOST_PUBLISHED = 4  # questions a task that the published loop answers at once
ROOM_FOR_ROWS = 8  # left on the card where batches of all rows are to be halved
RUN_SECONDS, LEAST_RUN_SECONDS = 150.0, 30.0

SETTINGS = {
    "dtype": "bfloat16", "fallback": False, "listed_options": False, "cut_working": False,
    "max_answer_tokens": ANSWER, "image_candidates": 1,
}  # fmt: skip


def run(report: Report, device: str, small: bool) -> None:
    """Load, answer, the published loop, run.py as a process, batches that do not fit."""
    logging.getLogger("rudolph").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        write_model(folder, device, small)
        start = time.monotonic()
        rudolph = Rudolph.from_pretrained(folder, device, "bfloat16")
        wait(device)
        report.figure("load_s", time.monotonic() - start)
        report.figure("weights_bytes", sum(p.nbytes for p in rudolph.model.parameters()))
        asked = a_task(2) if small else questions()
        settings = Settings(model=str(folder), **SETTINGS)  # type: ignore[arg-type]
        report.figure("batch_size", rows_that_fit(rudolph.model))
        rudolph.answer(asked[:: max(1, len(asked) // 12)], settings)  # graphs and libraries warm up
        _engine(report, rudolph, asked, settings, device)
        _published(report, rudolph, device, 1 if small else MOST_PUBLISHED)
        _halving(report, rudolph, asked, settings, device)
        del rudolph
        _run_py(report, folder, few(Path(temporary)) if small else SAMPLE_INPUT, device, Path(temporary))


def write_model(folder: Path, device: str, small: bool) -> None:
    """A model folder of random weights of 2.7B in bfloat16."""
    config = RudolphConfig(**(TINY if small else SIZES["2.7B"]))
    random_model(config, device).save_pretrained(folder, max_shard_size="20GB")
    torch.manual_seed(0)
    VQGAN(TINY_VQGAN if small else SBER_GUMBEL_F8).save_pretrained(folder / "vqgan")
    header, *lines = (NANO / "bpe.model").read_text(encoding="ascii").splitlines()
    characters, rules = map(int, header.split())
    ids = range(characters + rules + 4, config.bpe_vocab_size)
    added = [f"{PRIVATE_USE + number} {id}" for number, id in enumerate(ids)]
    text = [f"{characters + len(added)} {rules}", *lines[:characters], *added, *lines[characters:]]
    (folder / "bpe.model").write_text("\n".join(text) + "\n", encoding="ascii")


def a_task(count: int) -> list[Question]:
    """That many questions of each open task."""
    tasks = json.loads((SAMPLE_INPUT / "sample_ids.json").read_text(encoding="utf-8"))
    taken: dict[int, list[Question]] = {}
    for question in questions():
        taken.setdefault(tasks[question.id], []).append(question)
    return [question for number in range(OPEN_TASKS) for question in taken[number][:count]]


def _engine(report: Report, rudolph: Rudolph, asked: list[Question], settings: Settings, device: str) -> None:
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats()
    stages: dict[str, float] = {}
    last = time.monotonic()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        stages[stage] = stages.get(stage, 0.0) + time.monotonic() - last
        last = time.monotonic()

    before, start = joules(device), time.monotonic()
    answers = rudolph.answer(asked, settings, progress)
    wait(device)
    seconds, after = time.monotonic() - start, joules(device)
    texts = sum(answer.text is not None for answer in answers)
    images = sum(answer.image is not None for answer in answers)
    report.check("every question is answered", texts + images >= len(asked), f"{texts} texts, {images} images")
    report.figure(
        "engine",
        {"questions": len(asked), "seconds": seconds, "stages": stages, "answers_a_second": len(asked) / seconds,
         "joules_an_answer": None if before is None or after is None else (after - before) / len(asked),
         "peak_bytes": torch.cuda.max_memory_allocated() if is_cuda(device) else None,
         "texts": texts, "images": images},
    )  # fmt: skip
    print(f"  engine: {len(asked)} questions in {seconds:.1f} s: "
          + ", ".join(f"{stage} {spent:.1f} s" for stage, spent in stages.items()), flush=True)  # fmt: skip


def few(temporary: Path) -> Path:
    """An input folder with one question of each open task."""
    folder, ids = temporary / "input", {question.id for question in a_task(1)}
    shutil.copytree(SAMPLE_INPUT / "images", folder / "images")
    entries = json.loads((SAMPLE_INPUT / "input.json").read_text(encoding="utf-8"))
    chosen = {id: content for id, content in entries.items() if id in ids}
    (folder / "input.json").write_text(json.dumps(chosen), encoding="utf-8")
    return folder


def _published(report: Report, rudolph: Rudolph, device: str, most: int) -> None:
    """One question of each task, then twice as many as long as the part's time allows; the largest number counts."""
    engine = report.found["figures"]["engine"]
    rudolph.model.release_step_graphs()
    count, seconds = 1, 0.0
    while count == 1 or (count <= most and report.left() > 2.5 * seconds + RUN_SECONDS / 3):
        asked = a_task(count)
        before, start = joules(device), time.monotonic()
        published_answers(rudolph, asked, len(asked))
        wait(device)
        seconds, after = time.monotonic() - start, joules(device)
        faster = seconds / len(asked) * engine["answers_a_second"]
        found = {"questions": len(asked), "seconds": seconds, "answers_a_second": len(asked) / seconds,
                 "engine_times_faster": faster}  # fmt: skip
        if before is not None and after is not None:
            found["joules_an_answer"] = (after - before) / len(asked)
        report.figure("published", found)
        print(f"  published: {len(asked)} questions in {seconds:.1f} s, engine {faster:.1f}x as fast", flush=True)
        count *= 2
    if not is_cuda(device):
        return
    report.goal("six tasks, times as fast as the published loop", faster, GOAL_FASTER, at_most=False)
    if engine["joules_an_answer"] is not None and "joules_an_answer" in found:
        share = engine["joules_an_answer"] / found["joules_an_answer"]
        report.goal("six tasks, share of the published loop's joules", share, GOAL_JOULES, at_most=True)


def _halving(report: Report, rudolph: Rudolph, asked: list[Question], settings: Settings, device: str) -> None:
    """With room for a few rows only, batches of all are halved until they fit, and every question is answered."""
    if not is_cuda(device):
        return
    rudolph.model.release_step_graphs()
    torch.cuda.empty_cache()
    total = torch.cuda.mem_get_info()[1]
    keep = torch.cuda.memory_allocated() + ROOM_FOR_ROWS * row_bytes(rudolph.model) + 2 * 2**30
    some = [question for question in asked if question.images][:24]
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("rudolph").addHandler(handler)
    torch.cuda.set_per_process_memory_fraction(min(1.0, keep / total))
    try:
        auto = rows_that_fit(rudolph.model)
        answers = rudolph.answer(some, Settings(**vars(settings) | {"batch_size": len(some)}))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        logging.getLogger("rudolph").removeHandler(handler)
    halved = [message for message in messages if "do not fit" in message]
    answered = sum(answer.text is not None for answer in answers)
    report.figure("halving", {"rows_asked": len(some), "rows_by_free_memory": auto, "log": halved,
                              "free_bytes": free_bytes(rudolph.model.device)})  # fmt: skip
    report.check("batches that do not fit are halved", bool(halved) and answered == len(some),
                 f"{answered} of {len(some)} answered; {halved[-1:] or 'none was halved'}")  # fmt: skip


def _run_py(report: Report, folder: Path, input: Path, device: str, temporary: Path) -> None:
    """run.py as the leaderboard starts it: a process, from its first line to the last file."""
    config = temporary / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | {"model": str(folder)}), encoding="utf-8")
    command = [sys.executable, str(SUBMISSION / "run.py"), "--input", str(input), "--config", str(config)]
    command += ["--output", str(temporary / "output"), "--device", "cuda" if is_cuda(device) else "cpu"]
    limit = min(RUN_SECONDS, report.left() - 5)
    if limit < LEAST_RUN_SECONDS:
        report.note(f"run.py was not run: {max(0, limit):.0f} s were left")
        return
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=SUBMISSION, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        report.check("run.py answers its input", False, f"it did not end within {limit:.0f} s")
        return
    seconds = time.monotonic() - start
    path = temporary / "output" / "predictions.json"
    entries = len(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else 0
    log = done.stderr.replace(str(temporary), "…").splitlines()[-12:]
    report.figure("run_py", {"seconds": seconds, "entries": entries, "log": log})
    report.check("run.py answers its input", done.returncode == 0 and entries > 0,
                 f"exit code {done.returncode}, {entries} entries in {seconds:.1f} s")  # fmt: skip
