"""Small image and text encoders that stand in for ruCLIP and FID-Inception where those are not installed.

A convolutional network and a bag of hashed words meet in one latent space, trained contrastively (CLIP, Radford et al.
2021, arXiv:2103.00020) on captioned scenes by `evaluator/tools/nano_encoders.py`; `assets/nano/README.md` has the
data and the held-out figures. Scores made with them say something about a model trained on such scenes and are never
comparable with the leaderboard: `NanoEncoders.label` has to be shown wherever they are.
"""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from evaluator.metrics.clip import TEMPLATES
from evaluator.metrics.network import keep_freed_memory

FOLDER = Path(__file__).parents[1] / "assets" / "nano"
FILE = "encoders.safetensors"

SIZE = 64  # pixels a side
LATENT = 96  # D, of the shared space
FEATURES = 160  # F, of the Fréchet distance
BUCKETS, WIDTH = 16384, 48  # of the table of hashed text features
MAX_WORDS = 64  # later words are ignored, so that a text of any length costs the same
BATCH = 64  # images, or texts, a forward pass

T = TypeVar("T")


class NanoEncoders:
    """Trained encoders on the CPU, fp32, ready to use; results do not depend on how the inputs are batched."""

    label = "encoders: nano, not comparable with the leaderboard"

    def __init__(self, image: "ImageEncoder", text: "TextEncoder") -> None:
        self.image = image.eval()
        self.text = text.eval()

    @classmethod
    def load(cls, folder: str | Path = FOLDER) -> Self:
        """Reads `encoders.safetensors` of a folder. Raises FileNotFoundError or ValueError that name the file."""
        path = Path(folder) / FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; python -m evaluator.tools.nano_encoders writes it")
        keep_freed_memory()
        both = nn.ModuleDict({"image": ImageEncoder(), "text": TextEncoder()})
        try:
            both.load_state_dict({key: value.float() for key, value in load_file(path).items()})
        except (SafetensorError, RuntimeError) as error:
            raise ValueError(f"{path}: not the weights of these encoders: {error}") from error
        image, text = both["image"], both["text"]
        assert isinstance(image, ImageEncoder) and isinstance(text, TextEncoder)
        return cls(image, text)

    @torch.inference_mode()
    def text_latents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[N, D] unit rows: the mean over the six templates of the lower-cased, stripped text, then normalised."""
        rows = [torch.zeros(0, LATENT)]
        for batch in _batches(texts):
            filled = [template.format(text.lower().strip()) for text in batch for template in TEMPLATES]
            latents = self.text(*bags(filled)).view(len(batch), len(TEMPLATES), LATENT)
            rows.append(F.normalize(latents.mean(dim=1), dim=-1))
        return torch.cat(rows).numpy()

    @torch.inference_mode()
    def image_latents(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """[N, D] unit rows. An image of any mode and size is cropped to its central square first."""
        rows = [torch.zeros(0, LATENT)]
        rows += [F.normalize(self.image(to_pixels(batch)), dim=-1) for batch in _batches(images)]
        return torch.cat(rows).numpy()

    @torch.inference_mode()
    def image_features(self, images: Sequence[Image.Image]) -> NDArray[np.float64]:
        """[N, F] pooled features for `fid.frechet_distance`, scaled to a total variance of 100 over held-out scenes.

        The scale brings the distance into the range of FID (0 alike, 200 and more unlike), nothing more.
        """
        rows = [torch.zeros(0, FEATURES)]
        rows += [self.image.features(to_pixels(batch)) for batch in _batches(images)]
        return torch.cat(rows).numpy().astype(np.float64)


class ImageEncoder(nn.Module):
    """Pixels [B, 3, 64, 64] in 0..1 -> latent [B, D], not normalised. About half a million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(5, 32, stride=2)  # 32 x 32; two channels more than the pixels: see `forward`
        self.down1, self.block1 = _Conv(32, 64, stride=2), _Conv(64, 64)  # 16 x 16
        self.down2, self.block2 = _Conv(64, 128, stride=2), _Conv(128, 128)  # 8 x 8
        self.down3 = _Conv(128, FEATURES, stride=2)  # 4 x 4
        self.project = nn.Linear(4 * FEATURES, LATENT)
        self.feature_scale = nn.Buffer(torch.ones(()))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.project(F.adaptive_avg_pool2d(self._maps(pixels), 2).flatten(1))  # quadrants: 'left', 'above'

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, F]."""
        return self._maps(pixels).mean(dim=(2, 3)) * self.feature_scale

    def _maps(self, pixels: Tensor) -> Tensor:
        """[B, 3, 64, 64] -> [B, F, 4, 4], not negative."""
        # Captions name places, which a convolution cannot see: two channels carry the row and the column.
        line = torch.linspace(-1, 1, SIZE, device=pixels.device)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij")).expand(pixels.shape[0], -1, -1, -1)
        x = self.stem(torch.cat([pixels * 2 - 1, grid], dim=1))
        x = self.down1(x)
        x = x + self.block1(x)
        x = self.down2(x)
        x = x + self.block2(x)
        return self.down3(x)


class _Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )


class TextEncoder(nn.Module):
    """Bags of hashed features (see `bags`) -> latent [B, D], not normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(BUCKETS, WIDTH, mode="mean")
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 256), nn.GELU(), nn.Linear(256, LATENT))

    def forward(self, ids: Tensor, offsets: Tensor) -> Tensor:
        return self.mlp(self.table(ids, offsets))


def bags(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Texts -> ids of all their features, one after the other, and the offset [B] where each text starts."""
    ids: list[int] = []
    offsets: list[int] = []
    for text in texts:
        offsets.append(len(ids))
        words = re.findall(r"\w+", text.lower().replace("ё", "е"))[:MAX_WORDS]
        ids.append(_bucket("start"))  # so that no bag is empty, that of '🙂' neither
        for word in words:
            ids.extend(_word(word))
        stems = [word[:5] for word in words]  # 'красный круг' and 'красного круга' share their pair
        ids.extend(_bucket(f"2:{' '.join(pair)}") for pair in zip(stems, stems[1:], strict=False))
        ids.extend(_bucket(f"3:{' '.join(triple)}") for triple in zip(stems, stems[1:], stems[2:], strict=False))
    return torch.tensor(ids, dtype=torch.long), torch.tensor(offsets, dtype=torch.long)


@lru_cache(maxsize=65536)
def _word(word: str) -> tuple[int, ...]:
    """The word itself and its 3- and 4-grams, which inflected forms share."""
    marked = f"<{word[:32]}>"
    grams = {marked[i : i + n] for n in (3, 4) for i in range(len(marked) - n + 1)}
    return (_bucket(f"w:{word}"), *(_bucket(f"c:{gram}") for gram in sorted(grams)))


def _bucket(feature: str) -> int:
    return zlib.crc32(feature.encode("utf-8", "surrogatepass")) % BUCKETS  # Python's own hash differs in each process


def to_pixels(images: Sequence[Image.Image]) -> Tensor:
    """Images -> [B, 3, 64, 64] in 0..1: central square, then bilinear (antialiased) resize."""
    arrays = []
    for image in images:
        width, height = image.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        arrays.append(np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR)))
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def _batches(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]
