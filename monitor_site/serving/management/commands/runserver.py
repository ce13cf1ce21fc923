"""`manage.py runserver`: Daphne's command, which restarts when a file changes, with the portal's own server.

Loading this installs Twisted's reactor: the app is only placed first, where its commands win, for `runserver`.
"""

from __future__ import annotations

from typing import Any

from daphne.management.commands.runserver import Command as DaphneCommand
from django.conf import settings

from monitor_site.serving.development_server import DevelopmentServer


class Command(DaphneCommand):
    help = "Serve the portal during development. Otherwise use `serve` or `serve_portal`."
    server_cls = DevelopmentServer

    def inner_run(self, *args: Any, **options: Any) -> None:
        self.server_cls.compresses = settings.STEERSMAN_COMPRESS
        super().inner_run(*args, **options)
