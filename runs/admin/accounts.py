"""Users and groups, in the look of the rest; logins, and wrong passwords that lock an account or an address."""

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
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from runs.admin.readonly import OnlyShows

admin.site.unregister(User)
admin.site.unregister(Group)
# People see their sessions and their second factor on pages of their own; applications come from settings.
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
    """To delete a row unlocks what it locks."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time", "user_agent")
    search_fields = ("username", "ip_address")
    fields = ("username", "ip_address", "failures_since_start", "attempt_time", "path_info", "user_agent")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(ModelAdmin.has_delete_permission(self, request, obj))


@admin.register(AccessLog)
class AccessLogAdmin(OnlyShows):
    list_display = ("username", "ip_address", "attempt_time", "logout_time", "user_agent")
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"
    fields = ("username", "ip_address", "attempt_time", "logout_time", "path_info", "user_agent")
