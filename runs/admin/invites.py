"""Invites: who invited whom, and whether it was used. They are created on the page of members."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from runs.access.membership import revoke_invites
from runs.admin.readonly import OnlyShows
from runs.models import Invite

LABELS = {"open": "info", "used": "success", "revoked": "danger", "expired": "default"}


@admin.register(Invite)
class InviteAdmin(OnlyShows):
    list_display = ("project", "role", "state", "created_by", "created_at", "expires_at", "used_by")
    list_filter = ("project", "role")
    list_select_related = ("project", "created_by", "used_by")
    fields = ("project", "role", "state", "created_by", "created_at", "expires_at", "used_at", "used_by", "revoked_at")
    readonly_fields = ("state",)
    actions = ("revoke",)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("runs.change_invite")

    @display(description=_("state"), label=LABELS)
    def state(self, invite: Invite) -> tuple[str, str]:
        if invite.used_at is not None:
            return "used", gettext("used")
        if invite.revoked_at is not None:
            return "revoked", gettext("revoked")
        if invite.expires_at <= timezone.now():
            return "expired", gettext("expired")
        return "open", gettext("open")

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invite]) -> None:
        """Revoke the links that were not used yet."""
        number = revoke_invites(queryset)
        text = ngettext("%(number)d invite is revoked.", "%(number)d invites are revoked.", number)
        self.message_user(request, text % {"number": number}, messages.SUCCESS)
