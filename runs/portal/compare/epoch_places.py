"""The places of steps on an axis of epochs, for runs whose epochs may have different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import F, Window
from django.db.models.functions import RowNumber

from runs.models import EpochMetric, Run
from runs.series.packing.chunks import Floats

# Of each run, the newest epochs are read, and some of them are kept, evenly spread.
MOST_READ = 2000
MOST_ENDS = 100

# The number of an epoch, and the step at which it ended.
End = tuple[int, int]


@dataclass(frozen=True, slots=True)
class EpochPlaces:
    """Steps of a run and the epochs that were complete then, both strictly ascending, at least two of each.

    Places between two of them are on a straight line, which goes on before the first and after the last one.
    """

    steps: Floats
    epochs: Floats

    @classmethod
    def of_length(cls, steps_per_epoch: int) -> EpochPlaces:
        return cls(np.array([0.0, steps_per_epoch]), np.array([0.0, 1.0]))

    @classmethod
    def of_ends(cls, ends: Sequence[End]) -> EpochPlaces | None:
        """Return the places from the ends of epochs, oldest first; None if none of them is after step 0."""
        # Some trainings count epochs from 0.
        steps, epochs = [0.0], [min(0.0, ends[0][0] - 1.0) if ends else 0.0]
        for epoch, step in ends:
            if step > steps[-1] and epoch > epochs[-1]:
                steps.append(float(step))
                epochs.append(float(epoch))
        return cls(np.array(steps), np.array(epochs)) if len(steps) > 1 else None

    def epochs_at(self, steps: Floats) -> Floats:
        return _on_line(steps, self.steps, self.epochs)

    def steps_at(self, epochs: Floats) -> Floats:
        return _on_line(epochs, self.epochs, self.steps)


def _on_line(places: Floats, known: Floats, wanted: Floats) -> Floats:
    right = np.clip(np.searchsorted(known, places), 1, len(known) - 1)
    share = (places - known[right - 1]) / (known[right] - known[right - 1])
    found: Floats = wanted[right - 1] + share * (wanted[right] - wanted[right - 1])
    return found


def read_ends(runs: Sequence[Run]) -> dict[int, list[End]]:
    """Return some of the recorded ends of epochs, oldest first, of the runs that declare no steps per epoch.

    Runs without places are left out. Costs one query, none if all runs declare their steps per epoch.
    """
    wanted = [run.pk for run in runs if not run.steps_per_epoch]
    if not wanted:
        return {}
    newest = Window(RowNumber(), partition_by="run", order_by=[F("epoch").desc(), F("attempt").desc()])
    # `counted` takes seconds for many epochs of several attempts.
    rows = (
        EpochMetric.objects.filter(run__in=wanted, abandoned=False).annotate(place=newest).filter(place__lte=MOST_READ)
    )
    rows = rows.order_by("run", "attempt", "epoch", "order")
    found: dict[int, list[End]] = {}
    for run_id, epoch, step in rows.values_list("run_id", "epoch", "step"):
        ends = found.setdefault(run_id, [])
        # What was logged again, or trained again by a later attempt, no longer counts.
        while ends and ends[-1][0] >= epoch:
            ends.pop()
        ends.append((epoch, step))
    return {run_id: thinned(ends) for run_id, ends in found.items() if EpochPlaces.of_ends(ends) is not None}


def thinned(ends: list[End]) -> list[End]:
    """Return at most `MOST_ENDS` of the ends, the first and the last among them."""
    if len(ends) <= MOST_ENDS:
        return ends
    return [ends[place] for place in np.linspace(0, len(ends) - 1, MOST_ENDS).round().astype(int)]


def places_of(run: Run, ends: dict[int, list[End]]) -> EpochPlaces | None:
    """Return the places of a run whose ends, if it needs any, are in `ends`; None if it has none."""
    if run.steps_per_epoch:
        return EpochPlaces.of_length(run.steps_per_epoch)
    return EpochPlaces.of_ends(ends.get(run.pk, ()))


def read_places(runs: Sequence[Run]) -> dict[int, EpochPlaces]:
    """Return the places of all runs that have any, by run. Costs at most one query."""
    ends = read_ends(runs)
    return {run.pk: places for run in runs if (places := places_of(run, ends)) is not None}
