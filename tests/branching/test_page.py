"""Branching from the page: the form with the possible changes, and what both pages show afterwards."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from runs.models import Branch, Checkpoint, Run
from tests.branching.test_api import client, source

__all__ = ["source"]

pytestmark = pytest.mark.django_db


def fields_of(page: HttpResponse) -> dict[str, str]:
    """Return the fields of the form with their values, as a browser sends them."""
    form = page.content.decode().split('data-testid="branch-form"')[1].split("</form>")[0]
    found = {}
    for tag in re.findall(r"<input[^>]*>", form):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if attributes.get("type") != "checkbox":
            found[attributes["name"]] = attributes.get("value", "")
    del found["csrfmiddlewaretoken"]
    return found


def address_of(run: Run) -> str:
    return reverse("branch", args=[run.pk, Checkpoint.objects.get(run=run).pk])


def test_what_is_changed_in_the_form_is_the_branch_and_nothing_else(source: Run) -> None:
    operator = client("operator")
    page = operator.get(address_of(source))
    fields = fields_of(page)
    # The knob appears by parameter group, with its values at the checkpoint, and not a second time as a parameter.
    assert (fields["k-1"], fields["k-2"], fields["p-epochs"]) == ("0.05", "0.05", "3")
    assert "p-learning_rate" not in fields
    assert "learning_rate (head)" in page.content.decode()

    wrong = operator.post(address_of(source), fields | {"p-epochs": "many", "k-1": "7"})
    assert wrong.status_code == 422 and wrong.content.decode().count("form-error") == 2 and not Branch.objects.exists()
    done = operator.post(address_of(source), fields | {"k-2": "0.01", "name": "calm head", "start": "queue"})
    run = Run.objects.get(branch__source=source)
    assert done.status_code == 302 and done["Location"] == f"/runs/{run.pk}/"
    assert (run.name, run.state, run.parameters) == ("calm head", "queued", source.parameters)
    (change,) = run.branch.changes.all()
    assert (change.name, change.group, change.old, change.new) == ("learning_rate", "head", 0.05, 0.01)
    # Pressing twice leads to the same branch.
    again = operator.post(address_of(source), fields | {"k-2": "0.01"})
    assert again["Location"] == f"/runs/{run.pk}/" and Branch.objects.count() == 1


def test_both_pages_tell_of_each_other_and_a_share_link_of_neither(source: Run) -> None:
    operator = client("operator")
    operator.post(address_of(source), fields_of(operator.get(address_of(source))) | {"name": "second", "k-1": "0.02"})
    run = Run.objects.get(name="second")
    for page in (source.pk, run.pk):
        shown = client("viewer").get(f"/runs/{page}/").content.decode().split('data-testid="family"')[1]
        members = re.findall(r'family-member" data-run="(\d+)"', shown)
        assert members == [str(source.pk), str(run.pk)]
        assert "learning_rate (body) 0.05 → 0.02" in shown
    assert "Branched from" in shown and f'href="/runs/{source.pk}/"' in shown
    Run.objects.filter(pk=source.pk).update(state="stopped")
    Run.objects.get(pk=source.pk).delete()
    assert "which was deleted" in client("viewer").get(f"/runs/{run.pk}/").content.decode()


def test_others_and_what_cannot_be_used_are_refused_in_words(source: Run, tmp_path: Path) -> None:
    assert client("viewer").get(address_of(source)).status_code == 403
    assert client("operator").get(reverse("branch", args=[source.pk, 999_999])).status_code == 404
    fields = fields_of(client("operator").get(address_of(source)))
    (weights,) = tmp_path.glob("runs/*/attempts/1/checkpoints/*/model.pt")
    weights.write_bytes(b"weight\0")
    damaged = client("operator").post(address_of(source), fields)
    assert damaged.status_code == 422 and "SHA-256 of model.pt differs" in damaged.content.decode()
    (weights.parent / "manifest.json").unlink()
    gone = client("operator").get(address_of(source))
    assert gone.status_code == 409 and "missing" in gone.content.decode()
    assert Run.objects.count() == 1


def test_the_admin_shows_the_family_and_exports_where_a_branch_came_from(source: Run) -> None:
    operator = client("operator")
    operator.post(address_of(source), fields_of(operator.get(address_of(source))) | {"name": "=second", "k-1": "0.02"})
    run = Run.objects.get(name="=second")
    admin = Client()
    admin.force_login(User.objects.create_superuser("admin"))
    for page in (source, run):
        shown = admin.get(f"/admin/runs/run/{page.pk}/change/").content.decode()
        assert f"/admin/runs/run/{run.pk}/change/" in shown and "learning_rate (body) 0.05 → 0.02" in shown
    assert "Branched from first" in shown
    answer = admin.get(f"/admin/runs/run/{run.pk}/export/branches.csv")
    assert f'filename="run-{run.pk}-branches.csv"' in answer["Content-Disposition"]
    (row,) = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert row == {
        "run": str(run.pk), "run_name": "'=second", "source": str(source.pk), "source_name": "first",
        "checkpoint": "before", "step": "12", "epoch": "1", "kind": "knob", "name": "learning_rate", "group": "body",
        "old": "0.05", "new": "0.02",
    }  # fmt: skip
    chosen = {"action": "export_branches", "_selected_action": [run.pk, source.pk]}
    assert b"".join(admin.post("/admin/runs/run/", chosen).streaming_content).count(b"\r\n") == 2
