"""Reports a training that does not read `run.stopping`, and ends its process on command.

No Django, no torch.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.reporting.ticks import Tick
from steersman.files.mailbox import Mailbox
from steersman.messages.looking import LOOKS_AGAIN, NOT_LOOKING
from steersman.records.record import Record

# If a command waits for longer while steps are logged, the training does not read commands.
LOOKS_WITHIN_S = 8.0
ENOUGH_STEPS = 2
# SIGKILL follows SIGTERM after this time.
KILL_AFTER_SIGTERM_S = 10.0

SIGTERM_IS_IGNORED = "SIGTERM was received, but the training does not read run.stopping: it ends without a checkpoint."
PROCESS_IS_ENDED = "The process is ended by a command: SIGTERM now, SIGKILL 10 s later if it is still running."


class UnresponsiveTraining:
    """Reports that a training does not read its commands, and ends its process on command.

    `is_reported`: this has already been reported to viewers.
    """

    def __init__(
        self, folder: Path, mailbox: Mailbox, group: WorkerGroup, say: Callable[[str], None], *, is_reported: bool
    ) -> None:
        self._folder = folder
        self._mailbox = mailbox
        self._group = group
        self._say = say
        self._is_reported = is_reported
        self._is_unresponsive = is_reported
        self._waits_since: float | None = None
        self._taken = 0
        self._signs = 0
        self._ends_since: float | None = None

    def note(self, records: Iterable[Record]) -> None:
        """Record the records of the journal: they show whether the training continues without reading commands."""
        if self._waits_since is not None:
            self._signs += sum(record.is_regular for record in records)

    def look(self, now: float, allowed_s: float) -> None:
        """Check whether the training reads commands; a silence of up to `allowed_s` seconds is not a stall."""
        posted, taken = self._mailbox.posted[0], self._mailbox.taken
        if taken >= posted:
            self._waits_since = None
        elif self._waits_since is None or taken != self._taken:
            self._waits_since, self._taken, self._signs = now, taken, 0
        is_unresponsive = self._waits_since is not None and self._is_too_long(now - self._waits_since, allowed_s)
        if is_unresponsive != self._is_unresponsive:
            self._is_unresponsive = is_unresponsive
            self._say(NOT_LOOKING if is_unresponsive else LOOKS_AGAIN)

    @property
    def has_news(self) -> bool:
        """Whether a change is to be reported to viewers."""
        return self._is_unresponsive != self._is_reported

    def put(self, tick: Tick, now: float) -> None:
        """Put the changes into `tick`; `now` in seconds of `time.monotonic`."""
        if self.has_news:
            since = now if self._waits_since is None else self._waits_since
            tick.not_looking_s = max(now - since, LOOKS_WITHIN_S) if self._is_unresponsive else 0.0

    def settle(self, tick: Tick) -> None:
        """Record that `tick` is stored, so that its report is not repeated."""
        if tick.not_looking_s is not None:
            self._is_reported = tick.not_looking_s > 0

    def _is_too_long(self, waited_s: float, allowed_s: float) -> bool:
        if waited_s <= LOOKS_WITHIN_S:
            return False
        # A training that never attached sends no heartbeat and reads no commands.
        return self._signs >= ENOUGH_STEPS or waited_s > allowed_s or not any(self._folder.glob("journal-*.bin"))

    def end(self, why: str, now: float) -> None:
        """End the process: SIGTERM at the first call, SIGKILL at a call at least `KILL_AFTER_SIGTERM_S` later."""
        if self._ends_since is None:
            self._ends_since = now
            self._say(why)
            self._group.kill(signal.SIGTERM)
        elif now - self._ends_since > KILL_AFTER_SIGTERM_S:
            self._group.kill(signal.SIGKILL)
