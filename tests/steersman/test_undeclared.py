"""Ranks that a script does not declare: one is recorded, commands for one rank alone are refused, a stop ends all."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from steersman.agent.journals.empty_record import NEVER_ATTACHED, NEVER_LOGGED
from steersman.commands import Control, Done
from steersman.ranks.launchers import OUTSIDE_VARIABLE, RankPlace, outside, place_in
from steersman.ranks.undeclared import UndeclaredPeers, leave_mark
from steersman.records.kinds import OutcomeState, State
from steersman.records.posted import PostedCommand
from tests.support.stack import ROOT, Stack, create_run, events, free_port, run_row, wait_for

WORKER = str(ROOT / "tests" / "trainings" / "undeclared.py")
SHORT = str(ROOT / "tests" / "trainings" / "short.py")
STARTED = ("state", "reason")


@pytest.mark.parametrize(("environment", "expected"), [
    ({}, None),
    ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
    ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, RankPlace(3, 4)),
    # Lightning's ddp: no RANK, a number on each node.
    ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, RankPlace(1, 2)),
    ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "4"}, RankPlace(1, 4)),
    ({"WORLD_SIZE": "4"}, None),
    ({"RANK": "x", "WORLD_SIZE": "4"}, None),
    ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, RankPlace(1, 2)),
    ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, RankPlace(1, 2)),
    ({"PMI_RANK": "0", "PMI_SIZE": "3"}, RankPlace(0, 3)),
    # A batch script of one task and one of four: neither is a job step.
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_JOB_ID": "7"}, None),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"}, None),
    ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0"}, RankPlace(2, 4)),
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_ID": "0"}, None),
    # One task, inside which torchrun was started.
    ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "RANK": "1", "WORLD_SIZE": "2"}, RankPlace(1, 2)),
])  # fmt: skip
def test_a_launchers_variables_tell_which_process_this_is(environment: dict[str, str], expected: RankPlace | None):
    assert place_in(environment) == expected


def test_what_stood_there_before_train_was_started_is_about_train():
    sweep = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0", "RANK": "2", "WORLD_SIZE": "4"}
    worker = sweep | {OUTSIDE_VARIABLE: outside(sweep)}
    assert place_in(worker) is None
    # A launcher inside the worker sets new values, even if the number is the same.
    assert place_in(worker | {"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}) == RankPlace(1, 2)
    assert place_in(worker | {"WORLD_SIZE": "4", "MASTER_PORT": "29500"}) == RankPlace(2, 4)
    assert place_in(worker | {"SLURM_STEP_ID": "1", "SLURM_PROCID": "0"}) == RankPlace(0, 4)
    assert place_in(worker | {OUTSIDE_VARIABLE: "no json"}) == RankPlace(2, 4)


class Remembering:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def record_outcome(self, command: PostedCommand, state: OutcomeState, done: Done, ranks: int | None = None) -> None:
        self.told.append({"id": command.id, "state": state, "reason": done.remark})

    def record_state(self, state: State) -> None: ...
    def record_knobs(self) -> None: ...


def test_only_what_does_no_harm_is_done_while_others_train(tmp_path: Path):
    outcomes = Remembering()
    peers = UndeclaredPeers(tmp_path, RankPlace(0, 4))
    control = Control(outcomes, paused=True, forbid=peers.refusal)
    control.on("save_checkpoint", lambda arguments: None)
    for kind in ("set_knob", "pause", "extend", "evaluate", "save_checkpoint", "resume", "note", "stop"):
        control.take([PostedCommand(id=kind, command=kind)], 1, 0)
    states = {told["id"]: told["state"] for told in outcomes.told}
    assert {kind for kind, state in states.items() if state == "applied"} == {"resume", "note", "stop"}
    assert all("4 undeclared processes" in told["reason"] and "--nproc 4" in told["reason"]
               for told in outcomes.told if told["state"] == "refused")  # fmt: skip
    assert "4 undeclared processes" in control.do("save_checkpoint", 1, 0)


def test_marks_count_as_long_as_their_process_lives(tmp_path: Path):
    peers = UndeclaredPeers(tmp_path, None)
    assert peers.count() == 0
    leave_mark(tmp_path)
    assert peers.count() == 2
    (mark,) = tmp_path.glob("beside-*.json")
    told = json.loads(mark.read_text())
    dead = psutil.Popen([sys.executable, "-c", ""])
    dead.wait()
    mark.write_text(json.dumps(told | {"pid": dead.pid}))
    assert peers.count() == 0
    mark.write_text(json.dumps(told | {"pid": dead.pid, "host": "elsewhere"}))
    assert peers.count() == 2


def start(stack: Stack, *command: str, **variables: str) -> tuple[int, Any]:
    run_id = create_run(stack)
    return run_id, stack.train(run_id, "--", *command, **variables)


def reach(stack: Stack, run_id: int, step: int) -> None:
    wait_for(lambda: run_row(stack, run_id)["step"] >= step, lambda: f"step {step}\n{stack.log()}")


def ask(stack: Stack, run_id: int, *words: str) -> str:
    return stack.manage("command", str(run_id), *words, "--wait", "60", check=False).stdout


def marked(stack: Stack, run_id: int) -> list[psutil.Process]:
    """Return the living processes of a run, wherever they are in the tree of processes."""
    folder = str(stack.data / "runs" / str(run_id) / "attempts" / "1")
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("STEERSMAN_ATTEMPT_FOLDER") == folder and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def lines(stack: Stack, run_id: int) -> list[dict[str, Any]]:
    return [line for event in events(stack, run_id, "log") for line in event["lines"]]


def losses(stack: Stack, run_id: int) -> set[float]:
    blocks = [block for event in events(stack, run_id, "metrics") for block in event["blocks"]]
    return {value for block in blocks for value in block["values"].get("loss", [])}


def torchrun() -> list[str]:
    program = str(Path(sys.executable).with_name("torchrun"))
    return [program, "--nproc-per-node=2", f"--master-port={free_port()}", WORKER, "launched"]


def test_of_ranks_that_torchrun_starts_inside_rank_0_is_recorded_and_a_stop_ends_all(offline_stack: Stack):
    run_id, training = start(offline_stack, *torchrun())
    reach(offline_stack, run_id, 5)
    refused = ask(offline_stack, run_id, "set_knob", "rate=0.5")
    assert "refused" in refused and "2 undeclared processes" in refused and "--nproc 2" in refused
    assert "refused" in ask(offline_stack, run_id, "pause")
    assert "applied" in ask(offline_stack, run_id, "note", "all is well")
    assert len(marked(offline_stack, run_id)) >= 3
    assert "applied" in ask(offline_stack, run_id, "stop")
    # Rank 1, in a separate session, ignores SIGTERM and would wait for ever.
    assert training.wait(120) == 0, offline_stack.log()
    assert {name: run_row(offline_stack, run_id)[name] for name in STARTED} == {"state": "stopped", "reason": ""}
    assert marked(offline_stack, run_id) == []
    assert losses(offline_stack, run_id) == {1.0}
    said = [line["text"] for line in lines(offline_stack, run_id) if "rank 1 of 2" in line["text"]]
    assert len(said) == 1 and "steersman run --nproc 2 --" in said[0] and "torchrun" in said[0]


def test_of_spawned_processes_the_first_is_recorded_though_another_came_first(offline_stack: Stack):
    run_id, training = start(offline_stack, WORKER, "spawn")
    assert training.wait(120) == 0, offline_stack.log()
    assert losses(offline_stack, run_id) == {1.0}
    assert run_row(offline_stack, run_id)["step"] == 20


def test_each_task_of_a_sweep_is_a_training_of_its_own(offline_stack: Stack):
    task = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7"}
    run_id, training = start(offline_stack, SHORT, "10", **task)
    assert training.wait(60) == 0, offline_stack.log()
    assert run_row(offline_stack, run_id)["step"] == 10


@pytest.mark.parametrize(("script", "sentence"), [
    ("print('no run here')", NEVER_ATTACHED),
    ("import steersman; run = steersman.attach(); run.plan(total_steps=3); run.note('hello')", NEVER_LOGGED),
    ("import steersman; steersman.attach().log(1, loss=1.0)", ""),
    ("import steersman; steersman.attach().log_epoch(1, train_loss=1.0)", ""),
    ("import steersman; steersman.attach().log_text('sample', 'text')", ""),
    ("raise SystemExit(3)", ""),
])  # fmt: skip
def test_a_training_that_ends_without_a_record_says_what_to_type(
    script: str, sentence: str, offline_stack: Stack, tmp_path: Path
):
    path = tmp_path / "mine.py"
    path.write_text(script)
    run_id = create_run(offline_stack)
    command = offline_stack.command("train", "--run-id", str(run_id), "--", str(path))
    done = psutil.Popen(command, env=offline_stack.environment, stdout=-1, stderr=-2)
    said = done.communicate(timeout=60)[0].decode()
    warned = [line["text"] for line in lines(offline_stack, run_id)
              if line["level"] == "warning" and line["source"] == "steersman"]  # fmt: skip
    assert warned == ([sentence] if sentence else [])
    assert ("Nothing was recorded" in said) == bool(sentence)
    if sentence:
        assert sentence in said
        assert "run.log(step, loss=loss)" in sentence and "run = steersman.attach()" in sentence
