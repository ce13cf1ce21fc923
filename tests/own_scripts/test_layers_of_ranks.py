"""Norms of layers of models that several ranks train cover the whole layer, even if each rank has only a shard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.stack import Stack, create_run, events, run_row

SCRIPT = Path(__file__).with_name("sharded.py")


def test_ranks_record_the_norms_of_whole_layers(offline_stack: Stack) -> None:
    run_id = create_run(offline_stack, "sharded")
    training = offline_stack.train(run_id, "--quiet", "--nproc", "2", "--", str(SCRIPT))
    assert training.wait(240) == 0, offline_stack.log()
    assert run_row(offline_stack, run_id)["state"] == "finished"
    found: dict[str, dict[int, float]] = {}
    for event in events(offline_stack, run_id, "metrics"):
        for block in event["blocks"]:
            for name, values in block["values"].items():
                found.setdefault(name, {}).update(zip(block["steps"], values, strict=True))
    for model in ("sharded", "alike"):
        for layer in (0, 2):
            for what in ("weight", "gradient"):
                series = found[f"layers/{what}/{model}.{layer}"]
                assert list(series) == [2, 4, 6], json.dumps(found)
                # At the first step the supervisor does not know yet that both ranks log these names.
                for step in (4, 6):
                    assert series[step] == pytest.approx(found[f"whole/{what}/{model}.{layer}"][step], rel=1e-3)
            assert list(found[f"layers/update/{model}.{layer}"]) == [2, 4, 6]
