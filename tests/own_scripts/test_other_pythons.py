"""Trainings in a separate environment: this project is not installed in it, or its Python is older."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.stack import Stack, create_run, events, rows, run_row, wait_for

CLIENT_OF_ALL_KINDS = Path(__file__).parent / "everything.py"
OLDEST = "3.10"


@pytest.fixture
def empty_python(tmp_path: Path) -> str:
    """A virtual environment without pip, torch or anything else."""
    folder = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    packages = next(folder.glob("lib/python*/site-packages"))
    assert list(packages.iterdir()) == []
    return str(folder / "bin" / "python")


@pytest.fixture
def oldest_python() -> str:
    of_pyenv = sorted(Path.home().glob(f".pyenv/versions/{OLDEST}*/bin/python"))
    candidates = [shutil.which(f"python{OLDEST}"), *map(str, of_pyenv)]
    for python in filter(None, candidates):
        asked = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        if subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.strip() == OLDEST:
            return python
    pytest.skip(f"There is no Python {OLDEST} on this machine: put python{OLDEST} on the PATH.")


@pytest.mark.parametrize("which", ["empty_python", "oldest_python"])
def test_a_training_of_another_python_is_recorded_and_steered(
    offline_stack: Stack, request: pytest.FixtureRequest, tmp_path: Path, which: str
) -> None:
    python = request.getfixturevalue(which)
    script = tmp_path / "script.py"
    script.write_text(CLIENT_OF_ALL_KINDS.read_text())
    run_id = create_run(offline_stack)
    training = offline_stack.train(run_id, "--quiet", "--", python, str(script))
    wait_for(lambda: run_row(offline_stack, run_id)["step"] > 2, lambda: f"points\n{offline_stack.log()}", 60)
    offline_stack.manage("command", str(run_id), "set_knob", "learning_rate=0.5", "--wait", "60")
    offline_stack.manage("command", str(run_id), "stop", "--wait", "60")
    assert training.wait(60) == 0, offline_stack.log()

    run = run_row(offline_stack, run_id)
    assert (run["state"], run["best_metric"], json.loads(run["knobs"])[0]["value"]) == ("stopped", 0.25, 0.5)
    assert {"checkpoint", "text", "epoch"} <= {event["kind"] for event in events(offline_stack, run_id)}
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    version = json.loads(attempt["environment"])["python"]
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert version.startswith(f"{OLDEST if which == 'oldest_python' else own}.")
    printed = [line for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert "the last line" in [line["text"] for line in printed]
    assert [line for line in printed if line["level"] == "error"] == []


@pytest.mark.parametrize("which", ["oldest_python"])
def test_ranks_of_an_older_python_train_together(
    offline_stack: Stack, request: pytest.FixtureRequest, which: str
) -> None:
    python = request.getfixturevalue(which)
    ranked = str(Path(__file__).parents[1] / "trainings" / "ranked.py")
    run_id = create_run(offline_stack)
    offline_stack.manage("train", "--run-id", str(run_id), "--nproc", "2", "--", python, ranked, "20", "0")
    run = run_row(offline_stack, run_id)
    assert (run["state"], run["step"]) == ("finished", 20)
