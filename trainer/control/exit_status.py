"""How an attempt ended: from its exit status, if it is known, and the END record of the worker."""

from __future__ import annotations

import signal
from dataclasses import replace

import msgspec

from runs.models import RunState
from runs.protocol.causes import (
    EndedByCommand,
    EndedByReboot,
    EndedByScheduler,
    EndedBySignal,
    EndedUnwatched,
    EndedWithCode,
    Ending,
    Interrupted,
    KilledForMemory,
)
from runs.recording.lifecycle import AttemptEnd
from steersman.agent.machine.out_of_memory import KILLED, blames_killed_child, name_out_of_memory
from steersman.agent.machine.redactor import Redactor
from steersman.messages.ended import Ended, SchedulerReason
from steersman.records.kinds import EndRecord

LONGEST_ERROR = 500
# Ends of a job that nobody has asked for: a training that was killed by one has failed.
LOSING_WORK = ("out_of_time", "node_failed")


def judge(ended: Ended, end_record: EndRecord | None, *, by_command: bool, stopped: bool = False) -> AttemptEnd:
    """Return how an attempt ended, from the observations of its host side.

    `by_command` is whether a command ended the process, `stopped` whether one stopped the training.
    """
    return judge_end(
        ended.code,
        end_record,
        interrupted=ended.interrupted,
        stopped=ended.stopped or stopped,
        ended=by_command,
        last_line=ended.last_line,
        oom_kill=ended.oom_kill,
        scheduler=ended.scheduler,
        rebooted=ended.rebooted,
    )


def judge_end(
    code: int | None,
    end_record: EndRecord | None,
    *,
    interrupted: bool,
    stopped: bool,
    ended: bool = False,
    last_line: str = "",
    oom_kill: bool = False,
    scheduler: SchedulerReason = "",
    rebooted: bool = False,
) -> AttemptEnd:
    """Return how an attempt ended, from the exit status, if it is known, and the fields of the worker's END record.

    `code` is negative for a signal, as in `subprocess`; None for a worker that was not our child. `oom_kill` is whether
    an OOM kill has just happened in the worker's cgroup; `ended` whether a command ended the process. `scheduler` is
    why Slurm ended the job: a training that could save its state, or that somebody wanted to end, is then stopped.
    """
    name = signal_name(-code) if code is not None and code < 0 else ""
    exit_code = code if code is not None and code >= 0 else None
    if interrupted:
        return AttemptEnd.of(RunState.STOPPED, Interrupted(), exit_code, name)
    if ended:
        return AttemptEnd.of(RunState.STOPPED, EndedByCommand(), exit_code, name)
    if end_record is not None and not end_record.is_good:
        is_child = oom_kill and blames_killed_child(end_record.error)
        error = f"{KILLED} {end_record.error}" if is_child else name_out_of_memory(end_record.error)
        return AttemptEnd(RunState.FAILED, exit_code, name, error, end_record.traceback)
    if oom_kill and (name == "SIGKILL" or (code is None and end_record is None)):
        return AttemptEnd.of(RunState.FAILED, KilledForMemory(), None, name)
    if scheduler and (cut := _cut_short(end_record, scheduler, exit_code, name, is_unknown=code is None)) is not None:
        return cut
    if name:
        return AttemptEnd.of(RunState.FAILED, EndedBySignal(signal=name), None, name)
    if exit_code:
        return AttemptEnd.of(RunState.FAILED, EndedWithCode(code=exit_code, last_line=last_line), exit_code)
    if end_record is not None and end_record.outcome:
        return AttemptEnd(RunState(end_record.outcome), exit_code)
    if code is None and end_record is None:
        return AttemptEnd.of(RunState.FAILED, EndedByReboot() if rebooted else EndedUnwatched())
    return AttemptEnd(RunState.STOPPED if stopped else RunState.FINISHED, exit_code)


def _cut_short(
    end_record: EndRecord | None, scheduler: SchedulerReason, exit_code: int | None, name: str, *, is_unknown: bool
) -> AttemptEnd | None:
    """Return how a training ended that Slurm has ended, None if it finished before."""
    is_killed = bool(name or exit_code) or (is_unknown and end_record is None)
    if not scheduler or (not is_killed and end_record is not None and end_record.outcome == "finished"):
        return None
    outcome = RunState.FAILED if is_killed and scheduler in LOSING_WORK else RunState.STOPPED
    return AttemptEnd.of(outcome, EndedByScheduler(why=scheduler), exit_code, name)


def name_rank(end: AttemptEnd, rank: int) -> AttemptEnd:
    """Add the rank whose end is reported as the end of the attempt."""
    if end.outcome != RunState.FAILED or isinstance(end.cause, EndedByScheduler):
        return end
    if isinstance(end.cause, Ending):
        return AttemptEnd.of(end.outcome, msgspec.structs.replace(end.cause, rank=rank), end.exit_code, end.signal)
    return replace(end, error=f"Rank {rank}: {end.error}")


def shortened(end: AttemptEnd) -> AttemptEnd:
    """Return the end in a form that can be stored: without its cause if the text of the cause is too long."""
    error = end.error[:LONGEST_ERROR]
    return replace(end, error=error, cause=end.cause if error == end.error else None)


def redacted(end: AttemptEnd, redactor: Redactor) -> AttemptEnd:
    """Return the end in a form that can be stored: short and without secrets. A cause with a secret is left out."""
    error = redactor.text(end.error)[:LONGEST_ERROR]
    cause = end.cause if error == end.error else None
    return replace(end, error=error, traceback=redactor.text(end.traceback), cause=cause)


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have no name and are numbered."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
