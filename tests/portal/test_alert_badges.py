"""Open alerts in the list of runs."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.models import Alert, Membership, Project, Role, Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    user = User.objects.create_user("operator")
    Membership.objects.create(project=Project.objects.create(name="Lab", slug="lab"), user=user, role=Role.OPERATOR)
    client = Client()
    client.force_login(user)
    return client


def make_run(*alerts: tuple[str, str]) -> None:
    run = Run.objects.create(project=Project.objects.get(), name="one")
    for severity, state in alerts:
        fields = {"severity": severity, "state": state, "detector": "spike", "title": "Spike"}
        Alert.objects.create(run=run, attempt=1, began_at="2026-01-01T00:00Z", **fields)


def badges(client: Client) -> list[tuple[str, str]]:
    page = client.get("/?fragment=1").content.decode()
    return re.findall(r'data-testid="alert-badge" data-severity="(\w+)" title="([^"]+)"', page)


def test_the_list_counts_what_lasts_by_severity_the_most_severe_first(client: Client) -> None:
    make_run(("warning", "open"), ("critical", "acknowledged"), ("warning", "open"), ("info", "cleared"))
    assert badges(client) == [
        ("critical", "Open alerts, critical: 1"),
        ("warning", "Open alerts, warning: 2"),
    ]


def test_a_run_without_alerts_has_none_and_more_runs_cost_no_more_queries(client: Client) -> None:
    make_run(("warning", "cleared"))
    with CaptureQueriesContext(
        connection,
    ) as one:
        assert badges(client) == []
    for _ in range(5):
        make_run(("warning", "open"))
    with CaptureQueriesContext(connection) as six:
        assert len(badges(client)) == 5
    assert len(six) == len(one)
