"""Steps are placed on an axis of epochs by the ends of epochs, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runs.portal.compare.epoch_places import MOST_ENDS, EpochPlaces, thinned

lengths = st.lists(st.integers(1, 10_000), min_size=1, max_size=30)


@given(lengths, st.integers(0, 1), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_steps_and_epochs_are_converted_in_both_directions(lengths: list[int], first: int, given: list[float]) -> None:
    ends = list(enumerate(np.cumsum(lengths).tolist(), start=first))
    places = EpochPlaces.of_ends(ends)
    assert places is not None
    assert places.epochs_at(np.array([step for _, step in ends], float)) == pytest.approx([epoch for epoch, _ in ends])
    steps = np.array(given)
    epochs = places.epochs_at(steps)
    assert places.steps_at(epochs) == pytest.approx(steps, rel=1e-6, abs=1e-3)
    assert np.all(np.diff(places.epochs_at(np.sort(steps))) >= 0)


def test_epochs_that_do_not_follow_one_another_are_left_out() -> None:
    places = EpochPlaces.of_ends([(1, 10), (2, 10), (2, 20), (1, 30), (3, 40)])
    assert places is not None
    assert (places.steps.tolist(), places.epochs.tolist()) == ([0, 10, 20, 40], [0, 1, 2, 3])
    assert EpochPlaces.of_ends([]) is None and EpochPlaces.of_ends([(1, 0)]) is None


def test_of_many_ends_some_are_kept_with_the_first_and_the_last() -> None:
    ends = [(epoch, 7 * epoch) for epoch in range(1, 2001)]
    kept = thinned(ends)
    assert len(kept) == MOST_ENDS and (kept[0], kept[-1]) == (ends[0], ends[-1])
    assert thinned(ends[:MOST_ENDS]) == ends[:MOST_ENDS]
