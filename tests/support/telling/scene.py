"""Destinations, alerts and the results of their messages in the database of a stack, for tests and benches."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from tests.support.stack import Stack, rows

INSIDE = {"STEERSMAN_ALERT_NETWORKS": "127.0.0.0/8"}

DESTINATION = """
from runs.alerts.sending.secrets import seal
from runs.models import AlertDestination, Project
fields = {fields!r}
fields["secret"] = seal(fields["secret"])
print(AlertDestination.objects.create(project=Project.objects.get(slug="lab"), **fields).pk)
"""
ACCOUNT = """
from runs.alerts.sending.secrets import seal
from runs.models import MailAccount, Project
fields = {fields!r}
fields["secret"] = seal(fields["secret"])
MailAccount.objects.update_or_create(project=Project.objects.get(slug="lab"), defaults=fields)
"""
ALERTS = """
from django.utils import timezone
from runs.models import Attempt, Project, Run
from runs.recording.alerts import Finding, begin
for number in range({count}):
    run = Run.objects.create(project=Project.objects.get(slug="lab"), name="run %d" % number, attempt=1, device="cpu")
    Attempt.objects.create(run=run, number=1, host="somewhere", supervisor_pid=1)
    if {points!r}:
        from tests.support.stored_points import store
        store(run, [1 / step for step in range(1, 8)])
    begin(run.pk, 1, Finding(began_at=timezone.now(), **{fields!r}))
"""
CRASHES = """
from runs.models import Attempt, Project, Run
from runs.recording import state_alerts
from django.db import transaction
for number in range({count}):
    run = Run.objects.create(project=Project.objects.get(slug="lab"), name="sweep %d" % number, attempt=1, device="cpu")
    Attempt.objects.create(run=run, number=1, host="somewhere", supervisor_pid=1)
    with transaction.atomic():
        state_alerts.crashed(run.pk, 1, {error!r})
"""
CLEARING = """
from runs.models import Alert
from runs.recording import alerts
for alert in Alert.objects.all():
    alerts.clear(alert.run_id, alert.attempt, alert.pk)
"""


def run_code(stack: Stack, code: str) -> str:
    return stack.manage("shell", "-v", "0", "-c", code).stdout.strip()


def add_destination(stack: Stack, kind: str, address: str, **fields: Any) -> int:
    """Create a destination of the project "lab" that receives all messages; return its id."""
    given = {"name": kind, "kind": kind, "secret": address, "least_severity": "info", **fields}
    return int(run_code(stack, DESTINATION.format(fields=given)).splitlines()[-1])


def set_account(stack: Stack, **fields: Any) -> None:
    run_code(stack, ACCOUNT.format(fields=fields))


def begin_alerts(stack: Stack, count: int = 1, points: bool = False, **fields: Any) -> None:
    """Raise an alert in each of `count` new runs; with `points`, the run has a loss."""
    given = {"detector": "spike", "severity": "critical", "title": "The loss jumped", "step": 7, "value": 9.5, **fields}
    run_code(stack, ALERTS.format(count=count, points=points, fields=given))


def crash_runs(stack: Stack, count: int, error: str) -> None:
    """Let the attempts of `count` new runs fail at once."""
    run_code(stack, CRASHES.format(count=count, error=error))


def clear_alerts(stack: Stack) -> None:
    """End every open alert, as if its series had recovered."""
    run_code(stack, CLEARING)


def deliveries(stack: Stack, destination: int | None = None) -> list[dict[str, Any]]:
    found = rows(stack, "SELECT * FROM runs_alertdelivery ORDER BY id")
    return [row for row in found if destination in (None, row["destination_id"])]


def states(stack: Stack, destination: int | None = None) -> list[str]:
    return [row["state"] for row in deliveries(stack, destination)]


PAST = "2026-01-01 00:00:00+00:00"


def make_due(stack: Stack) -> None:
    """Make messages that wait for another attempt due."""
    rows(stack, "UPDATE runs_alertdelivery SET due_at = ? WHERE state = 'waiting'", PAST)


def let_minutes_pass(stack: Stack) -> None:
    """Make waiting messages due, and their wait long."""
    rows(stack, "UPDATE runs_alertdelivery SET created_at = ?, due_at = ? WHERE state = 'waiting'", PAST, PAST)


def moment(value: Any) -> datetime:
    """Convert a time from a column of either database."""
    found = datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def let_leases_lapse(stack: Stack) -> None:
    rows(stack, "UPDATE runs_alertdelivery SET claimed_until = ? WHERE state = 'sending'", PAST)


@contextmanager
def sending(stack: Stack, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `manage.py send_alerts` as a process; its output goes to `sender.log` in the stack's folder."""
    with (stack.folder / "sender.log").open("ab") as log:
        process = subprocess.Popen(
            stack.command("send_alerts"),
            env=stack.environment | INSIDE | variables,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.kill()
        process.wait()
