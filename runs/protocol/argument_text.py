"""Descriptions of a command's arguments, made from their types: a spec, and a text.

Imports neither Django nor torch.
"""

from __future__ import annotations

from typing import Any

import msgspec

from steersman.kinds import Bool, Float, Int, Str
from steersman.spec import ValueSpec


def takes(command: type[msgspec.Struct], name: str) -> str:
    """Return a description of an argument: "a whole number from 1 to 100000"."""
    return _in_words(_type_of(command, name))


def argument_spec(command: type[msgspec.Struct], name: str) -> ValueSpec | None:
    """Return the spec that parses the typed text of an argument; None if it can only be text."""
    kind = _type_of(command, name)
    types = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    specs = [_spec(each) for each in types if not isinstance(each, msgspec.inspect.NoneType)]
    return specs[0] if len(specs) == 1 else None


def _type_of(command: type[msgspec.Struct], name: str) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(command)
    assert isinstance(info, msgspec.inspect.StructType)
    return next(field.type for field in info.fields if field.name == name)


def _spec(kind: Any) -> ValueSpec | None:
    match kind:
        case msgspec.inspect.BoolType():
            return ValueSpec("argument", Bool.name)
        case msgspec.inspect.IntType(ge=least, le=most):
            return ValueSpec("argument", Int.name, least, most)
        case msgspec.inspect.FloatType():
            return ValueSpec("argument", Float.name)
        case msgspec.inspect.StrType(pattern=None, max_length=most):
            return ValueSpec("argument", Str.name, maximum=most)
    return None


def _in_words(kind: Any) -> str:
    spec = _spec(kind)
    if spec is not None:
        return str(spec.takes())
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(dict.fromkeys(_in_words(each) for each in types if not _is_implied(each, types)))
        case msgspec.inspect.UUIDType():
            return "the id of a command"
        case msgspec.inspect.StrType(max_length=most):
            return f"at most {most} letters, digits, spaces and . : + - _ that begin with a letter or digit"
    return "a value"


def _is_implied(kind: Any, types: tuple[Any, ...]) -> bool:
    """Return whether the description of another type covers this one: a number may be a whole number too."""
    floats = any(isinstance(each, msgspec.inspect.FloatType) for each in types)
    return isinstance(kind, msgspec.inspect.NoneType) or (isinstance(kind, msgspec.inspect.IntType) and floats)
