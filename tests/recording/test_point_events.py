"""Points of a report are placed in laps as a group, with the same result as one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runs.recording.record_side.point_events import points
from runs.series.laps import StepOrder
from steersman.records.kinds import PointRecord
from steersman.records.point_blocks import Names, in_blocks, joined

Logged = tuple[tuple[str, ...], int]
# The names of each point, and how far its step is from the step before.
logged = st.tuples(st.sampled_from([("a",), ("a", "b"), ("b",)]), st.sampled_from([1, 1, 1, 2, 0, -1, -9]))
reports = st.lists(st.lists(logged, max_size=30), max_size=3)


@given(reports, st.booleans())
def test_points_are_in_the_laps_that_they_have_one_by_one(given_reports: list[list[Logged]], rolls_back: bool) -> None:
    together, separately = (StepOrder({"a": (0, 3, (3,))}) for _ in range(2))
    step = 0
    for report in given_reports:
        records = []
        for names, change in report:
            step += change
            records.append(PointRecord(step=step, values=dict.fromkeys(names, 1.0)))
        expected: dict[tuple[Names, tuple[int, ...]], list[PointRecord]] = {}
        for record in records:
            names = tuple(record.values)
            expected.setdefault((names, separately.laps(names, record.step)), []).append(record)
        found = points(in_blocks(records), together)
        assert [(key, joined(blocks).records()) for key, blocks in found.items()] == list(expected.items())
        assert together.remarks == separately.remarks
        if rolls_back:
            together.begin_lap(step)
            separately.begin_lap(step)
