"""Titles and texts of alerts in the reader's language. Rows store their content as data, and English texts."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from runs.alerts.rules import DISK, OF_STATE
from runs.alerts.short_numbers import short_number
from runs.alerts.titles import TITLES
from runs.models import OF_CODE, ActionState, Alert, AlertDelivery, Command, RuleAction, Run
from runs.protocol.causes import after_roll_back, alert_cause, command_cause, run_cause


@dataclass(frozen=True, slots=True)
class Texts:
    """The title of an alert, and its text, which is empty if the title says everything."""

    title: str
    text: str


def texts_of(alert: Alert) -> Texts:
    """Return title and text of an alert in the active language; texts of the training's own code stay as they are."""
    if alert.detector == OF_CODE or alert.detector not in TITLES:
        return Texts(alert.title, alert.text)
    title, meaning = TITLES[alert.detector]
    match alert.detector:
        case detector if detector in OF_STATE:
            cause = alert_cause(alert.cause)
            # Without a cause, the text of the training or its supervisor is shown.
            text = cause.words(_) if cause is not None else alert.text or _(meaning)
        case _other:
            cause = alert_cause(alert.cause)
            text = _(meaning) if cause is None else f"{_(meaning)} {cause.words(_)}"
    return Texts(_(title), text)


def value_of(alert: Alert) -> str:
    """Return the judged value for people; "" if there is none, or if the text contains it."""
    if alert.detector == DISK:
        return ""
    return alert.nonfinite or ("" if alert.value is None else short_number(alert.value, 4))


def action_text(alert: Alert) -> str:
    """Return the action of the alert's rule, or why it did not act; "" if it has no action."""
    if not alert.action or not alert.action_state:
        return ""
    name = RuleAction(alert.action).label
    if alert.action_state == ActionState.HELD_BACK:
        return _("The rule did not act (%(action)s): %(reason)s") % {
            "action": name,
            "reason": alert.get_held_back_display(),
        }
    what = {"action": f"{name}, {alert.action_text}" if alert.action_text else name}
    if alert.action_state == ActionState.DRY_RUN:
        return _("Dry run; the rule would have done this: %(action)s") % what
    return _("Action of the rule: %(action)s") % what


def after_roll_back_text(alert: Alert) -> str:
    """Return the result of a rollback for the alert, "" if that is not known."""
    found = after_roll_back(alert.after_roll_back)
    return "" if found is None else found.words(_)


def error_of(delivery: AlertDelivery) -> str:
    """Return why a message was not sent: our own texts in the active language, answers of servers unchanged."""
    return _(delivery.error) if delivery.error else ""


def reason_of(command: Command) -> str:
    """Return why a command was sent; a reason that a person gave is unchanged."""
    cause = command_cause(command.cause)
    return command.reason if cause is None else cause.words(_)


def reason_of_run(run: Run) -> str:
    """Return why a run is in its state; texts of a training or its supervisor are unchanged."""
    cause = run_cause(run.cause, run.reason)
    return run.reason if cause is None else cause.words(_)
