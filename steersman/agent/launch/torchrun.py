"""Trainings with several ranks, started here, or by torchrun as one `train` per rank. No Django, no torch.

Under torchrun the `train` of rank 0 holds the run and follows all workers. The `train`s of the other ranks find the
attempt in a small file, the announcement, start their own worker, forward signals and record how it ended. If the ranks
are on several nodes, that file is on a file system that all of them share, and the `train` of each other node's first
rank is connected to the first node (`steersman.agent.launch.node_server`, `steersman.agent.launch.node_client`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import secrets
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from steersman.agent.folders import WorkerProcess, record_exit, run_folder
from steersman.agent.launch import deadlines
from steersman.agent.launch.node_client import NODE_CLIENT_FILE, NodeClient, is_supervised, node_folder
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.spawn import free_port, rank_environment, start_worker, worker_environment
from steersman.agent.launch.worker_group import (
    Worker,
    WorkerGroup,
    catches,
    has_ended_well,
    meant_code,
    signal_group,
)
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_FAILED
from steersman.files.private import make_private
from steersman.run import NODE_VARIABLE, RANK_VARIABLE, RANKS_VARIABLE

logger = logging.getLogger(__name__)

LAUNCH_FILE = "launch.json"
LAUNCH_POLL_INTERVAL_S = 0.02
LEADER_INTERVAL_S = 0.25
RETRY_INTERVAL_S = 0.2
NOT_SHARED = (
    "this host finds no launch file of rank 0 in STEERSMAN_DATA: "
    "set it to a folder on a file system that all hosts share"
)
MOST_RANKS = 1024


class LaunchError(Exception):
    """A launch that cannot work. The text says why, and what to do."""


class NoAttempt(Exception):
    """The attempt to join was not opened: `exit_code` is that of the process that holds the run, or would have."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of all ranks by torchrun. `key` is the same for all its ranks and, on one node, for no other launch.

    With several `nodes`, this is number `node`, with the ranks `first` to `last`, and the first node has `address`.
    """

    key: str
    rank: int
    ranks: int
    nodes: int = 1
    node: int = 0
    first: int = 0
    last: int = 0
    address: str = ""

    @property
    def own(self) -> range:
        """Return the ranks of this node."""
        return range(self.first, self.last + 1)


def number_of_ranks(text: str) -> int:
    """Parse a number of processes from the command line."""
    number = int(text)
    if not 1 <= number <= MOST_RANKS:
        raise argparse.ArgumentTypeError(f"give 1 to {MOST_RANKS} processes")
    return number


def torchrun_launch(environment: Mapping[str, str]) -> Launch | None:
    """Return torchrun's launch of this process, None if torchrun did not start it, or started only this rank.

    Raises `LaunchError` if torchrun's variables are incomplete.
    """
    run_id, ranks = environment.get("TORCHELASTIC_RUN_ID"), int(environment.get("WORLD_SIZE", "1"))
    if run_id is None or ranks == 1:
        return None
    rank, local = int(environment["RANK"]), int(environment.get("LOCAL_WORLD_SIZE", ranks))
    if local != ranks:
        return _launch_of_nodes(run_id, rank, ranks, local, environment)
    # torchrun's default id is the same for every launch, so the key includes its process.
    parent = psutil.Process(os.getppid())
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"{run_id[:40]}/{restart}/{parent.pid}/{parent.create_time():.2f}"
    return Launch(key, rank, ranks, first=0, last=ranks - 1)


def _launch_of_nodes(run_id: str, rank: int, ranks: int, local: int, environment: Mapping[str, str]) -> Launch:
    try:
        address, port = environment["MASTER_ADDR"], environment["MASTER_PORT"]
        first = rank - int(environment["LOCAL_RANK"])
        node, nodes = int(environment["GROUP_RANK"]), int(environment["GROUP_WORLD_SIZE"])
    except (KeyError, ValueError) as error:
        raise LaunchError(
            f"torchrun: the environment variables of this process do not identify a node ({error})."
        ) from error
    # Only what all nodes have in common: their numbers of restarts may differ. The host is hashed, not named.
    place = hashlib.sha256(f"{address}:{port}".encode()).hexdigest()[:16]
    return Launch(f"{run_id[:40]}/{place}", rank, ranks, nodes, node, first, first + local - 1, address)


def start_worker_group(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, ranks: int, parent: int | None = None
) -> WorkerGroup:
    """Start the workers of all ranks on this host; they end when the process `parent` of this one has ended.

    Raises `OSError` if one cannot be started; then none is left.
    """
    port = free_port() if ranks > 1 else 0
    workers: list[Worker] = []
    try:
        for rank in range(ranks):
            of_rank = environment if ranks == 1 else rank_environment(environment, rank, ranks, port)
            process = start_worker(command, of_rank, folder, rank)
            recorded = WorkerProcess.recorded(folder, rank) or WorkerProcess(process.pid, 0.0)
            workers.append(Worker(rank, recorded, process))
    except OSError:
        WorkerGroup(folder, workers).kill(signal.SIGKILL)
        raise
    return WorkerGroup(folder, workers, parent=parent)


def open_node_server(folder: Path, launch: Launch) -> NodeServer | None:
    """Listen for the other nodes of a launch, None if there are none. Raises `OSError`."""
    if launch.nodes == 1:
        return None
    return NodeServer(folder, launch.ranks, launch.own, launch.nodes, launch.address)


def start_first(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    launch: Launch,
    server: NodeServer | None = None,
    *,
    tied: bool = True,
) -> WorkerGroup:
    """Start the worker of rank 0 under torchrun, and wait for the others, which are started at the same time.

    If `tied`, the worker is killed when this process ends.
    """
    process = start_worker(command, _joined(environment, launch), folder, tied=tied)
    recorded = WorkerProcess.recorded(folder) or WorkerProcess(process.pid, 0.0)
    elsewhere = server.start().elsewhere if server else {}
    others = [Worker(rank, None, elsewhere=elsewhere.get(rank)) for rank in range(1, launch.ranks)]
    return WorkerGroup(folder, [Worker(0, recorded, process), *others], parent=os.getppid(), server=server)


def announce(
    data: Path,
    run: int | Path,
    launch: Launch,
    folder: Path,
    command: Sequence[str],
    variables: Mapping[str, str],
    server: NodeServer | None = None,
) -> None:
    """Announce to the other ranks of a launch what to train, where, and with which environment variables."""
    announcement: dict[str, Any] = {"folder": str(folder), "command": list(command), "variables": dict(variables)}
    if server is not None:
        # With this record, the other ranks of this node distinguish this attempt from one of an earlier launch.
        WorkerProcess.of(os.getpid()).write(folder / NODE_CLIENT_FILE)
        announcement["server"] = {"port": server.port, "secret": server.secret, "address": launch.address}
    _write_launch(data, run, launch, announcement)


def announce_failure(data: Path, run: int | Path, launch: Launch, exit_code: int) -> None:
    """Announce to the other ranks of a launch that there is nothing to train."""
    _write_launch(data, run, launch, {"exit_code": exit_code})


def close_node_server(data: Path, run: int | Path, launch: Launch, server: NodeServer) -> None:
    """Report the end of the attempt to the other nodes, also to those that have not joined."""
    server.close()
    if not all(state.has_joined for state in server.elsewhere.values()):
        announce_failure(data, run, launch, EXIT_FAILED)


def announce_beginning(data: Path, run: int | Path, launch: Launch) -> None:
    """Replace the announcement of an earlier launch; nodes that see the new one know that storage is shared."""
    _write_launch(data, run, launch, {})


def _write_launch(data: Path, run: int | Path, launch: Launch, announcement: Mapping[str, Any]) -> None:
    path = _launch_path(data, run)
    # Each announcement has its own id, so a changed id means a new announcement.
    identity = secrets.token_hex(8)
    text = json.dumps({"key": launch.key, "id": identity, **announcement})
    temporary = path.with_name(f"launch-{identity}.new")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(temporary, path)


def join(
    data: Path,
    application: Path,
    run: int | Path,
    launch: Launch,
    interrupts: Interrupts,
    environment: Mapping[str, str],
) -> int:
    """Train a rank beside rank 0 to its end; return the exit code of `train`. Raises `NoAttempt`."""
    parent = os.getppid()
    found = _wait_for_attempt(data, run, launch, interrupts, parent)
    try:
        return _train_beside(found, data, application, launch, interrupts, environment, parent)
    finally:
        if found.client is not None:
            found.client.close()


@dataclass(frozen=True, slots=True)
class _Found:
    """The attempt to join: its announcement, its folder, and the folder of this node."""

    announcement: Mapping[str, Any]
    folder: Path
    node: Path
    client: NodeClient | None = None


def _train_beside(
    found: _Found,
    data: Path,
    application: Path,
    launch: Launch,
    interrupts: Interrupts,
    environment: Mapping[str, str],
    parent: int,
) -> int:
    folder, client = found.folder, found.client
    own = worker_environment(folder, data, application, environment) | found.announcement["variables"]
    if found.node != folder:
        own[NODE_VARIABLE] = str(found.node)
    command = found.announcement["command"]
    process = start_worker(command, _joined(own, launch), folder, launch.rank, tied=True, node=found.node)
    if client is not None:
        client.start()
    saves = 0
    killed = False
    asked_at: float | None = None
    terminated_at: float | None = None
    looked_at = 0.0
    abandoned = False
    while process.poll() is None:
        time.sleep(LAUNCH_POLL_INTERVAL_S)
        now = time.monotonic()
        if now - looked_at > LEADER_INTERVAL_S:
            looked_at = now
            # On another node, the node client of the first rank ends all ranks there if the leader fails.
            lost = client is None and leader_has_failed(folder, found.node, launch.first)
            abandoned = os.getppid() != parent or lost
        if interrupts.saves > saves:
            saves = interrupts.saves
            if catches(process.pid, signal.SIGUSR1):
                os.kill(process.pid, signal.SIGUSR1)
        if interrupts.stops and asked_at is None:
            asked_at = now
        forwards = asked_at is not None and now - asked_at > _forward_after_s(process.pid)
        if terminated_at is None and (abandoned or forwards):
            terminated_at = now
            signal_group(process.pid, signal.SIGTERM)
        # A rank that saves a checkpoint may take longer, unless the leader is gone.
        late = abandoned and terminated_at is not None and now - terminated_at > deadlines.KILL_AFTER_S
        if not killed and (late or interrupts.stops >= 2):
            killed = True
            signal_group(process.pid, signal.SIGKILL)
    code = meant_code(folder, launch.rank, int(process.returncode))
    if code:
        # Its child processes, such as DataLoader workers, are no longer needed.
        signal_group(process.pid, signal.SIGKILL)
    record_exit(found.node, launch.rank, code)
    while client is not None and not client.has_reported_all and os.getppid() == parent and interrupts.stops < 2:
        # Other ranks of this node may still train.
        time.sleep(LAUNCH_POLL_INTERVAL_S)
    return code if code >= 0 else 1


def _forward_after_s(pid: int) -> float:
    """Return how long a signal waits for rank 0, which stops all ranks: a script without a handler would just die."""
    return deadlines.FORWARD_AFTER_S if catches(pid, signal.SIGTERM) else deadlines.FORWARD_UNCAUGHT_AFTER_S


def leader_has_failed(folder: Path, node: Path | None = None, first: int = 0) -> bool:
    """Return whether the training process of a node's first rank is gone without an END record of a good end."""
    leader = WorkerProcess.recorded(node or folder, first)
    return leader is not None and not leader.is_alive() and not has_ended_well(folder, first)


def _wait_for_attempt(data: Path, run: int | Path, launch: Launch, interrupts: Interrupts, parent: int) -> _Found:
    """Return the attempt that rank 0 opens, skipping the announcement of an earlier launch from the same address."""
    began = time.monotonic()
    first: str | None = None
    seen = False
    while (waited_s := time.monotonic() - began) < deadlines.JOIN_TIMEOUT_S:
        announcement = _read_launch(data, run)
        if announcement.get("key") == launch.key:
            first = first or announcement.get("id")
            # On one node the key belongs to one launch; with several nodes, an earlier launch may have had the same
            # key.
            is_new = announcement.get("id") != first or waited_s > deadlines.STALE_AFTER_S
            fresh = launch.nodes == 1 or is_new
            seen = seen or "folder" not in announcement
            if "exit_code" in announcement and fresh:
                raise NoAttempt("the output of rank 0 contains the error", int(announcement["exit_code"]))
            if "folder" in announcement and (found := _found(announcement, launch)):
                return found
        if not seen and launch.nodes > 1 and waited_s > deadlines.SHARED_AFTER_S:
            raise NoAttempt(NOT_SHARED, EXIT_FAILED)
        if interrupts.stops or os.getppid() != parent:
            raise NoAttempt("this process was ended before the training began", EXIT_FAILED)
        time.sleep(LAUNCH_POLL_INTERVAL_S)
    raise NoAttempt(
        f"rank 0 opened no attempt within {deadlines.JOIN_TIMEOUT_S:.0f} s; see the output of rank 0", EXIT_FAILED
    )


def _read_launch(data: Path, run: int | Path) -> dict[str, Any]:
    try:
        return dict(json.loads(_launch_path(data, run).read_text()))
    except (OSError, ValueError):
        return {}


def _found(announcement: Mapping[str, Any], launch: Launch) -> _Found | None:
    """Return the announced attempt, None if it does not accept this node, or not yet."""
    folder = Path(announcement["folder"])
    if launch.nodes == 1:
        return _Found(announcement, folder, folder)
    if launch.node == 0:
        return _Found(announcement, folder, folder) if is_supervised(folder) else None
    node = node_folder(folder, launch.node)
    if launch.rank != launch.first:
        return _Found(announcement, folder, node) if is_supervised(node) else None
    if not folder.is_dir():
        # The attempt of an earlier launch may have been deleted since.
        return None
    server = announcement["server"]
    client = NodeClient(folder, launch.node, launch.own, launch.ranks, server["secret"])
    try:
        client.connect(launch.address or server["address"], server["port"])
    except OSError as error:
        logger.info("this node could not join rank 0 (%s): trying again", error)
        time.sleep(RETRY_INTERVAL_S)
        return None
    return _Found(announcement, folder, node, client)


def _launch_path(data: Path, run: int | Path) -> Path:
    """Return the file by which the ranks of a launch meet: in the folder of a run, or in the folder `run`."""
    return make_private(run if isinstance(run, Path) else run_folder(data, run)) / LAUNCH_FILE


def _joined(environment: Mapping[str, str], launch: Launch) -> dict[str, str]:
    """Return the environment of a worker. torchrun has set everything except our own variables, Slurm other ones."""
    given = {
        "RANK": str(launch.rank),
        "LOCAL_RANK": str(launch.rank - launch.first),
        "WORLD_SIZE": str(launch.ranks),
        "LOCAL_WORLD_SIZE": str(len(launch.own)),
    }
    return given | dict(environment) | {RANK_VARIABLE: str(launch.rank), RANKS_VARIABLE: str(launch.ranks)}
