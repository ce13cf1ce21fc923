"""Deletion of runs in the admin shows what it will delete, removes rows and files, follows no link, keeps live runs."""

from __future__ import annotations

import fcntl
import math
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.curation.deletion import NotDeletable, check_deletable, remove_files
from runs.models import (
    Attempt,
    Checkpoint,
    Chunk,
    ChunkPlaces,
    EpochMetric,
    Project,
    Run,
    RunState,
    Series,
    StoredEvent,
)
from runs.series import storage
from steersman.run import worker_lock_path
from tests.support.stored_points import store

RUNS = "/admin/runs/run/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def data(settings: Any, tmp_path: Path) -> Path:
    settings.STEERSMAN_DATA = tmp_path / "data"
    (tmp_path / "data" / "runs").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def client(data: Path) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


@pytest.fixture
def project(data: Path) -> Project:
    return Project.objects.create(name="Digits", slug="digits")


def filled(project: Project, data: Path, **fields: Any) -> Run:
    """A run with 600 points in chunks and one in an event, two epochs, and a checkpoint of 3 KiB in its folder."""
    run = Run.objects.create(project=project, **({"name": "wide", "state": RunState.FINISHED} | fields))
    now = timezone.now()
    store(run, [1.0, math.nan] * 300)
    storage.fold(run.pk)
    store(run, [1.0], first=600)
    for epoch in (1, 2):
        EpochMetric.objects.create(run=run, attempt=1, epoch=epoch, step=epoch, at=now)
    checkpoint = Checkpoint.objects.create(
        run=run, attempt=1, step=1, epoch=1, name="one", path="one.pt", size_bytes=3072, sha256="", created_at=now
    )
    Attempt.objects.create(run=run, number=1, host="h", boot_id="b", supervisor_pid=1, resumed_from=checkpoint)
    folder = data / "runs" / str(run.pk)
    folder.mkdir()
    (folder / "one.pt").write_bytes(bytes(3072))
    return run


def text_of(response: Any) -> str:
    """Return the visible text of the page in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def left() -> int:
    models = (Run, Series, Chunk, ChunkPlaces, StoredEvent, EpochMetric, Checkpoint, Attempt)
    return sum(model.objects.count() for model in models)


def test_it_says_what_goes_and_takes_rows_and_files(client: Client, project: Project, data: Path) -> None:
    run, kept = filled(project, data), filled(project, data, name="kept")
    before = left()
    page = text_of(client.get(f"{RUNS}{run.pk}/delete/"))
    for text in ("Epochs: 2", "Points: 601", "Events: 1", "Checkpoints: 1 (3.0 KB)", "Files on this machine: 3.0 KB"):
        assert text in page
    assert left() == before
    answer = client.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}, follow=True)
    assert "was deleted successfully" in answer.content.decode()
    assert [each.pk for each in Run.objects.all()] == [kept.pk]
    assert left() == before // 2
    assert not (data / "runs" / str(run.pk)).exists()
    assert (data / "runs" / str(kept.pk) / "one.pt").exists()


def test_it_deletes_several_at_once_with_their_sum_shown(client: Client, project: Project, data: Path) -> None:
    chosen = [filled(project, data).pk for _ in range(2)]
    request = {"action": "delete_selected", "_selected_action": chosen}
    page = text_of(client.post(RUNS, request))
    assert "Points: 1202" in page and "Checkpoints: 2 (6.0 KB)" in page
    client.post(RUNS, request | {"post": "yes"})
    assert left() == 0 and not any((data / "runs").iterdir())


def test_its_question_costs_the_same_whatever_the_size(client: Client, project: Project, data: Path) -> None:
    def queries(run: Run) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{RUNS}{run.pk}/delete/").status_code == 200
        return len(captured)

    queries(filled(project, data))
    small, large = filled(project, data), filled(project, data)
    EpochMetric.objects.bulk_create(
        EpochMetric(run=large, attempt=2, epoch=epoch, step=epoch, at=timezone.now()) for epoch in range(500)
    )
    assert queries(small) == queries(large)


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED])
def test_it_refuses_a_live_run_with_a_sentence(client: Client, project: Project, data: Path, state: str) -> None:
    dead, live = filled(project, data), filled(project, data, name="alive", state=state)
    before = left()
    for answer in (
        client.get(f"{RUNS}{live.pk}/delete/", follow=True),
        client.post(f"{RUNS}{live.pk}/delete/", {"post": "yes"}, follow=True),
        client.post(
            RUNS, {"action": "delete_selected", "_selected_action": [dead.pk, live.pk], "post": "yes"}, follow=True
        ),
    ):
        assert f"Run #{live.pk} alive is {state}: stop it first, then delete it." in answer.content.decode()
    assert left() == before and (data / "runs" / str(dead.pk)).exists()


def test_it_refuses_a_run_whose_worker_lives_here(project: Project, data: Path) -> None:
    import subprocess
    import sys

    run = filled(project, data, state=RunState.LOST, attempt=1)
    folder = data / "runs" / str(run.pk) / "attempts" / "1"
    folder.mkdir(parents=True)
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(worker_lock_path(folder, 0))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        assert worker.stdout is not None and worker.stdout.readline()
        with pytest.raises(NotDeletable, match="still running on this machine"):
            check_deletable(run)
        worker.communicate(b"\n")
    check_deletable(run)
    with worker_lock_path(folder, 0).open("r+") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_it_follows_no_link(client: Client, project: Project, data: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("kept")
    inside, itself = filled(project, data), filled(project, data)
    (data / "runs" / str(inside.pk) / "link").symlink_to(precious)
    (data / "runs" / str(itself.pk) / "one.pt").unlink()
    (data / "runs" / str(itself.pk)).rmdir()
    (data / "runs" / str(itself.pk)).symlink_to(precious)
    for run in (inside, itself):
        client.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"})
        assert not (data / "runs" / str(run.pk)).is_symlink() and not (data / "runs" / str(run.pk)).exists()
    assert (precious / "thesis.txt").read_text() == "kept"
    (data / "runs").rmdir()
    (data / "runs").symlink_to(precious)
    (precious / "7").mkdir()
    assert not remove_files(7) and (precious / "7").exists()


def test_only_superusers_delete(project: Project, data: Path) -> None:
    run = filled(project, data)
    sven = User.objects.create_user("sven", is_staff=True)
    sven.user_permissions.set(Permission.objects.filter(codename__in=("view_run", "change_run", "delete_run")))
    client = Client()
    client.force_login(sven)
    assert client.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(RUNS, {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"})
    assert Run.objects.filter(pk=run.pk).exists() and (data / "runs" / str(run.pk)).exists()


def test_it_keeps_the_files_where_the_rows_stay(project: Project, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import transaction

    from runs.curation.deletion import delete_run

    run = filled(project, data)

    def doomed() -> None:
        with transaction.atomic():
            delete_run(run.pk)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        doomed()
    assert Run.objects.filter(pk=run.pk).exists() and (data / "runs" / str(run.pk) / "one.pt").exists()
