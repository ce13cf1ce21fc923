"""`python -m runs.alerts.detectors`, from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.alerts.detectors.scenes import losses, points
from tests.support.stack import ROOT


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runs.alerts.detectors", *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)


def line(value: object, step: object = 1, **more: object) -> str:
    return json.dumps({"series": "train/loss", "step": step, "time": 0.5, "value": value} | more) + "\n"


def test_it_prints_a_line_for_each_alarm_that_begins(tmp_path: Path):
    values = losses(400, changed=lambda step: 12.0 if step in (300, 301) else 1.0)
    file = tmp_path / "points.jsonl"
    file.write_text(
        "".join(line(point.value, point.step, time=point.time) for point in points(values)) + line("nan", 401)
    )
    ended = run(str(file))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [json.loads(each) for each in ended.stdout.splitlines()] == [
        {"detector": "spike", "series": "train/loss", "step": 300, "severity": "warning"},
        {"detector": "non-finite", "series": "train/loss", "step": 401, "severity": "critical"},
    ]


@pytest.mark.parametrize("value", ['"nan"', '"inf"', '"-inf"', "NaN", "Infinity", "-Infinity"])
def test_it_reads_standard_input_and_every_way_to_write_what_is_not_finite(value: str):
    text = line(1.0) + "\n" + line(2.0, 2).replace("2.0", value)
    ended = run("-", given=text)
    assert ended.returncode == 0 and json.loads(ended.stdout)["step"] == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"series": "a", "step": 1, "time": 1}', "line 2: value is missing"),
        (line(1.0, series=7), "line 2: series is 7; write the series' name as text"),
        (line(1.0, step=1.5), "line 2: step is 1.5; write a whole number"),
        (line(1.0, step=True), "line 2: step is true; write a whole number"),
        (line(1.0, time="noon"), 'line 2: time is "noon"; write seconds as a number'),
        (line("high"), 'line 2: value is "high"; write a number, or "nan", "inf" or "-inf"'),
        (line(None), "line 2: value is null"),
    ],
)
def test_a_line_that_is_no_point_is_named(text: str, said: str):
    ended = run("-", given=line("nan") + text)
    assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
    # Earlier findings are printed too.
    assert json.loads(ended.stdout)["detector"] == "non-finite"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    ended = run(str(tmp_path / "none.jsonl"))
    assert ended.returncode == 2 and "none.jsonl: No such file or directory; name a file" in ended.stderr
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    ended = run(str(tmp_path / "binary"))
    assert ended.returncode == 2 and "is not a UTF-8 file" in ended.stderr and "Traceback" not in ended.stderr
