"""Laps: how often the step of a series went back within an attempt.

A loop that restarts its count of steps in each epoch, or trains one fold after another, logs the same steps again. The
points after a step that went back are a new lap, counted from 1. Laps are stored and drawn separately, so that no point
is the mean of two epochs. Threads that count together log slightly out of order, so a new step between the last few
begins no lap. No step of a lap is therefore below its first one, except in the last possible lap.

A rollback begins a lap in every series at once, whatever their steps are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runs.models import Axis, Chunk
from runs.series.storage import tail

# A series with steps in random order would become thousands of lines of one point each.
MOST_LAPS = 250
LAST_LAP = MOST_LAPS - 1
# Greater than the number of any event.
LAST_SEQ = 2**63 - 1

# The number of points by which a step may be late.
LATE_POINTS = 8

Place = tuple[int, int, tuple[int, ...]]  # lap, its highest step, its newest steps in the order of logging


class StepOrder:
    """The position of each series of an attempt. An unusual order of steps is reported once, in `remarks`."""

    def __init__(self, places: Mapping[str, Place] | None = None, first_lap: int = 0) -> None:
        """`first_lap` is the lowest lap of later points: above 0 after a rollback."""
        self._places = dict(places or {})
        self.first_lap = first_lap
        # The rollbacks since the positions were given: the lap that each began, and the step that it went back to.
        self.roll_backs: list[tuple[int, int]] = []
        self.remarks: list[str] = []
        # An earlier supervisor of the same attempt has already reported the stored laps.
        self._told_back = any(lap > first_lap for lap, *_ in self._places.values())
        self._told_full = any(lap == LAST_LAP for lap, *_ in self._places.values())
        self._told_twice = False

    def copy(self) -> StepOrder:
        """Return a copy of the positions, without remarks and rollbacks."""
        other = StepOrder(self._places, self.first_lap)
        other._told_back, other._told_full, other._told_twice = self._told_back, self._told_full, self._told_twice
        return other

    def begin_lap(self, to_step: int) -> None:
        """Begin a new lap in every series, because the training was rolled back to a step."""
        self.first_lap = min(max([self.first_lap, *(lap for lap, *_ in self._places.values())]) + 1, LAST_LAP)
        self.roll_backs.append((self.first_lap, to_step))

    def laps(self, names: Sequence[str], step: int) -> tuple[int, ...]:
        """Record the next point of the series `names`; return the lap of each."""
        places = self._places
        found = []
        for name in names:
            lap, highest, recent = self._place(name, step)
            if step > highest:
                places[name] = (lap, step, (*recent[1 - LATE_POINTS :], step))
            elif step == recent[-1]:
                self._note_repeated_step(name, step)
            elif step in recent or step < min(recent):
                places[name] = self._after_step_back(name, (lap, highest, recent), step)
                lap = places[name][0]
            else:
                places[name] = (lap, highest, (*recent[1 - LATE_POINTS :], step))
            found.append(lap)
        return tuple(found)

    def laps_of_rising(self, names: Sequence[str], steps: Sequence[int]) -> tuple[int, ...] | None:
        """Record points of the series `names` at strictly ascending `steps`; return the lap of each series.

        Returns None, and records nothing, if one of the series has already been at the first step or after it. Equal to
        calls of `laps` for one step after the other, but takes as long as one of them.
        """
        found = [self._place(name, steps[0]) for name in names]
        if any(highest >= steps[0] for _, highest, _ in found):
            return None
        newest = tuple(steps[-LATE_POINTS:])
        for name, (lap, _, recent) in zip(names, found, strict=True):
            self._places[name] = (lap, steps[-1], (*recent, *newest)[-LATE_POINTS:])
        return tuple(lap for lap, *_ in found)

    def _place(self, name: str, step: int) -> Place:
        """Return the position of a series, just before `step` if it has no point since the last rollback."""
        place = self._places.get(name)
        return (self.first_lap, step - 1, ()) if place is None or place[0] < self.first_lap else place

    def _note_repeated_step(self, name: str, step: int) -> None:
        if not self._told_twice:
            self._told_twice = True
            self.remarks.append(
                f"{name} was logged twice at step {step}. Both values are kept, at the same place in the chart. Call "
                "run.log once per step, or give each value a name of its own."
            )

    def _after_step_back(self, name: str, place: Place, step: int) -> Place:
        lap, _, (*_, last) = place
        if lap < LAST_LAP:
            if not self._told_back:
                self._told_back = True
                self.remarks.append(
                    f"The step of {name} went back from {last} to {step}. All points are kept, and what follows is "
                    f"drawn as a line of its own; for a single line, pass run.log a step that only increases."
                )
            return lap + 1, step, (step,)
        if not self._told_full:
            self._told_full = True
            self.remarks.append(
                f"The step of {name} went back for the {MOST_LAPS}th time. All points are kept, and what follows is "
                f"drawn as one line; pass run.log a step that only increases."
            )
        return place


def places_of(run_id: int, attempt: int) -> dict[str, Place]:
    """Return the position of each series of an attempt from its stored points: the highest step of its last lap."""
    places: dict[str, tuple[int, int]] = {}
    stored = Chunk.objects.filter(series__run_id=run_id, series__axis=Axis.STEP, attempt=attempt).order_by()
    for name, lap, step in stored.values_list("series__name", "lap", "last_step"):
        places[name] = max(places.get(name, (lap, step)), (lap, step))
    for (number, lap, name), columns in tail(run_id, LAST_SEQ).items():
        if number == attempt:
            place = (lap, max(columns.steps))
            places[name] = max(places.get(name, place), place)
    return {name: (lap, step, (step,)) for name, (lap, step) in places.items()}
