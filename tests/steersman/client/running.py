"""A run in a temporary folder, the records of its journal, scripts that attach, and a fake for values on a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from steersman.files.journal import JournalReader, segment_path
from steersman.files.locks import try_lock
from steersman.records.record import Record
from steersman.run import Run, worker_lock_path
from tests.support.stack import ROOT


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lock = try_lock(worker_lock_path(tmp_path, 0))
    assert lock is not None
    return Run(tmp_path, 0, lock)


def records(folder: Path) -> list[Record]:
    return JournalReader(segment_path(folder, 0, 0)).read(4 << 20, ended=True)


def script(folder: Path | None, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERSMAN_")}
    if folder is not None:
        environment["STEERSMAN_ATTEMPT_FOLDER"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


class DeviceValue:
    """A fake CUDA tensor: reading it before its copy has arrived would make the loop wait."""

    is_cuda = True
    device = "cuda:0"

    def __init__(self, value: float, arrived: deque[bool]) -> None:
        self.value = value
        self.arrived = arrived
        self.copied = False

    def detach(self) -> DeviceValue:
        return self

    def to(self, device: str, non_blocking: bool) -> DeviceValue:
        assert device == "cpu" and non_blocking
        self.copied = True
        return self

    def __float__(self) -> float:
        assert self.copied and self.arrived and self.arrived[0], "a device value was read before its copy arrived"
        return self.value


@pytest.fixture
def cuda(monkeypatch) -> deque[bool]:
    """Replace torch.cuda: events are complete once the returned deque contains True."""
    arrived: deque[bool] = deque([False], maxlen=1)

    class Event:
        def record(self, stream: Any) -> None: ...

        def query(self) -> bool:
            return arrived[0]

        def synchronize(self) -> None:
            arrived.append(True)

    class Cuda:
        Event: Any

        @staticmethod
        def current_stream(device: Any) -> None: ...

    Cuda.Event = Event
    fake = type(sys)("torch")
    fake.cuda = Cuda  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", fake)
    return arrived
