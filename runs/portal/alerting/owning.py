"""The shared parts of the owners' pages of destinations and mail accounts."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from runs.access.limiter import Limiter
from runs.access.roles import membership_in
from runs.alerts import sending
from runs.alerts.wording.unread_mail import unread_mail
from runs.models import AlertDestination, MailAccount, Membership, Role

# Per project and web process: a test starts a process, and may use the mail server of the installation.
TRIALS_BURST = 10
TRIALS_PER_S = 1 / 30

_trials = Limiter(TRIALS_BURST, TRIALS_PER_S)


def owner_of(request: HttpRequest, slug: str) -> Membership:
    """Return the membership of an owner of the project. Raises `Http404` for people outside it, else
    `PermissionDenied`.
    """
    own = membership_in(request.user, slug)
    if own.role != Role.OWNER:
        raise PermissionDenied(_("Only owners of the project can change alert destinations."))
    return own


def note(user: User, changed: Model, flag: int, what: str) -> None:
    """Record in the admin's log who added, changed or deleted something; `what` contains no secret."""
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(changed),
        object_id=str(changed.pk),
        object_repr=str(changed)[:200],
        action_flag=flag,
        change_message=what,
    )


def note_saved(user: User, saved: Model, is_new: bool, fields: Iterable[str]) -> None:
    """Record in the admin's log that something was added, or which `fields` of its form were changed."""
    what = "added" if is_new else f"changed: {', '.join(fields)}"
    note(user, saved, ADDITION if is_new else CHANGE, what)


def public_url() -> str:
    """Return the base URL of links in messages, "" if none is set."""
    return str(settings.STEERSMAN_PUBLIC_URL)


def unread_mail_of(account: MailAccount | None) -> str:
    """Return why mail of a project with this account reaches no one; "" if it is sent."""
    unread = "" if account is not None else unread_mail()
    return _(unread) if unread else ""


def try_out(request: HttpRequest, destination: AlertDestination) -> None:
    """Send a test message to a stored destination; the next page shows the result and the server's answer.

    If the project has sent too many, it sends none and shows that.
    """
    if _trials.take(destination.project_id):
        result = sending.test_message(destination)
        # Our own answers may be translated, a server's are not.
        is_sent, answer = result.ok, _(result.answer) if result.answer else ""
    else:
        is_sent, answer = (
            False,
            _("No test was sent, because the project has sent too many. Wait a minute and try again."),
        )
    told = render_to_string("alerting/result.html", {"is_sent": is_sent, "answer": answer})
    messages.add_message(request, messages.SUCCESS if is_sent else messages.ERROR, told)
