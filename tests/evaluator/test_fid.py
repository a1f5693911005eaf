"""The Fréchet distance against the published value and against the textbook form with a matrix square root."""

from pathlib import Path

import numpy as np
import pytest
from scipy import linalg

from evaluator.metrics.fid import frechet_distance

REFERENCE = Path(__file__).parents[1] / "data" / "fid" / "reference.npz"


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    difference = x.mean(axis=0) - y.mean(axis=0)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(difference @ difference + np.trace(cov_x + cov_y) - 2 * np.trace(linalg.sqrtm(cov_x @ cov_y)).real)


def samples(n: int, size: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.standard_normal((n, size)) @ random.standard_normal((size, size)) + random.standard_normal(size)


def test_published_value() -> None:
    reference = np.load(REFERENCE)
    assert frechet_distance(reference["x"], reference["y"]) == pytest.approx(float(reference["frechet_xy"]), rel=1e-6)


def test_published_value_of_six_images() -> None:
    reference = np.load(REFERENCE)  # 6 x 2048 each; the published number there comes from a rank-deficient square root
    distance = frechet_distance(reference["real"], reference["generated"])
    assert distance == pytest.approx(float(reference["fid"]), rel=0.01)


@pytest.mark.parametrize(
    ("n", "m", "size"), [(200, 150, 12), (200, 13, 12), (40, 300, 39), (2000, 2000, 3), (50, 60, 1)]
)
def test_equals_textbook_form(n: int, m: int, size: int) -> None:
    x, y = samples(n, size, 1), samples(m, size, 2)
    one_feature = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    expected = textbook(x, y) if size > 1 else float(one_feature)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(5, 7), (5, 100), (2, 2)])
def test_few_samples_equal_textbook_form_through_symmetric_roots(n: int, m: int) -> None:
    x, y = samples(n, 30, 3), samples(m, 30, 4)

    def root(matrix: np.ndarray) -> np.ndarray:  # of a rank-deficient covariance: eigenvalues are real and >= 0
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    root_x, cov_y = root(np.cov(x, rowvar=False)), np.cov(y, rowvar=False)
    difference = x.mean(axis=0) - y.mean(axis=0)
    inner = np.linalg.eigvalsh(root_x @ cov_y @ root_x).clip(0)
    expected = difference @ difference + np.trace(root_x @ root_x) + np.trace(cov_y) - 2 * np.sqrt(inner).sum()
    assert frechet_distance(x, y) == pytest.approx(float(expected), rel=1e-6)


def test_symmetric_and_zero_for_the_same_set() -> None:
    x, y = samples(9, 40, 5), samples(11, 40, 6)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-12)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-9)


def test_shift_adds_its_square() -> None:
    x = samples(9, 40, 7)
    assert frechet_distance(x, x + 3) == pytest.approx(40 * 9, rel=1e-9)


def test_float32_is_computed_in_float64() -> None:
    x, y = samples(9, 40, 8).astype(np.float32), samples(11, 40, 9).astype(np.float32)
    assert frechet_distance(x, y) == frechet_distance(x.astype(np.float64), y.astype(np.float64))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((1, 4)), np.zeros((3, 4)), r"x has shape \(1, 4\).*at least 2"),
        (np.zeros((3, 4)), np.zeros(4), r"y has shape \(4,\)"),
        (np.zeros((3, 4)), np.zeros((3, 5)), "x has 4 features a row and y has 5"),
        (np.zeros((3, 4)), np.full((3, 4), np.nan), "y has values that are not finite"),
    ],
)
def test_bad_input_is_named(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(x, y)
