"""Times the engine beside the published algorithm, on the same weights in one run; the last line is one JSON object.

    cd submission && python -m benchmark --preset nano --preset 9M --batch 1 --batch 8

Weights of all presets but `nano` are random: times do not depend on their values. A step is timed at several places of
the image or the text, with a cache filled with random numbers, and the places' medians are averaged. On a CPU both
sides compute in `--dtype`, with as many threads as torch takes.
"""

import argparse
import copy
import importlib
import json
import resource
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark import published
from benchmark.measure import (
    NANO,
    OPEN_TASKS,
    PLACES,
    PREFILL_ROWS,
    PRESETS,
    REPEATS,
    cpu_name,
    engine_cache,
    published_answers,
    published_cache,
    published_step,
    questions,
    times,
    work,
)
from rudolph import RudolphConfig, RudolphModel
from rudolph.answer import DTYPES, Rudolph, best_dtype
from rudolph.cache import KVCache
from rudolph.config import BOS, SIZES, Vocabulary
from rudolph.generate import generate_image, generate_text
from rudolph.graphs import use_step_graphs_
from rudolph.linear import can_pack, pack_
from rudolph.memory import free_bytes
from rudolph.native import can_use, use_native_
from rudolph.route import text_probability_of
from rudolph.sampling import GREEDY, IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, sample
from rudolph.settings import Settings

MATMUL_SIDE = 2048
COPY_BYTES = 2**28

MIX_A_TASK, MIX_ROWS = 4, 8
MIX_ANSWER = 8  # ids of an answer, EOS included; those of nano have 6.4 on the average


def main() -> None:
    options = parse_arguments()
    report: dict[str, Any] = {"machine": machine(options.device, options.dtype), "dtype": options.dtype}
    limits = report["machine"]
    show(
        f"{limits['device']}, {limits['threads']} threads, torch {limits['torch']}; limits: "
        f"{limits['bytes_per_second'] / 1e9:.0f} GB/s, and in {options.dtype} {limits['flops'] / 1e9:.0f} GFLOP/s"
    )
    report["presets"] = {}
    for preset in options.preset:
        lacking = bytes_needed(preset, options) - free_bytes(torch.device(options.device))
        if lacking > 0:
            show(f"{preset}: left out, {lacking / 1e9:.1f} GB more memory are needed")
            continue
        report["presets"][preset] = bench_preset(preset, options, report["machine"])
    if not options.no_end_to_end:
        report["end_to_end"] = end_to_end(options)
        report["mix_9M"] = mix(options)
        report["precision"] = precision(options)
    report["peak_memory_bytes"] = peak_bytes(options.device)
    print(json.dumps(report))


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", action="append", choices=PRESETS, help="may be repeated (default: nano, 9M, 350M)")
    parser.add_argument("--batch", action="append", type=int, help="rows; may be repeated (default: 1, 8, 32)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of both sides (default: %(default)s)")
    parser.add_argument("--no-end-to-end", action="store_true", help="leave out the mix of six tasks")
    parser.add_argument("--rows-end-to-end", type=int, default=16, help="batch of the mix (default: %(default)s)")
    options = parser.parse_args()
    options.preset = options.preset or ["nano", "9M", "350M"]
    options.batch = options.batch or [1, 8, 32]
    return options


def show(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def machine(device: str, dtype: str) -> dict[str, Any]:
    """The machine's own limits: bytes per second of a large copy (read and written), flops of a large product."""
    source = torch.rand(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    square = torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device, dtype=DTYPES[dtype])
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bytes_per_second": 2 * COPY_BYTES / best(lambda: target.copy_(source), device),
        "flops": 2 * MATMUL_SIDE**3 / best(lambda: square @ square, device),
    }


def peak_bytes(device: str) -> int:
    """The most memory in bytes so far: of the GPU, or of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_needed(preset: str, options: argparse.Namespace) -> int:
    """Both sides' weights, and of the published side caches (old and new) and logits of the whole sequence."""
    config = RudolphConfig(**(PRESETS[preset] or SIZES["nano"]))
    item = DTYPES[options.dtype].itemsize
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in RudolphModel(config).parameters())
    rows, length = max(options.batch), config.total_seq_length
    caches = 2 * 3 * config.num_layers * config.hidden_size * rows * length
    logits = 2 * rows * length * (config.text_vocab_size + config.image_table_size)
    return item * (2 * weights + caches + logits)


def best(run: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Seconds of the quickest of `repeats` runs."""
    return min(times(run, device, repeats))


def bench_preset(preset: str, options: argparse.Namespace, limits: dict[str, Any]) -> dict[str, Any]:
    """Times of a model size by number of rows and stage, engine beside published; times in ms."""
    plain, engine = models(preset, options)
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in plain.parameters())}
    for rows in options.batch:
        found[str(rows)] = row = {}
        for name, stage in (("image_step", image_steps), ("text_step", text_steps), ("prefill", prefills)):
            if name == "prefill" and rows > PREFILL_ROWS:
                continue
            row[name] = measured = stage(plain, engine, rows, options.device, limits)
            extra = "".join(f", {key} {value:.2f}" for key, value in measured.items() if key.startswith("of_"))
            extra += f" in {options.dtype}"
            show(
                f"{preset} batch {rows} {name}: published {measured['published_s'] * 1000:.1f} ms, "
                f"engine {measured['engine_s'] * 1000:.2f} ms, {measured['times_faster']:.1f}x{extra}"
            )
    return found


def models(preset: str, options: argparse.Namespace) -> tuple[RudolphModel, RudolphModel]:
    """The same weights for the published algorithm and for the engine."""
    torch.manual_seed(0)
    sizes = PRESETS[preset]
    plain: Any = RudolphModel.from_pretrained(NANO) if sizes is None else RudolphModel(RudolphConfig(**sizes))
    plain = plain.to(device=options.device, dtype=DTYPES[options.dtype]).eval()
    return plain, engine_of(plain)


def engine_of(plain: RudolphModel) -> RudolphModel:
    """A model with the same weights, as the engine runs it."""
    engine = copy.deepcopy(plain)
    if can_use(engine):
        use_native_(engine)
    elif can_pack(engine):
        pack_(engine)
    elif engine.device.type == "cuda":
        use_step_graphs_(engine)
    return engine


def best_format(device: str) -> str:
    """The name of the format that `dtype: auto` takes on this machine."""
    dtype = best_dtype(device)
    return next(name for name, known in DTYPES.items() if known == dtype)


def image_steps(
    plain: RudolphModel, engine: RudolphModel, rows: int, device: str, limits: dict[str, Any]
) -> dict[str, float]:
    """Times of steps at some image positions."""
    config = plain.config
    places = [config.l_text_seq_length + int(share * config.image_seq_length) for share in PLACES]
    return _steps(plain, engine, rows, places, "codes", IMAGE_SAMPLING, device, limits)


def text_steps(
    plain: RudolphModel, engine: RudolphModel, rows: int, device: str, limits: dict[str, Any]
) -> dict[str, float]:
    """Times of steps at some positions of the right text."""
    config = plain.config
    places = [config.image_end + int(share * config.r_text_seq_length) for share in PLACES]
    return _steps(plain, engine, rows, places, "bpe", TEXT_SAMPLING, device, limits)


@torch.inference_mode()
def _steps(
    plain: RudolphModel, engine: RudolphModel, rows: int, places: list[int], vocabulary: Vocabulary,
    sampling: Sampling, device: str, limits: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    """One drawn id and the step that reads it, averaged over positions."""
    config = plain.config
    slow, fast, work_bytes, work_flops = [], [], [], []
    for place in places:
        ids = torch.full((rows, place + 1), BOS, device=device)
        start, stop = config.vocabulary_rows(vocabulary)
        old = list(published_cache(plain, rows, place))

        slow.append(statistics.median(times(partial(published_step, plain, ids, old, start, stop, sampling), device)))
        del old
        cache = engine_cache(engine, rows, place, vocabulary)
        step = partial(_engine_step, engine, ids[:, -1:], place, cache, vocabulary, sampling)
        fast.append(statistics.median(times(step, device, 4 * REPEATS)))
        del cache, step  # the next cache wants the storage of the graphs
        read, flops = work(config, rows, place, vocabulary, next(plain.parameters()).element_size())
        work_bytes.append(read)
        work_flops.append(flops)
    published_s, engine_s = statistics.mean(slow), statistics.mean(fast)
    return {
        "published_s": published_s,
        "engine_s": engine_s,
        "times_faster": published_s / engine_s,
        "tokens_per_second": rows / engine_s,
        "of_bandwidth": statistics.mean(work_bytes) / engine_s / limits["bytes_per_second"],
        "of_arithmetic": statistics.mean(work_flops) / engine_s / limits["flops"],
    }


def _engine_step(
    model: RudolphModel, ids: Tensor, place: int, cache: KVCache, vocabulary: Vocabulary, sampling: Sampling
) -> None:
    logits = model.head(model.decode(ids, place, cache), vocabulary)
    sample(logits, sampling, torch.rand(len(ids), device=ids.device))


@torch.inference_mode()
def prefills(
    plain: RudolphModel, engine: RudolphModel, rows: int, device: str, limits: dict[str, Any]
) -> dict[str, float]:
    """Left text, image and the beginning of the right text: what comes before an answer about an image."""
    ids = torch.full((rows, plain.config.image_end + 2), BOS, device=device)
    slow = statistics.median(times(lambda: published.forward(plain, ids, None), device, 1))
    fast = statistics.median(times(lambda: engine.prefill(ids), device))
    return {"published_s": slow, "engine_s": fast, "times_faster": slow / fast}


def end_to_end(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from questions to answers with nano, loading and JPEG writing left out."""
    rows = options.rows_end_to_end
    asked = questions()
    plain = Rudolph.from_pretrained(NANO, options.device, options.dtype, fast=False)
    slow = times(lambda: published_answers(plain, asked, rows), options.device, 1)[0]
    found: dict[str, Any] = {"questions": len(asked), "published_s": slow}
    for dtype in formats(options):
        engine = Rudolph.from_pretrained(NANO, options.device, dtype)
        settings = Settings(batch_size=rows)
        before = gpu_joules(options.device)
        fast_times = times(partial(engine.answer, asked, settings), options.device, warm_ups=1)
        after = gpu_joules(options.device)
        fast = statistics.median(fast_times)
        show(
            f"end to end, {len(asked)} questions: published {slow:.1f} s in {options.dtype}, engine {fast:.2f} s in "
            f"{dtype}, {slow / fast:.1f}x"
        )
        found[dtype] = {"engine_s": fast, "times_faster": slow / fast}
        if before is not None and after is not None:
            joules = (after - before) / len(asked) / (len(fast_times) + 1)  # and the warm-up
            found[dtype]["engine_joules_an_answer"] = joules
            show(f"the GPU took {joules:.2f} J an answer")
    return found


def formats(options: argparse.Namespace) -> list[str]:
    """The format that was asked for, and the machine's best one beside it."""
    return list(dict.fromkeys((options.dtype, best_format(options.device))))


def gpu_joules(device: str) -> float | None:
    """What the GPU has taken so far, by its energy counter; None without a GPU or where it has no such counter."""
    if not device.startswith("cuda"):
        return None
    pynvml: Any = importlib.import_module("pynvml")
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


@torch.inference_mode()
def mix(options: argparse.Namespace) -> dict[str, Any]:
    """The six tasks on 9M, `MIX_A_TASK` of each, by ids: three tasks have images, two have texts alone, one is to be
    drawn. Random weights know no route and no end of an answer, so both are given: the task, and `MIX_ANSWER` ids. The
    engine also does what nano does by default: it asks for the route, and writes a text beside each drawing. The rows
    to be drawn come first, then those of text alone, then those with images.
    """
    plain, _ = models("9M", options)
    config, device = plain.config, options.device
    codes, answers = config.image_seq_length, config.r_text_seq_length - 2
    begin = torch.tensor([BOS, config.special_id("RT_UNK")], device=device)
    total = OPEN_TASKS * MIX_A_TASK
    drawn, without_image = MIX_A_TASK, 3 * MIX_A_TASK
    left = torch.randint(config.bpe_vocab_size, (total, config.l_text_seq_length), device=device)

    def published_run() -> None:
        image = torch.zeros(total, codes, dtype=torch.int64, device=device)
        for rows in range(0, without_image, MIX_ROWS):
            some = left[rows : min(rows + MIX_ROWS, without_image)]
            image[rows : rows + len(some)] = published.generate(plain, some, codes, "codes", IMAGE_SAMPLING)
        prefix = torch.cat((left, image, begin.expand(total, -1)), dim=1)
        for some in prefix.split(MIX_ROWS):
            published.generate(plain, some, answers, "bpe", TEXT_SAMPLING)

    def engine_run(engine: RudolphModel) -> None:
        zeros = torch.zeros(MIX_ROWS, codes, dtype=torch.int64, device=device)

        def write(left: Tensor | KVCache, rows: int) -> None:
            generate_text(engine, left, zeros[:rows], begin, TEXT_SAMPLING, max_tokens=MIX_ANSWER, stop=False)

        for some in left[without_image:].split(MIX_ROWS):
            write(some, len(some))
        for some, rows in zip(left.split(MIX_ROWS), torch.arange(without_image).split(MIX_ROWS), strict=False):
            hidden, cache = engine.prefill(some[: len(rows)], past_image=True)
            text_probability_of(engine, hidden).tolist()
            (of_text,) = (rows >= drawn).nonzero(as_tuple=True)
            cache.select(of_text.to(device))
            write(cache, len(of_text))
            del cache
        for some in left[:drawn].split(MIX_ROWS):
            generate_image(engine, some, IMAGE_SAMPLING)
            write(some, len(some))

    slow = times(published_run, device, 1, warm_ups=0)[0]
    found: dict[str, Any] = {"questions": total, "published_s": slow}
    for dtype in formats(options):
        rounded: Any = copy.deepcopy(plain)
        engine = engine_of(rounded.to(DTYPES[dtype]))
        fast = statistics.median(times(partial(engine_run, engine), device))
        show(
            f"mix of {total} questions on 9M: published {slow:.1f} s in {options.dtype}, engine {fast:.2f} s in "
            f"{dtype}, {slow / fast:.1f}x"
        )
        found[dtype] = {"engine_s": fast, "times_faster": slow / fast}
    return found


def precision(options: argparse.Namespace) -> dict[str, Any]:
    """Greedy answers of nano in fewer bits, beside those in float32."""
    asked = [question for question in questions() if question.images]
    settings = Settings(batch_size=options.rows_end_to_end, text_sampling=GREEDY)
    found: dict[str, Any] = {"questions": len(asked)}
    exact = Rudolph.from_pretrained(NANO, options.device, "float32")
    wanted = [answer.text for answer in exact.answer(asked, settings)]
    for dtype in ("bfloat16", "int8"):
        rudolph = Rudolph.from_pretrained(NANO, options.device, dtype)
        answers = [answer.text for answer in rudolph.answer(asked, settings)]
        same = sum(a == b for a, b in zip(answers, wanted, strict=True))
        show(f"{dtype}: {same} of {len(asked)} greedy answers are those of float32")
        found[dtype] = same
    return found


if __name__ == "__main__":
    main()
