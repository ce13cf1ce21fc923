"""The training loop, its checkpoints and exact resume, with a run that only keeps values in memory."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from steersman.files import checkpoint
from steersman.files.checkpoint import remove_checkpoint
from tests.support.remembering import CPU, Noisy, RememberingRun, last_checkpoint, noisy, one_thread, run_through
from trainer.worker.checkpoints import CheckpointError, load_checkpoint
from trainer.worker.loop import train
from trainer.worker.randomness import epoch_order, sample_uniform
from trainer.worker.recipe import Batch, load_recipe

__all__ = ["one_thread"]

STEP_SERIES = {
    "train/loss",
    "train/accuracy",
    "optimizer/learning_rate",
    "optimizer/gradient_norm",
    "speed/samples_per_second",
    "speed/step_ms",
    "speed/data_wait_fraction",
}


def test_it_logs_the_promised_series_at_every_step_and_a_row_an_epoch() -> None:
    run = run_through(RememberingRun(), noisy())
    assert list(run.points) == list(range(1, 21))
    assert all(set(values) == STEP_SERIES for values in run.points.values())
    assert run.planned == {"total_epochs": 4, "total_steps": 20, "steps_per_epoch": 5}
    assert list(run.epochs) == [1, 2, 3, 4]
    assert {
        "step",
        "duration_s",
        "best",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "learning_rate",
        "samples_per_second",
    } == set(run.epochs[1])
    assert run.outcome == "finished"


def test_it_averages_an_epoch_over_samples_not_over_batches() -> None:
    run = run_through(RememberingRun(), noisy(epochs=1, batch_size=32))
    losses = run.series("train/loss")
    assert run.epochs[1]["train_loss"] == pytest.approx((32 * losses[1] + 8 * losses[2]) / 40)


@pytest.mark.parametrize("stop_at", [1, 7, 10, 19])
def test_it_goes_on_bit_for_bit_from_wherever_it_was_stopped(tmp_path: Path, stop_at: int) -> None:
    whole = run_through(RememberingRun(), noisy())
    first = run_through(RememberingRun(tmp_path, stop_at=stop_at), noisy())
    assert first.outcome == "stopped"
    assert list(first.points) == list(range(1, stop_at + 1))

    recipe = noisy()
    second = run_through(RememberingRun(), recipe, last_checkpoint(first))

    assert list(second.points) == list(range(stop_at + 1, 21))
    for name in ("train/loss", "train/accuracy", "optimizer/learning_rate", "optimizer/gradient_norm"):
        assert first.series(name) | second.series(name) == whole.series(name)
    joined = first.epochs | second.epochs
    for epoch, row in whole.epochs.items():
        timed = ("duration_s", "samples_per_second")
        assert {k: v for k, v in joined[epoch].items() if k not in timed} == {
            k: v for k, v in row.items() if k not in timed
        }
    assert recipe.drawn[0] == stop_at % 5 or stop_at % 5 == 0


def test_it_trains_further_when_a_finished_run_is_given_more_epochs(tmp_path: Path) -> None:
    first = run_through(RememberingRun(tmp_path), noisy(epochs=2))
    second = run_through(RememberingRun(), noisy(epochs=3), last_checkpoint(first))
    assert list(second.epochs) == [3]
    assert list(second.points) == list(range(11, 16))


def test_it_keeps_the_last_two_checkpoints_and_the_best(tmp_path: Path) -> None:
    recipe = noisy(epochs=6)
    run = RememberingRun(tmp_path)
    scores = iter([0.5, 0.1, 0.4, 0.3, 0.2, 0.6])
    recipe.evaluate = lambda: {"validation_loss": next(scores)}  # type: ignore[method-assign]
    run_through(run, recipe)
    assert [(each["name"], each["epoch"], each["step"]) for each in run.checkpoints] == [
        ("best", 1, 5),
        ("best", 2, 10),
        ("last", 3, 15),
        ("last", 4, 20),
        ("last", 5, 25),
        ("last", 6, 30),
    ]
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000010", "step-00000025", "step-00000030"]
    assert [epoch for epoch, row in run.epochs.items() if row["best"]] == [1, 2]


def test_it_saves_every_so_many_epochs_the_best_and_the_last(tmp_path: Path) -> None:
    recipe = noisy(epochs=5, save_every=3)
    scores = iter([0.1, 0.2, 0.3, 0.4, 0.5])
    recipe.evaluate = lambda: {"validation_loss": next(scores)}  # type: ignore[method-assign]
    run = run_through(RememberingRun(tmp_path), recipe)
    assert [each["epoch"] for each in run.checkpoints] == [1, 3, 5]


def test_it_trains_on_when_the_disk_is_full_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    run = run_through(RememberingRun(tmp_path, stop_at=12), noisy())
    assert len(run.points) == 12
    assert run.outcome == "stopped"
    assert run.checkpoints == []
    assert [level for level, _ in run.notes] == ["error"] * 3
    assert "step 12 could not be saved: No space left on device" in run.notes[-1][1]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_it_trains_on_when_the_disk_fills_while_torch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "open_private", FullDisk)
    run = run_through(RememberingRun(tmp_path), noisy(epochs=1))
    assert run.outcome == "finished"
    assert "could not be saved: No space left on device" in run.notes[0][1]


def test_it_refuses_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    run = run_through(RememberingRun(tmp_path, stop_at=2), noisy())
    with pytest.raises(CheckpointError, match="does not fit the model"):
        train(noisy(hidden=9), RememberingRun(), last_checkpoint(run))


def test_it_refuses_a_checkpoint_that_is_damaged_or_gone(tmp_path: Path) -> None:
    run = run_through(RememberingRun(tmp_path, stop_at=2), noisy())
    path, sha256 = run.checkpoints[-1]["path"], run.checkpoints[-1]["sha256"]
    for file in sorted(path.iterdir()):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :])
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(path, sha256)
        file.write_bytes(whole[:-1])
        with pytest.raises(CheckpointError, match="SHA-256"):
            load_checkpoint(path, sha256)
        file.unlink()
        with pytest.raises(CheckpointError, match="missing"):
            load_checkpoint(path, sha256)
        file.write_bytes(whole)
    load_checkpoint(path, sha256)
    remove_checkpoint(path)
    with pytest.raises(CheckpointError, match="not on this host"):
        load_checkpoint(path, sha256)


def test_it_lets_a_recipes_exception_through_after_what_was_logged() -> None:
    run = RememberingRun()
    with pytest.raises(ZeroDivisionError):
        run_through(run, noisy(breaks_at=3))
    assert list(run.points) == [1, 2]
    assert run.outcome == ""


def test_it_names_a_recipe_that_yields_too_few_batches() -> None:
    class Short(Noisy):
        """Ends its epochs early."""

        def train_batches(self, epoch: int, first: int) -> Iterator[Batch]:
            yield self.inputs[:8], self.targets[:8]

    recipe = Short({"epochs": 1, "batch_size": 8}, device=CPU)
    with pytest.raises(RuntimeError, match="after 1 batches of epoch 1, but steps_per_epoch is 5"):
        run_through(RememberingRun(), recipe)


def test_it_logs_a_loss_that_is_not_a_number_and_calls_no_such_epoch_best() -> None:
    recipe = noisy(epochs=1)
    recipe.evaluate = lambda: {"validation_loss": float("nan")}  # type: ignore[method-assign]
    run = run_through(RememberingRun(), recipe)
    assert run.epochs[1]["best"] is False


def test_it_repeats_a_run_of_the_same_seed_and_differs_with_another() -> None:
    losses = [run_through(RememberingRun(), noisy(seed=seed)).series("train/loss") for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_it_orders_and_augments_by_seed_epoch_and_sample_alone() -> None:
    assert sorted(epoch_order(1, 1, 100).tolist()) == list(range(100))
    orders = {tuple(epoch_order(seed, epoch, 100).tolist()) for seed in (0, 1, 2**32) for epoch in (1, 2)}
    assert len(orders) == 6
    draws = sample_uniform(1, 2, torch.arange(10_000), 2)
    assert torch.equal(sample_uniform(1, 2, torch.tensor([77, 3]), 2), draws[[77, 3]])
    assert draws.min() >= 0 and draws.max() < 1
    assert draws.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert abs(torch.corrcoef(draws.T)[0, 1].item()) < 0.05
    assert not torch.equal(sample_uniform(1, 3, torch.arange(10_000), 2), draws)


def test_it_classifies_real_mnist_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_DATA", str(tmp_path))
    recipe = load_recipe("mnist")({"epochs": "4", "threads": "1"}, device=CPU, seed=0)
    run = run_through(RememberingRun(), recipe)
    assert run.planned["steps_per_epoch"] == 63
    assert max(row["validation_accuracy"] for row in run.epochs.values()) >= 0.95
    assert sorted(path.name for path in (tmp_path / "datasets").iterdir()) == ["mnist_5k.npy"]


def test_it_makes_the_same_digits_in_processes_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_DATA", str(tmp_path))
    batches = []
    for workers in (0, 2):
        recipe = load_recipe("mnist")({"loader_workers": workers, "batch_size": 500}, device=CPU, seed=3)
        recipe.build()
        before = torch.get_rng_state()
        batches.append(list(recipe.train_batches(2, 3)))
        assert torch.equal(torch.get_rng_state(), before)
    assert len(batches[0]) == len(batches[1]) == 5
    for own, loaded in zip(*batches, strict=True):
        assert torch.equal(own[0], loaded[0]) and torch.equal(own[1], loaded[1])
