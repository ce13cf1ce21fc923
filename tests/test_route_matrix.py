"""The matrix of routes in short: see `tests/route_matrix.py`."""

from __future__ import annotations

import subprocess
import sys

from tests.route_matrix import uncovered
from tests.stack import ROOT, last_json


def test_it_has_a_row_for_every_route_and_no_other() -> None:
    assert uncovered() == []


def test_everybody_gets_the_answer_that_the_table_says() -> None:
    program = [sys.executable, str(ROOT / "tests" / "route_matrix.py"), "--short"]
    result = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    assert last_json(result.stdout)["wrong"] == 0
