"""`manage.py serve_portal`: one process of the portal, pages and WebSockets, until a signal ends it."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from monitor_site.serving.ports import cannot_listen, listen_error
from monitor_site.serving.service import CannotRun, refuse_debug, refuse_unfit_data
from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = "Serve the pages and WebSockets of the portal. SIGTERM and SIGINT shut it down cleanly."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.STEERSMAN_PORT, help="default: STEERSMAN_PORT or 8765")
        parser.add_argument(
            "--bind",
            default=settings.STEERSMAN_BIND,
            help="address to listen on; default: STEERSMAN_BIND or 127.0.0.1",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = options["bind"], options["port"]
        try:
            refuse_unfit_data()
            refuse_debug(host)
        except CannotRun as reason:
            raise CommandError(str(reason), returncode=EXIT_BAD_INPUT) from reason
        # Checked first because it is quick; the bind itself decides.
        error = listen_error(host, port)
        if error is not None:
            self._refuse(error, host, port)

        # Imported here, because they take a second and install the reactor, which only the serving process needs.
        from monitor_site.asgi import application
        from monitor_site.serving.daphne_server import serve
        from monitor_site.serving.passing_on import passing_on
        from runs.access import socket_counts
        from runs.metrics.portal_tally import tally

        shown = f"[{host}]" if ":" in host else host
        failure = serve(
            application,
            host,
            port,
            ready=lambda: self.stdout.write(f"portal http://{shown}:{port}{settings.STEERSMAN_PREFIX}/"),
            compress=settings.STEERSMAN_COMPRESS,
            pass_on=passing_on(settings.STEERSMAN_DATA, settings.STEERSMAN_PREFIX),
        )
        socket_counts.leave()
        tally.leave()
        if failure is not None:
            self._refuse(listen_error(host, port) or OSError(failure), host, port)
        # A request during the shutdown may leave a thread that waits for the event loop. A normal exit would wait for
        # that thread for ever.
        logging.shutdown()
        self.stdout.flush()
        os._exit(0)

    def _refuse(self, error: OSError, host: str, port: int) -> None:
        self.stderr.write(cannot_listen(error, host, port, "with STEERSMAN_PORT or --port"))
        sys.exit(EXIT_BAD_INPUT)
