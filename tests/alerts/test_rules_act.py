"""The actions of rules when their alerts begin, and the limits that hold them back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.access.guest_view import replace_names
from runs.alerts.rulebook import acting
from runs.models import (
    ActionState,
    Alert,
    AlertRule,
    AlertState,
    Command,
    CommandState,
    HeldBack,
    Run,
    StoredEvent,
    as_wire,
)
from runs.protocol.events import decode_event
from runs.recording import alerts
from runs.recording.alerts import UNTIL_CLEARED, Finding
from runs.recording.lifecycle import Holder, Lease, complete_command, open_attempt
from runs.replaying.replay import replay
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.alerts.test_judging import Told, losses
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease
from tests.support.stack import wait_for
from trainer.alerts import thread as thread_module

RATE = ValueSpec("learning_rate", "float", minimum=0.0, maximum=1.0)
LOSS = "train/loss"


def rule_of(lease: Lease, **fields: Any) -> AlertRule:
    """Create a rule that halves the learning rate immediately."""
    run = Run.objects.get(pk=lease.run_id)
    Run.objects.filter(pk=run.pk).update(knobs=[Knob(RATE, 0.1).to_wire()])
    given = {"detector": "spike", "action": "scale_knob", "knob": "learning_rate", "factor": 0.5, "dry_run": False}
    return AlertRule.objects.create(project=run.project, **given | fields)


def alert_of(
    lease: Lease, rule: AlertRule, began: datetime | None = None, series: str = LOSS, step: int | None = None
) -> Alert:
    """Begin an alert of `rule`, and perform its action."""
    finding = Finding("spike", "warning", "Spike", began or timezone.now(), series=series, step=step, rule_id=rule.pk,
                      action=rule.action)  # fmt: skip
    alert = alerts.begin(lease.run_id, lease.number, finding)
    assert alert is not None
    acting.act(alert.pk)
    alert.refresh_from_db()
    return alert


def test_it_asks_an_ordinary_command_with_the_rule_as_its_author(lease: Lease) -> None:
    rule = rule_of(lease)
    alert = alert_of(lease, rule)
    command = Command.objects.get()
    assert (command.kind, command.author, command.author_name, command.rule) == ("set_knob", None, "rule spike", rule)
    assert command.state == CommandState.SENT and command.reason == "Spike · train/loss"
    assert (command.arguments["knob"], command.arguments["factor"]) == ("learning_rate", 0.5)
    assert (alert.action_state, alert.action_text, alert.command) == (ActionState.ASKED, "learning_rate × 0.5", command)
    told = decode_event(StoredEvent.objects.filter(kind="alert").latest("seq").frame)
    assert (told.action, told.action_state, told.command_id) == ("scale_knob", "asked", str(command.pk))


@pytest.mark.parametrize("action", ["pause", "stop", "save_checkpoint"])
def test_it_asks_for_what_its_action_says(lease: Lease, action: str) -> None:
    alert = alert_of(lease, rule_of(lease, action=action, knob="", factor=None))
    assert alert.command is not None and alert.command.kind == action


def test_guests_see_that_a_rule_did_it(lease: Lease) -> None:
    rule = rule_of(lease)
    alert_of(lease, rule)
    rule.delete()
    wire = as_wire(Command.objects.get())
    replace_names([wire])
    assert wire["author"] == "rule spike"


def test_acting_twice_asks_once(lease: Lease) -> None:
    alert = alert_of(lease, rule_of(lease))
    acting.act(alert.pk)
    # As if the process had died before it could record its action.
    Alert.objects.update(action_state="", command=None)
    acting.act(alert.pk)
    assert Command.objects.count() == 1 and Alert.objects.get().command == Command.objects.get()


def test_whoever_judges_next_does_what_was_left_undone(lease: Lease, begin: Any) -> None:
    rule = rule_of(lease)
    finding = Finding("spike", "warning", "Spike", timezone.now(), series=LOSS, rule_id=rule.pk, action=rule.action)
    assert alerts.begin(lease.run_id, lease.number, finding) is not None
    begin(Told()).take(losses(1.0))
    wait_for(lambda: Command.objects.count() == 1, "the command that was left undone")
    wait_for(lambda: Alert.objects.get().state == AlertState.CLEARED, "its end")
    assert acting.catch_up(lease.run_id) == 0


def test_a_dry_run_says_what_it_would_have_done(lease: Lease) -> None:
    alert = alert_of(lease, rule_of(lease, dry_run=True))
    assert (alert.action_state, alert.action_text) == (ActionState.DRY_RUN, "learning_rate × 0.5")
    assert not Command.objects.exists() and alert.command is None


def test_it_acts_once_in_an_attempt(lease: Lease) -> None:
    rule, now = rule_of(lease, most_per_hour=9), timezone.now()
    assert alert_of(lease, rule, now).action_state == ActionState.ASKED
    second = alert_of(lease, rule, now + timedelta(minutes=2))
    assert (second.action_state, second.held_back) == (ActionState.HELD_BACK, HeldBack.ACTED_IN_ATTEMPT)
    # Also under a rule that was created again.
    rule.delete()
    anew = rule_of(lease, most_per_hour=9)
    assert alert_of(lease, anew, now + timedelta(minutes=4)).held_back == HeldBack.ACTED_IN_ATTEMPT
    assert Command.objects.count() == 1


def test_alerts_of_one_cause_ask_once(lease: Lease) -> None:
    """A loss, its copies and the norm of gradients rise together, and whichever rule is first acts."""
    rule, now = rule_of(lease), timezone.now()
    gradient = rule_of(lease, series="optimizer/*", factor=0.1)
    begun = [(rule, LOSS), (rule, "loss"), (gradient, "optimizer/gradient_norm"), (rule, "val/loss")]
    made = [alert_of(lease, of, now + timedelta(seconds=9 * place), name) for place, (of, name) in enumerate(begun)]
    assert [each.action_state for each in made] == ["asked", "held_back", "held_back", "held_back"]
    assert {each.held_back for each in made[1:]} == {HeldBack.SAME_CAUSE} and Command.objects.count() == 1
    # Another action is not a repetition, and an alert that begins later has another cause.
    saves = rule_of(lease, detector="divergence", action="save_checkpoint", knob="", factor=None)
    assert alert_of(lease, saves, now).action_state == ActionState.ASKED
    assert alert_of(lease, rule, now + timedelta(minutes=2), "loss").action_state == ActionState.ASKED


def test_a_validation_loss_does_not_use_up_the_cure_of_the_training_loss(lease: Lease) -> None:
    rule, now = rule_of(lease), timezone.now()
    series = ["val/loss", "val/loss", LOSS, LOSS]
    made = [alert_of(lease, rule, now + timedelta(minutes=2 * place), name) for place, name in enumerate(series)]
    assert [each.action_state for each in made] == ["asked", "held_back", "asked", "held_back"]


def test_what_a_replay_repeats_is_not_done_once_more(lease: Lease) -> None:
    old = Run.objects.get(pk=lease.run_id)
    rule, now = rule_of(lease), timezone.now()
    alert_of(lease, rule, now)
    complete_command(Command.objects.get(), CommandState.APPLIED, step=40)
    new = Run.objects.create(project=old.project, name="new")
    its = open_attempt(new.pk, Holder("gpu-host", "boot", 2), 0, command_line=[])
    new.refresh_from_db()
    (repeated,) = replay(old, new, author_id=None, author_name="the command line")
    assert repeated.replayed_rule == "rule spike" and repeated.state == CommandState.SENT
    # The original alert, then one that the other run held back, then one of a later attempt after all repeated
    # commands.
    first = alert_of(its, rule, now, step=38)
    second = alert_of(its, rule, now + timedelta(minutes=2), step=39)
    assert [first.held_back, second.held_back] == [HeldBack.REPLAYED, HeldBack.ACTED_IN_ATTEMPT]
    assert list(new.commands.all()) == [repeated]
    later = open_attempt(new.pk, Holder("gpu-host", "boot", 3), its.number, command_line=[])
    Run.objects.update(knobs=[Knob(RATE, 0.1).to_wire()])
    third = alert_of(later, rule, now + timedelta(hours=2), step=60)
    assert (third.action_state, third.action_text) == (ActionState.ASKED, "learning_rate × 0.5")
    assert new.commands.count() == 2
    # The replay of a replay shows that a rule sent it; a rule in a dry run says what it would have done.
    new.commands.filter(pk=repeated.pk).update(attempt=later.number)
    repeated.refresh_from_db()
    complete_command(repeated, CommandState.APPLIED, step=40)
    newest = Run.objects.create(project=old.project, name="newest")
    last = open_attempt(newest.pk, Holder("gpu-host", "boot", 4), 0, command_line=[])
    newest.refresh_from_db()
    assert [each.replayed_rule for each in replay(new, newest, author_id=None, author_name="A")] == ["rule spike"]
    AlertRule.objects.update(dry_run=True)
    Run.objects.update(knobs=[Knob(RATE, 0.1).to_wire()])
    assert alert_of(last, rule, now, step=38).action_state == ActionState.DRY_RUN


def test_it_acts_so_often_in_an_hour(lease: Lease) -> None:
    rule = rule_of(lease, most_per_attempt=None, most_per_hour=2)
    now = timezone.now()
    states = [alert_of(lease, rule, now + timedelta(minutes=minutes)).action_state for minutes in (0, 10, 20, 61, 62)]
    assert states == ["asked", "asked", "held_back", "asked", "held_back"]


def test_it_acts_so_often_in_an_attempt(lease: Lease) -> None:
    rule = rule_of(lease, most_per_attempt=2, most_per_hour=9)
    now = timezone.now()
    told = [alert_of(lease, rule, now + timedelta(minutes=minutes)) for minutes in (0, 10, 20)]
    assert [each.action_state for each in told] == ["asked", "asked", "held_back"]
    assert told[-1].action_text == "The rule has reached its limit of actions per attempt."


@pytest.mark.parametrize(
    ("smallest", "text"), [(0.05, "learning_rate × 0.5"), (0.051, "The value would be smaller than the rule allows.")]
)
def test_a_knob_gets_no_smaller_than_allowed(lease: Lease, smallest: float, text: str) -> None:
    alert = alert_of(lease, rule_of(lease, smallest=smallest))
    assert alert.action_text == text
    # A change of the knob by a person wins.
    assert [command.expected_value for command in Command.objects.all()] == ([0.1] if smallest == 0.05 else [])


def test_a_knob_that_the_training_has_not_is_left(lease: Lease) -> None:
    assert alert_of(lease, rule_of(lease, knob="momentum")).held_back == HeldBack.NO_KNOB


def test_a_rule_that_was_changed_meanwhile_does_not_act(lease: Lease) -> None:
    rule = rule_of(lease)
    finding = Finding("spike", "warning", "Spike", timezone.now(), rule_id=rule.pk, action=rule.action)
    first, second = (alerts.begin(lease.run_id, lease.number, finding) for _ in range(2))
    assert first is not None and second is not None
    AlertRule.objects.update(is_on=False)
    acting.act(first.pk)
    rule.delete()
    acting.act(second.pk)
    texts = list(Alert.objects.order_by("pk").values_list("action_state", "held_back"))
    assert texts == [("held_back", HeldBack.RULE_CHANGED)] * 2
    # If a rule is deleted before its alert begins, the alert has no rule.
    third = alerts.begin(lease.run_id, lease.number, finding)
    assert third is not None and third.rule_id is None


def test_a_new_attempt_does_not_take_over_actions(lease: Lease) -> None:
    rule = rule_of(lease)
    finding = Finding("spike", "warning", "Spike", timezone.now(), rule_id=rule.pk, action=rule.action)
    assert alerts.begin(lease.run_id, lease.number, finding) is not None
    open_attempt(lease.run_id, Holder("gpu-host", "boot", 2), lease.number, command_line=[])
    assert acting.catch_up(lease.run_id) == 1
    assert Alert.objects.get().held_back == HeldBack.ATTEMPT_ENDED


def test_a_rule_that_is_edited_holds_in_a_training_that_runs(
    lease: Lease, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_module, "LOOK_INTERVAL_S", 0.01)
    monkeypatch.setattr(thread_module, "RULES_INTERVAL_S", 0.0)
    thread = begin(Told())
    thread.take(losses(-1.0))
    wait_for(lambda: Alert.objects.filter(state="open").count() == 1, "an alert")
    rule_of(lease, is_on=False)
    wait_for(lambda: Alert.objects.filter(state="cleared").count() == 1, "the end of what is switched off")
    AlertRule.objects.update(is_on=True, severity="critical", cool_down_s=0)
    began = datetime.now(UTC).timestamp()

    def begins_again() -> bool:
        nonlocal began
        began += 1
        thread.take(losses(1.0, -1.0, first=2, began=began))
        return Alert.objects.filter(severity="critical", action_state="asked").exists()

    wait_for(begins_again, "an alert by the edited rule")


def test_the_end_of_an_alert_ends_the_snooze_that_was_to_last_until_then(lease: Lease) -> None:
    run = Run.objects.get(pk=lease.run_id)
    rule = rule_of(lease, run=run, series=LOSS, snoozed_until=UNTIL_CLEARED, action="")
    other = rule_of(lease, run=run, series="other", snoozed_until=UNTIL_CLEARED, action="")
    alert = alert_of(lease, rule)
    assert alerts.clear(lease.run_id, lease.number, alert.pk)
    rule.refresh_from_db()
    other.refresh_from_db()
    assert (rule.snoozed_until, other.snoozed_until) == (None, UNTIL_CLEARED)
