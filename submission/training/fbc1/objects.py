"""Scenes of named things with their boxes, and what is asked about them in two languages: zsOD and VQA.

Stamps, shapes and colours are those of `training.worlds`; the names in Russian and English stand in objects.yaml.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from training.fbc1.example import Box, Example
from training.worlds.grammar import described
from training.worlds.scenes import draw_shape, plain_background
from training.worlds.stamps import load_stamps
from training.worlds.words import read_words

_WORDS = read_words(__file__)
OBJECTS: dict[str, str] = _WORDS["objects"]
SHAPES: dict[str, str] = _WORDS["shapes"]
COLOURS: dict[str, str] = _WORDS["colours"]
LANGUAGES = ("ru", "en")
SIZE = (160, 120)  # pixels of a scene, width and height
SHORTEST, LONGEST = 46, 72  # pixels of a thing's longer side
SHAPE_SHARE = 0.75
SAME = 0.15  # share of the things that are like the one before
ABSENT = 0.35  # of the draws of a request: what is drawn twice counts once, so of the requests about a half
THINGS = (5, 3, 2)  # how often a scene has one, two and three things
PER_SCENE = 2  # examples of a task about one scene, where there are many
TRIES = 30  # places tried for one more thing


@dataclass(frozen=True)
class Named:
    """What a thing is called: a shape with its colour, or an object; both by their Russian names."""

    name: str
    colour: str | None = None

    def phrase(self, language: str) -> str:
        """«красная звезда», `red star`; «лев», `lion`."""
        if language == "ru":
            return described(self.colour, self.name) if self.colour else self.name
        return f"{COLOURS[self.colour]} {SHAPES[self.name]}" if self.colour else OBJECTS[self.name]

    def noun(self, language: str) -> str:
        """The name without the colour."""
        return self.name if language == "ru" else (SHAPES if self.colour else OBJECTS)[self.name]


@dataclass(frozen=True)
class Scene:
    """A picture with one to three things that do not overlap, each with its box."""

    image: Image.Image
    things: tuple[tuple[Named, Box], ...]
    background: str  # a key of COLOURS

    def boxes(self, named: Named) -> tuple[Box, ...]:
        """The boxes of all things so called, from left to right."""
        return tuple(sorted(box for thing, box in self.things if thing == named))


def draw_scene(rng: random.Random) -> Scene:
    """A random scene of SIZE.

    Raises:
        FileNotFoundError: the stamps are not installed.
    """
    width, height = SIZE
    background = rng.choice(list(COLOURS))
    canvas = plain_background(rng, max(SIZE), background).crop((0, 0, width, height))
    things: list[tuple[Named, Box]] = []
    for _ in range(rng.choices((1, 2, 3), THINGS)[0]):
        named = things[-1][0] if things and rng.random() < SAME else _any(rng, background)
        cutout = _draw(rng, named)
        for _ in range(TRIES):
            scale = rng.randint(SHORTEST, LONGEST) / max(cutout.size)
            w, h = (max(1, round(side * scale)) for side in cutout.size)
            box = (rng.randint(0, width - w), rng.randint(0, height - h), w, h)
            if not any(_overlap(box, other) for _, other in things):
                small = cutout.resize((w, h), Image.Resampling.BILINEAR, reducing_gap=2.0)
                canvas.paste(small, box[:2], small)
                things.append((named, box))
                break
    return Scene(canvas, tuple(things), background)


def request(rng: random.Random, scene: Scene) -> Example:
    """zsOD: a description of something in the scene, or of nothing there."""
    return requests(rng, scene, 1)[0]


def requests(rng: random.Random, scene: Scene, number: int) -> list[Example]:
    """So many different descriptions."""
    found: dict[str, Example] = {}
    while len(found) < number:
        language = rng.choice(LANGUAGES)
        named = _absent(rng, scene) if rng.random() < ABSENT else rng.choice(scene.things)[0]
        text, boxes = named.phrase(language), scene.boxes(named)
        found[text] = Example("zsOD", f"{len(boxes)} boxes", text, scene.image, boxes=boxes, language=language)
    return list(found.values())


def question(rng: random.Random, scene: Scene) -> Example:
    """VQA: a question on a colour, the background, the number of things, a side, or whether something is there."""
    language = rng.choice(LANGUAGES)
    asked = ["background", "presence", "count"]
    coloured = [named for named, _ in scene.things if named.colour]
    if len({named.name for named in coloured}) == len(coloured) > 0:
        asked += ["colour", "colour"]
    ends = _ends(scene)
    if ends is not None:
        asked += ["side", "side"]
    kind = rng.choice(asked)
    name = side = ""
    if kind == "colour":
        named = rng.choice(coloured)
        assert named.colour is not None
        name, answer = named.noun(language), _in(language, named.colour, COLOURS)
    elif kind == "background":
        answer = _in(language, scene.background, COLOURS)
    elif kind == "count":
        answer = str(len(scene.things))
    elif kind == "side":
        assert ends is not None
        place = rng.randrange(2)
        side, answer = _WORDS["sides"][language][place], ends[place].noun(language)
    else:
        here = rng.random() < 0.5
        named = rng.choice(scene.things)[0] if here else _absent(rng, scene, other_name=True)
        name, answer = named.noun(language), _WORDS["yes_no"][language][0 if here else 1]
    text = rng.choice(_WORDS["questions"][kind][language]).format(name=name, side=side)
    return Example("VQA", kind, text, scene.image, answer, language=language)


def _in(language: str, word: str, translations: dict[str, str]) -> str:
    return word if language == "ru" else translations[word]


def _ends(scene: Scene) -> tuple[Named, Named] | None:
    """The things farthest left and right, if they are two that are clearly apart."""
    if len(scene.things) < 2:
        return None
    (left, (x, _, w, _)), *_, (right, (other, _, _, _)) = sorted(scene.things, key=lambda thing: thing[1][0])
    return (left, right) if left.name != right.name and x + w <= other else None


def _any(rng: random.Random, background: str | None = None) -> Named:
    if rng.random() < SHAPE_SHARE:
        return Named(rng.choice(list(SHAPES)), rng.choice([colour for colour in COLOURS if colour != background]))
    return Named(rng.choice(list(OBJECTS)))


def _absent(rng: random.Random, scene: Scene, other_name: bool = False) -> Named:
    """Something that is not in the scene; `other_name`: nor under another colour."""
    while True:
        named = _any(rng)
        if all(named.name != there.name if other_name else named != there for there, _ in scene.things):
            return named


def _draw(rng: random.Random, named: Named) -> Image.Image:
    """The thing on a transparent ground that it fills from side to side."""
    if named.colour is None:
        image = rng.choice(load_stamps()[named.name]).image
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image
    shape = draw_shape(rng, named.name, named.colour)
    return shape.crop(shape.getchannel("A").getbbox())


def _overlap(one: Box, other: Box) -> bool:
    return all(one[side] < other[side] + other[side + 2] and other[side] < one[side] + one[side + 2] for side in (0, 1))
