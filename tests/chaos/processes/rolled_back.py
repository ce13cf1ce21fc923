"""Kill worker, supervisor and web server around roll backs of a recipe; count what is lost, doubled or wrong.

usage: python -m tests.chaos.processes.rolled_back [--kills 40] [--seed N]

Before each kill the program commands a roll back to a checkpoint, the newest or an earlier one of the same line. These
roll backs change nothing, so the loss of each step must be that of an uninterrupted training in every lap. Prints
progress to stderr and one JSON object as its last line: the keys of `tests.chaos.kill --resume`, and
roll_backs       roll backs that the training did
wrong_segment    attempts that did not resume from the newest checkpoint that was not abandoned
wrong_marks      epochs and checkpoints with a wrong mark of abandonment
unsettled        commands to roll back without an outcome
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tests.chaos.kill import WRONG_RESUMED, run_kills
from tests.support.killing import Key, Resuming, stored_points
from tests.support.stack import wait_for
from tests.support.watcher import Watcher

WRONG = (*WRONG_RESUMED, "wrong_segment", "wrong_marks", "unsettled")
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

    def noted(self) -> list[Key]:
        return numbered(super().noted())

    def stored(self) -> list[Key]:
        points = stored_points(self.run_id, self.series)
        return numbered_by_lap((attempt, lap, step) for attempt, lap, step, _ in points)

    def seen(self, watcher: Watcher) -> list[Key]:
        return numbered_by_lap(watcher.laps(self.series))

    def wait_for_moment(self, target: str) -> None:
        """Request a roll back, and wait for up to half a second: it may be pending, in progress or done."""
        from runs.models import Run
        from runs.protocol.commands import RollBack
        from runs.recording.record_side.lineage import lineage

        self._look_for_half_files()
        wait_for(self._is_held, "the supervisor to hold the run")
        wait_for(self._has_whole_checkpoint, "a checkpoint")
        run = Run.objects.get(pk=self.run_id)
        there = [each for each in lineage(run) if (self._folder / each.path).exists()]
        if there:
            self.ask(RollBack(checkpoint=self.rng.choice(["newest", *(str(each.pk) for each in there)])))
        time.sleep(self.rng.uniform(0, 0.5))

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
        return super().judge() | {
            "roll_backs": asked.filter(state=CommandState.APPLIED).count(),
            "unsettled": asked.exclude(state__in=SETTLED).count(),
            **self._judge_segments(),
        }

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
