"""The ranks of a launch that torchrun or srun has started, each by a `steersman run` of its own.

Rank 0 holds the run. It announces the attempt in a file of a folder that is named by the launch, in the data folder,
which all hosts of the launch share; the other ranks find it there, and need no portal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from steersman.agent.folders import host_name
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.spawn import free_port
from steersman.agent.launch.torchrun import Launch as Ranks
from steersman.agent.launch.torchrun import (
    NoAttempt,
    announce,
    announce_beginning,
    announce_failure,
    join,
    open_node_server,
    start_first,
)
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.launchers.problems import NotStarted
from steersman.agent.remote.packages import APPLICATION, STOP_SIGNAL_VARIABLE
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FAILED, EXIT_FINISHED
from steersman.files.journal_bound import JOURNAL_MIB_VARIABLE
from steersman.files.private import make_private

MEETINGS = "meetings"
MEETING_VARIABLES = ("MASTER_ADDR", "MASTER_PORT")


def meeting(data: Path, ranks: Ranks) -> Path:
    """Return the folder in which the ranks of a launch meet."""
    return make_private(data / MEETINGS) / hashlib.sha256(ranks.key.encode()).hexdigest()[:24]


def join_launch(data: Path, ranks: Ranks) -> int:
    """Train a rank beside rank 0 to its end; return its exit code. Raises `NotStarted`."""
    interrupts = Interrupts(os.environ.get(STOP_SIGNAL_VARIABLE, ""))
    interrupts.install()
    try:
        return join(data, APPLICATION.parent, meeting(data, ranks), ranks, interrupts, os.environ)
    except NoAttempt as error:
        if error.exit_code == EXIT_FINISHED:
            return EXIT_FINISHED
        raise NotStarted(f"rank {ranks.rank}: {error}.", error.exit_code) from error
    except OSError as error:
        raise NotStarted(f"rank {ranks.rank} cannot be started: {error.strerror}.", EXIT_FAILED) from error


def tell_nothing_to_train(data: Path, ranks: Ranks, exit_code: int) -> None:
    """Tell the other ranks that there is nothing to train: they end with `exit_code`."""
    announce_failure(data, meeting(data, ranks), ranks, exit_code)


def tell_of_beginning(data: Path, ranks: Ranks) -> None:
    """Tell the ranks of other hosts that rank 0 prepares the training, which may take long."""
    announce_beginning(data, meeting(data, ranks), ranks)


def start_beside(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, data: Path, ranks: Ranks
) -> tuple[WorkerGroup, NodeServer | None]:
    """Announce an attempt, and start rank 0 of it. Raises `OSError`."""
    if ranks.nodes > 1 and not ranks.address:
        # Slurm names no address of the first node.
        ranks = replace(ranks, address=host_name())
    variables = _meeting_variables(environment, ranks)
    server = open_node_server(folder, ranks)
    told = variables | {JOURNAL_MIB_VARIABLE: environment[JOURNAL_MIB_VARIABLE]}
    announce(data, meeting(data, ranks), ranks, folder, command, told, server)
    group = start_first(command, dict(environment) | variables, folder, ranks, server, tied=False)
    return group, server


def _meeting_variables(environment: Mapping[str, str], ranks: Ranks) -> dict[str, str]:
    """Return where the training processes meet, if the launcher did not say so: Slurm does not."""
    given = {name: environment[name] for name in MEETING_VARIABLES if name in environment}
    here = {"MASTER_ADDR": ranks.address or "127.0.0.1", "MASTER_PORT": str(free_port())}
    return given if len(given) == len(MEETING_VARIABLES) else here | given
