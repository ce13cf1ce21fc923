"""Downloading a checkpoint: who may, what it contains, and the message of each refusal."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from runs.api.pushing.answers import Refused, pushable, take
from runs.models import AccessToken, Attempt, Checkpoint, Membership, Project, RemoteLaunch, Role, Run, StoredEvent
from runs.portal.checkpoint_files import END, NotThere, open_archive
from runs.recording.checkpoints import forget_checkpoints
from runs.recording.lifecycle import Lease
from runs.recording.record_side.record_kinds import RecordStore

PATH = "attempts/1/checkpoints/step-5"
FILES = {"manifest.json": b'{"format": 2}', "rank-0.pt": os.urandom(100_000), "training.pt": b"x" * 1024}


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    settings.STEERSMAN_DATA = tmp_path
    return tmp_path


@pytest.fixture
def checkpoint(data: Path, db: None) -> Iterator[Checkpoint]:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create_user(role), role=role)
    User.objects.create_user("stranger")
    run = Run.objects.create(project=project, name="run", attempt=1)
    Attempt.objects.create(run=run, number=1, host=socket.gethostname(), boot_id="", supervisor_pid=1)
    folder = data / "runs" / str(run.pk) / PATH
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    yield Checkpoint.objects.create(
        run=run, attempt=1, step=5, epoch=1, name="before: the storm", path=PATH, size_bytes=1, sha256="0",
        created_at=timezone.now(),
    )  # fmt: skip


def ask(checkpoint: Checkpoint, name: str) -> Any:
    client = Client()
    if name:
        client.force_login(User.objects.get(username=name))
    return client.get(reverse("checkpoint", args=[checkpoint.run_id, checkpoint.pk]))


@pytest.mark.django_db(transaction=True)
def test_an_operator_gets_the_folder_with_its_exact_size(checkpoint: Checkpoint) -> None:
    async def fetch() -> tuple[Any, bytes]:
        client = AsyncClient()
        await client.aforce_login(await User.objects.aget(username="operator"))
        answer = await client.get(reverse("checkpoint", args=[checkpoint.run_id, checkpoint.pk]))
        return answer, b"".join([part async for part in answer.streaming_content])

    answer, content = asyncio.run(fetch())
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(content)
    folder = f"run-{checkpoint.run_id}-step-5-before-the-storm"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{folder}.tar"'
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {member.name: archive.extractfile(member) for member in archive.getmembers()}
    assert set(found) == {f"{folder}/{name}" for name in FILES}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name, wanted in FILES.items():
            file = archive.extractfile(f"{folder}/{name}")
            assert file is not None and file.read() == wanted


@pytest.mark.parametrize(("name", "status"), [("", 302), ("stranger", 404), ("viewer", 403), ("owner", 200)])
def test_those_who_may_command_download(checkpoint: Checkpoint, name: str, status: int) -> None:
    answer = ask(checkpoint, name)
    assert answer.status_code == status
    answer.close()


@pytest.mark.django_db(transaction=True)
def test_a_pushed_copy_outlives_the_files_of_its_host_and_goes_with_its_row(checkpoint: Checkpoint, data: Path) -> None:
    run_id, sha256 = checkpoint.run_id, "a" * 64
    copy = data / "pushed" / str(run_id) / sha256
    (data / "runs" / str(run_id) / PATH).rename(data / "elsewhere")
    Checkpoint.objects.update(sha256=sha256, pushed_at=timezone.now())
    lease = Lease(run_id, checkpoint.run.attempts.get().pk, 1)
    for _ in range(2):
        RecordStore(lease).forget_removed([PATH.removeprefix("attempts/1/")])
    checkpoint.refresh_from_db()
    assert not checkpoint.on_host
    # The second report of the host says nothing new.
    assert StoredEvent.objects.filter(run=run_id, kind="checkpoint_placed").count() == 1
    assert ask(checkpoint, "operator").status_code == 404
    copy.parent.mkdir(parents=True)
    (data / "elsewhere").rename(copy)
    answer = ask(checkpoint, "operator")
    assert answer.status_code == 200
    answer.close()
    forget_checkpoints(run_id, 1, [checkpoint])
    assert not copy.exists() and not Checkpoint.objects.exists()


def test_a_full_disk_of_the_portal_is_a_sentence(
    checkpoint: Checkpoint, data: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.sha256 = "a" * 64

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="The disk of the portal is full") as refused:
        take(checkpoint, "weights.pt", 0, b"x")
    assert refused.value.status == 507
    token = AccessToken(project=checkpoint.run.project, created_by=User.objects.get(username="operator"))
    RemoteLaunch.objects.create(project=token.project, created_by=token.created_by, key="k", run=checkpoint.run)
    Checkpoint.objects.update(size_bytes=3 << 20, sha256=checkpoint.sha256)
    settings.STEERSMAN_PUSH_MIB = 2
    with pytest.raises(Refused, match=r"has 3 MiB, but the portal accepts at most 2 MiB: .*STEERSMAN_PUSH_MIB"):
        pushable(token, checkpoint.run_id, checkpoint.sha256)
    settings.STEERSMAN_PUSH_MIB = 3
    assert pushable(token, checkpoint.run_id, checkpoint.sha256) == checkpoint
    Membership.objects.filter(user=token.created_by).update(role=Role.VIEWER)
    with pytest.raises(Refused, match="Only operators and owners"):
        pushable(token, checkpoint.run_id, checkpoint.sha256)


def test_it_says_why_there_is_nothing_to_download(checkpoint: Checkpoint, data: Path) -> None:
    folder = data / "runs" / str(checkpoint.run_id) / PATH
    for file in folder.iterdir():
        file.unlink()
    gone = ask(checkpoint, "operator")
    assert gone.status_code == 404 and "gone from the disk" in gone.content.decode()
    Attempt.objects.update(host="gpu-host-7")
    elsewhere = ask(checkpoint, "operator")
    page = elsewhere.content.decode()
    assert elsewhere.status_code == 409 and "on its training host" in page and "gpu-host-7" not in page
    checkpoint_id = checkpoint.pk
    Checkpoint.objects.all().delete()
    checkpoint.pk = checkpoint_id
    assert "no longer has this checkpoint" in ask(checkpoint, "operator").content.decode()


@pytest.mark.parametrize(
    "path",
    ["../secret", "attempts/../../secret", "/etc", "attempts/1/leads-out", "", ".", "attempts/1/nothing", "a\0b"],
)
def test_nothing_outside_the_folder_of_the_run_is_sent(checkpoint: Checkpoint, data: Path, path: str) -> None:
    secret = data / "runs" / "secret"
    secret.mkdir()
    (secret / "key").write_text("k")
    (data / "runs" / str(checkpoint.run_id) / "attempts" / "1" / "leads-out").symlink_to(secret)
    with pytest.raises(NotThere):
        open_archive(data / "runs" / str(checkpoint.run_id), path, "name")


def test_a_link_among_the_files_is_left_out(checkpoint: Checkpoint, data: Path) -> None:
    folder = data / "runs" / str(checkpoint.run_id) / PATH
    (folder / "shadow").symlink_to("/etc/passwd")
    archive = open_archive(data / "runs" / str(checkpoint.run_id), PATH, "name")
    archive.close()
    assert len(archive.members) == len(FILES)


def test_a_run_folder_that_is_a_link_is_not_followed(checkpoint: Checkpoint, data: Path) -> None:
    (data / "runs" / "77").symlink_to(data / "runs" / str(checkpoint.run_id))
    with pytest.raises(NotThere):
        open_archive(data / "runs" / "77", PATH, "name")


def test_a_file_that_became_shorter_cuts_the_transfer(checkpoint: Checkpoint, data: Path) -> None:
    archive = open_archive(data / "runs" / str(checkpoint.run_id), PATH, "name")
    (data / "runs" / str(checkpoint.run_id) / PATH / "rank-0.pt").write_bytes(b"short")

    async def read() -> list[bytes]:
        return [part async for part in archive.stream()]

    with pytest.raises(OSError, match="shorter"):
        asyncio.run(read())
    assert all(member.file.closed for member in archive.members)
    assert archive.size > len(END)
