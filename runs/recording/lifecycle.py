"""The lease of a run, fencing, and every transition of its state.

The attempt number is the fencing token (Kleppmann, "How to do distributed locking", 2016): each write of an owner is
conditional on it, so an owner that was suspended and replaced writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Attempt, Checkpoint, Command, CommandState, RemoteLaunch, Run, RunState, as_wire
from runs.protocol import states
from runs.protocol.causes import Death, EndCause, OfReplay, Silence, SilentHost, command_cause, stored
from runs.protocol.events import CommandChanged, KnobsChanged, StallChanged, iso
from runs.recording import alerts, feed, state_alerts
from runs.recording.status import announce_status
from runs.statements import repeated

SILENT_AFTER_S = 12.0
UNREACHABLE_AFTER_S = 6.0
HEARTBEAT_INTERVAL_S = 1.0
SILENCE = Silence(seconds=round(SILENT_AFTER_S))
LONGEST_REASON_CHARACTERS = 500

NOT_DELIVERED = "The command was not delivered before it expired."

LIVE = tuple(state for state in RunState if state in states.LIVE)
ENDED = tuple(state for state in RunState if state in states.ENDED)
UNSETTLED = (CommandState.SENT, CommandState.DELIVERED)
# States in which a run may be although its owner is alive, because others gave it up too soon.
RECOVERING = (RunState.LOST, RunState.QUEUED)


class Fenced(Exception):
    """Another attempt holds the run now: this owner must not write any more."""


class NotStartable(Exception):
    """No attempt can start in the run's state; the text says which state it is and what to do."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of an attempt to write to a run. `attempt_id` is the row, `number` the fencing token."""

    run_id: int
    attempt_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a run, or asks for it."""

    host: str
    boot_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """The end of an attempt. `error` is one line for everybody, `traceback` is for operators.

    `cause` has the content of the English `error` as data, None if the error comes from the training.
    """

    outcome: str
    exit_code: int | None = None
    signal: str = ""
    error: str = ""
    traceback: str = ""
    cause: EndCause | None = None

    @classmethod
    def of(cls, outcome: str, cause: EndCause, exit_code: int | None = None, signal: str = "") -> AttemptEnd:
        return cls(outcome, exit_code, signal, str(cause), cause=cause)


def open_attempt(
    run_id: int,
    holder: Holder,
    expected_attempt: int,
    *,
    command_line: list[str],
    resumed_from: Checkpoint | None = None,
    restart: bool = False,
    ranks: int = 1,
    launch: str = "",
    given_devices: Sequence[str] = (),
) -> Lease:
    """Start the next attempt of a run whose current attempt is `expected_attempt`, and set the run running.

    It trains with `ranks` processes. `launch` identifies the launch of torchrun that started them, "" if none did.
    `given_devices` are those of the queue, none if a person starts it. A `restart` is one that the run was queued for
    when it failed; any other start resets its number of restarts. Raises `Fenced` if another attempt was opened
    meanwhile, or the restart was given up, and `NotStartable` if the run has finished.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if run.attempt != expected_attempt:
            raise Fenced(f"run {run_id}: another process has just started attempt {run.attempt}")
        if restart and (run.state != RunState.QUEUED or not run.restarts_used):
            raise Fenced(f"run {run_id} was taken out of the queue before it could be started")
        if given_devices and (run.state != RunState.QUEUED or run.given_devices != list(given_devices)):
            # It was withdrawn, or queued again, while the queue started it.
            raise Fenced(f"run {run_id} was taken out of the queue before it could be started")
        if run.state == RunState.FINISHED:
            raise NotStartable(f"run {run_id} has finished: create a new run to train again")
        number = run.attempt + 1
        # A holder on another host that sent no heartbeats is fenced out by the new number. How long it trained after
        # its last heartbeat is unknown.
        silent_since = run.heartbeat_at or timezone.now()
        if run.attempts.filter(ended_at=None).update(ended_at=silent_since, outcome=RunState.LOST):
            announce_status(run_id, remark="another attempt replaces this one")
            alerts.note_left_out(run_id, run.attempt)
        alerts.clear_all(run_id)
        for command in open_commands(run_id):
            outcome = "The attempt ended, but its end was not reported."
            if not _keep_for_next(command):
                complete_command(command, CommandState.EXPIRED, outcome=outcome, only_from=CommandState.DELIVERED)
        attempt = Attempt.objects.create(
            run=run,
            number=number,
            host=holder.host,
            boot_id=holder.boot_id,
            supervisor_pid=holder.pid,
            command_line=command_line,
            resumed_from=resumed_from,
            resumed_step=resumed_from.step if resumed_from else None,
            ranks=ranks,
            launch=launch,
        )
        now = timezone.now()
        Run.objects.filter(pk=run_id).update(
            attempt=number,
            state=RunState.RUNNING,
            reason="",
            started_at=run.started_at or now,
            ended_at=None,
            heartbeat=F("heartbeat") + 1,
            heartbeat_at=now,
            is_paused=False,
            stalled_since=None,
            not_looking_since=None,
            knobs=[],
            handled_commands=[],
            given_devices=list(given_devices),
            after_run=None,
            line_at=None,
            priority=0,
            restarts_used=run.restarts_used if restart else 0,
        )
        if run.stalled_since is not None:
            feed.append(run_id, StallChanged(attempt=run.attempt, stalled=False))
        announce_status(run_id, remark=_start_remark(resumed_from))
        if run.knobs:
            # The new attempt declares its own knobs.
            feed.append(run_id, KnobsChanged(attempt=number, step=run.step, knobs=[]))
        if restart:
            state_alerts.restarted(run_id, number)
    return Lease(run_id=run_id, attempt_id=attempt.pk, number=number)


def adopt_attempt(attempt: Attempt, holder: Holder) -> Lease:
    """Take over the supervision of a live worker whose supervisor died on this host. Raises `Fenced`."""
    lease = Lease(run_id=attempt.run_id, attempt_id=attempt.pk, number=attempt.number)
    with transaction.atomic():
        # Lock the row of the run first, as everywhere: different lock orders could deadlock.
        renew_lease(lease)
        adopted = Attempt.objects.filter(pk=attempt.pk, ended_at=None)
        if not adopted.update(supervisor_pid=holder.pid, adoptions=F("adoptions") + 1):
            raise Fenced(f"attempt {attempt.number} has ended")
        announce_status(attempt.run_id, remark="another supervisor took the training over")
    return lease


def renew_lease(lease: Lease, *, recover: bool = True, **fields: Any) -> None:
    """Count a heartbeat and write `fields` of the run if the lease is still valid. Raises `Fenced` if it is not.

    If the run was set lost, or queued to resume elsewhere, the heartbeat of its owner sets it running again. With
    `recover` false it does not, which is for records of an owner that has died.
    """
    held = {"id": lease.run_id, "attempt": lease.number}
    written, counted = {"heartbeat_at": timezone.now(), **fields}, {"heartbeat": 1}
    if repeated.update(Run, {**held, "state": LIVE}, written, counted):
        return
    with transaction.atomic():
        if not repeated.update(Run, held, written, counted):
            raise Fenced(f"run {lease.run_id} is no longer held by attempt {lease.number}")
        if recover and "state" not in fields:
            _recover(lease)


def _recover(lease: Lease) -> None:
    """Return a run that was given up too soon to the state that its worker last reported.

    An attempt that has ended does not train: its run waits for a restart, although its host side may still report.
    """
    if not Attempt.objects.filter(pk=lease.attempt_id, ended_at=None).exists():
        return
    held = Run.objects.filter(pk=lease.run_id, attempt=lease.number)
    state = RunState.PAUSED if held.filter(is_paused=True).exists() else RunState.RUNNING
    if held.filter(state__in=RECOVERING).update(state=state, reason=""):
        state_alerts.heartbeats_returned(lease.run_id)
        announce_status(lease.run_id, remark="the training host sends heartbeats again")


def note_pause(lease: Lease, paused: bool) -> None:
    """Record that the worker waits or continues, and notify viewers.

    Call after the lease was renewed (`renew_lease`).
    """
    state = RunState.PAUSED if paused else RunState.RUNNING
    held = Run.objects.filter(pk=lease.run_id, attempt=lease.number)
    held.update(is_paused=paused)
    _count_pause(lease, paused)
    if held.filter(state__in=LIVE).exclude(state=state).update(state=state, reason=""):
        announce_status(lease.run_id)


def _count_pause(lease: Lease, paused: bool) -> None:
    """Record since when an attempt waits, or for how long it waited."""
    now = timezone.now()
    attempt = Attempt.objects.filter(pk=lease.attempt_id)
    if paused:
        attempt.filter(paused_since=None).update(paused_since=now)
        return
    since = attempt.values_list("paused_since", flat=True).get()
    if since is not None:
        waited = max((now - since).total_seconds(), 0.0)
        attempt.update(paused_since=None, paused_s=F("paused_s") + waited)


def mark_lost(run_id: int, attempt: int, heartbeat: int, cause: Silence | SilentHost | Death | None = None) -> bool:
    """Set a live run lost if its owner has sent nothing since `heartbeat`; notify viewers; return whether it was.

    The attempt stays open: its owner may only be disconnected, and the run recovers at its next heartbeat (see
    `renew_lease`). Without `cause`, the cause is the missing heartbeat.
    """
    cause = cause or _silence_of(run_id, attempt)
    silent = Run.objects.filter(pk=run_id, attempt=attempt, heartbeat=heartbeat, state__in=LIVE)
    with transaction.atomic():
        if not silent.update(state=RunState.LOST, reason=str(cause), cause=stored(cause)):
            return False
        state_alerts.lost(run_id, attempt, cause)
        announce_status(run_id)
    return True


def _silence_of(run_id: int, attempt: int) -> Silence | SilentHost:
    """Return the cause with which a silent run is lost."""
    if not RemoteLaunch.objects.filter(run_id=run_id, attempt=attempt).exists():
        return SILENCE
    heard_at = Run.objects.values_list("heartbeat_at", flat=True).get(pk=run_id)
    return SilentHost(since=iso(heard_at or timezone.now()))


def end_attempt(lease: Lease, end: AttemptEnd, remark: str = "") -> None:
    """Record how the attempt ended, and set the run's state accordingly; pending commands expire.

    Those of a replay wait for the next attempt, unless the training has finished.
    `remark` is a sentence about the run that is not in the attempt's error.
    """
    now = timezone.now()
    room = LONGEST_REASON_CHARACTERS - len(remark) - 1
    reason = f"{end.error[:room]} {remark}".strip()
    with transaction.atomic():
        stalled = Run.objects.filter(pk=lease.run_id, attempt=lease.number).exclude(stalled_since=None).exists()
        over: dict[str, Any] = {"is_paused": False, "stalled_since": None, "not_looking_since": None}
        renew_lease(lease, state=end.outcome, reason=reason, cause=stored(end.cause), ended_at=now, **over)
        if stalled:
            feed.append(lease.run_id, StallChanged(attempt=lease.number, stalled=False))
        Attempt.objects.filter(pk=lease.attempt_id).update(
            ended_at=now,
            outcome=end.outcome,
            exit_code=end.exit_code,
            signal=end.signal,
            error=end.error,
            traceback=end.traceback,
        )
        alerts.clear_all(lease.run_id)
        if end.outcome == RunState.FAILED:
            state_alerts.crashed(lease.run_id, lease.number, end.error, end.cause)
        alerts.note_left_out(lease.run_id, lease.number)
        for command in open_commands(lease.run_id):
            outcome = "The attempt ended before the command took effect."
            if end.outcome == RunState.FINISHED or not _keep_for_next(command):
                complete_command(command, CommandState.EXPIRED, outcome=outcome)
        announce_status(lease.run_id)


def _keep_for_next(command: Command) -> bool:
    """Keep a command of a replay for the next attempt; return whether it is one.

    A replay is not over when an attempt ends. Call inside a transaction.
    """
    if not isinstance(command_cause(command.cause), OfReplay):
        return False
    delivered = Command.objects.filter(pk=command.pk, state=CommandState.DELIVERED)
    if delivered.update(state=CommandState.SENT, delivered_at=None, attempt=None):
        command.refresh_from_db()
        feed.append(command.run_id, CommandChanged(**as_wire(command)))
    return True


def open_commands(run_id: int) -> list[Command]:
    """Return the commands of a run that were sent or delivered and have no outcome yet, oldest first."""
    return list(Command.objects.filter(run_id=run_id, state__in=UNSETTLED).order_by("sent_at", "id"))


def runs_with_open_commands(run_ids: Collection[int]) -> frozenset[int]:
    """Return those of the runs that have commands without an outcome."""
    unsettled = Command.objects.filter(run_id__in=run_ids, state__in=UNSETTLED).order_by()
    return frozenset(unsettled.values_list("run_id", flat=True).distinct())


def deliver_command(lease: Lease, command: Command) -> bool:
    """Mark a command as delivered to the worker and notify viewers; return whether the worker may get it.

    If it was cancelled or expired meanwhile, it must not be posted.
    """
    now = timezone.now()
    with transaction.atomic():
        renew_lease(lease)
        sent = Command.objects.filter(pk=command.pk, state=CommandState.SENT)
        if sent.update(state=CommandState.DELIVERED, delivered_at=now, attempt=lease.number):
            command.refresh_from_db()
            feed.append(lease.run_id, CommandChanged(**as_wire(command)))
            return True
    return Command.objects.filter(pk=command.pk, state=CommandState.DELIVERED, attempt=lease.number).exists()


def expire_commands(run_id: int | None = None) -> None:
    """Expire the commands of a run, or of all runs, that were not delivered in time.

    Uses the clock of the database, which all hosts share: the clock of a training host may be hours wrong.
    """
    late = Command.objects.filter(state=CommandState.SENT, expires_at__lt=Now())
    for command in late if run_id is None else late.filter(run_id=run_id):
        complete_command(command, CommandState.EXPIRED, outcome=NOT_DELIVERED, only_from=CommandState.SENT)


def seconds_left(command: Command) -> float | None:
    """Return the seconds during which a command may still take effect, by the database's clock; None for ever."""
    if command.expires_at is None:
        return None
    left = ExpressionWrapper(F("expires_at") - Now(), output_field=DurationField())
    found = Command.objects.filter(pk=command.pk).values_list(left, flat=True).first()
    return found.total_seconds() if found is not None else None


def complete_command(
    command: Command,
    state: CommandState,
    *,
    outcome: str = "",
    step: int | None = None,
    old: Any = None,
    new: Any = None,
    effective: Any = None,
    ranks: int | None = None,
    only_from: CommandState | None = None,
) -> bool:
    """Record the outcome of a command, once; return whether this call did. Notifies viewers.

    With `only_from`, only if the command is in that state.
    """
    unsettled = Command.objects.filter(pk=command.pk, state__in=(only_from,) if only_from else UNSETTLED)
    with transaction.atomic():
        # Lock the row of the run first, as everywhere.
        list(Run.objects.select_for_update().filter(pk=command.run_id).values_list("pk"))
        settled = unsettled.update(
            state=state,
            applied_at=timezone.now() if state == CommandState.APPLIED else None,
            step=step,
            old_value=old,
            new_value=new,
            effective_value=effective,
            ranks=ranks,
            outcome=outcome[:500],
        )
        if settled:
            command.refresh_from_db()
            feed.append(command.run_id, CommandChanged(**as_wire(command)))
    return bool(settled)


def correct_effect(command_id: str, run_id: int, effective: Any) -> None:
    """Correct the effective value that an applied command reported, and notify viewers."""
    applied = Command.objects.filter(pk=command_id, run_id=run_id, state=CommandState.APPLIED)
    with transaction.atomic():
        list(Run.objects.select_for_update().filter(pk=run_id).values_list("pk"))
        if applied.update(effective_value=effective):
            feed.append(run_id, CommandChanged(**as_wire(applied.get())))


def _start_remark(resumed_from: Checkpoint | None) -> str:
    return f"resumed from step {resumed_from.step}" if resumed_from else ""
