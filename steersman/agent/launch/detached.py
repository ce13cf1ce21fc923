"""`train` processes that outlive the process that starts them, as separate sessions with output to a file.

No Django.
"""

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

# The last line of a process's output is searched for in this many bytes.
LAST_LINE_BYTES = 8192


@dataclass(slots=True)
class Detached:
    """A `train` process. `attempt` is the run's at the start, `output_from` where the output begins in `log`.

    `started_at` is in seconds of `time.monotonic`. A process with `adopts` was started for an existing attempt, not for
    one that is to be opened.
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
        """Return a sentence about why it ended: the last line of its output, if there is any."""
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
    """Start `manage.py train --run-id N --quiet` detached, with output appended to `logs/run-N.log`.

    `given` has further environment variables. Raises `OSError` if the process or its log cannot be created.
    """
    folder = make_private(data / "logs")
    path = folder / f"run-{run_id}.log"
    environment = os.environ | {"STEERSMAN_DATA": str(data), "PYTHONUNBUFFERED": "1"}
    # By default CUDA orders GPUs by speed, NVML by bus: cuda:1 must be the GPU whose use was shown as cuda:1.
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
