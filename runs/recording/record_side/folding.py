"""Compacts the events of a run, so that their number does not grow with its length."""

from __future__ import annotations

import time

from runs.models import Run
from runs.series import storage

# Step metrics of this many events are compacted at once; the newest events stay for viewers that reconnect.
FOLD_EVENTS = 500
KEPT_EVENTS = 1_000
# A few seconds of a burst: a portal that reads events from the database, and a page that was just loaded, need them.
KEPT_EVENTS_OF_A_BURST = 50
FOLD_INTERVAL_S = 10.0
LARGEST_UNFOLDED_POINTS = 20_000


class Folding:
    """Compacts the events of one run now and then."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._looked_at = time.monotonic()
        self._unfolded_points = 0

    def note(self, points: int) -> None:
        """Count numbers that were stored."""
        self._unfolded_points += points

    @property
    def is_due(self) -> bool:
        """Whether `look` would do something."""
        return time.monotonic() - self._looked_at >= FOLD_INTERVAL_S

    def look(self) -> None:
        """Compact if there is enough; call often."""
        if not self.is_due:
            return
        self._looked_at = time.monotonic()
        last, folded = Run.objects.values_list("last_seq", "replay_from").get(pk=self._run_id)
        if last - folded > KEPT_EVENTS + FOLD_EVENTS or self._unfolded_points > LARGEST_UNFOLDED_POINTS:
            self.fold_all_but_the_newest()

    def fold_all_but_the_newest(self) -> None:
        # Events of a burst are large: reading them with each chart would cost more than the reload of a viewer.
        keep = KEPT_EVENTS if self._unfolded_points <= LARGEST_UNFOLDED_POINTS else KEPT_EVENTS_OF_A_BURST
        storage.fold(self._run_id, keep_latest=keep)
        self._unfolded_points = 0
