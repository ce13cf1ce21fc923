"""Starts `steersman run` for a run that was taken: on this host, or as a Slurm job."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import steersman
from steersman.agent.folders import WorkerProcess
from steersman.agent.launch.given_devices import VISIBLE_VARIABLE
from steersman.agent.on_request.offered import SlurmPrograms
from steersman.agent.on_request.taken import Shelf, Taken
from steersman.files.private import open_private, write_private

# The current folder, which Python puts first, may have modules of any name.
PROGRAM = "import sys; sys.path[0] = {packages!r}; from steersman.command_line.main import main; sys.exit(main())"
# A job script that passes its arguments on as they are.
JOB_SCRIPT = '#!/bin/sh\nexec "$@"\n'
SLURM_TIMEOUT_S = 30.0


class NotBegun(Exception):
    """The training could not be started. The text is a sentence for the person who requested it."""


def command_of(*words: str) -> list[str]:
    """Return the command line of `steersman` with these arguments."""
    packages = str(Path(steersman.__file__).resolve().parent.parent)
    return [sys.executable, "-c", PROGRAM.format(packages=packages), *words]


def run_command(taken: Taken, portal: str) -> list[str]:
    """Return the command line that trains a run, or continues it."""
    words = ["run", "--portal", portal, "--key", taken.key, f"--name={taken.name}", "--nproc", str(taken.processes)]
    return command_of(*words, f"--push={taken.push}", "--", *taken.program)


def variables_of(taken: Taken, data: Path) -> dict[str, str]:
    found = {"STEERSMAN_DATA": str(data)} | taken.environment
    if taken.gpus:
        # By default CUDA orders GPUs by speed, NVML by bus.
        found = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} | found | {VISIBLE_VARIABLE: ",".join(taken.gpus)}
    return found


def begin_here(
    taken: Taken, shelf: Shelf, portal: str, environment: Mapping[str, str]
) -> tuple[Taken, subprocess.Popen[bytes]]:
    """Start a training that outlives this process. Raises `NotBegun`."""
    process = _detached(run_command(taken, portal), taken, shelf, environment)
    worker = WorkerProcess.of(process.pid)
    return replace(taken, pid=worker.pid, began_at=worker.started_at), process


def store_rest(taken: Taken, shelf: Shelf, environment: Mapping[str, str]) -> tuple[Taken, subprocess.Popen[bytes]]:
    """Send the unsent records of a training that has ended. Raises `NotBegun`."""
    process = _detached(command_of("sync", "--key", taken.key), taken, shelf, environment)
    worker = WorkerProcess.of(process.pid)
    return replace(taken, pid=worker.pid, began_at=worker.started_at), process


def submit(taken: Taken, shelf: Shelf, portal: str, programs: SlurmPrograms, environment: Mapping[str, str]) -> Taken:
    """Submit a Slurm job that trains a run. Raises `NotBegun`."""
    script = shelf.folder / "job.sh"
    write_private(script, JOB_SCRIPT)
    command = [programs.sbatch, "--parsable", "--export=ALL", f"--job-name=steersman-{taken.run}"]
    command += [f"--chdir={taken.directory}", f"--output={shelf.log_of(taken.run)}", "--open-mode=append"]
    command += [*taken.sbatch_options, str(script), *run_command(taken, portal)]
    done = asked(command, dict(environment) | variables_of(taken, shelf.data))
    job = done.strip().splitlines()[-1].split(";")[0] if done.strip() else ""
    if not job.replace("_", "").isdecimal():
        raise NotBegun(f"{programs.sbatch} printed {done.strip()[:200]!r} instead of the ID of a job.")
    return replace(taken, job=job)


def asked(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Return what a program of Slurm prints. Raises `NotBegun` with its error."""
    try:
        done = subprocess.run(
            list(command), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", timeout=SLURM_TIMEOUT_S, check=False,
        )  # fmt: skip
    except OSError as error:
        raise NotBegun(f"{command[0]} cannot be started: {error.strerror}.") from error
    except subprocess.TimeoutExpired as error:
        raise NotBegun(f"{command[0]} has not answered within {SLURM_TIMEOUT_S:g} s.") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise NotBegun(f"{command[0]} failed: {said[-1][:300] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _detached(
    command: Sequence[str], taken: Taken, shelf: Shelf, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    try:
        with open_private(shelf.log_of(taken.run), "ab") as log:
            # A session of its own, so that the end of the agent does not end the training.
            return subprocess.Popen(
                list(command), cwd=taken.directory, env=dict(environment) | variables_of(taken, shelf.data),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        raise NotBegun(f"The training could not be started: {error.strerror}.") from error
