"""The clock of silence counts each pause up to a limit."""

from __future__ import annotations

from steersman.silence import SilenceClock


def test_a_pause_counts_up_to_the_cap_and_is_returned_whole() -> None:
    clock = SilenceClock(3.0, 100.0)
    assert clock.tick(102.0) == 2.0 and clock.silent_s == 2.0
    assert clock.tick(1102.0) == 1000.0 and clock.silent_s == 5.0


def test_what_comes_before_the_first_look_or_is_skipped_does_not_count() -> None:
    clock = SilenceClock(3.0)
    assert clock.tick(100.0) == 0.0
    clock.tick(101.0)
    clock.skip()
    assert clock.tick(102.0) == 0.0 and clock.silent_s == 1.0
