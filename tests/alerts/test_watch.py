"""`run.watch`: what is recorded of a declared goal, and that no argument ends a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steersman.recorder import MOST_WATCHED
from steersman.records.kinds import NoteRecord, WatchRecord
from steersman.run import Run
from tests.steersman.client.running import records, run

__all__ = ["run"]


def goals(folder: Path) -> list[tuple[str, str]]:
    return [(each.name, each.goal) for each in records(folder) if isinstance(each, WatchRecord)]


def notes(folder: Path) -> list[str]:
    return [each.text for each in records(folder) if isinstance(each, NoteRecord)]


def test_it_records_a_goal_once_and_each_change(run: Run, tmp_path: Path) -> None:
    for goal in ("min", "min", "max", "max"):
        run.watch("my measure", goal=goal)
    assert goals(tmp_path) == [("my measure", "min"), ("my measure", "max")] and notes(tmp_path) == []


@pytest.mark.parametrize("goal", ["less", "", None, 1, ["min"], object()])
def test_another_goal_is_left_out_and_the_note_says_what_to_give(run: Run, tmp_path: Path, goal: Any) -> None:
    run.watch("my measure", goal=goal)
    assert goals(tmp_path) == []
    (note,) = notes(tmp_path)
    assert "goal=" in note and "my measure" in note and 'goal="min"' in note


@pytest.mark.parametrize("name", [None, 7, ["loss"]])
def test_a_name_that_is_no_text_is_left_out(run: Run, tmp_path: Path, name: Any) -> None:
    run.watch(name, goal="min")
    assert goals(tmp_path) == [] and "watch(name)" in notes(tmp_path)[0]


def test_it_takes_so_many_series_and_no_more(run: Run, tmp_path: Path) -> None:
    for number in range(MOST_WATCHED + 5):
        run.watch(f"measure {number}", goal="min")
    run.watch("measure 0", goal="max")
    assert len(goals(tmp_path)) == MOST_WATCHED + 1 and goals(tmp_path)[-1] == ("measure 0", "max")
    assert str(MOST_WATCHED) in notes(tmp_path)[0]
