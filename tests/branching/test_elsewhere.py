"""Runs of other hosts that begin at a pushed checkpoint: what the portal gives them, and what it records."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from runs.access.tokens import create_token
from runs.branching.family import family
from runs.curation.deletion import delete_run
from runs.models import Branch, Checkpoint, Command, Membership, Project, Role, Run, RunState
from steersman.files.checkpoint import MANIFEST, Manifest, Written, write_hashed, write_manifest
from steersman.files.private import make_private

pytestmark = pytest.mark.django_db
LAUNCH = {"key": "k", "start": "k/1", "host": "gpu8", "boot_id": "b", "pid": 42, "command_line": ["train.py"]}


@pytest.fixture
def project(settings: LazySettings, tmp_path: Path) -> Project:
    settings.STEERSMAN_DATA = tmp_path
    project = Project.objects.create(name="Lab", slug="lab")
    Membership.objects.create(project=project, user=User.objects.create(username="operator"), role=Role.OPERATOR)
    return project


def host_of(project: Project) -> Client:
    value = create_token(User.objects.get(username="operator"), project, "train", name="cluster")[1]
    return Client(headers={"authorization": f"Bearer {value}"})


@pytest.fixture
def pushed(project: Project, tmp_path: Path) -> Checkpoint:
    """A checkpoint of a finished run, and its copy in the portal."""
    run = Run.objects.create(project=project, name="source", step=9, state=RunState.FINISHED)
    arriving = make_private(tmp_path / "pushed" / str(run.pk) / "arriving")
    model = write_hashed(arriving / "model.pt", lambda file: file.write(b"0123456789"))
    written: Written = write_manifest(
        arriving, Manifest(step=7, epoch=1, name="good", reason="named", files={"model.pt": model})
    )
    arriving.rename(arriving.with_name(written.sha256))
    return Checkpoint.objects.create(
        run=run, attempt=1, step=7, epoch=1, name="good", path="attempts/1/checkpoints/step-00000007",
        size_bytes=written.size_bytes, sha256=written.sha256, reason="named", metrics={"loss": 0.5},
        pushed_at=timezone.now(), created_at=timezone.now(),
    )  # fmt: skip


def origin_of(checkpoint: Checkpoint) -> dict[str, Any]:
    fields = ("sha256", "name", "step", "epoch", "size_bytes")
    told = {name: getattr(checkpoint, name) for name in fields}
    return told | {"run": checkpoint.run_id, "run_name": checkpoint.run.name}


def open_run(host: Client, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = host.post("/api/runs/", json.dumps(LAUNCH | fields), content_type="application/json")
    return answer.status_code, answer.json()


def body_of(answer: Any) -> bytes:
    async def read() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return asyncio.run(read())


def test_a_host_of_the_project_fetches_any_part_of_a_file(project: Project, pushed: Checkpoint):
    host, place = host_of(project), f"/api/runs/{pushed.run_id}/copies/"
    (listed,) = host.get(place).json()["checkpoints"]
    assert listed["sha256"] == pushed.sha256 and listed["is_pushed"] and listed["step"] == 7
    file = f"{place}{pushed.sha256}/model.pt/"
    answer = host.get(file)
    assert (answer.status_code, answer["Content-Type"], answer["Content-Length"]) == (
        200, "application/octet-stream", "10",
    )  # fmt: skip
    assert body_of(answer) == b"0123456789"
    assert body_of(host.get(f"{file}?offset=4")) == b"456789" and body_of(host.get(f"{file}?offset=10")) == b""
    manifest = body_of(host.get(f"{place}{pushed.sha256}/{MANIFEST}/"))
    assert hashlib.sha256(manifest).hexdigest() == pushed.sha256
    assert host.get(f"{file}?offset=11").status_code == 416
    for other in (
        f"{place}{pushed.sha256}/none.pt/",
        f"{place}{pushed.sha256}/..%2Fx/",
        f"{place}{'0' * 64}/model.pt/",
    ):
        assert host.get(other).status_code in (403, 404), other


def test_nobody_else_fetches_it(project: Project, pushed: Checkpoint):
    place = f"/api/runs/{pushed.run_id}/copies/"
    addresses = (place, f"{place}{pushed.sha256}/model.pt/")
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="operator"), role=Role.OPERATOR)
    stranger, host = host_of(other), host_of(project)
    for address in addresses:
        answer = stranger.get(address)
        assert answer.status_code == 404 and "use a token of that project" in answer.json()["error"]
    Membership.objects.filter(project=project).update(role=Role.VIEWER)
    assert [host.get(address).status_code for address in addresses] == [403, 403]


def test_the_run_is_a_branch_of_its_source(project: Project, pushed: Checkpoint):
    host = host_of(project)
    told = open_run(host, name="elsewhere", origin=origin_of(pushed))[1]
    run = Run.objects.get(pk=told["run"])
    assert (run.name, run.step, run.epoch) == ("elsewhere", 7, 1)
    branch = Branch.objects.get(run=run)
    assert (branch.source_id, branch.checkpoint, branch.step, branch.host) == (pushed.run_id, pushed, 7, "gpu8")
    copy = run.checkpoints.get()
    assert (copy.attempt, copy.path, copy.sha256) == (0, "attempts/0/checkpoints/step-00000007", pushed.sha256)
    assert run.attempts.get().resumed_from == copy
    assert [member.run.pk for member in family(run, Run.objects.all())] == [pushed.run_id, run.pk]
    assert set(Command.objects.filter(kind="branch").values_list("run_id", flat=True)) == {pushed.run_id, run.pk}
    # The same start of the launch, and its next attempt, are the same branch.
    assert open_run(host, origin=origin_of(pushed))[1]["is_new_attempt"] is False
    Run.objects.filter(pk=run.pk).update(state=RunState.FAILED)
    assert open_run(host, start="k/2", origin=origin_of(pushed))[1]["attempt"] == 2
    assert Branch.objects.count() == 1 and run.checkpoints.count() == 1
    # Another checkpoint cannot become the origin of a run that has begun.
    status, refused = open_run(host, start="k/3", origin=origin_of(pushed) | {"sha256": "0" * 64})
    assert status == 409 and "give another key to create a new run" in refused["error"]


def test_a_training_that_began_while_the_portal_was_away_keeps_its_lineage(project: Project, pushed: Checkpoint):
    origin = origin_of(pushed)
    pushed.delete()
    run = Run.objects.get(pk=open_run(host_of(project), origin=origin)[1]["run"])
    branch = Branch.objects.get(run=run)
    assert (branch.source_id, branch.checkpoint, branch.checkpoint_name, branch.step) == (
        origin["run"],
        None,
        "good",
        7,
    )
    delete_run(origin["run"])
    run = Run.objects.get(pk=open_run(host_of(project), key="later", origin=origin)[1]["run"])
    branch = Branch.objects.get(run=run)
    assert (branch.source_id, branch.source_number, branch.source_name) == (None, origin["run"], "source")
    assert run.checkpoints.get().sha256 == origin["sha256"]
