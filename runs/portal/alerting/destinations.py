"""Pages of the destinations of a project: who is notified of alerts, and the sent messages."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.admin.models import CHANGE, DELETION
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from runs.access.roles import membership_in
from runs.alerts.wording.texts import texts_of
from runs.models import AlertDelivery, AlertDestination, DestinationKind, MailAccount, Membership, Role
from runs.portal.alerting.destination_form import DestinationForm
from runs.portal.alerting.owning import note, note_saved, owner_of, public_url, try_out, unread_mail_of

MOST_DELIVERIES_SHOWN = 50
SECRETS = ("recipients", "webhook", "signing_secret", "address")


@login_required
@require_http_methods(["GET", "HEAD"])
def destinations(request: HttpRequest, slug: str) -> HttpResponse:
    """Show members the destinations and the sent messages; only owners see errors and link addresses."""
    own = membership_in(request.user, slug)
    deliveries = AlertDelivery.objects.filter(destination__project=own.project)
    account = MailAccount.objects.filter(project=own.project).first()
    told = own.project.alert_destinations.select_related("person", "changed_by")
    unread_mail = unread_mail_of(account)
    context = {
        "project": own.project,
        "is_owner": own.role == Role.OWNER,
        "destinations": told,
        "kinds": DestinationKind.choices,
        "account": account,
        "unread_mail": unread_mail,
        "warns_of_mail": any(each.kind == DestinationKind.MAIL and each.is_on for each in told),
        "has_public_url": bool(public_url()),
        "deliveries": [
            (each, texts_of(each.alert).title)
            for each in deliveries.select_related("alert__run", "destination")[:MOST_DELIVERIES_SHOWN]
        ],
    }
    return render(request, "alerting/destinations.html", context)


@login_required
@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "HEAD", "POST"])
def new_destination(request: HttpRequest, slug: str, kind: str) -> HttpResponse:
    """Show the form of a new destination of a kind; store it by POST."""
    own = owner_of(request, slug)
    if kind not in DestinationKind.values:
        raise Http404
    form = DestinationForm(request.POST or None, project=own.project, kind=DestinationKind(kind))
    return _answer(request, own, form)


@login_required
@sensitive_post_parameters(*SECRETS)
@require_http_methods(["GET", "HEAD", "POST"])
def destination(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Show the form of a destination; store its changes by POST."""
    own, found = _own_destination(request, slug, pk)
    form = DestinationForm(request.POST or None, instance=found, project=own.project, kind=DestinationKind(found.kind))
    return _answer(request, own, form)


@login_required
@require_POST
def switch_destination(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Switch a destination off, or on again."""
    own, found = _own_destination(request, slug, pk)
    found.is_on = "on" in request.POST
    found.changed_by = own.user
    with transaction.atomic():
        found.save(update_fields=["is_on", "changed_by", "changed_at"])
        note(own.user, found, CHANGE, "switched on" if found.is_on else "switched off")
    return redirect("destinations", own.project.slug)


@login_required
@require_POST
def delete_destination(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Delete a destination with the record of what it was sent."""
    own, found = _own_destination(request, slug, pk)
    with transaction.atomic():
        note(own.user, found, DELETION, "deleted")
        found.delete()
    messages.success(request, _("%(name)s is no longer notified of alerts.") % {"name": found.name})
    return redirect("destinations", own.project.slug)


@login_required
@require_POST
def test_destination(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Send a test message; the page of the destination shows the server's answer, and reloading it sends none."""
    own, found = _own_destination(request, slug, pk)
    try_out(request, found)
    return redirect("destination", own.project.slug, found.pk)


def _own_destination(request: HttpRequest, slug: str, pk: int) -> tuple[Membership, AlertDestination]:
    own = owner_of(request, slug)
    return own, get_object_or_404(own.project.alert_destinations, pk=pk)


def _answer(request: HttpRequest, own: Membership, form: DestinationForm) -> HttpResponse:
    if request.method != "POST":
        return _show(request, own, form)
    if not form.is_valid():
        return _show(request, own, form, status=422)
    is_new = form.instance.pk is None
    with transaction.atomic():
        saved = form.save_for(own.user)
        note_saved(own.user, saved, is_new, form.changed_data)
    messages.success(request, _("Saved. Send a test message to check that it arrives."))
    return redirect("destination", own.project.slug, saved.pk)


def _show(request: HttpRequest, own: Membership, form: DestinationForm, status: int = 200) -> HttpResponse:
    context = {
        "project": own.project,
        "form": form,
        "kind": form.kind,
        "destination": form.instance if form.instance.pk else None,
        "has_public_url": bool(public_url()),
        "unread_mail": _unread_mail(own, form.kind),
    }
    return render(request, "alerting/destination.html", context, status=status)


def _unread_mail(own: Membership, kind: str) -> str:
    """Return why messages to a destination of this kind reach no one; "" if they are sent."""
    if kind != DestinationKind.MAIL:
        return ""
    return unread_mail_of(MailAccount.objects.filter(project=own.project).first())
