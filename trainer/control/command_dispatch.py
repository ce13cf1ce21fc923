"""What is asked of a run, on its way from the command log and from signals to the worker. Never imports torch."""

from __future__ import annotations

import logging
import signal
import threading
import time
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec
from django.db import Error as DatabaseError
from django.db import transaction

from runs.commands.record import record
from runs.models import Command, CommandState
from runs.protocol.commands import EndProcess, Request, RollBack, RunCommand, SaveCheckpoint, Stop
from runs.recording.lifecycle import (
    Lease,
    complete_command,
    deliver_command,
    expire_commands,
    open_commands,
    renew_lease,
    seconds_left,
)
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.supervise.interrupts import Interrupts
from steersman.files.mailbox import Mailbox
from steersman.records.posted import PostedCommand
from trainer.control.display import Display
from trainer.control.resume_choice import NoSuchCheckpoint, to_roll_back_to

logger = logging.getLogger(__name__)


class CommandDispatch:
    """Posts what people, rules and signals ask in the mailbox of one attempt; what signals ask is recorded too.

    `command_waits` is set by whoever hears that a command may have come.
    """

    def __init__(
        self, lease: Lease, mailbox: Mailbox, group: WorkerGroup, interrupts: Interrupts, display: Display
    ) -> None:
        self._lease = lease
        self._mailbox = mailbox
        self._group = group
        self._interrupts = interrupts
        self._display = display
        self.command_waits = True
        # Who wants the process to be ended, "" where nobody does.
        self.ended_by = ""
        self._posted = {command.id for command in mailbox.commands()}
        self._stop_posted = False
        self._stop_posted_at = 0.0
        self._outcomes_before_stop = 0
        self._saves_posted = 0
        # What signals asked for, until it stands in the command log: request and author.
        self._unrecorded: list[tuple[Request, str]] = []
        self._disk_refuses = False
        self._lock = threading.Lock()

    def dispatch(self, heartbeat_due: bool) -> None:
        """Hand on what signals and people ask. A full disk takes no command, and costs nothing else."""
        try:
            self._handle_interrupts()
            if self.command_waits or heartbeat_due:
                self.command_waits = False
                self._hand_on_commands()
            self._disk_refuses = False
        except OSError as error:
            if not self._disk_refuses:
                logger.warning("commands cannot be handed on (%s): tried again until it works", error.strerror)
            self._disk_refuses = self.command_waits = True

    def post_stop(self) -> None:
        """Ask the training to stop, without the database; another thread may do so while this one waits for it."""
        with self._lock:
            if not self._stop_posted:
                self._outcomes_before_stop = self._mailbox.outcomes
                self._ask_for_signal(Stop(), self._interrupts.name)
                self._stop_posted = True
                self._stop_posted_at = time.monotonic()

    def stop_is_ignored(self, allowed_s: float) -> bool:
        """Tell whether SIGTERM came, and the training has taken no command for longer than `allowed_s` since."""
        if not (self._stop_posted and self._interrupts.is_terminated):
            return False
        is_late = time.monotonic() - self._stop_posted_at > allowed_s
        return is_late and self._mailbox.outcomes == self._outcomes_before_stop

    def record_signals(self) -> None:
        """Write what signals asked for into the command log; before what the worker says of it is stored."""
        while self._unrecorded:
            request, author = self._unrecorded[0]
            with transaction.atomic():
                renew_lease(self._lease)
                record(self._lease.run_id, request, author_id=None, author_name=author)
            self._unrecorded.pop(0)
            self.command_waits = True

    def _hand_on_commands(self) -> None:
        with transaction.atomic():
            # Who was overtaken gives up no command of another's.
            renew_lease(self._lease)
            expire_commands(self._lease.run_id)
        for command in open_commands(self._lease.run_id):
            if command.kind == EndProcess.kind:
                # Not the worker's, which does not look. It is applied once the process is gone.
                if deliver_command(self._lease, command):
                    self.ended_by = command.author_name
                continue
            posted = str(command.pk) in self._posted
            if command.state == CommandState.DELIVERED and posted:
                continue
            # Marked first: what was withdrawn at this moment must not reach the worker. One that was marked but not
            # posted, because this process was killed between the two, is posted by whoever comes next.
            try:
                arguments = _arguments_of(command)
            except NoSuchCheckpoint as error:
                complete_command(command, CommandState.REFUSED, outcome=str(error))
                continue
            if deliver_command(self._lease, command) and not posted:
                self._post(as_posted(command, arguments))

    def _post(self, command: PostedCommand) -> None:
        self._mailbox.post(command)
        self._posted.add(command.id)

    def _handle_interrupts(self) -> None:
        if self._interrupts.stops >= 2:
            self._group.kill(signal.SIGKILL)
            return
        if self._interrupts.stops == 1 and not self._stop_posted:
            with suppress(DatabaseError):
                renew_lease(self._lease)
            self.post_stop()
            self._display.say("Stopping: the step is finished, a checkpoint saved. Press Ctrl-C again to end at once.")
        if self._interrupts.saves > self._saves_posted:
            with suppress(DatabaseError):
                renew_lease(self._lease)
            self._ask_for_signal(SaveCheckpoint(name="signal"), signal.SIGUSR1.name)
            self._saves_posted += 1
        self.record_signals()

    def _ask_for_signal(self, command: RunCommand, author: str) -> None:
        """Ask the worker for what a signal means."""
        request = Request(id=uuid4(), command=command)
        self._post(PostedCommand(id=str(request.id), command=command.kind, arguments=msgspec.to_builtins(command)))
        self._unrecorded.append((request, author))


def _arguments_of(command: Command) -> dict[str, Any]:
    """Return what a training is told of a command: of a roll back also which checkpoint it is.

    Raises `NoSuchCheckpoint`.
    """
    given: dict[str, Any] = command.arguments
    if command.kind != RollBack.kind:
        return given
    checkpoint = to_roll_back_to(command.run, given["checkpoint"])
    return given | {
        "checkpoint": checkpoint.name,
        "path": checkpoint.path,
        "sha256": checkpoint.sha256,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "has_manifest": checkpoint.has_manifest,
    }


def as_posted(command: Command, arguments: dict[str, Any] | None = None) -> PostedCommand:
    """Return a command as the mailbox carries it, with other `arguments` where these are given."""
    left_s = seconds_left(command)
    return PostedCommand(
        id=str(command.pk),
        command=command.kind,
        arguments=command.arguments if arguments is None else arguments,
        author=command.author_name,
        at_step=command.at_step,
        at_epoch=command.at_epoch,
        expected_state=command.expected_state,
        expected_value=command.expected_value,
        expires_monotonic_s=time.monotonic() + left_s if left_s is not None else None,
    )
