"""Trains the encoders of `evaluator/metrics/nano.py` on a folder of captioned images.

    python -m evaluator.tools.nano_encoders --data FOLDER [--out evaluator/assets/nano] [--steps N] [--seed S]

The folder holds `captions.json`, `[{"image": "<path in the folder>", "captions": ["...", ...]}, ...]`, and the images.
The last tenth of the list, at most 1000 images, is held out: never trained on, used for the figures that are printed
and written into the model card beside the weights. Everything follows from the seed and the number of steps.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from evaluator.core.files import replacing, write_text
from evaluator.metrics import nano
from evaluator.metrics.clip import TEMPLATES
from evaluator.metrics.fid import frechet_distance

log = logging.getLogger(__name__)

LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
MAX_LOGIT_SCALE = 100.0  # as in CLIP
TOTAL_VARIANCE = 100.0  # of the features over the held-out images, see NanoEncoders.image_features
CANDIDATES = 100  # of a retrieval
FEW = 20  # images in each of two sets, as in the public sample


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Trains, writes weights and card, and returns the held-out figures (see `held_out_figures`)."""
    parser = argparse.ArgumentParser(description="Train the nano encoders on captioned images.")
    parser.add_argument("--data", type=Path, required=True, help="folder with captions.json and the images")
    parser.add_argument("--out", type=Path, default=nano.FOLDER, help="folder for the weights and the model card")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    try:
        pixels, captions = read_folder(options.data)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{options.data / 'captions.json'}: {error}\n")
    held_out = min(1000, len(captions) // 10)
    if held_out < 4:
        parser.exit(2, f"{options.data}: {len(captions)} images; at least 40 are needed\n")
    log.info("%d images to train on, %d held out", len(captions) - held_out, held_out)

    started, cpu_started = time.perf_counter(), time.process_time()
    encoders = train(pixels[:-held_out], captions[:-held_out], options.steps, options.batch_size, options.seed)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    fit_feature_scale(encoders, pixels[-held_out:])
    options.out.mkdir(parents=True, exist_ok=True)
    save(encoders, options.out / nano.FILE)
    shipped = nano.NanoEncoders.load(options.out)  # the figures are those of the rounded weights
    figures = held_out_figures(shipped, pixels[-held_out:], captions[-held_out:])
    for name, value in figures.items():
        log.info("%s: %.3f", name, value)
    write_card(options.out, options, len(captions) - held_out, held_out, seconds, cpu_seconds, figures)
    return figures


def read_folder(folder: Path) -> tuple[Tensor, list[list[str]]]:
    """-> pixels [N, 3, 64, 64] uint8 and the captions of each image.

    Raises ValueError where captions.json has another shape, OSError where a file cannot be read.
    """
    entries = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
    if not isinstance(entries, list):
        raise ValueError(f"the top level is {type(entries).__name__}; allowed is a list")
    pixels = torch.empty(len(entries), 3, nano.SIZE, nano.SIZE, dtype=torch.uint8)
    captions = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise ValueError(f'entry {i} is {entry!r:.200}; allowed is {{"image": path, "captions": [text, …]}}')
        texts = entry.get("captions")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"entry {i} has the captions {texts!r:.200}; allowed is a list of texts, not empty")
        with Image.open(folder / entry["image"]) as image:
            pixels[i] = (nano.to_pixels([image])[0] * 255).round().to(torch.uint8)
        captions.append(texts)
    return pixels, captions


def train(pixels: Tensor, captions: list[list[str]], steps: int, batch_size: int, seed: int) -> nn.ModuleDict:
    """Symmetric contrastive loss over pairs of an image and one of its captions in one of the templates."""
    image, text = nano.ImageEncoder(), nano.TextEncoder()
    image.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
    weights = [*image.parameters(), *text.parameters(), log_scale]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    random = np.random.default_rng(seed)
    order: list[int] = []
    image.train()
    text.train()
    for step in range(steps):
        if len(order) < min(batch_size, len(captions)):
            order = random.permutation(len(captions)).tolist()
        batch, order = order[:batch_size], order[batch_size:]
        chosen = [captions[i][random.integers(len(captions[i]))].lower().strip() for i in batch]
        filled = [TEMPLATES[random.integers(len(TEMPLATES))].format(caption) for caption in chosen]
        with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):  # else emulated
            image_latents = image(augment(pixels[batch], random).contiguous(memory_format=torch.channels_last))
        image_latents = F.normalize(image_latents.float(), dim=-1)
        text_latents = F.normalize(text(*nano.bags(filled)), dim=-1)
        logits = log_scale.exp().clamp(max=MAX_LOGIT_SCALE) * image_latents @ text_latents.T
        # Two scenes may have the same caption: such a pair is neither right nor wrong.
        same = torch.tensor(np.unique(chosen, return_inverse=True)[1])
        logits = logits.masked_fill((same[:, None] == same) & ~torch.eye(len(batch), dtype=torch.bool), -torch.inf)
        target = torch.arange(len(batch))
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            log.info("step %d loss %.3f scale %.1f", step, loss.item(), log_scale.exp().item())
    return nn.ModuleDict({"image": image.eval(), "text": text.eval()})


def augment(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """[B, 3, S, S] uint8 -> float in 0..1, moved, lit and blurred a little.

    Hue and left-right stay: captions name them. Pictures of a generative model are softer
    than scenes, hence the blur (a smaller copy, blown up again).
    """
    x = pixels.float() / 255
    size = x.shape[-1]
    top, left = random.integers(0, 9, 2)
    x = F.pad(x, (4, 4, 4, 4), mode="reflect")[:, :, top : top + size, left : left + size]
    light = torch.from_numpy(random.uniform(0.8, 1.2, (2, len(x), 1, 1, 1)).astype(np.float32))
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * light[0] + mean * light[1]
    half = len(x) // 2
    small = F.interpolate(x[:half], size=int(random.integers(size // 4, size)), mode="bilinear", antialias=True)
    x = torch.cat([F.interpolate(small, size=size, mode="bilinear"), x[half:]])
    return x.clamp(0, 1)


@torch.inference_mode()
def fit_feature_scale(encoders: nn.ModuleDict, pixels: Tensor) -> None:
    """Sets the scale at which the features of `pixels` [N, 3, S, S] uint8 have the stated total variance."""
    image = encoders["image"]
    assert isinstance(image, nano.ImageEncoder)
    image.feature_scale.fill_(1.0)
    features = torch.cat([image.features(batch.float() / 255) for batch in pixels.split(nano.BATCH)])
    image.feature_scale.fill_((TOTAL_VARIANCE / features.var(dim=0).sum()).sqrt())


def save(encoders: nn.ModuleDict, path: Path) -> None:
    """Matrices and kernels in half precision (the loader computes in fp32), vectors as they are."""
    tensors = {
        key: (value.half() if value.ndim > 1 else value).contiguous() for key, value in encoders.state_dict().items()
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary)
        temporary.chmod(0o644)  # safetensors writes files that only their owner can read


def held_out_figures(encoders: nano.NanoEncoders, pixels: Tensor, captions: list[list[str]]) -> dict[str, float]:
    """Retrieval of the first caption by image and of the image by caption among 100 (fewer where there are fewer),
    the mean cosine of right and of wrong pairs, and the Fréchet distance of two small sets of the same kind.

    Pixels [N, 3, S, S] uint8.
    """
    images = [Image.fromarray(array) for array in pixels.permute(0, 2, 3, 1).numpy()]
    texts = [own[0] for own in captions]
    cosines = encoders.image_latents(images) @ encoders.text_latents(texts).T
    group = min(CANDIDATES, len(texts))
    starts = range(0, len(texts) - group + 1, group)
    blocks = [cosines[start : start + group, start : start + group] for start in starts]
    right = np.arange(group)
    different = np.array(texts)[:, None] != np.array(texts)
    few = min(FEW, len(images) // 2)
    distance = frechet_distance(encoders.image_features(images[:few]), encoders.image_features(images[-few:]))
    return {
        "candidates": float(group),
        "caption of an image, top-1": float(np.mean([block.argmax(axis=1) == right for block in blocks])),
        "image of a caption, top-1": float(np.mean([block.argmax(axis=0) == right for block in blocks])),
        "mean cosine, right caption": float(np.diag(cosines).mean()),
        "mean cosine, wrong caption": float(cosines[different].mean()),
        "right above a random wrong one": float(np.mean((np.diag(cosines)[:, None] > cosines)[different])),
        f"Fréchet distance, {few} images to {few} others": distance,
    }


def write_card(
    folder: Path,
    options: argparse.Namespace,
    trained: int,
    held_out: int,
    seconds: float,
    cpu_seconds: float,
    figures: dict[str, float],
) -> None:
    """Write the model card of the encoders: how they were trained, and what they reach."""
    rows = "\n".join(f"| {name} | {value:.3f} |" for name, value in figures.items() if name != "candidates")
    size = (folder / nano.FILE).stat().st_size / 1e6
    card = f"""# nano encoders

They stand in for ruCLIP and FID-Inception where those are not installed. Scores made with them are labelled
`{nano.NanoEncoders.label}`.

* Architecture: `evaluator/metrics/nano.py`; 64 × 64 pixels, latents of {nano.LATENT}, features of {nano.FEATURES};
  {size:.1f} MB, half precision, computed in fp32.
* Data: {trained} generated scenes of 64 × 64 with Russian captions from the submission's generator of small worlds:
  coloured shapes, and cut-outs of Debian's `tuxpaint-stamps-default` (GPL-2); {held_out} more held out.
* Training: symmetric contrastive loss, {options.steps} steps of {options.batch_size} pairs, seed {options.seed}; \
{seconds / 60:.1f} minutes ({cpu_seconds / 60:.1f} CPU minutes) on {options.threads} CPU thread(s).

| held out, {held_out} images, {figures["candidates"]:.0f} candidates | |
|---|---|
{rows}

Chance is {1 / figures["candidates"]:.3f} for top-1 and 0.5 for 'right above a random wrong one'. Captions that two
scenes share bound top-1 below 1. The Fréchet distance is that of sets of one kind: what few images cost.

Limits: the encoders know generated scenes. On photographs the cosine says little, and the features' distance less than
FID does; nor are the cosines of the size of ruCLIP's (right pairs there lie near 0.2 to 0.4).

To reproduce, from the repository's root:

    (cd submission && python -m training.worlds export --scenes {trained + held_out} --size 64 --out FOLDER)
    python -m evaluator.tools.nano_encoders --data FOLDER --steps {options.steps} --batch-size {options.batch_size} \
--seed {options.seed}
"""
    write_text(folder / "README.md", card)


if __name__ == "__main__":
    main()
