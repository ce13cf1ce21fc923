"""Users and groups in the style of the admin, logins, and the failed logins that lock an account or an address."""

from __future__ import annotations

from typing import Any

# Imported first: each registers its models.
from allauth.account import admin as account_admin
from allauth.mfa import admin as factor_admin
from allauth.socialaccount import admin as social_admin
from allauth.usersessions import admin as sessions_admin
from axes.models import AccessAttempt, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from runs.admin.readonly import OnlyShows
from runs.models import AuditEntry

admin.site.unregister(User)
admin.site.unregister(Group)
# People manage their sessions and their second factor on pages of the portal; applications come from settings.
for _kept in (
    *(account_admin.EmailAddress, account_admin.EmailConfirmation),
    *(factor_admin.Authenticator, sessions_admin.UserSession),
    *(social_admin.SocialAccount, social_admin.SocialApp, social_admin.SocialToken),
):
    if admin.site.is_registered(_kept):
        admin.site.unregister(_kept)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(AccessAttempt)
class AccessAttemptAdmin(OnlyShows):
    """Deleting a row unlocks its account or address."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    fields = ("username", "ip_address", "failures_since_start", "attempt_time", "path_info", "user_agent")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_delete_permission(self, request, obj))


@admin.register(AuditEntry)
class AuditEntryAdmin(OnlyShows):
    """A page of the portal shows these together with the commands of runs, and exports them."""

    list_display = ("at", "kind", "by", "address", "person", "project_name", "run_number", "name", "shown_detail")
    list_filter = ("kind", "at")
    search_fields = ("=actor_name", "=person_name", "=address", "what", "project_name")
    date_hierarchy = "at"
    list_per_page = 50

    def view_on_site(self, entry: AuditEntry) -> str:
        return reverse("audit")

    # Shown as stored: these texts are not part of the page's translation.
    @display(description=_("by"), ordering="actor_name")
    def by(self, entry: AuditEntry) -> SafeString:
        return _as_stored(entry.actor_name)

    @display(description=_("person"), ordering="person_name")
    def person(self, entry: AuditEntry) -> SafeString:
        return _as_stored(entry.person_name)

    @display(description=_("name"))
    def name(self, entry: AuditEntry) -> SafeString:
        return _as_stored(entry.what)

    @display(description=_("detail"))
    def shown_detail(self, entry: AuditEntry) -> SafeString:
        return _as_stored(entry.detail)


def _as_stored(text: str) -> SafeString:
    return format_html("<code>{}</code>", text) if text else SafeString("")


@admin.register(AccessLog)
class AccessLogAdmin(OnlyShows):
    list_display = ("username", "ip_address", "attempt_time", "logout_time", "user_agent")
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"
    fields = ("username", "ip_address", "attempt_time", "logout_time", "path_info", "user_agent")
