"""Saved views: what they keep, who may change them, and which one a project opens with."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client

from runs.curation.saved_views import MOST_VIEWS
from runs.models import AuditEntry, Membership, Project, Role, Run, SavedView

pytestmark = pytest.mark.django_db


@pytest.fixture
def lab() -> Project:
    lab = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=lab, user=User.objects.create_user(role), role=role)
    for name, rate in (("slow", 0.001), ("fast", 0.1)):
        Run.objects.create(project=lab, name=name, parameters={"lr": rate})
    return lab


def visitor(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


QUERY = "q=lr+%3E+0.01&sort=name&column=name&column=parameter%3Alr&page=2&project=other&fragment=1"


def save(name: str, title: str, query: str = QUERY, **more: Any) -> HttpResponse:
    return visitor(name).post("/projects/lab/views/", {"name": title, "query": query, **more})


def names(client: Client, address: str) -> list[str]:
    return [row.run.name for row in client.get(address, follow=True).context["rows"]]


def test_operators_save_a_view_that_all_members_see(lab: Project) -> None:
    shown = save("operator", " High   rates ")
    asked = parse_qs(urlsplit(shown["Location"]).query)
    view = SavedView.objects.get()
    assert (view.name, view.is_default) == ("High rates", False)
    # A view keeps neither the filter by owner of runs nor the page.
    assert asked == {
        "project": ["lab"],
        "view": [str(view.pk)],
        "q": ["lr > 0.01"],
        "sort": ["name"],
        "column": ["name", "parameter:lr"],
    }
    viewer = visitor("viewer")
    assert names(viewer, shown["Location"]) == ["fast"]
    offered = viewer.get("/?project=lab").context["views"]
    assert [(link.view.name, link.is_shown, link.may_delete) for link in offered] == [("High rates", False, False)]
    assert viewer.get(f"/?{offered[0].query}").context["shown_view"] == view
    assert "Save view" not in viewer.get("/?project=lab").content.decode()
    # After a further search, the view is no longer shown as selected.
    assert viewer.get(f"/?{offered[0].query}&state=failed").context["shown_view"] is None
    # Saving under the same name replaces the view.
    save("owner", "High rates", "sort=-id")
    assert SavedView.objects.get().query == "sort=-id"


def test_who_may_not_changes_no_view(lab: Project) -> None:
    save("operator", "Mine")
    view = SavedView.objects.get()
    User.objects.create_user("stranger")
    for name, status in (("viewer", 403), ("stranger", 404)):
        assert save(name, "Other").status_code == status
        assert visitor(name).post(f"/projects/lab/views/{view.pk}/delete/").status_code == status
    assert SavedView.objects.count() == 1
    assert visitor("stranger").get("/").context["views"] == []
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="operator"), role=Role.OPERATOR)
    assert visitor("operator").post(f"/projects/other/views/{view.pk}/delete/").status_code == 404
    assert visitor("operator").post(f"/projects/lab/views/{view.pk}/delete/").status_code == 302
    assert not SavedView.objects.exists()
    kinds = AuditEntry.objects.filter(kind__startswith="view_").order_by("pk").values_list("kind", "what")
    assert list(kinds) == [("view_added", "Mine"), ("view_deleted", "Mine")]


def test_a_project_opens_with_its_default_view(lab: Project) -> None:
    viewer = visitor("viewer")
    assert names(viewer, "/?project=lab") == ["fast", "slow"]
    save("operator", "High", default="on")
    assert names(viewer, "/?project=lab") == ["fast"]
    answer = viewer.get("/?project=lab")
    assert answer.status_code == 302 and "sort=name" in answer["Location"]
    # All of its runs remain reachable, directly or by a search.
    plain = next(link for link in viewer.get(answer["Location"]).context["views"]).view
    assert plain.is_default
    query = viewer.get(answer["Location"]).context["plain_query"]
    assert names(viewer, f"/?{query}") == ["fast", "slow"]
    assert names(viewer, "/?project=lab&q=slow") == ["slow"]
    assert names(viewer, "/") == ["fast", "slow"]
    # A second default replaces the first.
    save("operator", "Slow", "q=slow", default="on")
    assert names(viewer, "/?project=lab") == ["slow"]
    assert SavedView.objects.filter(is_default=True).count() == 1
    # Strangers do not learn the names of a project's views.
    User.objects.create_user("stranger")
    assert visitor("stranger").get("/?project=lab").status_code == 200


@pytest.mark.parametrize(
    ("title", "query", "said"),
    [
        ("", "", "Give the view a name of 1 to 60 characters."),
        ("x" * 61, "", "Give the view a name of 1 to 60 characters."),
        ("a\u202eb", "", "Give the view a name of 1 to 60 characters."),
        ("long", "q=" + "x" * 5000, "too long to be saved"),
    ],
)
def test_what_cannot_be_saved_is_told(lab: Project, title: str, query: str, said: str) -> None:
    answer = visitor("operator").post("/projects/lab/views/", {"name": title, "query": query}, follow=True)
    assert answer.status_code == 200 and said in answer.content.decode()
    assert not SavedView.objects.exists()


def test_a_project_has_so_many_views_at_most(lab: Project) -> None:
    SavedView.objects.bulk_create(SavedView(project=lab, name=f"v{number}") for number in range(MOST_VIEWS))
    answer = visitor("operator").post("/projects/lab/views/", {"name": "more"}, follow=True)
    assert "at most 50 saved views" in answer.content.decode()
    assert save("operator", "v7").status_code == 302
    assert SavedView.objects.get(name="v7").query.startswith("q=lr")
