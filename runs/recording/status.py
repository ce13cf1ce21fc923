"""The state of a run as the server reports it: one value for events, `hello`, lists and the admin.

Viewers never compute a state, its group or a time: they show the fields of this event.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from runs.models import Attempt, Run
from runs.protocol.causes import run_cause
from runs.protocol.events import AttemptState, StatusChanged, iso
from runs.protocol.states import LIVE, group_of
from runs.recording import feed


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
    """Update the run's training time from its attempts, and notify viewers of its state.

    Call inside the transaction that changed the state.
    """
    run = Run.objects.get(pk=run_id)
    attempts = {attempt.number: attempt for attempt in run.attempts.all()}
    run.trained_s, run.training_since = _training_time(run, attempts.values())
    run.save(update_fields=["trained_s", "training_since"])
    feed.append(run_id, _status(run, attempts.get(run.attempt), remark))


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
