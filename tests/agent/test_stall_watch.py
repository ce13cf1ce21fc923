"""When a training counts as stalled, by its journal and the supervisor's clock."""

from __future__ import annotations

from typing import Any

import pytest

from steersman.agent.supervise.stall import StallWatch
from steersman.records.kinds import CheckpointRecord, EnvironmentRecord, PointRecord, QuietRecord, StateRecord
from steersman.records.record import Record


def point(step: int, time: float) -> Record:
    return PointRecord(number=step, time=time, step=step, values={"loss": 0.5})


SAVED = CheckpointRecord(path="checkpoints/1", epoch=1, name="one", size_bytes=1, sha256="0" * 64)


def stepping(step_s: float, *, shortest_s: float = 60.0, steps: int = 20, **options: Any) -> StallWatch:
    watch = StallWatch(shortest_s, **options)
    for step in range(1, steps + 1):
        watch.note([point(step, step * step_s)])
    watch.measure(0.0)
    return watch


def silent_after(watch: StallWatch, limit_s: int) -> float | None:
    """Return after how many seconds of silence, checked every second, the training counts as stalled."""
    return next((second for second in range(1, limit_s) if watch.measure(float(second))), None)


def test_it_is_stalled_after_a_minute_or_ten_usual_steps() -> None:
    assert silent_after(stepping(0.1), 1000) == 61
    assert silent_after(stepping(20.0), 1000) == 201
    assert stepping(0.25).usual_step_s == pytest.approx(0.25)


def test_a_sign_ends_it() -> None:
    watch = stepping(0.1)
    assert silent_after(watch, 100) == 61
    watch.note([SAVED])
    assert watch.measure(62.0) == 0.0


def test_what_is_usual_is_hardly_moved_by_evaluations_and_pauses() -> None:
    watch = StallWatch(60.0)
    time = 0.0
    for step in range(1, 100):
        time += 30.0 if step % 10 == 0 else 0.5
        watch.note([point(step, time)])
    assert watch.usual_step_s == pytest.approx(0.5)
    watch.note([StateRecord(state="paused")])
    watch.note([StateRecord(state="running"), point(100, time + 9000.0)])
    assert watch.usual_step_s == pytest.approx(0.5)


def test_who_logs_seldom_is_judged_by_how_often_it_logs() -> None:
    watch = StallWatch(60.0)
    for sign in range(1, 20):
        watch.note([point(1000 * sign, 100.0 * sign)])
    watch.measure(0.0)
    assert watch.usual_step_s == pytest.approx(0.1)
    assert silent_after(watch, 3000) == 1001


def test_many_steps_in_one_look_are_counted_one_by_one() -> None:
    watch = StallWatch(60.0)
    for tick in range(10):
        watch.note([point(100 * tick + step, tick + step / 100) for step in range(1, 101)])
    assert watch.usual_step_s == pytest.approx(0.01)


def test_it_may_say_how_long_the_next_sign_takes() -> None:
    watch = stepping(0.1)
    watch.note([QuietRecord(seconds=500.0)])
    assert silent_after(watch, 1000) == 502
    watch.note([point(21, 900.0)])
    watch.measure(600.0)
    assert watch.measure(661.0) == 0.0
    assert watch.usual_step_s == pytest.approx(0.1)


def test_a_paused_training_is_not_stalled() -> None:
    watch = stepping(0.1)
    watch.note([StateRecord(state="paused")])
    assert silent_after(watch, 1000) is None
    watch.note([StateRecord(state="running")])
    assert [watch.measure(1000.0 + second) > 0 for second in (59, 61, 63)] == [False, False, False]
    assert silent_after(stepping(0.1, paused=True), 1000) is None


def test_the_first_step_may_take_ten_times_as_long() -> None:
    watch = StallWatch(60.0)
    watch.measure(0.0)
    watch.note([EnvironmentRecord(environment={})])
    assert silent_after(watch, 1000) == 602


def test_time_in_which_nobody_looked_counts_for_little() -> None:
    watch = stepping(0.1)
    assert watch.measure(10_000.0) == 0.0


def test_what_an_earlier_supervisor_found_holds_until_there_is_a_sign() -> None:
    watch = StallWatch(60.0, stalled=True, usual_step_s=0.1)
    assert watch.measure(0.0) > 0 and watch.measure(1.0) > 0 and watch.usual_step_s == 0.1
    watch.note([point(7, 1.0)])
    assert watch.measure(2.0) == 0.0
