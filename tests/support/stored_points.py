"""Points of a loss as a supervisor would store them, and what tests compare them by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from django.db import transaction
from hypothesis import strategies as st

from runs.models import Run
from runs.protocol.events import Block, Metrics, split_nonfinite
from runs.recording import feed
from runs.series import storage

START = 1_700_000_000.0
LOSS = "train/loss"

floats = st.floats(width=64) | st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5e-324])


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
    return Metrics(attempt=attempt, blocks=[block])


def store(run: Run, values: Sequence[float], first: int = 0, attempt: int = 1, tick: int = 500) -> None:
    """Store `values` of the loss at the steps from `first`, `tick` points an event."""
    events = [
        metrics({LOSS: values[at : at + tick]}, range(first + at, first + min(at + tick, len(values))), attempt)
        for at in range(0, len(values), tick)
    ]
    with transaction.atomic():
        feed.append(run.pk, *events)
        storage.update_latest(run.pk, events)


def bits(values: Iterable[float]) -> list[int]:
    patterns: list[int] = np.asarray(list(values), np.float64).view(np.uint64).tolist()
    return patterns
