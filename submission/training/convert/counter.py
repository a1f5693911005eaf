"""What became of a source's rows: bad ones are counted, and the first are shown."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from contract import show
from training.data_format import DataError

logger = logging.getLogger(__name__)

SHOWN = 10  # bad rows that are shown
LOG_SECONDS = 15.0


class RowCounter:
    """Counts good rows, bad rows and what is left out on purpose; a bar on a terminal, else a line now and then."""

    def __init__(self, source: str, inputs: Sequence[Path] = ()) -> None:
        self.source = source
        self._folders = [path for path in inputs if path.is_dir()]
        self.good = self.bad_rows = 0
        self.left_out: Counter[str] = Counter()
        self._bar = tqdm(desc=source, unit=" rows", disable=not sys.stderr.isatty())
        self._next_line = time.monotonic() + LOG_SECONDS

    def name(self, path: Path) -> str:
        """A file's path in the input folder that it is in: it tells places, and draws, the same wherever that lies."""
        return next((str(path.relative_to(f)) for f in self._folders if path.is_relative_to(f)), path.name)

    def ok(self) -> None:
        """A row was taken."""
        self.good += 1
        self._move()

    def bad(self, place: str, value: object, allowed: str) -> None:
        """A row cannot be used: where it is, what is there, what is allowed."""
        self.bad_rows += 1
        if self.bad_rows <= SHOWN:
            self._say(logging.WARNING, f"bad row: {place}: {show(value)}; allowed: {allowed}")
            if self.bad_rows == SHOWN:
                self._say(logging.WARNING, "further bad rows are counted, not shown")
        self._move()

    def leave_out(self, reason: str) -> None:
        """A row that is right, and of no use for the task."""
        self.left_out[reason] += 1

    def finish(self, tolerance: float) -> None:
        """Show the counts. Raises DataError where nothing is left, or where more than `tolerance` of all is bad."""
        self._bar.close()
        rows = self.good + self.bad_rows
        for reason, number in self.left_out.most_common():
            logger.info("%s: %d left out: %s", self.source, number, reason)
        if self.bad_rows:
            share = self.bad_rows / rows
            found = f"{self.source}: {self.bad_rows} of {rows} rows are bad ({share:.2%})"
            if share > tolerance:
                raise DataError(f"{found}; allowed: {tolerance:.2%} (--tolerance); nothing is written")
            logger.warning("%s and were left out", found)
        if not self.good:
            raise DataError(f"{self.source}: no rows; nothing is written")

    def _move(self) -> None:
        self._bar.update()
        if self._bar.disable and time.monotonic() >= self._next_line:
            logger.info("%s: %d rows, %d of them bad", self.source, self.good + self.bad_rows, self.bad_rows)
            self._next_line = time.monotonic() + LOG_SECONDS

    def _say(self, level: int, text: str) -> None:
        self._bar.clear()
        logger.log(level, "%s", text)
