"""The prizes: by whom, by what file, and what is said of those that are out."""

import json
import os
import statistics
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluator.cli.app import main
from evaluator.core import leftovers
from evaluator.core.errors import DataError
from evaluator.season import PRIVATE, PUBLIC, board, prizes
from evaluator.season.config import Season
from evaluator.season.database import Database
from evaluator.season.ledger import Archive, Ledger
from evaluator.season.site.build import build
from evaluator.season.store import Shared, Store
from tests.support.season import Clock, enter, failed, put_zip, scored, write_season

LATER = datetime(2022, 10, 25, tzinfo=UTC)


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
        sent = put_zip(season, number, kg, twin=team != "Сом", broken=team == "Рак")
        submission = enter(ledger, team, sent, scored(total))
        private[submission] = {0: 0.7, 1: 0.96}.get(number, total)
        if team in ("Пёс", "Лис"):  # out for their scores: nothing of them is read
            Store(season.folder).archive(sent.digest).unlink()
    finals(ledger, clock, private)
    for number in range(20):  # what pulls the mean down
        ledger.add_team(f"x{number}")
    lines = board.lines(ledger, PRIVATE)
    digests = {state.submission.id: state.submission.digest for state in ledger.states()}
    green = prizes.sustainable(lines, season, Store(season.folder), digests)
    assert green.baseline == 0.36 and green.beating == 6
    # Of 0.96, four of 0.95 and 0.5: mean 0.877, deviation 0.168, so that nobody reaches 1.045.
    assert green.winners == () and {place.cause for place in green.places} == {"threshold", "baseline"}

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
    assert document["main"][0] == {**lines[0].to_json(season), "eligible": True, "missed": {}, "amount": None}


def enter_late(ledger: Ledger, clock: Clock, team: str, content: int) -> int:
    """A submission of an earlier day."""
    clock.now = datetime(2022, 10, 4 + content % 10, 9, tzinfo=UTC)
    return enter(ledger, team, content, scored(0.4))


def test_results_are_preliminary_until_no_run_can_change_them(
    season: Season, ledger: Ledger, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A public run that waits, and then one that is an infrastructure failure, may still be a team's best."""
    path, out = tmp_path / "prizes.json", tmp_path / "site"

    def shown(private: int, public: int) -> None:
        line = f"Preliminary: runs not done: private {private}, public {public}"
        build(ledger, out, private=True)
        capsys.readouterr()
        assert main(["prizes", "--season", str(season.path), "--json", str(path)]) == 0
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document["not_done"] == {"private": private, "public": public}
        assert document["preliminary"] == (private + public > 0) == (line in capsys.readouterr().out)
        for name in ("private.html", "prizes.html"):
            page = (out / "public" / name).read_text(encoding="utf-8")
            assert ("Preliminary" in page) == (f"{line}." in page) == (private + public > 0)

    zips = [put_zip(season, number, 1.0) for number in range(3)]
    private = {enter(ledger, "Ёжики", zips[0], scored(0.9)): 0.9, enter(ledger, "Кот", zips[1], scored(0.8)): 0.8}
    ledger.choose("Кот", list(private)[1:])
    broken = enter(ledger, "Кот", 3, failed("METRIC_ERROR", "infra"))  # of a team that chose: changes nothing
    late, _ = ledger.submit("Ёжики", zips[2])
    clock.now = LATER
    shown(private=2, public=1)
    job = ledger.claim("worker")
    assert job and job.submission == late
    ledger.finish(job, failed("METRIC_ERROR", "infra"))
    finals(ledger, clock, private)
    shown(private=0, public=1)
    assert main(["queue", "finals", "--season", str(season.path)]) == 0
    printed = capsys.readouterr().out
    assert "2 public runs ended as infrastructure failures: retry or cancel them, then do this again" in printed
    ledger.retry(late.id, PUBLIC, "починили")
    shown(private=0, public=1)
    job = ledger.claim("worker")
    assert job
    ledger.finish(job, scored(0.95))
    shown(private=1, public=0)  # its private run is not even queued
    finals(ledger, clock, private | {late.id: 0.95})
    shown(private=0, public=0)
    assert broken in {state.submission.id for state in ledger.waiting()}


@pytest.fixture
def winner(season: Season, ledger: Ledger, clock: Clock) -> tuple[Season, Ledger, Archive]:
    """A season whose prize Ёжики win with 2 kg before Кот with 3 kg, and the ZIP of Ёжики's."""
    sent = {team: put_zip(season, team, kg) for team, kg in (("Ёжики", 2.0), ("Кот", 3.0))}
    private = {enter(ledger, team, sent[team], scored(0.9)): 0.9 for team in sent}
    for number in range(6):
        ledger.add_team(f"x{number}")
        private[enter(ledger, f"x{number}", number, scored(0.4))] = 0.4
    finals(ledger, clock, private)
    return season, ledger, sent["Ёжики"]


def award(season: Season, ledger: Ledger, store: Store | Shared) -> tuple[str, ...]:
    digests = {state.submission.id: state.submission.digest for state in ledger.states()}
    return prizes.sustainable(board.lines(ledger, PRIVATE), season, store, digests).winners


@pytest.mark.parametrize("fault", ["gone", "damaged", "unreadable"])
def test_a_storage_that_fails_decides_nothing_and_the_old_site_stays(
    winner: tuple[Season, Ledger, Archive], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    season, ledger, sent = winner
    out = tmp_path / "site"
    build(ledger, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert award(season, ledger, Store(season.folder)) == ("Ёжики",)
    path = Store(season.folder).archive(sent.digest)
    if fault == "damaged":
        other = put_zip(season, "Кот", 9.0)  # a good ZIP, but not the one that was sent
        path.write_bytes(Store(season.folder).archive(other.digest).read_bytes())
    else:
        path.unlink()
    if fault == "unreadable":
        path.mkdir()
    for store in (Store(season.folder), Shared(f"file://{season.folder}")):
        with pytest.raises(DataError, match="team 'Ёжики': the ZIP of its private result cannot be read: .*"):
            award(season, ledger, store)
    assert main(["prizes", "--season", str(season.path)]) == 2
    assert main(["site", "--season", str(season.path), "--out", str(out), "--private"]) == 2
    shown = capsys.readouterr()
    assert "sustainable solution" not in shown.out and shown.err.count("data error: team 'Ёжики': ") == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.glob(".site*")] == []


def test_only_zips_of_teams_that_are_in_are_fetched_and_nothing_of_them_is_left(
    winner: tuple[Season, Ledger, Archive], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    season, ledger, sent = winner
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    fetched = []

    class Watched(Shared):
        def fetch(self, digest: str, target: Path) -> None:
            super().fetch(digest, target)
            fetched.append((digest, target.parent))

    killed = leftovers.PrivateFolder("zip")
    assert killed._lock is not None
    os.close(killed._lock)  # as the kernel does
    (killed.path / "submission.zip").write_bytes(b"PK")
    assert award(season, ledger, Watched(str(season.folder))) == ("Ёжики",)
    assert len(fetched) == 2 and fetched[0][0] == sent.digest
    assert all(folder.parent == tmp_path / "temporary" for _, folder in fetched)
    assert list((tmp_path / "temporary").iterdir()) == []


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
