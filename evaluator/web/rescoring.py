"""Scoring again while the service goes on: one at a time, by the command `season rescore` in a process of its own. It
outlives a service that is killed, but not its unit or its container; what was interrupted is begun again, and goes on.
Its files are in `rescoring/` of the season's folder; its lock is held as long as it runs.
"""

import contextlib
import fcntl
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, model_validator

from evaluator.core import files
from evaluator.core.errors import DataError, show
from evaluator.core.validation import Line, Weight, wrong
from evaluator.season.config import Season
from evaluator.season.ledger import Refused
from evaluator.season.rescore import Missing

FOLDER = "rescoring"
LOG_LINES = 20  # that are shown
_REQUEST, _LOG, _RESULT, _END, _LOCK = "request.json", "log.txt", "result.json", "end.json", "lock"

State = Literal["none", "running", "done", "failed", "interrupted"]


def _weights(value: Any) -> Any:
    """As a person writes them: `11=0, 6=1/10`."""
    if not isinstance(value, str):
        return value
    pairs = [pair.partition("=") for pair in value.replace(",", " ").split()]
    return {task.strip(): weight.strip() for task, _, weight in pairs}


class RescoringRequest(BaseModel):
    """What is to be scored again: the results of a test set, on the data in a folder within the season's (none: those
    that it has); all results by a formula with other weights, by task number. `missing` says what happens to
    submissions whose output is not kept: nothing to any ("refuse"), another run ("queue"), or off the board ("leave").
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    test_set: Line | None = None
    data: Line | None = None
    weights: Annotated[dict[NonNegativeInt, Weight], BeforeValidator(_weights)] = Field(default_factory=dict)
    missing: Missing = "refuse"
    dry_run: bool = True
    reason: Line

    @model_validator(mode="after")
    def _says_what(self) -> "RescoringRequest":
        if self.test_set is None and not self.weights:
            raise wrong("say which test set is to be scored again, or which weights the formula is to have")
        return self


class RescoringView(BaseModel):
    """The last scoring again: what was asked for, by whom; the last lines of what it says; `result` as
    `season rescore --json` writes it. One that was `interrupted` goes on where it was when it is asked for once more.
    """

    state: State
    request: RescoringRequest | None = None
    by: str | None = None
    started_at: datetime | None = None
    log: list[str] = []
    result: dict[str, Any] | None = None

    @property
    def can_be_entered(self) -> bool:
        """Whether it was a dry run, so that the same can be done in earnest."""
        return self.state == "done" and self.request is not None and self.request.dry_run


class Rescorings:
    """The season's scorings again. Safe to call from many threads."""

    def __init__(self, season: Season) -> None:
        self._rules, self._folder = season.path.resolve(), season.folder.resolve() / FOLDER
        self._looking = threading.Lock()

    def start(self, wanted: RescoringRequest, by: str, at: datetime) -> RescoringView:
        """Begin. Raises `Refused` while another one runs, and without a dry run of the same before; `DataError` for a
        folder that is none of the season's.
        """
        data = None if wanted.data is None else own_folder(self._rules.parent, wanted.data)
        with self._looking:
            before = self._view()
            if before.state == "running":
                raise Refused("scoring again is under way already; wait until it has ended")
            was_tried = before.can_be_entered and before.request is not None and _same(before.request, wanted)
            if not (wanted.dry_run or was_tried or (before.state != "done" and before.request == wanted)):
                raise Refused("make a dry run of the same first, and look at what it would change")
            self._folder.mkdir(exist_ok=True)
            for name in (_LOG, _RESULT, _END):
                (self._folder / name).unlink(missing_ok=True)
            document = {"request": wanted.model_dump(mode="json"), "by": by, "started_at": at.isoformat()}
            files.write_json(self._folder / _REQUEST, document)
            with open(self._folder / _LOG, "wb") as log:
                lock = open(self._folder / _LOCK, "w")
                fcntl.flock(lock, fcntl.LOCK_EX)
                process = subprocess.Popen(
                    self._command(wanted, by, data),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
            threading.Thread(target=self._wait, args=(process, lock), daemon=True).start()
            return self._view()

    def view(self) -> RescoringView:
        """The one that runs, or the last one."""
        with self._looking:
            return self._view()

    def _view(self) -> RescoringView:
        known = _read(self._folder / _REQUEST)
        if known is None:
            return RescoringView(state="none")
        result = None
        if self._is_running():
            state: State = "running"
        elif (result := _read(self._folder / _RESULT)) is not None:
            state = "done"
        else:
            state = "interrupted" if _read(self._folder / _END) is None else "failed"
        with contextlib.suppress(FileNotFoundError):
            said = (self._folder / _LOG).read_text("utf-8", "replace").splitlines()
            return RescoringView(state=state, log=said[-LOG_LINES:], result=result, **known)
        return RescoringView(state=state, result=result, **known)

    def _is_running(self) -> bool:
        try:
            with open(self._folder / _LOCK) as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _wait(self, process: "subprocess.Popen[bytes]", lock: TextIO) -> None:
        """The lock ends when the process has ended, and here is noted how."""
        with lock:
            files.write_json(self._folder / _END, {"code": process.wait()})

    def _command(self, wanted: RescoringRequest, by: str, data: Path | None) -> list[str]:
        return [sys.executable, "-m", "evaluator", "season", "rescore", *self._options(wanted, by, data)]

    def _options(self, wanted: RescoringRequest, by: str, data: Path | None) -> Iterator[str]:
        yield f"--season={self._rules}"
        yield f"--json={self._folder / _RESULT}"
        yield f"--reason={wanted.reason}"
        yield f"--by={by}"
        if wanted.test_set is not None:
            yield f"--test-set={wanted.test_set}"
        if data is not None:
            yield f"--data={data}"
        for task, weight in wanted.weights.items():
            yield f"--weight={task}={weight!r}"
        if wanted.dry_run:
            yield "--dry-run"
        if wanted.missing != "refuse":
            yield f"--{wanted.missing}-missing"


def own_folder(season: Path, stated: str) -> Path:
    """A folder within the season's, which alone may be named over the web. Raises `DataError` for another."""
    own = season.resolve()
    path = (own / stated).resolve()
    try:
        is_own = path != own and path.is_relative_to(own) and path.is_dir()
    except OSError:  # no name of a file
        is_own = False
    if not is_own:
        raise DataError(f"folder {show(stated)}: must be one within the season's folder, such as data/finals")
    return path


def _same(one: RescoringRequest, other: RescoringRequest) -> bool:
    """Whether both score the same; why is said anew."""
    return one.model_dump(exclude={"dry_run", "reason"}) == other.model_dump(exclude={"dry_run", "reason"})


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON file of our own; None where it is not there."""
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document
    except FileNotFoundError:
        return None
