"""Links in the navigation and on the page of a run for people who may start runs."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.utils import timezone
from django.utils.translation import gettext

from runs.access.roles import COMMANDING_ROLES, display_name
from runs.models import Membership, Run, RunState
from runs.recording.liveness import agent_is_living
from runs.recording.queue import (
    QUEUEABLE,
    agent_of,
    living_hosts,
    remote_command,
    start_command,
    starter_missing,
    waits_to_restart,
)
from steersman.marked_text import MarkedText

register = template.Library()


@register.filter
def translated(text: str | MarkedText) -> str:
    """Return a text that is stored in English in the reader's language.

    Django's tag would double each per cent sign.
    """
    return (text if isinstance(text, MarkedText) else MarkedText(text or "")).translated(gettext)


@register.filter
def shown_name(user: AbstractBaseUser) -> str:
    """Return the name of a user as other members see it."""
    return display_name(user)


@register.simple_tag
def second_factor() -> bool:
    """Return whether a second factor is offered."""
    return bool(settings.STEERSMAN_SECOND_FACTOR)


@register.simple_tag
def single_sign_on() -> bool:
    """Return whether a provider of single sign-on is configured."""
    return settings.STEERSMAN_OIDC is not None


@register.simple_tag
def may_start(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Return whether the user may start runs in any project."""
    if not user.is_authenticated:
        return False
    return Membership.objects.filter(user_id=user.pk, role__in=COMMANDING_ROLES).exists()


@register.simple_tag
def start_of(run: Run) -> dict[str, Any]:
    """Return how a run is started or resumed, and whether a scheduler is available to do it."""
    waits = run.state == RunState.QUEUED
    agent = agent_of(run)
    return {
        "command": start_command(run),
        "is_remote": remote_command(run) is not None,
        "by_page": run.recipe_id is not None or agent is not None,
        "may_clone": run.recipe_id is not None,
        "agent": agent,
        "agent_is_away": waits and agent is not None and not agent_is_living(agent, timezone.now()),
        "resume_states": " ".join(state for state in QUEUEABLE if state != RunState.CREATED),
        "may_resume": run.state in QUEUEABLE and run.state != RunState.CREATED,
        "host": run.queued_host,
        # A run that restarts has a supervisor that waits; it needs a watch only if that was killed.
        "nobody": waits
        and agent is None
        and not waits_to_restart(run)
        and starter_missing(run.queued_host, living_hosts(timezone.now())),
    }
