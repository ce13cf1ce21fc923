"""Trainings with several ranks: started here, or by torchrun as one `train` for each rank. No Django, no torch.

Under torchrun the `train` of rank 0 holds the run and follows all workers; those of the other ranks learn from a small
file which attempt it is, start their own worker, hand on signals and write down how it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from coxswain.run import RANK_VARIABLE, RANKS_VARIABLE
from trainer.folders import WorkerProcess, make_private, record_exit, run_folder, write_whole
from trainer.interrupts import Interrupts
from trainer.start import free_port, rank_environment, start_worker, worker_environment
from trainer.team import KILL_AFTER_S, Member, Team, has_ended_well, meant_code, signal_group

LAUNCH_FILE = "launch.json"
LOOK_INTERVAL_S = 0.02
# Rank 0 verifies checkpoints of any size before it tells the others.
JOIN_TIMEOUT_S = 1800.0
# The training process of rank 0 stops all; who asks it is the `train` of rank 0, unless it is dead.
HAND_ON_AFTER_S = 2.0
LEADER_INTERVAL_S = 0.25
EXIT_STOPPED = 1
MOST_RANKS = 1024


class LaunchError(Exception):
    """A launch that cannot work; the text says what to do."""


class NoAttempt(Exception):
    """The attempt to join was not opened: `exit_code` is that of the process that holds the run, or would have."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of all ranks by torchrun. `key` is the same for all ranks of it and for no other."""

    key: str
    rank: int
    ranks: int


def number_of_ranks(text: str) -> int:
    """Read a number of processes from the command line."""
    number = int(text)
    if not 1 <= number <= MOST_RANKS:
        raise argparse.ArgumentTypeError(f"give 1 to {MOST_RANKS} processes")
    return number


def torchrun_launch(environment: Mapping[str, str]) -> Launch | None:
    """Return torchrun's launch that this process belongs to, None where it belongs to none, or alone.

    Raises `LaunchError` for one over several hosts.
    """
    run_id, ranks = environment.get("TORCHELASTIC_RUN_ID"), int(environment.get("WORLD_SIZE", "1"))
    if run_id is None or ranks == 1:
        return None
    if int(environment.get("LOCAL_WORLD_SIZE", ranks)) != ranks:
        raise LaunchError("torchrun: all ranks of a run must be on one host: start it with --nnodes 1.")
    # Its default id is the same for every launch, so its process tells them apart.
    parent = psutil.Process(os.getppid())
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"{run_id[:40]}/{restart}/{parent.pid}/{parent.create_time():.2f}"
    return Launch(key, int(environment["RANK"]), ranks)


def start_team(command: Sequence[str], environment: Mapping[str, str], folder: Path, ranks: int) -> Team:
    """Start the workers of all ranks on this host. Raises `OSError` where one cannot be started; then none is left."""
    port = free_port() if ranks > 1 else 0
    members: list[Member] = []
    try:
        for rank in range(ranks):
            of_rank = environment if ranks == 1 else rank_environment(environment, rank, ranks, port)
            process = start_worker(command, of_rank, folder, rank)
            worker = WorkerProcess.recorded(folder, rank) or WorkerProcess(process.pid, 0.0)
            members.append(Member(rank, worker, process))
    except OSError:
        Team(folder, members).kill(signal.SIGKILL)
        raise
    return Team(folder, members)


def start_first(command: Sequence[str], environment: Mapping[str, str], folder: Path, launch: Launch) -> Team:
    """Start the worker of rank 0 under torchrun, and wait for the others', which are started beside it."""
    process = start_worker(command, _joined(environment, launch), folder, tied=True)
    worker = WorkerProcess.recorded(folder) or WorkerProcess(process.pid, 0.0)
    others = [Member(rank, None) for rank in range(1, launch.ranks)]
    return Team(folder, [Member(0, worker, process), *others], parent=os.getppid())


def announce(
    data: Path, run_id: int, launch: Launch, folder: Path, command: Sequence[str], variables: Mapping[str, str]
) -> None:
    """Tell the other ranks of a launch where to train and what, and what their workers' environment needs."""
    told = {"folder": str(folder), "command": list(command), "variables": dict(variables)}
    write_whole(_launch_path(data, run_id), json.dumps({"key": launch.key} | told))


def announce_failure(data: Path, run_id: int, launch: Launch, exit_code: int) -> None:
    """Tell the other ranks of a launch that there is nothing to train."""
    write_whole(_launch_path(data, run_id), json.dumps({"key": launch.key, "exit_code": exit_code}))


def join(
    data: Path, application: Path, run_id: int, launch: Launch, interrupts: Interrupts, environment: Mapping[str, str]
) -> int:
    """Train a rank beside rank 0 to its end; return the exit code of `train`. Raises `NoAttempt`."""
    parent = os.getppid()
    told = _wait_for_attempt(data, run_id, launch, interrupts, parent)
    folder = Path(told["folder"])
    own = worker_environment(folder, data, application, environment) | told["variables"]
    process = start_worker(told["command"], _joined(own, launch), folder, launch.rank, tied=True)
    saves = 0
    killed = False
    asked_at: float | None = None
    told_at: float | None = None
    looked_at = 0.0
    abandoned = False
    while process.poll() is None:
        time.sleep(LOOK_INTERVAL_S)
        now = time.monotonic()
        if now - looked_at > LEADER_INTERVAL_S:
            looked_at = now
            abandoned = os.getppid() != parent or leader_has_failed(folder)
        if interrupts.saves > saves:
            saves = interrupts.saves
            os.kill(process.pid, signal.SIGUSR1)
        if interrupts.stops and asked_at is None:
            asked_at = now
        if told_at is None and (abandoned or (asked_at is not None and now - asked_at > HAND_ON_AFTER_S)):
            told_at = now
            signal_group(process.pid, signal.SIGTERM)
        # Who saves a checkpoint may take longer, unless nobody is there to save it with.
        late = abandoned and told_at is not None and now - told_at > KILL_AFTER_S
        if not killed and (late or interrupts.stops >= 2):
            killed = True
            signal_group(process.pid, signal.SIGKILL)
    code = meant_code(folder, launch.rank, int(process.returncode))
    if code:
        # What it started, DataLoader workers among it, has lost its purpose.
        signal_group(process.pid, signal.SIGKILL)
    record_exit(folder, launch.rank, code)
    return code if code >= 0 else 1


def leader_has_failed(folder: Path) -> bool:
    """Tell whether the training process of rank 0 is gone without having said that all went well."""
    leader = WorkerProcess.recorded(folder)
    return leader is not None and not leader.is_alive() and not has_ended_well(folder, 0)


def _wait_for_attempt(data: Path, run_id: int, launch: Launch, interrupts: Interrupts, parent: int) -> dict[str, Any]:
    path = _launch_path(data, run_id)
    until = time.monotonic() + JOIN_TIMEOUT_S
    while time.monotonic() < until:
        try:
            told = json.loads(path.read_text())
        except (OSError, ValueError):
            told = {}
        if told.get("key") == launch.key:
            if "folder" in told:
                return dict(told)
            raise NoAttempt("rank 0 says why", int(told["exit_code"]))
        if interrupts.stops or os.getppid() != parent:
            raise NoAttempt("ended before the training began", EXIT_STOPPED)
        time.sleep(LOOK_INTERVAL_S)
    raise NoAttempt(f"rank 0 opened no attempt within {JOIN_TIMEOUT_S:.0f} s", EXIT_STOPPED)


def _launch_path(data: Path, run_id: int) -> Path:
    return make_private(run_folder(data, run_id)) / LAUNCH_FILE


def _joined(environment: Mapping[str, str], launch: Launch) -> dict[str, str]:
    """Return the environment of a worker that torchrun has given everything but our own variables."""
    return dict(environment) | {RANK_VARIABLE: str(launch.rank), RANKS_VARIABLE: str(launch.ranks)}
