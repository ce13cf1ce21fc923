"""Records the end of an attempt, as its host side reports it: once, or as history if another attempt holds the run.

Never imports torch.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from runs.models import Attempt, Command, CommandState, Run, RunState
from runs.protocol.commands import Stop
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed, queue
from runs.recording.lifecycle import AttemptEnd, Lease
from steersman.messages.ended import Concluded, Ended
from steersman.records.kinds import EndRecord
from trainer.control.exit_status import judge, name_rank, shortened
from trainer.control.restart import conclude, ending_commands


def conclude_ended(lease: Lease, ended: Ended) -> Concluded:
    """Record how an attempt ended and what follows; return both. A second call changes nothing.

    If the attempt no longer holds the run, only its own row is changed.
    """
    with transaction.atomic():
        # Lock the row of the run first, as everywhere.
        run = Run.objects.select_for_update().get(pk=lease.run_id)
        attempt = Attempt.objects.get(pk=lease.attempt_id)
        end = _judged(lease, ended)
        if run.attempt != lease.number:
            _keep_as_history(lease, end)
            return Concluded(state=end.outcome, reason=end.error, exit_code=end.exit_code)
        if attempt.ended_at is None:
            conclude(lease, end, may_restart=ended.may_restart)
        return _concluded(lease)


def _concluded(lease: Lease) -> Concluded:
    """Return how an attempt ended, and when its run starts again."""
    run = Run.objects.get(pk=lease.run_id)
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    restart_in_s = None
    if queue.waits_to_restart(run) and run.queued_at is not None:
        restart_in_s = max(0.0, (run.queued_at - timezone.now()).total_seconds())
    return Concluded(
        state=attempt.outcome,
        reason=attempt.error,
        exit_code=attempt.exit_code,
        restart_in_s=restart_in_s,
        used=run.restarts_used,
        allowed=run.restarts,
    )


def _judged(lease: Lease, ended: Ended) -> AttemptEnd:
    words = ended.last_words
    last = EndRecord(outcome=words.outcome, error=words.error, traceback=words.traceback) if words else None
    end = judge(ended, last, stopped=_stop_was_applied(lease), by_command=bool(ending_commands(lease)))
    return shortened(name_rank(end, ended.rank) if len(ended.codes) > 1 else end)


def _stop_was_applied(lease: Lease) -> bool:
    applied = Command.objects.filter(run_id=lease.run_id, attempt=lease.number, kind=Stop.kind)
    return applied.filter(state=CommandState.APPLIED).exists()


def _keep_as_history(lease: Lease, end: AttemptEnd) -> None:
    """Write the end of an attempt into its row, instead of the preliminary "lost"."""
    unknown = Attempt.objects.filter(pk=lease.attempt_id, outcome__in=("", RunState.LOST))
    kept = unknown.update(
        ended_at=timezone.now(),
        outcome=end.outcome,
        exit_code=end.exit_code,
        signal=end.signal,
        error=end.error,
        traceback=end.traceback,
    )
    if kept:
        text = f"Attempt {lease.number}, which was overtaken, has ended: {end.error or end.outcome}"
        line = LogLine(text=text, source="steersman", level="warning")
        feed.append(lease.run_id, LogWritten(attempt=lease.number, lines=[line]))
