"""Trainings with several ranks from outside: by `train --nproc` and by torchrun, to every kind of end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from steersman.files.journal import JournalReader, segment_path
from steersman.records.kinds import PointRecord
from tests.chaos.ranks import living
from tests.support.nodes import processes, start_nodes, worker_of
from tests.support.stack import ROOT, Stack, create_run, events, rows, run_check, run_row, wait_for
from tests.support.stored_points import exact_column

WORKER = str(ROOT / "tests" / "trainings" / "ranked.py")
TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2"]


def attempt_folder(stack: Stack, run_id: int, number: int = 1) -> Path:
    return stack.data / "runs" / str(run_id) / "attempts" / str(number)


def attempt(stack: Stack, run_id: int, number: int = 1) -> dict[str, Any]:
    (row,) = rows(stack, "SELECT * FROM runs_attempt WHERE run_id = ? AND number = ?", run_id, number)
    return row


def points(stack: Stack, run_id: int, name: str) -> list[tuple[int, int, float]]:
    """Return the points of a series in order of arrival: attempt, step, value."""
    found = []
    for event in events(stack, run_id, "metrics"):
        for block in event["blocks"]:
            if name in block["values"]:
                steps = zip(block["steps"], exact_column(block, name), strict=True)
                found += [(event["attempt"], step, value) for step, value in steps]
    return found


def by_step(stack: Stack, run_id: int, name: str) -> dict[int, float]:
    """Return the series as a chart shows it: a later attempt replaces earlier points from its first step on."""
    series: dict[int, float] = {}
    last_attempt = 0
    for number, step, value in points(stack, run_id, name):
        if number != last_attempt:
            series = {old: kept for old, kept in series.items() if old < step}
            last_attempt = number
        assert step not in series
        series[step] = value
    return series


def start_torchrun(stack: Stack, run_id: int, *script: str) -> subprocess.Popen[bytes]:
    words = ["--", *script] if script else []
    with (stack.folder / "train.log").open("ab") as log:
        process = subprocess.Popen(
            [*TORCHRUN, "manage.py", "train", "--run-id", str(run_id), "--quiet", *words],
            env=stack.environment, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    stack.trainings.append(process)
    return process


def reach(stack: Stack, run_id: int, step: int) -> None:
    wait_for(lambda: run_row(stack, run_id)["step"] >= step, lambda: f"step {step}\n{stack.log()}")


def gone(stack: Stack, run_id: int, supervisor: subprocess.Popen[bytes] | None = None) -> bool:
    return living(attempt_folder(stack, run_id), supervisor) == 0


def random_commands_to(*options: str) -> None:
    result = run_check("ranks", "--ranks", "2", "--commands", "12", *options)
    assert result["commands"] >= 12 and result["applied"] >= 4
    assert result["step_differs"] == result["processes_left"] == 0, result
    assert result["state"] == "failed" and result["reason"] == "Rank 1 was ended by SIGKILL."


def test_random_commands_take_effect_at_the_same_step_and_a_dead_rank_leaves_nothing():
    random_commands_to("--nodes", "2", "--seed", "6")


def series_alone(folder: Path) -> dict[int, float]:
    """Return the loss of the same training by one rank, with whole batches."""
    from steersman.files.locks import try_lock
    from steersman.run import Run, worker_lock_path
    from trainer.worker.loop import train
    from trainer.worker.randomness import seed_everything
    from trainer.worker.recipe import load_recipe

    lock = try_lock(worker_lock_path(folder, 0))
    assert lock is not None
    seed_everything(0, False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(load_recipe("digits")({"epochs": "8"}, device=torch.device("cpu")), Run(folder, 0, lock))
    torch.set_num_threads(threads)
    records = JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)
    points = [each for each in records if isinstance(each, PointRecord)]
    return {each.step: each.values["train/loss"] for each in points if "train/loss" in each.values}


def test_two_ranks_stop_crash_and_go_on_bit_for_bit(offline_stack, tmp_path):
    """--nproc trains the uninterrupted one; torchrun first trains the other, on two nodes.

    Both are equal, and equal to one rank's training with the same batches, except for the order of additions.
    """
    stack = offline_stack
    recipe = "tests.recipes.slowing:Slowing"
    words = ("create_run", "--quiet", "--project", "lab", "--user", "operator", "--recipe", recipe, "--device", "cpu")
    whole, cut = (int(stack.manage(*words, "--set", "epochs=8").stdout) for _ in range(2))
    reference = stack.train(whole, "--quiet", "--nproc", "2")
    both = start_nodes(stack, cut, (1, 1), SLOW_FROM="30")
    reach(stack, cut, 30)
    # The signal may go to any rank on any node.
    worker_of(stack, cut, 1).send_signal(signal.SIGTERM)
    assert [node.wait(60) for node in both] == [0, 0], stack.log()
    assert run_row(stack, cut)["state"] == "stopped" and attempt(stack, cut)["ranks"] == 2
    assert not processes(stack, cut)
    later = run_row(stack, cut)["step"] + 25
    training = stack.train(cut, "--quiet", "--nproc", "2", SLOW_FROM=str(later))
    reach(stack, cut, later)
    os.kill(json.loads((attempt_folder(stack, cut, 2) / "worker-0001.json").read_text())["pid"], signal.SIGKILL)
    assert training.wait(60) == 1
    assert run_row(stack, cut)["reason"] == "Rank 1 was ended by SIGKILL."
    assert stack.train(cut, "--quiet").wait(60) == 0, stack.log()
    assert reference.wait(60) == 0, stack.log()
    for run_id in (whole, cut):
        assert run_row(stack, run_id)["state"] == "finished"
    assert attempt(stack, whole)["ranks"] == 2 and attempt(stack, cut)["launch"]
    total = run_row(stack, whole)["total_steps"]
    for name in ("train/loss", "train/accuracy", "optimizer/gradient_norm"):
        series = by_step(stack, whole, name)
        assert list(series) == list(range(1, total + 1))
        assert series == by_step(stack, cut, name)
    query = (
        "SELECT epoch, train_loss, validation_loss, best FROM runs_epochmetric WHERE run_id = ? ORDER BY epoch, attempt"
    )
    newest = {row["epoch"]: row for row in rows(stack, query, cut)}
    assert newest == {row["epoch"]: row for row in rows(stack, query, whole)}
    assert series_alone(tmp_path) == pytest.approx(by_step(stack, whole, "train/loss"), rel=1e-5)
    newest_checkpoint = max(attempt_folder(stack, whole).glob("checkpoints/*"))
    files = json.loads((newest_checkpoint / "manifest.json").read_text())["files"]
    assert {"rank-0000.pt", "rank-0001.pt"} < set(files)


def test_a_script_of_ranks_is_one_curve_and_its_failing_rank_is_named(offline_stack):
    stack = offline_stack
    run_id = create_run(stack, "failing")
    training = stack.train(run_id, "--quiet", "--nproc", "3", "--", WORKER, "100000", "0.01", "1")
    assert training.wait(60) == 1
    assert gone(stack, run_id, training)
    assert run_row(stack, run_id)["reason"] == "Rank 1: ValueError: no more of this"
    assert "ValueError: no more of this" in attempt(stack, run_id)["traceback"]
    assert points(stack, run_id, "loss")[:5] == [(1, step, step + 1.0) for step in range(1, 6)]
    assert points(stack, run_id, "speed/samples_per_second")[4] == (1, 5, 3.0)
    assert points(stack, run_id, "speed/step_ms")[4] == (1, 5, 2.0)
    lines = [line for event in events(stack, run_id, "log") for line in event["lines"]]
    assert not [line for line in lines if "pynvml" in line["text"]]
    assert {line["text"] for line in lines if line["source"] == "console"} >= {
        "[0] rank 0 of 3", "[1] rank 1 of 3", "[2] rank 2 of 3", "[1] ValueError: no more of this",
    }  # fmt: skip
    assert {line["text"] for line in lines if line["source"] == "steersman"} >= {
        "here is 0", "Rank 1: here is 1", "Rank 2: here is 2",
    }  # fmt: skip


def test_ranks_whose_supervisor_was_killed_are_adopted_without_a_gap(offline_stack):
    stack = offline_stack
    run_id = create_run(stack, "adopted")
    first = stack.train(run_id, "--quiet", "--nproc", "2", "--", WORKER, "100000", "0.01")
    reach(stack, run_id, 20)
    first.kill()
    first.wait()
    second = stack.train(run_id, "--quiet")
    reach(stack, run_id, run_row(stack, run_id)["step"] + 20)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0, stack.log()
    assert run_row(stack, run_id)["state"] == "stopped" and attempt(stack, run_id)["adoptions"] == 1
    found = points(stack, run_id, "loss")
    assert found == [(1, step, step + 0.5) for step in range(1, len(found) + 1)]
    assert gone(stack, run_id, second)


def test_whatever_is_killed_under_torchrun_leaves_no_process(offline_stack):
    """Of two concurrent launches, the test kills a rank of one and torchrun itself of the other."""
    stack = offline_stack
    of_rank, of_torchrun = create_run(stack, "rank killed"), create_run(stack, "torchrun killed")
    first, second = (start_torchrun(stack, run_id, WORKER, "100000", "0.01") for run_id in (of_rank, of_torchrun))
    reach(stack, of_rank, 20)
    reach(stack, of_torchrun, 20)
    children = psutil.Process(second.pid).children(recursive=True)
    assert len(children) == 4
    os.kill(json.loads((attempt_folder(stack, of_rank) / "worker-0001.json").read_text())["pid"], signal.SIGKILL)
    second.kill()
    second.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive and gone(stack, of_torchrun)
    assert run_row(stack, of_torchrun)["state"] == "stopped"
    assert first.wait(60) == 1
    assert gone(stack, of_rank)
    assert run_row(stack, of_rank)["reason"] == "Rank 1 was ended by SIGKILL."
    console = [line["text"] for event in events(stack, of_rank, "log") for line in event["lines"]]
    assert {"[0] rank 0 of 2", "[1] rank 1 of 2"} <= set(console)
    assert not [text for text in console if "pynvml" in text]
    assert points(stack, of_rank, "loss")[:15] == [(1, step, step + 0.5) for step in range(1, 16)]
