"""Seasons on SQLite and on a PostgreSQL of the tests' own, and submissions that are real programs."""

import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy

from evaluator.package.metadata import Metadata
from evaluator.season import PUBLIC
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Job, Ledger, Outcome
from evaluator.season.rules import Season, read_season
from tests.evaluator.conftest import build_data

BACKENDS = ("sqlite", "postgresql")
NOON = datetime(2022, 10, 3, 9, 0, tzinfo=UTC)  # in Moscow
TASK = 5  # the one that is quickest to score
TRUTH = "Ёлки-палки"

RULES = """
[season]
name = "Проба"
time_zone = "Europe/Moscow"
start = 2022-10-01
end = 2022-10-20
choose_until = 2022-10-22

[attempts]
valid_a_day = 3
invalid_a_day = 5

[data]
public = "data/public"
private = "data/private"

[runs]
runner = "local"
tries = 3
lease_seconds = 30
retry_seconds = 60

[formula]
open = 0
hidden = 0
5 = 1
"""

RUN = """
import json
examples = json.load(open("../input/input.json", encoding="utf-8"))
predictions = {id: [{"type": "text", "content": %r}] for id in examples}
json.dump(predictions, open("output/predictions.json", "w", encoding="utf-8"))
"""


class Clock:
    """A season's clock that a test sets."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self, _: object) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


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
    if request.param == "sqlite":
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


def write_season(folder: Path, url: str, **replace: str) -> Season:
    """A season's folder with its rules; each `key="value"` of `replace` replaces the value of that key."""
    lines = RULES.splitlines()
    for key, value in replace.items():
        (number,) = [number for number, line in enumerate(lines) if line.startswith(f"{key} =")]
        lines[number] = f"{key} = {value}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "season.toml").write_text("\n".join([*lines, "[database]", f'url = "{url}"']), encoding="utf-8")
    return read_season(folder / "season.toml")


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


def archive(content: object) -> Archive:
    """A ZIP as the ledger knows one; another for each `content`."""
    digest = f"{content}".encode().hex().zfill(64)[-64:]
    return Archive(digest, f"{content}.zip", 100, Metadata("example/image:1", "python3 run.py", ("python3", "run.py")))


def scored(value: float, digest: str = "d" * 64) -> Outcome:
    return Outcome("OK", None, {TASK: value}, digest)


def labelled(value: float, *labels: str) -> Outcome:
    """As `scored`, with reasons why the score is not the leaderboard's."""
    return Outcome("OK", None, {TASK: value}, "d" * 64, {"labels": list(labels), "findings": []})


def failed(verdict: str, fault: str) -> Outcome:
    return Outcome(verdict, fault, detail={"findings": []})


def enter(ledger: Ledger, team: str, content: object, *outcomes: Outcome) -> int:
    """Submit an `Archive`, or one of this content, and end one run after another with these outcomes; the queue must be
    empty. Returns the submission.
    """
    submission, is_new = ledger.submit(team, content if isinstance(content, Archive) else archive(content))
    assert is_new
    for outcome in outcomes:
        job = ledger.claim("worker")
        assert isinstance(job, Job) and job.submission == submission
        assert ledger.finish(job, outcome) is not None
    return submission.id


def public_state(ledger: Ledger, submission: int) -> str:
    (state,) = [
        state for state in ledger.states() if state.submission.id == submission and state.test_set == PUBLIC
    ]
    return state.name


# --- seasons that run ---


@pytest.fixture
def make_running(tmp_path: Path) -> Callable[..., Season]:
    """Makes a season of today, with data, a database and a team, whose submissions can really run."""

    def make(url: str = "sqlite:///season.sqlite3", **replace: str) -> Season:
        folder = tmp_path / "season"
        for name in ("public", "private"):
            build_data(folder / "data" / name, (TASK,))
        settings = {
            "start": "2020-01-01",
            "end": "2090-01-01",
            "choose_until": "2090-01-01",
            "valid_a_day": "100",
            "invalid_a_day": "100",
            "tries": "1000",
            "retry_seconds": "0",
        }
        season = write_season(folder, url, **(settings | replace))
        database = Database(season.url, season.folder)
        database.migrate()
        Ledger(season, database).add_team("Ёжики")
        database.engine.dispose()
        return season

    return make


@pytest.fixture
def make_zip(tmp_path: Path) -> Callable[..., Path]:
    """Packs a submission that answers `text` to everything, or runs `code`."""

    def make(text: str = TRUTH, code: str | None = None, name: str | None = None, image: str = "a/b:1") -> Path:
        path = tmp_path / f"{name or text}.zip"
        with zipfile.ZipFile(path, "w") as file:
            # -S: half of Python's start is looking for packages, which these need none of.
            metadata = json.dumps({"image": image, "entrypoint": "python3 -S run.py"})
            for entry, content in (("metadata.json", metadata), ("run.py", RUN % text if code is None else code)):
                file.writestr(zipfile.ZipInfo(entry), content)  # of no time: the same bytes whenever it is made
        return path

    return make
