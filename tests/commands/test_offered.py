"""Commands for which a training has no handler: where the portal offers them, and where not."""

from __future__ import annotations

import json

import pytest

from runs.alerts.rules import Rule
from runs.models import AlertRule, Project, Recipe, Run, RunState
from runs.portal.alerting.offered import offered_by
from runs.portal.alerting.rule_form import RuleForm
from runs.recording.status import status_of
from tests.support.stack import ROOT, Stack, create_run, events, run_row, wait_for

SCRIPT = str(ROOT / "tests" / "commands" / "late_training.py")
OPTIONAL = ["save_checkpoint", "evaluate", "extend", "roll_back"]


def offers(stack: Stack, run_id: int) -> list[str]:
    told = stack.manage("command", str(run_id), "--list", "--json").stdout
    return [each["command"] for each in json.loads(told)["commands"] if each["command"] in OPTIONAL]


def last_told(stack: Stack, run_id: int) -> list[str]:
    """Return the commands that the newest status event of the run offers."""
    told: list[str] = events(stack, run_id, "status")[-1]["offers"]
    return told


def test_a_script_is_asked_for_what_it_has_registered_and_for_nothing_else(offline_stack):
    run_id = create_run(offline_stack)
    offline_stack.train(run_id, "--quiet", "--", SCRIPT)
    wait_for(lambda: run_row(offline_stack, run_id)["step"] > 3, "points")
    assert offers(offline_stack, run_id) == []
    refused = offline_stack.manage("command", str(run_id), "save_checkpoint", check=False)
    assert refused.returncode == 1 and "cannot save a checkpoint on command" in refused.stdout
    files = offline_stack.data / "runs" / str(run_id) / "files"
    for kind, expected in (("evaluate", ["evaluate"]), ("save", ["save_checkpoint", "evaluate"])):
        (files / kind).touch()
        wait_for(lambda expected=expected: last_told(offline_stack, run_id) == expected, f"{kind} is offered")
    assert offers(offline_stack, run_id) == ["save_checkpoint", "evaluate"]
    done = offline_stack.manage("command", str(run_id), "evaluate", "--wait", "60")
    assert "applied" in done.stdout
    offline_stack.manage("command", str(run_id), "stop", "--wait", "60")
    wait_for(lambda: run_row(offline_stack, run_id)["state"] == "stopped", "the end")


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(name="Lab", slug="lab")


def test_a_recipe_does_all_and_a_script_what_it_has_said(project: Project) -> None:
    recipe = Recipe.objects.create(spec="mnist", title="Digits", source_sha256="0" * 64)
    of_recipe = Run.objects.create(project=project, name="digits", recipe=recipe)
    of_script = Run.objects.create(project=project, name="mine")
    assert (of_recipe.offers, of_script.offers) == (OPTIONAL, [])
    of_script.handled_commands = ["evaluate", "save_hourly"]
    assert status_of(of_script).offers == ["evaluate"]


def test_a_rule_of_such_a_run_does_not_offer_to_save(project: Project) -> None:
    run = Run.objects.create(project=project, name="mine", state=RunState.RUNNING, attempt=1)

    def actions() -> list[str]:
        rule = Rule("spike", of_run=True)
        offered = offered_by(project, run)
        form = RuleForm(None, rule=rule, taken=AlertRule.objects.none(), offered=offered, run=run)
        return [str(action) for action, _ in form.fields["action"].choices]  # type: ignore[attr-defined]

    assert "save_checkpoint" not in actions()
    assert "pause" in actions()
    run.handled_commands = ["save_checkpoint"]
    assert "save_checkpoint" in actions()
