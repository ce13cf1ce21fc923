"""Marking a checkpoint so that no retention rule removes it: who may do it, and which events viewers get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from runs.models import Checkpoint, Membership, Project, Run, StoredEvent
from runs.pruning.rules import unneeded

pytestmark = pytest.mark.django_db


@pytest.fixture
def checkpoint() -> Checkpoint:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "operator", "owner"):
        Membership.objects.create(project=project, user=User.objects.create(username=name), role=name)
    run = Run.objects.create(project=project, name="first", attempt=1)
    for step in (10, 20):
        Checkpoint.objects.create(
            run=run, attempt=1, step=step, epoch=1, name=f"at {step}", path=f"attempts/1/checkpoints/{step}",
            size_bytes=9, sha256="00", created_at=timezone.now(),
        )  # fmt: skip
    return Checkpoint.objects.get(step=10)


def mark(checkpoint: Checkpoint, name: str, keep: Any, pk: int | None = None) -> HttpResponse:
    client = Client()
    client.force_login(User.objects.get(username=name))
    address = f"/api/runs/{checkpoint.run_id}/checkpoints/{pk or checkpoint.pk}/keep/"
    answer = client.post(address, json.dumps({"keep": keep}), content_type="application/json")
    checkpoint.refresh_from_db()
    return answer


def told(checkpoint: Checkpoint) -> list[tuple[int, bool]]:
    frames = StoredEvent.objects.filter(run=checkpoint.run_id, kind="checkpoint_marked").order_by("seq")
    return [(event["id"], event["keep"]) for event in map(json.loads, frames.values_list("frame", flat=True))]


def test_who_may_command_marks_it_and_viewers_are_told_once(checkpoint: Checkpoint) -> None:
    every = 5
    assert checkpoint in unneeded(list(Checkpoint.objects.order_by("pk")), every)
    for _ in range(2):
        answer = mark(checkpoint, "operator", True)
        assert answer.status_code == 200 and answer.json()["keep"] is True and checkpoint.keep
    assert checkpoint not in unneeded(list(Checkpoint.objects.order_by("pk")), every)
    assert mark(checkpoint, "owner", False).json()["keep"] is False and not checkpoint.keep
    call_command("prune", "--keep", str(checkpoint.pk))
    assert told(checkpoint) == [(checkpoint.pk, True), (checkpoint.pk, False), (checkpoint.pk, True)]
    client = Client()
    client.force_login(User.objects.get(username="viewer"))
    details = client.get(f"/api/runs/{checkpoint.run_id}/details/").json()
    assert [each["keep"] for each in details["checkpoints"]] == [True, False]


def test_others_and_what_is_gone_are_refused_in_words(checkpoint: Checkpoint) -> None:
    assert mark(checkpoint, "viewer", True).status_code == 403 and not checkpoint.keep
    gone = mark(checkpoint, "operator", True, pk=999_999)
    assert gone.status_code == 404 and "no longer has this checkpoint" in gone.json()["error"]
    unclear = mark(checkpoint, "operator", "perhaps")
    assert unclear.status_code == 422 and unclear.json()["field"] == "keep"
    assert told(checkpoint) == []
