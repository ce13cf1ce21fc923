"""Points of a loss as a supervisor would store them, and how tests read and compare them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from django.db import transaction
from hypothesis import strategies as st

from runs.models import Chunk, Run, Series
from runs.protocol.events import Block, CheckpointSaved, Metrics, StatusChanged, iso
from runs.protocol.nonfinite import split_nonfinite
from runs.protocol.states import group_of
from runs.recording import feed
from runs.series import storage
from runs.series.chunk_rows import points_of
from runs.series.float32 import exact_columns
from runs.series.packing.chunks import Points, join_points, make_points

START = 1_700_000_000.0
LOSS = "train/loss"

floats = st.floats(width=64) | st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])


def float32(value: float) -> float:
    """Return a number as a tensor holds it."""
    return array("f", [value])[0]


def metrics_event(blocks: Sequence[Block], attempt: int = 1) -> Metrics:
    """Return step metrics whose last point is that of the last block, which may be empty."""
    step, moment = (blocks[-1].steps or [0])[-1], (blocks[-1].times or [0.0])[-1]
    at = iso(datetime.fromtimestamp(moment, UTC))
    return Metrics(attempt=attempt, step=step, last_point_at=at, blocks=list(blocks))


def status_event(state: str, attempt: int = 1, **fields: Any) -> StatusChanged:
    known: dict[str, Any] = {
        "ranks": 1, "reason": "", "started_at": None, "ended_at": None, "trained_s": 0.0, "training_since": None,
        "total_epochs": None, "total_steps": None, "steps_per_epoch": None, "restarts": 0, "restarts_used": 0,
        "last_attempt": None, "offers": [], "not_looking_since": None,
    }  # fmt: skip
    return StatusChanged(state=state, group=group_of(state), attempt=attempt, **known | fields)


def checkpoint_event(step: int, attempt: int = 1, **fields: Any) -> CheckpointSaved:
    known: dict[str, Any] = {
        "id": step + 1, "epoch": 1, "created_at": "2026-03-01T12:00:00.000Z", "name": f"step-{step}",
        "size_bytes": 1, "sha256": "",
    }  # fmt: skip
    return CheckpointSaved(attempt=attempt, step=step, **known | fields)


def metrics(
    columns: dict[str, Sequence[float]], steps: Sequence[int], attempt: int = 1, interval_s: float = 0.02
) -> Metrics:
    values, nonfinite = {}, {}
    for name, column in columns.items():
        values[name], replaced = split_nonfinite(column)
        if replaced:
            nonfinite[name] = replaced
    block = Block(
        steps=list(steps), times=[START + step * interval_s for step in steps], values=values, nonfinite=nonfinite
    )
    return metrics_event([block], attempt)


def store(run: Run, values: Sequence[float], first: int = 0, attempt: int = 1, tick: int = 500) -> None:
    """Store `values` of the loss at the steps from `first`, `tick` points per event."""
    events = [
        metrics({LOSS: values[at : at + tick]}, range(first + at, first + min(at + tick, len(values))), attempt)
        for at in range(0, len(values), tick)
    ]
    with transaction.atomic():
        feed.append(run.pk, *events)
        storage.update_latest(run.pk, events)


def read_points(run_id: int, name: str) -> dict[int, Points]:
    """Return every point of a series by attempt, in the order of logging, superseded ones included."""
    parts: dict[int, list[Points]] = {}
    for (attempt, _lap), points in read_laps(run_id, name).items():
        parts.setdefault(attempt, []).append(points)
    return {attempt: join_points(pieces) for attempt, pieces in parts.items()}


def read_laps(run_id: int, name: str) -> dict[tuple[int, int], Points]:
    """Return every point of a series by attempt and lap, in the order of logging."""

    def read(seq: int) -> dict[tuple[int, int], list[Points]]:
        chunks = Chunk.objects.filter(series__run_id=run_id, series__name=name).order_by("attempt", "lap", "index")
        parts: dict[tuple[int, int], list[Points]] = {}
        for chunk in chunks.select_related("places").iterator(chunk_size=64):
            parts.setdefault((chunk.attempt, chunk.lap), []).append(points_of(chunk))
        for (attempt, lap, series), columns in storage.tail(run_id, seq).items():
            if series == name:
                parts.setdefault((attempt, lap), []).append(make_points(columns.steps, columns.times, columns.values))
        return parts

    _, parts = storage.read_settled(run_id, read)
    return {place: join_points(pieces) for place, pieces in sorted(parts.items())}


def store_folded(run: Run, name: str, points: Points, attempt: int = 1) -> None:
    """Store a series in its folded form at once, which is fast for any length."""
    series, _ = Series.objects.get_or_create(run=run, name=name, defaults={"axis": storage.axis_of(name)})
    storage.replace_points(run.pk, series.pk, attempt, {0: points})


def bits(values: Iterable[float]) -> list[int]:
    patterns: list[int] = np.asarray(list(values), np.float64).view(np.uint64).tolist()
    return patterns


def exact_column(block: dict[str, Any], name: str) -> list[float | None]:
    """Return a column of a block of a stored `metrics` event with the numbers that were logged."""
    return exact_columns(msgspec.convert(block, Block))[name]
