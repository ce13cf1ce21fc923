"""Tags of runs: who may change them, how they are written, and where they are shown, searched and stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from runs.curation.tags import MOST_TAGS, tags_of_projects
from runs.models import AuditEntry, Membership, Project, Role, Run, RunTag

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Digits", slug="digits")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create_user(role), role=role)
    User.objects.create_user("stranger")
    return Run.objects.create(project=project, name="first")


def visitor(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def tag(run: Run, name: str, **body: Any) -> HttpResponse:
    return visitor(name).post(f"/api/runs/{run.pk}/tags/", json.dumps(body), content_type="application/json")


def test_operators_give_and_take_tags_and_the_audit_tells(run: Run) -> None:
    answer = tag(run, "operator", add=["Baseline", " try   3 ", "baseline"])
    assert answer.json() == {"tags": ["baseline", "try 3"]}
    assert tag(run, "owner", add=["ünï"], remove=["BASELINE", "none"]).json() == {"tags": ["try 3", "ünï"]}
    # A change without effect is not recorded.
    tag(run, "owner", add=["ünï"], remove=["none"])
    entries = AuditEntry.objects.filter(kind="tags_changed").order_by("pk")
    assert [(entry.actor_name, entry.run_number, entry.what, entry.detail) for entry in entries] == [
        ("operator", run.pk, "first", "+baseline +try 3"),
        ("owner", run.pk, "first", "+ünï −baseline"),
    ]


def test_viewers_see_tags_and_change_none(run: Run) -> None:
    RunTag.objects.create(run=run, name="baseline")
    assert [tag(run, name, add=["x"]).status_code for name in ("viewer", "stranger")] == [403, 404]
    assert visitor("viewer").get(f"/api/runs/{run.pk}/").json()["tags"] == ["baseline"]
    page = visitor("viewer").get(f"/runs/{run.pk}/").content.decode()
    assert ">baseline</a>" in page and "Add a tag" not in page
    assert "Add a tag" in visitor("operator").get(f"/runs/{run.pk}/").content.decode()


@pytest.mark.parametrize("name", ["", "  ", "a,b", 'a"b', "x" * 41, "a\u0000b", "a\u202eb", "a\ud800"])
def test_what_is_no_tag_is_refused_with_the_remedy(run: Run, name: str) -> None:
    answer = tag(run, "operator", add=["fine", name])
    assert answer.status_code == 422 and answer.json()["field"] == "add"
    assert "1 to 40 characters, without commas or quotation marks" in answer.json()["error"]
    assert not RunTag.objects.exists()


def test_a_run_has_so_many_tags_at_most(run: Run) -> None:
    names = [f"t{number}" for number in range(MOST_TAGS)]
    assert tag(run, "operator", add=names).status_code == 200
    answer = tag(run, "operator", add=["one more"])
    assert (answer.status_code, answer.json()["error"]) == (422, "A run has at most 20 tags. Remove one first.")
    assert tag(run, "operator", add=["one more"], remove=["t0"]).status_code == 200


def test_the_list_shows_tags_and_narrows_by_one(run: Run) -> None:
    other = Run.objects.create(project=run.project, name="second")
    for each, name in ((run, "baseline"), (run, "try 3"), (other, "baseline")):
        RunTag.objects.create(run=each, name=name)
    client = visitor("viewer")
    answer = client.get("/?sort=name&q=seed+%3D+0")
    row = answer.context["rows"][0]
    assert [link.name for link in row.tags] == ["baseline", "try 3"]
    narrowed = client.get(f"/?{row.tags[1].query}")
    assert [row.run.name for row in narrowed.context["rows"]] == ["first"]
    assert [chip.text for chip in narrowed.context["chips"]] == ["seed = 0", 'tag = "try 3"']
    # With a column for tags, they do not also appear below the name.
    text = client.get("/?column=tag&sort=tag").content.decode()
    assert text.count(">try 3</a>") == 1 and 'class="cell-tags"' in text
    assert client.get("/api/runs/?tag=Try+3").json()["count"] == 1
    assert client.get("/api/runs/?tag=a,b").status_code == 422


def test_a_new_run_has_the_tags_of_its_form_and_a_project_offers_those_of_its_runs(run: Run) -> None:
    from trainer.control.publish import publish

    publish("digits")
    client = visitor("operator")
    data = {"project": "digits", "recipe": "digits", "shown": "digits", "seed": "0", "place": "auto", "create": "1"}
    page = client.get("/runs/new/?recipe=digits")
    data |= {name: page.context["form"][name].value() for name in page.context["form"].fields if name.startswith("p-")}
    data["place"] = page.context["form"].place_value
    refused = client.post("/runs/new/", data | {"tags": 'a"b'})
    assert refused.status_code == 422 and "is not a valid tag" in refused.content.decode()
    assert client.post("/runs/new/", data | {"tags": "Sweep, baseline,"}).status_code == 302
    made = Run.objects.latest("pk")
    assert [each.name for each in made.tags.all()] == ["baseline", "sweep"]
    assert tags_of_projects([run.project_id]) == ["baseline", "sweep"]
