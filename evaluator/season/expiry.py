"""Outputs that were kept for as long as season.toml says are removed while the queue works."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from evaluator.season.ledger import Ledger
from evaluator.season.runs import in_thread
from evaluator.season.store import remove_outputs

LOOK_SECONDS = 3600.0


class Expiry:
    """Removes the kept outputs of runs that ended longer ago than `keep_outputs_days`, at the first `look` and then
    once in `LOOK_SECONDS`. `say` gets a line where there were any.

    It happens in a thread: a storage may be slow, and the queue has leases to keep.
    """

    def __init__(self, ledger: Ledger, say: Callable[[str], None]) -> None:
        self._ledger, self._season, self._say = ledger, ledger.season, say
        self._next_look = 0.0
        self._removed: set[int] = set()  # by this process; to ask a storage for each of them every hour takes time
        self._runs: set[int] = set()  # whose outputs are being removed
        self._removing: Future[int] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being removed."""
        return self._removing is not None

    def look(self) -> None:
        """Say what was removed, and begin where it is time. Does not wait. Raises as the ledger does."""
        days = self._season.keep_outputs_days
        if self._removing is not None and self._removing.done():
            self._end(self._removing)
        if days is None or self._removing is not None or time.monotonic() < self._next_look:
            return
        self._runs = set(self._ledger.ended(days)) - self._removed
        self._next_look = time.monotonic() + LOOK_SECONDS
        if self._runs:
            self._removing = in_thread(partial(remove_outputs, self._season, self._runs))

    def _end(self, removing: Future[int]) -> None:
        self._removing = None
        if error := removing.exception():
            self._say(f"outputs that were kept long enough cannot be removed: {error}")
            return
        self._removed |= self._runs
        if count := removing.result():
            days = self._season.keep_outputs_days
            self._say(f"what {count} runs answered is removed: they ended more than {days} days ago")
