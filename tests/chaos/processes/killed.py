"""A training, its operator and its page while first the supervisor, then the web process, are killed with SIGKILL.

usage: python -m tests.chaos.processes.killed [--short]

`manage.py serve` restarts the killed processes. Prints progress to stderr and one JSON object as its last line:
points, lost, doubled   logged points, and how many of them the database lost or has twice
viewer_gaps             events that the viewer missed, or received twice
false_unreachable       how often the viewer received that the training is silent, which it never was
commands_s              longest time from the death of a supervisor until a command sent right after it is applied
adopted_s               longest time until another supervisor holds the run
portal_s                time from the death of the web process until a viewer that retries every 0.1 s receives news
page_s                  longest time until the page of the run in a browser is live; null without a browser
supervisors, portals    how many were killed
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import psutil

from monitor_site.serving.child_processes import CHILD_HEALTHY_S
from tests.outage.followed import Followed, say, token_of
from tests.outage.program import run_program
from tests.support.stack import Stack, kill, rows, seed_stack, wait_for

WRONG = ("lost", "doubled", "viewer_gaps", "false_unreachable")
CALM_S = 1.0
# If a process dies again sooner, it is restarted later, which would not be a single death any longer.
HEALTHY_S = CHILD_HEALTHY_S + 1.0


@contextmanager
def served(stack: Stack) -> Iterator[psutil.Process]:
    """Run `manage.py serve` on the stack's data; yield its process."""
    with (stack.folder / "serve.log").open("ab") as log:
        serve = subprocess.Popen(stack.command("serve"), env=stack.environment, stdout=log, stderr=log)
    try:
        stack.wait_for_web()
        wait_for(lambda: rows(stack, "SELECT 1 FROM runs_host"), lambda: f"the watch\n{stack.log()}")
        yield psutil.Process(serve.pid)
    finally:
        serve.send_signal(signal.SIGINT)
        serve.wait(60)


@contextmanager
def opened_page(stack: Stack, run_id: int) -> Iterator[Any]:
    """Show the run in Chromium; yield its page, None if there is no Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        yield None
        return
    from playwright.sync_api import sync_playwright

    from tests.support.browser import FLAGS, log_in

    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=FLAGS) as browser:
        page = browser.new_page()
        log_in(page, stack.address, "operator", "operator")
        page.goto(f"{stack.address}/runs/{run_id}/")
        wait_for(lambda: link_of(page) == "live", "the page to be live")
        yield page


def link_of(page: Any) -> str | None:
    link: str | None = page.get_by_test_id("run").get_attribute("data-link")
    return link


def ask(run_id: int, command: Any) -> str:
    """Send a command as its own transaction; return its id."""
    from runs.commands.record import record
    from runs.protocol.commands import Request

    request = Request(id=uuid4(), command=command)
    record(run_id, request, author_id=None, author_name="operator")
    return str(request.id)


def wait_until_applied(stack: Stack, command_id: str) -> None:
    from runs.models import Command

    def row() -> Command:
        return Command.objects.get(pk=command_id)

    wait_for(
        lambda: row().state == "applied",
        lambda: f"the command {row().kind}, now {row().state} ({row().outcome}), of {row().run.state}\n{stack.log()}",
    )


def kill_supervisor(stack: Stack, followed: Followed) -> tuple[float, float]:
    """Return the seconds from the death until a command is applied, and until another supervisor holds the run."""
    from runs.protocol.commands import Pause, Resume

    sql = "SELECT supervisor_pid, adoptions FROM runs_attempt WHERE run_id = ?"
    before = rows(stack, sql, followed.run_id)[0]
    began = time.monotonic()
    assert kill(before["supervisor_pid"])
    asked = ask(followed.run_id, Pause())
    wait_for(lambda: rows(stack, sql, followed.run_id)[0]["adoptions"] > before["adoptions"], "the next supervisor")
    adopted_s = time.monotonic() - began
    wait_until_applied(stack, asked)
    applied_s = time.monotonic() - began
    resumed = ask(followed.run_id, Resume())
    wait_until_applied(stack, resumed)
    say(f"supervisor killed: adopted after {adopted_s:.2f} s, a command applied after {applied_s:.2f} s")
    return applied_s, adopted_s


def portal_of(serve: psutil.Process) -> psutil.Process | None:
    return next((child for child in serve.children() if "serve_portal" in child.cmdline()), None)


def kill_portal(serve: psutil.Process, followed: Followed, page: Any) -> tuple[float, float | None]:
    """Return the seconds until a viewer receives something new, and until the page is live."""
    portal = portal_of(serve)
    assert portal is not None
    connections, seen = followed.viewer.connections, followed.viewer.last_seq
    began = time.monotonic()
    portal.kill()
    if page is not None:
        wait_for(lambda: link_of(page) != "live", "the page to notice")
    back: dict[str, float] = {}

    def all_are_back() -> bool:
        viewer = followed.viewer
        if viewer.connections > connections and viewer.last_seq > seen:
            back.setdefault("portal", time.monotonic() - began)
        if page is not None and link_of(page) == "live":
            back.setdefault("page", time.monotonic() - began)
        return len(back) == (1 if page is None else 2)

    wait_for(all_are_back, lambda: f"viewers to be back\n{followed.stack.log()}")
    say(f"portal killed: back after {back}")
    return back["portal"], back.get("page")


def measure(short: bool) -> dict[str, Any]:
    # Playwright has an event loop in this thread, which these database queries do not use.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with ExitStack() as undo:
        stack = undo.enter_context(Stack())
        seed_stack(stack)
        stack.use()
        serve = undo.enter_context(served(stack))
        followed = undo.enter_context(Followed(stack, token_of(stack)))
        page = undo.enter_context(opened_page(stack, followed.run_id))
        supervisors, portals = [], []
        for _ in range(1 if short else 5):
            followed.rest(CALM_S)
            supervisors.append(kill_supervisor(stack, followed))
        for _ in range(1 if short else 5):
            followed.rest(CALM_S if short else HEALTHY_S)
            portals.append(kill_portal(serve, followed, page))
        followed.rest(CALM_S)
        followed.end()
        page_s = [seconds for _, seconds in portals if seconds is not None]
        return followed.points() | {
            "false_unreachable": followed.false_lives(),
            "commands_s": round(max(seconds for seconds, _ in supervisors), 2),
            "adopted_s": round(max(seconds for _, seconds in supervisors), 2),
            "portal_s": round(max(seconds for seconds, _ in portals), 2),
            "page_s": round(max(page_s), 2) if page_s else None,
            "supervisors": len(supervisors),
            "portals": len(portals),
        }


def main() -> int:
    return run_program(measure, __doc__, "one of each", WRONG)


if __name__ == "__main__":
    sys.exit(main())
