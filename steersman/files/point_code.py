"""Generates the source of the functions that append one POINT to a journal, unrolled for its values.

This function is called at every step of a training, and half of its cost in plain Python would be the variable number
of values. As in `collections.namedtuple`, the source is therefore generated for the number of values, or for their
names, and compiled once. Independent of runs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from keyword import iskeyword
from time import time
from typing import Any
from zlib import crc32

# The segment's size and the unreported drops are checked once per this many records (a power of two less one), and not
# in every call.
LOOK_EVERY_MASK = 31

# All names start with an underscore, which no parameter does, so that they cannot shadow one another.
_APPEND = """\
_thinning = _writer.thinning
{pad}if _thinning is None or _thinning.keeps(_step):
{pad}    _place = _number()
{pad}    _body = _pack(_head, _place, _now(), _step, {values})
{pad}    try:
{pad}        _written = _write(_writer.fd, _body + _checksum(_crc32(_body)))
{pad}    except OSError:
{pad}        _written = 0
{pad}    if _written != _length or _place & _mask == 0:
{pad}        _settle(_written, _length)"""

_BY_NUMBER = """
def _make(_writer, _settle, _head, _length, _pack, _number):
    def append(_step, _values):
        {values}, = _values
        if not (_type(_step) is _int and -{limit} <= _step < {limit} and {plain}):
            return False
        {append}
        return True
    return append
"""

_BY_NAME = """
def _make(_writer, _settle, _head, _length, _pack, _number, _run, _with_care):
    def log(_step=_missing, /, *_more, {parameters}, **_others):
        if _others or _more or not (_type(_step) is _int and -{limit} <= _step < {limit} and {plain}):
            return _with_care(_step, {{{given}}} | _others, *_more)
        {append}
        _run.step = _step
    return log
"""

MISSING = object()


@cache
def append_maker(width: int, writes: bool = True) -> Callable[..., Any]:
    """Return a factory of `append(step, values) -> bool` for `width` values.

    `append` writes nothing and returns False if a value is not a plain float, or the step is not a plain int of 64
    bits. If `writes` is false, it only checks them.
    """
    return _compiled(_BY_NUMBER, [f"value{index}" for index in range(width)], writes)


@cache
def log_maker(names: tuple[str, ...], writes: bool = True) -> Callable[..., Any]:
    """Return a factory of `log(step, **values)` for values with these names; see `can_be_parameters`.

    Unless it is called with exactly one plain float for each name, `log` calls `with_care(step, values)`.
    """
    return _compiled(_BY_NAME, list(names), writes)


def can_be_parameters(names: tuple[str, ...]) -> bool:
    """Return whether metrics with these names can be parameters of a function: train/loss cannot.

    Python treats different spellings of some non-ASCII letters as the same name.
    """
    return 0 < len(names) < 64 and all(
        name.isascii() and name.isidentifier() and not iskeyword(name) and not name.startswith("_") for name in names
    )


def _compiled(template: str, names: list[str], writes: bool) -> Callable[..., Any]:
    values = ", ".join(names)
    source = template.format(
        values=values,
        limit=1 << 63,
        plain=" and ".join(f"_type({name}) is _float" for name in names),
        parameters=", ".join(f"{name}=_missing" for name in names),
        given=", ".join(f"{name!r}: {name}" for name in names),
        append=_APPEND.format(values=values, pad=" " * 8) if writes else "pass",
    )
    scope: dict[str, Any] = {
        "_now": time,
        "_write": os.write,
        "_crc32": crc32,
        "_checksum": struct.Struct("<I").pack,
        "_mask": LOOK_EVERY_MASK,
        "_missing": MISSING,
        # Prefixed, because metrics may have these names too.
        "_type": type,
        "_int": int,
        "_float": float,
    }
    exec(source, scope)
    make: Callable[..., Any] = scope["_make"]
    return make
