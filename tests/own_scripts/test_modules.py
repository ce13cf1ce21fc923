"""Trainings started as a module of a package: `train --run-id N -- -m package.module`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.stack import Stack, rows, run_row

MODULE = """
import sys
import steersman
from learning.lessons import LOSS

run = steersman.attach()
print("arguments", sys.argv[1:], "rank", run.rank)
for step in range(1, 6):
    run.log(step, loss=LOSS / step)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "learning"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "lessons.py").write_text("LOSS = 2.0\n")
    (package / "train.py").write_text(MODULE)
    return tmp_path


def create(stack: Stack, *arguments: str) -> int:
    return int(stack.manage("create_run", "--quiet", "--project", "lab", *arguments).stdout)


@pytest.mark.parametrize("launcher", [[], ["python"], ["python", "-u"]])
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_module_is_trained(offline_stack: Stack, folder: Path, launcher: list[str], ranks: int) -> None:
    run_id = create(offline_stack)
    command = [*launcher, "-m", "learning.train", "--epochs", "3"]
    done = offline_stack.manage("train", "--run-id", str(run_id), "--nproc", str(ranks), "--", *command, cwd=folder)
    for rank in range(ranks):
        assert f"arguments ['--epochs', '3'] rank {rank}" in done.stdout
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"], run["name"]) == ("finished", 5, "learning.train")
    (attempt,) = rows(offline_stack, "SELECT command_line FROM runs_attempt WHERE run_id = ?", run_id)
    assert json.loads(attempt["command_line"]) == command


def test_a_name_that_was_given_stays(offline_stack: Stack, folder: Path) -> None:
    run_id = create(offline_stack, "--name", "third try")
    offline_stack.manage("train", "--run-id", str(run_id), "--quiet", "--", "-m", "learning.train", cwd=folder)
    assert run_row(offline_stack, run_id)["name"] == "third try"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["-m"], "script: -m needs the name of a module, as in -- -m mypackage.train"),
        (["-m", "nowhere.train"], "script: there is no module nowhere.train here; start the training from the folder"),
    ],
)
def test_a_module_that_is_not_there_costs_no_attempt(
    offline_stack: Stack, folder: Path, command: list[str], sentence: str
) -> None:
    run_id = create(offline_stack)
    done = offline_stack.manage("train", "--run-id", str(run_id), "--", *command, cwd=folder, check=False)
    assert done.returncode == 2 and sentence in done.stderr
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["attempt"], run["name"]) == ("created", 0, "script")
