"""The short forms of `tests/kill_test.py`: each kind of process is killed at least once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from tests.kill_test import WRONG, WRONG_RESUMED
from tests.stack import ROOT, last_json


def killed(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "tests" / "kill_test.py"), *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert result.returncode in (0, 1), result.stderr
    return last_json(result.stdout)


def test_it_loses_and_doubles_nothing_whatever_is_killed():
    outcome = killed("--kills", "8")
    assert outcome["kills"] == 8 and outcome["points"] > 100
    assert {name: outcome[name] for name in WRONG} == dict.fromkeys(WRONG, 0), outcome


def test_it_goes_on_bit_for_bit_whatever_is_killed():
    outcome = killed("--kills", "2", "--resume")
    assert outcome["kills"] == 2 and outcome["resumed"] > 0 and outcome["points"] > 100
    assert {name: outcome[name] for name in WRONG_RESUMED} == dict.fromkeys(WRONG_RESUMED, 0), outcome
