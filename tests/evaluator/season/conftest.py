"""Seasons on SQLite and on a PostgreSQL of the tests' own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from tests.support.postgres import new_database, running
from tests.support.running import make_running, make_zip  # noqa: F401  fixtures
from tests.support.season import BACKENDS, Clock, write_season


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The folder of a PostgreSQL's socket: a private cluster, which nobody reaches over the network."""
    with running() as cluster:
        yield cluster.folder


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A season's database, of either kind, that is not made yet."""
    with _new_database(request, request.param) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def other_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Another one, for what is restored."""
    with _new_database(request, request.param) as made:
        yield made


@contextlib.contextmanager
def _new_database(request: pytest.FixtureRequest, kind: str) -> Iterator[str]:
    if kind == "sqlite":
        yield "sqlite:///season.sqlite3"
        return
    with new_database(request.getfixturevalue("postgres")) as made:
        yield made


@pytest.fixture
def season(tmp_path: Path, url: str) -> Season:
    return write_season(tmp_path / "season", url)


@pytest.fixture
def database(season: Season) -> Iterator[Database]:
    database = Database(season.url, season.folder)
    database.migrate()
    yield database
    database.engine.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(season: Season, database: Database, clock: Clock) -> Ledger:
    """A ledger with the teams Ёжики and Кот."""
    ledger = Ledger(season, database, clock)
    ledger.add_team("Ёжики")
    ledger.add_team("Кот")
    return ledger
