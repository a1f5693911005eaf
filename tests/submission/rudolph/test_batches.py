"""Batches: halved where memory ends, left out where time ends."""

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rudolph import batches
from rudolph.batches import Batches, OutOfTime
from tests.support import forked

MiB = 2**20


def test_rows_come_in_order_in_batches_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    ran = list(Batches(3, progress=lambda *told_now: told.append(told_now)).run("answering", range(10, 17), sum))
    assert ran == [([10, 11, 12], 33), ([13, 14, 15], 42), ([16], 16)]
    assert told == [("answering", 3, 7), ("answering", 6, 7), ("answering", 7, 7)]


def test_a_batch_that_lacks_memory_is_halved_until_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def work(batch: list[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return batch

    ran = [batch for batch, _ in Batches(8).run("drawing", range(8), work)]
    assert ran == [[0, 1], [2, 3], [4, 5], [6, 7]] and tried == [8, 4, 2, 2, 2, 2]
    assert "drawing: 8 rows do not fit into memory; going on with 4 at a time" in caplog.messages


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate")])
def test_a_single_row_that_lacks_memory_is_an_error(error: Exception) -> None:
    def work(batch: list[int]) -> None:
        raise error

    with pytest.raises(type(error)):
        list(Batches(4).run("drawing", range(4), work))


def test_another_error_is_not_taken_for_a_lack_of_memory() -> None:
    def work(batch: list[int]) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        list(Batches(4).run("drawing", range(4), work))


def sum_rows_of_64_mib() -> int:
    """40 rows, 32 at a time, with 768 MiB to take; returns how many the first batch came down to."""
    torch.zeros(1)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 768 * MiB,) * 2)
    ran = list(Batches(32).run("drawing", range(40), lambda rows: torch.ones(len(rows), 16 * MiB).sum(1).tolist()))
    assert [row for rows, _ in ran for row in rows] == list(range(40))
    assert all(value == 16 * MiB for _, made in ran for value in made)
    return len(ran[0][0])


@pytest.mark.slow
def test_torch_out_of_memory_under_a_limit_of_address_space_is_halved(tmp_path: Path) -> None:
    """32 rows of 64 MiB do not fit, fewer do, and every row is done."""
    log = tmp_path / "log"
    rows = forked.ended(forked.start(sum_rows_of_64_mib, folder=tmp_path, log=log))
    said = log.read_text(encoding="utf-8")
    assert rows in (4, 8), said
    assert "16 rows do not fit into memory; going on with 8 at a time" in said


class Clock:
    """A clock that a test moves, in the place of `time`; `left` are the seconds to its minute 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(batches, "time", SimpleNamespace(monotonic=lambda: self.now))

    def left(self) -> float:
        return 60 - self.now

    def take(self, batch: list[int]) -> None:
        self.now += 6 * len(batch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_no_more_rows_are_begun_than_the_measured_pace_has_time_for(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """6 s a row, 60 s in all: of a hundred rows two whole batches, and one row of the third, which is reckoned dearer
    than its share; none is given up half-way.
    """
    timed = Batches(4, clock.left)
    rows = [row for batch, _ in timed.run("drawing", range(100), clock.take) for row in batch]
    assert rows == list(range(len(rows))) and 8 <= len(rows) <= 10
    assert any("are left out" in message for message in caplog.messages)


def test_what_becomes_of_a_batch_counts_in_its_pace(clock: Clock) -> None:
    """No time for the work, but 6 s a row for who takes it, of 60 s in all."""
    taken: list[int] = []
    for batch, _ in Batches(4, clock.left).run("drawing", range(100), lambda batch: None):
        clock.take(batch)
        taken += batch
    assert 8 <= len(taken) <= 10


def test_a_batch_that_the_end_of_the_time_meets_is_left_out() -> None:
    left = iter([1.0, -1.0])
    batched = Batches(2, lambda: next(left))
    assert list(batched.run("drawing", range(4), lambda batch: batched.check())) == []
    with pytest.raises(OutOfTime):
        Batches(2, lambda: 0.0).check()


def in_places(needs: Callable[[int], int], tick: Callable[[], object] = lambda: None) -> Any:
    """`work` for rows that take needs(row) steps each, begun as soon as there is a place."""

    def work(places: int, take: Callable[[int], list[int]]) -> Iterator[list[tuple[int, int]]]:
        left: dict[int, int] = {}
        while True:
            left |= {row: needs(row) for row in take(places - len(left))}
            if not left:
                return
            tick()
            left = {row: steps - 1 for row, steps in left.items()}
            yield [(row, 10 * row) for row, steps in left.items() if not steps]
            left = {row: steps for row, steps in left.items() if steps}

    return work


def test_rows_are_refilled_and_come_as_they_end() -> None:
    told: list[tuple[str, int, int]] = []
    ran = Batches(2, progress=lambda *now: told.append(now)).run_refilled("answering", [5, 1, 2, 1 + 2], in_places(abs))
    assert list(ran) == [(1, 10), (2, 20), (5, 50), (3, 30)]
    assert told == [("answering", 1, 4), ("answering", 2, 4), ("answering", 3, 4), ("answering", 4, 4)]


def test_refilled_rows_that_lack_memory_begin_anew_by_halves(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def work(places: int, take: Callable[[int], list[int]]) -> Iterator[list[tuple[int, int]]]:
        tried.append(places)
        steps = in_places(lambda row: 1 + row % 2)(places, take)
        yield next(steps)
        if places > 2:
            raise torch.OutOfMemoryError
        yield from steps

    rows = [row for row, _ in Batches(8).run_refilled("answering", range(8), work)]
    assert tried == [8, 4, 2] and rows[:4] == [0, 2, 4, 6] and sorted(rows) == list(range(8))
    assert "answering: 8 rows do not fit into memory; going on with 4 at a time" in caplog.messages


def test_a_refilled_row_that_lacks_memory_is_an_error() -> None:
    def work(places: int, take: Callable[[int], list[int]]) -> Iterator[list[tuple[int, int]]]:
        take(places)
        yield []
        raise MemoryError

    with pytest.raises(MemoryError):
        list(Batches(4).run_refilled("answering", range(4), work))


def test_refilled_rows_begin_only_while_there_is_time_for_them(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Five steps of 2 s a row, 60 s in all: six of one place's rows, of which the last ends with the time."""

    def tick() -> None:
        clock.now += 2

    timed = Batches(2, clock.left)
    rows = [row for row, _ in timed.run_refilled("answering", range(100), in_places(lambda row: 5, tick))]
    assert rows == list(range(12)) and clock.now == 60
    assert any("88 of 100 are left out" in message for message in caplog.messages)
    assert any("2 of 100 done, at 5.00 s each" in message for message in caplog.messages)


def test_the_end_of_the_time_meets_refilled_rows(caplog: pytest.LogCaptureFixture) -> None:
    seconds = iter([1.0, 1.0, -1.0])
    batched = Batches(2, lambda: next(seconds, -1.0))
    work = in_places(lambda row: 1 + 8 * row, batched.check)
    assert list(batched.run_refilled("answering", range(4), work)) == [(0, 0)]
    assert "answering: no time left; 3 of 4 are left out" in caplog.messages
    assert list(Batches(2, lambda: 0.0).run_refilled("answering", [1], lambda *_: pytest.fail("was begun"))) == []


def test_without_time_nothing_is_begun() -> None:
    assert list(Batches(2, lambda: 0.0).run("drawing", range(4), lambda batch: pytest.fail("was begun"))) == []
