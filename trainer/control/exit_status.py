"""How an attempt ended: from its exit status, if it is known, and the END record of the worker."""

from __future__ import annotations

import signal
from dataclasses import replace

from runs.models import RunState
from runs.recording.lifecycle import AttemptEnd
from steersman.agent.machine.out_of_memory import KILLED, blames_killed_child, name_out_of_memory
from steersman.marked_text import gettext_noop
from steersman.records.kinds import EndRecord

# Who ended it stands in the command log: a share link shows this text, and no names.
ENDED = gettext_noop("Its process was ended by a command, since it did not look at run.stopping.")


def judge_end(
    code: int | None,
    end_record: EndRecord | None,
    *,
    interrupted: bool,
    stopped: bool,
    ended: bool = False,
    last_line: str = "",
    oom_kill: bool = False,
) -> AttemptEnd:
    """Return how an attempt ended from the exit status, if it is known, and the fields of the worker's END record.

    `code` is negative for a signal, as in `subprocess`; None for a worker that was not our child. `oom_kill`
    is whether the kernel killed in the worker's control group just now, for want of memory; `ended` whether a command
    had its process ended.
    """
    name = signal_name(-code) if code is not None and code < 0 else ""
    exit_code = code if code is not None and code >= 0 else None
    if interrupted:
        error = "Ended at once by a second interrupt; no checkpoint was saved."
        return AttemptEnd(RunState.STOPPED, exit_code, name, error)
    if ended:
        return AttemptEnd(RunState.STOPPED, exit_code, name, ENDED)
    if end_record is not None and not end_record.is_good:
        is_child = oom_kill and blames_killed_child(end_record.error)
        error = f"{KILLED} {end_record.error}" if is_child else name_out_of_memory(end_record.error)
        return AttemptEnd(RunState.FAILED, exit_code, name, error, end_record.traceback)
    if oom_kill and (name == "SIGKILL" or (code is None and end_record is None)):
        return AttemptEnd(RunState.FAILED, None, name, KILLED)
    if name:
        return AttemptEnd(RunState.FAILED, None, name, f"The training process was ended by {name}.")
    if exit_code:
        error = f"The training process ended with exit code {exit_code}."
        if last_line:
            error += f" Its last line was: {last_line}"
        return AttemptEnd(RunState.FAILED, exit_code, "", error)
    if end_record is not None and end_record.outcome:
        return AttemptEnd(RunState(end_record.outcome), exit_code)
    if code is None and end_record is None:
        error = "The training process ended without a word, unwatched; its exit status is not known."
        return AttemptEnd(RunState.FAILED, None, "", error)
    return AttemptEnd(RunState.STOPPED if stopped else RunState.FINISHED, exit_code)


def name_rank(end: AttemptEnd, rank: int) -> AttemptEnd:
    """Say of which of several ranks it is told how the attempt ended."""
    if end.outcome != RunState.FAILED:
        return end
    process = "The training process "
    if end.error.startswith(process):
        return replace(end, error=f"Rank {rank} {end.error.removeprefix(process)}")
    return replace(end, error=f"Rank {rank}: {end.error}")


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have none and go by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
