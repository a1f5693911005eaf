"""The tables as migrations make them, on both databases, and how a database that is none is told."""

import contextlib
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.autogenerate
import pytest
import sqlalchemy
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from evaluator.core.errors import DataError
from evaluator.season import database as database_module
from evaluator.season import schema
from evaluator.season.accounts import Accounts
from evaluator.season.config import Season
from evaluator.season.database import MIGRATIONS, URL_VARIABLE, Database, open_database
from evaluator.season.ledger import Job, Ledger
from evaluator.season.organize import Organizer
from tests.support.season import NOON, Clock, archive, enter, labelled, public_state, publish, scored, write_season

ROOT = Path(database_module.__file__).parents[2]


def test_migrations_make_the_tables_of_the_schema(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert alembic.autogenerate.compare_metadata(context, schema.metadata) == []
        names = set(sqlalchemy.inspect(connection).get_table_names())
    assert names == {*schema.metadata.tables, "alembic_version"}


def test_the_newest_migration_is_the_schemas_version() -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(configuration).get_heads() == [schema.REVISION]


def test_constraints_are_there(database: Database) -> None:
    """Alembic does not compare checks; SQLite and PostgreSQL must refuse these."""
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO team (id, name, key, created_at) VALUES (1, 'a', 'a', '2022-10-01 00:00:00')"
        )
        connection.exec_driver_sql(
            "INSERT INTO submission (id, team_id, digest, name, bytes, image, submitted_at, day)"
            " VALUES (1, 1, 'd', 'n', 15000000000, 'i', '2022-10-01 00:00:00', '2022-10-01')"
        )
        connection.exec_driver_sql("INSERT INTO run (id, submission_id, test_set, failures) VALUES (1, 1, 'public', 0)")
    for statement in (
        "INSERT INTO run (submission_id, test_set, failures) VALUES (1, 'other', 0)",
        "INSERT INTO run (submission_id, test_set, failures) VALUES (2, 'public', 0)",
        "INSERT INTO event (run_id, step, kind, at, detail) VALUES (1, 1, 'queued', '2022-10-01 00:00:00', '{}')",
        "INSERT INTO event (run_id, step, kind, at, detail) VALUES (1, 2, 'done', '2022-10-01 00:00:00', '{}')",
        "INSERT INTO job (run_id, submission_id, available_at, token) VALUES (1, 1, '2022-10-01 00:00:00', 't')",
        "INSERT INTO score (run_id, task, value) VALUES (1, 0, 0.5)",
    ):
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            with database.write() as connection:
                connection.exec_driver_sql(statement)


def test_migrating_again_or_at_once_is_no_error(season: Season) -> None:
    """At once in processes, and again in this one."""

    def migrate(_: int) -> tuple[int, str]:
        command = [sys.executable, "-m", "evaluator", "season", "migrate", "--season", str(season.path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(migrate, range(2))) == {(0, "")}
    database = Database(season.url, season.folder)
    database.migrate()
    database.check()
    database.engine.dispose()


NANO = "ruCLIP: запасной 🦔"
TOKEN = "0" * 32
# What every version has: a submission with a result, and one whose run is under way.
OLDER = f"""
INSERT INTO team (id, name, key, created_at) VALUES (1, 'Ёжики', 'ёжики', '{NOON:%F %T}')
INSERT INTO submission (id, team_id, digest, name, bytes, image, submitted_at, day)
 VALUES (1, 1, '{archive(1).digest}', '1.zip', 100, 'a/b:1', '{NOON:%F %T}', '{NOON:%F}'),
 (2, 1, '{archive(2).digest}', '2.zip', 100, 'a/b:1', '{NOON:%F %T}', '{NOON:%F}')
INSERT INTO run (id, submission_id, test_set, failures) VALUES (1, 1, 'public', 0), (2, 2, 'public', 0)
INSERT INTO event (run_id, step, kind, at, verdict, detail)
 VALUES (1, 0, 'queued', '{NOON:%F %T}', NULL, '{{}}'), (1, 1, 'running', '{NOON:%F %T}', NULL, '{{}}'),
 (1, 2, 'done', '{NOON:%F %T}', 'OK', '{{"labels": ["{NANO}"]}}'),
 (2, 0, 'queued', '{NOON:%F %T}', NULL, '{{}}'), (2, 1, 'running', '{NOON:%F %T}', NULL, '{{}}')
UPDATE test_set SET data_digest = '{"d" * 64}', weights = '{{"5": 1.0}}' WHERE name = 'public'
INSERT INTO result (run_id, submission_id, test_set, total) VALUES (1, 1, 'public', 0.5)
INSERT INTO score (run_id, task, value) VALUES (1, 5, 0.5)
INSERT INTO job (run_id, submission_id, available_at, token, worker, expires_at)
 VALUES (2, 2, '{NOON:%F %T}', '{TOKEN}', 'w', '2090-01-01')
"""
REVISIONS = [f"{number:04}" for number in range(1, int(schema.REVISION))]


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_season_of_an_older_version_goes_on(season: Season, clock: Clock, revision: str) -> None:
    """With all that it has, a run under way among it, and from now on as if it had been made by this version."""
    database = Database(season.url, season.folder)
    database.migrate(revision)
    with database.write() as connection:
        for statement in OLDER.replace("\n ", " ").strip().splitlines():
            if revision >= "0002":
                statement = statement.replace("SET data_digest", f"SET labels = '[\"{NANO}\"]', data_digest")
            connection.exec_driver_sql(statement)
        if not database.sqlite:  # as the rows were given numbers
            for table in ("team", "submission", "run"):
                connection.exec_driver_sql(f"SELECT setval('{table}_id_seq', 2)")
    with pytest.raises(DataError, match=f"has the tables of version {revision}"):
        Ledger(season, database)
    database.migrate()
    ledger = Ledger(season, database, clock)
    (result,) = ledger.results("public")
    assert (result.team, result.submission, result.total, result.edition) == ("Ёжики", 1, 0.5, None)
    assert ledger.scores([result]) == {1: {5: 0.5}} and ledger.attempts("Ёжики").pending == 1
    edition = ledger.edition("public")
    assert edition is not None and (edition.labels, edition.evaluator) == ((NANO,), None)
    assert edition.competition == season.competition.digest and ledger.edition("private") is None
    (running,) = [state for state in ledger.states() if state.pending]
    job = Job(2, TOKEN, running.submission, "public", 0, season.public)
    assert ledger.finish(job, labelled(0.25, NANO)) is not None
    ledger.add_team("Кот")
    assert public_state(ledger, enter(ledger, "Кот", 2, labelled(0.5, NANO))) == "OK"
    assert [result.total for result in ledger.results("public")] == [0.5, 0.25, 0.5]
    publish(ledger, {1: 0.4, 2: 0.3, 3: 0.2}, labels=())
    assert [result.total for result in ledger.results("public")] == [0.4, 0.3, 0.2]
    for statement in ("DELETE FROM test_set", "DELETE FROM result", "UPDATE result SET edition_id = 1"):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="nothing changes it after|never rewritten"):
            with database.write() as connection:
                connection.exec_driver_sql(statement)
    database.engine.dispose()


# Each would put another row in the place of one that is there: by each of its keys, and by the number that SQLite gives
# every row, where that is none of its columns.
REPLACING = {
    "team": [
        "(id, name, key, created_at) VALUES (1, 'x', 'x', 'NOW')",
        "(id, name, key, created_at) VALUES (9, 'x', (SELECT key FROM team WHERE id = 1), 'NOW')",
    ],
    "submission": [
        "SELECT id, team_id, digest, 'x', bytes, image, submitted_at, day FROM submission",
        "SELECT 9, team_id, digest, 'x', bytes, image, submitted_at, day FROM submission",
    ],
    "run": ["(id, submission_id, test_set, failures) VALUES (1, 1, 'public', 2)"],
    "event": [
        "SELECT run_id, step, kind, at, 'METRIC_ERROR', 'infra', detail FROM event WHERE step = 2",
        "(rowid, run_id, step, kind, at, detail) VALUES (1, 9, 0, 'queued', 'NOW', '{}')",
        "(rowid, run_id, step, kind, at, detail) VALUES (-1, 9, 0, 'queued', 'NOW', '{}')",
    ],
    "result": [
        "SELECT run_id, submission_id, test_set, 0.9, NULL FROM result",
        "SELECT 9, submission_id, test_set, 0.9, NULL FROM result",
    ],
    "change": [
        "(id, at, by, kind, detail, reason) VALUES (1, 'NOW', 'x', 'renamed', '{}', 'x')",
        "(id, at, by, kind, detail, reason, undoes) VALUES (9, 'NOW', 'x', 'undone', '{}', 'x', 1)",
    ],
    "edition": ["SELECT id, change_id, test_set, data_digest, '{}', labels, competition, best, 'x' FROM edition"],
    "rescored": [
        "SELECT id, edition_id, test_set, submission_id, run_id, 0.9 FROM rescored",
        "SELECT 9, edition_id, test_set, submission_id, run_id, 0.9 FROM rescored",
    ],
    "rescored_score": [
        "SELECT rescored_id, task, 0.9 FROM rescored_score",
        "(rowid, rescored_id, task, value) VALUES (1, 1, 3, 0.9)",
    ],
    "score": ["SELECT run_id, task, 0.9 FROM score", "(rowid, run_id, task, value) VALUES (1, 1, 3, 0.9)"],
    "choice": ["(id, team_id, at) VALUES (1, 2, 'NOW')"],
    "token": [
        "(id, name, kind, digest, at, by) VALUES (1, 'x', 'token', 'x', 'NOW', 'x')",
        "SELECT 9, team_id, 'x', kind, digest, at, by, expires_at FROM token",
    ],
    "token_end": ["SELECT token_id, at, 'x', reason FROM token_end"],
    "chosen": ["SELECT choice_id, submission_id FROM chosen", "(rowid, choice_id, submission_id) VALUES (1, 1, 9)"],
    "test_set": [
        "(name) VALUES ('public')",
        "(name, data_digest, weights) VALUES ('public', 'x', '{}')",
        "(rowid, name) VALUES (1, 'other')",
    ],
}


@pytest.mark.parametrize("table", REPLACING)
def test_sqlite_replaces_no_row(tmp_path: Path, table: str) -> None:
    """As the command-line program and other users of the file have it, with foreign keys and recursive triggers off."""
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3")
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database, Clock())
    ledger.add_team("Ёжики")
    ledger.choose("Ёжики", [enter(ledger, "Ёжики", 1, scored(0.5))])
    rescored = publish(ledger, {1: 0.25})
    assert rescored is not None
    Organizer(ledger, "Судья").undo(rescored.id, "эталон был верен")
    accounts = Accounts(ledger)
    accounts.revoke(accounts.make("Ёжики", "ноутбук", "Судья")[0].id, "Судья", "потерян")
    database.engine.dispose()
    with contextlib.closing(sqlite3.connect(season.folder / "season.sqlite3")) as connection:
        before = list(connection.iterdump())
        for rows in REPLACING[table]:
            for verb in ("INSERT OR REPLACE", "REPLACE", "INSERT OR IGNORE"):
                statement = f"{verb} INTO {table} {rows.replace('NOW', '2022-10-03 09:00:00')}"
                with pytest.raises(sqlite3.IntegrityError, match="never rewritten|nothing changes it|begin at 1"):
                    connection.execute(statement)
                connection.rollback()
        assert list(connection.iterdump()) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE test_set SET data_digest = NULL WHERE name = 'public'",
        "UPDATE test_set SET data_digest = 'x', weights = '{}' WHERE name = 'public'",
        "UPDATE test_set SET weights = NULL",
        "UPDATE test_set SET labels = '[]'",
        "UPDATE test_set SET name = 'other' WHERE name = 'private'",
        "DELETE FROM test_set",
        "DELETE FROM test_set WHERE name = 'private'",
        "INSERT INTO test_set (name) VALUES ('public') ON CONFLICT (name) DO UPDATE SET data_digest = 'x'",
        "TRUNCATE test_set CASCADE",
        "UPDATE OR REPLACE test_set SET name = 'public' WHERE name = 'private'",
    ],
)
def test_what_results_have_in_common_is_set_once(ledger: Ledger, database: Database, statement: str) -> None:
    if ("OR REPLACE" in statement) > database.sqlite or ("TRUNCATE" in statement and database.sqlite):
        pytest.skip("a statement of the other database")
    enter(ledger, "Ёжики", 1, scored(0.5))
    with pytest.raises(sqlalchemy.exc.DatabaseError, match="nothing changes it after|never rewritten"):
        with database.write() as connection:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("weight", ["1", "0.25"])
def test_a_total_outside_of_the_formula_is_refused(season: Season, weight: str) -> None:
    season = write_season(season.folder, season.url, **{"5": weight})
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database, Clock())
    ledger.add_team("Ёжики")
    enter(ledger, "Ёжики", 1, scored(0.5))
    most = float(weight)
    infinite = ("9e999", "-9e999") if database.sqlite else ("'Infinity'", "'-Infinity'", "'NaN'")
    texts = ("'0.5x'", "'nan'", "x'00'", "''") if database.sqlite else ()
    outside = (f"{most * 1.01}", f"{-most * 0.51}", "1e300")
    with database.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO submission SELECT 7, team_id, 'x', name, bytes, image, submitted_at, day FROM submission"
        )
        connection.exec_driver_sql("INSERT INTO run (id, submission_id, test_set, failures) VALUES (7, 7, 'public', 0)")
    add = "INSERT INTO result (run_id, submission_id, test_set, total) VALUES (7, 7, 'public', {})"
    for total in (*infinite, *texts, *outside):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="a total must be in the range of the formula"):
            with database.write() as connection:
                connection.exec_driver_sql(add.format(total))
    for value in (*infinite, *texts, "1.01", "-1.01"):
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="a score must be at most the best one"):
            with database.write() as connection:
                connection.exec_driver_sql(f"INSERT INTO score (run_id, task, value) VALUES (1, 3, {value})")
    with pytest.raises(sqlalchemy.exc.DatabaseError, match="a total must be in the range of the formula"):
        with database.write() as connection:  # of a test set that has no formula yet
            connection.exec_driver_sql(add.replace("public", "private").format("0.1"))
    with database.write() as connection:
        connection.exec_driver_sql(add.format(most))
        connection.exec_driver_sql("INSERT INTO score (run_id, task, value) VALUES (7, 5, 1)")
    database.engine.dispose()


def test_an_older_or_newer_database_is_told(database: Database, season: Season) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(DataError, match=f"has the tables of version 0000, this is {schema.REVISION}; `python -m eval"):
        Ledger(season, database)


def test_an_empty_database_is_told(season: Season) -> None:
    database = Database(season.url, season.folder)
    why = "does not exist" if database.sqlite else "has the tables of version None"
    with pytest.raises(DataError, match=why):
        Ledger(season, database)
    assert not (season.folder / "season.sqlite3").exists()
    database.engine.dispose()


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "season.sqlite3"
    path.write_bytes(b"something that matters" * 100)
    database = Database("sqlite:///season.sqlite3", tmp_path)
    for call in (database.check, database.migrate):
        with pytest.raises(DataError, match=r"season\.sqlite3 cannot be used: file is not a database"):
            call()
    assert path.read_bytes() == b"something that matters" * 100


def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    database = Database("postgresql://user:тайна@127.0.0.1:1/season", Path("/"))
    with pytest.raises(DataError) as caught:
        database.check()
    assert "postgresql+psycopg://user:***@127.0.0.1:1/season cannot be used: " in str(caught.value)
    assert "тайна" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro", ""]
)
def test_an_url_that_is_none(url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[database\] url: ") as caught:
        Database(url, tmp_path)
    assert "secret" not in str(caught.value)


def test_the_environment_names_the_database_first(
    season: Season, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(URL_VARIABLE, f"sqlite:///{tmp_path}/осень 1.sqlite3")
    assert open_database(season).shown == f"sqlite:///{tmp_path}/осень 1.sqlite3", "as a person writes it"


def test_sqlite_keeps_what_was_committed(tmp_path: Path) -> None:
    database = Database("sqlite:///season.sqlite3", tmp_path)
    database.migrate()
    with database.write() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": database_module.BUSY_MILLISECONDS,
    }


def test_reading_goes_on_while_somebody_writes(ledger: Ledger) -> None:
    ledger.submit("Ёжики", archive(1))
    with ledger.database.write() as connection:
        connection.exec_driver_sql("INSERT INTO test_set (name) VALUES ('третий')")
        assert len(ledger.states()) == 1
