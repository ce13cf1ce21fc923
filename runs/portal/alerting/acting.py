"""Performs the action of a link in a message: once, and only if its person has the permission now."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser, User
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from runs.access.author_names import name_of
from runs.access.roles import Viewer, display_name, viewer_of
from runs.access.tokens import digest
from runs.alerts.detectors.kinds import is_learning_rate
from runs.alerts.rulebook.acting import expected_value
from runs.alerts.rulebook.recovering import Recovery, knob_numbers, recovery_from
from runs.alerts.sending import links
from runs.alerts.sending.links import BadLink, ExpiredLink, Link, LinkAction
from runs.commands.record import record_as
from runs.models import Alert, AlertDestination, AlertState, CommandState, RuleAction, Run, UsedAlertLink
from runs.protocol.causes import OfLink
from runs.protocol.commands import InvalidCommand, Request, parse_command
from runs.recording import alerts
from runs.recording.alert_rules import as_rule

HALF = 0.5
# If the training has not applied the command by then, it is outdated.
EXPIRES_IN_S = 3600


class CannotAct(Exception):
    """The link has no effect. `title` says why, `remedy` what to do; `run_id` is set if the run is known."""

    def __init__(self, title: str, remedy: str, status: int, run_id: int | None = None) -> None:
        super().__init__(title)
        self.title, self.remedy, self.status, self.run_id = title, remedy, status, run_id


@dataclass(frozen=True, slots=True)
class Found:
    """A valid link, with its alert and run."""

    link: Link
    alert: Alert
    run: Run
    destination: AlertDestination


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the action; `is_done` is false if the run refused it."""

    is_done: bool
    text: str


def find(token: str) -> Found:
    """Return the content of an unused link. Raises `CannotAct`."""
    try:
        link = links.read(token)
    except ExpiredLink as error:
        title = _("This link has expired")
        run_id = Alert.objects.filter(pk=error.link.alert_id).values_list("run_id", flat=True).first()
        raise CannotAct(
            title, _("Open the run and act there, or use the link in a newer message."), 410, run_id
        ) from error
    except BadLink as error:
        title = _("This link is not complete")
        remedy = _("Open the link in the message, or copy all of it. Nothing was changed.")
        raise CannotAct(title, remedy, 404) from error
    alert = Alert.objects.select_related("run__project", "rule").filter(pk=link.alert_id).first()
    if UsedAlertLink.objects.filter(pk=digest(token)).exists():
        raise _used(alert.run_id if alert else None)
    destination = AlertDestination.objects.filter(pk=link.destination_id, is_on=True).first()
    is_bound = (
        alert is not None
        and destination is not None
        and destination.project_id == alert.run.project_id
        and destination.person_id == link.person_id
    )
    if alert is None or destination is None or not is_bound:
        title = _("This link is no longer valid")
        remedy = _("The alert was deleted, or an owner changed its destination. Open the run and act there.")
        raise CannotAct(title, remedy, 410, alert.run_id if alert else None)
    return Found(link, alert, alert.run, destination)


def actor_of(found: Found, visitor: AbstractBaseUser | AnonymousUser) -> User | None:
    """Return the user in whose name the link acts: its person, or the logged in user; None if there is none."""
    if found.link.person_id is not None:
        return User.objects.filter(pk=found.link.person_id).first()
    return visitor if isinstance(visitor, User) else None


def viewer_for(found: Found, actor: User) -> Viewer:
    """Return `actor` as a viewer who may command the run now. Raises `CannotAct`."""
    viewer = viewer_of(actor, found.run)
    if viewer is None or not viewer.may_command:
        title = _("%(name)s is not allowed to do this") % {"name": display_name(actor)}
        remedy = _("Only operators and owners of the project can send commands. Ask an owner for the operator role.")
        raise CannotAct(title, remedy, 403)
    return viewer


def words_of(found: Found) -> str:
    """Return the text of the button. Raises `CannotAct` if the alert's rule no longer has such an action."""
    match found.link.action:
        case LinkAction.ACKNOWLEDGE:
            return _("Acknowledge the alert")
        case LinkAction.PAUSE:
            return _("Pause the run")
        case LinkAction.STOP:
            if found.run.withholds("save_checkpoint"):
                return _("Stop the run")
            return _("Stop the run after saving a checkpoint")
        case LinkAction.SAVE_CHECKPOINT:
            return _("Save a checkpoint")
        case LinkAction.ROLL_BACK:
            recovery = _recovery(found)
            words = _("Roll back to step %(step)s and set %(knob)s to %(factor)s times its value at that step")
            return words % {
                "step": f"{recovery.checkpoint.step:,}", "knob": recovery.knob, "factor": f"{recovery.factor:g}",
            }  # fmt: skip
        case _:
            knob, factor = _scaling(found)
            return _("Set %(knob)s to %(factor)s times its value") % {"knob": knob, "factor": f"{factor:g}"}


def now_of(found: Found) -> str:
    """Return the current value of the knob that the link scales; "" if it scales none. Raises `CannotAct` like
    `words_of`.
    """
    if found.link.action not in (LinkAction.HALVE, LinkAction.SCALE_KNOB):
        return ""
    knob, _factor = _scaling(found)
    values = ", ".join(f"{value:g}" for value in knob_numbers(found.run, knob))
    return f"{knob} = {values}" if values else ""


def act(token: str, found: Found, viewer: Viewer) -> Outcome:
    """Perform the action of the link as `viewer`. Raises `CannotAct`, also if another request was faster."""
    now = timezone.now()
    with transaction.atomic():
        # Lock the row of the run first, as everywhere; then a single INSERT decides which of two requests acts.
        Run.objects.select_for_update().get(pk=found.run.pk)
        try:
            with transaction.atomic():
                UsedAlertLink.objects.create(digest=digest(token), expires_at=found.link.expires_at)
        except IntegrityError as error:
            raise _used(found.run.pk) from error
        outcome = _acknowledge(found, viewer) if found.link.action == LinkAction.ACKNOWLEDGE else _ask(found, viewer)
        # An expired link is refused anyway, so its use need not be stored.
        UsedAlertLink.objects.filter(expires_at__lte=now).delete()
    return outcome


def _used(run_id: int | None) -> CannotAct:
    remedy = _("Each link works once. Open the run to see the result, or to do more.")
    return CannotAct(_("This link was already used"), remedy, 410, run_id)


def _acknowledge(found: Found, viewer: Viewer) -> Outcome:
    name = name_of(viewer, found.run.project_id)
    if alerts.acknowledge(found.run.pk, found.alert.pk, viewer.user_id, name):
        return Outcome(True, _("The alert is acknowledged."))
    found.alert.refresh_from_db()
    if found.alert.state == AlertState.CLEARED:
        return Outcome(False, _("The alert has already been cleared."))
    return Outcome(False, _("%(name)s has already acknowledged the alert.") % {"name": found.alert.acknowledged_name})


def _ask(found: Found, viewer: Viewer) -> Outcome:
    command = record_as(found.run.pk, _request(found), viewer)
    if command.state == CommandState.REFUSED:
        return Outcome(False, _("The command was refused: %(reason)s") % {"reason": command.outcome})
    if command.state == CommandState.SENT:
        return Outcome(True, _("The command was sent. It takes effect at the next step."))
    return Outcome(True, _("It is done."))


def _request(found: Found) -> Request:
    alert = found.alert
    cause = OfLink(alert=alert.pk, detector=alert.detector, title=alert.title, destination=found.destination.name)
    payload: dict[str, object] = {"expires_in_s": EXPIRES_IN_S}
    match found.link.action:
        case LinkAction.SAVE_CHECKPOINT:
            payload |= {"command": "save_checkpoint", "arguments": {"name": f"alert {found.alert.pk}"}}
        case LinkAction.ROLL_BACK:
            recovery = _recovery(found)
            arguments = {
                "checkpoint": str(recovery.checkpoint.pk), "knob": recovery.knob, "factor": recovery.factor,
            }  # fmt: skip
            payload |= {"command": "roll_back", "arguments": arguments}
        case LinkAction.HALVE | LinkAction.SCALE_KNOB:
            knob, factor = _scaling(found)
            payload |= {"command": "set_knob", "arguments": {"knob": knob, "factor": factor}}
            if found.link.action == LinkAction.SCALE_KNOB and found.alert.rule is not None:
                expected = expected_value(found.run, as_rule(found.alert.rule))
                if expected is not None:
                    payload["expect"] = {"value": expected}
        case other:
            payload |= {"command": str(other)}
    try:
        return parse_command(payload).caused_by(cause)
    except InvalidCommand as error:
        raise CannotAct(_("The run does not accept this command"), str(error), 409, found.run.pk) from error


def _recovery(found: Found) -> Recovery:
    """Return the checkpoint of the link, and its change of the learning rate. Raises `CannotAct`."""
    knob, factor = _scaling(found)
    recovery = recovery_from(found.run, found.alert, knob, factor)
    if recovery is None:
        title = _("This run has no good checkpoint before the alert")
        raise CannotAct(title, _("Open the run to choose a checkpoint by hand."), 409, found.run.pk)
    return recovery


def _scaling(found: Found) -> tuple[str, float]:
    """Return the knob and the factor by which it is scaled. Raises `CannotAct`."""
    if found.link.action in (LinkAction.HALVE, LinkAction.ROLL_BACK):
        knob = next((name for name in found.run.knob_specs if is_learning_rate(name)), "")
        if not knob:
            title = _("The learning rate of this run cannot be changed")
            raise CannotAct(title, _("Open the run to see what can be changed."), 409, found.run.pk)
        return knob, HALF
    rule = as_rule(found.alert.rule) if found.alert.rule is not None else None
    if rule is None or rule.action != RuleAction.SCALE_KNOB or not rule.knob or rule.factor is None:
        title = _("The rule of this alert was changed or deleted")
        raise CannotAct(
            title, _("This link can no longer change the value. Open the run and change it there."), 409, found.run.pk
        )
    if rule.makes_too_small(knob_numbers(found.run, rule.knob)):
        title = _("The value would be smaller than the rule allows")
        raise CannotAct(title, _("Open the run to set the value by hand."), 409, found.run.pk)
    return rule.knob, rule.factor
