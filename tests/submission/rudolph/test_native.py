"""The decoder for CPUs in C++, against PyTorch's own operations."""

import copy
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from rudolph import native, native_build
from rudolph.config import PAD, SIZES, DecoderConfig
from rudolph.decoder import RudolphDecoder
from rudolph.generate import generate_image, generate_text
from rudolph.likelihood import text_losses
from rudolph.native import NativeCache, NativeLinear, can_use, use_native_
from rudolph.native_build import SETS, build, built, library_of
from rudolph.sampling import GREEDY, IMAGE_SAMPLING, Sampling, sample_by_sorting

needs_library = pytest.mark.skipif(native.library() is None, reason="the native decoder is not built for this machine")
DTYPES = [torch.float32, torch.bfloat16]
#: Heads of 10, 16, 80 and 128 numbers, of which the first is no whole vector; left texts that end within a vector, or
#: at its end; images of which a token sees all kinds of neighbours.
CONFIGS = {
    "odd": {
        "num_layers": 5, "hidden_size": 30, "num_attention_heads": 3, "l_text_seq_length": 7,
        "image_tokens_per_dim": 5, "r_text_seq_length": 9, "kernel_size": 3, "last_kernel_size": 5,
        "text_special_tokens": 20, "vocab_size": 60 + 7, "image_vocab_size": 40,
    },
    "whole": {
        "num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "l_text_seq_length": 32,
        "image_tokens_per_dim": 4, "r_text_seq_length": 6, "text_special_tokens": 20, "vocab_size": 70 + 32,
        "image_vocab_size": 16, "cogview_sandwich_layernorm": False,
    },
    "widest": {
        "num_layers": 2, "hidden_size": 128, "num_attention_heads": 1, "l_text_seq_length": 5,
        "image_tokens_per_dim": 3, "r_text_seq_length": 5, "text_special_tokens": 20, "vocab_size": 50 + 5,
        "image_vocab_size": 17,
    },
    "wide": {
        "num_layers": 2, "hidden_size": 160, "num_attention_heads": 2, "l_text_seq_length": 19,
        "image_tokens_per_dim": 3, "r_text_seq_length": 5, "text_special_tokens": 20, "vocab_size": 50 + 19,
        "image_vocab_size": 17,
    },
}  # fmt: skip


def decoder(name: str, dtype: torch.dtype = torch.float32) -> RudolphDecoder:
    torch.manual_seed(len(name))
    config = DecoderConfig(**CONFIGS[name]) if name in CONFIGS else DecoderConfig(**SIZES[name])
    model = RudolphDecoder(config).eval()
    for weight in model.parameters():  # norms, too, are no longer 1 and 0
        nn.init.normal_(weight, mean=0.0 if weight.ndim > 1 else 0.5, std=0.2)
    return model.to(dtype).requires_grad_(False)


def native_of(model: RudolphDecoder) -> RudolphDecoder:
    if native.library() is None:
        pytest.skip("the native decoder is not built for this machine")
    made: RudolphDecoder = use_native_(copy.deepcopy(model))
    return made


def sequences(config: DecoderConfig, rows: int) -> torch.Tensor:
    left = torch.randint(1, config.bpe_vocab_size, (rows, config.l_text_seq_length))
    for row in range(rows):
        left[row, config.l_text_seq_length - row % config.l_text_seq_length :] = PAD
    image = torch.randint(config.image_vocab_size, (rows, config.image_seq_length))
    right = torch.randint(config.bpe_vocab_size, (rows, config.r_text_seq_length))
    return torch.cat((left, image, right), dim=1)


@pytest.fixture(params=[name for name in SETS])
def instructions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each library that this processor can run, in turn."""
    name: str = request.param
    best = built()
    names = list(SETS)
    if best is None or names.index(name) < names.index(best.stem.split("-")[1]):
        pytest.skip(f"{name} is not built or not what this processor knows")
    monkeypatch.setattr(native, "built", lambda: library_of(name))
    native.library.cache_clear()
    yield name
    native.library.cache_clear()


@needs_library
def test_heads_that_are_too_wide_are_left_to_pytorch() -> None:
    sizes = CONFIGS["whole"] | {"num_layers": 1, "num_attention_heads": 1}
    widest = native.MOST_VECTORS * native.library().lanes()
    assert can_use(RudolphDecoder(DecoderConfig(**sizes | {"hidden_size": widest})))
    assert not can_use(RudolphDecoder(DecoderConfig(**sizes | {"hidden_size": widest + 2})))


def test_it_is_built_where_the_tests_run() -> None:
    assert platform.machine() != "x86_64" or native.library() is not None


@pytest.mark.parametrize("inputs, outputs", [(96, 80), (30, 90), (2, 1), (1030, 65), (192, 192)])
@torch.inference_mode()
def test_products(instructions: str, inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(inputs, outputs).eval(), torch.randn(197, inputs)
    expected = linear(x)
    product = NativeLinear(linear)
    for rows in (1, 2, 5, 6, 7, 33, 197):
        found = product(x[:rows])
        assert torch.allclose(found, expected[:rows], atol=2e-5, rtol=1e-5)
        assert torch.equal(found[rows // 2 :], product(x[rows // 2 : rows]))  # to the last bit
    start, stop = outputs // 3, outputs - outputs // 4
    assert torch.equal(product.rows(x.view(197, 1, inputs), start, stop)[:, 0], product(x)[:, start:stop])
    if native.library().can_bfloat():
        rounded = NativeLinear(linear.bfloat16())(x.bfloat16())
        assert rounded.dtype == torch.bfloat16
        exact = x.bfloat16().float() @ linear.weight.float().T + linear.bias.float()
        assert (rounded.float() - exact).norm() < 4e-3 * exact.norm()


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_a_pass_is_that_of_the_model(instructions: str, name: str) -> None:
    model = decoder(name)
    ids = sequences(model.config, 6)
    expected = model.hidden(ids)
    quick = native_of(model)
    whole = quick.hidden(ids, 0, quick.new_cache(6, 0))
    assert (whole - expected).norm() < 1e-5 * expected.norm()
    if native.library().can_bfloat():
        rounded = native_of(decoder(name, torch.bfloat16))
        found = rounded.hidden(ids, 0, rounded.new_cache(6, 0)).float()
        slow = decoder(name, torch.bfloat16).hidden(ids).float()
        assert (found - expected).norm() < 1.5 * (slow - expected).norm() + 1e-3 * expected.norm()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_pieces_rows_and_branches_give_the_same_to_the_last_bit(name: str, dtype: torch.dtype) -> None:
    model = decoder(name, dtype)
    if not can_use(model):
        pytest.skip(f"this processor does not multiply {dtype}")
    quick, config = native_of(model), model.config
    ids, left, length = sequences(config, 7), config.l_text_seq_length, config.total_seq_length
    whole = quick.hidden(ids, 0, quick.new_cache(7, 0))
    for cuts in (range(1, length), (3, left, left + 2, config.image_end, config.image_end + 1), (left - 1, length - 1)):
        cache, pieces, start = quick.new_cache(7, 0), [], 0
        for stop in (*cuts, length):
            pieces.append(quick.hidden(ids[:, start:stop], start, cache))
            start = stop
        assert torch.equal(torch.cat(pieces, dim=1), whole)
    assert torch.equal(quick.hidden(ids[4:5], 0, quick.new_cache(1, 0)), whole[4:5])
    last = quick.hidden(ids, 0, quick.new_cache(7, 0), last=1)
    assert torch.equal(last, whole[:, -1:])

    # Four sequences after the left texts of rows 5, 2, 5, 5; some leave, in another order.
    prefix, rows = quick.prefix(ids[:, :left]), torch.tensor([5, 2, 5, 5])
    assert torch.equal(prefix.hidden, whole[:, left - 1])
    own = torch.cat((ids[rows, :left], ids[:4, left:]), dim=1)
    expected = quick.hidden(own, 0, quick.new_cache(4, 0))
    cache = quick.new_cache(4, left)
    cache.branch(prefix.cache, rows)
    middle = left + config.image_seq_length // 2
    assert torch.equal(quick.hidden(own[:, left:middle], left, cache), expected[:, left:middle])
    going = torch.tensor([3, 1])
    cache.select(going)
    assert cache.batch == 2
    assert torch.equal(quick.hidden(own[going, middle:], middle, cache), expected[going, middle:])
    # Copies of the first row, with what it has of an image.
    _, before = quick.prefill(own[:1, :middle], past_image=True)
    assert torch.equal(quick.hidden(own[:1, middle:].expand(3, -1), middle, before.copies(3)),
                       expected[:1, middle:].expand(3, -1, -1))  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_rows_at_positions_of_their_own_and_in_the_place_of_others(name: str) -> None:
    quick = native_of(decoder(name))
    config, begin = quick.config, quick.config.image_end + 1
    ids = sequences(config, 3)
    whole = quick.hidden(ids, 0, quick.new_cache(3, 0))
    _, cache = quick.prefill(ids[[0, 0, 1], : begin + 3])
    _, few = quick.prefill(ids[[2, 1], :begin], capacity=begin)
    cache.fill(torch.tensor([2, 0]), few)
    rows, position = torch.tensor([1, 0, 2]), torch.tensor([begin, begin + 3, begin])
    found = quick.decode(ids[rows, position][:, None], position, cache)
    assert torch.equal(found, whole[rows, position])
    going = torch.tensor([2, 0])
    cache.select(going)
    rows, position = rows[going], position[going] + 1
    assert torch.equal(quick.decode(ids[rows, position][:, None], position, cache), whole[rows, position])


@pytest.mark.parametrize("name", CONFIGS)
def test_generation_is_that_of_the_model(name: str) -> None:
    model = decoder(name)
    quick, config = native_of(model), model.config
    ids, left, end = sequences(config, 5), config.l_text_seq_length, config.image_end
    draws = Sampling(top_k=10, top_p=0.9, temperature=2.0)
    for first in ("text_head", "image_head"):
        drawn = [generate_image(m, ids[:, :left], draws, seeds=range(5), first_image_id=first) for m in (model, quick)]
        assert torch.equal(*drawn)
    arguments = (ids[:, left:end], torch.tensor([2, config.special_id("RT_UNK")]), draws)
    assert generate_text(model, ids[:, :left], *arguments, seeds=range(5)) == generate_text(
        quick, ids[:, :left], *arguments, seeds=range(5)
    )
    for image in (ids[0, left:end], ids[:, left:end]):
        found, expected = (text_losses(m, ids[0, :left], image, ids[:, end:].clamp(min=1)) for m in (quick, model))
        assert torch.allclose(found[0], expected[0], rtol=1e-4) and torch.equal(found[1], expected[1])


@torch.inference_mode()
def test_what_was_in_memory_before_does_no_harm() -> None:
    model = native_of(decoder("odd"))
    config = model.config
    ids = sequences(config, 3)
    expected = model.hidden(ids, 0, model.new_cache(3, 0))
    cache = model.new_cache(3, 0)
    assert isinstance(cache, NativeCache)
    for tensor in (*cache.keys, *cache.values):
        tensor.fill_(torch.nan)
    assert torch.equal(model.hidden(ids, 0, cache), expected)
    assert cache.nbytes >= 2 * 4 * config.num_layers * config.hidden_size * 3 * config.total_seq_length


@torch.inference_mode()
def test_ids_and_positions_that_do_not_exist_are_refused() -> None:
    model = native_of(decoder("odd"))
    config = model.config
    ids = sequences(config, 2)
    for place, wrong in (
        (3, -1), (3, config.text_vocab_size), (config.image_end - 1, config.image_table_size),
        (config.image_end, config.text_vocab_size), (config.image_end + 1, -7),
    ):  # fmt: skip
        changed = ids.clone()
        changed[1, place] = wrong
        with pytest.raises(IndexError, match=f"there is no id {wrong} at position {place}"):
            model.hidden(changed, 0, model.new_cache(2, 0))
    cache = model.new_cache(2, 0, config.image_end)
    with pytest.raises(IndexError, match=f"at position {config.image_end}"):
        model.hidden(ids[:, : config.image_end + 1], 0, cache)
    length = config.total_seq_length
    for cache in (model.new_cache(2, 0, length + 5), None):
        with pytest.raises(ValueError, match="ids cover the positions"):
            model.hidden(torch.cat((ids, ids), dim=1), 0, cache)
    _, cache = model.prefill(ids, capacity=length + 5)
    with pytest.raises(ValueError, match="ids cover the positions"):
        model.decode(ids[:, :1], length, cache)
    with pytest.raises(IndexError, match=f"at position {length}"):
        cache.run(ids[:, :1], length, 1)
    assert torch.equal(model.hidden(ids.int(), 0, model.new_cache(2, 0)), model.hidden(ids))


@torch.inference_mode()
def test_caches_begin_with_what_others_hold() -> None:
    """A cache that was described before, one that goes on from a whole image, and from a part of one."""
    model = native_of(decoder("odd"))
    config, left, end = model.config, model.config.l_text_seq_length, model.config.image_end
    ids, rows = sequences(config, 3), torch.tensor([2, 0])
    whole = model.hidden(ids)
    for stop in (left, left + 3, end - 1, end):
        prefix = model.prefix(ids[:, :stop])
        cache = model.new_cache(2, 0)
        assert cache.nbytes > 0
        cache.branch(prefix.cache, rows)
        del prefix
        torch.full((3, 10**6), torch.nan)  # takes memory that was let go of
        assert torch.equal(model.hidden(ids[rows, stop:], stop, cache), whole[rows, stop:])


@needs_library
def test_uniform_numbers_of_other_kinds() -> None:
    logits, uniform = torch.randn(4, 30), torch.rand(4)
    expected = native.draw(logits, 0, 1.0, 1.0, uniform)
    assert torch.equal(native.draw(logits, 0, 1.0, 1.0, uniform.double()), expected)
    one = native.draw(logits, 0, 1.0, 1.0, uniform[:1])
    assert torch.equal(one, native.draw(logits, 0, 1.0, 1.0, uniform[:1].repeat(4)))


@needs_library
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_draws_from_what_is_no_number_end(value: float) -> None:
    drawn = native.draw(torch.full((3, 20), value), 5, 0.9, 1.0, torch.rand(3))
    assert ((0 <= drawn) & (drawn < 20)).all()


@torch.inference_mode()
def test_many_threads_and_more_than_there_are_rows() -> None:
    model = native_of(decoder("odd"))
    ids = sequences(model.config, 2)
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 7):
            torch.set_num_threads(number)
            found.append(model.hidden(ids, 0, model.new_cache(2, 0)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    "sampling",
    [IMAGE_SAMPLING, Sampling(), Sampling(top_k=32, top_p=0.8), Sampling(top_p=1e-6), Sampling(5, 1.0, 0.01),
     Sampling(300, 0.5, 5.0)],
    ids=str,
)  # fmt: skip
def test_draws(instructions: str, sampling: Sampling) -> None:
    torch.manual_seed(0)
    for width in (1, 3, 17, 1024, 4099):
        for scale in (0.0, 0.3, 8.0):
            logits, uniform = scale * torch.randn(300, width), torch.rand(300)
            logits[:, 2::5] = -torch.inf
            logits[::3] = logits[::3].round()  # many are equal
            uniform[:2] = torch.tensor([0.0, 1 - 2**-24])
            expected = sample_by_sorting(logits, sampling, uniform)
            found = native.draw(logits, sampling.top_k, sampling.top_p, sampling.temperature, uniform)
            # Of equal ones either may come first, and of 4000 ids some lie where rounding decides.
            others = logits.gather(1, found[:, None]) != logits.gather(1, expected[:, None])
            assert others.sum() <= 3
            assert logits.gather(1, found[:, None]).isfinite().all()


@needs_library
def test_equal_choices_are_drawn_alike() -> None:
    uniform = (torch.arange(4000) + 0.5) / 4000
    counts = native.draw(torch.zeros(4000, 40), 0, 1.0, 1.0, uniform).bincount(minlength=40)
    assert counts.tolist() == [100] * 40
    kept = native.draw(torch.zeros(4000, 40), 0, 0.5, 1.0, uniform).unique()
    assert len(kept) in (20, 21)  # half of the probability, and the one that crosses it


def test_the_best_that_the_processor_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build.sysconfig, "get_path", lambda name: str(tmp_path))
    (tmp_path / "rudolph_native").mkdir()
    cpuinfo, before = tmp_path / "cpuinfo", None
    for flags, name in (
        ("fma avx2 bmi2 f16c movbe", "avx2"),
        ("fma avx2 bmi2 f16c movbe avx512f avx512bw avx512cd avx512dq avx512vl", "avx512"),
        ("fma avx2 bmi2 f16c movbe avx512f avx512bw avx512cd avx512dq avx512vl avx512_bf16 amx_bf16", "avx512bf16"),
    ):
        cpuinfo.write_text(f"processor : 0\nmodel name : ёж\nflags\t\t: fpu {flags}\n\n", encoding="utf-8")
        assert built(cpuinfo) == before  # the next best
        library_of(name).touch()
        assert built(cpuinfo) == library_of(name)
        before = library_of(name)
    cpuinfo.write_text("flags : fpu sse2\n")
    assert built(cpuinfo) is None


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64" or shutil.which("g++") is None, reason="needs g++ for x86-64")
def test_build_makes_all_that_the_compiler_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(native_build, "FLAGS", tuple(flag for flag in native_build.FLAGS if flag != "-O3"))
    old = tmp_path / "rudolph_native" / "0123456789abcdef-avx2.so"
    old.parent.mkdir()
    old.touch()
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\ncase "$*" in *avx512bf16*) exit 1; esac\nexec g++ -O0 "$@"\n', encoding="utf-8")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(native_build.subprocess.CalledProcessError):
        build()
    known = {library_of(name).name for name in SETS if name != "avx512bf16"}
    assert {path.name for path in old.parent.iterdir()} == {*known, old.name}  # no temporary files
    monkeypatch.setenv("CXX", "g++ -O0")
    build()
    assert {path.name for path in old.parent.iterdir()} == {*(library_of(name).name for name in SETS), old.name}
    monkeypatch.setenv("CXX", "false")
    build()  # all is there


def test_without_a_library_all_goes_on(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(native, "built", lambda: None)
    native.library.cache_clear()
    try:
        with caplog.at_level("INFO", "rudolph.native"):
            assert native.library() is None
        assert "PyTorch's operations do its work" in caplog.text
        model = decoder("odd")
        assert not can_use(model)
        ids = sequences(model.config, 2)
        assert len(generate_image(model, ids[:, : model.config.l_text_seq_length], GREEDY)) == 2
    finally:
        native.library.cache_clear()
