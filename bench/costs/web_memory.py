"""Measure the memory of a web process while 20 clients watch a live run and people read its pages.

usage: python bench/costs/web_memory.py

Prints one JSON object as its last line; memory is in MiB (2**20 bytes):
rss_mb        resident memory of the web process at the end
pss_mb        the same, with shared pages divided among the processes that use them
peak_mb       highest resident memory
torch_mapped  whether the process maps any file of torch
clients       number of clients
events        events that all clients together received
pages         pages read meanwhile
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.support.browsing import logged_in  # noqa: E402
from tests.support.stack import Stack, operator_ticket, seed_project  # noqa: E402
from tests.support.watcher import Watcher  # noqa: E402

CLIENTS = 20
POINTS_PER_SECOND = 50
SECONDS = 15
STEP_TIMEOUT_S = 60
WORKER = Path(__file__).resolve().parents[2] / "tests" / "trainings" / "paced.py"
# The pages that people open during a run: the list of runs, the run, its history, and the admin with its charts.
PAGES = (
    "/", "/runs/{run}/", "/api/runs/{run}/history/?form=columns", "/api/runs/{run}/details/", "/admin/",
    "/admin/runs/run/", "/admin/runs/run/{run}/change/", "/admin/runs/run/{run}/export/series.csv",
)  # fmt: skip


def memory_mb(pid: int) -> dict[str, float]:
    """Return the memory of a process in MiB by the names of proc(5): VmRSS, VmHWM, Pss."""
    found = {}
    for name in ("status", "smaps_rollup"):
        for row in Path(f"/proc/{pid}/{name}").read_text().splitlines():
            key, _, value = row.partition(":")
            if value.endswith(" kB"):
                found.setdefault(key, int(value.split()[0]) / 1024)
    return found


def torch_is_mapped(pid: int) -> bool:
    """Return whether the process has a file of torch's package in its address space."""
    return bool(re.search(r"/torch/|libtorch|libc10", Path(f"/proc/{pid}/maps").read_text()))


def read_pages(address: str, run_id: int, user: str) -> int:
    """Log in and read every page; return the number of pages."""
    browser = logged_in(address, user)
    for path in PAGES:
        with browser.open(address + path.format(run=run_id)) as page:
            page.read()
    return len(PAGES)


async def watch(stack: Stack, run_id: int, tickets: list[str]) -> tuple[list[Watcher], int, dict[str, float], bool]:
    """Follow the run from its first point to its last.

    Returns the watchers, their events, and the memory measured before any of them leaves.
    """
    assert stack.web is not None
    watchers = [Watcher(stack.address, run_id, lambda ticket=ticket: ticket) for ticket in tickets]  # type: ignore[misc]
    following = [asyncio.create_task(watcher.follow()) for watcher in watchers]
    async with asyncio.timeout(STEP_TIMEOUT_S):
        while not all(watcher.hello for watcher in watchers):
            await asyncio.sleep(0.05)
    stack.train(run_id, "--quiet", "--", str(WORKER), str(POINTS_PER_SECOND), str(SECONDS))
    async with asyncio.timeout(STEP_TIMEOUT_S):
        while not all(watcher.steps("called_at") for watcher in watchers):
            await asyncio.sleep(0.1)
    pages = await asyncio.to_thread(read_pages, stack.address, run_id, "admin")
    async with asyncio.timeout(SECONDS + STEP_TIMEOUT_S):
        while not all(len(watcher.steps("called_at")) >= POINTS_PER_SECOND * SECONDS for watcher in watchers):
            await asyncio.sleep(0.2)
    memory, torch = memory_mb(stack.web.pid), torch_is_mapped(stack.web.pid)
    for watcher in watchers:
        await watcher.stop()
    await asyncio.gather(*following)
    return watchers, pages, memory, torch


def main() -> int:
    with Stack() as stack:
        print("starting embedded server and Daphne", file=sys.stderr)
        stack.migrate()
        stack.use()
        from django.contrib.auth.models import User

        from runs.models import Run

        project = seed_project((("operator", "operator"), ("admin", "owner")))
        User.objects.filter(username="admin").update(is_staff=True, is_superuser=True)
        run = Run.objects.create(project=project, name="memory")
        stack.start_redis()
        stack.start_web()
        tickets = [operator_ticket(run.pk) for _ in range(CLIENTS)]
        print(f"{CLIENTS} clients watch; logging {SECONDS} s", file=sys.stderr)
        watchers, pages, memory, torch = asyncio.run(watch(stack, run.pk, tickets))
    print(
        json.dumps(
            {
                "rss_mb": round(memory["VmRSS"], 1),
                "pss_mb": round(memory["Pss"], 1),
                "peak_mb": round(memory["VmHWM"], 1),
                "torch_mapped": torch,
                "clients": CLIENTS,
                "events": sum(len(watcher.events) for watcher in watchers),
                "pages": pages,
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
