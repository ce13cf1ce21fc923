"""Actions on several runs: who may do them, the result for each run, and the message about runs that are left out."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from runs.access.tokens import create_token
from runs.models import AuditEntry, Command, Membership, Project, Role, Run, RunState, TokenScope

pytestmark = pytest.mark.django_db


@pytest.fixture
def lab(settings: Any, tmp_path: Path) -> Project:
    settings.STEERSMAN_DATA = tmp_path
    lab = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=lab, user=User.objects.create_user(role), role=role)
    AuditEntry.objects.all().delete()
    return lab


def visitor(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def ask(name: str, runs: list[int], action: str, **more: Any) -> dict[str, Any]:
    answer: HttpResponse = visitor(name).post(
        "/api/runs/several/", json.dumps({"runs": runs, "action": action, **more}), content_type="application/json"
    )
    found: dict[str, Any] = answer.json()
    return found | {"status": answer.status_code}


def make(lab: Project, name: str, state: RunState = RunState.FINISHED, **fields: Any) -> Run:
    return Run.objects.create(project=lab, name=name, state=state, **fields)


def test_each_run_is_archived_by_itself_and_comes_back(lab: Project) -> None:
    done, live, other = make(lab, "done"), make(lab, "live", RunState.RUNNING), make(lab, "other")
    outsiders = make(Project.objects.create(name="Secret", slug="secret"), "hidden")
    numbers = [live.pk, done.pk, other.pk, outsiders.pk, 999_999]
    answer = ask("operator", numbers, "archive")
    assert answer["done"] == [done.pk, other.pk]
    assert [(each["run"], each["name"], each["why"]) for each in answer["left_out"]] == [
        (live.pk, "live", f"Run #{live.pk} live is running: stop it first, then archive it."),
        (outsiders.pk, "", "There is no such run, or you are not a member of its project."),
        (999_999, "", "There is no such run, or you are not a member of its project."),
    ]
    assert [row.run.name for row in visitor("viewer").get("/").context["rows"]] == ["live"]
    archive = visitor("operator").get("/?archived=on")
    assert {row.run.name for row in archive.context["rows"]} == {"done", "other"}
    assert "Take out of the archive" in archive.content.decode()
    assert ask("operator", [done.pk], "unarchive")["done"] == [done.pk]
    assert {row.run.name for row in visitor("viewer").get("/").context["rows"]} == {"live", "done"}
    entries = AuditEntry.objects.filter(run_number__gt=0).order_by("pk").values_list("kind", "actor_name", "what")
    assert list(entries) == [
        ("run_archived", "operator", "done"),
        ("run_archived", "operator", "other"),
        ("run_unarchived", "operator", "done"),
    ]


def test_viewers_change_nothing_and_only_owners_delete(lab: Project) -> None:
    run = make(lab, "done")
    for action in ("tag", "stop", "archive", "unarchive", "delete"):
        answer = ask("viewer", [run.pk], action, add=["x"])
        assert answer["done"] == [] and "Only operators and owners" in answer["left_out"][0]["why"]
    (left,) = ask("operator", [run.pk], "delete")["left_out"]
    assert left["why"] == "Only owners of the project can delete its runs."
    owner = User.objects.get(username="owner")
    _, token = create_token(owner, lab, TokenScope.COMMAND, name="ci", expires_at=timezone.now() + timedelta(days=1))
    answer = Client().post(
        "/api/runs/several/",
        json.dumps({"runs": [run.pk], "action": "delete"}),
        content_type="application/json",
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.json()["done"] == [] and Run.objects.filter(pk=run.pk).exists()
    for name, offered in (("viewer", set()), ("operator", {"tag", "stop", "archive"})):
        page = visitor(name).get("/").content.decode()
        assert {each for each in ("tag", "stop", "archive", "delete") if f'data-do="{each}"' in page} == offered
    assert 'data-do="delete"' in visitor("owner").get("/").content.decode()


def test_owners_delete_runs_that_do_not_live(lab: Project) -> None:
    done, live = make(lab, "done"), make(lab, "live", RunState.PAUSED)
    answer = ask("owner", [done.pk, live.pk], "delete")
    assert answer["done"] == [done.pk] and "stop it first, then delete it" in answer["left_out"][0]["why"]
    assert list(Run.objects.values_list("name", flat=True)) == ["live"]
    entry = AuditEntry.objects.get(run_number=done.pk)
    assert (entry.kind, entry.actor_name, entry.run_number, entry.what) == ("run_deleted", "owner", done.pk, "done")


def test_stopping_is_a_command_to_each_run(lab: Project) -> None:
    live, queued = make(lab, "live", RunState.RUNNING), make(lab, "queued", RunState.QUEUED, queued_at=timezone.now())
    done = make(lab, "done")
    answer = ask("operator", [live.pk, queued.pk, done.pk], "stop", reason="a bug")
    assert answer["done"] == [live.pk, queued.pk]
    assert answer["left_out"] == [{"run": done.pk, "name": "done", "why": "The run is finished."}]
    command = Command.objects.get(run=live)
    assert (command.kind, command.state, command.reason) == ("stop", "sent", "a bug")
    queued.refresh_from_db()
    assert queued.state == RunState.CREATED


def test_tags_are_changed_and_a_run_with_too_many_is_left_out(lab: Project) -> None:
    full, other = make(lab, "full"), make(lab, "other")
    ask("operator", [full.pk], "tag", add=[f"t{number}" for number in range(20)])
    answer = ask("operator", [full.pk, other.pk], "tag", add=["New"], remove=["gone"])
    assert answer["done"] == [other.pk] and "at most 20 tags" in answer["left_out"][0]["why"]
    assert [tag.name for tag in other.tags.all()] == ["new"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"runs": [], "action": "stop"}, "runs"),
        ({"runs": [1] * 201, "action": "stop"}, "runs"),
        ({"runs": [0], "action": "stop"}, "runs"),
        ({"runs": [2**63], "action": "stop"}, "runs"),
        ({"runs": [1], "action": "burn"}, "action"),
        ({"runs": [1], "action": "tag"}, "add"),
        ({"runs": [1], "action": "tag", "add": ["a,b"]}, "add"),
        ({"runs": [1], "action": "stop", "more": 1}, "more"),
    ],
)
def test_bad_input_names_its_field(lab: Project, body: dict[str, Any], field: str) -> None:
    answer = visitor("owner").post("/api/runs/several/", json.dumps(body), content_type="application/json")
    assert answer.status_code == 422 and answer.json()["field"].startswith(field)


def test_what_several_runs_recorded_is_one_download(lab: Project) -> None:
    first, second = make(lab, "first"), make(lab, "second")
    hidden = make(Project.objects.create(name="Secret", slug="secret"), "hidden")
    for run in (first, second, hidden):
        run.epochs.create(attempt=1, epoch=1, step=10, train_loss=0.5, at=timezone.now())
    query = {"run": [second.pk, first.pk, hidden.pk]}
    answer = visitor("viewer").get("/runs/export/epochs.csv", query)
    lines = b"".join(answer).decode().splitlines()  # type: ignore[arg-type]
    assert answer["Content-Disposition"] == 'attachment; filename="runs-epochs.csv"'
    assert [line.split(",")[1] for line in lines] == ["run_name", "first", "second"]
    for path in ("/runs/export/secrets.csv", "/runs/export/epochs.csv"):
        assert visitor("viewer").get(path, query if "secrets" in path else {"run": hidden.pk}).status_code == 404
