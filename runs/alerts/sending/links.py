"""One-tap links in messages: their content and their signature.

A link is bound to an alert, an action, a destination and the person for whom it acts. It is not secret, because every
reader of a message has its links. Therefore a link expires, works once, and only while its person has the permission.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from django.core import signing
from django.utils import timezone

SALT = "runs.alerts.sending.links"
PATH = "/alerts/act/{token}/"
# A link has about 120 characters; longer ones are not parsed.
LONGEST_TOKEN = 500


class LinkAction(StrEnum):
    """The action of a link. `SCALE_KNOB` is the action of the alert's rule, `HALVE` multiplies the learning rate by
    0.5, and `ROLL_BACK` goes to the last good checkpoint before the alert with half the learning rate.
    """

    ACKNOWLEDGE = "acknowledge"
    PAUSE = "pause"
    STOP = "stop"
    SAVE_CHECKPOINT = "save_checkpoint"
    HALVE = "halve"
    ROLL_BACK = "roll_back"
    SCALE_KNOB = "scale_knob"


class BadLink(Exception):
    """The link was not created here, or was changed."""


@dataclass(frozen=True, slots=True)
class Link:
    """The action of a link. Without `person_id`, the reader logs in first, and the link acts in their name."""

    alert_id: int
    action: LinkAction
    person_id: int | None
    destination_id: int
    expires_at: datetime


class ExpiredLink(BadLink):
    """The link was valid, and has expired."""

    def __init__(self, link: Link) -> None:
        super().__init__("It has expired.")
        self.link = link


def action_link(
    base_url: str, alert_id: int, action: str, person_id: int | None, destination_id: int, lifetime: timedelta
) -> str:
    """Return the URL that requests `action`, valid for `lifetime`.

    `base_url` is the public address of the installation, with or without a trailing slash. Raises `ValueError` if links
    cannot do `action`.
    """
    until = int((timezone.now() + lifetime).timestamp())
    held = [alert_id, str(LinkAction(action)), person_id, destination_id, until]
    return base_url.rstrip("/") + PATH.format(token=signing.dumps(held, salt=SALT))


def read(token: str) -> Link:
    """Return the content of the link with this token. Raises `BadLink`, and `ExpiredLink` if it was valid before."""
    if len(token) > LONGEST_TOKEN:
        raise BadLink
    try:
        alert_id, action, person_id, destination_id, until = signing.loads(token, salt=SALT)
        link = Link(alert_id, LinkAction(action), person_id, destination_id, datetime.fromtimestamp(until, UTC))
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise BadLink from error
    if link.expires_at <= timezone.now():
        raise ExpiredLink(link)
    return link
