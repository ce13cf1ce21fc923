"""A disk that is nearly full: the training host says so at once, and the page once the database can store it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

from tests.remote.test_run import ended, installation, opened_run
from tests.support.locked_database import write_locked
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

TIMED = str(ROOT / "tests" / "trainings" / "timed.py")
PATIENCE_S = 60.0
FULL, AGAIN = "The disk is nearly full", "The disk has room again"
# A disk of 100 GiB whose free GiB are in a file, read five times per second.
CHANGED = """
import collections, pathlib, shutil
from steersman.agent.machine import disk_watch
usage = collections.namedtuple("usage", "total used free")
def disk_usage(folder):
    return usage(100 << 30, 0, int(float(pathlib.Path({free!r}).read_text()) * (1 << 30)))
shutil.disk_usage, disk_watch.INTERVAL_S = disk_usage, 0.2
"""
SCRIPT = """
import time
import steersman

run = steersman.attach()
while not run.stopping:
    run.log(run.step + 1, loss=1.0)
    time.sleep(0.01)
"""


def set_free(path: Path, gib: float) -> None:
    new = path.with_suffix(".new")
    new.write_text(str(gib))
    new.replace(path)


def alerts(stack: Stack, run_id: int) -> list[tuple[str, str]]:
    found = rows(stack, "SELECT * FROM runs_alert WHERE run_id = ? AND detector = 'disk' ORDER BY id", run_id)
    return [(row["state"], row["text"]) for row in found]


def lines(stack: Stack, run_id: int) -> list[tuple[str, str]]:
    found = [line for event in events(stack, run_id, "log") for line in event["lines"]]
    return [(line["level"], line["text"]) for line in found if line["text"].startswith("The disk ")]


def fills_and_empties(stack: Stack, run_id: int, free: Path, log: Callable[[], str]) -> None:
    """Go once through a disk that fills without a database and has room again, after it was full with one."""
    open_alert, cleared = ("open", "4.9 GiB of 100.0 GiB are free."), ("cleared", "4.9 GiB of 100.0 GiB are free.")
    wait_for(lambda: alerts(stack, run_id) == [open_alert], lambda: f"the alert\n{log()}\n{stack.log()}", PATIENCE_S)
    # Neither above the limit nor well above it.
    set_free(free, 6)
    step = run_row(stack, run_id)["step"]
    wait_for(lambda: run_row(stack, run_id)["step"] > step + 50, "steps near the limit", PATIENCE_S)
    set_free(free, 8)
    wait_for(lambda: alerts(stack, run_id) == [cleared], lambda: f"the end of the alert\n{log()}", PATIENCE_S)
    assert lines(stack, run_id) == [
        ("warning", f"{FULL}: 4.9 GiB of 100.0 GiB are free."),
        ("info", f"{AGAIN}: 8.0 GiB of 100.0 GiB are free."),
    ]
    assert (log().count(FULL), log().count(AGAIN)) == (1, 1)


def test_a_supervisor_says_so_while_the_database_is_locked(offline_stack: Stack, tmp_path: Path) -> None:
    stack, free = offline_stack, tmp_path / "free"
    set_free(free, 50)
    run_id = create_run(stack)
    words = ("--quiet", "--", TIMED, str(tmp_path / "note"), "0.01")
    supervisor = stack.train(run_id, *words, changed=CHANGED.format(free=str(free)))

    def log() -> str:
        return (stack.folder / "train.log").read_text()

    wait_for(lambda: run_row(stack, run_id)["step"] > 3, lambda: f"steps\n{stack.log()}", PATIENCE_S)
    with write_locked(stack, run_id):
        set_free(free, 4.9)
        wait_for(lambda: FULL in log(), lambda: f"the warning\n{stack.log()}", PATIENCE_S)
        assert alerts(stack, run_id) == []
    fills_and_empties(stack, run_id, free, log)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0, stack.log()


def test_a_host_without_django_says_so_while_the_portal_is_away(tmp_path: Path) -> None:
    with installation(tmp_path) as (stack, portal, host):
        free = tmp_path / "free"
        set_free(free, 50)
        with (host.package / "agent" / "machine" / "disk_watch.py").open("a") as module:
            module.write(CHANGED.format(free=str(free)))
        host.script(SCRIPT)
        portal.start()
        command = host.start("run", "--name", "far", "--", "python", "train.py")
        run_id = wait_for(lambda: opened_run(stack, "far"), lambda: f"the run\n{host.printed()}", PATIENCE_S)
        wait_for(lambda: run_row(stack, run_id)["step"] > 3, lambda: f"steps\n{host.printed()}", PATIENCE_S)
        portal.kill()
        set_free(free, 4.9)
        wait_for(lambda: FULL in host.output("err.log"), lambda: f"the warning\n{host.printed()}", PATIENCE_S)
        portal.start()
        fills_and_empties(stack, run_id, free, lambda: host.output("err.log"))
        command.send_signal(signal.SIGTERM)
        ended(command, host)
