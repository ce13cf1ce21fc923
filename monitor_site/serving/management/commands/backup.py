"""`manage.py backup FILE.tar`: database and files of all runs in one archive, while trainings run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from monitor_site.serving.archive.manifest import ArchiveError
from monitor_site.serving.archive.writing import write_backup
from runs.copies.arriving import pushed_folder
from runs.models import Checkpoint
from steersman.exit_codes import EXIT_BAD_INPUT


class Command(BaseCommand):
    help = (
        "Write the database and the files of all runs to one archive, also while trainings run. The archive contains "
        "secrets."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE.tar", help="path of the archive")
        parser.add_argument("--overwrite", action="store_true", help="replace an existing file")

    def handle(self, **options: Any) -> None:
        target = Path(options["file"]).absolute()
        try:
            done = write_backup(target, settings.STEERSMAN_DATA, self.stdout.write, overwrite=options["overwrite"])
        except ArchiveError as error:
            raise CommandError(str(error), returncode=EXIT_BAD_INPUT) from error
        except DatabaseError as error:
            raise CommandError(
                f"The database cannot be read ({error}): run manage.py doctor to find the cause.",
                returncode=EXIT_BAD_INPUT,
            ) from error
        for name in done.missing:
            self.stdout.write(f"Not in this backup, because the file was already missing: {name}")
        if done.elsewhere:
            runs = ", ".join(map(str, done.elsewhere))
            self.stdout.write(f"Not in this backup: files on other hosts (runs {runs}). Create a backup there too.")
        if number := Checkpoint.objects.exclude(pushed_at=None).count():
            place = f"the bucket {settings.STEERSMAN_S3.name}" if settings.STEERSMAN_S3 else str(pushed_folder())
            self.stdout.write(f"Not in this backup: {number} checkpoints that were pushed to the portal, in {place}.")
        self.stdout.write(f"{target}: {done.runs} runs, {target.stat().st_size / 1e6:.1f} MB")
