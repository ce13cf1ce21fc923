"""Small curves of the loss in the rows of the list, as lines of SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from runs.models import Axis, Run
from runs.series.chunk_queries import SeriesHead
from runs.series.many_runs import outlines_of

# A point for each two pixels.
POINTS = 36
# Units of the picture, in which a line has room for its width.
WIDTH, HEIGHT, MARGIN = 72.0, 20.0, 1.5


def sparks_of(runs: Sequence[Run]) -> dict[int, list[str]]:
    """Return by run the lines of its loss, as SVG takes the points of a polyline. The same few queries for any number.

    `runs` are those that `rows.with_loss` annotated. A value that is not finite breaks the line.
    """
    heads = {run.pk: head for run in runs if (head := _loss_of(run))}
    if not heads:
        return {}
    # The newest points of a live run are not folded yet, and those of a short run perhaps none.
    with_newest = [run.pk for run in runs if run.pk in heads and (run.is_live or not run.replay_from)]
    outlines = outlines_of(heads, with_newest, POINTS)
    lines = {pk: lines_of(rows.last_steps.tolist(), rows.mean.tolist()) for pk, rows in outlines.items()}
    return {run: lines[head.pk] for run, head in heads.items() if lines.get(head.pk)}


def _loss_of(run: Run) -> SeriesHead | None:
    pk, name = getattr(run, "loss_series", None), getattr(run, "loss_name", None)
    return None if pk is None or name is None else SeriesHead(pk, name, str(Axis.STEP))


def lines_of(steps: Sequence[float], values: Sequence[float]) -> list[str]:
    """Return the points of the lines through `values`, as wide and as high as the picture; none of a single value."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return []
    low, high = min(finite), max(finite)
    # So that the difference of two values does not overflow.
    across, up = (steps[-1] - steps[0]) or 1, (high / 2 - low / 2) or 1.0
    lines = []
    for is_finite, piece in groupby(zip(steps, values, strict=True), key=lambda point: math.isfinite(point[1])):
        if is_finite:
            lines.append(
                " ".join(
                    f"{_place((step - steps[0]) / across, WIDTH)},{_place((high / 2 - value / 2) / up, HEIGHT)}"
                    for step, value in piece
                )
            )
    return lines


def _place(share: float, length: float) -> str:
    return f"{MARGIN + share * (length - 2 * MARGIN):.1f}"
