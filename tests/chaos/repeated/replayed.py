"""Run families again: random ledgers with rollbacks, restarts and branches; count the values that differ.

usage: python -m tests.chaos.repeated.replayed [--ledgers 20] [--seed N] [--leave-out-a-knob]

Each ledger is of a run and its branch, on 1 or 2 ranks. Both are run again with their interventions, and every value
of every step and epoch must be the same, bit for bit, in every lap. Prints progress to stderr and one JSON object as
its last line:
ledgers           families that were run again
roll_backs        applied to their runs and branches
branches          that were run again on the new run
values_compared   of steps and epochs
differing_values  of those, how many differ or are missing on one side; with --leave-out-a-knob it must not be 0
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import Any

from tests.chaos.repeated.ledgers import Family, random_family
from tests.support.killing import stored_points
from tests.support.stack import Stack, seed_project, wait_for

SERIES = ("train/loss", "train/accuracy", "optimizer/learning_rate", "optimizer/gradient_norm")
# Of an epoch: its duration and speed are of no two runs the same.
EPOCH_VALUES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate")
AT_ONCE = 2


def curve(run: Any, series: str, lost_after: int | None = None) -> list[tuple[int, float]]:
    """Return steps and values in the order of training, without what a later attempt did again."""
    points = sorted(stored_points(run.pk, series))
    if lost_after is not None:
        last_lap = max(lap for attempt, lap, *_ in points if attempt == 1)
        points = [each for each in points if each[:2] != (1, last_lap) or each[2] <= lost_after]
    return [(step, value) for *_, step, value in points]


def epochs(run: Any, lost_after: int | None = None) -> list[tuple[Any, ...]]:
    """Return the values of the epochs in the order of training, of attempts in a row."""
    rows = run.epochs.order_by("attempt", "pk")
    if lost_after is not None:
        lost = run.epochs.filter(attempt=1, step__gt=lost_after, abandoned=False).values_list("pk", flat=True)
        rows = rows.exclude(pk__in=list(lost))
    return [(row.epoch, row.step, *(getattr(row, name) for name in EPOCH_VALUES)) for row in rows]


def compared(old: Any, new: Any, lost_after: int | None = None) -> tuple[int, int]:
    """Return how many values of two runs were compared, and how many differ."""
    pairs: list[tuple[Any, Any]] = []
    for series in SERIES:
        pairs += zip_longest(curve(old, series, lost_after), curve(new, series))
    for before, after in zip_longest(epochs(old, lost_after), epochs(new), fillvalue=()):
        pairs += zip_longest(before, after)
    return len(pairs), sum(before != after for before, after in pairs)


def run_again(stack: Stack, old: Any, source: Any = None, leaves_out_a_knob: bool = False) -> Any:
    """Run a run again with its interventions; return the new run once it has finished."""
    from runs.branching.requests import Author
    from runs.models import Run
    from runs.replaying.again import AgainRequest, run_again

    new, _is_new = run_again(old, AgainRequest(source=source), Author("replay test"))
    if leaves_out_a_knob:
        new.commands.filter(pk__in=new.commands.filter(kind="set_knob").order_by("sent_at")[:1]).delete()
    stack.train(new.pk, "--quiet")

    def is_finished() -> bool:
        state = Run.objects.get(pk=new.pk).state
        assert state in ("created", "running", "paused", "finished"), f"{state}\n{stack.log()}"
        return bool(state == "finished")

    wait_for(is_finished, lambda: f"run {new.pk} to finish\n{stack.log()}", timeout_s=120)
    return Run.objects.get(pk=new.pk)


def judge(stack: Stack, family: Family, leaves_out_a_knob: bool) -> dict[str, int]:
    """Run a family again; return what was compared."""
    from runs.models import Command

    run = run_again(stack, family.run, leaves_out_a_knob=leaves_out_a_knob)
    branch = run_again(stack, family.branch, source=run)
    counts = [compared(family.run, run, family.lost_after), compared(family.branch, branch)]
    refused = Command.objects.filter(run__in=(run, branch)).exclude(state="applied")
    assert not refused.exists(), [(each.kind, each.at_step, each.at_roll_backs, each.outcome) for each in refused]
    applied = Command.objects.filter(run__in=(family.run, family.branch), kind="roll_back", state="applied")
    return {
        "roll_backs": applied.count(),
        "branches": 1,
        "values_compared": sum(count for count, _ in counts),
        "differing_values": sum(differing for _, differing in counts),
    }


def measure(ledgers: int, seed: int, leaves_out_a_knob: bool) -> dict[str, int]:
    total = dict.fromkeys(("roll_backs", "branches", "values_compared", "differing_values"), 0)
    began = time.monotonic()
    Stack.forks = True
    with Stack() as stack:
        stack.migrate()
        stack.use()
        seed_project()
        stack.start_redis()
        stack.manage("recipes", "--publish", "digits")

        def one(number: int) -> dict[str, int]:
            from django.db import connection

            try:
                family = random_family(stack, random.Random(f"{seed}/{number}"), ranks=1 + number % 2)
                return judge(stack, family, leaves_out_a_knob)
            finally:
                connection.close()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for number, found in enumerate(pool.map(one, range(ledgers)), start=1):
                for name, count in found.items():
                    total[name] += count
                print(f"{number}/{ledgers} after {time.monotonic() - began:.0f} s: {found}", file=sys.stderr)
    return {"ledgers": ledgers, **total}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledgers", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--leave-out-a-knob", action="store_true", help="show that a difference is found")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = measure(arguments.ledgers, arguments.seed, arguments.leave_out_a_knob)
    print(json.dumps({"seed": arguments.seed, **result}))
    return int(result["differing_values"] != 0)


if __name__ == "__main__":
    sys.exit(main())
