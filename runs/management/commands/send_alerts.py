"""`manage.py send_alerts`: sends messages about alerts, or one test. `manage.py watch` starts it."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from runs.alerts.sending import guard, trial
from runs.alerts.sending.sender import Sender

# At level DEBUG these loggers write addresses with their keys.
TALKATIVE = ("urllib3", "requests", "PIL", "matplotlib")


class Command(BaseCommand):
    help = "Send waiting alert messages until standard input is closed. Started by `manage.py watch`."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--test", type=int, metavar="DESTINATION", help="send one test message, print JSON")

    def handle(self, **options: Any) -> None:
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        guard.install(settings.STEERSMAN_ALERT_NETWORKS)
        if options["test"] is not None:
            self.stdout.write(trial.send_test(options["test"]))
            return
        sender = Sender()

        def end(number: int, frame: FrameType | None) -> None:
            sender.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        threading.Thread(target=_stop_at_end_of_input, args=(sender,), daemon=True).start()
        sender.run()


def _stop_at_end_of_input(sender: Sender) -> None:
    """Stop when the process that started this one has ended, for whatever reason."""
    sys.stdin.buffer.read()
    sender.stop()
