"""Queue more runs than two hosts have slots for, and check how many train together, in which order, on which GPU.

usage: python -m tests.chaos.slots [--gpu-runs 12] [--cpu-runs 6]

Two real `manage.py watch` share a database: one on a host with 2 GPUs (a fake of the driver's library), one on a host
without. The program queues all runs at once, with different priorities, and meanwhile kills and restarts the watch of
the first host. It finds the running trainings in the table of processes. Prints progress to stderr and one JSON object
as its last line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.stack import ROOT, Stack, rows, seed_stack, wait_for

GPU_HOST, CPU_HOST = socket.gethostname(), "queue-test-cpu"
GPUS, CPU_SLOTS = 2, 1
LONGEST_S = 270.0
LOOK_INTERVAL_S = 0.05
PRIORITIES = range(-1, 2)
# A separate host name needs a namespace; users other than root need a user namespace first.
NAMESPACES = (["unshare", "--uts"], ["unshare", "--user", "--map-root-user", "--uts"])


@dataclass
class Seen:
    """What the table of processes showed: when each run's `train` started, and how many trained at once."""

    started: dict[int, float] = field(default_factory=dict)
    most_together: Counter[str] = field(default_factory=Counter)
    gpus_shared: int = 0
    wrong_gpus: int = 0
    looks: int = 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def namespace() -> list[str] | None:
    """Return the command that starts a process with a separate host name, or None if this user may not do that."""
    if shutil.which("unshare") is None:
        return None
    found = (each for each in NAMESPACES if subprocess.run([*each, "true"], capture_output=True).returncode == 0)
    return next(found, None)


def build_stub(folder: Path) -> Path:
    """Compile the fake of the driver's library with two GPUs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("no C compiler on this host: the stand-in for the driver's library cannot be built")
    source = ROOT / "tests" / "support" / "nvml_stub" / "nvml_stub.c"
    folder.mkdir(exist_ok=True)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


class Hosts:
    """The watches of both hosts."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._apart = namespace()
        if self._apart is None:
            raise SystemExit("this user may make no namespace with a host name of its own")
        self._library = str(build_stub(stack.folder / "nvml"))
        self._watches: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, host: str) -> None:
        clean = {name: value for name, value in self._stack.environment.items() if not name.startswith("CUDA_")}
        command = self._stack.command("watch")
        if host == GPU_HOST:
            environment = clean | {"LD_LIBRARY_PATH": self._library, "STUB_IDLE": "1"}
        else:
            environment = clean | {"CUDA_VISIBLE_DEVICES": ""}
            command = [*(self._apart or []), "sh", "-c", f'hostname {host}; exec "$@"', "sh", *command]
        with (self._stack.folder / f"watch-{host}.log").open("ab") as log:
            self._watches[host] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        heartbeat = self._heartbeat(host)
        wait_for(lambda: self._heartbeat(host) > heartbeat, lambda: f"the watch of {host}\n{self._stack.log()}")

    def restart(self, host: str) -> None:
        self._end(host)
        self.start(host)

    def close(self) -> None:
        for host in list(self._watches):
            self._end(host)

    def _end(self, host: str) -> None:
        watch = self._watches.pop(host)
        watch.kill()
        watch.wait()

    def _heartbeat(self, host: str) -> int:
        found = rows(self._stack, "SELECT heartbeat FROM runs_host WHERE name = ?", host)
        return int(found[0]["heartbeat"]) if found else -1


def queue(stack: Stack, counts: dict[str, int]) -> dict[int, str]:
    """Queue the runs of all hosts at once, alternating, with different priorities.

    Returns the host of each run, in the order of the queue.
    """
    from django.db import transaction

    from runs.models import Project, Recipe, Run
    from runs.recording.queue import enqueue

    recipe, project = Recipe.objects.get(spec="digits"), Project.objects.get(slug="lab")
    made: dict[int, str] = {}
    for number in range(max(counts.values())):
        for host in (host for host, count in counts.items() if number < count):
            run = Run.objects.create(
                project=project, recipe=recipe, name=f"{host} {number}", device="auto", parameters={"epochs": 1}
            )
            made[run.pk] = host
    # One transaction, so that a watch sees all of them or none.
    with transaction.atomic():
        priorities = {run_id: PRIORITIES[place % len(PRIORITIES)] for place, run_id in enumerate(made)}
        for run_id, host in made.items():
            enqueue(run_id, host, priority=priorities[run_id])
    return {run_id: made[run_id] for run_id in sorted(made, key=lambda run_id: (-priorities[run_id], run_id))}


def trains(stack: Stack) -> Iterator[tuple[int, psutil.Process]]:
    """Yield each living `train` process of the stack, with its run."""
    for process in psutil.process_iter(["cmdline"]):
        with contextlib.suppress(psutil.Error, ValueError):
            words = process.info["cmdline"] or []
            if "--run-id" in words and process.environ().get("STEERSMAN_DATA") == str(stack.data):
                yield int(words[words.index("--run-id") + 1]), process


def look(stack: Stack, hosts: dict[int, str], seen: Seen) -> None:
    """Record what trains now: a run from the start of its `train` to the end of its training process."""
    together: Counter[str] = Counter()
    used: list[str] = []
    for run_id, process in trains(stack):
        with contextlib.suppress(psutil.Error):
            seen.started.setdefault(run_id, process.create_time())
            workers = [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]
            if not workers:
                continue
            together[hosts[run_id]] += 1
            gpu = workers[0].environ().get("CUDA_VISIBLE_DEVICES", "")
            if hosts[run_id] == GPU_HOST:
                used.append(gpu)
                seen.wrong_gpus += not gpu.startswith("GPU-") or "," in gpu
    seen.most_together |= together
    seen.gpus_shared += len(used) - len(set(used))
    seen.looks += 1


def out_of_order(line: Sequence[int], started: dict[int, float]) -> int:
    """Count the runs that started before a run that was ahead of them in the queue."""
    latest, late = 0.0, 0
    for run_id in (run_id for run_id in line if run_id in started):
        late += started[run_id] < latest
        latest = max(latest, started[run_id])
    return late


def overlapping(stack: Stack, run_ids: Sequence[int]) -> int:
    """Return how many attempts of these runs were open at once, according to their records."""
    marks = []
    for attempt in rows(stack, "SELECT run_id, started_at, ended_at FROM runs_attempt"):
        if attempt["run_id"] in run_ids:
            marks.append((str(attempt["started_at"]), 1))
            marks.append((str(attempt["ended_at"] or "9"), -1))
    open_now = most = 0
    for _, change in sorted(marks):
        open_now += change
        most = max(most, open_now)
    return most


def wrong_panels(stack: Stack) -> int:
    """Count the runs whose GPU panels show another GPU than the one assigned to them."""
    shown: dict[int, set[str]] = {}
    for row in rows(stack, "SELECT run_id, name FROM runs_series WHERE name LIKE 'gpu/%'"):
        shown.setdefault(row["run_id"], set()).add(row["name"].split("/")[1])
    given = {row["id"]: str(row["given_devices"]) for row in rows(stack, "SELECT id, given_devices FROM runs_run")}
    # The fake's GPU 0 has the name GPU-aaaa…, GPU 1 has GPU-bbbb….
    return sum(names != {"0" if "GPU-aaaa" in given[run_id] else "1"} for run_id, names in shown.items())


def measure(gpu_runs: int, cpu_runs: int) -> dict[str, int | float]:
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        from trainer.control.publish import publish

        publish("digits")
        hosts = Hosts(stack)
        try:
            for host in (GPU_HOST, CPU_HOST):
                hosts.start(host)
            return count(stack, hosts, {GPU_HOST: gpu_runs, CPU_HOST: cpu_runs})
        finally:
            hosts.close()
            for _, process in list(trains(stack)):
                for each in [process, *process.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        each.kill()


def count(stack: Stack, hosts: Hosts, counts: dict[str, int]) -> dict[str, int | float]:
    of_host = queue(stack, counts)
    seen, began, restarts = Seen(), time.monotonic(), 0
    states: dict[str, int] = {}
    while time.monotonic() - began < LONGEST_S:
        look(stack, of_host, seen)
        found = Counter(str(row["state"]) for row in rows(stack, "SELECT state FROM runs_run"))
        if found != states:
            states = found
            say(
                f"{time.monotonic() - began:5.1f} s: " + ", ".join(f"{found[state]} {state}" for state in sorted(found))
            )
        if found["finished"] + found["failed"] == len(of_host):
            break
        if not restarts and found["finished"] * 3 >= len(of_host):
            say("the watch of the GPUs is killed and started again")
            hosts.restart(GPU_HOST)
            restarts += 1
        time.sleep(LOOK_INTERVAL_S)
    of_gpu = [run_id for run_id in of_host if of_host[run_id] == GPU_HOST]
    of_cpu = [run_id for run_id in of_host if of_host[run_id] == CPU_HOST]
    attempts = rows(stack, "SELECT run_id, host FROM runs_attempt")
    return {
        "runs": len(of_host),
        "runs_gpu": len(of_gpu),
        "runs_cpu": len(of_cpu),
        "finished": states.get("finished", 0),
        "most_together_gpu": max(seen.most_together[GPU_HOST], overlapping(stack, of_gpu)),
        "most_together_cpu": max(seen.most_together[CPU_HOST], overlapping(stack, of_cpu)),
        "out_of_order": out_of_order(of_gpu, seen.started) + out_of_order(of_cpu, seen.started),
        "left_waiting": states.get("queued", 0),
        "gpus_shared": seen.gpus_shared,
        "wrong_gpus": seen.wrong_gpus,
        "wrong_panels": wrong_panels(stack),
        "runs_with_panels": len(rows(stack, "SELECT DISTINCT run_id FROM runs_series WHERE name LIKE 'gpu/%'")),
        "wrong_host": sum(of_host[row["run_id"]] != row["host"] for row in attempts),
        "watch_restarts": restarts,
        "starts_seen": len(seen.started),
        "attempts": len(attempts),
        "looks": seen.looks,
        "seconds": round(time.monotonic() - began, 1),
    }


def is_good(result: dict[str, int | float]) -> bool:
    exact = (
        result["finished"] == result["starts_seen"] == result["attempts"] == result["runs"]
        and result["watch_restarts"] == 1
    )
    exact = exact and result["runs_with_panels"] == result["runs_gpu"]
    none = ("out_of_order", "left_waiting", "gpus_shared", "wrong_gpus", "wrong_panels", "wrong_host")
    together = result["most_together_gpu"] == GPUS and result["most_together_cpu"] == CPU_SLOTS
    return exact and together and not any(result[name] for name in none)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu-runs", type=int, default=12)
    parser.add_argument("--cpu-runs", type=int, default=6)
    arguments = parser.parse_args()
    result = measure(arguments.gpu_runs, arguments.cpu_runs)
    print(json.dumps(result))
    return int(not is_good(result))


if __name__ == "__main__":
    sys.exit(main())
