"""`manage.py watch`: the scheduler, one per host."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from steersman.exit_codes import EXIT_BAD_INPUT, EXIT_HELD
from steersman.files.data_folder import UnfitFolder, refuse_unfit
from trainer.scheduler.watch import AlreadyWatched, Watch


class Command(BaseCommand):
    help = (
        "Start the queued runs of this host, each in a process of its own. Replace supervisors that have died, mark "
        "runs as lost when their heartbeats stop, and publish the devices of this host. Trainings continue after this "
        "command ends. Exit code 3: another watch is already running."
    )
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        try:
            refuse_unfit(settings.STEERSMAN_DATA, shared=settings.STEERSMAN_SHARED_DATA)
        except UnfitFolder as reason:
            raise CommandError(str(reason), returncode=EXIT_BAD_INPUT) from reason
        watch = Watch()

        def end(number: int, frame: FrameType | None) -> None:
            watch.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        self.stdout.write(f"watching {watch.host}: Ctrl-C ends the watch; trainings continue")
        self.stdout.flush()
        try:
            watch.run()
        except AlreadyWatched as reason:
            raise CommandError(str(reason), returncode=EXIT_HELD) from reason
