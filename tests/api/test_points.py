"""Points of series over the API: valid queries, the messages of refused ones, and points as they were logged."""

from __future__ import annotations

import math
import urllib.parse
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client
from ninja import Schema

from runs.api.schemas.page import DetailsOut, HistoryOut, PlaceAnswer, ToldEvent
from runs.api.schemas.points import PointsOut, RawPointsOut
from runs.models import Attempt, Checkpoint, Chunk, Command, EpochMetric, Membership, Project, Recipe, Run, RunState
from runs.protocol.events import LogLine, LogWritten, TextLogged
from runs.recording import feed
from runs.recording.queue import enqueue
from runs.series import storage
from runs.series.downsampling import _rounded
from runs.series.packing.chunks import CHUNK_POINTS, Points
from runs.series.raw_points import Place
from steersman.knobs import Knob
from steersman.spec import ValueSpec
from tests.support.stored_points import LOSS, START, checkpoint_event, metrics, store, store_folded

pytestmark = pytest.mark.django_db


@pytest.fixture
def run() -> Run:
    project = Project.objects.create(name="Lab", slug="lab")
    Membership.objects.create(project=project, user=User.objects.create(username="viewer"), role="viewer")
    return Run.objects.create(project=project, name="first", state=RunState.RUNNING, attempt=1)


@pytest.fixture
def viewer(run: Run, client: Client) -> Client:
    client.force_login(User.objects.get(username="viewer"))
    return client


def ask(client: Client, run: Run, query: str) -> Any:
    return client.get(f"/api/runs/{run.pk}/points/?{query}")


def read_all(client: Client, run: Run, **fields: Any) -> list[tuple[str, int, int, float, float | None]]:
    """Follow `next` from the first page; return (name, attempt, step, time, value) of every point."""
    address = f"/api/runs/{run.pk}/points/?{urllib.parse.urlencode({'raw': 'true', **fields}, doseq=True)}"
    found = []
    for _ in range(1000):
        page = client.get(address).json()
        assert page["count"] == sum(len(item["steps"]) for item in page["items"]) <= int(fields.get("limit", 10_000))
        for item in page["items"]:
            values = dict(enumerate(item["values"])) | {at: float(kind) for at, kind in item["nonfinite"]}
            for at, (step, time) in enumerate(zip(item["steps"], item["times"], strict=True)):
                found.append((item["name"], item["attempt"], step, time, values[at]))
        if page["next"] is None:
            return found
        address = page["next"]
    raise AssertionError("the pages have no end")


NUMBERS = [
    "1e400",
    "-1e400",
    "nan",
    "NaN",
    "inf",
    "-Infinity",
    "",
    " ",
    "1_0",
    "٣",
    "0x10",
    "9" * 5009,
    "1e5,0",
    "step",
]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "name"),
        ("name=", "name"),
        ("name=loss&name=", "name"),
        (f"name={'x' * 201}", "name"),
        (f"name={'x' * 100_000}", "name"),
        ("name=a%00b", "name"),
        ("&".join(f"name={number}" for number in range(65)), "name"),
        *((f"name=loss&from={urllib.parse.quote(text)}", "from") for text in NUMBERS),
        *((f"name=loss&to={urllib.parse.quote(text)}", "to") for text in NUMBERS),
        ("name=loss&from=2&to=1", "to"),
        ("name=loss&from=0&to=-0.001", "to"),
        ("name=loss&from=1&from=2", "from"),
        ("name=loss&to=1&to=1", "to"),
        ("name=loss&by=fortune", "by"),
        ("name=loss&by=", "by"),
        ("name=loss&by=step&by=time", "by"),
        ("name=loss&by=last_step__gte", "by"),
        ("name=loss&buckets=0", "buckets"),
        ("name=loss&buckets=4001", "buckets"),
        ("name=loss&buckets=000000004001", "buckets"),
        ("name=loss&buckets=" + "9" * 5009, "buckets"),
        ("name=loss&buckets=" + "0" * 5009 + "1", "buckets"),
        ("name=loss&buckets=-1", "buckets"),
        ("name=loss&buckets=1.5", "buckets"),
        ("name=loss&buckets=1e2", "buckets"),
        ("name=loss&buckets=%2B5", "buckets"),
        ("name=loss&buckets=٣", "buckets"),
        ("name=loss&buckets=", "buckets"),
        ("name=loss&buckets=1&buckets=2", "buckets"),
        ("name=loss&raw=perhaps", "raw"),
        ("name=loss&raw=", "raw"),
        ("name=loss&raw=true&raw=false", "raw"),
        ("name=loss&raw=true&buckets=5", "buckets"),
        ("name=loss&limit=5", "limit"),
        ("name=loss&after=1.1.0.0", "after"),
        ("name=loss&raw=true&limit=0", "limit"),
        ("name=loss&raw=true&limit=50001", "limit"),
        ("name=loss&raw=true&limit=" + "9" * 5009, "limit"),
        ("name=loss&raw=true&after=", "after"),
        ("name=loss&raw=true&after=1.1.1", "after"),
        ("name=loss&raw=true&after=1.-1.0.0", "after"),
        ("name=loss&raw=true&after=" + "9" * 5009 + ".1.1.1", "after"),
        ("name=loss&raw=true&after=٣.1.1.1", "after"),
        ("name=loss&bucket=5", "bucket"),
    ],
)
def test_it_refuses_with_field_and_remedy(run: Run, viewer: Client, query: str, field: str) -> None:
    answer = ask(viewer, run, query)
    assert answer.status_code == 422, answer.content[:300]
    told = answer.json()
    assert told["field"] == field and 10 < len(told["error"]) < 400 and "Value error" not in told["error"]


@pytest.mark.parametrize(
    "query",
    [
        "name=train/loss&from=-1e308&to=1e308",
        "name=train/loss&from=-0.5&to=.5",
        "name=train/loss&from=1e18&to=1e19&by=time",
        "name=train/loss&from=-5e-324&to=0",
        f"name=train/loss&from=-{'9' * 60}&to={'9' * 60}",
        "name=train/loss&name=train/loss&buckets=0004000",
        "name=no/such",
        "name=%F0%9F%94%A5%20%2F..%2F%27%3B--",
        "name=train/loss&raw=true&after=999999999999999999.999999999.999999999.999999999999999999",
        "name=train/loss&raw=true&from=-1e308&to=1e308&limit=1",
        "name=train/loss&raw=true&from=1e18&by=time",
        "name=train/loss&raw=1&limit=50000",
    ],
)
def test_it_takes_what_can_be_meant(run: Run, viewer: Client, query: str) -> None:
    store(run, [1.0, 2.0])
    for _ in ("as events", "folded"):
        assert ask(viewer, run, query).status_code == 200
        storage.fold(run.pk)


def test_it_gives_every_point_of_every_attempt(run: Run, viewer: Client) -> None:
    store(run, [float(step) for step in range(10)], first=0, attempt=1)
    store(run, [100.0 + step for step in range(10)], first=5, attempt=2)
    expected = [(LOSS, 1, step, float(step)) for step in range(10)]
    expected += [(LOSS, 2, step + 5, 100.0 + step) for step in range(10)]
    for _ in ("as events", "folded"):
        points = read_all(viewer, run, name=LOSS)
        assert [(name, attempt, step, value) for name, attempt, step, _time, value in points] == expected
        assert [time for *_, time, _ in points[:3]] == [START, START + 0.02, START + 0.04]
        # The chart has none of the points that the second attempt repeated.
        assert ask(viewer, run, f"name={LOSS}").json()["series"][LOSS]["count"] == 15
        storage.fold(run.pk)


def test_it_gives_a_step_as_often_as_it_was_logged(run: Run, viewer: Client) -> None:
    event = metrics({LOSS: [1.0, 2.0, math.nan, 3.0]}, [7, 7, 7, 6])
    feed.append(run.pk, event)
    storage.update_latest(run.pk, [event])
    for _ in ("as events", "folded"):
        page = ask(viewer, run, f"name={LOSS}&raw=true").json()
        assert page["items"][0]["steps"] == [7, 7, 7, 6]
        assert page["items"][0]["values"] == [1.0, 2.0, None, 3.0] and page["items"][0]["nonfinite"] == [[2, "nan"]]
        assert (page["count"], page["next"]) == (4, None)
        storage.fold(run.pk)


def test_its_pages_meet_without_seam_while_the_run_is_folded(run: Run, viewer: Client) -> None:
    def values(number: int, start: float) -> list[float]:
        return [start + place / 7 for place in range(number)]

    store(run, values(CHUNK_POINTS + 300, 0.0), attempt=1)
    storage.fold(run.pk)
    store(run, values(500, 10_000.0), first=100, attempt=1)
    store(run, values(700, 20_000.0), first=50, attempt=2)
    event = metrics({"accuracy": values(40, 0.5)}, range(40), attempt=2)
    feed.append(run.pk, event)
    storage.update_latest(run.pk, [event])
    whole = read_all(viewer, run, name=[LOSS, "accuracy"])
    assert [value for name, _, _, _, value in whole if name == LOSS] == [
        *values(CHUNK_POINTS + 300, 0.0), *values(500, 10_000.0), *values(700, 20_000.0)
    ]  # fmt: skip
    assert len(whole) == CHUNK_POINTS + 300 + 500 + 700 + 40
    for limit in (1000, 4096, 4097):
        assert read_all(viewer, run, name=[LOSS, "accuracy"], limit=limit) == whole
    first = ask(viewer, run, f"name={LOSS}&name=accuracy&raw=true&limit=4500").json()
    storage.fold(run.pk)
    assert read_all(viewer, run, name=[LOSS, "accuracy"], limit=700) == whole
    second = viewer.get(first["next"]).json()
    place = sum(len(item["steps"]) for item in first["items"])
    assert second["items"][0]["values"][:5] == [value for *_, value in whole[place : place + 5]]


def test_it_gives_the_points_of_a_range(run: Run, viewer: Client) -> None:
    store(run, [float(step) for step in range(3 * CHUNK_POINTS)])
    for _ in ("as events", "folded"):
        by_step = read_all(viewer, run, name=LOSS, limit=7, **{"from": 4090, "to": 4110.5})
        assert [step for _, _, step, _, _ in by_step] == list(range(4090, 4111))
        by_time = read_all(viewer, run, name=LOSS, by="time", **{"from": START + 0.2, "to": START + 0.24})
        assert [step for _, _, step, _, _ in by_time] == [10, 11, 12]
        assert read_all(viewer, run, name=LOSS, **{"from": 10**9}) == []
        storage.fold(run.pk)


def test_a_page_reads_what_it_gives_and_not_the_whole_run(
    run: Run, viewer: Client, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    import runs.series.raw_points as module

    steps = np.arange(100 * CHUNK_POINTS)
    store_folded(run, LOSS, Points(steps, steps * 20, steps / 3))
    # Many attempts that crashed early make as many chunks.
    for attempt in range(2, 700):
        store_folded(run, LOSS, Points(steps[:2], steps[:2], steps[:2] / 3), attempt)
    unpacked = 0

    def counting(chunk: Chunk) -> Points:
        nonlocal unpacked
        unpacked += chunk.count
        return unpack(chunk)

    unpack = module.points_of
    monkeypatch.setattr(module, "points_of", counting)
    address, pages, found = f"/api/runs/{run.pk}/points/?name={LOSS}&raw=true&limit=50000", 0, 0
    while address:
        unpacked = 0
        with django_assert_max_num_queries(10):
            page = viewer.get(address).json()
        assert unpacked <= 50_000 + 2 * CHUNK_POINTS
        address, pages, found = page["next"], pages + 1, found + page["count"]
    assert found == 100 * CHUNK_POINTS + 2 * 698 and pages <= 12


def test_a_place_is_what_it_was_written_as() -> None:
    assert Place.of(str(Place(3, 2, 1, 4711))) == Place(3, 2, 1, 4711)
    assert Place(1, 2, 0, 3) < Place(1, 2, 1, 0) < Place(1, 3, 0, 0) < Place(2, 0, 0, 0)


def test_it_rounds_merged_points_for_drawing_and_no_others(run: Run, viewer: Client) -> None:
    values = [math.pi * 10**place for place in range(-5, 5)] * 500
    store(run, values)
    told = viewer.get(f"/api/runs/{run.pk}/history/").json()["series"][LOSS]["attempts"]["1"]
    assert not told["raw"] and "last" not in told
    assert max(len(repr(number).replace(".", "").lstrip("0")) for number in told["mean"]) <= 7
    exact = ask(viewer, run, f"name={LOSS}").json()["series"][LOSS]
    assert set(exact["min"]) <= set(values) and set(exact["max"]) <= set(values) and exact["last"][-1] == values[-1]
    assert told["mean"] == pytest.approx(exact["mean"], rel=1e-6)
    few = viewer.get(f"/api/runs/{run.pk}/points/?name={LOSS}&to=20").json()["series"][LOSS]
    assert few["raw"] and few["values"] == values[:21]


def test_rounding_is_to_the_nearest_short_decimal() -> None:
    given = [
        0.1 + 0.2,
        -1234567.89,
        0.0,
        -0.0,
        5e-324,
        1.7e308,
        math.nan,
        math.inf,
        2 / 3,
        9.9999999,
        1e15,
        123456789.0,
    ]
    rounded = _rounded(np.asarray(given), 7).tolist()
    assert repr(rounded) == (
        "[0.3, -1234568.0, 0.0, -0.0, 5e-324, 1.7e+308, nan, inf, 0.6666667, 10.0, 1000000000000000.0, 123456800.0]"
    )


def keys(value: Any) -> Any:
    """Return the shape of a JSON value: the keys of its objects, at any depth."""
    if isinstance(value, dict):
        return {key: keys(part) for key, part in value.items()}
    return [keys(part) for part in value] if isinstance(value, list) else None


def assert_holds(schema: type[Schema], answer: Any) -> None:
    """Compare an answer with its schema: no unknown fields, and no wrong types."""
    known = schema.model_validate(answer).model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert keys(known) == keys(answer)


def test_its_schemas_know_all_that_is_told(run: Run, viewer: Client) -> None:
    store(run, [1.0, math.nan, *range(2000)])
    moment = run.created_at
    checkpoint = Checkpoint.objects.create(
        run=run, attempt=1, step=40, epoch=4, name="step-40", path="40.pt", size_bytes=9, sha256="ab",
        metrics={"loss": 0.5}, created_at=moment,
    )  # fmt: skip
    Attempt.objects.create(
        run=run, number=1, host="h", boot_id="b", supervisor_pid=1, resumed_from=checkpoint, resumed_step=40,
        environment={"python": "3.12"}, traceback="Traceback …", ended_at=moment,
    )  # fmt: skip
    Command.objects.create(run=run, kind="stop", author_name="Olga", sent_at=moment)
    EpochMetric.objects.create(run=run, attempt=1, epoch=1, step=9, train_loss=0.5, at=moment, nonfinite={"f1": "nan"})
    knob = Knob(ValueSpec("rate", "float", 1e-6, 1.0, groups=("body", "head")), {"body": 0.1, "head": 0.2})
    Run.objects.filter(pk=run.pk).update(knobs=[knob.to_wire()])
    feed.append(
        run.pk,
        LogWritten(attempt=1, lines=[LogLine(text="line")]),
        checkpoint_event(40),
        TextLogged(attempt=1, step=1, epoch=1, name="sample", text="text"),
    )
    for role in ("viewer", "operator"):
        Membership.objects.update(role=role)
        history = viewer.get(f"/api/runs/{run.pk}/history/").json()
        assert all(history[part] for part in ("attempts", "commands", "epochs", "events", "knobs", "series", "texts"))
        # Events have the fields of their kind, which docs/protocol.md lists.
        events = history.pop("events")
        assert all(ToldEvent.model_validate(event).seq for event in events)
        assert_holds(HistoryOut, history | {"events": []})
        assert_holds(DetailsOut, viewer.get(f"/api/runs/{run.pk}/details/").json())
    for query in (f"name={LOSS}", f"name={LOSS}&buckets=10", "name=no"):
        assert_holds(PointsOut, ask(viewer, run, query).json())
    assert_holds(RawPointsOut, ask(viewer, run, f"name={LOSS}&raw=true&limit=10").json())
    recipe = Recipe.objects.create(spec="mnist", title="Digits", source_sha256="0" * 64)
    waiting = Run.objects.create(project=run.project, recipe=recipe, name="second", device="cpu")
    enqueue(waiting.pk, "host")
    place = viewer.get(f"/api/runs/{waiting.pk}/place/").json()
    assert place["place"] is not None
    assert_holds(PlaceAnswer, place)


def test_they_stand_in_the_description() -> None:
    described = Client().get("/api/openapi.json").json()
    for path, name in (("history", "HistoryOut"), ("details", "DetailsOut"), ("place", "PlaceAnswer")):
        operation = described["paths"][f"/api/runs/{{run_id}}/{path}/"]["get"]
        assert name in str(operation["responses"]["200"]["content"]["application/json"]["schema"])
    points = described["paths"]["/api/runs/{run_id}/points/"]["get"]
    assert {one["name"] for one in points["parameters"]} == {
        "run_id", "name", "by", "from", "to", "raw", "by_attempt", "buckets", "limit", "after",
    }  # fmt: skip
    assert {"PointsOut", "AttemptPointsOut", "RawPointsOut", "HistoryOut", "DetailsOut"} <= set(
        described["components"]["schemas"]
    )
