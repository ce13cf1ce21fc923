"""The commands that agents offer, and what a person may request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.roles import COMMANDING_ROLES
from runs.models import LONGEST_NAME, Agent, Run
from runs.recording.queue import enqueue, give_to_agent
from steersman.kinds import SpecError, Value
from steersman.messages.agents import OfferedCommand
from steersman.records.typed_json import Malformed, from_fields
from steersman.spec import ValueSpec, specs_from_wire, typed_values

# An agent that was away for longer is not shown.
FORGOTTEN_AFTER = timedelta(days=7)


class NotOffered(ValueError):
    """A request that the agent does not take. The text is for the person who requested it; `field` is what is wrong."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def agents_for(user: AbstractBaseUser) -> list[Agent]:
    """Return the agents of which `user` may request runs: those of the projects where the user may start runs."""
    own = Agent.objects.filter(project__memberships__user_id=user.pk, project__memberships__role__in=COMMANDING_ROLES)
    known = own.filter(heartbeat_at__gt=timezone.now() - FORGOTTEN_AFTER)
    return list(known.select_related("project", "created_by").order_by("project__name", "name"))


def offered_by(agent: Agent) -> list[OfferedCommand]:
    """Return the commands of an agent; one of another version that cannot be read is left out."""
    found = []
    for row in agent.commands:
        try:
            found.append(from_fields(OfferedCommand, row))
        except Malformed:
            continue
    return found


def offer_of(agent: Agent, name: str) -> OfferedCommand:
    """Return the command of a name. Raises `NotOffered`."""
    offers = offered_by(agent)
    for each in offers:
        if each.name == name:
            return each
    text = _("The agent %(agent)s offers no command %(command)s; choose one of: %(known)s.")
    known = ", ".join(each.name for each in offers)
    raise NotOffered(text % {"agent": agent.name, "command": name, "known": known}, "command")


def specs_of(agent: Agent, name: str) -> dict[str, ValueSpec]:
    """Return the parameters of an offered command."""
    rows: Iterable[Mapping[str, Any]] = next((row["parameters"] for row in agent.commands if row["name"] == name), [])
    return specs_from_wire(rows)


def request_run(
    agent: Agent,
    command: str,
    given: Mapping[str, object],
    *,
    user: AbstractBaseUser,
    name: str = "",
    restarts: int = 0,
) -> Run:
    """Create a run that an agent is to start, and queue it. Raises `NotOffered`.

    The user must be an operator or owner of the agent's project.
    """
    offer = offer_of(agent, command)
    try:
        values: dict[str, Value] = typed_values(specs_of(agent, command), given)
    except SpecError as error:
        raise NotOffered(error.said.translated(_), error.name or "parameters") from error
    with transaction.atomic():
        run = Run.objects.create(
            project=agent.project,
            name=(name.strip() or offer.title)[:LONGEST_NAME],
            parameters=values,
            restarts=restarts,
            created_by_id=user.pk,
        )
        give_to_agent(run, agent, command, values)
        enqueue(run.pk)
    return run
