"""Rate limits: token buckets, kept in memory, for actions of any kind."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

Clock = Callable[[], float]


class Bucket:
    """Holds at most `burst` tokens, starts full, and gains `per_s` tokens per second."""

    __slots__ = ("_at", "_burst", "_clock", "_left", "_per_s")

    def __init__(self, burst: float, per_s: float, clock: Clock = time.monotonic) -> None:
        self._burst = self._left = burst
        self._per_s = per_s
        self._clock = clock
        self._at = clock()

    def has(self, cost: float = 1.0) -> bool:
        """Return whether it holds `cost` tokens."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        return self._left >= cost

    def take(self, cost: float = 1.0) -> bool:
        """Take `cost` tokens and return True; if it holds fewer, take none and return False."""
        if not self.has(cost):
            return False
        self._left -= cost
        return True


class Limiter:
    """A bucket for each key. Threads may share it.

    It keeps at most `most_keys` buckets, and drops the least recently used ones first.
    """

    def __init__(self, burst: float, per_s: float, most_keys: int = 10_000, clock: Clock = time.monotonic) -> None:
        self._burst = burst
        self._per_s = per_s
        self._most_keys = most_keys
        self._clock = clock
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, key: Hashable, cost: float = 1.0) -> bool:
        """Return whether the bucket of `key` holds `cost` tokens."""
        with self._lock:
            bucket = self._buckets.get(key)
            return self._burst >= cost if bucket is None else bucket.has(cost)

    def take(self, key: Hashable, cost: float = 1.0) -> bool:
        """Take `cost` tokens of `key` and return True; if it holds fewer, take none and return False."""
        with self._lock:
            bucket = self._buckets.get(key)
            if bucket is None:
                bucket = self._buckets[key] = Bucket(self._burst, self._per_s, self._clock)
                if len(self._buckets) > self._most_keys:
                    self._buckets.popitem(last=False)
            self._buckets.move_to_end(key)
            return bucket.take(cost)

    def __contains__(self, key: Hashable) -> bool:
        """Return whether `key` has a bucket, because tokens were taken recently."""
        return key in self._buckets

    def __len__(self) -> int:
        return len(self._buckets)
