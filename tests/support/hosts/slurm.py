"""A private Slurm of one node, with daemons and a configuration of its own in a temporary folder.

Debian's packages slurm-wlm and munge have to be installed, and the tests have to run as root.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.stack import free_port, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
FREEZER = Path("/sys/fs/cgroup/freezer")
PATIENCE_S = 60.0
# A job that is preempted or cancelled is killed so long after SIGTERM. A training saves its state meanwhile.
GRACE_S = 15
CONFIGURATION = """
ClusterName={node}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait={grace}
AccountingStorageType=accounting_storage/none
NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP GraceTime={grace}
PartitionName=high Nodes=ALL PriorityTier=10 MaxTime=INFINITE State=UP PreemptMode=OFF
"""


def why_not_here() -> str:
    """Return why Slurm cannot run on this machine, "" if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name, path="/usr/sbin:/usr/bin") is None]
    if missing:
        return f"{', '.join(missing)} is missing: install slurm-wlm and munge"
    if os.geteuid() != 0:
        return "slurmd needs root"
    return "" if os.access(FREEZER, os.W_OK) else f"Slurm needs the cgroup {FREEZER} to end all processes of a job"


class Slurm:
    """The daemons, and what is asked of them. Use as a context manager."""

    def __init__(self, folder: Path, cpus: int = 8) -> None:
        self._folder = folder
        self._node = f"test{secrets.token_hex(4)}"
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir(parents=True, mode=0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        values = {
            "node": self._node,
            "host": socket.gethostname(),
            "folder": folder,
            "controller_port": free_port(),
            "daemon_port": free_port(),
            "grace": GRACE_S,
            "cpus": cpus,
        }
        (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Slurm:
        place = self._folder / "munge"
        self._start(
            "munged", "--foreground", "--force", f"--key-file={place}/key", f"--socket={self._folder}/munge.socket",
            f"--pid-file={place}/pid", f"--log-file={place}/log", f"--seed-file={place}/seed",
        )  # fmt: skip
        wait_for((self._folder / "munge.socket").exists, "munged", PATIENCE_S)
        self._start("slurmctld", "-D", "-c")
        self._start("slurmd", "-D", "-N", self._node)
        self.await_node()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self.ask("scancel", "--signal=KILL", "--full", "--user=root")
            wait_for(lambda: not self.ask("squeue", "--noheader"), "all jobs to end", PATIENCE_S)
        for name in reversed(self._daemons):
            self._end(name)
        for group in sorted(FREEZER.glob(f"slurm_{self._node}/**/"), reverse=True):
            with contextlib.suppress(OSError):
                group.rmdir()

    def restart_node(self) -> None:
        """Kill the daemon of the node with -9, and start it again; its jobs continue."""
        self._daemons["slurmd"].kill()
        self._daemons["slurmd"].wait()
        self._start("slurmd", "-D", "-N", self._node)
        self.await_node()

    def await_node(self) -> None:
        def is_there() -> bool:
            state = self.ask("sinfo", "--noheader", "--format=%t", "--partition=low", check=False)
            return state.strip() in ("idle", "mix", "alloc")

        wait_for(is_there, "the node", PATIENCE_S)

    def submit(self, text: str, folder: Path, environment: dict[str, str], *options: str) -> int:
        """Submit a batch script, which runs in `folder`; return the number of the job."""
        script = folder / f"job-{secrets.token_hex(4)}.sh"
        script.write_text(text)
        words = ["sbatch", "--parsable", f"--chdir={folder}", f"--output={folder}/%j.out", "--open-mode=append"]
        return int(self.ask(*words, *options, str(script), environment=environment))

    def hurry(self, job: int) -> None:
        """Let a requeued job start now: Slurm waits for two minutes."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.ask("scontrol", "update", f"JobId={job}", "StartTime=now")

    def job(self, job: int) -> dict[str, str]:
        """Return what Slurm tells of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", self.ask("scontrol", "--oneliner", "show", "job", str(job))))

    def ask(self, *words: str, environment: dict[str, str] | None = None, check: bool = True) -> str:
        """Run a program of Slurm; return what it prints."""
        variables = (environment or {"PATH": "/usr/bin:/bin"}) | self.variables
        asked = subprocess.run(words, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        if check and asked.returncode:
            raise subprocess.CalledProcessError(asked.returncode, words, asked.stdout, asked.stderr)
        return asked.stdout

    def log(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-5000:]}" for path in self._folder.glob("*.log"))

    def _start(self, name: str, *options: str) -> None:
        program = shutil.which(name, path="/usr/sbin:/usr/bin")
        assert program is not None
        with (self._folder / f"{name}.log").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [program, *options], env={"PATH": "/usr/sbin:/usr/bin:/bin"} | self.variables,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _end(self, name: str) -> None:
        self._daemons[name].terminate()
        try:
            self._daemons[name].wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._daemons[name].kill()
            self._daemons[name].wait()


def batch_script(*commands: Sequence[str]) -> str:
    """Return a batch script that runs commands of plain words one after the other."""
    return "#!/bin/sh\n" + "".join(" ".join(words) + "\n" for words in commands)
