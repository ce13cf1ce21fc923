"""Messages to a training: commands in its mailbox, and the decisions that all ranks apply at one step boundary.

A command has its values in `arguments`. The arguments of commands that every training supports have a class here; a
handler of a script (`run.on`) gets the object unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from steersman.records.typed_json import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedCommand:
    """A command in a mailbox. `id` is None if a signal requested it: no row waits for its outcome."""

    id: str | None
    command: str
    arguments: dict[str, Json] = field(default_factory=dict)
    author: str = ""
    # How many steps and epochs must be done before it takes effect, and how often this attempt must have been rolled
    # back, exactly.
    at_step: int | None = None
    at_epoch: int | None = None
    at_roll_backs: int | None = None
    # The condition at that moment; otherwise it is refused.
    expected_state: str = ""
    expected_value: Json = None
    # By `time.monotonic` of the host of both supervisor and first rank, because the wall clock may be hours wrong.
    expires_monotonic_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The commands that all ranks apply at step boundary number `at`; `step` and `epoch` are the leader's there."""

    at: int
    step: int
    epoch: int
    commands: list[PostedCommand]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopArguments:
    checkpoint: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SetKnobArguments:
    knob: str
    value: Json = None
    factor: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelArguments:
    """`command` is the id of the command to cancel."""

    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveCheckpointArguments:
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendArguments:
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBackArguments:
    """`path` is that of the checkpoint in the folder of the run. `knob` is changed afterwards, "" means none.

    `skip_batches` are batches that are not trained on again, where the training has a position in its data: those after
    the checkpoint, or those that it had trained on at step `skip_from` and after it.
    If the command waits for a step or an epoch, `wanted` is the step or the name of the checkpoint, "newest" or "best":
    the training chooses among those that it has saved until then. If it has none, the one at `path` is taken, "" if
    there was none when the command was delivered.
    """

    checkpoint: str
    path: str
    sha256: str
    step: int
    epoch: int
    has_manifest: bool
    keep_knobs: bool = False
    knob: str = ""
    value: Json = None
    factor: float | None = None
    group: str = ""
    skip_batches: int = 0
    wanted: str = ""
    skip_from: int | None = None
