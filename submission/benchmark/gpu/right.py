"""Right: what a GPU computes is what the published code and a CPU compute.

On the published reference models in float32 without TF32: logits, losses and greedy sequences, by every path of the
engine; then how far bfloat16 goes its own way; the VQGAN; and nano's answers on both devices.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import deque
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.gpu.report import Report
from benchmark.measure import NANO, SAMPLE_INPUT, questions
from rudolph import VQGAN, RudolphModel
from rudolph.answer import Answer, Rudolph
from rudolph.config import BOS, EOS
from rudolph.generate import Begun, begin_text, generate_image, generate_refilled, generate_text
from rudolph.graphs import GraphCache, StepGraphs, use_step_graphs_
from rudolph.images import load_image, preprocess
from rudolph.sampling import GREEDY, IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, kernel, sample_by_sorting
from rudolph.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
REFERENCES = ROOT / "tests" / "data"
MODELS = ("a", "b")
LOSS_WEIGHTS = {"t2i": (1, 7, 1), "qa": (1, 0.01, 7), "gen": (1, 7, 0.01)}  # lt, img, rt
LOSSES = ("loss", "l_text_loss", "image_loss", "r_text_loss")
TOLERANCE = 1e-3
BFLOAT16_MEAN = 0.05  # of logits of the reference models, whose largest are near 5
ROWS = 20  # more than the largest bucket that is a power of two
LATENTS_SECONDS = 120
DRAWS, SAME_DRAWS = 2000, 0.99  # where two ids meet, rounding of the sums decides: then it is the next one
NEXT = 2  # places apart in the order of the logits, of which rounding may take either


def run(report: Report, device: str, small: bool) -> None:
    """All of it, the most important first."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in MODELS:
        _reference(report, name, device, small)
    _draws(report, device)
    _vqgan(report, device, small)
    _nano(report, device, small)
    _latents(report, device)


def load(folder: Path, device: str, dtype: torch.dtype = torch.float32) -> tuple[RudolphModel, dict[str, Tensor]]:
    """A reference model and the vectors that the published code gives for it."""
    with np.load(folder / "reference.npz") as file:
        vectors = {key: torch.from_numpy(np.asarray(file[key])).to(device) for key in file}
    model: Any = RudolphModel.from_pretrained(folder, dtype=dtype)
    return model.to(device).eval(), vectors


@torch.no_grad()
def _reference(report: Report, name: str, device: str, small: bool) -> None:
    model, vectors = load(REFERENCES / "rudolph" / name, device)
    ids = torch.cat([vectors[part] for part in ("left", "image", "right")], dim=1)
    left_image = ids[:, : model.config.image_end]
    for key, given in (("logits", ids), ("logits_left_image", left_image)):
        off = float((model(given).logits - vectors[key]).abs().max())
        report.check(f"{name}: {key}", off < TOLERANCE, f"off by {off:.1e}")
    worst = 0.0
    for kind, weights in LOSS_WEIGHTS.items():
        for got, part in zip(model.loss(ids, *weights), LOSSES, strict=True):
            worst = max(worst, float((got - vectors[f"{part}_{kind}"]).abs()))
    worst = max(worst, float((model.loss(left_image, *LOSS_WEIGHTS["gen"]).total - vectors["loss_gen_noright"]).abs()))
    report.check(f"{name}: losses", worst < TOLERANCE, f"off by {worst:.1e}")

    paths: dict[str, tuple[bool, bool] | None] = {"plain": None, "steps": (False, False)}  # capture, fuse
    if device != "cpu":
        paths |= {"graphs of PyTorch's operations": (True, False), "graphs of Triton's kernels": (True, True)}
    for path, how in paths.items():
        model.step_graphs = None
        if how is not None:
            use_step_graphs_(model, *how)
        _sequences(report, f"{name}, {path}", model, vectors, (1, ROWS) if small else (1, 2, 5, ROWS, 4))
        if how is None or not how[0]:
            continue
        graphs = model.step_graphs
        assert isinstance(graphs, StepGraphs)
        made = f"{graphs.captured} graphs, {'Triton' if graphs.fused else 'PyTorch'}'s"
        report.check(f"{name}, {path}: are made", graphs.captured > 0 and graphs.fused == how[1], made)
        _candidates(report, f"{name}, {path}", model, vectors)
        if name == MODELS[0]:
            _rows_and_ends(report, f"{name}, {path}", model, vectors)

    half, _ = load(REFERENCES / "rudolph" / name, device, torch.bfloat16)
    off = float((half(ids).logits.float() - vectors["logits"]).abs().mean())
    report.check(f"{name}: bfloat16 logits", off < BFLOAT16_MEAN, f"off by {off:.1e} on average")
    same = (half(ids).logits.argmax(-1) == vectors["logits"].argmax(-1)).float().mean()
    report.figure(f"bfloat16/{name}/greedy_ids_of_float32", float(same))


def _sequences(
    report: Report, name: str, model: RudolphModel, vectors: dict[str, Tensor], counts: tuple[int, ...]
) -> None:  # fmt: skip
    """Greedy sequences by one path, of the vectors' rows and of other numbers of rows."""
    prefix = right_prefix(model)
    wrong = []
    for rows in (len(vectors["left"]), *counts):
        take = torch.arange(rows, device=model.device) % len(vectors["left"])
        if not torch.equal(generate_image(model, vectors["left"][take], GREEDY), vectors["greedy_image"][take]):
            wrong.append(f"image with {rows} rows")
        for key, image in (("given", vectors["image"]), ("zeros", torch.zeros_like(vectors["image"]))):
            expected = vectors[f"greedy_right_{key}"][take][:, 2:].tolist()
            left = vectors["left"][take]
            if generate_text(model, left, image[take], prefix, GREEDY, stop=False) != expected:
                wrong.append(f"text, image {key}, with {rows} rows")
            _, cache = model.prefill(left, past_image=True)
            if generate_text(model, cache, image[take], prefix, GREEDY, stop=False) != expected:
                wrong.append(f"text after its left text, image {key}, with {rows} rows")
            del cache
    report.check(f"{name}: greedy sequences", not wrong, ", ".join(wrong) or "those of the published code")


def _candidates(report: Report, name: str, model: RudolphModel, vectors: dict[str, Tensor]) -> None:
    """Candidates of one request read its left text together: one, two, and more than a program reads it for."""
    branches = torch.tensor([1] * 18 + [0] + [2, 2], device=model.device)
    found = generate_image(model, model.prefix(vectors["left"]), GREEDY, branches=branches)
    same = int((found == vectors["greedy_image"][branches]).all(1).sum())
    report.check(f"{name}: candidates", same == len(branches), f"{same} of {len(branches)} are the published images")


def _rows_and_ends(report: Report, name: str, model: RudolphModel, vectors: dict[str, Tensor]) -> None:
    """Rows that end leave their bucket; two caches at once; what an earlier sequence left does no harm."""
    take = torch.arange(ROWS, device=model.device) % len(vectors["left"])
    left, image = vectors["left"][take], vectors["image"][take]
    allowed = torch.zeros(model.config.bpe_vocab_size, dtype=torch.bool, device=model.device)
    allowed[[EOS, 10, 11, 12]] = True  # rows end at every length
    rest = (right_prefix(model), Sampling(temperature=3.0))
    graphs, model.step_graphs = model.step_graphs, None
    expected = generate_text(model, left, image, *rest, seeds=range(ROWS), allowed=allowed)
    model.step_graphs = graphs
    found = generate_text(model, left, image, *rest, seeds=range(ROWS), allowed=allowed)
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    report.check(f"{name}: rows that end", same == ROWS, f"{same} of {ROWS} sampled texts are those of plain steps")
    refilled = texts_refilled(model, left, image, right_prefix(model), rest[1], ROWS // 3, allowed)
    same = sum(refilled[row] == ids for row, ids in enumerate(expected))
    report.check(f"{name}: rows that are refilled", same == ROWS, f"{same} of {ROWS} sampled texts are those")

    _, first = model.prefill(vectors["left"])
    _, second = model.prefill(vectors["left"])
    alone = isinstance(first, GraphCache) and not isinstance(second, GraphCache)
    same_image = torch.equal(generate_image(model, vectors["left"], GREEDY), vectors["greedy_image"])
    report.check(f"{name}: two caches at once", alone and same_image, "the second has a storage of its own")
    del first, second
    _, cache = model.prefill(left)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(torch.nan)
    del cache
    same_image = torch.equal(generate_image(model, vectors["left"], GREEDY), vectors["greedy_image"])
    report.check(f"{name}: what was left in the storage", same_image, "does no harm")


def texts_refilled(
    model: RudolphModel, left: Tensor, image: Tensor, prefix: Tensor, sampling: Sampling, places: int, allowed: Tensor
) -> dict[int, list[int]]:
    """What `generate_text` makes with the rows' numbers as seeds, by row, `places` of them at a time."""
    waiting = deque(range(len(left)))

    def more(count: int) -> Begun | None:
        rows = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        return Begun(rows, rows, begin_text(model, left[rows], image[rows], prefix)) if rows else None

    start = model.config.image_end + len(prefix)
    made = generate_refilled(model, places, start, more, sampling, allowed=allowed)
    return dict(row for ended in made for row in ended)


def _draws(report: Report, device: str) -> None:
    """The kernel that draws, beside PyTorch's operations, with the same uniform numbers."""
    if device == "cpu":
        return
    draw = kernel(torch.device(device, 0))
    report.check("draws by a kernel", draw is not None, "Triton can be used" if draw else "Triton cannot be used")
    if draw is None:
        return
    for name, sampling in (("image", IMAGE_SAMPLING), ("text", TEXT_SAMPLING), ("all ids", Sampling())):
        logits, uniform = 2 * torch.randn(DRAWS, 8192, device=device), torch.rand(DRAWS, device=device)
        drawn = draw(logits, sampling.top_k, sampling.top_p, sampling.temperature, uniform)
        expected = sample_by_sorting(logits, sampling, uniform)
        same = int((drawn == expected).sum())
        places = logits.argsort(descending=True).argsort()
        apart = (places.gather(1, drawn[:, None]) - places.gather(1, expected[:, None])).abs()
        seen = f"{same} of {DRAWS} ids are those of PyTorch, the others at most {int(apart.max())} places apart"
        report.check(f"draws, {name}", same >= SAME_DRAWS * DRAWS and int(apart.max()) <= NEXT, seen)


def right_prefix(model: RudolphModel) -> Tensor:
    """How every right text begins."""
    return torch.tensor([BOS, model.config.special_id("RT_UNK")], device=model.device)


@torch.no_grad()
def _vqgan(report: Report, device: str, small: bool) -> None:
    vqgan = VQGAN.from_pretrained(REFERENCES / "vqgan").to(device)
    with np.load(REFERENCES / "vqgan" / "reference.npz") as file:
        vectors = {key: torch.from_numpy(file[key]).to(device) for key in ("pixels", "codes", "decoded")}
    codes = vqgan.encode(vectors["pixels"])
    same = float((codes == vectors["codes"].reshape(codes.shape)).float().mean())
    report.check("vqgan: codes", same == 1.0, f"{same:.2%} are the published ones")
    off = float((vqgan.decode(vectors["codes"].reshape(codes.shape)) - vectors["decoded"]).abs().max())
    report.check("vqgan: images", off < TOLERANCE, f"off by {off:.1e} of 1")

    on_cpu, on_device = VQGAN.from_pretrained(NANO / "vqgan"), VQGAN.from_pretrained(NANO / "vqgan").to(device)
    paths = sorted((SAMPLE_INPUT / "images").iterdir())[: 4 if small else 24]
    pixels = torch.stack([preprocess(load_image(path), 64) for path in paths])
    expected, found = on_cpu.encode(pixels), on_device.encode(pixels.to(device)).cpu()
    images = (on_cpu.decode(expected) - on_device.decode(expected.to(device)).cpu()).abs().max()
    report.figure("vqgan_nano", {"images": len(paths), "same_codes": float((expected == found).float().mean()),
                                 "largest_grey_level": float(images) * 255})  # fmt: skip


def _nano(report: Report, device: str, small: bool) -> None:
    """nano's answers to sample_input on the device and on the CPU, and in bfloat16, with the same seeds."""
    asked = questions()[:: 20 if small else 1]
    settings = Settings(dtype="float32", image_candidates=1, batch_size=16,
                        image_sampling=dataclasses.replace(IMAGE_SAMPLING, top_k=16))  # fmt: skip
    runs = {"cpu": ("cpu", "float32"), "float32": (device, "float32"), "bfloat16": (device, "bfloat16")}
    answers: dict[str, dict[str, Answer]] = {}
    for name, (where, dtype) in runs.items():
        rudolph = Rudolph.from_pretrained(NANO, where, dtype)
        answers[name] = {answer.id: answer for answer in rudolph.answer(asked, settings)}
        graphs: Any = rudolph.model.step_graphs
        if where != "cpu":
            made = graphs is not None and graphs.captured > 0 and graphs.fused
            report.check(f"nano, {name}: graphs of Triton's kernels", made, "are made" if made else "are not made")
    for one, other in combinations(runs, 2):
        pairs = [(answers[one][id], answers[other][id]) for id in answers[one]]
        texts = [a.id for a, b in pairs if a.text != b.text]
        routes = [a.id for a, b in pairs if a.fallback != b.fallback]
        images = [a.id for a, b in pairs if a.image is not None and b.image is not None
                  and a.fallback is None and a.image.tobytes() != b.image.tobytes()]  # fmt: skip
        report.figure(f"nano/{one} and {other}", {"answers": len(pairs), "other_text": texts, "other_route": routes,
                                                  "other_image": images})  # fmt: skip
        print(f"  nano, {one} and {other}: of {len(pairs)} answers {len(texts)} texts, {len(images)} images and "
              f"{len(routes)} routes differ", flush=True)  # fmt: skip
        if (one, other) == ("cpu", "float32"):
            differ = len(set(texts + routes))
            report.check("nano: on the CPU and here", differ <= len(pairs) // 20, f"{differ} texts or routes differ")


def _latents(report: Report, device: str) -> None:
    """The evaluator's networks, by its own check, as submission/ does not import it."""
    if not (ROOT / "evaluator").is_dir():
        report.note("the evaluator is not here: its networks were not compared")
        return
    command = [sys.executable, "-m", "evaluator.tools.gpu_check", "--device", device]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LATENTS_SECONDS)
    if done.returncode:
        report.check("evaluator's networks", False, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
        return
    for name, off in json.loads(done.stdout.splitlines()[-1]).items():
        report.check(f"evaluator: {name}", off < TOLERANCE, f"off by {off:.1e} of the largest")
