"""Bootstrap intervals (Efron & Tibshirani 1993, ch. 13: percentiles of the resamples' scores).

A task's ids are drawn again, as many as there are, with replacement, `RESAMPLES` times; each task on its own, as the
data has its fixed number of examples of each. The draws depend on nothing but the seed, the task's number and how many
ids there are, taken in the order of their names: so resample r of two scored submissions holds the same ids, and the
difference of their scores on it is a paired one, also where only the scores of the resamples were kept.

What an interval covers is the choice of the examples, not the chance in a model's own sampling. With few ids it is too
narrow (with 20, by a few per cent), and where all ids have one score it has no width.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1000  # the ends of a 95 % interval are then exact to about a tenth of the standard error
SEED = 2

_DRAWN_AT_ONCE = 1 << 21  # positions: 16 MB

Interval = tuple[float, float]


def canonical(ids: Sequence[str]) -> NDArray[np.intp]:
    """Positions [N] that put the ids into the order in which they are drawn from."""
    return np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.intp)


def resamples(count: int, number: int) -> Iterator[NDArray[np.intp]]:
    """`RESAMPLES` arrays of `count` positions in 0..count-1, for the task `number`."""
    for block in _blocks(count, number):
        yield from block


def means(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """The mean of each of `resamples(N, number)`: [N] in canonical order -> [RESAMPLES]."""
    return np.concatenate([values[block].mean(axis=1) for block in _blocks(len(values), number)])


def interval(replicates: NDArray[np.float64]) -> Interval:
    """The central interval of `LEVEL` of the resamples' scores, [R]."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _blocks(count: int, number: int) -> Iterator[NDArray[np.intp]]:
    """`resamples`, several at once: [rows, count]."""
    generator = np.random.default_rng([SEED, number, count])
    rows = max(1, _DRAWN_AT_ONCE // count)
    for start in range(0, RESAMPLES, rows):
        yield generator.integers(0, count, (min(rows, RESAMPLES - start), count))
