"""The time that each of several ranks takes for a step by itself, from their logged values. No Django, no torch.

Ranks wait for one another in collectives, so all of them step at the pace of the slowest one. They differ in the time
that a rank spends before it waits. The rank with the longest such time delays the others. The estimate for another rank
is its step time minus the difference to the longest such time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from steersman.agent.journals.reduction import DATA_WAIT_FRACTION, OWN_MS, STEP_MS
from steersman.records.kinds import PointRecord

Names = tuple[str, ...]


class RankTimes:
    """Estimates the times of ranks from the points that they logged for one step.

    It uses the best value that the ranks log: `speed/own_ms`; the wait for data, which is `speed/data_wait_fraction` of
    `speed/step_ms`; only `speed/step_ms`, which distinguishes ranks that do not wait for one another within a step;
    otherwise the time between points, for ranks that do not wait at all.
    """

    def __init__(self) -> None:
        # The names of the previous points, and whether they contain times.
        self._names: Names = ()
        self._tells = False
        self._last: dict[int, float] = {}

    def of_step(self, by_rank: Mapping[int, PointRecord]) -> dict[int, float]:
        """Return the time of each rank in milliseconds; `by_rank` has the ranks' points of one step and one call.

        Empty if the points do not show the times.
        """
        names = tuple(next(iter(by_rank.values())).values)
        tells = OWN_MS in names or STEP_MS in names
        if not self._names or (tells and not self._tells):
            self._names, self._tells = names, tells
        if names != self._names:
            return {}
        return own_times(by_rank) if tells else self._gaps(by_rank)

    def _gaps(self, by_rank: Mapping[int, PointRecord]) -> dict[int, float]:
        gaps = {rank: 1e3 * (point.time - self._last[rank]) for rank, point in by_rank.items() if rank in self._last}
        self._last |= {rank: point.time for rank, point in by_rank.items()}
        return gaps


class RankSamples:
    """The mean time of the steps since the last sample, for each rank."""

    def __init__(self) -> None:
        self._times = RankTimes()
        self._sums: dict[int, float] = {}
        self._counts: dict[int, int] = {}

    def note(self, steps: Iterable[Mapping[int, PointRecord]]) -> None:
        """Add the points of several steps, each by rank."""
        for by_rank in steps:
            for rank, milliseconds in self._times.of_step(by_rank).items():
                # If points are read again, the gap to the previous reading is negative.
                if milliseconds >= 0:
                    self._sums[rank] = self._sums.get(rank, 0.0) + milliseconds
                    self._counts[rank] = self._counts.get(rank, 0) + 1

    def take(self) -> dict[str, float]:
        """Return `host/rank/<k>/step_ms` in milliseconds for each rank that has stepped since the last call."""
        means = {f"host/rank/{rank}/step_ms": total / self._counts[rank] for rank, total in sorted(self._sums.items())}
        self._sums, self._counts = {}, {}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def own_times(by_rank: Mapping[int, PointRecord]) -> dict[int, float]:
    """Return for each rank how long its step would take without waiting for others, in milliseconds.

    Each point has `speed/own_ms` or `speed/step_ms`, and all have the same names. Empty if a value is not finite.
    """
    logged = {rank: point.values for rank, point in by_rank.items()}
    steps = {rank: values[STEP_MS] if STEP_MS in values else values[OWN_MS] for rank, values in logged.items()}
    works = {
        rank: values[OWN_MS] if OWN_MS in values else values.get(DATA_WAIT_FRACTION, 0.0) * steps[rank]
        for rank, values in logged.items()
    }
    if not all(math.isfinite(each) for each in (*steps.values(), *works.values())):
        return {}
    slowest, longest = max(steps.values()), max(works.values())
    # A rank that steps faster than the slowest one did not wait for it.
    return {rank: min(steps[rank], slowest - (longest - works[rank])) for rank in by_rank}
