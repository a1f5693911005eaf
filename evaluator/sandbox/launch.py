"""Runs a submission as the leaderboard does: a fresh workspace, one entrypoint, the limits, one verdict.

The workspace has `input` (input.json and the images it names, nothing else) and `submission` (a copy), side by side.
The truth is copied nowhere.
"""

import builtins
import contextlib
import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, TextIO

from evaluator.core import leftovers, verdict
from evaluator.core.errors import (
    DataError,
    Finding,
    SubmissionError,
    show,
)
from evaluator.core.limits import RUN, Limits
from evaluator.data.contracts import CONTRACTS
from evaluator.data.dataset import Data
from evaluator.package import archive, metadata
from evaluator.package.folder import copy_folder, make_folders
from evaluator.sandbox import crash, local
from evaluator.sandbox.base import LOG_TAIL_BYTES, TMP_FILES, Execution, Runner, Workspace

RunnerName = Literal["auto", "engine", "docker", "local"]

# A log names its exception in the last line that begins like one; only names that every Python has, and torch's, are
# repeated where the log itself must not be shown.
_EXCEPTION = re.compile(r"(?:torch\.(?:cuda\.)?)?([A-Z]\w{2,40})(?::|$)", re.ASCII)
_EXCEPTIONS = {name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)}
_EXCEPTIONS |= {"OutOfMemoryError", "AcceleratorError", "UnidentifiedImageError"}
_TAIL_CHARACTERS = 4096
_NEAR = 0.9  # of the limit: the kernel counts it in whole pages, and what it takes back just before the kill


@contextlib.contextmanager
def workspace(
    submission: Path | str, data: Data, keep: Path | str | None = None, limits: Limits = RUN
) -> Iterator[Workspace]:
    """Lay out a fresh workspace for a submission's folder or ZIP; it is removed at the end, or moved to `keep` (new
    or empty). What earlier runs left that were killed is removed first.

    Raises `SubmissionError` (BAD_ZIP, BAD_METADATA) for a faulty archive or folder, `DataError` where the paths given
    cannot be used.
    """
    source, kept = Path(submission), Path(keep) if keep is not None else None
    if not source.exists():
        raise DataError(f"submission {source} does not exist")
    if data.root.is_relative_to(source.resolve()):
        raise DataError(f"data folder {data.root} lies inside the submission {source}, which would see the truth")
    if kept is not None and kept.exists() and (not kept.is_dir() or any(kept.iterdir())):
        raise DataError(f"folder to keep the workspace in, {kept}, exists and is not an empty folder")
    # Two folders with names of their own: from the workspace no relative path leads to the log.
    with leftovers.private_folder("run") as base, leftovers.private_folder("aside") as aside:
        local.sweep()
        space = Workspace(base, aside, data.root, CONTRACTS[data.contract].layout)
        try:
            make_folders(space.base, (str(path.relative_to(space.base)) for path in (space.work, space.submission)))
            if source.is_dir():
                copy_folder(source.resolve(), space.submission, limits.unpacked)
            else:
                archive.check(source, limits.archive, limits.unpacked)  # all faults at once, before a byte is written
                archive.unpack(source, space.submission, limits.archive, limits.unpacked)
                # Answers must come from this run, so output that was packed along does not count.
                shutil.rmtree(space.output, ignore_errors=True)
            _copy_input(data, space)
            yield space
        finally:
            if kept is not None:
                kept.mkdir(parents=True, exist_ok=True)
                if space.collected.exists():
                    if os.path.lexists(space.output):  # aside, to be removed with `base`, however deep it is
                        os.rename(space.output, space.base / "written")
                    shutil.move(space.collected, space.output)
                for path in (space.work, space.log, space.emission):
                    if path.exists():
                        shutil.move(path, kept / path.name)


def delivered(space: Workspace) -> dict[str, int]:
    """The size in bytes of each of a submission's files, by path, before it runs: without the input, which a contract
    may have among them.
    """
    found = (path for path in space.submission.rglob("*") if path.is_file() and not path.is_relative_to(space.input))
    sizes = {path.relative_to(space.submission).as_posix(): path.stat().st_size for path in found}
    return dict(sorted(sizes.items()))


def choose_runner(name: RunnerName, image: str, limits: Limits = RUN) -> tuple[Runner, list[str]]:
    """The runner of that name, and why and what else a person should know, a line each. `auto` is docker where an
    engine answers and has `image`, else local; to `engine` an image that is missing is the submission's fault.

    Raises `SubmissionError` (BAD_IMAGE) or `EvaluatorError` where the one asked for cannot run the image.
    """
    if name == "local":
        return local.LocalRunner(), ["runner: local, as asked for", *local.LocalRunner().preflight(image, limits)]
    from evaluator.sandbox import docker  # the engine's client, which takes a while to import

    if name == "docker":
        runner = docker.DockerRunner()
        return runner, ["runner: docker, as asked for", *runner.preflight(image, limits)]
    reason = docker.unavailable(image if name == "auto" else None)
    if reason:
        return local.LocalRunner(), [f"runner: local, as {reason}", *local.LocalRunner().preflight(image, limits)]
    runner = docker.DockerRunner()
    notes = runner.preflight(image, limits)
    return runner, [f"runner: docker, as an engine answers and has the image {image}", *notes]


def execute(
    space: Workspace,
    runner: Runner | None = None,
    limits: Limits = RUN,
    terminal: TextIO | None = None,
    private: bool = False,
) -> Execution:
    """Run the entrypoint to its end, good or bad; `judge` says which. What it prints goes to `terminal` (default
    stderr) and to the log; with `private` to the log alone.

    Raises what `Runner.run` raises, `SubmissionError` (BAD_METADATA) among it.
    """
    facts = metadata.read(space.submission)
    if not facts.arguments[0]:
        raise SubmissionError(
            verdict.BAD_METADATA, f"entrypoint {show(facts.entrypoint)} cannot be started: it names no program"
        )
    runner = runner or local.LocalRunner()
    shown = io.StringIO() if private else terminal or sys.stderr
    outcome = runner.run(space, list(facts.arguments), facts.image, limits, shown)
    return replace(outcome, peak_memory=_possible_peak(outcome, limits))


def _possible_peak(outcome: Execution, limits: Limits) -> int | None:
    """The most memory that was seen in use, where that can be: it is looked at a few times a second, and what was
    killed for want of memory in between had far more than what was seen.
    """
    peak = outcome.peak_memory or 0
    return peak if peak > (_NEAR * limits.memory if outcome.oom else 0) else None


def judge(outcome: Execution, limits: Limits, log: Path, private: bool = False) -> None:
    """Raise a `SubmissionError` for every ending but a good one.

    With `private` nothing that the submission printed stands in it: a program can print what it reads, in whatever
    disguise. It can choose its exit code, the kind of its exception and its time, and no more.
    """
    if outcome.ending is not verdict.OK:
        raise _failure(outcome, limits, log, private)


def _failure(outcome: Execution, limits: Limits, log: Path, private: bool) -> SubmissionError:
    ending = outcome.ending

    def failure(found: str, allowed: str, rule: str = ending.rule) -> SubmissionError:
        return SubmissionError(ending, Finding(rule, "entrypoint", found, allowed, ending.fix))

    if ending is verdict.OOM:
        possible = _possible_peak(outcome, limits)
        peak = f"; at most {possible} bytes were seen in use" if possible else ""
        found = f"a process was killed for want of memory after {outcome.seconds:.1f} s{peak}"
        return failure(found, f"{limits.memory} bytes, without swap")
    if ending is verdict.TIMEOUT:
        found = f"ran longer than the time limit of {limits.time:g} s and was stopped"
        return failure(found, f"{limits.time:g} s")
    if ending is verdict.DISK:
        allowed = f"{limits.tmp} bytes, and {TMP_FILES} files and folders, in /tmp"
        if outcome.full == "output/":
            allowed = f"{limits.output} bytes, and {limits.output_files} files and folders, in output/"
        return failure(f"{outcome.full} is full after {outcome.seconds:.1f} s", allowed)
    if outcome.too_many_processes:
        return failure("too many processes and threads", f"{limits.pids} at a time", "process-limit")
    said = _exception(log) if private else _last_line(log)
    # With `private` the exception's kind alone decides, which `said` has anyhow.
    ending = replace(ending, fix=crash.fix([said.removeprefix(" with ")] if private else _tail(log)) or ending.fix)
    return failure(f"{_ending(outcome.exit_code)} after {outcome.seconds:.1f} s{said}", "exit code 0")


def _copy_input(data: Data, space: Workspace) -> None:
    """The part of the data that a submission sees, for its user to read, whoever that is; in place of a folder of that
    name that was packed along.
    """
    if not data.shown:
        raise DataError(f"data folder {data.root} has truths alone, which can be scored, and nothing to run on")
    destination = space.input
    if destination.is_dir():
        shutil.rmtree(destination, ignore_errors=True)
    else:
        destination.unlink(missing_ok=True)
    shown = {PurePosixPath(place): path for place, path in data.shown.items()}
    make_folders(destination.parent, [destination.name])
    folders = {str(folder) for place in shown for folder in place.parents} - {"."}
    make_folders(destination, folders | ({"images"} if "input.json" in data.shown else set()))  # there, if empty
    for place, path in shown.items():
        shutil.copyfile(data.root / path, destination / place)
        (destination / place).chmod(0o644)


def _ending(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}"


def _tail(log: Path) -> list[str]:
    """The last lines of a log, however many empty ones follow. Of a line that was written over and over, such as a
    progress bar's, its first and last state.
    """
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        text = file.read(LOG_TAIL_BYTES).decode("utf-8", "replace")
    found: list[str] = []
    left = _TAIL_CHARACTERS
    for line in reversed(text.split("\n")):
        states = [state.strip() for state in line.split("\r") if state.strip()]
        for state in [states[-1], states[0]][: len(states)] if states else []:
            found.append(state[:left])
            left -= len(state)
            if left <= 0:
                return found[::-1]
    return found[::-1]


def _last_line(log: Path) -> str:
    lines = _tail(log)
    return f"; its last line: {lines[-1][:200]}" if lines else ""


def _exception(log: Path) -> str:
    """The exception that ended the program, as far as its log says so, and as a name of `_EXCEPTIONS` alone."""
    for line in reversed(_tail(log)):
        match = _EXCEPTION.match(line)
        if match and match[1] in _EXCEPTIONS:
            return f" with {match[1]}"
    return ""
