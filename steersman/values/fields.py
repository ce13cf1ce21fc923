"""Configurations that are not mappings but have names: dataclasses, namespaces and named tuples."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any


def fields_of(given: Any) -> Mapping[Any, Any] | None:
    """Return the values of a configuration by name, a mapping unchanged; None if it is neither.

    If a field cannot be read, its value is the reason.
    """
    if isinstance(given, Mapping):
        return given
    names = _names_of(given)
    return None if names is None else {name: _field(given, name) for name in names}


def _names_of(given: Any) -> Iterable[str] | None:
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return [field.name for field in dataclasses.fields(given)]
    # If a script has arguments of argparse, the module is loaded.
    argparse = sys.modules.get("argparse")
    if isinstance(given, SimpleNamespace) or (argparse is not None and isinstance(given, argparse.Namespace)):
        return list(vars(given))
    if isinstance(given, tuple):
        return getattr(given, "_fields", None)
    return None


def _field(given: Any, name: str) -> Any:
    try:
        return getattr(given, name)
    except Exception as error:  # from a property, or a field without a value
        return f"could not be read: {type(error).__name__}"
