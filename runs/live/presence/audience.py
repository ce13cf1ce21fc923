"""The watchers of each run across all web processes: names of members, and the number of viewers of share links."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from runs.access.grants import Grant
from runs.access.roles import Viewer
from runs.protocol.event_parts import size
from runs.protocol.messages import Watchers
from runs.protocol.reports import RunWatchers

# The maximum size of the names in a greeting; further watchers are only counted. Sorting more names than fit would take
# milliseconds for each of many viewers.
MOST_NAMES = 100
MOST_NAMES_BYTES = 1536


@dataclass(frozen=True, slots=True)
class Watcher:
    """The owner of a socket: a member, or a script with a member's token. A guest has neither `key` nor `name`."""

    key: str = ""
    name: str = ""


class Audience:
    """The watchers of runs through sockets of one event loop, and the last reported ones of other processes."""

    def __init__(self) -> None:
        self._own: dict[int, Counter[Watcher]] = defaultdict(Counter)
        self.others: Sequence[Mapping[int, RunWatchers]] = ()

    def add(self, run_id: int, watcher: Watcher) -> None:
        """Count a socket of a watcher."""
        self._own[run_id][watcher] += 1

    def remove(self, run_id: int, watcher: Watcher) -> None:
        sockets = self._own[run_id]
        sockets[watcher] -= 1
        if sockets[watcher] <= 0:
            del sockets[watcher]
        if not sockets:
            del self._own[run_id]

    def own(self) -> dict[int, RunWatchers]:
        """Return the watchers of every run through sockets of this process."""
        return {run_id: _told(sockets) for run_id, sockets in self._own.items()}

    def of(self, run_id: int) -> Watchers:
        """Return the watchers of a run. A member counts once for all sockets, a share link once per socket."""
        told = [each[run_id] for each in self.others if run_id in each]
        if run_id in self._own:
            told.append(_told(self._own[run_id]))
        members = {key: name for each in told for key, name in each.members.items()}
        guests = sum(each.guests for each in told)
        names: list[str] = []
        room = MOST_NAMES_BYTES
        for name in sorted(islice(members.values(), MOST_NAMES), key=str.casefold):
            room -= size(name) + 1
            if room < 0:
                break
            names.append(name)
        return Watchers(count=len(members) + guests, guests=guests, names=names)


def watcher_of(grant: Grant, viewer: Viewer) -> Watcher:
    """Return the owner of a socket that `grant` opened."""
    if viewer.is_guest:
        return Watcher()
    return Watcher(f"{grant.user_id}:{grant.token_id or ''}", viewer.name)


def _told(sockets: Counter[Watcher]) -> RunWatchers:
    members = {watcher.key: watcher.name for watcher in sockets if watcher.key}
    return RunWatchers(members=members, guests=sockets[Watcher()])
