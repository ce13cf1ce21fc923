"""Whether runs and hosts are alive, by heartbeats in the database and on the channel layer."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from typing import Any

from runs.models import Agent, Host, Run
from runs.recording import announcer
from runs.recording.feed import HEARTBEATS_GROUP
from runs.recording.lifecycle import SILENT_AFTER_S, UNREACHABLE_AFTER_S

SILENT_AFTER = timedelta(seconds=SILENT_AFTER_S)


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


def life_after(silent_s: float) -> str:
    """Return the state after `silent_s` seconds without a heartbeat: alive, unreachable or silent."""
    if silent_s >= SILENT_AFTER_S:
        return "silent"
    return "unreachable" if silent_s >= UNREACHABLE_AFTER_S else "alive"


def silent(run: Run, now: datetime) -> bool:
    """Return whether `run` should be alive but sent no heartbeat for 12 s, to the database or on the channel layer.

    Uses this host's wall clock, which is good enough to show a state, but not to take over a run.
    """
    if not run.is_live:
        return False
    last_sign = run.heartbeat_at or run.started_at
    if last_sign is not None and now - last_sign <= SILENT_AFTER:
        return False
    return received_heartbeats.silent_s(run.pk, run.attempt) > SILENT_AFTER_S


def agent_is_living(agent: Agent, now: datetime) -> bool:
    """Return whether an agent sent a report recently, and did not say that it ends."""
    return not agent.has_left and now - agent.heartbeat_at < SILENT_AFTER


def host_is_living(host: Host, now: datetime) -> bool:
    """Return whether the `watch` of a host sent a heartbeat recently, to the database or on the channel layer.

    Uses this host's wall clock, which is good enough to offer a host, but not to take over a run.
    """
    return now - host.heartbeat_at < SILENT_AFTER or received_heartbeats.host_silent_s(host.name) < SILENT_AFTER_S


def heartbeat_age_s(run: Run, now: datetime) -> float | None:
    """Return the seconds since the last heartbeat of `run`, None if there was none."""
    if run.heartbeat_at is None:
        return None
    return min(max(0.0, (now - run.heartbeat_at).total_seconds()), received_heartbeats.silent_s(run.pk, run.attempt))


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
