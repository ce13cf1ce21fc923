"""Statements whose SQL is built once change rows as a `QuerySet` would."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, transaction

from runs.models import Run, Series, StoredEvent
from runs.statements import repeated
from tests.recording.test_reports import new_lease

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("run_id", "name", "last_step", "last_value")
MANY = 3_000


@pytest.fixture
def run_id() -> int:
    return new_lease().run_id


def test_an_update_changes_the_rows_of_its_conditions_and_no_other_one(run_id: int) -> None:
    other = new_lease().run_id
    before, beats = Run.objects.values().get(pk=other), Run.objects.get(pk=run_id).heartbeat
    moment = datetime(2030, 1, 2, 3, 4, 5, 678_000, UTC)
    written: dict[str, Any] = {"stalled_since": moment, "supervisor_report": {"a": [1, None]}, "reason": "%s ' é"}
    assert repeated.update(Run, {"id": run_id, "state": ("paused", "running")}, written, {"heartbeat": 5}) == 1
    assert repeated.update(Run, {"id": run_id}, {}, {"heartbeat": 2}) == 1
    assert Run.objects.filter(pk=run_id, **written).exists()
    assert repeated.value_of(Run, "heartbeat", {"id": run_id}) == Run.objects.get(pk=run_id).heartbeat == beats + 7
    assert repeated.update(Run, {"id": run_id, "state": ("paused", "lost")}, {"reason": "no"}) == 0
    assert repeated.update(Run, {"id": run_id, "heartbeat": beats}, {"reason": "no"}) == 0
    assert repeated.update(Run, {"id": run_id}, {"stalled_since": None}) == 1
    assert Run.objects.values_list("stalled_since", "reason").get(pk=run_id) == (None, "%s ' é")
    assert Run.objects.values().get(pk=other) == before


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, (1 << 64) - 1])
def test_no_row_has_an_integer_that_no_column_holds(run_id: int, number: int) -> None:
    assert repeated.update(Run, {"id": run_id, "heartbeat": number}, {"reason": "no"}) == 0
    with pytest.raises(Run.DoesNotExist):
        repeated.value_of(Run, "reason", {"id": number})


def test_a_missing_row_has_no_value(run_id: int) -> None:
    with pytest.raises(Run.DoesNotExist, match="Run"):
        repeated.value_of(Run, "reason", {"id": run_id + 1})


def test_columns_of_known_rows_only_fall_or_only_rise(run_id: int) -> None:
    def insert(*values: float | None) -> list[tuple[float | None, float | None]]:
        rows = [(run_id, f"series {place}", value, value) for place, value in enumerate(values)]
        names = ("run_id", "name", "least_value", "greatest_value")
        with transaction.atomic():
            repeated.insert(Series, names, rows, unique=names[:2], lowered=("least_value",), raised=("greatest_value",))
        return list(Series.objects.filter(run=run_id).order_by("name").values_list("least_value", "greatest_value"))

    assert insert(1.5, None, 1.5) == [(1.5, 1.5), (None, None), (1.5, 1.5)]
    assert insert(0.5, 2.5, None) == [(0.5, 1.5), (2.5, 2.5), (1.5, 1.5)]
    assert insert(3.5, None, 0.0) == [(0.5, 3.5), (2.5, 2.5), (0.0, 1.5)]


def test_many_rows_are_inserted_with_defaults_and_known_ones_are_overwritten(run_id: int) -> None:
    def insert(value: float, names: range) -> None:
        rows = [(run_id, f"series {each}", each, value) for each in names]
        repeated.insert(Series, NAMES, rows, unique=("run_id", "name"), overwritten=("last_value",))

    with transaction.atomic():
        insert(0.5, range(MANY))
        insert(1.5, range(1, MANY + 1))
    stored = Series.objects.filter(run_id=run_id)
    assert stored.count() == MANY + 1
    assert stored.filter(last_value=1.5).count() == MANY and stored.get(last_value=0.5).name == "series 0"
    one = stored.get(name="series 7")
    assert (one.axis, one.last_step, one.last_time, one.last_nonfinite, one.coarse_attempt) == ("step", 7, 0, "", 0)


def test_after_a_failed_statement_its_transaction_stores_nothing(run_id: int) -> None:
    row = (run_id, 1_000, "metrics", datetime.now(UTC), "{}")
    names = ("run_id", "seq", "kind", "at", "frame")
    with pytest.raises(DatabaseError), transaction.atomic():
        repeated.insert(StoredEvent, names, [row])
        with pytest.raises(IntegrityError):
            repeated.insert(StoredEvent, names, [row])
        repeated.update(Run, {"id": run_id}, {"reason": "no"})
    assert not StoredEvent.objects.filter(run_id=run_id, seq=1_000).exists()
