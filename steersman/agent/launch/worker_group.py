"""The training processes of an attempt, one a rank: whether they live, which of them failed, and how all are ended.

A rank that fails ends the attempt: the others get SIGTERM and, KILL_AFTER_S later, SIGKILL. No Django, no torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steersman.agent.folders import WorkerProcess, recorded_exit
from steersman.agent.journals.tail import last_record
from steersman.agent.launch.node_server import RankElsewhere, Relay
from steersman.agent.launch.undeclared_ranks import Leftovers

# A training that was asked to end may finish its step; one whose other ranks are gone waits in vain.
KILL_AFTER_S = 5.0
# Where a node was lost nobody can save any more, and time has passed before that was known.
KILL_LOST_AFTER_S = 2.0
# Whoever started a process that is not ours writes down how it ended.
EXIT_KNOWN_AFTER_S = 1.0
# torchrun starts its processes at about the same time.
STARTED_AFTER_S = 120.0
# Those of another host may see the attempt a minute later.
JOINED_AFTER_S = 180.0
GOOD_ENDS = ("finished", "stopped", "")


@dataclass(slots=True)
class Member:
    """One rank's process; `code` as in `subprocess`.

    `process` is None where another process started it, `worker` until that one has recorded which it is. Of one that
    is `elsewhere`, on another node, both are unknown here.
    """

    rank: int
    worker: WorkerProcess | None
    process: subprocess.Popen[bytes] | None = None
    elsewhere: RankElsewhere | None = None
    has_ended: bool = False
    code: int | None = None
    # When it was first seen to be gone, while its exit status may still become known.
    gone_since: float | None = None
    # Whether it ended before anybody was told to.
    was_free: bool = True


class Team:
    """Ranks of an attempt; `members` in the order of their ranks."""

    def __init__(
        self,
        folder: Path,
        members: Sequence[Member],
        *,
        parent: int | None = None,
        node: Path | None = None,
        relay: Relay | None = None,
    ) -> None:
        """`parent` is the process whose end ends the training too: torchrun. `node` is where the records of processes
        lie that are of one host alone, where that is not the attempt's folder. `relay` hears of other nodes."""
        self._relay = relay
        self.members = list(members)
        self._folder = folder
        self._node = node or folder
        self._parent = parent
        self._began = time.monotonic()
        self._told_at: float | None = None
        # Of several ranks each is known; of one, it may have started others.
        alone = len(self.members) == 1 and self.members[0].elsewhere is None
        self._leftovers = Leftovers(folder) if alone else None

    @classmethod
    def adopted(cls, folder: Path, ranks: int) -> Team:
        """Return the team of an attempt whose supervisor has died."""
        return cls(folder, [Member(rank, WorkerProcess.recorded(folder, rank)) for rank in range(ranks)])

    @property
    def pids(self) -> list[int]:
        return [member.worker.pid for member in self.members if member.worker is not None]

    def take_samples(self, own_boards: int | None) -> dict[str, float]:
        """Return what was read of the GPUs of other nodes, whose numbers follow those of the `own_boards` here."""
        return self._relay.take_samples(own_boards) if self._relay else {}

    def lives(self) -> bool:
        """Look at all ranks, end the others where one has failed, and tell whether any lives."""
        now = time.monotonic()
        for member in self.members:
            if not member.has_ended and self._has_ended(member, now):
                member.has_ended = True
                member.was_free = self._told_at is None if member.elsewhere is None else member.elsewhere.was_free
                if member.code != 0 and member.process is not None:
                    # What it started, DataLoader workers among it, has lost its purpose.
                    signal_group(member.process.pid, signal.SIGKILL)
                    if self._leftovers is not None and self._leftovers.are_known:
                        self._leftovers.kill()
        living = [member for member in self.members if not member.has_ended]
        if living and self._told_at is None and (self._failed() or self._is_orphaned()):
            self.end()
        is_lost = any(member.elsewhere is not None and member.elsewhere.is_lost for member in self.members)
        patience_s = KILL_LOST_AFTER_S if is_lost else KILL_AFTER_S
        if living and self._told_at is not None and now - self._told_at > patience_s:
            self._signal(living, signal.SIGKILL)
        if self._leftovers is not None:
            self._leftovers.look(now, worker_has_ended=not living)
        return bool(living) or (self._leftovers is not None and self._leftovers.remain)

    def end(self) -> None:
        """Ask all ranks that live to end, and see to it that they do. Later calls are ignored."""
        if self._told_at is None:
            self._told_at = time.monotonic()
            self.kill(signal.SIGTERM)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to all ranks that live, and to what they started."""
        self._signal([member for member in self.members if not member.has_ended], number)

    def has_failed(self, member: Member) -> bool:
        return member.has_ended and not self._ended_well(member)

    def culprit(self) -> Member:
        """Return the rank whose end says how the attempt ended: the first that failed, else rank 0."""
        failed = self._failed()
        by_signal = [member for member in failed if member.was_free and member.code is not None and member.code < 0]
        # Whoever raises says so: one that said nothing was ended from outside.
        silent = [member for member in failed if member.was_free and self._last_word(member) is None]
        if by_signal or silent:
            return (by_signal or silent)[0]
        # Ranks that lost the failed one fail too, a little later.
        told = [(word[0], member) for member in failed if (word := self._last_word(member))]
        if told:
            return min(told, key=lambda each: each[0])[1]
        free = [member for member in failed if member.was_free]
        return (free or failed or self.members)[0]

    def said(self, member: Member) -> dict[str, Any]:
        """Return how a rank that has ended said that it did, {} where it died without a word."""
        if member.elsewhere is not None and not member.elsewhere.has_joined:
            error = f"Its node has not joined the training within {JOINED_AFTER_S:.0f} s."
            return {"outcome": "failed", "error": error, "traceback": ""}
        word = self._last_word(member)
        return word[1] if word else {}

    def _last_word(self, member: Member) -> tuple[float, dict[str, Any]] | None:
        """Return when and how a rank said that it ended, None where it did not."""
        if member.elsewhere is not None:
            # Its journal may not be readable to its end here yet.
            return None if member.elsewhere.said is None else (member.elsewhere.said_at, member.elsewhere.said)
        record = last_record(self._folder, member.rank)
        return (record.time, record.fields) if record else None

    def _has_ended(self, member: Member, now: float) -> bool:
        if member.elsewhere is not None:
            member.code = member.elsewhere.code
            late = not member.elsewhere.has_joined and now - self._began > JOINED_AFTER_S
            return member.elsewhere.has_ended or late
        if member.process is not None:
            code = member.process.poll()
            member.code = None if code is None else self._meant_code(member.rank, code)
            return code is not None
        if member.worker is None:
            member.worker = WorkerProcess.recorded(self._node, member.rank)
        if member.worker is None:
            return self._parent is None or now - self._began > STARTED_AFTER_S
        if member.worker.is_alive():
            return False
        member.code = recorded_exit(self._node, member.rank)
        member.gone_since = member.gone_since or now
        return member.code is not None or self._parent is None or now - member.gone_since > EXIT_KNOWN_AFTER_S

    def _meant_code(self, rank: int, code: int) -> int:
        """Return the exit status of a rank: 0 also of a launcher whose rank 0 stopped and whose others were ended."""
        if self._leftovers is not None and self._leftovers.are_to_stop and has_ended_well(self._folder, rank):
            return 0
        return meant_code(self._folder, rank, code)

    def _failed(self) -> list[Member]:
        return [member for member in self.members if self.has_failed(member)]

    def _ended_well(self, member: Member) -> bool:
        if member.code is not None:
            return member.code == 0
        return self.said(member).get("outcome") in GOOD_ENDS

    def _is_orphaned(self) -> bool:
        return self._parent is not None and os.getppid() != self._parent

    def _signal(self, members: Sequence[Member], number: signal.Signals) -> None:
        for member in members:
            if member.elsewhere is not None:
                member.elsewhere.signal = number
            elif member.worker is not None:
                signal_group(member.worker.pid, number)
        if self._leftovers is not None and number == signal.SIGKILL:
            # Ranks that torchrun started are in sessions of their own.
            self._leftovers.kill()


def meant_code(folder: Path, rank: int, code: int) -> int:
    """Return the exit status of a rank: 0 also where SIGTERM met it on its way out, after its last word.

    An interpreter that ends no longer handles signals.
    """
    return 0 if code == -signal.SIGTERM and has_ended_well(folder, rank) else code


def has_ended_well(folder: Path, rank: int) -> bool:
    """Tell whether a rank has said that it finished, stopped, or ran to its end."""
    record = last_record(folder, rank)
    return record is not None and record.fields.get("outcome") in GOOD_ENDS


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process and its group, so that what it started ends too; an adopted one may be no leader of one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return  # it has ended by itself
