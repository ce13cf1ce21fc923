"""Columns of float32s, as tensors give them, written with few digits but exact.

A float32 that is written as a double has up to 17 digits; at most 9 of them distinguish it from every other float32. A
block can therefore declare that its numbers are float32s, and contain the shortest decimals that round to them. Pure
functions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import cast

import msgspec
import numpy as np

from runs.protocol.events import Block, Column

# The bytes of `,"float32":true`, and of `,"float64":` before a list.
MARK_BYTES, LIST_MARK_BYTES = 15, 11
# The first few values show whether a column has doubles.
LOOKED_AT_FIRST = 8


def with_few_digits(block: Block) -> Block:
    """Return `block` marked and with short decimals if that makes it smaller, otherwise the block itself.

    Its columns must be exact, as `exact_columns` returns them.
    """
    doubles = [name for name, column in block.values.items() if not _are_float32(_finite(column))]
    singles = [value for name, column in block.values.items() if name not in doubles for value in _finite(column)]
    if not singles:
        return block
    short = shortest(singles)
    saved = _size(singles) - _size(short)
    if saved <= MARK_BYTES + (LIST_MARK_BYTES + _size(doubles) if doubles else 0):
        return block
    following = iter(short)
    values = {
        name: column if name in doubles else [None if value is None else next(following) for value in column]
        for name, column in block.values.items()
    }
    return msgspec.structs.replace(block, values=values, float32=True, float64=doubles or msgspec.UNSET)


def exact_columns(block: Block) -> dict[str, Column]:
    """Return the columns of a block with the numbers that were logged."""
    if not block.float32:
        return block.values
    doubles = block.float64 or ()
    return {name: column if name in doubles else _rounded(column) for name, column in block.values.items()}


def extremes_of(block: Block) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest finite number of each column, as they were logged."""
    doubles = block.float64 or ()
    found = {}
    for name, column in block.values.items():
        if finite := _finite(column):
            low, high = min(finite), max(finite)
            # Rounding keeps the order, so two numbers of a column are enough.
            found[name] = _pair(array("f", (low, high))) if block.float32 and name not in doubles else (low, high)
    return found


def shortest(values: Iterable[float]) -> list[float]:
    """Return for each of the float32s `values` the double with the fewest digits that rounds to it."""
    # numpy writes a float32 with the fewest digits that distinguish it from its neighbours.
    exact = array("f", values)
    texts = map(str, np.frombuffer(exact, np.float32))
    short = msgspec.json.decode(f"[{','.join(texts)}]", type=list[float])
    # Readers round twice, to a double and then to a float32: 7.038531e-26 becomes the neighbouring float32.
    return [one if back == value else value for one, back, value in zip(short, array("f", short), exact, strict=True)]


def _size(values: list[float] | list[str]) -> int:
    return len(msgspec.json.encode(values))


def _are_float32(values: list[float]) -> bool:
    # A number beyond the range of float32 becomes infinite.
    first = values[:LOOKED_AT_FIRST]
    return array("f", first).tolist() == first and array("f", values).tolist() == values


def _finite(column: Column) -> list[float]:
    return [value for value in column if value is not None] if None in column else cast("list[float]", column)


def _pair(values: array[float]) -> tuple[float, float]:
    return values[0], values[1]


def _rounded(column: Column) -> Column:
    rounded = iter(array("f", _finite(column)).tolist())
    return [None if value is None else next(rounded) for value in column]
