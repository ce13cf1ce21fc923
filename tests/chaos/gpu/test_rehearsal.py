"""The programs of the GPU check, rehearsed on the CPU, so that they work when a GPU is available."""

from __future__ import annotations

import subprocess
import sys

from tests.support.stack import ROOT, last_json


def test_every_program_runs_to_its_end() -> None:
    command = [sys.executable, "-m", "tests.gpu_check", "--rehearse"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stderr
    result = last_json(answer.stdout)
    assert result["log_points"] and result["resume_values"] and result["rehearsed"] == 1
