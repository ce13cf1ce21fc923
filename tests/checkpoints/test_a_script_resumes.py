"""A script that saves, crashes and resumes: which checkpoints are listed and stay on disk, and where it continues."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.stack import ROOT, Stack, create_run, rows, run_row

SCRIPT = str(ROOT / "tests" / "checkpoints" / "resuming_training.py")


def listed(stack: Stack, run_id: int) -> list[tuple[str, int, int]]:
    found = rows(stack, "SELECT * FROM runs_checkpoint WHERE run_id = ? ORDER BY attempt, step, id", run_id)
    return [(row["name"], row["attempt"], row["step"]) for row in found]


def folder_of(stack: Stack, run_id: int) -> Path:
    return stack.data / "runs" / str(run_id)


def test_it_goes_on_from_its_newest_checkpoint_and_keeps_what_it_recorded_itself(offline_stack):
    run_id = create_run(offline_stack)
    start = ("train", "--run-id", str(run_id), "--quiet", "--")
    crashed = offline_stack.manage(*start, SCRIPT, "60", "35", check=False)
    assert crashed.returncode == 1 and "out of patience" in crashed.stdout + crashed.stderr
    # The last two that it saved, and all that it recorded in other folders.
    first = [("mine-10", 1, 10), ("last", 1, 20), ("mine-20", 1, 20), ("last", 1, 30), ("mine-30", 1, 30)]
    assert listed(offline_stack, run_id) == first

    # The supervisor removes the remains of an interrupted save, but not a folder of the script.
    places = folder_of(offline_stack, run_id) / "attempts" / "1" / "checkpoints"
    (places / "step-00000031").mkdir()
    (places / "untold").mkdir()
    resumed = offline_stack.manage(*start, SCRIPT, "60", "0", check=False)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    second = [
        ("last", 2, 40),
        ("mine-40", 2, 40),
        ("last", 2, 50),
        ("mine-50", 2, 50),
        ("last", 2, 60),
        ("mine-60", 2, 60),
    ]
    assert listed(offline_stack, run_id) == [*first, *second]
    assert sorted(path.name for path in places.iterdir()) == [
        "mine-10", "mine-20", "mine-30", "step-00000020", "step-00000030", "untold",
    ]  # fmt: skip
    told = [json.loads(line) for line in (folder_of(offline_stack, run_id) / "files" / "told.jsonl").open()]
    assert [(each["attempt"], each["resumed"], each["first"]) for each in told] == [(1, False, 0), (2, True, 30)]
    assert told[1]["weight"] == 30.0
    assert run_row(offline_stack, run_id)["step"] == 60
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = 2", run_id)
    assert attempt["resumed_step"] == 30


def test_a_person_chooses_another_checkpoint_or_to_start_over(offline_stack):
    run_id = create_run(offline_stack)
    start = ("train", "--run-id", str(run_id), "--quiet")
    assert offline_stack.manage(*start, "--", SCRIPT, "60", "35", check=False).returncode == 1
    own = offline_stack.manage(*start, "--from", "mine-20", "--", SCRIPT, "22", "21", check=False)
    assert own.returncode == 2 and "written by the script itself" in own.stderr
    # A number is an id before it is a step, and the ids of this run are close together.
    ids = {row["id"] for row in rows(offline_stack, "SELECT id FROM runs_checkpoint WHERE run_id = ?", run_id)}
    step = next(step for step in (20, 30) if step not in ids)
    again = offline_stack.manage(*start, "--from", str(step), "--", SCRIPT, "60", str(step + 1), check=False)
    assert again.returncode == 1, again.stderr
    assert offline_stack.manage(*start, "--start-over", "--", SCRIPT, "60", "1", check=False).returncode == 1
    told = [json.loads(line) for line in (folder_of(offline_stack, run_id) / "files" / "told.jsonl").open()]
    assert [(each["attempt"], each["first"]) for each in told] == [(1, 0), (2, step), (3, 0)]
