"""`manage.py serve`: portal, embedded server and watch, for daily use. `make serve` sets up first."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from steersman.exit_codes import EXIT_BAD_INPUT
from steersman.former_name import former_name_notice


class Command(BaseCommand):
    help = (
        "Run the portal, the embedded server and the scheduler until Ctrl-C or SIGTERM. Trainings continue after that. "
        "STEERSMAN_BIND (default 127.0.0.1) and STEERSMAN_PORT (8765) set the address; STEERSMAN_BIND=0.0.0.0 allows "
        "access from other machines."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        from monitor_site.serving.serve import Serve
        from monitor_site.serving.service import CannotRun
        from monitor_site.serving.status_line import StatusLine

        if notice := former_name_notice(os.environ, settings.BASE_DIR):
            self.stderr.write(notice)
        try:
            code = Serve(StatusLine(sys.stdout)).run()
        except CannotRun as reason:
            self.stderr.write(str(reason))
            code = EXIT_BAD_INPUT
        sys.exit(code)
