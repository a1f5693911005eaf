"""Short Russian passages with a question, open or with options.

A *family* (a biography, a street, a match, …) draws its people, places and numbers, tells them in one to four
sentences, and lists what can be asked; the answer is a span of the passage, as in SberQuAD. The facts are invented on
purpose: an answer can only be read, not known. Of the combinations of first name and surname, adjective and noun, one
in `stories.HELDOUT_SHARE` occurs in split 'heldout' only, and that split has no others.
"""

import random
import re
from collections.abc import Sequence

from training.worlds.example import Example
from training.worlds.families import FAMILIES
from training.worlds.stories import Ask, World
from training.worlds.wording import instruct, option_key, options

WITH_OPTIONS = 0.4
FILLER = 0.3  # passages with a sentence of another family
SHUFFLED = 0.15  # passages whose sentences stand in another order, where they allow it
LENGTH = 76  # a bound on `cost`, so that an example fits into 96 tokens of a 4096-token BPE


def cost(texts: Sequence[str]) -> float:
    """An upper guess of the tokens: 1.25 a word and one a digit or mark."""
    text = " ".join(texts)
    return 1.25 * len(text.split()) + sum(not char.isalpha() and not char.isspace() for char in text)


def make(rng: random.Random, split: str) -> Example:
    """One example: [instruction] passage, question, [options]. The kind is the question's; the target is a short span.

    Raises ValueError for an unknown split.
    """
    while True:
        texts, kind, answers = compose(World(rng, split))
        inputs = instruct(rng, "TextQA", *texts, split=split)
        if cost(inputs) <= LENGTH:
            return Example("TextQA", kind, list(inputs), answers)


def compose(w: World, others: int = 0) -> tuple[list[str], str, list[str]]:
    """The texts (passage, question and perhaps options), the kind of question, and the accepted answers.

    others: stories of other families that stand around the one that is asked about, for long passages.
    """
    family = w.rng.choice(FAMILIES)
    story = family(w)
    sentences = list(story.sentences)
    told = " ".join(sentences).lower()
    # Whole words: `Омск` is not told by `в Омской области`.
    asks = [ask for ask in story.asks if re.search(rf"(?<!\w){re.escape(ask.answer.lower())}(?!\w)", told)]
    ask = w.rng.choice(asks)
    if not story.fixed and w.chance(SHUFFLED):
        w.rng.shuffle(sentences)
    if w.chance(FILLER):  # of another family, so that the question keeps its one answer; last, for the pronouns
        sentences.append(w.rng.choice([other for other in FAMILIES if other is not family])(w).sentences[0])
    if others:
        families = [other for other in dict.fromkeys(FAMILIES) if other is not family]
        told_beside = [" ".join(other(w).sentences) for other in w.rng.sample(families, others)]
        place = w.rng.randint(0, others)
        sentences = [*told_beside[:place], *sentences, *told_beside[place:]]
    texts = [" ".join(sentences), ask.question]
    answers = list(dict.fromkeys((ask.answer, *ask.also)))
    if w.chance(WITH_OPTIONS):
        listed, marked = options(w.rng, ask.answer, _wrong(ask))
        texts.append(listed)
        answers += [answer for answer in marked if answer not in answers]
    return texts, ask.kind, answers


def _wrong(ask: Ask) -> list[str]:
    """Up to three wrong answers, those of the passage first."""
    taken = {option_key(text) for text in (ask.answer, *ask.also)}
    wrong: list[str] = []
    for attempt in range(60):
        text = ask.near[attempt] if attempt < len(ask.near) else ask.wrong()
        if option_key(text) not in taken:
            taken.add(option_key(text))
            wrong.append(text)
        if len(wrong) == 3:
            break
    return wrong
