"""Russian inflection: noun phrases by pymorphy3 («пожарная машина» → «рядом с пожарной машиной»), names by rules."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.worlds.words import read_words

if TYPE_CHECKING:  # fine-tuning imports this module and needs no dictionary
    import pymorphy3
    from pymorphy3.analyzer import Parse

_WORDS = read_words(__file__)
CARDINALS: dict[int, dict[str, str]] = _WORDS["cardinals"]
SO_BEFORE = tuple(_WORDS["so_before"])
CASES = ("gent", "datv", "accs", "ablt", "loct")


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
        """Whether the noun names a living being."""
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


# --- names and phrases ---


@functools.cache
def decline(name: str, case: str, animate: bool = True) -> str:
    """A capitalised name of a person, an animal, a city or a river in a case (pymorphy's names of cases)."""
    if case == "nomn" or name in _WORDS["indeclinable"]:
        return name
    if name in _WORDS["plural"]:
        return _WORDS["plural"][name][CASES.index(case)]
    last, stem = name[-1], name[:-1]
    if case == "accs" and not animate and last not in "ая":
        return name
    if name == "Илья" and case == "ablt":
        return "Ильёй"
    if last == "а":
        many = "и" if stem[-1] in "гкхжшчщ" else "ы"
        endings = (many, "е", "у", "ей" if stem[-1] in "жшчщц" else "ой", "е")
    elif last == "я":
        soft = "и" if stem[-1] == "и" else "е"
        endings = ("и", soft, "ю", "ей", soft)
    elif last == "ь" and name not in _WORDS["masculine_soft"]:
        endings = ("и", "и", "ь", "ью", "и")
    elif last in "йь":
        endings = ("я", "ю", "я", "ем", "и" if stem[-1] == "и" else "е")
    else:
        stem = _WORDS["stems"].get(name, name)
        endings = ("а", "у", "а", "ем" if last in "жшчщц" else "ом", "е")
    return stem + endings[CASES.index(case)]


@functools.cache
def decline_surname(surname: str, female: bool, case: str) -> str:
    """A surname in -ов, -ев, -ин or -ский (given for a man) in a case."""
    if surname.endswith("ий"):
        stem = surname[:-2]
        endings = ("ая", "ой", "ой", "ую", "ой", "ой") if female else ("ий", "ого", "ому", "ого", "им", "ом")
    else:
        stem = surname
        endings = ("а", "ой", "ой", "у", "ой", "ой") if female else ("", "а", "у", "а", "ым", "е")
    return stem + endings[("nomn", *CASES).index(case)]


@functools.cache
def form(noun: str, case: str, number: str = "sing") -> str:
    """`Noun(noun).form`, remembered."""
    return Noun(noun).form(case, number)


@functools.cache
def described(adjective: str, noun: str) -> str:
    """«красное яблоко»: a noun behind an adjective given in the masculine nominative."""
    return Noun(noun).with_adjective(adjective).text


def in_place(city: str) -> str:
    """«в Омске», «во Владимире»."""
    return into(decline(city, "loct", animate=False))


def to_place(city: str) -> str:
    """«в Омск», «во Владимир»."""
    return into(decline(city, "accs", animate=False))


def into(text: str) -> str:
    """`в Омске`, `во Владимире`."""
    hard = text[0] in "ВФ" and text[1] not in "аеёиоуыэюя"
    return f"{'во' if hard or text.startswith('Рж') else 'в'} {text}"


def along(text: str) -> str:
    """`с Анной`, `со Светланой`."""
    return f"{'со' if text.lower().startswith((*SO_BEFORE, 'льв')) else 'с'} {text}"


def count(number: int, one: str, few: str, many: str) -> str:
    """`21 метр`, `3 метра`, `12 метров`."""
    if 11 <= number % 100 <= 14 or not 1 <= number % 10 <= 4:
        return f"{number} {many}"
    return f"{number} {one if number % 10 == 1 else few}"


def humans(number: int) -> str:
    """«21 человек», «3 человека»."""
    return count(number, "человек", "человека", "человек")


def hours(number: int) -> str:
    """«1 час», «5 часов»."""
    return count(number, "час", "часа", "часов")


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[0].upper() + text[1:]
