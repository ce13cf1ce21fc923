"""Parameters and metrics as columns, and the table of how well each parameter explains a metric."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from runs.models import Membership, Project, Role, Run, Series
from runs.portal.compare import importance
from runs.portal.compare.forest import Problem, solve

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(client: Client) -> Client:
    project = Project.objects.create(name="Digits", slug="digits")
    Membership.objects.create(project=project, user=User.objects.create_user("viewer"), role=Role.VIEWER)
    client.force_login(User.objects.get(username="viewer"))
    return client


def make_sweep(number: int) -> list[Run]:
    """Create runs whose loss depends on the rate, and a little on the optimizer, but not on the width."""
    runs = []
    for place in range(number):
        parameters: dict[str, Any] = {
            "rate": place % 5,
            "optimizer": ("adam", "sgd")[place % 2],
            "width": place * 7 % 11,
        }
        run = Run.objects.create(project=Project.objects.get(), name="run", parameters={**parameters, "batch": 64})
        loss = parameters["rate"] + 0.3 * (place % 2)
        Series.objects.create(run=run, name="train/loss", last_value=loss)
        runs.append(run)
    return runs


def query(runs: list[Run], **fields: str) -> str:
    return "?" + "&".join([f"run={run.pk}" for run in runs] + [f"{name}={value}" for name, value in fields.items()])


def test_the_page_has_what_differs_and_every_metric(viewer: Client) -> None:
    runs = make_sweep(3)
    Series.objects.filter(run=runs[0]).update(last_value=None, last_nonfinite="nan")
    facts = viewer.get(reverse("compare") + query(runs)).context["facts"]
    assert facts["lines"] == [run.pk for run in runs]
    assert {fact["key"]: fact["values"] for fact in facts["facts"]} == {
        "parameter:optimizer": ["adam", "sgd", "adam"],
        "parameter:rate": [0.0, 1.0, 2.0],
        "parameter:width": [0.0, 7.0, 3.0],
        "last:train/loss": [None, 1.3, 2.0],
    }
    grouped = viewer.get(reverse("compare") + query(runs, group="parameter:optimizer")).context["facts"]
    assert grouped["lines"] == [0, 1, 0], "a run has the colour of its group"


def test_the_parameter_that_a_metric_follows_is_the_most_important(viewer: Client) -> None:
    runs = make_sweep(30)
    page = viewer.get(reverse("compare_importance") + query(runs, target="last:train/loss"))
    rows = page.context["rows"]
    assert rows[0].name == "rate" and rows[0].share > 0.8 and rows[0].correlation > 0.9
    assert sum(row.share for row in rows) == pytest.approx(1)
    shares = {row.name: row.share for row in rows}
    assert set(shares) == {"rate", "optimizer", "width"} and shares["width"] < 0.1
    assert next(row.correlation for row in rows if row.name == "optimizer") is None
    assert b"<meter" in page.content


def test_it_says_why_there_is_no_table(
    viewer: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = make_sweep(12)

    def reason(own: list[Run], target: str = "last:train/loss") -> str:
        answer = viewer.get(reverse("compare_importance") + query(own, target=target))
        return str(answer.context["reason"])

    assert reason(runs[:9]).startswith("Runs with a value of this metric: 9. Select at least 10 runs")
    assert reason(runs, "parameter:rate").startswith("target: choose one of the metrics")
    monkeypatch.setattr(importance.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError("no memory")))
    assert reason(runs).startswith("scikit-learn could not compute the table")
    assert "no memory" in caplog.text
    slow = importance.subprocess.TimeoutExpired("python", importance.TIMEOUT_S)
    monkeypatch.setattr(importance.subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(slow))
    assert "within 60 seconds: compare fewer runs" in reason(runs)
    monkeypatch.setattr(importance, "find_spec", lambda _name: None)
    assert "pip install scikit-learn" in reason(runs)
    Run.objects.update(parameters={})
    assert reason(runs).startswith("All these runs have the same parameter values")


def test_gaps_and_equal_values_are_no_error() -> None:
    columns: list[list[float | str | None]] = [[None, 1.0] * 6, ["a", None] * 6, [3.0] * 12]
    rows = solve(Problem(names=["x", "y", "z"], columns=columns, target=[0.5] * 12))
    assert {row.name: (row.share, row.correlation) for row in rows} == dict.fromkeys("xyz", (0.0, None))
