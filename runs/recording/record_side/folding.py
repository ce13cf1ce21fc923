"""Keeps the number of a run's events bounded: work and storage must not grow with the reports of a run of days."""

from __future__ import annotations

import time

from runs.models import Run
from runs.series import storage

# Step metrics of this many events are folded at once; the newest stay for viewers that reconnect.
FOLD_EVENTS = 500
KEPT_EVENTS = 1_000
# Seconds of it: a portal that reads events from the database must find them, and so must a page that was just loaded.
KEPT_EVENTS_OF_A_BURST = 50
FOLD_INTERVAL_S = 10.0
LARGEST_UNFOLDED_POINTS = 20_000


class Folding:
    """Folds the events of one run now and then."""

    def __init__(self, run_id: int) -> None:
        self._run_id = run_id
        self._looked_at = time.monotonic()
        self._unfolded_points = 0

    def note(self, points: int) -> None:
        """Count numbers that were stored."""
        self._unfolded_points += points

    def look(self) -> None:
        """Fold where there is enough to fold; call often."""
        now = time.monotonic()
        if now - self._looked_at < FOLD_INTERVAL_S:
            return
        self._looked_at = now
        last, folded = Run.objects.values_list("last_seq", "replay_from").get(pk=self._run_id)
        if last - folded > KEPT_EVENTS + FOLD_EVENTS or self._unfolded_points > LARGEST_UNFOLDED_POINTS:
            self.fold_all_but_the_newest()

    def fold_all_but_the_newest(self) -> None:
        # Events of a burst are so large that reading a chart past them would cost more than a viewer's reload.
        keep = KEPT_EVENTS if self._unfolded_points <= LARGEST_UNFOLDED_POINTS else KEPT_EVENTS_OF_A_BURST
        storage.fold(self._run_id, keep_latest=keep)
        self._unfolded_points = 0
