"""Small pictured worlds: named objects and coloured shapes on backgrounds, with captions, questions and requests.

A `Scene` is drawn once; `caption`, `generation` and `question` turn it into examples of three tasks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.worlds.example import Example
from training.worlds.grammar import CARDINALS, Noun, agree, with_preposition_s
from training.worlds.stamps import COLOURS, load_stamps
from training.worlds.wording import instruct, options
from training.worlds.words import read_words

SHAPES = ("круг", "квадрат", "треугольник", "звезда", "ромб", "прямоугольник", "овал", "крест", "кольцо", "полумесяц")
_WORDS = read_words(__file__)
Colour = tuple[int, int, int]
#: How a caption names a backdrop: upper colour, lower colour, height of the horizon, grain.
BACKDROPS: dict[str, tuple[Colour, Colour, float, float]] = {
    name: (tuple(b["upper"]), tuple(b["lower"]), b["horizon"], b["grain"]) for name, b in _WORDS["backdrops"].items()
}
Kinds = tuple[tuple[str, float], ...]  # kinds of scenes with their shares
KINDS: Kinds = (("shape", 0.16), ("two shapes", 0.12), ("counted shapes", 0.1), ("object", 0.32), ("two objects", 0.18),
               ("counted objects", 0.12))  # fmt: skip
# The easy part of a curriculum: from single shapes a model learns that a request decides the picture.
EASY_KINDS: Kinds = (("shape", 0.5), ("two shapes", 0.1), ("counted shapes", 0.05), ("object", 0.25),
                     ("two objects", 0.05), ("counted objects", 0.05))  # fmt: skip
PLAIN_SHARE = 0.7  # of the backgrounds: a plain or graded colour, the rest are backdrops
MAX_COUNT = 5


@dataclass(frozen=True)
class Thing:
    """What stands in a scene: its name, its colour if one can be told, and whether the name is a shape's."""

    name: Noun
    colour: str | None
    is_shape: bool

    @property
    def phrase(self) -> Noun:
        """The name that a caption uses: a shape's with its colour, an object's alone."""
        return self.name.with_adjective(self.colour) if self.is_shape and self.colour else self.name


@dataclass(frozen=True)
class Scene:
    """A drawn scene. One thing in the middle, two from left to right, or `count` copies of one."""

    kind: str
    image: Image.Image
    things: tuple[Thing, ...]
    count: int
    background: str  # a colour of COLOURS or a backdrop of BACKDROPS

    @property
    def where(self) -> str:
        """The background as the end of a caption: «на синем фоне», «на траве»."""
        return f"на {agree(self.background, 'masc', 'loct')} фоне" if self.background in COLOURS else self.background


def draw_scene(rng: random.Random, size: int, kinds: Kinds = KINDS) -> Scene:
    """A random scene of one of `kinds` as a picture of `size` × `size` pixels."""
    names, shares = zip(*kinds, strict=True)
    kind = rng.choices(names, shares)[0]
    canvas, background = _draw_background(rng, size)
    count = rng.randint(2, MAX_COUNT) if kind.startswith("counted") else 1
    things: list[Thing] = []
    cutouts: list[Image.Image] = []
    while len(things) < (2 if kind.startswith("two") else 1):
        thing, cutout = _draw_thing(rng, kind.endswith(("shape", "shapes")), background)
        if all(thing.name != other.name for other in things):
            things.append(thing)
            cutouts.append(cutout)
    if len(things) == 2:
        places = [(0.27, rng.uniform(0.42, 0.62), 0.5), (0.73, rng.uniform(0.42, 0.62), 0.5)]
    elif count > 1:
        places = _grid(rng, count)
        cutouts = cutouts * count
    else:
        side = rng.uniform(0.72, 0.92)
        places = [(0.5 + rng.uniform(-0.05, 0.05), 0.52 + rng.uniform(-0.04, 0.04), side)]
    for cutout, (x, y, side) in zip(cutouts, places, strict=True):
        _paste(canvas, cutout, x * size, y * size, side * size)
    return Scene(kind, canvas, tuple(things), count, background)


def captions(scene: Scene) -> list[str]:
    """Accepted captions of a scene; the first is the one to learn."""
    first = scene.things[0].phrase
    if scene.count > 1:
        counted = first.counted(scene.count)
        return [f"{counted} {scene.where}", f"на картинке {counted} {scene.where}", counted]
    if len(scene.things) == 2:
        second = scene.things[1].phrase
        return [
            f"{first.text} слева и {second.text} справа {scene.where}",
            f"{second.text} рядом {with_preposition_s(first.form('ablt'))} {scene.where}",
            f"{first.text} и {second.text} {scene.where}",
        ]
    return [f"{first.text} {scene.where}", f"на картинке {first.text} {scene.where}", first.text]


def caption_example(rng: random.Random, scene: Scene, split: str) -> Example:
    """ImageCaptioning: an instruction and the picture."""
    texts = instruct(rng, "ImageCaptioning", split=split)
    return Example("ImageCaptioning", scene.kind, [*texts, scene.image], captions(scene))


def generation_example(rng: random.Random, scene: Scene, split: str) -> Example:
    """ImageGeneration: a request with one of the captions, and the picture that is wanted."""
    wanted = captions(scene)[0] if rng.random() < 0.7 else rng.choice(captions(scene)[:-1])
    texts = instruct(rng, "ImageGeneration", wanted, split=split)
    return Example("ImageGeneration", scene.kind, list(texts), [], scene.image)


def question_example(rng: random.Random, scene: Scene, split: str) -> Example:
    """VisualQA: a question on what, colour, count, position, background or presence, at times with options."""
    kind, question, answer, accepted, distractors = _question(rng, scene)
    texts: list[str | Image.Image] = list(instruct(rng, "VisualQA", question, split=split))
    answers = [answer, *(a for a in accepted if a != answer)]
    if kind != "yes_no" and rng.random() < 0.35:
        text, answers = options(rng, answer, distractors)
        return Example("VisualQA", f"{kind} options", [*texts, scene.image, text], answers)
    return Example("VisualQA", kind, [*texts, scene.image], answers)


def _question(rng: random.Random, scene: Scene) -> tuple[str, str, str, list[str], list[str]]:
    """(kind, question, answer, further accepted answers, distractors)."""
    thing = rng.choice(scene.things)
    name = thing.name
    asked = ["what", "yes_no", "background"]
    if thing.colour and scene.count == 1:
        asked += ["colour"] * (3 if thing.is_shape else 1)
    if len(scene.things) == 2:
        asked = [*(kind for kind in asked if kind != "what"), "position", "side", "side"]
    if scene.count > 1:
        asked += ["count", "count"]
    kind = rng.choice(asked)
    ask = _WORDS["questions"][kind]
    if kind == "what":
        question = rng.choice(ask)
        plural = name.form("nomn", "plur")
        answer = plural if scene.count > 1 else name.text
        return kind, question, answer, [name.text, thing.phrase.text], _other_names(rng, scene, 3)
    if kind == "colour":
        assert thing.colour is not None
        whose = name.form("gent")
        question = rng.choice(ask).format(name=name.text, whose=whose)
        further = [f"{agree(thing.colour, 'masc', 'gent')} цвета"]
        return kind, question, thing.colour, further, _other_colours(rng, thing.colour)
    if kind == "background":
        question = rng.choice(ask)
        if scene.background in COLOURS:
            others = [f"{colour} фон" for colour in _other_colours(rng, scene.background)]
            return kind, question, f"{scene.background} фон", [scene.background, scene.where], others
        others = rng.sample([b for b in BACKDROPS if b != scene.background], 3)
        return kind, "Где это происходит?", scene.background, [scene.background], others
    if kind == "position":
        left = thing is scene.things[0]
        question = rng.choice(ask).format(name=name.text)
        return kind, question, "слева" if left else "справа", [], ["справа" if left else "слева", "сверху", "снизу"]
    if kind == "side":
        left = rng.random() < 0.5
        other, wanted = (scene.things[1], scene.things[0]) if left else (scene.things[0], scene.things[1])
        side = "слева" if left else "справа"
        question = rng.choice(ask).format(side=side, whose=other.name.form("gent"))
        distractors = [other.name.text, *_other_names(rng, scene, 2)]
        return kind, question, wanted.name.text, [wanted.phrase.text], distractors
    if kind == "count":
        many = name.form("gent", "plur")
        question = rng.choice(ask).format(many=many)
        word = CARDINALS[scene.count][name.gender]
        others_count = rng.sample([n for n in range(1, MAX_COUNT + 2) if n != scene.count], 3)
        return kind, question, str(scene.count), [word], [str(n) for n in others_count]
    here = rng.random() < 0.5
    asked_name = name.text if here else _other_names(rng, scene, 1)[0]
    question = rng.choice(ask).format(name=asked_name)
    return "yes_no", question, "да" if here else "нет", [], []


def _other_names(rng: random.Random, scene: Scene, n: int) -> list[str]:
    pool = SHAPES if scene.things[0].is_shape else tuple(load_stamps())
    present = {thing.name.text for thing in scene.things}
    return rng.sample([name for name in pool if name not in present], n)


def _other_colours(rng: random.Random, colour: str) -> list[str]:
    return rng.sample([c for c in COLOURS if c != colour], 3)


def _draw_background(rng: random.Random, size: int) -> tuple[Image.Image, str]:
    noise = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < PLAIN_SHARE:
        name = rng.choice(list(COLOURS))
        return plain_background(rng, size, name), name
    name = rng.choice(list(BACKDROPS))
    upper, lower, horizon, grain = BACKDROPS[name]
    pixels = np.empty((size, size, 3), dtype=np.float32)
    line = int(size * (horizon + rng.uniform(-0.06, 0.06)))
    pixels[:line], pixels[line:] = _jitter(rng, upper, 12), _jitter(rng, lower, 12)
    pixels[line:] += noise.normal(0, grain, (size - line, size, 1))
    if name == "ночью":
        stars = noise.integers(0, [[line], [size]], (2, 12))
        pixels[stars[0], stars[1]] = 230
    return _to_image(pixels).filter(ImageFilter.GaussianBlur(0.6)), name


def plain_background(rng: random.Random, size: int, colour: str) -> Image.Image:
    """A square of about one colour of COLOURS that grows lighter or darker downwards."""
    base = np.array(_jitter(rng, COLOURS[colour], 10), dtype=np.float32)
    slope = np.linspace(-1, 1, size)[:, None, None] * rng.uniform(-14, 14)
    return _to_image(np.broadcast_to(base, (size, size, 3)) + slope)


def _draw_thing(rng: random.Random, is_shape: bool, background: str) -> tuple[Thing, Image.Image]:
    if is_shape:
        colour = rng.choice([c for c in COLOURS if c != background])
        name = rng.choice(SHAPES)
        return Thing(Noun(name), colour, True), draw_shape(rng, name, colour)
    stamps = load_stamps()
    stamp = rng.choice(stamps[rng.choice(list(stamps))])
    image = stamp.image
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Thing(stamp.name, stamp.colour, False), image


def draw_shape(rng: random.Random, name: str, colour: str) -> Image.Image:
    """The shape on a transparent square, drawn twice as large as kept, for smooth edges."""
    side = 192
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    middle = side / 2

    def polygon(radii: list[float], turn: float) -> None:
        angles = [turn + 2 * np.pi * k / len(radii) for k in range(len(radii))]
        points = [(middle + r * np.cos(a), middle + r * np.sin(a)) for r, a in zip(radii, angles, strict=True)]
        draw.polygon(points, fill=255)

    edge = side * 0.48
    if name == "круг":
        draw.ellipse((4, 4, side - 4, side - 4), fill=255)
    elif name == "квадрат":
        draw.rectangle((14, 14, side - 14, side - 14), fill=255)
    elif name == "треугольник":
        polygon([edge] * 3, -np.pi / 2)
    elif name == "звезда":
        polygon([edge, edge * 0.42] * 5, -np.pi / 2)
    elif name == "ромб":
        draw.polygon([(middle, 2), (side * 0.84, middle), (middle, side - 2), (side * 0.16, middle)], fill=255)
    elif name == "прямоугольник":
        draw.rectangle((4, side * 0.25, side - 4, side * 0.75), fill=255)
    elif name == "овал":
        draw.ellipse((4, side * 0.22, side - 4, side * 0.78), fill=255)
    elif name == "крест":
        draw.rectangle((side * 0.36, 6, side * 0.64, side - 6), fill=255)
        draw.rectangle((6, side * 0.36, side - 6, side * 0.64), fill=255)
    elif name == "кольцо":
        draw.ellipse((4, 4, side - 4, side - 4), fill=255)
        draw.ellipse((side * 0.27, side * 0.27, side * 0.73, side * 0.73), fill=0)
    else:
        draw.ellipse((4, 4, side - 4, side - 4), fill=255)
        draw.ellipse((side * 0.3, -side * 0.06, side * 1.14, side * 0.78), fill=0)
    shape = Image.new("RGBA", (side, side), (*_jitter(rng, COLOURS[colour], 10), 0))
    shape.putalpha(mask)
    return shape


def _grid(rng: random.Random, count: int) -> list[tuple[float, float, float]]:
    """Places of equal copies as (x, y, side) in shares of the picture."""
    rows = {2: [2], 3: rng.choice([[3], [2, 1]]), 4: [2, 2], 5: [3, 2]}[count]
    side = min(0.92 / max(rows), 0.46)
    places = []
    for i, n in enumerate(rows):
        y = (i + 0.5) / len(rows) if len(rows) > 1 else 0.5
        places += [((k + 0.5) / n, y, side) for k in range(n)]
    return places


def _paste(canvas: Image.Image, cutout: Image.Image, x: float, y: float, side: float) -> None:
    scale = side / max(cutout.size)
    width, height = (max(1, round(d * scale)) for d in cutout.size)
    small = cutout.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas.paste(small, (round(x - width / 2), round(y - height / 2)), small)


def _jitter(rng: random.Random, rgb: tuple[int, int, int], by: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, c + rng.randint(-by, by))) for c in rgb)
    return red, green, blue


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
