"""Runs whose processes are killed: which process, the worker's notes, and the result.

For `python -m tests.chaos.kill`.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.stack import ROOT, Stack, kill, wait_for
from tests.support.watcher import Watcher

PAUSE_S = 0.005
ENDLESS = 10_000_000
WORKERS = ROOT / "tests" / "trainings"
RECIPE = "tests.recipes.lasting:Lasting"
# The key that must be unique to a point: its step, or its attempt and step.
Key = Any


class Killing:
    """A run of a script that notes each step for which `log()` returned; a new start resumes after the last one."""

    targets: tuple[str, ...] = ("worker", "supervisor", "both", "web", "redis")
    series = "value"

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        self.stack = stack
        self.rng = rng
        self.note = stack.folder / "note"
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.killed: Counter[str] = Counter()
        self.run_id = self.create_run()

    def create_run(self) -> int:
        from runs.models import Project, Run

        return Run.objects.create(project=Project.objects.get(), name="kill test").pk

    def start(self) -> subprocess.Popen[bytes]:
        script = (str(WORKERS / "noting.py"), str(self.note), str(ENDLESS), str(PAUSE_S))
        return self.stack.train(self.run_id, "--quiet", "--", *script)

    def noted(self) -> list[Key]:
        data = self.note.read_bytes() if self.note.exists() else b""
        return [step for (step,) in struct.iter_unpack("<q", data[: len(data) // 8 * 8])]

    def stored(self) -> list[Key]:
        """Return every stored point, of all attempts, including duplicates."""
        return [step for _, _, step, _ in stored_points(self.run_id, self.series)]

    def seen(self, watcher: Watcher) -> list[Key]:
        """Return every point that the viewer received, including duplicates."""
        return watcher.steps(self.series)

    def judge(self) -> dict[str, int]:
        """Return the other faults, once everything is stored."""
        return {}

    def ensure_training(self) -> None:
        if self.supervisor is None or self.supervisor.poll() is not None:
            self.supervisor = self.start()

    def kill_one(self, target: str) -> None:
        """Kill the target at a random moment, once there is something new to lose; then restart it."""
        seen = len(self.noted())
        wait_for(lambda: self.progressed(seen), "the worker to log")
        self.wait_for_moment(target)
        if target in ("worker", "both", "saving"):
            worker = self.stack.worker_pid(self.run_id)
            if worker:
                kill(worker)
        if target in ("supervisor", "both") and self.supervisor is not None:
            self.supervisor.kill()
            self.supervisor.wait()
        if target == "web" and self.stack.web is not None:
            self.stack.web.kill()
            self.stack.web.wait()
            self.stack.start_web()
        if target == "redis" and self.stack.redis.pid:
            kill(self.stack.redis.pid)
            wait_for(lambda: not self.stack.redis.is_alive, "the embedded server to die")
            time.sleep(self.rng.uniform(0, 0.5))
            self.stack.start_redis()
        self.killed[target] += 1

    def wait_for_moment(self, target: str) -> None:
        time.sleep(self.rng.uniform(0, 0.4))

    def progressed(self, seen: int) -> bool:
        self.ensure_training()
        return len(self.noted()) > seen

    def stop(self) -> None:
        """Stop the run as an operator would, and wait until the stop is recorded."""
        from runs.models import Run
        from runs.protocol.commands import Stop

        wait_for(lambda: self.progressed(len(self.noted())), "the worker to log")

        def stopped() -> bool:
            run = Run.objects.get(pk=self.run_id)
            if run.state == "running":
                self.ask(Stop())
            return run.state == "stopped"

        until = time.monotonic() + 60
        while not stopped():
            if time.monotonic() > until:
                raise TimeoutError(f"the run did not stop\n{self.stack.log()}")
            time.sleep(0.5)
        if self.supervisor is not None:
            self.supervisor.wait(60)

    def ask(self, command: Any) -> None:
        from uuid import uuid4

        from runs.commands.record import record
        from runs.protocol.commands import Request

        record(self.run_id, Request(id=uuid4(), command=command), author_id=None, author_name="kill test")


class Resuming(Killing):
    """A recipe that notes (attempt, step) of each logged point; a new start resumes from its checkpoints."""

    targets = ("saving", "both", "supervisor", "worker", "redis", "web")
    series = "train/loss"

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        super().__init__(stack, rng)
        self.failed = 0
        self.half: set[str] = set()

    def create_run(self) -> int:
        workers = f"loader_workers={self.rng.choice((0, 2))}"
        words = ("create_run", "--quiet", "--project", "lab", "--recipe", RECIPE, "--set", workers)
        created = self.stack.manage(*words, cwd=ROOT)
        return int(created.stdout)

    def start(self) -> subprocess.Popen[bytes]:
        if self.supervisor is not None and self.supervisor.returncode not in (-signal.SIGKILL, 1):
            # It was killed itself, or reports that its worker was; any other exit means that it could not continue.
            self.failed += 1
        paths = os.pathsep.join(filter(None, [str(ROOT), self.stack.environment.get("PYTHONPATH")]))
        return self.stack.train(self.run_id, "--quiet", LASTING_NOTE=str(self.note), PYTHONPATH=paths)

    def noted(self) -> list[Key]:
        data = self.note.read_bytes() if self.note.exists() else b""
        return list(struct.iter_unpack("<qq", data[: len(data) // 16 * 16]))

    def stored(self) -> list[Key]:
        return [(attempt, step) for attempt, _, step, _ in stored_points(self.run_id, self.series)]

    def seen(self, watcher: Watcher) -> list[Key]:
        return watcher.points(self.series)

    def wait_for_moment(self, target: str) -> None:
        """Send a command that must leave no trace in the curve; then wait, for "saving" until a save has begun."""
        from runs.protocol.commands import Evaluate, SaveCheckpoint

        self._look_for_half_files()
        worker = self.stack.worker_pid(self.run_id)
        asked = self.rng.choice(("evaluate", "save", "signal", "nothing"))
        if asked == "evaluate":
            self.ask(Evaluate())
        elif asked == "save":
            self.ask(SaveCheckpoint(name="kept"))
        elif asked == "signal" and worker:
            os.kill(worker, signal.SIGUSR1)
        time.sleep(self.rng.uniform(0, 1.0))
        if target == "saving":
            wait_for(lambda: any(not (each / "manifest.json").exists() for each in self._checkpoints()), "a save")
        if target == "both":
            # The next attempt then resumes, however slow this machine has been.
            wait_for(self._has_whole_checkpoint, "a checkpoint")

    def _has_whole_checkpoint(self) -> bool:
        self.ensure_training()
        return any((self.stack.data / "runs" / str(self.run_id)).glob("attempts/*/checkpoints/*/manifest.json"))

    def _checkpoints(self) -> Iterable[Path]:
        attempts = (self.stack.data / "runs" / str(self.run_id) / "attempts").glob("*")
        return max(attempts, key=lambda path: int(path.name)).glob("checkpoints/*")

    def _look_for_half_files(self, all_attempts: bool = False) -> None:
        """Compare the listed checkpoints of attempts that have ended with the files on disk."""
        from runs.models import Checkpoint, Run
        from steersman.files.checkpoint import Damaged, verify_checkpoint

        run = Run.objects.get(pk=self.run_id)
        for row in Checkpoint.objects.filter(run=run):
            if row.attempt < run.attempt or all_attempts:
                try:
                    verify_checkpoint(self.stack.data / "runs" / str(self.run_id) / row.path, row.sha256)
                except Damaged:
                    self.half.add(row.path)

    def judge(self) -> dict[str, int]:
        from runs.models import Attempt, Checkpoint, Run

        self._look_for_half_files(all_attempts=True)
        points = stored_points(self.run_id, self.series)
        expected = uninterrupted(self.run_id, max(step for _, _, step, _ in points))
        first_steps: dict[int, int] = {}
        for attempt, lap, step, _ in points:
            # A step after a rollback is not the first step of the attempt.
            if lap == 0:
                first_steps[attempt] = min(step, first_steps.get(attempt, step))
        for attempt in Attempt.objects.filter(run=self.run_id, number__gt=1):
            # With a checkpoint, the step after it must come first; otherwise the first step of all.
            first = first_steps.get(attempt.number)
            if first is not None and first != (attempt.resumed_step or 0) + 1:
                self.failed += 1
        return {
            "not_bit_equal": sum(1 for _, _, step, loss in points if loss != expected[step]),
            "half_files_listed": len(self.half),
            "resume_failed": self.failed,
            "loader_workers": Run.objects.get(pk=self.run_id).parameters["loader_workers"],
            "resumed": Attempt.objects.filter(run=self.run_id, resumed_step__gt=0).count(),
            "checkpoints": Checkpoint.objects.filter(run=self.run_id).count(),
            "steps": max(step for _, _, step, _ in points),
        }


def stored_points(run_id: int, series: str) -> list[tuple[int, int, int, float]]:
    """Return attempt, lap, step and value of every stored point of a series."""
    from tests.support.stored_points import read_laps

    return [
        (attempt, lap, int(step), float(value))
        for (attempt, lap), points in read_laps(run_id, series).items()
        for step, value in zip(points.steps, points.values, strict=True)
    ]


def uninterrupted(run_id: int, steps: int) -> dict[int, float]:
    """Return the loss of each step of the same training without interruptions."""
    import torch

    from runs.models import Run
    from steersman import Run as Client
    from trainer.worker.loop import train
    from trainer.worker.randomness import seed_everything
    from trainer.worker.recipe import load_recipe

    class Remembering(Client):
        def __init__(self) -> None:
            super().__init__()
            self.losses: dict[int, float] = {}

        def log(self, step: int, /, **values: Any) -> None:
            self.losses[step] = float(values["train/loss"])
            if step >= steps:
                self.request_stop()

    run = Run.objects.get(pk=run_id)
    torch.set_num_threads(1)
    recipe = load_recipe(RECIPE)(run.parameters | {"loader_workers": 0}, device=torch.device("cpu"), seed=run.seed)
    seed_everything(run.seed, run.deterministic)
    remembering = Remembering()
    train(recipe, remembering)
    return remembering.losses
