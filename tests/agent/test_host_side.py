"""A host side whose record side never answers: signals, processes and its own end do not wait for that."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steersman.agent.folders import WorkerProcess
from steersman.agent.host_side import endings, host_side
from steersman.agent.host_side.host_side import HostSide
from steersman.agent.host_side.surroundings import HostSettings
from steersman.agent.journals.tail import LARGEST_READ_BYTES
from steersman.agent.launch.worker_group import Worker, WorkerGroup
from steersman.agent.supervise.interrupts import Interrupts
from steersman.exit_codes import EXIT_INTERRUPTED
from steersman.files.journal import JournalWriter, segment_path
from steersman.files.mailbox import Mailbox
from steersman.messages.ended import Concluded, Ended
from steersman.messages.reports import Attach, Attached, Position, Report, Stored
from tests.support.stack import wait_for


class Silent:
    """A link whose other end takes everything and says nothing."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)

    def receive(self) -> list[Any]:
        return []


class Storing(Silent):
    """A link whose other end stores each report at once. Once one is stored, no heartbeat is due any more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, report_every_s: float | None = None) -> None:
        super().__init__()
        self.end = Position()
        self._report_every_s = report_every_s
        self._monkeypatch = monkeypatch
        self._answers: list[Any] = []

    def send(self, message: Any) -> None:
        super().send(message)
        if isinstance(message, Attach):
            self._answers.append(Attached(1, 1, {0: Position()}, {0: 0}, token=message.token))
        elif isinstance(message, Report):
            self._monkeypatch.setattr(host_side, "REPORT_HEARTBEAT_INTERVAL_S", math.inf)
            self.end = message.end.get(0, self.end)
            self._answers.append(
                Stored(message.number, message.end, (), message.session, message.number, self._report_every_s)
            )
        elif isinstance(message, Ended):
            self._answers.append(Concluded(state="failed", exit_code=1))

    def receive(self) -> list[Any]:
        answers, self._answers = self._answers, []
        return answers


@contextmanager
def followed(
    tmp_path: Path, interrupts: Interrupts, link: Any, push_s: float = 0.08
) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Follow a process that ends by signals alone; yield it, and the list that gets the exit code."""
    folder = tmp_path / "attempt"
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    group = WorkerGroup(folder, [Worker(0, WorkerProcess.of(process.pid), process)])
    display: Any = SimpleNamespace(
        say=lambda text: None, show=lambda progress: None, end=lambda progress, end: None, close=lambda: None
    )
    settings = HostSettings(tmp_path, tmp_path, push_s, 30.0, 1 << 20)
    host = HostSide(folder, group, link, display, interrupts, settings, threading.Event())
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(host.follow()))
    thread.start()
    try:
        yield process, codes
    finally:
        process.kill()
        thread.join(60)


def posted(tmp_path: Path) -> list[str]:
    return [command.command for command in Mailbox(tmp_path / "attempt").commands()]


def test_signals_reach_a_training_and_end_it_while_the_record_side_says_nothing(tmp_path: Path) -> None:
    interrupts = Interrupts()
    with followed(tmp_path, interrupts, Silent()) as (process, codes):
        interrupts.saves = 1
        wait_for(lambda: posted(tmp_path) == ["save_checkpoint"], "the checkpoint to be asked for", timeout_s=60)
        interrupts.stops, interrupts.name = 1, "SIGINT"
        wait_for(lambda: posted(tmp_path) == ["save_checkpoint", "stop"], "the stop to be asked for", timeout_s=60)
        assert process.poll() is None and not codes
        interrupts.stops = 2
        wait_for(lambda: process.poll() is not None, "the process to be killed", timeout_s=60)
        wait_for(lambda: codes == [EXIT_INTERRUPTED], "the host side to end", timeout_s=60)
    assert (tmp_path / "attempt" / "ended.json").exists()


def test_it_waits_for_the_record_side_where_nobody_is_in_a_hurry(tmp_path: Path) -> None:
    interrupts, link = Interrupts(), Silent()
    patience = endings.Patience(interrupts, is_overtaken=False)
    patience.check(float("1e12"), 0.0)
    with followed(tmp_path, interrupts, link) as (process, codes):
        process.kill()
        wait_for(lambda: (tmp_path / "attempt" / "ended.json").exists(), "the end to be written down", timeout_s=60)
        assert not codes
        interrupts.stops = 2
        wait_for(lambda: codes == [EXIT_INTERRUPTED], "the host side to end", timeout_s=60)


def test_a_backlog_is_reported_without_a_pause_between_two_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    log = JournalWriter(folder, 0).encoder(tuple(f"layer {number}" for number in range(100)))
    for step in range(4 * LARGEST_READ_BYTES // 800):
        log(step, [0.5] * 100)
    size = segment_path(folder, 0, 0).stat().st_size
    link = Storing(monkeypatch)
    with followed(tmp_path, Interrupts(), link, push_s=math.inf):
        wait_for(lambda: size - link.end.offset < LARGEST_READ_BYTES, "all but a part of a report", timeout_s=60)


def test_it_reports_as_often_as_the_record_side_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "attempt"
    folder.mkdir()
    log = JournalWriter(folder, 0).encoder(("loss",))
    link = Storing(monkeypatch, report_every_s=0.02)
    with followed(tmp_path, Interrupts(), link, push_s=math.inf):
        wait_for(lambda: any(isinstance(sent, Report) for sent in link.sent), "the first report", timeout_s=60)
        for step in range(3):
            log(step, [0.5])
            size = segment_path(folder, 0, 0).stat().st_size
            wait_for(lambda size=size: link.end.offset == size, "a report of the point", timeout_s=60)  # type: ignore[misc]
