"""When a message is sent: grouping, quiet hours, digests, and a limit against floods."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

# Alerts with one cause arrive together. They are sent once none has joined for `PAUSE`, or after `LONGEST_WAIT`.
PAUSE = timedelta(seconds=1)
LONGEST_WAIT = timedelta(seconds=2)
GAP = timedelta(seconds=1)
# Robots of DingTalk and WeCom accept 20 messages per minute.
ROBOT_GAP = timedelta(seconds=3)
# After this many messages within FLOOD_TIME, a destination gets one per FLOOD_GAP.
FLOOD_MESSAGES = 60
FLOOD_TIME = timedelta(minutes=10)
FLOOD_GAP = timedelta(minutes=1)
FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(minutes=15)
GIVE_UP_AFTER = timedelta(hours=24)


def quiet_end(now: datetime, start: time | None, end: time | None, zone: str) -> datetime | None:
    """Return the end of the quiet hours that contain `now`; None outside of quiet hours.

    An unknown zone counts as UTC.
    """
    if start is None or end is None or start == end:
        return None
    local = now.astimezone(zone_of(zone))
    is_quiet = start <= local.time() < end if start < end else local.time() >= start or local.time() < end
    if not is_quiet:
        return None
    ending = datetime.combine(local.date(), end, local.tzinfo)
    return ending if ending > local else datetime.combine(local.date() + timedelta(days=1), end, local.tzinfo)


def send_at(
    created: Sequence[datetime],
    digest_minutes: int,
    last_sent: datetime | None,
    sent_lately: int,
    gap: timedelta = GAP,
) -> datetime:
    """Return when alerts that were `created` at these times are sent as one message, at least `gap` after the last one.

    `sent_lately` is the number of messages to this destination within FLOOD_TIME.
    """
    oldest, newest = min(created), max(created)
    moment = min(newest + PAUSE, oldest + LONGEST_WAIT)
    if digest_minutes:
        moment = oldest + timedelta(minutes=digest_minutes)
    if last_sent is None:
        return moment
    return max(moment, last_sent + (FLOOD_GAP if sent_lately >= FLOOD_MESSAGES else gap))


def retry_after(tries: int) -> timedelta:
    """Return how long to wait after this many failed tries; the wait doubles each time."""
    doublings = min(tries - 1, 20)
    return min(LONGEST_RETRY, FIRST_RETRY * (1 << doublings))


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name; UTC if the name is unknown."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")
