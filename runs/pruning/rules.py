"""Chooses the checkpoints of an ended run that a project keeps. Pure functions without files and queries."""

from __future__ import annotations

from collections.abc import Sequence

from runs.models import Checkpoint


def unneeded(checkpoints: Sequence[Checkpoint], every: int) -> list[Checkpoint]:
    """Return those of a run's checkpoints, oldest first, that the rule does not keep.

    It keeps the newest, the best, those that were marked or saved under a name, and the last one of every `every`th
    epoch of each attempt. Repeated calls keep the same ones.
    """
    of_epochs = {(each.attempt, each.epoch): each.pk for each in checkpoints if each.epoch % every == 0}
    best = [each.pk for each in checkpoints if each.reason == Checkpoint.Reason.BEST]
    kept = {each.pk for each in checkpoints if each.keep or each.reason == Checkpoint.Reason.NAMED}
    kept |= {*of_epochs.values(), *best[-1:], *(each.pk for each in checkpoints[-1:])}
    return [each for each in checkpoints if each.pk not in kept]
