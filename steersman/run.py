"""The run in its training process: its records, and the step boundary at which commands take effect.

Everything here is one write to the journal or one read of shared memory: no thread, no lock, no socket, no device
synchronisation. Standard library only; `steersman.attaching` gives a process its run.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from steersman import values
from steersman.checkpoints.kept import CHECKPOINTS, KeptCheckpoints
from steersman.checkpoints.own import FoundCheckpoint, OwnCheckpoints
from steersman.checkpoints.putting_back import can_be_put_back, put_back
from steersman.checkpoints.saved import SavedCheckpoint, resumed_checkpoint
from steersman.checkpoints.saving import as_reason, innermost, states_of, write_checkpoint
from steersman.commands import Control, Done, Handler, Refusal
from steersman.exit_codes import EXIT_FENCED
from steersman.files.attempt import files_of, number_of
from steersman.files.checkpoint import Damaged
from steersman.files.journal import JournalWriter
from steersman.files.journal_bound import journal_bound_bytes
from steersman.files.locks import HeldLock
from steersman.files.mailbox import Inbox, Mailbox, NullMailbox
from steersman.files.null_journal import Journal, NullJournal
from steersman.files.private import make_private
from steersman.knobbed import KnobbedRecorder
from steersman.ranks.undeclared import UndeclaredPeers
from steersman.records.kinds import (
    EffectRecord,
    HandlersRecord,
    OutcomeRecord,
    OutcomeState,
    PatchRecord,
    RankRolledBackRecord,
    State,
    StateRecord,
)
from steersman.records.posted import PostedCommand, RollBackArguments
from steersman.records.typed_json import Json, from_fields
from steersman.silence import OrphanWatch
from steersman.starting.scope import Scope
from steersman.surroundings.environment import own_environment
from steersman.surroundings.source import LARGEST_PATCH_BYTES, git_revision, uncommitted_changes
from steersman.values.on_device import Held
from steersman.values.remarks import Remarks

# The environment variables of a supervised process.
FOLDER_VARIABLE = "STEERSMAN_ATTEMPT_FOLDER"
RANK_VARIABLE = "STEERSMAN_RANK"
RANKS_VARIABLE = "STEERSMAN_RANKS"
# The folder of a node other than the first, because shared memory and locks belong to one host.
NODE_VARIABLE = "STEERSMAN_NODE_FOLDER"
START_PAUSED_VARIABLE = "STEERSMAN_START_PAUSED"
UNADOPTED_VARIABLE = "STEERSMAN_UNADOPTED_S"
# Written into the folder of an attempt when a later one is opened, so that a worker that starts late does not train.
CLOSED_FILE = "closed"
# Without a supervisor for this long, a training saves and ends.
UNADOPTED_S = 600.0
# At most this many step boundaries pass between two checks of the clock, fewer if they would take longer than this.
CLOCK_EVERY = 128
CLOCK_EVERY_S = 0.25
# How often the effective values of knobs are read again.
EFFECTS_EVERY_S = 1.0
# The time for verifying and reading a checkpoint, which hashes all its files.
READING_MAY_TAKE_S = 600.0
PAUSE_POLL_S = 0.01
# Never equal to the mailbox's counter, so that the next step boundary checks for commands.
ATTENTION = -1


class Run(Scope, KnobbedRecorder):
    """A run. Create it with `steersman.attach()` or `steersman.start()`.

    Without a supervisor it logs nowhere and gets no commands; wrong calls raise the same exceptions.
    """

    # The step boundary reads these at every step, so they are slots, as in `Recorder`.
    __slots__ = ("_left", "_posted", "_seen")
    _control: Control

    def __init__(
        self,
        folder: Path | None = None,
        rank: int = 0,
        lock: HeldLock | None = None,
        node: Path | None = None,
        undeclared_peers: UndeclaredPeers | None = None,
    ) -> None:
        """`undeclared_peers` are the undeclared ranks; None if all are declared."""
        self._lock = lock
        self.supervised = folder is not None
        journal: Journal = NullJournal()
        self._mailbox: Inbox = NullMailbox()
        if folder is not None:
            if (folder / CLOSED_FILE).exists():
                print("steersman: a later attempt holds this run, so this process ends", file=sys.stderr)
                raise SystemExit(EXIT_FENCED)
            journal = JournalWriter(folder, rank, journal_bound_bytes(os.environ))
            self._mailbox = Mailbox(node or folder)
        super().__init__(folder, rank, journal)
        # Set for processes that log nowhere, too: helpers of a training read and write its files.
        place = os.environ.get(FOLDER_VARIABLE)
        self._place = folder or (Path(place) if place else None)
        self._directory: Path | None = None
        self._kept: KeptCheckpoints | None = None
        self._newest: SavedCheckpoint | None = None
        # The last arguments of `save_checkpoint`, which a rollback restores if the script has no handler.
        self._saved_objects: dict[str, Any] = {}
        self._own_checkpoints = OwnCheckpoints()
        self._posted = self._mailbox.posted
        # The mailbox's counter when it was last read; ATTENTION if the next step boundary must read it.
        self._seen = ATTENTION
        self._counted = 0
        # The number of step boundaries until the next check of the clock.
        self._left = self._clock_every = CLOCK_EVERY
        self._effects_read_at = time.monotonic()
        self._signalled: list[str] = []
        paused = self.supervised and os.environ.get(START_PAUSED_VARIABLE) == "1"
        self._undeclared_peers = undeclared_peers
        self._control = Control(
            self,
            paused=paused,
            ranks=self.ranks,
            leads=rank == 0,
            agree=self.agree,
            forbid=undeclared_peers.refusal if undeclared_peers is not None else None,
        )
        if self._control.paused:
            self.record_state("paused")
        unadopted_s = float(os.environ.get(UNADOPTED_VARIABLE, UNADOPTED_S)) if self.supervised else math.inf
        self._orphan_watch = OrphanWatch(self._mailbox, unadopted_s)

    def __copy__(self) -> Run:
        """Return the run itself: copies of its owner, such as an averaged model, share the one run of the process."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        return self

    def __reduce__(self) -> Any:
        """Let an object with the run be pickled, such as a dataset for a worker process, which gets its own run."""
        from steersman.attaching import run_of_this_process

        return run_of_this_process, ()

    @property
    def stopping(self) -> bool:
        """The step boundary: read it once per step, and end the loop when it is true.

        Commands take effect here, and a paused training waits here. Read it before the first step too, so that the run
        may start paused (`while not run.stopping:` does). A loop that logs rarely sets `run.step` before it reads this.
        """
        if self._posted[0] == self._seen:
            self._left -= 1
            if self._left:
                return False
        return self._at_step_boundary()

    @property
    def saves_on_stop(self) -> bool:
        """Whether the stop was requested with a checkpoint."""
        return self._control.saves_on_stop

    def request_stop(self) -> None:
        """Make `stopping` true from within the process (a signal handler)."""
        self._control.stopping = True
        self._seen = ATTENTION

    def request(self, kind: str) -> None:
        """Execute a command such as "save_checkpoint" at the next step boundary; may be called in a signal handler."""
        self._signalled.append(kind)
        self._seen = ATTENTION

    def agree(self, problem: str = "") -> str:
        """Return the problem of any rank, "" if there is none; with one rank, return `problem`."""
        return problem

    def _at_step_boundary(self) -> bool:
        """Do all work between two steps; return whether the training has to end."""
        control = self._control
        control.correct_effects(self._step)
        ends = self._wait_and_obey(control)
        if ends and self._undeclared_peers is not None:
            self._undeclared_peers.note_stop()
        return ends

    def _wait_and_obey(self, control: Control) -> bool:
        if self._waiting:
            self._write_at_boundary()  # before a command changes the step
        self._take_commands()
        self._check_clock()
        while control.paused and not control.stopping:
            time.sleep(PAUSE_POLL_S)
            self._take_commands()
            self._check_clock()
        return control.stopping

    def _take_commands(self) -> None:
        control = self._control
        counted = self._posted[0]
        # Set first, so that a signal from here on is seen at the next step boundary.
        self._seen = counted
        while self._signalled:
            problem = control.do(self._signalled.pop(0), self._step, self._epoch)
            if problem:
                self.note(problem, level="warning")
        if counted != self._counted:
            self._counted = counted
            self._mailbox.set_taken(counted)
            control.take(self._mailbox.new_commands(), self._step, self._epoch)
        control.apply_due(self._step, self._epoch)
        if control.needs_attention or self._waiting:
            self._seen = ATTENTION

    def _check_clock(self) -> None:
        """End a training without a supervisor after a while; report the effective values of knobs each second."""
        now = time.monotonic()
        since_last_s, unadopted = self._orphan_watch.poll(now)
        self._left = self._clock_every = boundaries_until(CLOCK_EVERY_S, self._clock_every - self._left, since_last_s)
        if now >= self._effects_read_at + EFFECTS_EVERY_S:
            self._effects_read_at = now
            self.record_moved_effects()
            self._journal.look_at_bound_again()
        if self._card is not None:
            self._card.refresh(self, now)
        if unadopted and self._host is None and not self._control.stopping:
            self.note(
                "This training has had no supervisor for a long time: it saves a checkpoint and ends.", level="warning"
            )
            self.request_stop()

    def _hold_back(self, held: Held) -> None:
        super()._hold_back(held)
        # Values that arrive before the next step boundary are written there.
        self._seen = ATTENTION

    @property
    def attempt(self) -> int:
        """Return the number of this attempt, from 1: how often the training was started."""
        return 1 if self._place is None else number_of(self._place)

    @property
    def directory(self) -> Path:
        """Return the folder for files of this run, which its attempts share; without a supervisor, a temporary one."""
        if self._directory is None:
            if self._place is None:
                self._directory = Path(tempfile.mkdtemp(prefix="steersman-"))
                print(f"steersman: without a supervisor, run.directory is {self._directory}", file=sys.stderr)
            else:
                self._directory = make_private(files_of(self._place))
        return self._directory

    @property
    def resumed(self) -> bool:
        """Whether this attempt resumes from a checkpoint of an earlier one; see `newest_checkpoint`."""
        return self._place is not None and resumed_checkpoint(self._place) is not None

    def newest_checkpoint(self) -> SavedCheckpoint | None:
        """Return the newest checkpoint of `save_checkpoint`, at the start the one to resume from, or None."""
        if self._newest is None and self._place is not None:
            found = resumed_checkpoint(self._place)
            # A script that resumes can be rolled back before it saves its first checkpoint.
            self._newest = replace(found, restored=self._can_be_rolled_back_by) if found is not None else None
        return self._newest

    def save_checkpoint(
        self,
        name: str,
        objects: Mapping[str, Any],
        /,
        *,
        step: int | None = None,
        epoch: int | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> SavedCheckpoint | None:
        """Save objects as one checkpoint: the `state_dict()` of each, or a plain value unchanged.

        Later checkpoints replace those named "last" and "best". All ranks call this, because a state may be spread over
        them; rank 0 writes. If saving fails, returns None and adds a note with the reason; the training continues.
        """
        remarks: Remarks = []
        at = values.as_step(step, self._step, values.argument("save_checkpoint", "step"), remarks)
        of_epoch = values.as_step(epoch, self._epoch, values.argument("save_checkpoint", "epoch"), remarks)
        shown = values.as_name(name, remarks)
        numbers = values.as_numbers({} if metrics is None else metrics, "save_checkpoint", remarks)
        saved = None
        handled = sys.exc_info()[1]
        try:
            states = states_of(objects)
            if self.folder is not None and self.rank == 0:
                self._kept = self._kept or KeptCheckpoints(self, self.folder / CHECKPOINTS)
                saved, size = write_checkpoint(
                    self._kept, states, name=shown, step=at, epoch=of_epoch, metrics=numbers, knobs=self.knobs
                )
            self._can_be_rolled_back_by(dict(objects))
        except Exception as error:  # any exception: from the disk, or the objects' own methods
            problem = f"The checkpoint {shown} at step {at} could not be saved: {innermost(error, handled)}."
            self.note(problem, level="error")
            if self.folder is None:
                print(f"steersman: {problem}", file=sys.stderr)
        self._remark(remarks)
        if saved is not None:
            self._newest = saved
            self.record_checkpoint(
                saved.folder, step=at, epoch=of_epoch, name=shown, size_bytes=size, sha256=saved.sha256,
                reason=as_reason(shown), metrics=numbers,
            )  # fmt: skip
        return saved

    def _can_be_rolled_back_by(self, objects: dict[str, Any]) -> None:
        self._saved_objects = objects
        if self.supervised and "roll_back" not in self._control.handled and can_be_put_back(objects):
            self.on("roll_back", self._put_back)

    def _put_back(self, arguments: dict[str, Json]) -> Done:
        wanted = from_fields(RollBackArguments, arguments)
        try:
            undo = put_back(self._saved_objects, Path(str(arguments["folder"])), wanted, self.agree)
        except Damaged as error:
            raise Refusal(str(error)) from None
        if wanted.skip_batches:
            self.note("No batches are skipped: the script declares no position in its data.", level="warning")
        return Done(undo=undo)

    def checkpoint_of(self, arguments: RollBackArguments) -> FoundCheckpoint:
        """Return a checkpoint that all ranks found valid. Raises `Refusal`."""
        found, problem = None, ""
        self.expect_quiet(READING_MAY_TAKE_S)
        # Earlier points must come before the rollback in the journal, even if their values are still on the GPU.
        self._write_arrived(wait=True)
        try:
            found = self._own_checkpoints.found(self._place or Path(), arguments)
        except Damaged as error:
            problem = str(error)
        if problem := self.agree(problem):
            raise Refusal(problem)
        assert found is not None
        return found

    def continue_from(self, step: int, epoch: int) -> None:
        """Continue counting from the step to which the training was rolled back."""
        if self.rank != 0:
            self._write(RankRolledBackRecord(step=self._step, to_step=step))
        self._own_checkpoints.abandon_after(step)
        self.step = self._last_whole_step = step
        self._epoch = epoch

    def on(self, kind: str, handler: Handler) -> None:
        """Register the handler of "save_checkpoint", "evaluate", "extend" or "roll_back", called between two steps.

        If `handler(arguments)` raises an exception, the command is refused and the training continues. A command
        without a handler is not offered; scripts that save with `save_checkpoint` can be rolled back without one.
        """
        self._control.on(kind, handler)
        self._write(HandlersRecord.of(self._control.handled, step=self._step))

    def record_outcome(self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None) -> None:
        """Record the outcome of a command."""
        to_step, to_epoch = done.goes_on_from or (None, None)
        record = OutcomeRecord.of(
            command.id, command.command, state, step=self._step, old=done.old, new=done.new, effective=done.effective,
            remark=done.remark, ranks=ranks, to_step=to_step, to_epoch=to_epoch,
        )  # fmt: skip
        self._write(record)
        self._mailbox.count_outcome()

    def record_state(self, state: State) -> None:
        """Record that the training waits ("paused") or continues ("running")."""
        self._write(StateRecord(step=self._step, state=state))

    def record_effect(self, command_id: str, effective: object) -> None:
        """Record effective values that differ from the outcome of their command, and knobs whose value has changed."""
        self._write(EffectRecord.of(command_id, effective, step=self._step))
        self.record_moved_effects()

    def _record_surroundings(self, folder: Path) -> None:
        """Record interpreter, packages and source with its uncommitted changes; an error never ends the training."""
        try:
            revision = git_revision(folder)
            patch = uncommitted_changes(folder) if revision and revision["changed"] else ""
            if len(patch.encode(errors="replace")) > LARGEST_PATCH_BYTES:
                patch = ""
                self.note("The uncommitted changes are too large to be recorded: commit them before the next run.")
            self.record_environment(own_environment() | {"git": revision})
        except Exception as error:  # any exception: from the installed packages, or git
            self.note(f"The environment could not be recorded: {values.shown(error)}.", level="warning")
            return
        if patch:
            self._write(PatchRecord(step=self._step, patch=values.clean(patch)))


def boundaries_until(seconds: float, passed: int, took_s: float) -> int:
    """Return how many step boundaries pass in `seconds`, if the last `passed` took `took_s`: 1 to CLOCK_EVERY."""
    if took_s <= 0:
        return CLOCK_EVERY
    return max(1, min(CLOCK_EVERY, int(seconds * max(passed, 1) / took_s)))


def worker_lock_path(folder: Path, rank: int) -> Path:
    """Return the lock that the training process of `rank` holds while it is alive."""
    return folder / f"worker-{rank:04d}.lock"
