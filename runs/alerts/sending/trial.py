"""*Send test*: one message to a destination, from a child process that is guarded like the sender."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from django.conf import settings

from runs.alerts.sending import message, transport
from runs.alerts.sending.errors import NotSent
from runs.models import AlertDestination
from steersman.marked_text import gettext_noop

# Longer than the timeout of each kind of destination.
TIMEOUT_S = 45
TOO_LONG = gettext_noop("There was no answer in time.")


@dataclass(frozen=True, slots=True)
class TestResult:
    """Whether a test was sent, and the server's answer without secrets."""

    ok: bool
    answer: str


def test_message(destination: AlertDestination) -> TestResult:
    """Send a test to a stored destination from a child process; return its outcome within TIMEOUT_S."""
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "send_alerts", "--test", str(destination.pk)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        return TestResult(bool(found["ok"]), str(found["answer"]))
    except subprocess.TimeoutExpired:
        return TestResult(False, TOO_LONG)
    except (OSError, ValueError, IndexError, KeyError):
        return TestResult(
            False, gettext_noop("The process that sends messages ended unexpectedly. See the log of the portal.")
        )


def send_test(destination_id: int) -> str:
    """Send a test from this process; return its `TestResult` as JSON."""
    destination = AlertDestination.objects.select_related("project").get(pk=destination_id)
    try:
        result = TestResult(True, transport.send(destination, message.test_of(uuid4(), destination)))
    except NotSent as error:
        result = TestResult(False, str(error))
    return json.dumps(asdict(result))
