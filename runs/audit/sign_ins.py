"""Audit entries of logins, sessions, passwords and second factors."""

from __future__ import annotations

from typing import Any

from allauth.account.authentication import get_authentication_records
from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialLogin
from allauth.socialaccount.signals import social_account_added, social_account_removed
from django.contrib.auth import signals
from django.contrib.auth.models import User
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from runs.access.logins import is_counted
from runs.audit.entries import actor_of, record
from runs.models import AuditKind
from runs.sign_in.sessions import session_ended


def connect() -> None:
    signals.user_logged_in.connect(_logged_in, dispatch_uid="audit-login")
    signals.user_logged_out.connect(_logged_out, dispatch_uid="audit-logout")
    signals.user_login_failed.connect(_login_failed, dispatch_uid="audit-login-failed")
    session_ended.connect(_session_ended, dispatch_uid="audit-session-ended")
    social_account_added.connect(_sign_on_connected, dispatch_uid="audit-sign-on-connected")
    social_account_removed.connect(_sign_on_disconnected, dispatch_uid="audit-sign-on-disconnected")
    post_save.connect(_factor_saved, sender=Authenticator, dispatch_uid="audit-factor-saved")
    post_delete.connect(_factor_deleted, sender=Authenticator, dispatch_uid="audit-factor-deleted")


def _logged_in(sender: Any, request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    records = get_authentication_records(request, user) if request is not None else []
    # A second factor is recorded by its kind: totp, webauthn or recovery_codes.
    methods = [str(each.get("type") or each["method"]) for each in records]
    record(AuditKind.LOGIN, visitor=user, detail=", ".join(methods), request=request)


def _logged_out(sender: Any, request: HttpRequest | None, user: User | None, **kwargs: Any) -> None:
    if isinstance(user, User):
        record(AuditKind.LOGOUT, visitor=user, request=request)


def _login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    """Record a wrong password or code, and that it locked the account.

    A name without an account may be a mistyped password, so it is not stored. Further guesses during a lock write no
    entries.
    """
    if request is None or not is_counted(request):
        return
    person = User.objects.filter(username=str(credentials.get("username") or "")[:150]).first()
    record(AuditKind.LOGIN_FAILED, person=person, request=request)
    if getattr(request, "axes_locked_out", False):
        record(AuditKind.LOCKED, person=person, request=request)


def _session_ended(sender: Any, user: User, device: str, **kwargs: Any) -> None:
    record(AuditKind.SESSION_ENDED, person=user, what=device)


def _sign_on_connected(sender: Any, request: HttpRequest, sociallogin: SocialLogin, **kwargs: Any) -> None:
    record(AuditKind.SIGN_ON_CONNECTED, person=sociallogin.user, what=sociallogin.account.provider, request=request)


def _sign_on_disconnected(sender: Any, request: HttpRequest, socialaccount: SocialAccount, **kwargs: Any) -> None:
    record(AuditKind.SIGN_ON_DISCONNECTED, person=socialaccount.user, what=socialaccount.provider, request=request)


def _factor_saved(sender: Any, instance: Authenticator, created: bool, raw: bool, **kwargs: Any) -> None:
    if created and not raw:
        record(AuditKind.FACTOR_ADDED, visitor=instance.user, person=instance.user, what=str(instance.type))


def _factor_deleted(sender: Any, instance: Authenticator, origin: Any = None, **kwargs: Any) -> None:
    if isinstance(origin, User):
        return
    by_owner = actor_of(context.request).number == instance.user_id
    kind = AuditKind.FACTOR_REMOVED if by_owner else AuditKind.FACTOR_RESET
    record(kind, person=instance.user, what=str(instance.type))
