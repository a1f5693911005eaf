"""Whether the evaluator's networks give the same on a GPU as on a CPU; the last line is one JSON object.

    python -m evaluator.tools.gpu_check --device cuda

The published weights are not needed: ruCLIP is the small reference model of the tests, Inception has random weights.
A part of `make gpu-check`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evaluator.metrics.clip import RuCLIP
from evaluator.metrics.inception import InceptionFeatures, fid_inception

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"


def differences(device: str) -> dict[str, float]:
    """The largest difference of each network's values, relative to the largest value on the CPU."""
    cpu, other = torch.device("cpu"), torch.device(device)
    folder = DATA / "ruclip"
    pictures = [Image.open(path) for path in sorted(folder.glob("*.png"))]
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    clips = [RuCLIP.from_pretrained(folder, where) for where in (cpu, other)]
    weights = random_weights(fid_inception())
    found = {
        "ruCLIP, images": [clip.image_latents(pictures) for clip in clips],
        "ruCLIP, texts": [clip.text_latents(texts) for clip in clips],
        "Inception": [InceptionFeatures(weights, where)(pictures) for where in (cpu, other)],
    }
    return {name: _off(*pair) for name, pair in found.items()}


def random_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A state dict whose activations neither vanish nor grow, the same each time."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in network.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim > 1:
            state[name] = drawn * (2 / value[0].numel()) ** 0.5
        else:
            state[name] = 0.1 * drawn + float(name.endswith(("bn.weight", "running_var")))
        if not value.is_floating_point():
            state[name] = torch.zeros_like(value)
        elif name.endswith("running_var"):
            state[name] = state[name].abs() + 0.1
    return state


def _off(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    return float(np.abs(expected - found).max() / np.abs(expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="where to compute (default: %(default)s)")
    print(json.dumps(differences(parser.parse_args().device)))


if __name__ == "__main__":
    main()
