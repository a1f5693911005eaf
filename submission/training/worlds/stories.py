"""What passages are made of: words, people, things and numbers as drawn for one split, and the story that they make."""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from training.worlds.grammar import decline, decline_surname, described, form, in_place, into
from training.worlds.words import read_words

HELDOUT_SHARE = 5


class Pet(BaseModel):
    """Names of a kind of pet, and what it likes, in the accusative."""

    names: list[str]
    food: list[str]


class Words(BaseModel):
    """The lists of stories.yaml, which says what is in them."""

    model_config = ConfigDict(extra="forbid")

    male: list[str]
    female: list[str]
    boys: list[str]
    girls: list[str]
    surnames: list[str]
    professions: list[str]
    workplaces: list[str]
    cities: list[str]
    rivers: list[str]
    regions: list[str]
    districts: list[str]
    okrugs: list[str]
    streets: list[str]
    spots: list[str]
    targets: list[str]
    countryside: list[str]
    months: list[str]
    days: list[str]
    on_days: list[str]
    occasions: list[str]
    small: list[str]
    large: list[str]
    fruit: list[str]
    products: list[str]
    inventions: list[str]
    colours: list[str]
    looks: list[str]
    title_adjectives: list[str]
    title_nouns: list[str]
    teams: list[str]
    reasons: list[str]
    troubles: list[str]
    weather: list[str]
    contests: list[str]
    institutions: list[str]
    with_tickets: list[str]
    schools: list[str]
    animals: list[tuple[str, str, str, str]]
    countries: list[tuple[str, str, str]]
    bought: list[tuple[str, str, str, str, str]]
    works: list[tuple[str, str, str, str]]
    gatherings: dict[str, list[str]]
    pets: dict[str, Pet]


WORDS = Words.model_validate(read_words(__file__))
THINGS = [*WORDS.small, *WORDS.large]


@dataclass(frozen=True)
class Person:
    """A person with a first name and perhaps a surname ('' for children)."""

    first: str
    last: str
    female: bool

    def form(self, case: str) -> str:
        """First name and surname in a case (pymorphy's names of cases)."""
        first = decline(self.first, case)
        return f"{first} {decline_surname(self.last, self.female, case)}" if self.last else first

    @property
    def name(self) -> str:
        """In the nominative."""
        return self.form("nomn")

    @property
    def pronoun(self) -> str:
        """«он» or «она»."""
        return "она" if self.female else "он"

    def verb(self, masculine: str, feminine: str) -> str:
        """The form of a verb that suits the person."""
        return feminine if self.female else masculine


@dataclass(frozen=True)
class Ask:
    """A question, its answer as it stands in the passage, and how wrong answers of the same form are drawn."""

    kind: str
    question: str
    answer: str
    wrong: Callable[[], str]
    near: tuple[str, ...] = ()  # wrong answers out of the same passage
    also: tuple[str, ...] = ()  # other accepted answers


@dataclass(frozen=True)
class Story:
    """The sentences of a passage, and what can be asked of it."""

    sentences: list[str]
    asks: list[Ask]  # those whose answer is not told are skipped
    fixed: bool = True  # the sentences lean on each other's order


class World:
    """Draws of people, places, things and numbers for one split."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng = rng
        self.heldout = split == "heldout"

    def pick(self, *items: str) -> str:
        """One of `items`."""
        return self.rng.choice(items)

    def chance(self, probability: float) -> bool:
        """True with a probability."""
        return self.rng.random() < probability

    def of(self, items: Sequence[str], *, but: Sequence[str] = ()) -> str:
        """One of `items` that is not in `but`."""
        while True:
            item = self.rng.choice(items)
            if item not in but:
                return item

    def mine(self, combination: str) -> bool:
        """Whether a combination of words belongs to this split."""
        return (zlib.crc32(combination.encode()) % HELDOUT_SHARE == 0) == self.heldout

    def person(self, female: bool | None = None) -> Person:
        """An adult of this split, a woman or a man where it is not said which."""
        if female is None:
            female = self.chance(0.5)
        while True:
            first, last = self.rng.choice(WORDS.female if female else WORDS.male), self.rng.choice(WORDS.surnames)
            if self.mine(f"{first} {last}"):
                return Person(first, last, female)

    def people(self, count: int) -> list[Person]:
        """Different first names."""
        found: list[Person] = []
        while len(found) < count:
            person = self.person()
            if person.first not in {other.first for other in found}:
                found.append(person)
        return found

    def child(self, *, but: Sequence[Person] = ()) -> Person:
        """A child with another first name than `but`."""
        while True:
            female = self.chance(0.5)
            person = Person(self.rng.choice(WORDS.girls if female else WORDS.boys), "", female)
            if person.first not in {other.first for other in but}:
                return person

    def children(self, count: int) -> list[Person]:
        """Different first names."""
        found: list[Person] = []
        while len(found) < count:
            found.append(self.child(but=found))
        return found

    def thing(
        self, adjectives: Sequence[str] = WORDS.colours, nouns: Sequence[str] = THINGS, *, but: Sequence[str] = ()
    ) -> tuple[str, str, str]:
        """An adjective (masculine nominative), a noun, and the two together."""
        while True:
            adjective, noun = self.rng.choice(adjectives), self.rng.choice(nouns)
            if noun not in but and self.mine(f"{adjective} {noun}"):
                return adjective, noun, described(adjective, noun)

    def title(self) -> str:
        """«Тихий берег», in quotation marks."""
        while True:
            adjective, noun = self.rng.choice(WORDS.title_adjectives), self.rng.choice(WORDS.title_nouns)
            if self.mine(f"{adjective} {noun}"):
                return f"«{adjective} {noun}»"

    def year(self, first: int, last: int = 2022) -> int:
        """A year from `first` to `last`."""
        return self.rng.randint(first, last)

    def date(self) -> str:
        """«3 мая 1999 года»."""
        return f"{self.rng.randint(1, 28)} {self.of(WORDS.months)} {self.year(1950)} года"

    def number(self, first: int, last: int) -> int:
        """A number of which large ones are round."""
        number = self.rng.randint(first, last)
        return number if number < 100 else number // 10 * 10 if number < 1000 else number // 100 * 100

    def in_city(self) -> str:
        """«в Омске»."""
        return in_place(self.of(WORDS.cities))

    def in_region(self) -> str:
        """«в Омской области»."""
        return into(f"{self.of(WORDS.regions)[:-2]}ой области")

    def job(self, case: str = "nomn") -> str:
        """A profession in a case."""
        return form(self.of(WORDS.professions), case)


def when(w: World, question: str, year: int) -> Ask:
    """The question for a year that is told as «в 1990 году»."""

    def wrong() -> str:
        return f"в {year + w.rng.choice((-30, -20, -11, -10, -5, -3, -1, 1, 2, 4, 9, 10, 18))} году"

    return Ask("when", question, f"в {year} году", wrong, also=(str(year), f"{year} год"))
