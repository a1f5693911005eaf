"""How large the worlds are: counted where they can be, else how many of many draws differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

from training.worlds import mathqa, scenes, signs, textqa
from training.worlds import seeded as rng_of
from training.worlds.families import FAMILIES
from training.worlds.stamps import COLOURS, load_stamps
from training.worlds.stories import World
from training.worlds.wording import SPLITS, TASKS, wordings

WORD = re.compile(r"[а-яёa-z]+")


def sizes(draws: int) -> Iterator[str]:
    """Lines of text. `draws`: how many examples of a kind are drawn, split 'train', where counting is not possible."""
    yield from _pictures()
    yield from _signs()
    yield from _equations(draws)
    yield from _passages(draws)
    for task in TASKS:
        counts = (f"{len(set(wordings(task, split)))} {split}" for split in SPLITS)
        yield f"instructions, {task}: {', '.join(counts)}"


def _pictures() -> Iterator[str]:
    stamps = load_stamps()
    names, shapes, colours, backdrops = len(stamps), len(scenes.SHAPES), len(COLOURS), len(scenes.BACKDROPS)
    backgrounds, counts = colours + backdrops, scenes.MAX_COUNT - 1
    yield f"objects: {names} names, {sum(map(len, stamps.values()))} pictures of them"
    yield f"shapes: {shapes} in {colours} colours"
    # A shape never has the colour of its background.
    one = shapes * ((colours - 1) * colours + colours * backdrops)
    two = shapes * (shapes - 1) * ((colours - 1) ** 2 * colours + colours**2 * backdrops)
    combined = {
        "shape": one, "two shapes": two, "counted shapes": counts * one,
        "object": names * backgrounds, "two objects": names * (names - 1) * backgrounds,
        "counted objects": counts * names * backgrounds,
    }  # fmt: skip
    yield f"scenes, by what a caption tells apart: {sum(combined.values())}, on {backgrounds} backgrounds"
    for kind, _ in scenes.KINDS:
        yield f"  {kind}: {combined[kind]}"


def _signs() -> Iterator[str]:
    words = len({*signs.dictionary(), *signs.SIGN_WORDS})
    yield f"signs: {words} words, 999 numbers; {len(signs.FONT_FILES)} fonts, {2 * len(signs.PAIRS)} pairs of colours"


def _equations(draws: int) -> Iterator[str]:
    yield f"equations and comparisons: {len(mathqa.KINDS)} kinds; of {draws} drawn of each so many differ"
    for kind in mathqa.KINDS:
        rng = rng_of("sizes", kind)
        yield f"  {kind}: {len({tuple(mathqa.MAKERS[kind](rng)[0]) for _ in range(draws)})}"


def _passages(draws: int) -> Iterator[str]:
    rng = rng_of("sizes", "TextQA")
    passages: set[str] = set()
    questions: set[str] = set()
    kinds: set[str] = set()
    answers: set[str] = set()
    words: set[str] = set()
    for _ in range(draws):
        texts, kind, accepted = textqa.compose(World(rng, "train"))
        passages.add(texts[0])
        questions.add(texts[1])
        kinds.add(kind)
        answers.add(accepted[0])
        words.update(WORD.findall(" ".join(texts).lower()))
    found = {"passages": passages, "questions": questions, "answers": answers, "word forms": words}
    yield (
        f"passages: {len(set(FAMILIES))} families, {len(kinds)} kinds of questions; of {draws} drawn so many "
        f"differ: {', '.join(f'{len(different)} {name}' for name, different in found.items())}"
    )
