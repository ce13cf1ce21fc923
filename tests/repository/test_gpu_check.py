"""The GPU check reports a missing GPU, and finds faults in the output of its programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import gpu_check
from tests.support.stack import ROOT, last_json


def test_without_a_gpu_it_says_so_and_exits_0() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.gpu_check"],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr
    assert last_json(answer.stdout) == {"gpu": None}
    assert "nothing was checked" in answer.stderr


def test_it_names_what_is_not_as_it_has_to_be() -> None:
    right = dict(gpu_check.RIGHT)
    assert gpu_check.wrong({**right, "step_ratio": 1.4}) == []
    assert gpu_check.wrong(right | {"log_syncs": 3}) == ["log_syncs is 3, not 0"]
    assert gpu_check.wrong({"samples_error": "exit code 1"}) == ["samples_error: exit code 1"]


def test_a_program_that_fails_or_hangs_is_named() -> None:
    assert gpu_check.run([sys.executable, "-c", "raise SystemExit(3)"], 60) == {"error": "exit code 3"}
    assert gpu_check.run([sys.executable, "-c", "print('no object')"], 60)["error"]
    waits = [sys.executable, "-c", "import signal; signal.pause()"]
    assert gpu_check.run(waits, 0.1) == {"error": "no answer within 0 s"}


def test_its_document_has_each_figure() -> None:
    text = Path(ROOT, "docs", "gpu.md").read_text()
    assert [name for name in gpu_check.RIGHT if f"`{name}`" not in text] == []
