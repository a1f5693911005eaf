"""Where the time of `score` goes: text answers, ruCLIP and FID, from reading the data to the page.

    python -m evaluator.tools.bench_scoring --answers 10000 --images 3000

Makes a data folder and an output for it: `--answers` texts with three accepted answers for each text metric, and
`--images` generated pictures with captions and references. All is scored once in this process, with the nano encoders,
and each part takes the CPU seconds of its own, without those of other parts in it. The leaderboard's encoders, which
take hours for that many pictures, are built in their published sizes with random weights and timed on `--encoded`
pictures and captions; what they would take for all comes in place of nano's. The slowest three of both are named. The
last line is one JSON object.
"""

import argparse
import functools
import json
import resource
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from evaluator.core import files
from evaluator.metrics import generation
from evaluator.metrics.clip import CLIP, EOS, Config, RuCLIP
from evaluator.metrics.inception import InceptionFeatures, fid_inception
from evaluator.metrics.nano import NanoEncoders
from evaluator.reports import evaluation
from evaluator.scoring import score as scoring
from evaluator.tools.bench_metrics import Words

#: Of ai-forever/ruclip-vit-large-patch14-336.
RUCLIP = Config(
    embed_dim=768,
    image_resolution=336,
    vision_layers=24,
    vision_width=1024,
    vision_patch_size=14,
    context_length=77,
    vocab_size=49408,
    transformer_width=768,
    transformer_heads=12,
    transformer_layers=12,
)
SIZES = {"gt_images": (384, 288), "output": (256, 256)}
IMAGES, FEATURES, TEXTS = "latents of images", "features of images", "latents of captions"
LOADING = "loading images for the encoders"
CAPTIONS = 6  # a task of the data's own
SLOWEST = 3

Entry = dict[str, Any]
N = TypeVar("N", bound=nn.Module)


class Clock:
    """CPU seconds of each part, without those of the parts within it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """The block is of this part."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def around(self, name: str | Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls are of this part; of one that its arguments name, where `name` is a function."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*arguments)):
                return function(*arguments, **named)

        return timed

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables and the JSON line."""
    parser = argparse.ArgumentParser("python -m evaluator.tools.bench_scoring", description="Speed of scoring.")
    parser.add_argument("--answers", type=int, default=10_000, help="of each task of texts (default: %(default)s)")
    parser.add_argument("--images", type=int, default=3000, help="generated ones (default: %(default)s)")
    parser.add_argument("--encoded", type=int, default=16, help="images and captions for the published encoders")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    if min(options.answers, options.images) < 2 or options.encoded < 1:
        parser.error("at least 2 answers and images, and 1 that is encoded, are needed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captions = make(folder, options.answers, options.images, Words(options.seed))
        nano = score(folder)
        each = published(folder / "output/images", captions, options.encoded)
    counts = {IMAGES: options.images, FEATURES: 2 * options.images, TEXTS: options.images}
    whole = nano | {name: each[name] * count for name, count in counts.items()}
    for title, seconds in (("nano encoders", nano), ("the leaderboard's encoders, extrapolated", whole)):
        show(title, seconds)
    print(json.dumps({"answers": options.answers, "images": options.images, "nano": nano, "published": whole}))
    return 0


def make(folder: Path, answers: int, images: int, words: Words) -> list[str]:
    """Write `folder`/data and `folder`/output; returns the captions that were to be drawn."""
    draw = np.random.default_rng(0)
    for name, size in SIZES.items():
        place = folder / (f"data/{name}" if name != "output" else "output/images")
        place.mkdir(parents=True)
        for number in range(images):
            picture(draw, size).save(place / f"image_{number}.jpg", quality=90)
    documents: dict[str, Entry] = {name: {} for name in ("input", "ground_truth", "sample_ids", "predictions")}

    def add(task: int, asked: list[Entry], accepted: Entry, predicted: Entry) -> None:
        id = str(len(documents["input"]))
        for name, value in zip(documents, (asked, [accepted], task, [predicted]), strict=True):
            documents[name][id] = value

    for task, low, high, finish in (
        (0, 1, 6, " ".join),
        (1, 1, 1, words.option),
        (4, 1, 2, words.answer),
        (5, 1, 5, " ".join),
        (CAPTIONS, 6, 12, words.caption),
    ):
        for case in words.cases(answers, low, high, finish):
            asked = [entry("text", "Ответь на вопрос."), entry("text", " ".join(words.draw(20, 60)))]
            add(task, asked, entry("text", case.references), entry("text", case.prediction))
    captions = [words.caption(words.draw(6, 12)) for _ in range(images)]
    for number, caption in enumerate(captions):
        asked = [entry("text", "Нарисуй."), entry("text", caption)]
        own = entry("image", f"images/image_{number}.jpg")
        add(2, asked, entry("image", f"gt_images/image_{number}.jpg"), own)
    own = {"name": "Captions", "title": "captions", "output": "text", "metric": "caption_meteor"}
    files.write_json(folder / "data/tasks.json", {str(CAPTIONS): own})
    for name, document in documents.items():
        files.write_json(folder / ("output" if name == "predictions" else "data") / f"{name}.json", document)
    return captions


def entry(type: str, content: Any) -> Entry:
    """An entry of the contract."""
    return {"type": type, "content": content}


def picture(draw: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A picture with coarse and fine detail, about as large as a JPEG as a photograph."""
    coarse = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(draw.integers(0, 256, (size[1] // 4, size[0] // 4, 3), dtype=np.uint8)).resize(size)
    return Image.blend(coarse, fine, 0.25)


def score(folder: Path) -> dict[str, float]:
    """CPU seconds of the parts of `score` of what `make` wrote."""
    clock = Clock()
    request = evaluation.ScoreRequest(
        output=folder / "output",
        data=folder / "data",
        json=folder / "scores.json",
        table=folder / "table.csv",
        report=folder / "report.html",
    )

    parts = (
        (evaluation, "read_data", "reading data and checking its images"),
        (evaluation, "read_predictions", "reading predictions and checking their images"),
        (scoring, "_score_task", lambda task, *_: f"{task.name}, but for encoders"),
        (scoring, "data_digest", "digest of the data"),
        (evaluation, "_write_table", "table of ids"),
        (evaluation, "_write_page", "page"),
        (files, "write_json", "scores.json"),
        (generation, "encode_images_by", LOADING),
        (generation, "encode_images", LOADING),
        (NanoEncoders, "image_latents", IMAGES),
        (NanoEncoders, "text_latents", TEXTS),
        (NanoEncoders, "image_features", FEATURES),
    )
    with ExitStack() as patched, clock.part("all else"):
        for owner, name, part in parts:
            patched.enter_context(patch.object(owner, name, clock.around(part, getattr(owner, name))))
        evaluation.score(request, lambda _: None)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = clock.seconds | {"decoding predictions' images, in processes": children.ru_utime + children.ru_stime}
    return {name: round(value, 2) for name, value in seconds.items()}


def published(folder: Path, captions: Sequence[str], count: int) -> dict[str, float]:
    """CPU seconds of the leaderboard's encoders for one image, or caption, measured on `count` and 16 times `count`."""
    device = torch.device("cpu")
    ruclip = RuCLIP(_random(CLIP(RUCLIP)), Pieces(), RUCLIP, device)
    inception = InceptionFeatures(_random(fid_inception()).state_dict(), device)
    paths = sorted(folder.iterdir())[:count]
    images = [Image.open(path).convert("RGB") for path in paths]
    seconds = {}
    calls: tuple[tuple[str, Callable[[], Any], int], ...] = (
        (IMAGES, lambda: ruclip.image_latents(images), len(images)),
        (FEATURES, lambda: inception(images), len(images)),
        (TEXTS, lambda: ruclip.text_latents(captions[: 16 * count]), len(captions[: 16 * count])),
    )
    for name, call, calls_of in calls:
        started = time.process_time()
        call()
        seconds[name] = (time.process_time() - started) / calls_of
    return seconds


class Pieces:
    """Stands in for the published BPE: a word's pieces are of up to four letters."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [
            [EOS + 1 + zlib.crc32(word[i : i + 4].encode()) % (RUCLIP.vocab_size - EOS - 1)
             for word in text.split() for i in range(0, len(word), 4)]
            for text in texts
        ]  # fmt: skip


def _random(network: N) -> N:
    """The network with weights whose activations neither grow nor vanish."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            if value.ndim > 1:
                value.normal_(std=(2 / value[0].numel()) ** 0.5)
            else:
                value.fill_(float(name.endswith(("weight", "running_var"))))
    return network.eval().requires_grad_(False)


def show(title: str, seconds: dict[str, float]) -> None:
    """Prints the parts, the slowest first, with their shares."""
    total = sum(seconds.values())
    slowest = sorted(seconds.items(), key=lambda item: -item[1])
    print(f"{title}: {total:.1f} CPU seconds")
    for rank, (name, value) in enumerate(slowest):
        mark = "  slowest" if rank < SLOWEST else ""
        print(f"  {name:<48}{value:>10.2f} s{value / total:>8.1%}{mark}")


if __name__ == "__main__":
    sys.exit(main())
