"""The prizes: by whom, by what file, and what is said of those that are out."""

import json
import statistics
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluator import emission
from evaluator.__main__ import main
from evaluator.season import PRIVATE, board, prizes
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from evaluator.season.rules import Season
from evaluator.season.store import Store
from tests.evaluator.test_prize import files
from tests.season.conftest import Clock, archive, enter, scored, write_season

LATER = datetime(2022, 10, 25, tzinfo=UTC)


def put_zip(season: Season, content: object, kg: float | None, twin: bool = True) -> None:
    """The stored ZIP of a submission that `enter` made, with an emission.csv of so much CO2."""
    path = Store(season.folder).archive(archive(content).digest)
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("run.py", "print()")
        if kg is not None:
            plain, encoded = files(kg)
            file.writestr(emission.NAME, plain)
            if twin:
                file.writestr(emission.TWIN, encoded)


def finals(ledger: Ledger, clock: Clock, scores: dict[int, float]) -> None:
    """The private runs, with these totals by submission."""
    clock.now = LATER
    ledger.queue_finals()
    while job := ledger.claim("worker"):
        assert job.test_set == PRIVATE
        ledger.finish(job, scored(scores[job.submission.id]))


@pytest.fixture
def url() -> str:
    return "sqlite:///season.sqlite3"


def test_the_file_counts_that_lies_in_the_zip_of_the_private_result(
    season: Season, ledger: Ledger, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for team in ("Ёлка 🎄", "Пёс", "Лис", "Сом", "Рак", "Ворон"):
        ledger.add_team(team)
    private = {}
    for number, (team, total, kg) in enumerate(
        [
            ("Ёжики", 0.95, 5.0),  # its other one is better in private
            ("Ёжики", 0.9, 2.0),
            ("Кот", 0.95, 3.0),
            ("Ёлка 🎄", 0.95, None),
            ("Пёс", 0.5, 0.1),
            ("Лис", 0.3, 0.1),
            ("Сом", 0.95, 1.0),
            ("Рак", 0.95, None),
        ]
    ):
        submission = enter(ledger, team, number, scored(total))
        private[submission] = {0: 0.7, 1: 0.96}.get(number, total)
        if team != "Рак":  # whose ZIP is gone
            put_zip(season, number, kg, twin=team != "Сом")
    finals(ledger, clock, private)
    for number in range(20):  # what pulls the mean down
        ledger.add_team(f"x{number}")
    lines = board.lines(ledger, PRIVATE)
    digests = {state.submission.id: state.submission.digest for state in ledger.states()}
    green = prizes.sustainable(lines, season, Store(season.folder), digests)
    assert green.baseline == 0.36 and green.beating == 6
    # Of 0.96, four of 0.95 and 0.5: mean 0.877, deviation 0.168, so that nobody reaches 1.045.
    assert green.winners == () and {place.cause for place in green.places} == {"threshold", "baseline", "problem"}

    for number in range(30):
        private[enter_late(ledger, clock, f"x{number % 20}", 100 + number)] = 0.4
    finals(ledger, clock, private)
    lines = board.lines(ledger, PRIVATE)
    digests = {state.submission.id: state.submission.digest for state in ledger.states()}
    green = prizes.sustainable(lines, season, Store(season.folder), digests)
    places = {place.team: place for place in green.places}
    above = [0.96, *[0.95] * 4, 0.5, *[0.4] * 20]
    assert green.beating == 26
    assert green.threshold == pytest.approx(statistics.mean(above) + statistics.pstdev(above))
    assert [(place.team, place.rank, place.kg) for place in green.places if place.rank] == [
        ("Ёжики", 1, pytest.approx(2.0)),
        ("Кот", 2, pytest.approx(3.0)),
    ]
    causes = {team: places[team].cause for team in ("Ёлка 🎄", "Пёс", "Лис", "Сом", "Рак")}
    assert causes == {
        "Ёлка 🎄": "no-file",
        "Пёс": "threshold",
        "Лис": "baseline",
        "Сом": "faults",
        "Рак": "problem",
    }
    assert "emission.csv cannot be read" in (places["Рак"].reason or "")

    path = tmp_path / "prizes.json"
    assert main(["prizes", "--season", str(season.path), "--json", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "The most sustainable solution: Ёжики" in shown and "out: sent no emission.csv" in shown
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["season"] == "Проба" and document["sustainable"] == json.loads(json.dumps(green.to_json()))
    assert [each["team"] for each in document["main"]] == [line.team for line in lines if line.rank]
    assert document["main"][0] == {**lines[0].to_json(), "eligible": True, "missed": {}}


def enter_late(ledger: Ledger, clock: Clock, team: str, content: int) -> int:
    """A submission of an earlier day."""
    clock.now = datetime(2022, 10, 4 + content % 10, 9, tzinfo=UTC)
    return enter(ledger, team, content, scored(0.4))


def test_a_team_whose_private_run_is_not_done_has_no_score_yet(season: Season, ledger: Ledger, clock: Clock) -> None:
    enter(ledger, "Кот", 1, scored(0.5))
    clock.now = LATER
    ledger.queue_finals()
    lines = board.lines(ledger, PRIVATE)
    green = prizes.sustainable(lines, season, Store(season.folder), {})
    assert [(place.team, place.cause) for place in green.places] == [("Кот", "no-score")]
    assert prizes.main_prize(lines, season) == []


def test_without_results_nobody_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3")
    database = Database(season.url, season.folder)
    database.migrate()
    database.engine.dispose()
    assert main(["prizes", "--season", str(season.path)]) == 0
    assert "The most sustainable solution: none" in capsys.readouterr().out
