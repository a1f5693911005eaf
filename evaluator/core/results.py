"""The files that a command writes its results to: what an earlier call left there is removed first, and where the
command fails the reason is written in place of the results.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evaluator.core.errors import DataError, EvaluatorError, outline
from evaluator.core.files import check_writable, write_json


def prepare(paths: Mapping[str, Path | None]) -> None:
    """Make ready for the files of a command, by the option that names each: all of them can be written, and none is of
    an earlier call. Raises `DataError`.
    """
    for option, path in paths.items():
        check_writable(option, path)
    remove_stale(paths.values())


def remove_stale(paths: Iterable[Path | None]) -> None:
    """Remove what an earlier call left: whatever happens, it must not pass for this one's. A FIFO, device or folder
    stays. Raises `DataError`.
    """
    for path in filter(None, paths):
        try:
            if path.is_file():
                path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"{path} of an earlier run cannot be removed: {error.strerror}") from None


class OwnNote(str):
    """A note of an error that quotes nothing of the data; notes of libraries may."""


def shown(error: Exception, private: bool = False) -> EvaluatorError:
    """An error as it may be shown; one of no class of ours is the evaluator's own fault. With `private` nothing of the
    data, nor of what a submission wrote, stands in it.
    """
    if isinstance(error, EvaluatorError):
        return error.without_contents() if private else error
    return EvaluatorError(outline(error) if private else f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def explained(
    path: Path | None, write: Callable[[dict[str, Any]], None] | None = None, private: bool = False
) -> Iterator[None]:
    """Where the body fails, write why to `path`, if it is not there: results that have a task's error in them stay.

    `write` writes the JSON of the error, by default as it is. A failure to write is a note of the error.
    """
    try:
        yield
    except Exception as error:
        if path is not None and not path.exists():
            document = shown(error, private).to_json()
            try:
                if write is not None:
                    write(document)
                else:
                    write_json(path, document)
            except OSError as fault:
                error.add_note(OwnNote(f"{path} cannot be written: {fault.strerror}"))
        raise
