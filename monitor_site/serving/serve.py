"""`make serve`: serve the portal of a lab. It creates no accounts and trainings, and trainings outlive it."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import User

from monitor_site.serving.publishing import CommandFailed, publish_recipes
from monitor_site.serving.service import Service


class Serve(Service):
    """Portal, embedded server and watch for daily use."""

    def prepare(self) -> None:
        try:
            publish_recipes(settings.BASE_DIR, self.data)
        except CommandFailed as error:
            # A portal without PyTorch shows what training hosts publish.
            self.status.say(
                f"The recipes could not be published, so the portal offers those that were published before: {error}"
            )

    def start(self) -> None:
        super().start()
        if not User.objects.exists():
            self.status.say(
                "There is no account yet: create one in another terminal with `.venv/bin/python manage.py "
                "createsuperuser`, log in, and create a project under Projects."
            )
        self.status.say("Ctrl-C ends the portal; trainings continue.")
