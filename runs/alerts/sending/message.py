"""What a message says, built from rows of alerts: no path, host or user name, and no secret of a destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.alerts.sending import links
from runs.alerts.sending.picture import Picture, picture_of
from runs.models import ActionState, Alert, AlertDelivery, AlertDestination, DeliveryMoment, RuleAction, Severity

# Alerts of one message that it names; of the others it says how many they are.
MOST_NAMED = 20
# Alerts that it shows a curve of.
MOST_PICTURES = 3
LINK_LIFETIME = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class TapLink:
    """A link that acts by one tap. `name` is what it does, in the language of the message."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """One alert as a message tells it; texts are empty where there is nothing to say."""

    heading: str
    severity: str
    is_over: bool
    run: str
    project: str
    series: str
    step: int | None
    value: str
    usual: str
    text: str
    # What the alert's rule asked of the run, or why it did not.
    action: str
    since: datetime
    url: str
    links: tuple[TapLink, ...]
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one destination. `id` is the same however often it is tried."""

    id: UUID
    subject: str
    severity: str
    alerts: tuple[ToldAlert, ...] = ()
    more: int = 0
    note: str = ""
    language: str = field(default="en")

    @property
    def text(self) -> str:
        """Return the message as plain text."""
        return self._rendered("alerting/message.txt").strip() + "\n"

    @property
    def html(self) -> str:
        """Return the message as HTML; its pictures are `cid:` addresses of `Picture.cid`."""
        return self._rendered("alerting/message.html")

    @property
    def pictures(self) -> list[Picture]:
        return [told.picture for told in self.alerts if told.picture]

    def _rendered(self, template: str) -> str:
        with translation.override(self.language):
            return render_to_string(template, {"message": self})


def build(message_id: UUID, destination: AlertDestination, deliveries: Sequence[AlertDelivery]) -> Message:
    """Return the message that tells a destination of `deliveries`, of which there is at least one."""
    language = settings.LANGUAGE_CODE
    with translation.override(language):
        over = {each.alert_id for each in deliveries if each.moment == DeliveryMoment.CLEARED}
        # What has begun and ended since the last message is told as over, and is one alert.
        told_once = [each for each in deliveries if each.moment == DeliveryMoment.CLEARED or each.alert_id not in over]
        # The worst first: of many, the others are not named.
        ordered = sorted(told_once, key=lambda each: -Severity(each.alert.severity).rank)
        told = tuple(
            _told(each, destination, with_picture=place < MOST_PICTURES)
            for place, each in enumerate(ordered[:MOST_NAMED])
        )
        return Message(
            id=message_id,
            subject=_subject(ordered, destination),
            severity=ordered[0].alert.severity,
            alerts=told,
            more=len(ordered) - len(told),
            note="" if settings.STEERSMAN_PUBLIC_URL else _no_links(),
            language=language,
        )


def test_of(message_id: UUID, destination: AlertDestination) -> Message:
    """Return the message by which a person tries a destination."""
    language = settings.LANGUAGE_CODE
    with translation.override(language):
        return Message(
            id=message_id,
            subject=_("Steersman: a test of alerts of %(project)s") % {"project": destination.project.name},
            severity=Severity.INFO,
            note=_("This is how alerts of the project %(project)s will reach you.")
            % {"project": destination.project.name}
            + ("" if settings.STEERSMAN_PUBLIC_URL else " " + _no_links()),
            language=language,
        )


def _no_links() -> str:
    return _("Without links: this installation has not set STEERSMAN_PUBLIC_URL.")


def _subject(deliveries: Sequence[AlertDelivery], destination: AlertDestination) -> str:
    first = deliveries[0].alert
    project = destination.project.name
    if len(deliveries) > 1:
        runs = len({each.alert.run_id for each in deliveries})
        alerts = ngettext("%(count)d alert", "%(count)d alerts", len(deliveries)) % {"count": len(deliveries)}
        of_runs = ngettext("of %(count)d run", "of %(count)d runs", runs) % {"count": runs}
        return f"[{project}] {alerts} {of_runs}: {first.title}"
    return f"[{project}] {first.run.name}: {_heading(deliveries[0])}"


def _heading(delivery: AlertDelivery) -> str:
    title = delivery.alert.title
    return _("over: %(title)s") % {"title": title} if delivery.moment == DeliveryMoment.CLEARED else title


def _told(delivery: AlertDelivery, destination: AlertDestination, with_picture: bool) -> ToldAlert:
    alert = delivery.alert
    is_over = delivery.moment == DeliveryMoment.CLEARED
    base = settings.STEERSMAN_PUBLIC_URL
    step = f"?step={alert.step}" if alert.step is not None else ""
    return ToldAlert(
        heading=_heading(delivery),
        severity=alert.get_severity_display(),
        is_over=is_over,
        run=alert.run.name,
        project=destination.project.name,
        series=alert.series,
        step=alert.step,
        value=alert.nonfinite or ("" if alert.value is None else f"{alert.value:.4g}"),
        usual=alert.usual,
        text=alert.text,
        action="" if is_over else action_text(alert),
        since=alert.began_at,
        url=f"{base}/runs/{alert.run_id}/{step}" if base else "",
        links=_links(alert, destination) if base and not is_over else (),
        picture=picture_of(alert) if with_picture else None,
    )


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


def _links(alert: Alert, destination: AlertDestination) -> tuple[TapLink, ...]:
    offered = {links.LinkAction.PAUSE: _("Pause"), links.LinkAction.STOP: _("Stop")}
    if alert.rule is not None and alert.rule.action == RuleAction.SCALE_KNOB:
        is_rate = alert.rule.knob == "learning_rate" and alert.rule.factor == 0.5
        name = _("Learning rate × 0.5") if is_rate else f"{alert.rule.knob} × {alert.rule.factor:g}"
        offered[links.LinkAction.SCALE_KNOB] = name
    elif alert.series:
        offered[links.LinkAction.HALVE] = _("Learning rate × 0.5")
    if alert.rule is not None and alert.rule.action == RuleAction.SAVE_CHECKPOINT:
        offered[links.LinkAction.SAVE_CHECKPOINT] = _("Save a checkpoint")
    offered[links.LinkAction.ACKNOWLEDGE] = _("Acknowledge")
    return tuple(
        TapLink(
            name,
            links.action_link(
                settings.STEERSMAN_PUBLIC_URL, alert.pk, action, destination.person_id, destination.pk, LINK_LIFETIME
            ),
        )
        for action, name in offered.items()
    )
