"""Kill worker, supervisor, web server and embedded server at random moments; count what is lost or doubled.

usage: python -m tests.chaos.kill [--kills 50] [--seed N] [--resume]

The program compares the worker's notes after each `log()` with the database, and with the events that a WebSocket
client received over all its reconnects. With --resume it trains a recipe, kills it while it saves too, and compares
every loss with an uninterrupted training. Prints progress to stderr and one JSON object as its last line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable

from tests.support.killing import Killing, Resuming
from tests.support.stack import Stack, operator_ticket, seed_project, wait_for
from tests.support.watcher import Watcher

WRONG = ("lost", "doubled", "unreadable", "viewer_missing", "viewer_doubled", "viewer_gaps")
WRONG_RESUMED = (*WRONG, "not_bit_equal", "half_files_listed", "resume_failed")


def run_kills(kills: int, seed: int, kind: Callable[[Stack, random.Random], Killing]) -> dict[str, int]:
    """Kill processes of a training of this kind; return how many points were lost, doubled and wrong, by name."""
    rng = random.Random(seed)
    with Stack() as stack:
        stack.migrate()
        stack.use()
        from runs.models import Attempt, Run

        seed_project()
        killing = kind(stack, rng)
        stack.start_redis()
        stack.start_web()
        watcher = Watcher(stack.address, killing.run_id, lambda: operator_ticket(killing.run_id))
        loop = asyncio.new_event_loop()
        following = threading.Thread(target=lambda: loop.run_until_complete(watcher.follow()), daemon=True)
        following.start()
        wait_for(lambda: watcher.resyncs, "the viewer to be greeted, before there is anything to miss")
        targets = killing.targets
        for number in range(kills):
            target = targets[number] if number < len(targets) else rng.choice(targets)
            killing.kill_one(target)
            print(f"kill {number + 1}/{kills}: {target}, {len(killing.noted())} steps noted", file=sys.stderr)
        killing.stop()
        last = Run.objects.get(pk=killing.run_id).last_seq
        wait_for(lambda: watcher.last_seq >= last, "the viewer to catch up")
        asyncio.run_coroutine_threadsafe(watcher.stop(), loop)
        following.join(60)

        noted, stored = killing.noted(), Counter(killing.stored())
        seen = Counter(killing.seen(watcher))
        numbers = [event["seq"] for event in watcher.events]
        first = watcher.resyncs[0] if watcher.resyncs else 0
        # A viewer that missed more than is replayed reloads the history, and finds it there.
        reloaded = set(stored) if len(watcher.resyncs) > 1 else set()
        return {
            "kills": sum(killing.killed.values()),
            "lost": sum(1 for point in noted if point not in stored),
            "doubled": sum(count - 1 for count in stored.values()),
            "unreadable": sum(Attempt.objects.filter(run=killing.run_id).values_list("unreadable_records", flat=True)),
            "viewer_missing": sum(1 for point in noted if point not in seen and point not in reloaded),
            "viewer_doubled": sum(count - 1 for count in seen.values()) + len(numbers) - len(set(numbers)),
            "viewer_gaps": 0 if reloaded else last - first - len(numbers),
            **killing.judge(),
            "viewer_reloads": len(watcher.resyncs) - 1,
            "points": len(noted),
            "attempts": Attempt.objects.filter(run=killing.run_id).count(),
            "adoptions": sum(Attempt.objects.filter(run=killing.run_id).values_list("adoptions", flat=True)),
            "connections": watcher.connections,
            **{f"killed_{target}": count for target, count in sorted(killing.killed.items())},
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--resume", action="store_true", help="train a recipe and hold every loss against its own")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", file=sys.stderr)
    result = run_kills(arguments.kills, arguments.seed, Resuming if arguments.resume else Killing)
    print(json.dumps({"seed": arguments.seed, **result}))
    return int(any(result[name] for name in (WRONG_RESUMED if arguments.resume else WRONG)))


if __name__ == "__main__":
    sys.exit(main())
