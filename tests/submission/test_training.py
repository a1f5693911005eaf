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
    DecoderTraining,
    Group,
    Layout,
    ShortLoss,
    Steps,
    left_and_right,
    schedule,
    start_from_codebook,
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
    training = DecoderTraining(text_shares={"TextQA": 3, "MathQA": 5})
    unknown = 0
    for groups in islice(Steps(config, bpe, None, training, 0, 0, 0, 1), 20):
        assert [(group.name, len(group.ids)) for group in groups] == [("TextQA", 3), ("MathQA", 5)]
        for group in groups:
            left, side, right = group.layout
            assert (left % 8 == 0 or left == 64) and side == 2 and 3 <= right <= 16
            assert group.ids.shape[1] == left + side**2 + right
            assert (group.ids[:, left : left + 4] == 0).all()
            assert (group.ids[:, -1] != 0).any(), "no column of padding alone at the end"
            assert (group.weights == torch.tensor(LOSS_WEIGHTS["TextQA"])).all()
            unknown += int((group.ids[:, 1] == config.special_id("LT_UNK")).sum())
    assert 0.15 < unknown / 160 < 0.35


def test_processes_see_different_rounds(bpe: Path, config: RudolphConfig) -> None:
    def seen(rank: int) -> set[tuple[int, ...]]:
        steps = islice(Steps(config, bpe, None, DecoderTraining(), 0, 0, rank, 2), 3)
        return {tuple(row) for groups in steps for group in groups for row in group.ids.tolist()}

    assert not seen(0) & seen(1)


@needs_pictures
def test_all_tasks_are_balanced_and_pictures_are_encoded(bpe: Path, config: RudolphConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    VQGAN(TINY_VQGAN).save_pretrained(tmp_path)
    training = DecoderTraining(shares=dict.fromkeys(TASKS, 2), whole_share=0.0)
    groups = next(iter(Steps(config, bpe, tmp_path, training, 0, 0, 0, 1)))
    weights = torch.cat([group.weights for group in groups])
    assert sorted(map(tuple, weights.tolist())) == sorted(
        tuple(torch.tensor(LOSS_WEIGHTS[task]).tolist()) for task in TASKS for _ in range(2)
    )
    layouts = {group.name: group.layout for group in groups}
    assert layouts["ImageGeneration"].right == 0, "no right text where a picture is wanted"
    assert layouts["ImageCaptioning+VisualQA+TRitW"].side == 4 and layouts["MathQA"].side == 2
    for group in groups:
        codes = group.ids[:, group.layout.left : group.layout.left + group.layout.side**2]
        assert bool(codes.any()) == ("Image" in group.name)

    late = DecoderTraining(late_shares=dict.fromkeys(TASKS, 3), late_from=50, whole_from=50)
    for group in next(iter(Steps(config, bpe, tmp_path, late, 0, 50, 0, 1))):
        assert group.layout[:2] == (64, 4), "the last steps are not cut"
        assert len(group.ids) == 3 * len(group.name.split("+"))


def test_the_loss_of_a_cut_group_is_that_of_a_smaller_model(config: RudolphConfig) -> None:
    """Cutting right padding changes nothing; cutting the left and the image gives the model with smaller tables."""
    torch.manual_seed(0)
    model = RudolphModel(config)
    loss = ShortLoss(model)
    ids, weights = torch.randint(4, 30, (3, 64 + 16 + 16)), torch.rand(3, 3)
    ids[:, 40:64], ids[:, 86:] = 0, 0
    whole = model.loss(ids, *weights.T).total
    torch.testing.assert_close(loss(Group("whole", Layout(64, 4, 16), ids, weights)).total, whole)
    torch.testing.assert_close(loss(Group("right cut", Layout(64, 4, 6), ids[:, :86], weights)).total, whole)

    sizes = config.to_dict() | {"l_text_seq_length": 48, "image_tokens_per_dim": 2, "vocab_size": 648}
    small = RudolphModel(RudolphConfig(**sizes))
    tables = dict(model.state_dict())
    for name, value in small.state_dict().items():
        if name.startswith("to_logits.1"):  # text rows, the last 16 of which are padding that the small model lacks
            tables[name] = torch.cat((tables[name][: config.text_vocab_size - 16], tables[name][-32:]))
        tables[name] = tables[name][: len(value)]
    small.load_state_dict(tables)
    cut = torch.cat((ids[:, :48], ids[:, 64:68], ids[:, 80:]), dim=1)
    mine = loss(Group("cut", Layout(48, 2, 16), cut, weights)).total
    torch.testing.assert_close(mine, small.loss(cut, *weights.T).total)
    mine.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_codes_that_look_alike_begin_alike(config: RudolphConfig) -> None:
    torch.manual_seed(0)
    vqgan, model = VQGAN(TINY_VQGAN), RudolphModel(config)
    start_from_codebook(model, vqgan)
    codebook = vqgan.quantize.embed.weight - vqgan.quantize.embed.weight.mean(0)
    cosines = torch.nn.functional.cosine_similarity(codebook[:, None], codebook[None], dim=2)
    for table in (model.image_embeddings.weight[:32], model.to_logits[1].weight[config.text_vocab_size :]):
        torch.testing.assert_close(
            torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=2), cosines, rtol=1e-4, atol=1e-4
        )


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
    monkeypatch.setattr("training.checkpoint.SAVE_EVERY", 6)
    training = DecoderTraining(
        decay_until=96, text_first=48, text_shares={"TextQA": 2, "MathQA": 2}, warmup=8, learning_rate=3e-3
    )
    whole = train_decoder(tmp_path / "whole", config, bpe, None, training, until=48)
    train_decoder(tmp_path / "parts", config, bpe, None, training, until=24)
    resumed = train_decoder(tmp_path / "parts", config, bpe, None, training, until=48)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    group = next(iter(Steps(config, bpe, None, training, 50, 0, 0, 1)))[0]
    torch.manual_seed(0)
    with torch.no_grad():
        fresh = ShortLoss(RudolphModel(config).eval())(group).total
        trained = ShortLoss(RudolphModel.from_pretrained(tmp_path / "whole"))(group).total
    assert trained < 0.9 * fresh


def test_schedule_rises_and_falls() -> None:
    training = DecoderTraining(decay_until=1000, text_first=300, warmup=100)
    rates = [schedule(samples, training) for samples in range(0, 1001, 50)]
    assert rates[0] < 0.02 and max(rates) == pytest.approx(1.0) and rates[-1] == pytest.approx(0.02)
    assert rates[2:7] == [1.0] * 5, "the peak lasts while texts alone are seen"
    assert rates[6:] == sorted(rates[6:], reverse=True)


def test_codebook_gives_the_nearest_code_and_the_rarest_is_0() -> None:
    torch.manual_seed(0)
    model = VQGAN(TINY_VQGAN)
    start_as_identity(model)
    codebook = Codebook(model, decay=0.5, ready=False)
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
