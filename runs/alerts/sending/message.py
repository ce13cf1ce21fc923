"""The content of a message, built from rows of alerts, without paths, hosts, user names and secrets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.alerts.rulebook.recovering import offers_recovery
from runs.alerts.sending import links, timing
from runs.alerts.sending.picture import Picture, picture_of
from runs.alerts.wording.texts import action_text, texts_of, value_of
from runs.models import Alert, AlertDelivery, AlertDestination, DeliveryMoment, DeliveryState, RuleAction, Severity
from runs.protocol.causes import Recovered, after_roll_back

# The number of alerts that a message lists; the others are only counted.
MOST_NAMED = 20
# The number of runs that a message describes in full, with curve and links; each other run gets one line.
MOST_IN_FULL = 3
LINK_LIFETIME = timedelta(hours=24)
# If one message describes several moments of an alert, its heading is that of the last one.
MOMENTS = (DeliveryMoment.ROLLED_BACK, DeliveryMoment.BEGAN, DeliveryMoment.CLEARED)


@dataclass(frozen=True, slots=True)
class TapLink:
    """A one-tap link. `name` describes its action, in the language of the message."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class AlertSummary:
    """One alert in a message; its texts may be empty."""

    heading: str
    severity: str
    is_over: bool
    series: str
    step: int | None
    value: str
    usual: str
    text: str
    # The action of the alert's rule, or why it did not act.
    action: str
    # The result of a rollback.
    after_roll_back: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Story:
    """The part of a message about one run: its worst alert, then the others.

    `picture` and `links` belong to the worst.
    """

    run: str
    project: str
    worst: AlertSummary
    others: tuple[AlertSummary, ...]
    url: str
    is_full: bool
    links: tuple[TapLink, ...] = ()
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message to one destination. `id` is the same however often it is tried.

    `follows` is the message by which the destination was first told of one of the alerts, if there was one.
    """

    id: UUID
    subject: str
    severity: str
    stories: tuple[Story, ...] = ()
    more: int = 0
    note: str = ""
    language: str = field(default="en")
    zone: str = field(default="UTC")
    follows: UUID | None = None

    @property
    def text(self) -> str:
        """Return the message as plain text."""
        return self._rendered("alerting/message.txt").strip() + "\n"

    @property
    def html(self) -> str:
        """Return the message as HTML. Its pictures have `cid:` addresses, see `Picture.cid`."""
        return self._rendered("alerting/message.html")

    @property
    def pictures(self) -> list[Picture]:
        return [story.picture for story in self.stories if story.picture]

    def _rendered(self, template: str) -> str:
        with translation.override(self.language), timezone.override(timing.zone_of(self.zone)):
            return render_to_string(template, {"message": self})


def build(message_id: UUID, destination: AlertDestination, deliveries: Sequence[AlertDelivery]) -> Message:
    """Return the message to a destination about at least one of `deliveries`."""
    language = language_of(destination)
    with translation.override(language):
        # If several changes of an alert are to be reported, it is reported once, as over if it is over.
        latest: dict[int, AlertDelivery] = {}
        for each in sorted(deliveries, key=lambda each: MOMENTS.index(DeliveryMoment(each.moment))):
            latest[each.alert_id] = each
        ordered = sorted(latest.values(), key=_by_weight)
        named = ordered[:MOST_NAMED]
        return Message(
            id=message_id,
            subject=_subject(ordered, destination),
            severity=max((each.alert.severity for each in ordered), key=lambda each: Severity(each).rank),
            stories=tuple(_stories(named, destination)),
            more=len(ordered) - len(named),
            note="" if settings.STEERSMAN_PUBLIC_URL else _no_links(),
            language=language,
            zone=destination.quiet_zone,
            follows=_first_message(message_id, deliveries),
        )


def _first_message(message_id: UUID, deliveries: Sequence[AlertDelivery]) -> UUID | None:
    """Return the first earlier message to the destination about one of these alerts, None if there is none."""
    earlier = AlertDelivery.objects.filter(
        destination=deliveries[0].destination_id,
        alert__in=[each.alert_id for each in deliveries],
        state=DeliveryState.SENT,
    )
    return earlier.exclude(message=message_id).order_by("pk").values_list("message", flat=True).first()


def test_of(message_id: UUID, destination: AlertDestination) -> Message:
    """Return the message with which a person tests a destination."""
    language = language_of(destination)
    with translation.override(language):
        return Message(
            id=message_id,
            subject=_("Steersman: a test of alerts of %(project)s") % {"project": destination.project.name},
            severity=Severity.INFO,
            note=_("This is how alerts of the project %(project)s will reach you.")
            % {"project": destination.project.name}
            + ("" if settings.STEERSMAN_PUBLIC_URL else " " + _no_links()),
            language=language,
            zone=destination.quiet_zone,
        )


def language_of(destination: AlertDestination) -> str:
    """Return the language of messages to a destination: its own, or the default of the installation."""
    known = {code for code, _name in settings.LANGUAGES}
    return destination.language if destination.language in known else settings.LANGUAGE_CODE


def _by_weight(delivery: AlertDelivery) -> tuple[bool, int, datetime, int]:
    """Sort key: active alerts first, then by severity, then by the time of their beginning, as the first may be the
    cause.
    """
    is_over = delivery.moment == DeliveryMoment.CLEARED
    return is_over, -Severity(delivery.alert.severity).rank, delivery.alert.began_at, delivery.pk


def _no_links() -> str:
    return _("This message has no links, because STEERSMAN_PUBLIC_URL is not set.")


def _subject(deliveries: Sequence[AlertDelivery], destination: AlertDestination) -> str:
    project, first = destination.project.name, deliveries[0].alert
    runs = len({each.alert.run_id for each in deliveries})
    if runs > 1:
        alerts = ngettext("%(count)d alert", "%(count)d alerts", len(deliveries)) % {"count": len(deliveries)}
        of_runs = ngettext("of %(count)d run", "of %(count)d runs", runs) % {"count": runs}
        return f"[{project}] {alerts} {of_runs}: {texts_of(first).title}"
    others = len(deliveries) - 1
    more = ngettext("and %(count)d more", "and %(count)d more", others) % {"count": others} if others else ""
    return f"[{project}] {first.run.name}: {_heading(deliveries[0])} {more}".strip()


def _heading(delivery: AlertDelivery) -> str:
    title = texts_of(delivery.alert).title
    match delivery.moment:
        case DeliveryMoment.CLEARED:
            return _("over: %(title)s") % {"title": title}
        case DeliveryMoment.ROLLED_BACK:
            return _("after the rollback: %(title)s") % {"title": title}
        case _:
            return title


def _stories(deliveries: Iterable[AlertDelivery], destination: AlertDestination) -> Iterable[Story]:
    """Yield a story for each run, ordered by its worst alert."""
    by_run: dict[int, list[AlertDelivery]] = {}
    for delivery in deliveries:
        by_run.setdefault(delivery.alert.run_id, []).append(delivery)
    for place, (first, *others) in enumerate(by_run.values()):
        alert, worst, is_full = first.alert, _summary_of(first), place < MOST_IN_FULL
        yield Story(
            run=alert.run.name,
            project=destination.project.name,
            worst=worst,
            others=tuple(_summary_of(each) for each in others),
            url=_address(alert),
            is_full=is_full,
            links=_links(alert, destination) if is_full and not worst.is_over and _base() else (),
            picture=picture_of(alert) if is_full else None,
        )


def _summary_of(delivery: AlertDelivery) -> AlertSummary:
    alert = delivery.alert
    is_cleared = delivery.moment == DeliveryMoment.CLEARED
    followed = after_roll_back(alert.after_roll_back)
    return AlertSummary(
        heading=_heading(delivery),
        severity=alert.get_severity_display(),
        is_over=is_cleared or isinstance(followed, Recovered),
        series=alert.series,
        step=alert.step,
        value=value_of(alert),
        usual=alert.usual,
        text=texts_of(alert).text,
        # After a rollback it is the whole story: what was seen, what was done, and what followed.
        action="" if is_cleared and followed is None else action_text(alert),
        after_roll_back="" if followed is None else followed.words(_),
        since=alert.began_at,
    )


def _base() -> str:
    return str(settings.STEERSMAN_PUBLIC_URL)


def _address(alert: Alert) -> str:
    """Return the URL of the run at the alert's step, "" if the installation has no public address."""
    step = f"?step={alert.step}" if alert.step is not None else ""
    return f"{_base()}/runs/{alert.run_id}/{step}" if _base() else ""


def _links(alert: Alert, destination: AlertDestination) -> tuple[TapLink, ...]:
    offered = {links.LinkAction.PAUSE: _("Pause"), links.LinkAction.STOP: _("Stop")}
    if alert.rule is not None and alert.rule.action == RuleAction.SCALE_KNOB:
        is_rate = alert.rule.knob == "learning_rate" and alert.rule.factor == 0.5
        name = _("Learning rate × 0.5") if is_rate else f"{alert.rule.knob} × {alert.rule.factor:g}"
        offered[links.LinkAction.SCALE_KNOB] = name
    elif alert.series:
        offered[links.LinkAction.HALVE] = _("Learning rate × 0.5")
    if offers_recovery(alert):
        offered[links.LinkAction.ROLL_BACK] = _("Roll back and halve the rate")
    saves = alert.rule is not None and alert.rule.action == RuleAction.SAVE_CHECKPOINT
    if saves and not alert.run.withholds("save_checkpoint"):
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
