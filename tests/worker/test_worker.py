"""The worker process: one task from start to end, and the device that it chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support.stack import ROOT
from trainer.worker.main import DeviceError, choose_device


class Worker:
    """A worker process with one task, and the records of its journal."""

    def __init__(self, folder: Path, **task: Any) -> None:
        self.folder = folder / "attempt"
        self.folder.mkdir()
        file = folder / "task.json"
        file.write_text(json.dumps({"run": 1, "attempt": 1, "recipe": "digits", "device": "cpu"} | task))
        environment = os.environ | {
            "STEERSMAN_ATTEMPT_FOLDER": str(self.folder),
            "STEERSMAN_DATA": str(folder),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer.worker.main", file],
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stderr=subprocess.PIPE,
            text=True,
        )

    def journal(self) -> bytes:
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("journal-*.bin")))

    def end(self) -> int:
        _, self.errors = self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(**task: Any) -> Worker:
        started.append(Worker(tmp_path, **task))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.communicate()


def test_it_trains_a_task_without_loading_django(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(parameters={"epochs": "2"}, deterministic=True)
    assert worker.end() == 0
    assert worker.errors == ""
    journal = worker.journal()
    assert b"train/loss" in journal
    assert b'"outcome":"finished"' in journal.replace(b": ", b":")
    assert b'"gpu_uuids"' in journal
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, trainer.worker.main, trainer.worker.loop, trainer.recipes.mnist\n"
            "print([name for name in ('django', 'mlxtend', 'sklearn') if name in sys.modules])",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ({"parameters": {"epochs": "0"}}, "epochs"),
        ({"recipe": "digits_"}, "recipe: there is no recipe 'digits_'"),
        ({"recipe": "no.such:Thing"}, "there is no module no.such"),
        ({"device": "cuda:99"}, "use --device"),
        ({"checkpoint": {"path": "/nowhere/step-1", "sha256": "0"}}, "step-1 is not on this host"),
    ],
)
def test_it_refuses_a_task_with_a_sentence(
    start_worker: Callable[..., Worker], task: dict[str, Any], sentence: str
) -> None:
    worker = start_worker(**task)
    assert worker.end() == 2
    assert sentence in worker.errors
    assert "Traceback" not in worker.errors
    assert sentence.encode() in worker.journal()


def test_it_stops_on_sigterm_with_a_checkpoint(start_worker: Callable[..., Worker]) -> None:
    worker = start_worker(parameters={"epochs": "100000", "save_every": "100000"})
    while b"train/loss" not in worker.journal():
        assert worker.process.poll() is None
    worker.process.send_signal(signal.SIGTERM)
    assert worker.end() == 0
    journal = worker.journal().replace(b": ", b":")
    assert b'"outcome":"stopped"' in journal
    assert b'"name":"stop"' in journal


def test_a_signal_to_the_whole_group_stops_the_training_and_not_its_loader_processes(
    start_worker: Callable[..., Worker],
) -> None:
    """As a terminal, torchrun or Slurm sends it: if a loader died of it, the step would raise an exception."""
    parameters = {"epochs": "100000", "save_every": "100000", "loader_workers": "2"}
    worker = start_worker(recipe="tests.support.steered:Steerable", parameters=parameters)
    while b"train/loss" not in worker.journal():
        assert worker.process.poll() is None
    loaders = psutil.Process(worker.process.pid).children()
    os.killpg(worker.process.pid, signal.SIGUSR1)
    while b'"name":"signal"' not in worker.journal().replace(b": ", b":"):
        assert worker.process.poll() is None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(worker.process.pid, number)
    assert worker.end() == 0, worker.errors
    assert worker.errors == ""
    journal = worker.journal().replace(b": ", b":")
    assert b'"outcome":"stopped"' in journal and b'"name":"stop"' in journal
    assert not [each for each in loaders if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda:1", "cuda:1 was requested, but this host has 0 CUDA devices: use --device cpu"),
        ("tpu", "There is no device tpu"),
        ("cuda:x", "There is no device cuda:x"),
    ],
)
def test_it_says_which_device_to_use_instead(name: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=sentence):
        choose_device(name)


def test_it_takes_the_gpu_by_itself_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="this host has 2 CUDA devices: use --device cpu, or one of cuda:0 to cuda:1"):
        choose_device("cuda:2")
    with monkeypatch.context() as only_one:
        only_one.setattr(torch.cuda, "device_count", lambda: 1)
        with pytest.raises(DeviceError, match="this host has 1 CUDA device: use --device cpu, or cuda:0"):
            choose_device("cuda:1")
    with pytest.raises(DeviceError, match="4 ranks need a GPU each, but this host has 2"):
        choose_device("cuda", 4)
    # Two on each of two hosts.
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("cuda", 4) == torch.device("cuda", 1)
