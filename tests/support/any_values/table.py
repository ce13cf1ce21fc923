"""The table of docs/values.md: what is stored of each value that a training may pass, and a call of the client."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[3] / "docs" / "values.md"


@dataclass
class Call:
    """`prepare(run, step)` returns the call to make; `row` is the row of the table, `stored` the expected result."""

    method: str
    row: str
    arguments: tuple[Any, ...] = ()
    named: dict[Any, Any] = field(default_factory=dict)
    stored: list[list[Any]] = field(default_factory=list)


def table() -> dict[str, str]:
    """Return the stored value by the given value."""
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {given: stored for given, stored in cells if given != "given"}


def expected(row: str) -> str:
    """Return the name of the exception, "left out" or "stored"."""
    stored = table()[row]
    for error in ("TypeError", "SpecError"):
        if stored.startswith(f"`{error}`"):
            return error
    return "left out" if "left out" in stored else "stored"


ROWS = dict(zip(
    ("number", "nonfinite", "beyond", "no number", "whole", "no whole", "measured", "mapping", "beyond 64", "name",
     "long", "bad name", "many", "wrong call", "plan", "open", "odd plan", "seconds", "no seconds", "flag",
     "best value", "step value", "text", "choice", "watch", "layers", "no layers",
     "bad checkpoint", "objects", "bad objects", "environment", "parameters", "no parameters", "handler",
     "knob", "bad knob", "rate knob",
     "no optimizer", "no handler"),
    table(), strict=True,
))  # fmt: skip
