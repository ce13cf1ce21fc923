"""Alerts of a real training, recorded by a real supervisor."""

from __future__ import annotations

import json
import signal

from runs.recording.alerts import MOST_OF_CODE
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

SHORT = str(ROOT / "tests" / "trainings" / "short.py")
EXPLODING = str(ROOT / "tests" / "alerts" / "exploding_training.py")
CURABLE = str(ROOT / "tests" / "alerts" / "curable_training.py")


def alerts_of(stack: Stack, run_id: int) -> list[dict[str, object]]:
    return rows(stack, "SELECT * FROM runs_alert WHERE run_id = ? AND detector = 'non-finite'", run_id)


def test_a_loss_that_explodes_is_an_alert_while_it_trains_and_is_cleared_after(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    supervisor = offline_stack.train(run_id, "--quiet", "--", EXPLODING, "200", "20")
    wait_for(
        lambda: any(row["state"] == "cleared" for row in alerts_of(offline_stack, run_id)),
        f"an alert that is over\n{offline_stack.log()}",
    )
    assert run_row(offline_stack, run_id)["state"] == "running"
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(120) == 0, offline_stack.log()
    (row,) = alerts_of(offline_stack, run_id)
    assert (row["series"], row["step"], row["nonfinite"], row["attempt"]) == ("train/loss", 201, "nan", 1)
    assert "±" in str(row["usual"]) and not row["late"]
    assert row["text"] == (
        "A value is NaN or infinite. The fault began in head, whose gradient norm was 8× its usual value at step 200."
    )
    assert json.loads(str(row["cause"])) == {
        "kind": "layer", "layer": "head", "measure": "gradient", "step": 200, "times": 8.0,
    }  # fmt: skip
    told = [event["state"] for event in events(offline_stack, run_id, "alert") if event["id"] == row["id"]]
    assert told == ["open", "cleared"]
    # The end of the attempt does not clear alerts from the training's own code.
    (lasting,) = rows(offline_stack, "SELECT * FROM runs_alert WHERE run_id = ? AND state != 'cleared'", run_id)
    assert (lasting["detector"], lasting["title"], lasting["step"]) == ("code", "It explodes soon", 200)
    assert (lasting["severity"], lasting["text"], lasting["series"]) == ("critical", "All values become NaN.", "")


def test_a_training_that_raises_one_at_every_step_is_cut_short(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", SHORT, "230", "0", "alarmed")
    raised = rows(offline_stack, "SELECT step FROM runs_alert WHERE run_id = ? AND detector = 'code'", run_id)
    assert sorted(row["step"] for row in raised) == list(range(1, MOST_OF_CODE + 1))
    # The short training logs NaN, which is an alert of a detector with its own limit.
    assert len(alerts_of(offline_stack, run_id)) >= 1
    said = [line["text"] for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert [text for text in said if "not recorded" in text] == ["30 more alerts were not recorded."]


RULE = """
from runs.models import AlertRule, Run
run = Run.objects.get(pk={run_id})
AlertRule.objects.create(
    project=run.project, run=run, detector="non-finite", action="{action}", knob="learning_rate", factor=0.5,
    dry_run=False,
)
"""


def test_a_rule_halves_the_learning_rate_of_a_loss_that_explodes_and_the_ledger_says_so(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    offline_stack.manage("shell", "-c", RULE.format(run_id=run_id, action="scale_knob"))
    supervisor = offline_stack.train(run_id, "--quiet", "--", CURABLE, "200")
    wait_for(
        lambda: any(row["state"] == "cleared" for row in alerts_of(offline_stack, run_id)),
        f"an alert that the cure ends\n{offline_stack.log()}",
    )
    (command,) = rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ?", run_id)
    assert (command["kind"], command["state"], command["author_name"]) == ("set_knob", "applied", "rule non-finite")
    assert (command["old_value"], command["new_value"]) == ("0.1", "0.05") and command["rule_id"] is not None
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(120) == 0, offline_stack.log()
    (alert,) = alerts_of(offline_stack, run_id)
    assert (alert["action_state"], alert["action_text"]) == ("asked", "learning_rate × 0.5")
    assert alert["command_id"] == command["id"] and alert["rule_id"] == command["rule_id"]
    told = [event for event in events(offline_stack, run_id, "alert") if event["id"] == alert["id"]]
    assert [(event["state"], event["action_state"]) for event in told] == [
        ("open", ""), ("open", "asked"), ("cleared", "asked"),
    ]  # fmt: skip
    authors = [event["author"] for event in events(offline_stack, run_id, "command") if event["command"] == "set_knob"]
    assert authors[0] == "rule non-finite"
