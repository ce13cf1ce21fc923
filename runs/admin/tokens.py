"""Tokens: created, shown once and revoked here. Their values cannot be computed from the stored hashes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display

from runs.access.tokens import TokenRefused, create_token, revoke
from runs.admin.forms import ChoosesRows
from runs.models import AccessToken

LABELS = {"valid": "success", "revoked": "danger", "expired": "default"}


class NewTokenForm(forms.ModelForm[AccessToken]):
    """A new token of the person who fills in the form.

    The admin sets `creator`, and `value` once the token is created.
    """

    creator: User
    value = ""

    class Meta:
        model = AccessToken
        fields = ("name", "scope", "project", "run", "expires_at")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            # Created while the form is validated, so that a refusal appears at its field.
            self.instance, self.value = create_token(
                self.creator, cleaned["project"], cleaned["scope"], name=cleaned["name"], run=cleaned["run"],
                expires_at=cleaned["expires_at"],
            )  # fmt: skip
        except TokenRefused as refusal:
            self.add_error(refusal.field if refusal.field in self.fields else None, str(refusal))
        return cleaned

    def _post_clean(self) -> None:
        """The row exists already, so there is nothing to copy onto it."""


@admin.register(AccessToken)
class AccessTokenAdmin(ChoosesRows, ModelAdmin):
    list_display = ("name", "begins", "scope", "project", "run", "state", "created_by", "last_used_at", "expires_at")
    list_filter = ("scope", "project")
    list_select_related = ("project", "run", "created_by")
    search_fields = ("name", "prefix", "project__name", "created_by__username")
    autocomplete_fields = ("project", "run")
    fields_of_new = ("name", "scope", "project", "run", "expires_at")
    fields_shown = (
        "name", "begins", "state", "scope", "project", "run", "created_by", "created_at", "expires_at", "last_used_at",
        "revoked_at",
    )  # fmt: skip
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AccessToken | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.change_accesstoken")

    def get_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        return self.fields_of_new if obj is None else self.fields_shown

    def get_readonly_fields(self, request: HttpRequest, obj: AccessToken | None = None) -> tuple[str, ...]:
        return () if obj is None else self.fields_shown

    def get_form(
        self, request: HttpRequest, obj: AccessToken | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm[AccessToken]]:
        if obj is None:
            kwargs["form"] = type("NewTokenFormOfUser", (NewTokenForm,), {"creator": request.user})
        form: type[forms.ModelForm[AccessToken]] = super().get_form(request, obj, change, **kwargs)
        return form

    def save_model(self, request: HttpRequest, obj: AccessToken, form: Any, change: bool) -> None:
        """Show the value of the new token: this is the only time."""
        text = gettext("The token is %(value)s: copy it now, it is not shown again.") % {"value": form.value}
        self.message_user(request, text, messages.WARNING)

    @display(description=_("begins with"))
    def begins(self, token: AccessToken) -> str:
        return f"{token.prefix}…"

    @display(description=_("state"), label=LABELS)
    def state(self, token: AccessToken) -> tuple[str, str]:
        if token.revoked_at is not None:
            return "revoked", gettext("revoked")
        if token.expires_at is not None and token.expires_at <= timezone.now():
            return "expired", gettext("expired")
        return "valid", gettext("valid")

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[AccessToken]) -> None:
        valid = list(queryset.filter(revoked_at=None))
        for token in valid:
            revoke(token)
        text = ngettext("%(number)d token is revoked.", "%(number)d tokens are revoked.", len(valid))
        self.message_user(request, text % {"number": len(valid)}, messages.SUCCESS)
