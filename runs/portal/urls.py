from django.contrib.auth import views as auth
from django.urls import URLPattern, path
from django.views.i18n import JavaScriptCatalog

from runs.portal import data, pages

urlpatterns: list[URLPattern] = [
    path("login/", auth.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth.LogoutView.as_view(), name="logout"),
    path("password/", auth.PasswordChangeView.as_view(), name="password_change"),
    path("password/done/", auth.PasswordChangeDoneView.as_view(), name="password_change_done"),
    path("texts.js", JavaScriptCatalog.as_view(packages=["runs"]), name="texts"),
    path("", pages.RunList.as_view(), name="runs"),
    path("runs/<int:pk>/", pages.RunPage.as_view(), name="run"),
    path("runs/<int:pk>/history/", data.history_of_run, name="history"),
    path("runs/<int:pk>/details/", data.details_of_run, name="details"),
    path("runs/<int:pk>/series/", data.series_of_run, name="series"),
]
