from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from monitor_site.web_app import manifest
from runs.metrics.views import metrics
from runs.portal.sign_in.admin_login import log_in_to_admin

# Here and not at start-up, because only serving processes need the imports of the admin.
admin.autodiscover()

urlpatterns = [
    # The portal's own page counts wrong passwords.
    path("admin/password_change/", RedirectView.as_view(pattern_name="password_change")),
    path("admin/login/", log_in_to_admin),
    path("admin/", admin.site.urls),
    path("sso/", include("runs.portal.sign_in.sso_urls")),
    path("second-factor/", include("runs.portal.sign_in.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("manifest.webmanifest", manifest, name="manifest"),
    path("metrics", metrics, name="metrics"),
    path("client/", include("runs.client_packages.urls")),
    path("api/", include("runs.api.urls")),
    path("", include("runs.portal.urls")),
]

handler400 = "runs.portal.pages.bad_request"
handler500 = "runs.outage.answers.server_error"
