"""More stories than `tests/live/test_page_state.py` has time for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.test_page_state import differences, of_whatever_may_happen, ones_that_fall_behind

pytestmark = pytest.mark.django_db


def test_a_page_that_fell_behind_holds_what_a_fresh_one_holds(tmp_path: Path) -> None:
    assert differences(ones_that_fall_behind(tmp_path, range(200)), tmp_path) == []


def test_a_page_that_followed_whatever_may_happen_holds_what_a_fresh_one_holds(tmp_path: Path) -> None:
    assert differences(of_whatever_may_happen(tmp_path, range(400)), tmp_path) == []
