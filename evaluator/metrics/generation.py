"""Half ruCLIP against the caption, half FID against the reference images, as published.

FID belongs to the whole set of images, so the value of one sample is its ruCLIP alone, and an interval of the total
needs FID on resamples of (reference, generated) pairs. A resample of n pairs repeats some of them; by weighting the
distinct ones with their counts its covariance roots have about 0.63 n rows, and all products of rows come out of one
Gram matrix, computed once. FID of few images is biased upwards, and that of a resample, with its fewer distinct images,
once more: the resamples' mean excess over the FID of all images is taken off each of them, so that the interval shows
the spread about the score as it is reported.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from evaluator.core.errors import DataError
from evaluator.core.validation import number
from evaluator.metrics.base import ImageLoader, Metric, Parameters, Resources, Result, Sample
from evaluator.metrics.encoders import ENCODERS, cosines, encode_images, encode_images_by
from evaluator.metrics.fid import frechet_distance

FID_CEILING = 200.0  # published: a FID at or above it earns nothing
#: Above this many images the resamples keep the FID of all of them: each would take a singular value decomposition of
#: hundreds of rows, and there are a thousand.
MAX_RESAMPLED_FID_IMAGES = 500

RESAMPLED_ALL = "image pairs resampled, FID and ruCLIP on each resample; FID's resampling bias taken off"
RESAMPLED_RUCLIP = (
    f"the ruCLIP half alone: with more than {MAX_RESAMPLED_FID_IMAGES} images FID is held at its value over all"
)


def caption_of(texts: Sequence[str]) -> str:
    """The caption in a request for an image: the second text; of a single text all sentences but the first, which is
    the instruction (published; so the caption of a single sentence is empty).
    """
    return texts[1] if len(texts) > 1 else ". ".join(texts[0].split(". ")[1:])


def evaluate(samples: Sequence[Sample], resources: Resources, *, fid_ceiling: float = FID_CEILING) -> Result:
    """½ (mean cosine + (c - min(c, FID)) / c); raises DataError for fewer than two samples."""
    if len(samples) < 2:
        raise DataError("FID needs at least two images, and the data has one example of this task")
    encoders = resources[ENCODERS]
    generated = [_loader(sample.predicted_image) for sample in samples]
    reference = [_loader(sample.reference_image) for sample in samples]
    captions = [caption_of(sample.texts) for sample in samples]
    latents, y = encode_images_by((encoders.image_latents, encoders.image_features), generated)
    ruclip = cosines(encoders.text_latents(captions), latents)
    x = encode_images(encoders.image_features, reference)
    fid = float(frechet_distance(x, y))

    def total(ruclip: NDArray[np.float64], fid: NDArray[np.float64]) -> NDArray[np.float64]:
        return (ruclip + (fid_ceiling - np.minimum(fid_ceiling, fid)) / fid_ceiling) / 2

    def replicates(resamples: Iterator[NDArray[np.intp]]) -> NDArray[np.float64]:
        if len(samples) > MAX_RESAMPLED_FID_IMAGES:
            return total(np.array([ruclip[rows].mean() for rows in resamples]), np.array(fid))
        distance = ResampledFrechetDistance(x, y)
        drawn = np.array([(ruclip[rows].mean(), distance(rows)) for rows in resamples])  # [R, 2]
        unbiased = np.maximum(0.0, drawn[:, 1] - (drawn[:, 1].mean() - fid))
        return total(drawn[:, 0], unbiased)

    return Result(
        ruclip,
        float(total(ruclip.mean(), np.array(fid))),
        {"ruclip": float(ruclip.mean()), "fid": fid},
        replicates,
        RESAMPLED_ALL if len(samples) <= MAX_RESAMPLED_FID_IMAGES else RESAMPLED_RUCLIP,
    )


class ResampledFrechetDistance:
    """`frechet_distance(x[rows], y[rows])` for many `rows`, without the features' dimension in the cost of the root.

    x, y: [n, F], float64, n at least 2. A call takes O(n F + n²) and the singular values of a matrix of as many rows
    and columns as there are distinct `rows`.
    """

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        # One common shift changes no distance, and keeps the subtraction of means from losing digits.
        shift = (x.mean(axis=0) + y.mean(axis=0)) / 2
        self._x, self._y = x - shift, y - shift
        self._products = self._x @ self._y.T  # [n, n]
        self._squares = (self._x**2).sum(axis=1) + (self._y**2).sum(axis=1)  # [n]

    def __call__(self, rows: NDArray[np.intp]) -> float:
        size = len(rows)
        kept, counts = np.unique(rows, return_counts=True)
        share = counts / size
        mean_x, mean_y = share @ self._x[kept], share @ self._y[kept]
        traces = size / (size - 1) * (share @ self._squares[kept] - mean_x @ mean_x - mean_y @ mean_y)
        products = self._products[np.ix_(kept, kept)]
        # (x_i - mean x) · (y_j - mean y), from products of whole rows
        centred = products - (products @ share)[:, None] - (share @ products)[None, :] + share @ products @ share
        root = np.sqrt(counts / (size - 1))
        trace_root = np.linalg.svd(root[:, None] * centred * root[None, :], compute_uv=False).sum()
        return max(0.0, float(np.sum((mean_x - mean_y) ** 2) + traces - 2 * trace_root))


def _loader(image: ImageLoader | None) -> ImageLoader:
    assert image is not None, "the contract gives every sample of a task with image output both images"
    return image


class Ceiling(Parameters):
    """The FID that earns nothing."""

    fid_ceiling: Annotated[float, number(1)] = FID_CEILING


METRICS = (
    Metric(
        "image_generation",
        "1/2 (ruCLIP + (200 - FID)/200)",
        "image",
        evaluate,
        Ceiling,
        requires=(ENCODERS,),
        part_titles=(("ruclip", "ruCLIP"), ("fid", "FID")),
    ),
)
