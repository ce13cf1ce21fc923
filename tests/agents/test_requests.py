"""The portal's side of agents: who may offer and request, the line of each agent, and what the pages show."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from runs.access.tokens import create_token
from runs.models import Agent, Membership, Project, Role, Run, RunState

pytestmark = pytest.mark.django_db
EPOCHS = {"name": "epochs", "kind": "int", "minimum": 1, "maximum": 300, "default": 90, "help": "passes"}
TAG = {"name": "tag", "kind": "str", "default": ""}
RESNET = {"name": "resnet", "title": "ResNet", "parameters": [EPOCHS, TAG]}
WIDE = {"name": "wide", "title": "Two GPUs", "slots": 2}
REPORT = {"name": "gpu7", "session": uuid4().hex, "host": "gpu7", "slots": 2, "commands": [RESNET, WIDE]}


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create_user(role), role=role)
    other = Membership(project=project, user=User.objects.create_user("second"), role=Role.OPERATOR)
    other.save()
    User.objects.create_user("stranger")
    return project


def token(user: str = "operator", scope: str = "train") -> str:
    return create_token(User.objects.get(username=user), Project.objects.get(), scope, name="agent")[1]


def post(value: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    client = Client(headers={"authorization": f"Bearer {value}"})
    answer = client.post(path, json.dumps(body), content_type="application/json")
    return answer.status_code, answer.json()


def report(value: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    return post(value, "/api/agents/report/", REPORT | fields)


def starts(value: str, **fields: Any) -> list[int]:
    status, orders = report(value, **fields)
    assert status == 200, orders
    return [each["run"] for each in orders["start"]]


def request(user: str = "second", command: str = "resnet", **parameters: Any) -> tuple[int, dict[str, Any]]:
    client = Client()
    client.force_login(User.objects.get(username=user))
    agent = Agent.objects.get()
    body = json.dumps({"command": command, "parameters": parameters})
    answer = client.post(f"/api/agents/{agent.pk}/runs/", body, content_type="application/json")
    return answer.status_code, answer.json()


def requested(**parameters: Any) -> Run:
    status, told = request(**parameters)
    assert status == 201, told
    return Run.objects.get(pk=told["run"])


def page(user: str, address: str, status: int = 200) -> str:
    client = Client()
    client.force_login(User.objects.get(username=user))
    answer = client.get(address)
    assert answer.status_code == status
    return answer.content.decode()


def form(user: str, **fields: str) -> Any:
    client = Client()
    client.force_login(User.objects.get(username=user))
    return client.post(f"{reverse('run_on_agent')}?agent={Agent.objects.get().pk}&command=resnet", fields)


def held(run: Run, **fields: Any) -> dict[str, Any]:
    return {"run": run.pk, "request": run.agent_run.request, **fields}


def test_an_agent_gets_what_others_queue_for_it_until_it_holds_it(project: Project):
    value = token()
    assert starts(value) == []
    run = requested(epochs=5, tag="a b; rm -rf /")
    assert (run.state, run.name, run.created_by.username) == (RunState.QUEUED, "ResNet", "second")
    status, orders = report(value)
    assert status == 200
    (order,) = orders["start"]
    assert order["values"] == {"epochs": 5, "tag": "a b; rm -rf /"} and order["command"] == "resnet"
    # The answer may have been lost.
    assert starts(value) == [run.pk]
    assert starts(value, held=[held(run)]) == []
    launch = {"key": order["key"], "start": "1", "host": "gpu7", "boot_id": "b", "pid": 1, "command_line": ["x"]}
    status, opened = post(value, "/api/runs/", launch)
    assert status == 201 and opened["run"] == run.pk and not opened["is_new_run"]
    run.refresh_from_db()
    assert run.state == RunState.RUNNING


def test_the_slots_and_the_order_of_the_line_are_kept(project: Project):
    value = token()
    report(value)
    first, wide, last = requested(), requested(command="wide"), requested()
    assert starts(value, held=[]) == [first.pk]
    # Two slots are not free, and nobody overtakes the run that needs them.
    assert starts(value, held=[held(first)]) == []
    assert starts(value, held=[held(first)], slots=3) == [wide.pk]
    texts = {each["id"]: each["place"]["text"] for each in client_of("owner").get("/api/runs/").json()["items"]}
    assert texts[last.pk] == f"3rd in line for the agent gpu7, after #{first.pk} and #{wide.pk}"
    assert texts[first.pk] == "1st in line for the agent gpu7: it is being started"
    (host,) = client_of("owner").get("/api/queue/").json()["items"]
    assert (host["name"], host["is_away"], len(host["waiting"])) == ("gpu7", False, 3)
    asked = client_of("second").post(f"/runs/{last.pk}/in-queue/", {"command": "move_to_front"})
    assert asked.status_code == 302
    assert starts(value, held=[held(first)]) == [last.pk]


def client_of(user: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=user))
    return client


def test_a_second_agent_of_the_name_is_refused_while_the_first_lives(project: Project):
    value = token()
    report(value)
    status, told = report(value, session=uuid4().hex)
    assert (
        status == 409 and told["field"] == "name" and "stop that agent, or give this one another name" in told["error"]
    )
    status, told = report(token("second"), session=uuid4().hex)
    assert status == 409 and "belongs to an agent of operator" in told["error"]
    report(value, leaves=True)
    assert report(value, session=uuid4().hex)[0] == 200
    Agent.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=30))
    assert report(value, session=uuid4().hex)[0] == 200


@pytest.mark.parametrize(
    ("command", "parameters", "words"),
    [
        ("resnet", {"epochs": 301}, "epochs takes a whole number from 1 to 300, not 301."),
        ("resnet", {"epochs": "1; ls"}, "epochs takes a whole number from 1 to 300"),
        ("resnet", {"shell": "ls"}, "shell: there is no such parameter"),
        ("bash", {}, "offers no command bash; choose one of: resnet, wide"),
    ],
)
def test_what_is_not_offered_is_refused(project: Project, command: str, parameters: dict[str, Any], words: str):
    report(token())
    status, told = request(command=command, **parameters)
    assert status == 422 and words in told["error"]
    assert not Run.objects.exists()


def test_only_operators_of_the_project_request_and_offer(project: Project):
    value = token()
    report(value)
    assert request("viewer")[0] == request("stranger")[0] == 404
    assert post(value, f"/api/agents/{Agent.objects.get().pk}/runs/", {"command": "resnet"})[0] == 403
    command_token = token(scope="command")
    assert post(command_token, "/api/agents/report/", REPORT)[0] == 403
    assert post(command_token, f"/api/agents/{Agent.objects.get().pk}/runs/", {"command": "resnet"})[0] == 201
    viewing = token(scope="view")
    assert post(viewing, f"/api/agents/{Agent.objects.get().pk}/runs/", {"command": "resnet"})[0] == 403
    Membership.objects.filter(user__username="operator").update(role=Role.VIEWER)
    assert report(value)[0] == 403


def test_a_withdrawn_run_is_dropped_and_cannot_be_opened(project: Project):
    value = token()
    report(value)
    run = requested()
    _status, orders = report(value)
    client_of("second").post(f"/runs/{run.pk}/in-queue/", {"command": "withdraw"})
    assert report(value, held=[held(run)])[1]["drop"] == [run.pk]
    launch = {"key": orders["start"][0]["key"], "start": "1", "host": "h", "boot_id": "b", "pid": 1}
    status, told = post(value, "/api/runs/", launch | {"command_line": ["x"]})
    assert status == 409 and "was taken out of the queue" in told["error"]


def test_a_refusal_of_the_agent_is_the_reason_of_the_run(project: Project):
    value = token()
    report(value)
    run = requested()
    refused = held(run, reason="epochs is refused here.")
    assert starts(value, refused=[refused]) == []
    run.refresh_from_db()
    assert (run.state, run.reason) == (RunState.FAILED, "epochs is refused here.")
    client_of("second").post(f"/runs/{run.pk}/queue/")
    # A late repetition is about the request before.
    assert starts(value, refused=[refused]) == [run.pk]


def test_the_pages_show_who_may_start_what_and_check_the_values(project: Project):
    empty = page("operator", reverse("run_on_agent"))
    assert "No agent is known" in empty and "steersman agent" in empty
    report(token())
    listed = page("second", reverse("run_on_agent"))
    assert "Operators and owners of Lab can start these commands" in listed and "in which operator started" in listed
    assert "No agent is known" in page("viewer", reverse("run_on_agent"))
    shown = page("second", f"{reverse('run_on_agent')}?agent={Agent.objects.get().pk}&command=resnet")
    assert 'name="p-epochs" value="90"' in shown and "passes · 1 to 300 · default 90" in shown
    answer = form("second", **{"p-epochs": "999", "p-tag": ""})
    assert (
        answer.status_code == 422 and "epochs takes a whole number from 1 to 300, not 999." in answer.content.decode()
    )
    assert form("viewer", **{"p-epochs": "5"}).status_code == 404
    answer = form("second", **{"p-epochs": "5", "p-tag": "$(ls)", "restarts": "2", "name": "tried"})
    run = Run.objects.get()
    assert answer.status_code == 302 and answer.headers["Location"] == f"/runs/{run.pk}/"
    assert (run.name, run.restarts, run.agent_run.values) == ("tried", 2, {"epochs": 5, "tag": "$(ls)"})


def test_the_page_of_a_run_names_its_agent_and_no_command_of_the_portal(project: Project):
    value = token()
    report(value)
    run = requested()
    assert "No online agent can start this run" not in page("second", f"/runs/{run.pk}/")
    report(value, leaves=True)
    assert "Offline: requested runs wait until the agent is online" in page("second", reverse("run_on_agent"))
    shown = page("second", f"/runs/{run.pk}/")
    assert "No online agent can start this run. operator can start gpu7 on its host" in shown
    assert "1st in line for the agent gpu7: no online agent can start the run" in shown
    assert "manage.py train" not in shown and "manage.py watch" not in shown
    client_of("second").post(f"/runs/{run.pk}/in-queue/", {"command": "withdraw"})
    shown = page("second", f"/runs/{run.pk}/")
    assert "The agent gpu7 of operator starts this run when you queue it." in shown and "manage.py" not in shown


def test_a_run_is_run_again_by_its_agent(project: Project):
    value = token()
    report(value)
    run = requested(epochs=5)
    body = json.dumps({"interventions": False, "start": "no"})
    answer = client_of("second").post(f"/api/runs/{run.pk}/again/", body, content_type="application/json")
    told = answer.json()
    assert answer.status_code == 201 and told["command"] == ""
    assert starts(value) == [run.pk]
    client_of("second").post(f"/runs/{told['run']}/queue/")
    status, orders = report(value)
    again = orders["start"][1]
    assert status == 200 and (again["run"], again["command"], again["values"]["epochs"]) == (told["run"], "resnet", 5)
