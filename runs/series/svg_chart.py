"""Line charts as SVG, drawn on the server for static pages such as the admin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from unicodedata import east_asian_width

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 34, 44
TICKS = 5
# Beyond these, computing positions would overflow; values are drawn at the bound.
LARGEST, SMALLEST_EXTENT = 1e300, 1e-300
# Distinguishable with red-green colour blindness, on white and on near-black.
COLOURS = ("#3b82f6", "#f59e0b", "#14b8a6", "#ec4899", "#8b5cf6", "#84cc16")

_POLYLINE = '<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8"/>'

Pair = tuple[float, float | None]


def svg_chart(
    columns: Mapping[str, Mapping[str, Any]],
    title: str,
    width: int = WIDTH,
    height: int = HEIGHT,
    axis_label: str = "",
    marks: Sequence[float] = (),
) -> SafeString:
    """Return an SVG line chart of `columns`, charts of `runs.series.charts.charts` by label, over one shared axis.

    Bucketed charts are drawn as their mean with a band from minimum to maximum. Values that are not finite break the
    line and are marked at the bottom. The legend has the minimum and maximum of each line. `marks` are places on the
    axis with a vertical line.
    """
    drawn = {label: chart for label, chart in columns.items() if chart["steps"]}
    bounds = [value for chart in drawn.values() for value in (*_low(chart), *_high(chart)) if value is not None]
    if not bounds:
        return format_html('<p class="cx-empty">{}</p>', _("No values yet."))
    x_values = [x for chart in drawn.values() for x in (_x(chart)[0], _x(chart)[-1])]
    frame = _Frame(width, height, (min(x_values), max(x_values)), _widened(min(bounds), max(bounds)))
    by_time = any(chart["axis"] == "time" for chart in drawn.values())
    lines = [
        _line(frame, chart, label, COLOURS[place % len(COLOURS)]) for place, (label, chart) in enumerate(drawn.items())
    ]
    return format_html(
        '<svg class="cx-chart" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="xMidYMid meet">'
        "<title>{}</title>{}{}{}{}</svg>",
        f"{title}: {'; '.join(_summary(label, chart) for label, chart in drawn.items())}",
        width,
        height,
        title,
        _axes(frame, by_time, axis_label),
        _marks(frame, marks),
        _join(lines),
        _legend(drawn),
    )


def columns_of(steps: Sequence[int], columns: Mapping[str, Sequence[float | None]]) -> dict[str, dict[str, Any]]:
    """Return charts by label of columns with the same steps; a value that is None breaks the line."""
    return {
        label: {"axis": "step", "raw": True, "steps": list(steps), "times": [], "values": list(values), "nonfinite": []}
        for label, values in columns.items()
        if any(value is not None for value in values)
    }


class _Frame:
    """Converts values into positions in the picture."""

    def __init__(self, width: int, height: int, across: tuple[float, float], up: tuple[float, float]) -> None:
        self.left, self.right = LEFT, width - RIGHT
        self.top, self.bottom = TOP, height - BOTTOM
        self.across, self.up = across, up

    def x(self, value: float) -> float:
        low, high = self.across
        fraction = (value - low) / (high - low) if high > low else 0.5
        return round(self.left + fraction * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        low, high = self.up
        fraction = (_drawable(value) - low) / (high - low)
        return round(self.bottom - fraction * (self.bottom - self.top), 1)


def _line(frame: _Frame, chart: Mapping[str, Any], label: str, colour: str) -> SafeString:
    values = chart["values"] if chart["raw"] else chart["mean"]
    points = list(zip(_x(chart), values, strict=True))
    parts = [_band(frame, chart, colour)] if not chart["raw"] else []
    for piece in _pieces(points):
        if len(piece) == 1:
            (x, y), = piece  # fmt: skip
            parts.append(format_html('<circle cx="{}" cy="{}" r="2.5" fill="{}"/>', frame.x(x), frame.y(y), colour))
        else:
            path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in piece)
            parts.append(format_html(_POLYLINE, path, colour))
    for place, kind in chart["nonfinite"]:
        parts.append(
            format_html(
                '<path d="M{0} {1}l6 6m0 -6l-6 6" stroke="#ef4444" stroke-width="1.6" class="cx-nonfinite">'
                "<title>{2}: {3} · {4}</title></path>",
                round(frame.x(_x(chart)[place]) - 3, 1),
                frame.bottom - 8,
                label,
                kind,
                _number(_x(chart)[place]),
            )
        )
    return _join(parts)


def _band(frame: _Frame, chart: Mapping[str, Any], colour: str) -> SafeString:
    low = [(x, y) for x, y in zip(_x(chart), chart["min"], strict=True) if y is not None]
    high = [(x, y) for x, y in zip(_x(chart), chart["max"], strict=True) if y is not None]
    outline = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in [*low, *reversed(high)])
    return format_html('<polygon points="{}" fill="{}" fill-opacity="0.18"/>', outline, colour)


def _axes(frame: _Frame, by_time: bool, axis_label: str) -> SafeString:
    parts = []
    for value in ticks(*frame.up):
        parts.append(
            format_html(
                '<line class="cx-grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
                '<text class="cx-tick" x="{3}" y="{4}" text-anchor="end">{5}</text>',
                frame.left,
                frame.right,
                frame.y(value),
                frame.left - 8,
                frame.y(value) + 4,
                _number(value),
            )
        )
    for value in ticks(*frame.across):
        if not by_time and value != int(value):
            continue
        text = datetime.fromtimestamp(value, UTC).strftime("%H:%M:%S") if by_time else _number(value)
        parts.append(
            format_html(
                '<text class="cx-tick" x="{}" y="{}" text-anchor="middle">{}</text>',
                frame.x(value),
                frame.bottom + 18,
                text,
            )
        )
    parts.append(
        format_html(
            '<line class="cx-axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
            '<text class="cx-tick" x="{3}" y="{4}" text-anchor="middle">{5}</text>',
            frame.left,
            frame.right,
            frame.bottom,
            (frame.left + frame.right) / 2,
            frame.bottom + 36,
            axis_label,
        )
    )
    return _join(parts)


def _marks(frame: _Frame, marks: Sequence[float]) -> SafeString:
    low, high = frame.across
    return _join(
        format_html(
            '<line class="cx-mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}" stroke="#ef4444" stroke-width="1.4" '
            'stroke-dasharray="4 3"><title>{3}</title></line>',
            # A bucket is drawn at its last step, so the first mark may come before the first bucket.
            frame.x(max(low, min(high, mark))),
            frame.top,
            frame.bottom,
            _number(mark),
        )
        for mark in marks
    )


def _legend(drawn: Mapping[str, Mapping[str, Any]]) -> SafeString:
    parts, x = [], LEFT
    for place, (label, chart) in enumerate(drawn.items()):
        text = _summary(label, chart)
        parts.append(
            format_html(
                '<rect x="{}" y="9" width="14" height="4" rx="2" fill="{}"/>'
                '<text class="cx-legend" x="{}" y="15">{}</text>',
                x,
                COLOURS[place % len(COLOURS)],
                x + 20,
                text,
            )
        )
        x += 40 + round(_width(text))
    return _join(parts)


def _width(text: str) -> float:
    """Return the approximate width of a legend in units of the picture; Chinese characters are twice as wide as
    letters.
    """
    return sum(12.0 if east_asian_width(character) in "WF" else 6.2 for character in text)


def _summary(label: str, chart: Mapping[str, Any]) -> str:
    lowest = min((value for value in _low(chart) if value is not None), default=None)
    highest = max((value for value in _high(chart) if value is not None), default=None)
    if lowest is None or highest is None:
        return label
    return _("%(label)s %(low)s to %(high)s") % {
        "label": label, "low": _number(lowest), "high": _number(highest),
    }  # fmt: skip


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`."""
    if not high > low:
        return [low]
    rough = (high - low) / TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [place * step for place in range(first, first + 2 * TICKS + 2)]
    return [value for value in found if value <= high + step * 1e-9]


def _pieces(points: Iterable[Pair]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is not None:
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _x(chart: Mapping[str, Any]) -> Sequence[float]:
    column: Sequence[float] = chart["times"] if chart["axis"] == "time" else chart["steps"]
    return column


def _low(chart: Mapping[str, Any]) -> Sequence[float | None]:
    column: Sequence[float | None] = chart["values"] if chart["raw"] else chart["min"]
    return column


def _high(chart: Mapping[str, Any]) -> Sequence[float | None]:
    column: Sequence[float | None] = chart["values"] if chart["raw"] else chart["max"]
    return column


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return bounds for drawing a line, even if all values are equal."""
    low, high = _drawable(low), _drawable(high)
    if high - low > SMALLEST_EXTENT:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _drawable(value: float) -> float:
    return max(-LARGEST, min(LARGEST, value))


def _number(value: float) -> str:
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.3g}"


def _join(parts: Iterable[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))
