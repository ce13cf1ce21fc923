"""While the database is frozen or locked, viewers of a run read about the database, not about a silent training."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from runs.recording.lifecycle import SILENT_AFTER_S
from tests.chaos.truth import watching
from tests.outage.frozen_postgres import frozen, stack_on, started_server
from tests.outage.test_pages import Visitor
from tests.support import postgres
from tests.support.locked_database import write_locked
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, seed_stack, wait_for
from tests.support.watcher import Watcher, ticket_of

SHORT = str(ROOT / "tests" / "trainings" / "short.py")

NAME = "watched by others"


@contextmanager
def watched_training(stack: Stack) -> Iterator[tuple[int, Watcher]]:
    """A training that logs 100 steps a second, and a viewer of it."""
    run_id = create_run(stack, NAME)
    made = stack.manage("create_token", "--project", "lab", "--scope", "view", "--user", "operator")
    token = next(word for word in made.stdout.split() if word.startswith("stm_"))
    supervisor = stack.train(run_id, "--quiet", "--", SHORT, "1000000", "0.01", "log")
    wait_for(lambda: run_row(stack, run_id)["step"] > 20, lambda: f"points\n{stack.log()}")
    watcher = Watcher(stack.address, run_id, lambda: ticket_of(stack, run_id, token))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(watcher.follow(),), daemon=True)
    thread.start()
    try:
        wait_for(lambda: watcher.hello is not None and watcher.events, "a viewer that is greeted")
        yield run_id, watcher
    finally:
        # Stopping the watcher ends its loop.
        asyncio.run_coroutine_threadsafe(watcher.stop(), loop)
        thread.join(60)
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(60)


def assert_whole(watcher: Watcher) -> None:
    """Check that the viewer kept one socket, missed no point, and received no report of a silent training."""
    assert watcher.connections == 1
    steps = [step for event in watcher.events for block in event.get("blocks", ()) for step in block["steps"]]
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert not [message for message in watcher.messages if message["kind"] == "life"]


def assert_called_alive(operator: Visitor, admin: Visitor, run_id: int) -> None:
    """Check that the list, the admin and the API report no silence."""
    for visitor, page in ((operator, "/"), (admin, "/admin/runs/run/"), (admin, f"/admin/runs/run/{run_id}/change/")):
        answer = visitor.ask(page)
        assert answer.status == 200 and NAME in answer.text and "no heartbeat" not in answer.text, page
    hosts = json.loads(operator.ask("/api/queue/").text)["items"]
    assert hosts and not any(host["is_away"] for host in hosts)
    answer = operator.ask(f"/api/runs/{run_id}/")
    assert answer.status == 200 and json.loads(answer.text)["silent"] is False


def heartbeat_age_s(admin: Visitor) -> float | None:
    """Return what Prometheus is told, None if it is told nothing."""
    metrics = admin.ask("/metrics")
    assert metrics.status == 200
    told = re.search(r"^steersman_run_heartbeat_age_seconds{.*} (\S+)$", metrics.text, re.MULTILINE)
    return float(told[1]) if told else None


def silent_s(stack: Stack, run_id: int) -> float:
    """Return the seconds since the last stored heartbeat."""
    at = datetime.fromisoformat(run_row(stack, run_id)["heartbeat_at"]).replace(tzinfo=UTC)
    return (datetime.now(UTC) - at).total_seconds()


def test_a_frozen_database_is_told_and_the_training_called_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        started_server() as server,
        stack_on(server, monkeypatch) as stack,
        watched_training(stack) as (_, watcher),
    ):
        with frozen(server):
            wait_for(lambda: watcher.links[-1] == "unavailable", "the viewer to hear of the database")
        wait_for(lambda: watcher.links[-1] == "live", "the viewer to hear that it is back")
        # A check that waits for the database does not delay the echo over the channel layer.
        assert "database" not in watcher.links
        seen = watcher.last_seq
        wait_for(lambda: watcher.last_seq > seen + 5, "points after the outage")
        assert_whole(watcher)
        assert "Traceback" not in stack.log()


def test_a_training_whose_heartbeats_cannot_be_written_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(postgres.VARIABLE, raising=False)
    with Stack(STEERSMAN_METRICS_FROM="127.0.0.1") as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        operator, admin = Visitor(stack), Visitor(stack)
        assert operator.log_in().status == admin.log_in("admin").status == 200
        with watching(stack), watched_training(stack) as (run_id, watcher):
            with write_locked(stack, run_id):
                wait_for(lambda: silent_s(stack, run_id) > SILENT_AFTER_S + 2, "heartbeats that are missed")
                assert_called_alive(operator, admin, run_id)
                told_s = heartbeat_age_s(admin)
                assert told_s is not None and told_s < SILENT_AFTER_S
            seen = watcher.last_seq
            wait_for(lambda: watcher.last_seq > seen + 5, "points after the lock")
            assert_whole(watcher)
            assert watcher.links[-1] in ("live", "late")
            assert {event["state"] for event in events(stack, run_id, "status")} == {"running"}
            assert "Traceback" not in stack.log()


def test_a_training_whose_heartbeats_reach_nobody_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Redis, the heartbeats cannot be announced either."""
    monkeypatch.delenv(postgres.VARIABLE, raising=False)
    with Stack(STEERSMAN_METRICS_FROM="127.0.0.1") as stack:
        seed_stack(stack)
        stack.start_redis()
        stack.start_web()
        operator, admin = Visitor(stack), Visitor(stack)
        assert operator.log_in().status == admin.log_in("admin").status == 200
        with watching(stack), watched_training(stack) as (run_id, watcher):
            stack.redis.stop()
            wait_for(lambda: watcher.links[-1] == "database", "the viewer to hear of Redis")
            create_agent(stack)
            with write_locked(stack, run_id):
                wait_for(lambda: watcher.links[-1] == "unwritable", "the viewer to hear of the lock")
                wait_for(lambda: silent_s(stack, run_id) > SILENT_AFTER_S + 2, "heartbeats that are missed")
                assert_called_alive(operator, admin, run_id)
                assert heartbeat_age_s(admin) is None
            assert_called_alive(operator, admin, run_id)
            seen = watcher.last_seq
            wait_for(lambda: watcher.last_seq > seen + 5, "points after the lock")
            wait_for(lambda: watcher.links[-1] == "database", "the viewer to hear that the lock is gone")
            stack.start_redis()
            wait_for(lambda: watcher.links[-1] == "live", "the viewer to be live")
            assert_whole(watcher)
            assert {event["state"] for event in events(stack, run_id, "status")} == {"running"}
            assert "Traceback" not in stack.log()


def create_agent(stack: Stack) -> None:
    """Insert an agent that has just sent a report, and sends no other one."""
    values = {
        "project_id": 1, "created_by_id": 1, "name": "helper", "session": "one", "host": "far", "slots": 1,
        "gpus": 0, "commands": "[]", "heartbeat_at": datetime.now(UTC).replace(tzinfo=None).isoformat(" "),
        "has_left": False,
    }  # fmt: skip
    sql = f"INSERT INTO runs_agent ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})"
    rows(stack, sql, *values.values())
