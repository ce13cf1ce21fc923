"""CSV exports contain every point and epoch, bit for bit, even while points are folded, and no active formulas."""

from __future__ import annotations

import asyncio
import csv
import io
import math
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs.models import EpochMetric, Project, Run
from runs.series import storage
from runs.series.downloads import csv_response
from runs.series.exports import epochs_csv, line, series_csv
from runs.series.packing.chunks import CHUNK_POINTS
from tests.support.stored_points import LOSS, START, bits, store

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


@pytest.fixture
def run(db: None) -> Run:
    return Run.objects.create(project=Project.objects.create(name="Digits", slug="digits"), name="baseline")


@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client


def read(blocks: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO("".join(blocks))))


def test_it_writes_every_point_with_the_same_bits(run: Run) -> None:
    values = [0.1, 1 / 3, math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e308] * 1000
    store(run, values[:5000])
    storage.fold(run.pk)
    store(run, values[5000:], first=5000)
    rows = read(series_csv([run]))
    assert [int(row["step"]) for row in rows] == list(range(8000))
    assert bits(float(row["value"]) for row in rows) == bits(values)
    assert {row["series"] for row in rows} == {LOSS}
    assert rows[3]["value"] == "inf" and rows[4]["value"] == "-inf" and rows[2]["value"] == "nan"
    first = datetime.fromtimestamp(START, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert rows[0]["time"] == first


def test_it_neither_doubles_nor_misses_what_is_folded_meanwhile(run: Run) -> None:
    store(run, [1.0] * 5000)
    storage.fold(run.pk)
    store(run, [2.0] * 3000, first=5000)
    blocks = series_csv([run])
    taken = [next(blocks), next(blocks)]
    store(run, [3.0] * 500, first=8000)
    storage.fold(run.pk)
    assert [int(row["step"]) for row in read([*taken, *blocks])] == list(range(8000))


def test_it_reads_a_long_series_a_little_at_a_time(run: Run) -> None:
    store(run, [1.0] * CHUNK_POINTS * 40, tick=CHUNK_POINTS)
    storage.fold(run.pk)
    blocks = series_csv([run])
    with CaptureQueriesContext(connection) as captured:
        lengths = [len(next(blocks)) for _ in range(4)]
    assert max(lengths) < 400_000
    packed = [query for query in captured.captured_queries if '"points"' in query["sql"]]
    assert len(packed) == 1


def test_it_writes_attempts_one_after_another(run: Run) -> None:
    store(run, [1.0] * 10)
    storage.fold(run.pk)
    store(run, [2.0] * 10, first=5, attempt=2)
    assert [(row["attempt"], row["step"]) for row in read(series_csv([run]))] == [
        *[("1", str(step)) for step in range(10)],
        *[("2", str(step)) for step in range(5, 15)],
    ]


def test_it_writes_epochs_with_what_a_recipe_reports_beyond(run: Run) -> None:
    other = Run.objects.create(project=run.project, name="plain")
    made = [
        EpochMetric(run=run, attempt=attempt, epoch=epoch, step=epoch, train_loss=0.1 * epoch, at=NOW)
        for attempt, epochs in ((1, range(1, 701)), (2, range(600, 702)))
        for epoch in epochs
    ]
    made[0].train_loss, made[0].nonfinite = None, {"train_loss": "nan", "perplexity": "inf"}
    made[0].extra = {"perplexity": None, "=tokens": 3.0}
    EpochMetric.objects.bulk_create([*made, EpochMetric(run=other, attempt=1, epoch=1, step=1, best=True, at=NOW)])
    rows = read(epochs_csv([run, other]))
    assert [(row["run"], row["attempt"], row["epoch"]) for row in rows] == [
        *[(str(run.pk), str(epoch.attempt), str(epoch.epoch)) for epoch in made],
        (str(other.pk), "1", "1"),
    ]
    assert (rows[0]["train_loss"], rows[0]["perplexity"], rows[0]["'=tokens"]) == ("nan", "inf", "3.0")
    assert rows[1]["train_loss"] == "0.2" and rows[1]["perplexity"] == ""
    assert (rows[-1]["best"], rows[-1]["at"], rows[-1]["train_loss"]) == ("1", "2026-11-02T09:30:00+00:00", "")


@pytest.mark.parametrize("text", ['=HYPERLINK("http://evil")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1",
                                  " =1", "\u3000=1", "\u200b\ufeff=1", "\uff1d1+1", " \uff20SUM(A1)"])  # fmt: skip
def test_it_defuses_formulas_in_text_and_leaves_numbers_alone(text: str) -> None:
    [cells] = csv.reader(io.StringIO(line([text, -1.5, -7, "plain"]), newline=""))
    assert cells == [f"'{text}", "-1.5", "-7", "plain"]


def test_it_exports_one_run_from_its_page_and_several_by_an_action(client: Client, run: Run) -> None:
    other = Run.objects.create(project=run.project, name="=cmd()")
    for each in (run, other):
        store(each, [0.5, math.nan])
        EpochMetric.objects.create(run=each, attempt=1, epoch=1, step=2, train_loss=0.5, at=NOW)
    page = client.get(f"/admin/runs/run/{run.pk}/change/").content.decode()
    for what, number in (("epochs", 1), ("series", 2)):
        address = f"/admin/runs/run/{run.pk}/export/{what}.csv"
        assert address in page
        one = client.get(address)
        assert one["Content-Type"].startswith("text/csv")
        assert f'filename="run-{run.pk}-{what}.csv"' in one["Content-Disposition"]
        assert [row["run"] for row in read([one.getvalue().decode()])] == [str(run.pk)] * number
        several = client.post(
            "/admin/runs/run/", {"action": f"export_{what}", "_selected_action": [run.pk, other.pk]}
        ).getvalue()
        rows = read([several.decode()])
        assert [row["run"] for row in rows] == [str(run.pk)] * number + [str(other.pk)] * number
        assert rows[-1]["run_name"] == "'=cmd()"
    assert client.get(f"/admin/runs/run/{run.pk}/export/passwords.csv").status_code == 404
    assert client.get("/admin/runs/run/99999/export/series.csv").status_code == 404
    assert Client().get(f"/admin/runs/run/{run.pk}/export/series.csv").status_code == 302
    nobody = Client()
    nobody.force_login(User.objects.create_user("sven", is_staff=True))
    assert nobody.get(f"/admin/runs/run/{run.pk}/export/series.csv").status_code == 403


def test_it_hands_blocks_on_one_by_one_under_asgi() -> None:
    made: list[int] = []

    def blocks() -> Any:
        for number in range(3):
            made.append(number)
            yield f"{number}\n"

    async def take() -> None:
        request = ASGIRequest({"type": "http", "method": "GET", "path": "/", "headers": []}, io.BytesIO())
        response = csv_response(request, "x.csv", blocks())
        received = aiter(response)
        assert await anext(received) == b"0\n"
        assert made == [0]
        assert [block async for block in received] == [b"1\n", b"2\n"]

    asyncio.run(take())
    assert csv_response(HttpRequest(), "x.csv", blocks()).getvalue() == b"0\n1\n2\n"
