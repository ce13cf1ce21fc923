"""The supervisor of `manage.py train`, which joins the host side and the record side of one attempt.

Never imports torch.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings

from runs.models import Attempt
from runs.recording import announcer
from runs.recording.lifecycle import Lease
from steersman.agent.host_side.host_side import HostSide
from steersman.agent.host_side.surroundings import Display, HostSettings
from steersman.agent.launch.given_devices import device_there
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.redactor import Redactor
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FAILED
from steersman.messages.link import RecordSideClosed
from steersman.messages.reports import Line
from trainer.alerts.thread import AlertThread
from trainer.control.record_thread import RecordThread
from trainer.control.restart import can_start_again

logger = logging.getLogger(__name__)

# How long the record side may take to end after the host side, when it has nothing left to do.
STOP_TIMEOUT_S = 1.0
FLUSH_TIMEOUT_S = 2.0


class Supervisor:
    """Follows one attempt to its end."""

    def __init__(
        self,
        lease: Lease,
        folder: Path,
        group: WorkerGroup,
        display: Display,
        interrupts: Interrupts,
        lines: Sequence[Line] = (),
    ) -> None:
        attempt = Attempt.objects.select_related("run").get(pk=lease.attempt_id)
        wake = threading.Event()
        self._alerts = AlertThread(lease, Redactor(settings.STEERSMAN_DATA, settings.BASE_DIR))
        self._resumes = attempt.resumed_step is not None or attempt.adoptions > 0
        self._record = RecordThread(lease, self._alerts, wake.set)
        is_recipe = attempt.run.recipe_id is not None
        of_host = HostSettings(
            data=settings.STEERSMAN_DATA,
            application=settings.BASE_DIR,
            push_s=settings.STEERSMAN_PUSH_MS / 1000,
            stalled_s=settings.STEERSMAN_STALLED_S,
            console_files_bytes=settings.STEERSMAN_CONSOLE_FILES_MIB << 20,
            device=device_there(attempt.run.device, os.environ) if is_recipe else "auto",
            is_recipe=is_recipe,
            may_restart=can_start_again(folder),
        )
        self._host = HostSide(folder, group, self._record, display, interrupts, of_host, wake, lines)

    def follow(self) -> int:
        """Follow the worker until it has ended and all its records are stored; return the exit code of `train`.

        Exits the process if the database blocks the record side, because a hanging statement cannot be interrupted.
        """
        self._alerts.start(resumes=self._resumes)
        self._record.start()
        try:
            code = self._host.follow()
        except RecordSideClosed as error:
            logger.error("%s", error)
            code = EXIT_FAILED
        finally:
            self._alerts.finish(0.0)
            has_ended = self._record.stop(STOP_TIMEOUT_S)
            announcer.current().flush(FLUSH_TIMEOUT_S)
        if not has_ended:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        return code
