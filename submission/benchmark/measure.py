"""What the benchmarks on CPUs and on GPUs share: sizes, steps of both algorithms, their questions, times."""

import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmark import published
from benchmark.published import LayerCache
from contract import read_examples
from rudolph.answer import Question, Rudolph
from rudolph.cache import KVCache
from rudolph.config import BOS, SIZES, DecoderConfig, Vocabulary
from rudolph.decoder import RudolphDecoder
from rudolph.sampling import IMAGE_SAMPLING, TEXT_SAMPLING, Sampling

HERE = Path(__file__).resolve().parent
NANO = HERE.parent / "weights" / "nano"
SAMPLE_INPUT = HERE.parents[1] / "sample_input"

OPEN_TASKS = 6  # numbers 0 to 5 in sample_ids.json

#: Measured beside the published sizes: 9 M parameters, between nano and 350M.
MEDIUM: dict[str, Any] = SIZES["350M"] | {
    "num_layers": 8, "hidden_size": 256, "num_attention_heads": 8, "r_text_seq_length": 32,
    "vocab_size": 4096 + 64, "image_vocab_size": 1024, "text_special_tokens": 32, "image_special_tokens": 0,
}  # fmt: skip
PRESETS = {"nano": None, "9M": MEDIUM, "350M": SIZES["350M"], "1.3B": SIZES["1.3B"], "2.7B": SIZES["2.7B"]}

PLACES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the image or of the right text, where steps are timed
REPEATS = 3
WARM_UPS = 1
PREFILL_ROWS = 8  # above, a prefill of the published algorithm takes minutes and shows nothing new


def work(config: DecoderConfig, rows: int, place: int, vocabulary: Vocabulary, item: int) -> tuple[int, int]:
    """Bytes that a step must read (weights of the layers and of its rows of the head, keys, values), and its flops."""
    width, layers = config.hidden_size, config.num_layers
    start, stop = config.vocabulary_rows(vocabulary)
    weights = layers * 12 * width**2 + (stop - start) * width
    in_image = config.l_text_seq_length <= place < config.image_end
    keys = config.l_text_seq_length + config.image_tokens_per_dim if in_image else place + 1
    return item * (weights + 2 * layers * rows * keys * width), rows * 2 * (weights + 2 * layers * keys * width)


def published_cache(model: RudolphDecoder, rows: int, length: int) -> Iterator[LayerCache]:
    """What the published algorithm keeps of `length` positions, filled with random numbers, layer by layer."""
    config = model.config
    weight = model.text_embeddings.weight
    head = config.hidden_size // config.num_attention_heads
    options: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
    for layer in range(config.num_layers):
        keys, values = (torch.randn(rows, config.num_attention_heads, length, head, **options) for _ in range(2))
        attended = torch.randn(rows, length, config.hidden_size, **options)
        yield LayerCache(keys, values, attended, attended if layer == config.num_layers - 1 else None)


def engine_cache(model: RudolphDecoder, rows: int, place: int, vocabulary: Vocabulary) -> KVCache:
    """A cache for steps of a part of the sequence after `place` positions, filled with random numbers."""
    config = model.config
    capacity = config.image_end if vocabulary == "codes" else config.total_seq_length
    cache = model.new_cache(rows, place, capacity)
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_()
    return cache


def published_step(
    model: RudolphDecoder, ids: Tensor, cache: list[LayerCache], start: int, stop: int, sampling: Sampling
) -> None:
    """One step of the published algorithm: ids [B, S], of which the last is new, and a draw from its logits."""
    logits, _ = published.forward(model, ids, cache)
    published.draw(logits[:, -1, start:stop], sampling)


def times(
    run: Callable[[], object], device: str, repeats: int = REPEATS, warm_ups: int = WARM_UPS
) -> list[float]:
    """Seconds of each of `repeats` calls, after a warm-up."""
    found = []
    for turn in range(warm_ups + repeats):
        start = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        if turn >= warm_ups:
            found.append(time.perf_counter() - start)
    return found


def cpu_name() -> str:
    """The processor, as the kernel names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def questions() -> list[Question]:
    """The six open tasks of sample_input."""
    tasks = json.loads((SAMPLE_INPUT / "sample_ids.json").read_text(encoding="utf-8"))
    examples = [example for example in read_examples(SAMPLE_INPUT) if tasks[example.id] < OPEN_TASKS]
    return [Question(e.id, e.texts, e.images, answer_in_text=e.answer_in_text) for e in examples]


@torch.inference_mode()
def published_answers(rudolph: Rudolph, asked: list[Question], rows: int) -> list[str]:
    """The published way: an image for every question that has none, then an answer of full length."""
    model, config = rudolph.model, rudolph.model.config
    found = []
    for some in (asked[start : start + rows] for start in range(0, len(asked), rows)):
        left = rudolph.encode_left(some)
        codes = rudolph.encode_images(some)
        given = torch.zeros(len(some), config.image_seq_length, dtype=torch.int64, device=model.device)
        drawn = [row for row in range(len(some)) if row not in codes]
        if drawn:
            given[drawn] = published.generate(model, left[drawn], config.image_seq_length, "codes", IMAGE_SAMPLING)
            for row in drawn:
                rudolph.vqgan.decode(given[row][None])
        for row, ids in codes.items():
            given[row] = ids.to(model.device)
        begin = torch.tensor([BOS, config.special_id("RT_UNK")], device=model.device).expand(len(some), -1)
        prefix = torch.cat((left, given, begin), dim=1)
        texts = published.generate(model, prefix, config.total_seq_length - prefix.shape[1], "bpe", TEXT_SAMPLING)
        found += [rudolph.tokenizer.decode(ids) for ids in texts.tolist()]
    return found
