"""The state of a run as the server reports it: one value for events, `hello`, lists and the admin.

Viewers never compute a state, its group or a time: they show the fields of this event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from runs.models import Attempt, Run
from runs.protocol.causes import run_cause
from runs.protocol.events import AttemptState, StatusChanged, iso
from runs.protocol.states import LIVE, group_of
from runs.recording import feed
from steersman.slots import CPU

GPU_TIME = ("gpu_s", "gpus_held", "gpus_held_since")
# Of one attempt: more than any host has, and few enough for the column whatever a script reports.
MOST_GPUS = 100_000


def status_of(run: Run, remark: str = "") -> StatusChanged:
    """Return the state of `run` from its row and its last attempt."""
    return _status(run, run.attempts.filter(number=run.attempt).first(), remark)


def _status(run: Run, last: Attempt | None, remark: str) -> StatusChanged:
    return StatusChanged(
        state=str(run.state),
        group=group_of(run.state),
        reason=run.reason,
        cause=run_cause(run.cause, run.reason),
        remark=remark,
        attempt=run.attempt,
        ranks=last.ranks if last else run.ranks,
        started_at=iso(run.started_at) if run.started_at else None,
        ended_at=iso(run.ended_at) if run.ended_at else None,
        trained_s=run.trained_s,
        training_since=iso(run.training_since) if run.training_since else None,
        total_epochs=run.total_epochs,
        total_steps=run.total_steps,
        steps_per_epoch=run.steps_per_epoch,
        restarts=run.restarts,
        restarts_used=run.restarts_used,
        last_attempt=attempt_state(last) if last else None,
        offers=run.offers,
        not_looking_since=iso(run.not_looking_since) if run.not_looking_since else None,
    )


def attempt_state(attempt: Attempt) -> AttemptState:
    """Return the fields of an attempt that every viewer may see."""
    return AttemptState(
        number=attempt.number,
        ranks=attempt.ranks,
        started_at=iso(attempt.started_at),
        ended_at=iso(attempt.ended_at) if attempt.ended_at else None,
        resumed_from_step=attempt.resumed_step,
        last_step=attempt.last_step,
        adoptions=attempt.adoptions,
        outcome=attempt.outcome,
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        error=attempt.error,
    )


def announce_status(run_id: int, remark: str = "") -> None:
    """Set the run's training and GPU time by its attempts, and notify viewers of its state.

    Call inside the transaction that changed the state.
    """
    run = Run.objects.get(pk=run_id)
    attempts = {attempt.number: attempt for attempt in run.attempts.all()}
    run.trained_s, run.training_since = _training_time(run, attempts.values())
    _set_gpu_time(run, attempts.values())
    run.save(update_fields=["trained_s", "training_since", *GPU_TIME])
    feed.append(run_id, _status(run, attempts.get(run.attempt), remark))


def store_gpu_time(run_id: int) -> None:
    """Set the GPU time of a run anew. Call it when an attempt has reported its devices."""
    run = Run.objects.get(pk=run_id)
    _set_gpu_time(run, run.attempts.all())
    run.save(update_fields=GPU_TIME)


def gpus_of(environment: Mapping[str, Any]) -> int:
    """Return how many GPUs an attempt holds by its environment: those it trains on, or else those that it may use.

    A script may report any value under any name.
    """
    used, visible = environment.get("gpu_uuids"), environment.get("cuda_devices")
    if isinstance(used, list) and used:
        return min(len(used), MOST_GPUS)
    if environment.get("device") == CPU or not isinstance(visible, list):
        return 0
    return min(len(visible), MOST_GPUS)


def _set_gpu_time(run: Run, attempts: Iterable[Attempt]) -> None:
    """A paused attempt holds its GPUs; a silent one is counted up to its last heartbeat."""
    run.gpu_s, run.gpus_held, run.gpus_held_since = 0.0, 0, None
    for attempt in attempts:
        gpus = gpus_of(attempt.environment)
        if gpus and attempt.ended_at is None and run.state in LIVE:
            run.gpus_held, run.gpus_held_since = gpus, attempt.started_at
            continue
        end = attempt.ended_at or run.heartbeat_at or attempt.started_at
        run.gpu_s += gpus * max(0.0, (end - attempt.started_at).total_seconds())


def _training_time(run: Run, attempts: Iterable[Attempt]) -> tuple[float, datetime | None]:
    """Return for how many seconds a run trained before, and since when it trains now: None while it is paused.

    Pauses of an attempt do not count: while it trains, `training_since` is later than its start by their length. An
    attempt without heartbeats counts up to its last one, because it may have stopped since.
    """
    total, since = timedelta(), None
    for attempt in attempts:
        begun = attempt.started_at + timedelta(seconds=attempt.paused_s)
        is_live = attempt.ended_at is None and run.state in LIVE
        if is_live and attempt.paused_since is None:
            since = begun
            continue
        end = attempt.ended_at or (None if is_live else run.heartbeat_at) or attempt.started_at
        if attempt.paused_since is not None:
            end = attempt.paused_since if is_live else min(end, attempt.paused_since)
        total += max(end - begun, timedelta())
    return total.total_seconds(), since
