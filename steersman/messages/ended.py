"""The end of the processes of an attempt, as the host side reports it, and what the record side concludes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from steersman.records.kinds import AnyOutcome

# Why a batch system ended a training; "" if it did not, or does not say so.
SchedulerReason = Literal["", "preempted", "requeued", "out_of_time", "cancelled", "node_failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """The end that a training process itself reported, redacted: see `steersman.records.kinds.EndRecord`."""

    outcome: AnyOutcome
    error: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The end of the rank that is the root cause: `code` as in `subprocess`, None if it is unknown.

    `codes` has the exit status of every rank, in order. `last_words` is the END record of the root cause, None if it
    died without one. `stopped`: a signal requested a stop. `interrupted`: a second one ended the training immediately.
    `oom_kill`: the kernel killed it because memory ran out. `last_line` is the last line that the rank printed,
    redacted. `may_restart`: the host can restart the training if it failed. `scheduler` is why Slurm ended it.
    `rebooted`: the host was rebooted after the training had started.
    """

    rank: int
    code: int | None
    codes: list[int | None] = field(default_factory=list)
    last_words: LastWords | None = None
    stopped: bool = False
    interrupted: bool = False
    oom_kill: bool = False
    last_line: str = ""
    may_restart: bool = True
    scheduler: SchedulerReason = ""
    rebooted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded:
    """The answer to `Ended`: the state in which the attempt ended, and the reason, "" if none is needed.

    `restart_in_s` is the number of seconds after which the host restarts it, None if it does not; `used` and `allowed`
    count its restarts. `exit_code` is that of the training, None if it is unknown.
    """

    state: str
    reason: str = ""
    exit_code: int | None = None
    restart_in_s: float | None = None
    used: int = 0
    allowed: int = 0


@dataclass(frozen=True, slots=True)
class Fenced:
    """This host side no longer records the attempt.

    `overtaken`: another attempt holds the run, so the training must end, and its remaining records are stored as the
    history of its attempt. Otherwise another host side follows the same training, which continues.
    """

    reason: str
    overtaken: bool
