"""Dispatches commands from the command log and from signals to the worker. Never imports torch."""

from __future__ import annotations

import logging
import signal
from contextlib import suppress

from django.db import Error as DatabaseError

from runs.recording.lifecycle import Lease, renew_lease
from runs.recording.record_side.orders import record_asked, take_orders
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.supervise.interrupts import Interrupts
from steersman.agent.supervise.posting import Posting

logger = logging.getLogger(__name__)


class CommandDispatch:
    """Joins the command log of one run to the posting on its host.

    `command_waits` is set when an announcement of a command arrives.
    """

    def __init__(self, lease: Lease, posting: Posting, group: WorkerGroup, interrupts: Interrupts) -> None:
        self._lease = lease
        self._posting = posting
        self._group = group
        self._interrupts = interrupts
        self.command_waits = True
        self._disk_refuses = False

    def dispatch(self, heartbeat_due: bool) -> None:
        """Hand on what signals and people ask. A full disk takes no command, and costs nothing else."""
        try:
            self._handle_interrupts()
            if self.command_waits or heartbeat_due:
                self.command_waits = False
                for order in take_orders(self._lease, self._posting.posted):
                    self._posting.obey(order)
            self._disk_refuses = False
        except OSError as error:
            if not self._disk_refuses:
                logger.warning("commands cannot be delivered (%s): trying again", error.strerror)
            self._disk_refuses = self.command_waits = True

    def record_signals(self) -> None:
        """Write what signals asked for into the command log; before what the worker says of it is stored."""
        while self._posting.asked:
            record_asked(self._lease, self._posting.asked[0])
            self._posting.asked.pop(0)
            self.command_waits = True

    def _handle_interrupts(self) -> None:
        if self._interrupts.stops >= 2:
            self._group.kill(signal.SIGKILL)
            return
        if self._posting.signals_wait:
            # A supervisor that no longer holds the run posts nothing; an unavailable database does not stop signals.
            with suppress(DatabaseError):
                renew_lease(self._lease)
            self._posting.post_signals()
        self.record_signals()
