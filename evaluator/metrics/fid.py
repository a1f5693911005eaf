"""Fréchet distance between two sets of image features (FID, Heusel et al. 2017, arXiv:1706.08500).

`fid_inception` and `InceptionFeatures`, the published features, are `evaluator.metrics.inception`'s and can be had from
here too.

With C1, C2 the sample covariances (n - 1 in the denominator, as `numpy.cov`):

    d = |mean(x) - mean(y)|² + tr C1 + tr C2 - 2 tr (C1 C2)^½

The textbook form takes a matrix square root of the [F, F] product: minutes for F = 2048, and ill-defined numerically
when there are fewer samples than features. Here C1 = AᵀA and C2 = BᵀB, with A and B the centred features over √(n - 1).
The non-zero eigenvalues of AᵀA BᵀB are those of (ABᵀ)(ABᵀ)ᵀ, so tr (C1 C2)^½ is exactly the sum of the singular
values of ABᵀ, an [n, m] matrix. With more samples than features, A and B are first replaced by the R of their QR
decomposition (AᵀA = RᵀR), so the singular values are of a matrix no larger than [min(n, F), min(m, F)].
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from evaluator.metrics.inception import InceptionFeatures, fid_inception

__all__ = ["InceptionFeatures", "fid_inception", "frechet_distance"]


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Fréchet distance of the Gaussians fitted to two feature matrices.

    x: [n, F], y: [m, F], finite numbers, n and m at least 2; computed in float64. Symmetric; never negative.
    Raises ValueError where a matrix has another shape, too few rows, or a value that is not finite.
    """
    mean_x, root_x = _mean_and_root(x, "x")
    mean_y, root_y = _mean_and_root(y, "y")
    if mean_x.shape != mean_y.shape:
        raise ValueError(f"x has {mean_x.size} features a row and y has {mean_y.size}; they must be equal")
    trace_root = np.linalg.svd(root_x @ root_y.T, compute_uv=False).sum()
    distance = np.sum((mean_x - mean_y) ** 2) + np.sum(root_x**2) + np.sum(root_y**2) - 2 * trace_root
    return max(0.0, float(distance))  # rounding can leave -1e-13 for equal sets


def _mean_and_root(features: ArrayLike, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[n, F] -> mean [F] and a root R [min(n, F), F] of the covariance: RᵀR = cov."""
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] < 2 or matrix.shape[1] < 1:
        raise ValueError(f"{name} has shape {matrix.shape}; allowed is [n, F] with n at least 2 and F at least 1")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} has values that are not finite")
    mean = matrix.mean(axis=0)
    root = (matrix - mean) / np.sqrt(matrix.shape[0] - 1)
    if root.shape[0] > root.shape[1]:
        root = np.linalg.qr(root, mode="r")
    return mean, root


def __getattr__(name: str) -> Any:
    """The names of `evaluator.metrics.inception`, imported when first asked for: the distance needs no torch."""
    if name not in ("InceptionFeatures", "fid_inception"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from evaluator.metrics import inception

    return getattr(inception, name)
