"""Words on sign-like backgrounds, for text recognition.

Words come from the dictionary of pymorphy3 (OpenCorpora, CC BY-SA 3.0) and a list of what signs say; fonts are Debian's
packages fonts-dejavu, fonts-liberation, fonts-noto-core and fonts-paratype: inputs of training only.
"""

from __future__ import annotations

import functools
import os
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.worlds.example import Example
from training.worlds.grammar import analyzer
from training.worlds.wording import instruct
from training.worlds.words import read_words

FONTS = Path("/usr/share/fonts/truetype")
_WORDS = read_words(__file__)
FONT_FILES: tuple[str, ...] = tuple(_WORDS["fonts"])
SIGN_WORDS: tuple[str, ...] = tuple(_WORDS["words"])
#: Of ground and letters.
PAIRS: list[tuple[tuple[int, int, int], tuple[int, int, int]]] = [
    (tuple(ground), tuple(ink)) for ground, ink in _WORDS["colours"]
]
LETTERS = (3, 7)  # shortest and longest word of the dictionary that is drawn
NUMBER_SHARE, SIGN_SHARE, TWO_LINES = 0.1, 0.3, 0.15


@functools.cache
def dictionary() -> tuple[str, ...]:
    """Common-noun lemmas of LETTERS letters, sorted: thousands of words.

    Reading them out of the dictionary takes a minute, so they are kept in the user's cache folder.
    """
    kept = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "rudolph-worlds" / "nouns.txt"
    if kept.exists():
        return tuple(kept.read_text(encoding="utf-8").split())
    words = set()
    for parse in analyzer().iter_known_word_parses():
        tag = parse.tag
        if tag.POS != "NOUN" or parse.word != parse.normal_form or not LETTERS[0] <= len(parse.word) <= LETTERS[1]:
            continue
        marks = ("Abbr", "Name", "Surn", "Patr", "Geox", "Orgn", "Trad", "Init", "Arch", "Erro", "Dist", "Slng")
        if not any(mark in tag for mark in marks) and parse.word.isalpha():
            words.add(parse.word)
    from rudolph.files import replacing  # torch, which comes with it, takes seconds to import

    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as temporary:
        temporary.write_text("\n".join(sorted(words)), encoding="utf-8")
    return tuple(sorted(words))


def draw_sign(rng: random.Random, size: int, text: str | None = None) -> tuple[Image.Image, str]:
    """A sign of `size` × `size` pixels and the text on it as written."""
    lines = [_word(rng) for _ in range(2 if rng.random() < TWO_LINES else 1)] if text is None else text.split("\n")
    if rng.random() < 0.5:
        lines = [line.upper() for line in lines]
    ground, ink = rng.choice(PAIRS)
    if rng.random() < 0.3:
        ground, ink = ink, ground
    scale = 2  # drawn larger and shrunk, for smooth letters
    big = size * scale
    canvas = Image.new("RGB", (big, big), ground)
    draw = ImageDraw.Draw(canvas)
    if rng.random() < 0.3:
        draw.rectangle((4, 4, big - 5, big - 5), outline=ink, width=2 * scale)
    font_file = rng.choice(FONT_FILES)
    width = big * rng.uniform(0.84, 0.94)
    height = big * (0.4 if len(lines) > 1 else rng.uniform(0.42, 0.6))
    for i, line in enumerate(lines):
        word = _draw_word(font_file, line, ink, width, height)
        x = (big - word.width) // 2
        y = round(big * (i + 0.5) / len(lines) + big * rng.uniform(-0.04, 0.04) - word.height / 2)
        canvas.paste(word, (x, y), word)
    canvas = canvas.rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR, fillcolor=ground)
    pixels = np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 6), pixels.shape)
    image = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.5))), " ".join(lines)


def sign_example(rng: random.Random, size: int, split: str) -> Example:
    """TRitW: an instruction and a sign; the answer is lower case, as the published data has it."""
    image, text = draw_sign(rng, size)
    kind = "number" if text.isdigit() else "two words" if " " in text else "word"
    return Example("TRitW", kind, [*instruct(rng, "TRitW", split=split), image], [text.lower()])


def _word(rng: random.Random) -> str:
    draw = rng.random()
    if draw < NUMBER_SHARE:
        return str(rng.randint(1, 999))
    return rng.choice(SIGN_WORDS if draw < NUMBER_SHARE + SIGN_SHARE else dictionary())


@functools.cache
def _font(font_file: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(FONTS / font_file), 64)


def _draw_word(font_file: str, word: str, ink: tuple[int, int, int], width: float, height: float) -> Image.Image:
    """The word cut out, made to fill the width; letters may be stretched to twice their height, as on signs."""
    font = _font(font_file)
    left, top, right, bottom = font.getbbox(word)
    mask = Image.new("L", (round(right - left) + 2, round(bottom - top) + 2))
    ImageDraw.Draw(mask).text((1 - left, 1 - top), word, fill=255, font=font)
    scale = min(width / mask.width, height / mask.height)
    stretch = min(2.0, height / (mask.height * scale))
    mask = mask.resize((max(1, round(mask.width * scale)), max(1, round(mask.height * scale * stretch))))
    cutout = Image.new("RGBA", mask.size, (*ink, 0))
    cutout.putalpha(mask)
    return cutout
