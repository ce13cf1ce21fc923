"""Pinning charts for all runs of a project: who may do it, what is refused, and which pins pages get."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from runs.models import Membership, Project, Run
from runs.models.projects import MOST_PINS

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "operator", "owner"):
        Membership.objects.create(project=project, user=User.objects.create(username=name), role=name)
    return Run.objects.create(project=project, name="first")


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def pin(run: Run, name: str, chart: str, pinned: bool = True) -> HttpResponse:
    body = json.dumps({"chart": chart, "pinned": pinned})
    return client_of(name).post(f"/api/runs/{run.pk}/pins/", body, content_type="application/json")


def test_a_pin_is_shared_by_the_pages_of_the_project(run: Run) -> None:
    assert pin(run, "operator", "train/loss").json() == {"pinned": ["train/loss"]}
    assert pin(run, "owner", "layer/7").json() == {"pinned": ["train/loss", "layer/7"]}
    assert pin(run, "owner", "train/loss").json() == {"pinned": ["train/loss", "layer/7"]}
    other = Run.objects.create(project=run.project, name="second")
    page = client_of("viewer").get(f"/runs/{other.pk}/").context["page"]
    assert page["pins"] == ["train/loss", "layer/7"]
    assert pin(other, "operator", "train/loss", pinned=False).json() == {"pinned": ["layer/7"]}
    assert pin(other, "operator", "train/loss", pinned=False).json() == {"pinned": ["layer/7"]}


def test_viewers_pin_nothing_for_others(run: Run) -> None:
    answer = pin(run, "viewer", "train/loss")
    assert answer.status_code == 403 and "operators and owners" in answer.json()["error"]
    run.project.refresh_from_db()
    assert run.project.pinned_charts == []


def test_what_is_no_chart_and_one_too_many_are_refused_by_name(run: Run) -> None:
    for chart in ("", "x" * 201):
        answer = pin(run, "operator", chart)
        assert answer.status_code == 422 and answer.json()["field"] == "chart"
    run.project.pinned_charts = [f"layer/{number}" for number in range(MOST_PINS)]
    run.project.save()
    answer = pin(run, "operator", "train/loss")
    assert answer.status_code == 422 and answer.json()["field"] == "chart"
    assert "unpin one first" in answer.json()["error"]
    # Pinned charts stay, and can be unpinned.
    assert pin(run, "operator", "layer/3").status_code == 200
    assert len(pin(run, "operator", "layer/3", pinned=False).json()["pinned"]) == MOST_PINS - 1
