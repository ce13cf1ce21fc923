"""Review and archive in the admin: who reviewed when, filters, bulk actions, days."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.models import Membership, Project, Run

RUNS = "/admin/runs/run/"


def found(client: Client, **query: Any) -> list[str]:
    return sorted(run.name for run in client.get(RUNS, query).context["cl"].result_list)


def save(client: Client, run: Run, **fields: Any) -> Run:
    answer = client.post(f"{RUNS}{run.pk}/change/", {"name": run.name} | fields)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    return Run.objects.get(pk=run.pk)


def test_a_note_makes_whoever_saves_it_the_reviewer(client: Client, ada: User, project: Project) -> None:
    run = Run.objects.create(project=project, name="wide")
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    for label in ("Review note", "Reviewed by", "Reviewed at"):
        assert label.lower() in page.lower()
    before = timezone.now()
    reviewed = save(client, run, review_note="Converges; rerun with seed 2.")
    assert (reviewed.reviewed_by, reviewed.review_note) == (ada, "Converges; rerun with seed 2.")
    assert reviewed.reviewed_at is not None and reviewed.reviewed_at >= before
    assert "Ada Admin" in client.get(RUNS).content.decode()


def test_the_note_is_shown_as_markdown_above_its_field(client: Client, project: Project) -> None:
    run = Run.objects.create(project=project, name="wide", review_note="**Converges** <b>well</b>")
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    assert "<p><strong>Converges</strong> &lt;b&gt;well&lt;/b&gt;</p>" in page
    assert "**Converges** &lt;b&gt;well&lt;/b&gt;</textarea>" in page


def test_reviewer_and_time_are_editable_and_can_be_taken_back(client: Client, project: Project) -> None:
    carl = User.objects.create_user("carl")
    run = Run.objects.create(project=project, name="wide")
    at = {"reviewed_at_0": "2026-10-01", "reviewed_at_1": "12:00:00"}
    run = save(client, run, review_note="ok", reviewed_by=carl.pk, **at)
    assert (run.reviewed_by, run.reviewed_at) == (carl, datetime(2026, 10, 1, 12, tzinfo=UTC))
    run = save(client, run, name="wider", review_note="ok", reviewed_by=carl.pk, **at)
    assert (run.name, run.reviewed_by, run.reviewed_at) == ("wider", carl, datetime(2026, 10, 1, 12, tzinfo=UTC))
    run = save(client, run, review_note="ok", reviewed_by="", **at)
    assert (run.reviewed_by, run.reviewed_at, run.review_note) == (None, None, "ok")


def test_it_marks_many_as_reviewed_and_keeps_earlier_reviews(client: Client, ada: User, project: Project) -> None:
    carl = User.objects.create_user("carl")
    early = datetime(2026, 1, 1, tzinfo=UTC)
    done = Run.objects.create(project=project, name="done", reviewed_by=carl, reviewed_at=early)
    fresh = [Run.objects.create(project=project, name=name) for name in ("a", "b")]
    left = Run.objects.create(project=project, name="left")
    chosen = [run.pk for run in (done, *fresh)]
    answer = client.post(RUNS, {"action": "mark_reviewed", "_selected_action": chosen}, follow=True)
    assert "2 runs are marked as reviewed." in answer.content.decode()
    assert set(Run.objects.filter(reviewed_by=ada).values_list("name", flat=True)) == {"a", "b"}
    assert Run.objects.get(pk=done.pk).reviewed_at == early
    assert Run.objects.get(pk=left.pk).reviewed_at is None
    assert found(client, reviewed="yes") == ["a", "b", "done"]
    assert found(client, reviewed="no") == ["left"]


def test_archived_runs_leave_the_portal_s_list_and_come_back(client: Client, ada: User, project: Project) -> None:
    Membership.objects.create(project=project, user=ada)
    old, new = (Run.objects.create(project=project, name=name) for name in ("old", "new"))

    def listed(query: str = "") -> list[str]:
        return [row.run.name for row in client.get(f"/{query}").context["rows"]]

    answer = client.post(RUNS, {"action": "archive", "_selected_action": [old.pk]}, follow=True)
    assert "1 run is archived." in answer.content.decode()
    assert (listed(), listed("?archived=on")) == (["new"], ["old"])
    assert client.get(f"/runs/{old.pk}/").status_code == 200
    assert found(client, archived="yes") == ["old"] and found(client, archived="no") == ["new"]
    client.post(RUNS, {"action": "unarchive", "_selected_action": [old.pk, new.pk]})
    assert listed() == ["new", "old"]


def test_it_drills_down_by_date(client: Client, project: Project) -> None:
    for name, day in (("march", datetime(2026, 3, 5, tzinfo=UTC)), ("april", datetime(2026, 4, 7, tzinfo=UTC))):
        run = Run.objects.create(project=project, name=name)
        Run.objects.filter(pk=run.pk).update(created_at=day)
    assert "created_at__month=3" in client.get(RUNS).content.decode()
    assert found(client, created_at__year=2026, created_at__month=4) == ["april"]
    assert found(client, created_at__year=2026, created_at__month=3, created_at__day=5) == ["march"]


def test_staff_that_may_only_look_gets_no_action_that_changes(project: Project) -> None:
    from django.contrib.auth.models import Permission

    run = Run.objects.create(project=project, name="wide")
    sven = User.objects.create_user("sven", is_staff=True)
    sven.user_permissions.add(Permission.objects.get(codename="view_run"))
    client = Client()
    client.force_login(sven)
    page = client.get(RUNS).content.decode()
    assert 'value="export_series"' in page
    for action in ("mark_reviewed", "archive", "unarchive", "delete_selected"):
        assert f'value="{action}"' not in page
        client.post(RUNS, {"action": action, "_selected_action": [run.pk], "post": "yes"})
    run.refresh_from_db()
    assert (run.reviewed_at, run.archived_at) == (None, None)
