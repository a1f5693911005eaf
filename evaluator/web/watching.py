"""What the ledger has, at hand for pages: read again when something has changed, and once for all who ask meanwhile.

Where a season is large, reading it and making its board take long, and at a deadline something changes all the time.
Then there are `REST` seconds for each second of CPU that what is seen has cost, before it is read again for a change by
others. Of a season of some hundreds of submissions, all is always seen.
"""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

from evaluator.season.ledger import Ledger, Snapshot

REST = 8.0
CHEAP = 0.03  # seconds of CPU that count for nothing
MOMENT = timedelta(seconds=30)  # that a snapshot's `now` may be old, where nothing has changed since


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
        self._wanted = -float("inf")  # what was there then has to be seen
        self._cost = 0.0  # seconds of CPU that it took to read what was seen, and to make pages of it

    def renew(self) -> None:
        """Have whoever looks from now on see what is there now, as somebody has changed it who wants to see that."""
        self._wanted = time.monotonic()

    def spent(self, seconds: float) -> None:
        """What was seen has cost so much CPU more, once for all who see it."""
        self._cost += seconds

    def see(self, age: float = 0.0) -> Seen:
        """What was there when this was called, or at most `age` seconds before, or a rest. Where many ask at once, one
        looks and the others have what it found, or in a season that needs rest what was found before.
        """
        now, rest = time.monotonic(), REST * max(0.0, self._cost - CHEAP)
        if (seen := self._since(now - max(age, rest))) is not None:
            return seen
        seen = self._since(now - 2 * rest) if rest else None
        if not self._reading.acquire(blocking=seen is None):
            assert seen is not None
            return seen
        try:
            return self._since(now - max(age, rest)) or self._look()
        finally:
            self._reading.release()

    def _since(self, moment: float) -> Seen | None:
        """What was found by a look that was not before."""
        begun, seen = self._begun, self._seen
        return seen if begun >= max(moment, self._wanted) else None

    def _look(self) -> Seen:
        begun, seen, version, now = time.monotonic(), self._seen, self._ledger.version(), self._ledger.now()
        if seen is None or seen.version != version:
            before = time.thread_time()
            self._seen = seen = Seen(version, self._ledger.snapshot())
            self._cost = time.thread_time() - before
        elif not timedelta() <= now - seen.snapshot.now < MOMENT:
            self._seen = seen = Seen(version, replace(seen.snapshot, now=now))
            self._cost = 0.0  # nothing was read, though pages are made anew
        self._begun = begun  # after what was seen then
        return seen
