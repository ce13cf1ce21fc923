"""A run without a supervisor accepts every call, refuses wrong ones, and writes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steersman.run import Run
from tests.steersman.client.running import DeviceValue, script


def test_it_logs_nowhere_outside_a_supervised_run_and_says_so_once():
    result = script(None, """
        import steersman
        run = steersman.attach()
        steersman.attach()
        run.log(1, loss=0.5)
        run.log_epoch(1, train_loss=0.5)
        run.plan(total_epochs=1)
        assert not run.stopping
        run.finish()
        import sys
        assert "torch" not in sys.modules and "django" not in sys.modules
    """)  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("steersman:") == 1 and "nothing is logged" in result.stderr


def test_an_unsupervised_run_takes_every_call_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERSMAN_START_PAUSED", "1")
    monkeypatch.setenv("STEERSMAN_UNADOPTED_S", "0")
    run = Run()
    knob = run.knob("rate", 0.5, minimum=0.0)
    run.begin_at(3, 1)
    run.plan(total_steps=10)
    run.expect_quiet(60)
    for step in range(4, 1000):
        run.log(step, loss=0.5)
        run.log(step, **{"train/loss": np.float32(0.5), "of": step})
        assert not run.stopping
    run.log_epoch(1, train_loss=0.5, best=True, nested=np.float64(2))
    run.log_text("sample", "text")
    run.note("here")
    run.record_environment({"torch": "2"})
    run.record_checkpoint(tmp_path / "c", step=1, epoch=1, name="c", size_bytes=1, sha256="0" * 64)
    run.finish()
    run._record_exception(ValueError, ValueError("its own"), None)
    run._record_exit()
    assert (run.supervised, run.folder, run.rank, run.ranks) == (False, None, 0, 1)
    assert knob.value == 0.5 and run.knobs == {"rate": {"": 0.5}}
    assert list(tmp_path.iterdir()) == []


def test_an_unsupervised_run_stops_and_does_what_is_requested_at_its_step_boundary():
    run = Run(rank=2)
    saved: list[Any] = []
    run.on("save_checkpoint", saved.append)
    run.request("save_checkpoint")
    assert saved == [] and not run.stopping and saved == [{}]
    run.request_stop()
    assert run.stopping and run.stopping and run.saves_on_stop


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "call",
    [
        lambda run: run.log(2.5, loss=1.0),
        lambda run: run.log(1, loss="low"),
        lambda run: run.log(1, loss=[0.5, 0.5]),
        lambda run: run.log_epoch("one", train_loss=0.5),
        lambda run: run.log_epoch(1, train_loss="low"),
        lambda run: run.plan(total_steps="many"),
        lambda run: run.record_environment("torch"),
        lambda run: run.record_checkpoint(None, step=1, epoch=1, name="c", size_bytes=1, sha256=""),
        lambda run: run.record_checkpoint("c", step=1, epoch=1, name="c", size_bytes=1, sha256="0" * 64, metrics=1),
        lambda run: run.begin_at("start"),
        lambda run: run.expect_quiet("long"),
        lambda run: run.log_text("sample", "text", step=2.5),
    ],
)
def test_a_wrong_value_is_noticed_before_the_script_is_supervised(call, first, capsys):
    run = Run()
    if not first:
        run.log(1, loss=0.5)
    for _ in range(2):
        call(run)
    told = capsys.readouterr().err.splitlines()
    assert len(told) in (1, 2) and all(line.startswith("steersman: ") for line in told)


@pytest.mark.parametrize(
    "call", [lambda run: run.log({"loss": 1.0}), lambda run: run.log(1, 0.5), lambda run: run.on("evaluate", None)]
)
def test_a_call_of_the_wrong_shape_is_refused_before_the_script_is_supervised(call):
    with pytest.raises(TypeError):
        call(Run())


def test_an_unsupervised_run_brings_nothing_from_a_gpu(cuda):
    run = Run()
    value = DeviceValue(0.5, cuda)
    for step in (1, 2):
        run.log(step, loss=value, accuracy=0.25)
        assert not run.stopping
    assert not value.copied
