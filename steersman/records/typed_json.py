"""Converts dataclasses to JSON objects and back. Standard library only.

The JSON was written by another process, perhaps by another version of this program, or by a user's script. A missing
field gets its default, and unknown fields are ignored. Any other error, such as a field of a wrong type, raises
`Malformed` and no other exception.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from steersman.values import LARGEST_STORED_INT, SMALLEST_INT, shown

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
# Returns a value in its declared type. Raises `Malformed`.
Reader = Callable[[object], object]
Item = TypeVar("Item")
# Far more than `steersman.values` allows.
DEEPEST = 100
_KNOWN: dict[type, dict[str, tuple[Reader, bool]]] = {}


class Malformed(ValueError):
    """The data is not an item of the requested class. The text names the field."""


def encode(value: object) -> bytes:
    """Return JSON in UTF-8. With escapes, a text of emoji would take three times the space, and a traceback fill a
    record.

    Dataclasses become objects. Raises `ValueError` or `RecursionError` if a value cannot be represented.
    """
    try:
        return json.dumps(value, separators=(",", ":"), default=_plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # A lone surrogate, which only an escape can represent.
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def decode(kind: type[Item], text: bytes) -> Item:
    """Return the item of a class that a JSON object describes. Raises `Malformed`."""
    return from_fields(kind, parse(text))


def parse(text: bytes) -> dict[str, Json]:
    """Return the fields of a JSON object. Raises `Malformed`."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the text is not JSON ({shown(error)})") from error
    if not isinstance(found, dict):
        raise Malformed(f"a JSON object is needed, not {shown(found)}")
    return found


def fields_of(item: object, without: frozenset[str] = frozenset()) -> dict[str, object]:
    """Return the fields of a dataclass by their names."""
    return {name: getattr(item, name) for name in _readers(type(item)) if name not in without}


def from_fields(kind: type[Item], given: object, **known: object) -> Item:
    """Return the item of a class with the fields of `given` and of `known`. Raises `Malformed`.

    A class may have a method `check()`, which raises `ValueError` for errors that the types of its fields do not
    exclude.
    """
    if not isinstance(given, Mapping):
        raise Malformed(f"{kind.__name__} takes an object, not {shown(given)}")
    values: dict[str, Any] = dict(known)
    for name, (read, is_required) in _readers(kind).items():
        if name in known:
            continue
        if name in given:
            try:
                values[name] = read(given[name])
            except Malformed as error:
                raise Malformed(f"{kind.__name__}.{name}: {error}") from error
        elif is_required:
            raise Malformed(f"{kind.__name__}.{name} is missing")
    item = kind(**values)
    check = getattr(item, "check", None)
    if check is not None:
        try:
            check()
        except ValueError as error:
            raise Malformed(f"{kind.__name__}: {error}") from error
    return item


def _readers(kind: type) -> dict[str, tuple[Reader, bool]]:
    """Return for each field of a dataclass how it is read, and whether it is required."""
    found = _KNOWN.get(kind)
    if found is None:
        found = _KNOWN[kind] = _made_readers(kind)
    return found


def _made_readers(kind: type) -> dict[str, tuple[Reader, bool]]:
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        hints |= inspect.get_annotations(base, eval_str=True)
    return {
        field.name: (_reader(hints[field.name]), field.default is MISSING and field.default_factory is MISSING)
        for field in fields(kind)
    }


def _reader(hint: Any) -> Reader:
    if hint is Json:
        return _any
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _optional([_reader(each) for each in arguments if each is not NoneType], NoneType in arguments)
    if origin is Literal:
        return _choice(arguments)
    if origin is list:
        return _list(_reader(arguments[0]))
    if origin is dict:
        return _dict(_reader(arguments[1]))
    if hint in SINGLE:
        return SINGLE[hint]
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda value: from_fields(hint, value)
    raise TypeError(f"fields of the type {hint} are not read from JSON: add it to steersman/records/typed_json.py")


def _any(value: object) -> object:
    """Return a value of any shape, with a limited depth, because later code recurses into it."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise Malformed(f"the value is nested more than {DEEPEST} levels deep")
        nested: list[object] = []
        for each in level:
            if isinstance(each, dict):
                nested += each.values()
            elif isinstance(each, list):
                nested += each
        level, depth = nested, depth + 1
    return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise Malformed(f"{shown(value)} is not text")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise Malformed(f"{shown(value)} is neither true nor false")


def _whole(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and SMALLEST_INT <= value <= LARGEST_STORED_INT:
        return value
    raise Malformed(f"{shown(value)} is not a 64-bit whole number")


def _number(value: object) -> float:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        pass
    raise Malformed(f"{shown(value)} is not a 64-bit number")


SINGLE: dict[Any, Reader] = {str: _text, bool: _flag, int: _whole, float: _number}


def _optional(readers: list[Reader], may_be_none: bool) -> Reader:
    if len(readers) != 1 or not may_be_none:
        raise TypeError("a field may be of one type, or of one type or None")
    (read,) = readers
    return lambda value: None if value is None else read(value)


def _choice(choices: tuple[object, ...]) -> Reader:
    def read(value: object) -> object:
        if isinstance(value, str) and value in choices:
            return value
        raise Malformed(f"{shown(value)} is not one of {', '.join(map(repr, choices))}")

    return read


def _list(read_each: Reader) -> Reader:
    def read(value: object) -> object:
        if isinstance(value, list):
            return [read_each(each) for each in value]
        raise Malformed(f"{shown(value)} is not a list")

    return read


def _dict(read_each: Reader) -> Reader:
    def read(value: object) -> object:
        if isinstance(value, dict):
            return {name: read_each(each) for name, each in value.items()}
        raise Malformed(f"{shown(value)} is not an object")

    return read


def _plain(value: object) -> object:
    """Return the JSON value that represents a value of another type."""
    return fields_of(value) if is_dataclass(value) and not isinstance(value, type) else str(value)
