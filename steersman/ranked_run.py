"""The run of a training with several ranks: every command takes effect at the same step boundary on all of them.

Without a collective: each rank publishes how many step boundaries it has reached *before* it looks whether it is to
wait. The leader, rank 0, takes the commands. It writes "hold at H", a little beyond the farthest rank, waits until
every processor sees that, and looks again: while a rank has reached H, which it may have passed unaware, H is raised.
So nobody passes H, and nobody who waits there keeps others from arriving: all that led to H was begun before. Once
all wait, the leader writes what is decided and clears the hold; each rank applies it, in the same order.

On several nodes the ranks of each look at a page of their own, which processes beside them keep like the leader's. The
leader looks at the ranks again when every node has said that its own look at this hold, and how far they were then.

Standard library only.
"""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from steersman.commands import EXPIRE
from steersman.files.locks import HeldLock
from steersman.files.private import open_private
from steersman.ranks.barrier import (
    CALL_KINDS,
    CALLED,
    DECIDED,
    EPOCH,
    HOLD,
    LEFT_OUT,
    STEP,
    Meeting,
    OutOfStep,
    PeerLost,
)
from steersman.run import ATTENTION, LOOK_EVERY, PAUSE_LOOK_S, Run

HOLD_TIMEOUT_VARIABLE = "STEERSMAN_HOLD_TIMEOUT_S"
HOLD_TIMEOUT_S = 60.0
# Far longer than a written word takes to be seen by every processor.
SEEN_AFTER_S = 0.001
# Ranks start at different times; one that has not attached by then is not going to.
ATTACHED_AFTER_S = 30.0
# Between two looks at whether the other ranks live, while paused.
PEERS_EVERY = 50


class RankedRun(Run):
    """A supervised run of one of `ranks` processes. Make it with `steersman.attach()`.

    Every rank must pass the same step boundaries, and log the same steps where commands wait for one.
    """

    __slots__ = ("_called", "_points", "_row", "_words")

    def __init__(self, folder: Path, rank: int, lock: HeldLock, ranks: int, node: Path | None = None) -> None:
        """`node` is the folder of this node, where the training has several; the leader's node has the attempt's."""
        here = node or folder
        self.ranks = ranks
        # The step boundaries that this rank has passed.
        self._points = 0
        self._meeting = Meeting(here, rank, ranks)
        self._words = self._meeting.words
        self._row = self._meeting.mine
        self._called = ATTENTION
        self._decisions = here / "decisions.jsonl"
        self._decisions_read = self._decisions.stat().st_size if self._words[DECIDED] else 0
        # What was decided before a rank came that was left out is not for it.
        self._decided = self._words[DECIDED]
        self._began = time.monotonic()
        # The leader's: commands to decide, signals heard of, the last hold, and when a command that waits expires.
        self._pending: list[dict[str, Any]] = []
        self._heard = dict.fromkeys(CALL_KINDS, 0)
        self._held = 0
        self._expiring: dict[str, float] = {}
        self._hold_timeout_s = float(os.environ.get(HOLD_TIMEOUT_VARIABLE, HOLD_TIMEOUT_S))
        super().__init__(folder, rank, lock, node)

    @property
    def stopping(self) -> bool:
        """The step boundary: look once a step on every rank, and end the loop when it is true."""
        points = self._points + 1
        self._points = points
        words = self._words
        # Published before the hold is read: see above.
        words[self._row] = points
        quiet = words[HOLD] == 0 and words[CALLED] == self._called and self._posted[0] == self._seen
        if quiet:
            self._left -= 1
            if self._left:
                return False
        return self._at_step_boundary()

    def request_stop(self) -> None:
        """Make `stopping` true on all ranks, at the same step boundary (a signal handler may call this)."""
        self._meeting.call("stop")

    def request(self, kind: str) -> None:
        """Do a command such as "save_checkpoint" on all ranks; fit for a signal handler."""
        self._meeting.call(kind)

    def agree(self, problem: str = "") -> str:
        """Meet all other ranks here, and return what is wrong on any of them; "" where nothing is.

        Every rank must call this at the same place. What is wrong here comes first, what is wrong elsewhere after the
        number of the rank. Raises `steersman.ranks.barrier.PeerLost` where a rank has died.
        """
        problems = self._meeting.agree(problem)
        if not problems:
            return ""
        if problems.get(self.rank) or problems.get(0):
            return problems.get(0) or problem
        first, reason = next(iter(problems.items()))
        return f"Rank {first}: {reason}"

    def record_outcome(self, fields: dict[str, Any]) -> None:
        if self.rank != 0:
            return
        if fields["id"] is not None:
            super().record_outcome(fields)
        elif fields["state"] == "refused":
            # Asked for by a signal: no row waits for it.
            self.note(fields["reason"], level="warning")

    def record_state(self, state: str) -> None:
        if self.rank == 0:
            super().record_state(state)

    def record_knobs(self) -> None:
        if self.rank == 0:
            super().record_knobs()

    def _end(self, fields: dict[str, Any], step: int) -> None:
        if os.getpid() == self._pid:
            super()._end(fields, step)
            self._meeting.end(fields["outcome"] == "failed")

    def _at_step_boundary(self) -> bool:
        control = self._control
        counted, called = self._posted[0], self._words[CALLED]
        if self._waiting:
            self._write_arrived()
        if self.rank == 0:
            self._look_at_clock()
            self._collect()
            self._lead()
        else:
            self._left = LOOK_EVERY
            self._follow()
        control.look(self._step, self._epoch)
        self._wait_while_paused()
        busy = control.needs_attention or self._waiting or self._pending
        self._seen, self._called = (ATTENTION, ATTENTION) if busy else (counted, called)
        return control.stopping

    def _wait_while_paused(self) -> None:
        control = self._control
        looks = 0
        while control.paused and not control.stopping:
            time.sleep(PAUSE_LOOK_S)
            looks += 1
            if looks % PEERS_EVERY == 0:
                self._meeting.check_peers()
            if self.rank == 0:
                self._look_at_clock()
                self._collect()
                if self._pending and self._all_are_here():
                    self._decide()
            elif self._meeting.has_finished(0):
                return
            else:
                self._apply_decisions()

    # The leader

    def _collect(self) -> None:
        """Take what was posted, what ranks were asked by signals, and what has expired."""
        counted = self._posted[0]
        if counted != self._counted:
            self._counted = counted
            self._pending += self._mailbox.new_commands()
        for kind in CALL_KINDS:
            calls = self._meeting.calls(kind)
            if calls != self._heard[kind]:
                self._heard[kind] = calls
                # Once for all ranks that ask, and however often they do.
                called: dict[str, Any] = {"id": None, "command": kind, "arguments": {}}
                if called not in self._pending:
                    self._pending.append(called)
        if self._expiring:
            self._collect_expired()

    def _collect_expired(self) -> None:
        now = time.time()
        for wanted, expires_at in list(self._expiring.items()):
            if now > expires_at:
                del self._expiring[wanted]
                self._pending.append({"id": wanted, "command": EXPIRE})

    def _lead(self) -> None:
        """Make all ranks wait at one step boundary where there is something to decide; decide where this is it."""
        words, points = self._words, self._points
        if words[HOLD] == 0 and self._pending and self._all_are_here():
            self._hold()
        if words[HOLD] and points >= words[HOLD]:
            self._decide()

    def _all_are_here(self) -> bool:
        """Tell whether commands may be decided: all ranks have attached, or those that have not never will."""
        if self._words[LEFT_OUT] or not (unattached := self._meeting.unattached()):
            return True
        if time.monotonic() - self._began < ATTACHED_AFTER_S:
            return False
        who = ", ".join(map(str, unattached))
        self.note(f"Rank {who} has not called steersman.attach(): commands act on the other ranks.", level="warning")
        self._words[LEFT_OUT] = 1
        return True

    def _hold(self) -> None:
        meeting, margin = self._meeting, 1
        while True:
            # Each larger than all before: what nodes say of one cannot be taken for another.
            hold = self._held = max(meeting.farthest() + margin, self._held + 1)
            self._words[HOLD] = hold
            time.sleep(SEEN_AFTER_S)
            if not meeting.wait(partial(meeting.is_known, hold), self._hold_timeout_s):
                if self._guard.look(time.monotonic())[1]:
                    # A stop for want of a supervisor cannot reach the other nodes without one either.
                    raise PeerLost("no supervisor carries word between the nodes any more")
                self._refuse("Not all nodes have answered")
                return
            if meeting.farthest() < hold:
                return
            # Steps shorter than the wait: aim farther.
            margin *= 4

    def _decide(self) -> None:
        """Wait for all ranks at this step boundary and let them apply what is pending; or refuse it."""
        meeting, points = self._meeting, self._points
        meeting.arrive(points, self._step, self._epoch)
        if not meeting.wait(lambda: not meeting.absent(points), self._hold_timeout_s):
            who = ", ".join(map(str, meeting.absent(points)))
            self._refuse(f"Rank {who} did not come to the step boundary at which all were to take it")
            return
        self._collect()
        commands = [command for command in self._pending if self._may_be_decided(command)]
        self._pending = []
        self._control.ranks = 1 + len(meeting.others)
        decision = {"at": points, "step": self._step, "epoch": self._epoch, "commands": commands}
        line = json.dumps(decision, separators=(",", ":")).encode() + b"\n"
        with open_private(self._decisions, "ab") as file:
            file.write(line)
        self._decided += 1
        # In this order: who sees no hold any more finds what was decided.
        self._words[DECIDED] = self._decided
        self._words[HOLD] = 0
        self._control.take(commands, self._step, self._epoch)

    def _may_be_decided(self, command: dict[str, Any]) -> bool:
        """Settle a command that must not be tried; ready all others for every rank."""
        expires_at = command.pop("expires_at", None)
        if expires_at is not None and time.time() > expires_at:
            self._control.expire(command)
            return False
        differing = self._differing(command)
        if differing:
            self._control.refuse(command, differing)
            return False
        if expires_at is not None and (command.get("at_step") is not None or command.get("at_epoch") is not None):
            # By the leader's clock alone.
            self._expiring[command["id"]] = expires_at
        return True

    def _differing(self, command: dict[str, Any]) -> str:
        """Return why a command cannot wait for its step or epoch: the ranks do not count the same."""
        for what, place, own in (("step", STEP, self._step), ("epoch", EPOCH, self._epoch)):
            asked = command.get(f"at_{what}")
            if asked is not None and (differing := self._meeting.differing(place, own)):
                rank, theirs = differing
                return (
                    f"Rank {rank} is at {what} {theirs}, rank 0 at {what} {own}: a command can wait for {what} "
                    f"{asked} only where all ranks log the same {what}s."
                )
        return ""

    def _refuse(self, why: str) -> None:
        """Let everybody go on without what is pending."""
        pending, self._pending = self._pending, []
        self._words[HOLD] = 0
        reason = f"{why} within {self._hold_timeout_s:g} s: nothing was changed."
        for command in pending:
            if command["command"] == EXPIRE:
                self._expiring[command["id"]] = 0.0
            else:
                self._control.refuse(command, reason)

    # The others

    def _follow(self) -> None:
        """Wait where the leader wants all to, and apply what it decided."""
        words, points = self._words, self._points
        if words[DECIDED] == self._decided and not self._is_held():
            return
        self._meeting.arrive(points, self._step, self._epoch)
        while True:
            self._meeting.wait(lambda: words[DECIDED] != self._decided or not self._is_held())
            if words[DECIDED] == self._decided:
                return
            self._apply_decisions()

    def _is_held(self) -> bool:
        hold = self._words[HOLD]
        return 0 < hold <= self._points and not self._meeting.has_finished(0)

    def _apply_decisions(self) -> None:
        if self._words[DECIDED] == self._decided:
            if self._control.paused:
                self._meeting.arrive(self._points, self._step, self._epoch)
            return
        with self._decisions.open("rb") as file:
            file.seek(self._decisions_read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._decisions_read += whole
        for line in text[:whole].splitlines():
            decision = json.loads(line)
            if decision["at"] != self._points:
                raise OutOfStep(
                    f"rank {self.rank} is at step boundary {self._points}, commands were to take effect at "
                    f"{decision['at']}: look at run.stopping equally often on every rank"
                )
            self._decided += 1
            self._control.take(decision["commands"], decision["step"], decision["epoch"])
