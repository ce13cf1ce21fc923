"""A rank that lags behind the others is named, although all ranks step at its pace."""

from __future__ import annotations

import random
import signal

import pytest

from runs.alerts.detectors.judge import Judge
from runs.alerts.detectors.points import Point
from steersman.agent.journals.rank_times import RankSamples, RankTimes, own_times
from steersman.records.kinds import PointRecord
from tests.support.stack import Stack, rows, wait_for


def logged(*ranks: dict[str, float], step: int = 1) -> dict[int, PointRecord]:
    return {rank: PointRecord(step=step, time=float(step), values=values) for rank, values in enumerate(ranks)}


def speeds(step_ms: float, **more: float) -> dict[str, float]:
    return {f"speed/{name}": value for name, value in {"step_ms": step_ms, **more}.items()}


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        # Rank 1 is 60 ms slower before all wait: without it, steps would take 40 ms.
        ([speeds(100, own_ms=10), speeds(100, own_ms=70)], [40, 100]),
        ([speeds(100, own_ms=10, data_wait_fraction=0.9), speeds(100, own_ms=70, data_wait_fraction=0.1)], [40, 100]),
        ([speeds(100, data_wait_fraction=0.05), speeds(100, data_wait_fraction=0.65)], [40, 100]),
        ([speeds(40), speeds(100)], [40, 100]),
        # They do not wait for one another within the step, and each waits for its data.
        ([speeds(40, data_wait_fraction=0.5), speeds(100, data_wait_fraction=0.5)], [40, 100]),
        ([{"speed/own_ms": 40}, {"speed/own_ms": 100}], [40, 100]),
        ([speeds(100), speeds(100)], [100, 100]),
    ],
)
def test_the_time_of_a_rank_is_what_its_step_would_take_without_the_others(ranks, expected):
    assert list(own_times(logged(*ranks)).values()) == pytest.approx(expected)


def test_ranks_that_tell_no_times_are_followed_from_point_to_point():
    """Rank 1 runs independently at half the speed; its other names come from another call in the same step."""
    times, found = RankTimes(), []
    for step in range(1, 4):
        by_rank = {rank: PointRecord(step=step, time=step * (1.0 + rank), values={"loss": 1.0}) for rank in range(2)}
        found.append(times.of_step(by_rank))
        assert not times.of_step({rank: PointRecord(step=step, time=9.0, values={"more": 1.0}) for rank in (0, 1)})
    assert found == [{}, {0: 1000.0, 1: 2000.0}, {0: 1000.0, 1: 2000.0}]
    # From the first point with times on, only these count.
    assert len(times.of_step(logged(speeds(1), speeds(2), step=4))) == 2
    assert not times.of_step(logged({"loss": 1.0}, {"loss": 1.0}, step=5))
    assert not times.of_step(logged(speeds(float("nan")), speeds(2), step=6))


def test_a_sample_has_the_mean_of_the_steps_since_the_one_before():
    samples = RankSamples()
    assert samples.take() == {}
    samples.note([logged(speeds(100, own_ms=10), speeds(100, own_ms=each)) for each in (70, 50)])
    assert samples.take() == {"host/rank/0/step_ms": 50.0, "host/rank/1/step_ms": 100.0}
    assert samples.take() == {}


def test_points_that_are_read_again_leave_no_time_below_zero():
    samples = RankSamples()
    for step in (1, 3, 2):
        samples.note([logged({"loss": 1.0}, {"loss": 1.0}, step=step)])
    assert samples.take() == {"host/rank/0/step_ms": 2000.0, "host/rank/1/step_ms": 2000.0}


@pytest.mark.parametrize(("slow_ms", "lags"), [(0.0, []), (10.0, []), (60.0, ["rank/2/step_ms"])])
def test_only_a_lag_that_costs_a_third_of_the_step_is_one(slow_ms, lags):
    draw, judge, times = random.Random(3), Judge(), RankTimes()
    found = []
    for step in range(1, 400):
        own = [abs(draw.gauss(20, 4)) + (slow_ms if rank == 2 and step > 100 else 0) for rank in range(4)]
        whole = max(own) + 60
        ranks = [speeds(whole, own_ms=each) for each in own]
        for rank, value in times.of_step(logged(*ranks, step=step)).items():
            found += judge.judge(Point(f"rank/{rank}/step_ms", step, float(step), value))
    assert [alarm.series for alarm in found if alarm.detector == "rank-lag"] == lags
    assert not [alarm for alarm in found if alarm.detector == "throughput"]


def test_a_training_of_two_ranks_names_the_one_that_is_slow_before_they_meet(offline_stack: Stack) -> None:
    stack = offline_stack
    words = ("create_run", "--quiet", "--project", "lab", "--user", "operator", "--device", "cpu", "--nproc", "2")
    recipe = "tests.alerts.lagging_recipe:Lagging"
    run_id = int(stack.manage(*words, "--recipe", recipe, "--set", "epochs=100000").stdout)
    training = stack.train(run_id, "--quiet")
    # On a busy machine the other rank may lag too.
    query = "SELECT * FROM runs_alert WHERE run_id = ? AND detector = 'rank-lag' AND series = 'rank/1/step_ms'"
    wait_for(
        lambda: any(row["state"] == "cleared" for row in rows(stack, query, run_id)),
        f"a lag that is over\n{stack.log()}",
    )
    training.send_signal(signal.SIGINT)
    assert training.wait(60) == 0, stack.log()
    alert = rows(stack, f"{query} ORDER BY id", run_id)[0]
    assert alert["severity"] == "warning" and alert["value"] > 50 and "±" in str(alert["usual"])
    # What the detectors see is not a series of the run; the samples of the ranks are.
    names = {row["name"] for row in rows(stack, "SELECT name FROM runs_series WHERE run_id = ?", run_id)}
    assert "speed/own_ms" in names and not [name for name in names if name.startswith("rank/")]
    measures = {f"host/rank/{rank}/{part}" for rank in range(2) for part in ("step_ms", "cpu", "rss_mib")}
    assert {name for name in names if name.startswith("host/rank/")} == measures
