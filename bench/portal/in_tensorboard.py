"""TensorBoard with the series of a run, and the time until a browser shows the first of its curves."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from bench.portal.feeding import HISTORY, names_of, value_at
from tests.support.stack import free_port, wait_for

START_S = 120


def is_installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


def write_events(folder: str, series: int) -> None:
    """Write the points of `create_live_run` as event files."""
    warnings.simplefilter("ignore")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for step in range(1, HISTORY + 1):
            for name in names_of(series):
                writer.add_scalar(name, value_at(step), step)


@contextmanager
def tensorboard(series: int) -> Iterator[str]:
    """Start TensorBoard with this many series, and yield the address of the page that shows them once they are read."""
    with tempfile.TemporaryDirectory() as folder:
        write_events(folder, series)
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "tensorboard.main",
            "--logdir",
            folder,
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        address = f"http://127.0.0.1:{port}"
        try:
            last = names_of(series)[-1].encode()
            wait_for(lambda: last in _answer(f"{address}/data/plugin/scalars/tags"), "TensorBoard", timeout_s=START_S)
            yield f"{address}/#timeseries"
        finally:
            server.kill()
            server.wait()


def _answer(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, ConnectionError):
        return b""
