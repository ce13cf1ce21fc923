"""Queueing: which runs wait to be started, on which host, and what may be done with one that waits.

`manage.py watch` starts what is queued here; the processes themselves are the training side's business.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.models import Attempt, Host, Run, RunState
from runs.recording.lifecycle import ENDED, LONGEST_REASON_CHARACTERS, SILENT_AFTER_S
from runs.recording.status import announce_status

# From these a person may queue: a run that never started, or one whose last attempt left something to do.
QUEUEABLE = (RunState.CREATED, RunState.STOPPED, RunState.FAILED, RunState.LOST)
HOST_SILENT_AFTER = timedelta(seconds=SILENT_AFTER_S)


class NotQueueable(Exception):
    """The run cannot be queued, or is not queued; the text says why and what to do."""


def enqueue(run_id: int, host: str = "") -> None:
    """Queue a run for `host`, or for the first host that takes it where that is "". Tells viewers.

    Raises `NotQueueable`, and `Run.DoesNotExist` where there is no such run.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if run.recipe_id is None:
            raise NotQueueable(
                _("This run trains a script of your own: start it where the script lies, with %(command)s")
                % {"command": start_command(run)}
            )
        if run.state not in QUEUEABLE:
            raise NotQueueable(_("The run is %(state)s: it cannot be queued.") % {"state": run.get_state_display()})
        Run.objects.filter(pk=run_id).update(
            state=RunState.QUEUED,
            reason="",
            ended_at=None,
            queued_at=timezone.now(),
            queued_host=host,
            given_devices=[],
            restarts_used=0,
        )
        announce_status(run_id)


def queue_restart(run_id: int, host: str, pause_s: float, reason: str) -> None:
    """Queue a run that has just failed to start again on `host` in `pause_s` seconds. Tells viewers why.

    Its supervisor waits for that; where it was killed meanwhile, the host's watch starts it.
    """
    run = Run.objects.get(pk=run_id)
    reason = reason[-LONGEST_REASON_CHARACTERS:]
    due_at = timezone.now() + timedelta(seconds=pause_s)
    Run.objects.filter(pk=run_id).update(
        state=RunState.QUEUED, reason=reason, ended_at=None, queued_at=due_at, queued_host=host,
        restarts_used=run.restarts_used + 1,
    )  # fmt: skip
    announce_status(run_id)


def waits_to_restart(run: Run) -> bool:
    """Tell whether a run is queued because it failed and starts again by itself."""
    return run.state == RunState.QUEUED and run.restarts_used > 0


def give_up_restart(run_id: int, why: str) -> bool:
    """Take a run that waits to start again out of the queue: it has failed; return whether it still waited."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if not waits_to_restart(run):
            return False
        leave_queue(run, why)
    return True


def withdraw(run_id: int) -> None:
    """Take a run out of the queue: it is again what it was before. Raises `NotQueueable`."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if run.state != RunState.QUEUED:
            raise NotQueueable(_("The run is %(state)s, not queued.") % {"state": run.get_state_display()})
        leave_queue(run, "withdrawn from the queue")


def leave_queue(run: Run, why: str) -> None:
    """Bring a queued run back to what it was, with the error of its last attempt; tell viewers why.

    Call where the run's row is locked and its state was looked at.
    """
    last = run.attempts.order_by("-number").first()
    state = _state_after(last)
    reason = last.error if last is not None and state == RunState.FAILED else ""
    used = run.restarts_used - 1 if waits_to_restart(run) else run.restarts_used
    Run.objects.filter(pk=run.pk).update(
        state=state, reason=reason, ended_at=last.ended_at if last is not None and state in ENDED else None,
        queued_at=None, queued_host="", given_devices=[], restarts_used=used,
    )  # fmt: skip
    announce_status(run.pk, remark=why)


def waiting_for(host: str) -> list[Run]:
    """Return the queued runs that `host` may start now, oldest first."""
    waiting = Run.objects.filter(state=RunState.QUEUED, queued_host__in=("", host))
    # Only a restart waits for its time, set by this host's own clock.
    waiting = waiting.exclude(restarts_used__gt=0, queued_at__gt=timezone.now())
    return list(waiting.order_by("queued_at", "pk"))


def claim(run_id: int, host: str, devices: Sequence[str] = ()) -> bool:
    """Take a queued run for `host`, on `devices` of it; return whether no other host or person was faster."""
    waiting = Run.objects.filter(pk=run_id, state=RunState.QUEUED, queued_host__in=("", host))
    return bool(waiting.update(queued_host=host, given_devices=list(devices)))


def fail_start(run_id: int, attempt: int, sentence: str) -> bool:
    """Set a queued run failed that cannot start, and say why; return whether it still waited.

    `attempt` is the run's when it was tried: one that was queued anew meanwhile waits for another try.
    """
    waiting = Run.objects.filter(pk=run_id, state=RunState.QUEUED, attempt=attempt)
    with transaction.atomic():
        if not waiting.update(state=RunState.FAILED, reason=sentence[:500], ended_at=timezone.now()):
            return False
        announce_status(run_id)
    return True


def start_command(run: Run, script: Sequence[str] = ()) -> str:
    """Return the command line that starts, or resumes, a run on the host where it is typed.

    A run without a recipe needs its script: `script`, or else what it was started with before.
    """
    command = f"python manage.py train --run-id {run.pk}"
    return command if run.recipe_id else f"{command} -- {shlex.join(script or _script_of(run))}"


def home_of(run: Run) -> str:
    """Return the host to resume a run: where its checkpoints lie; "" where it never started."""
    return run.attempts.order_by("-number").values_list("host", flat=True).first() or run.queued_host


def living_hosts(now: datetime) -> list[Host]:
    """Return the hosts whose `watch` sent a heartbeat lately.

    Compares wall clocks, which is good enough to choose from, not to take a run over.
    """
    return list(Host.objects.filter(heartbeat_at__gt=now - HOST_SILENT_AFTER))


def starter_missing(host: str, hosts: Sequence[Host]) -> bool:
    """Tell whether none of the living `hosts` would start a run that is queued for `host`."""
    return not any(host in ("", living.name) for living in hosts)


def _state_after(last: Attempt | None) -> RunState:
    """Return the state that a run has after its `last` attempt."""
    if last is None:
        return RunState.CREATED
    return RunState(last.outcome) if last.outcome in RunState.values else RunState.LOST


def _script_of(run: Run) -> list[str]:
    previous = Attempt.objects.filter(run=run).exclude(command_line=[]).order_by("-number").first()
    return previous.command_line if previous else ["my_script.py"]
