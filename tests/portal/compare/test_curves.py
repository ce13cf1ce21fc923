"""The points of a comparison: of all runs at once, exact to float32, and only those that the viewer may see."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from runs.models import EpochMetric, Membership, Project, Role, Run
from runs.recording import feed
from runs.series import storage
from runs.series.packing.chunks import make_points
from tests.support.stored_points import START, metrics, store, store_folded

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project() -> Project:
    return Project.objects.create(name="Digits", slug="digits")


@pytest.fixture
def viewer(project: Project, client: Client) -> Client:
    Membership.objects.create(project=project, user=User.objects.create_user("viewer"), role=Role.VIEWER)
    client.force_login(User.objects.get(username="viewer"))
    return client


def make_run(project: Project, name: str = "run", **fields: Any) -> Run:
    return Run.objects.create(project=project, name=name, attempt=1, **fields)


def address(*runs: Run, **fields: Any) -> str:
    query = "&".join([f"run={run.pk}" for run in runs] + [f"{name}={value}" for name, value in fields.items()])
    return f"{reverse('compare_curves')}?{query}".replace("from_=", "from=")


def decoded(content: bytes) -> dict[tuple[int, str], dict[str, Any]]:
    """Return the curves of a response by run and chart, decoded as the docstring of `encode` describes."""
    length = int.from_bytes(content[:4], "little")
    head, at = json.loads(content[4 : 4 + length]), 4 + length
    assert at % 8 == 0, "typed arrays need it"

    def take(kind: str, rows: int) -> list[float]:
        nonlocal at
        column = np.frombuffer(content, kind, rows, at)
        at += -(-column.nbytes // 8) * 8
        return column.tolist()  # type: ignore[no-any-return]

    found = {}
    for curve in head["curves"]:
        rows, value = curve["rows"], "<f8" if curve["wide"] else "<f4"
        curve |= {"steps": take("<f8", rows), "times": take("<f8", rows), "means": take(value, rows)}
        if not curve["raw"]:
            curve |= {"mins": take(value, rows), "maxs": take(value, rows)}
            curve |= {"counts": take("<u4", rows), "finites": take("<u4", rows)}
        found[curve["run"], curve["key"]] = curve
    assert at == len(content), "nothing is left over"
    return found


def read(viewer: Client, *runs: Run, **fields: Any) -> dict[tuple[int, str], dict[str, Any]]:
    answer = viewer.get(address(*runs, **fields))
    assert answer.status_code == 200, answer.content
    return decoded(answer.content)


def test_it_returns_the_points_of_all_runs_folded_or_not(project: Project, viewer: Client) -> None:
    fresh, folded = make_run(project), make_run(project)
    values = [0.5, math.nan, 0.25, 1e-42, math.inf]
    store(fresh, values[:3])
    store(folded, values)
    storage.fold(folded.pk)
    found = read(viewer, fresh, folded, name="train/loss")
    assert set(found) == {(fresh.pk, "train/loss"), (folded.pk, "train/loss")}
    one = found[fresh.pk, "train/loss"]
    assert (one["steps"], one["raw"], one["wide"]) == ([0, 1, 2], True, False)
    assert one["means"][0] == 0.5 and math.isnan(one["means"][1])
    assert one["times"][1] == pytest.approx(START + 0.02)
    assert (one["odd"], one["last"]) == ([[1, "nan", 1]], [0.25, ""])
    other = found[folded.pk, "train/loss"]
    assert other["wide"] and other["means"][3] == 1e-42, "float32 would lose it"
    assert (other["odd"], other["last"]) == ([[1, "nan", 1], [4, "inf", 1]], [None, "inf"])


def test_a_long_run_is_merged_and_hides_no_spike(project: Project, viewer: Client) -> None:
    run = make_run(project)
    values = np.zeros(200_000)
    values[123_456] = 7.0
    steps = range(len(values))
    store_folded(run, "train/loss", make_points(list(steps), [START + step for step in steps], values.tolist()))
    curve = read(viewer, run, name="train/loss", buckets=100)[run.pk, "train/loss"]
    assert 50 <= curve["rows"] <= 100 and not curve["raw"]
    assert max(curve["maxs"]) == 7.0 and sum(curve["counts"]) == sum(curve["finites"]) == 200_000
    start, end = 123_000, 124_000
    close = read(viewer, run, name="train/loss", buckets=1200, **{"from": start, "to": end})[run.pk, "train/loss"]
    assert close["raw"] and (close["steps"][0], close["steps"][-1]) == (start, end)
    assert close["means"][456] == 7.0


def test_an_extent_of_time_since_the_start_is_that_of_each_run(project: Project, viewer: Client) -> None:
    runs = []
    for hours in (0, 5):
        begun = START + 3600 * hours
        run = make_run(project, started_at=datetime.fromtimestamp(begun, UTC), steps_per_epoch=10)
        store_folded(
            run, "train/loss", make_points(list(range(100)), [begun + step for step in range(100)], [1.0] * 100)
        )
        runs.append(run)
    for x, first, last in (("relative", 20, 29), ("epoch", 2, 2.9)):
        found = read(viewer, *runs, name="train/loss", x=x, **{"from": first, "to": last})
        assert [curve["steps"] for curve in found.values()] == [list(range(20, 30))] * 2, x
    found = read(viewer, *runs, name="train/loss", x="time", **{"from": START + 20, "to": START + 29})
    assert [curve["rows"] for curve in found.values()] == [10, 0], "the wall clock is the same for both"


def test_it_draws_the_loss_of_scripts_and_recipes_in_one_chart(project: Project, viewer: Client) -> None:
    recipe, script = make_run(project), make_run(project)
    store(recipe, [0.5])
    event = metrics({"loss": [0.75]}, [0])
    feed.append(script.pk, event)
    storage.update_latest(script.pk, [event])
    found = read(viewer, recipe, script, name="train/loss")
    assert {run: curve["means"] for (run, _), curve in found.items()} == {recipe.pk: [0.5], script.pk: [0.75]}


def test_it_draws_measures_of_epochs_that_count(project: Project, viewer: Client) -> None:
    run = make_run(project)
    moment = datetime.fromtimestamp(START, UTC)
    for attempt, epoch, loss in ((1, 1, 0.5), (1, 2, 0.4), (2, 2, 0.3)):
        EpochMetric.objects.create(
            run=run, attempt=attempt, epoch=epoch, step=10 * epoch, at=moment, validation_loss=loss, extra={"f1": loss}
        )
    EpochMetric.objects.create(run=run, attempt=2, epoch=3, step=30, at=moment, nonfinite={"validation_loss": "nan"})
    answer = viewer.get(f"{address(run, name='epoch:validation_loss')}&name=epoch:f1")
    found = decoded(answer.content)
    loss, f1 = found[run.pk, "epoch:validation_loss"], found[run.pk, "epoch:f1"]
    assert (loss["steps"], loss["odd"], loss["last"]) == ([10, 20, 30], [[30, "nan", 1]], [None, "nan"])
    assert f1["steps"] == [10, 20] and f1["means"] == pytest.approx([0.5, 0.3])


def test_a_group_is_drawn_as_mean_and_band_where_its_runs_have_values(project: Project, viewer: Client) -> None:
    for rate, first, losses in ((1, 0, [1.0, 2.0, 3.0]), (1, 1, [4.0, 5.0, 6.0]), (2, 0, [7.0, math.nan, 9.0])):
        begun = START + 1000 * rate + first
        run = make_run(project, parameters={"rate": rate}, started_at=datetime.fromtimestamp(begun, UTC))
        times = [begun + 10 * step for step in range(3)]
        store_folded(run, "train/loss", make_points([first + step for step in range(3)], times, losses))
    runs = list(Run.objects.order_by("pk"))
    found = read(viewer, *runs, name="train/loss", group="parameter:rate", buckets=400)
    assert set(found) == {(0, "train/loss"), (1, "train/loss")}
    both, alone = (found[group, "train/loss"] for group in (0, 1))
    assert (both["steps"][0], both["steps"][-1]) == (0, 3) and both["times"] == both["steps"]
    assert (both["counts"][0], both["means"][0]) == (1, 1.0), "only the first has begun"
    assert (both["counts"][-1], both["means"][-1]) == (1, 6.0), "only the second is still there"
    middle = both["counts"].index(2)
    assert (both["mins"][middle], both["maxs"][middle]) == (2, 4) and both["means"][middle] == 3
    assert both["last"] == [4.5, ""]
    assert alone["means"] == [7.0, 8.0, 9.0] and alone["odd"] == [[1, "nan", 1]]
    found = read(viewer, *runs, name="train/loss", group="parameter:rate", x="relative")
    both = found[0, "train/loss"]
    assert (both["steps"], both["means"]) == ([0, 10, 20], [2.5, 3.5, 4.5]), "each counts from its own start"
    assert (both["mins"], both["maxs"], both["counts"]) == ([1, 2, 3], [4, 5, 6], [2, 2, 2])


def end_epochs(run: Run, *steps: int, attempt: int = 1, first: int = 1) -> None:
    moment = datetime.fromtimestamp(START, UTC)
    for epoch, step in enumerate(steps, start=first):
        EpochMetric.objects.create(run=run, attempt=attempt, epoch=epoch, step=step, at=moment)


def test_recorded_epochs_of_any_length_are_the_places_of_a_run(project: Project, viewer: Client) -> None:
    uneven, even = (
        make_run(project, parameters={"rate": 1}),
        make_run(project, parameters={"rate": 2}, steps_per_epoch=10),
    )
    end_epochs(uneven, 10, 30)
    # Another attempt repeated the second epoch: it ends later.
    end_epochs(uneven, 50, 60, attempt=2, first=2)
    for run in (uneven, even):
        times = [START + step for step in range(80)]
        store_folded(run, "train/loss", make_points(list(range(80)), times, [1.0] * 80))
    found = read(viewer, uneven, even, name="train/loss", x="epoch", **{"from": 1, "to": 2})
    first_to_last = {run: (curve["steps"][0], curve["steps"][-1]) for (run, _), curve in found.items()}
    assert first_to_last == {uneven.pk: (10, 50), even.pk: (10, 20)}
    bands = read(viewer, uneven, even, name="train/loss", group="parameter:rate", x="epoch")
    places = dict(zip(range(80), bands[0, "train/loss"]["steps"], strict=True))
    assert [places[step] for step in (0, 10, 30, 50, 60, 70)] == [0, 1, 1.5, 2, 3, 4]
    page = viewer.get(f"{reverse('compare')}?run={uneven.pk}&run={even.pk}")
    facts = page.context["facts"]
    assert facts["without_epochs"] == 0 and facts["epoch_ends"] == {str(uneven.pk): [(1, 10), (2, 50), (3, 60)]}


def test_a_run_whose_epochs_are_unknown_has_no_place_over_epochs(project: Project, viewer: Client) -> None:
    known = make_run(project, parameters={"rate": 1}, steps_per_epoch=10)
    unknown = make_run(project, parameters={"rate": 1})
    alone = make_run(project, parameters={"rate": 2})
    for run in (known, unknown, alone):
        times = [START + step for step in range(30)]
        store_folded(run, "train/loss", make_points(list(range(30)), times, [float(run.pk)] * 30))
    # Nothing is known of the length of an epoch that ended before the first step.
    end_epochs(alone, 0)
    runs = (known, unknown, alone)
    found = read(viewer, *runs, name="train/loss", group="parameter:rate", x="epoch")
    assert set(found) == {(0, "train/loss")}, "no run of the other group has a place"
    assert found[0, "train/loss"]["steps"][-1] == 2.9 and found[0, "train/loss"]["last"] == [known.pk, ""]
    assert found[0, "train/loss"]["raw"], "one run counts everywhere"
    assert set(read(viewer, *runs, name="train/loss", x="epoch", **{"from": 1, "to": 2})) == {(known.pk, "train/loss")}
    page = viewer.get(f"{reverse('compare')}?" + "&".join(f"run={run.pk}" for run in runs))
    assert page.context["facts"]["without_epochs"] == 2


def test_it_returns_nothing_of_runs_that_the_viewer_may_not_see(project: Project, viewer: Client) -> None:
    own, foreign = make_run(project), make_run(Project.objects.create(name="Other", slug="other"))
    for run in (own, foreign):
        store(run, [0.5])
    assert set(read(viewer, own, foreign, name="train/loss")) == {(own.pk, "train/loss")}
    assert read(viewer, foreign, name="train/loss") == {}
    assert Client().get(address(own, name="train/loss")).status_code == 302


@pytest.mark.parametrize(
    ("query", "field"),
    [("", "name"), ("&".join(f"name={number}" for number in range(65)), "name"), (f"name={'x' * 300}", "name"),
     ("name=loss&buckets=1", "buckets"), ("name=loss&buckets=99999", "buckets"), ("name=loss&x=day", "x"),
     ("name=loss&from=nan", "from"), ("name=loss&to=soon", "to")],
)  # fmt: skip
def test_it_names_the_field_that_cannot_be_used(viewer: Client, query: str, field: str) -> None:
    answer = viewer.get(f"{reverse('compare_curves')}?run=1&{query}")
    assert answer.status_code == 422 and answer.content.decode().startswith(f"{field}: give ")


def test_it_asks_the_database_as_often_for_many_runs_as_for_two(project: Project, viewer: Client) -> None:
    runs = [make_run(project) for _ in range(12)]
    for run in runs:
        store(run, [0.5] * 300)
        storage.fold(run.pk)
        store(run, [0.5] * 10, first=300)

    def queries(*own: Run) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert len(read(viewer, *own, name="train/loss")) == len(own)
        return len(captured)

    assert queries(*runs[:2]) == queries(*runs) <= 12
