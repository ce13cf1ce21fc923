"""Closes an attempt, and decides what follows: nothing, or another attempt after a pause. Never imports torch."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection, transaction
from django.utils import timezone

from runs.models import Attempt, Command, CommandState, Run, RunState
from runs.protocol.commands import EndProcess, Stop
from runs.recording import queue
from runs.recording.lifecycle import AttemptEnd, Lease, complete_command, end_attempt
from runs.recording.restart_policy import Fault, Restart, plan_restart
from steersman.agent.folders import attempt_folder
from steersman.agent.launch.given_devices import VISIBLE_VARIABLE, given_devices
from steersman.agent.supervise.interrupts import Interrupts
from steersman.files.private import write_private
from trainer.control.database_state import DatabaseState
from trainer.control.display import Display

RESTART_POLL_INTERVAL_S = 0.25
START_FILE = "start.json"
OURS = re.compile(r"STEERSMAN_\w+|DJANGO_SETTINGS_MODULE")


@dataclass(frozen=True, slots=True)
class Start:
    """How an attempt was started, for an unattended restart: the command after --, the folder, and the environment.

    The environment has none of the portal's variables. Stored in the attempt's folder, readable by its owner only.
    """

    script: list[str]
    directory: str
    device: str = ""
    inline: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def record(self, folder: Path) -> None:
        write_private(folder / START_FILE, json.dumps(asdict(self)))

    @classmethod
    def recorded(cls, folder: Path) -> Start | None:
        try:
            return cls(**json.loads((folder / START_FILE).read_text()))
        except (OSError, ValueError, TypeError):
            return None


def without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the training's own part of an environment, without our settings and the variables of a watch."""
    given = {VISIBLE_VARIABLE} if given_devices(environment) else set()
    return {name: value for name, value in environment.items() if name not in given and not OURS.fullmatch(name)}


def conclude(lease: Lease, end: AttemptEnd, *, may_restart: bool = True) -> None:
    """Record how an attempt ended and, if it failed and restarts are left, queue the run for the next one.

    Both are in one transaction, so that the restart is not lost if the process is killed. `may_restart` is whether the
    host can restart it. Raises `runs.recording.lifecycle.Fenced`.
    """
    with transaction.atomic():
        wanted = _stop_is_wanted(lease)
        for command in ending_commands(lease):
            complete_command(command, CommandState.APPLIED, step=command.run.step)
        following: Restart | str = ""
        if end.outcome == RunState.FAILED and not wanted and may_restart:
            following = _following(lease, end)
        if isinstance(following, str):
            end_attempt(lease, end, remark=following)
        else:
            end_attempt(lease, end)
            reason = f"{end.error} {following.sentence}"
            host = Attempt.objects.values_list("host", flat=True).get(pk=lease.attempt_id)
            queue.queue_restart(lease.run_id, host, following.pause_s, reason)


def can_start_again(folder: Path) -> bool:
    """Return whether the attempt of a folder can be restarted here: a restart must not take over a terminal."""
    start = Start.recorded(folder)
    return start is None or not start.inline


def ending_commands(lease: Lease) -> list[Command]:
    """Return the commands that ended the process of an attempt."""
    asked = Command.objects.select_related("run").filter(run_id=lease.run_id, attempt=lease.number)
    return list(asked.filter(kind=EndProcess.kind, state=CommandState.DELIVERED))


def _stop_is_wanted(lease: Lease) -> bool:
    """Return whether a command asks the run to end now, and not only at a later step."""
    stops = Command.objects.filter(run_id=lease.run_id, kind=Stop.kind)
    if stops.filter(attempt=lease.number, state=CommandState.APPLIED).exists():
        return True
    waiting = stops.filter(state__in=(CommandState.SENT, CommandState.DELIVERED))
    return waiting.filter(at_step=None, at_epoch=None).exists()


def _following(lease: Lease, end: AttemptEnd) -> Restart | str:
    run = Run.objects.get(pk=lease.run_id)
    attempt = Attempt.objects.get(pk=lease.attempt_id)
    # torchrun restarts all its processes itself.
    if attempt.launch:
        return ""
    earlier = run.attempts.filter(number__lt=lease.number, number__gte=lease.number - run.restarts_used)
    faults = [Fault(each.last_step, each.error, each.exit_code) for each in earlier.order_by("number")]
    faults.append(Fault(attempt.last_step, end.error, end.exit_code))
    return plan_restart(
        faults, allowed=run.restarts, used=run.restarts_used, first_pause_s=settings.STEERSMAN_RESTART_PAUSE_S
    )


def wait_to_restart(run: Run, interrupts: Interrupts, display: Display) -> bool:
    """Wait until a run that was queued for a restart is due; return whether it is to be started.

    It is not if it was not queued, or was removed from the queue or started elsewhere. A signal removes it from the
    queue.
    """
    until: float | None = None
    attempt: int | None = None
    database = DatabaseState(run.pk)
    while True:
        try:
            run.refresh_from_db()
            attempt = run.attempt if attempt is None else attempt
            if not queue.waits_to_restart(run) or run.attempt != attempt:
                return False
            if interrupts.stops:
                queue.give_up_restart(run.pk, f"Not started again: {interrupts.name} was received before the restart.")
                return False
        except Run.DoesNotExist:
            return False
        except DatabaseError as error:
            database.note_unavailable(error, "the restart waits for the database")
            connection.close()
            if interrupts.stops:
                # It stays queued, and the scheduler decides later.
                return False
            time.sleep(RESTART_POLL_INTERVAL_S)
            continue
        database.note_available()
        now = time.monotonic()
        if until is None:
            assert run.queued_at is not None
            left_s = max(0.0, (run.queued_at - timezone.now()).total_seconds())
            until = now + left_s
            display.say(f"run {run.pk} starts again in {left_s:.0f} s: restart {run.restarts_used} of {run.restarts}")
        if now >= until:
            return True
        time.sleep(min(RESTART_POLL_INTERVAL_S, until - now))


def work_where_it_began(run: Run) -> Start | None:
    """Return how the last attempt was started, after changing to its directory and restoring its environment.

    The directory may contain the recipe or script, and a watch starts this process in another one.
    """
    start = Start.recorded(attempt_folder(settings.STEERSMAN_DATA, run.pk, run.attempt))
    if start is not None and Path(start.directory).is_dir():
        os.chdir(start.directory)
    if start is not None and start.environment:
        for name in without_ours(os.environ):
            del os.environ[name]
        os.environ.update({name: value for name, value in start.environment.items() if name not in os.environ})
    return start
