"""Trainings, their viewers and visitors of the portal during faults of the SQLite file, then many viewers of one file.

usage: python -m tests.chaos.sqlite_gone [--short]

The file is locked for 20 s, read-only, on a full disk, and replaced by a recent copy; then three trainings and 50
viewers share it for a minute. The read-only file and the full disk need root. Prints progress to stderr and one JSON
object as its last line; its keys are those of `tests.chaos.postgres_gone`, and:
locked_errors       lines of the logs about a locked database while many viewers watch
false_unreachable   runs wrongly reported as unreachable, before the file is replaced and its supervisor ends
train_exit_code     exit code of the supervisor whose file was replaced: not 0
crowd_silence_s     longest time without anything new for one of the many viewers
skipped             faults that were left out here
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from tests.chaos.postgres_gone import logged, result_of
from tests.chaos.truth import watching
from tests.outage.followed import Followed, say, token_of
from tests.outage.own_disk import NEEDS_ROOT, can_mount, full, immutable, small_disk
from tests.outage.program import run_program
from tests.outage.visits import Visits
from tests.support import postgres
from tests.support.locked_database import write_locked
from tests.support.stack import Stack, rows, seed_stack, wait_for
from tests.support.watcher import Watcher, ticket_of

BESIDE = ("-wal", "-shm")
WRONG = (
    "lost", "doubled", "viewer_gaps", "false_unreachable", "pages_5xx_other_than_503", "locked_errors", "ended_well"
)  # fmt: skip


class Story:
    def __init__(self, stack: Stack, followed: Followed, visits: Visits, fault_s: float, calm_s: float) -> None:
        self._stack, self._followed, self._visits = stack, followed, visits
        self._fault_s, self._calm_s = fault_s, calm_s
        self._file = stack.data / "steersman.sqlite3"
        self.recovered: dict[str, float] = {}

    def locked(self) -> None:
        with write_locked(self._stack, self._followed.run_id):
            self._followed.trouble(self._fault_s)
        self._note("locked")

    def read_only(self) -> None:
        # Leave out the -shm file: the kernel ends a process that writes to the memory of an immutable file.
        with immutable(self._file, self._file.with_name(self._file.name + "-wal")):
            self._followed.trouble(self._fault_s)
        self._note("read-only")

    def full(self) -> None:
        with full(self._stack.data):
            self._followed.trouble(self._fault_s)
        self._note("full")

    def replaced(self) -> int:
        """Replace the file by a recent copy; return the exit code of the supervisor."""
        copy = self._file.with_name("copy")
        with closing(sqlite3.connect(self._file)) as here, closing(sqlite3.connect(copy)) as there:
            here.backup(there)
        self._followed.trouble(2.0)
        for end in BESIDE:
            self._file.with_name(self._file.name + end).unlink(missing_ok=True)
        copy.chmod(0o600)
        copy.replace(self._file)
        told = len(self._followed.viewer.resyncs)
        code = self._followed.supervisor.wait(60)
        sql = "SELECT adoptions FROM runs_attempt WHERE run_id = ?"
        wait_for(lambda: rows(self._stack, sql, self._followed.run_id)[0]["adoptions"], "another supervisor")
        wait_for(lambda: len(self._followed.viewer.resyncs) > told, "the viewer to be told of another past")
        self._note("replaced")
        return code

    def _note(self, name: str) -> None:
        took_s = self._followed.recovered_s(self._visits.is_well)
        self.recovered[name] = round(took_s, 2)
        say(f"{name}: well after {took_s:.2f} s; links {self._followed.viewer.links}")
        self._followed.rest(self._calm_s)


@contextmanager
def crowd(stack: Stack, token: str, run_ids: list[int], viewers: int) -> Iterator[list[Watcher]]:
    """Connect viewers, distributed over the runs, until the end of the context."""
    watchers = [
        Watcher(stack.address, run_id, lambda run_id=run_id: ticket_of(stack, run_id, token))  # type: ignore[misc]
        for run_id in (run_ids[number % len(run_ids)] for number in range(viewers))
    ]

    async def follow() -> None:
        await asyncio.gather(*(watcher.follow() for watcher in watchers))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(follow(),), daemon=True)
    thread.start()
    try:
        wait_for(lambda: all(watcher.events for watcher in watchers), "the crowd to be greeted")
        yield watchers
    finally:
        for watcher in watchers:
            asyncio.run_coroutine_threadsafe(watcher.stop(), loop)
        thread.join(60)


def share(stack: Stack, token: str, viewers: int, seconds: float) -> dict[str, Any]:
    """Let three trainings and many viewers share the file; return what went wrong."""
    told = len(logged(stack))
    with ExitStack() as trainings:
        three = [trainings.enter_context(Followed(stack, token, f"crowd-{number}")) for number in range(3)]
        with crowd(stack, token, [each.run_id for each in three], viewers) as watchers:
            three[0].rest(seconds)
            silence_s = max(
                later - earlier
                for watcher in watchers
                for earlier, later in zip(watcher.received_at, watcher.received_at[1:], strict=False)
            )
            connections = sum(watcher.connections for watcher in watchers)
        for each in three:
            each.end()
        found = [each.points() for each in three]
    say(f"the crowd: {found}, {connections} connections of {viewers} viewers")
    return {
        "crowd": {name: sum(each[name] for each in found) for name in found[0]},
        "crowd_silence_s": round(silence_s, 2),
        "locked_errors": sum("locked" in line for line in logged(stack)[told:]),
    }


def measure(short: bool) -> dict[str, Any]:
    os.environ.pop(postgres.VARIABLE, None)
    has_disk = can_mount()
    with ExitStack() as undo:
        stack = undo.enter_context(Stack(undo.enter_context(small_disk()) if has_disk else None))
        seed_stack(stack)
        stack.use()
        stack.start_redis()
        stack.start_web()
        token = token_of(stack)
        with watching(stack), Followed(stack, token) as followed, Visits(stack, token) as visits:
            wait_for(lambda: followed.viewer.links[-1] == "live", "the viewer to be live")
            story = Story(stack, followed, visits, 4.0 if short else 20.0, 1.0 if short else 5.0)
            followed.rest(1.0 if short else 5.0)
            story.locked()
            if has_disk:
                story.read_only()
                story.full()
            # There is no supervisor until the next one has started.
            false_lives = followed.false_lives()
            code = story.replaced()
            followed.end()
            result = result_of(stack, followed, visits, story.recovered)
        crowded = share(stack, token, 10 if short else 50, 3.0 if short else 60.0)
        for name in ("points", "lost", "doubled", "viewer_gaps"):
            result[name] += crowded["crowd"][name]
        return result | crowded | {
            "false_unreachable": false_lives, "train_exit_code": code, "ended_well": int(code == 0),
            "skipped": "" if has_disk else NEEDS_ROOT,
        }  # fmt: skip


def main() -> int:
    return run_program(measure, __doc__, "shorter outages and a small crowd: half a minute in all", WRONG)


if __name__ == "__main__":
    sys.exit(main())
