"""A training over several nodes on this machine: a torchrun for each node, which share only what real nodes share.

If this user may create namespaces, every node but the first has separate process numbers and a separate host name, so
that no node sees the processes of another.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.support.stack import ROOT, Stack, free_port

TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
APART = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "--kill-child=SIGKILL"]


@functools.cache
def can_be_apart() -> bool:
    """Return whether this user may create a node that sees no processes of other nodes."""
    return shutil.which("unshare") is not None and subprocess.run([*APART, "true"], capture_output=True).returncode == 0


def start_nodes(
    stack: Stack, run_id: int, sizes: Sequence[int], *words: str, port: int = 0, **variables: str
) -> list[subprocess.Popen[bytes]]:
    """Start torchrun on one node for each of `sizes`, which is its number of ranks; `words` follow `--`."""
    port = port or free_port()
    environment = stack.environment | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"} | variables
    script = ["--", *words] if words else []
    started = []
    for node, size in enumerate(sizes):
        command = [
            TORCHRUN, f"--nnodes={len(sizes)}", f"--node-rank={node}", f"--nproc-per-node={size}",
            "--master-addr=127.0.0.1", f"--master-port={port}", "--monitor-interval=0.1",
            "manage.py", "train", "--run-id", str(run_id), "--quiet", *script,
        ]  # fmt: skip
        if node and can_be_apart():
            command = [*APART, "sh", "-c", f'hostname node-{node}; exec "$@"', "sh", *command]
        with (stack.folder / f"node-{node}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        started.append(process)
    stack.trainings += started
    return started


def processes(stack: Stack, run_id: int) -> list[psutil.Process]:
    """Return all living processes of a training, as seen from outside: torchruns, `train`s, workers, their children."""
    found = []
    for process in psutil.process_iter():
        try:
            of_stack = process.environ().get("STEERSMAN_DATA") == str(stack.data)
            attempts = process.environ().get("STEERSMAN_ATTEMPT_FOLDER", "")
            starts = "train" in process.cmdline() and str(run_id) in process.cmdline()
            of_run = starts or f"/runs/{run_id}/attempts/" in attempts
            if of_stack and of_run and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def worker_of(stack: Stack, run_id: int, rank: int) -> psutil.Process:
    """Return the training process of a rank, by its number outside its node."""
    of_rank = [
        process
        for process in processes(stack, run_id)
        if process.environ().get("STEERSMAN_RANK") == str(rank) and "STEERSMAN_ATTEMPT_FOLDER" in process.environ()
    ]
    return min(of_rank, key=lambda process: process.create_time())


def train_of(stack: Stack, run_id: int, rank: int) -> psutil.Process:
    """Return the `train` process of a rank."""
    found = worker_of(stack, run_id, rank).parent()
    assert found is not None
    return found
