"""Fixtures of seasons that run, and of submissions for them."""

import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from tests.support.data import build_data
from tests.support.season import RUN, TASK, TRUTH, write_season


@pytest.fixture
def make_running(tmp_path: Path) -> Callable[..., Season]:
    """Makes a season of today, with data, a database and a team, whose submissions can really run."""

    def make(url: str = "sqlite:///season.sqlite3", **replace: str) -> Season:
        folder = tmp_path / "season"
        for name in ("public", "private"):
            build_data(folder / "data" / name, (TASK,))
        # A zone where it is about noon, as attempts are counted by the day: none ends while a test goes on.
        hours_ahead = 12 - datetime.now(UTC).hour
        settings = {
            "time_zone": f'"Etc/GMT{-hours_ahead:+d}"',
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
