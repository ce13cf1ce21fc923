"""Rules, links and messages that roll a run back to its last good checkpoint before a fault."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.alerts.rulebook import acting
from runs.alerts.rulebook.recovering import offers_recovery
from runs.models import ActionState, Alert, AlertRule, Command, CommandState, HeldBack, Membership, Run
from runs.recording import alerts
from runs.recording.alerts import Finding
from runs.recording.lifecycle import Lease, complete_command
from steersman.knobs import Knob
from tests.alerts.recovery.test_good_checkpoints import checkpoint_of
from tests.alerts.test_alerts_of_a_training import RULE
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease
from tests.alerts.test_rules_act import RATE
from tests.support.stack import ROOT, Stack, create_run, rows, wait_for

RECOVERING = str(ROOT / "tests" / "alerts" / "recovery" / "recovering_training.py")


def rule_of(lease: Lease, **fields: Any) -> AlertRule:
    """Create a rule that rolls back and halves the learning rate, at most three times an hour."""
    run = Run.objects.get(pk=lease.run_id)
    Run.objects.filter(pk=run.pk).update(knobs=[Knob(RATE, 0.1).to_wire()], handled_commands=["roll_back"], step=1000)
    given = {
        "detector": "divergence", "action": "roll_back", "knob": "learning_rate", "factor": 0.5, "dry_run": False,
        "most_per_attempt": None, "most_per_hour": 3,
    }  # fmt: skip
    return AlertRule.objects.create(project=run.project, **given | fields)


def alert_of(
    lease: Lease, rule: AlertRule, step: int, minutes: int = 0, cause: Any = None, onset: int | None = None
) -> Alert:
    """Begin an alert of a rule this many minutes from now, and perform the rule's action."""
    began = timezone.now() + timedelta(minutes=minutes)
    finding = Finding("divergence", "critical", "Divergence", began, series="train/loss", step=step, rule_id=rule.pk,
                      action=rule.action, cause=cause, onset=onset)  # fmt: skip
    alert = alerts.begin(lease.run_id, lease.number, finding)
    assert alert is not None
    acting.act(alert.pk)
    alert.refresh_from_db()
    return alert


def asked(alert: Alert) -> dict[str, Any]:
    assert alert.command is not None
    return dict(alert.command.arguments)


def test_it_rolls_back_to_the_last_good_checkpoint_before_the_fault(lease: Lease) -> None:
    for step, is_good in ((100, True), (200, True), (300, False), (500, True)):
        checkpoint_of(lease, step, good=is_good)
    alert = alert_of(lease, rule_of(lease), step=450)
    assert alert.action_state == ActionState.ASKED and alert.action_text == "→ at 200 (200), learning_rate × 0.5"
    checkpoint = Run.objects.get().checkpoints.get(step=200)
    assert asked(alert) | {"value": None} == {
        "checkpoint": str(checkpoint.pk), "knob": "learning_rate", "factor": 0.5, "keep_knobs": False, "group": "",
        "value": None, "skip_batches": 0, "skip_from": None,
    }  # fmt: skip
    assert alert.command is not None and alert.command.author_name == "rule divergence"


def test_the_layer_that_began_it_moves_the_fault(lease: Lease) -> None:
    from runs.protocol.causes import BeganInLayer

    for step in (100, 200, 300):
        checkpoint_of(lease, step, good=True)
    cause = BeganInLayer(layer="head", measure="gradient", step=250, times=8.0)
    assert "(200)" in alert_of(lease, rule_of(lease), step=450, cause=cause).action_text


def test_a_fault_that_was_found_late_began_before_its_alert(lease: Lease) -> None:
    for step in (100, 200, 300):
        checkpoint_of(lease, step, good=True)
    assert "(200)" in alert_of(lease, rule_of(lease), step=450, onset=260).action_text


def test_each_recovery_goes_farther_back_and_lower_until_the_rule_gives_up(lease: Lease) -> None:
    for step in (100, 200, 300):
        checkpoint_of(lease, step, good=True, created_at=timezone.now() - timedelta(hours=1))
    rule = rule_of(lease, smallest=0.02)
    texts = []
    for turn in range(3):
        alert = alert_of(lease, rule, step=450, minutes=2 * turn)
        texts.append(alert.action_text if alert.action_state == ActionState.ASKED else str(alert.held_back))
        if alert.command is not None:
            complete_command(alert.command, CommandState.APPLIED, step=450)
    assert texts == [
        "→ at 300 (300), learning_rate × 0.5",
        "→ at 200 (200), learning_rate × 0.25",
        str(HeldBack.TOO_SMALL),
    ]


def test_a_refused_roll_back_tries_older_checkpoints_until_there_is_none(lease: Lease) -> None:
    for step in (100, 200, 300):
        checkpoint_of(lease, step, good=True)
    alert = alert_of(lease, rule_of(lease), step=450)
    texts, commands = [], []
    while alert.action_state == ActionState.ASKED and len(texts) < 4:
        assert alert.command is not None
        assert acting.try_older(lease.run_id, lease.number) == 0
        texts.append(alert.action_text)
        commands.append(alert.command)
        Command.objects.filter(pk=alert.command.pk).update(attempt=lease.number)
        complete_command(alert.command, CommandState.REFUSED, outcome="The checkpoint is damaged.")
        assert acting.try_older(lease.run_id, lease.number) == 1
        alert.refresh_from_db()
    assert texts == [f"→ at {step} ({step}), learning_rate × 0.5" for step in (300, 200, 100)]
    assert (alert.action_state, alert.held_back) == (ActionState.HELD_BACK, HeldBack.NO_CHECKPOINT)
    assert alert.command == commands[-1] and len({each.pk for each in commands}) == 3
    # A fault that is over needs no older one.
    checkpoint_of(lease, 50, good=True)
    fresh = alert_of(lease, AlertRule.objects.get(), step=470, minutes=4)
    assert fresh.command is not None and "(50)" in fresh.action_text
    Command.objects.filter(pk=fresh.command.pk).update(attempt=lease.number)
    complete_command(fresh.command, CommandState.REFUSED)
    alerts.clear(lease.run_id, lease.number, fresh.pk)
    assert acting.try_older(lease.run_id, lease.number) == 0


def test_a_fault_that_returns_at_once_is_not_taken_for_the_cured_one(lease: Lease) -> None:
    for step in (100, 200):
        checkpoint_of(lease, step, good=True, created_at=timezone.now() - timedelta(hours=1))
    rule = rule_of(lease)
    first = alert_of(lease, rule, step=450)
    assert alert_of(lease, rule, step=455).held_back == HeldBack.SAME_CAUSE
    assert first.command is not None
    complete_command(first.command, CommandState.APPLIED, step=460)
    again = alert_of(lease, rule, step=250)
    assert (again.action_state, again.action_text) == (ActionState.ASKED, "→ at 100 (100), learning_rate × 0.25")


def test_batches_and_knob_may_be_left_as_they_were_until_the_fault_returns(lease: Lease) -> None:
    for step in (100, 200, 300):
        checkpoint_of(lease, step, good=True, created_at=timezone.now() - timedelta(hours=1))
    rule = rule_of(lease, factor_from=3, skip_batches=10, skip_from=2)
    texts = []
    for turn in range(3):
        alert = alert_of(lease, rule, step=450, minutes=2 * turn)
        texts.append(alert.action_text)
        assert alert.command is not None
        complete_command(alert.command, CommandState.APPLIED, step=450)
    assert texts == ["→ at 300 (300)", "→ at 200 (200), 450 ± 10", "→ at 100 (100), learning_rate × 0.5, 450 ± 10"]


@pytest.mark.parametrize(
    ("fields", "offers", "good", "reason"),
    [
        ({}, ["roll_back"], False, HeldBack.NO_CHECKPOINT),
        ({}, [], True, HeldBack.NO_ROLL_BACK),
        ({"knob": "momentum"}, ["roll_back"], True, HeldBack.NO_KNOB),
    ],
)
def test_what_cannot_recover_says_why(
    lease: Lease, fields: dict[str, Any], offers: list[str], good: bool, reason: HeldBack
) -> None:
    checkpoint_of(lease, 100, good=good)
    rule = rule_of(lease, **fields)
    Run.objects.update(handled_commands=offers)
    alert = alert_of(lease, rule, step=450)
    assert (alert.action_state, alert.held_back) == (ActionState.HELD_BACK, reason)
    assert not Command.objects.exists()


def test_a_rate_that_somebody_raised_is_judged_as_it_was_at_the_checkpoint(lease: Lease) -> None:
    checkpoint_of(lease, 100, good=True, created_at=timezone.now() - timedelta(hours=1))
    rule = rule_of(lease, smallest=0.06)
    Command.objects.create(
        id="00000000-0000-0000-0000-000000000001", run_id=lease.run_id, kind="set_knob", state="applied",
        arguments={"knob": "learning_rate", "value": 10.0}, old_value=0.1, applied_at=timezone.now(),
        sent_at=timezone.now(), author_name="operator", attempt=1,
    )  # fmt: skip
    Run.objects.update(knobs=[Knob(RATE, 1.0).to_wire()])
    assert alert_of(lease, rule, step=450).held_back == HeldBack.TOO_SMALL


def test_a_dry_run_says_where_it_would_go(lease: Lease) -> None:
    checkpoint_of(lease, 100, good=True)
    alert = alert_of(lease, rule_of(lease, dry_run=True, knob="", factor=None), step=450)
    assert (alert.action_state, alert.action_text) == (ActionState.DRY_RUN, "→ at 100 (100)")


def test_it_skips_batches_as_its_rule_says(lease: Lease) -> None:
    checkpoint_of(lease, 100, good=True)
    alert = alert_of(lease, rule_of(lease, skip_batches=50), step=450)
    assert (asked(alert)["skip_batches"], asked(alert)["skip_from"]) == (100, 400)
    assert alert.action_text == "→ at 100 (100), learning_rate × 0.5, 450 ± 50"


def test_a_message_offers_it_where_there_is_a_good_checkpoint(lease: Lease) -> None:
    alert = alert_of(lease, rule_of(lease, action=""), step=450)
    assert not offers_recovery(alert)
    checkpoint_of(lease, 100, good=True)
    assert offers_recovery(Alert.objects.get(pk=alert.pk))
    Run.objects.update(handled_commands=[])
    assert not offers_recovery(Alert.objects.get(pk=alert.pk))


def test_the_page_of_rules_offers_recovery_rules_as_a_dry_run(lease: Lease) -> None:
    run = Run.objects.get()
    person = User.objects.create_user("operator")
    Membership.objects.create(project=run.project, user=person, role="operator")
    client = Client()
    client.force_login(person)
    address = f"/projects/{run.project.slug}/rules/"
    assert "recovery-rules" in client.get(address).content.decode()
    client.post(address, {"do": "recover"})
    made = {rule.detector: rule for rule in AlertRule.objects.all()}
    assert sorted(made) == ["divergence", "non-finite", "spike", "weight-growth"]
    assert all(
        rule.dry_run and rule.action == "roll_back" and (rule.most_per_hour, rule.most_per_attempt) == (3, 10)
        for rule in made.values()
    )
    page = client.get(address).content.decode()
    assert "recovery-rules" not in page and "roll back: learning_rate × 0.5 (dry run)" in page


def test_a_training_recovers_by_itself(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack)
    offline_stack.manage("shell", "-c", RULE.format(run_id=run_id, action="roll_back"))
    supervisor = offline_stack.train(run_id, "--quiet", "--", RECOVERING, "350")
    wait_for(
        lambda: rows(offline_stack, "SELECT 1 FROM runs_command WHERE run_id = ? AND state = 'applied'", run_id),
        f"a rollback\n{offline_stack.log()}",
    )
    told = "SELECT after_roll_back FROM runs_alert WHERE run_id = ? AND after_roll_back != '{}'"
    (alert,) = wait_for(lambda: rows(offline_stack, told, run_id), "what became of it")
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(120) == 0, offline_stack.log()
    after = json.loads(alert["after_roll_back"])
    assert (after["kind"], after["series"]) == ("recovered", "train/loss") and after["step"] > 450
    assert "±" in after["now"] and "±" in after["before"]
    (command,) = rows(offline_stack, "SELECT * FROM runs_command WHERE run_id = ? AND kind = 'roll_back'", run_id)
    assert command["author_name"] == "rule non-finite"
    assert json.loads(command["new_value"]) == {"step": 200, "learning_rate": 0.05}
    (alert,) = rows(offline_stack, "SELECT * FROM runs_alert WHERE run_id = ? AND detector = 'non-finite'", run_id)
    assert (alert["step"], alert["action_text"]) == (351, "→ at 200 (200), learning_rate × 0.5")
    left = rows(
        offline_stack, "SELECT step, good, abandoned FROM runs_checkpoint WHERE run_id = ? AND step <= 300", run_id
    )
    assert {(row["step"], bool(row["good"])) for row in left if not row["abandoned"]} >= {(100, True), (200, True)}
    assert any(row["step"] == 300 and row["abandoned"] for row in left)
