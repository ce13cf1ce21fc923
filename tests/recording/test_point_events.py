"""Points of a report are placed in laps as a group, with the same result as one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runs.recording.record_side.point_events import Groups, points
from runs.series.laps import StepOrder
from steersman.records.kinds import PointRecord

Logged = tuple[tuple[str, ...], int]
# The names of each point, and how far its step is from the step before.
logged = st.tuples(st.sampled_from([("a",), ("a", "b"), ("b",)]), st.sampled_from([1, 1, 1, 2, 0, -1, -9]))
reports = st.lists(st.lists(logged, max_size=30), max_size=3)


@given(reports, st.booleans())
def test_points_are_in_the_laps_that_they_have_one_by_one(given_reports: list[list[Logged]], rolls_back: bool) -> None:
    together, one_by_one = (StepOrder({"a": (0, 3, (3,))}) for _ in range(2))
    step = 0
    for report in given_reports:
        records = []
        for names, change in report:
            step += change
            records.append(PointRecord(step=step, values=dict.fromkeys(names, 1.0)))
        expected: Groups = {}
        for record in records:
            names = tuple(record.values)
            expected.setdefault((names, one_by_one.laps(names, record.step)), []).append(record)
        assert list(points(records, together).items()) == list(expected.items())
        assert together.remarks == one_by_one.remarks
        if rolls_back:
            together.begin_lap(step)
            one_by_one.begin_lap(step)
