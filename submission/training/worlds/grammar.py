"""Russian inflection of short noun phrases («пожарная машина» → «рядом с пожарной машиной»), by pymorphy3."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # fine-tuning imports this module and needs no dictionary
    import pymorphy3
    from pymorphy3.analyzer import Parse

CARDINALS = {
    1: {"masc": "один", "femn": "одна", "neut": "одно", "plur": "одни"},
    2: {"masc": "два", "femn": "две", "neut": "два", "plur": "двое"},
    3: {"masc": "три", "femn": "три", "neut": "три", "plur": "трое"},
    4: {"masc": "четыре", "femn": "четыре", "neut": "четыре", "plur": "четверо"},
    5: {"masc": "пять", "femn": "пять", "neut": "пять", "plur": "пятеро"},
}
# Prepositions take another form before some clusters: «с львом» is wrong, «со львом» right.
SO_BEFORE = ("ст", "сл", "см", "сн", "сп", "ск", "св", "зв", "зм", "зн", "шк", "шп", "шл", "вс", "льв", "мн", "щ")


@functools.cache
def analyzer() -> pymorphy3.MorphAnalyzer:
    """The one analyzer of the process: its dictionary takes a second to load."""
    import pymorphy3

    return pymorphy3.MorphAnalyzer()


@dataclass(frozen=True)
class Noun:
    """A noun with the adjectives before it, in the nominative, lower case.

    Raises:
        ValueError: the phrase is not adjectives followed by a noun that agrees with them.
    """

    text: str

    def __post_init__(self) -> None:
        _parses(self.text)

    @property
    def gender(self) -> str:
        """`masc`, `femn`, `neut`, or `plur` for a noun that stands in the plural («брюки»)."""
        return _gender(_parses(self.text)[-1])

    @property
    def animate(self) -> bool:
        return "anim" in _parses(self.text)[-1].tag

    def form(self, case: str, number: str = "sing") -> str:
        """The phrase in `case` (pymorphy's nomn, gent, datv, accs, ablt, loct) and `number`."""
        return _form(self.text, case, "plur" if self.gender == "plur" else number)

    def counted(self, count: int) -> str:
        """«три красных яблока»: the phrase after a cardinal in words, 1 to 5."""
        word = CARDINALS[count][self.gender]
        if count == 1:
            return f"{word} {self.text}"
        if self.gender == "plur" or count >= 5:
            return f"{word} {self.form('gent', 'plur')}"
        adjectives, noun = self.text.split()[:-1], self.text.split()[-1]
        many = Noun(self.text).form("nomn" if self.gender == "femn" else "gent", "plur").split()[:-1]
        return " ".join([word, *(many if adjectives else []), _form(noun, "gent", "sing")])

    def with_adjective(self, adjective: str) -> Noun:
        """The phrase behind an adjective given in the masculine nominative, made to agree."""
        return Noun(f"{agree(adjective, self.gender)} {self.text}")


@functools.cache
def agree(adjective: str, gender: str, case: str = "nomn") -> str:
    """An adjective (masculine nominative) in a gender or `plur`, and a case."""
    parse = next(p for p in analyzer().parse(adjective) if p.tag.POS == "ADJF")
    number = {"plur"} if gender == "plur" else {"sing", gender}
    inflected = parse.inflect({case} | number)
    assert inflected is not None, adjective
    return inflected.word


def with_preposition_s(phrase: str) -> str:
    """«с лисой», «со слоном»: the instrumental phrase behind the right form of the preposition."""
    return f"{'со' if phrase.startswith(SO_BEFORE) else 'с'} {phrase}"


def _gender(parse: Parse) -> str:
    return "plur" if parse.tag.number == "plur" else str(parse.tag.gender)


@functools.cache
def _parses(phrase: str) -> tuple[Parse, ...]:
    words = phrase.split()
    nouns = [p for p in analyzer().parse(words[-1]) if p.tag.POS == "NOUN" and "nomn" in p.tag] if words else []
    for noun in nouns[:1]:
        chosen = []
        for word in words[:-1]:
            adjectives = [
                p
                for p in analyzer().parse(word)
                if p.tag.POS in ("ADJF", "PRTF") and "nomn" in p.tag and _gender(p) == _gender(noun)
            ]
            chosen += adjectives[:1]
        if len(chosen) == len(words) - 1:
            return (*chosen, noun)
    raise ValueError(f"{phrase!r} is not a noun phrase: adjectives and a noun in the nominative are expected")


@functools.cache
def _form(phrase: str, case: str, number: str) -> str:
    words = []
    parses = _parses(phrase)
    animate = "anim" if "anim" in parses[-1].tag else "inan"
    for parse in parses:
        grammemes = {case, number}
        if parse.tag.POS != "NOUN":
            if case == "accs" and (number == "plur" or parses[-1].tag.gender == "masc"):
                grammemes.add(animate)
            if number == "sing":
                grammemes.add(str(parses[-1].tag.gender))
        inflected = parse.inflect(grammemes)
        if inflected is None:
            raise ValueError(f"{phrase!r} has no form {case}, {number}")
        words.append(inflected.word)
    return " ".join(words)


