"""What started `steersman run`, by its environment variables: torchrun, Slurm, both, or a person.

Slurm runs a job again after it was preempted or requeued (SLURM_RESTART_COUNT, sbatch(1)), and torchrun starts its
processes again after one of them has failed: both continue the same run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from steersman.agent.launch.torchrun import Launch as Ranks
from steersman.agent.launch.torchrun import LaunchError, torchrun_launch

TORCHRUN = re.compile(r"(^|/)torchrun$|^torch\.distributed\.run$")
HOW_TO_PLACE = "give srun --distribution=block, so that the tasks of each node have successive numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How a launcher has started this process; a person did if `job` is "".

    `job` is the same whenever the launcher starts it again. `turn` counts how often Slurm has started the job, `agent`
    is the process of torchrun, and `agent_turn` counts how often that has started its processes. `ranks` is None if
    this process has no peers. `launcher` is the program to name, `slurm_job` the number of the job, "" without Slurm.
    """

    job: str = ""
    turn: str = ""
    agent: str = ""
    agent_turn: str = ""
    ranks: Ranks | None = None
    launcher: str = ""
    slurm_job: str = ""

    @property
    def identity(self) -> str:
        """Return what is different whenever the launcher starts it again."""
        return f"{self.turn}/{self.agent}/{self.agent_turn}" if self.job else ""

    def continues(self, turn: str, agent: str) -> bool:
        """Return whether it continues what was started in `turn` by `agent`; otherwise it begins something else."""
        return turn != self.turn or (self.agent != "" and agent == self.agent)

    def key(self, words: Sequence[str]) -> str:
        """Return a name for what a job trains with a command of `words`: a job may train several runs."""
        text = json.dumps([self.job, *words])
        name = f"slurm-{self.slurm_job}" if self.slurm_job else "torchrun"
        return f"{name[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def launcher_start(environment: Mapping[str, str]) -> Start:
    """Return how this process was started. Raises `LaunchError` if the variables of a launcher are incomplete."""
    ranks = torchrun_launch(environment)
    agent = _agent() if ranks is not None else ""
    again = environment.get("TORCHELASTIC_RESTART_COUNT", "0") if ranks is not None else ""
    number = environment.get("SLURM_JOB_ID", "")
    if not number:
        job = f"torchrun {agent}" if ranks is not None else ""
        return Start(job=job, turn="0", agent=agent, agent_turn=again, ranks=ranks, launcher="torchrun")
    if ranks is None:
        ranks = _step(environment)
    return Start(
        job=f"{environment.get('SLURM_CLUSTER_NAME', '')} {number}",
        turn=environment.get("SLURM_RESTART_COUNT", "0"),
        agent=agent,
        agent_turn=again,
        ranks=ranks,
        launcher="torchrun" if agent else "srun",
        slurm_job=number,
    )


def as_launched(started: Sequence[str], start: Start) -> list[str]:
    """Return the command that a person entered, with that of the launcher in front."""
    if start.ranks is None:
        return list(started)
    if not start.agent:
        return ["srun", f"--ntasks={start.ranks.ranks}", *started]
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        words = []
    place = next((at for at, word in enumerate(words) if TORCHRUN.search(word)), None)
    # Its command line ends with that of this process, as a person entered it.
    return list(started) if place is None else ["torchrun", *words[place + 1 :]]


def _agent() -> str:
    """Return the identity of the process that has started this one."""
    parent = psutil.Process(os.getppid())
    return f"{parent.pid}-{parent.create_time():.2f}"


def _step(environment: Mapping[str, str]) -> Ranks | None:
    """Return the tasks of the job step of this process, None if it is the only one, or in a batch script."""
    count = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if count == "1" or "SLURM_STEP_ID" not in environment:
        return None
    try:
        ranks, rank = int(count), int(environment["SLURM_PROCID"])
        here = [int(each) for each in environment["SLURM_GTIDS"].split(",")]
        node, nodes = int(environment["SLURM_NODEID"]), int(environment["SLURM_STEP_NUM_NODES"])
    except (KeyError, ValueError) as error:
        raise LaunchError(
            f"srun: the environment variables of this process do not identify a task ({error})."
        ) from error
    first, last = min(here), max(here)
    if len(here) != last - first + 1:
        raise LaunchError(f"srun: {HOW_TO_PLACE}.")
    # The port of srun differs between steps of the same number, if the numbers of jobs are used again.
    names = ("SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SLURM_STEP_LAUNCHER_PORT")
    key = "/".join(environment.get(name, "") for name in names)
    return Ranks(key, rank, ranks, nodes, node, first, last)
