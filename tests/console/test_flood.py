"""A training that prints without end, with a real supervisor that is killed in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import ROOT, Stack, create_run, events, kill, rows, run_row, wait_for

FLOODING = str(Path(__file__).parent / "flooding.py")
MIB = 1 << 20
BOUNDS = {"STEERSMAN_CONSOLE_MIB": "1", "STEERSMAN_CONSOLE_FILES_MIB": "16"}


def texts(stack: Stack, run_id: int) -> list[str]:
    lines = [line for event in events(stack, run_id, "log") for line in event["lines"]]
    return [line["text"] for line in lines if line["source"] == "console"]


def stored_characters(stack: Stack, run_id: int) -> int:
    (found,) = rows(
        stack, "SELECT SUM(LENGTH(frame)) AS n FROM runs_storedevent WHERE run_id = ? AND kind = 'log'", run_id
    )
    return int(found["n"])


@pytest.mark.parametrize("comes", ["at once", "when all is over"])
def test_a_flood_keeps_its_first_and_last_lines_though_its_supervisor_is_killed(
    offline_stack: Stack, tmp_path: Path, comes: str
) -> None:
    run_id, go_on = create_run(offline_stack, "flood"), tmp_path / "go on"
    arguments = ("--quiet", "--", FLOODING, "24", str(go_on), "24")
    supervisor = offline_stack.train(run_id, *arguments, **BOUNDS)
    console = offline_stack.data / "runs" / str(run_id) / "attempts" / "1" / "console.log"

    def is_bounded() -> bool:
        found = console.stat() if console.exists() else None
        return found is not None and found.st_size > 20 * MIB and found.st_blocks * 512 <= 8 * MIB

    wait_for(is_bounded, lambda: f"the middle of the console to be left out\n{offline_stack.log()}", 60)
    wait_for(lambda: "between the floods" in texts(offline_stack, run_id), "the last line so far", 60)
    kill(supervisor.pid)
    supervisor.wait()
    assert console.read_bytes().startswith(b"the very first line\n")
    assert b"\nbetween the floods\n" in console.read_bytes()[-4 * MIB :]
    if comes == "when all is over":
        go_on.touch()
        wait_for(lambda: offline_stack.worker_pid(run_id) is None, "the training to end", 60)
    follower = offline_stack.train(run_id, "--quiet", "--adopt", **BOUNDS)
    if comes == "at once":
        adopted = "SELECT adoptions FROM runs_attempt WHERE run_id = ? AND adoptions > 0"
        wait_for(lambda: rows(offline_stack, adopted, run_id), "the training to be adopted", 60)
        go_on.touch()
    assert follower.wait(60) == 0, offline_stack.log()
    assert run_row(offline_stack, run_id)["state"] == "finished"

    # On the host: a plain file within its bound, with one sentence in the gap.
    data = console.read_bytes()
    assert len(data) <= 8 * MIB and b"\0" not in data
    assert data.startswith(b"the very first line\n") and data.endswith(b"\nthe very last line\n")
    assert data.count(b" bytes of output were left out here]\n") == 1

    # In the database.
    assert stored_characters(offline_stack, run_id) <= MIB
    found = texts(offline_stack, run_id)
    assert found[-1] == "the very last line"
    assert all(event["skipped_bytes"] > 0 for event in events(offline_stack, run_id, "log") if not event["lines"])
    printed = sum(len(text.encode()) + 1 for text in found)
    skipped = sum(event["skipped_bytes"] for event in events(offline_stack, run_id, "log"))
    assert printed + skipped == 48 * 1024 * 1000 + skipped_beside_xs()
    verified = offline_stack.manage("verify", "--json", check=False)
    assert [each for each in json.loads(verified.stdout)["findings"] if each["run"] == run_id] == []


def skipped_beside_xs() -> int:
    """Return the bytes of the flood other than its 1,000 letters per line."""
    numbers = sum(len(str(number)) for number in range(24 * 1024))
    lines = len("the very first line\nbetween the floods\nthe very last line\n")
    return lines + 2 * numbers + 24 * 1024 * (len("first  \n") + len("second  \n"))


@pytest.mark.parametrize("value", ["0", "many", "-1"])
def test_a_bound_that_is_none_is_refused_by_name(value):
    environment = {**os.environ, "STEERSMAN_CONSOLE_MIB": value}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode and "STEERSMAN_CONSOLE_MIB" in done.stderr and "whole number of MiB from 1" in done.stderr
