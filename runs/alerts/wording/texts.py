"""Titles and texts of alerts, in the language of who reads them. Rows keep what they tell of, and English."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from runs.alerts.rules import CRASH, DISK, LOST, RESTART
from runs.alerts.titles import TITLES
from runs.models import OF_CODE, ActionState, Alert, RuleAction


@dataclass(frozen=True, slots=True)
class Texts:
    """What an alert is called, and what happened; `text` is empty where there is no more to say."""

    title: str
    text: str


def texts_of(alert: Alert) -> Texts:
    """Return title and text of an alert in the active language; what the training's own code says stays as it is."""
    if alert.detector == OF_CODE or alert.detector not in TITLES:
        return Texts(alert.title, alert.text)
    title, meaning = TITLES[alert.detector]
    match alert.detector:
        case detector if detector in (CRASH, RESTART, LOST):
            # Why, as the training or its supervisor said it.
            text = alert.text or _(meaning)
        case detector if detector == DISK and alert.value is not None:
            text = _("%(free)s GiB are free.") % {"free": f"{alert.value:.1f}"}
        case _other:
            text = _(meaning)
    return Texts(_(title), text)


def value_of(alert: Alert) -> str:
    """Return the value that was judged, as people read it; "" where there is none, or the text tells it."""
    if alert.detector == DISK:
        return ""
    return alert.nonfinite or ("" if alert.value is None else f"{alert.value:.4g}")


def action_text(alert: Alert) -> str:
    """Return what the alert's rule asked of the run, or why it did not; "" if it has no action."""
    if not alert.action or not alert.action_state:
        return ""
    name = RuleAction(alert.action).label
    if alert.action_state == ActionState.HELD_BACK:
        # Reasons are marked for translation where they are made.
        return _("The rule did not act (%(action)s): %(reason)s") % {"action": name, "reason": _(alert.action_text)}
    what = {"action": f"{name}, {alert.action_text}" if alert.action_text else name}
    if alert.action_state == ActionState.DRY_RUN:
        return _("Dry run, the rule would have asked: %(action)s") % what
    return _("The rule asked: %(action)s") % what
