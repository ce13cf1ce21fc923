"""Prints the uncommitted changes to the source of an attempt."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import LARGEST_ID, Run
from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = (
        "Print the uncommitted changes of the source of a run: `git apply` on its git commit restores the source. "
        "Exit code 2 if there are none."
    )

    # The checks would load every page and the API to read one row.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("run", type=int, help="the number of the run")
        parser.add_argument("--attempt", type=int, metavar="N", help="default: the newest attempt that has one")

    def handle(self, *args: Any, **options: Any) -> None:
        number, attempt = options["run"], options["attempt"]
        run = Run.objects.filter(pk=number).first() if 0 < number <= LARGEST_ID else None
        if run is None:
            raise _refused(f"run: there is no run {number}; give the number in the address of its page.")
        found = run.patched_attempt(attempt)
        if found is None:
            which = f"run {number}" if attempt is None else f"attempt {attempt} of run {number}"
            raise _refused(f"No uncommitted changes of {which} were recorded, so there is no patch.")
        self.stdout.write(found.patch, ending="")


def _refused(text: str) -> CommandError:
    return CommandError(text, returncode=EXIT_BAD_INPUT)
