from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class RunsConfig(AppConfig):
    name = "runs"
    verbose_name = _("Runs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from runs.access import revocation  # imported here, because it needs the models
        from runs.audit import changes, sign_ins
        from runs.sign_in import group_roles, known_devices, sessions

        revocation.connect()
        sessions.connect()
        group_roles.connect()
        sign_ins.connect()
        changes.connect()
        known_devices.connect()
        # The title of the django-axes section in the admin.
        apps.get_app_config("axes").verbose_name = _("Logins")
