"""The picture of a curve in a message, drawn by matplotlib without a display."""

from __future__ import annotations

import io
import logging
import threading
from dataclasses import dataclass
from typing import Any

from runs.models import Alert, EpochMetric
from runs.series import charts

logger = logging.getLogger(__name__)

BUCKETS = 300
MOST_EPOCHS = 2000
# The axis is logarithmic if the largest value is this many times the smallest.
DECADES = 1e4
# 560 × 220 pixels at 100 dots per inch.
SIZE_IN = (5.6, 2.2)
LINE, BAND, MARK = "#1f6feb", "#a9c7f7", "#d1242f"
# Larger values would overflow in the arithmetic of drawing.
LARGEST = 1e300
# Threads share fonts and styles of matplotlib.
_drawing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG. `cid` is its name within a mail, `title` its description."""

    cid: str
    title: str
    png: bytes


def picture_of(alert: Alert) -> Picture | None:
    """Return the curve of the alert's series with a mark at its beginning; None if there is none, or drawing fails."""
    if not alert.series:
        return None
    try:
        _, found = charts.charts(alert.run_id, [alert.series], BUCKETS)
        chart = found.get(alert.series) or _of_epochs(alert)
        if not chart["steps"]:
            return None
        return Picture(f"curve-{alert.pk}@steersman", alert.series, _drawn(chart, alert.series, alert.step))
    except Exception:
        # The message is sent without its picture.
        logger.exception("alert %d: no picture", alert.pk)
        return None


def _of_epochs(alert: Alert) -> dict[str, Any]:
    """Return the chart of a value that is logged once per epoch, over the steps at which epochs end."""
    kept = EpochMetric.objects.filter(run_id=alert.run_id).counted().newest(MOST_EPOCHS)
    is_column = alert.series in EpochMetric.COLUMNS
    values = [(row.step, getattr(row, alert.series) if is_column else row.extra.get(alert.series)) for row in kept]
    known = [(step, value) for step, value in values if isinstance(value, (int, float))]
    return {
        "axis": "step",
        "raw": True,
        "steps": [step for step, _ in known],
        "values": [value for _, value in known],
    }


def _drawn(chart: dict[str, Any], title: str, step: int | None) -> bytes:
    # Imported here, because only the sending process needs it, and only for a message with a curve.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _drawing:
        figure = Figure(figsize=SIZE_IN, dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        by_time = chart["axis"] == "time"
        across = chart["times"] if by_time else chart["steps"]
        if by_time:
            across = [each - across[0] for each in across]
        if not chart["raw"]:
            axes.fill_between(across, _numbers(chart["min"]), _numbers(chart["max"]), color=BAND, linewidth=0)
        axes.plot(across, _numbers(chart["values" if chart["raw"] else "mean"]), color=LINE, linewidth=1.4)
        if step is not None and not by_time:
            axes.axvline(step, color=MARK, linewidth=1.2, linestyle="--")
        if spans_decades(chart["values"] if chart["raw"] else chart["min"] + chart["max"]):
            axes.set_yscale("log")
        # The name of a series may contain $, which would begin a formula.
        axes.set_title(title[:80].replace("$", r"\$"), fontsize=9, loc="left")
        axes.set_xlabel("s" if by_time else "step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        kept = io.BytesIO()
        canvas.print_png(kept, metadata={"Software": None})
    return kept.getvalue()


def spans_decades(values: list[float | None]) -> bool:
    """Return whether positive values differ so much that a linear axis would show only the largest."""
    known = [value for value in values if value is not None]
    return bool(known) and min(known) > 0 and max(known) > DECADES * min(known)


def _numbers(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else max(-LARGEST, min(LARGEST, value)) for value in values]
