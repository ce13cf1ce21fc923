"""The numbers of charts in binary columns, as a browser reads them into typed arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

MILLI = 1000.0
INT32 = np.iinfo(np.int32)
UINT32 = np.iinfo(np.uint32)
FLOAT32 = np.finfo(np.float32)
# How a column is encoded: float64, or in 4 bytes per row.
WIDE, FLOAT, COUNT, DIFFERENCES, MILLI_DIFFERENCES = "wide", "float", "count", "differences", "milli_differences"

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Starts = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Packed:
    """The columns with one name, one after another: in 4 bytes per row, and which of the columns fit into that."""

    kind: str
    narrow: NDArray[Any]
    fits: Flags
    # The first value of each column in `narrow`, if the others are differences.
    firsts: list[float] | None = None


def pack_columns(charts: Sequence[dict[str, Any]]) -> tuple[int, bytes]:
    """Replace the columns of charts by their places; return the number of rows with 8 bytes, and all columns.

    A column becomes `[kind, place, rows, first]`, without `first` unless it has differences; an empty column stays.
    Columns of the kind `wide` are float64 and come first. The others have 4 bytes per row: `float` (float32), `count`
    (uint32), and the int32 `differences` of each row from the one before, beginning with `first`; `milli_differences`
    are in thousandths. `place` counts the rows before the column among those of its width. Null is NaN. All numbers are
    little-endian.
    """
    wide: list[NDArray[Any]] = []
    narrow: list[NDArray[Any]] = []
    wide_rows = narrow_rows = 0
    for name, pack in COLUMNS.items():
        owners = [chart for chart in charts if chart.get(name)]
        if not owners:
            continue
        lengths = [len(chart[name]) for chart in owners]
        numbers = np.array(list(chain.from_iterable(chart[name] for chart in owners)), np.float64)
        starts = np.array([0, *accumulate(lengths)][:-1])
        packed = pack(numbers, starts)
        for index, (chart, start, rows) in enumerate(zip(owners, starts.tolist(), lengths, strict=True)):
            part = slice(start, start + rows)
            if packed.fits[index]:
                first = [] if packed.firsts is None else [packed.firsts[index]]
                chart[name] = [packed.kind, narrow_rows, rows, *first]
                narrow.append(packed.narrow[part])
                narrow_rows += rows
            else:
                chart[name] = [WIDE, wide_rows, rows]
                wide.append(numbers[part])
                wide_rows += rows
    columns = (column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes() for column in [*wide, *narrow])
    return wide_rows, b"".join(columns)


def _steps(numbers: Floats, starts: Starts) -> _Packed:
    return _differences(DIFFERENCES, numbers, starts, numbers == np.rint(numbers))


def _times(numbers: Floats, starts: Starts) -> _Packed:
    milli = np.rint(numbers * MILLI)
    return _differences(MILLI_DIFFERENCES, milli, starts, milli / MILLI == numbers)


def _counts(numbers: Floats, starts: Starts) -> _Packed:
    fits = numbers <= UINT32.max
    return _Packed(COUNT, np.where(fits, numbers, 0).astype(np.uint32), _all(fits, starts))


def _logged(numbers: Floats, starts: Starts) -> _Packed:
    """Pack values as they were logged: without loss."""
    narrow = _as_float32(numbers)
    return _Packed(FLOAT, narrow, _all((narrow == numbers) | np.isnan(numbers), starts))


def _merged(numbers: Floats, starts: Starts) -> _Packed:
    """Pack values of merged points, which have the precision of float32 in JSON too."""
    size = np.abs(numbers)
    fits = np.isnan(numbers) | (size == 0) | ((size >= FLOAT32.tiny) & (size <= FLOAT32.max))
    return _Packed(FLOAT, _as_float32(numbers), _all(fits, starts))


def _as_float32(numbers: Floats) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32)


def _differences(kind: str, numbers: Floats, starts: Starts, exact: Flags) -> _Packed:
    found = np.diff(numbers, prepend=numbers[0])
    found[starts] = 0
    fits = _all(exact & (np.abs(found) <= INT32.max), starts)
    return _Packed(
        kind, np.where(np.abs(found) <= INT32.max, found, 0).astype(np.int32), fits, numbers[starts].tolist()
    )


def _all(flags: Flags, starts: Starts) -> Flags:
    """Return whether each column, which begin at `starts`, has only true flags."""
    return np.logical_and.reduceat(flags, starts)


COLUMNS: dict[str, Callable[[Floats, Starts], _Packed]] = {
    "steps": _steps,
    "first_steps": _steps,
    "times": _times,
    "counts": _counts,
    "values": _logged,
    "min": _merged,
    "max": _merged,
    "mean": _merged,
}
