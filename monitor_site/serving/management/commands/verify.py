"""`manage.py verify`: checks that everything that is stored is complete."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from monitor_site.serving.archive.verifying import verify_installation
from runs.models import Run
from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED


class Command(BaseCommand):
    help = "Check checkpoints, events, journals, chunks and orphaned files. Changes nothing."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run", type=int, metavar="N", help="check only this run")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")

    def handle(self, **options: Any) -> None:
        try:
            if options["run"] is not None and not Run.objects.filter(pk=options["run"]).exists():
                raise CommandError(
                    f"run: there is no run {options['run']}; give the number in the address of its page.",
                    returncode=EXIT_BAD_INPUT,
                )
            found = list(verify_installation(settings.STEERSMAN_DATA, options["run"]))
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be read ({error}): run manage.py doctor to find the cause.",
                returncode=EXIT_BAD_INPUT,
            ) from error
        if options["json"]:
            self.stdout.write(json.dumps({"findings": [asdict(each) for each in found]}))
        else:
            for each in found:
                of_run = f"run {each.run}: " if each.run is not None else ""
                self.stdout.write(f"{each.kind.ljust(8)} {of_run}{each.text}. {each.remedy}")
            self.stdout.write(f"{len(found)} findings" if found else "No problems found.")
        if found:
            sys.exit(EXIT_FAILED)
