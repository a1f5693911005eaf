"""Families of passages: each draws a story and what can be asked of it."""

from collections.abc import Callable

from training.worlds.families import events, everyday, people, places
from training.worlds.stories import Story, World

#: As often as they are drawn; the order decides which example a seed makes.
FAMILIES: tuple[Callable[[World], Story], ...] = (
    people.biography, people.biography, places.street, places.street, places.river, places.city, events.gathering,
    events.gathering, everyday.shopping, everyday.belongings, everyday.places, people.book, people.book, events.match,
    places.train, everyday.prices, events.reason, events.reason, places.factory, everyday.pet, everyday.animal,
    people.meeting, events.weather, everyday.gift, places.schedule, people.invention, people.study, places.country,
    everyday.errands,
)  # fmt: skip
