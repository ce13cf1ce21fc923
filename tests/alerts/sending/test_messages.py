"""What a message says, made from rows: no process, no server."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.utils import timezone

from runs.alerts.sending import message
from runs.alerts.sending.picture import picture_of, spans_decades
from runs.models import Alert, AlertDelivery, AlertDestination, EpochMetric, Run
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
    asked = "The rule asked: scale a knob, learning_rate × 0.5"
    held_back = (
        "The rule did not act (scale a knob): "
        "A rule has done so for another alert that began within a minute of this one."
    )
    assert [each.action for each in made.alerts] == [asked, held_back]
    assert asked in made.text and asked in made.html
    assert "Learning rate × 0.5" in [link.name for link in made.alerts[0].links]


def test_what_began_and_ended_meanwhile_is_told_once(lease: Lease, destination: AlertDestination) -> None:
    alert = alert_of(lease, rule_of(lease))
    alerts.clear_all(lease.run_id)
    assert AlertDelivery.objects.filter(alert=alert).count() == 2
    made = told(destination)
    assert [each.heading for each in made.alerts] == ["over: Spike"]
    assert made.subject.endswith(": over: Spike")
    assert not made.more and not made.alerts[0].links


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
