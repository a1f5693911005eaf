"""Whatever the service's own description allows is answered, and never by a failure of the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from evaluator.season.accounts import Accounts
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from evaluator.web.app import make_app
from tests.support.season import enter, scored, write_season
from tests.support.serving import Service

TEAM = "Ёжики"
EXAMPLES = 20  # of each operation, by each caller
CALLERS = ("nobody", "team", "organizer")


@pytest.fixture
def season(tmp_path: Path) -> Season:
    days = {"start": "2020-01-01", "end": "2090-01-01", "choose_until": "2090-01-01"}
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3", **days)
    database = Database(season.url, season.folder)
    database.migrate()
    ledger = Ledger(season, database)
    ledger.add_team(TEAM)
    enter(ledger, TEAM, 1, scored(0.5))
    return season


@pytest.fixture
def service(season: Season, tmp_path: Path) -> Iterator[Service]:
    made = Service(season, tmp_path / "serve.log").start()
    try:
        yield made
    finally:
        made.end()


def ask_all(operation: Any, service: Service, headers: dict[str, str]) -> None:
    """Ask an operation for whatever its description allows, and some of what it does not."""

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        answer = case.call(base_url=service.url, headers=headers)
        assert answer.status_code < 500, f"{operation.label}: {answer.status_code}: {case.as_curl_command()}"

    ask()


@pytest.mark.parametrize("caller", CALLERS)
def test_nothing_that_is_described_makes_the_service_fail(caller: str, service: Service, season: Season) -> None:
    ledger = Ledger(season, Database(season.url, season.folder))
    accounts = Accounts(ledger)
    schema = schemathesis.openapi.from_dict(make_app(season.path).openapi())
    asked: set[str] = set()
    for number, result in enumerate(schema.get_all_operations()):
        operation = result.ok()
        headers = {"X-Forwarded-For": f"198.18.{CALLERS.index(caller)}.{number}"}
        if caller != "nobody":  # one of its own for each: what is asked for may revoke it, or make too many
            team = ledger.teams()[0].name if caller == "team" else None  # it may have been given another name
            for token in accounts.tokens(team):
                if token.ended_at is None:
                    accounts.revoke(token.id, "Судья", "следующая операция")
            _, secret = accounts.make(team, f"№ {number}", "Судья")
            headers["Authorization"] = f"Bearer {secret}"
        ask_all(operation, service, headers)
        asked.add(operation.label)
    assert len(asked) > 5
    assert "Traceback" not in service.log.read_text(encoding="utf-8", errors="replace")


def test_the_description_is_served_and_needs_nothing_of_elsewhere(service: Service) -> None:
    with httpx2.Client(base_url=service.url, trust_env=False, timeout=300) as client:
        described = client.get("/api/openapi.json").json()
        assert "/api/v1/board" in described["paths"] and described["info"]["title"] == "Проба"
        page = client.get("/api/docs").text
        assert "//" not in page
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
            assert client.get(f"/api/docs/files/{name}").status_code == 200
