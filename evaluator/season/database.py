"""The season's database, SQLite or PostgreSQL: opening, transactions, migrations.

SQLite runs in WAL, and every transaction that writes begins with BEGIN IMMEDIATE, so it never has to be given up
half-way for another writer's sake; it must lie on a disk of this machine. Several machines share a PostgreSQL.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError

from evaluator.core.errors import DataError, show
from evaluator.season import config, schema

URL_VARIABLE = "SEASON_DATABASE_URL"  # in place of [database] url, for passwords
BUSY_MILLISECONDS = 30_000
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x6662_6332  # any number, the same for all who migrate
_READ = {"season_read": True}


class Database:
    """`url` is SQLAlchemy's, with `postgresql://` for psycopg; a relative SQLite path is below `folder`.

    Raises `DataError` where it is no such URL. Nothing is connected to yet.
    """

    def __init__(self, url: str, folder: Path) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise DataError(f"[database] url: {show(url.partition(':')[0])}: is no database's URL") from None
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            if not parsed.database or parsed.database == ":memory:" or parsed.query:
                raise DataError("[database] url: SQLite needs a file, as in sqlite:///season.sqlite3")
            parsed = parsed.set(database=str(folder / parsed.database))
        elif parsed.get_backend_name() == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        else:
            raise DataError(f"[database] url: must be sqlite:///... or postgresql://..., not {parsed.drivername}:...")
        # For people: a rendered URL has a path's Cyrillic letters in percents.
        self.shown = f"sqlite:///{parsed.database}" if self.sqlite else parsed.render_as_string(hide_password=True)
        try:
            self.engine: Engine = sqlalchemy.create_engine(parsed, pool_pre_ping=not self.sqlite)
        except (NoSuchModuleError, ArgumentError) as error:
            raise DataError(f"database {self.shown}: {error}") from None
        self._path = Path(parsed.database) if self.sqlite and parsed.database else None
        if self.sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: all of it, or nothing."""
        with self.engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """One state of the database, which others may write to meanwhile."""
        with self.engine.connect() as connection:
            if self.sqlite:
                connection = connection.execution_options(**_READ)
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    def now(self, connection: Connection) -> datetime:
        """The database's clock, which its users have in common."""
        if self.sqlite:
            return config.utc_now()
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return moment.astimezone(UTC)

    def migrate(self, revision: str = "head") -> None:
        """Make the tables, or bring them to this or an older version; again, or by two at once, is no error."""
        with self._reached():
            self._make_file()
            with self.write() as connection:
                self._upgrade(connection, revision)

    @contextlib.contextmanager
    def filling(self) -> Iterator[Connection]:
        """One transaction that makes the tables and fills them: all of it, or nothing.

        Raises `DataError` where the database has tables, and for what it refuses.
        """
        made = self._path if self._path is not None and not self._path.exists() else None
        try:
            with self._reached():
                self._make_file()
                with self.write() as connection:
                    if tables := sqlalchemy.inspect(connection).get_table_names():
                        raise DataError(
                            f"database {self.shown} is not empty, it has the table {tables[0]}; name one that is"
                        )
                    self._upgrade(connection)
                    yield connection
        except BaseException:
            if made is not None:
                self.engine.dispose()
                for ending in ("", "-wal", "-shm"):
                    made.with_name(made.name + ending).unlink(missing_ok=True)
            raise

    def _make_file(self) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self.engine.connect() as connection:  # outside of a transaction; the file remembers it
                connection.connection.cursor().execute("PRAGMA journal_mode = WAL")

    def _upgrade(self, connection: Connection, revision: str = "head") -> None:
        from alembic import command
        from alembic.config import Config

        configuration = Config()
        configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        if not self.sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)

    def check(self) -> None:
        """Raises `DataError` unless the database is there, with tables of this version."""
        if self._path is not None and not self._path.exists():
            raise DataError(f"database {self.shown} does not exist; `python -m evaluator season migrate` makes it")
        with self._reached(), self.read() as connection:
            found = None
            if sqlalchemy.inspect(connection).has_table("alembic_version"):
                found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if found != schema.REVISION:
            raise DataError(
                f"database {self.shown} has the tables of version {found}, this is {schema.REVISION};"
                " `python -m evaluator season migrate` brings it up"
            )

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (DatabaseError, InterfaceError) as error:
            reason = " ".join(str(error.orig).split())
            raise DataError(f"database {self.shown} cannot be used: {reason}") from None


def open_database(season: config.Season) -> Database:
    """The season's database, as its rules or the environment name it."""
    return Database(os.environ.get(URL_VARIABLE) or season.url, season.folder)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # sqlite3 would begin transactions of its own, late and not immediate
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_MILLISECONDS}", "foreign_keys = ON", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read = connection.get_execution_options().get("season_read")
    connection.exec_driver_sql("BEGIN" if read else "BEGIN IMMEDIATE")
