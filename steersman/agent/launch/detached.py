"""`train` processes that outlive the one that starts them: sessions of their own, output in a file. No Django."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steersman.files.private import make_private, open_private

# The last line of a process's output is looked for in this many bytes.
LAST_LINE_BYTES = 8192


@dataclass(slots=True)
class Detached:
    """A `train` process. `attempt` is the run's when it was started, `output_from` where its output begins in `log`.

    `started_at` is in seconds of `time.monotonic`. One that `adopts` was started for an attempt that exists, not for
    one that waits to be opened.
    """

    run_id: int
    attempt: int
    process: subprocess.Popen[bytes]
    log: Path
    output_from: int
    adopts: bool = False
    started_at: float = field(default_factory=time.monotonic)

    @property
    def exit_code(self) -> int | None:
        return self.process.poll()

    def ending(self) -> str:
        """Return in a sentence why it ended: the last line of its output, if there is any."""
        code = self.process.returncode
        if code is not None and code < 0:
            return f"The process that starts the training was ended by {signal.Signals(-code).name}."
        with self.log.open("rb") as log:
            log.seek(max(self.output_from, self.log.stat().st_size - LAST_LINE_BYTES))
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        if not lines:
            return f"The training could not be started: `train` ended with exit code {code} and printed nothing."
        return lines[-1].strip().removeprefix("CommandError: ")


def start_train(
    manage: Path, data: Path, run_id: int, attempt: int, *options: str, given: Mapping[str, str] | None = None
) -> Detached:
    """Start `manage.py train --run-id N --quiet` detached, its output appended to `logs/run-N.log`.

    `given` are further variables of its environment.

    Raises `OSError` if the process or its log cannot be made.
    """
    folder = make_private(data / "logs")
    path = folder / f"run-{run_id}.log"
    environment = os.environ | {"STEERSMAN_DATA": str(data), "PYTHONUNBUFFERED": "1"}
    # By default CUDA counts by speed, NVML by bus: cuda:1 must be the GPU whose use was shown as cuda:1.
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    environment |= given or {}
    with open_private(path, "ab") as log:
        output_from = path.stat().st_size
        process = subprocess.Popen(
            [sys.executable, str(manage), "train", "--run-id", str(run_id), "--quiet", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Detached(run_id, attempt, process, path, output_from, adopts="--adopt" in options)
