"""What the head of a run's page tells: for how long it trained, with how many GPUs, and what a reviewer noted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.models import Attempt, Membership, Project, Role, Run, RunState, StoredEvent
from runs.recording.lifecycle import AttemptEnd, Holder, end_attempt, mark_lost, note_pause, open_attempt, renew_lease
from runs.recording.liveness import duration_of, gpu_hours_of
from runs.recording.status import MOST_GPUS, gpus_of, store_gpu_time

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOLDER = Holder("gpu1", "boot", 1)


class Clock:
    """The time of the portal, in seconds since the run began."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> datetime:
        return BEGAN + timedelta(seconds=self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timezone, "now", clock)
    return clock


@pytest.fixture
def run(db: None) -> Run:
    return Run.objects.create(project=Project.objects.create(name="Lab", slug="lab"), name="one")


def trained_s(run: Run, clock: Clock) -> float | None:
    """Return how long the run trained according to its row, after checking that viewers received the same."""
    run.refresh_from_db()
    duration = duration_of(run, clock())
    frame = StoredEvent.objects.filter(run=run, kind="status").order_by("-seq").values_list("frame", flat=True)[0]
    told = json.loads(frame)
    since = told["training_since"]
    present = (clock() - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    assert duration is not None and told["trained_s"] + present == pytest.approx(duration.total_seconds())
    return round(duration.total_seconds(), 3)


def test_no_time_passes_for_a_run_that_is_paused(run: Run, clock: Clock) -> None:
    lease = open_attempt(run.pk, HOLDER, 0, command_line=[])
    clock.now = 10
    note_pause(lease, True)
    clock.now = 70
    assert (trained_s(run, clock), run.training_since) == (10, None)
    # Repeated reports of the worker count once.
    note_pause(lease, True)
    note_pause(lease, False)
    note_pause(lease, False)
    assert trained_s(run, clock) == 10
    clock.now = 75
    assert trained_s(run, clock) == 15
    note_pause(lease, True)
    clock.now = 200
    renew_lease(lease)
    clock.now = 300
    mark_lost(run.pk, 1, Run.objects.get(pk=run.pk).heartbeat)
    assert (trained_s(run, clock), run.state) == (15, RunState.LOST)
    renew_lease(lease)
    assert (trained_s(run, clock), run.state) == (15, RunState.PAUSED)
    end_attempt(lease, AttemptEnd(outcome=RunState.STOPPED))
    clock.now = 400
    assert trained_s(run, clock) == 15
    second = open_attempt(run.pk, HOLDER, 1, command_line=[])
    clock.now = 404
    assert trained_s(run, clock) == 19
    note_pause(second, True)
    clock.now = 500
    note_pause(second, False)
    clock.now = 501
    end_attempt(second, AttemptEnd(outcome=RunState.FINISHED))
    assert trained_s(run, clock) == 20


def gpu_hours(run: Run, clock: Clock) -> float | None:
    run.refresh_from_db()
    hours = gpu_hours_of(run, clock())
    return None if hours is None else round(hours, 3)


def test_gpu_hours_are_the_gpus_of_each_attempt_times_its_time(run: Run, clock: Clock) -> None:
    assert gpu_hours(run, clock) is None
    lease = open_attempt(run.pk, HOLDER, 0, command_line=[])
    assert gpu_hours(run, clock) == 0
    # Reported some seconds after the start, and counted from the start.
    Attempt.objects.filter(pk=lease.attempt_id).update(environment={"gpu_uuids": ["a", "b"]})
    clock.now = 1800
    store_gpu_time(run.pk)
    assert gpu_hours(run, clock) == 1
    # A paused attempt holds its GPUs.
    note_pause(lease, True)
    clock.now = 3600
    assert gpu_hours(run, clock) == 2
    note_pause(lease, False)
    renew_lease(lease)
    clock.now = 7200
    # Of a run whose host is silent nobody knows: it counts up to the last heartbeat.
    mark_lost(run.pk, 1, Run.objects.get(pk=run.pk).heartbeat)
    assert (gpu_hours(run, clock), run.gpus_held) == (2, 0)
    renew_lease(lease)
    assert (gpu_hours(run, clock), run.gpus_held) == (4, 2)
    end_attempt(lease, AttemptEnd(outcome=RunState.STOPPED))
    clock.now = 9000
    assert gpu_hours(run, clock) == 4
    second = open_attempt(run.pk, HOLDER, 1, command_line=[])
    visible = [{"index": 0, "uuid": "a"}]
    Attempt.objects.filter(pk=second.attempt_id).update(environment={"cuda_devices": visible})
    store_gpu_time(run.pk)
    clock.now = 10_800
    end_attempt(second, AttemptEnd(outcome=RunState.FINISHED))
    assert gpu_hours(run, clock) == 4.5


@pytest.mark.parametrize(
    ("environment", "gpus"),
    [
        ({}, 0),
        ({"gpu_uuids": ["a"], "cuda_devices": [{}, {}]}, 1),
        ({"gpu_uuids": [], "cuda_devices": [{}, {}]}, 2),
        ({"device": "cpu", "cuda_devices": [{}, {}]}, 0),
        ({"gpu_uuids": "a", "cuda_devices": "many", "device": ["cpu"]}, 0),
        ({"gpu_uuids": ["a"] * 200_000}, MOST_GPUS),
    ],
)
def test_the_gpus_of_an_attempt_are_those_that_it_uses_or_may_use(environment: dict[str, Any], gpus: int) -> None:
    assert gpus_of(environment) == gpus


def test_the_page_shows_members_what_a_reviewer_noted(run: Run, client: Client) -> None:
    reviewer = User.objects.create_user("carl", first_name="Carl", last_name="Ng")
    viewer = User.objects.create_user("viewer")
    Membership.objects.create(project=run.project, user=viewer, role=Role.VIEWER)
    client.force_login(viewer)
    address = run.get_absolute_url()
    assert b'data-testid="review-note" hidden' in client.get(address).content
    Run.objects.filter(pk=run.pk).update(
        review_note="Converges.\n<b>Longer</b> next time.", reviewed_by=reviewer, reviewed_at=BEGAN
    )
    page = client.get(address).content.decode()
    assert "Converges.<br>\n&lt;b&gt;Longer&lt;/b&gt; next time." in page
    # The reader's browser shows it in its own zone.
    assert f'by Carl Ng, <time datetime="{BEGAN.isoformat()}">' in page
