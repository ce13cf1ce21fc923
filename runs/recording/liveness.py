"""Whether runs and hosts are alive, by heartbeats in the database and on the channel layer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from runs.models import Agent, Host, Run
from runs.recording import announcer
from runs.recording.feed import HEARTBEATS_GROUP
from runs.recording.lifecycle import SILENT_AFTER_S, UNREACHABLE_AFTER_S
from runs.statements.write_probe import takes_writes

# A heartbeat is overdue after this time. It is then checked whether it could be stored at all.
OVERDUE_S = UNREACHABLE_AFTER_S / 2
# Pages ask for many runs at once.
SAME_ANSWER_S = 0.5
# A sender that was silent for longer when an outage was noticed is not alive during the outage either.
MOST_EXCUSED_S = 600.0


class ReceivedHeartbeats:
    """The last heartbeat of each run and host on the channel layer, sent while the database was unavailable.

    Safe to use from any thread. Heartbeats older than `SILENT_AFTER_S` are dropped.
    """

    def __init__(self) -> None:
        # Times by `time.monotonic`, by run and attempt, or by the name of a host.
        self._received_at: dict[tuple[int, int] | str, float] = {}

    def listen(self) -> None:
        """Receive heartbeats from now on, until the process ends."""
        announcer.current().listen(HEARTBEATS_GROUP, self.take)

    def take(self, message: dict[str, Any]) -> None:
        now = time.monotonic()
        current = {key: at for key, at in self._received_at.items() if now - at < SILENT_AFTER_S}
        key = message["host"] if "host" in message else (message["run"], message["attempt"])
        self._received_at = {**current, key: now}

    def received_at(self, run_id: int, attempt: int) -> float:
        """Return the time of the last heartbeat of an attempt's owner, by `time.monotonic`; -inf if there was none."""
        return self._received_at.get((run_id, attempt), -math.inf)

    def silent_s(self, run_id: int, attempt: int) -> float:
        """Return the seconds since then."""
        return time.monotonic() - self.received_at(run_id, attempt)

    def host_silent_s(self, host: str) -> float:
        """Return the seconds since the last heartbeat of a host's `watch`; infinity if there was none."""
        return time.monotonic() - self._received_at.get(host, -math.inf)


received_heartbeats = ReceivedHeartbeats()


class WriteWatch:
    """When the database last took no writes: heartbeats that are missing since then say nothing about their senders.

    Safe to use from any thread. `probe` returns whether the database takes writes now.
    """

    def __init__(self, probe: Callable[[], bool] = takes_writes) -> None:
        self._probe = probe
        # By `time.monotonic`: the last look, and the first and the last refusal of the present outage.
        self._looked_at = self._refused_since = self._refused_at = -math.inf

    def look(self) -> bool:
        """Return whether the database takes writes now.

        Call it before a transaction that judges a silence, because there it could only see its own lock.
        """
        now = time.monotonic()
        if now - self._looked_at < SAME_ANSWER_S:
            return self._refused_at < self._looked_at
        takes = self._probe()
        if not takes:
            if now - self._refused_at > UNREACHABLE_AFTER_S:
                self._refused_since = now
            self._refused_at = now
        self._looked_at = now
        return takes

    def excuses(self, silent_s: float) -> bool:
        """Return whether a sender may be silent for `silent_s` only because the database takes no heartbeats, or took
        none until just now.

        Call it if a heartbeat is missing: on SQLite it may try to lock the database.
        """
        now = time.monotonic()
        outage_s = now - self._refused_since if now - self._refused_at < UNREACHABLE_AFTER_S else 0.0
        if silent_s - outage_s > MOST_EXCUSED_S:
            return False
        return not self.look() or now - self._refused_at < UNREACHABLE_AFTER_S


write_watch = WriteWatch()


def life_after(silent_s: float) -> str:
    """Return the state after `silent_s` seconds without a heartbeat: alive, unreachable or silent."""
    if silent_s >= SILENT_AFTER_S:
        return "silent"
    return "unreachable" if silent_s >= UNREACHABLE_AFTER_S else "alive"


def silent(run: Run, now: datetime) -> bool:
    """Return whether `run` should be alive but sent no heartbeat for 12 s, to the database or on the channel layer.

    While the database takes no heartbeats, no run is silent. Uses this host's wall clock, which is good enough to show
    a state, but not to take over a run.
    """
    if not run.is_live:
        return False
    last_sign = run.heartbeat_at or run.started_at
    stored_s = (now - last_sign).total_seconds() if last_sign is not None else math.inf
    silent_s = min(stored_s, received_heartbeats.silent_s(run.pk, run.attempt))
    return silent_s > SILENT_AFTER_S and not write_watch.excuses(silent_s)


def agent_is_living(agent: Agent, now: datetime) -> bool:
    """Return whether an agent sent a report recently, or could not be heard, and did not say that it ends."""
    if agent.has_left:
        return False
    silent_s = (now - agent.heartbeat_at).total_seconds()
    return silent_s < SILENT_AFTER_S or write_watch.excuses(silent_s)


def host_is_living(host: Host, now: datetime) -> bool:
    """Return whether the `watch` of a host sent a heartbeat recently, to the database or on the channel layer.

    While the database takes no heartbeats, a host stays alive. Uses this host's wall clock, which is good enough to
    offer a host, but not to take over a run.
    """
    silent_s = min((now - host.heartbeat_at).total_seconds(), received_heartbeats.host_silent_s(host.name))
    return silent_s < SILENT_AFTER_S or write_watch.excuses(silent_s)


def heartbeat_age_s(run: Run, now: datetime) -> float | None:
    """Return the seconds since the last heartbeat of `run`, None if there was none, or if none could be stored."""
    if run.heartbeat_at is None:
        return None
    stored_s = max(0.0, (now - run.heartbeat_at).total_seconds())
    silent_s = min(stored_s, received_heartbeats.silent_s(run.pk, run.attempt))
    return None if silent_s > SILENT_AFTER_S and write_watch.excuses(silent_s) else silent_s


def duration_of(run: Run, now: datetime) -> timedelta | None:
    """Return how long the run has trained in all its attempts, None if it never started."""
    if run.started_at is None:
        return None
    present = now - run.training_since if run.training_since is not None else timedelta()
    return timedelta(seconds=run.trained_s) + max(present, timedelta())


def gpu_hours_of(run: Run, now: datetime) -> float | None:
    """Return the hours of all attempts times the GPUs that each held, None if the run never started."""
    if run.started_at is None:
        return None
    held = (now - run.gpus_held_since).total_seconds() if run.gpus_held_since is not None else 0.0
    return (run.gpu_s + run.gpus_held * max(held, 0.0)) / 3600


def percent_of(run: Run) -> int | None:
    """Return the completed part of the planned steps or epochs: 0 to 100."""
    if run.total_steps:
        return min(100, run.step * 100 // run.total_steps)
    if run.total_epochs:
        return min(100, run.epoch * 100 // run.total_epochs)
    return None
