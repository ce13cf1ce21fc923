"""URLs of single sign-on and of connected logins. Without a provider they answer 404."""

from __future__ import annotations

from allauth.socialaccount.providers.openid_connect import views
from django.urls import URLPattern, path
from django.views.generic import RedirectView

from runs.portal.sign_in.connections import connect, connections, disconnect_one, log_in

# django-allauth requires these names.
urlpatterns: list[URLPattern] = [
    path("", connections, name="socialaccount_connections"),
    path("connect/", connect, name="connect_sign_on"),
    path("<int:pk>/disconnect/", disconnect_one, name="disconnect_sign_on"),
    path("<str:provider_id>/login/", log_in, name="openid_connect_login"),
    path("<str:provider_id>/callback/", views.callback, name="openid_connect_callback"),
    path("cancelled/", RedirectView.as_view(pattern_name="login"), name="socialaccount_login_cancelled"),
]
