"""Opening a branch over the API: who may do it, what is validated and recorded, and what is refused."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from runs.branching import opening
from runs.branching.family import family
from runs.models import (
    Attempt,
    AuditKind,
    Branch,
    Checkpoint,
    Command,
    EpochMetric,
    Membership,
    Project,
    Recipe,
    Run,
    StoredEvent,
)
from runs.recording.checkpoints import roll_back
from steersman.files.checkpoint import Manifest, write_hashed, write_manifest

pytestmark = pytest.mark.django_db

NOW = timezone.now()
PARAMETERS = [
    {"name": "epochs", "kind": "int", "default": 3, "minimum": 1, "maximum": 100},
    {"name": "learning_rate", "kind": "float", "default": 0.1, "minimum": 1e-6, "maximum": 1.0},
]
KNOBS: list[dict[str, Any]] = [PARAMETERS[1] | {"groups": ["body", "head"]}]
SAVED = {"learning_rate": {"body": 0.05, "head": 0.05}}


@pytest.fixture
def source(settings: LazySettings, tmp_path: Path) -> Run:
    """A run of a training recipe with a checkpoint at step 12; its knob was changed since the start."""
    settings.STEERSMAN_DATA = tmp_path
    project = Project.objects.create(name="Lab", slug="lab")
    for name in ("viewer", "operator", "owner"):
        Membership.objects.create(project=project, user=User.objects.create_user(name), role=name)
    recipe = Recipe.objects.create(spec="mine:Recipe", title="Mine", parameters=PARAMETERS, knobs=KNOBS[:1])
    run = Run.objects.create(
        project=project, recipe=recipe, name="first", parameters={"epochs": 3, "learning_rate": 0.1}, seed=7, ranks=2,
        attempt=1, step=15, state="running", device="cpu",
    )  # fmt: skip
    run.knobs = KNOBS
    run.save()
    Attempt.objects.create(run=run, number=1, host=socket.gethostname(), boot_id="", supervisor_pid=1)
    checkpoint_of(run, tmp_path, 12, "before")
    return run


def checkpoint_of(run: Run, data: Path, step: int, name: str) -> Checkpoint:
    path = f"attempts/1/checkpoints/step-{step:08d}"
    folder = data / "runs" / str(run.pk) / path
    folder.mkdir(parents=True)
    files = {"model.pt": write_hashed(folder / "model.pt", lambda file: file.write(b"weights"))}
    written = write_manifest(folder, Manifest(step, 1, name, "named", files, knobs=SAVED))
    return Checkpoint.objects.create(
        run=run, attempt=1, step=step, epoch=1, name=name, path=path, size_bytes=written.size_bytes,
        sha256=written.sha256, created_at=timezone.now(),
    )  # fmt: skip


def client(name: str) -> Client:
    found = Client()
    found.force_login(User.objects.get(username=name))
    return found


def ask(source: Run, by: str = "operator", **body: Any) -> HttpResponse:
    address = f"/api/runs/{source.pk}/branches/"
    return client(by).post(address, json.dumps(body), content_type="application/json")


def folder_of(data: Path, run: int) -> Path:
    return data / "runs" / str(run) / "attempts" / "0" / "checkpoints" / "step-00000012"


def test_an_operator_branches_with_changes_and_both_runs_tell_of_it(source: Run, tmp_path: Path) -> None:
    answer = ask(
        source, checkpoint="before", name="second", parameters={"epochs": "5"}, knobs={"learning_rate": {"head": 0.01}},
        reason="the head explodes", id="9c858901-8a57-4791-81fe-4c455b099bc9",
    )  # fmt: skip
    told = answer.json()
    assert answer.status_code == 201, told
    changes = [
        {"kind": "knob", "name": "learning_rate", "group": "head", "old": 0.05, "new": 0.01},
        {"kind": "parameter", "name": "epochs", "group": "", "old": 3, "new": 5},
    ]
    assert told["changes"] == changes
    assert (told["source"], told["source_name"], told["step"]) == (source.pk, "first", 12)
    run = Run.objects.get(pk=told["run"])
    assert (run.name, run.state, run.step, run.seed, run.ranks) == ("second", "created", 12, 7, 2)
    assert run.parameters == {"epochs": 5, "learning_rate": 0.1} and run.created_by is not None
    assert told["command"] == f"python manage.py train --run-id {run.pk}"

    # The copy is a checkpoint of the branch, whatever happens to the source.
    assert (folder_of(tmp_path, run.pk) / "model.pt").read_bytes() == b"weights"
    (own,) = run.checkpoints.all()
    assert (own.attempt, own.step, own.reason, own.name) == (0, 12, "named", "before")
    source.refresh_from_db()
    assert (source.state, source.step) == ("running", 15)

    ledgers = [Command.objects.get(run=each, kind="branch") for each in (source, run)]
    for entry in ledgers:
        assert entry.state == "applied" and entry.step == 12 and entry.reason == "the head explodes"
        assert entry.arguments["changes"] == changes and entry.arguments["run"] == run.pk
        assert entry.author_name == "operator"
        assert StoredEvent.objects.filter(run=entry.run, kind="command").count() == 1
    lines = client("owner").get("/projects/lab/audit/", {"kind": AuditKind.COMMAND}).content.decode()
    assert lines.count("branch") >= 2

    # The same id returns the same branch; an id of another run is refused.
    again = ask(source, id="9c858901-8a57-4791-81fe-4c455b099bc9")
    assert again.status_code == 200 and again.json()["run"] == run.pk and Branch.objects.count() == 1
    taken = ask(run, id="9c858901-8a57-4791-81fe-4c455b099bc9")
    assert taken.status_code == 409 and taken.json()["field"] == "id"

    one = client("viewer").get(f"/api/runs/{run.pk}/").json()
    assert one["branch"]["changes"] == changes and one["branch"]["source"] == source.pk
    assert client("viewer").get(f"/api/runs/{source.pk}/").json()["branch"] is None


def test_a_family_is_told_from_any_of_its_members_and_outlives_the_source(source: Run, tmp_path: Path) -> None:
    second = ask(source).json()["run"]
    third = ask(Run.objects.get(pk=second), start="queue").json()
    assert third["state"] == "queued" and third["place"]["host"] == socket.gethostname()
    fourth = ask(source, start="now").json()
    assert fourth["place"]["number"] == 1, "start now goes before the other runs of the project"
    for run in (source.pk, second, third["run"], fourth["run"]):
        told = client("viewer").get(f"/api/runs/{run}/branches/").json()
        expected = [(source.pk, 0), (second, 1), (third["run"], 2), (fourth["run"], 1)]
        assert [(each["run"], each["depth"]) for each in told["items"]] == expected
    members = family(Run.objects.get(pk=second), Run.objects.all())
    assert [each.is_asked for each in members] == [False, True, False, False]

    number = source.pk
    Run.objects.filter(pk=number).update(state="stopped")
    Run.objects.get(pk=number).delete()
    left = client("viewer").get(f"/api/runs/{second}/branches/").json()["items"]
    assert [each["run"] for each in left] == [second, third["run"]]
    assert left[0]["branch"]["source"] == number and left[0]["branch"]["source_name"] == "first"


def test_the_best_value_goes_on_from_the_source_through_roll_backs_and_further_branches(source: Run) -> None:
    for epoch, accuracy in ((1, 0.75), (2, 0.875)):
        EpochMetric.objects.create(
            run=source, attempt=1, epoch=epoch, step=10 * epoch, validation_accuracy=accuracy, was_best=True, at=NOW
        )
    branch = Run.objects.get(pk=ask(source).json()["run"])
    assert (branch.best_epoch, branch.best_metric, branch.best_metric_name) == (1, 0.75, "validation_accuracy")
    further = Run.objects.get(pk=ask(branch).json()["run"])
    assert (further.best_epoch, further.best_metric) == (1, 0.75)
    EpochMetric.objects.create(
        run=branch, attempt=1, epoch=2, step=20, validation_accuracy=0.9, best=True, was_best=True, at=NOW
    )
    told, changed = roll_back(branch.pk, 1, step=12, left=22, epoch=1)
    assert told.best is not None and (told.best.epoch, told.best.metric) == (1, 0.75)
    assert (changed["best_epoch"], changed["best_metric"]) == (1, 0.75)


def test_what_cannot_be_is_refused_in_words_and_leaves_nothing(source: Run, tmp_path: Path) -> None:
    assert ask(source, "viewer").status_code == 403
    User.objects.create_user("stranger")
    assert ask(source, "stranger").status_code == 404

    def refused(status: int, field: str, words: str, **body: Any) -> None:
        answer = ask(source, **body)
        told = answer.json()
        assert (answer.status_code, told["field"]) == (status, field), told
        assert words in told["error"], told

    refused(409, "checkpoint", "choose one of", checkpoint="nowhere")
    refused(409, "checkpoint", "choose one of", checkpoint=10**30)
    refused(422, "parameters.epochs", "from 1 to 100", parameters={"epochs": 0})
    refused(422, "parameters.depth", "no such parameter", parameters={"depth": 2})
    refused(422, "knobs.learning_rate", "number", knobs={"learning_rate": 7})
    refused(422, "knobs.learning_rate", "no parameter group", knobs={"learning_rate": {"tail": 0.1}})
    refused(422, "knobs.heat", "heat", knobs={"heat": 1})
    refused(422, "name", "120", name="n" * 121)
    refused(422, "start", "", start="tomorrow")
    refused(422, "name", "invalid character", name="a\0b")

    weights = tmp_path / "runs" / str(source.pk) / "attempts/1/checkpoints/step-00000012/model.pt"
    weights.write_bytes(b"weight\0")
    refused(409, "checkpoint", "SHA-256 of model.pt differs")
    Checkpoint.objects.update(has_manifest=False)
    refused(409, "checkpoint", "run.save_checkpoint()")
    Checkpoint.objects.update(has_manifest=True)
    weights.parent.rename(tmp_path / "elsewhere")
    refused(409, "checkpoint", "missing")
    Attempt.objects.update(host="another-host")
    refused(409, "checkpoint", "is on its training host")
    assert "another-host" not in ask(source).json()["error"]
    Checkpoint.objects.all().delete()
    refused(409, "checkpoint", "save one first")

    assert Run.objects.count() == 1 and not Command.objects.exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [str(source.pk)]


def test_what_fails_in_the_middle_leaves_neither_row_nor_file(
    source: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise opening.NotQueueable("no place", "queue")

    monkeypatch.setattr(opening, "enqueue", fails)
    answer = ask(source, start="queue")
    assert answer.status_code == 409 and answer.json() == {"error": "no place", "field": "start"}
    assert Run.objects.count() == 1 and not Branch.objects.exists() and not Command.objects.exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [str(source.pk)]
    # Leftovers of a killed branch in the folder of the next run do not matter.
    monkeypatch.undo()
    left = folder_of(tmp_path, source.pk + 1)
    left.mkdir(parents=True)
    (left / "model.pt").write_bytes(b"half")
    run = ask(source, id=str(uuid4())).json()["run"]
    assert (folder_of(tmp_path, run) / "model.pt").read_bytes() == b"weights"
