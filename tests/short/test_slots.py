"""The short form of `python -m tests.chaos.slots`."""

from __future__ import annotations

import shutil

import pytest

from tests.chaos.slots import namespace
from tests.support.stack import run_check


@pytest.mark.skipif(namespace() is None, reason="this user may make no namespace with a host name of its own")
@pytest.mark.skipif(not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler on this host")
def test_no_more_runs_train_together_than_a_host_has_slots() -> None:
    outcome = run_check("slots", "--gpu-runs", "5", "--cpu-runs", "1")
    found = {name: outcome[name] for name in ("runs", "most_together_gpu", "most_together_cpu")}
    assert found == {"runs": 6, "most_together_gpu": 2, "most_together_cpu": 1}
    assert outcome["watch_restarts"] == 1 and outcome["attempts"] == outcome["starts_seen"] == outcome["runs"]
    assert outcome["out_of_order"] == outcome["left_waiting"] == outcome["gpus_shared"] == 0
