"""Words in handwriting-like fonts of Debian, on paper: HTR.

Letters are set one by one, each a little up or down and turned, and the line is slanted, so that no two are alike.
"""

from __future__ import annotations

import functools
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from training.fbc1.example import Example
from training.worlds.signs import FONTS
from training.worlds.words import read_words

_WORDS = read_words(__file__)
FONT_FILES: dict[str, list[str]] = _WORDS["fonts"]
WORDS: dict[str, list[str]] = _WORDS["words"]
FACE = 40  # pixels of the fonts' em
MARGIN = 10  # pixels around the line, about
PAPER = 180  # pixels of its width, where the word is not longer


def make(rng: random.Random) -> Example:
    """HTR: a picture with one word, Russian or English.

    Raises:
        FileNotFoundError: a font is not installed.
    """
    language = rng.choice(list(WORDS))
    word = rng.choice(WORDS[language])
    return Example("HTR", language, "", draw_word(rng, word, rng.choice(FONT_FILES[language])), word, language=language)


def draw_word(rng: random.Random, word: str, font_file: str) -> Image.Image:
    """The word as a picture about 60 pixels high, at its left, and PAPER wide or as wide as it is long."""
    ink = _line(rng, word, _face(font_file))
    slant = rng.uniform(-0.15, 0.3)
    width = ink.width + round(abs(slant) * ink.height)
    shift = slant * ink.height if slant > 0 else 0.0
    shear = (1, slant, -shift, 0, 1, 0)
    ink = ink.transform((width, ink.height), Image.Transform.AFFINE, shear, Image.Resampling.BILINEAR)
    left, top, right, bottom = ink.getbbox() or (0, 0, *ink.size)
    margins = [rng.randint(MARGIN // 2, MARGIN) for _ in range(4)]
    size = (max(PAPER, right - left + margins[0] + margins[2]), bottom - top + margins[1] + margins[3])
    paper = rng.uniform(215, 250)
    dark = np.array([rng.uniform(10, 70), rng.uniform(10, 70), rng.uniform(30, 140)])
    mask = Image.new("L", size)
    mask.paste(ink.crop((left, top, right, bottom)), (margins[0], margins[1]))
    cover = np.asarray(mask.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8))), dtype=np.float32)[..., None] / 255
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(0, 5), cover.shape)
    pixels = paper * (1 - cover) + dark * cover + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _line(rng: random.Random, word: str, face: ImageFont.FreeTypeFont) -> Image.Image:
    """Letters as a mask, 8 bit: the advance is that of the ink, as some fonts have one width for all letters."""
    line = Image.new("L", (2 * FACE * len(word), 3 * FACE))
    gap = rng.uniform(0.03, 0.1) * FACE
    bold = rng.random() < 0.5
    x = float(FACE)
    for letter in word:
        glyph = Image.new("L", (3 * FACE, 3 * FACE))
        place = (FACE, round(FACE * 0.7) + rng.randint(-1, 1))
        ImageDraw.Draw(glyph).text(place, letter, fill=255, font=face, stroke_width=1 if bold else 0)
        glyph = glyph.rotate(rng.uniform(-4, 4), Image.Resampling.BILINEAR)
        left, _, right, _ = glyph.getbbox() or (0, 0, 0, 0)
        line.paste(255, (round(x) - left, 0), glyph)
        x += right - left + gap
    return line


@functools.cache
def _face(file: str) -> ImageFont.FreeTypeFont:
    path = FONTS / file
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install the Debian packages that handwriting.yaml names")
    return ImageFont.truetype(str(path), FACE)
