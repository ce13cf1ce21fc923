"""A whole curve in bounded memory: the levels of blocks that grow with it, and robust measures of its noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

# The standard deviation of a normal distribution in median absolute deviations (Rousseeuw and Croux, 1993).
SIGMA_PER_MAD = 1.4826
# If the noise of neighbouring levels is independent, their difference has √2 times its deviation.
SIGMA_PER_DIFFERENCE = SIGMA_PER_MAD / 2**0.5
# The same for the mean absolute deviation: √(π/2).
SIGMA_PER_MEAN_DIFFERENCE = 1.2533 / 2**0.5
COARSE_PART = 0.7
MOST_BLOCKS = 128
# The median of 16 points is about as robust as that of more, and is cheap.
CHUNK = 16
FIRST_POINTS = 10


class Curve:
    """The levels of a curve, from its first point to its newest, in at most 128 blocks of equal length.

    The level of a block is the median of its points, or for long blocks the mean of medians of 16. When 128 blocks are
    full, each two are merged, so that a block always has between 1/128 and 1/64 of the points so far. Comparing blocks
    therefore compares parts of the curve, however long it is and however densely it is logged.
    """

    __slots__ = (
        "_chunk", "_chunks", "_first", "_lowest_rate", "_start", "_sum", "best", "block_points", "count", "levels",
        "rates", "tops",
    )  # fmt: skip

    def __init__(self) -> None:
        self.count = 0
        self.block_points = 1
        self.levels: list[float] = []
        # The greatest value of each block.
        self.tops: list[float] = []
        # The lowest learning rate of each block, NaN if none is known.
        self.rates: list[float] = []
        # The lowest level, after a running median of three.
        self.best = math.inf
        self._chunk: list[float] = []
        # The number and the sum of the medians of the incomplete block.
        self._chunks = 0
        self._sum = 0.0
        self._lowest_rate = math.nan
        self._first: list[float] = []
        self._start: float | None = None

    @classmethod
    def of_levels(cls, levels: Sequence[float], tops: Sequence[float], count: int) -> Curve:
        """Return a curve of `count` points, of which only the levels and the greatest value of each are known.

        It needs three or more levels of equal lengths. The first of the greatest values is taken as the start of the
        curve, which is rather too high than too low.
        """
        curve = cls()
        curve.count = count
        curve.block_points = max(1, round(count / len(levels)))
        curve.levels, curve.tops, curve.rates = list(levels), list(tops), [math.nan] * len(levels)
        curve.best = min(smoothed(levels))
        curve._first = [tops[0]]
        while len(curve.levels) >= MOST_BLOCKS:
            curve._halve()
        return curve

    def add(self, value: float, rate: float = math.nan) -> bool:
        """Add a finite value, with the learning rate at that time; return whether it completed a block."""
        self.count += 1
        if self.count <= FIRST_POINTS:
            self._first.append(value)
            self._start = None
        size = self.block_points
        if not rate >= self._lowest_rate:
            self._lowest_rate = rate
        if size == 1:
            self.levels.append(value)
            self.tops.append(value)
        else:
            chunk = self._chunk
            chunk.append(value)
            if len(chunk) < size and len(chunk) < CHUNK:
                return False
            self._close_chunk(chunk)
            if self._chunks * CHUNK < size:
                return False
            self.levels.append(self._sum / self._chunks)
            self._chunks, self._sum = 0, 0.0
        self.rates.append(self._lowest_rate)
        self._lowest_rate = math.nan
        if len(self.levels) >= MOST_BLOCKS:
            self._halve()
        else:
            self.best = min(self.best, median(self.levels[-3:]))
        return True

    def _close_chunk(self, chunk: list[float]) -> None:
        top = max(chunk)
        if self._chunks:
            self.tops[-1] = max(self.tops[-1], top)
        else:
            self.tops.append(top)
        self._chunks += 1
        self._sum += median(chunk)
        chunk.clear()

    def _halve(self) -> None:
        self.levels = [(one + other) / 2 for one, other in zip(self.levels[::2], self.levels[1::2], strict=True)]
        self.tops = [max(one, other) for one, other in zip(self.tops[::2], self.tops[1::2], strict=True)]
        self.rates = [min(one, other) for one, other in zip(self.rates[::2], self.rates[1::2], strict=True)]
        self.block_points *= 2
        # Recomputed from the longer blocks, which have less noise than the short ones before.
        self.best = min(smoothed(self.levels))

    def best_at(self, rate: float, before: int) -> float | None:
        """Return the lowest level, after a running median of three, of blocks with this learning rate or a greater one.

        The newest `before` blocks do not count, and blocks without a known rate do. None if there are fewer than three.
        """
        own = [level for level, held in zip(self.levels[:-before], self.rates, strict=False) if not held < rate]
        return min(smoothed(own)) if len(own) >= 3 else None

    @property
    def start(self) -> float:
        """The level at which the curve began: the median of its first ten points."""
        if self._start is None:
            self._start = median(self._first)
        return self._start


def smoothed(levels: Sequence[float]) -> list[float]:
    """Return the running median of three; the result is two values shorter."""
    return [
        min(max(one, two), max(min(one, two), three))
        for one, two, three in zip(levels, levels[1:], levels[2:], strict=False)
    ]


def noise_of(levels: Sequence[float]) -> float:
    """Return the standard deviation of the noise around the trend of at least three levels.

    The median of the differences between neighbours is the trend, and their median absolute deviation the noise.
    """
    differences = [later - earlier for earlier, later in zip(levels, levels[1:], strict=False)]
    trend = median(differences)
    return SIGMA_PER_DIFFERENCE * median([abs(each - trend) for each in differences])


def coarse_noise_of(levels: Sequence[float]) -> float:
    """Return `noise_of`, or seven tenths of the estimate by the mean absolute difference if that is greater.

    If values have few steps, such as the accuracy on eight samples, more than half of the differences are equal.
    """
    differences = [later - earlier for earlier, later in zip(levels, levels[1:], strict=False)]
    trend = median(differences)
    mean = sum(abs(each - trend) for each in differences) / len(differences)
    return max(noise_of(levels), COARSE_PART * SIGMA_PER_MEAN_DIFFERENCE * mean)


def deviation_of(ordered: Sequence[float]) -> tuple[float, float]:
    """Return median and robust standard deviation of values in ascending order."""
    middle = ordered[len(ordered) // 2]
    return middle, SIGMA_PER_MAD * median([abs(each - middle) for each in ordered])


def fall_of(curve: Curve) -> float:
    """Return the fall of a curve from its start to its best level, 0 if it never fell."""
    return max(0.0, curve.start - curve.best)


def returned_rise_of(levels: Sequence[float]) -> float:
    """Return the greatest rise of a curve above its lowest level from which it returned by half, 0 if there was none.

    Needs at least three levels.
    """
    kept = smoothed(levels)
    greatest, low, top = 0.0, kept[0], kept[0]
    for level in kept:
        if level < (low + top) / 2:
            greatest, top = max(greatest, top - low), level
        if level < low:
            low = top = level
        top = max(top, level)
    return greatest
