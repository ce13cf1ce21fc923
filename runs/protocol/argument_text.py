"""What the arguments of a command take, in words, read from their types. Knows neither Django nor torch."""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.ranges import number_in_words


def takes(command: type[msgspec.Struct], name: str) -> str:
    """Return what an argument takes: "a whole number from 1 to 100000"."""
    return _in_words(kind_of(command, name))


def kind_of(command: type[msgspec.Struct], name: str) -> msgspec.inspect.Type:
    """Return the type of an argument."""
    info = msgspec.inspect.type_info(command)
    assert isinstance(info, msgspec.inspect.StructType)
    return next(field.type for field in info.fields if field.name == name)


def _in_words(kind: Any) -> str:
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(dict.fromkeys(_in_words(each) for each in types if not _is_implied(each, types)))
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.IntType(ge=least, le=most):
            return number_in_words(least, most, whole=True)
        case msgspec.inspect.FloatType():
            return number_in_words(None, None, whole=False)
        case msgspec.inspect.UUIDType():
            return "the id of a command"
        case msgspec.inspect.StrType(pattern=None, max_length=most):
            return f"text of at most {most} characters"
        case msgspec.inspect.StrType(max_length=most):
            return f"at most {most} letters, digits, spaces and . : + - _ that begin with a letter or digit"
    return "a value"


def _is_implied(kind: Any, types: tuple[Any, ...]) -> bool:
    """Tell whether the words of another type cover this one: a number is a whole number too."""
    floats = any(isinstance(each, msgspec.inspect.FloatType) for each in types)
    return isinstance(kind, msgspec.inspect.NoneType) or (isinstance(kind, msgspec.inspect.IntType) and floats)
