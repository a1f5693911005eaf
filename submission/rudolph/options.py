"""Answers among those that a question lists: `a) -4; b) -20; c) -5; d) -3`, at times introduced by `варианты:`."""

import re
from collections.abc import Sequence

_LETTERS = tuple("abcde")
#: An option's letter stands at the beginning, or behind a semicolon, a colon, a line's end or a space.
_LETTER = re.compile(r"(?:(?<=^)|(?<=[\s;:]))([a-e])\)\s*")
_AROUND = " \t\n;.,"


def listed_options(texts: Sequence[str]) -> tuple[str, ...]:
    """The options of the last text that lists some, two or more from a) on without a gap; else none."""
    for text in reversed(texts):
        pieces = _LETTER.split(text)  # what stands before, then a letter and its option in turn
        letters, options = pieces[1::2], tuple(piece.strip(_AROUND) for piece in pieces[2::2])
        if len(letters) >= 2 and letters == list(_LETTERS[: len(letters)]) and all(options):
            return options
    return ()


def is_listed(answer: str, options: Sequence[str]) -> bool:
    """Whether an answer is one of the options, or the letter of one, but for case and what stands around it."""
    read = {_bare(option) for option in options} | set(_LETTERS[: len(options)])
    return _bare(answer) in read


def _bare(text: str) -> str:
    return text.strip(_AROUND + ")").lower()
