"""The JSON API: who gets which data, in which form, at which cost."""

from __future__ import annotations

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import resolve
from django.utils import timezone

from runs.access.tokens import create_token
from runs.models import (
    Alert,
    Attempt,
    Checkpoint,
    Command,
    CommandState,
    EpochMetric,
    Membership,
    Project,
    RemoteLaunch,
    Role,
    Run,
    RunState,
    Series,
    TokenScope,
)
from runs.protocol.commands import COMMANDS
from runs.protocol.events import Block, CommandChanged
from runs.recording import feed
from runs.recording.lifecycle import complete_command
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.support.sockets import redeem_ticket
from tests.support.stored_points import metrics_event

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create(username=role), role=role)
    User.objects.create(username="stranger")
    return project


@pytest.fixture
def run(project: Project) -> Run:
    return Run.objects.create(project=project, name="first", state=RunState.RUNNING, attempt=1)


def session(name: str, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.get(username=name))
    return client


def bearer(project: Project, scope: str, name: str = "operator", run: Run | None = None) -> Client:
    creator = User.objects.get(username=name)
    _, value = create_token(creator, project, scope, name="script", run=run)
    return Client(headers={"Authorization": f"Bearer {value}"}, enforce_csrf_checks=True)


def stop(client: Client, run: Run, **fields: Any) -> Any:
    return client.post(f"/api/runs/{run.pk}/commands/", {"command": "stop", **fields}, content_type="application/json")


def test_it_lists_the_runs_of_ones_projects_alone(run: Run, project: Project) -> None:
    other = Project.objects.create(name="Other", slug="other")
    Run.objects.create(project=other, name="secret")
    listed = session("viewer").get("/api/runs/").json()
    assert listed["count"] == 1
    (item,) = listed["items"]
    assert (item["name"], item["project"], item["state"]) == ("first", {"slug": "lab", "name": "Lab"}, "running")
    assert session("stranger").get("/api/runs/").json() == {"count": 0, "items": [], "next": None}


def test_it_filters_and_pages(run: Run, project: Project) -> None:
    for place in range(3):
        Run.objects.create(project=project, name=f"done {place}", state=RunState.FINISHED)
    Run.objects.create(project=project, name="done long ago", state=RunState.FINISHED, archived_at=timezone.now())
    client = session("viewer")
    page = client.get("/api/runs/", {"state": "finished", "limit": 2, "offset": 1}).json()
    assert page["count"] == 3 and [item["name"] for item in page["items"]] == ["done 1", "done 0"]
    assert client.get("/api/runs/", {"q": "first", "project": "lab"}).json()["count"] == 1


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("/api/runs/?state=asleep", "state"),
        ("/api/runs/?limit=0", "limit"),
        ("/api/runs/?limit=9999", "limit"),
        ("/api/runs/?offset=-1", "offset"),
        ("/api/runs/{run}/epochs/?limit=x", "limit"),
        ("/api/runs/{run}/points/", "name"),
        ("/api/runs/{run}/points/?name=loss&by=fortune", "by"),
        ("/api/runs/{run}/points/?name=loss&from=nan", "from"),
        ("/api/runs/{run}/points/?name=loss&buckets=4001", "buckets"),
    ],
)
def test_it_names_the_field_that_cannot_be_used(run: Run, address: str, field: str) -> None:
    answer = session("viewer").get(address.format(run=run.pk))
    assert answer.status_code == 422
    assert answer.json()["field"] == field and answer.json()["error"].startswith((field, "Give"))


def test_it_says_in_one_form_what_is_not_there(run: Run) -> None:
    for address in ("/api/runs/9999/", f"/api/runs/{run.pk}/commands/{uuid4()}/", "/api/nothing/"):
        answer = session("viewer").get(address)
        assert answer.status_code == 404 and set(answer.json()) == {"error", "field"}, address
    assert session("stranger").get(f"/api/runs/{run.pk}/").status_code == 404
    assert session("viewer").get("/api/runs/?project=none").json()["field"] == "project"


def test_it_wants_to_know_who_asks(run: Run) -> None:
    answer = Client().get("/api/runs/")
    assert answer.status_code == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    wrong = session("viewer").get("/api/runs/", headers={"Authorization": "Bearer stm_invented"})
    assert wrong.status_code == 401 and wrong.json()["field"] == "Authorization"


def test_it_tells_what_the_caller_may(run: Run, project: Project) -> None:
    address = f"/api/runs/{run.pk}/"
    assert session("owner").get(address).json()["may"] == sorted(COMMANDS)
    assert session("viewer").get(address).json()["may"] == []
    assert bearer(project, TokenScope.VIEW, "owner").get(address).json()["may"] == []
    told = bearer(project, TokenScope.COMMAND, "owner").get(address).json()
    assert (told["may"], told["role"]) == (sorted(COMMANDS), "operator")


def test_it_gives_epochs_as_trained_last(run: Run) -> None:
    for attempt, epochs in ((1, range(1, 4)), (2, range(3, 6))):
        for epoch in epochs:
            EpochMetric.objects.create(
                run=run, attempt=attempt, epoch=epoch, step=epoch * 10, train_loss=1 / epoch, at=timezone.now(),
                extra={"perplexity": None}, nonfinite={"perplexity": "inf"},
            )  # fmt: skip
    page = session("viewer").get(f"/api/runs/{run.pk}/epochs/", {"limit": 3, "offset": 1}).json()
    assert page["count"] == 5
    assert [(item["attempt"], item["epoch"]) for item in page["items"]] == [(1, 2), (2, 3), (2, 4)]
    assert page["items"][0]["values"] == {"train_loss": 0.5, "perplexity": None}
    assert page["items"][0]["nonfinite"] == {"perplexity": "inf"}


def test_it_gives_series_and_their_points(run: Run) -> None:
    Series.objects.create(run=run, name="loss", last_step=3, last_time=3.0, last_nonfinite="nan")
    block = Block(
        steps=[1, 2, 3], times=[1.0, 2.0, 3.0], values={"loss": [0.5, 0.25, None]}, nonfinite={"loss": [(2, "nan")]}
    )
    seq = feed.append(run.pk, metrics_event([block]))
    client = session("viewer")
    (series,) = client.get(f"/api/runs/{run.pk}/series/").json()["items"]
    assert (series["name"], series["step"], series["value"], series["nonfinite"]) == ("loss", 3, None, "nan")
    told = client.get(f"/api/runs/{run.pk}/points/", {"name": "loss"}).json()
    assert told["seq"] == seq
    assert told["series"]["loss"]["values"] == [0.5, 0.25, None]
    assert told["series"]["loss"]["nonfinite"] == [[2, "nan"]] and "min" not in told["series"]["loss"]
    merged = client.get(f"/api/runs/{run.pk}/points/", {"name": "loss", "buckets": 1, "to": 2}).json()["series"]["loss"]
    assert (merged["min"], merged["max"], merged["count"]) == ([0.25], [0.5], 2)


def test_it_records_a_command_once(run: Run, project: Project) -> None:
    client = bearer(project, TokenScope.COMMAND)
    key = str(uuid4())
    first, again = stop(client, run, id=key, reason="diverged"), stop(client, run, id=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert (first.json()["author"], first.json()["state"]) == ("operator (script)", "sent")
    assert Command.objects.get().reason == "diverged"
    listed = client.get(f"/api/runs/{run.pk}/commands/").json()
    assert listed["count"] == 1 and listed["items"][0]["id"] == key
    assert client.get(f"/api/runs/{run.pk}/commands/{key}/").json() == first.json()
    other = Run.objects.create(project=project, name="second", state=RunState.RUNNING)
    conflict = stop(client, other, id=key)
    assert conflict.status_code == 409 and conflict.json()["field"] == "id"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"command": "dance"}, "command"),
        ({"command": 1}, "command"),
        ({"id": "x"}, "id"),
        ({"arguments": {"now": 1}}, "now"),
        ({"arguments": []}, "arguments"),
        ({"reason": "x" * 501}, "reason"),
        ({"expire_in_s": 60}, "expire_in_s"),
        ({"expires_in_s": -1}, "expires_in_s"),
        ({"expires_in_s": "soon"}, "expires_in_s"),
        ({"expect": 1}, "expect"),
        ({"expect": {"state": "asleep"}}, "expect"),
        ({"at": {"step": "5"}}, "at"),
        ({"at": {"roll_backs": 5}}, "at"),
        ({"command": "set_knob", "arguments": {"knob": "rate"}}, "value"),
        ({"command": "extend", "arguments": {"epochs": 0}}, "epochs"),
    ],
)
def test_it_refuses_a_command_that_is_none(run: Run, fields: dict[str, Any], field: str) -> None:
    answer = stop(session("operator"), run, **fields)
    assert answer.status_code == 422 and answer.json()["field"] == field
    assert not Command.objects.exists()


def test_it_refuses_numbers_that_no_json_may_carry(run: Run) -> None:
    """Python's own parser accepts NaN and lone surrogates, which must not reach the database."""
    for given, field in (("NaN", "factor"), ("1e999", "factor"), ('"\\ud800"', "value"), ('"a\\u0000"', "value")):
        body = f'{{"command": "set_knob", "arguments": {{"knob": "rate", "{field}": {given}}}}}'
        answer = session("operator").post(f"/api/runs/{run.pk}/commands/", body, content_type="application/json")
        assert answer.status_code == 422 and answer.json()["field"] == field, given
    assert not Command.objects.exists()
    # The knob decides about a value, so it is stored as its text.
    body = '{"command": "set_knob", "arguments": {"knob": "rate", "value": NaN}, "expect": {"value": 1e999}}'
    session("operator").post(f"/api/runs/{run.pk}/commands/", body, content_type="application/json")
    kept = Command.objects.get()
    assert (kept.arguments["value"], kept.expected_value) == ("nan", "inf")


def test_it_takes_the_whole_of_a_command_and_gives_it_back(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(step=5)
    asked = {
        "command": "set_knob",
        "arguments": {"knob": "rate", "value": 0.5},
        "reason": "diverges",
        "expires_in_s": 60,
        "expect": {"state": "running", "value": 0.25},
        "at": {"step": 20},
    }
    answer = stop(session("operator"), run, **asked)
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == set(CommandChanged.__struct_fields__)
    assert (told["at_step"], told["at_epoch"], told["reason"]) == (20, None, "diverges")
    assert (told["expected_state"], told["expected_value"]) == ("running", 0.25)
    assert told["expires_at"] > told["sent_at"] and told["outcome"] == "" and told["effective"] is None
    command = Command.objects.get()
    complete_command(command, CommandState.APPLIED, step=20, old=0.25, new=0.5, effective=0.125, ranks=2)
    told = session("viewer").get(f"/api/runs/{run.pk}/commands/{command.pk}/").json()
    assert (told["state"], told["step"], told["ranks"]) == ("applied", 20, 2)
    assert (told["old"], told["new"], told["effective"]) == (0.25, 0.5, 0.125)


def test_it_lists_commands_by_state_and_kind(run: Run) -> None:
    client = session("operator")
    for fields in ({}, {"command": "pause"}, {"command": "note", "arguments": {"text": "x"}}):
        stop(client, run, **fields)
    complete_command(Command.objects.get(kind="pause"), CommandState.REFUSED, outcome="The run is already paused.")
    address = f"/api/runs/{run.pk}/commands/"
    listed = client.get(address, {"state": "refused"}).json()
    assert listed["count"] == 1 and listed["items"][0]["outcome"] == "The run is already paused."
    assert [item["command"] for item in client.get(address, {"kind": "note"}).json()["items"]] == ["note"]
    assert client.get(address, {"kind": "stop", "state": "refused"}).json()["count"] == 0
    for wrong, field in (({"kind": "dance"}, "kind"), ({"state": "done"}, "state")):
        answer = client.get(address, wrong)
        assert answer.status_code == 422 and answer.json()["field"] == field


def test_it_gives_knobs_checkpoints_and_attempts(run: Run) -> None:
    client = session("viewer")
    for what in ("knobs", "checkpoints", "attempts"):
        assert client.get(f"/api/runs/{run.pk}/{what}/").json() == {"count": 0, "items": []}
    spec = ValueSpec("rate", "float", 1e-6, 1.0, scale="log", groups=("body", "head"), series="optimizer/learning_rate")
    knob = Knob(spec, {"body": 0.1, "head": 0.2}, effective=lambda group: 0.05)
    Run.objects.filter(pk=run.pk).update(knobs=[knob.to_wire(), Knob(ValueSpec("flip", "bool"), True).to_wire()])
    rate, flip = client.get(f"/api/runs/{run.pk}/knobs/").json()["items"]
    assert rate == knob.to_wire() and (flip["value"], flip["effective"], flip["minimum"]) == (True, None, None)
    Checkpoint.objects.create(
        run=run, attempt=1, step=10, epoch=1, name="before", path="attempts/1/checkpoints/before", size_bytes=5,
        sha256="0" * 64, reason="named", metrics={"validation_loss": 0.5, "odd": None}, created_at=timezone.now(),
    )  # fmt: skip
    (listed,) = client.get(f"/api/runs/{run.pk}/checkpoints/", {"reason": "named"}).json()["items"]
    assert (listed["name"], listed["step"], listed["metrics"]) == ("before", 10, {"validation_loss": 0.5, "odd": None})
    assert "path" not in listed
    assert client.get(f"/api/runs/{run.pk}/checkpoints/", {"reason": "last"}).json()["count"] == 0
    assert client.get(f"/api/runs/{run.pk}/checkpoints/", {"reason": "old"}).json()["field"] == "reason"
    Attempt.objects.create(
        run=run, number=1, host="secret-host", boot_id="b", supervisor_pid=1, outcome="failed", exit_code=-9,
        signal="SIGKILL", error="killed", last_step=12,
    )  # fmt: skip
    Attempt.objects.create(
        run=run, number=2, host="secret-host", boot_id="b", supervisor_pid=1, resumed_step=10, ranks=2
    )
    answer = client.get(f"/api/runs/{run.pk}/attempts/")
    second, first = answer.json()["items"]
    assert (first["number"], first["outcome"], first["signal"], first["last_step"]) == (1, "failed", "SIGKILL", 12)
    assert (second["resumed_from_step"], second["ranks"], second["outcome"]) == (10, 2, "")
    assert "secret-host" not in answer.content.decode()


def test_it_refuses_bodies_that_are_no_json(run: Run) -> None:
    for body in ("{", "[" * 100_000, b"\xff\xfe"):
        answer = session("operator").post(f"/api/runs/{run.pk}/commands/", body, content_type="application/json")
        assert answer.status_code == 422 and answer.json()["field"] == "body"


def test_it_lets_only_operators_command(run: Run, project: Project) -> None:
    assert stop(session("viewer"), run).status_code == 403
    assert stop(session("stranger"), run).status_code == 404
    assert stop(bearer(project, TokenScope.VIEW), run).status_code == 403
    without_csrf = stop(session("operator", enforce_csrf_checks=True), run)
    assert without_csrf.status_code == 403 and without_csrf.json()["field"] == "X-CSRFToken"
    assert not Command.objects.exists()
    Run.objects.filter(pk=run.pk).update(state=RunState.FINISHED)
    refused = stop(session("operator"), run)
    assert refused.status_code == 201 and refused.json()["state"] == "refused"


def test_it_keeps_a_token_to_its_run(run: Run, project: Project) -> None:
    other = Run.objects.create(project=project, name="second", state=RunState.RUNNING)
    client = bearer(project, TokenScope.COMMAND, run=run)
    assert client.get("/api/runs/").json()["count"] == 1
    assert client.get(f"/api/runs/{other.pk}/").status_code == 404
    assert stop(client, other).status_code == 404


def test_it_gives_tickets_to_tokens(run: Run, project: Project) -> None:
    answer = bearer(project, TokenScope.VIEW).post(
        "/api/tickets/", json.dumps({"run": run.pk}), content_type="application/json"
    )
    assert answer.status_code == 200 and answer.json()["expires_in_s"] == 30
    grant = redeem_ticket(answer.json()["ticket"], run.pk)
    assert grant is not None and grant.token_id is not None


def test_it_costs_the_same_for_many_rows(
    run: Run, project: Project, django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    author = User.objects.get(username="operator")
    for place in range(20):
        other = Run.objects.create(project=project, name=f"r{place}", created_by=author)
        Command.objects.create(run=run, kind="stop", author=author, author_name="o", sent_at=timezone.now())
        Checkpoint.objects.create(
            run=run, attempt=1, step=1, epoch=1, name="c", path=f"{place}", size_bytes=1, sha256="", created_at=NOW
        )
        Attempt.objects.create(
            run=run, number=place, host="h", boot_id="b", supervisor_pid=1, resumed_step=1, patch="+"
        )
        Series.objects.create(run=other, name="loss")
        Alert.objects.create(run=run, attempt=1, detector="spike", severity="critical", title="Spike", began_at=NOW)
    client = session("operator")
    command = Command.objects.first()
    assert command is not None
    asked = (
        ("/api/runs/?limit=100", 5),
        (f"/api/runs/{run.pk}/", 7),
        (f"/api/runs/{run.pk}/branches/", 7),
        (f"/api/runs/{run.pk}/again/", 12),
        (f"/api/runs/{run.pk}/epochs/", 5),
        (f"/api/runs/{run.pk}/commands/?state=sent&kind=stop", 5),
        (f"/api/runs/{run.pk}/commands/{command.pk}/", 5),
        (f"/api/runs/{run.pk}/commands/html/?{'&'.join(f'command={each.pk}' for each in Command.objects.all())}", 4),
        (f"/api/runs/{run.pk}/alerts/?state=open&severity=critical", 5),
        (f"/api/runs/{run.pk}/knobs/", 3),
        (f"/api/runs/{run.pk}/checkpoints/", 7),
        (f"/api/runs/{run.pk}/attempts/", 6),
        (f"/api/runs/{run.pk}/patch/", 5),
        (f"/api/runs/{run.pk}/details/", 10),
        (f"/api/runs/{run.pk}/place/", 5),
        (f"/api/runs/{run.pk}/points/?name=loss", 10),
        (f"/api/runs/{run.pk}/points/?name=loss&raw=true", 10),
        (f"/api/runs/{run.pk}/series/", 5),
        (f"/api/runs/{run.pk}/history/", 36),
        ("/api/queue/", 7),
        ("/api/agents/", 5),
        ("/api/projects/lab/views/", 4),
    )
    for address, most in asked:
        with django_assert_max_num_queries(most):
            assert client.get(address).status_code == 200
    # Only a training host may ask this.
    RemoteLaunch.objects.create(project=project, created_by=author, key="k", run=run)
    Checkpoint.objects.filter(run=run).update(sha256="0" * 64)
    copies = f"/api/runs/{run.pk}/copies/{'0' * 64}/"
    host = bearer(project, TokenScope.TRAIN)
    with django_assert_max_num_queries(9):
        assert host.get(copies).status_code == 200
    listed, file = f"/api/runs/{run.pk}/copies/", f"{copies}manifest.json/"
    with django_assert_max_num_queries(9):
        assert host.get(listed).status_code == 200
    with django_assert_max_num_queries(9):
        assert host.get(file).status_code == 404
    operations = {path for path, found in client.get("/api/openapi.json").json()["paths"].items() if "get" in found}
    routes = {resolve(address.split("?")[0]).route for address in (*(each for each, _ in asked), copies, listed, file)}
    without = operations - {"/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route) for route in routes}
    assert not without, f"what do these cost? {sorted(without)}"


def test_it_answers_a_fault_of_its_own_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("runs.api.runs.latest_values", broken)
    answer = session("viewer", raise_request_exception=False).get(f"/api/runs/{run.pk}/")
    assert answer.status_code == 500
    assert "secret" not in answer.content.decode() and answer.json()["error"]


def test_it_describes_itself_from_its_own_files(settings: Any) -> None:
    described = Client().get("/api/openapi.json").json()
    assert "/api/runs/{run_id}/commands/" in described["paths"]
    schemes = {"BearerToken", "BearerOrShareToken", "BrowserSession", "TrainToken"}
    assert set(described["components"]["securitySchemes"]) == schemes
    page = Client().get("/api/docs/").content.decode()
    assert re.search(r"/static/ninja/swagger-ui-bundle(\.[0-9a-f]+)?\.js", page)
    assert "://" not in page.replace("http://www.w3.org", "")
    assert Client().get("/static/ninja/swagger-ui.css").status_code == 200


def test_it_serves_its_files_under_hashed_names_too(settings: Any, tmp_path: Any) -> None:
    settings.STATIC_ROOT = tmp_path
    call_command("collectstatic", interactive=False, verbosity=0)
    assert list(tmp_path.glob("ninja/swagger-ui-bundle.*.js"))
