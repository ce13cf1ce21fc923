"""Starting runs from the page: the form of a new run, cloning, queueing, resuming, and who may do so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from runs.models import Attempt, Host, Membership, Project, Recipe, Role, Run, RunState
from runs.portal.new_run.device_choices import host_choices

pytestmark = pytest.mark.django_db

SCHEMA = [
    {"name": "epochs", "kind": "int", "default": 3, "minimum": 1, "maximum": 100, "help": "passes over the data"},
    {"name": "rate", "kind": "float", "default": 0.001, "minimum": 0.0, "maximum": None, "help": ""},
    {"name": "optimizer", "kind": "choice", "default": "adam", "choices": ["adam", "sgd"], "help": ""},
    {"name": "augment", "kind": "bool", "default": True, "help": ""},
    {"name": "note", "kind": "str", "default": "", "help": ""},
]
SWITCH = {"name": "augment", "kind": "bool"}
GOOD = {
    "project": "lab", "recipe": "images", "shown": "images", "name": "first", "seed": "7", "place": "gpu1/cuda:1",
    "p-epochs": "5", "p-rate": "1e-2", "p-optimizer": "sgd", "p-note": "",
}  # fmt: skip
GPU = {"device": "cuda:1", "title": "H100", "utilisation": 35, "memory_used_mib": 10240, "memory_total_mib": 81920}
CPU = {"device": "cpu", "title": "CPU, 8 cores", "utilisation": 12.5, "memory_used_mib": 1, "memory_total_mib": 2}


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        Membership.objects.create(project=project, user=User.objects.create_user(role), role=role)
    Project.objects.create(name="Other", slug="other")
    User.objects.create_user("stranger")
    Recipe.objects.create(spec="images", title="Images", parameters=SCHEMA)
    words = [SCHEMA[0] | {"default": 9}, {"name": "layers", "kind": "int", "default": 2}]
    Recipe.objects.create(spec="words", title="Words", parameters=words)
    Host.objects.create(name="gpu1", heartbeat_at=timezone.now(), devices=[CPU, GPU])
    return project


def client_of(name: str) -> Client:
    client = Client()
    client.force_login(User.objects.get(username=name))
    return client


def post(**fields: str) -> Any:

    return client_of("operator").post(reverse("new_run"), GOOD | fields)


def make_run(project: Project, **fields: Any) -> Run:
    values: dict[str, Any] = {"recipe": Recipe.objects.get(spec="images"), "name": "old", **fields}
    return Run.objects.create(project=project, **values)


def test_the_form_shows_each_parameter_with_its_range_default_and_help(project: Project) -> None:
    page = client_of("operator").get(reverse("new_run"), {"recipe": "images"}).content.decode()
    assert "passes over the data · 1 to 100 · default 3" in page
    assert 'name="p-epochs" value="3"' in page
    assert 'min="1"' in page and 'max="100"' in page
    assert '<option value="sgd">sgd</option>' in page
    assert "checked" in page.split('name="p-augment"')[1].split(">")[0]


def test_the_form_shows_the_devices_of_living_hosts_with_their_use(project: Project) -> None:
    Host.objects.create(name="dead", heartbeat_at=timezone.now() - timedelta(minutes=1), devices=[CPU])
    page = client_of("operator").get(reverse("new_run")).content.decode()
    assert 'value="gpu1/cuda:1"' in page and "cuda:1 · H100" in page
    assert "35 % busy · 10.0 of 80.0 GiB used" in page
    assert 'value="gpu1/auto" checked' in page
    assert "dead/" not in page


def test_it_queues_what_was_asked_for(project: Project) -> None:
    answer = post(queue="1")
    run = Run.objects.get()
    assert answer.headers["Location"] == reverse("run", args=[run.pk])
    assert (run.state, run.queued_host, run.device, run.seed) == ("queued", "gpu1", "cuda:1", 7)
    assert run.parameters == {"epochs": 5, "rate": 0.01, "optimizer": "sgd", "augment": False, "note": ""}
    assert (run.created_by.get_username() if run.created_by else "", run.deterministic) == ("operator", False)


def test_create_only_shows_the_command_that_starts_it_elsewhere(project: Project) -> None:
    answer = post(create="1", name="")
    run = Run.objects.get()
    assert (run.state, run.queued_host, run.name) == ("created", "", "Images")
    page = client_of("operator").get(answer.headers["Location"]).content.decode()
    assert f"python manage.py train --run-id {run.pk}" in page
    assert 'data-copy="#start-command">Copy command<' in page


def test_errors_stand_beside_their_fields_and_nothing_is_lost(project: Project) -> None:
    answer = post(queue="1", **{"p-epochs": "500", "p-rate": "quick", "seed": "-1", "name": "keep me"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert not Run.objects.exists()
    epochs = page.split('name="p-epochs"')[1].split("form-hint")[0]
    assert "epochs takes a whole number from 1 to 100, not 500." in epochs
    assert 'value="500"' in epochs and 'aria-invalid="true"' in epochs
    rate = page.split('name="p-rate"')[1].split("form-hint")[0]
    assert "rate takes a number of at least 0, not &#x27;quick&#x27;." in rate
    assert 'value="keep me"' in page and 'value="quick"' in page and 'value="gpu1/cuda:1" checked' in page
    assert '<option value="sgd" selected>' in page


def test_another_recipe_shows_its_parameters_and_keeps_what_was_typed(project: Project) -> None:
    page = post(switch="1", recipe="words", **{"p-epochs": "3"}).content.decode()
    assert 'name="p-layers" value="2"' in page and 'value="first"' in page
    assert 'name="p-epochs" value="9"' in page, "the default of the other recipe is no choice"
    page = post(switch="1", recipe="words", **{"p-epochs": "42"}).content.decode()
    assert 'name="p-epochs" value="42"' in page
    page = post(queue="1", recipe="words").content.decode()
    assert "You chose another recipe" in page
    assert not Run.objects.exists()


def test_a_checkbox_that_is_off_by_default_can_be_ticked(project: Project) -> None:
    Recipe.objects.create(spec="plain", title="Plain", parameters=[SWITCH | {"default": False}])
    page = client_of("operator").get(reverse("new_run"), {"recipe": "plain"}).content.decode()
    box = page.split('name="p-augment"')[1].split(">")[0]
    assert "checked" not in box
    # The value that a browser sends for a ticked box.
    value = box.split('value="')[1].split('"')[0]
    answer = post(create="1", recipe="plain", shown="plain", **{"p-augment": value})
    assert answer.status_code == 302
    assert Run.objects.get().parameters == {"augment": True}


@pytest.mark.parametrize(("before", "after"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("ticked", [True, False])
def test_a_changed_checkbox_is_kept_when_the_recipe_is_switched(
    project: Project, before: bool, after: bool, ticked: bool
) -> None:
    Recipe.objects.create(spec="one", title="One", parameters=[SWITCH | {"default": before}])
    Recipe.objects.create(spec="two", title="Two", parameters=[SWITCH | {"default": after}])
    fields = {"p-augment": "true"} if ticked else {}
    page = post(switch="1", recipe="two", shown="one", **fields).content.decode()
    box = page.split('name="p-augment"')[1].split(">")[0]
    assert ("checked" in box) == (after if ticked == before else ticked)


@pytest.mark.parametrize(
    "fields",
    [{"project": "other"}, {"recipe": "nothing"}, {"place": "gpu1/tpu"}, {"place": "a b/cpu"}, {"place": ""}],
)
def test_it_takes_no_project_recipe_or_device_that_is_not_offered(project: Project, fields: dict[str, str]) -> None:
    post(queue="1", **fields)
    assert not Run.objects.exists()


def test_a_host_that_went_away_meanwhile_may_still_be_chosen_and_is_said_to_be_away(project: Project) -> None:
    Host.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    client = client_of("operator")
    answer = client.post(reverse("new_run"), GOOD | {"queue": "1"}, follow=True)
    assert "No scheduler is running on gpu1" in answer.content.decode()
    assert Run.objects.get().queued_host == "gpu1"


def test_it_clones_an_earlier_run_into_the_form(project: Project) -> None:
    values = {"epochs": 8, "optimizer": "sgd", "gone": 1}
    source = make_run(project, parameters=values, device="cuda:1", seed=5, deterministic=True)
    Attempt.objects.create(run=source, number=1, host="gpu1", boot_id="", supervisor_pid=1)
    answer = client_of("operator").get(reverse("new_run"), {"clone": source.pk})
    page = answer.content.decode()
    assert 'name="p-epochs" value="8"' in page and 'name="seed" value="5"' in page
    assert '<option value="sgd" selected>' in page and 'value="gpu1/cuda:1" checked' in page
    assert "The recipe no longer declares gone" in page
    post(create="1", clone=str(source.pk))
    assert Run.objects.latest("pk").cloned_from == source


def test_it_starts_paused_again_and_on_several_ranks_where_asked_and_a_clone_does_so_too(project: Project) -> None:
    post(create="1", start_paused="on", restarts="3", ranks="2")
    run = Run.objects.get()
    assert (run.start_paused, run.restarts, run.ranks) == (True, 3, 2)
    page = client_of("operator").get(reverse("new_run"), {"clone": run.pk}).content.decode()
    assert 'name="restarts" value="3"' in page and 'name="ranks" value="2"' in page
    assert "checked" in page.split('name="start_paused"')[1].split(">")[0]
    assert "less than or equal to 64" in post(create="1", ranks="65").content.decode()
    page = post(switch="1", recipe="words", start_paused="on", restarts="4", ranks="2").content.decode()
    assert 'name="restarts" value="4"' in page and "checked" in page.split('name="start_paused"')[1].split(">")[0]
    post(create="1", restarts="", ranks="")
    run = Run.objects.latest("pk")
    assert (run.start_paused, run.restarts, run.ranks) == (False, 0, 1)


def test_it_does_not_clone_what_one_may_not_see(project: Project) -> None:
    hidden = make_run(Project.objects.get(slug="other"), name="hidden one")
    page = client_of("operator").get(reverse("new_run"), {"clone": hidden.pk}).content.decode()
    assert f"There is no run {hidden.pk}, or you are not a member" in page and "hidden one" not in page
    post(create="1", clone=str(hidden.pk))
    assert Run.objects.latest("pk").cloned_from is None
    scripted = make_run(project, recipe=None)
    page = client_of("operator").get(reverse("new_run"), {"clone": scripted.pk}).content.decode()
    assert f"Run {scripted.pk} trains a script, not a recipe, and cannot be cloned" in page


@pytest.mark.parametrize("name", ["viewer", "stranger"])
def test_who_may_not_start_runs_is_told_so(project: Project, name: str) -> None:
    client = client_of(name)
    page = client.get(reverse("new_run")).content.decode()
    assert "You cannot start runs yet" in page
    assert client.post(reverse("new_run"), GOOD | {"queue": "1"}).status_code == 200
    assert not Run.objects.exists()
    assert reverse("new_run") not in client.get(reverse("runs")).content.decode()


def test_who_has_no_project_is_told_where_to_make_or_find_one(project: Project) -> None:
    client = client_of("stranger")
    Membership.objects.filter(user__username="stranger").delete()
    for address in (reverse("new_run"), reverse("runs")):
        assert "Create a project" not in client.get(address).content.decode()
    assert "Ask the owner of a project for an invite link." in client.get(reverse("runs")).content.decode()
    User.objects.filter(username="stranger").update(is_staff=True)
    for address in (reverse("new_run"), reverse("runs")):
        page = client.get(address).content.decode()
        assert "Create a project" in page and f"{reverse('projects')}#new-project" in page
        assert "Ask an owner of your project" not in page and "create_run" not in page


@pytest.mark.parametrize("state", [RunState.STOPPED, RunState.FAILED, RunState.LOST, RunState.CREATED])
def test_it_goes_on_where_the_checkpoints_lie(project: Project, state: RunState) -> None:
    run = make_run(project, state=state)
    Attempt.objects.create(run=run, number=1, host="gpu1", boot_id="", supervisor_pid=1)
    client_of("operator").post(reverse("queue_run", args=[run.pk]))
    run.refresh_from_db()
    assert (run.state, run.queued_host) == ("queued", "gpu1")
    client_of("operator").post(reverse("in_queue", args=[run.pk]), {"command": "withdraw"})
    run.refresh_from_db()
    assert run.state in (RunState.LOST, RunState.CREATED)


def test_it_says_why_a_run_cannot_be_queued(project: Project) -> None:
    run = make_run(project, state=RunState.FINISHED)
    answer = client_of("operator").post(reverse("queue_run", args=[run.pk]), follow=True)
    assert "The run is finished: it cannot be queued." in answer.content.decode()


@pytest.mark.parametrize("route", ["queue_run", "in_queue"])
@pytest.mark.parametrize(("name", "status"), [("viewer", 403), ("stranger", 404)])
def test_only_operators_queue_and_withdraw(project: Project, route: str, name: str, status: int) -> None:
    run = make_run(project)
    assert client_of(name).post(reverse(route, args=[run.pk])).status_code == status
    assert client_of(name).get(reverse(route, args=[run.pk])).status_code == 405
    assert Run.objects.get().state == RunState.CREATED


def test_a_viewer_sees_no_buttons_that_start(project: Project) -> None:
    run = make_run(project, state=RunState.STOPPED)
    assert "starting" not in client_of("viewer").get(reverse("run", args=[run.pk])).content.decode()
    page = client_of("operator").get(reverse("run", args=[run.pk])).content.decode()
    assert 'data-testid="resume-run"' in page and 'data-testid="clone"' in page


def test_a_device_whose_use_is_not_known_is_still_a_choice() -> None:
    unknown = {"device": "cuda:0", "title": "H100", "utilisation": None, "memory_used_mib": None}
    group = host_choices([Host(name="h", devices=[unknown])])[0]
    assert (group.devices[1].use, group.devices[1].percent) == ("current use is unknown", None)
