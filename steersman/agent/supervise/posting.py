"""Posts commands, and the requests of signals, in the mailbox of a training. No Django, no torch."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import uuid4

from steersman.agent.supervise.interrupts import Interrupts
from steersman.files.mailbox import Mailbox
from steersman.messages.orders import Order, Post, SignalRequest
from steersman.records.posted import PostedCommand

STOPPING = "Stopping: the training finishes its step and saves a checkpoint. Press Ctrl-C again to end at once."


class Posting:
    """The commands of one attempt. `posted` are the ids of those that its training has."""

    def __init__(self, mailbox: Mailbox, interrupts: Interrupts, say: Callable[[str], None]) -> None:
        self._mailbox = mailbox
        self._interrupts = interrupts
        self._say = say
        self.posted = {command.id for command in mailbox.commands() if command.id is not None}
        # The author of the command to end the process, "" if there is none.
        self.ended_by = ""
        # Commands requested by signals, until the command log has them.
        self.asked: list[SignalRequest] = []
        # Those of `posted` that were not reported to the record side yet.
        self.untold: list[str] = []
        self._stop_posted = False
        self._stop_posted_at = 0.0
        self._outcomes_before_stop = 0
        self._saves_posted = 0

    def obey(self, order: Order, came_at: float) -> None:
        """Deliver a command, once; it arrived at `came_at`, in seconds of `time.monotonic`.

        Raises `OSError` if the disk refuses it.
        """
        if not isinstance(order, Post):
            self.ended_by = order.author
            return
        if order.command.id in self.posted:
            return
        expires = came_at + order.expires_in_s if order.expires_in_s is not None else None
        self._post(replace(order.command, expires_monotonic_s=expires))

    @property
    def signals_wait(self) -> bool:
        """Whether a signal has a request that the training does not have yet."""
        return self._wants_stop or self._interrupts.saves > self._saves_posted

    @property
    def _wants_stop(self) -> bool:
        return self._interrupts.stops == 1 and not self._stop_posted

    def post_signals(self) -> None:
        """Deliver the requests of signals. Raises `OSError` if the disk refuses them."""
        if self._wants_stop:
            self.post_stop()
            self._say(STOPPING)
        if self._interrupts.saves > self._saves_posted:
            self._ask("save_checkpoint", signal.SIGUSR1.name, name="signal")
            self._saves_posted += 1

    def post_stop(self) -> None:
        """Ask the training to stop."""
        if not self._stop_posted:
            self._outcomes_before_stop = self._mailbox.outcomes
            self._ask("stop", self._interrupts.name)
            self._stop_posted = True
            self._stop_posted_at = time.monotonic()

    def stop_is_ignored(self, allowed_s: float) -> bool:
        """Return whether SIGTERM was received more than `allowed_s` ago and the training has taken no command since."""
        if not (self._stop_posted and self._interrupts.is_terminated):
            return False
        is_late = time.monotonic() - self._stop_posted_at > allowed_s
        return is_late and self._mailbox.outcomes == self._outcomes_before_stop

    def _ask(self, command: str, author: str, **arguments: str) -> None:
        asked = SignalRequest(str(uuid4()), command, author, dict(arguments))
        self._post(PostedCommand(id=asked.id, command=command, arguments=asked.arguments))
        self.asked.append(asked)

    def _post(self, command: PostedCommand) -> None:
        self._mailbox.post(command)
        if command.id is not None:
            self.posted.add(command.id)
            self.untold.append(command.id)

    def settle(self, asked: Sequence[SignalRequest], posted: Sequence[str]) -> None:
        """Remove the first commands of signals and the first posted ones, which the record side has stored."""
        del self.asked[: len(asked)], self.untold[: len(posted)]
