"""The history of a run for its page: complete, ordered, bounded, and limited to what the viewer may see."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.access.roles import SHARED
from runs.api.history import CONSOLE_LINES, MOST_EVENTS, TEXTS, details, history
from runs.models import Attempt, Branch, Checkpoint, Command, CommandState, EpochMetric, Project, Run
from runs.protocol.events import EpochDone, LogLine, LogWritten, TextLogged
from runs.recording import feed
from runs.series import storage
from runs.series.charts import Extent, charts, charts_by_attempt
from runs.series.packing.chunks import Points
from tests.support.stored_points import LOSS, START, checkpoint_event, metrics, status_event, store, store_folded

MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def run(db: None) -> Run:
    project = Project.objects.create(name="Digits", slug="digits")
    return Run.objects.create(project=project, name="first", attempt=1, parameters={"epochs": 3})


def epoch(run: Run, number: int, attempt: int = 1, loss: float | None = 0.5, **fields: Any) -> EpochMetric:
    return EpochMetric.objects.create(
        run=run, epoch=number, attempt=attempt, step=number * 10, train_loss=loss, at=MOMENT, **fields
    )


def test_it_tells_the_past_as_of_one_event(run: Run) -> None:
    store(run, [1.0, 2.0, 3.0])
    last = feed.append(
        run.pk,
        status_event("running"),
        LogWritten(attempt=1, lines=[LogLine(text="first"), LogLine(text="second", source="steersman", level="error")]),
        at=MOMENT,
    )
    past = history(run, "viewer")
    assert past["seq"] == last == 3
    assert past["parameters"] == {"epochs": 3}
    assert past["series"][LOSS]["attempts"][1]["values"] == [1.0, 2.0, 3.0]
    assert past["console"] == [
        {"text": "first", "source": "console", "level": "info", "at": "2026-03-01T12:00:00.000Z"},
        {"text": "second", "source": "steersman", "level": "error", "at": "2026-03-01T12:00:00.000Z"},
    ]
    [status] = past["events"]
    assert (status["seq"], status["kind"], status["state"], status["at"]) == (
        2, "status", "running", "2026-03-01T12:00:00.000Z",
    )  # fmt: skip
    json.dumps(past, allow_nan=False)


def test_it_has_the_knobs_as_of_its_event(run: Run) -> None:
    """A page applies later events, so a change before it would be lost."""
    declared = [{"name": "beta", "value": 1.0}]
    Run.objects.filter(pk=run.pk).update(knobs=declared)
    assert history(run, "viewer")["knobs"] == details(run, "viewer")["knobs"] == declared


def test_it_keeps_the_newest_texts(run: Run) -> None:
    samples = [TextLogged(attempt=1, step=n, epoch=n, name="sample", text=f"<b>{n}</b>") for n in range(TEXTS + 5)]
    feed.append(run.pk, *samples, at=MOMENT)
    texts = history(run, "viewer")["texts"]
    assert [text["step"] for text in texts] == list(range(5, TEXTS + 5))
    assert texts[-1] == {
        "seq": TEXTS + 5, "kind": "text", "at": "2026-03-01T12:00:00.000Z", "attempt": 1, "step": TEXTS + 4,
        "epoch": TEXTS + 4, "name": "sample", "text": f"<b>{TEXTS + 4}</b>",
    }  # fmt: skip


def test_it_has_the_epochs_of_every_attempt_and_compares_those_that_count(run: Run) -> None:
    for number in range(1, 6):
        epoch(run, number)
    epoch(run, 3, attempt=2, loss=0.25)
    epochs = history(run, "viewer")["epochs"]
    assert [(row["epoch"], row["attempt"]) for row in epochs] == [(1, 1), (2, 1), (3, 1), (3, 2), (4, 1), (5, 1)]
    assert [(row.epoch, row.attempt, row.train_loss) for row in run.epochs.counted().newest(10)] == [
        (1, 1, 0.5),
        (2, 1, 0.5),
        (3, 2, 0.25),
    ]


def test_it_gives_epochs_the_shape_of_their_event(run: Run) -> None:
    epoch(run, 1, loss=None, extra={"top5": 0.9}, nonfinite={"train_loss": "nan"}, best=True)
    [row] = history(run, "viewer")["epochs"]
    assert set(row) == set(EpochDone.__struct_fields__) - {"part", "best_metric", "best_metric_name"}
    assert row["values"] == {"train_loss": None, "top5": 0.9}
    assert row["nonfinite"] == {"train_loss": "nan"}


def test_it_shows_tracebacks_to_those_who_may_command(run: Run) -> None:
    checkpoint = Checkpoint.objects.create(
        run=run, attempt=1, step=40, epoch=4, name="step-40", path="secret/40.pt", size_bytes=9, sha256="ab",
        created_at=MOMENT,
    )  # fmt: skip
    Attempt.objects.create(
        run=run, number=1, host="gpu-host", boot_id="b", supervisor_pid=1, environment={"python": "3.11"}
    )
    Attempt.objects.create(
        run=run, number=2, host="gpu-host", boot_id="b", supervisor_pid=1, environment={"python": "3.12"},
        resumed_from=checkpoint, resumed_step=40, outcome="failed", exit_code=1, error="ValueError: no",
        traceback="Traceback …",
        ended_at=MOMENT,
    )  # fmt: skip
    for role, sees in (("viewer", False), ("operator", True), ("owner", True)):
        past = history(run, role)
        first, second = past["attempts"]
        assert (first["number"], second["number"], second["resumed_from_step"]) == (1, 2, 40)
        assert (second["exit_code"], second["error"]) == (1, "ValueError: no")
        assert ("traceback" in second) is sees
        assert past["environment"] == {"python": "3.12"}
        assert "secret" not in json.dumps(past)


def test_it_keeps_the_newest_of_console_and_events(run: Run) -> None:
    for number in range(7):
        lines = [LogLine(text=f"{number}.{line}") for line in range(100)]
        feed.append(run.pk, LogWritten(attempt=1, lines=lines))
    saved = [checkpoint_event(step) for step in range(MOST_EVENTS + 5)]
    feed.append(run.pk, *saved)
    past = history(run, "viewer")
    assert len(past["console"]) == CONSOLE_LINES
    assert (past["console"][0]["text"], past["console"][-1]["text"]) == ("2.0", "6.99")
    assert [event["step"] for event in past["events"]] == list(range(5, MOST_EVENTS + 5))


def test_it_lists_commands_and_checkpoints_in_order(run: Run) -> None:
    for place, state in enumerate((CommandState.APPLIED, CommandState.REFUSED)):
        Command.objects.create(
            run=run, kind="stop", author_name="Olga", state=state, sent_at=MOMENT + timedelta(seconds=place)
        )
    for step in (10, 20):
        Checkpoint.objects.create(
            run=run, attempt=1, step=step, epoch=1, name=f"step-{step}", path=f"{step}.pt", size_bytes=step,
            sha256="ab", created_at=MOMENT,
        )  # fmt: skip
    past = history(run, "viewer")
    assert [command["state"] for command in past["commands"]] == ["applied", "refused"]
    assert [checkpoint["step"] for checkpoint in past["checkpoints"]] == [10, 20]
    assert set(past["checkpoints"][0]) == {
        "id", "attempt", "step", "epoch", "name", "size_bytes", "sha256", "reason", "metrics", "keep", "good",
        "abandoned", "host", "on_host", "pushed", "created_at",
    }  # fmt: skip
    assert details(run, "viewer")["checkpoints"] == past["checkpoints"]


def test_it_says_where_checkpoints_are_but_tells_guests_no_host(run: Run, tmp_path: Path, settings: Any) -> None:
    settings.STEERSMAN_DATA = tmp_path
    Attempt.objects.create(run=run, number=1, host="gpu-1", boot_id="b", supervisor_pid=1)
    Attempt.objects.create(run=run, number=3, host="gpu-3", boot_id="b", supervisor_pid=1)
    Branch.objects.create(run=run, source_number=9, step=0, epoch=0, host="gpu-0")
    for attempt, sha256, pushed_at in ((0, "", None), (1, "aa", MOMENT), (2, "bb", MOMENT), (3, "cc", None)):
        Checkpoint.objects.create(
            run=run, attempt=attempt, step=attempt, epoch=1, name="c", path=f"{attempt}.pt", size_bytes=1,
            sha256=sha256, created_at=MOMENT + timedelta(seconds=attempt), pushed_at=pushed_at,
        )  # fmt: skip
    for role, hosts in (("viewer", ["gpu-0", "gpu-1", None, "gpu-3"]), (SHARED, [None] * 4)):
        listed = history(run, role)["checkpoints"]
        assert [each["host"] for each in listed] == hosts
        assert [each["pushed"] for each in listed] == [False, True, True, False]
        assert all(each["on_host"] for each in listed)
        assert ("gpu-" in json.dumps(history(run, role))) == (role != SHARED)


def test_it_reads_history_with_a_constant_number_of_queries(run: Run) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            history(run, "operator")
        return len(captured)

    def grow(first: int, number: int) -> None:
        store(run, [1.0] * number, first=first)
        # Each attempt repeats a part of the previous one, and has more series.
        for place in range(number // 50):
            name = f"loss of {first + place}"
            feed.append(run.pk, *(metrics({LOSS: [1.0] * 9, name: [1.0] * 9}, range(at, at + 9), at) for at in (5, 9)))
            store(run, [1.0] * 20, first=first + 10 * place, attempt=first + place + 20)
            Attempt.objects.create(run=run, number=first + place, host="h", boot_id="b", supervisor_pid=1)
        storage.fold(run.pk)
        for place in range(number // 100):
            epoch(run, first + place)
            feed.append(run.pk, LogWritten(attempt=1, lines=[LogLine(text="line")]))

    grow(0, 200)
    few = queries()
    grow(200, 6000)
    # For longer series coarser levels are read, and for partly repeated chunks their points: one query each.
    many = queries()
    assert many <= few + 4
    grow(6200, 3000)
    assert queries() == many


def test_it_reads_a_range_of_named_series(run: Run) -> None:
    store(run, [float(value) for value in range(100)])
    seq, part = charts(run.pk, [LOSS, "no/such"], extent=Extent(start=10, end=12))
    assert (seq, list(part)) == (1, [LOSS])
    assert part[LOSS]["values"] == [10.0, 11.0, 12.0]
    _, by_time = charts(run.pk, [LOSS], extent=Extent("time", START + 0.2, START + 0.24))
    assert by_time[LOSS]["steps"] == [10, 11, 12]
    assert charts(run.pk, [LOSS], 10)[1][LOSS]["buckets"] == 10


def test_it_keeps_what_a_later_attempt_trained_again(run: Run) -> None:
    store(run, [float(value) for value in range(100)])
    store(run, [0.0] * 20, first=50, attempt=2)
    storage.fold(run.pk)
    store(run, [1.0] * 5, first=70, attempt=2)
    assert charts(run.pk, [LOSS])[1][LOSS]["count"] == 75
    _, series = charts_by_attempt(run.pk, [LOSS])
    assert {attempt: chart["steps"] for attempt, chart in series[LOSS]["attempts"].items()} == {
        1: list(range(100)),
        2: list(range(50, 75)),
    }
    _, coarse = charts_by_attempt(run.pk, [LOSS], 50)
    counts = {attempt: (chart["buckets"], sum(chart["counts"])) for attempt, chart in coarse[LOSS]["attempts"].items()}
    assert counts[1][1] == 100 and counts[2][1] == 25
    assert all(buckets <= 50 for buckets, _ in counts.values())


def test_it_has_every_point_of_many_short_series(run: Run) -> None:
    steps = np.arange(80)
    for number in range(400):
        store_folded(run, f"layer {number}/loss", Points(steps, steps * 20, steps / 3))
    charted = [drawn["attempts"][1] for drawn in history(run, "viewer")["series"].values()]
    assert len(charted) == 400 and all(chart["raw"] and chart["count"] == 80 for chart in charted)
