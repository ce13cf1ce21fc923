"""Measurements that processes store in the database, so that any web process can export them to Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from itertools import zip_longest

import msgspec

# Upper bounds, in seconds, of the buckets of the time from an announcement to the sockets.
LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# The close codes that are counted separately. All others count as one, because a viewer may send any code.
CLOSE_CODES = frozenset(
    {1000, 1001, 1005, 1006, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4404, 4408, 4409, 4429},
)
OTHER_CODE = "other"


class SupervisorReport(msgspec.Struct, frozen=True):
    """Measurements of a supervisor since its start. `journal_backlog_bytes` is the current size."""

    journal_backlog_bytes: int = 0
    transactions: int = 0
    transaction_s: float = 0.0
    announcements_dropped: int = 0


class RunWatchers(msgspec.Struct, frozen=True):
    """The watchers of a run through one web process: names of members by key, and the number of guests' sockets."""

    members: dict[str, str] = msgspec.field(default_factory=dict)
    guests: int = 0


class PortalLevels(msgspec.Struct, frozen=True):
    """The current levels of a web process."""

    viewers: int = 0
    sockets: int = 0
    watched_runs: int = 0
    queued_frames: int = 0
    queued_bytes: int = 0
    degraded: int = 0


class PortalCounts(msgspec.Struct):
    """The counts of a web process since its start.

    `latencies` has a number for each bucket, and one for larger values.
    """

    events: int = 0
    replays: int = 0
    resyncs: int = 0
    dropped_frames: int = 0
    skipped_events: int = 0
    closes: dict[str, int] = msgspec.field(default_factory=dict)
    latencies: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_S) + 1))
    latency_s: float = 0.0

    def note_latency(self, seconds: float) -> None:
        """Count an announcement that took `seconds` to the sockets; the clocks of two hosts may make it negative."""
        seconds = max(0.0, seconds)
        self.latencies[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1
        self.latency_s += seconds

    def note_close(self, code: int | None) -> None:
        shown = str(code) if code in CLOSE_CODES else OTHER_CODE
        self.closes[shown] = self.closes.get(shown, 0) + 1

    def plus(self, other: PortalCounts, sign: int = 1) -> PortalCounts:
        """Return the sum of both, or with `sign` -1 the difference."""
        codes = self.closes.keys() | other.closes.keys()
        return PortalCounts(
            events=self.events + sign * other.events,
            replays=self.replays + sign * other.replays,
            resyncs=self.resyncs + sign * other.resyncs,
            dropped_frames=self.dropped_frames + sign * other.dropped_frames,
            skipped_events=self.skipped_events + sign * other.skipped_events,
            closes={code: self.closes.get(code, 0) + sign * other.closes.get(code, 0) for code in sorted(codes)},
            # Rows of another version may have other buckets.
            latencies=[a + sign * b for a, b in zip_longest(self.latencies, other.latencies, fillvalue=0)],
            latency_s=self.latency_s + sign * other.latency_s,
        )
