"""A PostgreSQL of the tests' own, which nobody reaches over the network."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from tests.support.workers import wait

_numbers = itertools.count()


class Cluster:
    """`folder` has its socket, its data and its log."""

    def __init__(self, folder: str, binaries: Path, user: str | None) -> None:
        self.folder, self._binaries, self._user = folder, binaries, user
        self._data = f"{folder}/data"

    def make(self) -> None:
        initdb = (f"{self._binaries}/initdb", "-D", self._data, "-U", "season", "-A", "trust")
        done = self._call(*initdb, "-E", "UTF8", "--no-locale", "-N")
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Returns when it takes connections. After `kill` what is left of the one before has to end first."""
        folder = self.folder
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        wait(lambda: self._control("-l", f"{folder}/log", "-o", options, "start").returncode == 0)

    def kill(self) -> None:
        """The postmaster; its other processes end when they see it."""
        os.kill(int(Path(self._data, "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def stop(self) -> None:
        done = self._control("-m", "immediate", "stop")
        assert done.returncode == 0, done.stderr

    def _control(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._call(f"{self._binaries}/pg_ctl", "-D", self._data, "-w", *arguments)

    def _call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return subprocess.run(
            command,
            user=self._user,
            cwd=self.folder,
            env=environment | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
        )


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A new cluster; the test is skipped where PostgreSQL is not installed."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not here (Debian: postgresql)")
    user = None if os.geteuid() else "nobody"  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="season-pg-") as folder:
        if user:
            shutil.chown(folder, user)
        cluster = Cluster(folder, binaries, user)
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def _binaries() -> Path | None:
    """The folder with initdb and pg_ctl; Debian keeps it off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((path for path in folders if (path / "initdb").exists() and (path / "pg_ctl").exists()), None)


@contextlib.contextmanager
def new_database(folder: str) -> Iterator[str]:
    """The URL of an empty database of a cluster."""
    name = f"season_{next(_numbers)}"
    admin = sqlalchemy.create_engine(
        f"postgresql+psycopg://season@/postgres?host={folder}", isolation_level="AUTOCOMMIT", pool_pre_ping=True
    )
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"postgresql://season@/{name}?host={folder}"
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()
