"""The order of the queue, and who may change it. docs/running.md describes the rule.

Runs start by priority, then by their place in line. A run that is moved to the front takes the place of another run of
the project, which takes the next one's, and so on. Runs of other projects therefore have no more runs ahead than
before.
"""

from __future__ import annotations

from runs.models import AgentRun, Run, RunState
from runs.recording.queue_places import wish_of
from steersman.slots import stands_in_for


def lock_line() -> None:
    """Lock the line until the transaction ends. Call before the row of any run is locked."""
    list(Run.objects.select_for_update().filter(state=RunState.QUEUED).order_by("pk").values_list("pk"))


def move_to_front(run: Run, *, over_all: bool = False) -> bool:
    """Move a queued run before the waiting runs of its project, with `over_all` before all runs of its priority.

    It takes the place of a run only if that run requests all devices that this one could use: taking the place of a run
    that waits for another host would not help. Returns whether there was such a place. Call with the line locked
    (`lock_line`).
    """
    waiting = Run.objects.filter(state=RunState.QUEUED, priority=run.priority, restarts_used=0)
    # Each agent has a line of its own.
    agent = AgentRun.objects.filter(run=run).values_list("agent", flat=True).first()
    waiting = waiting.filter(agent_run__agent=agent)
    ready = set(waiting.condition_met().values_list("pk", flat=True))
    line = [each for each in waiting.in_line() if not each.given_devices]
    if run.pk not in [each.pk for each in line]:
        return False
    ahead: list[Run] = []
    for each in line:
        if each.pk == run.pk:
            break
        if over_all or (each.project_id == run.project_id and each.pk in ready):
            ahead.append(each)
    if not over_all:
        wish = wish_of(run)
        while ahead and not stands_in_for(wish_of(ahead[0]), wish):
            ahead.pop(0)
    if not ahead:
        return False
    ring = [*ahead, next(each for each in line if each.pk == run.pk)]
    places = [each.line_at or each.queued_at for each in ring]
    for each, place in zip([ring[-1], *ahead], places, strict=True):
        Run.objects.filter(pk=each.pk, state=RunState.QUEUED).update(line_at=place)
    return True


def set_priority(run: Run, priority: int) -> bool:
    """Set the priority of a queued run; return whether it was still queued. Call with its row locked."""
    standing = Run.objects.filter(pk=run.pk, state=RunState.QUEUED, restarts_used=0, given_devices=[])
    return bool(standing.update(priority=priority))
