"""What teams send: files that grow as bytes come, whatever breaks meanwhile, and are submissions once they are whole.

An upload has a folder of its own below uploads/ of the season's folder: `INFO` says whose it is and what it shall be,
`ZIP` has the bytes so far, `CHECKED` what the look at the whole of it found, `RESULT` what came of it. How many bytes
have come is the size of the file alone, so that all which was acknowledged is there after a `kill -9`: bytes are
acknowledged when the kernel has them. A power cut may take some of these; then the digest, which is compared before
anything else is done, does not match. What was accepted is on disk.

Bytes are hashed as they come. After a restart those that are there are hashed by and by, in a thread (`catch_up`).

A team has one upload of a ZIP, however often it asks for it. Whoever asks for its offset or sends to it last has the
upload: another connection, which may be dead without anybody knowing, is ended, and its bytes count (`_turn`).

One process at a time has the folder. Each step of finishing can be done again, so the next one goes on wherever this
one was killed.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import anyio
import anyio.abc
import anyio.to_thread
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import InterfaceError, OperationalError

from evaluator.core.errors import DataError, EvaluatorError
from evaluator.core.files import write_json
from evaluator.core.text import gigabytes
from evaluator.core.verdict import OK
from evaluator.package.metadata import Metadata
from evaluator.season.ledger import Archive, Ledger, Refused, Submission, Team
from evaluator.season.store import open_store
from evaluator.web.checking import Checks
from evaluator.web.problems import Problem, not_found
from evaluator.web.protocol import (
    ACCEPTED,
    CHECKING,
    CHECKSUM_MISMATCH,
    FAILED,
    FAULTY,
    RECEIVING,
    REFUSED,
    Ending,
    State,
    Upload,
)

logger = logging.getLogger(__name__)

FOLDER, LOCK = "uploads", "lock"
INFO, ZIP, CHECKED, RESULT = "info.json", "submission.zip", "checked.json", "result.json"

MAX_UNDER_WAY = 3  # uploads of a team that have not ended
MAX_ENDED = 100  # of a team, that are remembered
IDLE_SECONDS = 60.0  # that a connection may bring nothing
SWEEP_SECONDS = 300.0
DATABASE_SECONDS = 2.0  # between two tries to enter a submission while the database does not answer
WRITERS, HASHERS, FINISHERS = 4, 2, 2  # at a time
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Info(BaseModel):
    """What was said when an upload began; `metadata` is the header's text, `name` and `digest` stand in it."""

    model_config = ConfigDict(frozen=True)

    team: int
    by: str
    name: str
    digest: str
    length: int
    metadata: str
    created_at: datetime


class Incoming:
    """An upload; `touched` is when something happened to it last, in seconds since the epoch.

    Its methods take time and belong into threads; `turn`, `newest`, `scope` and `finished` are of the event loop.
    """

    def __init__(self, folder: Path, info: Info) -> None:
        self.folder, self.info, self.zip = folder, info, folder / ZIP
        self.turn = anyio.Lock()
        self.newest: object = None
        self.scope: anyio.CancelScope | None = None
        self.is_catching_up = False
        self.finished = anyio.Event()
        self.state: State = RECEIVING
        self._lock = threading.Lock()
        self._hash, self._hashed = hashlib.sha256(), 0
        self.offset, self.touched = 0, time.time()

    @classmethod
    def make(cls, parent: Path, info: Info) -> "Incoming":
        """A new one, without bytes."""
        folder = parent / secrets.token_hex(16)
        folder.mkdir()
        try:
            (folder / ZIP).touch()
            write_json(folder / INFO, info.model_dump(mode="json"))
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder, info)

    @classmethod
    def load(cls, folder: Path) -> "Incoming":
        """One that another process left. Raises FileNotFoundError or ValueError where it was killed while it made or
        removed it, OSError where it cannot be read.
        """
        incoming = cls(folder, Info.model_validate_json((folder / INFO).read_bytes()))
        if (folder / RESULT).exists():
            incoming.state, incoming.touched = incoming.ending().state, (folder / RESULT).stat().st_mtime
        elif incoming.has_bytes:
            incoming.state = CHECKING
        else:
            found = incoming.zip.stat()
            incoming.offset, incoming.touched = found.st_size, found.st_mtime
            return incoming
        incoming.offset = incoming.info.length
        return incoming

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def lags(self) -> bool:
        """Whether there are bytes that were not hashed."""
        return self._hashed < self.offset

    @property
    def has_bytes(self) -> bool:
        """Whether all bytes are here, or in the store: they go there after `CHECKED` was written."""
        try:
            return self.zip.stat().st_size >= self.info.length
        except FileNotFoundError:
            return (self.folder / CHECKED).exists()

    def open(self) -> IO[bytes]:
        """The file, to `append`."""
        return open(self.zip, "r+b", buffering=0)

    def append(self, file: IO[bytes], chunk: bytes) -> None:
        """Write to the end. Raises OSError; what was written until then counts."""
        with self._lock:
            file.seek(self.offset)
            rest = memoryview(chunk)
            while rest:
                written = file.write(rest)
                if self._hashed == self.offset:
                    self._hash.update(rest[:written])
                    self._hashed += written
                self.offset += written
                rest = rest[written:]
            self.touched = time.time()

    def cut(self, file: IO[bytes], offset: int) -> None:
        """Take back what was written from `offset` on."""
        with self._lock:
            file.truncate(offset)
            self.offset = offset
            if self._hashed > offset:
                self._hash, self._hashed = hashlib.sha256(), 0

    def catch_up(self, ending: threading.Event) -> str:
        """Hash what was not hashed as it came, unless the service is `ending`; returns the SHA-256 of the bytes so
        far.
        """
        with open(self.zip, "rb") as file:
            while True:
                if ending.is_set():
                    raise EvaluatorError(f"{self.zip} was not hashed to its end")
                with self._lock:  # so often that bytes which come meanwhile do not wait
                    if self._hashed >= self.offset:
                        return self._hash.hexdigest()
                    chunk = os.pread(file.fileno(), min(_CHUNK, self.offset - self._hashed), self._hashed)
                    if not chunk:
                        raise EvaluatorError(f"{self.zip} became shorter than {self.offset} bytes")
                    self._hash.update(chunk)
                    self._hashed += len(chunk)

    def checked(self) -> dict[str, Any] | None:
        """What the look at it found, where there was one and all was well."""
        try:
            document: dict[str, Any] = json.loads((self.folder / CHECKED).read_bytes())
        except FileNotFoundError:
            return None
        return document

    def ending(self) -> Ending:
        """What came of it, where it has ended."""
        state = self.state  # before it is read, as it may end meanwhile
        try:
            return Ending.model_validate_json((self.folder / RESULT).read_bytes())
        except FileNotFoundError:
            return Ending(state=state)

    def end(self, ending: Ending) -> None:
        """Remember what came of it. Its bytes stay where they can be of use once more."""
        write_json(self.folder / RESULT, ending.model_dump(mode="json"))
        self.offset, self.state, self.touched = self.info.length, ending.state, time.time()
        if ending.state in (ACCEPTED, FAULTY):
            self.zip.unlink(missing_ok=True)

    def reopen(self) -> None:
        """Forget what came of it: it will be finished once more."""
        self.state, self.touched = CHECKING, time.time()
        (self.folder / RESULT).unlink(missing_ok=True)


class Receiving:
    """The uploads of a season, `async with receiving.running()`.

    Raises `Problem` for what is asked wrongly, `Refused` for what the season's rules do not allow, `DataError` where
    another process has the folder.
    """

    def __init__(self, ledger: Ledger) -> None:
        season = ledger.season
        self.max_bytes = season.limits.archive
        self._ledger, self._season = ledger, season
        self._folder = season.folder / FOLDER
        self._seconds, self._keep_free = season.upload_hours * 3600, int(season.keep_free_gb * 1e9)
        self._all: dict[str, Incoming] = {}
        self._making, self._ending = threading.Lock(), threading.Event()
        self._entering: defaultdict[int, anyio.Lock] = defaultdict(anyio.Lock)  # by team

    def check(self) -> None:
        """Raises `DataError` where `running` could not begin: to be told before anything is served."""
        with self._locked():
            pass

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Take and finish uploads, those too that another process left, until the block ends."""
        self._writers, self._hashers, self._finishers = map(anyio.CapacityLimiter, (WRITERS, HASHERS, FINISHERS))
        self._checks = Checks(self.max_bytes, self._season.limits.unpacked)
        with self._locked():
            await anyio.to_thread.run_sync(self._load)
            async with self._checks, anyio.create_task_group() as self._tasks:
                for incoming in self._all.values():
                    if incoming.state == CHECKING:
                        self._tasks.start_soon(self._finish, incoming)
                self._tasks.start_soon(self._sweep)
                try:
                    yield
                finally:
                    self._ending.set()
                    self._tasks.cancel_scope.cancel()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._folder.mkdir(exist_ok=True)
            lock = open(self._folder / LOCK, "w")
        except OSError as error:
            raise DataError(f"uploads cannot be taken into {self._folder}: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(
                    f"another process takes uploads into {self._folder}; a season has one service"
                ) from None
            yield

    def _load(self) -> None:
        for folder in self._folder.iterdir():
            if not folder.is_dir():
                continue
            try:
                incoming = Incoming.load(folder)
            except (FileNotFoundError, ValueError) as error:
                logger.warning("what is left of an upload in %s is removed: %s", folder, type(error).__name__)
                shutil.rmtree(folder, ignore_errors=True)
                continue
            except OSError as error:  # it may have bytes that were acknowledged
                raise DataError(f"{error.filename or folder} cannot be read: {error.strerror}") from None
            if incoming.state == FAILED and incoming.has_bytes:
                incoming.reopen()
            self._all[incoming.id] = incoming

    # --- what clients ask for ---

    async def create(self, team: Team, by: str, name: str, digest: str, length: int, metadata: str) -> Incoming:
        """The team's upload of a ZIP: a new one, or the one there is, which may have ended."""
        if length > self.max_bytes:
            raise Problem(413, f"the ZIP has {length} bytes; at most {self.max_bytes} are taken")
        sent = await anyio.to_thread.run_sync(self._ledger.admit, team.name, digest)
        if sent is not None:
            await anyio.to_thread.run_sync(self._ledger.send_again, team.name, sent.id, by)
        now = datetime.now(UTC)
        info = Info(team=team.id, by=by, name=name, digest=digest, length=length, metadata=metadata, created_at=now)
        incoming = await anyio.to_thread.run_sync(self._find_or_make, info, sent)
        if incoming.state in (REFUSED, FAILED) or (sent is not None and incoming.state != ACCEPTED):
            async with self._turn(incoming):
                if sent is not None and incoming.state != CHECKING:
                    await anyio.to_thread.run_sync(incoming.end, _accepted(sent, False))
                elif incoming.state in (REFUSED, FAILED):
                    await anyio.to_thread.run_sync(incoming.reopen)
                    self._tasks.start_soon(self._finish, incoming)
        return incoming

    def find(self, team: Team, id: str) -> Incoming:
        """A team's upload. Raises `Problem` (404), for another team's, too."""
        incoming = self._all.get(id)
        if incoming is None or incoming.info.team != team.id or self._is_over(incoming):
            raise not_found("such upload")
        return incoming

    async def all_of(self, team: Team) -> list[Upload]:
        """A team's uploads, the latest first."""
        mine = [one for one in self._listed() if one.info.team == team.id and not self._is_over(one)]
        mine.sort(key=lambda incoming: incoming.info.created_at, reverse=True)
        return await anyio.to_thread.run_sync(lambda: [self._shown(incoming) for incoming in mine])

    async def shown(self, incoming: Incoming) -> Upload:
        """An upload as its team sees it."""
        return await anyio.to_thread.run_sync(self._shown, incoming)

    def _shown(self, incoming: Incoming) -> Upload:
        info, ending = incoming.info, incoming.ending()
        return Upload(
            **ending.model_dump(),
            id=incoming.id,
            name=info.name,
            digest=info.digest,
            length=info.length,
            offset=incoming.offset,
            created_at=info.created_at,
            expires_at=self.expires_at(incoming),
        )

    def expires_at(self, incoming: Incoming) -> datetime:
        """When an upload is forgotten, if nothing happens to it."""
        return datetime.fromtimestamp(incoming.touched + self._seconds, UTC)

    async def wait(self, incoming: Incoming, seconds: float) -> None:
        """Wait for what comes of an upload that is whole, so long at most."""
        if incoming.state == CHECKING:
            with anyio.move_on_after(seconds):
                await incoming.finished.wait()

    async def offset(self, incoming: Incoming) -> int:
        """How many bytes have come; whatever connection still brought some is ended."""
        async with self._turn(incoming):
            return incoming.offset

    async def remove(self, incoming: Incoming) -> None:
        """Forget an upload, with its bytes."""
        async with self._turn(incoming):
            if incoming.state == CHECKING:
                raise Problem(409, "the upload is being checked; wait for what comes of it")
            await anyio.to_thread.run_sync(self._remove, incoming)

    async def receive(
        self, incoming: Incoming, offset: int, chunks: AsyncIterator[bytes], checksum: tuple[str, bytes] | None = None
    ) -> int:
        """Write what comes from `offset` on; returns how many bytes have come then. `checksum` is the name of a hash
        and what it must be of these bytes, which are taken back where it is not; those of a connection that breaks
        before stay, as the whole file has its digest.
        """
        async with self._turn(incoming):
            if offset != incoming.offset:
                raise Problem(409, f"the upload is at byte {incoming.offset}, not {offset}")
            if incoming.state != RECEIVING:
                return await self._nothing(incoming, chunks)
            if shutil.disk_usage(self._folder).free < self._keep_free:
                raise Problem(507, "the disk is full; go on later")
            if incoming.lags and not incoming.is_catching_up:
                self._tasks.start_soon(self._catch_up, incoming)
            try:
                await self._write(incoming, chunks, checksum)
            finally:
                if incoming.offset == incoming.info.length:
                    incoming.state = CHECKING
                    self._tasks.start_soon(self._finish, incoming)
            return incoming.offset

    async def _nothing(self, incoming: Incoming, chunks: AsyncIterator[bytes]) -> int:
        """Somebody sends to an upload that is whole, not knowing it."""
        async for chunk in _paced(chunks):
            if chunk:
                raise Problem(413, f"the upload has all of its {incoming.info.length} bytes")
        return incoming.offset

    async def _write(
        self, incoming: Incoming, chunks: AsyncIterator[bytes], checksum: tuple[str, bytes] | None
    ) -> None:
        run, start = partial(anyio.to_thread.run_sync, limiter=self._writers), incoming.offset
        counted = hashlib.new(checksum[0]) if checksum else None
        try:
            with await run(incoming.open) as file:
                async for chunk in _paced(chunks):
                    if incoming.offset + len(chunk) > incoming.info.length:
                        raise Problem(413, f"more than the {incoming.info.length} bytes announced")
                    await run(incoming.append, file, chunk)
                    if counted is not None:
                        counted.update(chunk)
                if checksum and counted is not None and counted.digest() != checksum[1]:
                    await run(incoming.cut, file, start)
                    raise Problem(CHECKSUM_MISMATCH, f"the {checksum[0]} of what came is another: send it again")
        except OSError as error:
            raise _full(error) from None

    @contextlib.asynccontextmanager
    async def _turn(self, incoming: Incoming) -> AsyncIterator[None]:
        """Have an upload alone, until somebody else wants it. Raises `Problem` (423) then, or 404."""
        taken = Problem(423, "another connection goes on with this upload")
        incoming.newest = mine = object()
        if incoming.scope is not None:
            incoming.scope.cancel()
        async with incoming.turn:
            if incoming.newest is not mine:
                raise taken
            if incoming.id not in self._all:  # it was removed meanwhile
                raise not_found("such upload")
            with anyio.CancelScope() as scope:
                incoming.scope = scope
                try:
                    yield
                finally:
                    incoming.scope = None
        if scope.cancelled_caught:
            raise taken

    # --- places ---

    def _find_or_make(self, info: Info, sent: Submission | None) -> Incoming:
        with self._making:
            mine = [incoming for incoming in self._listed() if incoming.info.team == info.team]
            for incoming in mine:
                is_same = (incoming.info.digest, incoming.info.length) == (info.digest, info.length)
                if is_same and not self._is_over(incoming):
                    if incoming.state != FAILED or sent is not None or incoming.has_bytes:
                        return incoming
                    self._remove(incoming)
            ended = [one for one in mine if one.state not in (RECEIVING, CHECKING) and one.id in self._all]
            for incoming in sorted(ended, key=lambda incoming: incoming.touched)[: -MAX_ENDED + 1]:
                self._remove(incoming)
            if sent is None:
                self._check_room(info)
            try:
                incoming = Incoming.make(self._folder, info)
            except OSError as error:
                raise _full(error) from None
            self._all[incoming.id] = incoming
            return incoming

    def _check_room(self, info: Info) -> None:
        under_way = [incoming for incoming in self._listed() if incoming.state in (RECEIVING, CHECKING)]
        if sum(incoming.info.team == info.team for incoming in under_way) >= MAX_UNDER_WAY:
            raise Refused(f"a team has at most {MAX_UNDER_WAY} uploads under way: finish or cancel one")
        missing = sum(incoming.info.length - incoming.offset for incoming in under_way)
        if shutil.disk_usage(self._folder).free < self._keep_free + missing + info.length:
            raise Problem(507, f"there is no room for {gigabytes(info.length)} now; try again later")

    def _listed(self) -> list[Incoming]:
        """All uploads, which may come and go in other threads meanwhile."""
        return list(self._all.values())

    def _is_over(self, incoming: Incoming) -> bool:
        return incoming.state != CHECKING and incoming.touched + self._seconds < time.time()

    def _remove(self, incoming: Incoming) -> None:
        self._all.pop(incoming.id, None)
        shutil.rmtree(incoming.folder, ignore_errors=True)

    async def _sweep(self) -> None:
        while True:
            for incoming in self._listed():
                if self._is_over(incoming) and incoming.scope is None:
                    await anyio.to_thread.run_sync(self._remove, incoming)
            await anyio.sleep(SWEEP_SECONDS)

    # --- whole files ---

    async def _catch_up(self, incoming: Incoming) -> None:
        incoming.is_catching_up = True
        try:
            await self._hash(incoming)
        except (OSError, EvaluatorError) as error:  # finishing it tells
            logger.warning("upload %s: %s", incoming.id, error)
        finally:
            incoming.is_catching_up = False

    async def _hash(self, incoming: Incoming) -> str:
        """The SHA-256 of all bytes. It is not waited for when the service ends."""
        hash = partial(incoming.catch_up, self._ending)
        return await anyio.to_thread.run_sync(hash, limiter=self._hashers, abandon_on_cancel=True)

    async def _finish(self, incoming: Incoming) -> None:
        try:
            while True:
                try:
                    async with self._finishers:
                        ending = await self._conclude(incoming)
                    break
                except Refused as refused:
                    ending = Ending(state=REFUSED, reason=str(refused))
                    break
                except (OperationalError, InterfaceError) as error:  # away for a while: it was acknowledged
                    logger.warning(
                        "upload %s waits for the database: %s", incoming.id, " ".join(str(error.orig).split())
                    )
                    await anyio.sleep(DATABASE_SECONDS)
            await anyio.to_thread.run_sync(incoming.end, ending)
        except Exception:
            logger.exception("upload %s cannot be finished", incoming.id)
            told = EvaluatorError("the service could not finish this upload; its log says why").to_json()
            incoming.state, incoming.touched = FAILED, time.time()
            with contextlib.suppress(OSError):  # a disk that is full, which the log has by now
                await anyio.to_thread.run_sync(incoming.end, Ending(state=FAILED, **told))
        finally:
            incoming.finished.set()
            incoming.finished = anyio.Event()

    async def _conclude(self, incoming: Incoming) -> Ending:
        call = anyio.to_thread.run_sync
        document = await call(incoming.checked)
        if document is None:
            found = await self._hash(incoming)
            if found != incoming.info.digest:
                await call(incoming.zip.unlink)
                reason = f"the SHA-256 of what came is {found}: it was changed or damaged on the way; send it again"
                return Ending(state=FAILED, reason=reason)
            document = await self._checks.look(incoming.zip)
            if document["verdict"] != OK.name:
                return Ending(state=FAULTY if document["fault"] == "team" else FAILED, **document)
            await call(write_json, incoming.folder / CHECKED, document)
        async with self._entering[incoming.info.team]:
            submission, is_new = await call(self._enter, incoming, document)
        return Ending(**{**document, "state": ACCEPTED, "submission": submission.id, "is_new": is_new})

    def _enter(self, incoming: Incoming, document: dict[str, Any]) -> tuple[Submission, bool]:
        """Keep the ZIP and enter it as a submission; again, it is the same one."""
        info, teams = incoming.info, {team.id: team for team in self._ledger.teams()}
        team = teams[info.team]
        while team.into is not None:
            team = teams[team.into]
        submission = self._ledger.admit(team.name, info.digest)
        if submission is not None:
            return submission, False
        open_store(self._season).take(incoming.zip, info.digest)
        found = document["metadata"]
        metadata = Metadata(found["image"], found["entrypoint"], tuple(found["arguments"]), tuple(found["unknown"]))
        return self._ledger.submit(team.name, Archive(info.digest, info.name, info.length, metadata), by=info.by)


def _full(error: OSError) -> Problem:
    """Raises the error again where it is another one."""
    if error.errno not in _FULL:
        raise error
    return Problem(507, "the disk is full; go on later")


def _accepted(submission: Submission, is_new: bool) -> Ending:
    return Ending(state=ACCEPTED, submission=submission.id, is_new=is_new)


async def _paced(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks. Raises `Problem` (408) where none comes for long."""
    try:
        while True:
            with anyio.fail_after(IDLE_SECONDS):
                chunk = await anext(chunks)
            yield chunk
    except StopAsyncIteration:
        return
    except TimeoutError:
        raise Problem(408, f"nothing came for {IDLE_SECONDS:g} seconds") from None
