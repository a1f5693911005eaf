"""Instructions and answer options in many wordings.

An instruction is drawn from patterns: every pattern is a row of slots, every slot a choice of phrases, so that a few
lines give hundreds of texts. The patterns of split 'heldout' share no verb and no whole text with those of 'train'
(`verbs` and `wordings` list them): they measure whether the route is understood rather than remembered.
"""

import itertools
import random
import re
from collections.abc import Iterator

from training.worlds.words import read_words

TASKS = ("TextQA", "MathQA", "ImageGeneration", "ImageCaptioning", "VisualQA", "TRitW")
SPLITS = ("train", "heldout")
LETTERS = "abcd"

SEPARATE, JOINED = 0.4, 0.35  # the instruction is missing in the rest
PUBLISHED = 0.12  # share of the challenge's own wording among the training instructions
INTRODUCED = 0.3  # options that 'варианты:' introduces
PLEASE = 0.15  # imperatives with 'пожалуйста'
UNCAPITALISED = 0.1

Pattern = tuple[str, tuple[tuple[str, ...], ...]]  # form ('imperative', 'noun' or 'question') and slots


def _pattern(written: dict[str, list[str]], shared: dict[str, str]) -> Pattern:
    """A pattern of wording.yaml, with `*` before every verb."""
    ((form, slots),) = written.items()
    choices = [tuple(phrase.strip() for phrase in slot.format_map(shared).split("|")) for slot in slots]
    if form == "imperative":
        choices[0] = tuple(f"*{verb}" for verb in choices[0])
    return form, tuple(choices)


_WORDS = read_words(__file__)
PUBLISHED_WORDING: dict[str, str] = _WORDS["published"]
_PATTERNS: dict[str, dict[str, list[Pattern]]] = {
    task: {split: [_pattern(written, _WORDS["shared"]) for written in listed] for split, listed in splits.items()}
    for task, splits in _WORDS["patterns"].items()
}


def _address(text: str, polite: bool) -> str:
    return re.sub(r"\*(\w+?)(сь)?\b", r"\1те\2" if polite else r"\1\2", text)  # «разберитесь»


def wordings(task: str, split: str) -> Iterator[str]:
    """Every instruction of a task and split, lower-case and without its last punctuation or 'пожалуйста'."""
    _check(task, split)
    if split == "train":
        yield PUBLISHED_WORDING[task].lower().rstrip(".?")
    for form, slots in _PATTERNS[task][split]:
        for parts in itertools.product(*slots):
            text = " ".join(filter(None, parts))
            yield _address(text, polite=False)
            if form == "imperative":
                yield _address(text, polite=True)


def verbs(task: str, split: str) -> frozenset[str]:
    """The imperative verbs of a task and split, in the informal form."""
    _check(task, split)
    phrases = (phrase for _, slots in _PATTERNS[task][split] for slot in slots for phrase in slot)
    return frozenset(verb for phrase in phrases for verb in re.findall(r"\*(\w+)", phrase))


def instruction(rng: random.Random, task: str, split: str) -> str:
    """One instruction, with or without its last punctuation."""
    _check(task, split)
    if split == "train" and rng.random() < PUBLISHED:
        return PUBLISHED_WORDING[task]
    form, slots = rng.choice(_PATTERNS[task][split])
    text = " ".join(filter(None, (rng.choice(slot) for slot in slots)))
    if form == "imperative":
        text = _address(text, polite=rng.random() < 0.5)
        if rng.random() < PLEASE:
            text = f"пожалуйста, {text}" if rng.random() < 0.5 else f"{text}, пожалуйста"
    if rng.random() >= UNCAPITALISED:
        text = text[0].upper() + text[1:]
    return text + rng.choice(("?", "?", "?", "") if form == "question" else (".", ".", ".", ":", ""))


def instruct(rng: random.Random, task: str, *texts: str, split: str) -> list[str]:
    """The text entries of an example: `texts` with the instruction in front, joined with the first, or missing.

    Without `texts` (ImageCaptioning, TRitW) the instruction is the only entry. ImageGeneration always has one, and
    where it is joined it is one sentence that ends in `. `: scoring takes the sentences after the first as the caption.
    Raises ValueError for an unknown task or split, or an empty text.
    """
    if not all(text.strip() for text in texts):
        raise ValueError(f"{task}: empty text among {texts!r}")
    said = instruction(rng, task, split)
    if not texts:
        return [said]
    draw = rng.random()
    if task == "ImageGeneration":
        draw *= SEPARATE + JOINED
    if draw < SEPARATE:
        return [said, *texts]
    if draw < SEPARATE + JOINED:
        if task == "ImageGeneration":
            said = said.rstrip(".:?") + "."
        elif said[-1] not in ".:?":
            said += rng.choice(".:")
        return [f"{said} {texts[0]}", *texts[1:]]
    return list(texts)


def options(rng: random.Random, answer: str, distractors: list[str]) -> tuple[str, list[str]]:
    """The options text `a) …; b) …` and the accepted answers [text, letter].

    Takes one to three distractors. Raises ValueError where two options would read the same.
    """
    shown = [answer, *distractors]
    if not 2 <= len(shown) <= len(LETTERS):
        raise ValueError(f"{len(shown)} options, allowed are 2 to {len(LETTERS)}: {shown}")
    if len({option_key(option) for option in shown}) < len(shown):
        raise ValueError(f"options read the same: {shown}")
    rng.shuffle(shown)
    text = "; ".join(f"{letter}) {option}" for letter, option in zip(LETTERS, shown, strict=False))
    if rng.random() < INTRODUCED:
        text = rng.choice(("варианты: ", "Варианты: ")) + text
    return text, [answer, LETTERS[shown.index(answer)]]


def option_key(text: str) -> str:
    """What exact-match scoring leaves of an option: `1/2`, `1,2` and `12` are one to it."""
    return re.sub(r"[^\w\s-]", "", text.lower()).strip()


def _check(task: str, split: str) -> None:
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}, allowed are {', '.join(TASKS)}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}, allowed are {', '.join(SPLITS)}")
