"""The history of a run for its page, limited in size however long the run is.

Everything is read as of one event number: a page that applies the later events has the complete history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runs.access.roles import COMMANDING_ROLES, SHARED
from runs.curation.about import about_of
from runs.live.snapshot import epoch_as_wire
from runs.markdown.rendering import rendered
from runs.models import Attempt, Checkpoint, EpochMetric, Run, StoredEvent, alert_as_wire, as_wire
from runs.protocol.events import (
    AlertChanged,
    CheckpointSaved,
    CommandChanged,
    LineUnfinished,
    LogWritten,
    StallChanged,
    StatusChanged,
    TextLogged,
    iso,
)
from runs.recording.checkpoints import hosts_of, is_pushed
from runs.recording.feed import time_of
from runs.recording.status import attempt_state
from runs.series.charts import BUCKETS, FEWEST_BUCKETS, charts_by_attempt

CONSOLE_LINES = 500
MOST_EVENTS = 200
# More than a person scrolls through, and still fast for a page.
EPOCHS = 2000
MOST_COMMANDS = 500
CHECKPOINTS = 200
ATTEMPTS = 200
# Rows of all charts together. With many series or attempts each gets fewer rows, and a zoom reads finer ones. A row of
# noise takes up to 28 bytes of the compressed answer, which therefore stays below 900 kB: 106 rows for each of 300
# series, or 1,000 for each of 32. Above 16,000 attempts of series, each still has two rows.
CHART_ROWS = 32_000
# The precision of float32. Only merged points are rounded; single points are returned as they were logged.
CHART_DIGITS = 7
TEXTS = 50
ALERTS = 200
LISTED_EVENTS = (StatusChanged.kind, CheckpointSaved.kind, CommandChanged.kind, StallChanged.kind, AlertChanged.kind)


def history(run: Run, role: str) -> dict[str, Any]:
    """Return the history of `run` as JSON-ready values for a viewer with `role`.

    Keys: seq, seq_at, epochs, commands, console, unfinished, events, texts, alerts, series, and those of `details`. The
    newest of each are kept, oldest first; tracebacks are for operators and owners. Raises `Run.DoesNotExist`.
    """
    count = run.series.count()
    buckets = max(FEWEST_BUCKETS, min(BUCKETS, CHART_ROWS // max(1, count)))
    seq, series = charts_by_attempt(run.pk, buckets=buckets, digits=CHART_DIGITS)
    return details(run, role) | {
        "seq": seq,
        "seq_at": time_of(run.pk, seq),
        "epochs": [epoch_as_wire(epoch) for epoch in _all_epochs(run)],
        "commands": [as_wire(command) for command in reversed(run.commands.order_by("-sent_at")[:MOST_COMMANDS])],
        "console": console(run, seq),
        "unfinished": unfinished_lines(run, seq),
        "events": _events(run, seq, LISTED_EVENTS, MOST_EVENTS),
        "texts": _events(run, seq, (TextLogged.kind,), TEXTS),
        "alerts": [alert_as_wire(alert) for alert in reversed(run.alerts.order_by("-pk")[:ALERTS])],
        "series": series,
    }


def version(run: Run) -> list[Any]:
    """Return JSON-ready values that stay the same only while no event arrives and no points are compacted.

    Epochs, commands, console, texts, alerts and points change together with an event, in its transaction; points also
    change when they are compacted. The numbers of both only grow. Times distinguish a record that was restored from a
    backup and then continued.
    """
    newest = run.events.order_by("-seq").values_list("at", flat=True).first()
    return [run.pk, run.created_at, run.last_seq, run.replay_from, run.last_point_at, newest]


def details(run: Run, role: str) -> dict[str, Any]:
    """Return the facts that no event contains: attempts and their ends, remaining checkpoints, environment, parameters,
    and what people wrote about the run.

    Also the knobs, which `hello` leaves out if there are too many.

    Attempts and checkpoints come oldest first. The fields of the run are read again, because the caller read `run`
    before the event number of the answer. Raises `Run.DoesNotExist`.
    """
    now = Run.objects.values("knobs", "parameters").get(pk=run.pk)
    attempts = list(run.attempts.order_by("-number")[:ATTEMPTS])
    return {
        "attempts": [attempt_as_wire(attempt, role) for attempt in reversed(attempts)],
        "checkpoints": checkpoints_as_wire(
            run.pk, list(reversed(run.checkpoints.order_by("-created_at", "-id")[:CHECKPOINTS])), role
        ),
        "knobs": now["knobs"],
        "environment": attempts[0].environment if attempts else {},
        "parameters": now["parameters"],
        "about": None if role == SHARED else about_as_wire(run.pk),
    }


def about_as_wire(run_id: int) -> dict[str, Any]:
    """Return the fields of `AboutOut`. Raises `Run.DoesNotExist` if there is no such run."""
    about = about_of(run_id)
    wire: dict[str, Any] = msgspec.to_builtins(about)
    wire["html"] = _html(about.description)
    if about.review is not None:
        wire["review"] = {
            "note": about.review.note,
            "html": _html(about.review.note),
            "by": about.review.by,
            "at": iso(about.review.at) if about.review.at else None,
        }
    return wire


def _html(text: str) -> str:
    # msgspec encodes no subclass of str, such as Django's.
    return "".join((rendered(text),))


def _all_epochs(run: Run) -> list[EpochMetric]:
    """Return the newest epochs of all attempts, ordered by epoch: a page shows earlier attempts too."""
    newest = run.epochs.order_by("-attempt", "-epoch", "-order")[:EPOCHS]
    return sorted(newest, key=lambda epoch: (epoch.epoch, epoch.attempt, epoch.order))


def console(run: Run, seq: int, lines: int = CONSOLE_LINES) -> list[dict[str, Any]]:
    """Return the last `lines` lines of the console up to event `seq`: text, source, level, at (UTC, ISO 8601).

    An entry with source "skipped" replaces skipped output, with the number of its bytes in `skipped`.
    """
    stored = StoredEvent.objects.filter(run=run, kind=LogWritten.kind, seq__lte=seq).order_by("-seq")[:lines]
    found: list[dict[str, Any]] = []
    # Read from the newest, and only as far as needed: one event may contain hundreds of lines.
    for at, frame in stored.values_list("at", "frame").iterator(chunk_size=50):
        written = msgspec.json.decode(frame, type=LogWritten)
        for line in reversed(written.lines):
            found.append({"text": line.text, "source": line.source, "level": line.level, "at": iso(at)})
        if written.skipped_bytes:
            skipped = {"text": "", "source": "skipped", "level": "warning", "at": iso(at)}
            found.append(skipped | {"skipped": written.skipped_bytes})
        if len(found) >= lines:
            break
    return found[:lines][::-1]


def unfinished_lines(run: Run, seq: int) -> list[str]:
    """Return the incomplete last lines of the console as of event `seq`."""
    told = StoredEvent.objects.filter(run=run, kind=LineUnfinished.kind, seq__lte=seq).order_by("-seq")
    frame = told.values_list("frame", flat=True).first()
    return [] if frame is None else msgspec.json.decode(frame, type=LineUnfinished).lines


def _events(run: Run, seq: int, kinds: Iterable[str], most: int) -> list[dict[str, Any]]:
    stored = StoredEvent.objects.filter(run=run, kind__in=kinds, seq__lte=seq).order_by("-seq")[:most]
    return [msgspec.json.decode(frame) for frame in reversed(stored.values_list("frame", flat=True))]


def checkpoints_as_wire(run_id: int, checkpoints: Sequence[Checkpoint], role: str) -> list[dict[str, Any]]:
    """Return the fields of `CheckpointOut` that a viewer with `role` may see, for checkpoints of one run."""
    hosts = {} if role == SHARED else hosts_of(run_id, {each.attempt for each in checkpoints})
    return [
        {
            "id": each.pk,
            "attempt": each.attempt,
            "step": each.step,
            "epoch": each.epoch,
            "name": each.name,
            "size_bytes": each.size_bytes,
            "sha256": each.sha256,
            "reason": each.reason,
            "metrics": each.metrics,
            "keep": each.keep,
            "good": each.good,
            "abandoned": each.abandoned,
            "host": hosts.get(each.attempt),
            "on_host": each.on_host,
            "pushed": is_pushed(each),
            "created_at": iso(each.created_at),
        }
        for each in checkpoints
    ]


def attempt_as_wire(attempt: Attempt, role: str) -> dict[str, Any]:
    """Return the fields of `AttemptOut` that a viewer with `role` may see."""
    wire: dict[str, Any] = msgspec.to_builtins(attempt_state(attempt))
    if role in COMMANDING_ROLES:
        wire["traceback"] = attempt.traceback
    return wire
