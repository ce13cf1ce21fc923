"""Pushed checkpoints in any storage of Django: stored, sent, removed, and what happens while it is unavailable."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from monitor_site.environment.bucket import Bucket, checkpoint_storage
from monitor_site.serving.archive.restoring import forget_missing_copies
from runs.access.tokens import create_token
from runs.copies import completing, removals, stored
from runs.copies.completing import BeingStored, complete
from runs.curation.deletion import delete_run
from runs.models import Attempt, Checkpoint, Membership, Project, RemoteLaunch, Role, Run
from runs.recording.checkpoints import forget_checkpoints
from steersman.files.checkpoint import Manifest, Written, write_manifest
from tests.copies.bucket_server import KEYS, NAME, PREFIX, BucketServer, needs_bucket
from tests.copies.storages_of_tests import MemoryStorage

pytestmark = pytest.mark.django_db(transaction=True)
# Several reads of a download.
FILES = {"rank-0.pt": os.urandom(700_000), "training.pt": b"x" * 1024, "empty.pt": b""}
MEMORY = {"BACKEND": "tests.copies.storages_of_tests.MemoryStorage"}
AWAY = "The storage of the pushed checkpoints is unavailable: try again later."


@pytest.fixture
def data(tmp_path: Path, settings: Any) -> Path:
    settings.STEERSMAN_DATA = tmp_path / "data"
    return tmp_path / "data"


def use(settings: Any, storage: dict[str, Any]) -> None:
    settings.STORAGES = settings.STORAGES | {"checkpoints": storage}


@pytest.fixture
def memory(settings: Any, data: Path) -> MemoryStorage:
    use(settings, MEMORY)
    return cast(MemoryStorage, storages["checkpoints"])


@pytest.fixture
def bucket(settings: Any, data: Path) -> Iterator[BucketServer]:
    server = BucketServer()
    server.start()
    server.make_bucket()
    chosen = Bucket(NAME, server.address, "eu-central-1", prefix=PREFIX, addressing="path", **KEYS)
    use(settings, checkpoint_storage(chosen))
    yield server
    server.stop()


@pytest.fixture(params=["folder", "memory", pytest.param("bucket", marks=needs_bucket)])
def any_storage(request: pytest.FixtureRequest, settings: Any, data: Path) -> Iterator[None]:
    if request.param != "bucket":
        use(settings, checkpoint_storage(None) if request.param == "folder" else MEMORY)
        yield
        return
    server = request.getfixturevalue("bucket")
    yield
    assert not server.objects()


class Pushing:
    """A run with a checkpoint on another host, and the requests of that host."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        files = {name: Written(len(each), hashlib.sha256(each).hexdigest()) for name, each in FILES.items()}
        written = write_manifest(folder, Manifest(step=5, epoch=1, name="good", reason="named", files=files))
        self.sha256 = written.sha256
        self.files = FILES | {"manifest.json": (folder / "manifest.json").read_bytes()}
        project = Project.objects.create(name="Lab", slug="lab")
        user = User.objects.create(username="operator")
        Membership.objects.create(project=project, user=user, role=Role.OPERATOR)
        self.run = Run.objects.create(project=project, name="run", attempt=1, state="finished")
        Attempt.objects.create(run=self.run, number=1, host="elsewhere", boot_id="", supervisor_pid=1)
        RemoteLaunch.objects.create(project=project, created_by=user, key="k", run=self.run)
        self.checkpoint = Checkpoint.objects.create(
            run=self.run, attempt=1, step=5, epoch=1, name="good", path="attempts/1/checkpoints/step-5",
            size_bytes=written.size_bytes, sha256=self.sha256, has_manifest=True, created_at=timezone.now(),
        )  # fmt: skip
        self._headers = {"authorization": f"Bearer {create_token(user, project, 'train', name='cluster')[1]}"}
        self._client = Client(headers=self._headers)
        self.copies = f"/api/runs/{self.run.pk}/copies/"
        self.place = f"{self.copies}{self.sha256}/"

    def push_files(self) -> None:
        for name, content in self.files.items():
            answer = self._client.put(f"{self.place}{name}/?offset=0", content, "application/octet-stream")
            assert answer.status_code == 200, answer.content

    def get(self, place: str) -> tuple[int, dict[str, Any]]:
        answer = self._client.get(place)
        return answer.status_code, answer.json()

    def finish(self) -> tuple[int, dict[str, Any]]:
        answer = self._client.post(self.place, "{}", "application/json")
        return answer.status_code, answer.json()

    def pushed(self) -> bool:
        return Checkpoint.objects.filter(pk=self.checkpoint.pk).exclude(pushed_at=None).exists()

    def listed(self) -> list[bool]:
        return [each["is_pushed"] for each in self.get(self.copies)[1]["checkpoints"]]

    def fetched(self, name: str, offset: int) -> tuple[int, bytes]:
        return asyncio.run(self._fetch(f"{self.place}{name}/?offset={offset}", AsyncClient(), self._headers))

    def downloaded(self) -> tuple[int, bytes]:
        async def fetch() -> tuple[int, bytes]:
            client = AsyncClient()
            await client.aforce_login(await User.objects.aget(username="operator"))
            return await self._fetch(reverse("checkpoint", args=[self.run.pk, self.checkpoint.pk]), client)

        return asyncio.run(fetch())

    @staticmethod
    async def _fetch(address: str, client: AsyncClient, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        answer = await client.get(address, headers=headers)
        if not answer.streaming:
            return answer.status_code, answer.content
        content = b"".join([part async for part in answer.streaming_content])
        assert int(answer.headers["Content-Length"]) == len(content)
        return answer.status_code, content


@pytest.fixture
def pushing(tmp_path: Path, data: Path) -> Pushing:
    return Pushing(tmp_path / "checkpoint")


def test_a_push_is_stored_verified_sent_and_removed(any_storage: None, pushing: Pushing, data: Path) -> None:
    assert pushing.listed() == [False] and pushing.fetched("rank-0.pt", 0)[0] == 404
    pushing.push_files()
    status, found = pushing.get(pushing.place)
    assert (status, found["is_complete"], found["received"]) == (
        200, False, {name: len(content) for name, content in pushing.files.items()}
    )  # fmt: skip
    assert pushing.finish()[0] == 200 and pushing.pushed()
    assert pushing.get(pushing.place)[1] == {
        "is_complete": True, "is_being_stored": False, "received": {}, "damaged": [],
    }  # fmt: skip
    # Again costs nothing, and nothing is left of the pieces.
    assert pushing.finish()[0] == 200
    assert not [path for path in (data / "pushed").rglob("*") if path.suffix in (".arriving", ".verified", ".lock")]
    assert pushing.listed() == [True]
    for name, content in pushing.files.items():
        assert pushing.fetched(name, 0) == (200, content)
    assert pushing.fetched("rank-0.pt", 300_001) == (200, FILES["rank-0.pt"][300_001:])
    assert pushing.fetched("rank-0.pt", len(FILES["rank-0.pt"]) + 1)[0] == 416
    assert pushing.fetched("nothing.pt", 0)[0] == 404
    status, content = pushing.downloaded()
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        opened = {Path(member.name).name: archive.extractfile(member) for member in archive.getmembers()}
        assert {name: file.read() for name, file in opened.items() if file is not None} == pushing.files
    forget_checkpoints(pushing.run.pk, 1, [Checkpoint.objects.get()])
    assert not stored.has_copy(pushing.run.pk, pushing.sha256)
    assert not stored.copies_of(pushing.run.pk)


def test_a_damaged_file_is_not_stored(any_storage: None, pushing: Pushing) -> None:
    pushing.files["training.pt"] = b"y" * 1024
    pushing.push_files()
    status, told = pushing.finish()
    assert status == 422 and "the SHA-256 of training.pt differs" in told["error"]
    assert not pushing.pushed() and not stored.copies_of(pushing.run.pk)
    pushing.files["training.pt"] = FILES["training.pt"]
    pushing.push_files()
    assert pushing.finish()[0] == 200
    delete_run(pushing.run.pk)
    assert not stored.copies_of(pushing.run.pk)


def test_a_damaged_copy_is_removed_by_the_next_push(any_storage: None, pushing: Pushing) -> None:
    for name, content in (("rank-0.pt", b"x"), ("training.pt", None), ("manifest.json", b"{}")):
        pushing.push_files()
        assert pushing.finish() == (200, {"is_complete": True, "is_being_stored": False, "received": {}, "damaged": []})
        place = f"{pushing.run.pk}/{pushing.sha256}/{name}"
        storages["checkpoints"].delete(place)
        if content is not None:
            storages["checkpoints"].save(place, ContentFile(content))
        assert pushing.get(pushing.place)[1]["is_complete"]
        status, told = pushing.finish()
        assert status == 200 and (told["is_complete"], told["damaged"]) == (False, [name])
        assert not pushing.pushed() and not stored.copies_of(pushing.run.pk)


def test_a_restored_backup_knows_no_copies_that_are_missing(memory: MemoryStorage, pushing: Pushing) -> None:
    pushing.push_files()
    assert pushing.finish()[0] == 200
    forget_missing_copies()
    assert pushing.pushed()
    memory.is_away = True
    forget_missing_copies()
    memory.is_away = False
    assert pushing.pushed()
    stored.remove(pushing.run.pk, pushing.sha256)
    forget_missing_copies()
    assert not pushing.pushed() and Checkpoint.objects.exists()
    Checkpoint.objects.update(on_host=False, pushed_at=timezone.now())
    forget_missing_copies()
    assert not Checkpoint.objects.exists()


def test_what_was_stored_is_not_sent_again_after_an_interruption(memory: MemoryStorage, pushing: Pushing) -> None:
    pushing.push_files()
    memory.fails_at = "training.pt"
    status, told = pushing.finish()
    assert (status, told["field"]) == (503, "") and told["error"].startswith(AWAY)
    assert not stored.has_copy(pushing.run.pk, pushing.sha256) and not pushing.pushed()
    # A host that asks has nothing to send.
    assert pushing.get(pushing.place)[1]["received"] == {name: len(each) for name, each in pushing.files.items()}
    memory.fails_at = ""
    assert pushing.finish()[0] == 200
    stored_names = [name.rpartition("/")[2] for name in memory.saved]
    assert sorted(stored_names) == sorted(pushing.files) and stored_names[-1] == "manifest.json"


def test_a_storage_that_is_unavailable_is_a_sentence_and_nothing_is_lost(
    memory: MemoryStorage, pushing: Pushing, data: Path
) -> None:
    memory.is_away = True
    pushing.push_files()
    status, told = pushing.finish()
    assert status == 503 and told["error"].startswith(AWAY) and "example.org" not in told["error"]
    memory.is_away = False
    assert pushing.finish()[0] == 200
    memory.is_away = True
    for place in (pushing.place, pushing.copies, f"{pushing.place}rank-0.pt/"):
        status, told = pushing.get(place)
        assert status == 503 and told["error"].startswith(AWAY), place
    status, page = pushing.downloaded()
    assert status == 503 and AWAY in page.decode()
    # What cannot be removed now is removed later.
    delete_run(pushing.run.pk)
    assert not Run.objects.exists()
    removals.remove_noted()
    memory.is_away = False
    assert stored.has_copy(pushing.run.pk, pushing.sha256)
    removals.remove_noted()
    assert not stored.copies_of(pushing.run.pk) and not list((data / "pushed" / ".removals").iterdir())


def test_a_second_request_does_not_store_the_same_files(memory: MemoryStorage, pushing: Pushing) -> None:
    pushing.push_files()
    memory.waits.clear()
    first = threading.Thread(target=complete, args=(pushing.run.pk, pushing.sha256))
    first.start()
    assert memory.arrived.wait(60)
    status, told = pushing.finish()
    assert status == 503 and "already storing this checkpoint" in told["error"]
    assert pushing.get(pushing.place)[1]["is_being_stored"]
    with pytest.raises(BeingStored):
        complete(pushing.run.pk, pushing.sha256)
    memory.waits.set()
    first.join(60)
    assert not completing.is_being_stored(pushing.run.pk, pushing.sha256)
    assert pushing.finish()[0] == 200 and len(memory.saved) == len(pushing.files)


def test_a_checkpoint_that_is_removed_meanwhile_leaves_no_copy(memory: MemoryStorage, pushing: Pushing) -> None:
    pushing.push_files()
    memory.waits.clear()
    answers: list[tuple[int, dict[str, Any]]] = []
    request = threading.Thread(target=lambda: answers.append(pushing.finish()))
    request.start()
    assert memory.arrived.wait(60)
    Checkpoint.objects.all().delete()
    memory.waits.set()
    request.join(60)
    assert answers[0][0] == 404 and "removed while it was pushed" in json.dumps(answers[0][1])
    assert not stored.copies_of(pushing.run.pk)


def test_the_folder_is_for_its_owner_only(pushing: Pushing, data: Path) -> None:
    pushing.push_files()
    assert pushing.finish()[0] == 200
    copy = data / "pushed" / str(pushing.run.pk) / pushing.sha256
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == pushing.files
    assert copy.stat().st_mode & 0o777 == 0o700 and {path.stat().st_mode & 0o777 for path in copy.iterdir()} == {0o600}


@needs_bucket
def test_a_connection_to_the_bucket_that_breaks_is_opened_again(
    bucket: BucketServer, pushing: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ReadTimeoutError
    from botocore.response import StreamingBody

    pushing.push_files()
    assert pushing.finish()[0] == 200
    reads: list[int] = []
    read = StreamingBody.read

    def breaks(body: Any, amount: int | None = None) -> bytes:
        reads.append(amount or 0)
        if len(reads) == 2:
            raise ReadTimeoutError(endpoint_url=bucket.address)
        return bytes(read(body, amount))

    monkeypatch.setattr(StreamingBody, "read", breaks)
    assert pushing.fetched("rank-0.pt", 0) == (200, FILES["rank-0.pt"]) and len(reads) > 2
    monkeypatch.undo()
    delete_run(pushing.run.pk)
    assert not bucket.objects()
