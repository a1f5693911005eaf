"""Sampling: which ids are kept, how often they are drawn, independence of the batch."""

import pytest
import torch

from rudolph.sampling import GREEDY, IMAGE_SAMPLING, TEXT_SAMPLING, Sampling, sample, uniforms


def kept_by_definition(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities [V] of one row after top-k and top-p, written id by id."""
    scaled = logits / sampling.temperature
    order = scaled.argsort(descending=True).tolist()
    if sampling.top_k:
        order = order[: sampling.top_k]
    probabilities = scaled[order].softmax(0)
    result, total = torch.zeros_like(logits), 0.0
    for index, probability in zip(order, probabilities.tolist(), strict=True):
        if total > sampling.top_p:
            break
        result[index] = probability
        total += probability
    return result / result.sum()


@pytest.mark.parametrize(
    "sampling",
    [Sampling(), Sampling(top_k=5), Sampling(top_p=0.6), Sampling(8, 0.7, 1.5), Sampling(top_p=1e-6), TEXT_SAMPLING],
)
def test_drawn_as_often_as_defined(sampling: Sampling) -> None:
    logits = torch.randn(20, generator=torch.Generator().manual_seed(1)) * 2
    n = 20_000
    uniform = (torch.arange(n) + 0.5) / n  # an even grid: counts are exact up to one per id
    counts = sample(logits.expand(n, -1), sampling, uniform).bincount(minlength=20)
    expected = kept_by_definition(logits, sampling)
    assert ((counts / n - expected).abs() < 2 / n + 1e-5).all()
    assert ((counts > 0) == (expected > 1e-4)).all()


def test_greedy_is_the_arg_max() -> None:
    logits = torch.randn(64, 50)
    assert torch.equal(sample(logits, GREEDY, torch.rand(64)), logits.argmax(-1))
    assert GREEDY.greedy and not IMAGE_SAMPLING.greedy


def test_the_ends_of_the_uniform_range_and_forbidden_ids() -> None:
    logits = torch.full((2, 1000), -torch.inf)
    logits[:, [3, 700]] = torch.tensor([1.0, 0.0])
    edge = torch.tensor([0.0, 1.0 - 2**-24])
    for sampling in (Sampling(), IMAGE_SAMPLING, TEXT_SAMPLING, Sampling(top_p=0.9)):
        assert sample(logits, sampling, edge).tolist() == [3, 700 if sampling.top_p > 0.7311 else 3]


def test_rows_do_not_depend_on_each_other() -> None:
    logits, uniform = torch.randn(16, 300), uniforms(16, 1, range(16))[:, 0]
    together = sample(logits, TEXT_SAMPLING, uniform)
    alone = [sample(logits[i : i + 1], TEXT_SAMPLING, uniform[i : i + 1]).item() for i in range(16)]
    assert together.tolist() == alone


def test_uniforms_come_from_the_row_seed() -> None:
    both = uniforms(2, 30, [7, 8])
    assert torch.equal(both[1], uniforms(1, 30, [8])[0])
    assert not torch.equal(both[0], both[1])
    assert uniforms(3, 4, None).shape == (3, 4)
    with pytest.raises(ValueError, match="there are 1 seeds for 2 rows"):
        uniforms(2, 3, [1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"top_k": -1}, "top_k is -1"), ({"top_p": 0.0}, "top_p is 0.0"), ({"temperature": 0.0}, "temperature is 0.0")],
)
def test_settings_are_checked(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**arguments)  # type: ignore[arg-type]
