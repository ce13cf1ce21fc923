"""`POST /api/runs/`: a token with the scope `train` opens each run once, and cannot read."""

from __future__ import annotations

import json
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from runs.access.tokens import TokenRefused, create_token, revoke
from runs.models import AccessToken, Attempt, Membership, Project, Role, Run, RunState
from runs.recording.lifecycle import AttemptEnd, Lease, end_attempt
from runs.recording.queue import start_command, waiting_for
from steersman.messages.ended import Ended
from trainer.control.concluding import conclude_ended

pytestmark = pytest.mark.django_db
LAUNCH = {"key": "slurm 4711", "start": "0", "host": "gpu7", "boot_id": "b", "pid": 42, "command_line": ["train.py"]}


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    Membership.objects.create(project=project, user=User.objects.create(username="operator"), role=Role.OPERATOR)
    return project


def make_token(project: Project, scope: str = "train", **fields: Any) -> tuple[AccessToken, str]:
    return create_token(User.objects.get(username="operator"), project, scope, name="cluster", **fields)


def client_of(value: str) -> Client:
    return Client(headers={"authorization": f"Bearer {value}"})


def open_run(value: str, **fields: Any) -> tuple[int, dict[str, Any]]:
    answer = client_of(value).post("/api/runs/", json.dumps(LAUNCH | fields), content_type="application/json")
    return answer.status_code, answer.json()


def end(run: int, outcome: str) -> None:
    attempt = Attempt.objects.get(run=run, ended_at=None)
    end_attempt(Lease(run, attempt.pk, attempt.number), AttemptEnd(outcome))


def test_it_makes_a_run_of_the_project_with_an_attempt_of_the_host(project: Project):
    _, value = make_token(project)
    status, told = open_run(value, name="night", ranks=4, restarts=2)
    assert status == 201 and told["is_new_run"] and told["is_new_attempt"] and told["attempt"] == 1
    run = Run.objects.get(pk=told["run"])
    assert told["page"] == f"http://testserver/runs/{run.pk}/"
    assert (run.project, run.name, run.ranks, run.restarts, run.state) == (project, "night", 4, 2, RunState.RUNNING)
    assert run.created_by is not None and run.created_by.username == "operator"
    attempt = run.attempts.get()
    found = (attempt.host, attempt.boot_id, attempt.supervisor_pid, attempt.command_line)
    assert found == ("gpu7", "b", 42, ["train.py"])


def test_all_ranks_of_a_start_get_the_same_and_a_requeued_job_the_next_attempt(project: Project):
    _, value = make_token(project)
    _, first = open_run(value)
    assert open_run(value) == (200, first | {"is_new_run": False, "is_new_attempt": False})
    status, refused = open_run(value, start="1")
    assert (status, refused["field"]) == (409, "key") and "still trains on gpu7" in refused["error"]
    end(first["run"], RunState.FAILED)
    _, later = make_token(project)
    status, again = open_run(later, start="1", host="gpu8")
    assert (status, again["run"], again["attempt"], again["is_new_run"]) == (201, first["run"], 2, False)
    # A holder that has sent no heartbeat for long is replaced.
    Run.objects.filter(pk=first["run"]).update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    assert open_run(value, start="2")[1]["attempt"] == 3
    end(first["run"], RunState.FINISHED)
    status, refused = open_run(value, start="3")
    assert status == 409 and "another key" in refused["error"]
    assert Run.objects.count() == 1 and open_run(value, key="other")[1]["run"] != first["run"]


def test_only_its_own_host_restarts_a_failed_run_which_counts_its_restarts(project: Project):
    _, value = make_token(project)
    run_id = open_run(value, restarts=2)[1]["run"]
    attempt = Attempt.objects.get(run=run_id)
    concluded = conclude_ended(Lease(run_id, attempt.pk, 1), Ended(rank=0, code=1))
    assert (concluded.state, concluded.used, concluded.allowed) == ("failed", 1, 2)
    run = Run.objects.get(pk=run_id)
    assert (run.state, run.queued_host) == (RunState.QUEUED, "gpu7")
    Run.objects.update(queued_at=timezone.now() - timedelta(minutes=1))
    assert waiting_for("gpu7") == []
    assert open_run(value, start="1")[1]["attempt"] == 2
    run.refresh_from_db()
    assert (run.state, run.restarts_used) == (RunState.RUNNING, 1)


@pytest.mark.django_db(transaction=True)
def test_ranks_that_ask_at_once_get_one_attempt(project: Project):
    _, value = make_token(project)
    told: list[tuple[int, dict[str, Any]]] = []
    ready = threading.Barrier(6)

    def ask() -> None:
        ready.wait(60)
        try:
            told.append(open_run(value))
        finally:
            connection.close()

    ranks = [threading.Thread(target=ask) for _ in range(6)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(60)
    assert sorted(status for status, _ in told) == [200] * 5 + [201]
    assert {(found["run"], found["attempt"]) for _, found in told} == {(Run.objects.get().pk, 1)}


def test_keys_of_two_people_and_of_two_projects_are_apart(project: Project):
    other = Project.objects.create(name="Other", slug="other")
    user = User.objects.create(username="second")
    Membership.objects.create(project=project, user=user, role=Role.OWNER)
    Membership.objects.create(project=other, user=user, role=Role.OWNER)
    values = [make_token(project)[1]]
    values += [create_token(user, where, "train", name="x")[1] for where in (project, other)]
    assert len({open_run(value)[1]["run"] for value in values}) == 3


def test_a_project_is_accepted_only_if_it_is_that_of_the_token(project: Project):
    _, value = make_token(project)
    first = open_run(value, project="lab")[1]["run"]
    assert open_run(value, project="Lab")[1]["run"] == first
    status, refused = open_run(value, key="other", project="Other")
    assert (status, refused["field"]) == (403, "project")
    assert "in the project Lab, not in Other" in refused["error"] and "log in with a token" in refused["error"]
    assert Run.objects.count() == 1


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("~/my code", "cd ~/'my code' && steersman run --name 'a b' -- python train.py --key '<secret>'"),
        ("~", "cd ~ && steersman run --name 'a b' -- python train.py --key '<secret>'"),
        ("/data/it's", "cd '/data/it'\"'\"'s' && steersman run --name 'a b' -- python train.py --key '<secret>'"),
        ("", "steersman run --name 'a b' -- python train.py --key '<secret>'"),
    ],
)
def test_the_portal_shows_the_command_of_the_host(project: Project, folder: str, line: str):
    _, value = make_token(project)
    words = ["steersman", "run", "--name", "a b", "--", "python", "train.py", "--key", "<secret>"]
    run = Run.objects.get(pk=open_run(value, started=words, folder=folder)[1]["run"])
    end(run.pk, RunState.FAILED)
    assert start_command(run) == line
    client = Client()
    client.force_login(User.objects.get(username="operator"))
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert f'<code id="failure-command">{escape(line)}</code>' in page and "the training starts again" in page
    assert "manage.py train" not in page
    refused = client.post(f"/api/runs/{run.pk}/queue/", "{}", content_type="application/json")
    assert refused.status_code == 409 and refused.json()["error"].endswith(f"as another run, with {line}")
    # A host of an older version tells only the program.
    Run.objects.all().delete()
    assert start_command(Run.objects.get(pk=open_run(value, key="old")[1]["run"])) == "steersman run -- train.py"


@pytest.mark.parametrize(
    ("started", "before", "after"),
    [
        (
            ["steersman", "run", "--key", "k4711", "--nproc", "2", "--", "python", "a b.py", "--key", "<secret>"],
            "steersman run --from {}:", " --nproc 2 -- python 'a b.py' --key '<secret>'",
        ),
        # Joined and shortened, as argparse takes them, and without the dashes before the program.
        (
            ["steersman", "run", "--k=k4711", "--na", "x", "--from", "3:best", "--restarts=2", "python", "train.py"],
            "steersman run --from {}:", " --restarts=2 python train.py",
        ),
        (
            ["torchrun", "--no-python", "/bin/steersman", "run", "--key", "k4711", "--", "python", "train.py"],
            "torchrun --no-python /bin/steersman run --from {}:", " -- python train.py",
        ),
        # In a notebook, nobody entered a command.
        ([], "steersman run --from {}:", " -- train.py"),
    ],
)  # fmt: skip
def test_the_page_has_the_command_that_begins_at_a_checkpoint(
    project: Project, started: list[str], before: str, after: str
):
    Membership.objects.create(project=project, user=User.objects.create(username="viewer"), role=Role.VIEWER)
    _, value = make_token(project)
    run = open_run(value, started=started, folder="~/code")[1]["run"]
    client = Client()
    for name, parts in (("operator", [before.format(run), after]), ("viewer", [])):
        client.force_login(User.objects.get(username=name))
        assert client.get(f"/runs/{run}/").context["page"]["elsewhere"] == parts


def test_the_token_opens_nothing_else(project: Project):
    _, value = make_token(project)
    run = open_run(value)[1]["run"]
    paths = Client().get("/api/openapi.json").json()["paths"]
    asked = 0
    for path, methods in paths.items():
        address = re.sub(r"{command_id}", "b3a6f3c0-1111-4a1c-9d0e-0123456789ab", path.replace("{run_id}", str(run)))
        address = re.sub(r"{\w+}", "1", address)
        if "/copies/" in path:
            continue  # the checkpoints of its own runs: tests/remote/test_push.py
        for method in methods:
            if method == "post" and path in ("/api/runs/", "/api/agents/report/"):
                continue
            body = {"data": json.dumps({"run": run, "command": "stop"}), "content_type": "application/json"}
            answer = getattr(client_of(value), method)(address, **(body if method == "post" else {}))
            assert answer.status_code == 403 and "only opens runs" in answer.json()["error"], (method, path)
            asked += 1
    assert asked > 15
    assert client_of(value).get("/metrics").status_code == 403


@pytest.mark.parametrize("scope", ["view", "command", "metrics", "share"])
def test_no_other_token_opens_a_run(project: Project, scope: str):
    run = project.runs.create(name="shared") if scope == "share" else None
    status, refused = open_run(make_token(project, scope, run=run)[1])
    assert (status, refused["field"]) == (403, "Authorization")
    assert not Run.objects.exclude(name="shared").exists()


def test_it_ends_with_the_right_of_its_owner(project: Project):
    token, value = make_token(project)
    Membership.objects.update(role=Role.VIEWER)
    assert open_run(value)[0] == 403
    Membership.objects.update(role=Role.OPERATOR)
    revoke(token)
    assert open_run(value)[0] == 401
    assert not Run.objects.exists()


def test_it_is_for_no_single_run(project: Project):
    with pytest.raises(TokenRefused, match="leave the run empty"):
        make_token(project, run=project.runs.create(name="one"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("key", ""), ("key", "a\0b"), ("key", "x" * 201), ("start", ""), ("start", "x" * 101), ("host", "a b"),
        ("host", ""), ("pid", 0), ("pid", "none"), ("command_line", "train.py"), ("name", "n" * 121), ("ranks", 0),
        ("restarts", -1), ("colour", "red"), ("command_line", ["a\0b"]),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_its_name(project: Project, field: str, value: Any):
    status, refused = open_run(make_token(project)[1], **{field: value})
    assert status == 422 and field in refused["field"] + refused["error"], refused
    assert not Run.objects.exists()
