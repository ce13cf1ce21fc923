"""`manage.py restore FILE.tar`: restores a backup into an empty installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from monitor_site.serving.archive.manifest import ArchiveError
from monitor_site.serving.archive.restoring import restore_backup
from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = "Check a backup completely, then restore it into an empty data folder and database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.tar", help="archive written by manage.py backup")
        parser.add_argument(
            "--keep-queue", action="store_true", help="keep queued runs in the queue; by default they are withdrawn"
        )

    def handle(self, **options: Any) -> None:
        source = Path(options["file"]).absolute()
        try:
            done = restore_backup(source, settings.STEERSMAN_DATA, keep_queue=options["keep_queue"])
        except ArchiveError as error:
            raise CommandError(str(error), returncode=EXIT_BAD_INPUT) from error
        except DatabaseError as error:
            raise CommandError(f"The database rejected the backup: {error}.", returncode=EXIT_BAD_INPUT) from error
        self.stdout.write(
            f"Restored {done.runs} runs as of {done.made_at}. Runs that were training now have the state lost: resume "
            "them, or start manage.py watch."
        )
