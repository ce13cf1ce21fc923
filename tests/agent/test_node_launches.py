"""How a node finds the attempt of its launch, recognises an earlier one, and which files it leaves there."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from steersman.agent.launch import deadlines, node_client, torchrun
from steersman.agent.launch.node_client import is_supervised, node_folder
from steersman.agent.launch.node_server import NodeServer
from steersman.agent.launch.torchrun import (
    Launch,
    NoAttempt,
    announce,
    announce_beginning,
    announce_failure,
    close_node_server,
    join,
)
from steersman.agent.supervise.interrupts import Interrupts
from tests.support.node_lines import HERE
from tests.support.stack import ROOT, wait_for


def launch_of(node: int, rank: int) -> Launch:
    return Launch("k", rank, 2, 2, node, rank, rank, HERE)


def announcement(data: Path) -> dict[str, Any]:
    return dict(json.loads((data / "runs" / "7" / "launch.json").read_text()))


def test_a_node_passes_over_what_an_earlier_launch_left_and_joins_the_present_one(tmp_path, monkeypatch):
    """From the same address with the same id: an attempt whose node server is gone, and a failure."""
    monkeypatch.setattr(torchrun, "RETRY_INTERVAL_S", 0.02)
    earlier, present = (tmp_path / "runs" / "7" / "attempts" / number for number in "12")
    for folder in (earlier, present):
        folder.mkdir(parents=True)
    before = NodeServer(earlier, 2, [0], 2, HERE).start()
    announce(tmp_path, 7, launch_of(0, 0), earlier, ["false"], {}, before)
    before.close()
    first = announcement(tmp_path)
    codes: list[int] = []
    beside = threading.Thread(
        target=lambda: codes.append(join(tmp_path, ROOT, 7, launch_of(1, 1), Interrupts(), os.environ))
    )
    beside.start()
    wait_for(lambda: node_folder(earlier, 1).exists(), "a try to join the earlier one")
    announce_beginning(tmp_path, 7, launch_of(0, 0))
    server = NodeServer(present, 2, [0], 2, HERE).start()
    announce(tmp_path, 7, launch_of(0, 0), present, [sys.executable, "-c", "print('here')"], {}, server)
    beside.join(60)
    assert codes == [0] and announcement(tmp_path)["key"] == first["key"]
    assert (present / "console-0001.log").read_text() == "here\n"
    assert server.elsewhere[1].has_ended and server.elsewhere[1].code == 0
    assert is_supervised(node_folder(present, 1)) and not is_supervised(node_folder(earlier, 1))
    assert (tmp_path / "runs" / "7" / "launch.json").stat().st_mode & 0o777 == 0o600
    close_node_server(tmp_path, 7, launch_of(0, 0), server)
    assert "folder" in announcement(tmp_path)


def test_a_failure_is_believed_once_it_is_new(tmp_path, monkeypatch):
    announce_failure(tmp_path, 7, launch_of(0, 0), 2)
    later = threading.Timer(0.3, announce_failure, (tmp_path, 7, launch_of(0, 0), 3))
    later.start()
    with pytest.raises(NoAttempt) as refused:
        join(tmp_path, ROOT, 7, launch_of(1, 1), Interrupts(), {})
    assert refused.value.exit_code == 3
    monkeypatch.setattr(deadlines, "STALE_AFTER_S", 0.1)
    with pytest.raises(NoAttempt) as refused:
        join(tmp_path, ROOT, 7, launch_of(1, 1), Interrupts(), {})
    assert refused.value.exit_code == 3


def test_an_attempt_that_was_deleted_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "JOIN_TIMEOUT_S", 0.1)
    server = NodeServer(tmp_path, 2, [0], 2, HERE)
    announce(tmp_path, 7, launch_of(0, 0), tmp_path, ["false"], {}, server)
    path = tmp_path / "runs" / "7" / "launch.json"
    path.write_text(json.dumps(announcement(tmp_path) | {"folder": str(tmp_path / "gone")}))
    with pytest.raises(NoAttempt, match="opened no attempt"):
        join(tmp_path, ROOT, 7, launch_of(1, 1), Interrupts(), {})
    assert not (tmp_path / "gone").exists()
    server.start().close()


def test_what_ranks_write_is_brought_to_the_file_system_when_there_is_more(tmp_path, monkeypatch):
    synced: list[str] = []
    monkeypatch.setattr(
        node_client.os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    )
    path = tmp_path / "journal"
    path.write_bytes(b"one")
    written: dict[Path, int] = {}
    for _ in range(3):
        node_client.write_out(path, written)
    path.write_bytes(b"one, two")
    node_client.write_out(path, written)
    node_client.write_out(tmp_path / "none", written)
    assert synced == [str(path)] * 2


def test_a_node_that_does_not_see_the_shared_folder_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(deadlines, "SHARED_AFTER_S", 0.1)
    with pytest.raises(NoAttempt, match="a file system that all hosts share"):
        join(tmp_path, ROOT, 7, launch_of(1, 1), Interrupts(), {})


def test_those_that_never_came_are_told_that_it_is_over(tmp_path):
    folder = tmp_path / "runs" / "7" / "attempts" / "1"
    folder.mkdir(parents=True)
    server = NodeServer(folder, 2, [0], 2, HERE).start()
    announce(tmp_path, 7, launch_of(0, 0), folder, ["true"], {}, server)
    close_node_server(tmp_path, 7, launch_of(0, 0), server)
    assert announcement(tmp_path)["exit_code"] == 1
