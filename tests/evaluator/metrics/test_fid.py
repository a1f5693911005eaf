"""FID against published values: the distance, also against its textbook form, and the network's features."""

import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from evaluator.metrics import inception
from evaluator.metrics.fid import InceptionFeatures, fid_inception, frechet_distance

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data" / "fid"
REFERENCE = DATA / "reference.npz"
CPU = torch.device("cpu")


def textbook(x: np.ndarray, y: np.ndarray) -> float:
    difference = x.mean(axis=0) - y.mean(axis=0)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    # The trace of the square root is the sum of the eigenvalues' square roots.
    root = np.sqrt(np.linalg.eigvals(cov_x @ cov_y).astype(complex)).sum().real
    return float(difference @ difference + np.trace(cov_x + cov_y) - 2 * root)


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


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Weights by the rule that the reference was computed with; they depend on each key's name."""
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in fid_inception().state_dict().items()}
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.long)
            continue
        n = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        if key.endswith("running_var"):
            n = 1 + 0.1 * np.abs(n)
        elif key.endswith("bn.weight"):
            n = 1 + 0.1 * n
        elif len(shape) == 1:
            n = 0.1 * n
        else:
            n = n * np.sqrt(2 / np.prod(shape[1:]))
        state[key] = torch.from_numpy(n).float()
    return state


@pytest.fixture(scope="module")
def extractor(weights: dict[str, Tensor]) -> InceptionFeatures:
    return InceptionFeatures(weights, CPU)


def images(name: str) -> Iterator[Image.Image]:
    for path in sorted((DATA / name).glob("*.png")):
        with Image.open(path) as image:
            yield image.copy()


@pytest.fixture(scope="module")
def features(extractor: InceptionFeatures) -> dict[str, np.ndarray]:
    """Of both sets: one in a single batch from a list, one in batches of 4 and 2 from a generator."""
    real = extractor(list(images("real")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "BATCH", 4)
        return {"real": real, "generated": extractor(images("generated"))}


@pytest.mark.parametrize("name", ["real", "generated"])
@pytest.mark.slow
def test_published_features(features: dict[str, np.ndarray], name: str) -> None:
    assert features[name].dtype == np.float32
    np.testing.assert_allclose(features[name], np.load(REFERENCE)[name], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_published_fid_from_images(features: dict[str, np.ndarray]) -> None:
    distance = frechet_distance(features["real"], features["generated"])
    assert distance == pytest.approx(float(np.load(REFERENCE)["fid"]), rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_features_are_close(weights: dict[str, Tensor]) -> None:
    features = InceptionFeatures(weights)(list(images("real")))
    # Convolutions in TF32, torch's default there, keep 10 bits of a product's factors.
    np.testing.assert_allclose(features, np.load(REFERENCE)["real"], rtol=0, atol=5e-3)


def test_state_dict_has_the_published_keys_only(weights: dict[str, Tensor]) -> None:
    assert len(weights) == 94 * 6 + 2  # convolutions, each with its batch norm's five, and the classifier
    assert weights["fc.weight"].shape == (1008, 2048)
    assert weights["Mixed_5b.branch5x5_2.conv.weight"].shape == (64, 48, 5, 5)
    assert weights["Mixed_6b.branch7x7dbl_4.conv.weight"].shape == (128, 128, 7, 1)
    assert weights["Mixed_7c.branch3x3dbl_3b.bn.running_mean"].shape == (384,)
    assert not any(key.startswith("AuxLogits") for key in weights)


def test_weights_from_a_file_of_the_old_format(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "inception.pth"
    torch.save(weights, path, _use_new_zipfile_serialization=False)  # as the published file
    loaded = InceptionFeatures(path, CPU)._network.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[key], value) for key, value in weights.items())


def test_no_images_give_no_rows(extractor: InceptionFeatures) -> None:
    assert extractor([]).shape == (0, 2048)


def test_pixels_of_any_mode_reach_from_minus_one_to_one() -> None:
    pixels = inception.to_pixels([Image.new("L", (7, 900), 255), Image.new("CMYK", (300, 5), (0, 0, 0, 255))], CPU)
    assert pixels.shape == (2, 3, 299, 299)
    for row, value in zip(pixels, (1, -1), strict=True):
        torch.testing.assert_close(row, torch.full((3, 299, 299), float(value)), rtol=0, atol=1e-6)


def test_missing_weights_and_those_of_another_network_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    with pytest.raises(FileNotFoundError, match="none.pth: no such file"):
        InceptionFeatures(tmp_path / "none.pth", CPU)
    without = {key: value for key, value in weights.items() if key != "fc.bias"}
    with pytest.raises(ValueError, match=r"(?s)the state dict: not the weights of this network.*fc.bias"):
        InceptionFeatures(without, CPU)
    with pytest.raises(ValueError, match=r"(?s)not the weights of this network.*fc.bias"):
        InceptionFeatures(weights | {"fc.bias": torch.zeros(1000)}, CPU)


@pytest.mark.slow
def test_the_distance_alone_needs_no_torch() -> None:
    code = (
        "import sys; from evaluator.metrics import fid; assert 'torch' not in sys.modules;"
        "assert fid.fid_inception and 'torch' in sys.modules; fid.nothing"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stderr.rstrip().endswith("AttributeError: module 'evaluator.metrics.fid' has no attribute 'nothing'")
