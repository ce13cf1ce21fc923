"""The position of a queued run in the line for its devices, limited to what a viewer may see.

Only viewers who may see a run get its id; the others get the number of such runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from runs.models import AfterCondition, AgentRun, Host, Run, RunQuerySet, RunState
from runs.protocol.states import ENDED
from runs.recording.liveness import agent_is_living, host_is_living
from runs.recording.queue import living_hosts
from steersman.gpu_memory import GpuRoom, Obstacle, gib
from steersman.slots import CPU, HostDevices, Wish, ahead_of, candidates, fits, obstacles

# If there are more runs, their number says enough.
MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class Awaited:
    """The run that another waits for.

    `number` is None if the viewer may not see it, `state` is "" if it was deleted; `condition` is as in
    `runs.models.AfterCondition`.
    """

    run: int | None
    state: str
    condition: str

    @property
    def is_stuck(self) -> bool:
        """Return whether the waiting run can only start if a person acts."""
        return self.condition == AfterCondition.FINISHED and self.state in ("", RunState.STOPPED, RunState.FAILED)

    @property
    def sentence(self) -> str:
        """Return a sentence such as "waits until #12 has finished"."""
        name = _("a run that you may not see") if self.run is None else f"#{self.run}"
        if self.is_stuck:
            texts: dict[str, str] = {
                "": _("cannot start: %(run)s was deleted before it had finished"),
                RunState.STOPPED: _(
                    "cannot start: %(run)s was stopped; this run starts if that one is resumed and finishes"
                ),
                RunState.FAILED: _(
                    "cannot start: %(run)s has failed; this run starts if that one is resumed and finishes"
                ),
            }
            return texts[self.state] % {"run": name}
        if self.condition == AfterCondition.FINISHED:
            text = _("waits until %(run)s has finished") % {"run": name}
        else:
            text = _("waits until %(run)s has ended") % {"run": name}
        added: dict[str, str] = {
            RunState.CREATED: _("nobody has queued it"),
            RunState.LOST: _("it is lost, but may continue"),
        }
        return f"{text} ({added[self.state]})" if self.state in added else text


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Position `number` in the line for `device` ("cpu", "cuda", "cuda:1") on `host` ("" for any), for `ranks` of them.

    `after` are the runs ahead that the viewer may see, `hidden` the number of others. If `names_host` is false, texts
    do not mention the host. `why` is a further reason to wait, such as the memory of GPUs. A run that waits for another
    run, `awaits`, is in no line yet: its number is 0. A run that an agent starts is in the line of that `agent`.
    """

    number: int
    device: str
    ranks: int
    host: str
    after: list[int]
    hidden: int
    names_host: bool = True
    priority: int = 0
    why: str = ""
    awaits: Awaited | None = None
    agent: str = ""

    def without_host(self) -> QueuePlace:
        """Return the position as guests may see it."""
        return replace(self, host="", names_host=False, why="")

    def as_wire(self) -> dict[str, Any]:
        wire = asdict(self) | {"text": self.sentence, "stuck": self.is_stuck}
        del wire["names_host"]
        wire["agent"] = self.agent if self.names_host else ""
        return wire

    @property
    def is_stuck(self) -> bool:
        return self.awaits is not None and self.awaits.is_stuck

    @property
    def short(self) -> str:
        if self.awaits is None:
            return _("%(place)s in line") % {"place": ordinal(self.number)}
        if self.is_stuck:
            return _("cannot start")
        return _("after another run") if self.awaits.run is None else _("after #%(run)d") % {"run": self.awaits.run}

    @property
    def sentence(self) -> str:
        """Return a text such as "3rd in line for cuda:0 on gpu1, after #41 and #44"."""
        if self.awaits is not None:
            return self.awaits.sentence
        words = {"place": ordinal(self.number), "device": self._device_words(), "host": self.host or _("any host")}
        named, nameless = _("%(place)s in line for %(device)s on %(host)s"), _("%(place)s in line for %(device)s")
        line = (named if self.names_host else nameless) % words
        if self.agent:
            line = _("%(place)s in line for the agent %(agent)s") % {"place": words["place"], "agent": self.agent}
            line = line if self.names_host else _("%(place)s in line for an agent") % words
        if self.number > 1:
            line = _("%(line)s, after %(others)s") % {"line": line, "others": self._others()}
        return f"{line}: {self.why}" if self.why else line

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
    """All waiting runs, read once for any number of runs that are shown."""

    def __init__(self, hosts: Sequence[Host] | None = None, now: datetime | None = None) -> None:
        """`hosts` are all hosts as they were at `now`, if they were already read."""
        self._now = now or timezone.now()
        waiting = Run.objects.filter(state=RunState.QUEUED).in_line()
        # A run with given devices is being started, and a run that restarts keeps its devices: neither is in the line.
        waiting = waiting.filter(restarts_used=0).only(*WISH_FIELDS)
        standing = [run for run in waiting if not run.given_devices]
        self.states = _states({run.after_run for run in standing if run.after_run})
        self._awaits = {run.pk: run for run in standing if self._waits(run)}
        self._priorities = {run.pk: run.priority for run in standing}
        self._agents = _requests(standing)
        apart = self._awaits.keys() | self._agents.keys()
        self._queue = [wish_of(run) for run in standing if run.pk not in apart]
        agents = {run_id: row.agent.name for run_id, row in self._agents.items()}
        self._order = [(run.pk, agents.get(run.pk, run.queued_host)) for run in standing]
        self._hosts: dict[str, HostDevices] = {}
        if self._queue:
            now = self._now
            living = living_hosts(now) if hosts is None else [host for host in hosts if host_is_living(host, now)]
            self._hosts = {host.name: devices_of(host) for host in living}

    def place(self, run: Run, seen: Collection[int]) -> QueuePlace | None:
        """Return the position of `run`, None if it waits for nothing; `seen` are the runs that the viewer may see."""
        if run.pk in self._awaits:
            waiting = self._awaits[run.pk]
            assert waiting.after_run is not None
            state = self.states.get(waiting.after_run, "")
            # A deleted run is named by its number, which reveals nothing else.
            named = waiting.after_run if not state or waiting.after_run in seen else None
            awaits = Awaited(named, state, waiting.after_condition)
            return QueuePlace(
                0, run.device, run.ranks, run.queued_host, [], 0, priority=waiting.priority, awaits=awaits
            )
        if run.pk in self._agents:
            return self._place_at_agent(run, seen)
        wish = next((each for each in self._queue if each.run_id == run.pk), None)
        if wish is None:
            return None
        before = ahead_of(wish, self._queue, self._hosts)
        after = [run_id for run_id in before if run_id in seen]
        return QueuePlace(
            len(before) + 1, self._device(wish), wish.ranks, wish.host, after, len(before) - len(after),
            priority=self._priorities[run.pk], why=self._why(wish),
        )  # fmt: skip

    def _place_at_agent(self, run: Run, seen: Collection[int]) -> QueuePlace:
        row = self._agents[run.pk]
        line = [run_id for run_id, _agent in self._order if run_id in self._agents and run_id not in self._awaits]
        line = [run_id for run_id in line if self._agents[run_id].agent_id == row.agent_id]
        before = line[: line.index(run.pk)]
        after = [run_id for run_id in before if run_id in seen]
        return QueuePlace(
            len(before) + 1, "", run.ranks, row.agent.name, after, len(before) - len(after),
            priority=self._priorities[run.pk], why=_why_at_agent(row, self._now), agent=row.agent.name,
        )  # fmt: skip

    @property
    def waiting(self) -> set[int]:
        """Return the runs that wait for a device or another run, and the runs for which they wait."""
        return {wish.run_id for wish in self._queue} | set(self._awaits) | set(self._agents) | set(self.states)

    def in_order(self) -> list[tuple[int, str]]:
        """Return each waiting run with its host, "" for any; runs in the line come first."""
        in_line = [each for each in self._order if each[0] not in self._awaits]
        return in_line + [each for each in self._order if each[0] in self._awaits]

    def waiting_for(self, host: str) -> int:
        """Return how many runs wait for exactly this host."""
        return sum(wish.host == host for wish in self._queue)

    def waiting_for_agent(self, agent_id: int) -> int:
        """Return how many runs wait for an agent."""
        return sum(row.agent_id == agent_id for row in self._agents.values())

    def _waits(self, run: Run) -> bool:
        """Return whether the run still waits for another one, as `condition_met` does."""
        if not run.after_run:
            return False
        state = self.states.get(run.after_run, "")
        met = (RunState.FINISHED,) if run.after_condition == AfterCondition.FINISHED else ("", *ENDED)
        return state not in met

    def _why(self, wish: Wish) -> str:
        """Return why a run cannot get the GPUs of the only host on which it could start, "" if it is unknown."""
        hosts = [name for name, devices in self._hosts.items() if wish.host in ("", name) and fits(wish, devices)]
        if len(hosts) != 1:
            return ""
        devices = self._hosts[hosts[0]]
        found = obstacles(wish, devices)
        texts = [_obstacle_words(f"cuda:{devices.gpus.index(gpu)}", devices.rooms[gpu], wish, each)
                 for gpu, each in found.items()]  # fmt: skip
        more = len(texts) - MOST_NAMED
        if more > 0:
            texts[MOST_NAMED:] = [ngettext("%(count)d more GPU", "%(count)d more GPUs", more) % {"count": more}]
        return _("; ").join(texts)

    def _device(self, wish: Wish) -> str:
        """Return the reason for waiting, as precisely as the host reports it."""
        devices = self._hosts.get(wish.host)
        if devices is None:
            return wish.device
        found = candidates(wish, devices)
        if found == (CPU,):
            return CPU
        if len(found) == 1 and wish.ranks == 1:
            return f"cuda:{devices.gpus.index(found[0])}"
        return "cuda"


def _requests(runs: Sequence[Run]) -> dict[int, AgentRun]:
    """Return what those of the runs ask of an agent that an agent starts. Only they have no recipe in the queue."""
    asked = [run.pk for run in runs if run.recipe_id is None]
    rows = AgentRun.objects.filter(run__in=asked).select_related("agent") if asked else ()
    return {row.run_id: row for row in rows}


def _why_at_agent(row: AgentRun, now: datetime) -> str:
    """Return why a run waits although it may be the first of its line."""
    agent = row.agent
    if not agent_is_living(agent, now):
        return _("no online agent can start the run")
    if row.command not in {each.get("name") for each in agent.commands}:
        return _("no online agent can start the run: its agent no longer offers %(command)s") % {"command": row.command}
    if row.is_held:
        return row.note or _("it is being started")
    return ""


def _states(run_ids: set[int]) -> dict[int, str]:
    """Return the states of those of the runs that exist."""
    return dict(Run.objects.filter(pk__in=run_ids).values_list("pk", "state")) if run_ids else {}


def _obstacle_words(gpu: str, room: GpuRoom, wish: Wish, obstacle: Obstacle) -> str:
    words = {
        "gpu": gpu, "others": gib(room.others), "total": gib(room.total), "free": gib(max(0, room.free)),
        "need": gib(room.need(wish.gpu_memory_mib)),
    }  # fmt: skip
    match obstacle:
        case Obstacle.OTHERS:
            return _("%(gpu)s is used by another program: %(others)s of %(total)s GiB") % words
        case Obstacle.TAKEN:
            return _("%(gpu)s has %(free)s of %(total)s GiB free, this run needs %(need)s") % words
        case Obstacle.TOO_SMALL:
            return _("%(gpu)s has %(total)s GiB in all, this run needs %(need)s") % words


WISH_FIELDS = (
    "id", "device", "ranks", "queued_host", "given_devices", "state", "priority", "after_run", "after_condition",
    "gpu_memory_mib", "line_at", "queued_at", "recipe_id",
)  # fmt: skip


def places_of(runs: Collection[Run], visible: RunQuerySet) -> Mapping[int, QueuePlace]:
    """Return the positions of those of `runs` that wait, for a viewer who may see the runs of `visible`."""
    queued = [run for run in runs if run.state == RunState.QUEUED]
    if not queued:
        return {}
    line = WaitingRuns()
    seen = set(visible.filter(pk__in=line.waiting).values_list("pk", flat=True))
    found = {run.pk: line.place(run, seen) for run in queued}
    return {run_id: place for run_id, place in found.items() if place is not None}


def place_of(run: Run, visible: RunQuerySet, *, names_host: bool = True) -> QueuePlace | None:
    """Return the position of `run`, None if it waits for no device."""
    place = places_of([run], visible).get(run.pk)
    return place if place is None or names_host else place.without_host()


def wish_of(run: Run, ranks: int | None = None) -> Wish:
    return Wish(run.pk, run.device, ranks or run.ranks, run.queued_host, run.gpu_memory_mib)


def devices_of(host: Host) -> HostDevices:
    """Return the devices that a host published; a device without a UUID is identified by its name."""
    gpus = {str(each.get("uuid") or each["device"]): each for each in host.devices if each.get("device") != CPU}
    rooms = {uuid: room for uuid, each in gpus.items() if (room := GpuRoom.of(each)) is not None}
    return HostDevices(tuple(gpus), rooms=rooms)


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
