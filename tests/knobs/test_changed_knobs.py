"""A knob keeps its commanded value beyond the attempt: after a crash, a restart, by hand, on every rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from steersman.files.changed_knobs import CHANGED_KNOBS_FILE, write_changed_knobs
from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.records.kinds import NoteRecord
from steersman.run import Run, worker_lock_path
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_row, wait_for

FAILING = str(ROOT / "tests" / "trainings" / "failing.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_changed_knobs(tmp_path, {
        "rate": {"": 0.001}, "decay": {"head": 0.2}, "learning_rate": {"": 0.05}, "mode": {"": "gone"},
        "fails": {"": 2.0}, "same": {"": 3}, "of another script": {"": 1},
    })  # fmt: skip
    return tmp_path


def begun(folder: Path, rank: int = 0) -> Run:
    lock = try_lock(worker_lock_path(folder, rank))
    assert lock is not None
    return Run(folder, rank, lock)


def notes(folder: Path, rank: int = 0) -> list[tuple[str, str]]:
    found = JournalReader(segment_path(folder, rank, 0)).read(4 << 20, ended=True)
    return [(record.text, record.level) for record in found if isinstance(record, NoteRecord)]


def test_a_knob_begins_where_a_command_left_it_and_says_so(folder: Path) -> None:
    run = begun(folder)
    assert run.knob("rate", 0.01).value == 0.001
    decay = run.knob("decay", {"body": 0.1, "head": 0.1})
    assert (decay["body"], decay["head"]) == (0.1, 0.2)
    assert run.knob("same", 3).value == 3
    assert run.knob("new", 5).value == 5
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    assert run.learning_rate_knob(optimizer).value == 0.05
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert notes(folder) == [
        ("rate begins with 0.001, as set by an earlier command, instead of 0.01.", "info"),
        ("decay (head) begins with 0.2, as set by an earlier command, instead of 0.1.", "info"),
        ("learning_rate begins with 0.05, as set by an earlier command, instead of 0.1.", "info"),
    ]


def test_a_value_that_no_longer_goes_is_left_out_and_told(folder: Path) -> None:
    def fail(value: float) -> None:
        if value == 2.0:
            raise RuntimeError("no room for it")

    run = begun(folder)
    assert run.knob("mode", "mean", choices=("mean", "sum")).value == "mean"
    assert run.knob("fails", 1.0, apply=fail).value == 1.0
    (mode, level), (fails, _) = notes(folder)
    assert (
        mode.startswith("mode is still mean. The earlier change to 'gone' could not be repeated: ")
        and level == "warning"
    )
    assert fails == "fails is still 1. The earlier change to 2.0 could not be repeated: no room for it."


def test_other_ranks_begin_with_the_same_value_without_a_second_note(folder: Path) -> None:
    run = begun(folder, 1)
    assert run.knob("rate", 0.01).value == 0.001
    assert notes(folder, 1) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rate": 3}', '{"rate": null}'])
def test_a_damaged_file_costs_nothing_but_itself(folder: Path, text: str) -> None:
    (folder / CHANGED_KNOBS_FILE).write_text(text)
    assert begun(folder).knob("rate", 0.01).value == 0.01


# The real processes


def told_of_knob(stack: Stack, run_id: int) -> list[tuple[int, Any]]:
    said = [(event["attempt"], line["text"]) for event in events(stack, run_id, "log") for line in event["lines"]]
    return [(attempt, text) for attempt, text in said if "as set by an earlier command" in text]


def test_it_goes_on_after_a_crash_a_restart_and_a_start_by_hand_until_one_starts_over(offline_stack: Stack) -> None:
    stack, run_id = offline_stack, create_run(offline_stack)
    plan = ("--", FAILING, "0:turned,2:fail,2:fail,2:fail,2:finish")
    quick = {"STEERSMAN_RESTART_PAUSE_S": "0.05"}
    supervisor = stack.train(run_id, "--quiet", "--restarts", "1", "--nproc", "2", *plan, **quick)
    wait_for(lambda: '"rate"' in run_row(stack, run_id)["knobs"], lambda: f"the knob\n{stack.log()}")
    stack.manage("command", str(run_id), "set_knob", "rate=0.001")
    assert supervisor.wait(60) == 1, stack.log()
    sentence = "rate begins with 0.001, as set by an earlier command, instead of 0.01."
    assert told_of_knob(stack, run_id) == [(2, sentence)]
    assert stack.train(run_id, "--quiet", "--restarts", "0", *plan).wait(60) == 1, stack.log()
    assert told_of_knob(stack, run_id) == [(2, sentence), (3, sentence)], stack.log()
    assert '"value": 0.001' in run_row(stack, run_id)["knobs"]
    # A training that starts over begins with the script's declared values, and so does an attempt that continues it.
    assert stack.train(run_id, "--quiet", "--start-over", *plan).wait(60) == 1, stack.log()
    assert stack.train(run_id, "--quiet", *plan).wait(60) == 0, stack.log()
    assert told_of_knob(stack, run_id) == [(2, sentence), (3, sentence)], stack.log()
    assert '"value": 0.01' in run_row(stack, run_id)["knobs"]
    assert [row["number"] for row in rows(stack, "SELECT number FROM runs_attempt WHERE run_id = ?", run_id)] == [
        1, 2, 3, 4, 5
    ]  # fmt: skip
