"""Seasons on SQLite and on a PostgreSQL of the tests' own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from tests.support.running import make_running, make_zip  # noqa: F401  fixtures
from tests.support.season import BACKENDS, Clock, write_season


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The folder of a PostgreSQL's socket: a private cluster, which nobody reaches over the network."""
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not here (Debian: postgresql)")
    user = _unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="season-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"

        def call(*command: str) -> None:
            done = subprocess.run(command, user=user, cwd=folder, env=_environment(), capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

        call(f"{binaries}/initdb", "-D", data, "-U", "season", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        call(f"{binaries}/pg_ctl", "-D", data, "-l", f"{folder}/log", "-o", options, "-w", "start")
        try:
            yield folder
        finally:
            call(f"{binaries}/pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def _postgres_binaries() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in folders if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root."""
    return None if os.geteuid() else "nobody"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


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
    socket = request.getfixturevalue("postgres")
    name = f"season_{next(_counter)}"
    admin = sqlalchemy.create_engine(
        f"postgresql+psycopg://season@/postgres?host={socket}", isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"postgresql://season@/{name}?host={socket}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


_counter = iter(range(10**6))


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
