"""How long a run may take, and how it ends when its time is up or it is told to.

The plan (`rudolph.batches`) stops in time by itself. `Watch` is for everything else: a signal, or a step that takes
longer than anybody thought. It waits in a thread of its own, so that it need not wait for the step.
"""

import logging
import math
import os
import re
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable

logger = logging.getLogger("run.budget")

VARIABLE = "FUSIONBRAIN_BUDGET"  # of the environment: the run's time limit, as --budget takes it
EXIT_OUT_OF_TIME, EXIT_NOTHING, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 130, 143
_UNITS = {"": 1, "s": 1, "min": 60, "h": 3600}
_RESERVE_SECONDS, _RESERVE_SHARE = 5.0, 0.01
_LONGEST_WAIT = 3600.0  # seconds; epoll takes no infinity
_SIGNALS = {signal.SIGINT: EXIT_INTERRUPTED, signal.SIGTERM: EXIT_TERMINATED}


def parse_seconds(text: str) -> float:
    """Seconds of `90s`, `30min`, `5h` or `18000`. Raises ValueError naming the text and what is allowed."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(s|min|h|)", text.strip(), re.ASCII)
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not seconds > 0:
        raise ValueError(f"{text!r} is no time; it must be a number above 0 with s, min or h, such as 90s, 30min, 5h")
    return seconds


class Budget:
    """`seconds` from `started` (of `time.monotonic`) on; infinite without a limit.

    A reserve is left for what comes after the last batch (images on their way to the disk, predictions.json, the end of
    the process) and for what came before `started` (the interpreter's own start and its first imports, some 0.2 s). It
    is 5 s and a hundredth of the budget, at most half of it.
    """

    def __init__(self, seconds: float = math.inf, started: float | None = None) -> None:
        self.seconds = seconds
        self.reserve = 0.0 if math.isinf(seconds) else min(_RESERVE_SECONDS + _RESERVE_SHARE * seconds, seconds / 2)
        self._end = (time.monotonic() if started is None else started) + seconds

    def left(self) -> float:
        """Seconds for work from now on; below 0 when the reserve is being used."""
        return self.last_moment() - 2 / 3 * self.reserve

    def last_moment(self) -> float:
        """Seconds until the process has to end, with a third of the reserve still to spare."""
        return self._end - self.reserve / 3 - time.monotonic()


class Watch:
    """Ends the process on SIGTERM (exit code 143), SIGINT (130) and at the budget's last moment (0).

    Before, `save` is called, which may be set later and must return soon; an error in it is logged. It returns whether
    there was anything to save: without, the budget's end has exit code 1. To be made in the main thread, and closed.
    """

    def __init__(self, budget: Budget) -> None:
        self.save: Callable[[], bool] = lambda: False
        self._budget = budget
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        # The C part of a signal handler writes the signal's number here at once, whatever the main thread is doing.
        self._wakeup = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._wait, name="watch", daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._ours, selectors.EVENT_READ)
            while (left := self._budget.last_moment()) > 0:
                if not selector.select(min(left, _LONGEST_WAIT)):
                    continue
                numbers = self._ours.recv(64)
                if not numbers:  # closed
                    return
                for number in numbers:
                    if number in _SIGNALS:
                        self._end(f"told to end by {signal.Signals(number).name}", _SIGNALS[signal.Signals(number)])
        self._end("the budget is used up in the middle of a step", EXIT_OUT_OF_TIME)

    def _end(self, why: str, code: int) -> None:
        logger.warning("%s; writing what there is", why)
        saved = False
        try:
            saved = self.save()
            if not saved:
                logger.error("there is nothing yet")
        except Exception:
            logger.exception("what there is cannot be written")
        finally:
            # The main thread may be deep in a computation that nothing else can stop.
            os._exit(code if saved or code != EXIT_OUT_OF_TIME else EXIT_NOTHING)

    def close(self) -> None:
        """Stop watching; signals do what they did before."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._theirs.close()
        self._thread.join()
        self._ours.close()
