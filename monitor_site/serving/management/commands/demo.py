"""`manage.py demo`: everything on one machine, with accounts to try. `make demo` sets up first."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = "Start the portal, the embedded server and a training of MNIST, and print logins. Stop with Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="set a parameter of the training; can be given several times",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from monitor_site.serving.demo.stack import Demo
        from monitor_site.serving.service import CannotRun
        from monitor_site.serving.status_line import StatusLine

        parameters = dict(_parse(text) for text in options["set"])
        try:
            code = Demo(StatusLine(sys.stdout), parameters).run()
        except CannotRun as reason:
            self.stderr.write(str(reason))
            code = EXIT_BAD_INPUT
        sys.exit(code)


def _parse(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise CommandError(f"--set {text}: give a parameter as name=value.", returncode=EXIT_BAD_INPUT)
    return name, value
