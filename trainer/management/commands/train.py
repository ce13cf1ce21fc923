"""`manage.py train --run-id N`: trains a recorded run under supervision."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.recording.restart_policy import number_of_restarts
from steersman.agent.launch.torchrun import number_of_ranks
from steersman.exit_codes import EXIT_BAD_INPUT
from steersman.files.data_folder import UnfitFolder, refuse_unfit
from steersman.former_name import former_name_notice
from trainer.control.lease import CannotTrain
from trainer.control.train_command import Options, train


class Command(BaseCommand):
    help = (
        "Train a recorded run: start (or adopt) its training process, record its points and notify the portal. "
        "Put a script of your own after --. Exit codes: 0 finished or stopped, 1 failed, 2 bad input, "
        "3 held by another process, 4 overtaken by another attempt, 130 second interrupt."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--run-id", type=int, required=True, help="number of the run, as printed by create_run")
        parser.add_argument("--device", default="", help="auto, cpu, cuda or cuda:1; default: that of the run")
        parser.add_argument(
            "--from",
            dest="start",
            metavar="CHECKPOINT",
            default="",
            help="resume from this checkpoint, by its id, name or step; default: the newest valid one",
        )
        parser.add_argument("--quiet", action="store_true", help="print errors only")
        parser.add_argument(
            "--inline", action="store_true", help="train in this process, on this terminal, so that breakpoint() works"
        )
        parser.add_argument(
            "--adopt",
            action="store_true",
            help="if the supervisor of a training died, take over the training, or record how it ended; start nothing",
        )
        parser.add_argument(
            "--restarts",
            type=number_of_restarts,
            metavar="K",
            help="after a crash, restart from the newest checkpoint, at most K times; K is kept for the run",
        )
        parser.add_argument(
            "--nproc",
            type=number_of_ranks,
            metavar="K",
            help="train with K processes on this host, each with its shard of every batch; K is kept for the run",
        )
        parser.add_argument(
            "--start-over",
            action="store_true",
            help="do not ask at the terminal before a run that has points starts over at step 1",
        )
        parser.add_argument("script", nargs="*", help="after --: a script of your own and its arguments")

    def handle(self, **options: Any) -> None:
        asked = Options(
            run_id=options["run_id"],
            device=options["device"],
            quiet=options["quiet"],
            inline=options["inline"],
            adopt=options["adopt"],
            restarts=options["restarts"],
            start=options["start"],
            nproc=options["nproc"],
            start_over=options["start_over"],
            script=tuple(options["script"]),
        )
        if notice := former_name_notice(os.environ, settings.BASE_DIR):
            self.stderr.write(notice)
        try:
            refuse_unfit(settings.STEERSMAN_DATA, shared=settings.STEERSMAN_SHARED_DATA)
            code = train(asked)
        except UnfitFolder as reason:
            raise CommandError(str(reason), returncode=EXIT_BAD_INPUT) from reason
        except CannotTrain as error:
            raise CommandError(str(error), returncode=error.exit_code) from error
        if code:
            sys.exit(code)
