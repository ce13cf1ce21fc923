"""Why Slurm has ended a job, from `scontrol show job`. It is called again only if it did not answer."""

from __future__ import annotations

import re
import subprocess

from steersman.messages.ended import SchedulerReason

ANSWER_TIMEOUT_S = 5.0
FIELD = re.compile(r"(?:^|\s)(JobState|Reason|Restarts|PreemptTime)=(\S*)")
OF_STATE: dict[str, SchedulerReason] = {
    "TIMEOUT": "out_of_time",
    "DEADLINE": "out_of_time",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
    "NODE_FAIL": "node_failed",
    "BOOT_FAIL": "node_failed",
}


class EndOfJob:
    """The end of the job with number `job`, "" if there is none, that Slurm has started `turn` times before."""

    def __init__(self, job: str, turn: str) -> None:
        self._job = job
        self._turn = int(turn) if turn.isdecimal() else 0
        self._known: SchedulerReason = ""

    def why(self) -> SchedulerReason:
        """Return why Slurm ends this start of the job, "" if it does not, or does not answer."""
        if self._job and not self._known:
            self._known = reason_in(_asked(self._job), self._turn)
        return self._known

    @property
    def was_preempted(self) -> bool:
        """Return whether the job was found to be preempted."""
        return self._known == "preempted"

    def is_in_grace_time(self) -> bool:
        """Return whether the job is preempted, and its processes may still run."""
        return reason_in(_asked(self._job), self._turn) == "preempted"

    def why_again(self) -> SchedulerReason:
        """Return why Slurm ended the start before this one: the job was requeued, and nothing else is kept."""
        return "requeued" if self._job and self._turn else ""


def reason_in(text: str, turn: int) -> SchedulerReason:
    """Return why a job ends, from the line of `scontrol show job --oneliner`; it was started `turn` times before."""
    found = dict(FIELD.findall(text))
    state = found.get("JobState", "")
    # Slurm signals a job at the beginning of its grace time, when it is still running.
    if state in ("SIGNALING", "RUNNING") and found.get("PreemptTime", "None") not in ("None", ""):
        return "preempted"
    if found.get("Reason") == "TimeLimit":
        return "out_of_time"
    if found.get("Restarts", "").isdecimal() and int(found["Restarts"]) > turn:
        return "requeued"
    # A job that completes by itself signals nobody.
    return "cancelled" if state == "COMPLETING" else OF_STATE.get(state, "")


def _asked(job: str) -> str:
    command = ["scontrol", "--oneliner", "show", "job", job]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""
