"""The report of an agent: it is stored, and answered with what the agent is to start."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.roles import COMMANDING_ROLES, display_name, operators_only
from runs.models import LONGEST_NOTE, AccessToken, Agent, AgentRun, Membership, Run, RunState
from runs.recording.liveness import agent_is_living, write_watch
from runs.recording.queue import fail_start
from steersman.messages.agents import AgentOrders, AgentReport, RequestedRun

# A run in one of these states does not train, and nobody wants it to.
GIVEN_UP = (RunState.CREATED, RunState.STOPPED, RunState.FAILED, RunState.FINISHED)


class AgentRefused(Exception):
    """The name of the agent is taken. The text gives the reason and the remedy."""


class NotAllowedToOffer(Exception):
    """The person who made the token may no longer start runs in its project."""


def take_report(token: AccessToken, report: AgentReport) -> AgentOrders:
    """Store the state of an agent; return what it is to do. Raises `AgentRefused` and `NotAllowedToOffer`.

    The agent gets the runs that are queued for it and that it does not hold, as many as its free slots take. A run
    whose order was lost is in the next answer again.
    """
    members = Membership.objects.filter(project=token.project, user=token.created_by, role__in=COMMANDING_ROLES)
    if not members.exists():
        raise NotAllowedToOffer(operators_only())
    now = timezone.now()
    write_watch.look()
    with transaction.atomic():
        agent = _agent_of(token, report)
        _check_name(agent, token, report, now)
        _store(agent, report, now)
        requested = {each.run_id: each for each in agent.runs.select_related("run")}
        _refuse(report, requested)
        if report.leaves:
            return AgentOrders()
        return AgentOrders(start=_to_start(agent, report, now), drop=_to_drop(report, requested))


def _agent_of(token: AccessToken, report: AgentReport) -> Agent:
    """Return the locked row of an agent; create it if it is new."""
    named = Agent.objects.select_for_update(of=("self",)).filter(project=token.project, name=report.name)
    agent = named.select_related("created_by").first()
    if agent is None:
        try:
            with transaction.atomic():
                Agent.objects.create(
                    project=token.project,
                    created_by=token.created_by,
                    name=report.name,
                    session=report.session,
                    heartbeat_at=timezone.now(),
                )
        except IntegrityError:
            pass  # the second of two at the same moment
        agent = named.select_related("created_by").get()
    return agent


def _check_name(agent: Agent, token: AccessToken, report: AgentReport, now: datetime) -> None:
    if agent.created_by_id != token.created_by_id:
        text = _("The name %(agent)s belongs to an agent of %(owner)s: give this one another name in agent.toml.")
        raise AgentRefused(text % {"agent": agent.name, "owner": display_name(agent.created_by)})
    if agent.session != report.session and agent_is_living(agent, now):
        text = _(
            "Another agent named %(agent)s is online on %(host)s: stop that agent, or give this one another name in "
            "agent.toml. If that agent was killed, the name becomes free after 12 s."
        )
        raise AgentRefused(text % {"agent": agent.name, "host": agent.host})


def _store(agent: Agent, report: AgentReport, now: datetime) -> None:
    Agent.objects.filter(pk=agent.pk).update(
        session=report.session,
        host=report.host,
        slots=report.slots,
        gpus=report.gpus,
        commands=[asdict(each) for each in report.commands],
        heartbeat_at=now,
        has_left=report.leaves,
    )
    held = {each.run: each for each in report.held}
    for each in agent.runs.filter(is_held=True).exclude(run__in=held):
        AgentRun.objects.filter(pk=each.pk).update(is_held=False, note="")
    for each in agent.runs.filter(run__in=held):
        note = held[each.run_id].note[:LONGEST_NOTE]
        if held[each.run_id].request == each.request and (not each.is_held or each.note != note):
            AgentRun.objects.filter(pk=each.pk).update(is_held=True, note=note)


def _refuse(report: AgentReport, requested: dict[int, AgentRun]) -> None:
    """Fail the queued runs that the agent does not start, with its reasons."""
    for refused in report.refused:
        row = requested.get(refused.run)
        if row is not None and row.request == refused.request:
            fail_start(row.run_id, row.run.attempt, refused.reason)


def _to_start(agent: Agent, report: AgentReport, now: datetime) -> list[RequestedRun]:
    held = {(each.run, each.request) for each in report.held}
    refused = {(each.run, each.request) for each in report.refused}
    offered = {each.name: each for each in report.commands}
    free = report.slots - sum(each.slots for each in report.held)
    found = []
    for row in _waiting(agent, now):
        offer = offered.get(row.command)
        if offer is None or (row.run_id, row.request) in held | refused:
            continue
        if offer.slots > free:
            # The next ones wait behind it, or a run of several GPUs would never start.
            break
        free -= offer.slots
        found.append(
            RequestedRun(
                run=row.run_id,
                request=row.request,
                key=row.run.remote_launch.key,
                name=row.run.name,
                command=row.command,
                values=row.values,
            )
        )
    return found


def _waiting(agent: Agent, now: datetime) -> list[AgentRun]:
    """Return the runs that wait for an agent and may start, in the order of the line."""
    waiting = Run.objects.filter(agent_run__agent=agent, state=RunState.QUEUED).condition_met()
    waiting = waiting.exclude(restarts_used__gt=0, queued_at__gt=now).in_line()
    rows: QuerySet[AgentRun] = AgentRun.objects.filter(run__in=waiting).select_related("run__remote_launch")
    by_run = {row.run_id: row for row in rows}
    return [by_run[run_id] for run_id in waiting.values_list("pk", flat=True) if run_id in by_run]


def _to_drop(report: AgentReport, requested: dict[int, AgentRun]) -> list[int]:
    """Return the runs that the agent holds and that were withdrawn, ended or deleted."""
    return [each.run for each in report.held if each.run not in requested or requested[each.run].run.state in GIVEN_UP]
