"""A recipe's training that rolls back: bit for bit the same as one that resumes from the same checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steersman.records.kinds import CheckpointRecord, EpochRecord, PointRecord
from tests.support.remembering import one_thread
from tests.support.steered import Asks, Steerable, Steered, steerable

__all__ = ["one_thread"]

SAVED: Asks = {7: [{"command": "save_checkpoint", "name": "good"}]}


class RolledBack(Steered):
    """Rolls back to the checkpoint `good` once, while the step `left` is computed."""

    def __init__(self, folder: Path, asks: Asks, left: int, recipe: Steerable | None = None, **arguments: Any) -> None:
        super().__init__(folder, recipe or steerable(), asks)
        self._is_asked = False
        loss = self.recipe.loss

        def asking(batch: Any) -> Any:
            if self.recipe.model.training and self.step + 1 == left and not self._is_asked:
                self._is_asked = True
                self.roll_back(**arguments)
            return loss(batch)

        self.recipe.loss = asking  # type: ignore[method-assign]

    def roll_back(self, name: str = "good", **arguments: Any) -> None:
        saved = next(each for each in self.records(CheckpointRecord) if each.name == name)
        given = {"path": saved.path, "sha256": saved.sha256} | arguments
        self.ask(
            "roll_back", checkpoint=name, step=saved.step, epoch=saved.epoch, has_manifest=saved.has_manifest, **given
        )

    def train(self, **options: Any) -> RolledBack:
        super().train(**options)
        return self

    def losses(self) -> list[tuple[int, float]]:
        return [(each.step, each.values["train/loss"]) for each in self.records(PointRecord) if each.values]


@pytest.mark.parametrize("left", [8, 10, 12, 20])
def test_it_goes_on_bit_for_bit_from_a_checkpoint_in_the_middle_of_an_epoch(
    tmp_path: Path, plain: dict[int, float], left: int
) -> None:
    steered = RolledBack(tmp_path, SAVED, left).train()
    outcome = list(steered.outcomes().values())[-1]
    assert (outcome["state"], outcome["step"], outcome["to_step"], outcome["to_epoch"]) == ("applied", left, 7, 1)
    assert outcome["old"] == {"step": left} and outcome["new"] == {"step": 7}
    assert steered.outcome == "finished"
    assert steered.losses() == [*list(plain.items())[:left], *list(plain.items())[7:]]


def test_what_was_changed_since_is_undone_or_kept_as_asked_and_a_knob_may_be_changed_at_once(
    tmp_path: Path, plain: dict[int, float]
) -> None:
    asks = SAVED | {9: [{"command": "set_knob", "knob": "learning_rate", "value": 0.02}]}
    undone = RolledBack(tmp_path / "1", asks, 11).train()
    assert undone.losses()[11:] == list(plain.items())[7:]
    kept = RolledBack(tmp_path / "2", asks, 11, keep_knobs=True).train()
    assert kept.run.knobs["learning_rate"] == {"": 0.02} and kept.losses()[-1] != undone.losses()[-1]
    rates = [each.values["optimizer/learning_rate"] for each in kept.records(PointRecord)]
    assert rates[11] == pytest.approx(0.02 * 0.9**2)
    halved = RolledBack(tmp_path / "3", asks, 11, knob="learning_rate", factor=0.5).train()
    outcome = list(halved.outcomes().values())[-1]
    assert outcome["old"] == {"step": 11, "learning_rate": 0.1}
    assert outcome["new"] == {"step": 7, "learning_rate": 0.05}


def test_batches_are_skipped_up_to_the_last_of_the_epoch(tmp_path: Path, plain: dict[int, float]) -> None:
    whole = RolledBack(tmp_path / "0", SAVED, 11).train()
    per_epoch = whole.recipe.steps_per_epoch
    left = per_epoch - 7 % per_epoch
    for skipped, fewer in ((1, 1), (10_000, left - 1)):
        steered = RolledBack(tmp_path / str(skipped), SAVED, 11, skip_batches=skipped).train()
        assert steered.outcome == "finished"
        assert len(steered.losses()) == len(whole.losses()) - fewer
        assert [each.epoch for each in steered.records(EpochRecord)] == [
            each.epoch for each in whole.records(EpochRecord)
        ]


def test_batches_of_given_steps_are_left_out_whichever_epoch_they_are_in(
    tmp_path: Path, plain: dict[int, float]
) -> None:
    recipe = steerable()
    trained: list[list[float]] = []
    loss = recipe.loss

    def noting(batch: Any) -> Any:
        if recipe.model.training:
            trained.append(batch[0].flatten().tolist())
        return loss(batch)

    recipe.loss = noting  # type: ignore[method-assign]
    steered = RolledBack(tmp_path, SAVED, 12, recipe, skip_batches=3, skip_from=10).train()
    assert steered.outcome == "finished"
    first, again = trained[:12], trained[12:]
    # Steps 8 and 9 are trained again, those of 10 to 12 are not, and all that follow are new.
    assert again[:2] == first[7:9] and not any(batch in first for batch in again[2:])
    assert len(first[:7]) + len(again) == len(plain) - 3
    assert [each.epoch for each in steered.records(EpochRecord)][-1] == recipe.epochs


def test_epochs_checkpoints_and_the_best_value_go_on_from_there(tmp_path: Path) -> None:
    whole = Steered(tmp_path / "0", steerable(save_every=1), SAVED).train()
    steered = RolledBack(tmp_path / "1", SAVED, 17, steerable(save_every=1)).train()
    first, second = (
        [(each.epoch, each.step, each.best, each.values["validation_loss"]) for each in run.records(EpochRecord)]
        for run in (whole, steered)
    )
    assert second == [*first[:3], *first[1:]]
    # A second checkpoint at the same step has a separate folder.
    places = [each.path for each in steered.records(CheckpointRecord)]
    assert len(places) == len(set(places))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sha256": "0" * 64}, "The checkpoint good at step 7 cannot be used (the SHA-256 of its manifest differs"),
        ({"path": "checkpoints/gone"}, "The checkpoint good at step 7 cannot be used (it is missing or incomplete"),
        ({"knob": "warmth", "factor": 0.5}, "This training has no knob 'warmth'"),
        ({"knob": "learning_rate", "factor": 1e9}, "learning_rate takes a number from 0.000001 to 1"),
        ({"knob": "fragile", "value": 7.0}, "ZeroDivisionError: the recipe cannot do that"),
    ],
)
def test_what_cannot_be_is_refused_and_the_training_does_not_notice(
    tmp_path: Path, plain: dict[int, float], arguments: dict[str, Any], sentence: str
) -> None:
    steered = RolledBack(tmp_path, SAVED, 12, **arguments).train()
    outcome = list(steered.outcomes().values())[-1]
    assert outcome["state"] == "refused" and sentence in outcome["reason"]
    assert steered.losses() == list(plain.items())


def test_a_checkpoint_with_another_file_than_was_saved_is_refused(tmp_path: Path, plain: dict[int, float]) -> None:
    steered = RolledBack(tmp_path, SAVED, 12)
    roll_back = steered.roll_back

    def damage(**arguments: Any) -> None:
        saved = next(each for each in steered.records(CheckpointRecord) if each.name == "good")
        with (steered.folder / saved.path / "model.pt").open("r+b") as file:
            file.seek(100)
            file.write(b"other")
        roll_back(**arguments)

    steered.roll_back = damage  # type: ignore[method-assign]
    steered.train()
    assert "the SHA-256 of model.pt differs" in list(steered.outcomes().values())[-1]["reason"]
    assert steered.losses() == list(plain.items())


def test_norms_of_layers_are_recorded_where_the_recipe_says_so_and_change_nothing(
    tmp_path: Path, plain: dict[int, float]
) -> None:
    steered = Steered(tmp_path, steerable(watch_layers=4), {}).train()
    points = [each for each in steered.records(PointRecord) if "layers/weight/0" in each.values]
    assert [each.step for each in points] == [step for step in plain if step % 4 == 0]
    losses = [each.values["train/loss"] for each in steered.records(PointRecord) if "train/loss" in each.values]
    assert losses == list(plain.values())


def test_a_roll_back_that_waits_for_its_step_goes_to_a_checkpoint_saved_since_in_each_lap(
    tmp_path: Path, plain: dict[int, float]
) -> None:
    def later(command: str, at: int, lap: int, **fields: Any) -> dict[str, Any]:
        return {"command": command, "at_step": at, "at_roll_backs": lap, **fields}

    def back(at: int, lap: int, wanted: str) -> dict[str, Any]:
        none = {"checkpoint": wanted, "path": "", "sha256": "", "step": 0, "epoch": 0, "has_manifest": False}
        return later("roll_back", at, lap, wanted=wanted, **none)

    rate = {"knob": "learning_rate"}
    asks = [
        # Taken in the order of their places: not in the order in which they are sent.
        later("set_knob", 9, 1, **rate, value=0.05),
        back(12, 1, "good"),
        later("set_knob", 9, 0, **rate, value=0.02),
        later("save_checkpoint", 7, 0, name="good"),
        later("save_checkpoint", 10, 0, name="abandoned"),
        back(11, 0, "7"),
        # Due at the boundary at which the training is rolled back.
        later("set_knob", 7, 2, **rate, value=0.03),
        later("save_checkpoint", 10, 1, name="again"),
        back(14, 2, "again"),
        back(15, 2, "good"),
        later("note", 13, 1, text="This lap ends before its step."),
    ]
    steered = Steered(tmp_path, steerable(), {0: asks}).train()
    told = steered.outcomes().values()
    backs = [(each["step"], each["state"], each["to_step"]) for each in told if each["command"] == "roll_back"]
    # Lap 2 has only what was saved up to step 7 or in itself.
    assert backs == [(11, "applied", 7), (12, "applied", 7), (14, "refused", None), (15, "applied", 7)]
    (refused,) = (each for each in told if each["command"] == "roll_back" and each["state"] == "refused")
    assert refused["reason"] == "This training has no checkpoint again to roll back to at this step."
    (note,) = (each for each in told if each["command"] == "note")
    assert (note["state"], note["step"]) == ("refused", 7)
    assert note["reason"] == (
        "The command was to take effect after 1 rollbacks, but the training has been rolled back 2 times."
    )
    knobs = [(each["step"], each["old"], each["new"]) for each in told if each["command"] == "set_knob"]
    assert knobs == [(9, 0.1, 0.02), (9, 0.1, 0.05), (7, 0.1, 0.03)]
    steps = [each.step for each in steered.records(PointRecord) if each.values]
    assert steps == [*range(1, 12), *range(8, 13), *range(8, 16), *range(8, 21)]
    losses = [(each.step, each.values["train/loss"]) for each in steered.records(PointRecord) if each.values]
    assert losses[24:] == list(plain.items())[7:]


def test_what_waits_for_a_step_and_an_epoch_takes_effect_at_the_end_of_the_epoch(tmp_path: Path) -> None:
    asks = {0: [
        {"command": "save_checkpoint", "name": "after", "at_step": 5, "at_epoch": 1},
        {"command": "save_checkpoint", "name": "before", "at_step": 5},
    ]}  # fmt: skip
    steered = Steered(tmp_path, steerable(), asks).train()
    assert [each["name"] for each in steered.checkpoints() if each["step"] == 5][::2] == ["before", "after"]
