"""Triton's kernels against the operations that they stand for; without a GPU in Triton's interpreter (conftest.py)."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from rudolph import RudolphConfig, RudolphModel, Sampling
from rudolph.generate import generate_image
from rudolph.graphs import use_step_graphs_
from rudolph.sampling import IMAGE_SAMPLING, TEXT_SAMPLING, sample

pytest.importorskip("triton")
fused = importlib.import_module("rudolph.fused")
fused_sampling = importlib.import_module("rudolph.fused_sampling")

pytestmark = pytest.mark.slow
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # of the largest value
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def tiny(sandwich: bool, left: int, layers: int = 5) -> RudolphModel:
    """With five layers every kind of attention is among them; weights of a size that makes attention choose."""
    torch.manual_seed(1)
    model = RudolphModel(
        RudolphConfig(
            num_layers=layers, hidden_size=16, num_attention_heads=2, l_text_seq_length=left, image_tokens_per_dim=3,
            r_text_seq_length=6, kernel_size=3, last_kernel_size=3, vocab_size=40 + left, image_vocab_size=32,
            cogview_sandwich_layernorm=sandwich,
        )
    ).eval()  # fmt: skip
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.4)
    return model.to(DEVICE)


@torch.no_grad()
def states(model: RudolphModel, ids: Tensor, fuse: bool) -> Tensor:
    """Hidden states of steps at both ends of the image, in the right text, and there at positions of the rows' own."""
    use_step_graphs_(model, capture=False, fuse=fuse)
    config, found = model.config, []
    for first, steps in ((config.l_text_seq_length, 1), (config.image_end - 1, 3)):
        _, cache = model.prefill(ids[:, :first])
        for position in range(first, first + steps):
            found.append(model.decode(ids[:, position : position + 1], position, cache).clone())
        if first > config.l_text_seq_length:
            own = config.image_end + torch.arange(len(ids)) % 3
            found.append(model.decode(ids[:, :1], own, cache).clone())
        del cache
    return torch.stack(found)


@pytest.mark.parametrize(("rows", "sandwich", "splits"), [(1, True, 2), (1, False, 1), (3, True, 1), (2, False, 4)])
def test_a_step_is_the_same_by_triton(monkeypatch: pytest.MonkeyPatch, rows: int, sandwich: bool, splits: int) -> None:
    # Small, so that every loop runs more than once and the last of its turns is not full.
    for name, value in {"KEYS_AT_A_TIME": 16, "WHOLE_INPUTS": 32, "INPUTS_AT_A_TIME": 32, "GEMV_OUTPUTS": 8,
                        "GEMV_TILES": 3, "LONG_GEMV_OUTPUTS": 8, "MOST_SPLITS": splits}.items():  # fmt: skip
        monkeypatch.setattr(fused, name, value)
    model = tiny(sandwich, left=37)
    ids = torch.randint(4, 32, (rows, model.config.total_seq_length), device=DEVICE)
    ids[0, 20:37] = 0
    expected = states(model, ids, fuse=False)
    assert (states(model, ids, fuse=True) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "sampling", [IMAGE_SAMPLING, TEXT_SAMPLING, Sampling(), Sampling(16, 0.9), Sampling(0, 0.3, 2.0), Sampling(5000)]
)
def test_a_draw_is_the_same_by_triton(sampling: Sampling) -> None:
    torch.manual_seed(2)
    logits = torch.randn(4, 1500) * torch.tensor([0.5, 1.0, 3.0, 8.0])[:, None]
    logits[:, 5:50] = -torch.inf
    uniform = torch.tensor([0.0, 0.3, 0.7, 0.95])
    values = (sampling.top_k, sampling.top_p, sampling.temperature)
    drawn = fused_sampling.draw(logits.to(DEVICE), *values, uniform.to(DEVICE)).cpu()
    assert torch.equal(drawn, sample(logits, sampling, uniform))


def test_equal_logits_are_drawn_equally_often() -> None:
    """In 16 bits many are equal, and the k-th may be: all that are equal to it are kept, as published."""
    logits = torch.tensor([1.0, 3.0, 3.0, 3.0, -2.0, 2.0, 2.0, 0.0], dtype=torch.bfloat16).expand(40, -1).contiguous()
    uniform = (torch.arange(40) + 0.5) / 40
    drawn = fused_sampling.draw(logits.to(DEVICE), 4, 1.0, 1.0, uniform.to(DEVICE)).cpu()
    counts = torch.bincount(drawn, minlength=8).tolist()
    assert counts[0] == counts[4] == counts[7] == 0 and sum(counts) == 40
    assert max(counts[1:4]) - min(counts[1:4]) <= 1 and abs(counts[5] - counts[6]) <= 1 and counts[5] > 0


def test_a_draw_from_what_has_no_shares_takes_the_largest() -> None:
    logits = torch.zeros(4, 20)
    logits[0] = -torch.inf
    logits[1, 7] = torch.inf
    logits[2] = torch.arange(20.0)
    transposed = logits.T.contiguous().T  # rows that do not lie in one piece
    drawn = fused_sampling.draw(transposed.to(DEVICE), 0, 1.0, 1.0, torch.full((4,), 0.5).to(DEVICE)).cpu()
    assert drawn.tolist() == [0, 7, 19, 10]


def test_a_step_made_in_inference_mode_serves_outside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "MOST_SPLITS", 1)  # each piece is a program more to interpret
    model = tiny(True, left=8)
    use_step_graphs_(model, capture=False, fuse=True)
    ids = torch.randint(4, 32, (2, model.config.total_seq_length), device=DEVICE)
    expected = states(model, ids, fuse=False)[0]
    use_step_graphs_(model, capture=False, fuse=True)
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            _, cache = model.prefill(ids[:, :8])
            found = model.decode(ids[:, 8:9], 8, cache).clone()
            del cache
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "branches",
    # One candidate, more than a program reads for, and few; then in an order that leaves none together.
    [[1] * 17 + [0] + [2, 2], [0, 1, 0, 2]],
)
@torch.no_grad()
def test_candidates_read_the_left_text_of_their_request(
    monkeypatch: pytest.MonkeyPatch, branches: list[int], dtype: torch.dtype
) -> None:
    for name, value in {"KEYS_AT_A_TIME": 16, "MOST_SPLITS": 4}.items():
        monkeypatch.setattr(fused, name, value)
    model = tiny(sandwich=True, left=37, layers=2).to(dtype)
    config, rows = model.config, torch.tensor(branches, device=DEVICE)
    ids = torch.randint(4, 32, (len(branches), config.total_seq_length), device=DEVICE)
    found: dict[bool, list[Tensor]] = {False: [], True: []}
    for fuse in found:
        use_step_graphs_(model, capture=False, fuse=fuse)
        prefix = model.prefix(torch.randint(4, 32, (3, 37), generator=torch.Generator().manual_seed(3)).to(DEVICE))
        cache = model.new_cache(len(branches), 37)
        cache.branch(prefix.cache, rows)
        for position in (37, config.image_end - 1, config.image_end):
            found[fuse].append(model.decode(ids[:, position : position + 1], position, cache).clone())
        if fuse:
            graphs: Any = model.step_graphs
            first = cache.keys[0][:, :, cache.scratch : cache.scratch + 37]
            assert graphs._together == (len(branches) > 4)
            assert torch.equal(first[0], prefix.cache.keys[0][branches[0]])  # the first of its request has its text
            again = graphs._compute("right", len(branches))  # with which a graph is compared
            assert (again - found[fuse][-1]).abs().max() < TOLERANCE[dtype] * again.abs().max()
        # The last request's rows go on by themselves.
        cache.select(torch.tensor([len(branches) - 1, 0], device=DEVICE))
        found[fuse].append(model.decode(ids[:2, -1:], config.image_end + 1, cache).clone())
        del cache
    for expected, got in zip(*found.values(), strict=True):
        assert (got - expected).abs().max() < TOLERANCE[dtype] * expected.abs().max()


def test_drawings_of_candidates_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "MOST_SPLITS", 2)
    model = tiny(sandwich=True, left=20, layers=2)
    left, branches = torch.randint(4, 32, (2, 20), device=DEVICE), torch.tensor([1, 1, 1, 0], device=DEVICE)
    expected = generate_image(model, left[branches], seeds=range(4))
    use_step_graphs_(model, capture=False, fuse=True)
    with torch.inference_mode():
        assert torch.equal(generate_image(model, model.prefix(left), branches=branches, seeds=range(4)), expected)
