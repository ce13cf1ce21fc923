"""A training that does not read its commands: the portal reports that, and its process can be ended."""

from __future__ import annotations

import json

import pytest

from runs.access.roles import Viewer
from runs.commands.record import NotAllowed, record_as
from runs.models import Project, Run, RunState
from runs.protocol.commands import parse_command
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

SCRIPT = str(ROOT / "tests" / "commands" / "unresponsive_training.py")
# The times after which a training is called unresponsive, and is killed.
SOON = """
from steersman.agent.host_side import unresponsive_training
unresponsive_training.LOOKS_WITHIN_S = unresponsive_training.KILL_AFTER_SIGTERM_S = 1.0
"""


def ask(stack: Stack, run_id: int, kind: str, *options: str) -> dict[str, str]:
    shown = stack.manage("command", str(run_id), kind, "--json", *options, check=False)
    told: dict[str, str] = json.loads(shown.stdout)
    return told


def is_offered(stack: Stack, run_id: int) -> bool:
    told = json.loads(stack.manage("command", str(run_id), "--list", "--json").stdout)
    return "end_process" in [each["command"] for each in told["commands"]]


def lines(stack: Stack, run_id: int) -> str:
    return " ".join(line["text"] for event in events(stack, run_id, "log") for line in event["lines"])


def test_a_script_that_never_looks_is_called_so_and_its_process_can_be_ended(offline_stack):
    stack = offline_stack
    run_id = create_run(stack, restarts=2)
    supervisor = stack.train(run_id, "--quiet", "--", SCRIPT, changed=SOON)
    wait_for(lambda: run_row(stack, run_id)["step"] > 3, "points")
    refused = ask(stack, run_id, "end_process")
    assert refused["state"] == "refused" and "send stop first" in refused["outcome"] and not is_offered(stack, run_id)

    ask(stack, run_id, "note", "text=hello")
    wait_for(lambda: run_row(stack, run_id)["not_looking_since"], "it to be called unresponsive")
    assert is_offered(stack, run_id) and "does not read run.stopping" in lines(stack, run_id)
    (stack.data / "runs" / str(run_id) / "files" / "look").touch()
    wait_for(lambda: run_row(stack, run_id)["not_looking_since"] is None, "it to look")
    assert not is_offered(stack, run_id)

    ask(stack, run_id, "stop")
    wait_for(lambda: run_row(stack, run_id)["not_looking_since"], "it to be called unresponsive again")
    shown = stack.manage("command", str(run_id), "note", "text=still there?", "--wait", "0.1", check=False)
    assert f"manage.py command {run_id} end_process" in shown.stderr
    (greeted,) = [each for each in events(stack, run_id, "status") if each["not_looking_since"]][-1:]
    assert greeted["offers"] == ["end_process"]

    assert ask(stack, run_id, "end_process", "--reason", "hangs", "--wait", "60")["state"] == "applied"
    assert supervisor.wait(60) == 0
    run = run_row(stack, run_id)
    assert run["state"] == "stopped" and "ended by a command" in run["reason"] and run["not_looking_since"] is None
    (attempt,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    assert attempt["signal"] == "SIGKILL", "the script ignores SIGTERM"
    assert not is_offered(stack, run_id)


@pytest.mark.django_db
def test_to_end_a_process_takes_the_right_to_command() -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="mine", state=RunState.RUNNING, attempt=1)
    with pytest.raises(NotAllowed):
        record_as(run.pk, parse_command({"command": "end_process"}), Viewer(user_id=1, name="Ben", role="viewer"))
    assert not run.commands.exists()
