"""Converts values of a training to values that can be stored: the table of docs/values.md as functions.

A value that cannot be stored unchanged is replaced by the nearest valid value, or left out, with a remark for the
training's log that names the argument: a logged value must not end the training. Standard library only: NumPy and torch
values are read through their methods (`item`, `detach`, `dtype`), so neither is imported.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

from steersman.values.fields import fields_of
from steersman.values.remarks import Remark, Remarks

SMALLEST_INT = -(2**63)
LARGEST_STORED_INT = 2**63 - 1
LONGEST_NAME = 200
LONGEST_TEXT = 10_000
LONGEST_NOTE = 2_000
# Bounds of a value of any shape, such as an environment or the result of a command: depth, number of parts, and the
# total length of its texts in characters.
DEEPEST = 12
MOST_PARTS = 5_000
LONGEST_TEXTS = 100_000
UNNAMED = "unnamed"


def shown(value: object) -> str:
    """Return a short text of any value for a sentence."""
    try:
        text = reprlib.repr(value)
    except Exception:  # of the value's own __repr__
        text = f"a value of type {type(value).__name__}"
    return clean(text)[:80]


def clean(text: str) -> str:
    """Return `text` with U+FFFD instead of NUL and lone surrogates, which databases refuse."""
    text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        # Two adjacent surrogates form one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def as_text(value: object, longest: int) -> str:
    """Return the text of any value, at most `longest` characters."""
    try:
        if isinstance(value, (bytes, bytearray)):
            text = bytes(value[: longest * 4]).decode(errors="replace")
        else:
            text = str(value)
    except Exception:  # of the value's own __str__
        text = f"a value of type {type(value).__name__} that has no text"
    return clean(str.__getitem__(text, slice(longest)))


def first_line(error: BaseException, longest: int = 300) -> str:
    """Return the first line of the text of an error, at most `longest` characters of it."""
    return (as_text(error, LONGEST_TEXT).strip().splitlines() or [""])[0][:longest]


def as_error(kind: type[BaseException], error: BaseException, longest: int) -> str:
    """Return name and first line of an exception; the traceback has notes and further lines."""
    is_plain = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    try:
        said = str(error).strip().splitlines()
    except Exception:  # of the exception's own __str__
        said = []
    return clean((f"{name}: {said[0]}" if said else name)[:longest])


def as_name(given: object, remarks: Remarks) -> str:
    """Return a name of 1 to LONGEST_NAME characters. A changed name ends with a hash of the original one."""
    # The text itself, not that of a str enumeration, so that `log` finds both under one name.
    text = str.__str__(given) if isinstance(given, str) else as_text(given, LONGEST_TEXT)
    cleaned = clean(text) or UNNAMED
    if cleaned == text and len(text) <= LONGEST_NAME:
        return cleaned
    mark = "~" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    name = cleaned[: LONGEST_NAME - len(mark)] + mark
    if len(cleaned) > LONGEST_NAME:
        why = f"has {len(text)} characters, but at most {LONGEST_NAME} can be stored"
    else:
        why = "holds characters that cannot be stored" if text else "is empty"
    remarks.append(f"The name {shown(given)} {why}: it is stored as {shown(name)}.")
    return name


def as_number(value: Any, argument: str, remarks: Remarks) -> float:
    """Return one number as a float, which may be infinite or NaN. Raises `TypeError` with the name `argument`."""
    if type(value) is float:
        return value
    try:
        plain = _as_real(value)
        try:
            return float(plain)
        except OverflowError:
            told = f"{argument}: {_size(plain)} is too large for a 64-bit number; infinity is stored."
            remarks.append(Remark.about(argument, told))
            return math.inf if plain > 0 else -math.inf
    except Exception as error:  # of the value's own conversion
        raise TypeError(f"{argument} takes one number, or a value with one element, not {shown(value)}") from error


def as_whole(value: Any, argument: str) -> int:
    """Return a whole number of any size. Raises `TypeError` with the name `argument`."""
    if type(value) is int:
        return value
    try:
        plain = _as_real(value)
        whole = int(plain)
        if whole != plain:
            raise ValueError("a fraction")
    except Exception as error:  # of the value's own conversion
        raise TypeError(f"{argument} takes a whole number, not {shown(value)}") from error
    return whole


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of any size."""
    try:
        as_whole(value, "")
    except TypeError:
        return False
    return True


def as_step(value: Any, present: int, argument: str, remarks: Remarks) -> int:
    """Return the step of a call; if it is missing or cannot be stored, the `present` one."""
    if value is None:
        return present
    whole = as_stored_whole(value, argument, remarks)
    return present if whole is None else whole


def fits(whole: int) -> bool:
    """Return whether a whole number fits into 64 bits."""
    return SMALLEST_INT <= whole <= LARGEST_STORED_INT


def as_stored_whole(value: Any, argument: str, remarks: Remarks, what: str = "it was") -> int | None:
    """Return a whole number of 64 bits; otherwise None, with a remark that `what` left out."""
    try:
        whole = as_whole(value, argument)
    except TypeError as error:
        remarks.append(Remark.about(argument, f"{error}: {what} left out."))
        return None
    if fits(whole):
        return whole
    told = f"{argument} takes a number of at most 64 bits, not {_size(whole)}: {what} left out."
    remarks.append(Remark.about(argument, told))
    return None


def as_total(value: Any, argument: str, remarks: Remarks) -> int | None:
    """Return a total, rounded up; None, which means open-ended, if it is below 1 or infinite."""
    if value is None:
        return None
    total = _number_or_none(value, argument, remarks)
    if total is None:
        return None
    if not math.isfinite(total) or total < 1:
        if total > 1:
            # A dataset without a length has infinity, so there is nothing to report.
            return None
        if total not in (0, -1):
            told = f"{argument}: {shown(value)} is not a number of at least 1; it is treated as open-ended."
            remarks.append(Remark.about(argument, told))
        return None
    whole = math.ceil(total) if total != int(total) or total < 2**53 else as_whole(value, argument)
    if whole > LARGEST_STORED_INT:
        told = f"{argument}: {_size(whole)} does not fit into 64 bits; it is treated as open-ended."
        remarks.append(Remark.about(argument, told))
        return None
    return whole


def as_seconds(value: Any, argument: str, remarks: Remarks) -> float | None:
    """Return a time in seconds, also from a `timedelta`; None if it is negative or not finite."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else _number_or_none(value, argument, remarks)
    if seconds is None:
        return None
    if math.isfinite(seconds) and seconds >= 0:
        return float(seconds)
    remarks.append(Remark.about(argument, f"{argument}: {shown(value)} is not a time in seconds; it was left out."))
    return None


def as_flag(value: Any) -> bool:
    """Return a truth value, also from NumPy or torch; see `is_flag`."""
    return bool(_plain(value))


def is_flag(value: Any) -> bool:
    """Return whether a value is True or False, in Python, NumPy or torch."""
    try:
        return isinstance(_plain(value), bool) or value is None
    except Exception:  # of the value's own conversion
        return False


def as_numbers(values: Mapping[Any, Any], call: str, remarks: Remarks) -> dict[str, float]:
    """Return named numbers; other values are left out with a remark."""
    numbers = {}
    for name, value in as_mapping(values, call, remarks).items():
        number = _number_or_none(value, argument(call, name), remarks)
        if number is not None:
            numbers[as_name(name, remarks)] = number
    return numbers


def as_mapping(values: Any, call: str, remarks: Remarks) -> dict[Any, Any]:
    """Return the items of a mapping; none, with a remark, if it is not a mapping or cannot be read."""
    try:
        if is_mapping(values):
            return dict(values)
        told = f"{call} takes numbers by name, not {shown(values)}"
    except Exception as error:  # of the mapping's own methods
        told = f"the mapping given to {call} cannot be read ({shown(error)})"
    remarks.append(Remark.about(call, f"{told}: they were left out."))
    return {}


def _number_or_none(value: Any, argument: str, remarks: Remarks) -> float | None:
    try:
        return as_number(value, argument, remarks)
    except TypeError as error:
        remarks.append(Remark.about(argument, f"{error}: it was left out."))
        return None


def as_values(value: Any) -> Any:
    """Return a value of any shape as a JSON value, within the bounds above.

    Dataclasses, namespaces and named tuples become dictionaries. Values that JSON cannot represent become text, numbers
    that are not finite their names, keys text.
    """
    return _Values().of(value, 0)


class _Values:
    """One value of any shape, and the remaining budget for its parts."""

    def __init__(self) -> None:
        self._parts = MOST_PARTS
        self._characters = LONGEST_TEXTS

    def of(self, value: Any, depth: int) -> Any:
        self._parts -= 1
        if self._parts < 0 or depth > DEEPEST:
            return "…"
        try:
            if (fields := fields_of(value)) is not None:
                return self._mapping(fields, depth)
            if isinstance(value, (list, tuple, set, frozenset)):
                return self._list(value, depth)
            return self._single(_plain(value))
        except Exception:  # of the value's own methods
            return self._text(value)

    def _mapping(self, given: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        """Return the readable entries of a mapping: an entry that raises an exception is left out alone."""
        kept: dict[str, Any] = {}
        for name in _readable(given):
            if self._parts < 0:
                break
            try:
                value = given[name]
            except Exception as error:  # any exception: a configuration may have entries without a value
                value = f"could not be read: {type(error).__name__}"
            kept[self._text(name)] = self.of(value, depth + 1)
        return kept

    def _list(self, given: Any, depth: int) -> list[Any]:
        kept: list[Any] = []
        for value in _readable(given):
            if self._parts < 0:
                break
            kept.append(self.of(value, depth + 1))
        return kept

    def _single(self, plain: Any) -> Any:
        if plain is None or isinstance(plain, bool):
            return plain
        if isinstance(plain, int):
            return int(plain) if fits(plain) else self._text(_size(plain))
        if isinstance(plain, float):
            return float(plain) if math.isfinite(plain) else self._text(float(plain))
        return self._text(plain)

    def _text(self, value: Any) -> str:
        # For a str enumeration the text, as in `json`. A mock may pretend to be a str.
        if issubclass(type(value), str):
            value = str.__str__(value)
        text = as_text(value, max(1, min(LONGEST_TEXT, self._characters)))
        self._characters -= len(text)
        return text


def _readable(given: Any) -> Iterator[Any]:
    """Yield the items of a collection, up to the first exception."""
    try:
        yield from given
    except Exception:  # of the collection's own iterator
        return


def is_on_device(value: Any) -> bool:
    """Return whether a value is on a GPU; False if it has no such attribute."""
    try:
        return bool(getattr(value, "is_cuda", False))
    except Exception:  # from the value's own attributes, such as those of a proxy whose object is gone
        return False


def is_mapping(value: Any) -> bool:
    """Return whether a value is a mapping; False if the check itself fails."""
    try:
        return isinstance(value, Mapping)
    except Exception:  # of the value's own attributes
        return False


def _plain(value: Any) -> Any:
    """Return the Python value of a NumPy or torch value with one element; any other value unchanged."""
    if isinstance(value, (int, float, str, bytes, bytearray)) and type(value).__module__ == "builtins":
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def _as_real(value: Any) -> Any:
    """Return the Python value of one number. Raises `TypeError` for text, complex numbers and masked values."""
    plain = _plain(value)
    if isinstance(plain, (str, bytes, bytearray, complex)) or _is_complex(value) or _is_masked(value):
        raise TypeError(type(value).__name__)
    return plain


def _is_complex(value: Any) -> bool:
    """Return whether a value is a complex number of NumPy or torch, of which `float` would use only the real part."""
    dtype = getattr(value, "dtype", None)
    return getattr(dtype, "kind", "") == "c" or bool(getattr(dtype, "is_complex", False))


def _is_masked(value: Any) -> bool:
    """Return whether a value is masked in NumPy, such as the mean of a fully masked array, whose `item()` is 0."""
    return hasattr(value, "dtype") and bool(getattr(value, "mask", False))


def _size(number: Any) -> str:
    """Return the size of a number in words, because Python refuses to print one with thousands of digits."""
    if isinstance(number, int) and number.bit_length() > 256:
        return f"a whole number of {number.bit_length()} bits"
    return shown(number)


def argument(call: str, name: object) -> str:
    """Return the name of an argument in a sentence."""
    return f"{call}({as_text(name, 60)}=…)"


def check_one_element(value: Any, argument: str) -> None:
    """Raise `TypeError` unless a value on a device has exactly one element; reading it would wait for the device."""
    count = getattr(value, "numel", None)
    if callable(count) and count() != 1:
        raise TypeError(f"{argument} takes one number, or a value with one element, not one of {count()} elements")
    if _is_complex(value):
        raise TypeError(f"{argument} takes one number, not a complex one")


def plain(value: Any) -> Any:
    """Return the Python value of a NumPy or torch value with one element; any other value unchanged."""
    try:
        return _plain(value)
    except Exception:  # of the value's own methods
        return value


def as_choice(value: object, choices: Sequence[str], default: str, argument: str, remarks: Remarks) -> str:
    """Return `value` if it is one of `choices`, otherwise `default`."""
    if isinstance(value, str) and value in choices:
        return str(value)
    told = f"{argument}: {shown(value)} is none of {', '.join(choices)}; {default} is stored."
    remarks.append(Remark.about(argument, told))
    return default
