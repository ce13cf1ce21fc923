"""Django's ways to handle mail without a server: what becomes of it, so that nobody takes it for sent."""

from __future__ import annotations

from django.conf import settings

from steersman.marked_text import gettext_noop

_BACKEND = "django.core.mail.backends.{}.EmailBackend"
FILES = _BACKEND.format("filebased")
UNREAD = {
    _BACKEND.format("console"): gettext_noop(
        "No mail is sent: this installation writes mail to the terminal, and nobody receives it. "
        "Set up a mail account of the project, or STEERSMAN_EMAIL_URL."
    ),
    FILES: gettext_noop(
        "No mail is sent: this installation writes mail to files on its host, and nobody receives it. "
        "Set up a mail account of the project, or STEERSMAN_EMAIL_URL."
    ),
    _BACKEND.format("locmem"): gettext_noop(
        "No mail is sent: this installation keeps mail in memory, and nobody receives it. "
        "Set up a mail account of the project, or STEERSMAN_EMAIL_URL."
    ),
    _BACKEND.format("dummy"): gettext_noop(
        "No mail is sent: this installation throws mail away, and nobody receives it. "
        "Set up a mail account of the project, or STEERSMAN_EMAIL_URL."
    ),
}


def unread_mail() -> str:
    """Return in English why nobody receives mail of the installation's own account; "" where it is sent."""
    return UNREAD.get(settings.EMAIL_BACKEND, "")
