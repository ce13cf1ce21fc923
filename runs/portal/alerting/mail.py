"""The page of the mail account that sends the alerts of a project."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.models import DELETION
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from runs.alerts.sending import addresses
from runs.alerts.sending.addresses import InvalidAddress
from runs.alerts.sending.secrets import seal
from runs.models import AlertDestination, DestinationKind, MailAccount, MailSecurity, Membership, Project
from runs.portal.alerting.destination_form import SECRET, SELECT, TEXT
from runs.portal.alerting.owning import note, note_saved, owner_of, try_out, unread_mail_of

HOST = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?\Z")
OTHER = "other"
# If one of these changes, the stored password must be entered again, so that it is never sent to another server.
BOUND = ("host", "port", "security", "user")


@dataclass(frozen=True, slots=True)
class Preset:
    """The server of a mail provider: implicit TLS, with the whole address as account and as sender."""

    label: str
    host: str
    port: int = 465


PRESETS = {
    "qq": Preset("QQ (smtp.qq.com)", "smtp.qq.com"),
    "163": Preset("163 (smtp.163.com)", "smtp.163.com"),
    "gmail": Preset("Gmail (smtp.gmail.com)", "smtp.gmail.com"),
}


class MailAccountForm(forms.Form):
    """A mail account: a known provider, or server, port and encryption. The password is write-only."""

    preset = forms.ChoiceField(
        label=gettext_lazy("Provider"),
        choices=[*((name, preset.label) for name, preset in PRESETS.items()), (OTHER, gettext_lazy("Another server"))],
        widget=forms.RadioSelect(attrs={"class": "form-check-input"}),
    )
    user = forms.CharField(
        label=gettext_lazy("Account"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("The full mail address. It is also the sender: QQ, 163 and Gmail require this."),
        widget=forms.TextInput(attrs=SECRET | {"inputmode": "email"}),
    )
    code = forms.CharField(
        label=gettext_lazy("Authorization code or password"),
        max_length=500,
        required=False,
        widget=forms.PasswordInput(attrs={"class": "form-control", "autocomplete": "new-password"}),
    )
    host = forms.CharField(
        label=gettext_lazy("Server"), max_length=200, required=False, widget=forms.TextInput(attrs=SECRET)
    )
    port = forms.IntegerField(
        label=gettext_lazy("Port"),
        min_value=1,
        max_value=65535,
        required=False,
        help_text=gettext_lazy("Usually 465 with TLS, 587 with STARTTLS. Leave empty to use that port."),
        widget=forms.NumberInput(attrs={"class": "form-control"}),
    )
    security = forms.ChoiceField(
        label=gettext_lazy("Encryption"),
        choices=MailSecurity.choices,
        required=False,
        initial=MailSecurity.TLS,
        widget=forms.Select(attrs=SELECT),
    )
    sender = forms.EmailField(
        label=gettext_lazy("Sender"),
        required=False,
        help_text=gettext_lazy("Leave empty to use the account."),
        widget=forms.TextInput(attrs=TEXT | {"inputmode": "email"}),
    )

    def __init__(self, data: Mapping[str, Any] | None = None, *, account: MailAccount | None) -> None:
        super().__init__(data, initial=_shown(account))
        self.account = account
        if account is not None and account.secret:
            self.fields["code"].help_text = _("A value is stored. Leave empty to keep it.")

    def provider(self) -> list[forms.BoundField]:
        """Return the fields of every account."""
        return [self[name] for name in ("user", "code")]

    def server(self) -> list[forms.BoundField]:
        """Return the fields that only apply to servers of other providers."""
        return [self[name] for name in ("host", "port", "security", "sender")]

    def clean(self) -> dict[str, Any]:
        chosen: dict[str, Any] = super().clean() or self.cleaned_data
        preset = PRESETS.get(chosen.get("preset", ""))
        if preset is not None:
            chosen |= {"host": preset.host, "port": preset.port, "security": MailSecurity.TLS, "sender": ""}
            for name in ("host", "port", "security", "sender"):
                self.errors.pop(name, None)
            self._check_account(chosen.get("user", ""))
        elif chosen.get("preset") == OTHER:
            self._clean_server(chosen)
        if not self.errors:
            self._check_code(chosen)
        return chosen

    def save(self, project: Project, user: User) -> MailAccount:
        """Store the account of a project as changed by `user`."""
        account = self.account or MailAccount(project=project)
        for name in (*BOUND, "sender"):
            setattr(account, name, self.cleaned_data[name])
        if self.cleaned_data["code"]:
            account.secret = seal(self.cleaned_data["code"])
        elif not account.user:
            account.secret = ""
        account.changed_by = user
        account.save()
        return account

    def _clean_server(self, chosen: dict[str, Any]) -> None:
        host = chosen.get("host", "")
        if not HOST.match(host) and "host" not in self.errors:
            self.add_error("host", _("Enter only the name of the mail server, for example smtp.example.org."))
        chosen["security"] = chosen.get("security") or MailSecurity.TLS
        if not chosen.get("port") and "port" not in self.errors:
            standard = {MailSecurity.TLS: 465, MailSecurity.STARTTLS: 587, MailSecurity.NONE: 25}
            chosen["port"] = standard[MailSecurity(chosen["security"])]
        if chosen["security"] == MailSecurity.NONE and chosen.get("user"):
            self.add_error("security", _("Choose TLS or STARTTLS: otherwise the password is sent in clear text."))
        if not chosen.get("sender") and "sender" not in self.errors:
            self._check_account(chosen.get("user", ""))

    def _check_account(self, user: str) -> None:
        """Refuse an account that cannot be a sender address."""
        try:
            validate_email(user)
        except ValidationError:
            self.add_error(
                "user", _("Enter the full mail address, for example ann@example.org. It is also the sender.")
            )

    def _check_code(self, chosen: dict[str, Any]) -> None:
        if chosen.get("code") or not chosen.get("user"):
            return
        kept = self.account
        if kept is None or not kept.secret:
            self.add_error("code", _("Enter the authorization code, or the password, of this account."))
        elif any(getattr(kept, name) != chosen[name] for name in BOUND):
            text = _("Enter the code again: the stored one belongs to another server or account.")
            self.add_error("code", text)


@login_required
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def mail_account(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the form of the project's mail account; store it by POST."""
    own = owner_of(request, slug)
    account = MailAccount.objects.filter(project=own.project).first()
    form = MailAccountForm(request.POST or None, account=account)
    if request.method != "POST":
        return _show(request, own, form)
    if not form.is_valid():
        return _show(request, own, form, status=422)
    with transaction.atomic():
        saved = form.save(own.project, own.user)
        note_saved(own.user, saved, account is None, form.changed_data)
    messages.success(request, _("Saved. Send a test message to check that it arrives."))
    return redirect("mail_account", own.project.slug)


@login_required
@require_POST
def test_mail_account(request: HttpRequest, slug: str) -> HttpResponse:
    """Send a test message through the account; its page shows the server's answer, and reloading it sends none."""
    own = owner_of(request, slug)
    account = get_object_or_404(MailAccount, project=own.project)
    try:
        address = addresses.mail(request.POST.get("to", ""))
    except InvalidAddress as error:
        return _show(request, own, MailAccountForm(account=account), status=422, to_error=str(error))
    # A temporary destination that is off, so that an account can be tested before there is one. Another process sends
    # it.
    destination = AlertDestination.objects.create(
        project=own.project,
        name=_("test of the mail account"),
        kind=DestinationKind.MAIL,
        secret=seal(address.secret),
        hint=address.hint,
        is_on=False,
        created_by=own.user,
        changed_by=own.user,
    )
    try:
        try_out(request, destination)
    finally:
        destination.delete()
    return redirect("mail_account", own.project.slug)


@login_required
@require_POST
def delete_mail_account(request: HttpRequest, slug: str) -> HttpResponse:
    """Delete the account: mail is then sent through the installation's own."""
    own = owner_of(request, slug)
    account = get_object_or_404(MailAccount, project=own.project)
    with transaction.atomic():
        note(own.user, account, DELETION, "deleted")
        account.delete()
    messages.success(request, _("The mail account is deleted."))
    return redirect("destinations", own.project.slug)


def _shown(account: MailAccount | None) -> dict[str, Any]:
    """Return the values that the form shows of an account."""
    if account is None:
        return {"preset": "qq", "security": MailSecurity.TLS}
    hosts = {preset.host: name for name, preset in PRESETS.items()}
    is_preset = account.port == 465 and account.security == MailSecurity.TLS and not account.sender
    shown = {name: getattr(account, name) for name in (*BOUND, "sender")}
    return shown | {"preset": hosts.get(account.host, OTHER) if is_preset else OTHER}


def _show(
    request: HttpRequest, own: Membership, form: MailAccountForm, status: int = 200, to_error: str = ""
) -> HttpResponse:
    to = request.POST.get("to") or (form.account and (form.account.sender or form.account.user)) or ""
    context = {
        "project": own.project,
        "form": form,
        "account": form.account,
        "unread_mail": unread_mail_of(form.account),
        "to": to,
        "to_error": to_error,
    }
    return render(request, "alerting/mail.html", context, status=status)
