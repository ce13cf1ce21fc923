"""The page of a project: what members read there, what owners change, and what it costs."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import Attempt, Chunk, ChunkPlaces, Host, Membership, Project, Role, Run, RunState, Series
from runs.series.storage import fold
from tests.support.stored_points import store

pytestmark = pytest.mark.django_db
PAGE, EDIT = "/projects/digits/", "/projects/digits/edit/"


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    cache.clear()


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    for role in Role.values:
        user = User.objects.create_user(role, first_name=f"{role.title()} Person")
        Membership.objects.create(project=project, user=user, role=role)
    return project


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def make(project: Project, name: str, accuracy: float | None = None, **fields: Any) -> Run:
    run = Run.objects.create(project=project, name=name, **{"state": RunState.FINISHED} | fields)
    if accuracy is not None:
        Series.objects.create(run=run, name="val/accuracy", last_value=accuracy)
    return run


def text_of(name: str, address: str = PAGE) -> str:
    return " ".join(client_of(name).get(address).content.decode().split())


def best_of(project: Project, name: str = "viewer") -> list[tuple[str, float]]:
    return [(found.run.name, found.value) for found in client_of(name).get(PAGE).context["best"]]


def test_owners_describe_the_project_in_markdown(project: Project) -> None:
    owner = client_of("owner")
    sent = {"description": "# Aim\nRead **digits**.<script>x</script>", "goal_metric": "", "goal_direction": "min"}
    answer = owner.post(EDIT, sent, follow=True)
    assert answer.redirect_chain == [(PAGE, 302)]
    text = text_of("viewer")
    assert "<h3>Aim</h3>" in text and "<strong>digits</strong>" in text
    assert "<script>x" not in text and "&lt;script&gt;x" in text
    assert "# Aim" in owner.get(EDIT).content.decode()
    for name in ("viewer", "operator"):
        assert client_of(name).get(EDIT).status_code == client_of(name).post(EDIT, sent).status_code == 403
    too_long = owner.post(EDIT, sent | {"description": "x" * 20_001})
    assert too_long.status_code == 422 and "at most 20000 characters" in too_long.content.decode()


@pytest.mark.parametrize(("goal", "direction", "first"), [("min", "min", "a"), ("max", "max", "b")])
def test_the_goal_may_be_the_extreme_of_a_series(project: Project, goal: str, direction: str, first: str) -> None:
    for name, low, high in (("a", 0.1, 0.5), ("b", 0.2, 0.9)):
        Series.objects.filter(run=make(project, name, 0.5)).update(least_value=low, greatest_value=high)
    owner = client_of("owner")
    metric = f"{goal}:val/accuracy"
    assert f'<option value="{metric}"' in owner.get(EDIT).content.decode()
    owner.post(EDIT, {"description": "", "goal_metric": metric, "goal_direction": direction})
    assert [name for name, _value in best_of(project)][0] == first
    answer = client_of("viewer").get("/?" + client_of("viewer").get(PAGE).context["sorted_query"])
    assert [row.run.name for row in answer.context["rows"]][0] == first


def test_the_best_runs_are_those_of_the_goal_metric(project: Project) -> None:
    for number in range(7):
        make(project, f"run {number}", number / 10, created_by=User.objects.get(username="operator"))
    make(project, "none")
    make(project, "archived", 0.99, archived_at=timezone.now())
    other = Project.objects.create(name="Other", slug="other")
    make(other, "elsewhere", 0.99)
    owner = client_of("owner")
    offered = re.findall(r'<option value="([^"]+)"', owner.get(EDIT).content.decode())
    assert "last:val/accuracy" in offered and "epoch:train_loss" not in offered
    owner.post(EDIT, {"description": "", "goal_metric": "last:val/accuracy", "goal_direction": "max"})
    assert best_of(project) == [(f"run {number}", number / 10) for number in (6, 5, 4, 3, 2)]
    assert "Operator Person" in text_of("viewer")
    query = client_of("viewer").get(PAGE).context["sorted_query"]
    rows = client_of("viewer").get(f"/?{query}").context["rows"]
    assert [row.run.name for row in rows][:2] == ["run 6", "run 5"]
    owner.post(EDIT, {"description": "", "goal_metric": "last:val/accuracy", "goal_direction": "min"})
    assert best_of(project)[0] == ("run 0", 0.0)
    # What no run measures any more stays chosen, until an owner chooses another one.
    Series.objects.all().delete()
    assert best_of(project) == [] and "No run of this project has a value of val/accuracy yet." in text_of("viewer")
    assert 'value="last:val/accuracy" selected' in owner.get(EDIT).content.decode()
    for wrong in ("best", "parameter:lr", "last:none"):
        answer = owner.post(EDIT, {"description": "", "goal_metric": wrong, "goal_direction": "min"})
        assert answer.status_code == 422, wrong


def test_it_shows_what_trains_and_waits_and_what_was_used(project: Project) -> None:
    now = timezone.now()
    Host.objects.create(name="gpu1", heartbeat_at=now)
    live = make(
        project, "live", state=RunState.RUNNING, attempt=1, step=500, total_steps=1000, started_at=now,
        training_since=now - timedelta(minutes=10), gpus_held=2, gpus_held_since=now - timedelta(hours=3),
    )  # fmt: skip
    Attempt.objects.create(run=live, number=1, host="gpu1", boot_id="b", supervisor_pid=1)
    make(project, "waits", state=RunState.QUEUED, queued_at=now)
    ended = make(project, "ended", gpu_s=36_000.0)
    ended.checkpoints.create(
        attempt=1, step=1, epoch=1, name="a", path="a", size_bytes=3 << 30, sha256="x", created_at=now
    )
    hidden = make(Project.objects.create(name="Other", slug="other"), "secret", state=RunState.RUNNING, attempt=1)
    Attempt.objects.create(run=hidden, number=1, host="gpu1", boot_id="b", supervisor_pid=2)
    text = text_of("viewer")
    totals = client_of("viewer").get(PAGE).context["totals"]
    assert (totals.runs, totals.live, totals.waiting, totals.checkpoints) == (3, 1, 1, 1)
    assert totals.gpu_hours == pytest.approx(16, abs=0.1) and totals.stored_bytes == 3 << 30
    assert "3.0 GB" in text.replace("\xa0", " ") and "in 1 checkpoint" in text
    left = re.search(r'data-seconds="(\d+)">\d+ s</span> left', text)
    assert left and 590 <= int(left[1]) <= 610
    assert "waits" in text and "secret" not in text and "1 run of another project" in text
    fragment = client_of("viewer").get(PAGE, {"fragment": "queue"}).content.decode()
    assert "live" in fragment and "<html" not in fragment
    # Its buttons belong to the list of runs.
    assert "queue-form" not in text_of("operator")


def test_it_counts_points_and_files_by_their_bytes(
    project: Project, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.STEERSMAN_DATA = tmp_path
    run, other = make(project, "one"), make(Project.objects.create(name="Other", slug="other"), "secret")
    for each in (run, other):
        store(each, [float(value) for value in range(300)])
        fold(each.pk)
        sizes = {
            "attempts/1/journal-0000-000000.bin": 1_000, "attempts/1/console.log": 200, "attempts/1/console-1.log": 30,
            "attempts/1/task.json": 4, "attempts/1/checkpoints/a/weights.bin": 50_000, "files/checkpoints/x.bin": 7,
        }  # fmt: skip
        for name, size in sizes.items():
            path = tmp_path / "runs" / str(each.pk) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size))
    packed = [*Chunk.objects.filter(series__run=run), *ChunkPlaces.objects.filter(run=run)]
    points = sum(len(row.points) + len(row.buckets) + len(row.fine) + len(row.coarse) for row in packed)
    assert points > 0
    answer = client_of("viewer").get(PAGE, {"fragment": "space"})
    space = answer.context["space"]
    assert (space.points, space.journals, space.consoles, space.scripts, space.others) == (points, 1_000, 230, 7, 4)
    assert space.total == points + 1_241
    assert "points in the database" in answer.content.decode() and "<html" not in answer.content.decode()
    User.objects.create_user("stranger")
    assert client_of("stranger").get(PAGE, {"fragment": "space"}).status_code == 404
    cache.clear()
    cache.set(f"project-space-{project.pk}-measuring", True)
    assert "is being measured" in client_of("viewer").get(PAGE, {"fragment": "space"}).content.decode()
    cache.clear()
    monkeypatch.setattr("runs.portal.project.space.LONGEST_COUNT_S", -1.0)
    assert "at least" in client_of("viewer").get(PAGE, {"fragment": "space"}).content.decode()


def test_it_names_the_people_and_leads_to_the_pages_of_the_project(project: Project) -> None:
    text = text_of("viewer")
    for part in ("Owner Person", "Operator Person", "Viewer Person", "viewer · you"):
        assert part in text
    assert "/projects/digits/audit/" not in text and "/projects/digits/edit/" not in text
    owners = text_of("owner")
    assert "/projects/digits/audit/" in owners and "/projects/digits/keeping/" in owners
    for number in range(30):
        user = User.objects.create_user(f"person {number}")
        Membership.objects.create(project=project, user=user)
    assert "All 33 members" in text_of("viewer")
    User.objects.create_user("stranger")
    assert client_of("stranger").get(PAGE).status_code == 404
    for address in ("/projects/", "/?project=digits", "/projects/digits/members/"):
        assert f'href="{PAGE}"' in text_of("owner", address), address


def test_what_is_missing_is_told_to_those_who_can_add_it(project: Project) -> None:
    owner, operator, viewer = text_of("owner"), text_of("operator"), text_of("viewer")
    assert "Write what this project is for" in owner and "Choose a goal metric" in owner
    assert "Owners of the project can write one." in viewer and "Owners of the project can choose one" in operator
    assert "Create one with New run" in operator and "Create one" not in viewer
    assert "Its operators and owners create runs." in viewer


def test_the_page_takes_the_same_queries_for_any_number_of_runs(project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(goal_metric="last:val/accuracy")
    viewer = client_of("viewer")

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert viewer.get(PAGE).status_code == 200
        return len(captured)

    make(project, "first", 0.5)
    few = count()
    for number in range(30):
        make(project, f"run {number}", number / 30, created_by=User.objects.get(username="owner"))
    assert count() == few
