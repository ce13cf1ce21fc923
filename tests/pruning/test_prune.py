"""What a pruning removes from runs that have ended, what it keeps, and that the SQLite file shrinks."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from runs.models import Checkpoint, Membership, Project, Role, Run
from runs.pruning.rules import unneeded
from runs.pruning.space import free_pages, give_back, rebuild
from runs.pruning.thinning import STRIDE_STEPS, thin, thinned
from runs.series.packing.chunks import Points, make_points
from tests.support.stack import run_check


def points_of(steps: list[int], values: list[float]) -> Points:
    return make_points(steps, [step / 10 for step in steps], values)


def as_rows(points: Points) -> list[tuple[int, int, str]]:
    return list(zip(points.steps.tolist(), points.times_ms.tolist(), map(repr, points.values.tolist()), strict=True))


numbers = st.floats(width=64) | st.sampled_from([float("nan"), float("inf"), float("-inf"), 1.0])


@given(
    st.lists(st.tuples(st.integers(-300, 900), numbers), max_size=120),
    st.booleans(),
    st.lists(st.integers(0, 120), max_size=5),
    st.booleans(),
)
def test_one_point_a_hundred_steps_stays_with_the_lowest_and_the_highest(logged, in_order, cuts, by_time):
    logged = sorted(logged, key=lambda each: each[0]) if in_order else logged
    points = points_of([step for step, _ in logged], [value for _, value in logged])
    kept = thin(points, by_time=by_time)
    # The kept points are in order, a subset of the logged ones, and the same however they are read and however often
    # they are thinned.
    rows = iter(as_rows(points))
    assert all(row in rows for row in as_rows(kept))
    assert as_rows(thin(kept, by_time=by_time)) == as_rows(kept)
    edges = sorted({0, len(logged), *(cut for cut in cuts if cut < len(logged))})
    parts = [points.part(slice(*edge)) for edge in zip(edges, edges[1:], strict=False)]
    assert [row for part in thinned(parts, by_time=by_time) for row in as_rows(part)] == as_rows(kept)
    if not in_order or by_time:
        return
    for place in {step // STRIDE_STEPS for step, _ in logged}:
        inside, left = (each.values[each.steps // STRIDE_STEPS == place] for each in (points, kept))
        finite = inside[np.isfinite(inside)]
        assert repr(left[-1]) == repr(inside[-1])
        assert not len(finite) or (finite.min() in left and finite.max() in left)
        assert {str(each) for each in inside if not np.isfinite(each)} <= {str(each) for each in left}
        assert len(left) <= 3 + 3 + 1


def test_the_rule_keeps_newest_best_named_marked_and_every_nth_epoch():
    reasons = {2: "best", 3: "best", 5: "named"}
    saved = [
        Checkpoint(pk=number, attempt=1, epoch=number, reason=reasons.get(number, "last"), keep=number == 6)
        for number in range(1, 12)
    ]
    gone = [each.pk for each in unneeded(saved, 4)]
    assert gone == [1, 2, 7, 9, 10]
    assert unneeded([each for each in saved if each.pk not in gone], 4) == []
    assert unneeded([], 4) == []


def test_a_pruning_that_is_killed_goes_on_and_loses_nothing_that_stays():
    found = run_check("storage.prune_killed", "--kills", "2", "--runs", "2")
    assert found.pop("dry_run_told") == 2
    # One pruning may finish before it is killed.
    assert found.pop("kills") <= 2
    assert not any(found.values()), found


@pytest.mark.django_db(transaction=True)
def test_the_sqlite_file_gives_space_back_while_others_write():
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL frees space with its autovacuum")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, data BLOB)")
        cursor.executemany("INSERT INTO filler (data) VALUES (%s)", [(bytes(50_000),)] * 800)
        cursor.execute("DELETE FROM filler")
        cursor.execute("PRAGMA page_count")
        before = cursor.fetchone()[0]
    assert free_pages() > 8000
    path = connection.settings_dict["NAME"]
    stopped, waits = threading.Event(), []

    def write() -> None:
        # No writer may wait longer than one portion takes; the timeout is for machines under load.
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as other:
            while not stopped.is_set():
                other.execute("INSERT INTO filler (data) VALUES (?)", (b"x",))
                waits.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        given_back = give_back(60.0)
    finally:
        stopped.set()
        writer.join()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA page_count")
        assert cursor.fetchone()[0] <= before - given_back + 100
        cursor.execute("DROP TABLE filler")
    # The pruning let the writer in between its portions.
    assert given_back > 7000 and len(waits) > 5


@pytest.mark.django_db(transaction=True)
def test_a_file_of_before_is_rebuilt_once(tmp_path, monkeypatch):
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL has no such file")
    with closing(sqlite3.connect(tmp_path / "old.sqlite3")) as plain:
        plain.execute("CREATE TABLE filler (id INTEGER PRIMARY KEY, data BLOB)")
    old = connection.copy()
    old.settings_dict = connection.settings_dict | {"NAME": str(tmp_path / "old.sqlite3"), "OPTIONS": {}}
    monkeypatch.setattr("runs.pruning.space.connection", old)
    try:
        with old.cursor() as cursor:
            cursor.executemany("INSERT INTO filler (data) VALUES (%s)", [(bytes(50_000),)] * 400)
            cursor.execute("DELETE FROM filler")
        assert (free_pages(), give_back(1.0)) == (0, 0)
        rebuild()
        with old.cursor() as cursor:
            cursor.execute("PRAGMA auto_vacuum")
            assert cursor.fetchone()[0] == 2
        assert (tmp_path / "old.sqlite3").stat().st_size < 1_000_000
    finally:
        old.close()


@pytest.fixture
def lab() -> Project:
    project = Project.objects.create(name="Lab", slug="lab")
    for role in Role.values:
        user = User.objects.create_user(role)
        Membership.objects.create(project=project, user=user, role=role)
    return project


@pytest.mark.django_db
def test_owners_set_what_is_kept(client, lab):
    client.force_login(User.objects.get(username="owner"))
    address = reverse("keeping", args=["lab"])
    assert client.post(address, {"coarse_after_days": "30", "checkpoint_epochs": "5"}).status_code == 302
    lab.refresh_from_db()
    assert (lab.coarse_after_days, lab.checkpoint_epochs) == (30, 5)
    refused = client.post(address, {"coarse_after_days": "-1", "checkpoint_epochs": "0"})
    assert refused.status_code == 422 and b"form-error" in refused.content
    assert client.post(address, {"coarse_after_days": "", "checkpoint_epochs": ""}).status_code == 302
    lab.refresh_from_db()
    assert (lab.coarse_after_days, lab.checkpoint_epochs) == (None, None)
    client.force_login(User.objects.get(username="operator"))
    assert client.post(address, {"coarse_after_days": "1"}).status_code == 403


@pytest.mark.django_db
def test_the_page_of_a_pruned_run_says_so(client, lab):
    run = Run.objects.create(project=lab, name="old", state="finished")
    client.force_login(User.objects.get(username="viewer"))
    assert "kept as one per 100 steps" not in client.get(f"/runs/{run.pk}/").content.decode()
    Run.objects.filter(pk=run.pk).update(coarse_until=datetime(2026, 2, 3, 4, 5, tzinfo=UTC))
    page = client.get(f"/runs/{run.pk}/").content.decode()
    assert "kept as one per 100 steps" in page and "2026-02-03T04:05:00+00:00" in page
