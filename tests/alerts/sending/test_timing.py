"""When a message is sent: pure functions of times."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from runs.alerts.sending import timing

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("now", "zone", "ends"),
    [
        (datetime(2026, 6, 1, 23, tzinfo=UTC), "UTC", datetime(2026, 6, 2, 7, tzinfo=UTC)),
        (datetime(2026, 6, 1, 3, tzinfo=UTC), "UTC", datetime(2026, 6, 1, 7, tzinfo=UTC)),
        (datetime(2026, 6, 1, 7, tzinfo=UTC), "UTC", None),
        (datetime(2026, 6, 1, 12, tzinfo=UTC), "UTC", None),
        # 23:30 in Shanghai
        (datetime(2026, 6, 1, 15, 30, tzinfo=UTC), "Asia/Shanghai", datetime(2026, 6, 1, 23, tzinfo=UTC)),
        (datetime(2026, 6, 1, 23, tzinfo=UTC), "No/Such", datetime(2026, 6, 2, 7, tzinfo=UTC)),
        # Daylight saving time begins on this night, so 7 o'clock comes an hour earlier.
        (datetime(2026, 3, 28, 22, tzinfo=UTC), "Europe/Berlin", datetime(2026, 3, 29, 5, tzinfo=UTC)),
    ],
)
def test_quiet_hours_are_by_the_clock_of_the_zone(now: datetime, zone: str, ends: datetime | None) -> None:
    assert timing.quiet_end(now, time(22), time(7), zone) == ends


def test_no_quiet_hours_are_none() -> None:
    assert timing.quiet_end(NOON, None, time(7), "UTC") is None
    assert timing.quiet_end(NOON, time(7), time(7), "UTC") is None
    assert timing.quiet_end(NOON, time(11), time(13), "UTC") == after(3600)


def test_alerts_that_follow_each_other_are_one_message_but_not_for_long() -> None:
    assert timing.send_at([NOON], 0, None, 0) == after(1)
    assert timing.send_at([NOON, after(0.8)], 0, None, 0) == after(1.8)
    assert timing.send_at([NOON, after(1.8)], 0, None, 0) == after(2)


def test_a_digest_waits_for_its_minutes() -> None:
    assert timing.send_at([NOON, after(60)], 5, None, 0) == after(300)


def test_messages_keep_a_distance_that_grows_in_a_flood() -> None:
    assert timing.send_at([NOON], 0, after(0.5), 1) == after(1.5)
    assert timing.send_at([NOON], 0, after(-1), 1, timing.ROBOT_GAP) == after(2)
    assert timing.send_at([NOON], 0, after(-10), 1) == after(1)
    assert timing.send_at([NOON], 0, after(-1), timing.FLOOD_MESSAGES) == after(59)


def test_tries_are_ever_further_apart_up_to_a_bound() -> None:
    waits = [timing.retry_after(tries).total_seconds() for tries in (1, 2, 3, 20, 1000)]
    assert waits == [5, 10, 20, 900, 900]
