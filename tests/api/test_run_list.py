"""The list of runs in the API: pages that meet, searches as on the page, and saved views."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.access.tokens import create_token
from runs.models import Membership, Project, Role, Run, RunState, SavedView, TokenScope

pytestmark = pytest.mark.django_db
VIEWS = "/api/projects/lab/views/"


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create(username=role), role=role)
    User.objects.create(username="stranger")
    return project


def session(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def bearer(project: Project, scope: str, run: Run | None = None) -> Client:
    _, value = create_token(User.objects.get(username="operator"), project, scope, name="script", run=run)
    return Client(headers={"Authorization": f"Bearer {value}"})


def make(project: Project, count: int, **fields: Any) -> list[Run]:
    return [Run.objects.create(project=project, name=f"run {place}", **fields) for place in range(count)]


def names(client: Client, **query: Any) -> list[str]:
    answer = client.get("/api/runs/", query)
    assert answer.status_code == 200, answer.content
    return [item["name"] for item in answer.json()["items"]]


def post(client: Client, address: str, **body: Any) -> Any:
    return client.post(address, body, content_type="application/json")


def test_pages_meet_while_runs_come_and_go(project: Project) -> None:
    runs = make(project, 10, state=RunState.FINISHED, parameters={"lr": 0.1})
    make(project, 1, parameters={"lr": 9.0})
    client = session("viewer")
    address, found, counts = "/api/runs/?limit=4&state=finished&q=lr+%3C+1&offset=1", [], []
    while address:
        page = client.get(address).json()
        found += [item["id"] for item in page["items"]]
        counts.append(page["count"])
        address = page["next"]
        if len(found) == 4:
            assert "q=lr" in address and "state=finished" in address and "offset" not in address
            # One of the first page is deleted, and newer ones appear: both move what `offset` counts.
            runs[8].delete()
            make(project, 3, state=RunState.FINISHED, parameters={"lr": 0.1})
    # The first page begins behind the newest run.
    assert found == [runs[0].pk + place for place in range(8, -1, -1)]
    assert counts == [10, 12, 12]


def test_a_page_that_ends_with_the_last_run_has_no_next(project: Project) -> None:
    make(project, 4)
    client = session("viewer")
    assert client.get("/api/runs/?limit=4").json()["next"] is None
    following = client.get("/api/runs/?limit=3").json()["next"]
    assert following.startswith("/api/runs/?") and len(client.get(following).json()["items"]) == 1
    assert session("stranger").get("/api/runs/").json() == {"count": 0, "items": [], "next": None}


def test_it_searches_as_the_page_does(project: Project) -> None:
    for rate in (0.1, 0.01):
        Run.objects.create(project=project, name=f"rate {rate}", parameters={"lr": rate})
    client = session("viewer")
    assert names(client, q="lr < 0.05") == ["rate 0.01"]
    assert names(client, q="rate lr = 0.1") == ["rate 0.1"]
    assert names(client, q="author != me") == ["rate 0.01", "rate 0.1"]
    for text, part in (("lrr < 1", "“lrr” is not a column"), ("lr < x", "“x” is not")):
        answer = client.get("/api/runs/", {"q": text})
        assert (answer.status_code, answer.json()["field"]) == (422, "q") and part in answer.json()["error"]


def test_a_view_chooses_the_runs(project: Project) -> None:
    make(project, 1, state=RunState.FAILED, parameters={"lr": 0.1})
    make(project, 1, state=RunState.FINISHED, parameters={"lr": 0.1}, archived_at=timezone.now())
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="viewer"), role=Role.VIEWER)
    Run.objects.create(project=other, name="elsewhere", state=RunState.FAILED, parameters={"lr": 0.1})
    client = session("viewer")
    view = SavedView.objects.create(project=project, name="Failed", query="q=lr+%3C+1&state=failed&sort=-loss")
    archive = SavedView.objects.create(project=project, name="Archive", query="archived=on")
    assert names(client, view=view.pk) == ["run 0"]
    assert names(client, view=view.pk, state="finished") == []
    assert [item["state"] for item in client.get("/api/runs/", {"view": archive.pk}).json()["items"]] == ["finished"]
    assert names(bearer(project, TokenScope.VIEW), view=view.pk) == ["run 0"]
    outdated = SavedView.objects.create(project=project, name="Old", query="q=gone+%3C+1")
    answer = client.get("/api/runs/", {"view": outdated.pk})
    assert (answer.status_code, answer.json()["field"]) == (422, "view")
    assert "The search of this view cannot be used: “gone” is not" in answer.json()["error"]
    elsewhere = SavedView.objects.create(project=other, name="Other", query="")
    for asking, number in ((session("stranger"), view), (bearer(project, TokenScope.VIEW), elsewhere)):
        answer = asking.get("/api/runs/", {"view": number.pk})
        assert (answer.status_code, answer.json()["field"]) == (404, "view")


def test_views_are_listed_saved_and_deleted(project: Project) -> None:
    script = bearer(project, TokenScope.COMMAND)
    saved = post(script, VIEWS, name="Small rates", query="q=lr+%3C+1&page=3&project=x&group=tag", default=True)
    assert saved.status_code == 200, saved.content
    view = saved.json()
    assert (view["name"], view["query"], view["default"]) == ("Small rates", "q=lr+%3C+1&group=tag", True)
    assert view["changed_by"] == "operator"
    again = post(session("owner"), VIEWS, name="Small rates", query="state=failed").json()
    assert (again["id"], again["default"], again["changed_by"]) == (view["id"], False, "owner")
    assert session("viewer").get(VIEWS).json() == {"count": 1, "items": [again]}
    nameless = post(script, VIEWS, name=" ")
    assert (nameless.status_code, nameless.json()["field"]) == (422, "name")
    gone = post(script, f"{VIEWS}{view['id']}/delete/")
    assert (gone.status_code, gone.json()) == (200, {"count": 0, "items": []})
    assert post(script, f"{VIEWS}{view['id']}/delete/").status_code == 404


def test_views_are_for_members_and_change_for_those_who_command(project: Project) -> None:
    (run,) = make(project, 1)
    view = SavedView.objects.create(project=project, name="Mine", query="")
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="operator"), role=Role.OWNER)
    for client, read, write in (
        (session("stranger"), 404, 404),
        (session("viewer"), 200, 403),
        (bearer(project, TokenScope.VIEW), 200, 403),
        (bearer(project, TokenScope.COMMAND, run=run), 404, 404),
        (bearer(other, TokenScope.COMMAND), 404, 404),
    ):
        assert client.get(VIEWS).status_code == read
        assert post(client, VIEWS, name="New").status_code == write
        assert post(client, f"{VIEWS}{view.pk}/delete/").status_code == write
    assert [each.name for each in SavedView.objects.all()] == ["Mine"]


def test_a_run_has_its_gpu_hours(project: Project) -> None:
    now = timezone.now()
    make(
        project,
        1,
        state=RunState.RUNNING,
        started_at=now,
        gpu_s=3600.0,
        gpus_held=4,
        gpus_held_since=now - timedelta(hours=2),
    )
    make(project, 1)
    fresh, running = session("viewer").get("/api/runs/").json()["items"]
    assert running["gpu_hours"] == pytest.approx(9, abs=0.1) and fresh["gpu_hours"] is None
