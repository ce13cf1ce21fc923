"""The login of the admin: Django's, or the portal's if there is a second factor or single sign-on."""

from __future__ import annotations

from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _


def log_in_to_admin(request: HttpRequest) -> HttpResponse:
    """Log in to the admin. Raises `PermissionDenied` for users who are logged in without being staff."""
    if not settings.STEERSMAN_SECOND_FACTOR and settings.STEERSMAN_OIDC is None:
        return admin.site.login(request)
    if request.user.is_authenticated and not admin.site.has_permission(request):
        raise PermissionDenied(_("Only staff may use the admin: log in with another account."))
    back = request.GET.get("next") or reverse("admin:index")
    return redirect(f"{reverse('login')}?{urlencode({'next': back})}")
