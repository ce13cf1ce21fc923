"""A training that does not read `run.stopping`: when this is reported, and how its process is ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from django.db import transaction
from django.utils import timezone

from runs.models import Run
from runs.recording.lifecycle import Lease, renew_lease
from runs.recording.status import announce_status
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.files.mailbox import Mailbox
from steersman.marked_text import gettext_noop
from steersman.records.record import Record

# A command that waits for longer, while steps come, waits for a training that does not look.
LOOKS_WITHIN_S = 8.0
ENOUGH_STEPS = 2
# A process that is ended is sent SIGTERM, and killed this much later.
KILL_AFTER_SIGTERM_S = 10.0

NOT_LOOKING = gettext_noop("The training does not read run.stopping, so commands wait. To end it, end its process.")
LOOKS_AGAIN = gettext_noop("The training reads run.stopping again.")


class DeafTraining:
    """Tells viewers while a training does not look at what it was asked, and ends its process where that is wanted."""

    def __init__(
        self, lease: Lease, folder: Path, mailbox: Mailbox, group: WorkerGroup, say: Callable[[str], None]
    ) -> None:
        self._lease = lease
        self._folder = folder
        self._mailbox = mailbox
        self._group = group
        self._say = say
        self._is_told = Run.objects.filter(pk=lease.run_id).exclude(not_looking_since=None).exists()
        self._waits_since: float | None = None
        self._taken = 0
        self._signs = 0
        self._ends_since: float | None = None

    def note(self, records: Iterable[Record]) -> None:
        """Take what was read of the journal: what shows that the training continues without a look."""
        if self._waits_since is not None:
            self._signs += sum(record.is_regular for record in records)

    def look(self, now: float, allowed_s: float) -> None:
        """Tell viewers where the training looks no more, or again; `allowed_s` is the silence that is no stall."""
        posted, taken = self._mailbox.posted[0], self._mailbox.taken
        if taken >= posted:
            self._waits_since = None
        elif self._waits_since is None or taken != self._taken:
            self._waits_since, self._taken, self._signs = now, taken, 0
        is_deaf = self._waits_since is not None and self._is_too_long(now - self._waits_since, allowed_s)
        if is_deaf != self._is_told:
            self._tell(now if self._waits_since is None else self._waits_since, now, is_deaf)

    def _is_too_long(self, waited_s: float, allowed_s: float) -> bool:
        if waited_s <= LOOKS_WITHIN_S:
            return False
        # One that never attached gives no sign, and never looks.
        return self._signs >= ENOUGH_STEPS or waited_s > allowed_s or not any(self._folder.glob("journal-*.bin"))

    def _tell(self, since: float, now: float, is_deaf: bool) -> None:
        moment = timezone.now() - timedelta(seconds=now - since) if is_deaf else None
        text = NOT_LOOKING if is_deaf else LOOKS_AGAIN
        with transaction.atomic():
            renew_lease(self._lease, not_looking_since=moment)
            announce_status(self._lease.run_id, remark=text)
        self._is_told = is_deaf
        self._say(text)

    def end(self, why: str, now: float) -> None:
        """End the process: SIGTERM at the first call, SIGKILL at one that comes `KILL_AFTER_SIGTERM_S` later."""
        if self._ends_since is None:
            self._ends_since = now
            self._say(why)
            self._group.kill(signal.SIGTERM)
        elif now - self._ends_since > KILL_AFTER_SIGTERM_S:
            self._group.kill(signal.SIGKILL)
