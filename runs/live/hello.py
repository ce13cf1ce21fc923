"""The first frame of a viewer: a snapshot that fits into one frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runs.live.snapshot import latest_values, run_snapshot
from runs.models import Run
from runs.protocol.event_parts import LARGEST_EVENT_BYTES, bounded_value, size
from runs.protocol.messages import Hello

# The share of each part in a `hello` that is too large; `latest` gets the rest.
TEXT_BYTES = 2 * 1024
KNOBS_BYTES = 12 * 1024
COMMANDS_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class HelloParts:
    """The state of a run as of its `last_seq`."""

    run: Run
    snapshot: dict[str, Any]
    latest: dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Held:
    """The last event that a viewer has: its number and its `at`, which is "" if the viewer does not send it."""

    seq: int
    at: str = ""


def find(run_id: int) -> HelloParts:
    """Read the greeting of a viewer. Raises `Run.DoesNotExist`."""
    run = Run.objects.select_related("project", "recipe").get(pk=run_id)
    return HelloParts(run, run_snapshot(run), latest_values(run))


def bounded_hello(hello: Hello) -> Hello:
    """Return `hello` if it fits into a frame, otherwise a shorter one that lists the missing parts in `incomplete`.

    It keeps the newest commands and the first series, and either all knobs or none.
    """
    if size(hello) <= LARGEST_EVENT_BYTES:
        return hello
    incomplete: list[str] = []
    parts = ("knobs", "commands")
    run = {name: value if name in parts else bounded_value(value, TEXT_BYTES) for name, value in hello.run.items()}
    run["knobs"] = hello.run.get("knobs") or []
    if size(run["knobs"]) > KNOBS_BYTES:
        run["knobs"] = []
        incomplete.append("knobs")
    commands = hello.run.get("commands") or []
    kept = _first_that_fit(reversed(commands), COMMANDS_BYTES)
    run["commands"] = kept[::-1]
    if len(kept) < len(commands):
        incomplete.append("commands")
    smaller = msgspec.structs.replace(hello, run=run, latest={}, incomplete=[*incomplete, "latest"])
    latest = dict(_first_that_fit(hello.latest.items(), LARGEST_EVENT_BYTES - size(smaller)))
    if len(latest) < len(hello.latest):
        incomplete.append("latest")
    return msgspec.structs.replace(smaller, latest=latest, incomplete=incomplete)


def _first_that_fit(items: Iterable[Any], room: int) -> list[Any]:
    """Return the items before the first that does not fit."""
    kept: list[Any] = []
    for item in items:
        # A pair has the size of an array: its brackets count for the colon and the comma of an object.
        room -= size(item) + 1
        if room < 0:
            break
        kept.append(item)
    return kept


def held_of(query: Mapping[str, Sequence[str]]) -> Held | None:
    """Return the last event that a viewer has, None if the address does not name it."""
    since, at = (query.get(name, [""])[0] for name in ("since", "at"))
    return Held(int(since), at) if since.isdecimal() and len(since) < 19 else None
