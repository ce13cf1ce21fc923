"""An agent whose command says sbatch: jobs are submitted, shown, cancelled, and what they leave is stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.agents.lab import AGENT, HOSTILE, TRAINING, Lab, parent_of
from tests.remote.test_run import PATIENCE_S, ended, installation, send
from tests.support.stack import run_row, wait_for

SBATCH = """
launcher = "sbatch"
sbatch_options = ["--time=10", "--comment=a b"]
"""


def small_slurm(folder: Path) -> str:
    """Make the programs in a folder; return the lines of agent.toml that name them."""
    folder.mkdir()
    source = (Path(__file__).parent / "small_slurm.py").read_text().replace("/usr/bin/env python3", sys.executable)
    names = ("sbatch", "squeue", "sacct", "scancel")
    for name in names:
        (folder / name).write_text(source)
        (folder / name).chmod(0o700)
    return "\n[slurm]\n" + "\n".join(f'{name} = "{folder / name}"' for name in names)


def job(folder: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"job-{number}.json").read_text())
    return found


def test_runs_are_slurm_jobs(tmp_path: Path):
    with installation(tmp_path) as (stack, portal, host):
        portal.start()
        lab = Lab(stack, host)
        host.script(TRAINING)
        slurm = tmp_path / "slurm"
        programs = small_slurm(slurm)
        text = AGENT.replace("environment =", SBATCH + "environment =") + programs
        (host.folder / "agent.toml").write_text(text)
        (slurm / "hold").touch()
        agent = host.start("agent")
        wait_for(lab.is_online, lambda: f"the agent\n{host.printed()}", PATIENCE_S)

        run = lab.request(parameters={"tag": HOSTILE, "epochs": 7})
        lab.waits(run, "Slurm job 1: PENDING (Resources)")
        options = job(slurm, 1)["options"]
        assert options["--time"] == "10" and options["--comment"] == "a b" and "--parsable" in options
        (slurm / "hold").unlink()
        lab.reaches(run, "running")
        assert json.loads((host.folder / "seen-7.json").read_text())[0] == [HOSTILE, "--epochs=7"]

        # All processes of the job are killed at once, as at its time limit.
        followed = host.host_process
        assert followed is not None
        for pid in (parent_of(followed), followed, host.worker()):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: run_row(stack, run)["state"] == "failed", lambda: f"its end\n{host.printed()}", PATIENCE_S)
        (slurm / "hold").touch()
        lab.api(f"runs/{run}/queue/", {})
        lab.waits(run, "Slurm job 2: PENDING (Resources)")

        # A job that nobody wants any longer is cancelled while it waits.
        send(stack, run, "withdraw")
        wait_for(lambda: job(slurm, 2)["state"] == "CANCELLED", lambda: f"the cancelling\n{host.printed()}", PATIENCE_S)
        (slurm / "hold").unlink()
        lab.api(f"runs/{run}/queue/", {})
        lab.reaches(run, "running", attempt=2)
        send(stack, run, "stop")
        lab.reaches(run, "stopped", attempt=2)

        # Somebody else cancels a job before it begins: that is the reason of its run.
        (slurm / "hold").touch()
        refused = lab.request(parameters={"epochs": 9})
        lab.waits(refused, "Slurm job 4: PENDING (Resources)")
        subprocess.run([slurm / "scancel", "4"], check=True)
        wait_for(
            lambda: run_row(stack, refused)["state"] == "failed", lambda: f"a reason\n{host.printed()}", PATIENCE_S
        )
        assert run_row(stack, refused)["reason"] == "Slurm job 4 ended as CANCELLED before the training began."
        agent.send_signal(signal.SIGTERM)
        assert ended(agent, host) == 0
