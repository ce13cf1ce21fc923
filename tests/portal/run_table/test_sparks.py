"""The small curves of the loss in the list of runs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.models import Membership, Project, Role, Run, Series
from runs.portal.run_table.sparks import HEIGHT, MARGIN, WIDTH, lines_of
from runs.protocol.events import Block
from runs.recording import feed
from runs.series.packing.chunks import make_points
from runs.series.storage import fold, store_points, update_latest
from tests.support.stored_points import metrics_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    Membership.objects.create(project=project, user=User.objects.create_user("ada"), role=Role.VIEWER)
    return project


@pytest.fixture
def client(project: Project) -> Client:
    client = Client()
    client.force_login(User.objects.get(username="ada"))
    return client


def trained(project: Project, name: str, values: Sequence[float], series: str = "train/loss") -> Run:
    run = Run.objects.create(project=project, name=name, state="finished")
    steps = list(range(len(values)))
    with transaction.atomic():
        Series.objects.create(run=run, name=series, last_step=steps[-1], last_value=1.0)
        store_points(run.pk, {(1, 0, series): make_points(steps, [float(step) for step in steps], list(values))})
    return run


def training(project: Project, name: str, values: Sequence[float], points_an_event: int) -> Run:
    """A live run with events that are not folded."""
    run = Run.objects.create(project=project, name=name, state="running")
    report(run, values, 0, points_an_event)
    return run


def report(run: Run, values: Sequence[float], first: int, points_an_event: int) -> None:
    for start in range(0, len(values), points_an_event):
        own = list(values[start : start + points_an_event])
        steps = list(range(first + start, first + start + len(own)))
        columns = {"train/loss": own, "train/accuracy": [0.5] * len(own)}
        event = metrics_event([Block(steps=steps, times=[float(step) for step in steps], values=columns)])
        with transaction.atomic():
            feed.append(run.pk, event)
            update_latest(run.pk, [event])


def drawn(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (point.split(",") for point in line.split())]


def falls(points: list[tuple[float, float]]) -> bool:
    return all(before[0] < after[0] and before[1] <= after[1] for before, after in pairwise(points))


def test_each_row_has_the_curve_of_its_loss(project: Project, client: Client) -> None:
    trained(project, "falls", np.linspace(2.0, 1.0, 30_000).tolist())
    trained(project, "rises", [1.0, 2.0, 3.0], "loss")
    trained(project, "other", [1.0, 2.0], "val/accuracy")
    page = client.get("/", {"sort": "name"})
    falls, other, rises = page.context["rows"]
    (line,) = falls.spark
    points = drawn(line)
    assert 10 < len(points) <= 40
    assert points[0] == (MARGIN, MARGIN) and points[-1] == (WIDTH - MARGIN, HEIGHT - MARGIN)
    assert all(before[1] < after[1] for before, after in zip(points, points[1:], strict=False))
    assert drawn(rises.spark[0]) == [(MARGIN, HEIGHT - MARGIN), (WIDTH / 2, HEIGHT / 2), (WIDTH - MARGIN, MARGIN)]
    assert other.spark == ()
    assert len(re.findall('data-testid="spark"', page.content.decode())) == 2
    assert "<polyline" not in client.get("/", {"column": "host"}).content.decode()


def test_what_is_not_finite_breaks_the_line() -> None:
    assert len(lines_of([1, 2, 3, 4, 5], [1.0, 2.0, math.nan, 2.0, 1.0])) == 2
    assert lines_of([1, 2], [math.nan, 1.0]) == lines_of([], []) == []
    # A flat line lies at the foot, and the ends of the scale overflow nothing.
    assert {y for _, y in drawn(lines_of([1, 2], [3.0, 3.0])[0])} == {MARGIN}
    assert drawn(lines_of([1, 2], [-1.7e308, 1.7e308])[0])[1] == (WIDTH - MARGIN, MARGIN)


@pytest.mark.parametrize("points_an_event", (1, 7, 1000))
def test_a_run_whose_points_are_not_folded_has_its_whole_curve(
    project: Project, client: Client, points_an_event: int
) -> None:
    run = training(project, "young", np.linspace(2.0, 1.0, 211).tolist(), points_an_event)
    assert not run.series.filter(chunks__isnull=False).exists()
    (row,) = client.get("/").context["rows"]
    (line,) = row.spark
    points = drawn(line)
    assert 10 < len(points) <= 40
    # The newest point is among those that are chosen.
    assert points[-1] == (WIDTH - MARGIN, HEIGHT - MARGIN)
    assert all(
        before[0] < after[0] and before[1] <= after[1] for before, after in zip(points, points[1:], strict=False)
    )
    assert abs(points[len(points) // 2][0] - WIDTH / 2) < WIDTH / 8


def test_the_curve_of_a_live_run_goes_on_after_its_folded_points(project: Project, client: Client) -> None:
    run = training(project, "half", np.linspace(2.0, 1.0, 200).tolist(), 5)
    fold(run.pk)
    report(run, np.linspace(1.0, 3.0, 200).tolist(), 200, 5)
    (row,) = client.get("/").context["rows"]
    points = drawn(row.spark[0])
    lowest = max(range(len(points)), key=lambda place: points[place][1])
    assert abs(points[lowest][0] - WIDTH / 2) < WIDTH / 8
    assert falls(points[: lowest + 1]) and falls([(-x, y) for x, y in reversed(points[lowest:])])
    assert points[-1] == (WIDTH - MARGIN, MARGIN)


def test_a_value_that_is_not_finite_breaks_a_curve_that_is_not_folded(project: Project, client: Client) -> None:
    run = Run.objects.create(project=project, name="nan", state="running")
    block = Block(
        steps=[1, 2, 3, 4, 5],
        times=[1.0, 2.0, 3.0, 4.0, 5.0],
        values={"loss": [1.0, 2.0, None, 2.0, 1.0]},
        nonfinite={"loss": [(2, "nan")]},
    )
    event = metrics_event([block])
    with transaction.atomic():
        feed.append(run.pk, event)
        update_latest(run.pk, [event])
    (row,) = client.get("/").context["rows"]
    assert len(row.spark) == 2


def test_the_curves_take_the_same_queries_for_any_number_of_runs(project: Project, client: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/")
        return len(captured)

    # One of each level from which points are read.
    lengths = (2, 300, 20_000)
    for length in lengths:
        trained(project, f"of {length}", np.linspace(1, 2, length).tolist())
    training(project, "live", [1.0, 2.0, 3.0], 1)
    client.get("/")
    few = count()
    for number in range(12):
        trained(project, f"run {number}", np.linspace(1, 2, lengths[number % 3]).tolist())
        training(project, f"live {number}", [1.0, 2.0, 3.0], 1)
    assert count() == few
