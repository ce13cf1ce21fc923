"""The matrix of routes in short: see `python -m tests.chaos.routes`."""

from __future__ import annotations

from tests.chaos.routes import uncovered
from tests.support.stack import run_check


def test_it_has_a_row_for_every_route_and_no_other() -> None:
    assert uncovered() == []


def test_everybody_gets_the_answer_that_the_table_says() -> None:
    assert run_check("routes", "--short", timeout_s=300)["wrong"] == 0
