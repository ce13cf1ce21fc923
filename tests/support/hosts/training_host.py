"""A machine that has the client's package and no Django, on which `steersman run` is started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.support.hosts.bare_environment import bare_environment
from tests.support.stack import ROOT, Stack, kill, wait_for


class Portal:
    """The processes of a stack that a training host reaches: the portal, and the one that records its reports."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def start(self) -> None:
        self._stack.start_record()
        self._stack.start_web()
        wait_for(self._takes_hosts, "the socket of training hosts")

    def restart(self, part: str) -> None:
        """Kill one process with -9, "portal" or "record", and start it again."""
        process = self._stack.web if part == "portal" else self._stack.record
        assert process is not None
        process.kill()
        process.wait()
        if part == "portal":
            self._stack.start_web()
        else:
            self._stack.start_record()

    def _takes_hosts(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._stack.address}/ws/hosts/", timeout=60):
                return True
        except urllib.error.HTTPError as error:
            return error.code != 503

    def kill(self) -> None:
        for process in (self._stack.web, self._stack.record):
            assert process is not None
            process.kill()
            process.wait()


class TrainingHost:
    """Its folder has the environment, the scripts, and the records of its trainings."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder
        # What precedes the command, such as that of a network of its own.
        self.prefix: list[str] = []
        made = stack.manage("create_token", "--project", "lab", "--user", "operator", "--scope", "train")
        self.token = made.stdout.strip()
        folder.mkdir()
        self.python = bare_environment(folder / "environment")
        purelib = sysconfig.get_path("purelib", vars={"base": str(folder / "environment"), "platbase": ""})
        self.package = Path(purelib) / "steersman"
        shutil.copytree(ROOT / "steersman", self.package, ignore=shutil.ignore_patterns("__pycache__", "*.toml"))
        self.environment = {
            "PATH": f"{self.python.parent}:/usr/bin:/bin",
            "HOME": str(folder),
            "STEERSMAN_PORTAL": stack.address,
            "STEERSMAN_TOKEN": self.token,
            "LANG": "C.UTF-8",
        }

    def script(self, text: str, name: str = "train.py") -> None:
        (self.folder / name).write_text(text)

    def start(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start `steersman`; what it prints goes to `out.log` and `err.log` of the folder."""
        return self.start_python("-m", "steersman", *words, **variables)

    def start_python(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start the Python of this host; what it prints goes to `out.log` and `err.log` of the folder."""
        return self._start([str(self.python), *words], self.environment | variables)

    def launch_by(self, launcher: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a launcher of the tests' environment, which finds the command `steersman` of this host."""
        environment = self.environment | {"PATH": self.path_with_command()}
        return self._start([str(Path(sys.executable).parent / launcher), *words], environment)

    def path_with_command(self) -> str:
        """Install the command `steersman`; return a PATH on which it is."""
        command = self.python.parent / "steersman"
        command.write_text(f'#!/bin/sh\nexec {self.python} -m steersman "$@"\n')
        command.chmod(0o755)
        return self.environment["PATH"]

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "out.log").open("ab") as out, (self.folder / "err.log").open("ab") as err:
            process = subprocess.Popen(
                [*self.prefix, *command], cwd=self.folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err,
            )  # fmt: skip
        self._stack.trainings.append(process)
        return process

    @property
    def launch(self) -> Path:
        """The folder of the newest launch; one that does not exist if there is none."""
        launches = self.folder / "steersman-runs" / "launches"
        found = max(launches.glob("*/launch.json"), key=lambda each: each.stat().st_mtime_ns, default=None)
        return found.parent if found is not None else launches / "none"

    @property
    def host_process(self) -> int | None:
        """The pid of the process that follows the newest launch, None if there is none now."""
        text = (self.launch / "supervisor.lock").read_text() if (self.launch / "supervisor.lock").exists() else ""
        return int(text) if text.isdigit() and _lives(int(text)) else None

    def kill_host_process(self) -> int:
        """Kill the process that follows the newest launch with -9; return its pid."""
        pid = self.host_process
        assert pid is not None, "no process follows the launch"
        os.kill(pid, signal.SIGKILL)
        return pid

    def worker(self, attempt: int = 1, rank: int = 0) -> int:
        name = f"worker-{rank:04d}.json" if rank else "worker.json"
        return int(json.loads((self.launch / "attempts" / str(attempt) / name).read_text())["pid"])

    def close(self) -> None:
        """End what a failed test has left: each process only where its environment or command names this folder."""
        for path in (self.folder / "steersman-runs" / "launches").glob("*/attempts/*/worker*.json"):
            kill(int(json.loads(path.read_text())["pid"]), of=self.folder / "steersman-runs")
        for lock in (self.folder / "steersman-runs" / "launches").glob("*/supervisor.lock"):
            pid = lock.read_text().strip()
            with suppress(OSError):
                if str(lock.parent).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), signal.SIGKILL)

    def printed(self) -> str:
        return "\n".join(f"--- {name}\n{self.output(name)}" for name in ("out.log", "err.log"))

    def output(self, name: str) -> str:
        path = self.folder / name
        return path.read_bytes().decode(errors="replace") if path.exists() else ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
