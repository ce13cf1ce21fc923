"""The short form of `python -m tests.chaos.any_value`, and the table with its expected values."""

from __future__ import annotations

from tests.chaos.any_value import WRONG
from tests.support.any_values.table import ROWS, expected, table
from tests.support.stack import run_check


def test_no_value_costs_a_run_or_another_value():
    outcome = run_check("any_value", "--each", "25")
    assert outcome["methods"] == 20 and outcome["fewest_calls_of_a_method"] >= 3
    assert outcome["storable"] >= 0.4 * outcome["calls"]
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0), outcome


def test_the_table_names_what_each_row_stores():
    assert len(ROWS) == len(table())
    assert {expected(row) for row in table()} == {"stored", "left out", "TypeError", "SpecError"}
