"""The admin: recorded data is read-only, new runs can be created, and queries do not grow with rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import (
    Attempt,
    Checkpoint,
    Chunk,
    Command,
    CommandState,
    EpochMetric,
    Membership,
    Project,
    Recipe,
    Role,
    Run,
    RunState,
    Series,
    StoredEvent,
)
from runs.protocol.events import LogLine, LogWritten
from runs.recording import feed
from runs.series import storage
from tests.support.stored_points import store

RUNS = "/admin/runs/run/"


def make_run(project: Project, **fields: Any) -> Run:
    defaults: dict[str, Any] = {
        "name": "baseline",
        "state": RunState.RUNNING,
        "heartbeat_at": timezone.now(),
        "attempt": 1,
    }
    return Run.objects.create(project=project, **(defaults | fields))


def fill(run: Run, first: int, number: int) -> None:
    """Record `number` rows of everything that the page of a run shows."""
    now = timezone.now()
    author = User.objects.create_user(f"author-{run.pk}-{first}")
    for place in range(first, first + number):
        Checkpoint.objects.create(
            run=run, attempt=1, step=place, epoch=place, name=f"step-{place}", path=f"{place}.pt", size_bytes=2048,
            sha256="ab" * 32, created_at=now,
        )  # fmt: skip
        Attempt.objects.create(
            run=run, number=place + 1, host="gpu-07", boot_id="b", supervisor_pid=1, resumed_step=place
        )
        EpochMetric.objects.create(
            run=run, attempt=1, epoch=place, step=place * 10, train_loss=1 / (place + 1), validation_loss=0.5, at=now
        )
        Command.objects.create(
            run=run, kind="stop", author=author, author_name=f"Olga {place}", sent_at=now, state=CommandState.APPLIED
        )
    store(run, [1.0] * number * 100, first=first * 100)
    feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text="line")]))
    storage.fold(run.pk)


def queries_of(client: Client, url: str) -> int:
    client.get(url)  # content types and similar data are read once per process
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


# --- the list


def test_it_lists_runs_with_a_constant_number_of_queries(client: Client, project: Project) -> None:
    def add(number: int) -> None:
        for place in range(number):
            owner = User.objects.create_user(f"owner-{Run.objects.count()}")
            recipe = Recipe.objects.create(spec=f"recipe-{Run.objects.count()}", title="")
            make_run(project, name=f"run {place}", recipe=recipe, created_by=owner)

    add(3)
    few = queries_of(client, RUNS)
    add(27)
    assert queries_of(client, RUNS) == few
    assert few < 12


def test_it_shows_state_owner_duration_and_best_metric(client: Client, ada: User, project: Project) -> None:
    start = timezone.now() - timedelta(hours=3)
    make_run(
        project, state=RunState.FINISHED, created_by=ada, started_at=start, ended_at=start + timedelta(minutes=80),
        trained_s=62 * 60.0,
        best_metric=0.97312, best_metric_name="validation_accuracy",
    )  # fmt: skip
    page = client.get(RUNS).content.decode()
    for text in ("finished", "Digits", "Ada Admin", "1:02:00", "0.9731", "validation_accuracy"):
        assert text in page


def test_it_says_no_heartbeat_after_12_seconds(client: Client, project: Project) -> None:
    run = make_run(project, heartbeat_at=timezone.now() - timedelta(seconds=5))
    for url in (RUNS, f"{RUNS}{run.pk}/change/"):
        assert "no heartbeat" not in client.get(url).content.decode()
    Run.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=13))
    for url in (RUNS, f"{RUNS}{run.pk}/change/"):
        assert "no heartbeat" in client.get(url).content.decode()
    Run.objects.update(state=RunState.FINISHED)
    assert "no heartbeat" not in client.get(RUNS).content.decode()


@pytest.mark.parametrize("text", ["cosine", "{pk}", "#{pk}", "Language", "nanotext"])
def test_it_searches_by_name_number_project_and_recipe(client: Client, project: Project, text: str) -> None:
    make_run(project, name="wide layers")
    language = Project.objects.create(name="Language", slug="language")
    wanted = make_run(language, name="cosine", recipe=Recipe.objects.create(spec="nanotext", title=""))
    response = client.get(RUNS, {"q": text.format(pk=wanted.pk)})
    assert [run.pk for run in response.context["cl"].result_list] == [wanted.pk]


def test_it_filters_by_state_project_and_recipe(client: Client, project: Project, recipe: Recipe) -> None:
    make_run(project)
    wanted = make_run(project, state=RunState.FAILED, recipe=recipe)
    for query in ({"state__exact": "failed"}, {"recipe__id__exact": recipe.pk}, {"project__id__exact": project.pk}):
        found = [run.pk for run in client.get(RUNS, query).context["cl"].result_list]
        assert wanted.pk in found
        assert len(found) == (2 if "project__id__exact" in query else 1)


# --- the page of a run


def test_it_shows_the_whole_record_of_a_run(client: Client, project: Project, recipe: Recipe) -> None:
    run = make_run(
        project, state=RunState.FAILED, recipe=recipe, parameters={"epochs": 60}, reason="ValueError: shapes differ"
    )
    fill(run, 0, 3)
    Attempt.objects.filter(number=3).update(
        outcome="failed", exit_code=1, signal="SIGSEGV", error="ValueError: shapes differ",
        traceback="Traceback <module>", environment={"torch": "2.13.0"}, ended_at=timezone.now(),
    )  # fmt: skip
    Command.objects.filter(author_name="Olga 1").update(state=CommandState.REFUSED, outcome="the run has ended")
    page = client.get(f"{RUNS}{run.pk}/change/").content.decode()
    for text in (
        "epochs", "60", "2.13.0", "ValueError: shapes differ", "SIGSEGV", "Traceback &lt;module&gt;", "Olga 2",
        "refused", "the run has ended", "step-2", "2.0", "resumed from", 'aria-label="Loss by epoch: ',
        "validation loss", 'aria-label="Training loss by step: ', "log 1",
    ):  # fmt: skip
        assert text in page


def test_it_shows_a_run_with_a_constant_number_of_queries(client: Client, project: Project) -> None:
    run = make_run(project)
    url = f"{RUNS}{run.pk}/change/"
    fill(run, 0, 3)
    few = queries_of(client, url)
    fill(run, 3, 27)
    assert queries_of(client, url) == few
    assert few < 40


def test_it_shows_the_newest_of_thousands_of_epochs(client: Client, project: Project) -> None:
    run = make_run(project)
    EpochMetric.objects.bulk_create(
        EpochMetric(run=run, attempt=1, epoch=epoch, step=epoch, train_loss=1.0, at=timezone.now())
        for epoch in range(1, 3001)
    )
    response = client.get(f"{RUNS}{run.pk}/change/")
    assert [epoch.epoch for epoch in response.context["record"].epochs.shown] == list(range(3000, 2800, -1))
    assert "newest 200 of 3000" in response.content.decode()


def test_it_escapes_what_a_training_reported(client: Client, project: Project) -> None:
    evil = "<script>alert(1)</script>"
    run = make_run(project, name=evil, reason=evil, parameters={evil: evil}, best_metric=1.0, best_metric_name=evil)
    Attempt.objects.create(
        run=run, number=1, host=evil, boot_id="b", supervisor_pid=1, error=evil, traceback=evil, environment={evil: 1}
    )
    for url in (RUNS, f"{RUNS}{run.pk}/change/"):
        page = client.get(url).content.decode()
        assert evil not in page
        assert "&lt;script&gt;alert(1)" in page


def test_it_renames_a_run_and_changes_nothing_else(
    client: Client, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(project, parameters={"epochs": 3})
    opened = Run.objects.get(pk=run.pk)
    # The supervisor writes between reading the row and saving it.
    monkeypatch.setattr("runs.admin.runs.RunAdmin.get_object", lambda *_: opened)
    Run.objects.update(last_seq=41, heartbeat=7, state=RunState.PAUSED)
    answer = client.post(
        f"{RUNS}{run.pk}/change/",
        {"name": "renamed", "state": "finished", "parameters": "{}", "seed": 9, "last_seq": 0, "project": 99},
    )
    assert answer.status_code == 302
    run.refresh_from_db()
    assert (run.name, run.state, run.parameters, run.seed) == ("renamed", RunState.PAUSED, {"epochs": 3}, 0)
    # Renaming sends one event to open pages.
    assert (run.last_seq, run.heartbeat, run.project_id) == (42, 7, project.pk)


def test_it_lets_nobody_change_or_delete_parts_of_a_record(client: Client, project: Project, recipe: Recipe) -> None:
    run = make_run(project, recipe=recipe)
    assert client.post(f"/admin/runs/recipe/{recipe.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"/admin/runs/recipe/{recipe.pk}/change/", {"title": "other"}).status_code == 403
    client.post(f"/admin/runs/project/{project.pk}/delete/", {"post": "yes"})
    assert Run.objects.filter(pk=run.pk).exists()
    for model in (Series, Chunk, StoredEvent, Attempt, Command, EpochMetric, Checkpoint):
        assert not admin.site.is_registered(model)


# --- the rest


def test_it_renders_every_page(client: Client, ada: User, project: Project, recipe: Recipe) -> None:
    Membership.objects.create(project=project, user=ada, role=Role.OWNER)
    for path in (
        "", "runs/membership/", "runs/membership/add/", "runs/accesstoken/", "runs/accesstoken/add/", "runs/invite/",
        "runs/host/", "runs/project/", f"runs/project/{project.pk}/change/", "runs/project/add/", "runs/recipe/",
        f"runs/recipe/{recipe.pk}/change/", "auth/user/", "auth/user/add/", f"auth/user/{ada.pk}/change/",
        f"auth/user/{ada.pk}/password/", "auth/group/", "auth/group/add/",
    ):  # fmt: skip
        response = client.get(f"/admin/{path}")
        assert response.status_code == 200, path
        assert "Steersman" in response.content.decode(), path


def test_it_keeps_people_without_rights_out(project: Project) -> None:
    run = make_run(project)
    stranger = Client()
    assert stranger.get(f"{RUNS}{run.pk}/change/").status_code == 302
    stranger.force_login(User.objects.create_user("olga"))
    assert stranger.get(f"{RUNS}{run.pk}/change/").status_code == 302
    stranger.force_login(User.objects.create_user("sven", is_staff=True))
    assert stranger.get(f"{RUNS}{run.pk}/change/").status_code == 403
