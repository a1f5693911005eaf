"""Zero-shot uses: perplexities against the loss, and captions, inpainting, classes and continuations on tiny models."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rudolph import (
    INSTRUCTIONS,
    PRETRAINED,
    Rudolph,
    RudolphModel,
    caption,
    classify,
    continue_text,
    image_perplexity,
    inpaint,
    perplexity,
)
from rudolph.config import BOS, EOS, PAD
from rudolph.images import ImageError, flatten, preprocess
from rudolph.likelihood import text_losses
from rudolph.sampling import GREEDY, Sampling
from rudolph.zero_shot import encode

pytestmark = pytest.mark.slow

DATA = Path(__file__).parents[2] / "data" / "rudolph"
NANO = Path(__file__).parents[3] / "submission" / "weights" / "nano"
SPREAD = Sampling(temperature=2.0)


@pytest.fixture(scope="module", params=["a", "b"])
def case(request: pytest.FixtureRequest) -> tuple[RudolphModel, dict[str, torch.Tensor]]:
    folder = DATA / request.param
    with np.load(folder / "reference.npz") as file:
        vectors = {key: torch.from_numpy(file[key]) for key in ("left", "image", "right")}
    return RudolphModel.from_pretrained(folder), vectors


@pytest.fixture(scope="module")
def rudolph(model_folder: Path) -> Rudolph:
    return Rudolph.from_pretrained(model_folder, "cpu", "float32")


@pytest.fixture(scope="module")
def nano() -> Rudolph:
    return Rudolph.from_pretrained(NANO, "cpu", "float32")


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((70, 50))


def red_circle() -> Image.Image:
    """Drawn here, so that nothing has to be installed."""
    y, x = np.mgrid[:64, :64] - 31.5
    inside = (x**2 + y**2 < 26**2)[..., None]
    return Image.fromarray(np.where(inside, (214, 40, 40), (244, 244, 244)).astype(np.uint8))


def left_ids(rudolph: Rudolph, text: str, token: str) -> torch.Tensor:
    config = rudolph.model.config
    return rudolph.tokenizer.encode_text(text, config.l_text_seq_length, config.special_id(token))[None]


@torch.no_grad()
def plain_perplexity(rudolph: Rudolph, codes: torch.Tensor, text: str) -> float:
    """The oracle: the whole sequence through the whole model, every id's probability looked up."""
    config = rudolph.model.config
    right = rudolph.tokenizer.encode_text(text, config.r_text_seq_length, config.special_id("RT_UNK"))
    left = left_ids(rudolph, INSTRUCTIONS.describe, "LT_UNK")
    logits = rudolph.model(torch.cat((left, codes, right[None]), dim=1)).logits[0, :, : config.text_vocab_size]
    seen = logits.log_softmax(-1)[config.image_end - 1 : -1]
    scored = [float(seen[place, id]) for place, id in enumerate(right.tolist()) if place >= 2 and id != PAD]
    return float(np.exp(-np.mean(scored)))


def test_perplexities_are_those_of_the_loss(case: tuple[RudolphModel, dict[str, torch.Tensor]]) -> None:
    model, vectors = case
    for left, image in zip(vectors["left"], vectors["image"], strict=True):
        got = perplexity(model, left, image, vectors["right"], batch_size=2)
        of_image = image_perplexity(model, vectors["left"], image, batch_size=2)
        for row, (other_left, right) in enumerate(zip(vectors["left"], vectors["right"], strict=True)):
            with torch.no_grad():
                losses = model.loss(torch.cat((left, image, right))[None])
                of_other = model.loss(torch.cat((other_left, image))[None])
            assert got[row].log() == pytest.approx(float(losses.rt), abs=1e-4)
            assert of_image[row].log() == pytest.approx(float(of_other.img), abs=1e-4)


def test_texts_after_images_of_their_own(case: tuple[RudolphModel, dict[str, torch.Tensor]]) -> None:
    model, vectors = case
    left = vectors["left"][0]
    losses, counts = text_losses(model, left, vectors["image"], vectors["right"], batch_size=2)
    for row, (image, right) in enumerate(zip(vectors["image"], vectors["right"], strict=True)):
        with torch.no_grad():
            expected = model.loss(torch.cat((left, image, right))[None]).rt
        assert losses[row] / counts[row] == pytest.approx(float(expected), abs=1e-4)


def test_given_ids_are_not_counted(case: tuple[RudolphModel, dict[str, torch.Tensor]]) -> None:
    model, vectors = case
    left, image = vectors["left"][0], vectors["image"][0]
    right = torch.tensor([[BOS, 7, 8, 9, EOS, PAD], [BOS, 7, 5, EOS, PAD, PAD]])
    whole, counts = text_losses(model, left, image, right)
    rest, rest_counts = text_losses(model, left, image, right, given=2)
    assert counts.tolist() == [4, 3] and rest_counts.tolist() == [3, 2]
    first = whole - rest  # of the id 7, after the same: equal in both rows
    assert first[0] == pytest.approx(float(first[1]), abs=1e-4) and first[0] > 0
    for wrong in (right[:, :1], right[0], torch.tensor([[BOS, PAD]]), right.repeat(1, 30)):
        with pytest.raises(ValueError, match="right has shape .*, 1 ids are given"):
            text_losses(model, left, image, wrong)


@pytest.mark.parametrize("which", ["tiny", "nano"])
def test_captions_are_ranked_by_perplexity(which: str, request: pytest.FixtureRequest) -> None:
    rudolph = request.getfixturevalue({"tiny": "rudolph", "nano": "nano"}[which])
    image = red_circle()
    made = caption(rudolph, image, 12, sampling=SPREAD, batch_size=5)
    assert len(made) > 3 and sum(one.count for one in made) <= 12
    assert len({one.text for one in made}) == len(made)
    assert [one.perplexity for one in made] == sorted(one.perplexity for one in made)
    codes = encode(rudolph, image)
    for one in made:
        assert one.perplexity == pytest.approx(plain_perplexity(rudolph, codes, one.text), rel=1e-3)
        assert one.image_perplexity is None


def test_captions_can_be_ranked_by_the_image_that_they_would_ask_for(rudolph: Rudolph, model_folder: Path) -> None:
    image, model = picture(), RudolphModel.from_pretrained(model_folder)
    by_text, by_image = (caption(rudolph, image, 12, sampling=SPREAD, rank=rank) for rank in ("text", "image"))
    assert {one.text for one in by_text} == {one.text for one in by_image}
    codes = encode(rudolph, image)
    expected = []
    for one in by_image:
        left = left_ids(rudolph, f"Сгенерируй изображение по тексту. {one.text}", "LT_UNK")
        with torch.no_grad():
            expected.append(float(model.loss(torch.cat((left, codes), dim=1)).img.exp()))
    assert [one.image_perplexity for one in by_image] == pytest.approx(expected, rel=1e-4)
    assert expected == sorted(expected)


def test_captions_begin_as_asked_and_do_not_depend_on_the_batch(rudolph: Rudolph) -> None:
    few = caption(rudolph, picture(), 6, beginning="Ёжик", sampling=SPREAD)
    again = caption(rudolph, picture(), 6, beginning="Ёжик", sampling=SPREAD, batch_size=1)
    more = caption(rudolph, picture(), 9, beginning="Ёжик", sampling=SPREAD, batch_size=4)
    assert all(one.text.startswith("ёжик") for one in few)
    assert [one.text for one in few] == [one.text for one in again]
    assert {one.text for one in few} <= {one.text for one in more}
    other = caption(rudolph, picture(), 6, beginning="Ёжик", sampling=SPREAD, seed=1)
    assert {one.text for one in other} != {one.text for one in few}


def test_images_come_as_paths_bytes_and_pil(rudolph: Rudolph, tmp_path: Path) -> None:
    path = tmp_path / "картинка.png"
    picture().save(path)
    codes = encode(rudolph, picture())
    assert torch.equal(encode(rudolph, path), codes) and torch.equal(encode(rudolph, path.read_bytes()), codes)
    clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))  # transparency is white, from a file or not
    assert torch.equal(encode(rudolph, clear), encode(rudolph, Image.new("RGB", (40, 40), "white")))
    with pytest.raises(ImageError, match="нет.png"):
        caption(rudolph, tmp_path / "нет.png")


@pytest.mark.parametrize(
    "borders", [{"top": 2}, {"left": 1, "right": 1}, {"top": 1, "bottom": 1, "left": 1, "right": 1}, {"bottom": 3}]
)
def test_kept_codes_are_kept(rudolph: Rudolph, borders: dict[str, int]) -> None:
    image, side = picture(), rudolph.model.config.image_tokens_per_dim
    codes = encode(rudolph, image).view(side, side)
    keep = torch.zeros(side, side, dtype=torch.bool)
    keep[: borders.get("top", 0)] = keep[side - borders.get("bottom", 0) :] = True
    keep[:, : borders.get("left", 0)] = keep[:, side - borders.get("right", 0) :] = True
    made = inpaint(rudolph, image, "Щука и «юла»", 3, sampling=SPREAD, **borders)
    by_mask = inpaint(rudolph, image, "Щука и «юла»", 2, sampling=SPREAD, mask=keep.tolist(), batch_size=1)
    given = preprocess(flatten(image), rudolph.image_side)
    shown = keep.repeat_interleave(8, 0).repeat_interleave(8, 1)
    for one in made:
        assert torch.equal(one.codes[keep], codes[keep])
        pixels = preprocess(one.image, rudolph.image_side)
        assert torch.equal(pixels[:, shown], given[:, shown]) and not torch.equal(pixels, given)
    assert len({one.image.tobytes() for one in made}) > 1
    assert [one.image.tobytes() for one in by_mask] == [one.image.tobytes() for one in made[:2]]


@torch.no_grad()
def test_open_cells_are_drawn_after_all_that_stands_before_them(rudolph: Rudolph) -> None:
    """Greedy, so that every drawn code can be found again from the sequence in front of it."""
    config, image = rudolph.model.config, picture(1)
    side, length = config.image_tokens_per_dim, config.l_text_seq_length
    generator = torch.Generator().manual_seed(0)
    keep = torch.rand(side, side, generator=generator) < 0.5
    keep[0, 0] = False  # the first code comes from the text head
    (made,) = inpaint(rudolph, image, "красный шар", mask=keep, sampling=GREEDY, paste=False)
    left = left_ids(rudolph, "Сгенерируй изображение по тексту. красный шар", "LT_UNK")
    logits = rudolph.model(torch.cat((left, made.codes.view(1, -1)), dim=1)).logits[0]
    for place, (kept, code) in enumerate(zip(keep.flatten().tolist(), made.codes.flatten().tolist(), strict=True)):
        start, stop = config.vocabulary_rows("first_code" if place == 0 else "codes")
        if not kept:
            assert code == int(logits[length + place - 1, start:stop].argmax())
    decoded = rudolph.vqgan.decode(made.codes.view(1, -1))[0]
    assert (preprocess(made.image, rudolph.image_side) - decoded.clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6


def test_class_probabilities_sum_to_one_in_any_order(rudolph: Rudolph) -> None:
    classes = ["ёж", "Красный шар", "«юла»", "дом"]
    for per_token in (False, True):
        whole = classify(rudolph, picture(), classes, per_token=per_token)
        assert sum(whole.values()) == pytest.approx(1, abs=1e-5)
        assert list(whole.values()) == sorted(whole.values(), reverse=True)
        for order in itertools.islice(itertools.permutations(classes), 1, 24, 7):
            other = classify(rudolph, picture(), order, per_token=per_token, batch_size=3)
            assert set(other) == set(classes)
            assert all(other[name] == pytest.approx(whole[name], abs=1e-5) for name in classes)
    assert classify(rudolph, picture(), ["кот"]) == {"кот": 1.0}


def test_class_probabilities_are_those_of_their_texts(rudolph: Rudolph) -> None:
    classes, codes = ["ёж", "красный шар", "дом"], encode(rudolph, picture())
    got = classify(rudolph, picture(), classes, template="на {}", per_token=True)
    ppl = {name: plain_perplexity(rudolph, codes, f"на {name}") for name in classes}
    total = sum(1 / value for value in ppl.values())
    assert got == {name: pytest.approx(1 / value / total, rel=1e-3) for name, value in ppl.items()}


def test_nano_knows_a_red_circle(nano: Rudolph) -> None:
    probable = classify(
        nano, red_circle(), ["зелёный круг", "красный круг", "синий квадрат"], template="{} на белом фоне"
    )
    assert next(iter(probable)) == "красный круг"
    assert "красный" in caption(nano, red_circle(), 8)[0].text


@pytest.mark.parametrize("part", ["left", "right"])
def test_texts_go_on(rudolph: Rudolph, part: str) -> None:
    arguments = {"part": part, "sampling": SPREAD}
    made = continue_text(rudolph, "Рыжий ёжик", 5, **arguments)
    assert all(text.startswith("рыжий ёжик") for text in made) and len(set(made)) > 1
    assert continue_text(rudolph, "Рыжий ёжик", 2, batch_size=1, **arguments) == made[:2]
    assert continue_text(rudolph, "Рыжий ёжик", 5, seed=1, **arguments) != made
    short = continue_text(rudolph, "Рыжий ёжик", max_tokens=1, **arguments)
    assert len(rudolph.tokenizer.encode_ids(short[0])) <= len(rudolph.tokenizer.encode_ids("рыжий ёжик")) + 2


@torch.no_grad()
def test_a_text_goes_on_as_the_left_text_is_read(rudolph: Rudolph) -> None:
    (made,) = continue_text(rudolph, "красный", sampling=GREEDY)
    ids = [BOS, rudolph.model.config.special_id("LT_UNK"), *rudolph.tokenizer.encode_ids("красный")]
    while len(ids) < rudolph.model.config.l_text_seq_length:
        logits = rudolph.model(torch.tensor([ids])).logits[0, -1, : rudolph.model.config.bpe_vocab_size]
        logits[: BOS + 1] = -torch.inf  # padding, unknown and beginning do not go on
        if (id := int(logits.argmax())) == EOS:
            break
        ids.append(id)
    assert made == rudolph.tokenizer.decode(ids)


def test_pretrained_prompts_name_the_mode(rudolph: Rudolph) -> None:
    """The tokens of pre-training reach the model, in every use."""
    arguments = {"prompts": PRETRAINED, "sampling": SPREAD}
    assert caption(rudolph, picture(), 4, beginning="на картинке", **arguments) != caption(
        rudolph, picture(), 4, beginning="на картинке", sampling=SPREAD
    )
    assert continue_text(rudolph, "кот", 4, **arguments) != continue_text(rudolph, "кот", 4, sampling=SPREAD)
    classes = ["кот", "дом"]
    assert classify(rudolph, picture(), classes, prompts=PRETRAINED) != classify(rudolph, picture(), classes)
    drawn = [inpaint(rudolph, picture(), "кот", top=1, sampling=GREEDY, prompts=prompts)[0].codes
             for prompts in (PRETRAINED, INSTRUCTIONS)]  # fmt: skip
    assert not torch.equal(*drawn)
    without = dataclasses.replace(PRETRAINED, describe_tokens=("LT_I2T", "RT_НЕТ"))
    with pytest.raises(ValueError, match="special token 'RT_НЕТ' is unknown"):
        caption(rudolph, picture(), prompts=without)


def test_wrong_arguments_are_named(rudolph: Rudolph) -> None:
    image = picture()
    for call, message in (
        (lambda: caption(rudolph, image, 0), "n is 0; it must be 1 or more"),
        (lambda: caption(rudolph, image, "16"), "n is '16'; it must be 1 or more, a whole number"),
        (lambda: caption(rudolph, image, 2.5), "n is 2.5; it must be 1 or more, a whole number"),
        (lambda: caption(rudolph, image, 1, beginning=["кот"]), r"text is \['кот'\]; it must be a str"),
        (lambda: classify(rudolph, image, "кит"), "classes is 'кит'; it must be a list of texts"),
        (lambda: classify(rudolph, image, ""), "classes is ''; it must be a list of texts"),
        (lambda: classify(rudolph, image, ["кит", 7]), "class 7 is no text"),
        (lambda: classify(rudolph, image, [["кит"]]), r"class \['кит'\] is no text"),
        (lambda: continue_text(rudolph, ["кот"]), r"text is \['кот'\]; it must be a str"),
        (lambda: inpaint(rudolph, image, top="2"), "top is '2'; it must be 0 to 4, in cells"),
        (lambda: caption(rudolph, image, batch_size=0), "batch_size is 0"),
        (lambda: caption(rudolph, image, rank="слова"), "rank is 'слова'; it must be one of text, image"),
        (lambda: caption(rudolph, image, beginning="щука " * 9), "beginning has .* ids; at most 7 fit"),
        (lambda: classify(rudolph, image, []), "there are no classes"),
        (lambda: classify(rudolph, image, ["кот"], template="фото"), "template is 'фото'; it must have {}"),
        (lambda: classify(rudolph, image, ["кот", " КОТ"]), "classes 'кот' and ' КОТ' read the same"),
        (lambda: classify(rudolph, image, ["кот", "кот"]), "classes 'кот' and 'кот' read the same"),
        (lambda: classify(rudolph, image, ["кот", "  "]), "class '  ' is empty"),
        (lambda: classify(rudolph, image, ["щука " * 9]), "does not fit into the 10 ids"),
        (lambda: inpaint(rudolph, image), r"nothing is kept; give top, bottom, left or right \(1 to 4\), or a mask"),
        (lambda: inpaint(rudolph, image, top=4), "everything is kept"),
        (lambda: inpaint(rudolph, image, left=5), "left is 5; it must be 0 to 4"),
        (lambda: inpaint(rudolph, image, mask=[[True]]), r"mask has shape \(1, 1\); it must be \(4, 4\)"),
        (lambda: continue_text(rudolph, "щука " * 20), "text has .* ids; at most 21 leave a place"),
        (lambda: continue_text(rudolph, "кот", part="image"), "part is 'image'; it must be one of left, right"),
        (lambda: continue_text(rudolph, "кот", max_tokens=0), "max_tokens is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
