"""Checkpoints that are rated as good, because the detectors found nothing for a while after them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.models import Alert, Checkpoint, StoredEvent
from runs.recording.checkpoints import QUIET_STEPS, rate_checkpoints
from runs.recording.lifecycle import Lease
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease

NOW = timezone.now()


def checkpoint_of(lease: Lease, step: int, **more: Any) -> Checkpoint:
    """Save a checkpoint that is as many seconds after the first step as its step number."""
    fields: dict[str, Any] = {
        "name": f"at {step}", "path": f"attempts/1/{step}", "epoch": 1, "size_bytes": 1, "sha256": "0" * 64,
        "created_at": NOW + timedelta(seconds=step),
    }  # fmt: skip
    return Checkpoint.objects.create(run_id=lease.run_id, attempt=lease.number, step=step, **(fields | more))


def fault_of(lease: Lease, step: int, cleared: int | None = None, **more: Any) -> Alert:
    cleared_at = None if cleared is None else NOW + timedelta(seconds=cleared)
    fields: dict[str, Any] = {
        "detector": "divergence", "severity": "critical", "series": "train/loss", "title": "Divergence", "step": step,
        "began_at": NOW + timedelta(seconds=step), "cleared_at": cleared_at,
        "state": "open" if cleared is None else "cleared",
    }  # fmt: skip
    return Alert.objects.create(run_id=lease.run_id, attempt=lease.number, **(fields | more))


def good(lease: Lease) -> list[int]:
    return list(
        Checkpoint.objects.filter(run_id=lease.run_id, good=True).order_by("step").values_list("step", flat=True)
    )


def test_a_checkpoint_is_good_once_the_detectors_were_quiet_for_a_while_and_viewers_are_told(lease: Lease) -> None:
    saved = checkpoint_of(lease, 1000)
    assert rate_checkpoints(lease.run_id, lease.number, 999 + QUIET_STEPS) == 0 and good(lease) == []
    assert rate_checkpoints(lease.run_id, lease.number, 1000 + QUIET_STEPS) == 1 and good(lease) == [1000]
    assert rate_checkpoints(lease.run_id, lease.number, 5000) == 0
    (event,) = StoredEvent.objects.filter(run_id=lease.run_id, kind="checkpoint_marked")
    assert f'"id":{saved.pk},"keep":false,"good":true' in event.frame


def test_a_checkpoint_waits_until_the_detectors_would_have_found_a_fault_of_the_loss(lease: Lease) -> None:
    checkpoint_of(lease, 1000)
    checkpoint_of(lease, 1200)
    rate_checkpoints(lease.run_id, lease.number, 5000, 999)
    assert good(lease) == []
    rate_checkpoints(lease.run_id, lease.number, 5000, 1199)
    assert good(lease) == [1000]


@pytest.mark.parametrize(
    ("fault", "rated"),
    [
        ({"step": 1050}, []),
        ({"step": 900}, []),
        ({"step": 900, "cleared": 1001}, []),
        ({"step": 900, "cleared": 999}, [1000]),
        ({"step": 1001 + QUIET_STEPS}, [1000]),
        ({"step": 1001 + QUIET_STEPS, "onset": 990}, []),
        ({"step": 1050, "severity": "info"}, [1000]),
        ({"step": 1050, "detector": "plateau"}, [1000]),
    ],
    ids=[
        "after it",
        "lasts",
        "was over after it",
        "was over before it",
        "long after it",
        "found late",
        "single",
        "no fault",
    ],
)
def test_a_checkpoint_beside_a_fault_is_not_good(lease: Lease, fault: dict[str, Any], rated: list[int]) -> None:
    checkpoint_of(lease, 1000)
    fault_of(lease, **fault)
    rate_checkpoints(lease.run_id, lease.number, 1002 + QUIET_STEPS)
    assert good(lease) == rated


def test_after_a_roll_back_faults_of_the_curve_that_was_left_do_not_count(lease: Lease) -> None:
    checkpoint_of(lease, 1500, abandoned=True)
    fault_of(lease, 1520, cleared=1600)
    checkpoint_of(lease, 1450, created_at=NOW + timedelta(seconds=1700))
    rate_checkpoints(lease.run_id, lease.number, 1700)
    assert good(lease) == [1450]
