"""The texts of messages, made from rows without a process or server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.utils import timezone

from runs.alerts.sending import message
from runs.alerts.sending.picture import picture_of, spans_decades
from runs.models import Alert, AlertDelivery, AlertDestination, EpochMetric, Run
from runs.protocol.causes import LittleSpace
from runs.recording import alerts
from runs.recording.lifecycle import Lease
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease
from tests.alerts.test_rules_act import alert_of, rule_of


@pytest.fixture
def destination(lease: Lease, settings: LazySettings) -> AlertDestination:
    settings.STEERSMAN_PUBLIC_URL = "https://steersman.example.org"
    project = Run.objects.get(pk=lease.run_id).project
    return AlertDestination.objects.create(project=project, name="night", kind="mail", tells_cleared=True)


def told(destination: AlertDestination) -> message.Message:
    return message.build(uuid4(), destination, list(AlertDelivery.objects.order_by("pk")))


def test_it_says_what_the_rule_asked_of_the_run_or_why_it_did_not(lease: Lease, destination: AlertDestination) -> None:
    rule = rule_of(lease)
    alert_of(lease, rule)
    alert_of(lease, rule, series="train/accuracy")
    made = told(destination)
    asked = "Action of the rule: scale a knob, learning_rate × 0.5"
    held_back = (
        "The rule did not act (scale a knob): "
        "A rule has already done this for another alert that began within a minute of this one."
    )
    (story,) = made.stories
    assert [story.worst.action, *(each.action for each in story.others)] == [asked, held_back]
    for text in (made.text, made.html):
        assert asked in text and held_back in text
    assert "Learning rate × 0.5" in [link.name for link in story.links]


def test_what_began_and_ended_meanwhile_is_told_once(lease: Lease, destination: AlertDestination) -> None:
    alert = alert_of(lease, rule_of(lease))
    alerts.clear_all(lease.run_id)
    assert AlertDelivery.objects.filter(alert=alert).count() == 2
    made = told(destination)
    (story,) = made.stories
    assert story.worst.heading == "over: Spike" and not story.others and not story.links
    assert made.subject.endswith(": over: Spike") and not made.more


def begun(lease: Lease, detector: str, severity: str, title: str = "As stored", **fields: Any) -> Alert:
    finding = alerts.Finding(
        detector, severity, title, timezone.now(), **{"series": "train/loss", "step": 7, "value": 9.5, **fields}
    )
    alert = alerts.begin(lease.run_id, lease.number, finding)
    assert alert is not None
    return alert


def test_one_cause_is_one_story_the_worst_first(lease: Lease, destination: AlertDestination) -> None:
    begun(lease, "spike", "warning")
    begun(lease, "divergence", "critical", usual="0.3 ± 0.1")
    over = begun(lease, "non-finite", "critical")
    alerts.clear(lease.run_id, lease.number, over.pk)
    begun(lease, "code", "warning", title="By hand", text="<b>mine</b>")
    made = told(destination)
    (story,) = made.stories
    name = Run.objects.get(pk=lease.run_id).name
    assert made.subject == f"[{destination.project.name}] {name}: Divergence and 3 more"
    assert [story.worst.heading, *(each.heading for each in story.others)] == [
        "Divergence", "Spike", "By hand", "over: Not finite",
    ]  # fmt: skip
    assert made.html.count("<h1") == 1 and made.html.count("See the run") == 1 and made.text.count("Pause: ") == 1
    assert made.severity == "critical"
    assert "<b>mine" not in made.html


def test_a_destination_is_told_in_its_language_by_its_clock(lease: Lease, destination: AlertDestination) -> None:
    alert = begun(lease, "divergence", "critical", usual="0.3 ± 0.1")
    full = LittleSpace(free=3.25, total=100.0)
    begun(lease, "disk", "warning", series="", value=3.25, text=str(full), cause=full)
    begun(lease, "code", "warning", title="By hand", text="Words of the training")
    Alert.objects.filter(pk=alert.pk).update(began_at=datetime(2026, 6, 1, 18, 5, tzinfo=UTC))
    for language, zone, known in (
        (
            "",
            "UTC",
            (
                "Divergence",
                "The metric gets worse instead of better.",
                "3.2 GiB of 100.0 GiB are free",
                "2026-06-01 18:05:00 UTC",
            ),
        ),
        (
            "zh-hans",
            "Asia/Shanghai",
            ("发散", "指标在变差，而不是变好。", "100.0 GiB 中还剩 3.2 GiB 可用", "2026-06-02 02:05:00 Asia/Shanghai"),
        ),
    ):
        destination.language, destination.quiet_zone = language, zone
        made = told(destination)
        for text in (made.text, made.html):
            expected = (*known[:2], *known[3:], "0.3 ± 0.1", "9.5", "By hand")
            assert [each for each in expected if each not in text] == []
        assert known[2] in [each.text for each in made.stories[0].others][0]
        assert known[0] in made.subject
        assert ("Divergence" in made.html) == (language == "")


def test_a_value_of_epochs_has_its_curve(lease: Lease) -> None:
    alert = Alert(pk=1, run_id=lease.run_id, series="validation_loss", step=20)
    assert picture_of(alert) is None
    for epoch in range(1, 4):
        EpochMetric.objects.create(
            run_id=lease.run_id, attempt=1, epoch=epoch, step=10 * epoch, at=timezone.now(), validation_loss=1 / epoch
        )
    picture = picture_of(alert)
    assert picture is not None and picture.png.startswith(b"\x89PNG")


def test_a_curve_has_a_logarithmic_axis_where_one_value_would_hide_all_others() -> None:
    assert spans_decades([1e-4, None, 2e-4, 4202.0])
    assert not spans_decades([0.1, 2.3]) and not spans_decades([0.0, 4202.0]) and not spans_decades([None])
