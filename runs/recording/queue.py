"""The queue: runs that wait to be started, their hosts, and changes to them.

`manage.py watch` starts the queued runs; `trainer` runs the processes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.models import AfterCondition, Agent, AgentRun, Attempt, Branch, Host, RemoteLaunch, Run, RunQuerySet, RunState
from runs.recording.lifecycle import ENDED, LONGEST_REASON_CHARACTERS
from runs.recording.liveness import host_is_living
from runs.recording.status import announce_status

# A person may queue a run in these states: it never started, or its last attempt left work to do.
QUEUEABLE = (RunState.CREATED, RunState.STOPPED, RunState.FAILED, RunState.LOST)
WITHDRAWN = "withdrawn from the queue"


class NotQueueable(Exception):
    """The run cannot be queued, or is not queued; the text says why and what to do. `field` is what it is about."""

    def __init__(self, message: str, field: str = "queue") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class After:
    """A condition: a run waits until the run `run_id` has finished, or has ended in any way."""

    run_id: int
    condition: AfterCondition = AfterCondition.FINISHED


def enqueue(
    run_id: int, host: str = "", *, after: After | None = None, priority: int = 0, among: RunQuerySet | None = None
) -> None:
    """Queue a run for `host`, or for the first host that takes it if `host` is "". Notifies viewers.

    `after` names a run of `among`, those that its author may see, or of all runs if `among` is None. Raises
    `NotQueueable`, and `Run.DoesNotExist` if there is no such run.
    """
    with transaction.atomic():
        if after is not None:
            _check_after(run_id, after, Run.objects.all() if among is None else among)
        run = Run.objects.select_for_update().get(pk=run_id)
        requested = AgentRun.objects.filter(run=run)
        is_requested = requested.exists()
        if (again := remote_command(run)) is not None:
            raise NotQueueable(
                _(
                    "This run was started on its own host: start the training there again, as another run, with "
                    "%(command)s"
                )
                % {"command": again}
            )
        if run.recipe_id is None and not is_requested:
            raise NotQueueable(
                _("This run trains your own script: start it on the host of the script, with %(command)s")
                % {"command": start_command(run)}
            )
        if run.state not in QUEUEABLE:
            raise NotQueueable(_("The run is %(state)s: it cannot be queued.") % {"state": run.get_state_display()})
        Run.objects.filter(pk=run_id).update(
            state=RunState.QUEUED,
            reason="",
            ended_at=None,
            queued_at=timezone.now(),
            # An agent has a line of its own, which no host may take from.
            queued_host="" if is_requested else host,
            given_devices=[],
            restarts_used=0,
            line_at=None,
            priority=priority,
            after_run=after.run_id if after else None,
            after_condition=after.condition if after else AfterCondition.FINISHED,
        )
        requested.update(request=F("request") + 1, is_held=False, note="")
        announce_status(run_id)


def _check_after(run_id: int, after: After, among: RunQuerySet) -> None:
    """Refuse a run that cannot be waited for. Raises `NotQueueable`.

    Only earlier runs are allowed, so that runs never wait in a circle, even if several are queued at the same time.
    """
    if after.run_id >= run_id:
        raise NotQueueable(
            _(
                "Run #%(run)d was not created before this one. A run can only wait for an earlier one, so that runs "
                "never wait for each other. Clone this run to have the clone wait."
            )
            % {"run": after.run_id},
            "after",
        )
    if not among.filter(pk=after.run_id).exists():
        raise NotQueueable(_("There is no run #%(run)d, or you may not see it.") % {"run": after.run_id}, "after")


def start_anyway(run: Run) -> bool:
    """Remove the condition that a queued run waits for another run; return whether it had one.

    Call with the run's row locked, after its state was checked.
    """
    waiting = Run.objects.filter(pk=run.pk, state=RunState.QUEUED).exclude(after_run=None)
    if not waiting.update(after_run=None):
        return False
    announce_status(run.pk)
    return True


def queue_restart(run_id: int, host: str, pause_s: float, reason: str) -> None:
    """Queue a failed run to start again on `host` in `pause_s` seconds. Notifies viewers of the reason.

    Its supervisor waits for that time; if it was killed meanwhile, the host's watch starts the run.
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
    """Return whether a run is queued because it failed and will be restarted."""
    return run.state == RunState.QUEUED and run.restarts_used > 0


def give_up_restart(run_id: int, why: str) -> bool:
    """Remove a run that waits for a restart from the queue, as failed; return whether it was still waiting."""
    with transaction.atomic():
        run = Run.objects.select_for_update().get(pk=run_id)
        if not waits_to_restart(run):
            return False
        leave_queue(run, why)
    return True


def leave_queue(run: Run, why: str) -> None:
    """Return a queued run to its earlier state, with the error of its last attempt; notify viewers of the reason.

    Call with the run's row locked, after its state was checked.
    """
    last = run.attempts.order_by("-number").first()
    state = _state_after(last)
    reason = last.error if last is not None and state == RunState.FAILED else ""
    used = run.restarts_used - 1 if waits_to_restart(run) else run.restarts_used
    Run.objects.filter(pk=run.pk).update(
        state=state, reason=reason, ended_at=last.ended_at if last is not None and state in ENDED else None,
        queued_at=None, queued_host="", given_devices=[], restarts_used=used, line_at=None, after_run=None, priority=0,
    )  # fmt: skip
    announce_status(run.pk, remark=why)


def waiting_for(host: str) -> list[Run]:
    """Return the queued runs that `host` may start now, in the order of the line."""
    waiting = Run.objects.all().startable_on(host)
    # Only restarts wait for a time, which is set by this host's own clock.
    waiting = waiting.exclude(restarts_used__gt=0, queued_at__gt=timezone.now())
    return list(waiting.in_line())


def claim(run_id: int, host: str, devices: Sequence[str] = ()) -> bool:
    """Claim a queued run for `host`, on `devices` of it; return whether no other host or person was faster.

    Fails if it was queued again meanwhile and now waits for another run.
    """
    waiting = Run.objects.filter(pk=run_id).startable_on(host)
    return bool(waiting.update(queued_host=host, given_devices=list(devices)))


def fail_start(run_id: int, attempt: int, sentence: str) -> bool:
    """Set a queued run that cannot start to failed, with the reason; return whether it was still waiting.

    `attempt` is the run's attempt at the time of the start: a run that was queued again meanwhile is tried again.
    """
    waiting = Run.objects.filter(pk=run_id, state=RunState.QUEUED, attempt=attempt)
    with transaction.atomic():
        if not waiting.update(state=RunState.FAILED, reason=sentence[:500], ended_at=timezone.now()):
            return False
        announce_status(run_id)
    return True


def start_command(run: Run, script: Sequence[str] = ()) -> str:
    """Return the command line that starts, or resumes, a run on the host where it is entered.

    A run without a recipe needs a script: `script`, or else the one of its last start. "" for a run that an agent
    starts: nobody else has its program. The command of another run that `steersman run` has opened makes a new run.
    """
    command = f"python manage.py train --run-id {run.pk}"
    if run.recipe_id is not None:
        return command
    if (again := remote_command(run)) is not None:
        return again
    if AgentRun.objects.filter(run=run).exists():
        return ""
    return f"{command} -- {shlex.join(script or _script_of(run))}"


def remote_command(run: Run) -> str | None:
    """Return the line for a shell that trains once more what a host without access to the database trained.

    None if the run was not opened by such a host, or if an agent starts it.
    """
    if run.recipe_id is not None:
        return None
    launch = RemoteLaunch.objects.filter(run=run, run__agent_run__isnull=True).first()
    return None if launch is None else launch.command or f"steersman run -- {shlex.join(_script_of(run))}"


def command_from(run: Run) -> list[str]:
    """Return the line for a shell on any host that begins another run at a checkpoint of this one.

    It has two parts, with the ID of the checkpoint between them. [] if no host can send checkpoints of the run.
    """
    launch = RemoteLaunch.objects.filter(run=run).first()
    if launch is None:
        return []
    before, after = launch.parts_for_from() or (["steersman", "run"], ["--", *_script_of(run)])
    return [f"{shlex.join(before)} --from {run.pk}:", f" {shlex.join(after)}"]


def home_of(run: Run) -> str:
    """Return the host that has the checkpoints of a run; "" if it never started and is not a branch."""
    return (
        run.attempts.order_by("-number").values_list("host", flat=True).first()
        or Branch.objects.filter(run=run).values_list("host", flat=True).first()
        or run.queued_host
    )


def living_hosts(now: datetime) -> list[Host]:
    """Return the hosts whose `watch` sent a heartbeat recently."""
    return [host for host in Host.objects.all() if host_is_living(host, now)]


def give_to_agent(run: Run, agent: Agent, command: str, values: Mapping[str, object]) -> None:
    """Let an agent start a new run once it is queued. The agent's owner holds the launch, whose token reports it."""
    key = f"agent-{uuid4().hex}"
    RemoteLaunch.objects.create(project_id=run.project_id, created_by=agent.created_by, key=key, run=run)
    AgentRun.objects.create(run=run, agent=agent, command=command, values=dict(values))


def agent_of(run: Run) -> Agent | None:
    """Return the agent that starts a run, None if there is none."""
    if run.recipe_id is not None:
        return None
    row = AgentRun.objects.filter(run=run).select_related("agent__created_by").first()
    return row.agent if row is not None else None


def starter_missing(host: str, hosts: Sequence[Host]) -> bool:
    """Return whether none of the living `hosts` would start a run that is queued for `host`."""
    return not any(host in ("", living.name) for living in hosts)


def _state_after(last: Attempt | None) -> RunState:
    """Return the state of a run after its `last` attempt."""
    if last is None:
        return RunState.CREATED
    return RunState(last.outcome) if last.outcome in RunState.values else RunState.LOST


def _script_of(run: Run) -> list[str]:
    """Return the command line of the last attempt, or for a branch that never started, that of its source."""
    seen: set[int] = set()
    number: int | None = run.pk
    while number is not None and number not in seen:
        seen.add(number)
        previous = Attempt.objects.filter(run=number).exclude(command_line=[]).order_by("-number").first()
        if previous is not None:
            return list(previous.command_line)
        number = Branch.objects.filter(run=number).values_list("source", flat=True).first()
    return ["your_script.py"]
