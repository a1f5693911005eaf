"""A season in one file, to be restored on another machine, at another path, in either kind of database.

The file is a tar (`packed`) of `backup.json`, what is known of the season; `database/`, all rows of one state of the
database (`dump`); and `season/`, the season's folder: season.toml as it is, keys, ZIPs, what runs that have ended left,
and what season.toml names, brought inside where it lies elsewhere.

Records of runs are sealed, and name files by their path from the run's folder. `places.json` in a restored season's
folder says where those that were brought inside lie, and `python -m evaluator verify` looks there.
"""

import contextlib
import json
import os
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import tomlkit
from sqlalchemy import Connection, func, select

from evaluator.competition.definition import FILE as COMPETITION_FILE
from evaluator.core import files, leftovers
from evaluator.core.errors import DataError, show
from evaluator.sandbox.record import PLACES, read_places
from evaluator.season import TEST_SETS, changes, dump, packed, schema
from evaluator.season.changes import Change
from evaluator.season.config import Season, read_season
from evaluator.season.database import URL_VARIABLE, open_database
from evaluator.season.site.build import KEY
from evaluator.season.store import PARTIAL, RESCORED, Shared, Store, open_store, partial, sweep

FORMAT = 1
ABOUT, DATABASE, FOLDER = "backup.json", "database/", "season/"
RULES = "season.toml"
BROUGHT = "brought"  # where what lies outside of the season's folder goes
_MAX_ABOUT_BYTES = 10**6
_SECRET = 0o600
_STARTED = (".", PARTIAL)  # names of files that are being written

Progress = Callable[[int, int], None]  # bytes that are done, and of all


@dataclass(frozen=True)
class BackedUp:
    """What a backup has: teams, submissions, runs that have ended, files and their bytes; the digests of stored ZIPs
    that were `missing`, or had other bytes than were sent (`damaged`: these are in it as they are).
    """

    teams: int
    submissions: int
    runs: int
    files: int
    bytes: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]


@dataclass(frozen=True)
class Restored:
    """A season that was restored into `folder`: its database's name for people, how many runs were under way when the
    backup was made, digests of ZIPs that the backup does not have, and the [storage] url that was taken out.
    """

    folder: Path
    database: str
    running: int
    missing: tuple[str, ...]
    storage: str | None


@dataclass(frozen=True)
class _Place:
    """What `rule`, a table and a key of season.toml, or else a change names as `stated`: `files` by their path below
    it, "." where it is a file itself. In the backup it has the path `name` below the season's folder.
    """

    rule: tuple[str, str] | None
    stated: str
    path: Path
    name: str
    files: Mapping[str, Path]


def back_up(rules: Path, target: Path, progress: Progress = lambda done, size: None) -> BackedUp:
    """Pack the season whose season.toml is `rules` into the file `target`, whole or not at all, while others work on.
    What earlier calls for the same file left, which were killed, is removed.

    Raises `DataError` for what cannot be read, and where `target` cannot be written.
    """
    season = read_season(rules)
    database = open_database(season)
    database.check()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming = f".{target.name}.{PARTIAL}"
        sweep(target.parent, incoming)
        with leftovers.private_folder("backup") as scratch, partial(target.parent, incoming) as (sink, temporary):
            with database.read() as connection:
                dump.write(connection, scratch)
                state = _State.read(connection)
            places = list(_places(season, state.changes))
            _relocate(scratch / dump.file(schema.change), {place.stated: place.name for place in places})
            found = _Packing(season, places, state, scratch, sink, progress).pack()
            sink.flush()
            os.fsync(sink.fileno())
            os.replace(temporary, target)
            return found
    except OSError as error:
        raise DataError(f"{error.filename or target}: {error.strerror or error}") from None
    finally:
        database.engine.dispose()


def restore(
    archive: Path, folder: Path, url: str | None = None, progress: Progress = lambda done, size: None
) -> Restored:
    """Unpack a season into a new `folder` and fill its database, which must be empty: that of `url`, which season.toml
    then names, or else the one that season.toml or the environment names.

    Every byte is checked before anything is put in place. Raises `DataError` where the file is damaged or of another
    version of the tables, and leaves nothing then.
    """
    if url is not None and os.environ.get(URL_VARIABLE):
        raise DataError(f"--url and {URL_VARIABLE} name a database each; give one of them")
    with leftovers.private_folder("restore") as rows, files.new_folder(folder) as new:
        about = _unpack(archive, rows, new, progress)
        storage = _move(new / RULES, about["moved"], url)
        season = read_season(new / RULES)
        database = open_database(season)
        try:
            with database.filling() as connection:
                dump.read(connection, rows)
        finally:
            database.engine.dispose()  # before the folder is renamed
        inside = database.shown.replace(str(new.resolve()), str(folder.resolve()))
    return Restored(folder, inside, about["running"], tuple(about["missing"]), storage)


@dataclass(frozen=True)
class _State:
    """What one state of the database refers to: sizes of ZIPs by digest, runs that have ended, the rest is counted."""

    teams: int
    submissions: int
    zips: Mapping[str, int]
    ended: tuple[int, ...]
    running: int
    changes: tuple[Change, ...]

    @classmethod
    def read(cls, connection: Connection) -> "_State":
        submission, run, job = schema.submission, schema.run, schema.job
        ended = select(run.c.id).where(run.c.id.not_in(select(job.c.run_id))).order_by(run.c.id)
        zips = connection.execute(select(submission.c.digest, submission.c.bytes).order_by(submission.c.id))
        return cls(
            connection.execute(select(func.count()).select_from(schema.team)).scalar_one(),
            connection.execute(select(func.count()).select_from(submission)).scalar_one(),
            dict(map(tuple, zips)),
            tuple(connection.execute(ended).scalars()),
            connection.execute(select(func.count()).select_from(job).where(job.c.token.is_not(None))).scalar_one(),
            tuple(Change(*row) for row in connection.execute(select(schema.change).order_by(schema.change.c.id))),
        )


class _Packing:
    """One backup, on its way into `sink`."""

    def __init__(
        self,
        season: Season,
        places: list[_Place],
        state: _State,
        scratch: Path,
        sink: IO[bytes],
        progress: Progress,
    ) -> None:
        self._season, self._places, self._state, self._scratch = season, places, state, scratch
        self._store = open_store(season)
        self._progress, self._done = progress, 0
        self._all = sum(state.zips.values()) + sum(path.stat().st_size for _, path in _named(places))
        self._writer = packed.Writer(sink, self._count)
        self._names: set[str] = set()
        self._missing: list[str] = []
        self._damaged: list[str] = []

    def pack(self) -> BackedUp:
        season, state = self._season, self._state
        found = {digest: opened for digest in state.zips if (opened := self._store.size(digest)) is not None}
        self._missing = [digest for digest in state.zips if digest not in found]
        self._writer.add_bytes(ABOUT, self._about())
        for name in dump.names():
            self._add(f"{DATABASE}{name}", self._scratch / name)
        self._add(FOLDER + RULES, season.path)
        if (season.folder / KEY).exists():
            self._add(FOLDER + KEY, season.folder / KEY)
        if moved := self._moved_files():
            self._writer.add_bytes(FOLDER + PLACES, json.dumps(moved, indent=1, sort_keys=True).encode())
        for name, path in _named(self._places):
            self._add(FOLDER + name, path)
        for digest, size in found.items():
            name = FOLDER + Store(Path()).archive(digest).as_posix()
            with self._store.open(digest) as file:
                if self._writer.add(name, file, size, 0o444) != digest:
                    self._damaged.append(digest)
            self._names.add(name)
        for run in state.ended:
            self._add_run(run)
        self._add_written(RESCORED)
        self._writer.seal()
        return BackedUp(
            state.teams,
            state.submissions,
            len(state.ended),
            len(self._names),
            self._done,
            tuple(self._missing),
            tuple(self._damaged),
        )

    def _about(self) -> bytes:
        about = {
            "format": FORMAT,
            "season": self._season.name,
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": schema.REVISION,
            "code": _commit(),
            "running": self._state.running,
            "missing": self._missing,
            "moved": [[*place.rule, place.name] for place in self._places if place.rule],
        }
        return json.dumps(about, ensure_ascii=False, indent=1).encode()

    def _add(self, name: str, path: Path) -> None:
        """A file as long as it is now; one that grows is a log."""
        if name in self._names:  # two keys of season.toml may name one file
            return
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            self._writer.add(name, file, status.st_size, stat.S_IMODE(status.st_mode))
        self._names.add(name)

    def _add_run(self, run: int) -> None:
        """What a run left in the season's folder, and in the storage, where results may have stayed."""
        name = Store(Path()).run(run).as_posix()
        self._add_written(name)
        if isinstance(self._store, Shared):
            brought = self._scratch / "run"
            self._store.bring(run, brought)
            for path in sorted(brought.iterdir()):
                self._add(f"{FOLDER}{name}/{path.name}", path)
                path.unlink()

    def _add_written(self, name: str) -> None:
        """What is whole in a folder of the season's that others write to; what they remove meanwhile is left out."""
        for inner, path in _files_below(self._season.folder / name, skip=True):
            with contextlib.suppress(FileNotFoundError):
                self._add(f"{FOLDER}{name}/{inner}", path)

    def _moved_files(self) -> dict[str, str]:
        """Where files lie in the backup, by the path that records of runs have for them: from the folder that runs/ is
        in, without links.
        """
        folder = self._season.folder
        base = (folder / "runs").resolve().parent
        moved = read_places(folder)  # of an earlier restore
        tops = [(place.path, place.name) for place in self._places] + [(folder / "submissions", "submissions")]
        for path, name in tops:
            moved[os.path.relpath(path.resolve(), base)] = name
        for place in self._places:
            top = place.path.resolve()
            for inner, path in place.files.items():
                if inner != "." and path.resolve() != top / inner:  # behind a link
                    moved[os.path.relpath(path.resolve(), base)] = f"{place.name}/{inner}"
        return {there: name for there, name in moved.items() if there != name}

    def _count(self, size: int) -> None:
        self._done += size
        self._progress(self._done, max(self._all, self._done))


def _places(season: Season, found: Sequence[Change]) -> Iterator[_Place]:
    """What season.toml and changes name beside the season's own files: test sets of before, too, as records of runs
    name them. Raises `DataError` where what holds now is not there.
    """
    with open(season.path, "rb") as file:
        stated = tomllib.load(file)
    now = set(changes.standing(season, found).season.data.values())
    named: list[tuple[tuple[str, str] | None, str, str, Path | None]] = [
        ((table, key), str(stated.get(table, {}).get(key)), key, path)
        for table, key, path in (
            *(("data", name, getattr(season, name)) for name in TEST_SETS),
            ("data", "assets", season.assets),
            ("data", "ruwordnet", season.ruwordnet),
            ("runs", "key_file", season.key_file),
            ("season", "competition", season.competition.folder),
        )
    ]
    for change in found:
        for key, path in change.detail.get("data", {}).items():
            named.append((None, path, f"{key}_{change.id}", season.folder / path))
    for rule, text, key, path in named:
        if path is None:
            continue
        is_test_set = rule is None or rule[1] in TEST_SETS
        if is_test_set and path not in now and not path.exists():
            continue
        where = f"[{rule[0]}] {rule[1]}" if rule else f"test set {key}"
        path = Path(os.path.normpath(path))
        inside = path.is_relative_to(season.folder)
        name = path.relative_to(season.folder).as_posix() if inside else f"{BROUGHT}/{key}"
        if key == "competition":  # its folder may have other things in it, and be the season's
            definition = season.competition.definition
            below = {inner: path / inner for inner in (COMPETITION_FILE, *definition.metrics, *definition.files)}
        elif season.folder.is_relative_to(path):
            raise DataError(f"season {season.path}: {where} is a folder that the season's lies in; move it")
        elif not path.exists():
            raise DataError(f"season {season.path}: {where}: {path} does not exist")
        else:
            below = dict(_files_below(path)) if path.is_dir() else {".": path}
        yield _Place(rule, text, path, name, below)


def _relocate(rows: Path, moved: Mapping[str, str]) -> None:
    """Have the changes name test sets where they lie in the backup."""
    lines = []
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "data" in row["detail"]:
            row["detail"]["data"] = {name: moved.get(path, path) for name, path in row["detail"]["data"].items()}
        lines.append(json.dumps(row) + "\n")
    rows.write_text("".join(lines), encoding="utf-8")


def _named(places: list[_Place]) -> Iterator[tuple[str, Path]]:
    """The files of all places, by their path below the season's folder."""
    for place in places:
        for inner, path in place.files.items():
            yield os.path.normpath(f"{place.name}/{inner}"), path


def _files_below(top: Path, skip: bool = False) -> Iterator[tuple[str, Path]]:
    """Regular files by their path below `top`, links followed; with `skip` without those that are being written, or are
    removed meanwhile.
    """
    seen = set()

    def fail(error: OSError) -> None:
        if not (skip and isinstance(error, FileNotFoundError)):
            raise error

    def look_at(path: str | Path) -> os.stat_result | None:
        try:
            return os.stat(path)
        except FileNotFoundError as error:
            fail(error)
            return None

    for folder, folders, names in os.walk(top, followlinks=True, onerror=fail):
        status = look_at(folder)
        if status is None or (status.st_dev, status.st_ino) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if skip and name.startswith(_STARTED):
                continue
            status = look_at(path)
            if status is None:
                continue
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} is no regular file")
            yield path.relative_to(top).as_posix(), path


def _unpack(archive: Path, rows: Path, new: Path, progress: Progress) -> dict[str, Any]:
    """Write the files of a backup into `rows` and `new`, check all of it; returns what is known of it."""
    about: dict[str, Any] | None = None
    try:
        size = archive.stat().st_size
        with open(archive, "rb") as file:
            for entry, content in packed.entries(file, str(archive)):
                if about is None:
                    about = _read_about(entry.name, content.read(_MAX_ABOUT_BYTES), archive)
                elif entry.name.startswith(DATABASE):
                    _write(rows, entry.name.removeprefix(DATABASE), content, 0o600)
                elif entry.name.startswith(FOLDER):
                    _write(new, entry.name.removeprefix(FOLDER), content, entry.mode & 0o777)
                else:
                    raise DataError(f"{archive} is damaged: {show(entry.name)} is nothing that a backup has")
                progress(file.tell(), size)
    except OSError as error:
        if error.filename == str(archive):
            raise DataError(f"{archive} cannot be read: {error.strerror}") from None
        raise
    if about is None:
        raise DataError(f"{archive} is empty")
    return about


def _read_about(name: str, content: bytes, archive: Path) -> dict[str, Any]:
    try:
        if name != ABOUT:
            raise ValueError
        about: dict[str, Any] = json.loads(content)
        number, revision, code = about["format"], about["revision"], about["code"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f"{archive} is damaged, or no backup: it does not begin with {ABOUT}") from None
    if (number, revision) != (FORMAT, schema.REVISION):
        raise DataError(
            f"{archive} has the tables of version {show(revision)} in format {show(number)}, this code has"
            f" {schema.REVISION} in format {FORMAT}: restore it with the code that it was made with"
            f" ({f'commit {show(code)}' if code else 'its commit is not known'}), then update that"
        )
    return about


def _write(folder: Path, name: str, content: packed.Counted, mode: int) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _SECRET), "wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
        os.fchmod(file.fileno(), mode)


def _move(rules: Path, moved: list[tuple[str, str, str]], url: str | None) -> str | None:
    """Have season.toml name what lies in its own folder now, and the database of `url`; all else stays as it was
    written. Returns the [storage] url, which is taken out: the folder has all that was there.
    """
    text = rules.read_text(encoding="utf-8")
    stated, document = tomllib.loads(text), tomlkit.parse(text)
    for table, key, name in moved:
        if os.path.normpath(stated[table][key]) != name:
            document[table][key] = name
    if url is not None:
        document.setdefault("database", tomlkit.table())["url"] = url
    storage: str | None = stated.get("storage", {}).get("url")
    if storage is not None:
        del document["storage"]["url"]
        document["storage"].add(tomlkit.comment(f"url was {storage} when the backup was made"))
    mode = stat.S_IMODE(rules.stat().st_mode)
    files.write_text(rules, tomlkit.dumps(document))
    rules.chmod(mode)
    return storage


def _commit() -> str | None:
    """The code's commit, with `-dirty` where files are changed; None where it lies in no repository."""
    # The repository may be another user's, of whom git would be wary.
    git = ["git", "-c", "safe.directory=*", "-C", str(Path(__file__).parent)]
    command = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None
