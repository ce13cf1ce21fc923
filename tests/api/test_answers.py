"""Rules of every operation: known query fields, answers of a bounded size, no caching."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from ninja.operation import Operation

from runs.access.tokens import create_token
from runs.api.answers import QueryFields
from runs.api.history import CHART_ROWS
from runs.api.urls import api
from runs.models import Attempt, EpochMetric, Membership, Project, Role, Run, RunState, TokenScope
from runs.series.packing.chunks import Points
from tests.support.stored_points import START, store_folded

pytestmark = pytest.mark.django_db

ZIPPED = {"Accept-Encoding": "gzip"}
MOST_HISTORY_BYTES = 900_000


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create(username=role), role=role)
    return Run.objects.create(project=project, name="first", state=RunState.RUNNING, attempt=1)


@pytest.fixture
def viewer(run: Run, client: Client) -> Client:
    client.force_login(User.objects.get(username="viewer"))
    return client


def operations() -> list[tuple[str, Operation]]:
    """Return the path and operation of every GET of the API."""
    found = []
    for prefix, router in api._routers:
        for path, view in router.path_operations.items():
            found += [(f"/api{prefix}{path}", one) for one in view.operations if "GET" in one.methods]
    return found


def address_of(path: str, run: Run) -> str:
    """Fill in the path of an operation; the command in it need not exist."""
    uuid = "00000000-0000-0000-0000-000000000000"
    places = {"{int:run_id}": str(run.pk), "{uuidstr:command_id}": uuid, "{slug:slug}": run.project.slug, "//": "/"}
    for place, value in places.items():
        path = path.replace(place, value)
    return path


def test_every_address_refuses_a_field_that_it_does_not_know(run: Run, viewer: Client) -> None:
    asked = operations()
    assert len(asked) >= 12
    for path, operation in asked:
        answer = viewer.get(address_of(path, run), {"bukets": "5"})
        assert answer.status_code == 422 and answer.json()["field"] == "bukets", path
        for known in QueryFields.of(operation).known:
            assert known in answer.json()["error"], (path, known)
        assert "no-store" in answer.headers["Cache-Control"], path


def test_it_knows_the_fields_of_a_model_by_the_names_in_the_address() -> None:
    (points,) = (operation for path, operation in operations() if path.endswith("/points/"))
    fields = QueryFields.of(points)
    assert fields.known == ("name", "by", "from", "to", "raw", "by_attempt", "buckets", "limit", "after")
    assert fields.repeatable == {"name"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=1&limit=2", "limit"),
        ("q=a&q=a", "q"),
        ("q=%00", "q"),
        ("project=la%00b", "project"),
        ("state=running&state=", "state"),
        ("limit=" + "9" * 5009, "limit"),
        ("offset=1e3", "offset"),
        ("%00=1", "\0"),
        ("x" * 5000 + "=1", "x" * 100),
    ],
)
def test_it_refuses_fields_given_twice_and_text_that_no_database_takes(viewer: Client, query: str, field: str) -> None:
    answer = viewer.get(f"/api/runs/?{query}")
    assert answer.status_code == 422 and answer.json()["field"] == field
    assert 10 < len(answer.json()["error"]) < 400


def test_strangers_learn_of_no_field() -> None:
    assert Client().get("/api/runs/?bukets=5").status_code == 401


def test_it_refuses_fields_in_the_address_of_a_change(run: Run, client: Client) -> None:
    client.force_login(User.objects.get(username="operator"))
    address = f"/api/runs/{run.pk}/commands/?dry_run=true"
    answer = client.post(address, {"command": "stop"}, content_type="application/json")
    assert answer.status_code == 422 and answer.json()["field"] == "dry_run" and not run.commands.exists()


def test_it_compresses_what_it_found_and_neither_errors_nor_tickets(run: Run, client: Client) -> None:
    client.force_login(User.objects.get(username="operator"))
    Run.objects.filter(pk=run.pk).update(parameters={f"parameter {number}": number for number in range(100)})
    plain = client.get(f"/api/runs/{run.pk}/details/")
    answer = client.get(f"/api/runs/{run.pk}/details/", headers=ZIPPED)
    assert answer.headers["Content-Encoding"] == "gzip" and "Accept-Encoding" in answer.headers["Vary"]
    assert json.loads(gzip.decompress(answer.content)) == plain.json()
    assert len(answer.content) < len(plain.content) / 2
    # Padding makes the length of equal answers different.
    assert len({len(client.get(f"/api/runs/{run.pk}/details/", headers=ZIPPED).content) for _ in range(20)}) > 1
    refused = client.get(f"/api/runs/{run.pk}/details/?{'x' * 300}=1", headers=ZIPPED)
    ticket = client.post("/api/tickets/", {"run": run.pk}, content_type="application/json", headers=ZIPPED)
    assert ticket.status_code == 200
    assert "Content-Encoding" not in refused.headers and "Content-Encoding" not in ticket.headers


def test_the_history_of_300_noisy_series_stays_below_900_kilobytes(run: Run, viewer: Client) -> None:
    random = np.random.default_rng(1)
    steps = np.arange(20_000)
    for number in range(300):
        times_ms = START * 1000 + np.cumsum(20 + random.exponential(2, len(steps)))
        values = 2 * np.exp(-steps / 5000) + 0.3 * random.normal(size=len(steps))
        store_folded(run, f"layer {number}/loss", Points(steps, times_ms.astype(np.int64), values))
    answer = viewer.get(f"/api/runs/{run.pk}/history/", headers=ZIPPED)
    assert len(answer.content) <= MOST_HISTORY_BYTES
    series = json.loads(gzip.decompress(answer.content))["series"]
    assert len(series) == 300
    for charts in series.values():
        (chart,) = charts["attempts"].values()
        assert len(chart["mean"]) >= 100 and chart["count"] == 20_000


def test_the_history_of_many_attempts_stays_below_900_kilobytes(run: Run, viewer: Client) -> None:
    random = np.random.default_rng(1)
    steps = np.arange(800)
    for attempt in range(1, 61):
        for number in range(50):
            times_ms = (START + 20 * attempt) * 1000 + np.cumsum(20 + random.exponential(2, len(steps)))
            points = Points(steps + 400 * attempt, times_ms.astype(np.int64), random.normal(size=len(steps)))
            store_folded(run, f"layer {number}/loss", points, attempt)
    answer = viewer.get(f"/api/runs/{run.pk}/history/", headers=ZIPPED)
    assert len(answer.content) <= MOST_HISTORY_BYTES
    series = json.loads(gzip.decompress(answer.content))["series"]
    charts = [chart for drawn in series.values() for chart in drawn["attempts"].values()]
    assert len(charts) == 50 * 60 and all(len(chart["steps"]) >= 2 for chart in charts)
    assert CHART_ROWS * 0.9 <= sum(len(chart["steps"]) for chart in charts) <= CHART_ROWS


def test_one_rule_says_how_long_a_run_took(run: Run, viewer: Client) -> None:
    begun = timezone.now().replace(microsecond=0)
    ended = begun + timezone.timedelta(seconds=300)
    Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED, started_at=begun, ended_at=ended, trained_s=90.0)
    assert viewer.get(f"/api/runs/{run.pk}/").json()["duration_s"] == 90
    (row,) = viewer.get("/").context["rows"]
    assert row.duration.total_seconds() == 90
    other = Run.objects.create(project=run.project, name="second")
    assert viewer.get(f"/api/runs/{other.pk}/").json()["duration_s"] is None


def test_an_attempt_has_the_same_fields_everywhere(run: Run, client: Client) -> None:
    Attempt.objects.create(run=run, number=1, host="h", boot_id="b", supervisor_pid=1, traceback="Traceback …")
    for role, sees in (("viewer", False), ("operator", True)):
        client.force_login(User.objects.get(username=role))
        (listed,) = client.get(f"/api/runs/{run.pk}/attempts/").json()["items"]
        for address in ("history", "details"):
            (told,) = client.get(f"/api/runs/{run.pk}/{address}/").json()["attempts"]
            assert told == listed, address
        assert ("traceback" in listed) is sees
    _, key = create_token(User.objects.get(username="owner"), run.project, TokenScope.VIEW, name="script")
    (listed,) = Client(headers={"Authorization": f"Bearer {key}"}).get(f"/api/runs/{run.pk}/attempts/").json()["items"]
    assert "traceback" not in listed


def test_it_gives_the_values_of_epochs_that_are_asked_for(run: Run, viewer: Client) -> None:
    EpochMetric.objects.create(
        run=run, attempt=1, epoch=1, step=10, train_loss=0.5, validation_loss=0.25, at=timezone.now(),
        extra={"f1": None, "top5": 0.9}, nonfinite={"f1": "nan"},
    )  # fmt: skip

    def asked(*names: str) -> tuple[Any, Any]:
        (epoch,) = viewer.get(f"/api/runs/{run.pk}/epochs/", {"name": names}).json()["items"]
        return epoch["values"], epoch["nonfinite"]

    assert asked("validation_loss") == ({"validation_loss": 0.25}, {})
    assert asked("f1", "train_loss") == ({"train_loss": 0.5, "f1": None}, {"f1": "nan"})
    assert asked("no such") == ({}, {})
    assert len(asked()[0]) == 4
