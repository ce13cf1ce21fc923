"""The progress of a training from its records: the last logged step, or the step after a rollback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from steersman.records.kinds import OutcomeRecord, PointRecord
from steersman.records.point_blocks import PointBlock, Stretch


def rolls_back(record: Stretch) -> bool:
    """Return whether a record reports a rollback of the training, after which points begin a new lap."""
    return isinstance(record, OutcomeRecord) and record.to_step is not None


def step_after(records: Sequence[Stretch]) -> int | None:
    """Return the step of a training after `records`, None if they do not contain it."""
    for record in reversed(records):
        if isinstance(record, PointBlock):
            return record.steps[-1]
        if isinstance(record, PointRecord):
            return record.step
        if isinstance(record, OutcomeRecord) and record.to_step is not None:
            return record.to_step
    return None


def between_roll_backs(records: Sequence[Stretch]) -> Iterator[Sequence[Stretch]]:
    """Yield `records` in parts that end with a rollback or with the last record."""
    start = 0
    for index, record in enumerate(records):
        if rolls_back(record):
            yield records[start : index + 1]
            start = index + 1
    if start < len(records):
        yield records[start:]
