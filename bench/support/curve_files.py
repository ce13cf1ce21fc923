"""Labelled curves, and the file of the recorded ones. Uses only the standard library."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECORDED = Path(__file__).resolve().parents[1] / "data" / "curves.jsonl.gz"
LAYERS = RECORDED.with_name("layers.jsonl.gz")
DIGITS = 6
HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Group:
    """Series that were logged together: each list of `values` has one for each of `steps`; `times` are in seconds."""

    steps: list[int]
    times: list[float]
    values: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """The series of a training. `kind` is "healthy" or a kind of fault; `begins` is the step of its first effect.

    `turned` lists the steps after which a person changed a knob.
    """

    name: str
    kind: str
    begins: int | None
    groups: list[Group]
    turned: tuple[int, ...] = ()

    def points(self) -> Iterator[tuple[str, int, float, float]]:
        """Yield (series, step, time, value) in the order of time."""
        found = [
            (time, place, name, step, value)
            for place, group in enumerate(self.groups)
            for name, column in group.values.items()
            for step, time, value in zip(group.steps, group.times, column, strict=True)
        ]
        for time, _place, name, step, value in sorted(found, key=lambda each: each[:2]):
            yield name, step, time, value

    @property
    def length(self) -> int:
        return max((len(group.steps) for group in self.groups), default=0)


def write_curves(curves: Sequence[Curve], path: Path = RECORDED) -> None:
    """Write a line of JSON for each curve: values with six digits, times in milliseconds since its first point."""
    lines = []
    for curve in curves:
        fields = asdict(curve)
        first = min(group.times[0] for group in curve.groups if group.times)
        for group in fields["groups"]:
            group["times"] = [round(time - first, 3) for time in group["times"]]
            group["values"] = {name: [_rounded(each) for each in column] for name, column in group["values"].items()}
        lines.append(json.dumps(fields, separators=(",", ":")))
    path.parent.mkdir(exist_ok=True)
    # Without a time in its header, the file depends only on the curves.
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), 9, mtime=0))


def read_curves(path: Path = RECORDED) -> list[Curve]:
    curves = []
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        fields = json.loads(line)
        groups = [Group(**group) for group in fields["groups"]]
        curves.append(Curve(fields["name"], fields["kind"], fields["begins"], groups, tuple(fields["turned"])))
    return curves


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
