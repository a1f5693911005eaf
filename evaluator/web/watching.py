"""What the ledger has, at hand for pages: read again when something has changed, and once for all who ask meanwhile."""

import threading
import time
from typing import Any, NamedTuple

from evaluator.season.ledger import Ledger, Snapshot


class Seen(NamedTuple):
    """A snapshot, with the ledger's version that it is of."""

    version: tuple[Any, ...]
    snapshot: Snapshot


class Watch:
    """The ledger's newest snapshot. Blocking, and safe to call from many threads."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._reading = threading.Lock()
        self._seen: Seen | None = None
        self._begun = -float("inf")  # when the last look at the ledger began, by time.monotonic

    def see(self, age: float = 0.0) -> Seen:
        """What was there when this was called, or at most `age` seconds before. Where many ask at once, one looks and
        the others have what it found.
        """
        since = time.monotonic() - age
        with self._reading:
            if self._seen is None or self._begun < since:
                begun = time.monotonic()
                version = self._ledger.version()
                day = None if self._seen is None else self._ledger.season.day(self._seen.snapshot.now)
                if self._seen is None or self._seen.version != version or day != self._today():
                    self._seen = Seen(version, self._ledger.snapshot())
                self._begun = begun
            return self._seen

    def _today(self) -> Any:
        return self._ledger.season.day(self._ledger.now())
