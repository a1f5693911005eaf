"""A season's backup holds all of it, is found out where a byte of it changes, and is restored as the season was."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy

from evaluator.cli.app import main
from evaluator.core.errors import DataError
from evaluator.sandbox import record
from evaluator.season import PRIVATE, PUBLIC, actions, backup, board, dump, rescore, schema
from evaluator.season.config import Season, read_season
from evaluator.season.database import URL_VARIABLE, Database, open_database
from evaluator.season.ledger import Ledger
from evaluator.season.organize import Organizer
from tests.support.data import build_data
from tests.support.season import (
    NOON,
    TASK,
    TRUTH,
    Clock,
    archive,
    enter,
    failed,
    failures,
    labelled,
    public_state,
    scored,
    write_season,
)

ROOT = Path(backup.__file__).parents[2]


@pytest.fixture
def played(ledger: Ledger, clock: Clock) -> Ledger:
    """A season with results of both test sets, choices, failures, a run under way and one that waits."""
    for name in ("public", "private"):
        build_data(ledger.season.folder / "data" / name, (TASK,))
    first = enter(ledger, "Ёжики", 1, labelled(0.1 + 0.2, "ruCLIP: запасной 🦔"))
    enter(ledger, "Кот", 2, failed("INFRA", "infra"))
    second = enter(ledger, "Кот", 3, labelled(1 / 3, "ruCLIP: запасной 🦔"))
    clock.forward(hours=1)
    job = ledger.claim("worker")
    assert job is not None and ledger.finish(job, failed("EXIT", "team"))
    ledger.choose("Ёжики", [first])
    clock.now = NOON + timedelta(days=20)
    ledger.queue_finals()
    for value in (0.7, -0.2):
        job = ledger.claim("worker")
        assert job is not None and ledger.finish(job, scored(value))
    clock.now = NOON
    ledger.submit("Ёжики", archive(4))
    assert ledger.claim("worker") is not None
    ledger.submit("Кот", archive(5))
    for digest in {archive(content).digest for content in (1, 2, 3, 4)}:
        path = ledger.season.folder / "submissions" / f"{digest}.zip"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(digest.encode())
    (ledger.season.folder / "site.key").write_text("s" * 64)
    (ledger.season.folder / "site.key").chmod(0o600)
    assert first and second
    return ledger


@contextlib.contextmanager
def opened(season: Season, clock: Clock) -> Iterator[Ledger]:
    database = open_database(season)
    yield Ledger(season, database, clock)
    database.engine.dispose()


def rows(database: Database, folder: Path) -> dict[str, str]:
    folder.mkdir()
    with database.read() as connection:
        dump.write(connection, folder)
    return {name: (folder / name).read_text() for name in dump.names()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_season_goes_from_either_database_to_either(
    played: Ledger, clock: Clock, tmp_path: Path, other_url: str
) -> None:
    """Every row is as it was, and what reads and writes them goes on."""
    before = rows(played.database, tmp_path / "before")
    found = backup.back_up(played.season.path, tmp_path / "backup.tar")
    assert (found.teams, found.submissions, found.missing) == (2, 5, (archive(5).digest,))
    assert len(found.damaged) == 4  # they are no ZIPs, and are kept all the same
    assert (tmp_path / "backup.tar").stat().st_mode & 0o777 == 0o600

    restored = backup.restore(tmp_path / "backup.tar", tmp_path / "other" / "place", other_url)
    assert (restored.running, restored.missing) == (1, (archive(5).digest,))
    season = read_season(tmp_path / "other" / "place" / "season.toml")
    assert season.url == other_url
    assert (season.folder / "site.key").stat().st_mode & 0o777 == 0o600
    for folder in ("data", "submissions"):
        assert tree(season.folder / folder) == tree(played.season.folder / folder)

    with opened(season, clock) as ledger:
        assert rows(ledger.database, tmp_path / "after") == before
        for test_set in (PUBLIC, PRIVATE):
            assert board.lines(ledger, test_set) == board.lines(played, test_set)
        assert ledger.choices() == played.choices()
        # The same is done in both; numbers go on, and so does the run that was under way.
        for each in (played, ledger):
            with pytest.raises(sqlalchemy.exc.DatabaseError, match="history is never rewritten"):
                with each.database.write() as connection:
                    connection.exec_driver_sql("UPDATE score SET value = 1")
            with pytest.raises(sqlalchemy.exc.DatabaseError, match="a total must be in the range"):
                with each.database.write() as connection:
                    connection.exec_driver_sql(
                        "INSERT INTO result (run_id, submission_id, test_set, total) VALUES (3, 4, 'public', 7)"
                    )
            each.add_team("Третьи")
        clock.forward(hours=1)
        for each in (played, ledger):
            (queued,) = [state for state in each.waiting() if state.kind == "queued"]
            enter_all(each, queued.submission.id)
        states = [[dataclasses.astuple(state) for state in each.states()] for each in (played, ledger)]
        assert states[0] == states[1]
        assert public_state(ledger, 4) == "OK" and ledger.history(4)[2][2] == "lost"
    assert rows(played.database, tmp_path / "went on").keys() == before.keys()


def enter_all(ledger: Ledger, waiting: int) -> None:
    """End all runs well, the one whose lease has run out among them."""
    ended = set()
    while job := ledger.claim("worker"):
        assert ledger.finish(job, labelled(0.5, "ruCLIP: запасной 🦔"))
        ended.add(job.submission.id)
    assert {4, waiting} <= ended


def test_a_run_that_was_scored_verifies_on_another_path(
    make_running: Callable[..., Season],
    make_zip: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    url: str,
) -> None:
    """With test sets and key outside of the season's folder, behind links, and the original gone; and restored again.
    Boards, prizes, and what was scored again with a corrected truth and changed, are those of before.
    """
    season = make_running(url, public='"../far/public/"  # here', private=f'"{tmp_path}/season/data/private"')
    (tmp_path / "far").mkdir()
    shutil.move(season.folder / "data" / "public", tmp_path / "far" / "real")
    (tmp_path / "far" / "public").symlink_to("real")
    (tmp_path / "far" / "key").write_text("k" * 32)
    (tmp_path / "far" / "key").chmod(0o600)
    text = season.path.read_text(encoding="utf-8").replace("[runs]", '[runs] # how\nkey_file = "../far/key"')
    season.path.write_text(text, encoding="utf-8")
    call(season, "submit", make_zip(), "--team", "Ёжики")
    call(season, "queue", "run", "--drain")
    assert not record.verify(season.folder / "runs/1/record.json", b"k" * 32)
    ledger = actions.open_ledger(season.path)
    organizer = Organizer(ledger, "судья")
    organizer.rename("Ёжики", "Ежи", "так просили")
    truth = shutil.copytree(tmp_path / "far/real", tmp_path / "far/corrected") / "ground_truth.json"
    truth.write_text(truth.read_text(encoding="utf-8").replace(TRUTH, f"{TRUTH}!"), encoding="utf-8")
    request = rescore.Request(PUBLIC, tmp_path / "far/corrected")
    assert rescore.rescore(organizer, request, "исправлена истина", print).change
    build_data(season.folder / "data" / "third", (TASK,))
    organizer.add_test_set("finals", season.folder / "data" / "third", "для финала")
    ledger.database.engine.dispose()
    (season.folder / "runs/1/.log.txt.99.tmp").write_text("partial")
    (season.folder / "runs/2").mkdir()
    (season.folder / "runs/2/log.txt").write_text("of no run that has ended")
    call(season, "season", "backup", tmp_path / "backup.tar")
    capfd.readouterr()
    call(season, "board", "--json", "-")
    call(season, "prizes", "--json", "-")
    shown = capfd.readouterr().out

    os.rename(tmp_path / "season", tmp_path / "gone")
    os.rename(tmp_path / "far", tmp_path / "gone away")
    first, second = tmp_path / "a" / "deeper" / "place", tmp_path / "b"
    assert main(words("season", "restore", tmp_path / "backup.tar", "--folder", first, "--url", "sqlite:///s.db")) == 0
    again = read_season(first / "season.toml")
    assert again.path.read_text(encoding="utf-8") == text.replace("../far/public/", "brought/public").replace(
        f"{tmp_path}/season/data/private", "data/private"
    ).replace("../far/key", "brought/key_file").replace(f'"{url}"', '"sqlite:///s.db"')
    assert (first / "brought/key_file").stat().st_mode & 0o777 == 0o600
    assert not (first / "runs/2").exists() and set(os.listdir(first / "runs/1")) >= {"scores.json", "record.json"}
    assert "partial" not in [path.read_text(errors="replace") for path in (first / "runs/1").iterdir()]
    assert main(words("season", "backup", tmp_path / "again.tar", "--season", again.path)) == 0
    assert main(words("season", "restore", tmp_path / "again.tar", "--folder", second)) == 0
    shutil.rmtree(first)
    capfd.readouterr()
    restored = read_season(second / "season.toml")
    call(restored, "board", "--json", "-")
    call(restored, "prizes", "--json", "-")
    assert without_time(capfd.readouterr().out) == without_time(shown)
    assert failures(restored.path) == ["public and private"]  # which ask the same here
    ledger = actions.open_ledger(restored.path)
    assert {name: path.relative_to(second).as_posix() for name, path in ledger.rules().data.items()} == {
        "public": "brought/public_2",
        "private": "data/private",
        "finals": "data/third",
    }
    assert list((second / "rescored").rglob("scores.json"))
    assert tree(second / "rescored") == tree(tmp_path / "gone" / "rescored")
    ledger.database.engine.dispose()
    found = second / "runs/1/record.json"
    assert main(words("verify", found, "--key-file", second / "brought/key_file")) == 0
    truth = second / "brought/public/ground_truth.json"
    truth.write_bytes(truth.read_bytes() + b" ")
    (finding,) = record.verify(found, b"k" * 32)
    assert finding.rule == "file-changed" and finding.where.endswith("ground_truth.json'")


def words(*parts: object) -> list[str]:
    return [str(part) for part in parts]


def call(season: Season, *parts: object) -> None:
    assert main(words(*parts, "--season", season.path)) == 0


def without_time(text: str) -> list[str]:
    return [line for line in text.splitlines() if "computed_at" not in line]


# --- damage ---


@pytest.fixture
def whole(played: Ledger, tmp_path: Path) -> Path:
    backup.back_up(played.season.path, tmp_path / "whole.tar")
    return tmp_path / "whole.tar"


sqlite_only = pytest.mark.parametrize("url", ["sqlite:///season.sqlite3"])


def refused(archive: Path, tmp_path: Path, why: str) -> None:
    before = set(os.listdir(tmp_path))
    with pytest.raises(DataError, match=why):
        backup.restore(archive, tmp_path / "restored")
    assert set(os.listdir(tmp_path)) == before


@sqlite_only
def test_every_changed_byte_is_found(whole: Path, tmp_path: Path) -> None:
    """Of each entry one byte of its header, its first, and its last; what stands between entries may be anything."""
    content = whole.read_bytes()
    with tarfile.open(whole) as tar:
        entries = tar.getmembers()
    places = [entry.offset + 3 for entry in entries]
    places += [
        place for entry in entries if entry.size for place in (entry.offset_data, entry.offset_data + entry.size - 1)
    ]
    damaged = tmp_path / "damaged.tar"
    for place in places:
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        refused(damaged, tmp_path, f"^{damaged} (is damaged|has the tables of version)")


@sqlite_only
def test_one_that_is_cut_off_is_found(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    with tarfile.open(whole) as tar:
        *others, last = tar.getmembers()
    largest = max(others, key=lambda entry: entry.size)
    cut = tmp_path / "cut.tar"
    inside = largest.offset_data + largest.size // 2
    for size in (0, 100, 5000, inside, len(content) // 2, last.offset, last.offset_data + last.size - 1):
        cut.write_bytes(content[:size])
        refused(cut, tmp_path, f"^{cut} is (damaged|empty)")


def rewritten(whole: Path, path: Path, change: Callable[[list[tuple[tarfile.TarInfo, bytes]]], None]) -> Path:
    """A tar of the same entries after a `change`, well-formed."""
    with tarfile.open(whole) as tar:
        entries = [(entry, tar.extractfile(entry).read()) for entry in tar.getmembers()]  # type: ignore[union-attr]
    change(entries)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry, content in entries:
            tar.addfile(entry, io.BytesIO(content))
    return path


@sqlite_only
def test_entries_that_were_swapped_or_added_are_found(whole: Path, tmp_path: Path) -> None:
    def swap(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        first, second = [i for i, (entry, _) in enumerate(entries) if entry.name.endswith(".zip")][:2]
        a, b = entries[first][0], entries[second][0]
        a.name, b.name = b.name, a.name

    def lead_out(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entries.insert(1, (plain("season/../../evil"), b""))

    def be_absolute(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entries.insert(1, (plain(f"{tmp_path}/evil"), b""))

    def link(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entry = plain("season/runs")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/tmp"
        entries.insert(1, (entry, b""))

    def twice(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entries.insert(3, entries[2])

    def after_the_end(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entries.append((plain("season/more"), b""))

    def add(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        entries.insert(1, (plain("season/more"), b""))

    for change, why in (
        (swap, "has the SHA-256"),
        (lead_out, "nobody packed"),
        (be_absolute, "nobody packed"),
        (link, "nobody packed"),
        (twice, "nobody packed"),
        (after_the_end, "stands after SHA256SUMS"),
        (add, "season/more has the SHA-256 .* packed was None"),
    ):
        refused(rewritten(whole, tmp_path / f"{change.__name__}.tar", change), tmp_path, why)
    (tmp_path / "text.tar").write_text("no tar" * 1000)
    refused(tmp_path / "text.tar", tmp_path, "is damaged or cut off")
    refused(tmp_path / "none.tar", tmp_path, "cannot be read: No such file")


def plain(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


@sqlite_only
def test_another_version_of_the_tables_says_what_restores_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "REVISION", "9999")
    refused(whole, tmp_path, "this code has 9999 in format 1: restore it with the code that it was made with")


def test_only_an_empty_database_and_a_new_folder_are_filled(
    played: Ledger, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The season's own database is none, and stays as it is."""
    backup.back_up(played.season.path, tmp_path / "backup.tar")
    before = rows(played.database, tmp_path / "before")
    theirs = url if url.startswith("postgresql") else f"sqlite:///{played.season.folder}/season.sqlite3"
    with pytest.raises(DataError, match="is not empty"):
        backup.restore(tmp_path / "backup.tar", tmp_path / "restored", theirs)
    assert rows(played.database, tmp_path / "after") == before
    with pytest.raises(DataError, match="exists; name a folder that does not"):
        backup.restore(tmp_path / "backup.tar", played.season.folder)
    monkeypatch.setenv(URL_VARIABLE, url)
    with pytest.raises(DataError, match="name a database each"):
        backup.restore(tmp_path / "backup.tar", tmp_path / "restored", "sqlite:///new.sqlite3")
    assert not (tmp_path / "restored").exists()


def test_rows_that_the_database_refuses_leave_nothing(played: Ledger, tmp_path: Path, other_url: str) -> None:
    """A backup that somebody made, with digests that are right and a score that no task can have."""
    backup.back_up(played.season.path, tmp_path / "backup.tar")

    def raise_score(entries: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        for number, (entry, content) in enumerate(entries):
            if entry.name == "database/score.jsonl":
                old = hashlib.sha256(content).hexdigest().encode()
                content = content.replace(b'"value": 0', b'"value": 9')
                entry.size, entries[number] = len(content), (entry, content)
        sums, listed = entries[-1]
        entries[-1] = (
            sums,
            listed.replace(old, hashlib.sha256(content_of(entries, "database/score.jsonl")).hexdigest().encode()),
        )

    made = rewritten(tmp_path / "backup.tar", tmp_path / "made.tar", raise_score)
    outside = other_url if other_url.startswith("postgresql") else f"sqlite:///{tmp_path}/outside.sqlite3"
    for _ in range(2):  # the database is as empty as before
        with pytest.raises(DataError, match="a score must be at most the best one"):
            backup.restore(made, tmp_path / "restored", outside)
        assert not (tmp_path / "restored").exists() and not (tmp_path / "outside.sqlite3").exists()
    backup.restore(tmp_path / "backup.tar", tmp_path / "restored", outside)


def content_of(entries: list[tuple[tarfile.TarInfo, bytes]], name: str) -> bytes:
    (content,) = [content for entry, content in entries if entry.name == name]
    return content


@sqlite_only
def test_a_backup_that_fails_leaves_the_one_before(played: Ledger, tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"
    backup.back_up(played.season.path, target)
    before = target.read_bytes()
    shutil.rmtree(played.season.private)
    with pytest.raises(DataError, match=r"\[data\] private: .* does not exist"):
        backup.back_up(played.season.path, target)
    assert target.read_bytes() == before and set(os.listdir(tmp_path)) == {"season", "backup.tar"}


# --- while others work ---


def test_one_state_is_backed_up_while_others_write(
    played: Ledger, clock: Clock, tmp_path: Path, other_url: str
) -> None:
    """A writer enters submission after submission, with its ZIP; each backup has as many ZIPs as its rows name."""
    stop = threading.Event()
    entered: list[int] = []
    season = played.season

    def write() -> None:
        database = Database(season.url, season.folder)
        ledger = Ledger(season, database, clock)
        for number in range(1000, 10**6):
            if stop.is_set():
                break
            ledger.add_team(f"Команда {number}")
            sent = archive(number)
            (season.folder / "submissions" / f"{sent.digest}.zip").write_bytes(b"")
            ledger.submit(f"Команда {number}", sent)
            entered.append(number)
        database.engine.dispose()

    def wait_for_another() -> None:
        before = len(entered)
        while len(entered) == before:
            assert writer.is_alive()
            time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = []
        for number in range(4):
            wait_for_another()  # a busy machine may enter none during a backup
            found.append(backup.back_up(season.path, tmp_path / f"{number}.tar"))
    finally:
        stop.set()
        writer.join()
    assert found[0].submissions < found[-1].submissions
    for each in found:
        assert each.missing == (archive(5).digest,) and each.submissions - each.teams in (3, 2)
    restored = backup.restore(tmp_path / "3.tar", tmp_path / "restored", other_url)
    with opened(read_season(restored.folder / "season.toml"), clock) as ledger:
        assert len(ledger.states()) >= found[-1].submissions
        stored = {path.stem for path in (restored.folder / "submissions").iterdir()}
        assert stored == {state.submission.digest for state in ledger.states()} - {archive(5).digest}


@sqlite_only
def test_what_is_removed_meanwhile_is_left_out(played: Ledger, tmp_path: Path) -> None:
    """As an output whose time is over, while another file of its folder is packed."""
    run = played.season.folder / "runs/1"
    run.mkdir(parents=True)
    (run / "log.txt").write_bytes(b"x" * 54321)
    (run / "output.zip").write_bytes(b"answers")
    before = [0]

    def remove(done: int, size: int) -> None:
        if done - before[0] == 54321:
            (run / "output.zip").unlink()
        before[0] = done

    backup.back_up(played.season.path, tmp_path / "backup.tar", remove)
    assert not (run / "output.zip").exists()
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert [name for name in tar.getnames() if "/runs/" in name] == ["season/runs/1/log.txt"]


@sqlite_only
def test_a_kill_leaves_the_backup_of_before(played: Ledger, tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"
    backup.back_up(played.season.path, target)
    before = target.read_bytes()
    code = (
        "import os, pathlib, sys; from evaluator.season import backup; "
        "backup.back_up(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]),"
        " lambda done, size: os.kill(os.getpid(), 9) if done > 3000 else None)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(played.season.path), str(target)], cwd=ROOT)
    assert done.returncode == -9 and target.read_bytes() == before
    (left,) = set(os.listdir(tmp_path)) - {"season", "backup.tar"}
    (tmp_path / f"{left}.mine").mkdir()  # is none of a backup's, whatever it is called
    backup.back_up(played.season.path, tmp_path / "other.tar")  # may still be one of a call under way
    assert (tmp_path / left).exists()
    backup.back_up(played.season.path, target)
    assert set(os.listdir(tmp_path)) == {"season", "backup.tar", "other.tar", f"{left}.mine"}
    assert target.stat().st_mode & 0o777 == 0o600


# --- a storage elsewhere ---


def test_zips_and_runs_come_from_the_storage(tmp_path: Path, clock: Clock) -> None:
    """They are in the restored season's folder, and the [storage] url is no more in force."""
    season = write_season(tmp_path / "season", "sqlite:///season.sqlite3")
    with open(season.path, "a", encoding="utf-8") as file:
        file.write(f'\n[storage]\nurl = "{tmp_path}/storage" # theirs\n')
    season = read_season(season.path)
    for name in ("public", "private"):
        build_data(season.folder / "data" / name, (TASK,))
    database = open_database(season)
    database.migrate()
    database.engine.dispose()
    with opened(season, clock) as ledger:
        ledger.add_team("Ёжики")
        (tmp_path / "sent.zip").write_bytes(b"a ZIP")
        digest = actions.digest(tmp_path / "sent.zip")
        actions.open_store(season).add(tmp_path / "sent.zip", digest)
        enter(ledger, "Ёжики", dataclasses.replace(archive(1), digest=digest), scored(0.5))
    (tmp_path / "storage/runs/1").mkdir(parents=True)
    (tmp_path / "storage/runs/1/scores.json").write_text("{}")
    (season.folder / "runs/1").mkdir(parents=True)
    (season.folder / "runs/1/log.txt").write_text("here alone")
    assert backup.back_up(season.path, tmp_path / "backup.tar").missing == ()
    restored = backup.restore(tmp_path / "backup.tar", tmp_path / "restored")
    assert restored.storage == f"{tmp_path}/storage"
    again = read_season(tmp_path / "restored/season.toml")
    assert again.storage is None and "url was" in again.path.read_text(encoding="utf-8")
    with actions.open_store(again).open(digest) as zip_file:
        assert zip_file.read() == b"a ZIP"
    found = tree(again.folder / "runs")
    assert found == {"1/scores.json": b"{}", "1/log.txt": b"here alone"}


@sqlite_only
def test_a_competition_of_ones_own_comes_along(played: Ledger, tmp_path: Path) -> None:
    """Beside season.toml, too, with the files that it names and no others."""
    folder = tmp_path / "mine"
    folder.mkdir()
    source = ROOT / "evaluator/competition/fbc2/competition.toml"
    shutil.copy(source, folder / "competition.toml")
    (folder / "other").write_text("is none of it")
    text = played.season.path.read_text(encoding="utf-8")
    text = text.replace("[season]", '[season]\ncompetition = "../mine"')
    played.season.path.write_text(text, encoding="utf-8")
    backup.back_up(played.season.path, tmp_path / "backup.tar")
    restored = backup.restore(tmp_path / "backup.tar", tmp_path / "restored")
    season = read_season(restored.folder / "season.toml")
    assert season.competition.folder == restored.folder / "brought/competition"
    assert os.listdir(restored.folder / "brought/competition") == ["competition.toml"]
    assert json.loads((restored.folder / record.PLACES).read_text())["../mine"] == "brought/competition"
