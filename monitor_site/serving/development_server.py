"""The server of `runserver`, which creates it with options of its own. Importing this module installs the reactor."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings

from monitor_site.serving.daphne_server import SOCKET_OPTIONS, PortalServer
from monitor_site.serving.passing_on import passing_on

logger = logging.getLogger(__name__)


class DevelopmentServer(PortalServer):
    """The portal's server, which logs why it cannot listen."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | SOCKET_OPTIONS)
        self.pass_on = passing_on(settings.STEERSMAN_DATA, settings.STEERSMAN_PREFIX)

    def listen_error(self, failure: Any) -> None:
        super().listen_error(failure)
        logger.critical("runserver cannot listen: %s", self.listen_failure)
