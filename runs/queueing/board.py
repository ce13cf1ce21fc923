"""The hosts, their running runs with the remaining time, and their waiting runs with reasons, in starting order.

Runs that a viewer may not see are counted, not named. The number of queries does not depend on the number of runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import F, QuerySet

from runs.access.roles import COMMANDING_ROLES
from runs.models import Agent, Attempt, Host, Membership, Run, RunQuerySet, RunState
from runs.recording.lifecycle import LIVE
from runs.recording.liveness import agent_is_living, host_is_living, percent_of
from runs.recording.queue_places import QueuePlace, WaitingRuns

# Enough rows for an overview: the list of runs has them all.
MOST_ROWS = 8
# A host that was offline for this long, and for which no run waits, is not shown.
FORGOTTEN_AFTER = timedelta(days=7)
# After fewer steps, the remaining time cannot be estimated.
LEAST_SHARE = 0.002


@dataclass(frozen=True, slots=True)
class RunningRow:
    """A run that holds a host's devices: its state, the completed share in per cent, and the remaining seconds."""

    run: Run
    state: str
    percent: int | None
    left_s: float | None


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A waiting run, and why it waits. `may_order` is true if the viewer may move and withdraw it."""

    run: Run
    place: QueuePlace
    may_order: bool


@dataclass(slots=True)
class HostBoard:
    """One host, or any host, whose name is then "".

    `more` counts runs beyond the first rows, `hidden` those that the viewer may not see.
    """

    name: str
    heartbeat_at: datetime | None = None
    is_away: bool = False
    running: list[RunningRow] = field(default_factory=list)
    running_more: int = 0
    running_hidden: int = 0
    waiting: list[WaitingRow] = field(default_factory=list)
    waiting_more: int = 0
    waiting_hidden: int = 0

    @property
    def is_idle(self) -> bool:
        return not (self.running or self.running_hidden or self.waiting or self.waiting_hidden)

    @property
    def count_running(self) -> int:
        return len(self.running) + self.running_more + self.running_hidden

    @property
    def count_waiting(self) -> int:
        return len(self.waiting) + self.waiting_more + self.waiting_hidden


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many runs train and wait on all hosts together."""

    running: int
    waiting: int

    @classmethod
    def of(cls, hosts: Iterable[HostBoard]) -> QueueCounts:
        found = list(hosts)
        return cls(sum(host.count_running for host in found), sum(host.count_waiting for host in found))


def board(visible: RunQuerySet, commanded: Collection[int], now: datetime) -> list[HostBoard]:
    """Return the hosts, and last the runs that wait for any host.

    The viewer may see the runs of `visible`, and command those of the projects in `commanded`.
    """
    hosts = list(Host.objects.all())
    line = WaitingRuns(hosts, now)
    holding = list(_holding())
    named = {attempt.run_id for attempt in holding} | line.waiting
    seen = {run.pk: run for run in visible.filter(pk__in=named).select_related("project")}
    boards = {host.name: HostBoard(host.name, host.heartbeat_at, not host_is_living(host, now)) for host in hosts}
    for agent in Agent.objects.filter(name__in={name for _, name in line.in_order()} - boards.keys()):
        boards[agent.name] = HostBoard(agent.name, agent.heartbeat_at, not agent_is_living(agent, now))
    for attempt in holding:
        _add_running(boards.setdefault(attempt.host, HostBoard(attempt.host, None, True)), attempt, seen, now)
    by_host: dict[str, list[int]] = defaultdict(list)
    for run_id, host in line.in_order():
        by_host[host].append(run_id)
    for host, run_ids in by_host.items():
        of_host = boards.setdefault(host, HostBoard(host, None, bool(host)))
        _add_waiting(of_host, run_ids, line, seen, commanded)
    anywhere = boards.pop("", None)
    shown = [each for each in boards.values() if not (each.is_idle and _is_forgotten(each, now))]
    return [*sorted(shown, key=lambda each: each.name), *([anywhere] if anywhere else [])]


def commanded_projects(user: AbstractBaseUser | AnonymousUser) -> set[int]:
    """Return the projects in which a user may change the queue order."""
    if user.pk is None:
        return set()
    members = Membership.objects.filter(user_id=user.pk, role__in=COMMANDING_ROLES)
    return set(members.values_list("project_id", flat=True))


def seconds_left(step: int, total: int | None, first_step: int, trained_s: float) -> float | None:
    """Return how long the remaining steps take at the pace of this attempt, which began after `first_step`.

    None if it is unknown: no total, or too few steps.
    """
    done = step - first_step
    if not total or done <= 0 or done < LEAST_SHARE * total or trained_s <= 0:
        return None
    return max(0.0, (total - step) * trained_s / done)


def _holding() -> QuerySet[Attempt]:
    """Return the last attempt of each run that trains, or is lost, with its run; the oldest run first."""
    present = Attempt.objects.filter(ended_at=None, number=F("run__attempt"))
    return present.filter(run__state__in=(*LIVE, RunState.LOST)).select_related("run").order_by("run_id")


def _add_running(host: HostBoard, attempt: Attempt, seen: dict[int, Run], now: datetime) -> None:
    run = seen.get(attempt.run_id)
    if run is None:
        host.running_hidden += 1
    elif len(host.running) == MOST_ROWS:
        host.running_more += 1
    else:
        host.running.append(_running_row(run, attempt, now))


def _running_row(run: Run, attempt: Attempt, now: datetime) -> RunningRow:
    left_s = None
    if run.state == RunState.RUNNING and run.training_since is not None:
        trained_s = (now - run.training_since).total_seconds()
        left_s = seconds_left(run.step, run.total_steps, attempt.resumed_step or 0, trained_s)
    return RunningRow(run, str(run.state), percent_of(run), left_s)


def _add_waiting(
    host: HostBoard, run_ids: list[int], line: WaitingRuns, seen: dict[int, Run], commanded: Collection[int]
) -> None:
    for run_id in run_ids:
        run = seen.get(run_id)
        if run is None:
            host.waiting_hidden += 1
        elif len(host.waiting) == MOST_ROWS:
            host.waiting_more += 1
        elif (place := line.place(run, seen)) is not None:
            host.waiting.append(WaitingRow(run, place, run.project_id in commanded))


def _is_forgotten(host: HostBoard, now: datetime) -> bool:
    return host.heartbeat_at is None or now - host.heartbeat_at > FORGOTTEN_AFTER
