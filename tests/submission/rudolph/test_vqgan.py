"""Sber-VQGAN against vectors computed with the published code (tests/data/vqgan)."""

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rudolph.vqgan import SBER_GUMBEL_F8, VQGAN, VQGANConfig

DATA = Path(__file__).parents[2] / "data" / "vqgan"
TOLERANCE = 1e-4  # the project's bar for images against the published code


@pytest.fixture(scope="module")
def model() -> VQGAN:
    return VQGAN.from_pretrained(DATA)


@pytest.fixture(scope="module")
def reference() -> dict[str, torch.Tensor]:
    with np.load(DATA / "reference.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def test_codes_equal_the_published_code(model, reference):
    codes = model.encode(reference["pixels"])
    assert codes.dtype == torch.int64
    assert torch.equal(codes, reference["codes"])


@pytest.mark.parametrize("suffix", ["", "_random"])
def test_images_equal_the_published_code(model, reference, suffix):
    pixels = model.decode(reference["codes" + suffix])
    assert pixels.shape == reference["decoded" + suffix].shape
    assert (pixels - reference["decoded" + suffix]).abs().max() < TOLERANCE
    assert 0 <= pixels.min() and pixels.max() <= 1


def test_result_does_not_depend_on_the_batch(model, reference):
    alone = torch.cat([model.encode(p[None]) for p in reference["pixels"]])
    assert torch.equal(alone, reference["codes"])


def test_pieces_for_training_compose_to_decode_and_carry_gradients(model, reference):
    logits = model.code_logits(reference["pixels"][:1])
    assert logits.shape == (1, model.config.n_embed, 8, 8)
    z = torch.einsum("bnhw,nd->bdhw", logits.softmax(1), model.quantize.embed.weight)
    loss = model.decode_embeddings(z).square().mean()
    (gradient,) = torch.autograd.grad(loss, model.encoder.conv_in.weight)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    codes = reference["codes"][:1]
    z = model.quantize.embed(codes).view(1, 8, 8, -1).permute(0, 3, 1, 2)
    with torch.no_grad():
        pixels = model.decode_embeddings(z).clamp(-1, 1) / 2 + 0.5
    assert torch.allclose(pixels, model.decode(codes), atol=1e-6)


def test_checkpoint_file_alone_and_with_loss_keys(tmp_path, model, reference):
    shutil.copy(DATA / "config.json", tmp_path)
    checkpoint = torch.load(DATA / "vqgan.ckpt", weights_only=True)
    checkpoint["state_dict"]["loss.discriminator.main.0.weight"] = torch.zeros(3)
    path = tmp_path / "vqgan.gumbelf8-sber.model.ckpt"
    torch.save(checkpoint, path)
    for source in (path, tmp_path):
        assert torch.equal(VQGAN.from_pretrained(source).encode(reference["pixels"]), reference["codes"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_save_and_load(tmp_path, model, reference, dtype):
    model.save_pretrained(tmp_path, dtype)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = VQGAN.from_pretrained(tmp_path)
    assert loaded.config == model.config and loaded.dtype == torch.float32 and not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(dtype).float()), name
    difference = (loaded.decode(reference["codes"]) - reference["decoded"]).abs().max()
    assert difference < (TOLERANCE if dtype == torch.float32 else 0.02)


def test_config_round_trip_and_published_default():
    published = json.loads((DATA / "config.json").read_text())
    config = VQGANConfig.from_dict(published)
    assert VQGANConfig.from_dict(config.to_dict()) == config
    assert VQGANConfig.from_dict(published["model"]["params"]) == config
    with torch.device("meta"):
        sber = VQGAN(SBER_GUMBEL_F8)
    # taming-transformers' GumbelVQ f8: 8192 codes, attention in the last encoder and decoder level only
    assert sber.quantize.embed.weight.shape == (8192, 256) and sber.config.reduction == 8
    assert [len(level.attn) for level in sber.encoder.down] == [0, 0, 0, 2]
    assert [len(level.attn) for level in sber.decoder.up] == [0, 0, 0, 3]


def test_checkpoint_without_config_is_taken_for_the_published_one(tmp_path):
    path = shutil.copy(DATA / "vqgan.ckpt", tmp_path)
    with pytest.raises(ValueError, match="vqgan.ckpt: does not fit"):  # the test file is smaller than the published one
        VQGAN.from_pretrained(path)


def test_checkpoint_with_other_objects_is_refused(tmp_path):
    path = tmp_path / "vqgan.ckpt"
    torch.save({"state_dict": {}, "callbacks": {datetime.date: datetime.date(2022, 9, 1)}}, path)
    with pytest.raises(ValueError, match="holds more than tensors.*date"):
        VQGAN.from_pretrained(path)
    whole = (DATA / "vqgan.ckpt").read_bytes()
    for damaged in (b"no checkpoint", b"", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="vqgan.ckpt: is damaged"):
            VQGAN.from_pretrained(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(ValueError, match="no key 'state_dict'.*weights"):
        VQGAN.from_pretrained(path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        VQGAN.from_pretrained(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"model.safetensors or exactly one \*.ckpt"):
        VQGAN.from_pretrained(tmp_path)


def test_bad_input_is_named(model):
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 3\)"):
        model.encode(torch.zeros(1, 64, 64, 3))
    with pytest.raises(ValueError, match="multiples of 8"):
        model.encode(torch.zeros(1, 3, 64, 60))
    for scaled, named in ((255.0, "0..255"), (2.0, "0..2")):
        with pytest.raises(ValueError, match=rf"pixels in {named}; allowed 0\.\.1"):
            model.encode(torch.linspace(0, 1, 64).expand(1, 3, 64, 64) * scaled)
    with pytest.raises(ValueError, match=r"pixels in -1\.\.1; allowed 0\.\.1"):
        model.code_logits(torch.linspace(-1, 1, 64).expand(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"pixels in nan\.\.nan"):
        model.encode(torch.full((1, 3, 64, 64), torch.nan))
    with pytest.raises(ValueError, match=r"pixels are torch\.uint8; expected floating point in 0\.\.1"):
        model.encode(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"codes are torch\.float32; expected whole numbers in 0\.\.63"):
        model.decode(torch.zeros(1, 64))
    with pytest.raises(ValueError, match=r"codes in 64\.\.64; allowed 0\.\.63"):
        model.decode(torch.full((1, 64), 64))
    with pytest.raises(ValueError, match=r"\[B, n\*n\]"):
        model.decode(torch.zeros(1, 63, dtype=torch.long))
    with pytest.raises(ValueError, match="missing .*ddconfig"):
        VQGANConfig.from_dict({"model": {"params": {"embed_dim": 4, "n_embed": 4}}})
    with pytest.raises(ValueError, match="multiple of norm_groups, 32"):
        VQGANConfig(ch=48)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"num_res_blocks": 1000}, "2 levels of 1000 blocks, but"),
        ({"ch": 2**14}, "does not fit the sizes of config.json: .*size mismatch"),
        ({"z_channels": 2**16}, "does not fit the sizes of config.json: .*size mismatch"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_named_at_once(tmp_path, sizes, named):
    VQGAN(VQGANConfig(ch=32, ch_mult=(1, 1), resolution=8, attn_resolutions=())).save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["model"]["params"]["ddconfig"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"(?s)model.safetensors: .*{named}"):
        VQGAN.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"ch_mult": [1] * 10**6}, "ch_mult has 1000000 entries; it must have 1 to 10"),
        ({"ch_mult": []}, "ch_mult has 0 entries; it must have 1 to 10"),
        ({"ch_mult": 2}, "ch_mult is 2; it must be a list of whole numbers"),
        ({"ch_mult": [1, 10**30]}, "an entry of ch_mult is 10{30}; it must be a whole number from 1 to 1024"),
        ({"ch_mult": [1, None]}, "an entry of ch_mult is None; it must be a whole number from 1 to 1024"),
        ({"attn_resolutions": [8] * 11}, "attn_resolutions has 11 entries; it must have 0 to 10"),
        ({"attn_resolutions": ["8"]}, "an entry of attn_resolutions is '8'; it must be a whole number from 1 to 65536"),
        ({"ch": 10**9}, "ch is 1000000000; it must be a whole number from 1 to 16384"),
        ({"ch": 0}, "ch is 0; it must be a whole number from 1 to 16384"),
        ({"z_channels": 10**9}, "z_channels is 1000000000; it must be a whole number from 1 to 65536"),
        ({"in_channels": 10**18}, "in_channels is 10{18}; it must be a whole number from 1 to 1024"),
        ({"out_ch": "3"}, "out_ch is '3'; it must be a whole number from 1 to 1024"),
        ({"num_res_blocks": 10**7}, "num_res_blocks is 10000000; it must be a whole number from 1 to 1000"),
        ({"norm_groups": 0}, "norm_groups is 0; it must be a whole number from 1 to 16384"),
        ({"resolution": 8.0}, r"resolution is 8\.0; it must be a whole number from 1 to 65536"),
        ({"dropout": 2}, r"dropout is 2; it must be a number in \[0, 1\)"),
    ],
)
def test_sizes_that_are_none_are_named_with_what_is_allowed(tmp_path, sizes, named):
    VQGAN(VQGANConfig(ch=32, ch_mult=(1, 1), resolution=8, attn_resolutions=())).save_pretrained(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    document["model"]["params"]["ddconfig"] |= sizes
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match=f"config.json: {named}$"):
        VQGAN.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"^VQGAN config: {named}$"):
        VQGANConfig.from_dict(document)


@pytest.mark.parametrize("sizes", [{"n_embed": 10**12}, {"embed_dim": 10**9}])
def test_codes_that_are_too_many_or_too_wide_are_named(sizes):
    with pytest.raises(ValueError, match="^VQGAN config: (n_embed|embed_dim) is 10+; it must be a whole number from 1"):
        VQGANConfig(**sizes)


@pytest.mark.parametrize("document", ["[]", '{"model": null}', '{"model": {"params": {"ddconfig": []}}}', "{"])
def test_damaged_config_is_named(tmp_path, document):
    VQGAN(VQGANConfig(ch=32, ch_mult=(1, 1), resolution=8, attn_resolutions=())).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(document)
    with pytest.raises(ValueError, match="config.json"):
        VQGAN.from_pretrained(tmp_path)


def test_checkpoint_with_other_values_than_tensors_is_named(tmp_path):
    torch.save({"state_dict": {"step": 3}}, tmp_path / "vqgan.ckpt")
    with pytest.raises(ValueError, match="vqgan.ckpt.*'step'"):
        VQGAN.from_pretrained(tmp_path / "vqgan.ckpt")
