"""The place of a queued run in the line for its devices, as it may be told to whoever looks.

Ids of runs are told to those alone who may see these runs; the others learn how many there are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.models import Host, Run, RunQuerySet, RunState
from runs.recording.queue import living_hosts
from steersman.slots import CPU, HostDevices, Wish, ahead_of, candidates

# More ids than these say no more than their number.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Number `number` in line for `device` ("cpu", "cuda", "cuda:1") on `host` ("" for any), `ranks` of them.

    `after` are the runs ahead that the viewer may see, `hidden` how many others there are. With `names_host` false
    nothing is said of the host.
    """

    number: int
    device: str
    ranks: int
    host: str
    after: list[int]
    hidden: int
    names_host: bool = True

    def without_host(self) -> QueuePlace:
        """Return the place as guests may know it."""
        return replace(self, host="", names_host=False)

    def as_wire(self) -> dict[str, Any]:
        wire = asdict(self) | {"text": self.sentence}
        del wire["names_host"]
        return wire

    @property
    def short(self) -> str:
        return _("%(place)s in line") % {"place": ordinal(self.number)}

    @property
    def sentence(self) -> str:
        """Return such as "3rd in line for cuda:0 on gpu1, after #41 and #44"."""
        words = {"place": ordinal(self.number), "device": self._device_words(), "host": self.host or _("any host")}
        named, nameless = _("%(place)s in line for %(device)s on %(host)s"), _("%(place)s in line for %(device)s")
        line = (named if self.names_host else nameless) % words
        if self.number == 1:
            return line
        return _("%(line)s, after %(others)s") % {"line": line, "others": self._others()}

    def _device_words(self) -> str:
        if self.device == CPU:
            return _("the CPU")
        if self.device.startswith("cuda:"):
            return self.device
        if self.device == "auto":
            return _("a GPU or the CPU")
        return ngettext("a GPU", "%(count)d GPUs", self.ranks) % {"count": self.ranks}

    def _others(self) -> str:
        shown = self.after if len(self.after) + bool(self.hidden) <= MOST_NAMED else self.after[: MOST_NAMED - 1]
        names = [f"#{run_id}" for run_id in shown]
        left = self.hidden + len(self.after) - len(shown)
        if left and names:
            names.append(ngettext("%(count)d other run", "%(count)d other runs", left) % {"count": left})
        elif left:
            names.append(ngettext("%(count)d other", "%(count)d others", left) % {"count": left})
        if len(names) == 1:
            return names[0]
        return _("%(first)s and %(last)s") % {"first": _(", ").join(names[:-1]), "last": names[-1]}


class WaitingRuns:
    """All that waits, read once for as many runs as are shown."""

    def __init__(self) -> None:
        waiting = Run.objects.filter(state=RunState.QUEUED).order_by("queued_at", "pk")
        # What was given its devices is being started, and what starts again keeps them: neither stands in line.
        waiting = waiting.filter(restarts_used=0).only(*WISH_FIELDS)
        self._queue = [wish_of(run) for run in waiting if not run.given_devices]
        self._hosts: dict[str, HostDevices] = {}
        if self._queue:
            self._hosts = {host.name: devices_of(host) for host in living_hosts(timezone.now())}

    def place(self, run: Run, seen: Collection[int]) -> QueuePlace | None:
        """Return the place of `run`, None where it waits for no device; `seen` are the runs that the viewer may see."""
        wish = next((each for each in self._queue if each.run_id == run.pk), None)
        if wish is None:
            return None
        before = ahead_of(wish, self._queue, self._hosts)
        after = [run_id for run_id in before if run_id in seen]
        return QueuePlace(len(before) + 1, self._device(wish), wish.ranks, wish.host, after, len(before) - len(after))

    @property
    def waiting(self) -> set[int]:
        """The runs that wait for a device."""
        return {wish.run_id for wish in self._queue}

    def waiting_for(self, host: str) -> int:
        """Return how many runs wait for that very host."""
        return sum(wish.host == host for wish in self._queue)

    def _device(self, wish: Wish) -> str:
        """Return what it waits for, as exactly as its host tells."""
        devices = self._hosts.get(wish.host)
        if devices is None:
            return wish.device
        found = candidates(wish, devices)
        if found == (CPU,):
            return CPU
        if len(found) == 1 and wish.ranks == 1:
            return f"cuda:{devices.gpus.index(found[0])}"
        return "cuda"


WISH_FIELDS = ("id", "device", "ranks", "queued_host", "given_devices", "state")


def places_of(runs: Collection[Run], visible: RunQuerySet) -> Mapping[int, QueuePlace]:
    """Return the places of those of `runs` that wait, for somebody who may see the runs of `visible`."""
    queued = [run for run in runs if run.state == RunState.QUEUED]
    if not queued:
        return {}
    line = WaitingRuns()
    seen = set(visible.filter(pk__in=line.waiting).values_list("pk", flat=True))
    found = {run.pk: line.place(run, seen) for run in queued}
    return {run_id: place for run_id, place in found.items() if place is not None}


def place_of(run: Run, visible: RunQuerySet, *, names_host: bool = True) -> QueuePlace | None:
    """Return the place of `run`, None where it waits for no device."""
    place = places_of([run], visible).get(run.pk)
    return place if place is None or names_host else place.without_host()


def wish_of(run: Run, ranks: int | None = None) -> Wish:
    return Wish(run.pk, run.device, ranks or run.ranks, run.queued_host)


def devices_of(host: Host) -> HostDevices:
    """Return the devices that a host published; one that tells no UUID goes by its name."""
    gpus = [str(each.get("uuid") or each["device"]) for each in host.devices if each.get("device") != CPU]
    return HostDevices(tuple(gpus))


def ordinal(number: int) -> str:
    """Return 1st, 2nd, 3rd, 4th, …, 11th, …, 21st."""
    tens = number % 100 in (11, 12, 13)
    if number % 10 == 1 and not tens:
        text = _("%(number)dst")
    elif number % 10 == 2 and not tens:
        text = _("%(number)dnd")
    elif number % 10 == 3 and not tens:
        text = _("%(number)drd")
    else:
        text = _("%(number)dth")
    return text % {"number": number}
