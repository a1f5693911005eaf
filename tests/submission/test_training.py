"""Training code: it learns, it goes on where it was interrupted, and it keeps the published proportions."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from rudolph import VQGAN, RudolphConfig, RudolphModel, Tokenizer
from rudolph.vqgan import VQGANConfig
from training.bpe import spaced_digits, train_bpe
from training.decoder import (
    LOSS_WEIGHTS,
    Batches,
    DecoderTraining,
    left_and_right,
    schedule,
    train_decoder,
)
from training.vqgan import Codebook, start_as_identity
from training.worlds import TASKS, make_example, seeded
from training.worlds.signs import FONT_FILES, FONTS
from training.worlds.stamps import STAMPS

needs_pictures = pytest.mark.skipif(
    not STAMPS.is_dir() or not all((FONTS / file).exists() for file in FONT_FILES),
    reason="Debian's stamps and fonts are not installed",
)
TINY_VQGAN = VQGANConfig(
    embed_dim=8, n_embed=32, z_channels=16, resolution=32, ch=16, ch_mult=(1, 1, 2, 2), num_res_blocks=1,
    attn_resolutions=(), norm_groups=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BPE of 600 ids on the text worlds."""
    path = tmp_path_factory.mktemp("bpe") / "bpe.model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.bpe.TASKS", ("TextQA", "MathQA"))
        patch.setattr("training.bpe.EXAMPLES_PER_TASK", 300)
        train_bpe(path, 600)
    yield path


@pytest.fixture(scope="module")
def config() -> RudolphConfig:
    return RudolphConfig(
        num_layers=2, hidden_size=32, num_attention_heads=2, l_text_seq_length=64, image_tokens_per_dim=4,
        r_text_seq_length=16, kernel_size=3, last_kernel_size=3, text_special_tokens=20, image_special_tokens=0,
        vocab_size=664, image_vocab_size=32, embedding_dropout_prob=0.0, output_dropout_prob=0.0,
        attention_dropout_prob=0.0,
    )  # fmt: skip


def test_every_digit_is_an_id_of_its_own(bpe: Path) -> None:
    tokenizer = Tokenizer.from_file(bpe)
    assert spaced_digits("x12+3") == "x 1  2 + 3 "
    ids = tokenizer.encode_ids("2022 - 1905 = 117")
    assert [tokenizer.decode([i]) for i in ids if tokenizer.decode([i]).isdigit()] == list("20221905117")


def test_texts_have_code_0_and_the_published_weights(bpe: Path, config: RudolphConfig) -> None:
    batches = Batches(config, bpe, None, DecoderTraining(batch_size=8), first_step=0, rank=0, world=1)
    unknown = 0
    for ids, weights in islice(batches, 20):
        assert ids.shape == (8, config.total_seq_length)
        assert (ids[:, 64:80] == 0).all()
        assert (weights == torch.tensor(LOSS_WEIGHTS["TextQA"])).all()
        unknown += int((ids[:, 1] == config.special_id("LT_UNK")).sum())
    assert 0.15 < unknown / 160 < 0.35


def test_processes_see_different_rounds(bpe: Path, config: RudolphConfig) -> None:
    first, second = (
        torch.cat([ids for ids, _ in islice(Batches(config, bpe, None, DecoderTraining(), 0, rank, 2), 3)])
        for rank in (0, 1)
    )
    assert not {tuple(row) for row in first.tolist()} & {tuple(row) for row in second.tolist()}


@needs_pictures
def test_all_tasks_are_balanced_and_pictures_are_encoded(bpe: Path, config: RudolphConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    VQGAN(TINY_VQGAN).save_pretrained(tmp_path)
    shares = dict.fromkeys(TASKS, 2)
    batches = Batches(config, bpe, tmp_path, DecoderTraining(batch_size=12, shares=shares), 0, 0, 1)
    ids, weights = next(iter(batches))
    assert sorted(map(tuple, weights.tolist())) == sorted(
        tuple(torch.tensor(LOSS_WEIGHTS[task]).tolist()) for task in TASKS for _ in range(2)
    )
    generation = (weights == torch.tensor(LOSS_WEIGHTS["ImageGeneration"])).all(1)
    assert (ids[generation][:, 80:] == 0).all(), "no right text where a picture is wanted"
    assert (ids[:, 64:80].sum(1) > 0).sum() == 8, "four tasks have pictures"


def test_left_text_is_the_prompt_of_inference(bpe: Path, config: RudolphConfig) -> None:
    example = make_example("MathQA", 3)
    tokenizer = Tokenizer.from_file(bpe)
    left, right = left_and_right(config, tokenizer, example, seeded("any"))
    assert tokenizer.decode(left) == tokenizer.decode(tokenizer.encode_ids(" ".join(map(str, example.inputs))))
    assert tokenizer.decode(right) == tokenizer.decode(tokenizer.encode_ids(example.answers[0]))


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    bpe: Path, config: RudolphConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve steps at once equal six, a stop, and six more; the loss goes down."""
    monkeypatch.setattr("training.decoder.torch.compile", lambda function: function)
    monkeypatch.setattr("training.checkpoint.SAVE_EVERY", 6)
    training = DecoderTraining(
        samples=96, batch_size=4, shares={"TextQA": 2, "MathQA": 2}, warmup=8, learning_rate=3e-3
    )
    whole = train_decoder(tmp_path / "whole", config, bpe, None, training, until=48)
    train_decoder(tmp_path / "parts", config, bpe, None, training, until=24)
    resumed = train_decoder(tmp_path / "parts", config, bpe, None, training, until=48)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    ids, weights = next(iter(Batches(config, bpe, None, training, 50, 0, 1)))
    torch.manual_seed(0)
    with torch.no_grad():
        fresh = RudolphModel(config).eval().loss(ids, *weights.T).total
        trained = RudolphModel.from_pretrained(tmp_path / "whole").loss(ids, *weights.T).total
    assert trained < 0.9 * fresh


def test_schedule_rises_and_falls() -> None:
    training = DecoderTraining(samples=1000, warmup=100)
    rates = [schedule(samples, training) for samples in range(0, 1001, 50)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1.0) and rates[-1] == pytest.approx(0.02)
    assert rates.index(max(rates)) == 2


def test_codebook_gives_the_nearest_code_and_the_rarest_is_0() -> None:
    torch.manual_seed(0)
    model = VQGAN(TINY_VQGAN)
    start_as_identity(model)
    codebook = Codebook(model, decay=0.5)
    with torch.no_grad():
        centres = torch.randn(31, 8) * 5
        vectors = centres.repeat(40, 1) + 0.01 * torch.randn(31 * 40, 8)
        codebook.cluster(vectors)
        quantised = codebook.quantise(vectors.view(31, 40, 1, 8).permute(0, 3, 1, 2))
        codebook.export()
        table = model.quantize.embed.weight
        logits = model.quantize.proj(vectors.T[None, :, :, None])[0, :, :, 0].T
    assert torch.equal(logits.argmax(1), torch.cdist(vectors, table).argmin(1))
    assert (quantised.permute(0, 2, 3, 1).reshape(-1, 8) - vectors).norm(dim=1).median() < 1
    assert int(codebook.counts.argmin()) == 0
