"""Packed columns of numbers. Imports NumPy and zlib.

Whole numbers are stored as differences, or as distances from the lowest, in the narrowest type that holds them. If all
are equal, only the first is stored. Floats are stored as whole numbers if all are short decimals, as float32 if that is
exact to the bit, as float64 otherwise. Bytes of equal significance are stored together, as a plane. Planes that look
random are not compressed: zlib would only take time, and its code for the other planes would become worse. Values are
restored bit for bit, including NaN and infinities. A CRC-32 at the end detects damage.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64] | NDArray[np.float64]
Bytes = NDArray[np.uint8]

# The first byte of packed data. Other values are versions that this code cannot read.
FORMAT = 0xC2
_TYPES = ("<i1", "<i2", "<i4", "<i8", "<f4", "<f8", "|u1", "<u2", "<u4", "|V0")
_DIFFERENCES, _DISTANCES = range(4), range(6, 9)
_FLOAT32, _FLOAT64, _CONSTANT = 4, 5, 9
# The lower half of a code is the type; the upper half is 0, or 1 more than the number of decimals of a float.
_CODE_BITS = 4
_SUM = struct.Struct("<I")
# The CRC-32 of any data that is followed by its own CRC-32.
_SUM_OF_SUMMED = 0x2144DF1C
MOST_DECIMALS = 6
LARGEST_DECIMAL = 2**52
# The first few values of a column show whether its values are short decimals.
LOOKED_AT_FIRST = 16
# The compressed fraction of a plane by Huffman's code above which it is stored uncompressed.
RANDOM_FROM = 0.93
# The number of bytes of a plane below which that is not computed.
FEW = 1024
# Compressing fewer bytes would save little space, and make reading hundreds of such columns slower: up to TINY - 1
# numbers of any kind, and up to SHORT floats that look random.
TINY, SHORT = 16, 64
# The lowest and the highest number of each integer type.
_LIMITS = {code: (np.iinfo(_TYPES[code]).min, np.iinfo(_TYPES[code]).max) for code in (*_DIFFERENCES, *_DISTANCES)}
# With Z_FILTERED, level 4 uses no match that is longer than the Huffman code of its bytes.
LEVEL, WINDOW_BITS, MEMORY_LEVEL = 4, -15, 9


def pack_columns(columns: Sequence[Column]) -> bytes:
    """Return the packed columns, which must have the same length.

    The result is FORMAT, a code for each column, a mask of the plain planes of each, the first value of each, the plain
    planes, the other planes deflated, and the CRC-32 of everything.
    """
    codes, masks = bytearray((FORMAT,)), bytearray()
    firsts: list[int] = []
    plain: list[bytes] = []
    squeezed: list[bytes] = []
    for column in columns:
        code, first, stored = _narrow(column)
        width = stored.dtype.itemsize
        planes = stored.view(np.uint8).reshape(-1, width).T if width else np.empty((0, len(stored)), np.uint8)
        random = _random_planes(planes, column)
        codes.append(code)
        masks.append(sum(1 << place for place in random))
        firsts.append(first)
        for place, plane in enumerate(planes):
            (plain if place in random else squeezed).append(plane.tobytes())
    body = b"".join(squeezed)
    if body:
        # Where values are random, other matches than runs are rare, and the search for them takes most of the time.
        strategy = zlib.Z_RLE if any(masks) else zlib.Z_FILTERED
        deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW_BITS, MEMORY_LEVEL, strategy)
        body = deflate.compress(body) + deflate.flush()
    packed = b"".join((codes, masks, np.asarray(firsts, "<i8").tobytes(), *plain, body))
    return packed + _SUM.pack(zlib.crc32(packed))


def unpack_columns(packed: Sequence[bytes], columns: int, counts: Sequence[int]) -> list[NDArray[Any]]:
    """Return the columns of all of `packed`, joined in order.

    Those with the same types and length are unpacked together, because a chart reads hundreds, and each would cost a
    dozen calls of NumPy. Raises `ValueError` if data is damaged, or was packed by another version.
    """
    head = 1 + 2 * columns
    forms = [(data[:head], count) for data, count in zip(packed, counts, strict=True)]
    distinct = set(forms)
    if set(map(zlib.crc32, packed)) - {_SUM_OF_SUMMED} or any(form[0] != FORMAT for form, _ in distinct):
        raise ValueError(
            "stored points cannot be read: they are damaged, or were written by another version of Steersman"
        )
    if len(distinct) == 1:
        return [column.ravel() for column in _unpack_alike(packed, *forms[0])]
    alike: dict[tuple[bytes, int], list[int]] = {}
    for place, each in enumerate(forms):
        alike.setdefault(each, []).append(place)
    ends = np.cumsum(counts, dtype=np.intp)
    joined: list[NDArray[Any]] = [np.zeros(0)] * columns
    for (form, count), places in alike.items():
        found = _unpack_alike([packed[place] for place in places], form, count)
        target: slice | NDArray[np.intp] = slice(ends[places[0]] - count, ends[places[-1]])
        if places[-1] - places[0] >= len(places):
            target = (ends[places, None] - count + np.arange(count)).ravel()
        for number, column in enumerate(found):
            if not len(joined[number]) or (column.dtype.kind == "f" and joined[number].dtype.kind != "f"):
                joined[number] = np.zeros(int(ends[-1]), column.dtype)
            joined[number][target] = column.ravel()
    return joined


def _unpack_alike(packed: Sequence[bytes], form: bytes, count: int) -> list[NDArray[Any]]:
    """Return the columns of data with the same length, types and plain planes (its `form`): a row for each."""
    columns = len(form) // 2
    codes, masks = form[1 : 1 + columns], form[1 + columns :]
    number, firsts_at, plain_at = len(packed), 1 + 2 * len(codes), 1 + 10 * len(codes)
    widths = [np.dtype(_TYPES[code & 15]).itemsize for code in codes]
    body_at = plain_at + count * sum(mask.bit_count() for mask in masks)
    even = np.frombuffer(b"".join([each[:body_at] for each in packed]), np.uint8).reshape(number, body_at)
    firsts = np.ascontiguousarray(even[:, firsts_at:plain_at]).view("<i8")
    plain = iter(even[:, plain_at:].reshape(number, -1, count).swapaxes(0, 1) if body_at > plain_at else ())
    squeezed: Iterator[Bytes] = iter(())
    if body_at - plain_at < count * sum(widths):
        bodies = b"".join([zlib.decompress(memoryview(each)[body_at : -_SUM.size], WINDOW_BITS) for each in packed])
        squeezed = iter(np.frombuffer(bodies, np.uint8).reshape(number, -1, count).swapaxes(0, 1))
    found = []
    for column, (code, mask, width) in enumerate(zip(codes, masks, widths, strict=True)):
        stored = np.empty((number, count, width), np.uint8)
        for place in range(width):
            stored[:, :, place] = next(plain if mask >> place & 1 else squeezed)
        numbers = stored.view(_TYPES[code & 15]).reshape(number, count) if width else stored
        found.append(_widen(numbers, code, firsts[:, column]))
    return found


def _widen(stored: NDArray[Any], code: int, firsts: NDArray[np.int64]) -> NDArray[Any]:
    """Return the numbers of a column as they were packed, one row per first value."""
    kind, decimals = code & 15, (code >> _CODE_BITS) - 1
    if kind in (_FLOAT32, _FLOAT64):
        return stored.astype(np.float64)
    if kind == _CONSTANT:
        whole = np.repeat(firsts[:, None], stored.shape[1], axis=1)
    else:
        whole = np.cumsum(stored, axis=1, dtype=np.int64) if kind in _DIFFERENCES else stored.astype(np.int64)
        # The first difference is 0, so the first number is added to all.
        whole += firsts[:, None]
    return whole if decimals < 0 else whole / 10.0**decimals


def _narrow(column: Column) -> tuple[int, int, NDArray[Any]]:
    """Return the code, the first value and the column in the narrowest type that restores it exactly."""
    if column.dtype.kind != "f":
        return _narrow_whole(column.astype(np.int64, copy=False), distances=False)
    return _narrow_floats(column.astype(np.float64, copy=False))


def _narrow_floats(column: NDArray[np.float64]) -> tuple[int, int, NDArray[Any]]:
    code = _FLOAT32 if is_float32(column) else _FLOAT64
    decimals = _decimals(column)
    if decimals is not None:
        whole = np.rint(column * 10.0**decimals).astype(np.int64)
        kind, first, stored = _narrow_whole(whole, distances=True)
        if stored.dtype.itemsize < np.dtype(_TYPES[code]).itemsize:
            return kind | (decimals + 1) << _CODE_BITS, first, stored
    with np.errstate(over="ignore", invalid="ignore"):
        return code, 0, np.ascontiguousarray(column, _TYPES[code])


def _narrow_whole(column: NDArray[np.int64], *, distances: bool) -> tuple[int, int, NDArray[Any]]:
    """Return the code, the first value, and the differences of `column` or, if allowed and as narrow, its distances."""
    if not len(column):
        return 0, 0, np.zeros(0, _TYPES[0])
    if (column == column[0]).all():
        return _CONSTANT, int(column[0]), np.zeros(len(column), _TYPES[_CONSTANT])
    # The difference overflows if steps are more than 2**63 apart, and cumsum reverses that.
    differences = np.zeros_like(column)
    np.subtract(column[1:], column[:-1], out=differences[1:])
    code = _fitting(differences, _DIFFERENCES) or 0
    if distances:
        lowest = int(column.min())
        apart = column - lowest
        other = _fitting(apart, _DISTANCES)
        if other is not None and np.dtype(_TYPES[other]).itemsize <= np.dtype(_TYPES[code]).itemsize:
            return other, lowest, apart.astype(_TYPES[other])
    return code, int(column[0]), differences.astype(_TYPES[code])


def _fitting(column: NDArray[np.int64], codes: range) -> int | None:
    """Return the code of the narrowest type that holds the column, None if no type does."""
    lowest, highest = int(column.min()), int(column.max())
    return next((code for code in codes if _LIMITS[code][0] <= lowest and highest <= _LIMITS[code][1]), None)


def _decimals(column: NDArray[np.float64]) -> int | None:
    """Return the maximum number of decimals of the values, None if one of them is no short decimal, or is -0.0."""
    # Values with fewer decimals also fit the largest number of decimals, so this test alone excludes most float
    # columns.
    if not len(column) or not _have_decimals(column[:LOOKED_AT_FIRST], MOST_DECIMALS):
        return None
    for decimals in range(MOST_DECIMALS + 1):
        if _have_decimals(column[:LOOKED_AT_FIRST], decimals) and _have_decimals(column, decimals):
            return decimals
    return None


def _have_decimals(column: NDArray[np.float64], decimals: int) -> bool:
    scale = 10.0**decimals
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.rint(column * scale)
        is_small = bool((np.abs(whole) < LARGEST_DECIMAL).all())
        # Adding 0.0 turns -0.0 into 0.0, which then differs from the column.
        return is_small and _are_equal(whole / scale + 0.0, column)


def _are_equal(one: NDArray[Any], two: NDArray[Any]) -> bool:
    """Return whether two columns of float64 are equal to the bit."""
    return bool((one.view(np.uint64) == two.view(np.uint64)).all())


def _random_planes(planes: Bytes, column: Column) -> list[int]:
    """Return the indices of the planes that zlib would not shrink."""
    width, count = planes.shape
    if count < TINY:
        return list(range(width))
    if count < FEW:
        # Too few values to decide for each plane, and columns of the same form are unpacked together.
        varied = column.dtype.kind == "f" and width >= 4 and 2 * len(set(planes[0].tobytes())) > count
        return list(range(width if count <= SHORT else width - 2)) if varied else []
    random = [place for place, plane in enumerate(planes) if _entropy(plane) > RANDOM_FROM * np.log2(min(count, 256))]
    # If values repeat, as in a cycle of learning rates, zlib compresses them.
    if random and 2 * len(np.unique(column)) <= count:
        return []
    return random


def _entropy(plane: Bytes) -> float:
    """Return the entropy of the plane in bits per byte."""
    times = np.bincount(plane)
    return float(np.log2(len(plane)) - np.dot(times, np.log2(np.maximum(times, 1))) / len(plane))


def is_float32(column: NDArray[np.float64]) -> bool:
    """Return whether every value is exactly a float32, to the bit."""
    with np.errstate(over="ignore", invalid="ignore"):
        return all(
            _are_equal(part.astype(np.float32).astype(np.float64), part) for part in (column[:LOOKED_AT_FIRST], column)
        )
