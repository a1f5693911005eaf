"""What `season check` says before the first day."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evaluator import competition
from evaluator.competition.definition import FILE as COMPETITION_FILE
from evaluator.metrics.nano import NanoEncoders
from evaluator.season import PRIVATE, PUBLIC, check
from evaluator.season.check import FAILURE, OK, WARNING, Line
from evaluator.season.config import Season, read_season
from evaluator.season.database import Database
from evaluator.season.ledger import Ledger
from tests.support.data import build_data
from tests.support.season import TASK, archive, enter, publish, scored, write_season

DAYS = {"start": "2080-01-01", "end": "2080-01-20", "choose_until": "2080-01-22", "time_zone": '"Europe/Moscow"'}


@pytest.fixture
def make(tmp_path: Path, url: str) -> Iterator[Callable[..., Season]]:
    """Makes a season that is to begin, with a public and a private test set that have nothing in common."""
    databases: list[Database] = []

    def make(more: str = "", **replace: str) -> Season:
        folder = tmp_path / "season"
        for name in (PUBLIC, PRIVATE):
            if not (folder / "data" / name).exists():
                build_data(folder / "data" / name, (TASK,))
        _ask_otherwise(folder / "data" / PRIVATE)
        settings = {"lease_seconds": "60", "retry_seconds": "300", "runner": '"local"'}
        season = write_season(folder, url, **(settings | DAYS | replace))
        season.path.write_text(season.path.read_text(encoding="utf-8") + more, encoding="utf-8")
        databases.append(Database(season.url, season.folder))
        databases[-1].migrate()
        return read_season(season.path)

    yield make
    for database in databases:
        database.engine.dispose()


def _ask_otherwise(folder: Path) -> None:
    """Other ids and other questions than the public ones."""
    for name in ("input.json", "ground_truth.json", "sample_ids.json"):
        document = json.loads((folder / name).read_text(encoding="utf-8"))
        if any(id.startswith("private") for id in document):
            return
        changed = {f"private-{id}": entries for id, entries in document.items()}
        if name == "input.json":
            for entries in changed.values():
                entries.append({"type": "text", "content": "и ещё"})
        (folder / name).write_text(json.dumps(changed, ensure_ascii=False), encoding="utf-8")


def look(season: Season, *subjects: str, workers: int | None = None) -> list[Line]:
    """The lines of these subjects that are not ok."""
    lines = list(check.examine(season.path, workers))
    assert lines, "something is always said"
    return [line for line in lines if line.subject in subjects and line.state != OK]


def test_of_a_season_that_can_begin_nothing_is_a_failure(make: Callable[..., Season]) -> None:
    lines = list(check.examine(make().path))
    assert [str(line) for line in lines if line.state == FAILURE] == []
    by_subject = {line.subject: line for line in lines}
    assert by_subject["days"].state == by_subject["zone"].state == by_subject["clock"].state == OK
    assert "3 examples of 1 tasks, digest " in by_subject[PUBLIC].found
    assert by_subject["public and private"] == Line(OK, "public and private", "have no id and no example in common")
    assert by_subject["runner"].state == WARNING and "without a container" in by_subject["runner"].found
    assert all(line.fix for line in lines if line.state != OK)
    assert "web" not in by_subject, "it is served nowhere"


@pytest.mark.parametrize(
    ("more", "replace", "subject", "state", "found"),
    [
        ("\n[limits]\nmemory = 100\n", {}, "limits", FAILURE, "[limits] memory is 100 bytes, with which no run can"),
        ("\n[limits]\ntime = 5\n", {}, "limits", FAILURE, "[limits] time is 5 s, with which no run can"),
        ("\n[limits]\nunpacked = 15\n", {}, "limits", FAILURE, "[limits] unpacked is 15 bytes"),
        ("", {"lease_seconds": "1"}, "limits", WARNING, "[runs] lease_seconds is 1 s: a worker that is busy"),
        ("", {"retry_seconds": "0"}, "limits", WARNING, "[runs] retry_seconds is 0 s: all tries of a run end"),
        ("", {"start": "2020-01-01"}, "days", WARNING, "2020-01-01 to 2080-01-20"),
        ("", {"start": "2020-01-01", "end": "2020-01-02"}, "days", FAILURE, "nothing can be sent any more"),
        (
            *("", {"start": "2020-01-01", "end": "2020-01-02", "choose_until": "2020-01-03"}, "days", FAILURE),
            "2020-01-01 to 2020-01-02, choices until 2020-01-03: all past, today is 20",
        ),
        (
            *("", {"start": "2026-10-01", "end": "2026-12-01", "choose_until": "2080-12-01"}, "zone", OK),
            "Europe/Moscow: it is ",
        ),
        (
            *("", DAYS | {"time_zone": '"Europe/Berlin"', "start": "2026-09-01", "choose_until": "2080-01-22"}, "zone"),
            *(WARNING, "; the clock there is changed during the season"),
        ),
        ("\n[thresholds]\n5 = 0.9\n", {}, "formula", WARNING, "the baseline misses thresholds: TRitW 0.36 < 0.9"),
        ("\n[limits]\ngpus = 0\n", {"5": "0.5"}, "formula", WARNING, "the weights add up to 0.5, not to 1"),
        ("", {"country": '"ZZ"\nkey_file = "none.key"'}, "key", FAILURE, "key file "),
        ('\n[web]\nurl = "http://fbc.example.org"\n', {}, "web", WARNING, "can be read on their way"),
        ('\n[web]\nurl = "http://1.1.1.1:80"\n', {}, "web", WARNING, "can be read on their way"),
        ('\n[web]\nurl = "https://fbc.example.org/"\nkeep_free_gb = 0\n', {}, "web", OK, "https://fbc.example.org"),
        ('\n[web]\nurl = "http://[::1]:8000"\nkeep_free_gb = 0\n', {}, "web", OK, "http://[::1]:8000"),
        ('\n[web]\nurl = "http://localhost:8000"\n', {}, "web", OK, "http://localhost:8000"),
        (
            *('\n[web]\nurl = "http://10.0.0.7"\nkeep_free_gb = 1000000\n', {}, "web", FAILURE),
            "less than [web] keep_free_gb, 1000000.0 GB: no upload is taken",
        ),
        ("", {"public": '"data/none"'}, PUBLIC, FAILURE, "data/none does not exist or is not a folder"),
        ("", {"private": '"data/public"'}, "public and private", FAILURE, "are the same folder"),
    ],
)
def test_what_will_go_wrong_is_said(
    make: Callable[..., Season], more: str, replace: dict[str, str], subject: str, state: str, found: str
) -> None:
    lines = [line for line in check.examine(make(more, **replace).path) if line.subject == subject]
    assert [line.state for line in lines if found in line.found] == [state], lines


def test_a_zone_says_when_its_next_midnight_is(make: Callable[..., Season]) -> None:
    season = make(time_zone='"Asia/Kolkata"')
    lines = check._days(season, datetime(2079, 12, 31, 20, 0, tzinfo=UTC), False)
    found = next(line.found for line in lines if line.subject == "zone")
    assert found.startswith("Asia/Kolkata: it is 2080-01-01 01:30 there (UTC+05:30); attempts are new at midnight, ")
    assert found.endswith(", 2080-01-02 00:00 (UTC+05:30)")


def test_rules_and_a_database_that_are_not_there(tmp_path: Path) -> None:
    (line,) = check.examine(tmp_path / "season.toml")
    assert (line.state, line.subject) == (FAILURE, "rules") and "cannot be read" in line.found
    season = write_season(tmp_path, "sqlite:///s.sqlite3", **DAYS)
    lines = {line.subject: line for line in check.examine(season.path)}
    assert lines["database"].state == FAILURE and lines["database"].fix == "python -m evaluator season migrate"
    assert lines[PUBLIC].state == FAILURE  # the rest is looked at


def test_sets_that_share_examples_or_ids(make: Callable[..., Season]) -> None:
    season = make()
    shutil.rmtree(season.private)
    shutil.copytree(season.public, season.private)
    same, ids = look(season, "public and private")
    assert (same.state, ids.state) == (FAILURE, WARNING)
    assert same.found.startswith("3 of 3 private examples ask what a public one does: '")
    assert "3 ids are in both" in ids.found
    document = json.loads((season.private / "input.json").read_text(encoding="utf-8"))
    for entries in document.values():
        entries.append({"type": "text", "content": "и ещё"})
    (season.private / "input.json").write_text(json.dumps(document), encoding="utf-8")
    (ids,) = look(season, "public and private")
    assert ids.state == WARNING and "3 ids are in both" in ids.found


def test_data_and_stand_ins_beside_what_results_have_pinned(make: Callable[..., Season]) -> None:
    season = make(start="2020-01-01", end="2080-01-20")
    build_data(season.folder / "data" / "captions", (TASK, 3))
    text = season.path.read_text(encoding="utf-8").replace('"data/public"', '"data/captions"')
    season.path.write_text(text, encoding="utf-8")
    (line,) = look(season, "assets")
    assert line.state == WARNING and NanoEncoders.label in line.found
    assert line.found.endswith("; the first result of public pins that for all"), "private needs no encoders"

    database = Database(season.url, season.folder)
    ledger = Ledger(season, database)
    ledger.add_team("Ёжики")
    enter(ledger, "Ёжики", archive("a"), scored(0.5))
    (line,) = look(season, PUBLIC)
    assert line.state == FAILURE and f"results so far were made with {'d' * 64}" in line.found
    assert "put the data back" in line.fix
    (line,) = look(season, "assets")
    assert line.state == FAILURE and "public results so far have no labels, a run here has the labels" in line.found
    assert NanoEncoders.label in line.found
    labels = line.found.partition("a run here has the labels ")[2].split("; ")
    publish(ledger, {1: 0.5}, labels=labels)
    assert look(season, "assets") == [], "what stands in is what stood in"
    database.engine.dispose()


def test_clocks_that_differ(make: Callable[..., Season], monkeypatch: pytest.MonkeyPatch) -> None:
    season = make(start="2020-01-01")
    late = datetime.now(UTC) + timedelta(hours=1)
    monkeypatch.setattr("evaluator.season.check.utc_now", lambda: late)
    database = Database(season.url, season.folder)
    lines = look(season, "clock")
    assert [line.state for line in lines] == ([] if database.sqlite else [WARNING])  # which has this machine's
    assert all(line.found.startswith("the database's is 3") and "s apart from" in line.found for line in lines)
    monkeypatch.undo()
    ledger = Ledger(season, database, lambda _: late)
    ledger.add_team("Ёжики")
    ledger.submit("Ёжики", archive("a"))
    (line,) = look(season, "clock")
    assert line.state == FAILURE and "behind what was entered last" in line.found
    database.engine.dispose()


def test_room_is_for_all_runs_at_a_time(make: Callable[..., Season]) -> None:
    small = "".join(f'{name} = "1MB"\n' for name in ("unpacked", "output", "archive"))
    season = make(f'\n[limits]\nmemory = "200MB"\ncpus = 0.5\ngpus = 0\n{small}')
    assert look(season, "memory", "cpus", "disk", "gpus", workers=1) == []
    subjects = {line.subject: line for line in look(season, "memory", "cpus", workers=1000)}
    assert subjects.keys() == {"memory", "cpus"}
    assert "1000 runs at a time may use 0.2 GB each" in subjects["memory"].found
    assert "fewer --workers" in subjects["cpus"].fix


def test_an_absent_engine_is_a_failure_by_the_runner(make: Callable[..., Season], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    (line,) = look(make(runner='"docker"'), "engine")
    assert line.state == FAILURE and "no Docker engine answers" in line.found
    engine, runner = look(make(runner='"auto"'), "engine", "runner")
    assert (engine.state, runner.state) == (WARNING, WARNING) and "without a container" in runner.found


def test_without_gpus_in_the_limits_none_is_missed(make: Callable[..., Season]) -> None:
    season = make("\n[limits]\ngpus = 0\n", runner='"docker"')
    lines = [line for line in check.examine(season.path) if line.subject in ("gpu", "gpus")]
    assert lines == [Line(OK, "gpu", "the limits give a run none")]


@pytest.mark.docker
def test_an_image_that_no_run_needs_may_be_missing(
    make: Callable[..., Season], base_image: str, tmp_path: Path
) -> None:
    default, other = "fusionbrain/no-such:latest", "fusionbrain/none-either:1"
    stated = (Path(competition.__file__).parent / "fbc2" / COMPETITION_FILE).read_text(encoding="utf-8")
    own = tmp_path / "season" / "own" / COMPETITION_FILE
    own.parent.mkdir(parents=True)
    own.write_text(stated.replace('"fusionbrain/fbc2:latest"', f'"{default}"'), encoding="utf-8")
    settings = {"name": '"Проба"\ncompetition = "own"', "start": "2020-01-01"}

    def states(runner: str = "docker") -> dict[str, str]:
        """Those of the images by name."""
        lines = [line for line in check.examine(make(runner=f'"{runner}"', **settings).path) if line.subject == "image"]
        names = [next(name for name in (default, other, base_image) if name in line.found) for line in lines]
        return dict(zip(names, (line.state for line in lines), strict=True))

    def submit(image: str) -> None:
        sent = archive(image)
        ledger.submit("Ёжики", dataclasses.replace(sent, metadata=dataclasses.replace(sent.metadata, image=image)))

    season = make(**settings)
    assert season.competition.definition.image == default
    assert states() == {default: FAILURE}, "it is the one that teams are given"
    database = Database(season.url, season.folder)
    ledger = Ledger(season, database)
    ledger.add_team("Ёжики")
    submit(base_image)
    assert states() == {default: WARNING, base_image: OK}
    submit(other)
    assert states() == {default: WARNING, base_image: OK, other: FAILURE}
    assert states("auto") == {default: WARNING, base_image: OK, other: WARNING}
    submit(default)
    assert states() == {default: FAILURE, base_image: OK, other: FAILURE}
    database.engine.dispose()


def test_the_command_ends_with_2_where_something_will_go_wrong(
    make: Callable[..., Season], capsys: pytest.CaptureFixture[str]
) -> None:
    from evaluator.cli.app import main

    season = make()
    assert main(["season", "check", "--season", str(season.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 failures, ")
    season = make("\n[limits]\nmemory = 100\n")
    assert main(["season", "check", "--json", "-", "--season", str(season.path)]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["failures"] == 1 and document["warnings"] == sum(
        line["state"] == WARNING for line in document["lines"]
    )
    assert {"state": FAILURE, "subject": "limits"}.items() <= next(
        line for line in document["lines"] if line["state"] == FAILURE
    ).items()
