"""Addresses of single sign-on: there and back, and what is connected. Without a provider no page is found there."""

from __future__ import annotations

from allauth.socialaccount.providers.openid_connect import views
from django.urls import URLPattern, path
from django.views.generic import RedirectView

from runs.portal.sign_in.connections import connect, connections, disconnect_one, log_in

# The names are those that django-allauth asks for.
urlpatterns: list[URLPattern] = [
    path("", connections, name="socialaccount_connections"),
    path("connect/", connect, name="connect_sign_on"),
    path("<int:pk>/disconnect/", disconnect_one, name="disconnect_sign_on"),
    path("<str:provider_id>/login/", log_in, name="openid_connect_login"),
    path("<str:provider_id>/callback/", views.callback, name="openid_connect_callback"),
    path("cancelled/", RedirectView.as_view(pattern_name="login"), name="socialaccount_login_cancelled"),
]
