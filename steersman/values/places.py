"""The path and identity of a checkpoint, as a training records it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from steersman.values import clean, shown

LONGEST_PATH = 500
SHA256_CHARACTERS = 64


def as_digest(value: object) -> str:
    """Return a SHA-256 in hexadecimal digits, "" if the value is not one."""
    text = value if isinstance(value, str) else ""
    whole = len(text) == SHA256_CHARACTERS and all(character in "0123456789abcdefABCDEF" for character in text)
    return text.lower() if whole else ""


def as_path_inside(path: Any, folder: Path | None, call: str) -> tuple[str, str]:
    """Return a path relative to `folder`, and why it cannot be recorded, "" if it can."""
    try:
        given = Path(os.fspath(path))
    except Exception:  # from the path's own methods
        return "", f"{call} takes a path, not {shown(path)}"
    if folder is None or not given.is_relative_to(folder):
        return "", f"{shown(str(given))} is not in the run's folder"
    inside = str(given.relative_to(folder))
    return (inside, "") if is_path_inside(inside) else ("", f"its path {shown(inside)} cannot be stored")


def is_path_inside(text: str) -> bool:
    """Return whether a relative path can be stored, and does not lead out of its folder."""
    path = Path(text)
    return text == clean(text) and len(text) <= LONGEST_PATH and not path.is_absolute() and ".." not in path.parts
