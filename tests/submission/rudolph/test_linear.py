"""Linear layers for inference, against the plain ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rudolph import RudolphModel
from rudolph.config import BOS
from rudolph.generate import generate_image, generate_text
from rudolph.linear import INT8_KERNEL_ROWS, Int8Linear, PackedLinear, RowsLinear, can_pack, pack_, quantize_int8_
from rudolph.sampling import GREEDY, Sampling

DATA = Path(__file__).parents[2] / "data" / "rudolph"
ROWS = (1, 2, INT8_KERNEL_ROWS, INT8_KERNEL_ROWS + 1, 33)

needs_onednn = pytest.mark.skipif(not can_pack(nn.Linear(1, 1)), reason="oneDNN is not there")


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 80).eval()


@needs_onednn
@pytest.mark.parametrize("rows", ROWS)
@torch.inference_mode()
def test_packed_equals_plain(linear: nn.Linear, rows: int) -> None:
    x = torch.randn(rows, 3, 96)
    packed = PackedLinear(linear)
    assert (packed.rows(x, 16, 48) - linear(x)[..., 16:48]).abs().max() < 1e-5
    assert (packed(x) - linear(x)).abs().max() < 1e-5
    assert (packed(x[:, 0]) - linear(x[:, 0])).abs().max() < 1e-5


@needs_onednn
@torch.inference_mode()
def test_rows_after_all_rows_are_refused(linear: nn.Linear) -> None:
    packed = PackedLinear(linear)
    packed.rows(torch.randn(1, 96), 0, 8)
    packed(torch.randn(1, 96))
    packed.rows(torch.randn(1, 96), 0, 8)
    with pytest.raises(RuntimeError, match="plain weights of this layer are gone"):
        packed.rows(torch.randn(1, 96), 0, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", ROWS)
@torch.inference_mode()
def test_int8_is_the_product_with_rounded_weights(linear: nn.Linear, rows: int, dtype: torch.dtype) -> None:
    linear = linear.to(dtype)
    x = torch.randn(rows, 96, dtype=dtype)
    quantized = Int8Linear(linear)
    step = linear.weight.float().abs().amax(1, keepdim=True) / 127
    rounded = (linear.weight.float() / step).round() * step
    expected = x.float() @ rounded.T + linear.bias.float()
    tolerance = 1e-4 if dtype == torch.float32 else 0.02
    assert (quantized(x).float() - expected).abs().max() < tolerance
    assert (quantized.rows(x, 16, 48).float() - expected[:, 16:48]).abs().max() < tolerance
    assert (rounded - linear.weight.float()).abs().max() <= (step / 2).max() + 1e-6


@torch.inference_mode()
def test_int8_of_rows_that_are_all_zero() -> None:
    linear = nn.Linear(8, 2).eval()
    linear.weight[0] = 0
    assert Int8Linear(linear)(torch.ones(1, 8)).isfinite().all()


@needs_onednn
@pytest.mark.parametrize("name", ["a", "b"])
def test_packed_models_generate_the_published_sequences(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    monkeypatch.setattr("rudolph.linear.PACK_FROM", 0)
    model = RudolphModel.from_pretrained(DATA / name).eval()
    layers = sum(isinstance(module, nn.Linear) for module in model.modules())
    pack_(model)
    assert sum(isinstance(module, RowsLinear) for module in model.modules()) == layers
    with np.load(DATA / name / "reference.npz") as file:
        left, image, expected = (torch.from_numpy(file[key]) for key in ("left", "image", "greedy_image"))
        right = torch.from_numpy(file["greedy_right_given"])
    assert torch.equal(generate_image(model, left, GREEDY), expected)
    begin = torch.tensor([BOS, model.config.special_id("RT_UNK")])
    assert generate_text(model, left, image, begin, GREEDY, stop=False) == right[:, 2:].tolist()
    seeds = list(range(9))
    sampling = Sampling(top_k=40, top_p=0.95, temperature=1.3)
    together = generate_image(model, left.repeat(3, 1), sampling, seeds=seeds)
    for row in (0, 4, 8):
        alone = generate_image(model, left.repeat(3, 1)[row : row + 1], sampling, seeds=[row])
        assert torch.equal(alone[0], together[row])


def test_small_layers_stay_as_they_are(tiny_model: Callable[[], RudolphModel]) -> None:
    model = pack_(tiny_model())
    assert not any(isinstance(module, RowsLinear) for module in model.modules())


@torch.inference_mode()
def test_int8_model_is_close(tiny_model: Callable[[], RudolphModel]) -> None:
    plain, quantized = tiny_model(), quantize_int8_(tiny_model())
    ids = torch.arange(1, 21)[None]
    wanted, got = (model(ids).logits for model in (plain, quantized))
    assert not torch.equal(wanted, got)
    assert (wanted - got).abs().mean() < 0.05 * wanted.abs().mean()


def test_a_model_in_training_is_refused(tiny_model: Callable[[], RudolphModel]) -> None:
    for replace in (pack_, quantize_int8_):
        with pytest.raises(ValueError, match="training mode"):
            replace(tiny_model().train())
