"""New runs in the admin: parameters are validated against the published recipe."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.models import Project, Recipe, Run, RunState

RUNS = "/admin/runs/run/"


def new_run(client: Client, project: Project, /, **fields: Any) -> Any:
    data: dict[str, Any] = {"project": project.pk, "name": "new", "parameters": "{}", "device": "auto", "seed": 0}
    return client.post(f"{RUNS}add/", data | fields)


def test_it_creates_a_run_with_every_parameter(client: Client, ada: User, project: Project, recipe: Recipe) -> None:
    page = client.get(f"{RUNS}add/").content.decode()
    assert "passes over the images" in page
    answer = new_run(client, project, recipe=recipe.pk, parameters='{"epochs": "20"}', device="cuda:1", seed=7)
    assert answer.status_code == 302
    run = Run.objects.get()
    assert run.parameters == {"epochs": 20, "learning_rate": 0.001}
    assert (run.state, run.created_by, run.device, run.seed) == (RunState.CREATED, ada, "cuda:1", 7)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("parameters", '{"epochs": 0}', "epochs takes a whole number from 1 to 100, not 0."),
        ("parameters", '{"epoch": 3}', "epoch: there is no such parameter; choose one of: epochs, learning_rate."),
        ("parameters", '{"learning_rate": NaN}', "learning_rate takes a finite number, not nan."),
        ("parameters", "[1]", "Give an object of names and values"),
        ("parameters", "{", "Enter a valid JSON."),
        ("device", "gpu", "Give auto, cpu, cuda"),
        ("project", "999", "Select a valid choice"),
    ],
)
def test_it_refuses_what_cannot_run(
    client: Client, project: Project, recipe: Recipe, field: str, value: str, sentence: str
) -> None:
    answer = new_run(client, project, **({"recipe": recipe.pk} | {field: value}))
    assert answer.status_code == 200
    [message] = answer.context["adminform"].form.errors[field]
    assert sentence in message
    assert not Run.objects.exists()


def test_it_creates_a_run_of_a_persons_own_script(client: Client, project: Project) -> None:
    assert new_run(client, project, parameters='{"anything": [1, 2]}').status_code == 302
    assert Run.objects.get().parameters == {"anything": [1, 2]}
    answer = new_run(client, project, parameters='{"anything": NaN}')
    assert "finite" in answer.context["adminform"].form.errors["parameters"][0]
