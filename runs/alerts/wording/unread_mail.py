"""Django's mail backends without a server. They are listed, so that such mail does not count as sent."""

from __future__ import annotations

from django.conf import settings

from steersman.marked_text import gettext_noop

_BACKEND = "django.core.mail.backends.{}.EmailBackend"
FILES = _BACKEND.format("filebased")
UNREAD = {
    _BACKEND.format("console"): gettext_noop(
        "Nobody receives mail: this installation prints mail to the terminal. Set up a mail account for the project, "
        "or set STEERSMAN_EMAIL_URL."
    ),
    FILES: gettext_noop(
        "Nobody receives mail: this installation writes mail to files on its host. Set up a mail account for the "
        "project, or set STEERSMAN_EMAIL_URL."
    ),
    _BACKEND.format("locmem"): gettext_noop(
        "Nobody receives mail: this installation keeps mail in memory. Set up a mail account for the project, or set "
        "STEERSMAN_EMAIL_URL."
    ),
    _BACKEND.format("dummy"): gettext_noop(
        "Nobody receives mail: this installation discards mail. Set up a mail account for the project, or set "
        "STEERSMAN_EMAIL_URL."
    ),
}


def unread_mail() -> str:
    """Return, in English, why mail of the installation's own account reaches no one; "" if it is sent."""
    return UNREAD.get(settings.EMAIL_BACKEND, "")
