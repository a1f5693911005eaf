"""The model against vectors computed with the published code, its loading and its cache."""

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import rudolph
from rudolph.config import SIZES, SPECIAL_TOKENS, DecoderConfig
from rudolph.decoder import RudolphDecoder
from rudolph.modeling import RudolphConfig, RudolphModel

DATA = Path(__file__).parents[2] / "data" / "rudolph"
Load = Callable[[Path], torch.nn.Module]
WEIGHTS = {"t2i": (1, 7, 1), "qa": (1, 0.01, 7), "gen": (1, 7, 0.01)}  # lt, img, rt


class Case:
    """A reference model with its vectors."""

    def __init__(self, name: str) -> None:
        self.folder = DATA / name
        self.model = RudolphModel.from_pretrained(self.folder)
        self.vectors = {key: torch.from_numpy(np.asarray(value)) for key, value in self._load().items()}
        self.ids = torch.cat([self.vectors[part] for part in ("left", "image", "right")], dim=1)
        self.left_image = self.ids[:, : self.model.config.image_end]

    def _load(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "reference.npz") as file:
            return dict(file)


@pytest.fixture(scope="module", params=["a", "b"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@torch.no_grad()
def test_logits(case: Case) -> None:
    for ids, key in ((case.ids, "logits"), (case.left_image, "logits_left_image")):
        logits = case.model(ids).logits
        assert logits.shape == case.vectors[key].shape
        assert (logits - case.vectors[key]).abs().max() < 1e-4


@torch.no_grad()
def test_beginnings_of_the_sequence_give_the_same_logits(case: Case) -> None:
    left, end = case.model.config.l_text_seq_length, case.model.config.image_end
    for length in (1, 5, left, left + 1, left + 2, end - 1, end, end + 1):
        logits = case.model(case.ids[:, :length]).logits
        assert (logits - case.vectors["logits"][:, :length]).abs().max() < 1e-4, length


@torch.no_grad()
@pytest.mark.parametrize("kind", WEIGHTS)
def test_losses(case: Case, kind: str) -> None:
    losses = case.model.loss(case.ids, *WEIGHTS[kind])
    for got, key in zip(losses, ("loss", "l_text_loss", "image_loss", "r_text_loss"), strict=True):
        assert abs(got - case.vectors[f"{key}_{kind}"]) < 1e-4


@torch.no_grad()
def test_loss_without_right_text(case: Case) -> None:
    losses = case.model.loss(case.left_image, *WEIGHTS["gen"])
    assert abs(losses.total - case.vectors["loss_gen_noright"]) < 1e-4
    assert losses.rt == 0


@torch.no_grad()
def test_weights_per_example_are_the_mean_of_single_examples(case: Case) -> None:
    lt, img, rt = torch.tensor([1.0, 1, 1]), torch.tensor([7.0, 0.01, 1]), torch.tensor([0, 7.0, 7])
    total = case.model.loss(case.ids, lt, img, rt).total
    single = [case.model.loss(case.ids[i : i + 1], float(lt[i]), float(img[i]), float(rt[i])).total for i in range(3)]
    assert abs(total - sum(single) / 3) < 1e-5
    ids = case.ids.clone()
    ids[0, case.model.config.image_end :] = 0  # no right text: its weight must not count
    ones = torch.ones(3)
    only = case.model.loss(ids, ones, ones, 7 * ones).total * 3
    rest = case.model.loss(ids[1:], ones[1:], ones[1:], 7 * ones[1:]).total * 2
    assert abs(only - rest - case.model.loss(case.left_image[:1], 1.0, 1.0, 7.0).total) < 1e-5


def test_loss_gradient_reaches_only_the_needed_output_rows(case: Case) -> None:
    model, text = case.model, case.model.config.text_vocab_size
    model.zero_grad()
    model.loss(case.ids, 1.0, 0.0, 1.0).total.backward()
    gradient = model.to_logits[1].weight.grad
    assert gradient[:text].abs().sum() > 0
    assert gradient[text:].abs().sum() == 0
    model.zero_grad()


def test_loss_says_which_lengths_it_takes(case: Case) -> None:
    with pytest.raises(ValueError, match="have length 7; the loss needs"):
        case.model.loss(case.ids[:, :7])
    with pytest.raises(ValueError, match="must lie in 0 to"):
        case.model(torch.cat((case.ids, case.ids), dim=1))


def test_gradient_checkpointing_changes_no_gradient(case: Case) -> None:
    config = RudolphConfig.from_pretrained(case.folder, output_dropout_prob=0.0, attention_dropout_prob=0.0)
    config.embedding_dropout_prob = 0.0
    gradients = []
    for checkpointing in (False, True):
        model = RudolphModel.from_pretrained(case.folder, config=config).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model.loss(case.ids).total.backward()
        gradients.append(model.text_embeddings.weight.grad)
    torch.testing.assert_close(*gradients)


def test_dropout_acts_in_training_only(case: Case) -> None:
    model = case.model
    model.train()
    try:
        assert not torch.equal(model(case.ids).logits, model(case.ids).logits)
    finally:
        model.eval()
    assert torch.equal(model(case.ids).logits, model(case.ids).logits)


@torch.no_grad()
def test_cache_gives_the_logits_of_the_full_forward(case: Case) -> None:
    model, config = case.model, case.model.config
    generator = torch.Generator().manual_seed(0)
    parts = (
        (config.l_text_seq_length, config.bpe_vocab_size),
        (config.image_seq_length, config.image_vocab_size),
        (config.r_text_seq_length, config.bpe_vocab_size),
    )
    ids = torch.cat([torch.randint(high, (4, length), generator=generator) for length, high in parts], dim=1)
    ids[0, 5 : config.l_text_seq_length] = 0
    full = model(ids).logits
    text = config.text_vocab_size
    left, end = config.l_text_seq_length, config.image_end
    for prefix in (1, 3, left, left + 1, left + 7, end, end + 2):
        hidden, cache = model.prefill(ids[:, :prefix])
        position = prefix
        for count in [1] * (config.total_seq_length - prefix):
            logits = torch.cat((model.head(hidden, "text"), model.head(hidden, "image")), dim=-1)
            assert (logits - full[:, position - 1]).abs().max() < 1e-4, (prefix, position)
            hidden = model.decode(ids[:, position : position + count], position, cache)
            position += count
        # Several positions in one step, over the borders of the parts.
        hidden, cache = model.prefill(ids[:, :2])
        hidden = model.decode(ids[:, 2:prefix], 2, cache) if prefix > 2 else hidden
        assert (model.head(hidden, "text") - full[:, max(prefix, 2) - 1, :text]).abs().max() < 1e-4
    with pytest.raises(ValueError, match="holds 4 positions"):
        model.decode(ids[:, 4:5], 4, model.prefill(ids[:, :4], capacity=4)[1])


@torch.no_grad()
def test_cache_rows_can_be_selected(case: Case) -> None:
    model = case.model
    length = model.config.l_text_seq_length + 3
    _, cache = model.prefill(case.ids[:, :length])
    cache.select(torch.tensor([2, 0]))
    hidden = model.decode(case.ids[[2, 0], length : length + 1], length, cache)
    assert (
        model.head(hidden, "image") - model.head(model.hidden(case.ids[[2, 0], : length + 1])[:, -1], "image")
    ).abs().max() < 1e-4


@torch.no_grad()
def test_saved_as_safetensors_and_loaded_again(case: Case, tmp_path: Path) -> None:
    case.model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    again = RudolphModel.from_pretrained(tmp_path)
    assert again.config.to_dict() | {"_name_or_path": ""} == case.model.config.to_dict() | {"_name_or_path": ""}
    assert torch.equal(again(case.ids).logits, case.model(case.ids).logits)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(case: Case, dtype: torch.dtype, tmp_path: Path) -> None:
    model = RudolphModel.from_pretrained(case.folder, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.transformer.masks.dtype == torch.bool
    hidden, cache = model.prefill(case.left_image)
    assert hidden.dtype == cache.keys[0].dtype == dtype
    logits = model(case.ids).logits
    assert logits.dtype == dtype
    assert (logits.float() - case.vectors["logits"]).abs().mean() < 0.05
    losses = model.loss(case.ids, *WEIGHTS["t2i"])
    assert losses.total.dtype == torch.float32
    assert abs(losses.total - case.vectors["loss_t2i"]) < 0.05
    model.save_pretrained(tmp_path)
    assert RudolphModel.from_pretrained(tmp_path).dtype == dtype


def test_fp16_overflow_is_clamped() -> None:
    model = RudolphModel.from_pretrained(DATA / "a", dtype=torch.float16)
    with torch.no_grad():
        model.transformer.layers[0].attention.dense.bias.fill_(torch.inf)
        assert model(torch.ones(1, 8, dtype=torch.int64)).logits.isfinite().all()


def test_autocast_trains(case: Case) -> None:
    model = RudolphModel.from_pretrained(case.folder).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.loss(case.ids, *WEIGHTS["qa"])
    losses.total.backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
    assert not losses.lt.requires_grad
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _, cache = model.eval().prefill(case.left_image)
    assert cache.keys[0].dtype == torch.bfloat16


def _changed_checkpoint(folder: Path, remove: str | None = None, add: str | None = None) -> Path:
    shutil.copy(DATA / "a" / "config.json", folder)
    state = torch.load(DATA / "a" / "pytorch_model.bin", weights_only=True)
    if remove:
        del state[remove]
    if add:
        state[add] = torch.zeros(3)
    torch.save(state, folder / "pytorch_model.bin")
    return folder


LOADERS = pytest.mark.parametrize(
    "load", [RudolphModel.from_pretrained, lambda folder: RudolphDecoder.from_folder(folder, torch.float32)],
    ids=["model", "decoder"],
)  # fmt: skip


@LOADERS
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, load: Load) -> None:
    folder = _changed_checkpoint(tmp_path, remove="transformer.layers.2.attention.dense.bias")
    with pytest.raises(ValueError, match=r"missing keys: transformer\.layers\.2\.attention\.dense\.bias$"):
        load(folder)
    folder = _changed_checkpoint(tmp_path, add="transformer.layers.9.mlp.bias")
    with pytest.raises(ValueError, match=r"unexpected keys: transformer\.layers\.9\.mlp\.bias$"):
        load(folder)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"text_special_tokens": 40}))
    shutil.copy(DATA / "a" / "pytorch_model.bin", tmp_path)
    with pytest.raises(ValueError, match=r"mismatched keys: .*text_embeddings\.weight.*340.*356"):
        load(tmp_path)


@torch.no_grad()
def test_weights_of_the_old_torch_format_load_and_are_checked(case: Case, tmp_path: Path) -> None:
    config = json.loads((case.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = torch.load(case.folder / "pytorch_model.bin", weights_only=True)
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert torch.equal(RudolphModel.from_pretrained(tmp_path)(case.ids).logits, case.model(case.ids).logits)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_layers": 1000}))
    with pytest.raises(ValueError, match=f"num_layers is 1000, the weights have {config['num_layers']}"):
        RudolphModel.from_pretrained(tmp_path)


@LOADERS
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "old"])
def test_weights_that_are_cut_short_are_damaged(case: Case, tmp_path: Path, kind: str, kept: float, load: Load) -> None:
    case.model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    if kind != "safetensors":
        path.unlink()
        path = tmp_path / "pytorch_model.bin"
        torch.save(case.model.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ValueError, match=f"^{path} is damaged or holds more than tensors: ") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@LOADERS
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model-00001-of-00002.safetensors"])
def test_weights_that_are_no_regular_file_are_not_waited_for(tmp_path: Path, name: str, load: Load) -> None:
    shutil.copy(DATA / "a" / "config.json", tmp_path)
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is no regular file"):
        load(tmp_path)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["published", "saved", "shards"])
def test_the_decoder_alone_reads_the_same_folders(case: Case, tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    model = RudolphModel.from_pretrained(case.folder, dtype=dtype)
    folder = case.folder if kind == "published" else tmp_path
    if kind != "published":
        model.save_pretrained(folder, max_shard_size="100KB" if kind == "shards" else "1GB")
        assert (len(list(folder.glob("*.safetensors"))) > 1) == (kind == "shards")
    decoder = RudolphDecoder.from_folder(folder, dtype)
    assert (decoder.dtype, decoder.device, decoder.training) == (dtype, torch.device("cpu"), False)
    assert torch.equal(decoder.transformer.masks, model.transformer.masks)
    assert torch.equal(decoder(case.ids).logits, model(case.ids).logits)


def test_a_mapped_file_is_not_written_to(tmp_path: Path) -> None:
    RudolphModel.from_pretrained(DATA / "a").save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    decoder = RudolphDecoder.from_folder(tmp_path, torch.float32)
    with torch.no_grad():
        decoder.text_embeddings.weight.fill_(1.0)
    assert (tmp_path / "model.safetensors").read_bytes() == whole


def test_every_name_of_the_package_is_there() -> None:
    assert all(hasattr(rudolph, name) for name in rudolph.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Rudolf'"):
        rudolph.Rudolf  # noqa: B018


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("[]", "holds a list; it must be an object with the sizes"),
        ('{"num_layers": null}', "num_layers is None; it must be a whole number"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        DecoderConfig.from_folder(tmp_path)


def test_published_folder_loads_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RudolphModel.from_pretrained(DATA / "a")
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_consistent(size: str) -> None:
    config = RudolphConfig(**SIZES[size])
    with torch.device("meta"):
        model = RudolphModel(config)
    assert model.to_logits[1].out_features == config.text_vocab_size + config.image_table_size
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    low, high = {"350M": (330, 370), "350M-v1": (330, 370), "1.3B": (1200, 1400), "nano": (4, 6)}.get(
        size, (2600, 2800)
    )
    assert low < millions < high


def test_special_ids() -> None:
    config = RudolphConfig(**SIZES["2.7B"])
    assert len(SPECIAL_TOKENS) == 17
    assert (config.special_id("LT_UNK"), config.special_id("RT_UNK"), config.special_id("RT_REC")) == (
        16384,
        16385,
        16400,
    )
    with pytest.raises(ValueError, match="'LT_XYZ' is unknown"):
        config.special_id("LT_XYZ")
    with pytest.raises(ValueError, match="has 0 text special tokens"):
        RudolphConfig(**SIZES["350M-v1"]).special_id("LT_UNK")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 7}, r"hidden_size is 192; it must be divisible by num_attention_heads \(7\)"),
        ({"num_layers": 10**7}, "num_layers is 10000000; it must be at most 1000"),
        ({"kernel_size": 4}, "kernel_size is 4; it must be odd"),
        ({"last_kernel_size": 0}, "last_kernel_size is 0; it must be odd"),
        ({"vocab_size": 96}, "vocab_size is 96; it must be BPE ids"),
        ({"image_tokens_per_dim": 1}, "image_tokens_per_dim is 1; it must be at least 2"),
        ({"num_layers": "2"}, "num_layers is '2'; it must be a whole number"),
        ({"text_special_tokens": -1}, "text_special_tokens is -1; it must be 0 or more"),
        ({"image_vocab_size": 9000}, "image_vocab_size is 9000; it must be at most"),
        ({"output_dropout_prob": 1.0}, r"output_dropout_prob is 1.0; it must be a number in \[0, 1\)"),
        ({"attention_dropout_prob": "0.1"}, r"attention_dropout_prob is '0.1'; it must be a number in \[0, 1\)"),
        ({"cogview_sandwich_layernorm": "false"}, "cogview_sandwich_layernorm is 'false'; it must be true or false"),
    ],
)
def test_config_errors_name_the_value(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RudolphConfig(**{**SIZES["nano"], **change})
