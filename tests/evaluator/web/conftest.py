"""Seasons that run, and an organizer's desk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluator.season import PRIVATE, PUBLIC, actions
from tests.support.data import build_data
from tests.support.organizer import CAT, HEDGEHOGS, Desk, serving
from tests.support.running import make_running, make_zip  # noqa: F401  fixtures
from tests.support.season import TASK, write_season


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """The desk of a season of today, of two teams."""
    days = {"start": "2020-01-01", "end": "2090-01-01", "choose_until": "2090-01-01"}
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3", valid_a_day="100", **days)
    for name in (PUBLIC, PRIVATE, "финал"):
        build_data(season.folder / "data" / name, (TASK,))
    actions.migrate(season.path)
    ledger = actions.open_ledger(season.path)
    for team in (HEDGEHOGS, CAT):
        ledger.add_team(team)
    with serving(season) as url:
        yield Desk(url, ledger)
