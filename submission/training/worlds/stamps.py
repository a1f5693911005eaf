"""Cut-out photographs and drawings with Russian names: Debian's `tuxpaint-stamps-default` (GPL-2).

An input of training only: nothing that runs, scores or tests needs it. `apt-get install tuxpaint-stamps-default`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.worlds.grammar import Noun
from training.worlds.words import read_words

STAMPS = Path("/usr/share/tuxpaint/stamps")
SIDE = 128  # pixels of the longer side that a stamp is kept with
TITLE_ENDS = re.compile(r"[.!?(—–,«:]| с | в | из | для | на | без | по ")
_WORDS = read_words(__file__)
CATEGORIES = tuple(_WORDS["categories"])
COLOURS: dict[str, tuple[int, int, int]] = {name: tuple(rgb) for name, rgb in _WORDS["colours"].items()}
DOMINANT = 0.6  # share of a stamp's opaque pixels that its colour must have to be called its colour


@dataclass(frozen=True)
class Stamp:
    """A named cut-out: `image` is RGBA, its longer side SIDE pixels; `colour` is None where none dominates."""

    name: Noun
    image: Image.Image
    colour: str | None


@functools.cache
def load_stamps(folder: Path = STAMPS) -> dict[str, list[Stamp]]:
    """All usable stamps by name, in a fixed order.

    Raises:
        FileNotFoundError: the package with the stamps is not installed.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: install Debian's package tuxpaint-stamps-default")
    stamps: dict[str, list[Stamp]] = {}
    for picture in sorted(folder.rglob("*.png")):
        if picture.relative_to(folder).parts[0] not in CATEGORIES:
            continue
        name = _name(picture.with_suffix(".txt"))
        if name is None or picture.stem.endswith(("_mirror", "_flip", "_mirror_flip")):
            continue
        image = Image.open(picture).convert("RGBA")
        box = image.getchannel("A").getbbox()
        if box is None:
            continue
        image = image.crop(box)
        image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        stamps.setdefault(name.text, []).append(Stamp(name, image, dominant_colour(image)))
    return stamps


def nearest_colour(rgb: np.ndarray) -> np.ndarray:
    """The index in COLOURS nearest to each pixel of [..., 3] (0..255)."""
    table = np.array(list(COLOURS.values()), dtype=np.float32)
    return np.argmin(((rgb[..., None, :].astype(np.float32) - table) ** 2).sum(-1), axis=-1)


def dominant_colour(image: Image.Image) -> str | None:
    """The name of the colour that at least DOMINANT of the opaque pixels are nearest to, or None."""
    pixels = np.asarray(image)
    opaque = pixels[pixels[..., 3] > 128][:, :3]
    counts = np.bincount(nearest_colour(opaque), minlength=len(COLOURS))
    best = int(counts.argmax())
    return list(COLOURS)[best] if opaque.size and counts[best] >= DOMINANT * counts.sum() else None


def _name(text_file: Path) -> Noun | None:
    if not text_file.exists():
        return None
    lines = text_file.read_text(encoding="utf-8", errors="replace").splitlines()
    titles = [line.removeprefix("ru.utf8=") for line in lines if line.startswith("ru.utf8=")]
    title = TITLE_ENDS.split(titles[0])[0].strip().lower() if titles else ""
    if title in _WORDS["not_names"] or not re.fullmatch(r"[а-яё-]+( [а-яё-]+){0,2}", title):
        return None
    try:
        name = Noun(title)
        for case in ("gent", "ablt", "accs"):
            name.form(case)
        if name.gender != "plur":
            name.counted(2), name.counted(5)
    except ValueError:
        return None
    return name
