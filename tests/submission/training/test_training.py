"""Training code: it learns, it goes on where it was interrupted, and it keeps the published proportions."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import pytest
import torch

from rudolph import VQGAN, RudolphConfig, RudolphModel, Tokenizer
from rudolph.config import EOS
from rudolph.modeling import Losses
from rudolph.vqgan import VQGANConfig
from training.nano.bpe import spaced_digits, texts, train_bpe
from training.nano.decoder import (
    Group,
    Layout,
    ShortLoss,
    Steps,
    begin,
    left_and_right,
    load_mean,
    schedule,
    stands_alone,
    train_decoder,
)
from training.nano.muon import Muon, orthogonalised
from training.nano.runs import RUNS, DecoderTraining
from training.nano.vqgan import Codebook, start_as_identity
from training.tasks import LOSS_WEIGHTS
from training.worlds import TASKS, Example, make_example, scenes, seeded
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


def decoder_training(**changes: object) -> DecoderTraining:
    """The first run but for `changes`."""
    return RUNS.decoder["decoder-first"].model_copy(update=changes)


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BPE of 600 ids on the text worlds."""
    path = tmp_path_factory.mktemp("bpe") / "bpe.model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.nano.bpe.TASKS", ("TextQA", "MathQA"))
        patch.setattr("training.nano.bpe.EXAMPLES_PER_TASK", 300)
        train_bpe(texts(), path, 600)
    yield path


@pytest.fixture(scope="module")
def config() -> RudolphConfig:
    return RudolphConfig(
        num_layers=2, hidden_size=32, num_attention_heads=2, l_text_seq_length=64, image_tokens_per_dim=4,
        r_text_seq_length=16, kernel_size=3, last_kernel_size=3, text_special_tokens=20, image_special_tokens=0,
        vocab_size=664, image_vocab_size=32, embedding_dropout_prob=0.0, output_dropout_prob=0.0,
        attention_dropout_prob=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def vqgan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained VQGAN of 32 codes."""
    folder = tmp_path_factory.mktemp("vqgan")
    torch.manual_seed(0)
    VQGAN(TINY_VQGAN).save_pretrained(folder)
    return folder


def test_every_digit_is_an_id_of_its_own(bpe: Path) -> None:
    tokenizer = Tokenizer.from_file(bpe)
    assert spaced_digits("x12+3") == "x 1  2 + 3 "
    ids = tokenizer.encode_ids("2022 - 1905 = 117")
    assert [tokenizer.decode([i]) for i in ids if tokenizer.decode([i]).isdigit()] == list("20221905117")


@needs_pictures
def test_texts_have_code_0_and_the_published_weights(bpe: Path, vqgan: Path, config: RudolphConfig) -> None:
    training = decoder_training(shares=dict.fromkeys(TASKS, 1) | {"TextQA": 3, "MathQA": 5}, whole_share=0.0)
    unknown = 0
    for groups in islice(Steps(config, bpe, vqgan, training, 0, 0, 0, 1), 20):
        assert [(group.name, len(group.ids)) for group in groups[:2]] == [("TextQA", 3), ("MathQA", 5)]
        for group in groups[:2]:
            left, side, right = group.layout
            assert (left % 8 == 0 or left == 64) and side == 2 and 3 <= right <= 16
            assert group.ids.shape[1] == left + side**2 + right
            assert (group.ids[:, left : left + 4] == 0).all()
            assert (group.ids[:, -1] != 0).any(), "no column of padding alone at the end"
            assert (group.weights == torch.tensor(LOSS_WEIGHTS["TextQA"])).all()
            unknown += int((group.ids[:, 1] == config.special_id("LT_UNK")).sum())
    assert 0.15 < unknown / 160 < 0.35


@needs_pictures
def test_processes_see_different_rounds(bpe: Path, vqgan: Path, config: RudolphConfig) -> None:
    def seen(rank: int) -> set[tuple[int, ...]]:
        steps = islice(Steps(config, bpe, vqgan, decoder_training(), 0, 0, rank, 2), 3)
        return {tuple(row) for groups in steps for group in groups for row in group.ids.tolist()}

    assert not seen(0) & seen(1)


@needs_pictures
def test_all_tasks_are_balanced_and_pictures_are_encoded(bpe: Path, vqgan: Path, config: RudolphConfig) -> None:
    training = decoder_training(shares=dict.fromkeys(TASKS, 2), whole_share=0.0)
    groups = next(iter(Steps(config, bpe, vqgan, training, 0, 0, 0, 1)))
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

    late = decoder_training(late_shares=dict.fromkeys(TASKS, 3), late_from=50, whole_from=50)
    for group in next(iter(Steps(config, bpe, vqgan, late, 0, 50, 0, 1))):
        assert group.layout[:2] == (64, 4), "the last steps are not cut"
        assert len(group.ids) == 3 * len(group.name.split("+"))


@needs_pictures
def test_scenes_are_easy_at_first(
    bpe: Path, vqgan: Path, config: RudolphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[scenes.Kinds] = []
    draw = scenes.draw_scene
    monkeypatch.setattr(scenes, "draw_scene", lambda rng, size, kinds: drawn.append(kinds) or draw(rng, size, kinds))
    training = decoder_training(shares=dict.fromkeys(TASKS, 1), easy_until=12)
    next(islice(Steps(config, bpe, vqgan, training, 0, 0, 0, 1), 3, None))
    assert drawn == [scenes.EASY_KINDS] * 2 + [scenes.KINDS] * 2


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
    begin(model, vqgan)
    assert float(model.text_embeddings.weight.detach().std()) == pytest.approx(0.5, abs=0.02)
    gains = [layer.before_second_addition_layernorm.weight.detach() for layer in model.transformer.layers]
    assert all(torch.equal(gain, torch.full_like(gain, 0.2)) for gain in gains)
    codebook = vqgan.quantize.embed.weight - vqgan.quantize.embed.weight.mean(0)
    cosines = torch.nn.functional.cosine_similarity(codebook[:, None], codebook[None], dim=2)
    for table in (model.image_embeddings.weight[:32], model.to_logits[1].weight[config.text_vocab_size :]):
        torch.testing.assert_close(
            torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=2), cosines, rtol=1e-4, atol=1e-4
        )


def test_left_text_is_the_prompt_of_inference(bpe: Path, config: RudolphConfig) -> None:
    example = make_example("MathQA", 3)
    tokenizer = Tokenizer.from_file(bpe)
    left, right = left_and_right(config, tokenizer, example, seeded("any"), decoder_training())
    assert tokenizer.decode(left) == tokenizer.decode(tokenizer.encode_ids(" ".join(map(str, example.inputs))))
    assert example.working
    answer = f"{example.working} {example.answers[0]}"
    special_id = int(right[1])
    assert torch.equal(right, tokenizer.encode_text(answer, config.r_text_seq_length, special_id))


def test_a_sign_is_learnt_letter_by_letter(bpe: Path, config: RudolphConfig) -> None:
    tokenizer = Tokenizer.from_file(bpe)
    for task, spelt in (("TRitW", True), ("VisualQA", False)):
        example = Example(task, "", ["Что?"], ["на и на"])
        _, right = left_and_right(config, tokenizer, example, seeded("any"), decoder_training())
        ids = [i for i in right.tolist() if EOS < i < tokenizer.vocab_size]
        assert (len(ids) == len("▁на▁и▁на")) == spelt
        assert tokenizer.decode(ids) == "на и на"


def test_some_instructions_that_stand_alone_are_blurred(bpe: Path, config: RudolphConfig) -> None:
    """Under UNK alone, and never what is asked."""
    tokenizer = Tokenizer.from_file(bpe)
    training = decoder_training(named_share=0.5, blurred_share=1.0)
    unknown = config.special_id("LT_UNK")
    wanted = tokenizer.decode(tokenizer.encode_ids("нарисуй картину ёж на траве"))
    found = set()
    for number in range(40):
        example = Example("ImageGeneration", "", ["нарисуй картину", "ёж на траве"], [])
        left, right = left_and_right(config, tokenizer, example, seeded(number), training)
        text = tokenizer.decode(left)
        assert text.endswith("ёж на траве") and not right.any()
        found.add((int(left[1]) == unknown, text == wanted))
    assert found == {(False, True), (True, True), (True, False)}
    for entries, told in (
        (["ответь по картинке", "что это?"], True), (["что это?"], False), (["что это?", "a) ёж; b) кот"], False),
        (["ответь по картинке", "что это?", "a) ёж; b) кот"], True),
    ):  # fmt: skip
        assert stands_alone("VisualQA", entries) == told
    joined = Example("ImageGeneration", "", ["нарисуй картину: ёж на траве"], [])
    for number in range(10):
        left, _ = left_and_right(config, tokenizer, joined, seeded(number), training)
        assert tokenizer.decode(left) == tokenizer.decode(tokenizer.encode_ids("нарисуй картину: ёж на траве"))


@needs_pictures
def test_a_second_run_begins_with_the_first_ones_weights_and_further_examples(
    bpe: Path, vqgan: Path, config: RudolphConfig, tmp_path: Path
) -> None:
    training = decoder_training(samples=12, shares=dict.fromkeys(TASKS, 1), warmup=1, whole_share=0.0)
    first = train_decoder(tmp_path / "first", config, bpe, vqgan, training)
    still = training.model_copy(update={"learning_rate": 0.0})
    second = train_decoder(tmp_path / "second", config, bpe, vqgan, still, first=[tmp_path / "first"])
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    behind = training.model_copy(update={"first_step": 7})
    expected, found = (
        next(iter(Steps(config, bpe, vqgan, what, step, 0, 0, 1))) for what, step in ((training, 7), (behind, 0))
    )
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(expected, found, strict=True))


def test_a_run_can_begin_with_the_mean_of_several(config: RudolphConfig, tmp_path: Path) -> None:
    folders, weights = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        model = RudolphModel(config)
        folders.append(tmp_path / str(seed))
        model.save_pretrained(folders[-1])
        weights.append(dict(model.named_parameters()))
    for name, found in load_mean(folders).named_parameters():
        torch.testing.assert_close(found, torch.stack([own[name] for own in weights]).mean(0), msg=name)
    assert torch.equal(dict(load_mean(folders[:1]).named_parameters())[name], weights[0][name])


@needs_pictures
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    bpe: Path, vqgan: Path, config: RudolphConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve steps at once equal six, a stop in the ninth, and six more; the loss goes down."""
    monkeypatch.setattr("training.nano.checkpoint.SAVE_EVERY", 6)
    training = decoder_training(samples=72, shares=dict.fromkeys(TASKS, 1), warmup=8, whole_share=0.0)
    whole = train_decoder(tmp_path / "whole", config, bpe, vqgan, training)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        losses = count()
        call = ShortLoss.__call__

        def interrupted(self: ShortLoss, group: Group) -> Losses:
            if next(losses) == 4 * 8:  # groups in a step, steps
                raise KeyboardInterrupt
            return call(self, group)

        patch.setattr(ShortLoss, "__call__", interrupted)
        train_decoder(tmp_path / "parts", config, bpe, vqgan, training)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    resumed = train_decoder(tmp_path / "parts", config, bpe, vqgan, training)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    group = next(iter(Steps(config, bpe, vqgan, training, 50, 0, 0, 1)))[0]
    torch.manual_seed(0)
    with torch.no_grad():
        fresh = ShortLoss(RudolphModel(config).eval())(group).total
        trained = ShortLoss(RudolphModel.from_pretrained(tmp_path / "whole"))(group).total
    assert trained < fresh - 0.2


def test_schedule_rises_and_falls() -> None:
    training = decoder_training(samples=1000, warmup=100)
    rates = [schedule(samples, training) for samples in range(0, 1001, 50)]
    assert rates[0] < 0.02 and max(rates) == rates[2] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.01)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_muon_makes_singular_values_alike() -> None:
    torch.manual_seed(0)
    for shape in ((3, 24, 24), (2, 24, 96), (2, 96, 24)):
        matrices = torch.randn(shape)
        made = orthogonalised(matrices)
        left, before, right = torch.linalg.svd(matrices, full_matrices=False)
        values = torch.einsum("nrk,nrc,nkc->nk", left, made, right)
        assert values.max() < 1.2
        assert values[before > 0.05 * before.max()].min() > 0.8, "but for the smallest, which cannot be told from noise"
        torch.testing.assert_close(made, (left * values[:, None]) @ right, rtol=1e-3, atol=1e-3)


def test_muon_takes_query_key_and_value_apart_and_decays() -> None:
    torch.manual_seed(0)
    fused, wide = torch.nn.Parameter(torch.zeros(24, 8)), torch.nn.Parameter(torch.ones(8, 16))
    optimizer = Muon([fused, wide], lr=0.1, weight_decay=0.5)
    fused.grad, wide.grad = torch.randn(24, 8), torch.zeros(8, 16)
    optimizer.step()
    parts = [orthogonalised(part[None])[0] for part in fused.grad.chunk(3)]
    torch.testing.assert_close(fused.data, -0.1 * 0.2 * 8**0.5 * torch.cat(parts), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(wide.data, torch.full((8, 16), 1 - 0.1 * 0.5))


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


def test_the_runs_are_those_that_made_the_shipped_weights() -> None:
    assert RUNS.shipped == ("decoder-sixth",)
    vqgan = [
        (run.steps, run.plain_share, run.learning_rate, run.sign_share, run.edge_weight, run.first_picture, run.seed)
        for run in RUNS.vqgan.values()
    ]
    assert vqgan == [(2600, 0.3, 1e-3, 0.35, 0.5, 0, 0), (1500, 0.0, 6e-4, 0.5, 1.0, 41600, 1)]
    assert {(run.batch_size, run.commitment, run.codebook_decay) for run in RUNS.vqgan.values()} == {(16, 0.25, 0.98)}
    runs = {name.removeprefix("decoder-"): run for name, run in RUNS.decoder.items()}
    assert {name: run.begins_with for name, run in runs.items()} == {
        "first": (), "second": ("decoder-first",), "third": ("decoder-second",), "fourth": ("decoder-third",),
        "fifth": ("decoder-fourth",), "sixth": ("decoder-fourth", "decoder-fifth"),
    }  # fmt: skip
    decoder = [
        (run.samples, run.easy_until, run.late_from, run.whole_from, run.learning_rate, run.first_step, run.named_share,
         run.blurred_share, tuple(run.late_shares[task] for task in TASKS)) for run in runs.values()
    ]  # fmt: skip
    assert decoder == [
        (320_000, 140_000, 210_000, 300_000, 4e-3, 0, 0.75, 0.0, (6, 8, 9, 3, 4, 9)),
        (165_000, 60_000, 0, 157_000, 2.5e-3, 10_000, 0.75, 0.0, (6, 8, 9, 3, 4, 9)),
        (225_000, 80_000, 0, 215_000, 2.5e-3, 20_000, 0.2, 0.3, (7, 9, 10, 4, 4, 12)),
        (330_000, 0, 0, 320_000, 2.5e-3, 30_000, 0.2, 0.4, (6, 16, 10, 3, 11, 4)),
        (100_000, 0, 0, 97_000, 2e-3, 40_000, 0.2, 0.4, (4, 32, 8, 2, 8, 4)),
        (400_000, 0, 0, 388_000, 2.5e-3, 50_000, 0.2, 0.4, (4, 24, 18, 3, 8, 5)),
    ]
    for name, run in runs.items():
        assert tuple(run.shares[task] for task in TASKS) == (4, 12, 10, 3, 4, 6)
        assert (run.whole_share, run.warmup, run.weight_decay, run.seed) == (0.05, 3000, 0.05, 0)
        shares = (0.3, 0.12, 0.08, 0.26, 0.14, 0.1) if name == "sixth" else tuple(share for _, share in scenes.KINDS)
        assert run.late_kinds == tuple(zip((kind for kind, _ in scenes.KINDS), shares, strict=True))
