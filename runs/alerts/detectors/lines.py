"""Points as lines of JSON: {"series", "step", "time", "value"}, and the errors of invalid lines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

from runs.alerts.detectors.points import Point

FIELDS = ("series", "step", "time", "value")
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
LONGEST_SHOWN = 60


class LineError(ValueError):
    """A line that is not a point. The text names the line, the field and what to write there."""


def points_of(lines: Iterable[str]) -> Iterator[Point]:
    """Yield the points of all lines that are not empty. Raises `LineError`."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield point_of(line, number)


def point_of(line: str, number: int) -> Point:
    """Return the point of line `number`. Raises `LineError`."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise LineError(f"line {number} is not JSON; write one object per line, such as {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise LineError(f"line {number} is not a JSON object; write {EXAMPLE}")
    for name in FIELDS:
        if name not in found:
            raise LineError(f"line {number}: {name} is missing; write {EXAMPLE}")
    series, step = found["series"], _number(found["step"])
    time, value = _number(found["time"]), _number(found["value"])
    if not isinstance(series, str) or not series:
        raise LineError(f"line {number}: series is {_shown(found['series'])}; write the series' name as text")
    if step is None or not math.isfinite(step) or step != int(step):
        raise LineError(f"line {number}: step is {_shown(found['step'])}; write a whole number")
    if time is None or not math.isfinite(time):
        raise LineError(f"line {number}: time is {_shown(found['time'])}; write seconds as a number")
    if value is None:
        raise LineError(f'line {number}: value is {_shown(found["value"])}; write a number, or "nan", "inf" or "-inf"')
    return Point(series, int(found["step"]), time, value)


EXAMPLE = '{"series": "train/loss", "step": 1, "time": 0.5, "value": 2.3}'


def _number(given: object) -> float | None:
    """Return a number, None for anything else; an integer beyond the range of floats is infinite."""
    if isinstance(given, str):
        return NOT_FINITE.get(given.strip().lower().removeprefix("+"))
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    try:
        return float(given)
    except OverflowError:
        return math.inf if given > 0 else -math.inf


def _shown(given: object) -> str:
    text = json.dumps(given)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"
