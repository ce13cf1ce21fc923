"""PostgreSQL stops and returns: trainings continue, and no logged value is missing."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request

import pytest

from tests.support import postgres
from tests.support.stack import ROOT, Stack, create_run, events, run_row, seed_stack, wait_for

sys.path.insert(0, str(ROOT / "scripts"))

from postgres import Server  # noqa: E402  a script, not a package

SHORT = str(ROOT / "tests" / "trainings" / "short.py")

pytestmark = pytest.mark.skipif(postgres.server() is None, reason="on SQLite the database cannot be away")


def listing(stack: Stack) -> int:
    """Return the status of a page that has to query the database."""
    request = urllib.request.Request(f"{stack.address}/", headers={"Cookie": f"steersman_session={'a' * 32}"})
    try:
        with urllib.request.urlopen(request, timeout=60) as page:
            return int(page.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_server_that_is_killed_and_started_again_costs_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as server:
        monkeypatch.setenv(postgres.VARIABLE, server.address)
        with Stack() as stack:
            seed_stack(stack)
            stack.start_web()
            run_id = create_run(stack)
            supervisor = stack.train(run_id, "--quiet", "--", SHORT, "1000000", "0.01", "log")
            wait_for(lambda: run_row(stack, run_id)["step"] > 20, lambda: f"points\n{stack.log()}")
            journal = stack.data / "runs" / str(run_id) / "attempts" / "1" / "journal-0000-000000.bin"
            server.stop()
            size = journal.stat().st_size
            assert listing(stack) == 503
            wait_for(lambda: journal.stat().st_size > size + 5000, "the loop to go on")
            server.start()
            seen = run_row(stack, run_id)["step"]
            wait_for(
                lambda: run_row(stack, run_id)["step"] > seen + 100,
                lambda: f"the points logged meanwhile\n{stack.log()}",
            )
            assert listing(stack) == 200
            supervisor.send_signal(signal.SIGTERM)
            assert supervisor.wait(60) == 0
            assert run_row(stack, run_id)["state"] == "stopped"
            blocks = [block for event in events(stack, run_id, "metrics") for block in event["blocks"]]
            steps = [step for block in blocks for step in block["steps"]]
            assert steps == list(range(1, steps[-1] + 1))
