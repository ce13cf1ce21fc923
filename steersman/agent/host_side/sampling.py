"""Samples the machine of a training, and describes its GPUs. No Django, no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from steersman.agent.journals.rank_times import RankSamples
from steersman.agent.launch.worker_group import WorkerGroup
from steersman.agent.machine.disk_watch import DiskWatch
from steersman.agent.machine.sampler import Sampler
from steersman.agent.reporting.ticks import Tick
from steersman.messages.reports import Line
from steersman.records.kinds import PointRecord


class Sampling:
    """Adds samples of the hosts of one attempt to ticks."""

    def __init__(self, group: WorkerGroup, folder: Path, data: Path, device: str) -> None:
        """`folder` is that of the attempt."""
        self._group = group
        # The checkpoints may be on another disk.
        self._disks = DiskWatch((data, folder / "checkpoints"))
        self._sampler = Sampler(data=data, device=device, disks=self._disks)
        self._sampler.follow(group.pids_by_rank)
        self._ranks = RankSamples()
        self._told_problems: set[str] = set()

    def start(self) -> None:
        self._sampler.start()

    def stop(self) -> None:
        self._sampler.stop()

    def watch(self, uuids: list[str]) -> None:
        """Sample the GPUs that the training itself reported."""
        if uuids:
            self._sampler.watch(uuids)

    def attach(self) -> None:
        """Report what the record side may have lost."""
        self._disks.attach()

    def settle(self, tick: Tick) -> None:
        """Record that `tick` is stored."""
        if tick.disk is not None:
            self._disks.settle(tick.disk)

    def note(self, steps: Iterable[Mapping[int, PointRecord]]) -> None:
        """Count the steps of several ranks; each has the points by rank."""
        self._ranks.note(steps)

    def put(self, tick: Tick) -> None:
        """Add the newest sample to `tick`, with the descriptions of the GPUs."""
        self._sampler.follow(self._group.pids_by_rank)
        sample = self._sampler.take()
        values = self._ranks.take()
        if sample:
            values |= sample.values | self._group.take_samples(self._sampler.boards)
        if sample or values:
            tick.system = {name: round(value, 3) for name, value in values.items()}
        self.put_gpus(tick)
        notes = self._sampler.take_notes()
        tick.lines += [Line(note.text, note.level) for note in notes]
        tick.lines += self._disks.take_lines()
        tick.disk = self._disks.take_space()
        problem = self._sampler.problem
        if problem and problem not in self._told_problems:
            self._told_problems.add(problem)
            tick.lines.append(Line(problem, "info"))

    def put_gpus(self, tick: Tick) -> None:
        """Add the GPUs that the training may use to `tick`."""
        tick.gpus = self._sampler.gpus
