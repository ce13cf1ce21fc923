"""The run of a training with several ranks: every command takes effect at the same step boundary on all of them.

No collective is used: each rank publishes how many step boundaries it has reached *before* it reads whether it must
wait. The leader, rank 0, takes the commands. It sets the barrier at a step boundary B, slightly beyond the farthest
rank, waits until every processor sees that, and reads the ranks again: if a rank has reached B, which it may have
passed without seeing the barrier, B is raised. No rank therefore passes B, and a rank that waits there does not block
the others: all collectives of the steps up to B began before. Once all ranks wait, the leader writes the decision and
clears the barrier; each rank applies the decisions in the same order.

With several nodes, the ranks of each node read their own page, which processes on it synchronise with the leader's. The
leader reads the ranks again when every node has reported that its ranks see this barrier, and how far they were then.

Standard library only.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from steersman.commands import EXPIRE, Done
from steersman.files.locks import HeldLock
from steersman.files.private import append_whole
from steersman.ranks.barrier import (
    BARRIER,
    DECISION_COUNT,
    LEFT_OUT,
    REQUEST_COUNTER,
    REQUEST_KINDS,
    ROW_EPOCH,
    ROW_STEP,
    OutOfStep,
    PeerLost,
    RankBarrier,
)
from steersman.records.kinds import EndRecord, OutcomeState
from steersman.records.posted import Decision, PostedCommand
from steersman.records.typed_json import Malformed, decode, encode
from steersman.run import ATTENTION, CLOCK_EVERY, PAUSE_POLL_S, Run

BARRIER_TIMEOUT_VARIABLE = "STEERSMAN_HOLD_TIMEOUT_S"
BARRIER_TIMEOUT_S = 60.0
# Far longer than it takes until every processor sees a write.
VISIBLE_AFTER_S = 0.001
# Ranks start at different times; a rank that has not attached by then is left out.
ATTACH_TIMEOUT_S = 30.0
# While paused, the other ranks are checked once in this many polls.
CHECK_PEERS_EVERY = 50


class RankedRun(Run):
    """A supervised run of one of `ranks` processes. Make it with `steersman.attach()`.

    Every rank must pass the same step boundaries, and log the same steps if commands wait for one.
    """

    __slots__ = ("_boundary", "_row", "_seen_requests", "_words")

    def __init__(self, folder: Path, rank: int, lock: HeldLock, ranks: int, node: Path | None = None) -> None:
        """`node` is the folder of this node if the training has several; the leader's node uses that of the attempt."""
        here = node or folder
        self.ranks = ranks
        # The number of step boundaries that this rank has passed.
        self._boundary = 0
        self._barrier = RankBarrier(here, rank, ranks)
        self._words = self._barrier.words
        self._row = self._barrier.own_row
        self._seen_requests = ATTENTION
        self._decisions = here / "decisions.jsonl"
        self._decisions_read = self._decisions.stat().st_size if self._words[DECISION_COUNT] else 0
        # For a rank that was left out, decisions from before it attached do not count.
        self._decision_count = self._words[DECISION_COUNT]
        self._began = time.monotonic()
        # For the leader: commands to decide, requests taken so far, the last barrier, and when waiting commands expire.
        self._pending: list[PostedCommand] = []
        self._taken_requests = dict.fromkeys(REQUEST_KINDS, 0)
        self._last_barrier = 0
        self._expiring: dict[str, float] = {}
        self._barrier_timeout_s = float(os.environ.get(BARRIER_TIMEOUT_VARIABLE, BARRIER_TIMEOUT_S))
        super().__init__(folder, rank, lock, node)

    @property
    def stopping(self) -> bool:
        """The step boundary: read it once per step on every rank, and end the loop when it is true."""
        boundary = self._boundary + 1
        self._boundary = boundary
        words = self._words
        # Published before the barrier is read: see the module docstring.
        words[self._row] = boundary
        quiet = words[BARRIER] == 0 and words[REQUEST_COUNTER] == self._seen_requests and self._posted[0] == self._seen
        if quiet:
            self._left -= 1
            if self._left:
                return False
        return self._at_step_boundary()

    def request_stop(self) -> None:
        """Make `stopping` true on all ranks at the same step boundary. A signal handler may call this."""
        self._barrier.request("stop")

    def request(self, kind: str) -> None:
        """Execute a command such as "save_checkpoint" on all ranks. A signal handler may call this."""
        self._barrier.request(kind)

    def agree(self, problem: str = "") -> str:
        """Wait for all other ranks, and return the problem of any of them; "" if there is none.

        Every rank must call this at the same place. This rank's own problem comes first; another rank's problem is
        returned with the number of the rank. Raises `steersman.ranks.barrier.PeerLost` if a rank has died.
        """
        problems = self._barrier.vote(problem)
        if not problems:
            return ""
        if problems.get(self.rank) or problems.get(0):
            return problems.get(0) or problem
        first, reason = next(iter(problems.items()))
        return f"Rank {first}: {reason}"

    def record_outcome(self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None) -> None:
        if self.rank != 0:
            return
        if command.id is not None:
            super().record_outcome(command, state, done, ranks)
        elif state == "refused":
            # A signal requested it, so no row waits for its outcome.
            self.note(done.remark, level="warning")

    def _end(self, end: EndRecord) -> None:
        if os.getpid() == self._pid:
            super()._end(end)
            self._barrier.mark_ended(failed=not end.is_good)

    def _at_step_boundary(self) -> bool:
        control = self._control
        control.correct_effects(self._step)
        counted, requests = self._posted[0], self._words[REQUEST_COUNTER]
        if self._waiting:
            self._write_at_boundary()
        if self.rank == 0:
            self._check_clock()
            self._collect()
            self._lead()
        else:
            self._left = CLOCK_EVERY
            self._follow()
        control.apply_due(self._step, self._epoch)
        self._wait_while_paused()
        busy = control.needs_attention or self._waiting or self._pending
        self._seen, self._seen_requests = (ATTENTION, ATTENTION) if busy else (counted, requests)
        return control.stopping

    def _wait_while_paused(self) -> None:
        control = self._control
        polls = 0
        while control.paused and not control.stopping:
            time.sleep(PAUSE_POLL_S)
            polls += 1
            if polls % CHECK_PEERS_EVERY == 0:
                self._barrier.check_peers()
            if self.rank == 0:
                self._check_clock()
                self._collect()
                if self._pending and self._all_are_here():
                    self._decide()
            elif self._barrier.has_finished(0):
                return
            else:
                self._apply_decisions()

    # The leader

    def _collect(self) -> None:
        """Collect posted commands, requests of signals on any rank, and expired commands."""
        counted = self._posted[0]
        if counted != self._counted:
            self._counted = counted
            self._mailbox.set_taken(counted)
            self._pending += self._mailbox.new_commands()
        for kind in REQUEST_KINDS:
            requests = self._barrier.requests(kind)
            if requests != self._taken_requests[kind]:
                self._taken_requests[kind] = requests
                # Once for all ranks, however often it was requested.
                request = PostedCommand(id=None, command=kind)
                if request not in self._pending:
                    self._pending.append(request)
        if self._expiring:
            self._collect_expired()

    def _collect_expired(self) -> None:
        now = time.monotonic()
        for wanted, expires_monotonic_s in list(self._expiring.items()):
            if now > expires_monotonic_s:
                del self._expiring[wanted]
                self._pending.append(PostedCommand(id=wanted, command=EXPIRE))

    def _lead(self) -> None:
        """Set the barrier if there is something to decide; decide if this rank has reached it."""
        words, boundary = self._words, self._boundary
        if words[BARRIER] == 0 and self._pending and self._all_are_here():
            self._set_barrier()
        if words[BARRIER] and boundary >= words[BARRIER]:
            self._decide()

    def _all_are_here(self) -> bool:
        """Return whether commands may be decided: all ranks have attached, or the others had enough time to."""
        if self._words[LEFT_OUT] or not (unattached := self._barrier.unattached()):
            return True
        if time.monotonic() - self._began < ATTACH_TIMEOUT_S:
            return False
        who = ", ".join(map(str, unattached))
        self.note(
            f"Rank {who} has not called steersman.attach(): commands take effect on the other ranks only.",
            level="warning",
        )
        self._words[LEFT_OUT] = 1
        return True

    def _set_barrier(self) -> None:
        barrier, margin = self._barrier, 1
        while True:
            # Each barrier is larger than all before, so that a node's answer to one cannot be taken for an answer to
            # another.
            boundary = self._last_barrier = max(barrier.farthest_boundary() + margin, self._last_barrier + 1)
            self._words[BARRIER] = boundary
            time.sleep(VISIBLE_AFTER_S)
            if not barrier.wait(partial(barrier.is_seen_by_all_nodes, boundary), self._barrier_timeout_s):
                if self._orphan_watch.poll(time.monotonic())[1]:
                    # Without a supervisor, a stop cannot reach the other nodes.
                    raise PeerLost("the supervisor that connects the nodes has ended")
                self._refuse(f"Not all nodes have answered within {self._barrier_timeout_s:g} s")
                return
            if barrier.farthest_boundary() < boundary:
                return
            # Steps are shorter than the wait, so set it farther ahead.
            margin *= 4

    def _decide(self) -> None:
        """Wait for all ranks at this step boundary and let them apply the pending commands, or refuse these."""
        barrier, boundary = self._barrier, self._boundary
        barrier.arrive(boundary, self._step, self._epoch)
        if not barrier.wait(lambda: not barrier.absent(boundary), self._barrier_timeout_s):
            who = ", ".join(map(str, barrier.absent(boundary)))
            where = "the step boundary at which all ranks were to apply the command"
            self._refuse(f"After {self._barrier_timeout_s:g} s, rank {who} had not reached {where}")
            return
        self._collect()
        # Only the leader's clock decides whether a command has expired, so that is checked here.
        self._pending = [command for command in self._pending if self._may_be_decided(command)]
        commands = [replace(command, expires_monotonic_s=None) for command in self._pending]
        decision = Decision(at=boundary, step=self._step, epoch=self._epoch, commands=commands)
        try:
            append_whole(self._decisions, encode(decision) + b"\n")
        except OSError as error:
            # A stop is not refused: it waits until the disk has space, and is decided at a later step boundary.
            stops = [command for command in self._pending if command.command == "stop"]
            self._pending = [command for command in self._pending if command not in stops]
            self._refuse(f"The decision could not be written ({error.strerror or error})")
            self._pending += stops
            return
        self._pending = []
        self._control.ranks = 1 + len(barrier.others)
        self._decision_count += 1
        # In this order: a rank that no longer sees the barrier finds the decision.
        self._words[DECISION_COUNT] = self._decision_count
        self._words[BARRIER] = 0
        self._control.take(commands, self._step, self._epoch)

    def _may_be_decided(self, command: PostedCommand) -> bool:
        """Return whether a command may be tried; otherwise record its outcome."""
        expires_monotonic_s = command.expires_monotonic_s
        if expires_monotonic_s is not None and time.monotonic() > expires_monotonic_s:
            self._control.expire(command)
            return False
        differing = self._differing(command)
        if differing:
            self._control.refuse(command, differing)
            return False
        waits = (command.at_step, command.at_epoch) != (None, None)
        if command.id is not None and expires_monotonic_s is not None and waits:
            self._expiring[command.id] = expires_monotonic_s
        return True

    def _differing(self, command: PostedCommand) -> str:
        """Return why a command cannot wait for its step or epoch: the ranks have different counts."""
        for what, asked, place, own in (
            ("step", command.at_step, ROW_STEP, self._step),
            ("epoch", command.at_epoch, ROW_EPOCH, self._epoch),
        ):
            if asked is not None and (differing := self._barrier.differing(place, own)):
                rank, theirs = differing
                return (
                    f"Rank {rank} is at {what} {theirs}, but rank 0 is at {what} {own}: a command can wait for {what} "
                    f"{asked} only if all ranks log the same {what}s."
                )
        return ""

    def _refuse(self, why: str) -> None:
        """Refuse the pending commands, and let all ranks continue."""
        pending, self._pending = self._pending, []
        self._words[BARRIER] = 0
        reason = f"{why}: nothing was changed."
        for command in pending:
            if command.command == EXPIRE and command.id is not None:
                self._expiring[command.id] = 0.0
            else:
                self._control.refuse(command, reason)

    # The others

    def _follow(self) -> None:
        """Wait at the leader's barrier, and apply its decisions."""
        words, boundary = self._words, self._boundary
        if words[DECISION_COUNT] == self._decision_count and not self._must_wait():
            return
        self._barrier.arrive(boundary, self._step, self._epoch)
        while True:
            self._barrier.wait(lambda: words[DECISION_COUNT] != self._decision_count or not self._must_wait())
            if words[DECISION_COUNT] == self._decision_count:
                return
            self._apply_decisions()

    def _must_wait(self) -> bool:
        boundary = self._words[BARRIER]
        return 0 < boundary <= self._boundary and not self._barrier.has_finished(0)

    def _apply_decisions(self) -> None:
        if self._words[DECISION_COUNT] == self._decision_count:
            if self._control.paused:
                self._barrier.arrive(self._boundary, self._step, self._epoch)
            return
        with self._decisions.open("rb") as file:
            file.seek(self._decisions_read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._decisions_read += whole
        for line in text[:whole].splitlines():
            try:
                decision = decode(Decision, line)
            except Malformed as error:
                raise OutOfStep(
                    f"rank {self.rank} cannot read the commands of rank 0, because {self._decisions} is damaged "
                    f"({error}): start the run again"
                ) from error
            if decision.at != self._boundary:
                raise OutOfStep(
                    f"rank {self.rank} is at step boundary {self._boundary}, but commands were to take effect at "
                    f"{decision.at}: read run.stopping equally often on every rank"
                )
            self._decision_count += 1
            self._control.take(decision.commands, decision.step, decision.epoch)
