"""The parameters of a recipe's training that starts from a checkpoint with other parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from steersman.records.kinds import CheckpointRecord, PointRecord
from tests.support.remembering import one_thread
from tests.support.steered import Asks, Steerable, Steered, steerable
from trainer.worker.branching import as_built, take_changes
from trainer.worker.progress import TrainingProgress
from trainer.worker.recipe import Recipe, parameter

__all__ = ["one_thread"]

Saved = tuple[Path, str]

SAVED: Asks = {7: [{"command": "save_checkpoint", "name": "good"}]}


class Scheduled(Steerable):
    """Steerable, with the arguments of optimizer and schedule among its parameters."""

    momentum: float = parameter(0.9, minimum=0.0, maximum=1.0, help="of SGD")
    every: int = parameter(3, minimum=1, maximum=100, help="steps between two decays")

    def build(self) -> None:
        super().build()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.learning_rate, momentum=self.momentum)
        warm_up = torch.optim.lr_scheduler.ConstantLR(self.optimizer, factor=1.0, total_iters=1)
        decay = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=self.every, gamma=0.9)
        self.scheduler = torch.optim.lr_scheduler.SequentialLR(self.optimizer, [warm_up, decay], milestones=[1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The checkpoint of a training of `Scheduled` after step 7, in the second epoch of 5 steps, and its SHA-256."""
    steered = Steered(tmp_path_factory.mktemp("source"), steerable(Scheduled), SAVED).train()
    saved = next(each for each in steered.records(CheckpointRecord) if each.name == "good")
    return steered.folder / saved.path, saved.sha256


def branched(folder: Path, checkpoint: Saved, **parameters: Any) -> Steered:
    return Steered(folder, steerable(Scheduled, **parameters), start=checkpoint).train(is_branch=True)


def values(steered: Steered, name: str) -> list[float]:
    return [each.values[name] for each in steered.records(PointRecord) if name in each.values]


def test_nothing_else_moves_where_one_parameter_is_changed(tmp_path: Path, checkpoint: Saved) -> None:
    same = branched(tmp_path / "same", checkpoint)
    resumed = Steered(tmp_path / "resumed", steerable(Scheduled), start=checkpoint).train()
    assert values(same, "train/loss") == values(resumed, "train/loss") and len(values(same, "train/loss")) == 13
    other = branched(tmp_path / "other", checkpoint, momentum=0.5)
    assert other.recipe.optimizer.param_groups[0]["momentum"] == 0.5
    rates = "optimizer/learning_rate"
    assert values(other, rates) == values(same, rates)
    # Momentum has an effect from the second step on.
    losses = values(other, "train/loss"), values(same, "train/loss")
    assert losses[0][0] == losses[1][0] and losses[0][1] != losses[1][1]


def test_a_schedule_inside_another_goes_on_at_its_step_as_it_is_built_now(tmp_path: Path, checkpoint: Saved) -> None:
    slower = branched(tmp_path, checkpoint, every=5)
    # At the checkpoint, the inner schedule had done 6 steps with two decays; from now on it decays at 10 and 15.
    assert values(slower, "optimizer/learning_rate") == pytest.approx([0.081] * 4 + [0.0729] * 5 + [0.06561] * 4)


def test_an_epoch_of_other_batches_goes_on_at_the_same_fraction(tmp_path: Path, checkpoint: Saved) -> None:
    smaller = branched(tmp_path, checkpoint, batch_size=4)
    # 2 of 5 batches were done, so 4 of 10; two whole epochs follow.
    assert len(values(smaller, "train/loss")) == 6 + 2 * 10
    assert smaller.run.step == 7 + 6 + 2 * 10


class Plain(Recipe):
    """A learning rate that is not a knob."""

    rate: float = parameter(0.1, minimum=0.0, maximum=1.0, help="of SGD")

    def build(self) -> None:
        self.model = nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=self.rate)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=1, gamma=0.5)
        self.train_size = 64

    train_batches = loss = evaluate = None  # type: ignore[assignment]


def test_a_learning_rate_that_is_no_knob_moves_beneath_its_schedule() -> None:
    def built(rate: float) -> Plain:
        recipe = Plain({"rate": rate}, device=torch.device("cpu"))
        recipe.build()
        return recipe

    old, new = built(0.1), built(0.2)
    before, now = as_built(old), as_built(new)
    old.optimizer.step()
    assert old.scheduler is not None and new.scheduler is not None
    old.scheduler.step()
    new.optimizer.load_state_dict(old.optimizer.state_dict())
    new.scheduler.load_state_dict(old.scheduler.state_dict())
    take_changes(new, TrainingProgress(), now, before)
    assert new.optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    assert new.optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.2)
    take_changes(new, TrainingProgress(), now, None)
