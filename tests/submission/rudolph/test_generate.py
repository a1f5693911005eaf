"""Generation against the published greedy sequences and against plain decoding without a cache."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from rudolph.config import BOS, EOS, Vocabulary
from rudolph.generate import Begun, begin_text, generate, generate_image, generate_refilled, generate_text
from rudolph.graphs import use_step_graphs_
from rudolph.modeling import RudolphModel
from rudolph.sampling import GREEDY, IMAGE_SAMPLING, Sampling, sample, uniforms

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "data" / "rudolph"
SPREAD = Sampling(top_k=40, top_p=0.95, temperature=1.3)
Case = tuple[RudolphModel, dict[str, torch.Tensor]]


@pytest.fixture(scope="module", params=["a", "b"])
def case(request: pytest.FixtureRequest) -> Case:
    folder = DATA / request.param
    with np.load(folder / "reference.npz") as file:
        return RudolphModel.from_pretrained(folder), {
            key: torch.from_numpy(file[key]) for key in file if file[key].ndim
        }


def right_prefix(model: RudolphModel) -> torch.Tensor:
    return torch.tensor([BOS, model.config.special_id("RT_UNK")])


@torch.no_grad()
def without_cache(
    model: RudolphModel, prefix: torch.Tensor, n: int, vocabulary: Vocabulary, sampling: Sampling, seeds: list[int]
) -> torch.Tensor:
    """The oracle: the whole sequence through the whole model for every id."""
    ids, uniform = prefix, uniforms(len(prefix), n, seeds)
    start, stop = model.config.vocabulary_rows(vocabulary)
    for step in range(n):
        drawn = sample(model(ids).logits[:, -1, start:stop], sampling, uniform[:, step])
        ids = torch.cat((ids, drawn[:, None]), dim=1)
    return ids[:, prefix.shape[1] :]


def test_greedy_image(case: Case) -> None:
    model, vectors = case
    assert torch.equal(generate_image(model, vectors["left"], GREEDY), vectors["greedy_image"])


@pytest.mark.parametrize("which", ["given", "zeros"])
def test_greedy_right_text(case: Case, which: str) -> None:
    model, vectors = case
    image = vectors["image"] if which == "given" else torch.zeros_like(vectors["image"])
    texts = generate_text(model, vectors["left"], image, right_prefix(model), GREEDY, stop=False)
    expected = vectors[f"greedy_right_{which}"]
    assert torch.equal(torch.cat((right_prefix(model).expand(3, -1), torch.tensor(texts)), dim=1), expected)


@pytest.mark.parametrize("sampling", [GREEDY, SPREAD, IMAGE_SAMPLING])
def test_cached_generation_equals_plain_decoding(case: Case, sampling: Sampling) -> None:
    model, vectors = case
    seeds = [3, 1, 4]
    for prefix, n, vocabulary in (
        (vectors["left"], model.config.image_seq_length, "codes"),
        (vectors["left"][:, :5], 8, "bpe"),
        (torch.cat((vectors["left"], vectors["image"], right_prefix(model).expand(3, -1)), dim=1), 5, "text"),
    ):
        got = generate(model, prefix, n, vocabulary, sampling, seeds=seeds)
        assert torch.equal(got, without_cache(model, prefix, n, vocabulary, sampling, seeds))


def test_an_example_does_not_depend_on_its_batch(case: Case) -> None:
    model, vectors = case
    left = vectors["left"].repeat(3, 1)
    seeds = list(range(100, 109))
    together = generate_image(model, left, SPREAD, seeds=seeds)
    for i in (0, 4, 8):
        assert torch.equal(generate_image(model, left[i : i + 1], SPREAD, seeds=seeds[i : i + 1])[0], together[i])
    assert len({tuple(row) for row in together.tolist()}) > 3  # seeds matter


@pytest.mark.parametrize("graphs", [False, True])
def test_branches_of_left_texts_that_were_run_once(case: Case, graphs: bool) -> None:
    model, vectors = case
    if graphs:
        model = use_step_graphs_(copy.deepcopy(model), capture=False)
    seeds, branches = list(range(7)), torch.tensor([2, 0, 2, 1, 2, 0, 2])
    expected = generate_image(case[0], vectors["left"][branches], SPREAD, seeds=seeds)
    with torch.no_grad():
        prefix = model.prefix(vectors["left"])
        again = [generate_image(model, prefix, SPREAD, branches=branches[some], seeds=seeds[some])
                 for some in (slice(3), slice(3, 7))]  # fmt: skip
    assert torch.equal(torch.cat(again), expected)


@pytest.mark.parametrize("graphs", [False, True])
@torch.no_grad()
def test_rows_at_positions_of_their_own(case: Case, graphs: bool) -> None:
    """Each row sees what it would see alone, whatever stands behind it in the cache."""
    model, vectors = case
    if graphs:
        model = use_step_graphs_(copy.deepcopy(model), capture=False)
    config = model.config
    ids = torch.cat([vectors[part] for part in ("left", "image", "right")], dim=1)
    begin, ends = config.image_end + 2, torch.tensor([5, 2, 3])
    _, cache = model.prefill(ids[:, : config.total_seq_length - 1])  # all that the rows will not have seen
    written = cache.keys[0][:, :, cache.scratch : cache.scratch + cache.length]
    known = written.clone()
    for steps in range(int(ends.max())):
        position = begin + torch.minimum(torch.full([3], steps), ends)
        found = model.decode(ids.gather(1, position[:, None]), position, cache)
        for row, last in enumerate(position.tolist()):
            expected = model.hidden(ids[row : row + 1, : last + 1])[0, -1]
            assert torch.allclose(found[row], expected, atol=1e-5)
        assert torch.allclose(written, known, atol=1e-5)  # the same keys again, where they were
    for outside in ([begin, begin - 3, begin], [begin, begin, cache.capacity]):
        with pytest.raises(ValueError, match="rows' own positions"):
            model.decode(ids[:, :1], torch.tensor(outside), cache)


@pytest.mark.parametrize("graphs", [False, True])
@torch.no_grad()
def test_rows_of_another_cache_begin_in_the_place_of_some(case: Case, graphs: bool) -> None:
    model, vectors = case
    if graphs:
        model = use_step_graphs_(copy.deepcopy(model), capture=False)
    config = model.config
    ids = torch.cat([vectors[part] for part in ("left", "image", "right")], dim=1)
    begin = config.image_end + 2
    _, cache = model.prefill(ids[[0, 0, 1], : begin + 5])
    _, few = model.prefill(ids[[2, 1], :begin], capacity=begin)
    cache.fill(torch.tensor([2, 0]), few)
    position, rows = torch.tensor([begin, begin + 4, begin]), torch.tensor([1, 0, 2])
    found = model.decode(ids[rows, position][:, None], position, cache)
    for state, row, last in zip(found, rows.tolist(), position.tolist(), strict=True):
        assert torch.allclose(state, model.hidden(ids[row : row + 1, : last + 1])[0, -1], atol=1e-5)


def test_rows_that_end_leave_the_batch_and_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, vectors = case
    rows = 24
    left, image = (vectors[key].repeat(rows // 3, 1) for key in ("left", "image"))
    # Few ids, EOS among them, so that rows end at every length.
    allowed = torch.zeros(model.config.bpe_vocab_size, dtype=torch.bool)
    allowed[[EOS, 10, 11, 12]] = True
    sampling = Sampling(temperature=3.0)
    arguments = (model, left, image, right_prefix(model), sampling)
    batches: list[int] = []
    decode = RudolphModel.decode
    monkeypatch.setattr(
        RudolphModel, "decode", lambda self, ids, *rest: batches.append(len(ids)) or decode(self, ids, *rest)
    )
    stopped = generate_text(*arguments, seeds=range(rows), allowed=allowed)
    assert batches == sorted(batches, reverse=True) and batches[-1] < rows
    full = generate_text(*arguments, seeds=range(rows), allowed=allowed, stop=False)
    assert stopped == [row[: row.index(EOS)] if EOS in row else row for row in full]
    assert len({len(row) for row in stopped}) > 3
    assert all(set(row) <= {10, 11, 12} for row in stopped)


@pytest.mark.parametrize("graphs", [False, True])
@pytest.mark.parametrize("places", [1, 3, 8, 30])
def test_rows_that_begin_where_others_have_ended_change_nothing(case: Case, places: int, graphs: bool) -> None:
    model, vectors = case
    rows = 24
    left, image = (vectors[key].repeat(rows // 3, 1) for key in ("left", "image"))
    allowed = torch.zeros(model.config.bpe_vocab_size, dtype=torch.bool)
    allowed[[EOS, 10, 11, 12]] = True
    sampling, prefix = Sampling(temperature=3.0), right_prefix(model)
    expected = generate_text(model, left, image, prefix, sampling, seeds=range(rows), allowed=allowed)
    if graphs:
        model = use_step_graphs_(copy.deepcopy(model), capture=False)
    waiting, most, lives = list(range(rows)), [], []

    def more(count: int) -> Begun | None:
        most.append(count)
        if not waiting:
            return None
        taken = [waiting.pop() for _ in range(min(count, len(waiting)))]
        if len(most) == 2:  # of these none goes on
            waiting[:0] = taken
            return Begun([], [], model.prefix(left[taken]))
        return Begun(taken, taken, begin_text(model, left[taken], image[taken], prefix))

    start = model.config.image_end + len(prefix)
    with torch.inference_mode():
        found = [row for ended in generate_refilled(model, places, start, more, sampling, allowed=allowed,
                                                    progress=lambda live, _: lives.append(live))
                 for row in ended]  # fmt: skip
    assert len(found) == rows and [ids for _, ids in sorted(found)] == expected
    assert max(lives) <= places and set(most) == {max(1, places // 4)}
    assert len(lives) < sum(max(len(ids) for ids in expected[at : at + places]) for at in range(0, rows, places)) + (
        rows // places + 1
    )


def test_first_image_id_from_the_text_head(case: Case) -> None:
    model, vectors = case
    codes = generate_image(model, vectors["left"], GREEDY, first_image_id="text_head")
    with torch.no_grad():
        logits = model(vectors["left"]).logits[:, -1, : model.config.image_vocab_size]
    assert torch.equal(codes[:, 0], logits.argmax(-1))
    assert (codes < model.config.image_vocab_size).all()
    rest = torch.cat((vectors["left"], codes[:, :1]), dim=1)
    assert torch.equal(codes[:, 1:], generate(model, rest, codes.shape[1] - 1, "codes", GREEDY))


def test_lengths_progress_and_empty_batch(case: Case) -> None:
    model, vectors = case
    steps: list[tuple[int, int]] = []
    texts = generate_text(
        model, vectors["left"], vectors["image"], right_prefix(model), GREEDY,
        stop=False, max_tokens=3, progress=lambda done, total: steps.append((done, total)),
    )  # fmt: skip
    assert [len(text) for text in texts] == [3, 3, 3]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert generate_image(model, vectors["left"][:0], seeds=[]).shape == (0, model.config.image_seq_length)
    assert generate_text(model, vectors["left"][:0], vectors["image"][:0], right_prefix(model)) == []


def test_wrong_arguments_are_named(case: Case) -> None:
    model, vectors = case
    with pytest.raises(ValueError, match="left has shape"):
        generate_image(model, vectors["image"][:, :3])
    with pytest.raises(ValueError, match="first_image_id is 'x'"):
        generate_image(model, vectors["left"], first_image_id="x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="500 tokens after a prefix of"):
        generate(model, vectors["left"], 500, "codes", GREEDY)
    with pytest.raises(ValueError, match="vocabulary is 'words'"):
        generate(model, vectors["left"], 1, "words", GREEDY)  # type: ignore[arg-type]
    model.train()
    try:
        with pytest.raises(ValueError, match="training mode"):
            generate_image(model, vectors["left"])
    finally:
        model.eval()
