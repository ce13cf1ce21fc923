"""Addresses of single sign-on: there and back. Without a provider django-allauth finds no page there."""

from __future__ import annotations

from allauth.socialaccount.providers.openid_connect import views
from django.urls import URLPattern, path
from django.views.generic import RedirectView

# The names are those that django-allauth asks for.
urlpatterns: list[URLPattern] = [
    path("<str:provider_id>/login/", views.login, name="openid_connect_login"),
    path("<str:provider_id>/callback/", views.callback, name="openid_connect_callback"),
    path("cancelled/", RedirectView.as_view(pattern_name="login"), name="socialaccount_login_cancelled"),
]
