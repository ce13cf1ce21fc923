"""`manage.py record`: stores what training hosts without access to the database report, until it gets a signal."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from monitor_site.serving.service import CannotRun, refuse_debug, refuse_unfit_data
from runs.recording import announcer
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_HELD
from steersman.files.locks import try_lock
from steersman.files.private import make_private

FLUSH_TIMEOUT_S = 2.0


class Command(BaseCommand):
    help = (
        "Serve /ws/hosts/, the socket for training hosts that cannot reach the database. The portals of this machine "
        "with the same data folder pass connections on to this command. With --port, it also listens on a port of its "
        "own, for a proxy. SIGTERM and SIGINT shut it down cleanly."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=None, help="a port to listen on; default: none")
        parser.add_argument("--bind", default="127.0.0.1", help="address to listen on; default: 127.0.0.1")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            refuse_unfit_data()
            refuse_debug(options["bind"] if options["port"] is not None else "127.0.0.1")
        except CannotRun as reason:
            raise CommandError(str(reason), returncode=EXIT_BAD_INPUT) from reason
        lock = try_lock(make_private(settings.STEERSMAN_DATA) / "record.lock")
        if lock is None:
            text = "Another manage.py record runs for this data folder: one is enough. Stop that one first."
            raise CommandError(text, returncode=EXIT_HELD)

        # It brings the reactor, so it is loaded in the process that serves alone.
        from monitor_site.serving.record_server import serve_hosts

        failure = serve_hosts(
            options["bind"], options["port"], ready=lambda: self.stdout.write("ready for training hosts")
        )
        announcer.current().flush(FLUSH_TIMEOUT_S)
        if failure is not None:
            text = f"Cannot listen on {options['bind']} port {options['port']} ({failure}): choose another --port."
            self.stderr.write(text)
            sys.exit(EXIT_BAD_INPUT)
        # A thread may still wait for the database: Python would wait for it, for ever.
        logging.shutdown()
        self.stdout.flush()
        os._exit(0)
