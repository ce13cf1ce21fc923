"""The states of Slurm jobs, as squeue and sacct print them."""

from __future__ import annotations

from collections.abc import Collection

from steersman.agent.on_request.beginning import NotBegun, asked
from steersman.agent.on_request.offered import SlurmPrograms

PENDING = "PENDING"


def states_of_jobs(programs: SlurmPrograms, jobs: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return state and reason of each job of ours that waits or runs; a job that has ended is left out.

    Raises `NotBegun` if Slurm does not answer.
    """
    if not jobs:
        return {}
    printed = asked([programs.squeue, "--noheader", "--me", "--format=%i|%T|%r"])
    found = {}
    for line in printed.splitlines():
        job, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if job in jobs:
            found[job] = (state, reason)
    return found


def final_state(programs: SlurmPrograms, job: str) -> str:
    """Return how a job has ended, such as TIMEOUT or CANCELLED; "" if the accounting of Slurm has no record of it."""
    try:
        printed = asked(
            [programs.sacct, "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State"]
        )
    except NotBegun:
        return ""
    return printed.split()[0] if printed.split() else ""


def words(state: str, reason: str, job: str) -> str:
    """Return a note such as "Slurm job 42: PENDING (Resources)"."""
    return f"Slurm job {job}: {state}" + (f" ({reason})" if reason not in ("", "None") else "")


def cancel(programs: SlurmPrograms, job: str) -> None:
    """Cancel a job. Raises `NotBegun` if Slurm does not answer."""
    asked([programs.scancel, job])
