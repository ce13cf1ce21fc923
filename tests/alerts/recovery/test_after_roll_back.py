"""What became of a run after a rollback for an alert: recorded once, and told to those who knew of the alert."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.utils import timezone, translation

from runs.alerts.rulebook.aftermath import note_roll_backs
from runs.alerts.sending import message
from runs.alerts.wording.texts import after_roll_back_text
from runs.models import Alert, AlertDelivery, AlertDestination, Command, CommandState, Run, StoredEvent
from runs.protocol.causes import OfLink, stored
from runs.recording.lifecycle import Lease, complete_command
from tests.alerts.recovery.test_good_checkpoints import checkpoint_of
from tests.alerts.recovery.test_rules_recover import alert_of, rule_of
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease


def noted(lease: Lease, step: int, recent: str = "0.28 ± 0.02", seen: Collection[str] = ()) -> int:
    return note_roll_backs(lease.run_id, lease.number, step, lambda series: recent, seen)


def rolled_back(lease: Lease, fault: int = 450, left: int = 480) -> Alert:
    """Return the alert of a fault, for which a rule has rolled the run back."""
    project = Run.objects.get(pk=lease.run_id).project
    AlertDestination.objects.get_or_create(project=project, name="night", kind="mail")
    checkpoint_of(lease, 300, good=True, created_at=timezone.now() - timedelta(hours=1))
    alert = alert_of(lease, rule_of(lease), step=fault)
    assert alert.command is not None
    # As its delivery does.
    Command.objects.filter(pk=alert.command.pk).update(attempt=lease.number)
    complete_command(alert.command, CommandState.APPLIED, step=left)
    Alert.objects.filter(pk=alert.pk).update(usual="0.33 ± 0.02")
    return alert


def of_moment(moment: str) -> list[AlertDelivery]:
    return list(AlertDelivery.objects.filter(moment=moment))


def test_the_loss_is_told_so_many_steps_after_the_fault_and_once(lease: Lease) -> None:
    alert = rolled_back(lease)
    assert noted(lease, 480) == noted(lease, 549) == noted(lease, 550, recent="") == 0
    assert noted(lease, 1550) == 1 and noted(lease, 1600) == 0
    alert.refresh_from_db()
    text = "Since the rollback: train/loss 0.28 ± 0.02 at step 1,550, 0.33 ± 0.02 before the fault."
    assert after_roll_back_text(alert) == text
    with translation.override("zh-hans"):
        assert after_roll_back_text(alert).startswith("回滚之后：第 1,550 步 train/loss 为 0.28 ± 0.02")
    event = StoredEvent.objects.filter(run_id=lease.run_id, kind="alert").order_by("seq").last()
    assert event is not None and '"after_roll_back":{"kind":"recovered","series":"train/loss"' in event.frame
    assert len(of_moment("rolled")) == 1


def test_a_detector_that_has_not_seen_the_roll_back_yet_ends_no_story(lease: Lease) -> None:
    rolled_back(lease, fault=350, left=480)
    assert noted(lease, 470) == 0 and noted(lease, 481) == 1


def test_a_detector_that_has_seen_it_tells_the_story_so_many_steps_after_the_fault_though_it_was_found_late(
    lease: Lease,
) -> None:
    alert = rolled_back(lease, fault=350, left=5000)
    assert noted(lease, 460) == 0
    assert noted(lease, 449, seen={str(alert.command_id)}) == 0
    assert noted(lease, 450, seen={str(alert.command_id)}) == 1


def test_a_fault_that_begins_again_is_told_of_the_roll_back_before(lease: Lease) -> None:
    first = rolled_back(lease)
    alert_of(lease, rule_of(lease, series="other"), step=500, minutes=2)
    assert noted(lease, 505) == 1
    first.refresh_from_db()
    assert after_roll_back_text(first) == "A fault began again after the rollback, at step 500."


def test_a_roll_back_by_a_link_of_a_message_has_the_same_story(lease: Lease) -> None:
    alert = alert_of(lease, rule_of(lease, action=""), step=450)
    cause = OfLink(alert=alert.pk, detector=alert.detector, title=alert.title, destination="night")
    Command.objects.create(
        id=uuid4(), run_id=lease.run_id, kind="roll_back", state="applied", attempt=1, step=460, cause=stored(cause),
        sent_at=timezone.now(), applied_at=timezone.now(), author_name="Ada",
    )  # fmt: skip
    assert noted(lease, 560) == 1
    alert.refresh_from_db()
    assert "at step 560" in after_roll_back_text(alert)


def test_a_roll_back_for_no_alert_has_no_story(lease: Lease) -> None:
    Command.objects.create(
        id=uuid4(), run_id=lease.run_id, kind="roll_back", state="applied", attempt=1, step=460,
        sent_at=timezone.now(), applied_at=timezone.now(), author_name="Ada",
    )  # fmt: skip
    assert noted(lease, 1000) == 0


def test_the_mail_tells_the_whole_story_in_the_conversation_of_the_alert(lease: Lease) -> None:
    rolled_back(lease)
    first = uuid4()
    destination = AlertDestination.objects.get()
    began = of_moment("began")
    assert message.build(first, destination, began).follows is None
    AlertDelivery.objects.update(state="sent", message=first)
    noted(lease, 600)
    told = message.build(uuid4(), destination, of_moment("rolled"))
    assert told.follows == first and "after the rollback: Divergence" in told.subject
    for text in (told.text, told.html):
        assert "→ at 300 (300), learning_rate × 0.5" in text
        assert "train/loss 0.28 ± 0.02 at step 600, 0.33 ± 0.02 before the fault." in text
    # A digest tells both at once.
    (story,) = message.build(uuid4(), destination, [*of_moment("rolled"), *of_moment("began")]).stories
    assert story.worst.heading == "Divergence" and "at step 600" in story.worst.after_roll_back and not story.others


def test_who_was_not_told_of_the_alert_is_not_told_what_followed(lease: Lease) -> None:
    alert = rolled_back(lease)
    fields: dict[str, Any] = {"project": alert.run.project, "kind": "mail", "tells_cleared": True}
    AlertDestination.objects.create(name="later", **fields)
    noted(lease, 600)
    assert [each.destination.name for each in of_moment("rolled")] == ["night"]
