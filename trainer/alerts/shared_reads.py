"""Reads the rules of all runs that a process judges, and which of them need more work, in a few queries for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from runs.alerts.rulebook.acting import with_refused_roll_backs
from runs.alerts.rulebook.aftermath import with_roll_backs
from runs.alerts.rules import Rule
from runs.models import Run
from runs.recording.alert_rules import rules_of_runs
from runs.recording.checkpoints import with_unrated
from runs.recording.lifecycle import Lease


@dataclass(frozen=True, slots=True)
class Found:
    """What was read for one attempt: the rules of its run, and whether there are rows that may need work."""

    rules: tuple[Rule, ...]
    has_unrated_checkpoints: bool
    has_refused_roll_backs: bool
    has_roll_backs: bool


class SharedReads:
    """Belongs to the threads that judge the attempts of one process. Each reads with its own connection, one at a time.

    An attempt is read together with all others that were read here before, until `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Lease, tuple[float, Found]] = {}

    def of(self, lease: Lease, most_age_s: float) -> Found:
        """Return what was read at most `most_age_s` seconds ago. Reads anew if needed.

        Raises errors of the database, and `Run.DoesNotExist`.
        """
        with self._lock:
            now = time.monotonic()
            read_at, found = self._found.get(lease, (now, None))
            if found is None or now - read_at >= most_age_s:
                read = _read([lease] if found is None else list(self._found))
                if found is not None:
                    # Runs that were deleted are not read any more.
                    self._found.clear()
                self._found |= {each: (now, new) for each, new in read.items()}
                found = read.get(lease)
        if found is None:
            raise Run.DoesNotExist(f"there is no run {lease.run_id}")
        return found

    def forget(self, lease: Lease) -> None:
        """Read an attempt no more, because its thread ends."""
        with self._lock:
            self._found.pop(lease, None)


def _read(leases: Collection[Lease]) -> Mapping[Lease, Found]:
    run_ids = {lease.run_id for lease in leases}
    rules = rules_of_runs(run_ids)
    unrated, refused, rolled_back = (read(run_ids) for read in (with_unrated, with_refused_roll_backs, with_roll_backs))
    found = {}
    for lease in leases:
        if lease.run_id in rules:
            key = (lease.run_id, lease.number)
            found[lease] = Found(rules[lease.run_id], key in unrated, key in refused, key in rolled_back)
    return found
