"""From a script that logs a step twice to a script that reads the points: both points are there, for every step."""

from __future__ import annotations

import json

from tests.support.stack import ROOT, Stack, create_run

TWICE = str(ROOT / "tests" / "trainings" / "twice.py")
STEPS = 300
READ = """
import json
from django.contrib.auth.models import User
from django.test import Client
client = Client(SERVER_NAME="127.0.0.1")
client.force_login(User.objects.get(username="operator"))
print(json.dumps(client.get("/api/runs/{run}/points/?name=loss&name=accuracy&raw=true").json()))
"""


def test_a_step_that_a_script_logs_twice_comes_twice(offline_stack: Stack) -> None:
    run = create_run(offline_stack)
    # Every tick has points of both calls, hundreds at once, and each kind of call has its own block.
    offline_stack.manage("train", "--run-id", str(run), "--quiet", "--", TWICE, str(STEPS))
    told = offline_stack.manage("shell", "-v", "0", "-c", READ.format(run=run)).stdout
    page = json.loads(told.strip().splitlines()[-1])
    loss, accuracy = page["items"]
    assert (loss["name"], accuracy["name"], loss["attempt"], page["next"]) == ("loss", "accuracy", 1, None)
    assert loss["steps"] == [step for step in range(1, STEPS + 1) for _ in range(2)] + [STEPS]
    # The order of several calls within one millisecond is not stored.
    ((place, kind),) = loss["nonfinite"]
    assert (kind, loss["values"].pop(place), loss["steps"][place]) == ("nan", None, STEPS)
    assert sorted(loss["values"]) == [step / 2 for step in range(2, 2 * STEPS + 2)]
    assert [int(value) for value in loss["values"]] == loss["steps"][:-1]
    assert accuracy["steps"] == list(range(1, STEPS + 1))
