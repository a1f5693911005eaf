"""Rows in batches: how many at a time fit into memory, and how many into the time that is left.

A batch that runs out of memory is halved instead of ending the run, and rows that no longer fit into the time are left
out, with a line in the log that says so.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from .decoder import RudolphDecoder
from .memory import free_bytes, free_memory, is_out_of_memory

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
#: Called with the name of a stage, the rows done in it and their number.
Progress = Callable[[str, int, int], None]

#: More rows at a time than these gain little speed: a CPU computes at its limit well below, a GPU near it.
MAX_ROWS = {"cpu": 32, "cuda": 128}
_SHARE = 0.7  # of the free memory: the rest is for fragmentation, images on their way, and what others take meanwhile


class OutOfTime(Exception):
    """The time ended within a batch."""


class Batches:
    """Runs the rows of stages, `size` at a time, while `seconds_left()` is above 0. release: lets go of memory that is
    kept between batches, before a smaller one is tried.
    """

    def __init__(
        self, size: int, seconds_left: Callable[[], float] | None = None, progress: Progress | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        self.size = size
        self.rows = size  # that the memory has been found to hold at a time, in this stage
        self._release = release or (lambda: None)
        self._seconds_left = seconds_left or (lambda: math.inf)
        self._progress = progress or (lambda stage, done, total: None)

    def check(self, *_: object) -> None:
        """Raises OutOfTime when no time is left; takes what `generate` tells after each step."""
        if self._seconds_left() <= 0:
            raise OutOfTime

    def run(
        self, stage: str, rows: Sequence[int], work: Callable[[list[int]], Made]
    ) -> Iterator[tuple[list[int], Made]]:
        """Yields (batch, work(batch)) until all rows are done, or until no more of them fit into the time.

        The first batch measures; from then on the mean of the finished ones says how many rows fit. Raises what `work`
        raises, and of what a lack of memory raises only that of a single row.
        """
        done, seconds, told = 0, 0.0, False
        self.rows = self.size
        while done < len(rows):
            todo, left = len(rows) - done, self._seconds_left()
            count = min(self.rows, todo)
            if done:
                a_row = seconds / done
                if left < a_row * todo and not told:
                    told = True
                    _tell(stage, done, len(rows), a_row, left)
                count = _rows_within(left, count, a_row * self.rows, self.rows)
            if left <= 0 or count < 1:
                break
            batch = list(rows[done : done + count])
            began = time.monotonic()
            try:
                made = work(batch)
            except OutOfTime:
                break
            except (MemoryError, RuntimeError) as error:
                if not self._halve(stage, count, error):
                    raise
            else:
                done += count
                yield batch, made
                del made
                seconds += time.monotonic() - began  # what became of it, decoding for instance, took time as well
                self._progress(stage, done, len(rows))
                continue
            self._release()
            free_memory()  # here, as the error held the frames of the batch that failed
        _tell_left_out(stage, done, len(rows))

    def run_refilled(
        self, stage: str, rows: Sequence[int],
        work: Callable[[int, Callable[[int], list[int]]], Iterator[Sequence[tuple[int, Made]]]],
    ) -> Iterator[tuple[int, Made]]:  # fmt: skip
        """Yields (row, what became of it), as rows end, until all have, or until no more of them fit into the time.

        work: called with the number of rows at a time and `take`, yields rows that have ended. take(n) gives up to n
        rows that come next; none where there are none, and none where those that have ended took longer, on average,
        than there is time. Of a lack of memory what has not ended begins anew, with half the rows.
        """
        todo, began, told = dict.fromkeys(rows), time.monotonic(), False
        self.rows = self.size
        stays: list[float] = []  # seconds of each row that has ended, from its beginning
        while todo and self._seconds_left() > 0:
            waiting, begun = deque(todo), dict[int, float]()

            def take(count: int, waiting: deque[int] = waiting, begun: dict[int, float] = begun) -> list[int]:
                if stays and self._seconds_left() < sum(stays) / len(stays):
                    return []
                taken = [waiting.popleft() for _ in range(min(count, len(waiting)))]
                begun.update(dict.fromkeys(taken, time.monotonic()))
                return taken

            count = min(self.rows, len(todo))
            try:
                for ended in work(count, take):
                    for row, made in ended:
                        del todo[row]
                        yield row, made
                        stays.append(time.monotonic() - begun[row])
                    if not ended:
                        continue
                    done, left = len(rows) - len(todo), self._seconds_left()
                    self._progress(stage, done, len(rows))
                    if (a_row := (time.monotonic() - began) / done) * len(todo) > left and not told:
                        told = True
                        _tell(stage, done, len(rows), a_row, left)
                break
            except OutOfTime:
                break
            except (MemoryError, RuntimeError) as error:
                if not self._halve(stage, count, error):
                    raise
            self._release()
            free_memory()  # here, as the error held the frames that failed
        _tell_left_out(stage, len(rows) - len(todo), len(rows))

    def _halve(self, stage: str, count: int, error: BaseException) -> bool:
        """Takes half of `count` rows at a time where they lack memory and are more than one."""
        if self.rows == 1 or not is_out_of_memory(error):
            return False
        # Fewer rows than that may each be drawn several times, as many at a time as rows fit.
        self.rows //= 2
        logger.warning("%s: %d rows do not fit into memory; going on with %d at a time", stage, count, self.rows)
        return True


def _tell(stage: str, done: int, total: int, a_row: float, left: float) -> None:
    logger.warning(
        "%s: %d of %d done, at %.2f s each; in the %.0f s that are left for it about %d of the other %d fit",
        stage, done, total, a_row, max(left, 0), max(left, 0) / a_row, total - done,
    )  # fmt: skip


def _tell_left_out(stage: str, done: int, total: int) -> None:
    if done < total:
        logger.warning("%s: no time left; %d of %d are left out", stage, total - done, total)


def _rows_within(left: float, count: int, seconds: float, size: int) -> int:
    """At most `count` rows that should be done in `left` seconds, where `size` rows take `seconds`.

    A part of a batch is reckoned halfway between its share of the time and all of it: half the rows, three quarters.
    """
    if left >= seconds or math.isinf(left):
        return count
    return max(0, min(count, int(size * (2 * left / seconds - 1))))


def rows_that_fit(model: RudolphDecoder, extra: int = 0) -> int:
    """`batch_size: auto`: rows at a time by the free memory of the model's device, `extra` bytes apart, 1 or more."""
    kind, free = model.device.type, free_bytes(model.device)
    rows = int((_SHARE * free - extra) / row_bytes(model))
    size = max(1, min(rows, MAX_ROWS.get(kind, MAX_ROWS["cpu"])))
    logger.info("batch size %d, chosen: %.1f GB free, %.0f MB a row", size, free / 1e9, row_bytes(model) / 1e6)
    return size


def row_bytes(model: RudolphDecoder) -> int:
    """Bytes that one row of a batch takes at most, with L = l + m * m + r positions, N layers, width D, H heads:

    * keys and values: 2 N D (L + W), where W image tokens, as many as one may see, have places of their own; of the
      native decoder, which keeps 4 bytes of each number, all keys of an image come twice;
    * one layer of the prefill: 16 D L (the residual and its norm 2, QKV 3, attention 2, the feed-forward 4 + 4, and 1
      more for the sum), and H L L scores, for where the attention kernel does not fuse them;
    * logits: every vocabulary 6 times in 4 bytes: as they come, as float32, sorted, their ids (8 bytes), and draws.
    """
    config = model.config
    item = 4 if model.native is not None else model.text_embeddings.weight.element_size()
    length, width = config.total_seq_length, config.hidden_size
    seen: float = max(config.image_tokens_per_dim + 1, max(config.kernel_size, config.last_kernel_size) ** 2 // 2 + 1)
    if model.native is not None:
        seen = config.image_seq_length / 2
    cache = 2 * config.num_layers * width * (length + seen) * item
    prefill = (16 * width + config.num_attention_heads * length) * length * item
    logits = 6 * 4 * (config.text_vocab_size + config.image_table_size)
    return int(cache + prefill + logits)
