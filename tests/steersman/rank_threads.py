"""Ranks that are threads of one process and wait at random instead of training."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.files.mailbox import Mailbox
from steersman.ranked_run import RankedRun
from steersman.records.kinds import OutcomeRecord
from steersman.records.posted import PostedCommand
from steersman.records.record import Record
from steersman.records.typed_json import fields_of
from steersman.run import worker_lock_path
from tests.support.stack import wait_for


class Ranks:
    """Ranks as threads: each passes `points` step boundaries, and records the knob after each."""

    def __init__(self, folder: Path, count: int, points: int, pause_s: Callable[[int], float]) -> None:
        self.folder = folder
        self.mailbox = Mailbox(folder)
        self.seen: list[list[Any]] = [[] for _ in range(count)]
        self.runs = [self._run(rank, count) for rank in range(count)]
        self.knobs = [
            run.knob("lr", 0.5, minimum=0.0, maximum=1.0, apply=self.setter(rank)) for rank, run in enumerate(self.runs)
        ]
        self.fails_on: int | None = None
        self.errors: list[BaseException] = []
        self.saved: list[int] = []
        self.given_up = False
        self._points = points
        self._pause_s = pause_s
        self._threads = [threading.Thread(target=self._train, args=(rank,)) for rank in range(count)]

    def _run(self, rank: int, count: int) -> RankedRun:
        lock = try_lock(worker_lock_path(self.folder, rank))
        assert lock is not None
        return RankedRun(self.folder, rank, lock, count)

    def setter(self, rank: int) -> Callable[[float], None]:
        def set_value(value: float) -> None:
            if self.fails_on == rank and value == 0.125:
                raise ValueError("no such rate")

        return set_value

    def _train(self, rank: int) -> None:
        run = self.runs[rank]
        try:
            for step in range(1, self._points + 1):
                time.sleep(self._pause_s(rank))
                run.log(step, loss=1.0)
                stopping = run.stopping
                self.seen[rank].append((step, self.knobs[rank].value, stopping))
                if stopping or self.given_up:
                    break
            run.finish()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.given_up = any(error)
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def post(self, command: str, identity: str, arguments: dict[str, Any] | None = None, **fields: Any) -> str:
        self.mailbox.post(PostedCommand(id=identity, command=command, arguments=arguments or {}, **fields))
        return identity

    def set_rate(self, identity: str, value: float, **fields: Any) -> str:
        return self.post("set_knob", identity, {"knob": "lr", "value": value}, **fields)

    def outcomes(self) -> dict[str, dict[str, Any]]:
        found = [record for record in records(self.folder) if isinstance(record, OutcomeRecord)]
        assert len({record.id for record in found}) == len(found)
        return {record.id: fields_of(record) for record in found}

    def outcome(self, identity: str) -> dict[str, Any]:
        return wait_for(lambda: self.outcomes().get(identity), f"the outcome of {identity}")


def records(folder: Path, rank: int = 0) -> list[Record]:
    path = segment_path(folder, rank, 0)
    return JournalReader(path).read(4 << 20) if path.exists() else []


def uneven(seed: int) -> Callable[[int], float]:
    rng = random.Random(seed)
    return lambda rank: rng.choice((0.0, 0.0, 0.0005, 0.003)) * (rank + 1)
