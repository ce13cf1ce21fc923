"""Train in jobs of a private Slurm that are preempted, requeued, cancelled, killed, or exceed their time limit.

usage: python -m tests.chaos.slurm [--jobs 20]

Needs Debian's slurm-wlm and munge, and root. The daemon of the node is killed and restarted while all jobs train.
Prints progress to stderr and one JSON object as its last line: `jobs`, `runs`, `requeued` (runs with a second attempt),
`points`, and four counts that must be 0: `lost` points, `doubled` points, runs that are `left_running`, and runs whose
recorded end is wrong (`untrue`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tests.chaos.slurm.jobs import CONTINUED, FIRST_END, KINDS, TRAINING, Job
from tests.support.hosts.slurm import Slurm, why_not_here
from tests.support.hosts.training_host import Portal, TrainingHost
from tests.support.stack import Stack, seed_stack, wait_for

WRONG = ("lost", "doubled", "left_running", "untrue")
PATIENCE_S = 240.0
# By then it has saved a checkpoint.
STEPS = 15


class Cluster:
    """The jobs on one training host, which is a node of Slurm."""

    def __init__(self, stack: Stack, slurm: Slurm, jobs: int) -> None:
        self._stack, self._slurm = stack, slurm
        Portal(stack).start()
        self._host = TrainingHost(stack, stack.folder / "host")
        self._host.script(TRAINING)
        self._environment = self._host.environment | {"PATH": self._host.path_with_command()}
        self._jobs = [Job(f"job{number}", KINDS[number % len(KINDS)]) for number in range(jobs)]

    def run(self) -> dict[str, Any]:
        for job in self._jobs:
            job.number = self._slurm.submit(job.script, self._host.folder, self._environment, *job.options)
        self._tell("submitted")
        for job in self._jobs:
            wait_for(
                lambda job=job: self._reaches(job, 0, STEPS), lambda job=job: f"{job}\n{self._log(job)}", PATIENCE_S
            )
        self._slurm.restart_node()
        for job in self._jobs:
            self._goes_on(job)
        self._tell("all train, and the node was started again")
        self._end_first()
        self._tell("ended, cancelled, killed and requeued")
        self._preempt()
        self._tell("preempted")
        self._continue()
        self._tell("continued")
        return self._judge()

    def _of(self, *kinds: str) -> list[Job]:
        return [job for job in self._jobs if job.kind in kinds]

    def _end_first(self) -> None:
        """End all jobs but those that are to be preempted."""
        for job in self._of("requeue"):
            self._slurm.ask("scontrol", "requeue", str(job.number))
        for job in self._of("cancel"):
            self._slurm.ask("scancel", str(job.number))
        for job in self._of("kill"):
            self._slurm.ask("scancel", "--signal=KILL", "--full", str(job.number))
        for job in self._of("finish"):
            self._enough(job)
        for job in self._of("cancel", "kill", "finish", "time", "requeue"):
            wait_for(lambda job=job: self._is_over(job), lambda job=job: f"{job} to end\n{self._log(job)}", PATIENCE_S)

    def _preempt(self) -> None:
        """Preempt all jobs that are left by one that needs the whole node."""
        if not self._of("preempt"):
            return
        other = self._slurm.submit("#!/bin/sh\ntrue\n", self._host.folder, self._environment, *HIGH)
        wait_for(lambda: self._slurm.job(other)["JobState"] == "COMPLETED", "the other job", PATIENCE_S)

    def _continue(self) -> None:
        """Let requeued jobs finish, and have the rest of killed ones stored."""
        for job in self._of(*CONTINUED):
            wait_for(
                lambda job=job: self._continues(job), lambda job=job: f"{job} to continue\n{self._log(job)}", PATIENCE_S
            )
            self._enough(job)
        for job in self._of(*CONTINUED):
            wait_for(
                lambda job=job: self._is_over(job), lambda job=job: f"{job} to finish\n{self._log(job)}", PATIENCE_S
            )
        code = self._host.start("sync", **self._slurm.variables).wait(PATIENCE_S)
        assert code == 0, f"steersman sync ended with {code}\n{self._host.printed()}"

    def _continues(self, job: Job) -> bool:
        if self._slurm.job(job.number)["JobState"] == "PENDING":
            self._slurm.hurry(job.number)
        return self._reaches(job, 1, 1)

    def _enough(self, job: Job) -> None:
        (self._host.folder / f"{job.name}.enough").touch()

    def _is_over(self, job: Job) -> bool:
        state = self._slurm.job(job.number)["JobState"]
        return state not in ("RUNNING", "COMPLETING", "SIGNALING", "CONFIGURING") and (
            state != "PENDING" or job.kind in CONTINUED
        )

    def _logged(self, job: Job) -> list[tuple[int, int]]:
        """Return what the training has logged: how often its job was started before, and the step."""
        path = self._host.folder / f"{job.name}.logged"
        text = path.read_text() if path.exists() else ""
        return [(int(turn), int(step)) for turn, step in (line.split() for line in text.splitlines())]

    def _reaches(self, job: Job, turn: int, steps: int) -> bool:
        return sum(1 for at, _ in self._logged(job) if at == turn) >= steps

    def _goes_on(self, job: Job) -> None:
        before = len(self._logged(job))
        wait_for(
            lambda: len(self._logged(job)) > before, lambda job=job: f"{job} to go on\n{self._log(job)}", PATIENCE_S
        )

    def _judge(self) -> dict[str, Any]:
        from runs.models import Run
        from runs.recording.lifecycle import LIVE
        from tests.support.killing import stored_points

        result: Counter[str] = Counter(dict.fromkeys(("requeued", "points", *WRONG), 0))
        for job in self._jobs:
            run = Run.objects.get(name=job.name)
            stored = Counter((attempt - 1, step) for attempt, _, step, _ in stored_points(run.pk, "loss"))
            logged = set(self._logged(job))
            result["points"] += stored.total()
            result["lost"] += len(logged - stored.keys())
            result["doubled"] += stored.total() - len(stored)
            result["requeued"] += run.attempt > 1
            result["left_running"] += run.state in LIVE or run.state == "queued"
            if not self._is_true(job, run, logged):
                result["untrue"] += 1
                print(f"{job}: {list(run.attempts.values_list('outcome', 'error'))}", file=sys.stderr)
        return {"jobs": len(self._jobs), "runs": Run.objects.count(), **result}

    def _is_true(self, job: Job, run: Any, logged: set[tuple[int, int]]) -> bool:
        """Return whether the ends of its attempts are those that Slurm has brought about."""
        first = run.attempts.get(number=1)
        if job.kind in FIRST_END and (first.outcome, first.error) != FIRST_END[job.kind]:
            return False
        if job.kind not in CONTINUED:
            return bool(run.attempt == 1)
        # It was stopped with a checkpoint, and continued there.
        steps = {turn: [step for at, step in logged if at == turn] for turn in (0, 1)}
        return bool(run.attempt == 2 and run.state == "finished" and min(steps[1]) == max(steps[0]) + 1)

    def _log(self, job: Job) -> str:
        path = self._host.folder / f"{job.number}.out"
        return (path.read_text() if path.exists() else "") + self._slurm.log()

    def _tell(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._host.close()


HIGH = ("--partition=high", "--exclusive")


def run_slurm(jobs: int) -> dict[str, Any]:
    with Stack() as stack:
        seed_stack(stack)
        stack.use()
        stack.start_redis()
        folder = Path(stack.folder) / "slurm"
        with Slurm(folder, cpus=2 * jobs) as slurm:
            cluster = Cluster(stack, slurm, jobs)
            try:
                return cluster.run()
            finally:
                cluster.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20)
    arguments = parser.parse_args()
    if problem := why_not_here():
        parser.error(problem)
    result = run_slurm(arguments.jobs)
    print(json.dumps(result))
    return int(any(result[name] for name in WRONG) or result["runs"] != result["jobs"])


if __name__ == "__main__":
    sys.exit(main())
