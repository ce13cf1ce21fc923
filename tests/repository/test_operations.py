"""The page of operations names tests and files of this project."""

from __future__ import annotations

import re

from tests.support.stack import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_each_test_and_file_that_it_names_is_there() -> None:
    named = re.findall(r"`((?:tests|deploy)/[\w./]+)`", PAGE)
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_row_of_what_is_defended_names_a_test() -> None:
    rows = PAGE.partition("## What is defended")[2].splitlines()
    told = [row for row in rows if row.startswith("| ") and not row.startswith("| against")]
    assert told and [row for row in told if not re.search(r"`tests/[\w/]+/test_\w+\.py`", row)] == []
