"""Kill worker, supervisor and web server with -9 around rollbacks and branches of a recipe; count what is lost,
doubled or wrong.

usage: python -m tests.chaos.processes.rolled_back [--kills 40] [--seed N]

Before each kill the training is asked to roll back to a checkpoint, the newest or any other that led to where it is.
Nothing is changed by a rollback here, so the loss of each step must be that of a training to which nothing happened,
in every lap. Meanwhile the portal is asked for a branch at another checkpoint; a request that was cut off is repeated
under its id until it is answered. Prints progress to stderr and one JSON object as its last line: the keys of
`tests.chaos.kill --resume`, and
roll_backs       how many the training did
wrong_segment    attempts that did not resume from the newest checkpoint of those that were not abandoned
wrong_marks      epochs and checkpoints that are marked as abandoned and were not, or the other way round
unsettled        commands to roll back of which nobody says what became of them
branches         how many were opened
wrong_branches   requests that opened none or several, and branches whose copy of the checkpoint is not what was saved
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any
from uuid import uuid4

from tests.chaos.kill import WRONG_RESUMED, run_kills
from tests.support.killing import Key, Resuming, stored_points
from tests.support.stack import Stack, wait_for
from tests.support.watcher import Watcher

WRONG = (*WRONG_RESUMED, "wrong_segment", "wrong_marks", "unsettled", "wrong_branches")
SETTLED = ("applied", "refused", "expired")


def numbered(points: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return attempt, step and how often that step was trained before, for points in the order of training."""
    times: Counter[tuple[int, int]] = Counter()
    found = []
    for point in points:
        found.append((*point, times[point]))
        times[point] += 1
    return found


def numbered_by_lap(points: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Return the same for points with laps. A point that occurs twice in a lap is returned twice."""
    points = list(points)
    laps: dict[tuple[int, int], set[int]] = {}
    for attempt, lap, step in points:
        laps.setdefault((attempt, step), set()).add(lap)
    return [(attempt, step, sorted(laps[attempt, step]).index(lap)) for attempt, lap, step in points]


class RollingBack(Resuming):
    """A recipe that is rolled back around each kill. A point is identified by attempt, step and repetition."""

    targets = ("worker", "supervisor", "both", "supervisor", "worker", "web")

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        super().__init__(stack, rng)
        # The checkpoints that were asked for, by the id of the request.
        self.asked: dict[str, int] = {}
        self.refused: set[str] = set()
        self.opening: list[threading.Thread] = []

    def noted(self) -> list[Key]:
        return numbered(super().noted())

    def stored(self) -> list[Key]:
        points = stored_points(self.run_id, self.series)
        return numbered_by_lap((attempt, lap, step) for attempt, lap, step, _ in points)

    def seen(self, watcher: Watcher) -> list[Key]:
        return numbered_by_lap(watcher.laps(self.series))

    def wait_for_moment(self, target: str) -> None:
        """Request a rollback, and wait for up to half a second: it may be pending, in progress or done."""
        from runs.models import Run
        from runs.protocol.commands import RollBack
        from runs.recording.record_side.lineage import lineage

        self._look_for_half_files()
        wait_for(self._is_held, "the supervisor to hold the run")
        wait_for(self._has_whole_checkpoint, "a checkpoint")
        run = Run.objects.get(pk=self.run_id)
        there = [each for each in lineage(run) if (self._folder / each.path).exists()]
        if there:
            self.ask_for_branch(self.rng.choice(there))
            self.ask(RollBack(checkpoint=self.rng.choice(["newest", *(str(each.pk) for each in there)])))
        time.sleep(self.rng.uniform(0, 0.5))

    def ask_for_branch(self, checkpoint: Any) -> None:
        """Ask the portal for a branch, in a thread: the web server may be killed while it copies the checkpoint."""
        key = str(uuid4())
        self.asked[key] = checkpoint.step
        thread = threading.Thread(target=self._open_branch, args=(key, checkpoint.pk), daemon=True)
        self.opening.append(thread)
        thread.start()

    def _open_branch(self, key: str, checkpoint_id: int) -> None:
        body = json.dumps({"id": key, "checkpoint": checkpoint_id, "name": key}).encode()
        request = urllib.request.Request(
            f"{self.stack.address}/api/runs/{self.run_id}/branches/", body,
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )  # fmt: skip

        def is_answered() -> bool:
            try:
                with urllib.request.urlopen(request, timeout=60):
                    return True
            except urllib.error.HTTPError as error:
                # The checkpoint may have been removed since; all else is tried again.
                if error.code == 409:
                    self.refused.add(key)
                return error.code == 409
            except (OSError, http.client.HTTPException):
                return False

        wait_for(is_answered, "the answer to a request for a branch", timeout_s=120)

    @cached_property
    def token(self) -> str:
        words = ("create_token", "--project", "lab", "--scope", "command", "--user", "operator")
        return next(word for word in self.stack.manage(*words).stdout.split() if word.startswith("stm_"))

    def judge_branches(self) -> dict[str, int]:
        """Hold what was asked for against the branches and their copies of the checkpoints."""
        from runs.models import Branch, Checkpoint
        from steersman.files.checkpoint import Damaged, verify_checkpoint

        for thread in self.opening:
            thread.join()
        opened = Branch.objects.filter(source=self.run_id)
        wrong = abs(len(self.asked) - len(self.refused) - opened.count())
        for branch in opened.select_related("run"):
            copy = Checkpoint.objects.get(run=branch.run)
            try:
                manifest = verify_checkpoint(self.stack.data / "runs" / str(branch.run_id) / copy.path, copy.sha256)
                wrong += not manifest.step == copy.step == branch.step == self.asked[branch.run.name]
            except Damaged:
                wrong += 1
        return {"branches": opened.count(), "wrong_branches": wrong}

    def _is_held(self) -> bool:
        """Return whether the newest supervisor has opened or adopted an attempt, so that commands are delivered."""
        from runs.models import Attempt

        self.ensure_training()
        assert self.supervisor is not None
        newest = Attempt.objects.filter(run=self.run_id).order_by("-number").first()
        return newest is not None and newest.supervisor_pid == self.supervisor.pid

    @property
    def _folder(self) -> Any:
        return self.stack.data / "runs" / str(self.run_id)

    def judge(self) -> dict[str, int]:
        from runs.models import Command, CommandState

        asked = Command.objects.filter(run_id=self.run_id, kind="roll_back")
        return (
            super().judge()
            | self.judge_branches()
            | {
                "roll_backs": asked.filter(state=CommandState.APPLIED).count(),
                "unsettled": asked.exclude(state__in=SETTLED).count(),
                **self._judge_segments(),
            }
        )

    def _judge_segments(self) -> dict[str, int]:
        """Apply the recorded events in order, and compare the result with the rows."""
        from runs.models import Attempt, Checkpoint, EpochMetric

        resumed = dict(Attempt.objects.filter(run=self.run_id).values_list("number", "resumed_step"))
        valid: dict[str, int] = {}
        epochs: dict[tuple[int, int, int], int] = {}
        wrong, attempt = 0, 0
        for event in self._events():
            if event["attempt"] > attempt:
                attempt = event["attempt"]
                newest = max(valid.values(), default=None)
                wrong += resumed[attempt] != newest
                valid = {name: step for name, step in valid.items() if newest is not None and step <= newest}
            match event["kind"]:
                case "checkpoint":
                    valid[event["id"]] = event["step"]
                case "checkpoints_removed":
                    valid = {name: step for name, step in valid.items() if name not in event["ids"]}
                case "epoch":
                    epochs[event["attempt"], event["epoch"], event["order"]] = event["step"]
                case "rolled_back":
                    valid = {name: step for name, step in valid.items() if step <= event["step"]}
                    epochs = {place: step for place, step in epochs.items() if step <= event["step"]}
        stored = EpochMetric.objects.filter(run_id=self.run_id, abandoned=False)
        marks = set(stored.values_list("attempt", "epoch", "order")) ^ set(epochs)
        whole = set(Checkpoint.objects.filter(run_id=self.run_id, abandoned=False).values_list("pk", flat=True))
        return {"wrong_segment": wrong, "wrong_marks": len(marks) + len(set(valid) - whole)}

    def _events(self) -> Iterator[dict[str, Any]]:
        from runs.models import StoredEvent

        stored = StoredEvent.objects.filter(run_id=self.run_id).order_by("seq")
        for frame in stored.values_list("frame", flat=True):
            event = json.loads(frame)
            if event.get("attempt") is not None:
                yield event


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = run_kills(arguments.kills, arguments.seed, RollingBack)
    print(json.dumps({"seed": arguments.seed, **result}))
    return int(any(result[name] for name in WRONG))


if __name__ == "__main__":
    sys.exit(main())
