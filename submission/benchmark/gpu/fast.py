"""Fast: steps, prefills and the VQGAN on random weights of published sizes, engine beside published algorithm.

A step is what the engine's loop does for one more id of every row: logits, a draw, the layers. It is timed in runs of
steps that follow each other, as they do in use, at several places of the image or the text.
"""

from __future__ import annotations

import contextlib
import gc
import gzip
import shutil
import statistics
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import published
from benchmark.gpu.card import clocks, energy_of, is_cuda, limits, seconds_of
from benchmark.gpu.report import Report
from benchmark.gpu.right import right_prefix, texts_refilled
from benchmark.measure import engine_cache, published_cache, published_step, work
from rudolph import VQGAN, RudolphConfig, RudolphModel
from rudolph.answer import VQGAN_GROUP
from rudolph.cache import KVCache
from rudolph.config import BOS, EOS, SIZES, Vocabulary
from rudolph.generate import generate_text
from rudolph.graphs import StepGraphs, use_step_graphs_
from rudolph.memory import free_memory, is_out_of_memory
from rudolph.sampling import IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, sample
from rudolph.vqgan import SBER_GUMBEL_F8, VQGANConfig

ROWS = (1, 26, 128)
SIZE, SECOND_SIZE = "2.7B", "350M"
PLACES = (1 / 8, 5 / 8)
RUN = 24  # steps that follow each other
TRACED = 10
REQUESTS, CANDIDATES = 4, 16
TEXT_PLACES, TEXT_BATCHES, TEXT_IDS = 32, 3, 32
HOST_GAP_US = 5.0  # a longer gap is a wait for the host; between kernels of a graph there are 1 or 2
PUBLISHED_ROWS = 26  # with more, its cache and logits do not fit beside the engine's
PARTS: tuple[tuple[str, Vocabulary, Sampling], ...] = (
    ("image_step", "codes", IMAGE_SAMPLING), ("text_step", "bpe", TEXT_SAMPLING),
)  # fmt: skip

#: Of 2.7B in bfloat16, milliseconds an image step by rows; the share of the bandwidth at one row.
GOAL_MS = {1: 2.2, 26: 3.5, 128: 8.0}
GOAL_BANDWIDTH = 0.7
GOAL_IDLE = 0.05

#: What a CPU is asked for in a test.
TINY = SIZES["nano"] | {
    "num_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "l_text_seq_length": 32, "image_tokens_per_dim": 4,
}  # fmt: skip
TINY_VQGAN = VQGANConfig(embed_dim=16, n_embed=1024, z_channels=16, resolution=32, ch=32, ch_mult=(1, 1, 1, 2),
                         num_res_blocks=1, attn_resolutions=(8,))  # fmt: skip


def run(report: Report, device: str, small: bool) -> None:
    """2.7B first, then the VQGAN, then 350M."""
    measured = limits(device, small)
    report.figure("limits", measured)
    print(f"  copy {measured['bytes_per_second'] / 1e12:.2f} TB/s, bfloat16 {measured['flops'] / 1e12:.0f} TFLOP/s")
    for size in (SIZE, SECOND_SIZE):
        config = RudolphConfig(**(TINY if small else SIZES[size]))
        model = random_model(config, device)
        use_step_graphs_(model, capture=is_cuda(device))
        rows = tuple(count if not small else min(count, 3) for count in ROWS)
        _steps(report, size, model, rows, measured, device)
        _candidates(report, size, model, device)
        _refilled(report, size, model, device)
        if size == SIZE:
            _trace(report, model, rows[1], device)
        _prefills(report, size, model, rows, device)
        _published(report, size, model, rows, device)
        if size == SIZE:
            _vqgan(report, config.image_tokens_per_dim, device, small)
        del model
        gc.collect()
        free_memory()


def random_model(config: RudolphConfig, device: str, dtype: torch.dtype = torch.bfloat16) -> RudolphModel:
    """A model of random weights, made on the device; times do not depend on their values."""
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = RudolphModel(config)
    finally:
        torch.set_default_dtype(before)
    return model.eval()


@torch.inference_mode()
def run_of_steps(
    model: RudolphModel, cache: KVCache, place: int, steps: int, vocabulary: Vocabulary, sampling: Sampling,
    hidden: Tensor, uniform: Tensor,
) -> None:  # fmt: skip
    """Steps as `generate` takes them, from a position on. hidden [B, D], uniform [B, steps]."""
    for step in range(steps):
        drawn = sample(model.head(hidden, vocabulary), sampling, uniform[:, step])
        hidden = model.decode(drawn[:, None], place + step, cache)


def _places(config: RudolphConfig, vocabulary: Vocabulary, steps: int) -> list[int]:
    first, length = config.l_text_seq_length, config.image_seq_length
    if vocabulary == "bpe":
        first, length = config.image_end, config.r_text_seq_length
    return [first + int(share * (length - steps)) for share in PLACES]


def _steps(
    report: Report, size: str, model: RudolphModel, rows: tuple[int, ...], limit: dict[str, float], device: str
) -> None:  # fmt: skip
    for name, vocabulary, sampling in PARTS:
        for count in sorted(set(rows)):
            with if_it_fits(report, f"{size} {name} with {count} rows"):
                _step(report, size, name, model, count, vocabulary, sampling, limit, device)
    model.release_step_graphs()
    free_memory()


@contextlib.contextmanager
def if_it_fits(report: Report, what: str) -> Iterator[None]:
    """A lack of memory in the block is a note, and the measuring goes on."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        report.note(f"{what}: does not fit into this card's memory")
    free_memory()


@torch.inference_mode()
def _step(
    report: Report, size: str, name: str, model: RudolphModel, rows: int, vocabulary: Vocabulary, sampling: Sampling,
    limit: dict[str, float], device: str,
) -> None:  # fmt: skip
    """One kind of step with one number of rows."""
    config = model.config
    item = model.text_embeddings.weight.element_size()
    steps = min(RUN, config.r_text_seq_length // 2)
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats()
    cache = engine_cache(model, rows, config.l_text_seq_length, vocabulary)
    hidden = torch.randn(rows, config.hidden_size, device=device, dtype=model.dtype)
    uniform = torch.rand(rows, steps, device=device)
    runs = [
        partial(run_of_steps, model, cache, place, steps, vocabulary, sampling, hidden, uniform)
        for place in _places(config, vocabulary, steps)
    ]
    seconds = statistics.mean(seconds_of(run, device) / steps for run in runs)
    needed = [work(config, rows, place, vocabulary, item) for place in _places(config, vocabulary, steps)]
    bandwidth = statistics.mean(b for b, _ in needed) / seconds / limit["bytes_per_second"]
    arithmetic = statistics.mean(f for _, f in needed) / seconds / limit["flops"]
    energy, repeats = energy_of(runs[-1], device) if size == SIZE else (None, 0)
    report.figure(
        f"{size}/{name}/{rows}",
        {"engine_ms": seconds * 1000, "of_bandwidth": bandwidth, "of_arithmetic": arithmetic,
         "joules_a_token": energy / repeats / steps / rows if energy and repeats else None,
         "peak_bytes": torch.cuda.max_memory_allocated() if is_cuda(device) else None,
         "kernels": kernels_of(model), "clocks": clocks(device)},
    )  # fmt: skip
    print(f"  {size} {name}, {rows} rows: {seconds * 1000:.2f} ms, {bandwidth:.2f} of the bandwidth, "
          f"{arithmetic:.3f} of the arithmetic", flush=True)  # fmt: skip
    if (size, name) == (SIZE, "image_step") and rows in GOAL_MS:
        report.goal(f"image step of 2.7B, {rows} rows, ms", seconds * 1000, GOAL_MS[rows], at_most=True)
        if rows == 1:
            report.goal("share of the bandwidth at one row", bandwidth, GOAL_BANDWIDTH, at_most=False)


@torch.inference_mode()
def _candidates(report: Report, size: str, model: RudolphModel, device: str) -> None:
    """Image steps of requests with `CANDIDATES` each: left texts read together, and copied for each candidate."""
    config, steps = model.config, min(RUN, model.config.r_text_seq_length // 2)
    rows = REQUESTS * CANDIDATES
    hidden = torch.randn(rows, config.hidden_size, device=device, dtype=model.dtype)
    uniform = torch.rand(rows, steps, device=device)
    prefix = model.prefix(torch.full((REQUESTS, config.l_text_seq_length), BOS, device=device)).cache
    branches = torch.arange(REQUESTS, device=device).repeat_interleave(CANDIDATES)
    found = {}
    with if_it_fits(report, f"{size} candidates"):
        for name, branch in (("together", None), ("copied", KVCache.branch)):
            cache = engine_cache(model, rows, config.l_text_seq_length, "codes")
            cache.branch(prefix, branches) if branch is None else branch(cache, prefix, branches)
            runs = [
                partial(run_of_steps, model, cache, place, steps, "codes", IMAGE_SAMPLING, hidden, uniform)
                for place in _places(config, "codes", steps)
            ]
            found[f"{name}_ms"] = statistics.mean(seconds_of(run, device) / steps for run in runs) * 1000
            del cache, runs
        found["times_faster"] = found["copied_ms"] / found["together_ms"]
        report.figure(f"{size}/candidates/{rows}", found)
        print(f"  {size} image step, {REQUESTS} requests with {CANDIDATES} candidates: {found['together_ms']:.2f} ms, "
              f"{found['copied_ms']:.2f} ms with left texts copied", flush=True)  # fmt: skip
    model.release_step_graphs()


@torch.inference_mode()
def _refilled(report: Report, size: str, model: RudolphModel, device: str) -> None:
    """Texts of lengths that differ, in batches that end with their longest and in one whose rows are refilled."""
    config, places, rows = model.config, TEXT_PLACES, TEXT_BATCHES * TEXT_PLACES
    allowed = torch.zeros(config.bpe_vocab_size, dtype=torch.bool, device=device)
    allowed[EOS : EOS + TEXT_IDS] = True  # so that one id of so many ends a text
    left = torch.full((rows, config.l_text_seq_length), BOS, device=device)
    image = torch.zeros(rows, config.image_seq_length, dtype=torch.int64, device=device)
    prefix, flat = right_prefix(model), Sampling(temperature=100.0)

    def in_batches() -> None:
        for at in range(0, rows, places):
            some = slice(at, at + places)
            generate_text(model, left[some], image[some], prefix, flat, seeds=range(rows)[some], allowed=allowed)

    with if_it_fits(report, f"{size} refilled"):
        seconds = seconds_of(in_batches, device, 1)
        refilled = seconds_of(lambda: texts_refilled(model, left, image, prefix, flat, places, allowed), device, 1)
        report.figure(f"{size}/texts/{places}", {"batches_s": seconds, "refilled_s": refilled,
                                                 "times_faster": seconds / refilled})  # fmt: skip
        print(f"  {size} {rows} texts, {places} at a time: {refilled:.2f} s refilled, {seconds:.2f} s in batches",
              flush=True)  # fmt: skip
    model.release_step_graphs()


def kernels_of(model: RudolphModel) -> str:
    """Whose kernels steps are."""
    graphs = model.step_graphs
    if not isinstance(graphs, StepGraphs) or not graphs.captured:
        return "PyTorch's, launched one by one"
    return f"{'Triton' if graphs.fused else 'PyTorch'}'s, in graphs"


@torch.inference_mode()
def _trace(report: Report, model: RudolphModel, rows: int, device: str) -> None:
    """Ten image steps under the profiler: which share of the time the GPU waits, and the kernels that take longest."""
    config = model.config
    for count in sorted({1, rows}):
        cache = engine_cache(model, count, config.l_text_seq_length, "codes")
        hidden = torch.randn(count, config.hidden_size, device=device, dtype=model.dtype)
        uniform = torch.rand(count, TRACED, device=device)
        place = _places(config, "codes", TRACED)[0]
        steps = partial(run_of_steps, model, cache, place, TRACED, "codes", IMAGE_SAMPLING, hidden, uniform)
        report.figure(f"trace/{count}", traced(steps, report.path.with_name(f"steps-{count}.trace.json"), device))
        del cache, steps
    model.release_step_graphs()
    seen = [found["idle"] for found in report.found["figures"]["trace"].values() if found["idle"] is not None]
    if seen:
        idle = max(seen)
        report.goal("share of the image steps' time that waits for the host", idle, GOAL_IDLE, at_most=True)


def traced(run: Callable[[], object], path: Path, device: str) -> dict[str, Any]:
    """Profiles `run` into a packed Chrome trace at `path`.gz -> share of idle time, and seconds by kernel."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if is_cuda(device):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    run()
    with torch.profiler.profile(activities=activities) as profile:
        run()
        if is_cuda(device):
            torch.cuda.synchronize()
    profile.export_chrome_trace(str(path))
    with open(path, "rb") as plain, gzip.open(f"{path}.gz", "wb") as packed:
        shutil.copyfileobj(plain, packed)
    path.unlink()
    kernels = [event for event in profile.events() or [] if event.device_type.name == "CUDA"]
    spans = sorted((event.time_range.start, event.time_range.end) for event in kernels)
    if not spans:
        return {"idle": None, "kernels": 0}
    busy, waiting, reached = 0.0, 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        waiting += max(0.0, start - reached) if start - reached > HOST_GAP_US else 0.0
        reached = max(reached, end)
    whole = reached - spans[0][0]
    by_name: dict[str, list[float]] = {}
    for event in kernels:
        by_name.setdefault(event.name[:90], []).append(event.time_range.elapsed_us())
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:16]
    return {
        "idle": waiting / whole, "between_kernels": 1 - busy / whole, "kernels": len(kernels), "busy_us": busy,
        "longest": [{"name": name, "calls": len(us), "us": sum(us)} for name, us in longest],
    }  # fmt: skip


@torch.inference_mode()
def _prefills(report: Report, size: str, model: RudolphModel, rows: tuple[int, ...], device: str) -> None:
    """Left text, image and the beginning of the right text: what comes before an answer about an image."""
    for count in sorted(set(rows)):
        with if_it_fits(report, f"{size} prefill with {count} rows"):
            _prefill(report, size, model, count, device)
        model.release_step_graphs()


def _prefill(report: Report, size: str, model: RudolphModel, rows: int, device: str) -> None:
    ids = torch.full((rows, model.config.image_end + 2), BOS, device=device)
    seconds = seconds_of(lambda: model.prefill(ids), device, 3)
    parameters = model.config.num_layers * 12 * model.config.hidden_size**2
    flops = 2 * parameters * ids.numel() / seconds
    share = flops / report.found["figures"]["limits"]["flops"]
    report.figure(f"{size}/prefill/{rows}", {"engine_ms": seconds * 1000, "of_arithmetic": share})
    print(f"  {size} prefill, {rows} rows: {seconds * 1000:.1f} ms, {share:.2f} of the arithmetic", flush=True)


@torch.inference_mode()
def _published(report: Report, size: str, model: RudolphModel, rows: tuple[int, ...], device: str) -> None:
    """The published steps and prefill on the same weights."""
    for count in sorted({1, min(PUBLISHED_ROWS, max(rows))}):
        for name, vocabulary, sampling in PARTS:
            with if_it_fits(report, f"{size} published {name} with {count} rows"):
                _beside(report, size, name, count, _published_seconds(model, count, vocabulary, sampling, device))
    with if_it_fits(report, f"{size} published prefill"):
        ids = torch.full((1, model.config.image_end + 2), BOS, device=device)
        _beside(report, size, "prefill", 1, seconds_of(lambda: published.forward(model, ids, None), device, 3))


def _published_seconds(
    model: RudolphModel, rows: int, vocabulary: Vocabulary, sampling: Sampling, device: str
) -> float:  # fmt: skip
    """Of one published step. What it reads is let go of with this frame, before anything else is measured."""
    place = _places(model.config, vocabulary, 1)[1]
    ids = torch.full((rows, place + 1), BOS, device=device)
    start, stop = model.config.vocabulary_rows(vocabulary)
    old = list(published_cache(model, rows, place))
    return seconds_of(lambda: published_step(model, ids, old, start, stop, sampling), device, 3)


def _beside(report: Report, size: str, name: str, rows: int, seconds: float) -> None:
    known = report.found["figures"].get(size, {}).get(name, {}).get(str(rows))
    if known is None:
        return
    known |= {"published_ms": seconds * 1000, "times_faster": seconds * 1000 / known["engine_ms"]}
    report.figure(f"{size}/{name}/{rows}", known)
    print(f"  {size} {name}, {rows} rows: published {seconds * 1000:.1f} ms, {known['times_faster']:.1f}x", flush=True)


@torch.inference_mode()
def _vqgan(report: Report, side: int, device: str, small: bool) -> None:
    """Images of a side of `side` codes through Sber's VQGAN, in the groups that the engine takes."""
    torch.manual_seed(0)
    vqgan = VQGAN(TINY_VQGAN if small else SBER_GUMBEL_F8).to(device).eval()
    group = VQGAN_GROUP[torch.device(device).type]
    pixels = torch.rand(group, 3, side * vqgan.config.reduction, side * vqgan.config.reduction, device=device)
    codes = torch.randint(vqgan.config.n_embed, (group, side * side), device=device)
    for name, run in (("encode", lambda: vqgan.encode(pixels)), ("decode", lambda: vqgan.decode(codes))):
        seconds = seconds_of(run, device)
        for count in ROWS:
            report.figure(f"vqgan/{name}/{count}", {"engine_ms": seconds * -(-count // group) * 1000})
        print(f"  vqgan {name}: {seconds * 1000:.1f} ms for {group} images", flush=True)
