"""What people write about a run: who may change it, what is refused, and what open pages and guests get of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from runs.api.history import details
from runs.curation.archive import archive, unarchive
from runs.curation.tags import change_tags
from runs.models import AuditEntry, Membership, Project, Run

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "operator", "owner"):
        user = User.objects.create(username=name)
        Membership.objects.create(project=project, user=user, role=name)
    return Run.objects.create(project=project, name="first")


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def write(run: Run, who: str, /, **body: Any) -> HttpResponse:
    return client_of(who).post(f"/api/runs/{run.pk}/about/", json.dumps(body), content_type="application/json")


def told(run: Run) -> list[tuple[str, dict[str, Any]]]:
    """Return the stored events: kind, and all that viewers get of them."""
    return [(event.kind, json.loads(event.frame)) for event in run.events.order_by("seq")]


def test_operators_rename_and_describe_and_the_audit_tells(run: Run) -> None:
    answer = write(run, "operator", name="  wider   net ", description="At **last**.\r\n\r\n<script>alert(1)</script>")
    about = answer.json()
    assert (about["name"], about["tags"], about["archived"], about["review"]) == ("wider net", [], False, None)
    assert "<strong>last</strong>" in about["html"] and "<script" not in about["html"]
    run.refresh_from_db()
    assert run.description == "At **last**.\n\n<script>alert(1)</script>"
    # What changes nothing is not told; a field that is left out stays.
    write(run, "owner", name="wider net")
    assert write(run, "owner", description="").json()["name"] == "wider net"
    entries = AuditEntry.objects.filter(kind__startswith="run_").order_by("pk")
    assert list(entries.values_list("kind", "actor_name", "what", "detail")) == [
        ("run_renamed", "operator", "wider net", "first → wider net"),
        ("run_described", "operator", "wider net", ""),
        ("run_described", "owner", "wider net", ""),
    ]


def test_a_new_note_makes_its_author_the_reviewer_and_an_empty_one_withdraws_the_review(run: Run) -> None:
    review = write(run, "operator", review="Looks **good**\r\n<script>x</script>").json()["review"]
    assert (review["note"], review["by"]) == ("Looks **good**\n<script>x</script>", "operator")
    assert "<strong>good</strong>" in review["html"] and "<script" not in review["html"]
    # Neither the same note nor another field makes another person the reviewer.
    same = write(run, "owner", review="Looks **good**\n<script>x</script>", description="new").json()["review"]
    assert (same["by"], same["at"]) == ("operator", review["at"])
    assert write(run, "owner", review="Better").json()["review"]["by"] == "owner"
    assert write(run, "viewer", review="mine").status_code == 403
    assert write(run, "owner", review="x" * 20_001).json()["field"] == "review"
    page = client_of("viewer").get(f"/runs/{run.pk}/").content.decode()
    assert "Better" in page and "data-edit-about" not in page
    assert write(run, "owner", review=" ").json()["review"] is None
    run.refresh_from_db()
    assert (run.review_note, run.reviewed_by, run.reviewed_at) == ("", None, None)
    entries = AuditEntry.objects.filter(kind="run_described").order_by("pk")
    assert list(entries.values_list("detail", flat=True)) == ["review", "", "review", "review"]


def test_viewers_read_it_and_change_nothing(run: Run) -> None:
    write(run, "operator", description="*Read* me")
    assert write(run, "viewer", name="mine").status_code == 403
    page = client_of("viewer").get(f"/runs/{run.pk}/").content.decode()
    assert "<em>Read</em> me" in page and "Rename…" not in page and "Delete…" not in page
    operators = client_of("operator").get(f"/runs/{run.pk}/").content.decode()
    assert "Rename…" in operators and "Delete…" not in operators
    assert "Delete…" in client_of("owner").get(f"/runs/{run.pk}/").content.decode()


@pytest.mark.parametrize(
    ("body", "field", "remedy"),
    [
        ({"name": ""}, "name", "1 to 120 printable characters"),
        ({"name": "x" * 121}, "name", "1 to 120 printable characters"),
        ({"name": "a\u202eb"}, "name", "1 to 120 printable characters"),
        ({"description": "x" * 20_001}, "description", "at most 20000 are allowed"),
        ({"description": "a\0b"}, "description", "NUL"),
        ({"title": "x"}, "title", ""),
    ],
)
def test_what_is_refused_names_the_field_and_the_remedy(
    run: Run, body: dict[str, str], field: str, remedy: str
) -> None:
    answer = write(run, "operator", **body)
    assert answer.status_code == 422 and answer.json()["field"] == field
    assert remedy in answer.json()["error"]
    run.refresh_from_db()
    assert (run.name, run.description) == ("first", "") and not run.events.exists()


def test_open_pages_are_told_that_something_changed_and_no_word_of_it(run: Run) -> None:
    write(run, "operator", name="secret", description="secret")
    change_tags(run.pk, add=["secret"])
    archive(run.pk)
    unarchive(run.pk)
    events = told(run)
    assert [kind for kind, _ in events] == ["about"] * 4
    assert {name for _, frame in events for name in frame} == {"seq", "kind", "at"}


def test_members_get_the_review_and_guests_nothing_of_all_this(run: Run) -> None:
    run.review_note = "Looks *good*"
    run.reviewed_by = User.objects.get(username="owner")
    run.reviewed_at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    run.save()
    review = details(run, "viewer")["about"]["review"]
    assert review["by"] == "owner" and "<em>good</em>" in review["html"]
    assert details(run, "share")["about"] is None
    read = client_of("viewer").get(f"/api/runs/{run.pk}/details/").json()["about"]
    assert read["review"]["by"] == "owner" and read["review"]["at"].startswith("2026-03-01T12:00:00")
