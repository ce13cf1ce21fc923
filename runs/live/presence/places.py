"""Limits of open sockets per user, per share link and in total, across all web processes."""

from __future__ import annotations

from collections import Counter

from django.conf import settings

from runs.access.grants import Grant
from runs.access.roles import Viewer

ALL = "all"


class Places:
    """The places that sockets of one event loop take, and the last reported places of other processes."""

    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def take(self, key: str) -> bool:
        """Take a place of `key` and return True; return False if all are taken."""
        if self.own[key] + self.others[key] >= most(key):
            return False
        self.own[key] += 1
        return True

    def give_back(self, key: str) -> None:
        self.own[key] -= 1
        if self.own[key] <= 0:
            del self.own[key]


def most(key: str) -> int:
    """Return the maximum number of sockets of `key`."""
    kind = key.partition(":")[0]
    limits = {
        ALL: settings.STEERSMAN_SOCKETS_IN_ALL,
        "user": settings.STEERSMAN_SOCKETS_PER_USER,
        "link": settings.STEERSMAN_SOCKETS_PER_LINK,
    }
    return int(limits[kind])


def place_of(grant: Grant, viewer: Viewer) -> str:
    """Return the key under which a viewer's sockets are counted."""
    if viewer.is_guest and grant.token_id is not None:
        return f"link:{grant.token_id}"
    return f"user:{grant.user_id}"
