"""What a model can do that was never asked of it in training: captions ranked by perplexity, images that go on from
their borders, classes told apart by the perplexity of their names, texts that go on.

    from rudolph import Rudolph, caption, classify, continue_text, inpaint
    rudolph = Rudolph.from_pretrained("submission/weights/nano", dtype="float32")
    print(caption(rudolph, "photo.jpg")[0].text)

An image is a path, the bytes of a file, or a PIL image. Every draw has a seed of its own, so what comes out depends
neither on the batch size nor on how many draws there are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from .answer import CAPTION_INSTRUCTION, Rudolph, seed_of
from .config import BOS, EOS, PAD, UNK
from .decoder import RudolphDecoder
from .generate import generate, generate_text
from .images import flatten, load_image, preprocess, to_image
from .likelihood import image_perplexity, perplexity, text_losses
from .sampling import IMAGE_SAMPLING, TEXT_SAMPLING, Sampling

Picture = str | os.PathLike[str] | bytes | Image.Image
RANKS = ("text", "image")
PARTS = ("left", "right")


@dataclass(frozen=True)
class Prompts:
    """How a model was taught to be asked. `draw` has {} where the description of the image stands."""

    describe: str
    draw: str
    describe_tokens: tuple[str, str]  # left, right
    draw_token: str
    continue_token: str


#: Of models that were fine-tuned on the challenge's tasks, `nano` among them: an instruction, and no task named.
INSTRUCTIONS = Prompts(
    CAPTION_INSTRUCTION, "Сгенерируй изображение по тексту. {}", ("LT_UNK", "RT_UNK"), "LT_UNK", "LT_UNK"
)
#: Of the published pre-trained models: the token of the mode, and no instruction.
PRETRAINED = Prompts("", "{}", ("LT_I2T", "RT_I2T"), "LT_T2I", "LT_T2T")


@dataclass(frozen=True)
class Caption:
    """One of the captions that were drawn, `count` times.

    `perplexity` is the text's, given the image; `image_perplexity` the image's, given the text, where it was asked for.
    """

    text: str
    perplexity: float
    image_perplexity: float | None
    count: int


@dataclass(frozen=True)
class Inpainted:
    """An image of the model's size, and its codes, int64 [m, m] on the CPU."""

    image: Image.Image
    codes: Tensor


def caption(
    rudolph: Rudolph,
    image: Picture,
    n: int = 16,
    *,
    beginning: str = "",
    rank: Literal["text", "image"] = "text",
    prompts: Prompts = INSTRUCTIONS,
    sampling: Sampling = TEXT_SAMPLING,
    seed: int = 0,
    batch_size: int = 16,
) -> list[Caption]:
    """Draws `n` captions that start with `beginning` and ranks the different ones by perplexity, best first.

    rank: `text` goes by the perplexity of the caption after the image; `image` by that of the image after the caption
    as a request, as the published pipeline mostly does, which tells apart what is said from how smoothly.
    Raises ValueError for a wrong argument, ImageError for an image that cannot be read.
    """
    _at_least_one(n=n, batch_size=batch_size)
    _one_of("rank", rank, RANKS)
    model, tokenizer = rudolph.model, rudolph.tokenizer
    left = _left(rudolph, prompts.describe, prompts.describe_tokens[0])
    right_token = model.config.special_id(prompts.describe_tokens[1])
    codes = encode(rudolph, image)
    begin = [BOS, right_token, *tokenizer.encode_ids(beginning)]
    if len(begin) >= model.config.r_text_seq_length:
        raise ValueError(
            f"beginning has {len(begin) - 2} ids; at most {model.config.r_text_seq_length - 3} fit, and one for more"
        )
    counts: dict[str, int] = {}
    for draws in torch.arange(n).split(batch_size):
        rows = generate_text(
            model, left.expand(len(draws), -1), codes.expand(len(draws), -1),
            torch.tensor(begin, device=model.device), sampling,
            seeds=[seed_of(seed, str(draw), "caption") for draw in draws.tolist()],
        )  # fmt: skip
        for row in rows:
            text = tokenizer.decode([*begin, *row])
            if text:
                counts[text] = counts.get(text, 0) + 1
    if not counts:
        return []
    right = torch.stack([tokenizer.encode_text(text, model.config.r_text_seq_length, right_token) for text in counts])
    of_text = perplexity(model, left[0], codes[0], right, given=2, batch_size=batch_size).tolist()
    of_image: list[float | None] = [None] * len(counts)
    if rank == "image":
        asked = torch.cat([_left(rudolph, prompts.draw.replace("{}", text), prompts.draw_token) for text in counts])
        of_image = [*image_perplexity(model, asked, codes[0], batch_size=batch_size).tolist()]
    made = map(Caption, counts, of_text, of_image, counts.values())
    return sorted(made, key=lambda one: one.perplexity if one.image_perplexity is None else one.image_perplexity)


def classify(
    rudolph: Rudolph,
    image: Picture,
    classes: Sequence[str],
    *,
    template: str = "{}",
    per_token: bool = False,
    prompts: Prompts = INSTRUCTIONS,
    batch_size: int = 64,
) -> dict[str, float]:
    """The probability of each class, likeliest first: how well `template` with its name goes after the image.

    per_token: goes by the mean over the ids of a text (its perplexity, as published) instead of by their sum (the
    likelihood of the whole text). Raises ValueError for no classes or a single text in their place, for two that
    read the same, for one that is too long, and for a template without {}.
    """
    _at_least_one(batch_size=batch_size)
    if isinstance(classes, str):  # each letter would be one
        raise ValueError(f"classes is {classes!r}; it must be a list of texts")
    for name in classes:
        if not isinstance(name, str):
            raise ValueError(f"class {name!r} is no text")
    if not classes:
        raise ValueError("there are no classes; give one or more")
    if "{}" not in template:
        raise ValueError(f"template is {template!r}; it must have {{}} where the class stands")
    model, tokenizer = rudolph.model, rudolph.tokenizer
    length = model.config.r_text_seq_length
    right_token = model.config.special_id(prompts.describe_tokens[1])
    right = torch.stack([tokenizer.encode_text(template.replace("{}", name), length, right_token) for name in classes])
    read: dict[tuple[int, ...], str] = {}
    for name, row in zip(classes, right, strict=True):
        if int(row[-1]) not in (PAD, EOS):
            raise ValueError(f"class {name!r} does not fit into the {length} ids of the right text")
        if int(row[2]) == EOS:
            raise ValueError(f"class {name!r} is empty")
        if (ids := tuple(row.tolist())) in read:
            raise ValueError(f"classes {read[ids]!r} and {name!r} read the same")
        read[ids] = name
    left = _left(rudolph, prompts.describe, prompts.describe_tokens[0])
    losses, counts = text_losses(model, left[0], encode(rudolph, image)[0], right, given=2, batch_size=batch_size)
    scores = -(losses / counts if per_token else losses)
    ranked = sorted(zip(classes, scores.softmax(0).tolist(), strict=True), key=lambda pair: -pair[1])
    return dict(ranked)


def inpaint(
    rudolph: Rudolph,
    image: Picture,
    text: str = "",
    n: int = 1,
    *,
    top: int = 0,
    bottom: int = 0,
    left: int = 0,
    right: int = 0,
    mask: Tensor | Sequence[Sequence[bool]] | None = None,
    paste: bool = True,
    prompts: Prompts = INSTRUCTIONS,
    sampling: Sampling = IMAGE_SAMPLING,
    seed: int = 0,
    batch_size: int = 16,
) -> list[Inpainted]:
    """Draws `n` images that keep a part of one: border rows and columns, or what `mask` [m, m] says, in cells of 8 × 8
    pixels of the image as the model sees it; `text` describes what is wanted.

    The codes of the kept cells stay as they are and the others are drawn, row by row from the top, so a cell knows
    what is kept below it only by what the model would put there anyway. paste: the kept cells get their own pixels
    back. Raises ValueError where nothing is kept or nothing is left to draw.
    """
    _at_least_one(n=n, batch_size=batch_size)
    model, side = rudolph.model, rudolph.model.config.image_tokens_per_dim
    keep = _kept(side, mask, {"top": top, "bottom": bottom, "left": left, "right": right})
    asked = _left(rudolph, prompts.draw.replace("{}", text), prompts.draw_token)
    pixels = _pixels(rudolph, image)
    given = rudolph.vqgan.encode(pixels[None].to(model.device))
    drawn = [
        _fill(
            model, asked.expand(len(draws), -1), given.expand(len(draws), -1), keep.flatten(), sampling,
            [f"{draw}" for draw in draws.tolist()], seed,
        )
        for draws in torch.arange(n).split(batch_size)
    ]  # fmt: skip
    cell = rudolph.image_side // side
    shown = keep.repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    made = []
    for codes in torch.cat(drawn):
        decoded = rudolph.vqgan.decode(codes[None])[0].cpu()
        made.append(Inpainted(to_image(torch.where(shown, pixels, decoded) if paste else decoded),
                              codes.view(side, side).cpu()))  # fmt: skip
    return made


def continue_text(
    rudolph: Rudolph,
    text: str,
    n: int = 1,
    *,
    part: Literal["left", "right"] = "left",
    max_tokens: int | None = None,
    prompts: Prompts = INSTRUCTIONS,
    sampling: Sampling = TEXT_SAMPLING,
    seed: int = 0,
    batch_size: int = 16,
) -> list[str]:
    """Draws `n` texts that begin with `text`, in lower case as the model reads and writes.

    part: `left` goes on within the left text, where language modelling was learned; `right` in the right text, after a
    left text that is whole and an image of codes 0, as answers are written. Raises ValueError for a text that leaves no
    place.
    """
    _at_least_one(n=n, batch_size=batch_size, max_tokens=1 if max_tokens is None else max_tokens)
    _one_of("part", part, PARTS)
    model, tokenizer, config = rudolph.model, rudolph.tokenizer, rudolph.model.config
    ids = tokenizer.encode_ids(text)
    begin = torch.tensor([[BOS, config.special_id(prompts.continue_token), *ids]], device=model.device)
    room = config.l_text_seq_length - begin.shape[1]
    if room < 1:
        raise ValueError(f"text has {len(ids)} ids; at most {config.l_text_seq_length - 3} leave a place to go on")
    allowed = torch.ones(config.bpe_vocab_size, dtype=torch.bool, device=model.device)
    allowed[[PAD, UNK, BOS]] = False
    made = []
    for draws in torch.arange(n).split(batch_size):
        seeds = [seed_of(seed, str(draw), "continue") for draw in draws.tolist()]
        if part == "left":
            rows = generate(
                model, begin.expand(len(draws), -1), min(room, max_tokens or room), "bpe", sampling,
                seeds=seeds, allowed=allowed, stop_id=EOS,
            ).tolist()  # fmt: skip
            made += [tokenizer.decode([*ids, *(row[: row.index(EOS)] if EOS in row else row)]) for row in rows]
        else:
            left = _left(rudolph, text, prompts.continue_token).expand(len(draws), -1)
            zeros = torch.zeros(len(draws), config.image_seq_length, dtype=torch.int64, device=model.device)
            rows = generate_text(
                model, left, zeros, torch.tensor([BOS, config.special_id("RT_UNK")], device=model.device), sampling,
                seeds=seeds, allowed=allowed, max_tokens=max_tokens,
            )  # fmt: skip
            made += [f"{tokenizer.decode(ids)} {tokenizer.decode(row)}".strip() for row in rows]
    return made


def encode(rudolph: Rudolph, image: Picture) -> Tensor:
    """Codes of an image, int64 [1, m * m] on the model's device. Raises ImageError where it cannot be read."""
    return rudolph.vqgan.encode(_pixels(rudolph, image)[None].to(rudolph.model.device))


def _pixels(rudolph: Rudolph, image: Picture) -> Tensor:
    return preprocess(flatten(image) if isinstance(image, Image.Image) else load_image(image), rudolph.image_side)


def _left(rudolph: Rudolph, text: str, token: str) -> Tensor:
    """Ids of a left text, int64 [1, l]."""
    config = rudolph.model.config
    ids = rudolph.tokenizer.encode_text(text, config.l_text_seq_length, config.special_id(token))
    return ids[None].to(rudolph.model.device)


def _kept(side: int, mask: Tensor | Sequence[Sequence[bool]] | None, borders: dict[str, int]) -> Tensor:
    """Bool [side, side], true where a cell is kept."""
    for name, cells in borders.items():
        if not isinstance(cells, Integral) or not 0 <= cells <= side:
            raise ValueError(f"{name} is {cells!r}; it must be 0 to {side}, in cells")
    keep = torch.zeros(side, side, dtype=torch.bool) if mask is None else torch.as_tensor(mask, dtype=torch.bool).cpu()
    if keep.shape != (side, side):
        raise ValueError(f"mask has shape {tuple(keep.shape)}; it must be ({side}, {side})")
    keep = keep.clone()
    keep[: borders["top"]] = True
    keep[side - borders["bottom"] :] = True
    keep[:, : borders["left"]] = True
    keep[:, side - borders["right"] :] = True
    if not keep.any():
        raise ValueError(f"nothing is kept; give top, bottom, left or right (1 to {side}), or a mask")
    if keep.all():
        raise ValueError("everything is kept, so there is nothing to draw")
    return keep


def _fill(
    model: RudolphDecoder, left: Tensor, given: Tensor, keep: Tensor, sampling: Sampling, names: Sequence[str],
    seed: int,
) -> Tensor:  # fmt: skip
    """`given` codes [B, m * m] with those drawn anew that are not kept.

    Each run of open places is one generation, before which all that stands in front of it goes through at once.
    """
    codes = given.clone()
    changes = (keep.int().diff().nonzero()[:, 0] + 1).tolist()
    edges = [0, *changes, len(keep)]
    for start, stop in zip(edges, edges[1:], strict=False):
        if not keep[start]:
            codes[:, start:stop] = generate(
                model, torch.cat((left, codes[:, :start]), dim=1), stop - start, "codes", sampling,
                seeds=[seed_of(seed, name, f"inpaint {start}") for name in names],
                first_vocabulary="first_code" if start == 0 else None,
            )  # fmt: skip
    return codes


def _at_least_one(**numbers: int) -> None:
    for name, value in numbers.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be 1 or more, a whole number")


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
