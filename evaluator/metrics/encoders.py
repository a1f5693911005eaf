"""Image and text encoders, as metrics use them: ruCLIP and FID-Inception, or the nano encoders that stand in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluator.metrics import assets
from evaluator.metrics.base import ImageLoader, Resource

BATCH = 64  # images held in memory at once,
BATCH_PIXELS = 2**25  # and their pixels, but for a single larger image: 128 MB

Encode = Callable[[list[Image.Image]], np.ndarray]


class Encoders(Protocol):
    """Image and text encoders. Latents are [N, D] and normalised, features for FID are [N, F].

    `label` is shown with every score that they take part in; None for the leaderboard's own.
    """

    @property
    def label(self) -> str | None:
        """Why scores made with them are not the leaderboard's."""
        ...

    def text_latents(self, texts: list[str]) -> np.ndarray:
        """[N, D] unit rows."""
        ...

    def image_latents(self, images: list[Image.Image]) -> np.ndarray:
        """[N, D] unit rows."""
        ...

    def image_features(self, images: list[Image.Image]) -> np.ndarray:
        """[N, F]."""
        ...


ENCODERS: Resource[Encoders] = Resource("encoders", assets.load_encoders, lambda encoders: encoders.label, small=False)


def encode_images(encode: Encode, images: Sequence[ImageLoader]) -> NDArray[np.float64]:
    """Rows of `encode` for all images, [N, D]; only so many images are held at once as make one batch."""
    return encode_images_by((encode,), images)[0]


def encode_images_by(encodes: Sequence[Encode], images: Sequence[ImageLoader]) -> list[NDArray[np.float64]]:
    """The same by each of `encodes`, [N, D] each, with every image loaded once for all of them."""
    rows = [[np.asarray(encode(batch), dtype=np.float64) for encode in encodes] for batch in _loaded(images)]
    return [np.concatenate(of_one) for of_one in zip(*rows, strict=True)]


def _loaded(images: Sequence[ImageLoader]) -> Iterator[list[Image.Image]]:
    """Batches of `BATCH` images, fewer where these are large."""
    batch: list[Image.Image] = []
    pixels = 0
    for load in images:
        image = load()
        pixels += image.width * image.height
        if batch and (len(batch) == BATCH or pixels > BATCH_PIXELS):
            yield batch
            batch, pixels = [], image.width * image.height
        batch.append(image)
        del image
    if batch:
        yield batch


def cosines(x: np.ndarray, y: np.ndarray) -> NDArray[np.float64]:
    """Cosine of row i of `x` with row i of `y`, both normalised: [N, D], [N, D] -> [N]."""
    return np.einsum("nd,nd->n", x.astype(np.float64), y.astype(np.float64))
