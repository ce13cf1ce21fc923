"""The ledger of a run: what shaped its curve, in the order of effect, each at its place on the line of training.

A place is a step, the number of rollbacks before it and, if an epoch ended at this step before it, that epoch: a step
alone is reached several times by a run that is rolled back, and twice at the end of an epoch.

What an attempt did after the checkpoint from which a later one resumed is not part of the curve, and left out. The
values that commands had given to knobs remain in effect, as they do for the attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from runs.models import ORIGIN_ATTEMPT, Attempt, Checkpoint, Command, CommandState, Run, StoredEvent
from runs.protocol.commands import Evaluate, Extend, Note, RollBack, SaveCheckpoint, SetKnob
from runs.protocol.events import CheckpointSaved, CommandChanged, EpochDone, RolledBack
from runs.replaying.knob_values import values_after
from steersman.files.changed_knobs import ChangedKnobs

# Commands that shape the curve or are attached to it. A pause changes nothing, and the new run has its own end.
REPLAYED = (SetKnob.kind, RollBack.kind, Extend.kind, Evaluate.kind, SaveCheckpoint.kind, Note.kind)
OF_KNOBS = (SetKnob.kind, RollBack.kind)
KINDS = (CommandChanged.kind, CheckpointSaved.kind, EpochDone.kind, RolledBack.kind)


@dataclass(frozen=True, slots=True)
class Place:
    """A step boundary of a run: `epoch` is None if no epoch has ended at this step before it."""

    step: int
    epoch: int | None = None
    roll_backs: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """A command that took effect. A rollback went to the checkpoint `target`, None for the one of the branch."""

    command: Command
    target: Saved | None = None


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint that the run saved; its row may be gone."""

    id: int
    step: int
    name: str
    reason: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The value that a knob of one group ("" for all) has kept when a later attempt resumed from an earlier step."""

    attempt: int
    knob: str
    group: str
    value: bool | int | float | str


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened at a place of the run."""

    place: Place
    what: Applied | Saved | Kept


@dataclass(frozen=True, slots=True)
class Ledger:
    """All that shaped a run, in the order of effect.

    `unknown_origins` are the attempts, with their first steps, that resumed from a checkpoint of another run.
    """

    entries: list[Entry]
    unknown_origins: list[tuple[int, int]]

    @property
    def commands(self) -> list[Command]:
        return [each.what.command for each in self.entries if isinstance(each.what, Applied)]

    @property
    def has_roll_backs(self) -> bool:
        return any(command.kind == RollBack.kind for command in self.commands)

    def saved_as(self, sha256: str) -> Entry | None:
        """Return where the checkpoint with this hash was saved, None if that is not part of the curve."""
        found = (each for each in self.entries if isinstance(each.what, Saved) and each.what.sha256 == sha256)
        return next(found, None)


def origins(runs: Iterable[int]) -> dict[int, str]:
    """Return the hash of the checkpoint at which each branch began, by the id of its run.

    They are those of the copies that the branches have: the source may have removed its own.
    """
    copies = Checkpoint.objects.filter(run__in=runs, attempt=ORIGIN_ATTEMPT)
    return dict(copies.values_list("run_id", "sha256"))


def ledger_of(run: Run) -> Ledger:
    """Return the ledger of a run, read from its events."""
    reader = _Reader(run)
    for frame in StoredEvent.objects.filter(run=run, kind__in=KINDS).order_by("seq").values_list("frame", flat=True):
        reader.take(msgspec.json.decode(frame))
    return reader.close()


@dataclass
class _Reader:
    """Follows the events of a run; what a later attempt left out is taken back."""

    run: Run
    entries: list[Entry] = field(default_factory=list)
    # The checkpoints on the current line, oldest first.
    line: list[Saved] = field(default_factory=list)
    unknown_origins: list[tuple[int, int]] = field(default_factory=list)
    attempt: int = 0
    # Step and number of the last epoch that ended since the training began or went back.
    last_epoch: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self._origin = self.run.checkpoints.filter(attempt=ORIGIN_ATTEMPT).first()
        self._attempts = {each.number: each for each in Attempt.objects.filter(run=self.run)}
        applied = Command.objects.filter(run=self.run, kind__in=REPLAYED, state=CommandState.APPLIED)
        self._commands = {str(command.pk): command for command in applied}

    def take(self, event: dict[str, Any]) -> None:
        """Follow one event."""
        attempt = event.get("attempt")
        if attempt is not None and attempt > self.attempt:
            self._begin_attempts(attempt)
        if attempt is not None and attempt < self.attempt:
            return  # sent by an attempt that no longer held the run
        match event["kind"]:
            case CommandChanged.kind:
                # Once: the value in effect may be corrected by a later event.
                command = self._commands.pop(event["id"], None) if event["state"] == CommandState.APPLIED else None
                if command is not None:
                    self._apply(command)
            case CheckpointSaved.kind:
                saved = Saved(event["id"], event["step"], event["name"], event["reason"], event["sha256"])
                self.line.append(saved)
                self._add(saved.step, saved)
            case EpochDone.kind:
                self.last_epoch = (event["step"], event["epoch"])
            case RolledBack.kind:
                self.line = [each for each in self.line if each.step <= event["step"]]
                self.last_epoch = None

    def close(self) -> Ledger:
        """Return what was found."""
        self._begin_attempts(max(self._attempts, default=0))
        return Ledger(list(_with_roll_backs(self.entries)), self.unknown_origins)

    def _add(self, step: int, what: Applied | Saved | Kept) -> None:
        ended = self.last_epoch
        self.entries.append(Entry(Place(step, ended[1] if ended is not None and ended[0] == step else None), what))

    def _apply(self, command: Command) -> None:
        target = self._target(command) if command.kind == RollBack.kind else None
        self._add(command.step or 0, Applied(command, target))

    def _target(self, command: Command) -> Saved | None:
        """Return the checkpoint to which a rollback went, None if it is the one at which the branch began."""
        new = command.new_value if isinstance(command.new_value, dict) else {}
        there = [each for each in self.line if each.step == new.get("step")]
        wanted = str(command.arguments.get("checkpoint", ""))
        of_id = [each for each in there if str(each.id) == wanted]
        of_name = [each for each in there if each.name == wanted]
        found = of_id or of_name or there
        return found[-1] if found else None

    def _begin_attempts(self, number: int) -> None:
        for each in range(self.attempt + 1, number + 1):
            self.attempt = each
            if each in self._attempts and each > 1:
                self._resume(self._attempts[each])

    def _resume(self, attempt: Attempt) -> None:
        """Take back what was done after the checkpoint from which an attempt resumed."""
        self.last_epoch = None
        if attempt.resumed_step is None:
            self.entries, self.line = _moved_extends(self.entries, Place(0)), []
            return
        is_at_origin = self._origin is not None and attempt.resumed_from_id == self._origin.pk
        saved = None if is_at_origin else self._resumed_from(attempt)
        if saved is None and not is_at_origin:
            self.unknown_origins.append((attempt.number, attempt.resumed_step))
        at = next((index for index, each in enumerate(self.entries) if each.what == saved), -1)
        kept, dropped = self.entries[: at + 1], self.entries[at + 1 :]
        is_newest = not self.line or saved is None or self.line[-1] == saved
        self.entries = kept
        on_line = (each.what for each in kept if isinstance(each.what, Saved))
        self.line = [each for each in on_line if each in self.line or each == saved]
        place = kept[-1].place if kept else Place(attempt.resumed_step)
        self.entries += _moved_extends(dropped, place)
        # Values of a checkpoint that was chosen by its id are those that it has.
        if is_newest or self.run.recipe_id is None:
            self.entries += [Entry(place, value) for value in _kept_values(kept, dropped, attempt.number)]

    def _resumed_from(self, attempt: Attempt) -> Saved | None:
        saved = [each.what for each in self.entries if isinstance(each.what, Saved)]
        of_id = [each for each in saved if each.id == attempt.resumed_from_id]
        on_line = [each for each in saved if each.step == attempt.resumed_step and each in self.line]
        of_step = [each for each in saved if each.step == attempt.resumed_step]
        found = of_id or on_line or of_step
        return found[-1] if found else None


def _moved_extends(dropped: list[Entry], place: Place) -> list[Entry]:
    """Return the extensions among entries, at another place: every later attempt trains more epochs too."""
    moved = (each.what for each in dropped)
    return [Entry(place, what) for what in moved if isinstance(what, Applied) and what.command.kind == Extend.kind]


def _kept_values(kept: list[Entry], dropped: list[Entry], attempt: int) -> Iterator[Kept]:
    before = _values(kept, {})
    for knob, by_group in _values(dropped, before).items():
        for group, value in by_group.items():
            if before.get(knob, {}).get(group) != value:
                yield Kept(attempt, knob, group, value)


def _values(entries: list[Entry], before: ChangedKnobs) -> ChangedKnobs:
    values = before
    for each in entries:
        match each.what:
            case Applied(command) if command.kind in OF_KNOBS:
                values = values_after([command], values)
            case Kept(knob=knob, group=group, value=value):
                values = values | {knob: ({} if group == "" else values.get(knob, {})) | {group: value}}
    return values


def _with_roll_backs(entries: list[Entry]) -> Iterator[Entry]:
    """Yield the entries, each with the number of rollbacks before it."""
    roll_backs = 0
    for entry in entries:
        yield replace(entry, place=replace(entry.place, roll_backs=roll_backs))
        roll_backs += isinstance(entry.what, Applied) and entry.what.command.kind == RollBack.kind
